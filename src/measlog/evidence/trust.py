"""Why an attestation key is trusted: a certificate chain, or the proof that it lives beside an endorsement key.

Sources: TCG EK Credential Profile 2.5, clauses 3.2 and 3.3; TCG TPM 2.0 Library, Part 1, clauses 24 (credential
protection), 11.4.10 (KDFa, KDFe) and B.10.4, C.6.1 (secret sharing); Part 3, clauses 12.5 and 12.6.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.x509.oid import ExtendedKeyUsageOID

from measlog.errors import FormatError, KeyTrustError
from measlog.evidence.keys import AkTrust, AttestationKey
from measlog.registry import algorithm_name

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:  # older releases have it among the others
    from cryptography.hazmat.primitives.ciphers.modes import CFB

__all__ = [
    "UNREADABLE",
    "CredentialChallenge",
    "load_certificate",
    "load_certificates",
    "make_credential",
    "verify_ak_certificate",
    "verify_ek_certificate",
    "verify_path",
]

TCG_KP_EK_CERTIFICATE = x509.ObjectIdentifier("2.23.133.8.1")
TCG_KP_AIK_CERTIFICATE = x509.ObjectIdentifier("2.23.133.8.3")

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What ``cryptography`` raises for a certificate, its extensions or its key that cannot be read."""

_SECRET_SIZE = 32
_AES_BITS = 128
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
# Header of the file that tpm2_makecredential writes and tpm2_activatecredential reads.
_TPM2_TOOLS_MAGIC = struct.pack(">II", 0xBADCC0DE, 1)


def verify_ak_certificate(
    ak: AttestationKey | bytes,
    chain: bytes,
    roots: bytes,
    *,
    now: datetime | None = None,
    unsafe_unstated_usage: bool = False,
) -> AttestationKey:
    """Accept an AK because a certificate says what it is. ``chain`` and ``roots`` are PEM, the AK's certificate first.

    ``unsafe_unstated_usage`` accepts a certificate for digital signatures that has no extended key usage, as those of
    Google Cloud: safe only with roots that certify keys of TPMs and nothing else. Returns the key with ``trust`` set to
    ``chain``. Raises :class:`~measlog.errors.KeyTrustError`.
    """
    key = AttestationKey.load(ak)
    certificates = load_certificates(chain, "certificate chain of the AK")
    # 1. The certificate is for an attestation key, and its chain ends in a root that the verifier names (A16).
    _verify_chain(certificates, roots, TCG_KP_AIK_CERTIFICATE, now, unstated=unsafe_unstated_usage)
    # 2. It is for this very key.
    if AttestationKey.load(_public(certificates[0])).fingerprint != key.fingerprint:
        raise KeyTrustError("the certificate is for another key", check="ak-certificate")
    return _vouched(key, "chain")


def verify_ek_certificate(chain: bytes, roots: bytes, *, now: datetime | None = None) -> x509.Certificate:
    """Accept an endorsement key's certificate. ``chain`` and ``roots`` are PEM, the EK's certificate first.

    Raises :class:`~measlog.errors.KeyTrustError`.
    """
    certificates = load_certificates(chain, "certificate chain of the EK")
    _verify_chain(certificates, roots, TCG_KP_EK_CERTIFICATE, now)
    return certificates[0]


