"""The hand-written walk and the declarations of the specification read the same logs in the same way."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from measlog import EventLog
from measlog.errors import FormatError
from measlog.formats.framing import Frame, frame_log
from measlog.formats.pfp import LogEvent, build_log
from measlog.registry import algorithm_name
from tests.conftest import SHARED
from tests.property.declared import Declared, read
from tests.property.strategies import MadeLog, logs

REAL_LOGS = sorted(
    [p for p in SHARED.glob("corpus/logs/*.bin") if "acpi" not in p.name]
    + list(SHARED.glob("flatcar/captures/*/binary_bios_measurements"))
)


def _log_id(path: Path) -> str:
    return path.parent.name if path.name == "binary_bios_measurements" else path.stem


real_log = pytest.mark.parametrize(
    "path",
    REAL_LOGS or [pytest.param(None, marks=pytest.mark.skip("needs ../shared"))],
    ids=_log_id if REAL_LOGS else None,
)


def as_declared(data: bytes, frame: Frame) -> list[Declared]:
    """The framing in the words of the declarations, digests in the order of the Spec ID event."""
    return [
        Declared(
            row.register,
            row.type,
            tuple((a, d) for a, d in zip(frame.algorithm_ids, row.digests, strict=True) if d is not None),
            data[row.data_start : row.data_end],
        )
        for row in frame.rows
    ]


def in_order(events: list[Declared], frame: Frame) -> list[Declared]:
    order = frame.algorithm_ids
    return [e._replace(digests=tuple(sorted(e.digests, key=lambda d: order.index(d[0])))) for e in events]


@given(logs())
def test_reads_what_was_written(made: MadeLog) -> None:
    log = EventLog.from_bytes(made.data)
    assert log.to_bytes() == made.data
    assert log.algorithms == made.names
    assert [e.offset for e in log] == made.starts[:-1]
    events = list(log)[0 if made.algorithms is None else 1 :]
    assert [(e.type, dict(e.digests), e.raw) for e in events] == [
        (e.type, dict(e.digests), e.data) for e in made.events
    ]
    assert [e.register.index for e in events] == [e.register for e in made.events]
    assert log.complete
    # A log may itself end in the bytes of the filler; what counts is that no event is lost to it.
    assert (log.filler is not None) == bool(made.filler)
    if made.algorithms is not None:
        assert log.spec_id is not None
        assert log.spec_id.vendor_info == made.vendor_info
        assert log.spec_id.algorithms == made.algorithms
        codes = {a.code for a in log.anomalies}
        assert ("spec-id.vendor-info-outside" in codes) == made.vendor_info_outside
        assert ("event.digest-missing" in codes) == any(len(e.digests) < len(made.names) for e in made.events)
        swapped = [e for e in made.events if len(e.digests) == len(made.names) and tuple(e.digests) != made.names]
        assert ("event.digest-order" in codes) == bool(swapped)


@given(logs(filled=False))
def test_agrees_with_the_declarations(made: MadeLog) -> None:
    frame = frame_log(made.data)
    assert as_declared(made.data, frame) == in_order(read(made.data), frame)


@given(logs(filled=False))
def test_every_cut(made: MadeLog) -> None:
    whole = frame_log(made.data)
    starts = set(made.starts[1:])
    for cut in range(len(made.data)):
        part = made.data[:cut]
        if cut in starts:
            shorter = frame_log(part)
            assert shorter.rows == whole.rows[: len(shorter.rows)]
            assert len(shorter.rows) == made.starts.index(cut)
            assert (shorter.filler, shorter.tail) == (None, None)
        else:
            with pytest.raises(FormatError) as caught:
                frame_log(part)
            # Nothing is said about bytes that are not there.
            assert caught.value.offset is not None
            assert caught.value.offset <= cut


@given(logs(filled=False), st.data())
def test_changed_bytes_read_alike(made: MadeLog, data: st.DataObject) -> None:
    """Wherever one byte is changed, both readers give the same events or both refuse."""
    at = data.draw(st.integers(0, len(made.data) - 1))
    value = data.draw(st.integers(0, 255))
    changed = made.data[:at] + bytes([value]) + made.data[at + 1 :]
    try:
        frame = frame_log(changed)
    except FormatError:
        # The walk also refuses what the structures allow: a log that starts otherwise, a bank with a wrong size,
        # the same bank twice, the vendor information half in and half out of the event.
        if at >= made.starts[1 if made.algorithms is not None else 0] + (8 if made.algorithms is None else 0):
            with pytest.raises(FormatError):
                read(changed)
        return
    if frame.filler is not None or frame.tail is not None:
        return
    if frame.anomalies and frame.anomalies[0].code == "spec-id.trailing-bytes":
        return
    assert as_declared(changed, frame) == in_order(read(changed), frame)


@given(st.binary(max_size=400))
@example(b"")
@example(b"\0" * 32)
@example(build_log([])[:-1])
def test_any_bytes_give_a_log_or_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert EventLog.from_bytes(data).to_bytes() == data


@given(logs(), st.data())
def test_any_damage_gives_a_log_or_a_format_error(made: MadeLog, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(made.data)))
    end = data.draw(st.integers(at, min(len(made.data), at + 8)))
    changed = made.data[:at] + data.draw(st.binary(max_size=8)) + made.data[end:]
    try:
        log = EventLog.from_bytes(changed)
    except FormatError:
        return
    assert log.to_bytes() == changed
    assert all(log[i].raw == changed[r.data_start : r.data_end] for i, r in enumerate(log.rows))
    assert len(log.anomalies) >= 0


@real_log
def test_real_logs_agree_with_the_declarations(path: Path) -> None:
    data = path.read_bytes()
    frame = frame_log(data)
    body = data if frame.filler is None else data[: frame.filler.offset]
    assert as_declared(data, frame) == in_order(read(body), frame)


@real_log
def test_real_logs_are_written_back_by_the_declarations(path: Path) -> None:
    data = path.read_bytes()
    log = EventLog.from_bytes(data)
    written = [LogEvent(row.register, row.type, dict(e.digests), e.raw) for row, e in zip(log.rows, log, strict=True)]
    filler = b"" if log.filler is None else bytes([log.filler.value]) * log.filler.length
    if log.kind == "sha1":
        assert build_log(written, algorithms=None, filler=filler) == data
        return
    assert log.spec_id is not None
    sizes = dict(log.spec_id.algorithms)
    rest = build_log(
        [w._replace(digests=_as_they_stand(data, i, log, sizes)) for i, w in enumerate(written)][1:],
        algorithms=log.spec_id.algorithms,
        spec_id_register=log.rows[0].register,
        vendor_info=log.spec_id.vendor_info,
        vendor_info_outside="spec-id.vendor-info-outside" in {a.code for a in log.anomalies},
        filler=filler,
    )
    # Platform class and versions are the firmware's own; all else has to be the same.
    versions = slice(32 + 16, 32 + 16 + 8)
    assert rest[: versions.start] + data[versions] + rest[versions.stop :] == data


def _as_they_stand(data: bytes, index: int, log: EventLog, sizes: dict[int, int]) -> dict[str, bytes]:
    """The digests of one event in their own order, read by hand from the bytes."""
    digests: dict[str, bytes] = {}
    if index == 0:
        return digests
    at = log.rows[index].offset + 8
    count = int.from_bytes(data[at : at + 4], "little")
    at += 4
    for _ in range(count):
        alg = int.from_bytes(data[at : at + 2], "little")
        digests[algorithm_name(alg)] = data[at + 2 : at + 2 + sizes[alg]]
        at += 2 + sizes[alg]
    return digests


@real_log
def test_real_logs_cut_at_every_byte(path: Path) -> None:
    """At a boundary exactly the events before it, elsewhere a FormatError.

    Long payloads are cut at every byte near their ends and at every seventh between.
    """
    data = path.read_bytes()
    whole = frame_log(data)
    end = len(data) if whole.filler is None else whole.filler.offset
    boundaries = {row.data_end: i + 1 for i, row in enumerate(whole.rows)}
    if whole.spec_id is not None and len(whole.rows) > 1:
        boundaries.pop(whole.rows[0].data_end)
        boundaries[whole.rows[1].offset] = 1
    elif whole.spec_id is not None:
        boundaries = {end: 1}
    # A log is framed from its start each time: only the events around the cut are worth the work.
    for i, row in enumerate(whole.rows):
        head = _head(data, whole, i)
        for cut in _cuts(row.offset, row.data_start, row.data_end):
            part = head + data[row.offset : cut]
            if cut in boundaries:
                assert len(frame_log(data[:cut]).rows) == boundaries[cut]
                assert frame_log(data[:cut]).rows == whole.rows[: boundaries[cut]]
            elif not (i == 0 and cut == end):
                with pytest.raises(FormatError):
                    frame_log(part if i else data[:cut])


def _head(data: bytes, frame: Frame, index: int) -> bytes:
    """What an event needs before it to be read: the Spec ID event, or a first event of the SHA-1 format."""
    if index == 0:
        return b""
    return data[: frame.rows[1].offset]


def _cuts(start: int, payload: int, end: int) -> list[int]:
    if end - payload < 600:
        return list(range(start + 1, end + 1))
    return sorted({*range(start + 1, payload + 40), *range(payload, end, 7), *range(end - 40, end + 1)})
