"""TDX quotes: a real one verifies up to Intel's root, made ones in every step, and CCELs replay to what was quoted."""

from __future__ import annotations

import datetime as dt
import hashlib
import pickle
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from measlog import EventLog
from measlog.errors import (
    EvidenceError,
    FormatError,
    KeyTrustError,
    NonceError,
    ReplayError,
    SignatureError,
    UnsupportedError,
)
from measlog.evidence.tdx import INTEL_QE_SIGNER, TdxQuote, VerifiedTdxEvidence, VerifiedTdxQuote
from measlog.formats.pfp import LogEvent, build_log
from tests.conftest import shared_path
from tests.evidence import machines
from tests.evidence.tdx_maker import (
    NOW,
    QE_SIGNER,
    REPORT_DATA,
    body,
    certificate,
    certification,
    chain,
    pem,
    qe_report,
    quote,
    root,
)

ROOT = pem(root())


def verify(raw: bytes, **options: Any) -> VerifiedTdxQuote:
    asked: dict[str, Any] = {"report_data": REPORT_DATA, "roots": ROOT, "now": NOW, "qe_signers": [QE_SIGNER]}
    return TdxQuote.from_bytes(raw).verify(**{**asked, **options})


# A real quote.


def intel() -> tuple[bytes, bytes]:
    """The corpus' quote, and the root certificate at the end of its own chain (Intel SGX Root CA)."""
    raw = shared_path("corpus", "other", "tdx-quote.bin").read_bytes()
    start = raw.rindex(b"-----BEGIN CERTIFICATE-----")
    return raw, raw[start:].rstrip(b"\0")


# Read from the file with xxd, by the offsets of Intel's appendix A.3.
RTMR0 = "c15727cac1f57d0e91106da180b3eaba72116661e17ba0553773843a9b072ecfa38cc803dfb55e0f87ec236780adb3a6"
CHALLENGE = (
    "be588d6fb83c176b1a45f670710d07da4847fe91c131939da3b2cc569c085909"
    "fe0fa483d715a9e5d998773d34f6ba2910f40a551b0f33f6c9f36dbab8b7771b"
)


def test_a_real_quote_verifies_to_intels_root() -> None:
    raw, intel_root = intel()
    read = TdxQuote.from_bytes(raw)
    assert read.fields.version == 4
    assert read.report.rtmrs[0].hex() == RTMR0
    assert read.report.rtmrs[3] == bytes(48)
    assert read.report.report_data.hex() == CHALLENGE
    assert (read.report.tee_tcb_svn_2, read.report.mr_service_td) == (None, None)
    assert read.fields.qe_report.mr_signer == INTEL_QE_SIGNER
    # The fingerprint of Intel's root: the certificate is in the quote, the caller's trust in it is not.
    found = x509.load_pem_x509_certificate(intel_root)
    assert found.subject.rfc4514_string() == "C=US,ST=CA,L=Santa Clara,O=Intel Corporation,CN=Intel SGX Root CA"
    verified = read.verify(report_data=bytes.fromhex(CHALLENGE), roots=intel_root, now=NOW)
    assert verified.report == read.report
    assert any(text.startswith("tcb-status") for text in verified.not_checked)
    assert {text.split(":")[0] for text in verified.not_checked} == {"tcb-status", "revocation", "qe-identity", "mrtd"}


def test_a_real_quote_is_refused_for_others_and_when_changed() -> None:
    raw, intel_root = intel()
    challenge = bytes.fromhex(CHALLENGE)
    with pytest.raises(KeyTrustError, match="given root"):
        TdxQuote.from_bytes(raw).verify(report_data=challenge, roots=ROOT, now=NOW)
    with pytest.raises(KeyTrustError, match="given root"):
        TdxQuote.from_bytes(raw).verify(report_data=challenge, roots=intel_root, now=NOW + dt.timedelta(days=3650))
    for place in (8, 60, 376, 500, 640, 720, 780, 900, 1160, 1200, 1240):
        changed = bytearray(raw)
        changed[place] ^= 1
        try:
            read = TdxQuote.from_bytes(bytes(changed))
        except FormatError:
            continue
        with pytest.raises(EvidenceError):
            read.verify(report_data=challenge, roots=intel_root, now=NOW)


def test_no_log_of_the_corpus_is_that_machines() -> None:
    raw, intel_root = intel()
    verified = TdxQuote.from_bytes(raw).verify(report_data=bytes.fromhex(CHALLENGE), roots=intel_root, now=NOW)
    log = EventLog.from_bytes(shared_path("corpus", "logs", "cos-113-intel-tdx.bin").read_bytes())
    with pytest.raises(ReplayError, match="RTMR 0"):
        verified.verify_log(log)


