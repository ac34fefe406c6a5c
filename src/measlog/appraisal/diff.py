"""Two histories side by side: logs, or boots that were predicted.

Histories are aligned register by register, because only the order within a register is bound by anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Literal

from attrs import evolve, field, frozen

from measlog.appraisal.causes import likely_cause
from measlog.errors import EvidenceError
from measlog.flatcar.boot import PredictedBoot
from measlog.log import EventLog
from measlog.registry import EventType

__all__ = ["Difference", "HistoryDiff", "Side", "align", "diff"]

_ALIGNED_AT_MOST = 4096
"""Longer histories are compared place by place: aligning costs the product of the lengths."""

DifferenceKind = Literal["same", "changed", "inserted", "deleted", "moved"]


@frozen(kw_only=True)
class Side:
    """An event of one of the two histories. ``event`` is its index in the log, ``None`` in a predicted boot."""

    event: int | None
    type: EventType
    digest: bytes
    text: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Difference:
    """A place in the alignment of one register: what the left history has there, and the right one."""

    pcr: int
    kind: DifferenceKind
    left: Side | None
    right: Side | None

    @property
    def event(self) -> int | None:
        """The index of the event in the left log, where that has one, else in the right one."""
        return next(
            (side.event for side in (self.left, self.right) if side is not None and side.event is not None), None
        )


@frozen(kw_only=True)
class HistoryDiff:
    """The alignment of two histories in one bank. ``not_compared`` names registers that one side does not know."""

    bank: str
    rows: tuple[Difference, ...] = field(repr=False)
    not_compared: Mapping[int, str] = field(factory=dict)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The places where the histories are not the same."""
        return tuple(row for row in self.rows if row.kind != "same")

    @property
    def first_divergence(self) -> Mapping[int, Difference]:
        """The first difference of each register that has one."""
        found: dict[int, Difference] = {}
        for row in self.differences:
            found.setdefault(row.pcr, row)
        return found

    def __str__(self) -> str:
        from measlog.view.compare import diff_page  # noqa: PLC0415 - presentation is loaded when asked for

        return diff_page(self).to_text()

    def _repr_html_(self) -> str:
        from measlog.view.notebook import diff_html  # noqa: PLC0415 - presentation is loaded when asked for

        return diff_html(self)

    @property
    def likely_causes(self) -> Mapping[int, str]:
        """What the first difference of each register most likely comes from: guesses, for a person."""
        return {pcr: likely_cause(row) for pcr, row in self.first_divergence.items()}

    def __repr__(self) -> str:
        count = len(self.differences)
        registers = ", ".join(f"PCR {pcr}" for pcr in self.first_divergence)
        return f"<HistoryDiff {self.bank}: {f'{count} differences in {registers}' if count else 'no difference'}>"


def align(left: Sequence[Hashable], right: Sequence[Hashable]) -> Iterator[tuple[int | None, int | None]]:
    """Places of both sequences, paired where they are the same or stand in each other's place.

    Sequences that are too long to be aligned at a bounded cost are paired place by place.
    """
    if max(len(left), len(right)) > _ALIGNED_AT_MOST:
        spans = [(0, len(left), 0, len(right))]
    else:
        spans = [found[1:] for found in SequenceMatcher(None, left, right, autojunk=False).get_opcodes()]
    for i1, i2, j1, j2 in spans:
        for k in range(max(i2 - i1, j2 - j1)):
            yield (i1 + k if i1 + k < i2 else None, j1 + k if j1 + k < j2 else None)


def diff(left: EventLog | PredictedBoot, right: EventLog | PredictedBoot, *, bank: str = "sha256") -> HistoryDiff:
    """Align a log, or a predicted boot, with another.

    Registers that a predicted boot does not know are not compared, and named. Raises
    :class:`~measlog.errors.EvidenceError` where a log does not carry the bank.
    """
    a, b = _events(left, bank), _events(right, bank)
    not_compared: dict[int, str] = {}
    for boot, known in ((left, a), (right, b)):
        if isinstance(boot, PredictedBoot):
            for pcr in (a.keys() | b.keys() | boot.unknown.keys()) - known.keys():
                not_compared[pcr] = boot.unknown.get(pcr, "the predicted boot says nothing about it")
    rows = [
        row
        for pcr in sorted(a.keys() | b.keys())
        if pcr not in not_compared
        for row in _register(pcr, a.get(pcr, ()), b.get(pcr, ()))
    ]
    return HistoryDiff(bank=bank, rows=tuple(rows), not_compared=dict(sorted(not_compared.items())))


def _events(history: EventLog | PredictedBoot, bank: str) -> dict[int, tuple[Side, ...]]:
    return _predicted(history, bank) if isinstance(history, PredictedBoot) else _history(history, bank)


def _history(log: EventLog, bank: str) -> dict[int, tuple[Side, ...]]:
    if bank not in log.algorithms:
        raise EvidenceError(f"the log has no {bank} digests, it has {', '.join(log.algorithms)}", check="bank-missing")
    found: dict[int, list[Side]] = {}
    for event in log:
        digest = event.digests.get(bank)
        if event.pcr is None or event.type == EventType.EV_NO_ACTION or digest is None:
            continue
        text = event.raw.rstrip(b"\0").decode("utf-8", "backslashreplace") if _is_text(event.type) else None
        side = Side(event=event.index, type=event.type, digest=digest, text=text)
        found.setdefault(event.pcr, []).append(side)
    return {pcr: tuple(sides) for pcr, sides in found.items()}


def _is_text(kind: EventType) -> bool:
    return kind in {EventType.EV_IPL, EventType.EV_EFI_ACTION, EventType.EV_ACTION}


def _predicted(boot: PredictedBoot, bank: str) -> dict[int, tuple[Side, ...]]:
    found: dict[int, list[Side]] = {}
    for event in boot.events:
        if event.pcr in boot.unknown or bank not in event.digests:
            continue
        shown = event.data.rstrip(b"\0") if event.data is not None and _is_text(event.type) else event.text
        side = Side(
            event=None,
            type=event.type,
            digest=event.digests[bank],
            text=shown.decode("utf-8", "backslashreplace") or None,
        )
        found.setdefault(event.pcr, []).append(side)
    return {pcr: tuple(sides) for pcr, sides in found.items()}


def _register(pcr: int, left: Sequence[Side], right: Sequence[Side]) -> list[Difference]:
    rows = []
    for i, j in align([s.digest for s in left], [s.digest for s in right]):
        a = None if i is None else left[i]
        b = None if j is None else right[j]
        kind: DifferenceKind = "changed"
        if a is None:
            kind = "inserted"
        elif b is None:
            kind = "deleted"
        elif a.digest == b.digest:
            kind = "same"
        rows.append(Difference(pcr=pcr, kind=kind, left=a, right=b))
    return _moves(rows)


def _moves(rows: list[Difference]) -> list[Difference]:
    """Events that one history has at one place and the other at another."""
    gone = Counter(r.left.digest for r in rows if r.kind == "deleted" and r.left is not None)
    come = Counter(r.right.digest for r in rows if r.kind == "inserted" and r.right is not None)
    moved = gone & come
    sides = {"deleted": Counter(moved), "inserted": Counter(moved)}
    result = []
    for row in rows:
        side = row.left if row.kind == "deleted" else row.right
        if row.kind in sides and side is not None and sides[row.kind][side.digest]:
            sides[row.kind][side.digest] -= 1
            row = evolve(row, kind="moved")  # noqa: PLW2901 - the same row, by its better name
        result.append(row)
    return result
