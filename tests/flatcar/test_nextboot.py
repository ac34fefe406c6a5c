"""Machine plus release: the registers of a boot that came later, from a log of the boot before it.

The captures are boots of one machine: ``usr-a-secureboot`` before an update, ``usr-b-after-update`` after it. What the TPM
reported after the later boot is in no way an input of the prediction.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import attrs
import pytest

from measlog.errors import UnsupportedError
from measlog.flatcar.boot import PredictedBoot, predict
from measlog.flatcar.nextboot import observe
from measlog.flatcar.partitions import PartitionTable
from measlog.log import Event, EventLog
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


def edited(log: EventLog, change: Callable[[Event, bytes], bytes]) -> EventLog:
    """The log with each TCG_PCR_EVENT2 replaced by what ``change`` makes of it; what is measured is not made to fit."""
    data, events = log.to_bytes(), list(log)
    ends = [event.offset for event in events[1:]] + [len(data)]
    pieces = [data[: events[1].offset]]
    pieces += [change(event, data[event.offset : end]) for event, end in zip(events[1:], ends[1:], strict=True)]
    return EventLog.from_bytes(b"".join(pieces))


def without(unwanted: Callable[[Event], bool]) -> Callable[[Event, bytes], bytes]:
    return lambda event, raw: b"" if unwanted(event) else raw


def more_settings(event: Event, raw: bytes) -> bytes:
    return raw * 80 if event.raw.startswith(b"grub_cmd: set oem_id=") else raw


@pytest.mark.parametrize(
    ("capture", "change", "message"),
    [
        ("usr-a-secureboot", without(lambda e: e.pcr == 8), "does not begin like a boot of Flatcar's GRUB"),
        ("usr-a-secureboot", without(lambda e: e.pcr == 7), "does not tell the Secure Boot state"),
        (
            "usr-a-secureboot",
            without(lambda e: e.pcr == 7 and "SecureBoot".encode("utf-16-le") in e.raw),
            "does not tell the Secure Boot state",
        ),
        ("usr-a-secureboot", without(lambda e: b"vmlinuz" in e.raw and e.pcr == 9), "which kernel was started"),
        ("usr-a-secureboot", without(lambda e: e.pcr == 4), "which kernel was started"),
        # A configuration that was sourced and is in no event, and one with more settings than are tried.
        ("oem-qemu-first-boot", without(lambda e: e.pcr == 9 and b"grub.cfg" in e.raw), "makes by itself"),
        ("oem-qemu-first-boot", more_settings, "makes by itself"),
    ],
)
def test_a_log_that_does_not_show_how_it_was_booted_is_refused(
    shared: Path, capture: str, change: Callable[[Event, bytes], bytes], message: str
) -> None:
    log = captured(shared, capture)
    observe(log, manifest(shared))
    changed = edited(log, change)
    assert changed.to_bytes() != log.to_bytes()
    with pytest.raises(UnsupportedError, match=message):
        observe(changed, manifest(shared))


def test_a_log_of_sha1_alone_is_refused(shared: Path) -> None:
    # TCG_PCR_EVENT of the PC Client profile 1.2: register, type, digest, size, data.
    old = struct.pack("<II20sI", 0, 8, bytes(20), 4) + b"1.0\0"
    with pytest.raises(UnsupportedError, match="crypto-agile logs, this is sha1"):
        observe(EventLog.from_bytes(old), manifest(shared))


def another_type(event: Event, raw: bytes) -> bytes:
    # EV_EFI_GPT_EVENT2, whose data is laid out otherwise.
    return raw[:4] + struct.pack("<I", 0x8000000D) + raw[8:] if event.type == 0x80000006 else raw


def another_table(entries: dict[int, tuple[UUID, int, str]]) -> Callable[[Event, bytes], bytes]:
    data = gpt(entries)

    def change(event: Event, raw: bytes) -> bytes:
        if event.type != 0x80000006:
            return raw
        return raw[: -4 - len(event.raw)] + struct.pack("<I", len(data)) + data

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (another_type, "whose numbers are not known"),
        (another_table({3: (USR_A, 0, "USR-A"), 5: (UUID(int=77), 0, "STRANGE")}), "whose numbers are not known"),
        (another_table({3: (USR_A, 0, "USR-A")}), "no two USR partitions"),
        (another_table({4: (USR_B, 0, "USR-B")}), "no two USR partitions"),
    ],
)
def test_a_partition_table_that_cannot_be_followed_leaves_register_5_unknown(
    shared: Path, change: Callable[[Event, bytes], bytes], reason: str
) -> None:
    log = edited(captured(shared, "usr-a-secureboot"), change)
    boots = predict(manifest(shared, updated=True), log, bootloader=manifest(shared))
    assert boots
    for boot in boots:
        assert reason in boot.unknown[5]
        assert boot.of(5) == ()
        assert 5 not in boot.pcrs["sha256"]
        assert not any(note.startswith("register 5") for note in boot.assumptions)
        # The others do not depend on it.
        assert {4, 8, 9} <= set(boot.pcrs["sha256"])