# Made ones.


@pytest.mark.parametrize(
    ("version", "v15"), [(4, False), (5, False), (5, True)], ids=["v4", "v5 of TDX 1.0", "v5 of TDX 1.5"]
)
def test_made_quotes_of_each_version_verify(version: int, v15: bool) -> None:
    rtmrs = [bytes([i]) * 48 for i in range(4)]
    verified = verify(quote(body(rtmrs, v15=v15), version=version, tail=bytes(70)))
    report = verified.report
    assert report.rtmrs == tuple(rtmrs)
    assert (report.mr_seam, report.xfam) == (bytes([2]) * 48, bytes([3]) * 8)
    assert (report.mr_td, report.mr_config_id, report.mr_owner, report.mr_owner_config) == tuple(
        bytes([i]) * 48 for i in (4, 5, 6, 7)
    )
    assert (report.tee_tcb_svn_2, report.mr_service_td) == ((bytes([8]) * 16, bytes([9]) * 48) if v15 else (None, None))


STRANGER = certificate("pck", "stranger", ca=False, sgx=True)
MIDDLE = certificate("platform CA", "root", ca=True)


def leaf(**options: Any) -> bytes:
    return pem(certificate("pck", "platform CA", **{"ca": False, "sgx": True, **options}), MIDDLE)


REFUSED: dict[str, tuple[bytes, dict[str, Any], str, type[EvidenceError]]] = {
    "another challenge": (quote(), {"report_data": bytes(63) + b"\1"}, "nonce", NonceError),
    "a short challenge": (quote(), {"report_data": REPORT_DATA[:32]}, "nonce", NonceError),
    "no challenge": (quote(body(report_data=bytes(64))), {"report_data": bytes(64)}, "nonce", NonceError),
    "another root": (quote(), {"roots": pem(certificate("stranger", "stranger", ca=True))}, "chain", KeyTrustError),
    "another issuer": (quote(certificates=pem(STRANGER)), {}, "chain", KeyTrustError),
    "too late": (quote(), {"now": NOW + dt.timedelta(days=31)}, "chain", KeyTrustError),
    "too early": (quote(), {"now": NOW - dt.timedelta(days=2)}, "chain", KeyTrustError),
    "no chain in it": (quote(certificate_type=3), {}, "chain", KeyTrustError),
    "no PCK certificate": (quote(certificates=leaf(sgx=False)), {}, "pck-certificate", KeyTrustError),
    "no key usage": (quote(certificates=leaf(usage=False)), {}, "pck-certificate", KeyTrustError),
    "not for signing": (quote(certificates=leaf(signs=False)), {}, "pck-certificate", KeyTrustError),
    "a PCK that is a CA": (quote(certificates=leaf(ca=True)), {}, "pck-certificate", KeyTrustError),
    "an RSA key": (
        quote(certificates=leaf(public=rsa.generate_private_key(65537, 2048).public_key())),
        {},
        "pck-certificate",
        KeyTrustError,
    ),
    "P-384": (
        quote(certificates=leaf(public=ec.generate_private_key(ec.SECP384R1()).public_key())),
        {},
        "pck-certificate",
        KeyTrustError,
    ),
    "another platform's signature": (quote(platform="other"), {}, "qe-report-signature", SignatureError),
    "an unknown enclave": (quote(), {"qe_signers": [INTEL_QE_SIGNER]}, "qe-identity", KeyTrustError),
    "nobody's enclave": (quote(), {"qe_signers": []}, "qe-identity", KeyTrustError),
    "another attestation key": (quote(bound=bytes(64)), {}, "qe-binding", KeyTrustError),
    "an invalid point": (quote(point=bytes([1]) * 64), {}, "key-type", SignatureError),
    "a debugged domain": (quote(body(td_attributes=b"\x01" + bytes(7))), {}, "td-debug", EvidenceError),
    "another module": (quote(body(signer_seam=bytes([1]) * 48)), {}, "tdx-module", KeyTrustError),
    "an odd module": (quote(body(seam_attributes=bytes([1]) * 8)), {}, "tdx-module", KeyTrustError),
}


def with_qe(**options: Any) -> bytes:
    """A quote whose enclave differs but vouches for the key: its report data are those of the honest quote."""
    fields = TdxQuote.from_bytes(quote()).fields
    return quote(qe=qe_report(fields.qe_report.report_data, **options))


