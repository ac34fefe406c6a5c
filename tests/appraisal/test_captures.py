"""Real boots, appraised: the shared captures with a manifest made from their disk's description, never from the logs.

What shim mirrors into PCR 14 is in no description of that disk; it is read, by the project's own image reader, from
the same shim on the lab's image, whose signed manifest is committed.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedLog
from measlog.appraisal import AppraisalResult
from measlog.evidence import VerifiedEvidence
from measlog.reference.manifest import ReferenceManifest
from measlog.reference.signing import SignedManifest
from tests.appraisal.machine import SHA256, codes, good_log, machine
from tests.conftest import FIXTURES
from tests.flatcar.grub.manifests import manifest as described

KEY = FIXTURES / "lab" / "keys" / "manifest.pub"


def lab_manifest(name: str) -> ReferenceManifest:
    signed = SignedManifest.from_bytes((FIXTURES / name / "manifest.dsse.json").read_bytes())
    return signed.verify(keys=[KEY.read_bytes()])


def capture_manifest(shared: Path, *, updated: bool = False) -> ReferenceManifest:
    """The description's manifest, with what the lab's image says of the very same shim."""
    found = described(shared, updated=updated)
    shim = found.component("shim")
    known = lab_manifest("flatcar-lab-good").component("shim")
    assert shim is not None
    assert known is not None
    assert shim.flat["sha256"] == known.flat["sha256"], "another shim"
    full = attrs.evolve(shim, mok_list=known.mok_list, mok_list_x=known.mok_list_x)
    return attrs.evolve(found, components=tuple(full if c is shim else c for c in found.components))


def evidence(folder: Path) -> VerifiedEvidence:
    log = ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    quote = ml.Quote.from_bytes((folder / "quote.msg").read_bytes(), (folder / "quote.sig").read_bytes())
    nonce = bytes.fromhex((folder / "nonce.txt").read_text().strip())
    return ml.Evidence(log=log, quote=quote).verify(ak=(folder / "ak.pub").read_bytes(), nonce=nonce)


def appraise(
    folder: Path,
    manifests: list[ReferenceManifest],
    *,
    secure_boot: bool = True,
    oem: Path | None = None,
    arguments: tuple[str, ...] = (),
) -> AppraisalResult:
    policy = ml.policy.flatcar(
        secure_boot=secure_boot, oem_grub_cfg=[oem.read_bytes()] if oem else [], allowed_arguments=arguments
    )
    verifier = ml.Verifier(manifests, policy=policy, unsafe_unsigned_manifests=True)
    return verifier.appraise(evidence(folder))


def events(folder: Path, result: AppraisalResult, code: str) -> list[str]:
    """The data of the events that findings of a code point at."""
    log = ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    return [log[f.event].raw.rstrip(b"\0").decode() for f in result.findings if f.code == code and f.event is not None]


@pytest.mark.parametrize("name", ["usr-a-first-boot-secureboot", "usr-a-secureboot"])
def test_a_boot_with_secure_boot(shared: Path, name: str) -> None:
    folder = shared / "flatcar" / "captures" / name
    result = appraise(folder, [capture_manifest(shared)])
    assert (result.status, codes(result)) == ("affirming", set())
    # The firmware tried an empty DVD drive first (ORIGIN.md): an admitted variation, and said so.
    assert codes(result, severity="info") == {"boot-manager.retry"}
    assert {i.component for i in result.identified} == {"shim", "grub", "kernel"}
    covered = {pcr for c in result.checked for pcr in [c.pcr] if pcr is not None}
    assert covered >= {4, 7, 8, 9, 14}
    # Of PCR 7 the keys: the platform's, which only a baseline knows. Of USR and of what is built into the kernel the
    # description of the disk says nothing.
    assert {n.pcr for n in result.not_covered} == {0, 1, 2, 3, 5, 6, 7, 10, None}
    assert [n.subject for n in result.not_covered if n.pcr is None] == ["usr", "built-in command line"]


def test_an_updated_machine_needs_the_manifests_of_both_releases(shared: Path) -> None:
    """Shim and GRUB are those it was installed with, the kernel that of the update."""
    folder = shared / "flatcar" / "captures" / "usr-b-after-update"
    old, new = capture_manifest(shared), capture_manifest(shared, updated=True)
    result = appraise(folder, [old, new])
    assert result.status == "affirming"
    kernel = next(i for i in result.identified if i.component == "kernel")
    assert (kernel.release, kernel.slot) == ("2.0.0", "b")
    only_old = appraise(folder, [old])
    assert only_old.status == "contraindicated"
    assert codes(only_old) == {"image.unknown", "file.unknown"}


def test_a_manifest_that_did_not_look_at_usr_is_refused() -> None:
    """USR is in no register: only the kernel's root hash binds it, and somebody must have compared the two."""
    manifest = lab_manifest("flatcar-lab-good")
    assert [usr.status for usr in manifest.usr] == ["verified"]
    unchecked = attrs.evolve(
        manifest, usr=tuple(attrs.evolve(u, status="unchecked", root=None, data_blocks=None) for u in manifest.usr)
    )
    log = good_log()
    for allow, status in ((False, "contraindicated"), (True, "affirming")):
        policy = ml.policy.flatcar(allow_unchecked_usr=allow)
        result = ml.Verifier([unchecked], policy=policy, unsafe_unsigned_manifests=True).appraise(machine(log))
        assert result.status == status
        assert ("usr.unchecked" in codes(result)) is not allow
    # Nor does it help that some other USR was verified: it is this kernel's that counts.
    other = attrs.evolve(manifest, usr=tuple(attrs.evolve(u, root=bytes(32)) for u in manifest.usr))
    result = ml.Verifier([other], policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True).appraise(machine(log))
    assert codes(result) == {"usr.unchecked"}
    good = ml.Verifier([manifest], policy=ml.policy.flatcar()).appraise(machine(log))
    assert "usr" in {c.rule for c in good.checked}


