"""Attestation reports of AMD SEV-SNP: that the secure processor of a genuine chip vouches for what a guest asked for.

Sources: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860) 1.56, 7.3; AMD, Versioned Chip Endorsement Key
(VCEK) Certificate and KDS Interface Specification (57230), clause 3. What is not checked is named in :data:`NOT_CHECKED`,
and in each result.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self, final

from attrs import field, frozen
from attrs.validators import instance_of
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import SignatureAlgorithmOID

from measlog.errors import EvidenceError, KeyTrustError, NonceError, SignatureError
from measlog.evidence.proof import Proven
from measlog.evidence.trust import UNREADABLE, load_certificates
from measlog.formats.sevsnp import SnpReportFields, SnpTcb, parse_snp_report

__all__ = ["NOT_CHECKED", "SnpReport", "VerifiedSnpReport"]

NOT_CHECKED = (
    "tcb-status: whether boot loader, SNP firmware and microcode are of a current security version",
    "revocation: no CRL is looked at",
    "measurement: what the guest was launched with, and its host data, are compared with nothing",
    "guest-policy: of the guest's policy, whether it can be debugged alone",
)
"""What a verified report does not say, one code and its meaning each."""

_REPORT_DATA_SIZE = 64
_VCEK = 0
_DEBUG = 1 << 19
_PRODUCTS = ("Milan", "Genoa", "Siena", "Bergamo")
"""Of which TCB_VERSION has the order of bytes that is read here."""

_AMD = "1.3.6.1.4.1.3704.1"
_PRODUCT_NAME = x509.ObjectIdentifier(f"{_AMD}.2")
_CHIP_ID = x509.ObjectIdentifier(f"{_AMD}.4")
_CHIP_ID_SIZE = 64
_SPLS = {
    "boot_loader": x509.ObjectIdentifier(f"{_AMD}.3.1"),
    "tee": x509.ObjectIdentifier(f"{_AMD}.3.2"),
    "snp": x509.ObjectIdentifier(f"{_AMD}.3.3"),
    "microcode": x509.ObjectIdentifier(f"{_AMD}.3.8"),
}
_INTEGER, _OCTET_STRING, _IA5_STRING = 0x02, 0x04, 0x16
_CHAIN_LENGTHS = (2, 3)
_PROOF = object()


@frozen(kw_only=True)
class SnpReport:
    """A report, read but not verified."""

    raw: bytes = field(repr=False, converter=bytes, validator=instance_of(bytes))
    # Read from the very bytes that the signature is checked over.
    fields: SnpReportFields = field(init=False)

    @fields.default
    def _read_fields(self) -> SnpReportFields:
        return parse_snp_report(self.raw)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.raw,)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the 1184 bytes of a report, version 2 or 3; raises :class:`~measlog.errors.FormatError`."""
        return cls(raw=data)

    def verify(
        self,
        *,
        report_data: bytes,
        chain: bytes,
        roots: bytes,
        now: datetime | None = None,
        vmpl: int = 0,
        unsafe_allow_debug: bool = False,
    ) -> VerifiedSnpReport:
        """Prove that a chip of AMD's vouches for the guest that asked with this challenge.

        ``report_data`` are the 64 bytes that the caller expects, ``chain`` is PEM: the chip's certificate (VCEK), then
        AMD's that signed it (ASK); the root (ARK) may follow, and counts for nothing. ``roots`` are PEM, the ARKs that
        are trusted, ``vmpl`` the privilege level that the report must have been asked from. Raises an
        :class:`~measlog.errors.EvidenceError` whose ``check`` names the step that failed, and
        :class:`~measlog.errors.FormatError` for certificates that cannot be read.
        """
        fields = self.fields
        # 1. It answers this verifier's question (A15).
        if len(report_data) != _REPORT_DATA_SIZE or not any(report_data):
            raise NonceError("the report data to compare with must be 64 bytes, not all zero", check="nonce")
        if not hmac.compare_digest(fields.report_data, report_data):
            raise NonceError(f"the report answers {fields.report_data.hex()}, not {report_data.hex()}", check="nonce")
        # 2. The chip's own key is said to have signed it: that of a cloud (VLEK) names no chip, and 7 is no signature.
        if fields.signing_key != _VCEK:
            raise KeyTrustError(f"the report is not signed by a VCEK, but by key {fields.signing_key}", check="vcek")
        # 3. A root that the verifier names certifies the key, by way of one intermediate (A16).
        certificate = _verify_chain(
            load_certificates(chain, "certificate chain of the report"), load_certificates(roots, "roots"), now
        )
        key = _vcek_key(certificate)
        # 4. The certificate is for this chip, at these versions of what it runs: the key is derived from them.
        _check_chip(certificate, fields)
        # 5. It signed these very bytes (A14).
        try:
            key.verify(encode_dss_signature(*fields.signature), fields.signed, ec.ECDSA(hashes.SHA384()))
        except InvalidSignature:
            raise SignatureError("the signature of the report does not verify", check="signature") from None
        # 6. Whoever asked had the privileges that the caller expects: less privileged software of the guest chooses its
        #    report data too, and gets a report with its own level in it.
        if fields.vmpl != vmpl:
            raise EvidenceError(f"the report was asked for from VMPL {fields.vmpl}, not {vmpl}", check="vmpl")
        # 7. The host cannot look into the guest.
        if fields.policy & _DEBUG and not unsafe_allow_debug:
            raise EvidenceError("the guest can be debugged", check="guest-debug")
        return VerifiedSnpReport._proven(self)  # noqa: SLF001 - the one place that makes it


