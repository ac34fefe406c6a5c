"""PE32+ images put together byte by byte, so that every field can be made to lie."""

from __future__ import annotations

import struct

HEADERS = 0x400
OPTIONAL = 0x40 + 24


def make_pe(
    sections: list[tuple[bytes, bytes]],
    *,
    machine: int = 0x8664,
    certificates: bytes = b"",
    trailer: bytes = b"",
    directories: int = 16,
    first: bytes = b"",
    gap: int = 0,
    stub: bytes = b"",
) -> bytes:
    """An image with these (name, content) sections, one after the other ``gap`` bytes apart, from byte 0x400 on.

    ``trailer`` follows the sections, ``certificates`` end the file. ``first`` is written at byte 0x200 of the
    headers, ``stub`` between DOS and PE header.
    """
    body, table, place = b"", b"", HEADERS
    for number, (name, content) in enumerate(sections):
        body += content + bytes(gap)
        table += struct.pack(
            "<8sIIIIIIHHI", name, len(content), 0x1000 * (number + 1), len(content), place, 0, 0, 0, 0, 0x60000020
        )
        place += len(content) + gap
    body += trailer
    optional = struct.pack("<HBBIIIII", 0x20B, 0, 0, 0, 0, 0, 0, 0)
    optional += struct.pack("<QII12sIII", 0, 0x1000, 0x200, bytes(12), 0, 0x10000, HEADERS)
    optional += struct.pack("<IHHQQQQII", 0xC0FFEE00, 10, 0, 0, 0, 0, 0, 0, directories)
    entries = [(0, 0)] * directories
    if directories > 4 and certificates:
        entries[4] = HEADERS + len(body), len(certificates)
    optional += b"".join(struct.pack("<II", *entry) for entry in entries)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, len(optional), 0x2022)
    head = b"MZ" + bytes(58) + struct.pack("<I", 0x40 + len(stub)) + stub + coff + optional + table
    if first:
        head = head.ljust(0x200, b"\0") + first
    assert len(head) <= HEADERS
    return head.ljust(HEADERS, b"\0") + body + certificates


def patch(data: bytes, offset: int, content: bytes) -> bytes:
    """``data`` with some bytes replaced."""
    return data[:offset] + content + data[offset + len(content) :]


def section_header(index: int, directories: int = 16) -> int:
    """Where the header of a section starts."""
    return OPTIONAL + 112 + 8 * directories + 40 * index
