"""Documents of clouds, made by hand from their public specifications: no real one is at hand to read.

NitroTPM: Amazon EC2 User Guide, "Validate a NitroTPM Attestation Document". HCL report: Microsoft, "Confidential VM Guest
Attestation Design Detail". The clause that a vector is from stands beside it.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import hashlib
import json
import pickle
import struct
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

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
from measlog.evidence.snp import VerifiedSnpReport
from measlog.evidence.tdx import TdxQuote
from measlog.interop.cbor import Tag, encode
from measlog.interop.hcl import HclReport
from measlog.interop.nitrotpm import NitroTpmDocument, VerifiedNitroTpm
from tests.evidence import machines, quotes, snp_maker, tdx_maker
from tests.evidence.test_tdx import ccel

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
NONCE = b"a nonce of ours"
BANKS = ("sha256", "sha384")


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    del name
    return ec.generate_private_key(ec.SECP384R1())


def issue(name: str, issuer: str, *, ca: bool, signs: bool = True, public: Any = None, usage: bool = True) -> bytes:
    """A certificate of the Nitro attestation PKI: ECDSA P-384, hours of validity, no extended key usage."""
    public = public or key(name).public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(hours=1))
        .not_valid_after(NOW + dt.timedelta(hours=2))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key(issuer).public_key()), critical=False)
    )
    if usage:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=signs, content_commitment=not signs, key_encipherment=False, data_encipherment=False,
                key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
    return builder.sign(key(issuer), hashes.SHA384()).public_bytes(Encoding.DER)


@cache
def pki() -> tuple[bytes, bytes, bytes, bytes]:
    """Root, two intermediates, and the certificate of the document."""
    return (
        issue("root", "root", ca=True),
        issue("zone", "root", ca=True),
        issue("instance", "zone", ca=True),
        issue("target", "instance", ca=False),
    )


def root_pem() -> bytes:
    return x509.load_der_x509_certificate(pki()[0]).public_bytes(Encoding.PEM)


def payload(log: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """AttestationDocument, "Attestation Document specification"; registers are those that hashlib gives."""
    log = machines.log_bytes(BANKS) if log is None else log
    root, zone, instance, target = pki()
    values = machines.registers(log, "sha384", tuple(range(24)))
    document: dict[str, Any] = {
        "module_id": "i-0123456789abcdef0-tpm0123456789abcdef",
        "timestamp": int(NOW.timestamp() * 1000),
        "digest": "SHA384",
        "nitrotpm_pcrs": values,
        "certificate": target,
        "cabundle": [root, zone, instance],  # "Semantic validity": the root first
        "public_key": None,
        "user_data": b"user data",
        "nonce": NONCE,
    }
    return {name: value for name, value in {**document, **changes}.items() if value != "gone"}


def document(
    contents: Any = None, *, signer: str = "target", algorithm: int = -35, tagged: bool = True, signature: bytes = b""
) -> bytes:
    """COSE_Sign1 with {1: -35} protected and nothing unprotected ("COSE and CBOR"), signed by cryptography alone."""
    raw = encode(payload() if contents is None else contents)
    protected = (
        bytes([0xA1, 0x01, 0x38, -1 - algorithm]) if algorithm < -24 else bytes([0xA1, 0x01, 0x20 | -1 - algorithm])
    )
    tbs = encode(["Signature1", protected, b"", raw])
    r, s = decode_dss_signature(key(signer).sign(tbs, ec.ECDSA(hashes.SHA384())))
    body = [protected, {}, raw, signature or r.to_bytes(48, "big") + s.to_bytes(48, "big")]
    return encode(Tag(18, body) if tagged else body)


def verify(raw: bytes, **options: Any) -> VerifiedNitroTpm:
    return NitroTpmDocument.from_bytes(raw).verify(**{"roots": root_pem(), "nonce": NONCE, "now": NOW, **options})


@pytest.mark.parametrize("tagged", [True, False])
def test_a_nitrotpm_document_verifies_and_a_log_replays_to_it(tagged: bool) -> None:
    verified = verify(document(tagged=tagged))
    assert verified.document.contents.user_data == b"user data"
    assert verified.document.contents.public_key is None
    log = EventLog.from_bytes(machines.log_bytes(BANKS))
    replayed = verified.verify_log(log)
    assert replayed.algorithm == "sha384"
    assert dict(replayed.values) == machines.registers(machines.log_bytes(BANKS), "sha384")
    assert verified.unexplained(replayed) == ()
    changed = payload()
    changed["nitrotpm_pcrs"] = {**changed["nitrotpm_pcrs"], 10: bytes([1]) * 48}
    later = verify(document(changed))
    assert later.unexplained(later.verify_log(log)) == (10,)


def test_a_log_that_does_not_replay_is_refused_by_register() -> None:
    verified = verify(document())
    more = machines.log_bytes(BANKS, extra=[machines.event(5, 77, BANKS)])
    with pytest.raises(ReplayError, match="PCR 5"):
        verified.verify_log(EventLog.from_bytes(more))
    lacking = payload()
    lacking["nitrotpm_pcrs"] = {k: v for k, v in lacking["nitrotpm_pcrs"].items() if k != 4}
    cases = (
        (verify(document(lacking)), machines.log_bytes(BANKS), "selection"),
        (verified, ccel([(1, 5)]), "log-kind"),
        (verified, machines.log_bytes(BANKS) + b"\xff" * 64 + b"x", "log-incomplete"),
        (verified, machines.log_bytes(("sha256",)), "bank-missing"),
    )
    for judge, log, check in cases:
        with pytest.raises(ReplayError) as caught:
            judge.verify_log(EventLog.from_bytes(log))
        assert caught.value.check == check


def bundle(**options: Any) -> bytes:
    return document(payload(certificate=issue("target", "instance", **{"ca": False, **options})))


REFUSED: dict[str, tuple[Any, dict[str, Any], str, type[EvidenceError]]] = {
    "another nonce": (document, {"nonce": b"another"}, "nonce", NonceError),
    "an empty nonce": (document, {"nonce": b""}, "nonce", NonceError),
    "no nonce": (lambda: document(payload(nonce=None)), {}, "nonce", NonceError),
    "no field for a nonce": (lambda: document(payload(nonce="gone")), {}, "nonce", NonceError),
    "too late": (document, {"now": NOW + dt.timedelta(hours=3)}, "chain", KeyTrustError),
    "an intermediate is missing": (lambda: document(payload(cabundle=list(pki()[:2]))), {}, "chain", KeyTrustError),
    "another key": (lambda: document(signer="other"), {}, "signature", SignatureError),
    "another algorithm": (lambda: document(algorithm=-7), {}, "signature-scheme", SignatureError),
    "a short signature": (lambda: document(signature=b"x"), {}, "signature", SignatureError),
    "a CA": (lambda: bundle(ca=True), {}, "certificate", KeyTrustError),
    "not for signing": (lambda: bundle(signs=False), {}, "certificate", KeyTrustError),
    "no key usage": (lambda: bundle(usage=False), {}, "certificate", KeyTrustError),
    "P-256": (
        lambda: bundle(public=ec.generate_private_key(ec.SECP256R1()).public_key()),
        {},
        "certificate",
        KeyTrustError,
    ),
    "RSA": (
        lambda: bundle(public=rsa.generate_private_key(65537, 2048).public_key()),
        {},
        "certificate",
        KeyTrustError,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_step_refuses_what_it_is_there_for(name: str) -> None:
    make, options, check, kind = REFUSED[name]
    with pytest.raises(kind) as caught:
        verify(make(), **options)
    assert caught.value.check == check


def test_the_bundles_own_root_is_not_believed() -> None:
    """A bundle that is consistent in itself, up to a root of somebody's own."""
    stranger = x509.load_der_x509_certificate(issue("stranger", "stranger", ca=True)).public_bytes(Encoding.PEM)
    with pytest.raises(KeyTrustError, match="given root"):
        verify(document(), roots=stranger)


