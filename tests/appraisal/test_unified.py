"""Boots of unified kernel images, appraised. The manifests are those of the lab's images, made from the disk and never from a log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import measlog as ml
from fixtures.attacks.forge import NAMES, ForgedEvent
from measlog.appraisal import Policy
from measlog.appraisal.policy import ByBootLoader, leaves
from measlog.appraisal.policy_file import load_policy
from measlog.appraisal.rules.unified import PHASE_PATHS, UnifiedBoot
from measlog.errors import PolicyError
from measlog.reference.manifest import ReferenceManifest
from measlog.registry import PCR_NAMES
from tests.appraisal.machine import codes, compared, good_log, passed_over
from tests.appraisal.machine import lines as said
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.unified import (
    EV_IPL,
    PHASES,
    QUOTED,
    appraise,
    at,
    command_line,
    event,
    extended,
    lines,
    more,
    phases,
    places,
    then,
    utf16,
)
from tests.evidence.test_further import records, verify


@pytest.mark.parametrize(("name", "secure_boot"), [("uki", True), ("uki-sb-off", False)])
def test_real_boots(name: str, secure_boot: bool) -> None:
    verifier = ml.Verifier([lab_manifest(name)], policy=ml.policy.flatcar(secure_boot=secure_boot))
    result = verifier.appraise(verify(name, records(name)))
    assert (result.status, result.findings) == ("affirming", ())
    assert {(i.component, i.release) for i in result.identified} == {
        ("shim", "1.0.0"), ("systemd-boot", "1.0.0"), ("uki", "1.0.0"),
    }  # fmt: skip
    checked = {c.pcr: c.events for c in result.checked if c.rule == "unified-boot"}
    assert set(checked) == {4, 8, 9, 11, 12, 13, 14}
    assert len(checked[11]) == 8 + 4
    assert "usr" in {c.rule for c in result.checked}
    assert {n.pcr for n in result.not_covered} == {0, 1, 2, 3, 5, 6, 7, 10, None}
    assert [n.subject for n in result.not_covered if n.pcr is None] == ["built-in command line"]
    # Its good twin in the other state of Secure Boot is not what was asked for.
    other = ml.Verifier([lab_manifest(name)], policy=ml.policy.flatcar(secure_boot=not secure_boot))
    assert other.appraise(verify(name, records(name))).status == "contraindicated"


def test_a_real_tampered_command_line() -> None:
    name = "uki-tampered-cmdline"
    evidence = verify(name, records(name))
    result = ml.Verifier([lab_manifest(name)], policy=ml.policy.flatcar()).appraise(evidence)
    assert result.status == "contraindicated"
    found = {f.code: f for f in result.findings if f.severity == "error"}
    assert set(found) == {"image.unknown", "section.unknown", "kernel.argument"}
    assert found["kernel.argument"].observed == "init=/bin/sh"
    section = found["section.unknown"]
    assert section.event is not None
    assert section.pcr == 11
    assert evidence.log[section.event].raw == utf16(".cmdline")
    assert "usr" not in {c.rule for c in result.checked}


def test_without_systemds_log_the_phase_is_not_known() -> None:
    """Left open, PCR 11 proves nothing; and a policy for unified images needs it proven."""
    from tests.evidence.test_further import evidence

    made, ak, nonce = evidence("uki", None)
    policy = ml.policy.flatcar(open_ended=(11,))
    assert policy.open_ended == (11,)
    verified = made.verify(ak=ak, nonce=nonce, open_ended=policy.open_ended)
    result = ml.Verifier([lab_manifest("uki")], policy=policy).appraise(verified)
    assert (result.status, codes(result)) == ("contraindicated", {"register.not-quoted"})


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_phase_is_one_that_a_boot_comes_to(count: int) -> None:
    result = appraise(further=phases(*PHASES[:count]))
    assert result.status == "affirming"
    # Unless the policy wants the boot to have come further, or not so far.
    for path in PHASE_PATHS:
        strict = appraise(further=phases(*PHASES[:count]), policy=ml.policy.flatcar(phases=(path,)))
        assert (strict.status == "affirming") == (path == PHASE_PATHS[count - 1])


def test_what_the_boot_was_compared_with() -> None:
    events = {pcr: [i + 1 for i in places(good_log("uki").events, pcr)] for pcr in (4, 9, 11, 12, 14)}
    events[4] = events[4][2:]
    events[11] += [len(good_log("uki").events) + 1 + i for i in range(4)]
    name = "flatcar-lab: EFI/Linux/flatcar-lab-1.efi, Secure Boot on"
    path = {pcr: ",".join(map(str, of)) for pcr, of in events.items()}
    rule = UnifiedBoot()
    assert compared(appraise(policy=Policy(name="one", rule=rule, required=()))) == [
        *(f"unified-boot PCR {pcr} events {path[pcr]}: {name}" for pcr in (4, 11, 14)),
        f"unified-boot PCR 12 events {path[12]}: the image's own command line and initrd",
        f"unified-boot PCR 9 events {path[9]}: the image's own command line and initrd",
        "unified-boot PCR 8: the start value",
        "unified-boot PCR 13: the start value",
        "usr: the root of USR's hash tree, as it was computed for the manifest flatcar-lab",
    ]
    result = appraise(policy=Policy(name="one", rule=rule, required=()), manifests=[])
    assert passed_over(result)[:7] == [
        f"{PCR_NAMES[pcr]} PCR {pcr}: no manifest has a unified kernel image" for pcr in (4, 8, 9, 11, 12, 13, 14)
    ]
    unquoted = appraise(policy=Policy(name="one", rule=rule, required=()), quoted=(4, 11))
    assert said(unquoted) == [
        *(f"error register.not-quoted PCR {pcr}: the quote does not cover PCR {pcr}" for pcr in (12, 13)),
        *(f"error register.not-quoted PCR {pcr}: the quote proves nothing of PCR {pcr}" for pcr in (12, 13)),
    ]


def test_findings_name_the_record() -> None:
    result = appraise(further=[*phases(*PHASES), extended(11, "machine-id:00")])
    (finding,) = (f for f in result.findings if f.severity == "error")
    assert finding.event == len(good_log("uki").events) + 1 + 4
    assert "systemd's record 4 extended PCR 11 with 'machine-id:00'" in finding.message


def test_arguments_that_the_policy_admits() -> None:
    policy = ml.policy.flatcar(allowed_arguments=("quiet", "debug"))
    result = appraise(lines(f"{command_line()} quiet"), policy=policy)
    assert result.status == "affirming"
    place = places(good_log("uki").events, 12)[0] + 1
    assert said(result) == [
        (
            f"info kernel.argument-admitted PCR 12 event {place}: the policy admits the kernel arguments that were added:"
            " 'quiet' | observed quiet"
        )
    ]
    assert appraise(lines(f"quiet {command_line()}"), policy=policy).status == "affirming"
    assert appraise(lines(f"{command_line()} quiet init=/bin/sh"), policy=policy).status == "contraindicated"
    shuffled = command_line().split(" ")
    shuffled[0], shuffled[1] = shuffled[1], shuffled[0]
    assert codes(appraise(lines(" ".join([*shuffled, "quiet"])), policy=policy)) == {"sequence.order"}


def test_a_command_line_as_newer_systemd_measures_it() -> None:
    """Since version 253 without the NUL, or not at all where it is the image's own."""
    text = command_line().encode("utf-16-le")
    assert appraise(at(12, 0, lambda e: [e.rehashed(text)])).status == "affirming"
    assert appraise(at(12, 0, lambda _: [])).status == "affirming"
    assert appraise(at(12, 0, lambda e: [e, e.rehashed(text)])).status == "affirming"


