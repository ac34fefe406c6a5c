"""Machine plus release: the registers of a boot that came later, from a log of the boot before it.

The captures are boots of one machine: ``usr-a-secureboot`` before an update, ``usr-b-after-update`` after it. What the TPM
reported after the later boot is in no way an input of the prediction.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from uuid import UUID

import attrs
import pytest

from measlog.errors import UnsupportedError
from measlog.flatcar.boot import PredictedBoot, predict
from measlog.flatcar.nextboot import observe
from measlog.flatcar.partitions import PartitionTable
from measlog.log import EventLog
from measlog.reference.manifest import Certificate, Signer
from tests.flatcar.grub.captures import USR_A, USR_B, read_log, read_pcrs
from tests.flatcar.grub.manifests import manifest

BANKS = ("sha1", "sha256", "sha384")
KNOWN = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14}


def captured(shared: Path, name: str) -> EventLog:
    return EventLog.from_bytes((shared / "flatcar" / "captures" / name / "binary_bios_measurements").read_bytes())


def after_update(shared: Path) -> dict[str, PredictedBoot]:
    log = captured(shared, "usr-a-secureboot")
    return {boot.name: boot for boot in predict(manifest(shared, updated=True), log, bootloader=manifest(shared))}


def test_the_boot_after_an_update_is_known_before_it_happens(shared: Path) -> None:
    boot = after_update(shared)["slot b, first boot of the update"]
    pcrs = read_pcrs(shared / "flatcar" / "captures" / "usr-b-after-update" / "pcrs.txt")
    for bank in BANKS:
        assert set(boot.pcrs[bank]) == KNOWN
        assert boot.pcrs[bank] == {pcr: pcrs[bank][pcr] for pcr in KNOWN}
    log = read_log(shared / "flatcar" / "captures" / "usr-b-after-update" / "binary_bios_measurements")
    for pcr in (4, 5, 7, 8, 9, 14):
        assert [e.digests["sha256"] for e in boot.of(pcr)] == [e.digests["sha256"] for e in log if e.pcr == pcr]


def test_without_an_update_the_registers_stay(shared: Path) -> None:
    boot = after_update(shared)["slot a, nothing updated"]
    pcrs = read_pcrs(shared / "flatcar" / "captures" / "usr-a-secureboot" / "pcrs.txt")
    for bank in BANKS:
        assert boot.pcrs[bank] == {pcr: pcrs[bank][pcr] for pcr in KNOWN}
    assert all(text.startswith("stays") for text in boot.moves.values())


def test_going_back_is_among_the_boots_and_differs_in_register_5_alone(shared: Path) -> None:
    boots = after_update(shared)
    back = boots["slot a, back after slot b was not marked successful"]
    now = boots["slot a, nothing updated"]
    assert {pcr for pcr in KNOWN if back.pcrs["sha256"][pcr] != now.pcrs["sha256"][pcr]} == {5}
    assert list(boots) == [
        "slot a, nothing updated",
        "slot b, first boot of the update",
        "slot b, later boot of the update",
        "slot a, back after slot b was not marked successful",
        "slot a, because the kernel of slot b cannot be read",
    ]


def test_what_moves_is_explained(shared: Path) -> None:
    boot = after_update(shared)["slot b, first boot of the update"]
    assert {pcr for pcr, text in boot.moves.items() if text.startswith("changes")} == {4, 5, 8, 9}
    assert set(boot.unknown) == {10, 15}


def test_an_oem_configuration_is_taken_from_the_log(shared: Path) -> None:
    log = captured(shared, "oem-qemu-first-boot")
    seen = observe(log, manifest(shared))
    assert seen.state.first_boot
    assert not seen.secure_boot
    assert seen.oem is not None
    boots = predict(manifest(shared, updated=True), log, bootloader=manifest(shared))
    # The next boot is no first boot; its own OEM file is measured again with the digest that the log has.
    assert [event.text for event in boots[0].of(9)] == [b"(hd0,gpt6)/grub.cfg", b"/flatcar/vmlinuz-a"]
    logged = next(event for event in log if event.pcr == 9)
    assert boots[0].of(9)[0].digests["sha256"] == logged.digests["sha256"]
    assert b"flatcar.oem.id=qemu" in boots[0].of(8)[-1].text
    assert b"first_boot" not in boots[0].of(8)[-1].text
    given = predict(manifest(shared), log, bootloader=manifest(shared), oem_grub_cfg=b'set oem_id="ec2"\n')
    assert b"flatcar.oem.id=ec2" in given[0].of(8)[-1].text


def test_only_the_boots_asked_for(shared: Path) -> None:
    log = captured(shared, "usr-a-secureboot")
    old, new = manifest(shared), manifest(shared, updated=True)
    assert {boot.slot for boot in predict(new, log, bootloader=old, slot="b")} == {"b"}
    assert predict(new, log, bootloader=old, secure_boot=False) == []
    assert predict(new, log, bootloader=old, first_boot=True) == []


def test_a_log_of_another_boot_loader_is_refused(shared: Path) -> None:
    log = captured(shared, "usr-a-secureboot")
    release = manifest(shared)
    assert release.grub is not None
    other = attrs.evolve(release.grub, config=release.grub.config.replace("consoleblank=0", "consoleblank=1"))
    with pytest.raises(UnsupportedError, match="PCR 8"):
        predict(release, log, bootloader=attrs.evolve(release, grub=other))
    with pytest.raises(UnsupportedError, match="PCR 8"):
        predict(release, captured(shared, "grub-script-torture"))


def test_another_shim_leaves_register_4_unknown(shared: Path) -> None:
    log = captured(shared, "usr-a-secureboot")
    release = manifest(shared)
    other = tuple(
        attrs.evolve(c, authenticode={bank: b"\x01" * len(d) for bank, d in c.authenticode.items()})
        if c.role == "shim"
        else c
        for c in release.components
    )
    boots = predict(release, log, bootloader=attrs.evolve(release, components=other))
    assert all(4 in boot.unknown and 4 not in boot.pcrs["sha256"] for boot in boots)


def test_a_kernel_signed_by_another_authority_leaves_register_7_unknown(shared: Path) -> None:
    log = captured(shared, "usr-a-secureboot")
    new = manifest(shared, updated=True)
    stranger = Signer(
        chain=(Certificate(subject="CN=x", issuer="CN=x", sha256=b"\x07" * 32),), algorithm="sha256", verified="yes"
    )
    signed = tuple(attrs.evolve(c, signers=(stranger,)) if c.role == "kernel" else c for c in new.components)
    boots = {b.name: b for b in predict(attrs.evolve(new, components=signed), log, bootloader=manifest(shared))}
    assert 7 in boots["slot b, first boot of the update"].unknown
    assert 7 not in boots["slot b, first boot of the update"].pcrs["sha256"]
    # The old kernel's authority is in the log.
    assert 7 in boots["slot a, nothing updated"].pcrs["sha256"]


def gpt(entries: dict[int, tuple[UUID, int, str]], count: int = 128) -> bytes:
    """UEFI_GPT_DATA written out by hand, with right CRCs."""
    array = bytearray(count * 128)
    used = b""
    for number, (guid, attributes, name) in sorted(entries.items()):
        entry = UUID(int=7).bytes_le + guid.bytes_le + struct.pack("<QQQ", 8, 9, attributes)
        entry += name.encode("utf-16-le").ljust(72, b"\0")
        array[(number - 1) * 128 : number * 128] = entry
        used += entry
    header = struct.pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, 99, 8, 90, UUID(int=5).bytes_le, 2, count, 128,
        zlib.crc32(array),
    )  # fmt: skip
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    return header + struct.pack("<Q", len(entries)) + used


def test_a_partition_table_with_other_attributes_has_the_right_crcs() -> None:
    before = gpt({3: (USR_A, 0x0101 << 48, "USR-A"), 4: (USR_B, 0, "USR-B"), 9: (UUID(int=9), 0, "ROOT")})
    after = gpt({3: (USR_A, 0x0101 << 48, "USR-A"), 4: (USR_B, 0x0012 << 48, "USR-B"), 9: (UUID(int=9), 0, "ROOT")})
    table = PartitionTable.from_event(before, {USR_A: 3, USR_B: 4, "ROOT": 9})
    assert table is not None
    assert table.attributes[USR_A] == 0x0101 << 48
    assert table.with_attributes({USR_B: 0x0012 << 48}).data == after


@pytest.mark.parametrize(
    "numbers",
    [{}, {USR_A: 3}, {USR_A: 3, USR_B: 5}, {USR_A: 3, USR_B: 3}, {USR_A: 3, USR_B: 129}],
    ids=["none", "one missing", "wrong place", "same place", "outside"],
)
def test_a_partition_table_whose_places_are_not_known_is_none(numbers: dict[UUID | str, int]) -> None:
    data = gpt({3: (USR_A, 0, "USR-A"), 4: (USR_B, 0, "USR-B")})
    assert PartitionTable.from_event(data, numbers) is None


def test_bytes_that_are_no_partition_table_are_none() -> None:
    data = gpt({3: (USR_A, 0, "USR-A")})
    places: dict[UUID | str, int] = {USR_A: 3}
    assert PartitionTable.from_event(data, places) is not None
    for cut in range(len(data)):
        assert PartitionTable.from_event(data[:cut], places) is None
    for at in range(92):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert PartitionTable.from_event(changed, places) is None