def test_any_changed_byte_is_noticed() -> None:
    raw = document()
    for place in range(0, len(raw), 41):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises((EvidenceError, FormatError)):
            verify(bytes(changed))


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ([], "payload: expected a map"),
        (lambda: payload(digest="SHA256"), "payload.digest: the digest 'SHA256'"),
        (lambda: payload(pcrs={0: bytes(48)}), "document of a Nitro Enclave"),
        (lambda: payload(cabundle=[]), "payload.cabundle"),
        (lambda: payload(cabundle=[b""]), "payload.cabundle[0]: expected 1 to 1024 bytes"),
        (lambda: payload(cabundle=[b"x"] * 17), "payload.cabundle"),
        (lambda: payload(certificate=bytes(1025)), "payload.certificate: expected 1 to 1024"),
        (lambda: payload(module_id=""), "payload.module_id"),
        (lambda: payload(timestamp=-1), "payload.timestamp"),
        (lambda: payload(timestamp=True), "payload.timestamp"),
        (lambda: payload(nonce=bytes(1025)), "payload.nonce: expected 0 to 1024"),
        (lambda: payload(user_data="text"), "payload.user_data"),
        (lambda: payload(nitrotpm_pcrs={}), "payload.nitrotpm_pcrs: expected a map"),
        (lambda: payload(nitrotpm_pcrs={24: bytes(48)}), "no such register"),
        (lambda: payload(nitrotpm_pcrs={"0": bytes(48)}), "no such register"),
        (lambda: payload(nitrotpm_pcrs={0: bytes(32)}), "expected 48 bytes"),
        (lambda: payload(nitrotpm_pcrs={True: bytes(48)}), "no such register"),
    ],
)
def test_what_the_specification_forbids_is_refused_with_its_place(contents: Any, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        NitroTpmDocument.from_bytes(document(contents() if callable(contents) else contents))
    assert said in str(caught.value)


def test_certificates_that_are_none_are_refused() -> None:
    for changes in ({"certificate": b"x"}, {"cabundle": [pki()[0], b"x"]}):
        with pytest.raises(FormatError, match="no certificate"):
            verify(document(payload(**changes)))
    with pytest.raises(FormatError, match="payload"):
        NitroTpmDocument.from_bytes(encode(Tag(18, [b"", {}, b"\xff", b""])))


def test_proof_is_not_made_by_hand() -> None:
    verified = verify(document())
    with pytest.raises(TypeError, match="not by hand"):
        VerifiedNitroTpm(document=verified.document)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(verified)
    with pytest.raises(TypeError, match="no subclasses"):
        type("Fake", (VerifiedNitroTpm,), {})


# Azure.

AK = quotes.rsa_key()


def jwk(kid: str, public: rsa.RSAPublicKey) -> dict[str, Any]:
    """RFC 7517, as in the example of "Runtime Claims"."""
    numbers = public.public_numbers()

    def text(number: int) -> str:
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    return {"kid": kid, "key_ops": ["sign"], "kty": "RSA", "e": text(numbers.e), "n": text(numbers.n)}


def claims(**changes: Any) -> bytes:
    made = {
        "keys": [jwk("HCLAkPub", AK.public_key()), jwk("HCLEkPub", quotes.rsa_key("ek").public_key())],
        "vm-configuration": {"secure-boot": True, "tpm-enabled": True, "vmUniqueId": "68dc0ac0"},
        "user-data": "00" * 64,
    }
    return json.dumps({**made, **changes}).encode()


def report(
    contents: bytes | None = None,
    *,
    kind: int = 4,
    size: int | None = None,
    head: bytes = b"HCLA",
    version: int = 2,
    request: int = 2,
    runtime_version: int = 1,
    hash_type: int = 1,
    data_size: int | None = None,
    claim_size: int | None = None,
    tail: bytes = bytes(40),
) -> bytes:
    """Header, Report Payload at 32, Runtime Data at 1216 ("Attestation Report Format")."""
    contents = claims() if contents is None else contents
    length = len(contents) if claim_size is None else claim_size
    expected = {2: 1184, 4: 1024}.get(kind, 1184)
    header = head + struct.pack("<IIII", version, expected if size is None else size, request, 0) + bytes(12)
    # TDREPORT: REPORTDATA at 128 of REPORTMACSTRUCT; SNP ATTESTATION_REPORT: REPORT_DATA at 50h.
    where = 128 if kind == 4 else 0x50
    data = hashlib.sha256(contents).digest() + bytes(32)
    hardware = bytearray(1184)
    hardware[where : where + 64] = data
    runtime = struct.pack(
        "<IIIII", 20 + length if data_size is None else data_size, runtime_version, kind, hash_type, length
    )
    return header + bytes(hardware) + runtime + contents + tail


def tdx(report_data: bytes) -> Any:
    """A verified quote about those report data."""
    raw = tdx_maker.quote(tdx_maker.body(report_data=report_data))
    return TdxQuote.from_bytes(raw).verify(
        report_data=report_data,
        roots=tdx_maker.pem(tdx_maker.root()),
        now=tdx_maker.NOW,
        qe_signers=[tdx_maker.QE_SIGNER],
    )


@pytest.mark.parametrize(("kind", "name"), [(2, "sev-snp"), (4, "tdx")])
def test_an_hcl_report_is_read(kind: int, name: str) -> None:
    read = HclReport.from_bytes(report(kind=kind))
    assert read.kind == name
    assert read.fields.report_data == read.expected_report_data == hashlib.sha256(claims()).digest() + bytes(32)
    assert read.claims["vm-configuration"]["secure-boot"] is True
    assert read.unsafe_claimed_ak().public_key == AK.public_key()


def test_a_tdx_quote_vouches_for_the_key_of_the_vtpm() -> None:
    """And that key's quote is verified like any other."""
    read = HclReport.from_bytes(report())
    ak = read.ak(tdx(read.expected_report_data))
    assert machines.evidence(key=AK).verify(ak=ak, nonce=machines.NONCE).ak_trust == "caller"
    with pytest.raises(KeyTrustError, match="other claims") as caught:
        HclReport.from_bytes(report(claims(more=1))).ak(tdx(read.expected_report_data))
    assert caught.value.check == "hcl-binding"
    with pytest.raises(KeyTrustError, match="sev-snp") as caught:
        HclReport.from_bytes(report(kind=2)).ak(tdx(read.expected_report_data))
    assert caught.value.check == "hcl-kind"
    with pytest.raises(TypeError, match="only a verified"):
        read.ak(TdxQuote.from_bytes(tdx_maker.quote()))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="of Intel TDX"):
        read.snp_report()