def test_another_releases_grub_does_not_stand_in_for_the_one_whose_commands_ran(shared: Path) -> None:
    """Two releases with other configurations: the GRUB of one never runs the commands of the other."""
    old, new = capture_manifest(shared), capture_manifest(shared, updated=True)
    assert old.grub is not None
    grub = new.component("grub")
    assert grub is not None
    digest = hashlib.sha256(b"another GRUB").digest()
    other = attrs.evolve(grub, authenticode={**grub.authenticode, "sha256": digest})
    new = attrs.evolve(
        new,
        components=tuple(other if c is grub else c for c in new.components),
        grub=attrs.evolve(old.grub, config=f"set another=configuration\n{old.grub.config}"),
    )
    folder = shared / "flatcar" / "captures" / "usr-a-secureboot"
    forged = ForgedLog.take_apart((folder / "binary_bios_measurements").read_bytes())
    replaced = [
        replace(e, digests={**e.digests, SHA256: digest}) if e.digests[SHA256] == grub.authenticode["sha256"] else e
        for e in forged.events
    ]
    verifier = ml.Verifier([old, new], policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True)
    assert verifier.appraise(machine(forged)).status == "affirming"
    assert verifier.appraise(machine(forged.with_events(replaced))).status == "contraindicated"


def test_an_oem_configuration_is_admitted_by_its_contents(shared: Path) -> None:
    folder = shared / "flatcar" / "captures" / "oem-qemu-first-boot"
    manifests = [capture_manifest(shared)]
    refused = appraise(folder, manifests, secure_boot=False)
    assert refused.status == "contraindicated"
    result = appraise(folder, manifests, secure_boot=False, oem=folder / "oem-grub.cfg")
    assert result.status == "affirming"
    assert "boot.oem-file" in codes(result, severity="info")


