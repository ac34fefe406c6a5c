"""The wire format of Protocol Buffers, as far as one message of a few known fields needs it.

Source: Protocol Buffers, "Encoding" (protobuf.dev). Read by hand: a message is a list of (tag, value) pairs, and the
``protobuf`` package, with a compiled descriptor for each message, would take the last of several values of one field
without a word, so that two readers could see two messages in the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError

__all__ = ["WireField", "bytes_of", "fields", "int_of", "message", "varint"]

CLAUSE = "Protocol Buffers, Encoding"

VARINT, I64, LEN, SGROUP, EGROUP, I32 = range(6)
_KINDS = {VARINT: "VARINT", I64: "I64", LEN: "LEN", SGROUP: "SGROUP", EGROUP: "EGROUP", I32: "I32"}
_MAX_FIELD = (1 << 29) - 1
_MAX_VARINT = 10


@frozen(kw_only=True)
class WireField:
    """One field: its number, its wire type, and its value, an integer or bytes; ``offset`` is where the value lies."""

    number: int = field(validator=instance_of(int))
    kind: int = field(validator=instance_of(int))
    value: int | bytes = field(validator=instance_of((int, bytes)), repr=False)
    offset: int = field(validator=instance_of(int))


def varint(data: bytes, offset: int, *, clause: str = CLAUSE) -> tuple[int, int]:
    """A base-128 varint of at most 64 bits, and where it ends; ``clause`` is the one that errors name.

    Raises :class:`~measlog.errors.FormatError` for a larger or longer one, a TruncatedError where the data end in it.
    """
    value = 0
    for count in range(_MAX_VARINT):
        if offset + count >= len(data):
            raise TruncatedError("a varint is cut off", offset=offset, clause=clause)
        octet = data[offset + count]
        value |= (octet & 0x7F) << 7 * count
        if octet < 0x80:
            if value >> 64:
                raise FormatError("a varint of more than 64 bits", offset=offset, clause=clause)
            return value, offset + count + 1
    raise FormatError("a varint of more than ten bytes", offset=offset, clause=clause)


def fields(data: bytes, *, limit: int = 4096) -> Iterator[WireField]:
    """The fields of a message in their order, at most ``limit``; groups, which no message here has, are refused.

    Raises :class:`~measlog.errors.FormatError` at the field that is none: a LimitExceededError where there are more, an
    UnsupportedError for a group, a TruncatedError where the message ends in a field.
    """
    place = 0
    for _ in range(limit):
        if place == len(data):
            return
        start = place
        tag, place = varint(data, place)
        number, kind = tag >> 3, tag & 7
        if not 1 <= number <= _MAX_FIELD:
            raise FormatError(f"the field number {number} does not exist", offset=start, clause=CLAUSE)
        if kind == VARINT:
            value, end = varint(data, place)
            yield WireField(number=number, kind=kind, value=value, offset=place)
        elif kind in {LEN, I64, I32}:
            if kind == LEN:
                size, place = varint(data, place)
            else:
                size = 8 if kind == I64 else 4
            if size > len(data) - place:
                raise TruncatedError(
                    f"field {number} needs {size} bytes, {len(data) - place} are left", offset=place, clause=CLAUSE
                )
            end = place + size
            yield WireField(number=number, kind=kind, value=data[place:end], offset=place)
        else:
            raise UnsupportedError(f"field {number} has the wire type {kind}", offset=start, clause=CLAUSE)
        place = end
    if place != len(data):
        raise LimitExceededError(f"more than {limit} fields", offset=place, clause=CLAUSE)


def message(
    data: bytes,
    known: Mapping[int, tuple[str, int, bool]],
    *,
    path: str = "",
    offset: int = 0,
    limit: int = 4096,
) -> dict[str, list[WireField]]:
    """The known fields of a message by name; ``known`` maps numbers to (name, wire type, may be repeated).

    Unknown fields are skipped, as the format demands. A known one of another wire type, or there twice without being
    repeated, is a FormatError. ``offset`` and ``path`` are those of the message in what was handed over.
    """
    try:
        return _message(data, known, limit)
    except FormatError as error:
        raise error.inside(path, offset) from None


def _message(data: bytes, known: Mapping[int, tuple[str, int, bool]], limit: int) -> dict[str, list[WireField]]:
    found: dict[str, list[WireField]] = {name: [] for name, _, _ in known.values()}
    for item in fields(data, limit=limit):
        if item.number not in known:
            continue
        name, kind, repeated = known[item.number]
        if item.kind != kind:
            said = f"the wire type is {_KINDS[item.kind]} instead of {_KINDS[kind]}"
            raise FormatError(said, offset=item.offset, path=name, clause=CLAUSE)
        if found[name] and not repeated:
            raise FormatError("the field is there twice", offset=item.offset, path=name, clause=CLAUSE)
        found[name].append(item)
    return found


def bytes_of(items: list[WireField]) -> bytes:
    """The value of a LEN field that :func:`message` found at most once; nothing where proto3 left it out."""
    value = items[0].value if items else b""
    assert isinstance(value, bytes)
    return value


def int_of(items: list[WireField]) -> int:
    """The value of a VARINT field that :func:`message` found at most once; 0 where proto3 left it out."""
    value = items[0].value if items else 0
    assert isinstance(value, int)
    return value
