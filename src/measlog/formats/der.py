"""DER as far as signatures need it (ITU-T X.690): one element after the other, each length compared with what is left.

The ASN.1 reader of ``cryptography`` refuses the unsorted sets that signing tools write into PKCS #7.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, TruncatedError

__all__ = ["DerElement", "children", "element", "object_identifier"]

CLAUSE = "X.690"


@frozen(kw_only=True)
class DerElement:
    """Identifier octet, contents, and the whole encoding; ``offset`` is where it starts in what was read."""

    tag: int = field(validator=instance_of(int))
    content: bytes = field(validator=instance_of(bytes), repr=False)
    encoding: bytes = field(validator=instance_of(bytes), repr=False)
    offset: int = field(validator=instance_of(int))


def element(data: bytes, offset: int = 0) -> DerElement:
    """The element at ``offset``; what follows it is left alone. FormatError where there is none."""
    if offset + 2 > len(data):
        raise TruncatedError("an element is cut off", offset=offset, clause=CLAUSE)
    tag, length, start = data[offset], data[offset + 1], offset + 2
    if tag & 0x1F == 0x1F:
        raise FormatError("a tag of several octets", offset=offset, clause=CLAUSE)
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise FormatError(f"a length of {count} octets", offset=offset, clause=CLAUSE)
        if start + count > len(data):
            raise TruncatedError("a length is cut off", offset=offset, clause=CLAUSE)
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if length > len(data) - start:
        raise TruncatedError(f"{length} bytes where {len(data) - start} are left", offset=offset, clause=CLAUSE)
    end = start + length
    return DerElement(tag=tag, content=data[start:end], encoding=data[offset:end], offset=offset)


def children(parent: DerElement, *, limit: int = 256) -> list[DerElement]:
    """The elements inside a constructed one, at most ``limit``."""
    return list(_children(parent.content, limit))


def _children(content: bytes, limit: int) -> Iterator[DerElement]:
    place = 0
    for _ in range(limit):
        if place == len(content):
            return
        found = element(content, place)
        yield found
        place += len(found.encoding)
    if place != len(content):
        raise FormatError(f"more than {limit} elements", offset=place, clause=CLAUSE)


def object_identifier(found: DerElement) -> str:
    """An OBJECT IDENTIFIER in dotted decimal; FormatError where the element is none."""
    raw = found.content
    if found.tag != 0x06 or not 1 <= len(raw) <= 64 or raw[-1] & 0x80:
        raise FormatError("expected an object identifier", offset=found.offset, clause=CLAUSE)
    numbers, value = [], 0
    for octet in raw:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(number) for number in (first, numbers[0] - 40 * first, *numbers[1:]))
