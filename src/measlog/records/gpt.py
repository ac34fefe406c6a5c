"""UEFI_GPT_DATA (PFP 1.06, clause 10.2.6): the partition table as EV_EFI_GPT_EVENT and EV_EFI_GPT_EVENT2 log it."""

from __future__ import annotations

import struct
from uuid import UUID

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.formats.cursor import Cursor
from measlog.records.base import Record

__all__ = ["GptEvent", "GptHeader", "GptPartition", "read_gpt"]

CLAUSE = "PFP 1.06, 10.2.6"
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ")
_NAME_SIZE = 72


@frozen(kw_only=True)
class GptHeader:
    """EFI_PARTITION_TABLE_HEADER (UEFI 2.10, clause 5.3.2). Positions are logical blocks."""

    signature: bytes
    revision: int
    header_size: int
    header_crc32: int
    reserved: int
    my_lba: int
    alternate_lba: int
    first_usable_lba: int
    last_usable_lba: int
    disk_guid: UUID
    partition_entry_lba: int
    number_of_partition_entries: int
    size_of_partition_entry: int
    partition_entry_array_crc32: int

    def to_bytes(self) -> bytes:
        """The 92 bytes of the header."""
        return _HEADER.pack(
            self.signature,
            self.revision,
            self.header_size,
            self.header_crc32,
            self.reserved,
            self.my_lba,
            self.alternate_lba,
            self.first_usable_lba,
            self.last_usable_lba,
            self.disk_guid.bytes_le,
            self.partition_entry_lba,
            self.number_of_partition_entries,
            self.size_of_partition_entry,
            self.partition_entry_array_crc32,
        )


@frozen(kw_only=True)
class GptPartition:
    """EFI_PARTITION_ENTRY (UEFI 2.10, clause 5.3.3). ``ending_lba`` is inclusive; ``extra`` is what larger entries add."""

    type_guid: UUID
    unique_guid: UUID
    starting_lba: int
    ending_lba: int
    attributes: int
    raw_name: bytes = field(repr=False)
    """PartitionName: 36 CHAR16, as they lie."""
    extra: bytes = b""

    @property
    def name(self) -> str:
        """PartitionName up to its NUL."""
        return self.raw_name.decode("utf-16-le", "surrogatepass").partition("\0")[0]

    def to_bytes(self) -> bytes:
        """The entry, SizeOfPartitionEntry bytes long."""
        head = _ENTRY.pack(
            self.type_guid.bytes_le, self.unique_guid.bytes_le, self.starting_lba, self.ending_lba, self.attributes
        )
        return head + self.raw_name + self.extra


@frozen(kw_only=True)
class GptEvent(Record):
    """UEFI_GPT_DATA: header and the entries in use, or, in EV_EFI_GPT_EVENT2, with GUIDs of disk and partitions zero."""

    header: GptHeader
    partitions: tuple[GptPartition, ...] = field(validator=deep_iterable(instance_of(GptPartition)))

    def _body(self) -> bytes:
        entries = b"".join([entry.to_bytes() for entry in self.partitions])
        return self.header.to_bytes() + struct.pack("<Q", len(self.partitions)) + entries


_HEADER_FIELDS = (
    ("signature", 8),
    ("revision", 4),
    ("header_size", 4),
    ("header_crc32", 4),
    ("reserved", 4),
    ("my_lba", 8),
    ("alternate_lba", 8),
    ("first_usable_lba", 8),
    ("last_usable_lba", 8),
    ("disk_guid", 16),
    ("partition_entry_lba", 8),
    ("number_of_partition_entries", 4),
    ("size_of_partition_entry", 4),
    ("partition_entry_array_crc32", 4),
)


def read_gpt(cursor: Cursor) -> GptEvent:
    """UEFI_GPT_DATA; the entries are SizeOfPartitionEntry bytes long, not sizeof(EFI_PARTITION_ENTRY).

    :raises FormatError: no ``EFI PART``, entries smaller than 128 bytes, or more of them than there are bytes.
    """
    cursor.clause = CLAUSE
    inner = cursor.inside("header", _HEADER.size)
    values = list(_HEADER.unpack_from(inner.data, inner.pos))
    if values[0] != b"EFI PART":
        raise inner.error("signature is not EFI PART", "signature")
    for name, size in _HEADER_FIELDS:
        inner.take(name, size)
    values[9] = UUID(bytes_le=values[9])
    header = GptHeader(**{name: value for (name, _), value in zip(_HEADER_FIELDS, values, strict=True)})
    number = cursor.u64("number_of_partitions")
    size = header.size_of_partition_entry
    if size < _ENTRY.size + _NAME_SIZE:
        raise cursor.error(f"SizeOfPartitionEntry {size} is less than 128", "header.size_of_partition_entry")
    cursor.count("partitions", number, size)
    partitions = tuple(_read_entry(cursor.inside(f"partitions[{index}]", size)) for index in range(number))
    return GptEvent(header=header, partitions=partitions, **cursor.finish())


def _read_entry(cursor: Cursor) -> GptPartition:
    return GptPartition(
        type_guid=cursor.guid("type_guid"),
        unique_guid=cursor.guid("unique_guid"),
        starting_lba=cursor.u64("starting_lba"),
        ending_lba=cursor.u64("ending_lba"),
        attributes=cursor.u64("attributes"),
        raw_name=cursor.take("name", _NAME_SIZE),
        extra=cursor.rest("extra"),
    )
