"""The framing of event logs: where each event starts, what it extends, where its data lies.

This walk is written by hand because it is the hot path of every reader; :mod:`measlog.formats.pfp` declares the same
structures and the tests prove that both agree. Payloads are not looked into, the Spec ID event excepted: it says how
long the digests are.

Source: TCG PC Client Platform Firmware Profile 1.06 (PFP), clause 10.2; Intel TDX Virtual Firmware Design Guide for
the CCEL, whose events are the same structures.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from attrs import frozen

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import ALGORITHMS, EventType, algorithm_name

__all__ = [
    "MIN_FILLER_FF",
    "MIN_FILLER_ZERO_AGILE",
    "NO_REGISTER",
    "Filler",
    "Frame",
    "FrameAnomaly",
    "Row",
    "SpecIdHeader",
    "frame_log",
    "uniform_tail",
]

LogKind = Literal["sha1", "crypto-agile", "ccel"]

NO_REGISTER = 0xFFFFFFFF
SPEC_ID_03 = b"Spec ID Event03\0"
_CLAUSE_EVENT = "PFP 10.2.1"
_CLAUSE_EVENT2 = "PFP 10.2.2"
_CLAUSE_SPEC_ID = "PFP 10.4.5.1"

_LEGACY_HEADER = struct.Struct("<II20sI")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_SPEC_ID_FIXED = struct.Struct("<IBBBBI")
_ALGORITHM = struct.Struct("<HH")
_EVENT2_START = struct.Struct("<III")
_EVENT2_TAGS = struct.Struct("<IH")

_NO_ACTION = EventType.EV_NO_ACTION.value
_LEGACY_STARTS = frozenset(
    {EventType.EV_S_CRTM_VERSION.value, EventType.EV_S_CRTM_CONTENTS.value, EventType.EV_POST_CODE.value}
)

# Fewest uniform bytes that are taken for filler: more than any event that was cut short can begin with. A header
# starts with the register; 0xFF in five bytes running, or zero up to and including the digest count, is no header.
MIN_FILLER_FF = 5
MIN_FILLER_ZERO_AGILE = 9
_MIN_FILLER_ZERO_LEGACY = _LEGACY_HEADER.size
_FIRST_WINDOW, _WINDOW = 64, 1 << 16


class Row(NamedTuple):
    """One event as it lies in the log. Offsets are in bytes from the start of the log."""

    offset: int
    register: int
    """TCG_PCRINDEX, or the MR index in a CCEL."""
    type: int
    digests: tuple[bytes | None, ...]
    """In the order of the log's algorithms; ``None`` where the event lacks one."""
    data_start: int
    data_end: int


class FrameAnomaly(NamedTuple):
    """Something that the reader accepted and that should not be there."""

    code: str
    event: int | None
    message: str


@frozen(kw_only=True)
class SpecIdHeader:
    """What the framing takes from TCG_EfiSpecIDEvent (PFP 10.4.5.1): digest sizes in bytes by TPM_ALG_ID, in order."""

    platform_class: int
    spec_version: tuple[int, int, int]
    """Major, minor, errata."""
    uintn_size: int
    algorithms: tuple[tuple[int, int], ...]
    vendor_info: bytes


@frozen(kw_only=True)
class Filler:
    """Uniform bytes after the last event: the unused rest of the log area."""

    offset: int
    length: int
    value: int


@frozen(kw_only=True)
class Frame:
    """A log cut into events. ``tail`` is the offset from which bytes are neither events nor filler, or ``None``."""

    kind: LogKind
    spec_id: SpecIdHeader | None
    algorithm_ids: tuple[int, ...]
    rows: tuple[Row, ...]
    filler: Filler | None
    tail: int | None
    anomalies: tuple[FrameAnomaly, ...]


