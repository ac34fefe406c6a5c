"""Predicted boots against real ones: the shared captures and the project's own fixtures.

A prediction is made from a manifest and the state of the disk; the logs and the TPM's registers are what it must equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest

from fixtures.lab.scenarios import SCENARIOS, Scenario
from measlog.errors import ManifestError, UnsupportedError
from measlog.flatcar.boot import PredictedBoot, boot_paths, oem_script, predict, predict_state
from measlog.flatcar.grub import GrubFile
from measlog.flatcar.image import _with_mok as with_mok
from measlog.flatcar.machine import SPENT, SUCCESSFUL, BootState
from measlog.flatcar.unified import uki_root_hashes
from measlog.reference.manifest import ReferenceManifest
from measlog.reference.signing import SignedManifest
from tests.conftest import FIXTURES
from tests.flatcar.grub.captures import CAPTURES, read_log, read_pcrs
from tests.flatcar.grub.manifests import manifest
from tests.lab.predicted import NOT_PREDICTED, OWN_IMAGE, QUICK, typed

EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
BANKS = ("sha1", "sha256", "sha384")


def one(boots: list[PredictedBoot], *, fails: bool = False) -> PredictedBoot:
    found = [boot for boot in boots if (boot.slot != boot.chosen) is fails]
    assert len(found) == 1
    return found[0]


def prediction(shared: Path, name: str) -> PredictedBoot:
    """The boot of a capture, from what ORIGIN.md says of its state."""
    state = CAPTURES[name]
    folder = shared / "flatcar" / "captures" / name
    oem = folder / "oem-grub.cfg"
    return one(
        predict(
            manifest(shared, updated=state.updated),
            bootloader=manifest(shared),
            secure_boot=state.secure_boot,
            slot="b" if state.updated else "a",
            first_boot=state.first_boot,
            oem_grub_cfg=oem.read_bytes() if oem.exists() else None,
        )
    )


# The torture script sources a second file of the OEM partition; the engine's own tests have it.
@pytest.mark.parametrize("name", sorted(set(CAPTURES) - {"grub-script-torture"}))
def test_a_predicted_boot_is_the_capture(shared: Path, name: str) -> None:
    boot = prediction(shared, name)
    folder = shared / "flatcar" / "captures" / name
    log = read_log(folder / "binary_bios_measurements")
    pcrs = read_pcrs(folder / "pcrs.txt")
    for bank in BANKS:
        images = [e.digests[bank] for e in log if e.pcr == 4 and e.type == EV_EFI_BOOT_SERVICES_APPLICATION]
        assert [e.digests[bank] for e in boot.of(4) if e.kind == "image"] == images
        for pcr in (8, 9):
            assert [e.digests[bank] for e in boot.of(pcr)] == [e.digests[bank] for e in log if e.pcr == pcr]
        for pcr in (8, 9, 11, 12, 13):
            assert boot.pcrs[bank][pcr] == pcrs[bank][pcr]
    last = [e for e in log if e.pcr == 8][-1]
    assert boot.command_line == len(boot.of(8)) - 1
    assert boot.of(8)[boot.command_line].data == last.data


def test_the_boots_of_a_release(shared: Path) -> None:
    boots = predict(manifest(shared))
    assert [boot.name for boot in boots] == [
        "slot a, first boot, Secure Boot on",
        "slot a, later boot, Secure Boot on",
        "slot b, later boot, Secure Boot on",
        "slot b, falls back to slot a, later boot, Secure Boot on",
        "slot a, falls back to slot b, later boot, Secure Boot on",
        "slot a, first boot, Secure Boot off",
        "slot a, later boot, Secure Boot off",
        "slot b, later boot, Secure Boot off",
        "slot b, falls back to slot a, later boot, Secure Boot off",
        "slot a, falls back to slot b, later boot, Secure Boot off",
    ]
    assert all(boot.outcome == "kernel" for boot in boots)
    # Each leaves another register 8, whatever the Secure Boot state, which GRUB's commands do not show.
    eights = [boot.pcrs["sha256"][8] for boot in boots]
    assert eights[:5] == eights[5:]
    assert len(set(eights[:5])) == 5
    # With Secure Boot off no event of register 4 is the kernel.
    assert [len(boot.of(4)) for boot in boots] == [5] * 5 + [4] * 5


def test_falling_back_runs_the_entry_again_and_spends_the_try(shared: Path) -> None:
    boot = next(b for b in predict(manifest(shared), secure_boot=True) if b.chosen == "b" and b.slot == "a")
    texts = [event.text for event in boot.of(8)]
    assert texts.count(b"setparams Flatcar default") == 2
    assert sum(text.startswith(b"linux /flatcar/vmlinuz-b ") for text in texts) == 1
    assert texts[-1].startswith(b"/flatcar/vmlinuz-a ")
    assert [event.text for event in boot.of(9)] == [b"/flatcar/vmlinuz-a"]
    assert boot.attributes == {4: SPENT}
    assert SUCCESSFUL == 0x0101 << 48


def test_selection(shared: Path) -> None:
    release = manifest(shared)
    assert {b.slot for b in predict(release, slot="b")} == {"b"}
    assert {b.secure_boot for b in predict(release, secure_boot=False)} == {False}
    assert all(b.first_boot for b in predict(release, first_boot=True))
    with pytest.raises(ManifestError):
        predict(release, slot="c")


def test_what_the_image_does_not_decide_is_said_to_be_unknown(shared: Path) -> None:
    boot = predict(manifest(shared))[0]
    assert set(boot.unknown) == {0, 1, 2, 3, 5, 6, 7, 14}
    assert set(boot.pcrs["sha256"]) == {4, 8, 9, 11, 12, 13}
    assert all(boot.unknown.values())


def test_without_known_rules_nothing_is_predicted(shared: Path) -> None:
    release = manifest(shared)
    assert release.grub is not None
    unknown = attrs.evolve(release, grub=attrs.evolve(release.grub, profile=None, version="2.99"))
    with pytest.raises(UnsupportedError, match=r"2\.99"):
        predict(unknown)
    with pytest.raises(UnsupportedError, match="no GRUB"):
        predict(attrs.evolve(release, grub=None))
    arm = predict(attrs.evolve(release, arch="arm64"))
    assert all(not boot.pcrs and 8 in boot.unknown for boot in arm)


def test_boot_paths_are_the_manifests_form(shared: Path) -> None:
    release = manifest(shared)
    full = attrs.evolve(release, boot_paths=boot_paths(release))
    again = ReferenceManifest.from_json(full.to_json())
    assert again.boot_paths == full.boot_paths
    assert [path.name for path in again.boot_paths] == [boot.name for boot in predict(release)]


def test_settings_recorded_in_register_8_predict_the_rest(shared: Path) -> None:
    """An OEM configuration that is not at hand: its recorded commands stand in for it, the file's digest excepted."""
    name = "oem-tampered-init"
    log = read_log(shared / "flatcar" / "captures" / name / "binary_bios_measurements")
    texts = [e.data.removeprefix(b"grub_cmd: ").rstrip(b"\0") for e in log if e.pcr == 8]
    start = texts.index(b"source (hd0,gpt6)/grub.cfg") + 1
    end = texts.index(b"[ -f (hd0,gpt1)/flatcar/first_boot ]")
    script = oem_script(texts[start:end])
    boot = one(predict(manifest(shared), secure_boot=False, slot="a", first_boot=True, oem_grub_cfg=script))
    assert [e.digests["sha256"] for e in boot.of(8)] == [e.digests["sha256"] for e in log if e.pcr == 8]


