"""Replay in columns: the registers of all logs of a batch, folded step by step.

In one step each log extends at most one register of each bank, so a step is one extend over arrays. Compiled lanes are
quicker than finding out which of the extends are the same; without them :mod:`measlog.lanes` hashes each distinct pair
of state and digest once where a sample of the step says that there are many of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from attrs import field, frozen

from measlog import lanes
from measlog.bulk.scan import scan
from measlog.bulk.templates import Matched, Template
from measlog.errors import MeaslogError
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.log import EventLog
from measlog.registry import ALGORITHMS_BY_NAME, EventType, hash_constructor
from measlog.replay.pcr import PCR_COUNT, STARTUP_LOCALITIES, STARTUP_LOCALITY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from measlog.bulk.scan import LockStep, Scan, Step
    from measlog.bulk.schema import BinaryColumn

__all__ = ["Registers", "Replayed", "fold", "replay"]

_ALIKE = 16
"""Logs of one length from which looking for a common structure pays."""
_TRIED = 4
"""Structures of one length that are looked for."""
_CHUNK = 1024
"""Logs that are replayed together: their headers and registers stay in a core's cache."""

_NO_ACTION = EventType.EV_NO_ACTION.value
_HCRTM = EventType.EV_EFI_HCRTM_EVENT.value


@frozen(kw_only=True, eq=False)
class Registers:
    """The register values that the logs of a group give.

    ``values`` maps banks to uint8 ``(logs, 24, digest_size)``; only where ``explained``, ``(logs, 24)``, is true, the
    log says something about the register.
    """

    values: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    explained: NDArray[np.bool_] = field(repr=False)
    odd: NDArray[np.bool_] = field(repr=False)
    """Logs whose startup locality needs a closer look; their values are not to be used."""


@frozen(kw_only=True, eq=False)
class Replayed:
    """The registers of all logs of a column.

    ``values`` maps banks to uint8 ``(rows, 24, digest_size)``, ``explained`` to ``(rows, 24)``: whether the log of the
    row has the bank and says something about the register; elsewhere the bytes are zero. PCRs are counted by their
    index; a CCEL has none. ``errors`` says why a row could not be read, or by bank why it could not be replayed.
    """

    values: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    explained: Mapping[str, NDArray[np.bool_]] = field(repr=False)
    errors: Mapping[int, Mapping[str | None, MeaslogError]]


