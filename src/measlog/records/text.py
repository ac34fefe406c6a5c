"""Event data that is text, or for which text is one of the forms seen."""

from __future__ import annotations

from measlog.formats.cursor import Cursor, decode_text, decode_utf16
from measlog.records.base import Opaque, Record, Text, Utf16Text

__all__ = ["looks_like_utf16", "printable", "read_any", "read_opaque", "read_text", "read_text_or_opaque", "read_utf16"]

_PRINTABLE = bytes([*range(0x20, 0x7F), 0x09, 0x0A, 0x0D])
_SAMPLE = 4096


def printable(data: bytes) -> bool:
    """Whether ``data`` is printable ASCII with at most trailing NUL bytes, and not nothing."""
    body = data.rstrip(b"\0")
    return bool(body) and not body.translate(None, _PRINTABLE)


def looks_like_utf16(data: bytes) -> bool:
    """Whether ``data`` reads as UTF-16LE text in which most units are of Latin script.

    A byte missing at the end (old systemd-stub) is allowed for. Nothing in the data says which encoding it is, so
    this is a guess, from the beginning, that decides only how the data is shown.
    """
    body = _utf16_body(data)
    if len(body) < 2 or len(body) % 2:
        return False
    sample = body[:_SAMPLE]
    units = [sample[i : i + 2] for i in range(0, len(sample), 2)]
    if b"\0\0" in units or any(unit[1] == 0 and unit[0] not in _PRINTABLE for unit in units):
        return False
    return sum(unit[1] == 0 for unit in units) * 2 > len(units)


def _utf16_body(data: bytes) -> bytes:
    # Without the NUL units at the end, the last of which may have lost a byte.
    end = len(data.rstrip(b"\0"))
    return data[: end + end % 2]


def read_text(cursor: Cursor) -> Text:
    """All that is left as text; NUL bytes at the end become the terminator."""
    start = cursor.pos
    data = cursor.rest("text")
    body = data.rstrip(b"\0")
    cursor.mark("text", start, start + len(body))
    if len(body) != len(data):
        cursor.mark("terminator", start + len(body), start + len(data))
    return Text(text=decode_text(body), terminator=data[len(body) :], **cursor.finish())


def read_utf16(cursor: Cursor) -> Utf16Text:
    """All that is left as UTF-16LE text; NUL units at the end, the last perhaps cut, become the terminator.

    For data of which the caller has seen that the units before the terminator are whole.
    """
    start = cursor.pos
    data = cursor.rest("text")
    body = _utf16_body(data)
    cursor.mark("text", start, start + len(body))
    if len(body) != len(data):
        cursor.mark("terminator", start + len(body), start + len(data))
    return Utf16Text(text=decode_utf16(body), terminator=data[len(body) :], **cursor.finish())


def read_opaque(cursor: Cursor) -> Opaque:
    """All that is left, as bytes."""
    return Opaque(raw=cursor.rest("raw"), **cursor.finish())


def read_text_or_opaque(cursor: Cursor) -> Record:
    """Printable ASCII as text, anything else as bytes."""
    return read_text(cursor) if printable(cursor.peek) else read_opaque(cursor)


def read_any(cursor: Cursor) -> Record:
    """ASCII, UTF-16 or bytes, whichever the data looks like."""
    data = cursor.peek
    if printable(data):
        return read_text(cursor)
    if looks_like_utf16(data):
        return read_utf16(cursor)
    return read_opaque(cursor)
