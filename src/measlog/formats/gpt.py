"""GUID partition tables (UEFI 2.10, clause 5.3), read and checked whole: header, entries, backup."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any, Self
from uuid import UUID

import construct as c
from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.formats.blocks import Blocks
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["EFI_PARTITION_ENTRY", "EFI_PARTITION_TABLE_HEADER", "Gpt", "GptPartition"]

HEADER_CLAUSE = "UEFI 5.3.2"
ENTRY_CLAUSE = "UEFI 5.3.3"

EFI_PARTITION_TABLE_HEADER = c.Struct(
    "Signature" / c.Bytes(8),
    "Revision" / c.Int32ul,
    "HeaderSize" / c.Int32ul,
    "HeaderCRC32" / c.Int32ul,
    "Reserved" / c.Int32ul,
    "MyLBA" / c.Int64ul,
    "AlternateLBA" / c.Int64ul,
    "FirstUsableLBA" / c.Int64ul,
    "LastUsableLBA" / c.Int64ul,
    "DiskGUID" / c.Bytes(16),
    "PartitionEntryLBA" / c.Int64ul,
    "NumberOfPartitionEntries" / c.Int32ul,
    "SizeOfPartitionEntry" / c.Int32ul,
    "PartitionEntryArrayCRC32" / c.Int32ul,
)

EFI_PARTITION_ENTRY = c.Struct(
    "PartitionTypeGUID" / c.Bytes(16),
    "UniquePartitionGUID" / c.Bytes(16),
    "StartingLBA" / c.Int64ul,
    "EndingLBA" / c.Int64ul,
    "Attributes" / c.Int64ul,
    "PartitionName" / c.Bytes(72),
)

_UNUSED = bytes(16)


@frozen(kw_only=True)
class GptPartition:
    """A used EFI_PARTITION_ENTRY. ``number`` counts from 1; LBAs are in sectors, ``start`` and ``size`` in bytes."""

    number: int = field(validator=instance_of(int))
    type_guid: UUID = field(validator=instance_of(UUID))
    guid: UUID = field(validator=instance_of(UUID))
    first_lba: int = field(validator=instance_of(int))
    last_lba: int = field(validator=instance_of(int))
    attributes: int = field(validator=instance_of(int))
    label: str = field(validator=instance_of(str))
    sector_size: int = field(validator=instance_of(int))

    @property
    def start(self) -> int:
        """Where the partition starts, in bytes from the start of the disk."""
        return self.first_lba * self.sector_size

    @property
    def size(self) -> int:
        """How long the partition is, in bytes."""
        return (self.last_lba - self.first_lba + 1) * self.sector_size


@frozen(kw_only=True)
class Gpt:
    """A partition table whose checksums hold and whose partitions lie apart from each other within the disk."""

    disk_guid: UUID = field(validator=instance_of(UUID))
    sector_size: int = field(validator=instance_of(int))
    backup_lba: int = field(validator=instance_of(int))
    partitions: tuple[GptPartition, ...] = field(validator=deep_iterable(instance_of(GptPartition)))
    header: bytes = field(validator=instance_of(bytes), repr=False)
    entries_crc: int = field(validator=instance_of(int), repr=False)

    @classmethod
    def read(
        cls, blocks: Blocks, *, sector_size: int = 512, limits: Limits = DEFAULT_LIMITS, size: int | None = None
    ) -> Self:
        """Read the primary table; FormatError where it is none or lies about the disk.

        ``size`` is the disk's in bytes, where ``blocks`` hold only its beginning.
        """
        header, raw = _header(blocks, 1, sector_size, limits)
        disk = (blocks.size if size is None else size) // sector_size
        entries = _entries(blocks, header, sector_size, "PartitionEntryLBA")
        partitions = tuple(_used(entries, header, sector_size))
        for partition in partitions:
            path = f"partitions[{partition.number}]"
            place = header.PartitionEntryLBA * sector_size + (partition.number - 1) * header.SizeOfPartitionEntry
            if not header.FirstUsableLBA <= partition.first_lba <= partition.last_lba <= header.LastUsableLBA:
                raise FormatError(
                    f"LBA {partition.first_lba} to {partition.last_lba} is not within the usable "
                    f"{header.FirstUsableLBA} to {header.LastUsableLBA}",
                    offset=place,
                    path=path,
                    clause=ENTRY_CLAUSE,
                )
            if partition.last_lba >= disk:
                raise FormatError(
                    f"ends at LBA {partition.last_lba}, the disk has {disk} sectors: is the image cut short?",
                    offset=place,
                    path=path,
                    clause=ENTRY_CLAUSE,
                )
        _check_apart(partitions)
        return cls(
            disk_guid=UUID(bytes_le=header.DiskGUID),
            sector_size=sector_size,
            backup_lba=header.AlternateLBA,
            partitions=partitions,
            header=raw,
            entries_crc=header.PartitionEntryArrayCRC32,
        )

    def check_backup(self, blocks: Blocks, *, limits: Limits = DEFAULT_LIMITS) -> None:
        """FormatError unless the backup table at the end of the disk is there and says the same."""
        other, _ = _header(blocks, self.backup_lba, self.sector_size, limits)
        mine = EFI_PARTITION_TABLE_HEADER.parse(self.header)
        for name in (
            "DiskGUID",
            "FirstUsableLBA",
            "LastUsableLBA",
            "NumberOfPartitionEntries",
            "SizeOfPartitionEntry",
            "PartitionEntryArrayCRC32",
        ):
            if other[name] != mine[name]:
                raise FormatError(
                    f"the backup's {name} differs from the primary's",
                    offset=self.backup_lba * self.sector_size,
                    path="backup",
                    clause=HEADER_CLAUSE,
                )
        if other.AlternateLBA != 1:
            raise FormatError(
                f"the backup names LBA {other.AlternateLBA} as the primary",
                offset=self.backup_lba * self.sector_size,
                path="backup.AlternateLBA",
                clause=HEADER_CLAUSE,
            )
        _entries(blocks, other, self.sector_size, "backup.PartitionEntryLBA")


def _header(blocks: Blocks, lba: int, sector_size: int, limits: Limits) -> tuple[Any, bytes]:
    place = lba * sector_size
    path = "header" if lba == 1 else "backup"
    if place + sector_size > blocks.size:
        raise FormatError(
            f"no room for the partition table's {path}: the disk has {blocks.size} bytes",
            offset=place,
            path=path,
            clause=HEADER_CLAUSE,
        )
    sector = blocks.read(place, sector_size)
    header = EFI_PARTITION_TABLE_HEADER.parse(sector)

    def refuse(name: str, message: str, kind: type[FormatError] = FormatError) -> FormatError:
        return kind(message, offset=place, path=f"{path}.{name}", clause=HEADER_CLAUSE)

    if header.Signature != b"EFI PART":
        raise refuse("Signature", "no EFI PART signature: no GUID partition table")
    if header.Revision != 0x00010000:
        raise refuse("Revision", f"revision 0x{header.Revision:08x}", UnsupportedError)
    if not EFI_PARTITION_TABLE_HEADER.sizeof() <= header.HeaderSize <= sector_size:
        raise refuse("HeaderSize", f"{header.HeaderSize} bytes in a sector of {sector_size}")
    covered = bytearray(sector[: header.HeaderSize])
    covered[16:20] = bytes(4)
    if zlib.crc32(covered) != header.HeaderCRC32:
        raise refuse("HeaderCRC32", f"0x{header.HeaderCRC32:08x}, computed 0x{zlib.crc32(covered):08x}")
    if header.MyLBA != lba:
        raise refuse("MyLBA", f"{header.MyLBA}, but the header is at LBA {lba}")
    if header.NumberOfPartitionEntries > limits.partitions:
        raise refuse(
            "NumberOfPartitionEntries",
            f"{header.NumberOfPartitionEntries} entries, the limit is {limits.partitions}",
            LimitExceededError,
        )
    entry = header.SizeOfPartitionEntry
    if entry < 128 or entry > 4096 or entry & (entry - 1):
        raise refuse("SizeOfPartitionEntry", f"{entry} is not 128 times a power of two, or is above 4096")
    return header, sector[: header.HeaderSize]


def _entries(blocks: Blocks, header: Any, sector_size: int, path: str) -> bytes:
    place = header.PartitionEntryLBA * sector_size
    length = header.NumberOfPartitionEntries * header.SizeOfPartitionEntry
    if place + length > blocks.size:
        raise FormatError(
            f"the entries are to be at byte {place}, {length} bytes; the disk ends at byte {blocks.size}",
            offset=place,
            path=path,
            clause=HEADER_CLAUSE,
        )
    entries = blocks.read(place, length)
    if zlib.crc32(entries) != header.PartitionEntryArrayCRC32:
        raise FormatError(
            f"PartitionEntryArrayCRC32 is 0x{header.PartitionEntryArrayCRC32:08x}, computed 0x{zlib.crc32(entries):08x}",
            offset=place,
            path=path,
            clause=HEADER_CLAUSE,
        )
    return entries


def _used(entries: bytes, header: Any, sector_size: int) -> list[GptPartition]:
    found = []
    seen: dict[UUID, int] = {}
    for index in range(header.NumberOfPartitionEntries):
        start = index * header.SizeOfPartitionEntry
        raw = entries[start : start + EFI_PARTITION_ENTRY.sizeof()]
        if raw[:16] == _UNUSED:
            continue
        entry = EFI_PARTITION_ENTRY.parse(raw)
        guid = UUID(bytes_le=entry.UniquePartitionGUID)
        path = f"partitions[{index + 1}]"
        place = header.PartitionEntryLBA * sector_size + start
        if guid in seen:
            raise FormatError(f"has the GUID of partition {seen[guid]}", offset=place, path=path, clause=ENTRY_CLAUSE)
        seen[guid] = index + 1
        try:
            label = entry.PartitionName.decode("utf-16-le").partition("\0")[0]
        except UnicodeDecodeError:
            raise FormatError("the name is not UTF-16", offset=place + 56, path=path, clause=ENTRY_CLAUSE) from None
        found.append(
            GptPartition(
                number=index + 1,
                type_guid=UUID(bytes_le=entry.PartitionTypeGUID),
                guid=guid,
                first_lba=entry.StartingLBA,
                last_lba=entry.EndingLBA,
                attributes=entry.Attributes,
                label=label,
                sector_size=sector_size,
            )
        )
    return found


def _check_apart(partitions: tuple[GptPartition, ...]) -> None:
    ordered = sorted(partitions, key=lambda partition: partition.first_lba)
    for left, right in pairwise(ordered):
        if right.first_lba <= left.last_lba:
            raise FormatError(
                f"starts at LBA {right.first_lba}, inside partition {left.number} which ends at {left.last_lba}",
                offset=right.start,
                path=f"partitions[{right.number}]",
                clause=ENTRY_CLAUSE,
            )