def replay(column: BinaryColumn, *, limits: Limits = DEFAULT_LIMITS) -> Replayed:
    """Replay all logs of a column in all banks that this Python can compute; no row raises."""
    count = len(column)
    values: dict[str, NDArray[np.uint8]] = {}
    explained: dict[str, NDArray[np.bool_]] = {}
    errors: dict[int, dict[str | None, MeaslogError]] = {}

    def room(bank: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        if bank not in values:
            values[bank] = np.zeros((count, PCR_COUNT, ALGORITHMS_BY_NAME[bank].size), dtype=np.uint8)
            explained[bank] = np.zeros((count, PCR_COUNT), dtype=np.bool_)
        return values[bank], explained[bank]

    def one(row: int) -> None:
        try:
            log = EventLog.from_bytes(column[row], limits=limits)
        except MeaslogError as error:
            errors.setdefault(row, {})[None] = error
            return
        for bank in log.algorithms if log.kind != "ccel" else ():
            try:
                found = log.replay(bank)
            except MeaslogError as error:
                errors.setdefault(row, {})[bank] = error
                continue
            held, known = room(bank)
            for pcr, value in found.items():
                held[row, pcr], known[row, pcr] = np.frombuffer(value, dtype=np.uint8), True

    left: list[NDArray[np.int64]] = []
    for rows in _by_length(column):
        for matched in _like(column, rows, limits, left):
            rooms = {bank: room(bank) for bank in matched.template.values}
            matched.registers({bank: held for bank, (held, _) in rooms.items()}, matched.rows)
            for _, known in rooms.values():
                known[matched.rows] = matched.template.explained
    others = np.sort(np.concatenate(left)) if left else np.zeros(0, dtype=np.int64)
    for first in range(0, len(others), _CHUNK):
        numbers = others[first : first + _CHUNK]
        found = scan(column.take(numbers), limits=limits)
        for row in numbers[found.odd].tolist():
            one(row)
        for group in found.groups:
            registers = fold(found, group)
            kept = ~registers.odd
            for bank, folded in registers.values.items():
                held, known = room(bank)
                held[numbers[group.rows[kept]]] = folded[kept]
                known[numbers[group.rows[kept]]] = registers.explained[kept]
            # Where a bank cannot be computed, or the locality needs a closer look, the scalar path says what is to say.
            again = registers.odd & ~group.left if len(registers.values) == len(group.algorithms) else ~group.left
            for row in numbers[group.rows[again]].tolist():
                one(row)
    return Replayed(values=values, explained=explained, errors=errors)


def _by_length(column: BinaryColumn) -> list[NDArray[np.int64]]:
    """The rows of each length."""
    order = np.argsort(column.lengths, kind="stable")
    _, firsts = np.unique(column.lengths[order], return_index=True)
    return list(np.split(order, firsts[1:]))


def _like(
    column: BinaryColumn, rows: NDArray[np.int64], limits: Limits, left: list[NDArray[np.int64]]
) -> Iterator[Matched]:
    """The rows that are like another one, as long as that goes for most of them; the others are added to ``left``."""
    for _ in range(_TRIED):
        made = Template.of(column[int(rows[0])], limits) if len(rows) >= _ALIKE else None
        if made is None:
            break
        matched, others = made.match(column, rows)
        yield matched
        fruitless = 2 * len(matched.rows) < min(len(rows), 4 * _ALIKE)
        rows = others
        if fruitless:
            break
    left.append(rows)


def fold(found: Scan, group: LockStep, banks: Iterable[str] | None = None) -> Registers:
    """Replay the logs of a group in the banks named, or in all that this Python can compute."""
    names = [
        bank
        for bank in (group.algorithms if banks is None else banks)
        if bank in group.algorithms and bank in ALGORITHMS_BY_NAME and hash_constructor(bank) is not None
    ]
    count = len(group.rows)
    values = {bank: np.zeros((count, PCR_COUNT, ALGORITHMS_BY_NAME[bank].size), dtype=np.uint8) for bank in names}
    flat = {bank: array.reshape(count * PCR_COUNT, -1) for bank, array in values.items()}
    fields = {bank: f"digest{group.algorithms.index(bank)}" for bank in names}
    explained = np.zeros((count, PCR_COUNT), dtype=np.bool_)
    odd = group.left.copy()
    for step in group.steps:
        register, kind = step.headers["register"], step.headers["type"]
        # A dynamic launch of the firmware sets the start of PCR 0: rare enough to be left to the scalar path.
        launched = kind == _HCRTM
        if launched.any():
            odd[step.log[launched]] = True
        extends = (kind != _NO_ACTION) & (register < PCR_COUNT)
        where = step.log * PCR_COUNT + register
        if extends.all():
            for bank in names:
                lanes.extend(bank, flat[bank], step.headers[fields[bank]], where=where)
        else:
            _state_locality(found, group, step, explained, odd, values)
            where = where[extends]
            for bank in names:
                lanes.extend(bank, flat[bank], step.headers[fields[bank]][extends], where=where)
        explained.reshape(-1)[where] = True
    return Registers(values=values, explained=explained, odd=odd)


def _state_locality(
    found: Scan,
    group: LockStep,
    step: Step,
    explained: NDArray[np.bool_],
    odd: NDArray[np.bool_],
    values: Mapping[str, NDArray[np.uint8]],
) -> None:
    """Take StartupLocality events of the ordinary kind; logs with any other are odd (PFP 10.4.5.3)."""
    data, length = found.column.data, step.headers.dtype.itemsize
    starts = step.position + length
    # The signature is looked for as far as the log goes: a shorter event that is followed by it is odd, too.
    room = starts + len(STARTUP_LOCALITY) <= found.column.ends[group.rows[step.log]]
    events = np.flatnonzero((step.headers["type"] == _NO_ACTION) & room)
    said = data[starts[events][:, None] + np.arange(len(STARTUP_LOCALITY))]
    events = events[(said == np.frombuffer(STARTUP_LOCALITY, dtype=np.uint8)).all(axis=1)]
    if not len(events):
        return
    headers, logs = step.headers[events], step.log[events]
    good = (headers["register"] == 0) & (headers["size"] == len(STARTUP_LOCALITY) + 1) & ~explained[logs, 0]
    for i in range(len(group.algorithm_ids)):
        good &= ~headers[f"digest{i}"].any(axis=1)
    odd[logs[~good]] = True
    # Seventeen bytes of data: the locality lies within them.
    logs, locality = logs[good], data[starts[events[good]] + len(STARTUP_LOCALITY)]
    odd[logs[~np.isin(locality, list(STARTUP_LOCALITIES))]] = True
    for array in values.values():
        array[logs, 0, -1] = locality
    explained[logs, 0] = True
