"""Logs that are like one that was read before, but for the digests and data of some events.

Machines of one model write logs of the same length whose events lie at the same places: what differs is a serial
number here and a GUID there, and the digests of those events. Such a log is compared with the template byte by byte.
Where every byte of its structure is the template's, it is cut into events as the template is, and only registers with
another digest are folded anew. Nothing is taken over because a sum or a name is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import field, frozen

from measlog import lanes
from measlog.errors import MeaslogError
from measlog.formats.framing import Row
from measlog.log import EventLog
from measlog.registry import ALGORITHMS_BY_NAME, EventType
from measlog.replay.pcr import PCR_COUNT, start_value, startup_locality

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from measlog.appraisal.footprint import Footprint
    from measlog.bulk.schema import BinaryColumn
    from measlog.limits import Limits

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.uint64]
    Numbers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

__all__ = ["Matched", "Template", "gather"]

_CHUNK = 1 << 20
"""Bytes of logs that are compared at a time: what a core's own cache holds."""
_FEW = 16
"""Events with other digests up to which a log is replayed by its difference to a template."""
_TAGGED = frozenset({EventType.EV_IPL, EventType.EV_EVENT_TAG})
"""Types whose digest rules depend on the data, which is why their events are checked one by one."""


def gather(data: Bytes, starts: Numbers, width: int) -> Bytes:
    """The ``width`` bytes from each place of ``data``, ``(len(starts), width)``; all of them lie within ``data``.

    Raises IndexError where one does not.
    """
    if width == 0 or not len(starts):
        return np.zeros((len(starts), width), dtype=np.uint8)
    if int(starts.min()) < 0 or int(starts.max()) + width > len(data):
        raise IndexError("a gather beyond the column")
    anywhere = np.ndarray((len(data) - width + 1,), f"V{width}", buffer=data, strides=(1,))
    return anywhere[starts].view(np.uint8).reshape(len(starts), width)


@frozen(kw_only=True, eq=False)
class _Span:
    """A stretch of the template that is compared at a time, in numbers of eight bytes; behind its end they are zero.

    ``fixed`` are the bits that must be as in the template; of the others, ``digest`` are those of digests, and
    ``event`` is, of each number, the event that they belong to. Bytes of two events that may differ are never in one
    number: the fixed fields of a header lie between them.
    """

    start: int
    length: int
    words: Words
    fixed: Words
    digest: Words
    event: Numbers

    @classmethod
    def of(cls, data: bytes, start: int, end: int, fixed: Bytes, digest: Bytes, event: Numbers) -> _Span:
        """The bytes from ``start`` to ``end``."""
        count = (end - start + 7) // 8
        padded = np.zeros((4, 8 * count), dtype=np.int64)
        padded[0, : end - start] = np.frombuffer(data, dtype=np.uint8)[start:end]
        padded[1, : end - start] = fixed[start:end]
        padded[2, : end - start] = digest[start:end]
        padded[3, : end - start] = event[start:end]
        words, bits, marks = padded[:3].astype(np.uint8).view("<u8").astype(np.uint64)
        return cls(
            start=start,
            length=end - start,
            words=words,
            fixed=bits,
            digest=marks,
            event=padded[3].reshape(count, 8).max(axis=1) if count else padded[3],
        )


@frozen(kw_only=True, eq=False)
class Matched:
    """Rows of a column that are like a template.

    ``values`` maps banks to uint8 ``(rows, 24, digest_size)``: each row's own registers.
    """

    template: Template
    rows: Numbers
    values: Mapping[str, Bytes] = field(repr=False)