def snp(contents: bytes | None = None, **options: Any) -> bytes:
    """An HCL report with a signed SEV-SNP report in it, about these claims."""
    raw = report(contents, kind=2)
    data = HclReport.from_bytes(raw).expected_report_data
    return raw[:32] + snp_maker.report(report_data=data, **options) + raw[32 + 1184 :]


def verified_snp(raw: bytes) -> VerifiedSnpReport:
    read = HclReport.from_bytes(raw)
    return read.snp_report().verify(
        report_data=read.expected_report_data,
        chain=snp_maker.chain(),
        roots=snp_maker.pem(snp_maker.ark()),
        now=snp_maker.NOW,
    )


def test_an_snp_report_vouches_for_the_key_of_the_vtpm() -> None:
    raw = snp()
    ak = HclReport.from_bytes(raw).ak(verified_snp(raw))
    assert machines.evidence(key=AK).verify(ak=ak, nonce=machines.NONCE).ak_trust == "caller"
    with pytest.raises(KeyTrustError, match="other claims"):
        HclReport.from_bytes(snp(claims(more=1))).ak(verified_snp(raw))
    with pytest.raises(KeyTrustError, match="of sev-snp"):
        HclReport.from_bytes(report()).ak(verified_snp(raw))
    # Claims that were put beside a genuine report: it does not answer for them.
    forged = report(claims(more=1), kind=2)
    with pytest.raises(EvidenceError) as caught:
        verified_snp(forged[:32] + raw[32 : 32 + 1184] + forged[32 + 1184 :])
    assert caught.value.check == "nonce"
    # The guest itself asks for a report, from its own level.
    with pytest.raises(EvidenceError) as caught:
        verified_snp(snp(vmpl=2))
    assert caught.value.check == "vmpl"


