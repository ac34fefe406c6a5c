"""GUID partition tables: hand-made ones, those of sgdisk, and ones that lie."""

from __future__ import annotations

import re
import shutil
import subprocess
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.formats.blocks import BytesBlocks, Window
from measlog.formats.gpt import Gpt
from tests.formats.gpt_maker import DISK, ESP, entry, make_gpt

PARTITIONS = [entry(64, 127, "EFI-SYSTEM", kind=ESP), entry(200, 300, "USR-A", attributes=0x0101000000000000)]
GOOD = make_gpt(PARTITIONS)


def test_a_table_is_read() -> None:
    gpt = Gpt.read(BytesBlocks(GOOD))
    gpt.check_backup(BytesBlocks(GOOD))
    assert gpt.disk_guid == DISK
    assert [(p.number, p.label, p.first_lba, p.last_lba, p.attributes) for p in gpt.partitions] == [
        (1, "EFI-SYSTEM", 64, 127, 0),
        (2, "USR-A", 200, 300, 0x0101000000000000),
    ]
    assert (gpt.partitions[0].start, gpt.partitions[0].size) == (64 * 512, 64 * 512)
    assert gpt.partitions[0].type_guid == ESP


def test_sgdisk_reads_the_same(tmp_path: Path) -> None:
    tool = shutil.which("sgdisk")
    if tool is None:
        pytest.skip("sgdisk is not installed here")
    path = tmp_path / "disk"
    path.write_bytes(bytes(8 << 20))
    guid = "7130c94a-213a-4e5a-8e26-6cce9662f132"
    kind = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"
    words = ["-a", "1", "-n", "3:2048:4095", "-t", f"3:{kind}", "-c", "3:USR-A", "-u", f"3:{guid}"]
    words += ["-A", "3:=:0101000000000000", "-n", "9:5000:6000", "-c", "9:RÖOT"]
    subprocess.run([tool, *words, str(path)], check=True, capture_output=True, timeout=60)
    blocks = BytesBlocks(path.read_bytes())
    gpt = Gpt.read(blocks)
    gpt.check_backup(blocks)
    usr, root = gpt.partitions
    assert (usr.number, usr.guid, usr.type_guid, usr.label) == (3, UUID(guid), UUID(kind), "USR-A")
    assert (usr.first_lba, usr.last_lba, usr.attributes) == (2048, 4095, 0x0101000000000000)
    assert (root.number, root.label, root.first_lba, root.last_lba) == (9, "RÖOT", 5000, 6000)
    said = subprocess.run([tool, "-p", str(path)], check=True, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"Disk identifier \(GUID\): ([0-9A-F-]+)", said)
    assert found is not None
    assert gpt.disk_guid == UUID(found[1])


def test_larger_entries_are_stepped_over_by_their_size() -> None:
    wide = b"".join(one.ljust(256, b"\xaa") for one in PARTITIONS).ljust(128 * 256, b"\0")
    # The checksums cover the wide array; sector 2 on holds it.
    import zlib

    disk = bytearray(make_gpt(PARTITIONS, count=64, step=256, entries_crc=zlib.crc32(wide[: 64 * 256])))
    disk[1024 : 1024 + 64 * 256] = wide[: 64 * 256]
    gpt = Gpt.read(BytesBlocks(bytes(disk)))
    assert [p.label for p in gpt.partitions] == ["EFI-SYSTEM", "USR-A"]


LIES = {
    "empty": (b"", FormatError, "header"),
    "no signature": (bytes(4096 * 512), FormatError, "header.Signature"),
    "revision 2": (make_gpt(PARTITIONS, revision=0x20000), UnsupportedError, "header.Revision"),
    "header of 2^32 bytes": (make_gpt(PARTITIONS, size=0xFFFFFFFF), FormatError, "header.HeaderSize"),
    "header of 1 byte": (make_gpt(PARTITIONS, size=1), FormatError, "header.HeaderSize"),
    "checksum": (make_gpt(PARTITIONS, checksum=7), FormatError, "header.HeaderCRC32"),
    "another LBA": (make_gpt(PARTITIONS, my=2), FormatError, "header.MyLBA"),
    "2^32 entries": (make_gpt(PARTITIONS, count=0xFFFFFFFF), LimitExceededError, "header.NumberOfPartitionEntries"),
    "entries of 2^31 bytes": (make_gpt(PARTITIONS, step=1 << 31), FormatError, "header.SizeOfPartitionEntry"),
    "entries of 192 bytes": (make_gpt(PARTITIONS, step=192), FormatError, "header.SizeOfPartitionEntry"),
    "entries beyond the disk": (make_gpt(PARTITIONS, at=1 << 60), FormatError, "PartitionEntryLBA"),
    "entries changed": (make_gpt(PARTITIONS, entries_crc=1), FormatError, "PartitionEntryLBA"),
    "overlap": (make_gpt([entry(64, 127), entry(127, 200)]), FormatError, "partitions[2]"),
    "one within the other": (make_gpt([entry(64, 600), entry(127, 200)]), FormatError, "partitions[2]"),
    "ends before it starts": (make_gpt([entry(64, 63)]), FormatError, "partitions[1]"),
    "over the table": (make_gpt([entry(2, 63)]), FormatError, "partitions[1]"),
    "beyond the disk": (make_gpt([entry(64, 1 << 62)]), FormatError, "partitions[1]"),
    "the same GUID": (make_gpt([entry(64, 65, number=7), entry(66, 67, number=7)]), FormatError, "partitions[2]"),
    "a name that is no UTF-16": (make_gpt([entry(64, 65)[:56] + b"\x00\xd8" * 36]), FormatError, "partitions[1]"),
    "cut short": (GOOD[: 250 * 512], FormatError, "partitions[2]"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_one_error_that_says_where(name: str) -> None:
    data, kind, place = LIES[name]
    tracemalloc.start()
    with pytest.raises(kind) as caught:
        Gpt.read(BytesBlocks(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert place in (caught.value.path or "")
    assert caught.value.offset is not None
    assert peak < 20 << 20


@pytest.mark.parametrize(
    ("disk", "place"),
    [
        (GOOD[:-512], "backup"),
        (make_gpt(PARTITIONS, backup={"count": 64}), "backup"),
        (make_gpt(PARTITIONS, backup={"entries_crc": 5}), "backup"),
        (make_gpt(PARTITIONS, backup={"checksum": 5}), "backup.HeaderCRC32"),
        (make_gpt(PARTITIONS, backup={"other": 2}), "backup.AlternateLBA"),
    ],
)
def test_a_backup_that_is_missing_or_differs_is_refused(disk: bytes, place: str) -> None:
    blocks = BytesBlocks(disk)
    gpt = Gpt.read(blocks, size=len(GOOD))
    with pytest.raises(FormatError) as caught:
        gpt.check_backup(blocks)
    assert place in (caught.value.path or "")


@given(st.integers(512, 512 + 92 + 512), st.binary(min_size=1, max_size=16))
def test_changed_bytes_are_a_table_or_a_format_error(place: int, change: bytes) -> None:
    data = GOOD[:place] + change + GOOD[place + len(change) :]
    try:
        gpt = Gpt.read(BytesBlocks(data))
    except FormatError:
        return
    assert all(partition.last_lba * 512 < len(data) for partition in gpt.partitions)


def test_a_window_cannot_be_read_beyond() -> None:
    window = Window(BytesBlocks(b"0123456789"), 2, 4)
    assert window.read(1, 3) == b"345"
    for offset, length in ((0, 5), (4, 1), (-1, 2), (0, -1)):
        with pytest.raises(FormatError):
            window.read(offset, length)
