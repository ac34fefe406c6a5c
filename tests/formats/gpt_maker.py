"""Partition tables put together byte by byte (UEFI 2.10, clause 5.3), so that every field can be made to lie."""

from __future__ import annotations

import struct
import zlib
from uuid import UUID

ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
DISK = UUID("11111111-2222-3333-4444-555555555555")


def entry(first: int, last: int, label: str = "", *, kind: UUID = LINUX, number: int = 0, attributes: int = 0) -> bytes:
    """An EFI_PARTITION_ENTRY; the unique GUID is made of ``number`` or, without, of the LBAs."""
    guid = UUID(int=number or (first << 64 | last | 1 << 120))
    name = label.encode("utf-16-le").ljust(72, b"\0")
    return kind.bytes_le + guid.bytes_le + struct.pack("<QQQ", first, last, attributes) + name


def header(entries: bytes, lba: int, other: int, start: int, last: int, **lies: int) -> bytes:
    """An EFI_PARTITION_TABLE_HEADER in its sector; ``lies`` replace fields before the checksum is made."""
    fields = {"revision": 0x10000, "size": 92, "my": lba, "first": 34, "count": 128, "step": 128} | lies
    crc = lies.get("entries_crc", zlib.crc32(entries))

    def packed(checksum: int) -> bytes:
        front = struct.pack(
            "<8sIIIIQQ", b"EFI PART", fields["revision"], fields["size"], checksum, 0, fields["my"], other
        )
        middle = struct.pack("<QQ16sQ", fields["first"], last, DISK.bytes_le, lies.get("at", start))
        return front + middle + struct.pack("<III", fields["count"], fields["step"], crc)

    checksum = lies.get("checksum", zlib.crc32(packed(0)[: fields["size"]].ljust(min(fields["size"], 512), b"\0")))
    return packed(checksum).ljust(512, b"\0")


def make_gpt(
    partitions: list[bytes], *, sectors: int = 4096, backup: dict[str, int] | None = None, **lies: int
) -> bytes:
    """A whole disk of 512-byte sectors, empty but for its two tables."""
    entries = b"".join(partitions).ljust(128 * 128, b"\0")
    end, lied = sectors - 1, dict(backup or {})
    primary = lied.pop("other", 1)
    disk = bytearray(sectors * 512)
    disk[512:1024] = header(entries, 1, end, 2, end - 33, **lies)
    disk[1024 : 1024 + len(entries)] = entries
    disk[(end - 32) * 512 : end * 512] = entries
    disk[end * 512 :] = header(entries, end, primary, end - 32, end - 33, **lied)
    return bytes(disk)
