"""The lock-step walk gives what the scalar framing and replay give, for any bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.bulk.fold import fold, replay
from measlog.bulk.scan import Scan, scan
from measlog.bulk.schema import BinaryColumn
from measlog.errors import FormatError, ReplayError
from measlog.formats.framing import Frame, frame_log
from measlog.limits import Limits
from measlog.log import EventLog
from measlog.registry import algorithm_name
from measlog.testing.logs import event_logs
from tests.property.strategies import MadeLog
from tests.property.strategies import logs as any_logs

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def _captured() -> list[bytes]:
    return [path.read_bytes() for path in sorted(FIXTURES.glob("*/binary_bios_measurements"))]


def _frame(data: bytes, limits: Limits) -> Frame | FormatError:
    try:
        return frame_log(data, limits)
    except FormatError as error:
        return error


def _check_events(logs: Sequence[bytes], found: Scan, limits: Limits) -> None:
    """Flat columns against the scalar framing, event by event."""
    events, errors = found.events()
    at = 0
    for row, data in enumerate(logs):
        frame = _frame(data, limits)
        if isinstance(frame, FormatError):
            assert str(errors[row]) == str(frame)
            assert type(errors[row]) is type(frame)
            continue
        assert row not in errors
        names = [algorithm_name(alg) for alg in frame.algorithm_ids]
        for index, expected in enumerate(frame.rows):
            assert (events.row[at], events.index[at], events.offset[at]) == (row, index, expected.offset)
            assert (events.register[at], events.type[at]) == (expected.register, expected.type)
            start = int(events.data_offset[at])
            assert (start, start + events.data_length[at]) == (expected.data_start, expected.data_end)
            for name, digest in zip(names, expected.digests, strict=True):
                if digest is None:
                    assert not events.present[name][at]
                elif len(digest) == events.digests[name].shape[1]:
                    assert events.present[name][at]
                    assert events.digests[name][at].tobytes() == digest
            at += 1
    assert at == len(events)


def _check_registers(logs: Sequence[bytes], found: Scan) -> int:
    """Folded registers against the scalar replay; returns how many logs were folded in columns."""
    folded = 0
    for group in found.groups:
        registers = fold(found, group)
        for place, row in enumerate(group.rows.tolist()):
            if registers.odd[place]:
                continue
            folded += 1
            log = EventLog.from_bytes(logs[row])
            for bank, values in registers.values.items():
                expected = log.replay(bank)
                assert np.flatnonzero(registers.explained[place]).tolist() == list(expected)
                for pcr, value in expected.items():
                    assert values[place, pcr].tobytes() == value
    return folded


@pytest.mark.parametrize("lock_step_from", [1, 3])
def test_captures(lock_step_from: int) -> None:
    logs = _captured()
    found = scan(BinaryColumn.from_list(logs), lock_step_from=lock_step_from)
    assert lock_step_from > 1 or not len(found.odd)
    _check_events(logs, found, found.limits)
    assert _check_registers(logs, found) == len(logs) - len(found.odd)


def test_corpus(shared: Path) -> None:
    logs = [path.read_bytes() for path in sorted((shared / "corpus/logs").glob("*.bin"))]
    assert logs
    found = scan(BinaryColumn.from_list(logs), lock_step_from=1)
    _check_events(logs, found, found.limits)
    _check_registers([*logs], found)


@given(logs=st.lists(event_logs(algorithms=("sha1", "sha256")), min_size=1, max_size=6))
def test_logs_that_the_profile_allows(logs: list[bytes]) -> None:
    found = scan(BinaryColumn.from_list(logs), lock_step_from=1)
    _check_events(logs, found, found.limits)
    # Whatever the scalar path refuses to replay, the columns leave to it.
    for group in found.groups:
        registers = fold(found, group)
        for place, row in enumerate(group.rows.tolist()):
            try:
                expected = EventLog.from_bytes(logs[row]).replay("sha256")
            except ReplayError:
                assert registers.odd[place]
                continue
            if not registers.odd[place]:
                assert np.flatnonzero(registers.explained[place]).tolist() == list(expected)
                assert all(registers.values["sha256"][place, p].tobytes() == v for p, v in expected.items())


@given(data=st.data())
def test_any_bytes(data: st.DataObject) -> None:
    """Made, cut, spoilt and filled logs, and bytes that are none: the same events or the same error."""
    logs = []
    for made in data.draw(st.lists(any_logs(), min_size=1, max_size=4)):
        log = made.data
        match data.draw(st.integers(0, 5)):
            case 1:
                log = log[: data.draw(st.integers(0, len(log)))]
            case 2 if log:
                place = data.draw(st.integers(0, len(log) - 1))
                log = log[:place] + bytes([data.draw(st.integers(0, 255))]) + log[place + 1 :]
            case 3:
                log += data.draw(st.sampled_from([b"\0", b"\xff"])) * data.draw(st.integers(0, 80))
            case 4:
                log += data.draw(st.binary(max_size=40))
            case 5:
                log = data.draw(st.binary(max_size=100))
            case _:
                pass
        logs += [log] * data.draw(st.integers(1, 3))
    limits = Limits(
        events=data.draw(st.sampled_from([3, 32_768])), event_size=data.draw(st.sampled_from([20, 1 << 24]))
    )
    found = scan(BinaryColumn.from_list(logs), limits=limits, lock_step_from=1)
    _check_events(logs, found, limits)


def test_one_long_log_does_not_make_all_others_wait() -> None:
    from measlog.formats.pfp import LogEvent, build_log
    from measlog.registry import EventType

    event = LogEvent(4, EventType.EV_ACTION, {"sha256": bytes(32)}, b"")
    short, long = build_log([event] * 3, algorithms=("sha256",)), build_log([event] * 3000, algorithms=("sha256",))
    logs = [short] * 20 + [long]
    found = scan(BinaryColumn.from_list(logs))
    assert found.odd.tolist() == [20]
    _check_events(logs, found, found.limits)


def _check_replay(logs: Sequence[bytes]) -> None:
    found = replay(BinaryColumn.from_list(list(logs)))
    for row, data in enumerate(logs):
        errors = found.errors.get(row, {})
        try:
            log = EventLog.from_bytes(data)
        except FormatError as error:
            assert str(errors[None]) == str(error)  # noqa: PT017
            continue
        banks = log.algorithms if log.kind != "ccel" else ()
        for bank in {*banks, *found.values}:
            try:
                expected = dict(log.replay(bank)) if bank in banks else {}
            except ReplayError as error:
                assert errors[bank].code == error.code  # noqa: PT017
                continue
            if bank in found.values:
                assert np.flatnonzero(found.explained[bank][row]).tolist() == list(expected)
                assert all(found.values[bank][row, p].tobytes() == v for p, v in expected.items())
            else:
                assert not expected


def test_replay_of_captures_and_corpus(shared: Path) -> None:
    corpus = [path.read_bytes() for path in sorted((shared / "corpus/logs").glob("*.bin"))]
    logs = [*_captured(), *corpus, b"", b"x"]
    _check_replay(logs)
    _check_replay([log for log in logs for _ in range(9)])


@given(made=st.lists(any_logs(), min_size=1, max_size=3), times=st.sampled_from([1, 9]))
def test_replay_of_any_logs(made: list[MadeLog], times: int) -> None:
    _check_replay([log.data for log in made for _ in range(times)])


def test_arrow_columns_in_every_layout() -> None:
    pa = pytest.importorskip("pyarrow")
    logs = [*_captured()[:3], b"", b"x"]
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())):
        array = pa.array([b"before", *logs, None, b"behind"], pa.binary()).cast(kind).slice(1, len(logs) + 1)
        column = BinaryColumn.from_arrow(array)
        assert [column[i] for i in range(len(column))] == [*logs, b""]
        assert column.null.tolist() == [False] * len(logs) + [True]
    assert len(BinaryColumn.from_arrow(pa.array([], pa.binary()))) == 0
    assert BinaryColumn.from_arrow(pa.nulls(2, pa.binary())).null.all()
    with pytest.raises(TypeError, match="binary"):
        BinaryColumn.from_arrow(pa.array([1, 2]))


def test_event_columns_as_arrow() -> None:
    pytest.importorskip("pyarrow")
    logs = _captured()[:2]
    events, _ = scan(BinaryColumn.from_list(logs), lock_step_from=1).events()
    rows = events.to_arrow().to_pylist()
    expected = [(i, e) for i, data in enumerate(logs) for e in EventLog.from_bytes(data)]
    assert len(rows) == len(expected)
    for row, (number, event) in zip(rows, expected, strict=True):
        assert (row["row"], row["index"], row["offset"], row["type"]) == (number, event.index, event.offset, event.type)
        assert {b: row[b] for b in event.digests} == dict(event.digests)