@frozen(kw_only=True, eq=False)
class Template:
    """A log, and which of its bytes may differ in a log that is like it."""

    log: EventLog
    bank: str | None
    footprint: Footprint | None = field(repr=False)
    """What enters a verdict; without it, digests and data of every event may differ, and nothing is shared but places."""
    values: Mapping[str, Mapping[int, bytes]] = field(repr=False)
    """The template's own registers in every bank."""
    explained: Flags = field(repr=False)
    """The registers, of 24, that the log says something about."""
    _spans: tuple[_Span, ...] = field(repr=False)

    @classmethod
    def of(
        cls,
        data: bytes,
        limits: Limits,
        *,
        bank: str | None = None,
        footprint: Footprint | None = None,
        verdicts: bool = False,
    ) -> Template | None:
        """Make a template, or ``None`` of a log that is no ordinary one.

        With ``verdicts``, rows that match share the verdict in ``bank``; without, they share no more than the places
        of their events.
        """
        try:
            log = EventLog.from_bytes(data, limits=limits)
            if log.kind != "crypto-agile" or not log.complete or any(None in row.digests for row in log.rows[1:]):
                return None
            if any(name not in ALGORITHMS_BY_NAME for name in log.algorithms):
                return None
            if any(a.code == "event.digest-order" for a in log.anomalies):
                return None
            values = {name: dict(log.replay(name)) for name in log.algorithms}
        except MeaslogError:
            return None
        explained = np.zeros(PCR_COUNT, dtype=np.bool_)
        explained[list(values[log.algorithms[0]])] = True
        fixed = np.full(len(data), 0xFF, dtype=np.uint8)
        digest, event = np.zeros(len(data), dtype=np.uint8), np.zeros(len(data), dtype=np.int64)
        compared: list[tuple[int, int]] = []
        for number, row in enumerate(log.rows):
            end = row.data_end
            if number and _may_differ(log, number, row, bank, footprint, verdicts=verdicts):
                for start, size in cls._digest_places(log, row).values():
                    fixed[start : start + size], digest[start : start + size] = 0, 0xFF
                fixed[row.data_start : row.data_end] = 0
                event[row.offset : row.data_end] = number
                end = end if verdicts else row.data_start
            compared.append((0 if number == 0 else row.offset, end))
        # For a verdict all bytes are compared, for replay those that it rests on; what follows the last event, always.
        whole = [(0, len(data))]
        rest = [(log.rows[-1].data_end, len(data))] if log.rows[-1].data_end < len(data) else []
        return cls(
            log=log,
            bank=bank,
            footprint=footprint if verdicts else None,
            values=values,
            explained=explained,
            spans=tuple(
                _Span.of(data, start, end, fixed, digest, event)
                for start, end in (whole if verdicts else [*compared, *rest])
            ),
        )

    @staticmethod
    def _digest_places(log: EventLog, row: Row) -> dict[str, tuple[int, int]]:
        """Place in the log and size of each digest of an event whose digests are in the order of the Spec ID event."""
        places, at = {}, row.offset + 12
        for name in log.algorithms:
            size = ALGORITHMS_BY_NAME[name].size
            places[name] = (at + 2, size)
            at += 2 + size
        return places

    def __len__(self) -> int:
        """The length of the log in bytes."""
        return len(self.log.to_bytes())

    def match(self, column: BinaryColumn, rows: Numbers) -> tuple[Matched, Numbers]:
        """Those of ``rows`` that are like the template, with their registers; and the others.

        Every row has the template's length.
        """
        alike, changed, digests = self._compare(column, rows)
        if self.footprint is not None:
            for number in np.flatnonzero(changed[alike].any(axis=0)).tolist():
                some = np.flatnonzero(alike & changed[:, number])
                alike[some] = self._same_verdict(column, rows[some], number)
        else:
            # Another template will be nearer: folding most of a log anew is what this is to avoid.
            alike &= digests.sum(axis=1) <= _FEW
        kept = np.flatnonzero(alike)
        values = {bank: np.tile(self._own(bank), (len(kept), 1, 1)) for bank in self.values}
        for register in range(PCR_COUNT):
            events = [
                n
                for n, row in enumerate(self.log.rows)
                if row.register == register and row.type != EventType.EV_NO_ACTION
            ]
            if events:
                differs = digests[kept][:, events]
                some = np.flatnonzero(differs.any(axis=1))
                if len(some):
                    first = events[int(np.flatnonzero(differs.any(axis=0))[0])]
                    self._fold(column, rows[kept[some]], register, events, first, some, values)
        return Matched(template=self, rows=rows[kept], values=values), rows[~alike]

    def _own(self, bank: str) -> Bytes:
        size = ALGORITHMS_BY_NAME[bank].size
        own = np.zeros((PCR_COUNT, size), dtype=np.uint8)
        for register, value in self.values[bank].items():
            own[register] = np.frombuffer(value, dtype=np.uint8)
        return own

    def _compare(self, column: BinaryColumn, rows: Numbers) -> tuple[Flags, Flags, Flags]:
        """Which rows have the template's structure, ``(rows,)``; which events differ, and which in their digests."""
        events = len(self.log.rows)
        alike = np.ones(len(rows), dtype=np.bool_)
        changed = np.zeros((len(rows), events), dtype=np.bool_)
        digests = np.zeros((len(rows), events), dtype=np.bool_)
        for span in self._spans:
            count = len(span.words)
            step = max(16, _CHUNK // (8 * count))
            for first in range(0, len(rows), step):
                these = _words_of(column, rows[first : first + step], span)
                places = np.flatnonzero(these != span.words)
                if not len(places):
                    continue
                log, word = np.divmod(places, count)
                bits = these.reshape(-1)[places] ^ span.words[word]
                alike[first + log[(bits & span.fixed[word]) != 0]] = False
                changed[first + log, span.event[word]] = True
                in_digest = (bits & span.digest[word]) != 0
                digests[first + log[in_digest], span.event[word[in_digest]]] = True
        return alike, changed, digests

    def _fold(
        self,
        column: BinaryColumn,
        rows: Numbers,
        register: int,
        events: list[int],
        first: int,
        places: Numbers,
        values: Mapping[str, Bytes],
    ) -> None:
        """Fold one register of some rows anew, from the first event that differs in any of them, in every bank."""
        starts = column.starts[rows]
        locality, _ = startup_locality(self.log.to_bytes(), self.log.rows) if register == 0 else (None, None)
        states: dict[str, Bytes] = {}
        for bank in values:
            start = start_value(register, ALGORITHMS_BY_NAME[bank].size, locality=locality or 0, launched=True)
            states[bank] = np.frombuffer(start, dtype=np.uint8).reshape(1, -1).copy()
        own = np.frombuffer(self.log.to_bytes(), dtype=np.uint8)
        for number in events:
            row = self.log.rows[number]
            if number == first:
                states = {bank: np.repeat(state, len(rows), axis=0) for bank, state in states.items()}
            # Up to there one log speaks for all.
            data, at = (own, np.zeros(1, dtype=np.int64)) if number < first else (column.data, starts)
            headers = gather(data, at + row.offset, row.data_start - row.offset)
            for bank, (place, size) in self._digest_places(self.log, row).items():
                lanes.extend(bank, states[bank], headers[:, place - row.offset : place - row.offset + size])
        for bank, array in values.items():
            array[places, register] = states[bank]

    def _same_verdict(self, column: BinaryColumn, rows: Numbers, number: int) -> Flags:
        """Whether an event that differs from the template's contributes the same to the verdict, row by row."""
        assert self.footprint is not None
        mine = self.log[number]
        assert mine.pcr is not None
        row, starts = self.log.rows[number], column.starts[rows]
        data = gather(column.data, starts + row.data_start, row.data_end - row.data_start)
        digests = {
            bank: gather(column.data, starts + at, size)
            for bank, (at, size) in self._digest_places(self.log, row).items()
        }
        good = np.zeros(len(rows), dtype=np.bool_)
        covered = self._hashed_range(number)
        if covered is not None:
            # All banks are of the same bytes, and the digest tells nothing: that is what the template's event says, too.
            good[:] = True
            piece = data[:, covered[0] : covered[1]]
            for bank, values in digests.items():
                good &= (lanes.hash_rows(bank, piece) == values).all(axis=1)
            for telling in self.footprint.telling.get(mine.pcr, ()):
                good &= (digests[self.footprint.bank] != np.frombuffer(telling, dtype=np.uint8)).any(axis=1)
        said = self.footprint.rest(mine)
        for place in np.flatnonzero(~good).tolist():
            theirs = type(mine)(
                index=mine.index,
                offset=mine.offset,
                register=mine.register,
                type=mine.type,
                digests={bank: values[place].tobytes() for bank, values in digests.items()},
                raw=data[place].tobytes(),
            )
            good[place] = self.footprint.rest(theirs) == said
        return good

    def _hashed_range(self, number: int) -> tuple[int, int] | None:
        """The bytes of an event's data that all its digests are of, where that decides what it contributes."""
        assert self.footprint is not None
        event = self.log[number]
        if event.type in _TAGGED:
            return None
        checks = {bank: event.check(bank) for bank in event.digests}
        ranges = {check.covered for check in checks.values()}
        if any(check.status != "matches" for check in checks.values()) or len(ranges) != 1:
            return None
        (covered,) = ranges
        if len(covered) != 1:
            return None
        start, end = covered[0]
        whole = (start, end) == (0, len(event.raw)) and all(c.rule == "data.whole" for c in checks.values())
        if not whole and event.pcr in self.footprint.hashed:
            return None
        piece = np.frombuffer(event.raw[start:end], dtype=np.uint8).reshape(1, -1)
        if any(lanes.hash_rows(bank, piece)[0].tobytes() != value for bank, value in event.digests.items()):
            return None  # a rule that hashes more than these bytes
        return start, end


def _words_of(column: BinaryColumn, rows: Numbers, span: _Span) -> Words:
    """The bytes of a span in some rows as numbers of eight bytes, ``(rows, words)``; zero behind its end."""
    starts, width = column.starts[rows] + span.start, 8 * len(span.words)
    if int(starts.max(initial=0)) + width <= len(column.data):
        found = gather(column.data, starts, width)
        if span.length < width:
            found[:, span.length :] = 0  # these bytes belong to something else, and are not looked at
    else:
        found = np.zeros((len(rows), width), dtype=np.uint8)
        found[:, : span.length] = gather(column.data, starts, span.length)
    return found.view("<u8").astype(np.uint64, copy=False)


def _may_differ(
    log: EventLog, number: int, row: Row, bank: str | None, footprint: Footprint | None, *, verdicts: bool
) -> bool:
    """Whether digests and data of an event may differ in a log that is like this one."""
    if row.type in {EventType.EV_NO_ACTION, EventType.EV_EFI_HCRTM_EVENT} or row.register >= PCR_COUNT:
        return False
    if not verdicts:
        return True
    if footprint is None or bank not in log.algorithms or row.register in footprint.whole:
        return False
    return log[number].digests[bank] not in footprint.telling.get(row.register, ())