@pytest.mark.parametrize(("number", "name"), [(1, "sha256"), (2, "sha384"), (3, "sha512")])
def test_claims_are_bound_by_the_hash_that_the_report_names(number: int, name: str) -> None:
    expected = hashlib.new(name, claims()).digest().ljust(64, b"\0")
    assert HclReport.from_bytes(report(hash_type=number)).expected_report_data == expected


def bad_key(**changes: Any) -> bytes:
    return claims(keys=[{**jwk("HCLAkPub", AK.public_key()), **changes}])


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (report(head=b"HCLB"), "does not start with HCLA"),
        (report(version=1), "version 1, request type 2"),
        (report(request=1), "version 2, request type 1"),
        (report(runtime_version=2), "runtime.version: version 2"),
        (report(kind=3), "hardware report of type 3"),
        (report(size=1000), "1000 bytes for a report of 1024"),
        (report(hash_type=0), "the hash 0"),
        (report(data_size=30), "in runtime data of 30"),
        (report(claim_size=1 << 31), "bytes of claims"),
        (report(tail=b"\0x"), "other than zeros"),
        (report()[:1300], "are left"),
        (report()[:1220], "runtime"),
        (report()[:20], "header"),
        (b"", "header"),
        (report(b"[]"), "runtime.claims: not a JSON object"),
        (report(b'{"a":1,"a":2}'), "there twice"),
    ],
)
def test_reports_that_are_none_are_refused_with_their_place(raw: bytes, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        HclReport.from_bytes(raw)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (claims(keys=5), "expected a list"),
        (claims(keys=[]), "0 keys HCLAkPub"),
        (claims(keys=[5]), "0 keys HCLAkPub"),
        (claims(keys=[jwk("HCLAkPub", AK.public_key())] * 2), "2 keys HCLAkPub"),
        (bad_key(kty="EC"), "the key type EC"),
        (bad_key(n=5), "expected base64url"),
        (bad_key(n="ab+/"), "expected base64url"),
        (bad_key(n="abcde"), "expected base64url"),
        (bad_key(n=""), "expected base64url"),
        (bad_key(e="Ag"), "no RSA key"),
    ],
)
def test_claims_without_one_good_key_give_none(contents: bytes, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        HclReport.from_bytes(report(contents)).unsafe_claimed_ak()
    assert said in str(caught.value)


def test_short_keys_are_no_attestation_keys() -> None:
    short = rsa.generate_private_key(65537, 1024).public_key()
    with pytest.raises(SignatureError, match="too short"):
        HclReport.from_bytes(report(claims(keys=[jwk("HCLAkPub", short)]))).unsafe_claimed_ak()


def test_a_report_is_what_its_bytes_say() -> None:
    read = HclReport.from_bytes(report())
    with pytest.raises(TypeError):
        HclReport(raw=read.raw, claims={})  # type: ignore[call-arg]
    assert copy.copy(read) == read