def _without_line(manifest: ReferenceManifest) -> ReferenceManifest:
    image = manifest.component("uki")
    assert image is not None
    assert image.uki is not None
    bare = attrs.evolve(image, uki=attrs.evolve(image.uki, command_line=None))
    return attrs.evolve(manifest, components=tuple(bare if c is image else c for c in manifest.components))


def test_an_image_without_a_command_line_is_given_none() -> None:
    manifest = _without_line(lab_manifest("uki"))
    none = then(at(12, 0, lambda _: []), at(9, 0, lambda _: []))
    result = appraise(none, manifests=[manifest], policy=ml.policy.flatcar(allow_unchecked_usr=True))
    assert result.status == "affirming"
    assert "usr" in {n.subject for n in result.not_covered}
    assert codes(appraise(none, manifests=[manifest])) == {"usr.unchecked"}
    assert codes(appraise(manifests=[manifest])) == {"unified.addition", "usr.unchecked"}


@pytest.mark.parametrize("lacking", [4, 11, 12, 13])
def test_registers_that_must_be_quoted(lacking: int) -> None:
    result = appraise(quoted=[pcr for pcr in QUOTED if pcr != lacking])
    assert result.status == "contraindicated"
    assert codes(result) == {"register.not-quoted"}


def test_registers_that_need_not_be_quoted() -> None:
    result = appraise(quoted=[pcr for pcr in QUOTED if pcr != 10])
    assert result.status == "affirming"


