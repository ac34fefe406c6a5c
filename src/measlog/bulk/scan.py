"""From a column of logs to columns of events, all logs of a batch in lock-step.

A log that keeps the digest order of its Spec ID event has event headers of one constant length, so that a step for all
logs is one gather of as many headers. Whatever is not of that shape is left to :mod:`measlog.formats.framing`, row by
row: SHA-1 logs, CCEL, digests in odd order or missing, oversized events, and everything that is an error, which is
raised there with its exact words. The columns are the same either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from measlog.bulk.schema import BinaryColumn, pyarrow
from measlog.errors import FormatError
from measlog.formats.framing import (
    MIN_FILLER_FF,
    MIN_FILLER_ZERO_AGILE,
    NO_REGISTER,
    Frame,
    frame_log,
    uniform_tail,
)
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import ALGORITHMS, algorithm_name

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

__all__ = ["EventColumns", "LockStep", "Scan", "Step", "header_type", "scan"]

_LOCK_STEP_FROM = 8
"""Rows of one shape from which walking them together is quicker than one by one."""
_FIRST_HEADER = 32
_SPEC_ID_LIMIT = 1024
"""Bytes of a Spec ID event, which has 16 algorithms and 255 bytes of vendor information at most."""
_STRAGGLERS_AFTER = 512
"""Events after which the logs that go on are left to the scalar framing, if few are left."""


@frozen(kw_only=True, eq=False)
class Step:
    """The events with one index in their logs.

    ``log`` says of each event which log of the group it is of, ``position`` where it starts in the column's data;
    ``headers`` is a structured array, one TCG_PCR_EVENT2 without its data each: ``register``, ``type``, ``count``,
    ``id0``, ``digest0`` (uint8, digest size) and so on, ``size``.
    """

    log: Numbers = field(repr=False)
    position: Numbers = field(repr=False)
    headers: NDArray[np.void] = field(repr=False)


@frozen(kw_only=True, eq=False)
class LockStep:
    """The logs of one shape. ``steps[k]`` are the events with index ``k + 1``: index 0 is the Spec ID event."""

    algorithm_ids: tuple[int, ...]
    spec_id: bytes = field(repr=False)
    """TCG_PCR_EVENT of the Spec ID, the first event of each of these logs."""
    rows: Numbers
    """The logs' places in the column."""
    left: NDArray[np.bool_]
    """Logs that turned out to be of another shape: they are among the scan's odd rows, and their events do not count."""
    steps: tuple[Step, ...] = field(repr=False)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The banks, in the order of the Spec ID event."""
        return tuple(map(algorithm_name, self.algorithm_ids))


@frozen(kw_only=True, eq=False)
class EventColumns:
    """The events of a batch, ordered by row and by their place in the log; one array element an event.

    ``digests`` maps banks to uint8 ``(events, digest_size)``; where ``present`` is false, the event has no digest of
    the bank and the bytes are zero. Offsets and lengths are in bytes, offsets from the start of the row's log.
    """

    row: Numbers
    index: Numbers
    offset: Numbers
    register: NDArray[np.uint32]
    type: NDArray[np.uint32]
    data_offset: Numbers
    data_length: Numbers
    digests: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    present: Mapping[str, NDArray[np.bool_]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.row)

    def to_arrow(self) -> pa.Table:
        """One row an event, digests as fixed-size binary."""
        pa = pyarrow()
        columns: dict[str, Any] = {
            "row": pa.array(self.row, pa.uint32()),
            "index": pa.array(self.index, pa.uint32()),
            "offset": pa.array(self.offset, pa.uint64()),
            "register": pa.array(self.register, pa.uint32()),
            "type": pa.array(self.type, pa.uint32()),
            "data_offset": pa.array(self.data_offset, pa.uint64()),
            "data_length": pa.array(self.data_length, pa.uint32()),
        }
        for bank, digests in self.digests.items():
            size = digests.shape[1]
            values = pa.py_buffer(np.ascontiguousarray(digests))
            mask = pa.py_buffer(np.packbits(self.present[bank], bitorder="little"))
            columns[bank] = pa.Array.from_buffers(pa.binary(size), len(self), [mask, values])
        return pa.table(columns)


@frozen(kw_only=True, eq=False)
class Scan:
    """The logs of a column, those of a common shape walked in lock-step, the others named."""

    column: BinaryColumn = field(repr=False)
    groups: tuple[LockStep, ...]
    odd: Numbers
    """Rows that are left to the scalar framing, ascending."""
    limits: Limits = field(repr=False)

    def frame(self, row: int) -> Frame:
        """One log by the scalar framing; raises :class:`~measlog.errors.FormatError`."""
        return frame_log(self.column[row], self.limits)

    def events(self) -> tuple[EventColumns, Mapping[int, FormatError]]:
        """All events as flat columns, and the errors of the rows that cannot be read."""
        frames: dict[int, Frame] = {}
        errors: dict[int, FormatError] = {}
        for row in self.odd.tolist():
            try:
                frames[row] = self.frame(row)
            except FormatError as error:
                errors[row] = error
        return _flatten(self, frames), errors


def scan(column: BinaryColumn, *, limits: Limits = DEFAULT_LIMITS, lock_step_from: int = _LOCK_STEP_FROM) -> Scan:
    """Walk all logs of a column. No row raises; ``lock_step_from`` is how many rows of a shape are walked together."""
    shapes: dict[bytes, list[int]] = {}
    odd: list[int] = []
    sizes = column.lengths
    heads = column.starts + 28
    long_enough = (sizes >= _FIRST_HEADER) & (sizes <= limits.log_size)
    body = np.zeros(len(column), dtype=np.int64)
    places = heads[long_enough]
    body[long_enough] = sum(column.data[places + i].astype(np.int64) << 8 * i for i in range(4)) if len(places) else 0
    fits = long_enough & (body <= _SPEC_ID_LIMIT) & (sizes >= _FIRST_HEADER + body)
    view = memoryview(column.data)  # type: ignore[arg-type,unused-ignore]
    for row, good, start, size in zip(
        range(len(column)), fits.tolist(), column.starts.tolist(), body.tolist(), strict=True
    ):
        if good:
            shapes.setdefault(bytes(view[start : start + _FIRST_HEADER + size]), []).append(row)
        else:
            odd.append(row)
    groups: list[LockStep] = []
    for head, rows in shapes.items():
        ids = _regular(head, limits) if len(rows) >= lock_step_from else None
        if ids is None:
            odd.extend(rows)
            continue
        group = _walk(column, np.array(rows, dtype=np.int64), head, ids, limits)
        groups.append(group)
        odd.extend(group.rows[group.left].tolist())
    return Scan(column=column, groups=tuple(groups), odd=np.array(sorted(odd), dtype=np.int64), limits=limits)


def _regular(head: bytes, limits: Limits) -> tuple[tuple[int, int], ...] | None:
    """Algorithm ids and digest sizes that a Spec ID event declares, if it is an ordinary one and readable."""
    try:
        frame = frame_log(head, limits)
    except FormatError:
        return None
    if frame.kind != "crypto-agile" or frame.spec_id is None or len(frame.rows) != 1 or frame.tail is not None:
        return None
    return frame.spec_id.algorithms


def header_type(algorithms: tuple[tuple[int, int], ...]) -> np.dtype[np.void]:
    """TCG_PCR_EVENT2 (PFP 10.2.2) up to its data, with the digests in this order."""
    fields: list[tuple[Any, ...]] = [("register", "<u4"), ("type", "<u4"), ("count", "<u4")]
    for i, (_, size) in enumerate(algorithms):
        fields += [(f"id{i}", "<u2"), (f"digest{i}", "u1", (size,))]
    return np.dtype([*fields, ("size", "<u4")])


def _walk(
    column: BinaryColumn, rows: Numbers, head: bytes, algorithms: tuple[tuple[int, int], ...], limits: Limits
) -> LockStep:
    layout = header_type(algorithms)
    length, count = layout.itemsize, len(algorithms)
    data = column.data
    # Every byte of the column is the start of a header, as far as one fits.
    anywhere = np.ndarray((max(0, len(data) - length + 1),), f"V{length}", buffer=data, strides=(1,))
    uniform = _uniform(column, rows)
    left = np.zeros(len(rows), dtype=np.bool_)
    steps: list[Step] = []
    # What follows is about the logs that go on; each array is shortened when one of them ends.
    log = np.arange(len(rows), dtype=np.int64)
    position, end = column.starts[rows] + len(head), column.ends[rows]
    fillers = bool((uniform < end).any())
    gone = position >= end
    while True:
        if fillers:
            tail = position >= uniform[log]
            if tail.any():
                inside = np.minimum(position, len(data) - 1)
                least = np.where(data[inside] == 0xFF, MIN_FILLER_FF, MIN_FILLER_ZERO_AGILE)
                gone |= tail & (end - position >= least)
        # Bounds before the gather: the whole header lies within its log.
        short = (end - position < length) & ~gone
        left[log[short]] = True
        gone |= short
        if gone.any():
            log, position, end = log[~gone], position[~gone], end[~gone]
        if not len(log):
            break
        if len(steps) + 1 >= limits.events or (len(steps) >= _STRAGGLERS_AFTER and len(log) < _LOCK_STEP_FROM):
            left[log] = True
            break
        headers = anywhere[position].view(layout)
        size = headers["size"].astype(np.int64)
        following = position + (length + size)
        good = (headers["count"] == count) & (following <= end) & (size <= limits.event_size)
        for i, (alg, _) in enumerate(algorithms):
            good &= headers[f"id{i}"] == alg
        good &= (headers["register"] != NO_REGISTER) | (headers["type"] != NO_REGISTER)  # an erased header is no event
        if not good.all():
            left[log[~good]] = True
            headers, following = headers[good], following[good]
            log, position, end = log[good], position[good], end[good]
        steps.append(Step(log=log, position=position, headers=headers))
        position = following
        gone = position >= end
    return LockStep(
        algorithm_ids=tuple(alg for alg, _ in algorithms), spec_id=head, rows=rows, left=left, steps=tuple(steps)
    )


def _uniform(column: BinaryColumn, rows: Numbers) -> Numbers:
    """Of each log, the place in the data from which it is one value, 0x00 or 0xFF, to its end; else its end."""
    ends = column.ends[rows]
    found = ends.copy()
    last = column.data[ends - 1]
    for local in np.flatnonzero((last == 0x00) | (last == 0xFF)).tolist():
        row = int(rows[local])
        found[local] = column.starts[row] + uniform_tail(column[row])
    return found


def _flatten(found: Scan, frames: Mapping[int, Frame]) -> EventColumns:
    column = found.column
    per_row = np.zeros(len(column) + 1, dtype=np.int64)
    for group in found.groups:
        per_row[group.rows[~group.left] + 1] = 1
        for step in group.steps:
            rows = group.rows[step.log[~group.left[step.log]]]
            per_row[rows + 1] += 1
    for row, frame in frames.items():
        per_row[row + 1] = len(frame.rows)
    starts = np.cumsum(per_row)
    total = int(starts[-1])
    sizes: dict[str, int] = {}
    for group in found.groups:
        declared = dict(frame_log(group.spec_id, found.limits).spec_id.algorithms)  # type: ignore[union-attr]
        for alg in group.algorithm_ids:
            sizes.setdefault(algorithm_name(alg), declared[alg])
    for frame in frames.values():
        declared = dict(frame.spec_id.algorithms) if frame.spec_id is not None else {}
        for alg in frame.algorithm_ids:
            known = ALGORITHMS.get(alg)
            sizes.setdefault(algorithm_name(alg), declared[alg] if known is None else known.size)
    out = EventColumns(
        row=np.repeat(np.arange(len(column), dtype=np.int64), per_row[1:]),
        index=np.arange(total, dtype=np.int64) - np.repeat(starts[:-1], per_row[1:]),
        offset=np.zeros(total, dtype=np.int64),
        register=np.zeros(total, dtype=np.uint32),
        type=np.zeros(total, dtype=np.uint32),
        data_offset=np.zeros(total, dtype=np.int64),
        data_length=np.zeros(total, dtype=np.int64),
        digests={name: np.zeros((total, size), dtype=np.uint8) for name, size in sizes.items()},
        present={name: np.zeros(total, dtype=np.bool_) for name in sizes},
    )
    for group in found.groups:
        _place_group(column, group, starts, out)
    for row, frame in frames.items():
        _place_frame(frame, int(starts[row]), out)
    return out


def _place_group(column: BinaryColumn, group: LockStep, starts: Numbers, out: EventColumns) -> None:
    # The Spec ID event, a TCG_PCR_EVENT without a digest of any bank.
    first = starts[group.rows]
    kept = first[~group.left]
    out.register[kept] = int.from_bytes(group.spec_id[:4], "little")
    out.type[kept] = int.from_bytes(group.spec_id[4:8], "little")
    out.data_offset[kept] = _FIRST_HEADER
    out.data_length[kept] = len(group.spec_id) - _FIRST_HEADER
    for number, step in enumerate(group.steps, 1):
        good = ~group.left[step.log]
        log, headers = step.log[good], step.headers[good]
        to = first[log] + number
        offset = step.position[good] - column.starts[group.rows[log]]
        out.offset[to] = offset
        out.register[to] = headers["register"]
        out.type[to] = headers["type"]
        out.data_offset[to] = offset + headers.dtype.itemsize
        out.data_length[to] = headers["size"]
        for i, name in enumerate(group.algorithms):
            digests = headers[f"digest{i}"]
            if digests.shape[1] == out.digests[name].shape[1]:  # an unknown algorithm may be declared with any size
                out.digests[name][to] = digests
                out.present[name][to] = True


def _place_frame(frame: Frame, first: int, out: EventColumns) -> None:
    names = tuple(map(algorithm_name, frame.algorithm_ids))
    for number, row in enumerate(frame.rows):
        to = first + number
        out.offset[to] = row.offset
        out.register[to], out.type[to] = row.register, row.type
        out.data_offset[to], out.data_length[to] = row.data_start, row.data_end - row.data_start
        for name, digest in zip(names, row.digests, strict=True):
            if digest is not None and len(digest) == out.digests[name].shape[1]:
                out.digests[name][to] = np.frombuffer(digest, dtype=np.uint8)
                out.present[name][to] = True
