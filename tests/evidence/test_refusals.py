"""What a refusal says: which check, which field, and the sentence that a person reads."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from measlog import EventLog, Evidence, Quote, VerifiedEvidence
from measlog.errors import EvidenceError, FormatError, PcrDigestError
from measlog.evidence import AttestationKey
from measlog.formats.pfp import LogEvent, build_log
from tests.evidence import quotes
from tests.evidence.machines import NONCE, evidence, log_bytes, registers

AK = quotes.ecc_key()
LOG = log_bytes()


def verify(given: Evidence, **options: Any) -> VerifiedEvidence:
    return given.verify(**{"ak": AK.public_key(), "nonce": NONCE, **options})


def ccel() -> Evidence:
    log = build_log([LogEvent(1, 4, {"sha384": bytes(48)}, b"")], algorithms=["sha384"], spec_id_register=1)
    return attrs.evolve(evidence(), log=EventLog.from_bytes(log))


def followed_by_bytes() -> Evidence:
    return attrs.evolve(evidence(), log=EventLog.from_bytes(LOG + b"\xff" * 64 + b"more"))


def twice() -> Evidence:
    values = registers(LOG, "sha256")
    message = quotes.attest(
        nonce=NONCE,
        selections=[quotes.selection("sha256", values), quotes.selection("sha256", values)],
        digest=quotes.digest_of([*values.values(), *values.values()]),
    )
    return Evidence(log=EventLog.from_bytes(LOG), quote=Quote.from_bytes(message, quotes.sign(AK, message)))


def of_nothing() -> Evidence:
    message = quotes.attest(nonce=NONCE, selections=[], digest=quotes.digest_of([]))
    return Evidence(log=EventLog.from_bytes(LOG), quote=Quote.from_bytes(message, quotes.sign(AK, message)))


def without_a_bank() -> Evidence:
    log = EventLog.from_bytes(log_bytes(("sha256",)))
    return attrs.evolve(evidence({"sha256": range(8), "sha384": range(8)}), log=log)


@pytest.mark.parametrize(
    ("make", "options", "check", "sentence"),
    [
        (ccel, {}, "log-kind", "the log is a CCEL: its registers are RTMRs, which no TPM quotes"),
        (followed_by_bytes, {}, "log-incomplete",
         "the log is followed by bytes that are neither events nor filler"),
        (twice, {}, "selection", "the quote selects a bank twice"),
        (evidence, {"bank": "sha1"}, "bank", "the bank sha1 is not accepted"),
        (evidence, {"bank": "sha384"}, "selection",
         "the quote covers no sha384 register; it covers sha256"),
        (lambda: evidence({"sha256": [0], "sha384": [0]}), {"bank": "sha512"}, "selection",
         "the quote covers no sha512 register; it covers sha256, sha384"),
        (evidence, {"nonce": b""}, "nonce", "an empty nonce cannot show that a quote is fresh"),
        (evidence, {"nonce": b"\1"}, "nonce", f"the quote answers the nonce {NONCE.hex()}, not 01"),
        (of_nothing, {}, "selection", "the quote covers no sha256 register; it covers no register at all"),
        (without_a_bank, {}, "bank", "the quote covers the bank sha384, of which the log has nothing"),
    ],
)  # fmt: skip
def test_what_is_said(make: Any, options: dict[str, Any], check: str, sentence: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        verify(make(), **options)
    assert (caught.value.check, str(caught.value)) == (check, sentence)


def test_registers_that_the_log_does_not_give() -> None:
    values = registers(LOG, "sha256")
    values[4] = bytes(32)
    with pytest.raises(PcrDigestError) as caught:
        verify(evidence(values={"sha256": values}))
    start, _, rest = str(caught.value).partition(": ")
    assert start == "the log does not replay to the quoted registers"
    assert rest.endswith(f"the quote says {quotes.digest_of(values.values()).hex()}")


def test_a_signature_over_sha1_is_taken_where_the_caller_says_so() -> None:
    """A17: never by itself, and by a name that looks wrong, for the whole of the evidence."""
    given = evidence(hash_name="sha1")
    with pytest.raises(EvidenceError) as caught:
        verify(given)
    assert caught.value.check == "signature-hash"
    assert verify(given, unsafe_allow_sha1=True).values == registers(LOG, "sha256")


def test_a_hash_that_this_python_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    given = evidence()
    monkeypatch.setattr("measlog.evidence.quote.hash_constructor", lambda _: None)
    with pytest.raises(PcrDigestError) as caught:
        given.quote.verify_pcr_digest({"sha256": registers(LOG, "sha256")})
    assert (caught.value.check, str(caught.value)) == ("pcr-digest", "this Python cannot compute sha256")


def test_proofs_say_why_they_are_not_made() -> None:
    verified = verify(evidence())
    members: dict[str, Any] = {
        "replayed": verified.replayed,
        "quote": verified.quote,
        "key": verified.key,
        "values": verified.values,
    }
    for make, sentence in (
        (lambda: VerifiedEvidence(**members), "VerifiedEvidence is made by Evidence.verify, not by hand"),
        (lambda: type("Sub", (VerifiedEvidence,), {}),
         "VerifiedEvidence has no subclasses: they would be proofs of nothing"),
        (lambda: pickle.dumps(verified), "VerifiedEvidence is not pickled: send the evidence, and verify again"),
        (lambda: copy.copy(verified), "VerifiedEvidence is not pickled: send the evidence, and verify again"),
    ):  # fmt: skip
        with pytest.raises(TypeError) as caught:
            make()
        assert str(caught.value) == sentence


def test_where_a_key_is_wrong() -> None:
    with pytest.raises(FormatError) as caught:
        AttestationKey.load(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    assert (caught.value.path, caught.value.clause) == ("ak", "RFC 7468")
    off_curve = bytearray(quotes.public(AK))
    off_curve[-1] ^= 1
    with pytest.raises(FormatError) as caught:
        AttestationKey.load(bytes(off_curve))
    assert caught.value.path == "public.unique"


def test_a_quote_in_one_line() -> None:
    text = repr(evidence({"sha256": [0, 4], "sha384": [7]}).quote)
    assert text == f"<Quote sha256:0,4; sha384:7, nonce {NONCE.hex()}>"
