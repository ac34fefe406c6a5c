"""Canonical event logs as their users hold them, and their relation to the firmware's own format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Self, overload

from measlog.errors import FormatError, UnsupportedError
from measlog.formats.pfp import LogEvent, build_events
from measlog.interop.cel.forms import read_cbor, read_json, write_cbor, write_json
from measlog.interop.cel.records import CelRecord, PcClientStd, check_numbers
from measlog.interop.cel.tlv import read_tlv, write_tlv
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.log import EventLog
from measlog.registry import EventType, Register

__all__ = ["CelLog"]

_SPEC_ID = b"Spec ID Event03\0"
Numbering = Literal["register", "log"]


class CelLog(Sequence[CelRecord]):
    """The records of a canonical event log. Anybody's bytes: reading it proves nothing.

    ``numbering`` says whether the records are numbered within each register, which the specification wants, or throughout
    the log. Raises :class:`~measlog.errors.FormatError` where the numbers have a gap in both.
    """

    def __init__(self, records: Iterable[CelRecord]) -> None:
        self._records = tuple(records)
        self.numbering: Numbering = check_numbers(self._records)

    @classmethod
    def from_json(cls, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read CEL-JSON, an array of records. Raises :class:`~measlog.errors.FormatError`."""
        return cls(read_json(data, limits))

    @classmethod
    def from_cbor(cls, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read CEL-CBOR, an array of records. Raises :class:`~measlog.errors.FormatError`."""
        return cls(read_cbor(data, limits))

    @classmethod
    def from_tlv(cls, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read CEL-TLV, records one after the other. Raises :class:`~measlog.errors.FormatError`."""
        return cls(read_tlv(data, limits))

    @classmethod
    def from_log(
        cls, log: EventLog, *, numbering: Numbering = "register", first: int = 0, no_action: bool = True
    ) -> Self:
        """The canonical form of a firmware's log: every event one record of the type ``pcclient_std``.

        ``numbering="log"``, ``first=1`` and ``no_action=False`` give the records of ``systemd-pcrlock cel``, which numbers
        throughout and leaves EV_NO_ACTION out; without those nobody can tell the startup locality, nor get the log back.
        """
        counts: Counter[Register | None] = Counter()
        records = []
        for event in log:
            if not no_action and event.type is EventType.EV_NO_ACTION:
                continue
            counted = event.register if numbering == "register" else None
            # The header of a crypto-agile log is an event of the SHA-1 format, whose digest is zero.
            digests = event.digests or {"sha1": bytes(20)}
            content = PcClientStd(event_type=event.type, event_data=event.raw)
            records.append(
                CelRecord(recnum=first + counts[counted], register=event.register, digests=digests, content=content)
            )
            counts[counted] += 1
        return cls(records)

    def to_json(self) -> bytes:
        """CEL-JSON. Raises :class:`~measlog.errors.UnsupportedError` for registers of TDX, which it has no name for."""
        return write_json(self)

    def to_cbor(self) -> bytes:
        """CEL-CBOR in its deterministic form. Raises :class:`~measlog.errors.UnsupportedError` as :meth:`to_json`."""
        return write_cbor(self)

    def to_tlv(self) -> bytes:
        """CEL-TLV; registers of TDX as go-tpm-tools writes them. Raises :class:`~measlog.errors.UnsupportedError`."""
        return write_tlv(self)

    def to_log(self, *, limits: Limits = DEFAULT_LIMITS) -> EventLog:
        """The firmware's log that the records were made from.

        Its bytes are those of the log that :meth:`from_log` was given, except what no record has a place for: filler and
        anything else behind the last event, a digest in the header that is not zero, and another order of digests than
        the Spec ID event's. A log whose vendor information lies outside its Spec ID event cannot be had back.

        Raises :class:`~measlog.errors.UnsupportedError` where a record is of another type or on an NV index and
        :class:`~measlog.errors.FormatError` where the records make no log.
        """
        first, *rest = self._records or (None,)
        if first is None:
            raise FormatError("no record, which no event log is", path="records")
        agile = isinstance(first.content, PcClientStd) and first.content.event_data.startswith(_SPEC_ID)
        ccel = agile and first.register.kind == "rtmr"
        head = build_events([_event(first, 0, agile=False, ccel=ccel)], None)
        if not agile:
            events = [_event(record, place, agile=False, ccel=False) for place, record in enumerate(rest, start=1)]
            return EventLog.from_bytes(head + build_events(events, None), limits=limits)
        header = EventLog.from_bytes(head, limits=limits)
        assert header.spec_id is not None
        sizes = dict(header.spec_id.algorithms)
        events = [_event(record, place, agile=True, ccel=ccel) for place, record in enumerate(rest, start=1)]
        for place, event in enumerate(events, start=1):
            if not set(event.digests) <= set(header.algorithms):
                raise FormatError("a digest of a bank that the first record does not declare", path=f"records[{place}]")
        return EventLog.from_bytes(head + build_events(events, sizes), limits=limits)

    def measured(self) -> Iterator[CelRecord]:
        """The records whose digests were extended."""
        return (record for record in self if record.measured)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> CelRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[CelRecord]: ...
    def __getitem__(self, index: int | slice) -> CelRecord | Sequence[CelRecord]:
        return self._records[index]

    def __iter__(self) -> Iterator[CelRecord]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return self._records == other._records if isinstance(other, CelLog) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._records)

    def __repr__(self) -> str:
        return f"<CelLog: {len(self)} records>"


def _event(record: CelRecord, place: int, *, agile: bool, ccel: bool) -> LogEvent:
    path = f"records[{place}]"
    if not isinstance(record.content, PcClientStd):
        raise UnsupportedError("a record of another type than pcclient_std has no event", path=f"{path}.content")
    kind, index = record.register.kind, record.register.index
    if (kind in {"rtmr", "mrtd"}) != ccel and not (ccel and kind == "none"):
        raise UnsupportedError(f"{record.register} has no event in such a log", path=f"{path}.register")
    if kind == "nv":
        raise UnsupportedError("an NV index has no event", path=f"{path}.register")
    if not agile and set(record.digests) != {"sha1"}:
        raise UnsupportedError("an event of this format has one SHA-1 digest", path=f"{path}.digests")
    number = index + 1 if kind == "rtmr" else index
    return LogEvent(number, int(record.content.event_type), record.digests, record.content.event_data)
