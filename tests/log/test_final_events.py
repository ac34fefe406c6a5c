"""The final events table goes after the log. Tables are put together here by hand from the clause's figure."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog import EventLog
from measlog.errors import FormatError
from measlog.formats.pfp import LogEvent, build_log
from measlog.log.final_events import merge_final_events

ACTION = 0x80000007


def _event(text: bytes, register: int = 5) -> LogEvent:
    digests = {"sha1": hashlib.sha1(text).digest(), "sha256": hashlib.sha256(text).digest()}
    return LogEvent(register, ACTION, digests, text)


def _agile(text: bytes, register: int = 5) -> bytes:
    """TCG_PCR_EVENT2 by hand: register, type, two digests, data."""
    return (
        struct.pack("<III", register, ACTION, 2)
        + struct.pack("<H", 4)
        + hashlib.sha1(text).digest()
        + struct.pack("<H", 0xB)
        + hashlib.sha256(text).digest()
        + struct.pack("<I", len(text))
        + text
    )


def _table(*texts: bytes, number: int | None = None, version: int = 1) -> bytes:
    return struct.pack("<QQ", version, len(texts) if number is None else number) + b"".join(map(_agile, texts))


def _log(*texts: bytes, filler: bytes = b"", vendor_info: bytes = b"") -> EventLog:
    return EventLog.from_bytes(build_log([_event(t) for t in texts], filler=filler, vendor_info=vendor_info))


INVOCATION, SUCCESS = b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success"


def test_events_are_appended_and_replayed() -> None:
    merged = merge_final_events(_log(b"first"), _table(INVOCATION, SUCCESS))
    assert [event.raw for event in merged][1:] == [b"first", INVOCATION, SUCCESS]
    value = bytes(32)
    for text in (b"first", INVOCATION, SUCCESS):
        value = hashlib.sha256(value + hashlib.sha256(text).digest()).digest()
    assert merged.replay("sha256")[5] == value


def test_events_that_both_hold_are_taken_once() -> None:
    log = _log(b"first", INVOCATION)
    assert merge_final_events(log, _table(INVOCATION, SUCCESS)) == _log(b"first", INVOCATION, SUCCESS)
    assert merge_final_events(log, _table(INVOCATION)) == log
    assert merge_final_events(log, _table()) == log
    # The same event again, but not where the log ends, happened again.
    assert merge_final_events(log, _table(b"first")) == _log(b"first", INVOCATION, b"first")


def test_filler_stays_at_the_end() -> None:
    merged = merge_final_events(_log(b"first", filler=b"\xff" * 64), _table(SUCCESS))
    assert merged.to_bytes() == _log(b"first", SUCCESS).to_bytes() + b"\xff" * 64


def test_a_log_of_a_header_alone() -> None:
    assert merge_final_events(_log(vendor_info=b"abc"), _table(SUCCESS)) == _log(SUCCESS, vendor_info=b"abc")


def test_bytes_after_the_last_event_of_the_table_are_not_read() -> None:
    # The table lies in a buffer of its own; only NumberOfEvents says where it ends.
    table = _table(INVOCATION, SUCCESS, number=1)
    assert merge_final_events(_log(b"first"), table) == _log(b"first", INVOCATION)


@pytest.mark.parametrize(
    "table",
    [
        b"",
        _table()[:15],
        _table(version=2),
        _table(SUCCESS, number=2),
        _table(SUCCESS, number=2**64 - 1),
        _table(INVOCATION, SUCCESS)[:-1],
        _table(SUCCESS)[:30],
    ],
    ids=["empty", "short header", "version", "too few", "too many", "cut data", "cut event"],
)
def test_tables_that_lie_are_refused(table: bytes) -> None:
    with pytest.raises(FormatError):
        merge_final_events(_log(b"first"), table)


def test_a_log_without_room_for_it() -> None:
    event = LogEvent(0, 8, {"sha1": bytes(20)}, bytes(2))
    log = EventLog.from_bytes(build_log([event], algorithms=None))
    with pytest.raises(FormatError, match="SHA-1 format"):
        merge_final_events(log, _table(SUCCESS))


@given(st.lists(st.sampled_from([b"a", b"b"]), max_size=12), st.lists(st.sampled_from([b"a", b"b"]), max_size=12))
def test_no_event_is_taken_twice_and_none_is_lost(known: list[bytes], found: list[bytes]) -> None:
    """What both hold is the longest end of the log that begins the table, here found by trying every length."""
    both = max(size for size in range(len(found) + 1) if known[len(known) - size :] == found[:size])
    merged = merge_final_events(_log(*known), _table(*found))
    assert [event.raw for event in merged][1:] == known + found[both:]
