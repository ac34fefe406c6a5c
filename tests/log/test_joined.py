"""Several logs joined into one history of each register.

Expected registers: those that the TPM of the captures reported, and folds made here with hashlib.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

import measlog as ml
from measlog.errors import ReplayError
from measlog.interop.systemdlog import SystemdRecord, read_userspace_log
from measlog.log import EventLog, FurtherEvent, JoinedLog
from measlog.log.joined import SYSTEM_PCRS, UNTYPED
from measlog.records.base import Text
from measlog.registry import Register
from tests.conftest import FIXTURES, shared_path

BANKS = ("sha1", "sha256", "sha384")


@frozen
class Record:
    """The least that a further log has to offer: nothing of the library."""

    register: Register
    digests: Mapping[str, bytes]
    text: str = ""


def pcr(index: int, text: str = "x", banks: tuple[str, ...] = BANKS) -> Record:
    return Record(Register("pcr", index), {b: hashlib.new(b, text.encode()).digest() for b in banks}, text)


def log(name: str = "uki") -> EventLog:
    return EventLog.from_bytes((FIXTURES / name / "binary_bios_measurements").read_bytes())


def records(name: str = "uki") -> tuple[SystemdRecord, ...]:
    return read_userspace_log((FIXTURES / name / "tpm2-measure.log").read_bytes())


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("name", ["uki", "uki-sb-off", "uki-tampered-cmdline"])
def test_the_registers_are_those_of_the_tpm(name: str, bank: str) -> None:
    reported = json.loads((FIXTURES / name / "pcrs.json").read_text())[bank]
    found = JoinedLog.of(log(name), {"systemd": records(name)}).replay(bank)
    # PCR 10 is IMA's, whose log is not among these.
    assert {i: v.hex() for i, v in found.items()} == {i: reported[str(i)] for i in found}
    assert 11 in found
    assert found[11] != log(name).replay(bank)[11]


def test_events_know_where_they_are_from() -> None:
    joined = JoinedLog.of(log(), {"systemd": records()})
    history = joined.history(Register("pcr", 11))
    assert [type(e) is FurtherEvent for e in history] == [False] * 8 + [True] * 4
    assert [e.index for e in joined] == list(range(len(log()) + 4))
    last = joined[-1]
    assert isinstance(last, FurtherEvent)
    assert (last.source, last.offset, last.text, last.type, last.pcr) == ("systemd", 3, "ready", UNTYPED, 11)
    assert last.check("sha256").status == "matches"
    assert last.trust("text", "sha256") == "authenticated"
    assert last.check("sha512").status == "no_digest"
    assert last.data == Text(text="ready")
    assert joined[0] == log()[0]
    assert joined[-len(joined)] == log()[0]
    assert [e.index for e in joined[44:47]] == [44, 45, 46]
    with pytest.raises(IndexError):
        joined[len(joined)]
    with pytest.raises(IndexError):
        joined[-len(joined) - 1]


def test_text_that_was_not_hashed_is_nobodys_word() -> None:
    secret = Record(Register("pcr", 15), {b: bytes(hashlib.new(b).digest_size) for b in BANKS}, "cryptsetup:root")
    (event,) = JoinedLog.of(log(), {"systemd": [secret]}).further
    assert event.check("sha256").status == "not_derivable"
    assert event.trust("text", "sha256") == "unauthenticated"


def test_without_further_logs_nothing_changes() -> None:
    joined = JoinedLog.of(log(), {})
    assert joined.replay("sha256") is joined.firmware.replay("sha256")
    assert list(joined) == list(log())


@given(st.lists(st.tuples(st.sampled_from(sorted(SYSTEM_PCRS)), st.text(max_size=8)), max_size=6))
def test_values_are_folds_behind_the_firmwares(steps: list[tuple[int, str]]) -> None:
    firmware = log()
    values = dict(firmware.replay("sha256"))
    for index, text in steps:
        before = values.get(index, bytes(32))
        values[index] = hashlib.sha256(before + hashlib.sha256(text.encode()).digest()).digest()
    joined = JoinedLog.of(firmware, {"systemd": [pcr(i, t) for i, t in steps]})
    assert dict(joined.replay("sha256")) == values
    replayed = joined.verify_pcrs("sha256", values)
    assert list(replayed.joined) == list(joined)


def test_an_nvpcr_extends_no_register() -> None:
    record = Record(Register("none", 0x01D10200), {"sha256": bytes(32)}, "product-id:missing")
    joined = JoinedLog.of(log(), {"systemd": [record]})
    assert dict(joined.replay("sha384")) == dict(log().replay("sha384"))
    assert [e.text for e in joined.further] == ["product-id:missing"]


@pytest.mark.parametrize("index", sorted(set(range(24)) - SYSTEM_PCRS))
def test_registers_of_the_firmware_are_not_the_systems_to_claim(index: int) -> None:
    with pytest.raises(ReplayError, match=rf"systemd\[1\]: PCR {index} is not one") as caught:
        JoinedLog.of(log(), {"systemd": [pcr(11), pcr(index)]})
    assert caught.value.check == "further-register"


def test_registers_that_no_tpm_has() -> None:
    for register in (Register("rtmr", 2), Register("pcr", 24), Register("mrtd", 0)):
        with pytest.raises(ReplayError) as caught:
            JoinedLog.of(log(), {"x": [Record(register, {"sha256": bytes(32)})]})
        assert caught.value.check == "further-register"


def test_a_register_has_one_source() -> None:
    with pytest.raises(ReplayError, match=r"ima\[0\]: systemd claims PCR 10 too") as caught:
        JoinedLog.of(log(), {"systemd": [pcr(11), pcr(10)], "ima": [pcr(10)]})
    assert caught.value.check == "further-register"
    assert JoinedLog.of(log(), {"systemd": [pcr(11), pcr(11)], "ima": [pcr(10)]}).further[2].source == "ima"


@pytest.mark.parametrize("size", [0, 20, 31, 33, 48])
def test_digests_have_their_algorithms_length(size: int) -> None:
    with pytest.raises(ReplayError, match=f"a sha256 digest of {size} bytes") as caught:
        JoinedLog.of(log(), {"x": [Record(Register("pcr", 11), {"sha256": bytes(size)})]})
    assert caught.value.check == "further-digest"


def test_a_bank_that_a_record_lacks_is_not_known() -> None:
    joined = JoinedLog.of(log(), {"x": [pcr(11, banks=("sha1",))]})
    assert joined.replay("sha1")
    with pytest.raises(ReplayError, match=r"x\[0\]: no digest for sha256") as caught:
        joined.replay("sha256")
    assert caught.value.check == "digest-missing"
    strange = Record(Register("pcr", 11), {**pcr(11).digests, "0x0099": b"?"})
    assert JoinedLog.of(log(), {"x": [strange]}).replay("sha256")


def test_a_ccel_is_joined_with_nothing() -> None:
    ccel = EventLog.from_bytes(shared_path("corpus", "logs", "ccel-event-log.bin").read_bytes())
    with pytest.raises(ReplayError) as caught:
        JoinedLog.of(ccel, {"systemd": [pcr(11)]})
    assert caught.value.check == "further-log"


def test_a_difference_names_the_register() -> None:
    joined = JoinedLog.of(log(), {"systemd": records()[:3]})
    reported = {11: bytes.fromhex(json.loads((FIXTURES / "uki" / "pcrs.json").read_text())["sha256"]["11"])}
    with pytest.raises(ReplayError, match="PCR 11 is"):
        joined.verify_pcrs("sha256", reported)
    assert isinstance(JoinedLog.of(log(), {"systemd": records()}).verify_pcrs("sha256", reported), ml.ReplayedLog)
