"""Thrift's compact protocol, read into plain values and written back to the same bytes.

Source: Apache Thrift, "Thrift Compact protocol encoding". Read by hand, as :mod:`measlog.formats.protobuf` is: each field
says its type, so that a structure can be read, changed in a few places and written without a declaration of the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.protobuf import varint

__all__ = ["I16", "I32", "I64", "LIST", "STRUCT", "Elements", "Struct", "Value", "read_struct", "write_struct"]

CLAUSE = "Thrift Compact protocol encoding"

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_STOP = 0
_INTEGERS = {I16: 15, I32: 31, I64: 63}
_DEPTH = 16
_SHORT = 15


class Value(NamedTuple):
    """A field's type, and its value: a truth value, an integer, bytes (those of a DOUBLE as they lie), Elements or a Struct."""

    kind: int
    value: Any


class Elements(NamedTuple):
    """What a list or a set holds: the type of the elements, and their values."""

    kind: int
    items: list[Any]


Struct = dict[int, Value]
"""A structure's fields by number, in their order. To be written, a structure inside may be its bytes."""


def read_struct(data: bytes, offset: int = 0) -> tuple[Struct, int]:
    """A structure, and where it ends.

    Raises :class:`~measlog.errors.FormatError` at the byte that is wrong: a TruncatedError where the data end in it, a
    LimitExceededError for structures and lists nested more than 16 deep, an UnsupportedError for maps and unknown types.
    """
    return _read_struct(data, offset, _DEPTH)


def _read_struct(data: bytes, place: int, depth: int) -> tuple[Struct, int]:
    found: Struct = {}
    number = 0
    while True:
        start, head = place, _octet(data, place)
        place += 1
        if head == _STOP:
            return found, place
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, place = _integer(data, place, I16)
        if number in found:
            raise FormatError(f"field {number} is there twice", offset=start, clause=CLAUSE)
        if kind in {TRUE, FALSE}:
            found[number] = Value(TRUE, kind == TRUE)
        else:
            value, place = _read_value(data, place, kind, depth)
            found[number] = Value(kind, value)


def _read_value(data: bytes, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _integer(data, place, kind)
    if kind == BINARY:
        size, place = varint(data, place, clause=CLAUSE)
        return _bytes(data, place, size)
    if kind in {STRUCT, LIST, SET}:
        if not depth:
            raise LimitExceededError(f"structures are nested more than {_DEPTH} deep", offset=place, clause=CLAUSE)
        return (_read_struct if kind == STRUCT else _read_elements)(data, place, depth - 1)
    if kind in {TRUE, FALSE, BYTE}:  # of a list: a field's truth is its type
        return _octet(data, place), place + 1
    if kind == DOUBLE:
        return _bytes(data, place, 8)
    raise UnsupportedError(f"the type {kind}", offset=place, clause=CLAUSE)


def _read_elements(data: bytes, place: int, depth: int) -> tuple[Elements, int]:
    start, head = place, _octet(data, place)
    count, place = head >> 4, place + 1
    if count == _SHORT:
        count, place = varint(data, place, clause=CLAUSE)
    if count > len(data) - place:  # every element takes a byte at least
        raise TruncatedError(
            f"a list of {count} elements, {len(data) - place} bytes are left", offset=start, clause=CLAUSE
        )
    items = []
    for _ in range(count):
        item, place = _read_value(data, place, head & 15, depth)
        items.append(item)
    return Elements(head & 15, items), place


def _octet(data: bytes, place: int) -> int:
    if place >= len(data):
        raise TruncatedError("a structure is cut off", offset=place, clause=CLAUSE)
    return data[place]


def _bytes(data: bytes, place: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - place:
        raise TruncatedError(f"{size} bytes are needed, {len(data) - place} are left", offset=place, clause=CLAUSE)
    return data[place : place + size], place + size


def _integer(data: bytes, place: int, kind: int) -> tuple[int, int]:
    folded, end = varint(data, place, clause=CLAUSE)
    value = folded >> 1 ^ -(folded & 1)
    if not -1 << _INTEGERS[kind] <= value < 1 << _INTEGERS[kind]:
        raise FormatError(f"{value} does not fit into {_INTEGERS[kind] + 1} bits", offset=place, clause=CLAUSE)
    return value, end


def write_struct(struct: Struct) -> bytes:
    """The structure's bytes, the shortest that say it."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def _write_struct(out: bytearray, struct: Struct) -> None:
    before = 0
    for number, (kind, value) in struct.items():
        shown = (TRUE if value else FALSE) if kind == TRUE else kind
        if 0 < number - before <= _SHORT:
            out.append(number - before << 4 | shown)
        else:
            out.append(shown)
            _write_integer(out, number)
        before = number
        if kind != TRUE:
            _write_value(out, kind, value)
    out.append(_STOP)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _write_integer(out, value)
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT and isinstance(value, bytes):
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in {LIST, SET}:
        count = len(value.items)
        if count < _SHORT:
            out.append(count << 4 | value.kind)
        else:
            out.append(_SHORT << 4 | value.kind)
            _write_varint(out, count)
        for item in value.items:
            _write_value(out, value.kind, item)
    elif kind == DOUBLE:
        out += value
    else:
        out.append(value)


def _write_integer(out: bytearray, value: int) -> None:
    _write_varint(out, value << 1 if value >= 0 else ~value << 1 | 1)


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
