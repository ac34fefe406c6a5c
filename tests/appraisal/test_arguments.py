"""The kernel's arguments by rules: what an operator may add, checked at the command line's place in PCR 8.

Real boots are the captures; the others are the library's own prediction of GRUB for an OEM file that an attacker wrote,
honestly replayed and quoted: the question is what the policy admits of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import AppraisalResult
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.errors import PolicyError
from measlog.flatcar.boot import predict
from measlog.flatcar.cmdline import ArgumentModel, ArgumentRule
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.machine import codes, good_log, machine
from tests.appraisal.test_captures import capture_manifest, evidence, lab_manifest
from tests.appraisal.test_unusual import GOOD, command, predicted
from tests.conftest import FIXTURES

AUTOLOGIN = ArgumentRule(name="flatcar.autologin", pattern="tty[A-Z]*[0-9]+")
QUIET = ArgumentRule(name="quiet")
CONSOLE = ArgumentRule(name="console", pattern="tty[A-Z]*[0-9](,115200n8)?", repeat=True, override=True)
OEM_ID = ArgumentRule(name="flatcar.oem.id", values=["azure", "ec2", "gce", "qemu"])


def judged(
    folder: Path, manifest: ReferenceManifest, *rules: ArgumentRule, secure_boot: bool = True
) -> AppraisalResult:
    policy = ml.policy.flatcar(secure_boot=secure_boot, arguments=rules)
    return ml.Verifier([manifest], policy=policy, unsafe_unsigned_manifests=True).appraise(evidence(folder))


def refused(result: AppraisalResult) -> set[str]:
    """The arguments that findings name."""
    return {str(f.observed) for f in result.findings if f.code == "kernel.argument"}


def with_oem(*values: bytes, oem: bytes | None = None) -> list[ForgedEvent]:
    """The good boot with an OEM file that sets these variables, behind another configuration where one is given."""
    script = b"".join(b"set '" + value.replace(b"'", b"'\\''") + b"'\n" for value in values)
    boot = next(
        b for b in predict(release(), secure_boot=True, slot="a", first_boot=True, oem_grub_cfg=(oem or b"\n") + script)
    )
    return [*(e for e in good_log().events if e.pcr not in {8, 9}), *(predicted(e) for e in boot.events if e.pcr in {8, 9})]  # fmt: skip


@cache
def release() -> ReferenceManifest:
    return lab_manifest(GOOD)


@cache
def verifier(model: ArgumentModel, oem: tuple[bytes, ...], allowed: tuple[str, ...]) -> ml.Verifier:
    policy = ml.policy.flatcar(arguments=model, oem_grub_cfg=oem, allowed_arguments=allowed)
    return ml.Verifier([release()], policy=policy)


def verdict(
    events: Sequence[ForgedEvent], model: ArgumentModel, *, oem: tuple[bytes, ...] = (), allowed: tuple[str, ...] = ()
) -> AppraisalResult:
    return verifier(model, oem, allowed).appraise(machine(good_log().with_events(events)))


# Real boots


def test_a_real_boot_within_the_rules() -> None:
    folder = FIXTURES / "user-argument"
    mitigations = ArgumentRule(name="mitigations", values=["auto", "off"])
    result = judged(folder, release(), AUTOLOGIN, mitigations)
    assert (result.status, codes(result)) == ("affirming", set())
    assert "boot.oem-settings" in codes(result, severity="info")
    (check,) = (c for c in result.checked if c.rule == "kernel-arguments")
    log = ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    assert log[check.events[0]].raw.startswith(b"kernel_cmdline: /flatcar/vmlinuz-a ")
    assert "flatcar.autologin=what matches tty[A-Z]*[0-9]+" in check.against


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ([AUTOLOGIN], {"mitigations=auto"}),
        ([QUIET], {"flatcar.autologin=ttyS0", "mitigations=auto"}),
        ([AUTOLOGIN, ArgumentRule(name="mitigations")], {"mitigations=auto"}),
        ([AUTOLOGIN, ArgumentRule(name="mitigations", pattern="aut")], {"mitigations=auto"}),
    ],
)
def test_a_real_boot_outside_the_rules_names_the_argument(rules: list[ArgumentRule], named: set[str]) -> None:
    result = judged(FIXTURES / "user-argument", release(), *rules)
    assert (result.status, codes(result)) == ("contraindicated", {"kernel.argument"})
    assert refused(result) == named
    assert {f.pcr for f in result.findings if f.code == "kernel.argument"} == {8}


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("oem-azure", [AUTOLOGIN, CONSOLE, OEM_ID, ArgumentRule(name="earlyprintk", pattern="ttyS0,[0-9]+")]),
        ("oem-ec2", [CONSOLE, OEM_ID, ArgumentRule(name="net.ifnames", values=["0"]), ArgumentRule(name="nvme_core.io_timeout", pattern="[0-9]+")]),
    ],
)  # fmt: skip
def test_a_cloud_s_own_settings(name: str, rules: list[ArgumentRule]) -> None:
    """An id is an argument more, a console takes the place of the image's, which only ``override`` admits."""
    assert judged(FIXTURES / name, release(), *rules).status == "affirming"
    for i, rule in enumerate(rules):
        less = judged(FIXTURES / name, release(), *rules[:i], *rules[i + 1 :])
        assert less.status == "contraindicated"
        assert any(argument.startswith(rule.name.decode()) for argument in refused(less))
        strict = [attrs.evolve(r, override=False) for r in rules]
        assert judged(FIXTURES / name, release(), *strict).status == "contraindicated"


