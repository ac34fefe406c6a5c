"""Appraisal of a log whose quote somebody else verifies: the same verdicts, of another type, and the same refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedLog
from measlog.appraisal import AppraisalResult
from measlog.appraisal.unquoted import UnquotedLog, UnquotedResult
from measlog.errors import EvidenceError, ReplayError, SelectionError
from tests.appraisal.machine import QUOTED, good_log, machine
from tests.appraisal.test_captures import lab_manifest
from tests.conftest import FIXTURES

# Every capture whose log is in the crypto-agile format and has the bank.
CAPTURES = [
    "flatcar-lab-good",
    "slot-b",
    "flatcar-lab-tampered",
    "tampered-kernel",
    "tampered-secure-boot-off",
    "tampered-mok-key",
    "tampered-log-cut",
]


def log(forged: ForgedLog) -> ml.EventLog:
    return ml.EventLog.from_bytes(forged.put_together())


@cache
def verifier() -> ml.Verifier:
    return ml.Verifier([lab_manifest("flatcar-lab-good")], policy=ml.policy.flatcar())


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("quoted", [QUOTED, (4, 7, 8, 9, 14), (0, 8)])
def test_the_verdict_is_that_of_a_quote_over_the_same_registers(name: str, quoted: tuple[int, ...]) -> None:
    made = good_log(name)
    with_quote = verifier().appraise(machine(made, quoted=quoted))
    without = verifier().unsafe_appraise_unquoted(log(made), pcrs=quoted)
    for field in ("status", "findings", "checked", "not_covered", "identified", "quirks", "bank", "policy"):
        assert getattr(without, field) == getattr(with_quote, field)
    assert without.assumed == tuple(sorted(quoted))


def test_the_result_is_of_another_type_and_no_truth_value() -> None:
    result = verifier().unsafe_appraise_unquoted(log(good_log()), pcrs=QUOTED)
    assert isinstance(result, UnquotedResult)
    assert not isinstance(result, AppraisalResult)
    for attribute in ("ak_trust", "ak_fingerprint", "clock_info"):
        assert not hasattr(result, attribute)
    with pytest.raises(TypeError, match=r"^an appraisal result is not true or false: compare result\.status$"):
        bool(result)


def test_an_unquoted_log_is_no_evidence() -> None:
    assumed = UnquotedLog.assume(log(good_log()), bank="sha256", pcrs=QUOTED)
    with pytest.raises(TypeError, match="only VerifiedEvidence"):
        verifier().appraise(assumed)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="only VerifiedEvidence"):
        verifier().appraise(assumed.log)  # type: ignore[arg-type]


def test_values_are_the_logs_and_start_values_elsewhere() -> None:
    """The values of the good capture are what its TPM reported; PCR 17 starts as ones (PC Client Platform TPM Profile)."""
    reported = json.loads((FIXTURES / "flatcar-lab-good" / "pcrs.json").read_text())["sha256"]
    assumed = UnquotedLog.assume(log(good_log()), bank="sha256", pcrs=[17, *range(15)])
    assert assumed.values == {**{pcr: bytes.fromhex(reported[str(pcr)]) for pcr in range(15)}, 17: b"\xff" * 32}
    assert assumed.unexplained == ()
    with pytest.raises(TypeError):
        assumed.values[0] = b""  # type: ignore[index]


def test_a_register_that_was_not_compared_is_not_quoted() -> None:
    result = verifier().unsafe_appraise_unquoted(log(good_log()), pcrs=[pcr for pcr in QUOTED if pcr != 9])
    assert result.status == "contraindicated"
    assert [(f.code, f.pcr) for f in result.findings if f.severity == "error"] == [("register.not-quoted", 9)]


@pytest.mark.parametrize(
    ("bank", "pcrs", "kind", "check", "said"),
    [
        ("sha1", QUOTED, SelectionError, "bank", "the bank sha1 is not accepted"),
        ("sha512", QUOTED, ReplayError, "bank-missing", None),
        ("md5", QUOTED, ReplayError, "bank-missing", None),
        ("sha256", (), ReplayError, "nothing-compared", "the log explains none of the sha256 registers"),
        ("sha384", (11, 12, 23), ReplayError, "nothing-compared", "the log explains none of the sha384 registers"),
        ("sha256", (0, 25, 24), SelectionError, "selection", "there is no PCR 24"),
        ("sha256", (-1, 0), SelectionError, "selection", "there is no PCR -1"),
    ],
)
def test_what_a_quote_would_not_prove_either(
    bank: str, pcrs: Iterable[int], kind: type[EvidenceError], check: str, said: str | None
) -> None:
    with pytest.raises(kind) as caught:
        verifier().unsafe_appraise_unquoted(log(good_log()), bank=bank, pcrs=pcrs)
    assert caught.value.check == check
    assert said is None or str(caught.value) == said


def test_registers_that_one_event_explains_and_the_last_that_there_is() -> None:
    """One of the registers is enough for a comparison; PCR 23 exists."""
    assumed = UnquotedLog.assume(log(good_log()), bank="sha256", pcrs=iter([23, 12, 4, 4]))
    assert list(assumed.values) == [4, 12, 23]
    assert (assumed.bank, assumed.open_ended) == ("sha256", frozenset())
    assert assumed.values[12] == assumed.values[23] == bytes(32)
    assert [e.index for e in assumed.joined] == [e.index for e in assumed.log]


def test_a_log_that_does_not_end_is_refused() -> None:
    data = good_log().put_together() + b"\xff" * 64 + b"x"
    with pytest.raises(ReplayError) as caught:
        verifier().unsafe_appraise_unquoted(ml.EventLog.from_bytes(data), pcrs=QUOTED)
    assert caught.value.check == "log-incomplete"
    assert str(caught.value) == "the log is followed by bytes that are neither events nor filler"


def test_a_ccel_is_refused() -> None:
    """The same events behind the header that makes a log a CCEL: its Spec ID event is on register 1."""
    made = good_log()
    header = bytearray(made.header)
    header[0] = 1
    ccel = ml.EventLog.from_bytes(replace(made, header=bytes(header)).put_together())
    assert ccel.kind == "ccel"
    with pytest.raises(ReplayError) as caught:
        verifier().unsafe_appraise_unquoted(ccel, bank="sha384", pcrs=[0])
    assert caught.value.check == "log-kind"
    assert str(caught.value) == "the log is a CCEL: its registers are RTMRs, which no TPM quotes"