def _other(manifest: ReferenceManifest, mark: bytes = b"2") -> ReferenceManifest:
    """The manifest of a later release: another unified image, the same shim and loader."""
    image = manifest.component("uki")
    assert image is not None
    assert image.uki is not None
    authenticode = {bank: hashlib.new(bank, mark).digest() for bank in image.authenticode}
    sections = tuple(
        attrs.evolve(s, digests={bank: hashlib.new(bank, mark + s.name.encode()).digest() for bank in s.digests})
        for s in image.uki.sections
    )
    uki = attrs.evolve(image.uki, sections=sections)
    new = attrs.evolve(image, authenticode=authenticode, uki=uki)
    return attrs.evolve(
        manifest, release="2.0.0", components=tuple(new if c is image else c for c in manifest.components)
    )


def test_the_sections_are_those_of_the_image_that_was_started() -> None:
    """One release's image with the contents of another's is neither, even where both are known."""
    old, new = lab_manifest("uki"), _other(lab_manifest("uki"))
    image = new.component("uki")
    assert image is not None
    assert image.uki is not None
    digests = {alg: image.authenticode[NAMES[alg]] for alg in good_log("uki").algorithms}
    started = at(4, -1, lambda e: [replace(e, digests=digests)])
    assert appraise(manifests=[old, new]).status == "affirming"
    mixed = appraise(started, manifests=[old, new])
    assert mixed.status == "contraindicated"
    # All of the other image, on the same loader: affirming, and named as what it is.
    change = started
    for number, section in enumerate(image.uki.sections):
        content = {alg: section.digests[NAMES[alg]] for alg in digests}
        change = then(change, at(11, 2 * number + 1, lambda e, content=content: [replace(e, digests=content)]))  # type: ignore[misc]
    initrd = {alg: image.uki.sections[3].digests[NAMES[alg]] for alg in digests}
    change = then(change, at(9, 1, lambda e: [replace(e, digests=initrd)]))
    result = appraise(change, manifests=[old, new])
    assert result.status == "affirming"
    assert ("uki", "2.0.0") in {(i.component, i.release) for i in result.identified}
    assert appraise(change, manifests=[old]).status == "contraindicated"


def test_a_loader_of_another_release() -> None:
    """Its image is known from one manifest, shim and systemd-boot from the other."""
    manifest = lab_manifest("uki")
    loader, shim = manifest.component("systemd-boot"), manifest.component("shim")
    assert loader is not None
    assert shim is not None
    digests = {bank: hashlib.new(bank, b"loader").digest() for bank in loader.authenticode}
    other = attrs.evolve(
        manifest,
        release="0.9.0",
        components=tuple(
            attrs.evolve(c, authenticode=digests) if c is loader else c for c in manifest.components if c.uki is None
        ),
    )
    change = at(4, -2, lambda e: [replace(e, digests={a: digests[NAMES[a]] for a in e.digests})])
    assert appraise(change).status == "contraindicated"
    result = appraise(change, manifests=[manifest, other])
    assert result.status == "affirming"
    assert ("systemd-boot", "0.9.0") in {(i.component, i.release) for i in result.identified}


def test_no_unified_image_to_compare_with() -> None:
    rule = UnifiedBoot()
    policy = Policy(name="unified", rule=rule, required=frozenset({11}))
    result = appraise(policy=policy, manifests=[lab_manifest("flatcar-lab-good")])
    assert result.status == "none"
    assert {n.pcr for n in result.not_covered} >= {4, 8, 9, 11, 12, 13, 14}
    fewer = appraise(policy=policy, manifests=[], quoted=[4, 11, 12, 13])
    assert {n.pcr for n in fewer.not_covered} >= {4, 11, 12, 13}