def test_a_file_that_does_more_than_set_variables_is_not_one_of_settings() -> None:
    """The third cloud's file asks a question first: only its very content can be admitted."""
    rules = [CONSOLE, OEM_ID, ArgumentRule(name="systemd.show_status", values=["no"])]
    result = judged(FIXTURES / "oem-gce", release(), *rules)
    assert result.status == "contraindicated"
    assert "command.unexpected" in codes(result)
    # What the rules allow is not among what is named.
    assert refused(result) == set()


@pytest.mark.parametrize(
    ("name", "secure_boot"),
    [
        ("flatcar-lab-tampered", True),
        ("sb-off-tampered-init", False),
    ],
)
def test_another_init_is_named(name: str, secure_boot: bool) -> None:
    generous = [AUTOLOGIN, QUIET, CONSOLE, OEM_ID, ArgumentRule(name="flatcar.autologin")]
    result = judged(FIXTURES / name, release(), *generous, secure_boot=secure_boot)
    assert result.status == "contraindicated"
    assert any(argument.startswith("init=") for argument in refused(result))


@pytest.mark.parametrize("name", ["tampered-prompt", "tampered-grub-config", "tampered-kernel"])
def test_rules_admit_nothing_but_arguments(name: str) -> None:
    generous = [AUTOLOGIN, QUIET, CONSOLE, OEM_ID, ArgumentRule(name="init", pattern=".*")]
    assert judged(FIXTURES / name, release(), *generous).status == "contraindicated"


@pytest.mark.parametrize(
    ("name", "status"), [("oem-qemu-first-boot", "affirming"), ("oem-tampered-init", "contraindicated")]
)
def test_the_shared_captures(shared: Path, name: str, status: str) -> None:
    rules = [OEM_ID, ArgumentRule(name="flatcar.autologin")]
    folder = shared / "flatcar" / "captures" / name
    result = judged(folder, capture_manifest(shared), *rules, secure_boot=False)
    assert result.status == status
    assert refused(result) == ({"init=/bin/sh"} if status != "affirming" else set())


# Attacks


