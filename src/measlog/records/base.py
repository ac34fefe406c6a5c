"""What all records of event data have in common."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.formats.cursor import encode_text, encode_utf16

__all__ = ["Opaque", "Record", "Text", "Undecodable", "Utf16Text"]

_NO_SPANS: Mapping[str, tuple[int, int]] = MappingProxyType({})


@frozen(kw_only=True)
class Record:
    """Decoded event data.

    ``trailing`` are bytes that follow the decoded structure. A structure that its specification ends leaves none;
    where there are some, two readers may see different things in the same bytes, so whoever relies on a record looks
    whether it is empty.

    ``spans`` gives for each decoded field the bytes ``[start, end)`` within the event data that it was read from;
    names of nested fields are dotted (``partitions[0].name``). Records made by hand, and records nested in others,
    have none: the outermost record knows all.
    """

    trailing: bytes = field(default=b"", validator=instance_of(bytes))
    spans: Mapping[str, tuple[int, int]] = field(default=_NO_SPANS, eq=False, repr=False)

    def _body(self) -> bytes:
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        """The event data that this record was read from, byte for byte."""
        return self._body() + self.trailing


@frozen(kw_only=True)
class Undecodable(Record):
    """Bytes that are not what the event type calls for. ``reason`` says where and what; nothing is lost."""

    raw: bytes = field(validator=instance_of(bytes), repr=lambda raw: f"<{len(raw)} bytes>")
    reason: str = field(validator=instance_of(str))

    def _body(self) -> bytes:
        return self.raw


@frozen(kw_only=True)
class Opaque(Record):
    """Bytes to which the specifications give no structure (vendor-defined or informative)."""

    raw: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        return self.raw


@frozen(kw_only=True)
class Text(Record):
    """Text of one byte a unit. ``terminator`` holds the NUL bytes at its end, if any; they are not in ``text``.

    What is no UTF-8 is kept as lone surrogates (the ``surrogateescape`` of PEP 383). The text comes from the log:
    escape it before it is shown.
    """

    text: str = field(validator=instance_of(str))
    terminator: bytes = field(default=b"", validator=instance_of(bytes))

    def _body(self) -> bytes:
        return encode_text(self.text) + self.terminator


@frozen(kw_only=True)
class Utf16Text(Record):
    """UTF-16LE text. ``terminator`` holds the bytes of the NUL at its end: two or more, none, or one where the log cut it."""

    text: str = field(validator=instance_of(str))
    terminator: bytes = field(default=b"", validator=instance_of(bytes))

    def _body(self) -> bytes:
        return encode_utf16(self.text) + self.terminator
