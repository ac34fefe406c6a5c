"""A bounded walk over the data of one event, which remembers where each field lay.

It never allocates from a length before comparing it with what is left, and every error says which field, at which
byte, by which clause.
"""

from __future__ import annotations

import struct
from array import array
from types import MappingProxyType
from typing import Any, Self
from uuid import UUID

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["Cursor", "decode_text", "decode_utf16", "encode_text", "encode_utf16"]

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


def decode_utf16(data: bytes) -> str:
    """CHAR16 string, little-endian; unpaired surrogates are kept, so that :func:`encode_utf16` gives ``data`` back."""
    return data.decode("utf-16-le", "surrogatepass")


def encode_utf16(text: str) -> bytes:
    """The inverse of :func:`decode_utf16`."""
    return text.encode("utf-16-le", "surrogatepass")


def decode_text(data: bytes) -> str:
    """Text of one byte a unit; what is no UTF-8 is kept as surrogate escapes, so that it can be written back."""
    return data.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The inverse of :func:`decode_text`."""
    return text.encode("utf-8", "surrogateescape")


class Cursor:
    """Reads fields one after another from ``data[start:end]``.

    ``spans`` collects ``{dotted name: (start, end)}`` in bytes from the start of ``data``. A cursor made by
    :meth:`inside` shares data and spans and cannot leave its part.
    """

    __slots__ = ("clause", "data", "depth", "end", "limits", "path", "pos", "spans")

    def __init__(self, data: bytes, *, limits: Limits = DEFAULT_LIMITS, clause: str | None = None) -> None:
        self.data = data
        self.pos = 0
        self.end = len(data)
        self.limits = limits
        self.clause = clause
        self.path = ""
        self.depth = 0
        self.spans: dict[str, tuple[int, int]] = {}

    @property
    def remaining(self) -> int:
        """Bytes left."""
        return self.end - self.pos

    @property
    def peek(self) -> bytes:
        """The bytes left, without moving on."""
        return self.data[self.pos : self.end]

    def inside(self, name: str, size: int, clause: str | None = None) -> Self:
        """A cursor over the next ``size`` bytes, which this one skips; its fields are named ``name.field``.

        Raises LimitExceededError for too many fields.
        """
        start = self.pos
        self._skip(name, size)
        if len(self.spans) > 2 * self.limits.items:
            raise LimitExceededError(
                f"more than {2 * self.limits.items} fields", offset=start, path=self.path + name, clause=clause
            )
        inner = object.__new__(type(self))
        inner.data = self.data
        inner.pos = start
        inner.end = start + size
        inner.limits = self.limits
        inner.clause = clause or self.clause
        # An element of the list that this cursor walks is "list[0]", not "list.[0]".
        inner.path = f"{self.path[:-1]}{name}." if name.startswith("[") else f"{self.path}{name}."
        inner.depth = self.depth + 1
        inner.spans = self.spans
        if inner.depth > self.limits.depth:
            raise LimitExceededError(
                f"structures nested deeper than {self.limits.depth}", offset=start, path=self.path + name, clause=clause
            )
        return inner

    def _skip(self, name: str, size: int) -> int:
        start = self.pos
        if size > self.end - start:
            raise TruncatedError(
                f"needs {size} bytes, {self.end - start} are left",
                offset=start,
                path=self.path + name,
                clause=self.clause,
            )
        self.pos = start + size
        self.spans[self.path + name] = (start, start + size)
        return start

    def take(self, name: str, size: int) -> bytes:
        """The next ``size`` bytes."""
        start = self._skip(name, size)
        return self.data[start : start + size]

    def rest(self, name: str) -> bytes:
        """All bytes that are left."""
        return self.take(name, self.end - self.pos)

    def u8(self, name: str) -> int:
        """UINT8."""
        return self.data[self._skip(name, 1)]

    def u16(self, name: str) -> int:
        """UINT16, little-endian."""
        value: int = _U16.unpack_from(self.data, self._skip(name, 2))[0]
        return value

    def u32(self, name: str) -> int:
        """UINT32, little-endian."""
        value: int = _U32.unpack_from(self.data, self._skip(name, 4))[0]
        return value

    def u64(self, name: str) -> int:
        """UINT64, little-endian."""
        value: int = _U64.unpack_from(self.data, self._skip(name, 8))[0]
        return value

    def guid(self, name: str) -> UUID:
        """EFI_GUID (UEFI 2.10 appendix A: the first three fields are little-endian)."""
        start = self._skip(name, 16)
        return UUID(bytes_le=self.data[start : start + 16])

    def utf16_z(self, name: str) -> str:
        """CHAR16 string that ends with a NUL; the span includes the NUL."""
        start = self.pos
        units = array("H", self.data[start : self.end - (self.end - start) % 2])
        try:
            size = 2 * units.index(0) + 2
        except ValueError:
            raise self.error("CHAR16 string without its NUL", name) from None
        return decode_utf16(self.take(name, size)[:-2])

    def count(self, name: str, number: int, minimum_size: int) -> int:
        """``number`` if that many elements of at least ``minimum_size`` bytes fit into what is left.

        Raises TruncatedError where they do not, LimitExceededError where they are too many.
        """
        if number * minimum_size > self.remaining:
            raise TruncatedError(
                f"{number} elements of {minimum_size} bytes or more, {self.remaining} bytes are left",
                offset=self.pos,
                path=self.path + name,
                clause=self.clause,
            )
        if number > self.limits.items:
            raise LimitExceededError(
                f"{number} elements, the limit is {self.limits.items}",
                offset=self.pos,
                path=self.path + name,
                clause=self.clause,
            )
        return number

    def error(self, message: str, name: str | None = None) -> FormatError:
        """A :class:`FormatError` that says where this cursor stands."""
        path = (self.path + name) if name is not None else self.path.rstrip(".") or None
        return FormatError(message, offset=self.pos, path=path, clause=self.clause)

    def unsupported(self, message: str, name: str | None = None) -> UnsupportedError:
        """An :class:`UnsupportedError` that says where this cursor stands."""
        return UnsupportedError(message, offset=self.pos, path=name, clause=self.clause)

    def mark(self, name: str, start: int, end: int) -> None:
        """Record the span of something that was not read by this cursor's own methods."""
        self.spans[self.path + name] = (start, end)

    def expect_end(self) -> None:
        """Refuse bytes that follow."""
        if self.pos != self.end:
            raise self.error(f"{self.end - self.pos} bytes too many")

    def finish(self) -> dict[str, Any]:
        """What a record takes besides its fields: the bytes that follow the structure, and the spans."""
        extra: dict[str, Any] = {}
        if self.pos != self.end:
            extra["trailing"] = self.rest("trailing")
        extra["spans"] = MappingProxyType(self.spans)
        return extra