@frozen(kw_only=True)
class CredentialChallenge:
    """A secret that only the TPM which holds both keys can open (TPM2_MakeCredential).

    Send :attr:`credential_blob` and :attr:`encrypted_secret` (or :meth:`to_tpm2_tools`), let the machine answer with
    what TPM2_ActivateCredential gives it, and hand the answer to :meth:`check`.
    """

    key: AttestationKey
    credential_blob: bytes = field(repr=False)
    """TPM2B_ID_OBJECT."""
    encrypted_secret: bytes = field(repr=False)
    """TPM2B_ENCRYPTED_SECRET."""
    secret: bytes = field(repr=False)

    @classmethod
    def make(cls, *, ek: bytes | AttestationKey, ak: bytes | AttestationKey, ek_chain: bytes, ek_roots: bytes,
             now: datetime | None = None) -> CredentialChallenge:  # fmt: skip
        """Make a challenge for an AK and the EK beside it, both TPM2B_PUBLIC; the EK's certificate chain is verified.

        Raises :class:`~measlog.errors.KeyTrustError`, or :class:`~measlog.errors.FormatError` for a key without its
        public area.
        """
        endorsement, attestation = AttestationKey.load(ek), AttestationKey.load(ak)
        # 1. The EK is one that a TPM's maker certified (A16).
        certificate = verify_ek_certificate(ek_chain, ek_roots, now=now)
        if AttestationKey.load(_public(certificate)).fingerprint != endorsement.fingerprint:
            raise KeyTrustError("the certificate is for another endorsement key", check="ek-certificate")
        # 2. The AK is a restricted signing key of a TPM: its Name, which the challenge is bound to, covers these (A14).
        name = attestation.name
        if name is None:
            raise FormatError("a challenge needs the TPM2B_PUBLIC of the AK, not its bare key", path="ak")
        missing = attestation.missing_attributes()
        if missing:
            raise KeyTrustError(
                f"the key is no attestation key: it is not {', '.join(missing)}", check="key-attributes"
            )
        secret = os.urandom(_SECRET_SIZE)
        blob, encrypted = make_credential(endorsement, name, secret)
        return cls(key=attestation, credential_blob=blob, encrypted_secret=encrypted, secret=secret)

    def to_tpm2_tools(self) -> bytes:
        """The file that ``tpm2_activatecredential -i`` reads."""
        return _TPM2_TOOLS_MAGIC + self.credential_blob + self.encrypted_secret

    def check(self, answer: bytes) -> AttestationKey:
        """Compare the machine's answer; returns the key with ``trust`` set to ``credential``.

        Raises :class:`~measlog.errors.KeyTrustError`.
        """
        if not hmac.compare_digest(answer, self.secret):
            raise KeyTrustError("the machine could not open the challenge", check="credential")
        return _vouched(self.key, "credential")