@final
@frozen(kw_only=True, init=False, eq=False, slots=False, getstate_setstate=False)
class VerifiedSnpReport(Proven):
    """A report that was verified. Only :meth:`SnpReport.verify` makes one."""

    report: SnpReport

    def __init__(self, *, report: SnpReport, proof: object = None) -> None:
        if proof is not _PROOF:
            raise TypeError("a VerifiedSnpReport is made by SnpReport.verify, not by hand")
        self.__attrs_init__(report=report)

    @classmethod
    def _proven(cls, report: SnpReport) -> VerifiedSnpReport:
        return cls(report=report, proof=_PROOF)

    @property
    def fields(self) -> SnpReportFields:
        """What the secure processor vouches for."""
        return self.report.fields

    @property
    def not_checked(self) -> tuple[str, ...]:
        """What this does not say: :data:`NOT_CHECKED`."""
        return NOT_CHECKED


def _verify_chain(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime | None
) -> x509.Certificate:
    """The chip's certificate, signed by an intermediate that one of ``roots`` signed.

    By hand, as AMD's certificates write a default value out in their signature algorithm, which DER forbids and general
    path validation refuses; the chain has one form.
    """
    if len(chain) not in _CHAIN_LENGTHS:
        raise KeyTrustError(f"{len(chain)} certificates, not those of the chip and of what signed it", check="chain")
    leaf, intermediate = chain[0], chain[1]
    root = next((one for one in roots if _issued(intermediate, one)), None)
    if root is None:
        raise KeyTrustError("the certificate chain does not end in a given root", check="chain")
    if not _issued(leaf, intermediate):
        raise KeyTrustError("the certificate is not signed by the one behind it", check="chain")
    time = (now or datetime.now(UTC)).astimezone(UTC)
    for certificate in (leaf, intermediate, root):
        if not certificate.not_valid_before_utc <= time <= certificate.not_valid_after_utc:
            raise KeyTrustError("a certificate of the chain is not valid at this time", check="chain")
    for certificate, below in ((intermediate, 0), (root, 1)):
        if not _may_certify(certificate, below):
            raise KeyTrustError("a certificate of the chain is not for certifying others", check="chain")
    return leaf


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` has the name and made the signature, RSASSA-PSS with SHA-384 (57230, table 7)."""
    try:
        key = issuer.public_key()
        if (
            certificate.issuer != issuer.subject
            or certificate.signature_algorithm_oid != SignatureAlgorithmOID.RSASSA_PSS
            or not isinstance(key, rsa.RSAPublicKey)
        ):
            return False
        pss = padding.PSS(padding.MGF1(hashes.SHA384()), hashes.SHA384.digest_size)
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, pss, hashes.SHA384())
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _may_certify(certificate: x509.Certificate, below: int) -> bool:
    """Whether this is a CA with at most ``below`` others between it and the leaf (RFC 5280, 4.2.1.3 and 4.2.1.9)."""
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    long_enough = constraints.path_length is None or constraints.path_length >= below
    return constraints.ca and usage.key_cert_sign and long_enough


def _vcek_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    try:
        key: Any = certificate.public_key()
    except UNREADABLE as error:
        raise KeyTrustError(f"the certificate's key cannot be read: {error}", check="vcek") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyTrustError("the certificate's key is not on P-384", check="vcek")
    return key


def _check_chip(certificate: x509.Certificate, fields: SnpReportFields) -> None:
    """The extensions of a VCEK's certificate (57230, table 9) say the same as the report."""
    product = _contents(certificate, _PRODUCT_NAME, _IA5_STRING).decode("ascii", "replace")
    if not product.startswith(_PRODUCTS):
        raise KeyTrustError(f"the certificate is for the product {product[:32]!r}, which is not known", check="product")
    chip = _extension(certificate, _CHIP_ID)
    if len(chip) != _CHIP_ID_SIZE:
        chip = _contents(certificate, _CHIP_ID, _OCTET_STRING)
    # A chip whose host masks its number says zero, and is refused: the certificate names it.
    if not hmac.compare_digest(chip, fields.chip_id):
        raise KeyTrustError("the certificate is for another chip", check="chip-id")
    versions = {name: int.from_bytes(_contents(certificate, oid, _INTEGER), "big") for name, oid in _SPLS.items()}
    if SnpTcb(**versions) != fields.reported_tcb:
        raise KeyTrustError("the certificate is for other versions of the firmware", check="tcb")


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes:
    try:
        value: Any = certificate.extensions.get_extension_for_oid(oid).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        raise KeyTrustError(f"the certificate lacks the extension {oid.dotted_string}", check="vcek") from None
    raw: bytes = value.value
    return raw


def _contents(certificate: x509.Certificate, oid: x509.ObjectIdentifier, tag: int) -> bytes:
    """The contents of a short DER value of one type."""
    raw = _extension(certificate, oid)
    if len(raw) < 3 or raw[0] != tag or raw[1] != len(raw) - 2 or raw[1] > 0x7F:
        raise KeyTrustError(f"the extension {oid.dotted_string} of the certificate cannot be read", check="vcek")
    return raw[2:]
