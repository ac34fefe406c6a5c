"""EV_EVENT_TAG: TCG_PCClientTaggedEvent (PFP 1.06, clause 10.4.2.1) and those who write it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType

from attrs import evolve, field, frozen
from attrs.validators import instance_of

from measlog.formats.cursor import Cursor
from measlog.records.base import Record
from measlog.records.sipa import is_sipa, read_sipa
from measlog.records.text import read_any

__all__ = ["TAG_NAMES", "TaggedEvent", "read_tagged"]

CLAUSE = "PFP 1.06, 10.4.2.1"
_HEADER = struct.Struct("<II")

TAG_NAMES: Mapping[int, str] = MappingProxyType(
    {
        0x8F3B22EC: "linux.initrd",
        0x8F3B22ED: "linux.load-options",
        0xF5BC582A: "systemd.loader-conf",
        0x6C46F751: "systemd.devicetree-addon",
        0x49DFFE0F: "systemd.initrd-addon",
        0xDAC08E1A: "systemd.ucode-addon",
    }
)
"""taggedEventID as the Linux EFI stub and systemd-boot/systemd-stub define them; Windows' are SIPA types."""


@frozen(kw_only=True)
class TaggedEvent(Record):
    """TCG_PCClientTaggedEvent: taggedEventID and taggedEventData.

    Windows' digest is that of the whole event. Linux and systemd hash what they measured; ``data`` only describes it.
    """

    id: int = field(validator=instance_of(int))
    data: bytes = field(validator=instance_of(bytes), repr=lambda data: f"<{len(data)} bytes>")
    decoded: Record = field(validator=instance_of(Record), eq=False)
    """A :class:`~measlog.records.sipa.SipaEvent` (the event itself, tag included), or ``data`` as text or bytes."""

    @decoded.default
    def _decode(self) -> Record:
        head = _HEADER.pack(self.id, len(self.data))
        return _decode(Cursor(head + self.data), self.id)

    @property
    def name(self) -> str:
        """Who writes this id, and for what; empty where that is not known."""
        return "windows.sipa" if is_sipa(self.id) else TAG_NAMES.get(self.id, "")

    def _body(self) -> bytes:
        return _HEADER.pack(self.id, len(self.data)) + self.data


def _decode(cursor: Cursor, number: int) -> Record:
    # The cursor stands at the tag: a SIPA event's own type and size are the tag's.
    if is_sipa(number):
        return read_sipa(cursor)
    cursor.pos += _HEADER.size
    return evolve(read_any(cursor), spans={})


def read_tagged(cursor: Cursor) -> Record:
    """One tagged event. Data that has no room for the size it declares has no tag (quirk Q32): text or bytes."""
    cursor.clause = CLAUSE
    raw = cursor.peek
    if len(raw) < _HEADER.size:
        return read_any(cursor)
    number, size = _HEADER.unpack_from(raw)
    if size > len(raw) - _HEADER.size:
        return read_any(cursor)
    start = cursor.pos
    cursor.u32("id")
    cursor.u32("size")
    data = cursor.take("data", size)
    cursor.mark("decoded", start + _HEADER.size, cursor.pos)
    after, end = cursor.pos, cursor.end
    cursor.pos, cursor.end = start, after
    cursor.path = "decoded."
    decoded = _decode(cursor, number)
    cursor.path = ""
    cursor.pos, cursor.end = after, end
    return TaggedEvent(id=number, data=data, decoded=decoded, **cursor.finish())
