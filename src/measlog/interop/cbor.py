"""CBOR, bounded: integers, byte and text strings, arrays, maps, tags, false, true and null, of definite length.

Source: RFC 8949. Written by hand because the readers here must say where they stopped, must bound the number of items, and
must leave tags alone: ``cbor2`` gives bignums, dates, regular expressions and shared references their meaning, bounds
depth and refuses duplicate keys from version 6 on alone, and names no offset. What no format here uses (floating point,
indefinite lengths, other simple values) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen
from attrs.validators import ge, instance_of

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError

__all__ = ["Tag", "decode", "encode"]

CLAUSE = "RFC 8949"

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_CONSTANTS: dict[int, bool | None] = {20: False, 21: True, 22: None}
_INDEFINITE = 31
# Bytes that follow the first for the additional information 24 to 27.
_ARGUMENT = {24: 1, 25: 2, 26: 4, 27: 8}


@frozen
class Tag:
    """A tag number and what it is on (RFC 8949, 3.4); this module gives it no meaning."""

    number: int = field(validator=[instance_of(int), ge(0)])
    value: Any = field(eq=True)


def decode(data: bytes, *, size: int = 16 << 20, depth: int = 16, items: int = 1 << 20) -> Any:
    """The one item that ``data`` is: ``int``, ``bytes``, ``str``, ``list``, ``dict``, :class:`Tag`, ``bool`` or ``None``.

    At most ``size`` bytes, ``depth`` levels and ``items`` items in all. Keys of maps are integers, text, byte strings,
    booleans or null, each there once. Raises :class:`~measlog.errors.FormatError`, with the offset.
    """
    if len(data) > size:
        raise LimitExceededError(f"{len(data)} bytes of CBOR, the most is {size}", clause=CLAUSE)
    reader = _Reader(bytes(data), depth, items)
    value = reader.item(0)
    if reader.place != len(data):
        raise FormatError(f"{len(data) - reader.place} bytes are left over", offset=reader.place, clause=CLAUSE)
    return value


class _Reader:
    def __init__(self, data: bytes, depth: int, items: int) -> None:
        self.data, self.depth, self.items, self.place = data, depth, items, 0

    def item(self, level: int) -> Any:
        start = self.place
        self.items -= 1
        if self.items < 0:
            raise LimitExceededError("more items than allowed", offset=start, clause=CLAUSE)
        if level > self.depth:
            raise LimitExceededError(f"nested deeper than {self.depth}", offset=start, clause=CLAUSE)
        kind, number = self._head()
        if kind == _UINT:
            return number
        if kind == _NEGATIVE:
            return -1 - number
        if kind in {_BYTES, _TEXT}:
            raw = self._take(number)
            return raw if kind == _BYTES else _text(raw, start)
        if kind == _ARRAY:
            self._fits(number, 1)
            return [self.item(level + 1) for _ in range(number)]
        if kind == _MAP:
            self._fits(number, 2)
            return self._map(number, level)
        if kind == _TAG:
            return Tag(number, self.item(level + 1))
        if number not in _CONSTANTS or self.place != start + 1:
            raise UnsupportedError("a floating-point number or simple value", offset=start, clause=f"{CLAUSE}, 3.3")
        return _CONSTANTS[number]

    def _map(self, count: int, level: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for _ in range(count):
            start = self.place
            key = self.item(level + 1)
            if not isinstance(key, int | str | bytes | None):
                raise UnsupportedError("a key that is a container or a tag", offset=start, clause=f"{CLAUSE}, 3.1")
            # To Python 1 and true are one key as well; no format here has both.
            if key in made:
                raise FormatError(f"the key {str(key)[:60]!r} is there twice", offset=start, clause=f"{CLAUSE}, 5.6")
            made[key] = self.item(level + 1)
        return made

    def _head(self) -> tuple[int, int]:
        start = self.place
        first = self._take(1)[0]
        kind, low = first >> 5, first & 0x1F
        if low < 24:
            return kind, low
        if low in _ARGUMENT:
            return kind, int.from_bytes(self._take(_ARGUMENT[low]), "big")
        if low == _INDEFINITE:
            raise UnsupportedError("an indefinite length", offset=start, clause=f"{CLAUSE}, 3.2")
        raise FormatError(f"the additional information {low}", offset=start, clause=f"{CLAUSE}, 3")

    def _fits(self, count: int, least: int) -> None:
        if count * least > len(self.data) - self.place:
            raise TruncatedError(
                f"{count} elements, {len(self.data) - self.place} bytes are left", offset=self.place, clause=CLAUSE
            )

    def _take(self, size: int) -> bytes:
        start = self.place
        if size > len(self.data) - start:
            raise TruncatedError(f"needs {size} bytes, {len(self.data) - start} are left", offset=start, clause=CLAUSE)
        self.place = start + size
        return self.data[start : self.place]


def _text(raw: bytes, offset: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("text that is not UTF-8", offset=offset, clause=f"{CLAUSE}, 3.1") from None


def encode(value: Any) -> bytes:
    """``value`` in the core deterministic encoding (RFC 8949, 4.2.1): shortest heads, keys in the order of their bytes.

    Raises TypeError for a value of another kind than :func:`decode` gives, a float say, and ValueError for an integer of
    more than 64 bits.
    """
    if value is None or isinstance(value, bool):
        return bytes([0xE0 | {False: 20, True: 21, None: 22}[value]])
    if isinstance(value, int):
        return _encode_head(_UINT, value) if value >= 0 else _encode_head(_NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return _encode_head(_BYTES, len(value)) + value
    if isinstance(value, str):
        raw = value.encode()
        return _encode_head(_TEXT, len(raw)) + raw
    if isinstance(value, Tag):
        return _encode_head(_TAG, value.number) + encode(value.value)
    if isinstance(value, Mapping):
        pairs = sorted((encode(key), encode(item)) for key, item in value.items())
        return _encode_head(_MAP, len(pairs)) + b"".join(key + item for key, item in pairs)
    if isinstance(value, Sequence):
        return _encode_head(_ARRAY, len(value)) + b"".join(map(encode, value))
    raise TypeError(f"{type(value).__name__} has no encoding here")


def _encode_head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes([kind << 5 | number])
    for low, size in _ARGUMENT.items():
        if number < 1 << 8 * size:
            return bytes([kind << 5 | low]) + number.to_bytes(size, "big")
    raise ValueError(f"{number} needs more than 64 bits")