def frame_log(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Frame:
    """Cut a log of either format into events.

    Raises :class:`~measlog.errors.FormatError` where the bytes are no log, end inside an event, or hold an event that
    cannot be delimited; :class:`~measlog.errors.LimitExceededError` where they exceed ``limits``.
    """
    if len(data) > limits.log_size:
        raise LimitExceededError(f"the log has {len(data)} bytes, more than the {limits.log_size} allowed")
    if not data:
        raise TruncatedError("the file is empty, which no event log is", offset=0)
    if len(data) < _LEGACY_HEADER.size:
        raise TruncatedError(
            f"{len(data)} bytes are too few for an event log: its first event has {_LEGACY_HEADER.size} and more",
            offset=0,
            path="events[0]",
            clause=_CLAUSE_EVENT,
        )
    index, kind, digest, size = _LEGACY_HEADER.unpack_from(data)
    if not (kind == _NO_ACTION or (kind in _LEGACY_STARTS and index == 0)):
        raise UnsupportedError(
            f"not an event log: it starts with event type 0x{kind:08x} on register {index}, "
            "not with EV_NO_ACTION nor with firmware code in PCR 0",
            offset=0,
            path="events[0]",
            clause=_CLAUSE_EVENT,
        )
    start = _LEGACY_HEADER.size
    if kind == _NO_ACTION and data.startswith(SPEC_ID_03, start, start + size):
        _check_data(data, 0, start, size, limits, _CLAUSE_EVENT)
        return _frame_agile(data, Row(0, index, kind, (digest,), start, start + size), limits)
    return _frame_legacy(data, limits)


def _check_data(data: bytes, number: int, start: int, size: int, limits: Limits, clause: str) -> None:
    left = len(data) - start
    if size > left:
        raise TruncatedError(
            f"the event says that it has {size} bytes of data, {left} are left",
            offset=start - 4,
            path=f"events[{number}].eventSize",
            clause=clause,
        )
    if size > limits.event_size:
        raise LimitExceededError(
            f"{size} bytes of event data, more than the {limits.event_size} allowed",
            offset=start - 4,
            path=f"events[{number}].eventSize",
            clause=clause,
        )


def _frame_legacy(data: bytes, limits: Limits) -> Frame:
    rows: list[Row] = []
    append = rows.append
    anomalies: list[FrameAnomaly] = []
    end, position = len(data), 0
    max_events, max_size = limits.events, limits.event_size
    uniform = uniform_tail(data)
    unpack, header_size = _LEGACY_HEADER.unpack_from, _LEGACY_HEADER.size
    ended = _GOES_ON
    while position < end:
        if position >= uniform or data[position] == 0xFF:
            ended = _ended(data, position, uniform, _MIN_FILLER_ZERO_LEGACY)
            if ended is not _GOES_ON:
                break
        if len(rows) >= max_events:
            raise _too_many(limits, position)
        if end - position < header_size:
            raise _cut(len(rows), position, end, _CLAUSE_EVENT)
        index, kind, digest, size = unpack(data, position)
        start = position + header_size
        if size > end - start or size > max_size:
            _check_data(data, len(rows), start, size, limits, _CLAUSE_EVENT)
        append(Row(position, index, kind, (digest,), start, start + size))
        position = start + size
    return _frame("sha1", None, (0x0004,), rows, ended, anomalies, end)


def _frame_agile(data: bytes, first: Row, limits: Limits) -> Frame:
    anomalies: list[FrameAnomaly] = []
    spec_id, position = _spec_id(data, first, limits, anomalies)
    algorithms = spec_id.algorithms
    ids = tuple(alg for alg, _ in algorithms)
    count = len(ids)
    # In front of each digest stands its TPM_ALG_ID, in front of the first the number of digests too: an event of the usual
    # shape is told by one comparison of these.
    tags = (_EVENT2_TAGS.pack(count, ids[0]), *(_U16.pack(alg) for alg in ids[1:]))
    fields_of = "".join(f"{len(tag)}s{size}s" for tag, (_, size) in zip(tags, algorithms, strict=True))
    header = struct.Struct(f"<II{fields_of}I")
    unpack, header_size = header.unpack_from, header.size
    # The header's one digest field has the size of a SHA-1 digest whatever the banks are; it extends nothing.
    rows: list[Row] = [first._replace(digests=(None,) * count)]
    append = rows.append
    new = tuple.__new__  # Row(...) itself takes twice as long
    end, max_events, max_size = len(data), limits.events, limits.event_size
    last = end - header_size
    uniform = uniform_tail(data)
    ended = _GOES_ON
    while position < end:
        if position >= uniform or data[position] == 0xFF:
            ended = _ended(data, position, uniform, MIN_FILLER_ZERO_AGILE)
            if ended is not _GOES_ON:
                break
        if len(rows) >= max_events:
            raise _too_many(limits, position)
        if position <= last:
            fields = unpack(data, position)
            start, size = position + header_size, fields[-1]
            stop = start + size
            if fields[2:-1:2] == tags and stop <= end and size <= max_size:
                append(new(Row, (position, fields[0], fields[1], fields[3:-1:2], start, stop)))
                position = stop
                continue
        row = _agile_row(data, len(rows), position, algorithms, limits)
        if None in row.digests:
            lacking = ", ".join(algorithm_name(a) for a, d in zip(ids, row.digests, strict=True) if d is None)
            anomalies.append(FrameAnomaly("event.digest-missing", len(rows), f"the event has no digest for {lacking}"))
        else:
            anomalies.append(
                FrameAnomaly("event.digest-order", len(rows), "the digests are not in the order of the Spec ID event")
            )
        append(row)
        position = row.data_end
    return _frame("ccel" if first.register == 1 else "crypto-agile", spec_id, ids, rows, ended, anomalies, end)


def _frame(
    kind: LogKind,
    spec_id: SpecIdHeader | None,
    ids: tuple[int, ...],
    rows: list[Row],
    ended: _Ended,
    anomalies: list[FrameAnomaly],
    end: int,
) -> Frame:
    filler, tail = ended
    if tail is not None:
        anomalies.append(_tail_anomaly(tail, end))
    return Frame(
        kind=kind,
        spec_id=spec_id,
        algorithm_ids=ids,
        rows=tuple(rows),
        filler=filler,
        tail=tail,
        anomalies=tuple(anomalies),
    )


def _agile_row(data: bytes, number: int, position: int, algorithms: tuple[tuple[int, int], ...], limits: Limits) -> Row:
    """Read one TCG_PCR_EVENT2 step by step: digests in any order, or an exact error."""
    end = len(data)
    path = f"events[{number}]"
    if end - position < _EVENT2_START.size:
        raise _cut(number, position, end, _CLAUSE_EVENT2)
    index, kind, count = _EVENT2_START.unpack_from(data, position)
    sizes = dict(algorithms)
    if count > len(sizes):
        raise FormatError(
            f"{count} digests, but the Spec ID event declares {len(sizes)} algorithms",
            offset=position + 8,
            path=f"{path}.digests",
            clause=_CLAUSE_EVENT2,
        )
    at = position + _EVENT2_START.size
    found: dict[int, bytes] = {}
    for i in range(count):
        if end - at < 2:
            raise _cut(number, at, end, _CLAUSE_EVENT2, f"{path}.digests[{i}]")
        (alg,) = _U16.unpack_from(data, at)
        size = sizes.get(alg)
        if size is None:
            raise FormatError(
                f"algorithm 0x{alg:04x} is not among those that the Spec ID event declares",
                offset=at,
                path=f"{path}.digests[{i}]",
                clause=_CLAUSE_EVENT2,
            )
        if alg in found:
            raise FormatError(
                f"a second digest for {algorithm_name(alg)}",
                offset=at,
                path=f"{path}.digests[{i}]",
                clause=_CLAUSE_EVENT2,
            )
        start, at = at + 2, at + 2 + size
        if end < at:
            raise _cut(number, start - 2, end, _CLAUSE_EVENT2, f"{path}.digests[{i}]")
        found[alg] = data[start:at]
    if end - at < 4:
        raise _cut(number, at, end, _CLAUSE_EVENT2, f"{path}.eventSize")
    (size,) = _U32.unpack_from(data, at)
    at += 4
    _check_data(data, number, at, size, limits, _CLAUSE_EVENT2)
    return Row(position, index, kind, tuple(map(found.get, sizes)), at, at + size)


def _spec_id(data: bytes, first: Row, limits: Limits, anomalies: list[FrameAnomaly]) -> tuple[SpecIdHeader, int]:
    """Read the Spec ID event; returns it and the offset of the next event."""
    path = "events[0].event"
    start, end = first.data_start, first.data_end
    at = start + len(SPEC_ID_03)

    def need(size: int, field: str) -> None:
        if end - at < size:
            raise TruncatedError(
                f"the Spec ID event ends before its {field}", offset=at, path=f"{path}.{field}", clause=_CLAUSE_SPEC_ID
            )

    need(_SPEC_ID_FIXED.size, "numberOfAlgorithms")
    platform_class, minor, major, errata, uintn_size, count = _SPEC_ID_FIXED.unpack_from(data, at)
    at += _SPEC_ID_FIXED.size
    here = f"{path}.numberOfAlgorithms"
    if count == 0:
        raise FormatError("the log declares no algorithm", offset=at - 4, path=here, clause=_CLAUSE_SPEC_ID)
    if count > (end - at) // _ALGORITHM.size:
        raise TruncatedError(
            f"{count} algorithms do not fit in the {end - at} bytes left of the event",
            offset=at - 4,
            path=here,
            clause=_CLAUSE_SPEC_ID,
        )
    if count > limits.algorithms:
        raise LimitExceededError(
            f"{count} algorithms, more than the {limits.algorithms} allowed",
            offset=at - 4,
            path=here,
            clause=_CLAUSE_SPEC_ID,
        )
    algorithms: dict[int, int] = {}
    for i in range(count):
        alg, size = _ALGORITHM.unpack_from(data, at)
        known = ALGORITHMS.get(alg)
        problem = None
        if alg in algorithms:
            problem = f"{algorithm_name(alg)} is declared twice"
        elif size == 0:
            problem = f"{algorithm_name(alg)} is declared with digests of 0 bytes"
        elif known is not None and known.size != size:
            problem = f"{known.name} is declared with digests of {size} bytes, it has {known.size}"
        if problem is not None:
            raise FormatError(problem, offset=at, path=f"{path}.digestSizes[{i}]", clause=_CLAUSE_SPEC_ID)
        algorithms[alg] = size
        at += _ALGORITHM.size
    need(1, "vendorInfoSize")
    vendor_size = data[at]
    at += 1
    if at + vendor_size <= end:
        next_event = end
        if at + vendor_size < end:
            anomalies.append(
                FrameAnomaly(
                    "spec-id.trailing-bytes", 0, f"{end - at - vendor_size} bytes after the vendor information"
                )
            )
    elif at == end and vendor_size <= len(data) - at:
        # Some writers leave the vendor information out of EventSize.
        next_event = at + vendor_size
        anomalies.append(
            FrameAnomaly("spec-id.vendor-info-outside", 0, "the vendor information lies outside the event's size")
        )
    else:
        raise TruncatedError(
            f"{vendor_size} bytes of vendor information do not fit in the {end - at} left of the event",
            offset=at - 1,
            path=f"{path}.vendorInfoSize",
            clause=_CLAUSE_SPEC_ID,
        )
    header = SpecIdHeader(
        platform_class=platform_class,
        spec_version=(major, minor, errata),
        uintn_size=uintn_size,
        algorithms=tuple(algorithms.items()),
        vendor_info=data[at : at + vendor_size],
    )
    return header, next_event


def uniform_tail(data: bytes) -> int:
    """The offset from which all bytes to the end are one value, 0x00 or 0xFF; the length where there are none."""
    last, end = data[-1:], len(data)
    if last not in {b"\x00", b"\xff"}:
        return end
    # Window by window, the last few bytes first, so that neither small logs nor large ones are copied whole.
    window = _FIRST_WINDOW
    while end:
        start = max(0, end - window)
        kept = len(data[start:end].rstrip(last))
        end, window = start + kept, _WINDOW
        if kept:
            break
    return end


def _filler(data: bytes, position: int, min_zero: int) -> Filler | None:
    """The filler from ``position``, within the uniform tail, to the end, if it is too long for an event cut short."""
    value, length = data[position], len(data) - position
    if length < (MIN_FILLER_FF if value == 0xFF else min_zero):
        return None
    return Filler(offset=position, length=length, value=value)


_Ended = tuple[Filler | None, int | None]
"""What follows the last event: filler, or the offset of what is neither filler nor an event."""
_GOES_ON: _Ended = (None, None)


def _ended(data: bytes, position: int, uniform: int, min_zero: int) -> _Ended:
    """Whether the events end at ``position``; ``uniform`` is where the uniform tail begins."""
    if position >= uniform:
        filler = _filler(data, position, min_zero)
        if filler is not None:
            return filler, None
    return (None, position) if _terminated(data, position) else _GOES_ON


def _terminated(data: bytes, position: int) -> bool:
    """Whether an erased header (register and type both 0xFFFFFFFF) stands here, after which nothing is an event."""
    return data[position : position + 8] == b"\xff" * 8


def _tail_anomaly(tail: int, end: int) -> FrameAnomaly:
    return FrameAnomaly(
        "log.trailing-bytes", None, f"{end - tail} bytes from byte {tail} on are neither events nor uniform filler"
    )


def _too_many(limits: Limits, position: int) -> LimitExceededError:
    return LimitExceededError(f"more than the {limits.events} events allowed", offset=position, path="events")


def _cut(number: int, position: int, end: int, clause: str, path: str | None = None) -> TruncatedError:
    return TruncatedError(
        f"the log ends inside the event, {end - position} bytes after this place",
        offset=position,
        path=path or f"events[{number}]",
        clause=clause,
    )
