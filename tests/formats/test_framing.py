"""The framing of event logs: tables of bytes and what they are, and bytes that nobody should trust."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from attrs import evolve

from benchmarks import hostile
from measlog import EventLog, Limits
from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.framing import Filler, Frame, Row, frame_log, uniform_tail

# Written by hand from the tables of PFP 10.2.1, 10.2.2 and 10.4.5.1.
SPEC_ID_EVENT = bytes.fromhex(
    "00000000 03000000 0000000000000000000000000000000000000000 25000000"  # pcrIndex, eventType, digest, eventDataSize
    "53706563204944204576656e74303300 00000000 00 02 69 02"  # signature, platformClass, minor, major, errata, uintnSize
    "02000000 0400 1400 0b00 2000 00"  # numberOfAlgorithms, digestSizes, vendorInfoSize
)
SHA1, SHA256 = bytes(range(20)), bytes(range(32))
SEPARATOR = (
    bytes.fromhex("07000000 04000000 02000000 0400")
    + SHA1
    + bytes.fromhex("0b00")
    + SHA256
    + bytes.fromhex("04000000 00000000")
)
LEGACY = bytes.fromhex("00000000 08000000") + SHA1 + bytes.fromhex("02000000 3100")
START = len(SPEC_ID_EVENT)


def event2(digests: bytes, *, register: int = 4, kind: int = 0xD, count: int = 2, data: bytes = b"hello") -> bytes:
    return struct.pack("<III", register, kind, count) + digests + struct.pack("<I", len(data)) + data


IN_ORDER = b"\x04\0" + SHA1 + b"\x0b\0" + SHA256
SWAPPED = b"\x0b\0" + SHA256 + b"\x04\0" + SHA1


class Case(NamedTuple):
    name: str
    data: bytes
    kind: str
    rows: list[Row]
    codes: list[str]


LOGS = [
    Case("spec id alone", SPEC_ID_EVENT, "crypto-agile", [Row(0, 0, 3, (None, None), 32, 69)], []),
    Case(
        "separator",
        SPEC_ID_EVENT + SEPARATOR,
        "crypto-agile",
        [Row(0, 0, 3, (None, None), 32, 69), Row(69, 7, 4, (SHA1, SHA256), 141, 145)],
        [],
    ),
    Case(
        "digests in another order",
        SPEC_ID_EVENT + event2(SWAPPED),
        "crypto-agile",
        [Row(0, 0, 3, (None, None), 32, 69), Row(69, 4, 13, (SHA1, SHA256), 141, 146)],
        ["event.digest-order"],
    ),
    Case(
        "a digest is missing",
        SPEC_ID_EVENT + event2(b"\x0b\0" + SHA256, count=1),
        "crypto-agile",
        [Row(0, 0, 3, (None, None), 32, 69), Row(69, 4, 13, (None, SHA256), 119, 124)],
        ["event.digest-missing"],
    ),
    Case(
        "no digest at all",
        SPEC_ID_EVENT + event2(b"", count=0),
        "crypto-agile",
        [Row(0, 0, 3, (None, None), 32, 69), Row(69, 4, 13, (None, None), 85, 90)],
        ["event.digest-missing"],
    ),
    Case(
        "ccel",
        b"\x01" + SPEC_ID_EVENT[1:],
        "ccel",
        [Row(0, 1, 3, (None, None), 32, 69)],
        [],
    ),
    Case("sha1 format", LEGACY, "sha1", [Row(0, 0, 8, (SHA1,), 32, 34)], []),
    Case("sha1 format, twice", LEGACY * 2, "sha1", [Row(0, 0, 8, (SHA1,), 32, 34), Row(34, 0, 8, (SHA1,), 66, 68)], []),
    Case(
        "sha1 format from post code",
        b"\0\0\0\0\x01" + LEGACY[5:],
        "sha1",
        [Row(0, 0, 1, (SHA1,), 32, 34)],
        [],
    ),
    Case(
        "sha1 format from contents",
        b"\0\0\0\0\x07" + LEGACY[5:],
        "sha1",
        [Row(0, 0, 7, (SHA1,), 32, 34)],
        [],
    ),
    Case(
        "no action on another register",
        b"\xff\xff\xff\xff\x03" + LEGACY[5:],
        "sha1",
        [Row(0, 0xFFFFFFFF, 3, (SHA1,), 32, 34)],
        [],
    ),
    Case(
        "a windows trust point, and nothing after it",
        LEGACY + b"\xff\xff\xff\xff\x03" + LEGACY[5:],
        "sha1",
        [Row(0, 0, 8, (SHA1,), 32, 34), Row(34, 0xFFFFFFFF, 3, (SHA1,), 66, 68)],
        [],
    ),
]

logs_table = pytest.mark.parametrize("case", LOGS, ids=lambda case: case.name)


@logs_table
def test_reading(case: Case) -> None:
    frame = frame_log(case.data)
    assert (frame.kind, list(frame.rows), [a.code for a in frame.anomalies]) == (case.kind, case.rows, case.codes)
    assert (frame.filler, frame.tail) == (None, None)


@logs_table
def test_cut_at_every_byte(case: Case) -> None:
    data, rows = case.data, case.rows
    boundaries = {row.data_end for row in rows}
    for cut in range(len(data)):
        if cut in boundaries:
            assert [r.offset for r in frame_log(data[:cut]).rows] == [r.offset for r in rows if r.data_end <= cut]
        else:
            with pytest.raises(TruncatedError):
                frame_log(data[:cut])


@logs_table
def test_trailing_bytes(case: Case) -> None:
    """One byte more is the start of an event that is cut short."""
    for byte in (b"\0", b"\x01", b"\xff"):
        with pytest.raises(TruncatedError) as caught:
            frame_log(case.data + byte)
        assert caught.value.offset == len(case.data)
        assert caught.value.path == f"events[{len(case.rows)}]"


@logs_table
@pytest.mark.parametrize("value", [0x00, 0xFF])
@pytest.mark.parametrize("length", [32, 33, 4096, 65_536, 65_537, 200_001])
def test_filler(case: Case, value: int, length: int) -> None:
    frame = frame_log(case.data + bytes([value]) * length)
    assert list(frame.rows) == case.rows
    assert frame.filler == Filler(offset=len(case.data), length=length, value=value)
    assert frame.tail is None


@pytest.mark.parametrize(
    ("start", "value", "least"), [(SPEC_ID_EVENT, 0xFF, 5), (SPEC_ID_EVENT, 0, 9), (LEGACY, 0xFF, 5), (LEGACY, 0, 32)]
)
def test_least_filler(start: bytes, value: int, least: int) -> None:
    """A real event can begin with four 0xFF, and with as many zeros as stand before its digests; not with more."""
    for length in range(1, least):
        with pytest.raises(TruncatedError):
            frame_log(start + bytes([value]) * length)
    for length in range(least, 3 * least):
        assert frame_log(start + bytes([value]) * length).filler == Filler(
            offset=len(start), length=length, value=value
        )


def test_an_event_that_is_all_zero_at_the_end_is_filler() -> None:
    """PCR 0, EV_PREBOOT_CERT, no digest, no data cannot be told from unused memory; in the midst it is an event."""
    empty = bytes(16)
    assert len(frame_log(SPEC_ID_EVENT + empty).rows) == 1
    assert [r.offset for r in frame_log(SPEC_ID_EVENT + empty + SEPARATOR).rows] == [0, 69, 85]


@pytest.mark.parametrize("start", [SPEC_ID_EVENT, LEGACY], ids=["agile", "sha1"])
def test_bytes_after_erased_flash(start: bytes) -> None:
    """Events behind padding are no events: the log is then not complete (A37)."""
    data = start + b"\xff" * 64 + start
    frame = frame_log(data)
    assert (len(frame.rows), frame.tail, frame.filler) == (1, len(start), None)
    assert [a.code for a in frame.anomalies] == ["log.trailing-bytes"]
    log = EventLog.from_bytes(data)
    assert (log.complete, log.to_bytes()) == (False, data)


def test_events_behind_zeros_are_not_hidden() -> None:
    frame = frame_log(SPEC_ID_EVENT + bytes(32) + SEPARATOR)
    assert [r.offset for r in frame.rows] == [0, 69, 85, 101]
    assert [a.code for a in frame.anomalies] == ["event.digest-missing"] * 2
    with pytest.raises(FormatError):
        frame_log(SPEC_ID_EVENT + bytes(33) + SEPARATOR)


def changed(data: bytes, at: int, to: bytes) -> bytes:
    return data[:at] + to + data[at + len(to) :]


def spec_id(body: bytes, extra: bytes = b"") -> bytes:
    return struct.pack("<II20sI", 0, 3, bytes(20), len(body)) + body + extra


BODY = SPEC_ID_EVENT[32:]
BAD: list[tuple[str, bytes, type[FormatError], int | None, str | None, str]] = [
    ("empty", b"", TruncatedError, 0, None, "empty"),
    ("31 bytes", SPEC_ID_EVENT[:31], TruncatedError, 0, "events[0]", "31 bytes are too few"),
    ("text", b"#!/bin/sh\necho this is not an event log at all\n", UnsupportedError, 0, "events[0]", "not an event log"),
    ("zeros", bytes(64), UnsupportedError, 0, "events[0]", "not an event log"),
    ("erased", b"\xff" * 64, UnsupportedError, 0, "events[0]", "not an event log"),
    ("version in PCR 1", b"\x01" + LEGACY[1:], UnsupportedError, 0, "events[0]", "register 1"),
    ("separator first", b"\0\0\0\0\x04" + LEGACY[5:], UnsupportedError, 0, "events[0]", "0x00000004"),
    ("4 GiB first", changed(SPEC_ID_EVENT, 28, b"\xff" * 4), TruncatedError, 28, "events[0].eventSize", "4294967295"),
    ("4 GiB", SPEC_ID_EVENT + changed(SEPARATOR, 68, b"\xff" * 4), TruncatedError, START + 68, "events[1].eventSize", "4294967295"),
    ("2 GiB", SPEC_ID_EVENT + changed(SEPARATOR, 68, b"\0\0\0\x80"), TruncatedError, START + 68, "events[1].eventSize", "2147483648"),
    ("4 GiB, sha1", LEGACY + changed(LEGACY, 28, b"\xff" * 4), TruncatedError, 62, "events[1].eventSize", "4294967295"),
    ("2^31 digests", SPEC_ID_EVENT + changed(SEPARATOR, 8, b"\0\0\0\x80"), FormatError, START + 8, "events[1].digests", "2147483648 digests"),
    ("2^32-1 digests", SPEC_ID_EVENT + changed(SEPARATOR, 8, b"\xff" * 4), FormatError, START + 8, "events[1].digests", "4294967295 digests"),
    ("unknown algorithm", SPEC_ID_EVENT + changed(SEPARATOR, 34, b"\x99\0"), FormatError, START + 34, "events[1].digests[1]", "0x0099"),
    ("the same twice", SPEC_ID_EVENT + changed(SEPARATOR, 34, b"\x04\0"), FormatError, START + 34, "events[1].digests[1]", "second digest for sha1"),
    ("no algorithm", spec_id(changed(BODY, 24, bytes(4))), FormatError, 56, "events[0].event.numberOfAlgorithms", "no algorithm"),
    ("2^31 algorithms", spec_id(changed(BODY, 24, b"\0\0\0\x80")), TruncatedError, 56, "events[0].event.numberOfAlgorithms", "2147483648"),
    ("sha1 declared twice", spec_id(changed(BODY, 32, b"\x04\0\x14\0")), FormatError, 64, "events[0].event.digestSizes[1]", "sha1 is declared twice"),
    ("sha256 of 20 bytes", spec_id(changed(BODY, 34, b"\x14\0")), FormatError, 64, "events[0].event.digestSizes[1]", "it has 32"),
    ("unknown of 0 bytes", spec_id(changed(BODY, 32, b"\x99\0\0\0")), FormatError, 64, "events[0].event.digestSizes[1]", "0 bytes"),
    ("vendor info cut", spec_id(changed(BODY, 36, b"\x02") + b"x"), TruncatedError, 68, "events[0].event.vendorInfoSize", "2 bytes of vendor"),
    ("vendor info past the end", spec_id(changed(BODY, 36, b"\x02"), b"x"), TruncatedError, 68, "events[0].event.vendorInfoSize", "2 bytes of vendor"),
    ("spec id ends early", spec_id(BODY[:20]), TruncatedError, 48, "events[0].event.numberOfAlgorithms", "ends before"),
    ("spec id without vendorInfoSize", spec_id(BODY[:-1]), TruncatedError, 68, "events[0].event.vendorInfoSize", "ends before"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "kind", "offset", "path", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_refusals(data: bytes, kind: type[FormatError], offset: int | None, path: str | None, words: str) -> None:
    with pytest.raises(FormatError) as caught:
        frame_log(data)
    error = caught.value
    assert (type(error), error.offset, error.path) == (kind, offset, path)
    assert words in str(error)
    assert path is None or str(error).startswith(path)
    assert path is None or error.clause in {"PFP 10.2.1", "PFP 10.2.2", "PFP 10.4.5.1"}


def test_unknown_algorithms_are_kept() -> None:
    body = changed(BODY, 32, b"\x99\0\x03\0")
    data = spec_id(body) + event2(b"\x04\0" + SHA1 + b"\x99\0abc")
    log = EventLog.from_bytes(data)
    assert log.algorithms == ("sha1", "0x0099")
    assert dict(log[1].digests) == {"sha1": SHA1, "0x0099": b"abc"}
    assert log.to_bytes() == data


@pytest.mark.parametrize("size", [0, 1, 2, 255])
def test_the_uintn_size_is_kept_and_means_nothing(size: int) -> None:
    frame = frame_log(changed(SPEC_ID_EVENT, 32 + 23, bytes([size])) + SEPARATOR)
    assert frame.spec_id is not None
    assert (frame.spec_id.uintn_size, len(frame.rows)) == (size, 2)


@pytest.mark.parametrize(
    ("data", "vendor", "next_event", "codes"),
    [
        (spec_id(changed(BODY, 36, b"\x03") + b"abc"), b"abc", 72, []),
        (spec_id(changed(BODY, 36, b"\x03"), b"abc"), b"abc", 72, ["spec-id.vendor-info-outside"]),
        (spec_id(changed(BODY, 36, b"\x03") + b"abcde"), b"abc", 74, ["spec-id.trailing-bytes"]),
    ],
    ids=["inside", "outside", "more"],
)
def test_vendor_information(data: bytes, vendor: bytes, next_event: int, codes: list[str]) -> None:
    frame = frame_log(data + SEPARATOR)
    assert frame.spec_id is not None
    assert frame.spec_id.vendor_info == vendor
    assert frame.spec_id.spec_version == (2, 0, 0x69)
    assert frame.spec_id.uintn_size == 2
    assert frame.rows[1].offset == next_event
    assert [a.code for a in frame.anomalies] == codes


LIMITS: list[tuple[str, Limits, str | None]] = [
    ("log_size", Limits(log_size=len(SPEC_ID_EVENT + SEPARATOR) - 1), None),
    ("events", Limits(events=1), "events"),
    ("event_size", Limits(event_size=36), "events[0].eventSize"),
    ("algorithms", Limits(algorithms=1), "events[0].event.numberOfAlgorithms"),
]


@pytest.mark.parametrize(("limits", "path"), [row[1:] for row in LIMITS], ids=[row[0] for row in LIMITS])
def test_limits(limits: Limits, path: str | None) -> None:
    with pytest.raises(LimitExceededError) as caught:
        frame_log(SPEC_ID_EVENT + SEPARATOR, limits)
    assert caught.value.path == path
    (name,) = [
        n for n in ("log_size", "events", "event_size", "algorithms") if getattr(limits, n) != getattr(Limits(), n)
    ]
    wider = evolve(limits, **{name: getattr(limits, name) + 1})
    assert len(frame_log(SPEC_ID_EVENT + SEPARATOR, wider).rows) == 2


def test_limits_of_the_sha1_format_and_of_later_events() -> None:
    assert len(frame_log(LEGACY * 3, Limits(events=3)).rows) == 3
    with pytest.raises(LimitExceededError):
        frame_log(LEGACY * 3, Limits(events=2))
    big = SPEC_ID_EVENT + event2(IN_ORDER, data=bytes(38))
    assert len(frame_log(big, Limits(event_size=38)).rows) == 2
    with pytest.raises(LimitExceededError) as caught:
        frame_log(big, Limits(event_size=37))
    assert caught.value.path == "events[1].eventSize"


@pytest.mark.parametrize("wrong", ["text", None, 7])
def test_only_bytes_are_read(wrong: object) -> None:
    with pytest.raises(TypeError):
        EventLog.from_bytes(wrong)  # type: ignore[arg-type]


def test_all_buffers_are_read_alike() -> None:
    data = SPEC_ID_EVENT + SEPARATOR
    assert EventLog.from_bytes(bytearray(data)) == EventLog.from_bytes(memoryview(data)) == EventLog.from_bytes(data)
    assert isinstance(frame_log(data), Frame)


@pytest.mark.parametrize("name", hostile.CASES)
def test_hostile_files_end_in_200_megabytes(name: str) -> None:
    """The memory is the whole process's, the file of 64 MB and the interpreter included.

    How long it takes: ``python -m benchmarks.hostile``.
    """
    found = hostile.cost(hostile.CASES[name])
    assert found.outcome == hostile.CASES[name].outcome
    assert found.megabytes < 200


@pytest.mark.parametrize("value", [b"\0", b"\xff"])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 5000, 300_000])
def test_where_a_uniform_tail_begins(value: bytes, length: int) -> None:
    other = b"\xff" if value == b"\0" else b"\0"
    for start in (b"", b"a", b"a" * 70, other * 3, value + other):
        assert uniform_tail(start + value * length) == len(start)
    assert uniform_tail(value * length + b"a") == length + 1
    assert uniform_tail(b"") == 0
