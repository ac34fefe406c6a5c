"""The value of a register after each event, folded a second time with ``hashlib`` alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import pytest

from measlog import EventLog
from measlog.formats.pfp import LogEvent, build_log, startup_locality_event
from measlog.replay.history import register_history
from tests.log import independent

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
ZERO = bytes(32)
D1, D2 = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()


def extend(state: bytes, *digests: bytes) -> bytes:
    for digest in digests:
        state = hashlib.sha256(state + digest).digest()
    return state


def history(*events: LogEvent, ccel: bool = False) -> list[bytes | None]:
    """Behind the Spec ID event, which extends nothing."""
    log = EventLog.from_bytes(build_log(events, algorithms=["sha256"], spec_id_register=int(ccel)))
    kind: Literal["pcr", "rtmr"] = "rtmr" if log.kind == "ccel" else "pcr"
    found = register_history(log.to_bytes(), log.rows, algorithm="sha256", column=0, kind=kind)
    assert len(found) == len(log)
    return found[1:]


def event(register: int, digest: bytes, kind: int = 0xD) -> LogEvent:
    return LogEvent(register, kind, {"sha256": digest}, b"x")


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
@pytest.mark.parametrize("name", ["flatcar-lab-good", "later-boot"])
def test_a_real_log_ends_with_its_registers(name: str, bank: str) -> None:
    data = (FIXTURES / name / "binary_bios_measurements").read_bytes()
    log = EventLog.from_bytes(data)
    found = register_history(data, log.rows, algorithm=bank, column=log.algorithms.index(bank), kind="pcr")
    last = {e.pcr: value for e, value in zip(log, found, strict=True) if e.type != 3}
    assert last == independent.replay(data, bank)


def test_each_register_goes_its_own_way() -> None:
    found = history(event(4, D1), event(5, D2), event(4, ZERO, kind=3), event(4, D2))
    assert found == [extend(ZERO, D1), extend(ZERO, D2), extend(ZERO, D1), extend(ZERO, D1, D2)]


def test_where_registers_start() -> None:
    """PFP 10.4.5.3 for PCR 0, Part 1 of the TPM Library (17.1) for those of a dynamic launch."""
    locality = startup_locality_event(3, ["sha256"])
    assert history(locality, event(0, D1)) == [bytes(31) + b"\3", extend(bytes(31) + b"\3", D1)]
    assert history(event(17, D1)) == [extend(ZERO, D1)]
    assert history(event(17, ZERO, kind=3)) == [b"\xff" * 32]


def test_what_cannot_be_known_is_not_made_up() -> None:
    # A startup locality that is stated twice is no statement (A21); other registers go on.
    locality = startup_locality_event(3, ["sha256"])
    assert history(locality, locality, event(0, D1), event(1, D1)) == [None, None, None, extend(ZERO, D1)]
    # No such register.
    assert history(event(24, D1), event(23, D1)) == [None, extend(ZERO, D1)]
    # From an event without a digest of the bank on.
    both = {"sha1": bytes(20), "sha256": D1}
    log = EventLog.from_bytes(build_log([LogEvent(4, 0xD, both, b""), LogEvent(4, 0xD, {"sha1": bytes(20)}, b""),
                                         LogEvent(4, 0xD, both, b"")]))  # fmt: skip
    found = register_history(log.to_bytes(), log.rows, algorithm="sha256", column=1, kind="pcr")
    assert found == [ZERO, extend(ZERO, D1), None, None]
    # A hash that nobody knows.
    assert register_history(log.to_bytes(), log.rows, algorithm="0x0099", column=0, kind="pcr") == [None] * 4


def test_an_algorithm_that_this_python_cannot_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("measlog.replay.history.hash_constructor", lambda _: None)
    assert history(event(4, D1), event(5, D2)) == [None, None]


def test_registers_of_a_confidential_machine() -> None:
    """TDX Virtual Firmware Design Guide: 0 is MRTD, which no event extends; 1 to 4 are RTMR 0 to 3."""
    found = history(event(0, D1), event(1, D1), event(4, D2), event(5, D1), ccel=True)
    assert found == [None, extend(ZERO, D1), extend(ZERO, D2), None]
