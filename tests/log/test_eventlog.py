"""The event log as its users hold it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from measlog import EventLog, EventType, Limits, Register, ReplayedLog
from measlog.errors import FormatError, ReplayError
from measlog.formats.pfp import LogEvent, build_log, startup_locality_event
from tests.log import independent

SHA1, SHA256 = bytes(range(20)), bytes(range(32))
BOTH = {"sha1": SHA1, "sha256": SHA256}
ZEROS = {"sha1": bytes(20), "sha256": bytes(32)}


def log_of(*events: LogEvent, ccel: bool = False) -> EventLog:
    return EventLog.from_bytes(build_log(events, spec_id_register=int(ccel)))


SMALL = log_of(
    LogEvent(0, 8, BOTH, b"v\0"), LogEvent(4, 0x80000003, BOTH, b"image"), LogEvent(4, 0x12345678, BOTH, b"")
)


def test_sequence() -> None:
    assert len(SMALL) == 4
    assert [e.index for e in SMALL] == [0, 1, 2, 3]
    assert SMALL[-1] == SMALL[3]
    assert [e.index for e in SMALL[1:3]] == [1, 2]
    assert [e.index for e in SMALL[::-1]] == [3, 2, 1, 0]
    assert SMALL[2] in SMALL
    assert SMALL.index(SMALL[2]) == 2
    for index in (4, -5):
        with pytest.raises(IndexError, match="the log has 4 events"):
            SMALL[index]


def test_event() -> None:
    event = SMALL[2]
    assert event.register == Register("pcr", 4)
    assert event.pcr == 4
    assert event.type is EventType.EV_EFI_BOOT_SERVICES_APPLICATION
    assert event.digests == BOTH
    assert event.raw == b"image"
    assert SMALL.to_bytes()[event.offset :].startswith(b"\4\0\0\0\3\0\0\x80")
    unknown = SMALL[3].type
    assert (int(unknown), unknown.known, unknown.name) == (0x12345678, False, "EV_0x12345678")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.raw = b"other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("index", "ccel", "register", "pcr"),
    [
        (0, False, Register("pcr", 0), 0),
        (23, False, Register("pcr", 23), 23),
        (24, False, Register("none", 24), None),
        (0xFFFFFFFF, False, Register("none", 0xFFFFFFFF), None),
        (0, True, Register("mrtd", 0), None),
        (1, True, Register("rtmr", 0), None),
        (4, True, Register("rtmr", 3), None),
        (5, True, Register("none", 5), None),
    ],
)
def test_registers(index: int, ccel: bool, register: Register, pcr: int | None) -> None:
    """PFP 10.2.2 for PCRs; TDX Virtual Firmware Design Guide for MR indices: 0 is MRTD, 1 to 4 are RTMR 0 to 3."""
    log = log_of(LogEvent(index, 0xD, BOTH, b"x"), ccel=ccel)
    assert (log[1].register, log[1].pcr) == (register, pcr)
    known = register.kind != "none"
    assert [a.code for a in log.anomalies] == ([] if known else ["event.register"])
    assert len(log.replay("sha256")) == (1 if register.kind in {"pcr", "rtmr"} else 0)


ANOMALIES: list[tuple[str, LogEvent, list[str]]] = [
    ("a trust point on no register", LogEvent(0xFFFFFFFF, 3, BOTH, b"x"), []),
    ("no action with a digest", LogEvent(1, 3, BOTH, b"x"), ["event.no-action-digest"]),
    ("no action with a digest in one bank", LogEvent(1, 3, {**ZEROS, "sha256": SHA256}, b"x"), ["event.no-action-digest"]),
    ("no action", LogEvent(1, 3, ZEROS, b"x"), []),
    ("unused type", LogEvent(1, 2, BOTH, b"x"), ["event.unused-type"]),
    ("second Spec ID event", LogEvent(0, 3, ZEROS, b"Spec ID Event03\0"), ["event.second-spec-id"]),
    ("startup locality 1", LogEvent(0, 3, ZEROS, b"StartupLocality\0\1"), ["event.startup-locality"]),
    ("digest order", LogEvent(1, 1, dict(reversed(BOTH.items())), b"x"), ["event.digest-order"]),
    ("digest missing", LogEvent(1, 1, {"sha1": SHA1}, b"x"), ["event.digest-missing"]),
    ("no register", LogEvent(77, 1, BOTH, b"x"), ["event.register"]),
    ("nothing", LogEvent(1, 1, BOTH, b"x"), []),
]  # fmt: skip


@pytest.mark.parametrize(("event", "codes"), [a[1:] for a in ANOMALIES], ids=[a[0] for a in ANOMALIES])
def test_anomalies(event: LogEvent, codes: list[str]) -> None:
    log = log_of(LogEvent(4, 1, BOTH, b"before"), event)
    assert [(a.code, a.event) for a in log.anomalies] == [(code, 2) for code in codes]
    assert all(a.message for a in log.anomalies)


def test_anomalies_stand_in_the_order_of_the_events() -> None:
    data = build_log(
        [LogEvent(1, 2, BOTH, b""), LogEvent(77, 1, {"sha1": SHA1}, b"")], vendor_info=b"x", vendor_info_outside=True
    )
    log = EventLog.from_bytes(data + b"\xff" * 20 + b"x")
    assert [(a.code, a.event) for a in log.anomalies] == [
        ("spec-id.vendor-info-outside", 0),
        ("event.unused-type", 1),
        ("event.digest-missing", 2),
        ("event.register", 2),
        ("log.trailing-bytes", None),
    ]
    assert not log.complete


def test_header_and_filler() -> None:
    log = EventLog.from_bytes(build_log([], vendor_info=b"v", filler=bytes(40)))
    assert log.spec_id is not None
    assert (log.spec_id.vendor_info, log.spec_id.platform_class, log.spec_id.spec_version) == (b"v", 0, (2, 0, 0))
    assert log.filler is not None
    assert (log.filler.value, log.filler.length) == (0, 40)
    legacy = EventLog.from_bytes(build_log([LogEvent(0, 8, {"sha1": SHA1}, b"")], algorithms=None))
    assert (legacy.spec_id, legacy.filler, legacy.kind) == (None, None, "sha1")


def test_equality_follows_the_bytes() -> None:
    same, other = EventLog.from_bytes(SMALL.to_bytes()), log_of()
    assert same == SMALL
    assert hash(same) == hash(SMALL)
    assert same != other
    assert SMALL.to_bytes() != SMALL
    assert repr(SMALL) == f"<EventLog crypto-agile: 4 events, sha1, sha256, {len(SMALL.to_bytes())} bytes>"


def test_pickling_reads_the_bytes_again() -> None:
    """What a pickle claims about the events counts for nothing; only its bytes do."""
    limited = EventLog.from_bytes(SMALL.to_bytes(), limits=Limits(events=4))
    assert pickle.loads(pickle.dumps(limited)) == SMALL
    claimed: Any = SMALL.__reduce__()
    assert claimed == (EventLog, (SMALL.to_bytes(), Limits()))
    with pytest.raises(FormatError):
        claimed[0](SMALL.to_bytes(), Limits(events=3))
    assert copy.deepcopy(SMALL) == copy.copy(SMALL) == SMALL


def test_register_values_cannot_be_changed() -> None:
    bank = SMALL.replay("sha256")
    assert SMALL.replay("sha256") is bank
    with pytest.raises(TypeError):
        bank.values_by_index[4] = bytes(32)  # type: ignore[index]
    assert pickle.loads(pickle.dumps(bank)) == bank


def test_replay_refusals() -> None:
    with pytest.raises(ReplayError, match="the log has no sha384 digests, it has sha1, sha256") as caught:
        SMALL.replay("sha384")
    assert caught.value.check == "bank-missing"
    odd = EventLog.from_bytes(build_log([LogEvent(1, 1, {"0x0099": b"abc"}, b"")], algorithms=[(0x99, 3)]))
    with pytest.raises(ReplayError, match="0x0099 is unknown") as caught:
        odd.replay("0x0099")
    assert caught.value.check == "algorithm"


@pytest.mark.parametrize("missing", ["sha1", "sha256"])
def test_a_bank_with_a_missing_digest_is_refused_and_the_other_is_not(missing: str) -> None:
    (kept,) = {"sha1", "sha256"} - {missing}
    log = log_of(LogEvent(4, 0xD, BOTH, b""), LogEvent(4, 0xD, {kept: BOTH[kept]}, b""))
    for refuse in (log.replay, lambda bank: log.verify_pcrs(bank, {4: b""})):
        with pytest.raises(ReplayError, match=rf"events\[2\]: the event has no digest for {missing}") as caught:
            refuse(missing)
        assert caught.value.check == "digest-missing"
    assert dict(log.replay(kept)) == independent.replay(log.to_bytes(), kept)


GOOD = independent.replay(SMALL.to_bytes(), "sha256")
WRONG: list[tuple[str, dict[int, bytes], str, list[str]]] = [
    ("nothing", {}, "nothing-compared", ["no register values"]),
    ("another value", {4: bytes(32)}, "replay", ["PCR 4 is 0000", "the log gives " + GOOD[4].hex()]),
    ("two other values", {0: bytes(32), 4: bytes(32)}, "replay", ["PCR 0 is 0000", "PCR 4 is 0000"]),
    ("a register without events", {7: SHA256}, "replay", ["PCR 7 is 0001", "no event for it"]),
    ("a dynamic register at zero", {17: bytes(32)}, "replay", ["PCR 17 is 0000", "no event for it"]),
    ("too short", {4: GOOD[4][:-1]}, "replay", ["PCR 4 is given with 31 bytes, sha256 has 32"]),
    ("of another bank", {4: SHA1}, "replay", ["PCR 4 is given with 20 bytes"]),
    ("too long", {4: GOOD[4] + b"\0"}, "replay", ["PCR 4 is given with 33 bytes"]),
    ("empty", {4: b""}, "replay", ["PCR 4 is given with 0 bytes"]),
    ("PCR 24", {24: bytes(32)}, "replay", ["PCR 24 does not exist"]),
    ("PCR -1", {-1: bytes(32)}, "replay", ["PCR -1 does not exist"]),
]  # fmt: skip


@pytest.mark.parametrize(("values", "check", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_values_that_do_not_agree(values: dict[int, bytes], check: str, words: list[str]) -> None:
    # The right ones beside them change nothing.
    for given in (values, {**GOOD, **values} if values else {}):
        with pytest.raises(ReplayError) as caught:
            SMALL.verify_pcrs("sha256", given)
        assert caught.value.check == check
        assert all(word in str(caught.value) for word in words)


def test_values_that_agree() -> None:
    given = {**GOOD, 7: bytes(32), 17: b"\xff" * 32, 22: b"\xff" * 32, 23: bytes(32)}
    proof = SMALL.verify_pcrs("sha256", given)
    given[4] = bytes(32)
    assert proof.values[4] == GOOD[4]
    assert proof.unmeasured == (7, 17, 22, 23)
    assert (proof.algorithm, proof.log, proof.bank) == ("sha256", SMALL, SMALL.replay("sha256"))
    assert "values" not in repr(proof)


def test_rtmr_values() -> None:
    log = log_of(LogEvent(0, 0xD, BOTH, b"never extended"), LogEvent(2, 0xD, BOTH, b"x"), ccel=True)
    wanted = independent.replay(log.to_bytes(), "sha256")[2]
    proof = log.verify_pcrs("sha256", {1: wanted, 0: bytes(32), 3: bytes(32)})
    assert proof.unmeasured == (0, 3)
    assert proof.bank.unmeasured == (0, 2, 3)
    with pytest.raises(ReplayError, match="RTMR 4 does not exist"):
        log.verify_pcrs("sha256", {4: bytes(32)})


def test_a_replayed_log_is_not_made_by_hand() -> None:
    proof: Any = SMALL.verify_pcrs("sha256", GOOD)
    forged = {0: bytes(32)}
    for forge in (
        lambda: ReplayedLog(log=SMALL, bank=proof.bank, values=forged),
        lambda: ReplayedLog(log=SMALL, bank=proof.bank, values=forged, proof=object()),
        lambda: attrs.evolve(proof, values=forged),
        lambda: copy.copy(proof),
        lambda: copy.deepcopy(proof),
        lambda: pickle.dumps(proof),
        lambda: proof.__class__.__setstate__(proof, {"values": forged}),
        lambda: type("Forged", (ReplayedLog,), {}),
        lambda: setattr(proof, "values", forged),
        lambda: proof.values.__setitem__(0, bytes(32)),
    ):
        with pytest.raises((TypeError, AttributeError)):
            forge()
    assert not hasattr(object.__new__(ReplayedLog), "values")
    assert proof.values == GOOD


def test_a_startup_locality_sets_pcr_0_alone() -> None:
    log = log_of(startup_locality_event(3, ["sha1", "sha256"]))
    assert dict(log.replay("sha256")) == {0: bytes(31) + b"\3"}
    assert log.replay("sha256").unmeasured == tuple(range(1, 24))
    log.verify_pcrs("sha256", {0: bytes(31) + b"\3"})