def make_credential(ek: AttestationKey, name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """TPM2_MakeCredential (Part 3, 12.6): TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET for an object's Name.

    Raises FormatError where the EK is a bare key, KeyTrustError where its Name is by a hash that is not accepted.
    """
    area = ek.area
    if area is None:
        raise FormatError("a challenge needs the TPM2B_PUBLIC of the EK, not its bare key", path="ek")
    algorithm = _HASHES.get(algorithm_name(area.name_alg))
    if algorithm is None:
        raise KeyTrustError(f"an EK whose Name is by {algorithm_name(area.name_alg)} is not accepted", check="ek")
    new = algorithm()
    # Part 1, 24.4: the seed is shared with the EK's TPM, everything else is derived from it and the AK's Name.
    seed, encrypted = _share_seed(ek, new)
    cipher = Cipher(algorithms.AES(_kdfa(new, seed, b"STORAGE", name, b"", _AES_BITS)), CFB(bytes(16))).encryptor()
    identity = cipher.update(_sized(secret)) + cipher.finalize()
    integrity = hmac.digest(_kdfa(new, seed, b"INTEGRITY", b"", b"", 8 * new.digest_size), identity + name, new.name)
    return _sized(_sized(integrity) + identity), _sized(encrypted)


def _share_seed(ek: AttestationKey, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    """A seed and what carries it to the EK's TPM: by OAEP (Part 1, B.10.4) or one-pass ECDH (C.6.1)."""
    key = ek.public_key
    if isinstance(key, rsa.RSAPublicKey):
        seed = os.urandom(algorithm.digest_size)
        oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, b"IDENTITY\0")
        return seed, key.encrypt(seed, oaep)
    ephemeral = ec.generate_private_key(key.curve)
    size = (key.curve.key_size + 7) // 8
    shared = ephemeral.exchange(ec.ECDH(), key)
    mine, theirs = ephemeral.public_key().public_numbers(), key.public_numbers()
    x = mine.x.to_bytes(size, "big")
    seed = _kdfe(algorithm, shared, b"IDENTITY", x, theirs.x.to_bytes(size, "big"), 8 * algorithm.digest_size)
    return seed, _sized(x) + _sized(mine.y.to_bytes(size, "big"))


def _kdfa(algorithm: hashes.HashAlgorithm, key: bytes, label: bytes, u: bytes, v: bytes, bits: int) -> bytes:
    """KDFa (Part 1, 11.4.10.2): SP 800-108 in counter mode with HMAC."""
    made = b""
    counter = 0
    while len(made) * 8 < bits:
        counter += 1
        message = struct.pack(">I", counter) + label + b"\0" + u + v + struct.pack(">I", bits)
        made += hmac.digest(key, message, algorithm.name)
    return made[: bits // 8]


def _kdfe(algorithm: hashes.HashAlgorithm, z: bytes, label: bytes, u: bytes, v: bytes, bits: int) -> bytes:
    """KDFe (Part 1, 11.4.10.3): SP 800-56A's one-step derivation."""
    made = b""
    counter = 0
    while len(made) * 8 < bits:
        counter += 1
        state = hashes.Hash(algorithm)
        state.update(struct.pack(">I", counter) + z + label + b"\0" + u + v)
        made += state.finalize()
    return made[: bits // 8]


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _public(certificate: x509.Certificate) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except UNREADABLE as error:
        raise KeyTrustError(f"the key of a certificate cannot be read: {error}", check="certificate") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise KeyTrustError(f"a certificate for a {type(key).__name__} is not for a key of a TPM", check="certificate")
    return key


def load_certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    """The certificates in PEM, at least one; FormatError where they cannot be read."""
    if b"CERTIFICATE-----" not in pem:
        raise FormatError(
            f"the {what} cannot be read: no certificate in PEM", path="certificates", clause="RFC 7468, 5"
        )
    try:
        return x509.load_pem_x509_certificates(pem)
    except UNREADABLE as error:
        raise FormatError(f"the {what} cannot be read: {error}", path="certificates", clause="RFC 5280") from None


def load_certificate(der: bytes, path: str) -> x509.Certificate:
    """A certificate in DER; FormatError, with ``path``, where there is none."""
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE as error:
        raise FormatError(f"no certificate: {error}", path=path, clause="RFC 5280") from None


def _verify_chain(
    certificates: Sequence[x509.Certificate],
    roots: bytes,
    usage: x509.ObjectIdentifier,
    now: datetime | None,
    *,
    unstated: bool = False,
) -> None:
    """RFC 5280 path validation to the given roots, and the extended key usages of the chain."""
    allowed = {usage, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if unstated:
        # Google's intermediate states the usage of EK certificates alone and certifies attestation keys too.
        allowed.add(TCG_KP_EK_CERTIFICATE)

    def check_ca(_policy: object, _certificate: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
        # The usages of a CA bound those of what it certifies; RFC 5280 leaves it open, all implementations do so.
        if usages is not None and allowed.isdisjoint(usages):
            raise ValueError("a CA of the chain is for other purposes")

    verify_path(certificates, load_certificates(roots, "roots"), now, check_ca)
    leaf = certificates[0]
    if unstated and _may_sign(leaf):
        return
    if usage not in _usages(leaf):
        raise KeyTrustError(f"the certificate is not for this purpose ({usage.dotted_string})", check="key-usage")


def verify_path(
    certificates: Sequence[x509.Certificate],
    roots: list[x509.Certificate],
    now: datetime | None,
    check_ca: Callable[[object, x509.Certificate, x509.ExtendedKeyUsage | None], None] | None,
) -> None:
    """RFC 5280 path validation of a chain, leaf first, to given roots; KeyTrustError where there is no path.

    ``check_ca`` judges the extended key usages of each CA and raises ValueError; without it any will do. Those of the
    leaf are the caller's.
    """
    verifier = (
        x509.verification.PolicyBuilder()
        .store(x509.verification.Store(roots))
        .time((now or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None))
        .extension_policies(
            ca_policy=x509.verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
                x509.ExtendedKeyUsage, x509.verification.Criticality.AGNOSTIC, check_ca
            ),
            ee_policy=x509.verification.ExtensionPolicy.permit_all(),
        )
        .build_client_verifier()
    )
    leaf, *intermediates = certificates
    try:
        verifier.verify(leaf, intermediates)
    except (x509.verification.VerificationError, *UNREADABLE) as error:
        raise KeyTrustError(f"the certificate chain does not end in a given root: {error}", check="chain") from None


def _usages(certificate: x509.Certificate) -> Iterable[x509.ObjectIdentifier]:
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()


def _may_sign(certificate: x509.Certificate) -> bool:
    """Whether digital signatures are among the key usages of a certificate without any extended key usage."""
    try:
        extensions = certificate.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    return usage.digital_signature and all(e.oid != x509.ExtendedKeyUsage.oid for e in extensions)


def _vouched(key: AttestationKey, trust: Literal["chain", "credential"]) -> AttestationKey:
    vouched = AttestationKey(public_key=key.public_key, area=key.area)
    value: AkTrust = trust
    object.__setattr__(vouched, "trust", value)
    return vouched