def test_shim_says_nothing_where_there_is_none() -> None:
    """A firmware that starts systemd-boot itself; what shim mirrors is then nobody's, and is not judged."""
    manifest = lab_manifest("uki")
    bare = attrs.evolve(manifest, components=tuple(c for c in manifest.components if c.role in {"uki", "systemd-boot"}))
    no_shim = at(4, 2, lambda _: [])
    policy = Policy(name="unified", rule=UnifiedBoot(), required=frozenset({11}))
    result = appraise(no_shim, manifests=[bare], policy=policy)
    assert result.status == "affirming"
    assert 14 not in {c.pcr for c in result.checked}
    silent = attrs.evolve(manifest, components=tuple(
        attrs.evolve(c, mok_list=None, mok_list_x=None) if c.role == "shim" else c for c in manifest.components
    ))  # fmt: skip
    assert 14 not in {c.pcr for c in appraise(manifests=[silent], policy=policy).checked}


@pytest.mark.parametrize("manifests", [["uki"], ["flatcar-lab-good", "uki"], ["uki", "flatcar-lab-good"]])
def test_the_rule_is_that_of_the_way_of_booting(manifests: list[str]) -> None:
    references = [lab_manifest(name) for name in manifests]
    assert appraise(manifests=references).status == "affirming"
    grub = appraise(name="flatcar-lab-good", further=[], manifests=references)
    assert (grub.status == "affirming") == (len(manifests) > 1)
    assert ("by GRUB" if "boot-path" in {c.rule for c in grub.checked} else "unified") == (
        "by GRUB" if len(manifests) > 1 else "unified"
    )


def test_an_unknown_image_is_judged_by_what_it_measured() -> None:
    references = [lab_manifest("flatcar-lab-good"), lab_manifest("uki")]
    result = appraise(at(4, -1, lambda e: [e.rehashed(b"image")]), manifests=references)
    assert codes(result) == {"image.unknown"}
    # A machine that GRUB booted does not become a unified one by an event in PCR 11.
    grub = appraise(
        more(event(11, EV_IPL, utf16(".linux"), b".linux\0")), [], name="flatcar-lab-good", manifests=references
    )
    assert codes(grub) == {"register.unexpected"}


@settings(max_examples=5)
@given(st.randoms(use_true_random=False))
def test_nothing_depends_on_how_registers_interleave(random: object) -> None:
    """A49: only the order within each register is bound by the quote."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        queues: dict[int, list[ForgedEvent]] = {}
        for one in events:
            queues.setdefault(one.pcr, []).append(one)
        order = [one.pcr for one in events]
        random.shuffle(order)  # type: ignore[attr-defined]
        return [queues[pcr].pop(0) for pcr in order]

    assert appraise(change).status == "affirming"


def test_by_boot_loader_is_a_rule_of_two() -> None:
    rule = next(r for r in ml.policy.flatcar().rule.rules if isinstance(r, ByBootLoader))  # type: ignore[attr-defined]
    assert rule.registers == {4}
    assert " Or: " in rule.sentence
    assert [type(leaf).__name__ for leaf in leaves(rule)] == ["BootPaths", "Untouched", "UnifiedBoot"]
    with pytest.raises(PolicyError, match="no rule"):
        ByBootLoader(grub=rule.grub, unified="unified")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [(), ("",), ("enter initrd",), (":sysinit",), (7,)])
def test_phases_that_a_policy_cannot_name(wrong: tuple[str, ...]) -> None:
    with pytest.raises(PolicyError, match=r"no phase|no path of phases"):
        ml.policy.flatcar(phases=wrong)


def test_policies_in_files() -> None:
    text = b"""
format = "measlog.policy/1"
name = "unified"
required = [4, 7, 11]

[[rule]]
kind = "secure-boot"

[[rule]]
kind = "unified-boot"
phases = ["enter-initrd:leave-initrd:sysinit:ready"]
"""
    policy = load_policy(text)
    assert appraise(policy=policy).status == "affirming"
    assert appraise(further=phases("enter-initrd"), policy=policy).status == "contraindicated"
    published = load_policy(b'format = "measlog.policy/1"\nname = "x"\nuse = "flatcar"\nphases = ["enter-initrd"]\n')
    assert appraise(further=phases("enter-initrd"), policy=published).status == "affirming"
    assert appraise(policy=published).status == "contraindicated"
