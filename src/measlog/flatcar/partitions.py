"""The partition table as a log has it (UEFI_GPT_DATA), and as it will be when attributes change.

Sources: PFP 1.06, clause 10.4.4 (UEFI_GPT_DATA); UEFI 2.10, clause 5.3 (GPT header, CRCs).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

from attrs import field, frozen

__all__ = ["PartitionTable"]

_HEADER = 92
_ENTRY = 128
_ARRAY_LIMIT = 1 << 20


@frozen(kw_only=True)
class PartitionTable:
    """``data`` is the event's data; ``numbers`` the place of each entry in the table, from 1, in their order."""

    data: bytes = field(repr=False)
    numbers: tuple[int, ...]

    @classmethod
    def from_event(cls, data: bytes, numbers: Mapping[UUID | str, int]) -> PartitionTable | None:
        """The table of an EV_EFI_GPT_EVENT.

        The event has the used entries alone; ``numbers`` tells the places of those that are known, by their GUID or
        else their name. None where that does not give the header's CRC of the whole array, which proves the places and
        without which the CRC could not be computed anew.
        """
        if len(data) < _HEADER + 8 or data[:8] != b"EFI PART":
            return None
        size = _u32(data, 84)
        used = struct.unpack_from("<Q", data, _HEADER)[0]
        if size != _ENTRY or len(data) != _HEADER + 8 + used * size or _u32(data, 80) * size > _ARRAY_LIMIT:
            return None
        places = []
        for at in _entries(used):
            name = data[at + 56 : at + _ENTRY].decode("utf-16-le", "replace").partition("\0")[0]
            number = numbers.get(UUID(bytes_le=data[at + 16 : at + 32])) or numbers.get(name)
            if number is None:
                return None
            places.append(number)
        made = cls(data=data, numbers=tuple(places))
        if len(set(made.numbers)) != len(made.numbers) or max(made.numbers, default=0) > _u32(data, 80):
            return None
        return made if made._array_crc() == _u32(data, 88) and made._header_crc() == _u32(data, 16) else None

    @property
    def attributes(self) -> Mapping[UUID, int]:
        """Attributes by the partition's GUID."""
        return MappingProxyType(
            {
                UUID(bytes_le=self.data[at + 16 : at + 32]): struct.unpack_from("<Q", self.data, at + 48)[0]
                for at in _entries(len(self.numbers))
            }
        )

    def with_attributes(self, changed: Mapping[UUID, int]) -> PartitionTable:
        """The table with other attributes, and the CRCs of array and header that go with them."""
        data = bytearray(self.data)
        for at in _entries(len(self.numbers)):
            guid = UUID(bytes_le=bytes(data[at + 16 : at + 32]))
            if guid in changed:
                struct.pack_into("<Q", data, at + 48, changed[guid])
        made = PartitionTable(data=bytes(data), numbers=self.numbers)
        struct.pack_into("<I", data, 88, made._array_crc())
        made = PartitionTable(data=bytes(data), numbers=self.numbers)
        struct.pack_into("<I", data, 16, made._header_crc())
        return PartitionTable(data=bytes(data), numbers=self.numbers)

    def _array_crc(self) -> int:
        array = bytearray(_u32(self.data, 80) * _ENTRY)
        for number, at in zip(self.numbers, _entries(len(self.numbers)), strict=True):
            array[(number - 1) * _ENTRY : number * _ENTRY] = self.data[at : at + _ENTRY]
        return zlib.crc32(array)

    def _header_crc(self) -> int:
        header = bytearray(self.data[:_HEADER])
        header[16:20] = bytes(4)
        return zlib.crc32(header)


def _entries(used: int) -> range:
    return range(_HEADER + 8, _HEADER + 8 + used * _ENTRY, _ENTRY)


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