REFUSED["an SGX enclave's product"] = (with_qe(product=1), {}, "qe-identity", KeyTrustError)
REFUSED["a debugged enclave"] = (with_qe(attributes=b"\x17" + bytes(15)), {}, "qe-debug", KeyTrustError)
SIGNED_BY_OTHER = quote(attestation="other", point=TdxQuote.from_bytes(quote()).fields.attestation_key)
REFUSED["another key's signature"] = (SIGNED_BY_OTHER, {}, "signature", SignatureError)


# The sentence for each. Where it ends in a colon, cryptography says why.
SAID = {
    "another challenge": f"the quote answers {REPORT_DATA.hex()}, not {(bytes(63) + bytes([1])).hex()}",
    "a short challenge": "the report data to compare with must be 64 bytes, not all zero",
    "no challenge": "the report data to compare with must be 64 bytes, not all zero",
    "no chain in it": "the quote carries certification data of type 3, not its certificate chain",
    "no PCK certificate": "the certificate is no PCK certificate: ",
    "no key usage": "the certificate is no PCK certificate: ",
    "not for signing": "the certificate is not for signing reports",
    "a PCK that is a CA": "the certificate is not for signing reports",
    "an RSA key": "the certificate's key is not on P-256",
    "P-384": "the certificate's key is not on P-256",
    "another platform's signature": "a signature of the quote does not verify",
    "an unknown enclave": "the quoting enclave is not a known one",
    "nobody's enclave": "the quoting enclave is not a known one",
    "another attestation key": "the quoting enclave vouches for another attestation key",
    "an invalid point": "the attestation key is no point of P-256",
    "a debugged domain": "the trust domain can be debugged",
    "another module": "the TDX module is not Intel's",
    "an odd module": "the TDX module is not Intel's",
    "an SGX enclave's product": "the quoting enclave is not a known one",
    "a debugged enclave": "the quoting enclave can be debugged",
    "another key's signature": "a signature of the quote does not verify",
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_step_refuses_what_it_is_there_for_and_says_so(name: str) -> None:
    raw, options, check, kind = REFUSED[name]
    with pytest.raises(kind) as caught:
        verify(raw, **options)
    assert caught.value.check == check
    said = SAID.get(name, "the certificate chain does not end in a given root: ")
    assert str(caught.value).startswith(said)
    assert str(caught.value) == said or said.endswith(": ")


def test_debugging_is_accepted_by_an_unsafe_name() -> None:
    raw = quote(body(td_attributes=b"\x01" + bytes(7)))
    assert verify(raw, unsafe_allow_debug=True).report.td_attributes[0] == 1


def test_certificates_that_cannot_be_read() -> None:
    for raw, options, said in (
        (quote(certificates=b"no PEM"), {}, "the certificate chain of the quote cannot be read: "),
        (quote(), {"roots": b""}, "the roots cannot be read: "),
    ):
        with pytest.raises(FormatError, match=f"^(certificates: )?{said}"):
            verify(raw, **options)


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        (quote(version=3), UnsupportedError, "version 3"),
        (quote(tee=0), UnsupportedError, "an SGX enclave"),
        (quote(tee=0x82), UnsupportedError, "the TEE 0x82"),
        (quote(key_type=3), UnsupportedError, "key type 3"),
        (quote(vendor=bytes(16)), UnsupportedError, "not Intel's"),
        (quote(version=5, body_type=1), UnsupportedError, "body of type 1"),
        (quote(version=5, body_size=585), FormatError, "585 bytes for a body of 584"),
        (quote(outer_type=5), UnsupportedError, "certification data of type 5"),
        (quote(tail=b"\0\1"), FormatError, "other than zeros"),
        (quote(length=1 << 31), FormatError, "2147483648 bytes where"),
        (quote(length=100), FormatError, "other than zeros"),
        (quote()[:-1], FormatError, "bytes where"),
        (quote()[:40], FormatError, "header"),
        (quote()[:600], FormatError, "body"),
        (b"", FormatError, "header"),
    ],
)
def test_what_the_format_forbids_is_refused(raw: bytes, kind: type[FormatError], said: str) -> None:
    with pytest.raises(kind) as caught:
        TdxQuote.from_bytes(raw)
    assert said in str(caught.value)


def test_every_cut_is_refused() -> None:
    raw = quote(version=5, td=body(v15=True))
    for end in range(0, len(raw), 31):
        with pytest.raises(FormatError):
            TdxQuote.from_bytes(raw[:end])


def test_certification_data_say_how_long_they_are() -> None:
    inner = certification(5, chain())
    assert TdxQuote.from_bytes(quote()).fields.certification == inner[6:]


# Logs.

EVENTS = [(1, 0x20), (1, 0x21), (2, 0x22), (3, 0x23), (2, 0x24)]