def test_an_oem_configuration_is_admitted_by_its_settings(shared: Path) -> None:
    folder = shared / "flatcar" / "captures" / "oem-qemu-first-boot"
    manifests = [capture_manifest(shared)]
    arguments = ("flatcar.autologin", "flatcar.oem.id=qemu")
    result = appraise(folder, manifests, secure_boot=False, arguments=arguments)
    assert result.status == "affirming"
    assert "boot.oem-settings" in codes(result, severity="info")
    fewer = appraise(folder, manifests, secure_boot=False, arguments=arguments[:1])
    assert fewer.status == "contraindicated"


@pytest.mark.parametrize("oem", [False, True])
def test_a_tampered_oem_configuration_is_named_with_its_argument(shared: Path, oem: bool) -> None:
    captures = shared / "flatcar" / "captures"
    folder = captures / "oem-tampered-init"
    good = captures / "oem-qemu-first-boot" / "oem-grub.cfg"
    result = appraise(folder, [capture_manifest(shared)], secure_boot=False, oem=good if oem else None)
    assert result.status == "contraindicated"
    argument = [f for f in result.findings if f.code == "kernel.argument" and f.observed == "init=/bin/sh"]
    assert [f.pcr for f in argument] == [8]
    assert "(hd0,gpt6)/grub.cfg" in events(folder, result, "file.unknown")
    assert any("init=/bin/sh" in text for text in events(folder, result, "command.unexpected"))


def test_the_script_torture_is_refused(shared: Path) -> None:
    """Its OEM file runs through all of GRUB's language; nobody admitted that, and every command of it is named."""
    folder = shared / "flatcar" / "captures" / "grub-script-torture"
    result = appraise(folder, [capture_manifest(shared)], secure_boot=False)
    assert result.status == "contraindicated"
    assert codes(result) >= {"command.unexpected", "file.unknown"}
    # With its contents admitted it stays refused: it sources a second file, which no reference has.
    admitted = appraise(folder, [capture_manifest(shared)], secure_boot=False, oem=folder / "oem-grub.cfg")
    assert admitted.status == "contraindicated"


def test_the_projects_own_captures() -> None:
    good = FIXTURES / "flatcar-lab-good"
    result = appraise(good, [lab_manifest("flatcar-lab-good")])
    assert (result.status, codes(result, severity="info")) == ("affirming", set())
    tampered = FIXTURES / "flatcar-lab-tampered"
    result = appraise(tampered, [lab_manifest("flatcar-lab-good")])
    assert result.status == "contraindicated"
    assert any("init=/bin/sh" in text for text in events(tampered, result, "command.unexpected"))
    assert [f.observed for f in result.findings if f.code == "kernel.argument"] == ["init=/bin/sh"]


def test_a_machine_for_arm64() -> None:
    """Its kernel has no room for a root hash, so that nobody compared it with USR: a policy has to allow that."""
    for name, secure_boot in (("arm64", True), ("arm64-sb-off", False), ("arm64-tampered", True)):
        manifests = [lab_manifest("arm64" if name == "arm64-tampered" else name)]
        refused = appraise(FIXTURES / name, manifests, secure_boot=secure_boot)
        assert (refused.status, "usr.unchecked" in codes(refused)) == ("contraindicated", True)
        policy = ml.policy.flatcar(secure_boot=secure_boot, allow_unchecked_usr=True)
        result = ml.Verifier(manifests, policy=policy).appraise(evidence(FIXTURES / name))
        if name != "arm64-tampered":
            assert (result.status, codes(result)) == ("affirming", set())
            continue
        assert result.status == "contraindicated"
        assert [f.observed for f in result.findings if f.code == "kernel.argument"] == ["init=/bin/sh"]


def test_a_boot_that_cannot_be_predicted_is_not_covered() -> None:
    """How Flatcar's GRUB starts a kernel on arm64 is not known: that is said, and nothing is compared with a guess."""
    known = lab_manifest("arm64")
    assert known.grub is not None
    unknown = attrs.evolve(known, grub=attrs.evolve(known.grub, profile="flatcar-2.12"))
    result = appraise(FIXTURES / "arm64", [unknown])
    assert (result.status, codes(result)) == ("warning", set())
    assert {f.pcr for f in result.findings if f.code == "register.not-covered"} == {4, 8, 9, 14}
