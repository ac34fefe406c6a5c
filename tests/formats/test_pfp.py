"""The declared structures of event logs: each row is read, written, cut at every byte, and read with bytes left over."""

from __future__ import annotations

from typing import Any, NamedTuple

import construct
import pytest

from measlog import EventLog
from measlog.errors import FormatError, TruncatedError
from measlog.formats import declare
from measlog.formats.pfp import (
    TCG_PCR_EVENT,
    TCG_PCR_EVENT2,
    LogEvent,
    TCG_EfiSpecIDEvent,
    TCG_EfiStartupLocalityEvent,
    build_log,
    startup_locality_event,
)

SHA1, SHA256 = bytes(range(20)), bytes(range(32))
EVENT2 = TCG_PCR_EVENT2({0x0004: 20, 0x000B: 32, 0x0099: 3})


class Case(NamedTuple):
    """A structure, its bytes written by hand from the specification's table, its fields."""

    name: str
    declaration: Any
    data: bytes
    fields: dict[str, Any]


CASES = [
    Case(
        "TCG_PCR_EVENT",
        TCG_PCR_EVENT,
        bytes.fromhex("05000000 07000080") + SHA1 + bytes.fromhex("03000000 616263"),
        {"pcrIndex": 5, "eventType": 0x80000007, "digest": SHA1, "eventDataSize": 3, "event": b"abc"},
    ),
    Case(
        "TCG_PCR_EVENT without data",
        TCG_PCR_EVENT,
        bytes.fromhex("ffffffff 03000000") + SHA1 + bytes(4),
        {"pcrIndex": 0xFFFFFFFF, "eventType": 3, "digest": SHA1, "eventDataSize": 0, "event": b""},
    ),
    Case(
        "TCG_PCR_EVENT2",
        EVENT2,
        bytes.fromhex("04000000 03000080 02000000 0400") + SHA1 + b"\x0b\0" + SHA256 + bytes.fromhex("02000000 6869"),
        {
            "pcrIndex": 4,
            "eventType": 0x80000003,
            "digests": {"count": 2, "digests": [{"hashAlg": 4, "digest": SHA1}, {"hashAlg": 11, "digest": SHA256}]},
            "eventSize": 2,
            "event": b"hi",
        },
    ),
    Case(
        "TCG_PCR_EVENT2 in another order, with an unknown algorithm",
        EVENT2,
        bytes.fromhex("04000000 0d000000 02000000 9900 616263 0400") + SHA1 + bytes(4),
        {
            "pcrIndex": 4,
            "eventType": 13,
            "digests": {"count": 2, "digests": [{"hashAlg": 0x99, "digest": b"abc"}, {"hashAlg": 4, "digest": SHA1}]},
            "eventSize": 0,
            "event": b"",
        },
    ),
    Case(
        "TCG_PCR_EVENT2 without digests",
        EVENT2,
        bytes.fromhex("04000000 0d000000 00000000 01000000 78"),
        {"pcrIndex": 4, "eventType": 13, "digests": {"count": 0, "digests": []}, "eventSize": 1, "event": b"x"},
    ),
    Case(
        "TCG_EfiSpecIDEvent",
        TCG_EfiSpecIDEvent,
        b"Spec ID Event03\0" + bytes.fromhex("01000000 00 02 69 02 02000000 0400 1400 0b00 2000 02 7879"),
        {
            "signature": b"Spec ID Event03\0",
            "platformClass": 1,
            "specVersionMinor": 0,
            "specVersionMajor": 2,
            "specErrata": 0x69,
            "uintnSize": 2,
            "numberOfAlgorithms": 2,
            "digestSizes": [{"algorithmId": 4, "digestSize": 20}, {"algorithmId": 11, "digestSize": 32}],
            "vendorInfoSize": 2,
            "vendorInfo": b"xy",
        },
    ),
    Case(
        "TCG_EfiStartupLocalityEvent",
        TCG_EfiStartupLocalityEvent,
        bytes.fromhex("537461727475704c6f63616c69747900 03"),
        {"signature": b"StartupLocality\0", "startupLocality": 3},
    ),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
CLAUSE = "PFP 10.2"


def plain(value: object) -> object:
    """construct's containers as plain ones, without what is computed on the way."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if not k.startswith("_") and k not in {"bounded", "distinct"}}
    return [plain(v) for v in value] if isinstance(value, list) else value


@cases
def test_read(case: Case) -> None:
    assert plain(declare.parse(case.declaration, case.data, clause=CLAUSE)) == case.fields


@cases
def test_write(case: Case) -> None:
    assert declare.build(case.declaration, case.fields) == case.data


@cases
def test_sizes_and_counts_are_computed(case: Case) -> None:
    """Nobody has to give a length, so nobody can give a wrong one."""
    lengths = {"eventDataSize", "eventSize", "numberOfAlgorithms", "vendorInfoSize", "count", "signature"}

    def without(value: object) -> object:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k not in lengths}
        return value

    assert declare.build(case.declaration, without(case.fields)) == case.data


@cases
def test_cut_at_every_byte(case: Case) -> None:
    for cut in range(len(case.data)):
        with pytest.raises(TruncatedError) as caught:
            declare.parse(case.declaration, case.data[:cut], clause=CLAUSE)
        assert caught.value.offset == cut
        assert caught.value.clause == CLAUSE


@cases
def test_trailing_bytes(case: Case) -> None:
    with pytest.raises(FormatError, match="1 bytes are left over") as caught:
        declare.parse(case.declaration, case.data + b"\0", clause=CLAUSE)
    assert caught.value.offset == len(case.data)
    declare.parse(case.declaration, case.data + b"\0", clause=CLAUSE, exact=False)


@pytest.mark.parametrize(
    "digests",
    ["01000000 9800 616263", "02000000 9900 616263 9900 616263", "00000080", "ffffffff", "04000000 9900 616263"],
    ids=["undeclared algorithm", "the same twice", "2^31 digests", "2^32-1 digests", "more than declared"],
)
def test_impossible_digests(digests: str) -> None:
    data = bytes.fromhex("04000000 0d000000" + digests) + bytes(200)
    with pytest.raises(FormatError) as caught:
        declare.parse(EVENT2, data, clause=CLAUSE, exact=False)
    assert not isinstance(caught.value, TruncatedError)


def test_a_digest_of_the_wrong_length_is_not_written() -> None:
    with pytest.raises(construct.ConstructError):
        build_log([LogEvent(0, 1, {"sha1": bytes(19)}, b"")], algorithms=["sha1"])


def test_a_log_made_of_values() -> None:
    """Byte by byte what the specification prints."""
    event = LogEvent(4, 13, {"sha256": SHA256, "0x0099": b"abc"}, b"hello")
    data = build_log(
        [event],
        algorithms=["sha256", (0x0099, 3)],
        spec_id_register=1,
        vendor_info=b"xy",
        vendor_info_outside=True,
        filler=b"\xff" * 8,
    )
    assert data == (
        bytes.fromhex("01000000 03000000") + bytes(20) + bytes.fromhex("25000000")
        + b"Spec ID Event03\0" + bytes.fromhex("00000000 00 02 00 02 02000000 0b00 2000 9900 0300 02 7879")
        + bytes.fromhex("04000000 0d000000 02000000 0b00") + SHA256 + bytes.fromhex("9900 616263 05000000 68656c6c6f")
        + b"\xff" * 8
    )  # fmt: skip
    log = EventLog.from_bytes(data)
    assert (log.kind, log.algorithms, log[1].raw) == ("ccel", ("sha256", "0x0099"), b"hello")


def test_a_sha1_log_made_of_values() -> None:
    first = LogEvent(0, 8, {"sha1": SHA1}, b"v1")
    data = build_log([first, first], algorithms=None)
    assert data == (bytes.fromhex("00000000 08000000") + SHA1 + bytes.fromhex("02000000 7631")) * 2


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_startup_locality(locality: int) -> None:
    event = startup_locality_event(locality, ["sha1", "sha384"])
    assert (event.register, event.type) == (0, 3)
    assert event.digests == {"sha1": bytes(20), "sha384": bytes(48)}
    assert event.data == b"StartupLocality\0" + bytes([locality])