def ccel(events: list[tuple[int, int]], *, filler: bytes = b"\xff" * 32) -> bytes:
    """A CCEL: measurement registers 1 to 4 are RTMR 0 to 3."""
    made = [LogEvent(register, 0xD, {"sha384": bytes([seed]) * 48}, bytes([seed])) for register, seed in events]
    return build_log(made, algorithms=["sha384"], spec_id_register=1, filler=filler)


def replayed(events: list[tuple[int, int]]) -> list[bytes]:
    """RTMR 0 to 3 by hashlib."""
    values = [bytes(48)] * 4
    for register, seed in events:
        values[register - 1] = hashlib.sha384(values[register - 1] + bytes([seed]) * 48).digest()
    return values


def test_a_log_that_replays_to_the_quoted_registers() -> None:
    verified = verify(quote(body(replayed(EVENTS))))
    log = EventLog.from_bytes(ccel(EVENTS))
    evidence = verified.verify_log(log)
    assert evidence.log is log
    assert evidence.quote is verified
    assert evidence.replayed.values == dict(enumerate(replayed(EVENTS)))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_log_agrees_with_the_registers_that_hashlib_gives(events: list[tuple[int, int]]) -> None:
    evidence = verify(quote(body(replayed(events)))).verify_log(EventLog.from_bytes(ccel(events)))
    assert [evidence.replayed.values[i] for i in range(4)] == replayed(events)


def test_logs_that_do_not_are_refused_by_register() -> None:
    verified = verify(quote(body(replayed(EVENTS))))
    for events, said in (
        (EVENTS[:-1], "RTMR 1"),
        ([*EVENTS, (3, 9)], "RTMR 2"),
        ([EVENTS[1], EVENTS[0], *EVENTS[2:]], "RTMR 0"),
        ([*EVENTS, (4, 9)], "RTMR 3"),
    ):
        with pytest.raises(ReplayError, match=said):
            verified.verify_log(EventLog.from_bytes(ccel(events)))
    # A register that the running system extended, which this log does not tell of.
    later = verify(quote(body([*replayed(EVENTS)[:3], bytes([1]) * 48])))
    with pytest.raises(ReplayError, match="RTMR 3"):
        later.verify_log(EventLog.from_bytes(ccel(EVENTS)))
    assert set(later.verify_log(EventLog.from_bytes(ccel(EVENTS)), registers=[0, 1, 2]).replayed.values) == {0, 1, 2}


def test_logs_of_another_kind_or_with_more_behind_them_are_refused() -> None:
    verified = verify(quote(body(replayed(EVENTS))))
    more = "the log is followed by bytes that are neither events nor filler"
    nothing = "the log explains none of the quoted registers"
    another = "the log is a TPM's: its registers are PCRs, which no TDX quote holds"
    cases: tuple[tuple[bytes, dict[str, Any], str, str], ...] = (
        (machines.log_bytes(), {}, "log-kind", another),
        (ccel(EVENTS, filler=b"\xff" * 64 + b"x"), {}, "log-incomplete", more),
        (ccel(EVENTS), {"registers": [4]}, "replay", "there is no RTMR 4"),
        (ccel(EVENTS), {"registers": []}, "nothing-compared", "no register values were given to compare the log with"),
        (ccel(EVENTS), {"registers": [3]}, "nothing-compared", nothing),
    )
    for raw, options, check, said in cases:
        with pytest.raises(ReplayError) as caught:
            verified.verify_log(EventLog.from_bytes(raw), **options)
        assert (caught.value.check, str(caught.value)) == (check, said)


def test_proof_is_not_made_by_hand() -> None:
    read = TdxQuote.from_bytes(quote(body(replayed(EVENTS))))
    assert pickle.loads(pickle.dumps(read)) == read
    verified = verify(read.raw)
    evidence = verified.verify_log(EventLog.from_bytes(ccel(EVENTS)))
    with pytest.raises(TypeError, match=r"^a VerifiedTdxQuote is made by TdxQuote\.verify, not by hand$"):
        VerifiedTdxQuote(quote=read)
    with pytest.raises(TypeError, match=r"^VerifiedTdxEvidence is made by VerifiedTdxQuote\.verify_log, not by hand$"):
        VerifiedTdxEvidence(quote=verified, replayed=evidence.replayed)
    for proof in (verified, evidence):
        name = type(proof).__name__
        with pytest.raises(TypeError, match=f"^{name} is not pickled: send what it was made from, and verify again$"):
            pickle.dumps(proof)
        with pytest.raises(TypeError, match=f"^{name} has no subclasses: they would be proofs of nothing$"):
            type("Fake", (type(proof),), {})
    with pytest.raises(AttributeError):
        verified.quote = read  # type: ignore[misc]