X = ArgumentRule(name="x", pattern=".*", repeat=True)
ATTACKS = {
    "another init": (b"quiet init=/bin/sh", {"init=/bin/sh"}),
    "behind a tab": (b"quiet\tinit=/bin/sh", {"init=/bin/sh"}),
    "in another line": (b"quiet\ninit=/bin/sh", {"init=/bin/sh"}),
    "behind the kernel's own space": (b"quiet\xa0init=/bin/sh", {"init=/bin/sh"}),
    "behind two dashes": (b"quiet -- init=/bin/sh", {"init=/bin/sh"}),
    "two dashes alone": (b"quiet --", {"--"}),
    "twice": (b"quiet quiet", {"quiet"}),
    "with a value": (b"quiet=1", {"quiet=1"}),
    "another root": (b"root=/dev/sda1", {"root=/dev/sda1"}),
    "the same root again": (b"root=LABEL=ROOT", {"root=LABEL=ROOT"}),
    "another USR": (b"mount.usr=/dev/sda3", {"mount.usr=/dev/sda3"}),
    "a shell of the initramfs": (b"rd.break", {"rd.break"}),
    "a unit": (b"systemd.unit=emergency.target", {"systemd.unit=emergency.target"}),
    "by another spelling": (b"QUIET", {"QUIET"}),
    # An open quote takes in what GRUB appends after it has measured: the root hash of USR.
    "an open quote": (b'x="', {'x=\\"'}),
    "a quote that others split": (b'x="a rd.break b"', {'x=\\"a rd.break b\\"'}),
    "a quote that systemd takes off": (b"x='a", {"x=\\'a"}),
    "a quote before the name": (b'"x=a rd.break"', {'\\"x=a rd.break\\"'}),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_arguments_that_are_not_allowed(name: str) -> None:
    value, named = ATTACKS[name]
    result = verdict(with_oem(b"linux_append=" + value), ArgumentModel(rules=[QUIET, X]))
    assert (result.status, codes(result)) == ("contraindicated", {"kernel.argument"})
    assert refused(result) == named


def test_a_command_line_whose_end_a_kernel_may_not_keep() -> None:
    """What is cut off is what stands last: ``verity.usrhash=``."""
    model = ArgumentModel(rules=[X])
    assert verdict(with_oem(b"linux_append=x=" + b"a" * 1000), model).status == "affirming"
    for more in (1600, 1700):
        result = verdict(with_oem(b"linux_append=x=" + b"a" * more), model)
        assert codes(result) == {"kernel.argument"}
    # GRUB itself leaves out what does not fit, so the kernel is given no such argument; and nobody sets so much.
    assert verdict(with_oem(b"linux_append=x=" + b"a" * 1900), model).status == "affirming"
    assert verdict(with_oem(b"linux_append=x=" + b"a" * 5000), model).status == "contraindicated"


def test_an_argument_is_missing_where_others_push_it_out() -> None:
    """GRUB leaves out what does not fit (lib/cmdline.c), so an argument in the middle can cost one at the end."""
    result = verdict(with_oem(b"linux_console=" + b"x=" + b"a" * 1850), ArgumentModel(rules=[X]))
    assert result.status == "contraindicated"
    assert {"kernel.argument", "kernel.argument-missing"} >= codes(result)
    assert any("console" in str(f.expected) for f in result.findings if f.code == "kernel.argument-missing")


@pytest.mark.parametrize(
    ("wrong", "right"), [(b"grub_cmd: linux", b"grub_cmd: linux"), (b"kernel_cmdline: ", b"kernel_cmdline: ")]
)
def test_it_is_the_place_that_counts(wrong: bytes, right: bytes) -> None:
    """A45: a command line of good arguments beside one with others, whatever they are labelled."""
    model = ArgumentModel(rules=[QUIET])
    good, bad = with_oem(b"linux_append=quiet"), with_oem(b"linux_append=quiet init=/bin/sh")
    place = next(i for i, e in enumerate(good) if e.data.startswith(right))
    other = next(e for e in bad if e.data.startswith(wrong))
    assert verdict(good, model).status == "affirming"
    for events in ([*good[:place], other, *good[place + 1 :]], [*good[:place], other, *good[place:]], [*good, other]):
        assert verdict(events, model).status == "contraindicated"


@pytest.mark.parametrize("text", [b"set linux_root=root=/dev/sda1", b"insmod evil", b"linux_append=quiet", b"set x=y"])
def test_settings_are_all_that_may_happen(text: bytes) -> None:
    model = ArgumentModel(rules=[QUIET, ArgumentRule(name="root", pattern=".*", override=True)])
    events = with_oem(b"linux_append=quiet")
    place = next(i for i, e in enumerate(events) if e.data == b"grub_cmd: set linux_append=quiet\0")
    for at in (place, place + 1):
        result = verdict([*events[:at], command(text), *events[at:]], model)
        assert result.status == "contraindicated"
        assert codes(result) - {"kernel.argument"}


@pytest.mark.parametrize("value", [b"linux_append=\0", b"linux_append=quiet\0init=/bin/sh"])
def test_a_setting_with_a_nul_is_none(value: bytes) -> None:
    events = with_oem(b"linux_append=quiet")
    changed = [command(b"set " + value) if b"set linux_append=quiet" in e.data else e for e in events]
    assert verdict(changed, ArgumentModel(rules=[QUIET])).status == "contraindicated"


@pytest.mark.parametrize(
    "more", [b"\0quiet", b" a\0b", b" " + b"a" * 70_000, b' "quiet', b" \xff", b" BOOT_IMAGE=x --"]
)
def test_a_command_line_that_cannot_be_one_is_a_finding_and_no_error(more: bytes) -> None:
    """Typed at the menu, or made up: whatever it is, the machine gets a verdict."""
    events = []
    for event in with_oem(b"linux_append=quiet"):
        prefix, colon, text = event.data.partition(b": ")
        if prefix == b"kernel_cmdline":
            event = replace(event, data=prefix + colon + text[:-1] + more + b"\0").rehashed(text[:-1] + more)  # noqa: PLW2901
        events.append(event)
    result = verdict(events, ArgumentModel(rules=[QUIET]))
    assert result.status == "contraindicated"
    assert {f.pcr for f in result.findings if f.severity == "error"} == {8}


def test_arguments_behind_a_file_that_the_policy_names() -> None:
    """How an operator adds one on a cloud's machine: a line behind the file that is there."""
    vendor = b'set oem_id="qemu"\nif [ -n "$oem_id" ]; then\n  set linux_append="net.ifnames=0"\nfi\n'
    events = with_oem(b"linux_append=net.ifnames=0 quiet", oem=vendor)
    model = ArgumentModel(rules=[QUIET])
    assert verdict(events, model, oem=(vendor,)).status == "affirming"
    assert verdict(events, model).status == "contraindicated"
    # One by one likewise, and what the file gave may then not be taken away.
    listed = ml.policy.flatcar(oem_grub_cfg=[vendor], allowed_arguments=["quiet", "net.ifnames=0"])
    evidence = machine(good_log().with_events(events))
    assert ml.Verifier([release()], policy=listed).appraise(evidence).status == "affirming"
    taken = verdict(with_oem(b"linux_append=quiet", oem=vendor), model, oem=(vendor,))
    assert codes(taken) == {"kernel.argument-missing"}
    bad = verdict(with_oem(b"linux_append=net.ifnames=0 init=/bin/sh", oem=vendor), model, oem=(vendor,))
    assert refused(bad) == {"init=/bin/sh"}


def test_listed_arguments_are_rules_as_well() -> None:
    events = with_oem(b"linux_append=quiet flatcar.oem.id=x")
    model = ArgumentModel(rules=[QUIET])
    assert refused(verdict(events, model)) == {"flatcar.oem.id=x"}
    assert verdict(events, model, allowed=("flatcar.oem.id=x",)).status == "affirming"
    with pytest.raises(PolicyError, match="not the value"):
        ml.policy.flatcar(arguments=model, allowed_arguments=["x=a b"])


def test_without_an_oem_file_the_boot_is_the_image_s() -> None:
    assert verdict(good_log().events, ArgumentModel(rules=[QUIET])).status == "affirming"


def test_a_model_is_a_value() -> None:
    model = ArgumentModel(rules=[QUIET, X])
    policy = ml.policy.flatcar(arguments=model)
    assert policy == ml.policy.flatcar(arguments=[QUIET, X])
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert BootPaths(arguments=model) != BootPaths()
    for rules in ([], ["quiet"]):
        with pytest.raises(PolicyError, match="ArgumentRule"):
            ml.policy.flatcar(arguments=rules)  # type: ignore[arg-type]


WORD = st.sampled_from(
    [b"quiet", b"x=1", b"x=", b"y", b"init=/bin/sh", b"root=LABEL=ROOT", b"console=tty0", b"--", b'"', b"x=\\x20", b"\xa0"]
)  # fmt: skip


@settings(max_examples=10)
@given(st.lists(WORD, min_size=1, max_size=4))
def test_affirming_means_that_every_word_is_allowed(words: list[bytes]) -> None:
    """By a second reading of the words: what was added is ``quiet`` at most once, and ``x=`` with anything plain."""
    result = verdict(with_oem(b"linux_append=" + b" ".join(words)), ArgumentModel(rules=[QUIET, X]))
    given = b" ".join(words).replace(b"\xa0", b" ").split()
    plain = all(word == b"quiet" or word.startswith(b"x=") for word in given) and given.count(b"quiet") <= 1
    assert (result.status == "affirming") is plain
