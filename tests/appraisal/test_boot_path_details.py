"""Details of boots by GRUB: which boots are looked at, which registers are followed, and what is said of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import AppraisalResult
from measlog.flatcar.boot import predict
from measlog.flatcar.cmdline import ArgumentRule
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.machine import appraise as appraised
from tests.appraisal.machine import codes, good_log, lines, machine, passed_over
from tests.appraisal.test_arguments import QUIET
from tests.appraisal.test_boot_findings import LINE, at, line, measured, paths
from tests.appraisal.test_built_in import with_built_in
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.test_unusual import predicted

GOOD, OFF = "flatcar-lab-good", "sb-off-good"
LAB = lab_manifest(GOOD)


def judged(events: Sequence[ForgedEvent], *manifests: ReferenceManifest, **settings: Any) -> AppraisalResult:
    verifier = ml.Verifier(manifests, policy=paths(**settings), unsafe_unsigned_manifests=True)
    return verifier.appraise(machine(good_log().with_events(events)))


def booted(
    oem: bytes, manifest: ReferenceManifest = LAB, *, name: str = GOOD, secure_boot: bool = True
) -> list[ForgedEvent]:
    """A capture as it would be with this OEM file, by the library's own prediction of GRUB."""
    boot, *_ = predict(manifest, secure_boot=secure_boot, slot="a", first_boot=True, oem_grub_cfg=oem)
    made = [predicted(e) for e in boot.events if e.pcr in {8, 9}]
    return [*(e for e in good_log(name).events if e.pcr not in {8, 9}), *made]


# The boots that are looked at


@pytest.mark.parametrize(
    "settings", [{}, {"allowed_arguments": ("quiet",)}, {"arguments": [QUIET]}, {"oem_grub_cfg": (b"\n",)}]
)
def test_without_a_manifest_there_is_no_boot_whatever_is_admitted(settings: dict[str, Any]) -> None:
    result = judged(good_log().events, **settings)
    assert lines(result) == []
    assert result.status == "none"
    assert {n.pcr for n in result.not_covered if n.reason == "no manifest describes a boot of this kind"} == {
        4,
        8,
        9,
        14,
    }


VENDOR = b"set oem_id=qemu\n"


@pytest.mark.parametrize("oem_grub_cfg", [(VENDOR,), (VENDOR, b"set oem_id=ec2\n"), (b"set oem_id=ec2\n", VENDOR)])
def test_settings_are_looked_for_behind_each_file_that_the_policy_names(oem_grub_cfg: tuple[bytes, ...]) -> None:
    """That they are no settings of their own, or of another file, does not keep them from being this one's."""
    events = booted(VENDOR + b"set linux_append=quiet\n")
    result = judged(events, LAB, oem_grub_cfg=oem_grub_cfg, allowed_arguments=("quiet",))
    assert codes(result) == set()
    assert "boot.oem-settings" in codes(result, severity="info")
    evil = booted(VENDOR + b"set linux_append=init=/bin/sh\n")
    assert codes(judged(evil, LAB, oem_grub_cfg=oem_grub_cfg, allowed_arguments=("quiet",)))


def test_settings_do_not_admit_the_other_state_of_secure_boot() -> None:
    """A boot with an operator's settings has the state that the policy demands, as any other."""
    settings = b"set linux_append=quiet\n"
    off = booted(settings, name=OFF, secure_boot=False)
    for admitted in ({"allowed_arguments": ("quiet",)}, {"arguments": [QUIET]}):
        assert codes(judged(off, LAB, secure_boot=False, **admitted)) == set()
        assert 4 in {f.pcr for f in judged(off, LAB, **admitted).findings if f.severity == "error"}
        assert codes(judged(booted(settings), LAB, **admitted)) == set()
        assert codes(judged(booted(settings), LAB, secure_boot=False, **admitted))


