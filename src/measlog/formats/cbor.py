"""CBOR (RFC 8949), as much of it as signed and canonical formats use, with every bound checked before it is relied on.

Definite lengths, integers in their shortest form, text that is UTF-8, keys that are integers or text, no key twice; no
tags, no floating point, no simple values but false, true and null. General decoders build what tags ask for (dates,
decimals, shared references) and keep the last of equal keys; neither may happen to bytes of anybody's choosing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["CborKey", "CborValue", "decode_cbor", "encode_cbor"]

CborKey: TypeAlias = int | str
CborValue: TypeAlias = "int | bytes | str | bool | list[CborValue] | dict[CborKey, CborValue] | None"

_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_SIMPLE: Mapping[int, bool | None] = {20: False, 21: True, 22: None}
_SIMPLE_BYTES = {False: b"\xf4", True: b"\xf5", None: b"\xf6"}
_CLAUSE = "RFC 8949, 4.2.1"
_SHORTEST = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}


def decode_cbor(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> CborValue:
    """Read one data item, which must be all of ``data``.

    Raises :class:`~measlog.errors.FormatError` with the offset; :class:`~measlog.errors.LimitExceededError` where items
    are nested deeper than ``limits.depth``, more than ``limits.log_size`` bytes long, or more in number than as many
    records of 64 items would have.
    """
    if len(data) > limits.log_size:
        raise LimitExceededError(f"{len(data)} bytes, more than the {limits.log_size} allowed", offset=0)
    reader = _Reader(data, limits)
    value = reader.item(0)
    if reader.at != len(data):
        raise FormatError(
            f"{len(data) - reader.at} bytes after the data item", offset=reader.at, clause="RFC 8949, 5.1"
        )
    return value


class _Reader:
    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = data
        self.at = 0
        self.depth = limits.depth
        self.left = 64 * limits.records

    def take(self, size: int) -> bytes:
        start = self.at
        if size > len(self.data) - start:
            raise TruncatedError(f"needs {size} bytes, {len(self.data) - start} are left", offset=start)
        self.at = start + size
        return self.data[start : start + size]

    def head(self) -> tuple[int, int]:
        start = self.at
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if info < 24:
            return major, info
        if info > 27:
            raise UnsupportedError("an item of indefinite or reserved length", offset=start, clause=_CLAUSE)
        value = int.from_bytes(self.take(1 << (info - 24)), "big")
        if major == 7:
            raise UnsupportedError("a floating-point or simple value", offset=start, clause=_CLAUSE)
        if value < _SHORTEST[info]:
            raise FormatError("a number that is not in its shortest form", offset=start, clause=_CLAUSE)
        return major, value

    def item(self, depth: int) -> CborValue:
        start = self.at
        if depth > self.depth:
            raise LimitExceededError(f"items nested deeper than {self.depth}", offset=start)
        self.left -= 1
        if self.left < 0:
            raise LimitExceededError("too many items", offset=start)
        major, value = self.head()
        if major == _UINT:
            return value
        if major == _NINT:
            return -1 - value
        if major == _BYTES:
            return self.take(value)
        if major == _TEXT:
            try:
                return self.take(value).decode("utf-8")
            except UnicodeDecodeError:
                raise FormatError("text that is not UTF-8", offset=start, clause="RFC 8949, 3.1") from None
        if major == _ARRAY:
            self.room(value, start)
            return [self.item(depth + 1) for _ in range(value)]
        if major == _MAP:
            self.room(2 * value, start)
            return self.members(value, depth)
        if major == _TAG:
            raise UnsupportedError(f"tag {value}: nothing that is tagged is read", offset=start, clause=_CLAUSE)
        if value not in _SIMPLE:
            raise UnsupportedError("a simple value that is not read", offset=start, clause=_CLAUSE)
        return _SIMPLE[value]

    def room(self, items: int, start: int) -> None:
        # Each item has a byte at least.
        if items > len(self.data) - self.at:
            raise TruncatedError(f"{items} items, {len(self.data) - self.at} bytes are left", offset=start)

    def members(self, count: int, depth: int) -> dict[CborKey, CborValue]:
        found: dict[CborKey, CborValue] = {}
        for _ in range(count):
            start = self.at
            key = self.item(depth + 1)
            if isinstance(key, bool) or not isinstance(key, int | str):
                raise UnsupportedError("a key that is no integer and no text", offset=start, clause=_CLAUSE)
            if key in found:
                raise FormatError("a key that is there twice", offset=start, clause="RFC 8949, 5.6")
            found[key] = self.item(depth + 1)
        return found


def encode_cbor(value: CborValue) -> bytes:
    """Write a value in its deterministic form (RFC 8949, 4.2.1): shortest numbers, keys in the order of their bytes."""
    if value is None or isinstance(value, bool):
        return _SIMPLE_BYTES[value]
    if isinstance(value, int):
        return _head(_UINT, value) if value >= 0 else _head(_NINT, -1 - value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(_TEXT, len(text)) + text
    if isinstance(value, list):
        return _head(_ARRAY, len(value)) + b"".join(map(encode_cbor, value))
    members = sorted((encode_cbor(key), encode_cbor(item)) for key, item in value.items())
    return _head(_MAP, len(members)) + b"".join(key + item for key, item in members)


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    for info in range(4):
        size = 1 << info
        if value < 1 << 8 * size:
            return bytes([major << 5 | 24 + info]) + value.to_bytes(size, "big")
    raise ValueError(f"{value} is no number of 64 bits")