@pytest.mark.parametrize("command", [b"linux /x", b"source (hd0,gpt1)/x", b"set", b"1x=y", b"set a b=c", b""])
def test_what_is_no_setting_stands_in_for_nothing(command: bytes) -> None:
    with pytest.raises(UnsupportedError):
        oem_script([command])


# What was done to these machines is an OEM file or is typed, which a prediction takes, or GRUB measures nothing of it.
PREDICTABLE = frozenset(
    {
        "arm64-tampered",
        "flatcar-lab-tampered",
        "sb-off-tampered-init",
        "tampered-bank-off",
        "tampered-db-key-only",
        "tampered-foreign-quote",
        "tampered-log-cut",
        "tampered-prompt",
        "tampered-secure-boot-off",
        "tampered-shim-signature",
        "tampered-usr",
    }
)


def lab_rows() -> dict[str, Scenario]:
    """The project's own boots through GRUB that are committed, of programs and settings that the manifest knows."""
    return {
        name: row
        for name, row in SCENARIOS.items()
        if row.image.boot == "grub"
        and (name in PREDICTABLE or not (row.stop_texts or row.after or row.tampered))
        and (FIXTURES / name / "binary_bios_measurements").exists()
    }


@pytest.mark.parametrize("name", sorted(lab_rows()))
def test_a_predicted_boot_is_the_lab_s(name: str) -> None:
    """Debian's GRUB 2.06: PCR 4, 8, 9 and 14 from the image's manifest and OEM file; the events and what the TPM reported."""
    folder = FIXTURES / name
    row = lab_rows()[name]
    signed = folder / "manifest.dsse.json"
    if not signed.exists():
        # An image that differs in the OEM partition alone has no manifest of its own.
        signed = FIXTURES / ("flatcar-lab-good" if row.image.first_boot else "later-boot") / "manifest.dsse.json"
    if not signed.exists():
        pytest.skip(f"the fixture {signed.parent.name} has no manifest")
    key = (FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()
    release = SignedManifest.from_bytes(signed.read_bytes()).verify(keys=[key])
    oem = folder / "oem-grub.cfg"
    if row.typing:
        state = BootState(slot=row.image.slot, first_boot=row.image.first_boot, secure_boot=row.firmware.secure_boot)
        boot = predict_state(release, release, state, typed=typed(row))
    else:
        boot = one(
            predict(
                release,
                secure_boot=row.firmware.secure_boot,
                slot=row.image.slot,
                first_boot=row.image.first_boot,
                oem_grub_cfg=oem.read_bytes() if oem.exists() else None,
            )
        )
    log = read_log(folder / "binary_bios_measurements")
    for bank in log[0].digests:
        images = [e.digests[bank] for e in log if e.pcr == 4 and e.type == EV_EFI_BOOT_SERVICES_APPLICATION]
        assert [e.digests[bank] for e in boot.of(4) if e.kind == "image"] == images
        for pcr in (8, 9, 14):
            made, logged = [e.digests[bank] for e in boot.of(pcr)], [e.digests[bank] for e in log if e.pcr == pcr]
            # A log that was cut has fewer events; the TPM has all of them.
            assert logged == (made[: len(logged)] if row.after == "cut-log" else made)
    reported = json.loads((folder / "pcrs.json").read_text())
    assert set(reported) == set(row.banks)
    for bank, values in reported.items():
        known = boot.pcrs[bank]
        for pcr in (4, 8, 9, 14):
            # The firmware tries an empty drive first, against what the prediction assumes of register 4.
            assert (known[pcr].hex() == values[str(pcr)]) is not (pcr == 4 and row.empty_drive), (bank, pcr)
    for mine, theirs in zip(boot.of(9), [e for e in log if e.pcr == 9], strict=True):
        assert (mine.type, mine.data) == (theirs.type, theirs.data)


def test_every_boot_of_the_lab_is_predicted() -> None:
    """From its fixture here, from its own image in tests/lab, or there is a reason why not."""
    assert not set(lab_rows()) & OWN_IMAGE
    assert set(lab_rows()) | set(UNIFIED) | OWN_IMAGE | set(NOT_PREDICTED) == set(SCENARIOS)
    assert QUICK < OWN_IMAGE
    assert all(NOT_PREDICTED.values())


UNIFIED = {"uki": True, "uki-sb-off": False}


@pytest.mark.parametrize(("name", "secure_boot"), UNIFIED.items())
def test_a_unified_image_s_boot_is_the_lab_s(name: str, secure_boot: bool) -> None:
    """PCR 4, 11, 13 and 14 as the TPM reported them when the machine was up; PCR 11 of earlier phases by hashlib."""
    folder = FIXTURES / name
    key = (FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()
    release = SignedManifest.from_bytes((folder / "manifest.dsse.json").read_bytes()).verify(keys=[key])
    boots = predict(release, secure_boot=secure_boot)
    reported = json.loads((folder / "pcrs.json").read_text())
    phases = ("enter-initrd", "leave-initrd", "sysinit", "ready")
    assert [boot.name.rpartition(", ")[2] for boot in boots] == [
        "before the initrd", *(":".join(phases[: count + 1]) for count in range(4)),
    ]  # fmt: skip
    log = read_log(folder / "binary_bios_measurements")
    for bank in reported:
        value = bytes(hashlib.new(bank).digest_size)
        for event in log:
            if event.pcr == 11:
                value = hashlib.new(bank, value + event.digests[bank]).digest()
        for boot, phase in zip(boots, (None, *phases), strict=True):
            if phase is not None:
                value = hashlib.new(bank, value + hashlib.new(bank, phase.encode()).digest()).digest()
            assert boot.pcrs[bank][11] == value
        last = {pcr: value.hex() for pcr, value in boots[-1].pcrs[bank].items()}
        assert last == {pcr: reported[bank][str(pcr)] for pcr in (4, 8, 11, 13, 14)}
    assert {9, 12, *range(4), 5, 6, 7} == set(boots[-1].unknown)


def test_a_unified_image_has_no_boots_of_slots_or_settings() -> None:
    release = unified()
    assert len(predict(release)) == 2 * len(predict(release, secure_boot=True))
    given: dict[str, Any]
    for given in ({"slot": "a"}, {"first_boot": True}, {"oem_grub_cfg": b""}, {"arguments": ["x"]}):
        with pytest.raises(UnsupportedError, match="Secure Boot and phase"):
            predict(release, **given)


def unified() -> ReferenceManifest:
    key = (FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()
    return SignedManifest.from_bytes((FIXTURES / "uki" / "manifest.dsse.json").read_bytes()).verify(keys=[key])


def changed(release: ReferenceManifest, role: str, **members: Any) -> ReferenceManifest:
    """The manifest with other members of the component ``role``, or without it where none are given."""
    return attrs.evolve(
        release,
        boot_paths=(),
        components=tuple(
            attrs.evolve(one, **members) if one.role == role else one
            for one in release.components
            if members or one.role != role
        ),
    )


@pytest.mark.parametrize("make", [manifest, lambda _shared: unified()], ids=["grub", "unified"])
@pytest.mark.parametrize(
    ("members", "reason"),
    [({}, "no shim: nobody measures"), ({"mok_list": None}, "what shim mirrors into MokList and MokListX is not")],
)
def test_without_shim_and_what_it_mirrors_register_14_is_unknown(
    shared: Path, make: Callable[[Path], ReferenceManifest], members: dict[str, Any], reason: str
) -> None:
    release = make(shared)
    (full,) = {len([e for e in boot.of(4) if e.kind == "image"]) for boot in predict(release, secure_boot=True)}
    boots = predict(changed(release, "shim", **members), secure_boot=True)
    assert boots
    for boot in boots:
        assert boot.unknown[14].startswith(reason)
        assert boot.of(14) == ()
        assert 14 not in boot.pcrs["sha256"]
        # The firmware then starts the boot loader itself.
        assert len([e for e in boot.of(4) if e.kind == "image"]) == full - (not members)


def test_without_grub_s_program_it_is_in_no_event(shared: Path) -> None:
    release = manifest(shared)
    grub = release.component("grub")
    assert grub is not None
    for boot in predict(changed(release, "grub")):
        assert grub.authenticode not in [event.digests for event in boot.of(4)]


def test_what_makes_boots_impossible_to_predict_is_said(shared: Path) -> None:
    release = manifest(shared)
    with pytest.raises(UnsupportedError, match="the manifest has no disk"):
        predict(attrs.evolve(release, disk=None))
    with pytest.raises(UnsupportedError, match="lab: no kernel that GRUB starts"):
        predict(changed(release, "kernel"))
    # A release without a disk is booted from the layout of the boot loader's.
    bare = attrs.evolve(manifest(shared, updated=True), disk=None)
    boots = predict(bare, bootloader=release, slot="b", secure_boot=True)
    assert (
        boots[0].pcrs == predict(manifest(shared, updated=True), bootloader=release, slot="b", secure_boot=True)[0].pcrs
    )


def test_a_kernel_without_digests_leaves_registers_open(shared: Path) -> None:
    release = manifest(shared)
    state = BootState(slot="a", secure_boot=True)
    boot = predict_state(release, release, state, kernel=GrubFile(kernel=True))
    for pcr in (4, 9):
        assert boot.unknown[pcr] == "the digest of a file or program is not known in any bank"
        assert all(pcr not in values for values in boot.pcrs.values())
    assert 8 in boot.pcrs["sha256"]


def test_the_linux_command_carries_the_command_line_s_arguments(shared: Path) -> None:
    boot = predict(manifest(shared), slot="a")[0]
    assert boot.linux_command is not None
    assert boot.command_line is not None
    command, line = boot.of(8)[boot.linux_command], boot.of(8)[boot.command_line]
    assert command.text.removeprefix(b"linux ").split()[0] == line.text.split()[0] == b"/flatcar/vmlinuz-a"
    # Where no kernel is started there is neither.
    arm = predict(attrs.evolve(manifest(shared), arch="arm64"))[0]
    assert (arm.command_line, arm.linux_command) == (None, None)


def test_root_hashes_of_unified_images() -> None:
    guid = "7130c94a-213a-4e5a-8e26-6cce9662f132"
    found = next(one for one in unified().components if one.uki is not None)
    image = found.uki
    assert image is not None

    def roots(line: str | None) -> dict[UUID, bytes]:
        return uki_root_hashes((attrs.evolve(found, uki=attrs.evolve(image, command_line=line)),))

    one, two = f"verity.usrhash={'ab' * 32}", f"verity.usr=PARTUUID={guid}"
    assert roots(f"{one} x {two}") == {UUID(guid): b"\xab" * 32}
    # The kernel takes the last of several, systemd may not: what is there twice names nothing.
    for line in (None, "", one, two, f"{one} {one} {two}", f"{one} {two} {two}", f"{one}0 {two}", f"x{one} {two}"):
        assert roots(line) == {}


def test_register_14_is_covered_where_shim_s_lists_are_known(shared: Path) -> None:
    # The shared description has no lists of shim's; the unified image's manifest has them.
    without = manifest(shared)
    known = unified()
    for release, covered in ((without, False), (known, True), (changed(known, "shim"), False)):
        bare = attrs.evolve(release, covers={4: "x"}, not_covered={14: "y"}, boot_paths=known.boot_paths)
        assert (14 in with_mok(bare).covers, 14 in with_mok(bare).not_covered) == (covered, not covered)
        # Without boot paths nothing is covered by them.
        assert with_mok(attrs.evolve(bare, boot_paths=())).covers == {4: "x"}
