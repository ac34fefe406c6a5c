"""Who vouches for an attestation key: certificate chains, and credentials opened by a real TPM."""

from __future__ import annotations

import base64
import datetime as dt
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

import measlog as ml
from measlog.errors import FormatError, KeyTrustError
from measlog.evidence.trust import (
    CredentialChallenge,
    load_certificate,
    load_certificates,
    make_credential,
    verify_ak_certificate,
    verify_ek_certificate,
)
from tests.conftest import FIXTURES

EK_ROOT = (FIXTURES / "lab" / "keys" / "ek-ca.crt").read_bytes()
CAPTURE = FIXTURES / "flatcar-lab-good"
EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
AK_USAGE = x509.ObjectIdentifier("2.23.133.8.3")
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
Key = ec.EllipticCurvePrivateKey


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


def ek_chain() -> bytes:
    return pem(x509.load_der_x509_certificate((CAPTURE / "ek.crt").read_bytes()))


def issue(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    signer: Key,
    *,
    ca: bool = False,
    usage: x509.ObjectIdentifier | None = None,
    signs: bool | None = None,
    days: int = 30,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if ca or signs is not None:
        usages = x509.KeyUsage(
            digital_signature=bool(signs),
            content_commitment=False,
            key_encipherment=not ca and not signs,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=ca,
            crl_sign=ca,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usages, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(signer, hashes.SHA256())


class Authority:
    """A maker of TPMs: root, intermediate, and a certificate for the capture's AK."""

    def __init__(self) -> None:
        self.root_key, self.middle_key = (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP256R1()),
        )
        self.root = issue("root", self.root_key.public_key(), "root", self.root_key, ca=True)
        self.middle = issue("middle", self.middle_key.public_key(), "root", self.root_key, ca=True)

    def certify(self, ak: bytes, **options: object) -> x509.Certificate:
        key = ml.AttestationKey.load(ak).public_key
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return issue("ak", key, "middle", self.middle_key, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


AK = (CAPTURE / "ak.tpm2b").read_bytes()


def test_an_ak_certificate_vouches_for_the_key_and_the_result_says_so(authority: Authority) -> None:
    chain = pem(authority.certify(AK, usage=AK_USAGE), authority.middle)
    key = verify_ak_certificate(AK, chain, pem(authority.root), now=NOW)
    assert (key.trust, ml.AttestationKey.load(AK).trust) == ("chain", "caller")
    log = ml.EventLog.from_bytes((CAPTURE / "binary_bios_measurements").read_bytes())
    quote = ml.Quote.from_bytes((CAPTURE / "quote.msg").read_bytes(), (CAPTURE / "quote.sig").read_bytes())
    nonce = bytes.fromhex((CAPTURE / "nonce.txt").read_text().strip())
    verified = ml.Evidence(log=log, quote=quote).verify(ak=key, nonce=nonce)
    result = ml.Verifier([], policy=ml.policy.flatcar()).appraise(verified)
    assert (verified.ak_trust, result.ak_trust) == ("chain", "chain")


def refusals(authority: Authority) -> Iterator[tuple[str, bytes, bytes, bytes, dt.datetime]]:
    good = authority.certify(AK, usage=AK_USAGE)
    roots = pem(authority.root)
    other = Authority()
    yield "chain", AK, pem(good, authority.middle), pem(other.root), NOW
    yield "chain", AK, pem(good), roots, NOW
    yield "chain", AK, pem(good, authority.middle), roots, NOW + dt.timedelta(days=60)
    yield "chain", AK, pem(good, authority.middle), roots, NOW - dt.timedelta(days=60)
    yield "chain", AK, pem(other.certify(AK, usage=AK_USAGE), authority.middle), roots, NOW
    yield "key-usage", AK, pem(authority.certify(AK), authority.middle), roots, NOW
    yield "key-usage", AK, pem(authority.certify(AK, usage=EK_USAGE), authority.middle), roots, NOW
    another = FIXTURES / "flatcar-lab-tampered" / "ak.tpm2b"
    yield "ak-certificate", another.read_bytes(), pem(good, authority.middle), roots, NOW


def test_what_no_chain_vouches_for_is_refused(authority: Authority) -> None:
    """A16: another root, no intermediate, another time, another maker, another purpose, another key."""
    for check, ak, chain, roots, now in refusals(authority):
        with pytest.raises(KeyTrustError) as caught:
            verify_ak_certificate(ak, chain, roots, now=now)
        assert caught.value.check == check


def test_a_certificate_without_extended_usages_is_accepted_only_by_an_unsafe_name() -> None:
    """Those of Google Cloud have a key usage alone, under an intermediate that states the usage of EK certificates."""
    authority = Authority()
    google = issue("google", authority.middle_key.public_key(), "root", authority.root_key, ca=True, usage=EK_USAGE)
    key = ml.AttestationKey.load(AK).public_key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    roots = pem(authority.root)

    def leaf(**options: object) -> bytes:
        return pem(issue("ak", key, "google", authority.middle_key, **options), google)  # type: ignore[arg-type]

    for chain, check in ((leaf(signs=True), "chain"), (leaf(signs=True, usage=AK_USAGE), "chain")):
        with pytest.raises(KeyTrustError) as caught:
            verify_ak_certificate(AK, chain, roots, now=NOW)
        assert caught.value.check == check
        assert verify_ak_certificate(AK, chain, roots, now=NOW, unsafe_unstated_usage=True).trust == "chain"
    # An endorsement key's certificate (for encipherment), one without usages, one for something else.
    server = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")
    for chain in (leaf(signs=False), leaf(), leaf(signs=True, usage=server), leaf(signs=True, usage=EK_USAGE)):
        with pytest.raises(KeyTrustError) as caught:
            verify_ak_certificate(AK, chain, roots, now=NOW, unsafe_unstated_usage=True)
        assert caught.value.check == "key-usage"


def test_a_ca_for_other_purposes_certifies_no_tpm() -> None:
    authority = Authority()
    key = ml.AttestationKey.load(AK).public_key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    for usage, accepted in (
        (AK_USAGE, True),
        (x509.ObjectIdentifier("2.5.29.37.0"), True),
        (EK_USAGE, False),
        (x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2"), False),
    ):
        middle = issue("middle", authority.middle_key.public_key(), "root", authority.root_key, ca=True, usage=usage)
        chain = pem(issue("ak", key, "middle", authority.middle_key, usage=AK_USAGE), middle)
        if accepted:
            assert verify_ak_certificate(AK, chain, pem(authority.root), now=NOW).trust == "chain"
            continue
        with pytest.raises(KeyTrustError, match="for other purposes"):
            verify_ak_certificate(AK, chain, pem(authority.root), now=NOW)


def test_certificates_that_cryptography_reads_by_half_are_an_error(authority: Authority) -> None:
    """It has errors of its own for versions and extensions, which are no ValueError."""
    good = authority.certify(AK, usage=AK_USAGE).public_bytes(Encoding.DER)
    version = good.index(bytes.fromhex("a003020102"))
    odd = good[: version + 4] + b"\x03" + good[version + 5 :]
    assert len(odd) == len(good)
    body = base64.encodebytes(odd)
    with pytest.raises(FormatError, match="valid X509 version"):
        load_certificates(b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n", "chain")
    with pytest.raises(FormatError, match="path: no certificate"):
        load_certificate(odd, "path")
    # An extension that is there twice is found when extensions are looked at.
    first = x509.load_der_x509_certificate(good).extensions[0]
    assert first.oid == x509.BasicConstraints.oid
    twice = good.replace(bytes.fromhex("0603551d23"), bytes.fromhex("0603551d13"))
    assert twice != good
    chain = pem(x509.load_der_x509_certificate(twice), authority.middle)
    with pytest.raises(KeyTrustError):
        verify_ak_certificate(AK, chain, pem(authority.root), now=NOW)


def test_what_is_no_certificate_is_an_error(authority: Authority) -> None:
    # A key, and a certificate in DER, are what is given by mistake.
    for wrong in (b"no PEM", b"", (CAPTURE / "ak.pub").read_bytes(), (CAPTURE / "ek.crt").read_bytes()):
        with pytest.raises(FormatError, match="chain of the AK cannot be read: no certificate in PEM"):
            verify_ak_certificate(AK, wrong, pem(authority.root))
        with pytest.raises(FormatError, match="the roots cannot be read: no certificate in PEM"):
            verify_ak_certificate(AK, pem(authority.certify(AK, usage=AK_USAGE)), wrong)


def test_the_certificate_of_the_captures_ek() -> None:
    """swtpm's endorsement key was certified by the lab's maker of TPMs, as ORIGIN.md says."""
    certificate = verify_ek_certificate(ek_chain(), EK_ROOT, now=NOW)
    assert "measlog lab TPM manufacturer" in certificate.issuer.rfc4514_string()
    with pytest.raises(KeyTrustError):
        verify_ek_certificate(ek_chain(), pem(Authority().root), now=NOW)


def test_a_challenge_is_for_keys_that_are_what_they_should_be() -> None:
    ek = (CAPTURE / "ek.tpm2b").read_bytes()
    challenge = CredentialChallenge.make(ek=ek, ak=AK, ek_chain=ek_chain(), ek_roots=EK_ROOT, now=NOW)
    for wrong in (b"", bytes(32), challenge.secret[:-1]):
        with pytest.raises(KeyTrustError, match="could not open"):
            challenge.check(wrong)
    assert challenge.check(challenge.secret).trust == "credential"
    other = (FIXTURES / "flatcar-lab-tampered" / "ek.tpm2b").read_bytes()
    with pytest.raises(KeyTrustError, match="another endorsement key"):
        CredentialChallenge.make(ek=other, ak=AK, ek_chain=ek_chain(), ek_roots=EK_ROOT, now=NOW)
    bare = (CAPTURE / "ak.pub").read_bytes()
    with pytest.raises(FormatError, match="TPM2B_PUBLIC of the AK"):
        CredentialChallenge.make(ek=ek, ak=bare, ek_chain=ek_chain(), ek_roots=EK_ROOT, now=NOW)
    unrestricted = bytearray(AK)
    unrestricted[7] &= 0xFE  # TPMA_OBJECT, bit 16
    with pytest.raises(KeyTrustError, match="not restricted"):
        CredentialChallenge.make(ek=ek, ak=bytes(unrestricted), ek_chain=ek_chain(), ek_roots=EK_ROOT, now=NOW)


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A software TPM, and the environment in which tpm2-tools talk to it."""
    if not (shutil.which("swtpm") and shutil.which("tpm2")):
        pytest.fail("needs swtpm and tpm2-tools: apt-get install swtpm tpm2-tools")
    state = tmp_path / "state"
    state.mkdir()
    port = 20_000 + (hash(str(tmp_path)) % 20_000) * 2
    process = subprocess.Popen(
        [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "startup-clear",
            "--server", f"type=tcp,port={port},bindaddr=127.0.0.1",
            "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1",
        ]
    )  # fmt: skip
    try:
        time.sleep(1)
        yield {"TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={port}", "PATH": "/usr/bin:/bin"}
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_a_real_tpm_opens_the_challenge(tpm: dict[str, str], tmp_path: Path, kind: str) -> None:
    """tpm2_activatecredential on a software TPM is the independent judge of TPM2_MakeCredential."""

    def run(*words: str) -> None:
        subprocess.run(["tpm2", *words], check=True, env=tpm, cwd=tmp_path, capture_output=True, timeout=60)

    run("createek", "-c", "ek.ctx", "-G", kind, "-u", "ek.pub")
    run("createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-u", "ak.pub")
    run("flushcontext", "-t")
    ak = ml.AttestationKey.load((tmp_path / "ak.pub").read_bytes())
    ek = ml.AttestationKey.load((tmp_path / "ek.pub").read_bytes())
    assert ak.name is not None
    secret = b"measlog's secret of 32 bytes ..."
    blob, encrypted = make_credential(ek, ak.name, secret)
    challenge = CredentialChallenge(key=ak, credential_blob=blob, encrypted_secret=encrypted, secret=secret)
    (tmp_path / "challenge").write_bytes(challenge.to_tpm2_tools())
    run("startauthsession", "--policy-session", "-S", "session.ctx")
    run("policysecret", "-S", "session.ctx", "-c", "e")
    run(
        "activatecredential",
        "-c",
        "ak.ctx",
        "-C",
        "ek.ctx",
        "-i",
        "challenge",
        "-o",
        "answer",
        "-P",
        "session:session.ctx",
    )
    assert challenge.check((tmp_path / "answer").read_bytes()).trust == "credential"