@pytest.mark.parametrize("secure_boot", [True, False])
def test_the_model_compares_with_the_boot_of_the_same_state(secure_boot: bool) -> None:
    """A configuration may give other arguments where GRUB is locked down: those of the other state are not this one's."""
    assert LAB.grub is not None
    place = 'set linux_cmdline="'
    assert LAB.grub.config.count(place) == 1
    more = f'if [ "$lockdown" = y ]; then set linux_root="$linux_root state=on"; else set linux_root="$linux_root state=off"; fi\n{place}'
    made = attrs.evolve(LAB, grub=attrs.evolve(LAB.grub, config=LAB.grub.config.replace(place, more)), boot_paths=())
    name = GOOD if secure_boot else OFF
    events = booted(b"set linux_append=quiet\n", made, name=name, secure_boot=secure_boot)
    assert any(f"state={'on' if secure_boot else 'off'}".encode() in e.data for e in events)
    assert codes(judged(events, made, secure_boot=secure_boot, arguments=[QUIET])) == set()


# The registers that are followed


@pytest.mark.parametrize("lacking", [4, 8, 9, 14])
def test_registers_are_followed_each_for_itself(lacking: int) -> None:
    """What the quote does not cover is not compared (A12), and does not keep the others from being."""
    quoted = [pcr for pcr in range(15) if pcr != lacking]
    changed = [pcr for pcr in (4, 8, 9, 14) if pcr != lacking]
    result = appraised(paths(), manifests=[LAB], quoted=quoted)
    assert [c.pcr for c in result.checked if c.rule == "boot-path"] == changed
    places = {pcr: max(i + 1 for i, e in enumerate(good_log().events) if e.pcr == pcr) for pcr in (4, 8, 9, 14)}
    for pcr in (4, 8, 9, 14):
        found = appraised(paths(), at(places[pcr], measured(b"?")), manifests=[LAB], quoted=quoted)
        assert {f.pcr for f in found.findings if f.severity == "error" and f.code != "register.not-quoted"} == (
            {pcr} - {lacking}
        )


# The kernel


def test_arguments_that_rules_admit_are_not_named() -> None:
    """Without an OEM file nothing admits them, but it is the others that a person has to look at."""
    rules = [QUIET, ArgumentRule(name="debug", values=["1"])]
    result = appraised(paths(arguments=rules), line(LINE + b" quiet debug=1 debug=2 evil=1"), manifests=[LAB])
    assert {f.observed for f in result.findings if f.code == "kernel.argument"} == {"debug=2", "evil=1"}


def test_whose_root_hash_was_not_looked_at() -> None:
    unchecked = attrs.evolve(
        LAB, usr=tuple(attrs.evolve(u, status="unchecked", root=None, data_blocks=None) for u in LAB.usr)
    )
    assert lines(appraised(paths(), manifests=[unchecked])) == [
        "error usr.unchecked: the manifest flatcar-lab was built without checking USR against the kernel's root hash"
    ]
    admitted = appraised(paths(allow_unchecked_usr=True), manifests=[unchecked])
    assert lines(admitted) == []
    assert "usr: the manifest flatcar-lab says nothing about what the kernel's root hash binds" in passed_over(admitted)


def test_each_manifest_that_names_the_kernel_is_asked() -> None:
    """Two may name the same file by the same path: what one of them knows must not depend on which came last."""
    silent = attrs.evolve(LAB, name="silent", usr=(), boot_paths=())
    for manifests in ([LAB, silent], [silent, LAB]):
        result = appraised(paths(), manifests=manifests)
        assert [c.against for c in result.checked if c.rule == "usr"] == [
            "the root of USR's hash tree, as it was computed for the manifest flatcar-lab"
        ]
        assert "usr: the manifest silent says nothing about what the kernel's root hash binds" in passed_over(result)


@pytest.mark.parametrize(("allow", "severity"), [(False, "error"), (True, "info")])
def test_the_measured_command_line_that_a_kernel_ignores_is_in_pcr_8(allow: bool, severity: str) -> None:
    manifest = with_built_in(GOOD, command_line="a=1", command_line_use="instead")
    result = appraised(paths(allow_built_in_override=allow), manifests=[manifest])
    assert [(f.severity, f.code, f.pcr) for f in result.findings] == [(severity, "kernel.built-in-override", 8)]
