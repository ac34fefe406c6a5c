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

_CHUNK = 1 << 18
"""Bytes of logs that are compared at a time: what a core's own cache holds."""
_GAP = 512
"""Bytes that nothing rests on up to which they are read along: a gather more costs more than they do."""
_FEW = 16
"""Events with other digests up to which a log is replayed by its difference to a template."""
_ALL = (1 << 64) - 1
_EVERY = slice(None)
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
    ``event`` is, of each number, the event that the other bits belong to. Bytes of two events that may differ are never
    in one number: the fixed fields of a header lie between them.
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

    def part(self, word: int) -> _Span:
        """One of the numbers as a stretch of its own."""
        one = slice(word, word + 1)
        return _Span(
            start=self.start + 8 * word,
            length=min(8, self.length - 8 * word),
            words=self.words[one],
            fixed=self.fixed[one],
            digest=self.digest[one],
            event=self.event[one],
        )


@frozen(kw_only=True, eq=False)
class Matched:
    """Rows of a column that are like a template."""

    template: Template
    rows: Numbers
    _column: BinaryColumn = field(repr=False)
    _digests: Flags = field(repr=False)
    """Which events have other digests than the template's, ``(events, rows)``."""

    def registers(self, into: Mapping[str, Bytes], places: Numbers | slice = _EVERY) -> None:
        """Each row's own registers: ``into`` maps banks to uint8 ``(any, 24, digest_size)``, ``places`` says where the rows are there."""
        template = self.template
        for bank, array in into.items():
            array[places] = template.own(bank)
        to = np.arange(len(next(iter(into.values()), ())), dtype=np.int64)[places]
        for register, events in template.extends.items():
            differs = self._digests[events]
            some = np.flatnonzero(differs.any(axis=0))
            if len(some):
                first = events[int(np.flatnonzero(differs.any(axis=1))[0])]
                states = template.fold(self._column, self.rows[some], register, first, tuple(into))
                for bank, array in into.items():
                    array[to[some], register] = states[bank]


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
    extends: Mapping[int, list[int]] = field(repr=False)
    """The events that extend each register."""
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
        extends: dict[int, list[int]] = {}
        for number, row in enumerate(log.rows):
            end = row.data_end
            if row.type != EventType.EV_NO_ACTION and row.register < PCR_COUNT:
                extends.setdefault(row.register, []).append(number)
            if number and _may_differ(log, number, row, bank, footprint, verdicts=verdicts):
                for start, size in cls._digest_places(log, row).values():
                    fixed[start : start + size], digest[start : start + size] = 0, 0xFF
                    event[start : start + size] = number
                fixed[row.data_start : row.data_end] = 0
                event[row.data_start : row.data_end] = number
                end = end if verdicts else row.data_start
            compared.append((0 if number == 0 else row.offset, end))
        # For a verdict all bytes are compared, for replay those that it rests on; what follows the last event, always.
        whole = [(0, len(data))]
        if log.rows[-1].data_end < len(data):
            compared.append((log.rows[-1].data_end, len(data)))
        return cls(
            log=log,
            bank=bank,
            footprint=footprint if verdicts else None,
            values=values,
            explained=explained,
            extends=extends,
            spans=tuple(
                _Span.of(data, start, end, fixed, digest, event)
                for start, end in (whole if verdicts else _joined(compared))
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
            for number in np.flatnonzero(changed[:, alike].any(axis=1)).tolist():
                some = np.flatnonzero(alike & changed[number])
                alike[some] = self._same_verdict(column, rows[some], number)
        else:
            # Another template will be nearer: folding most of a log anew is what this is to avoid.
            alike &= digests.sum(axis=0) <= _FEW
        matched = Matched(template=self, rows=rows[alike], column=column, digests=digests[:, alike])
        return matched, rows[~alike]

    def own(self, bank: str) -> Bytes:
        """The template's registers of a bank, ``(24, digest_size)``."""
        size = ALGORITHMS_BY_NAME[bank].size
        own = np.zeros((PCR_COUNT, size), dtype=np.uint8)
        for register, value in self.values[bank].items():
            own[register] = np.frombuffer(value, dtype=np.uint8)
        return own

    def _compare(self, column: BinaryColumn, rows: Numbers) -> tuple[Flags, Flags, Flags]:
        """Which rows have the template's structure, ``(rows,)``; which events differ, and which in their digests.

        The latter two are ``(events, rows)``.
        """
        alike = np.ones(len(rows), dtype=np.bool_)
        changed = np.zeros((len(self.log.rows), len(rows)), dtype=np.bool_)
        digests = np.zeros((len(self.log.rows), len(rows)), dtype=np.bool_)
        for span in self._spans:
            count = len(span.words)
            step = max(16, _CHUNK // (8 * count))
            differs = np.empty((len(rows), count), dtype=np.bool_)
            for first in range(0, len(rows), step):
                these = _words_of(column, rows[first : first + step], span)
                np.not_equal(these, span.words, out=differs[first : first + step])
            # Most words are the same in all logs. Of each other one all logs are looked at together.
            words = np.flatnonzero(differs.any(axis=0))
            others = np.ascontiguousarray(differs[:, words].T)
            fixed, digest, event = span.fixed[words], span.digest[words], span.event[words]
            alike &= ~others[fixed == _ALL].any(axis=0)
            _mark(changed, event[fixed != _ALL], others[fixed != _ALL])
            _mark(digests, event[digest == _ALL], others[digest == _ALL])
            for at in np.flatnonzero((fixed != _ALL) & (digest != _ALL) & ((fixed | digest) != 0)).tolist():
                bits = _words_of(column, rows, span.part(int(words[at])))[:, 0] ^ span.words[words[at]]
                alike &= (bits & fixed[at]) == 0
                digests[event[at]] |= (bits & digest[at]) != 0
        return alike, changed, digests

    def fold(
        self, column: BinaryColumn, rows: Numbers, register: int, first: int, banks: tuple[str, ...]
    ) -> dict[str, Bytes]:
        """One register of some rows that match, folded anew from the event ``first`` on: ``(rows, digest_size)`` a bank."""
        locality, _ = startup_locality(self.log.to_bytes(), self.log.rows) if register == 0 else (None, None)
        states: dict[str, Bytes] = {}
        for bank in banks:
            start = start_value(register, ALGORITHMS_BY_NAME[bank].size, locality=locality or 0, launched=True)
            states[bank] = np.frombuffer(start, dtype=np.uint8).reshape(1, -1).copy()
        own = np.frombuffer(self.log.to_bytes(), dtype=np.uint8)
        for number in self.extends[register]:
            row = self.log.rows[number]
            if number == first:
                states = {bank: np.repeat(state, len(rows), axis=0) for bank, state in states.items()}
            # Up to there one log speaks for all.
            data, at = (own, np.zeros(1, dtype=np.int64)) if number < first else (column.data, column.starts[rows])
            places = self._digest_places(self.log, row)
            begin = min(places[bank][0] for bank in banks)
            end = max(sum(places[bank]) for bank in banks)
            found = gather(data, at + begin, end - begin)
            for bank in banks:
                place, size = places[bank][0] - begin, places[bank][1]
                lanes.extend(bank, states[bank], found[:, place : place + size])
        return states

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


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending stretches, those with little between them as one: what lies there may differ all the same."""
    joined = stretches[:1]
    for start, end in stretches[1:]:
        if start - joined[-1][1] <= _GAP:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


def _mark(flags: Flags, events: Numbers, others: Flags) -> None:
    """Set the flags of the events, ``(events, rows)``, in the rows where one of their words is another: ``(words, rows)``."""
    if len(events):
        firsts = np.flatnonzero(np.diff(events, prepend=-1))  # words are in the order of the events
        flags[events[firsts]] |= np.logical_or.reduceat(others, firsts, axis=0)


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
