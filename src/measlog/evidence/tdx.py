"""Quotes of Intel TDX: that a trust domain has these registers, and a CCEL that replays to them.

Sources: Intel TDX DCAP Quoting Library API, appendix A; Intel SGX PCK Certificate and CRL Profile, clause 1.3; Intel TDX
Module ABI, TD attributes. What is not checked is named in :data:`NOT_CHECKED`, and in each result.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Self, final

from attrs import field, frozen
from attrs.validators import instance_of
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from measlog.errors import EvidenceError, KeyTrustError, NonceError, ReplayError, SignatureError
from measlog.evidence.proof import Proven
from measlog.evidence.trust import UNREADABLE, load_certificates, verify_path
from measlog.formats.tdx import PCK_CERTIFICATE_CHAIN, TdReport, TdxQuoteFields, parse_tdx_quote
from measlog.log import EventLog, ReplayedLog

__all__ = ["INTEL_QE_SIGNER", "NOT_CHECKED", "TdxQuote", "VerifiedTdxEvidence", "VerifiedTdxQuote"]

INTEL_QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
"""MRSIGNER of Intel's quoting enclaves, as in the TD QE identity that Intel publishes."""

NOT_CHECKED = (
    "tcb-status: whether microcode, TDX module and quoting enclave are of a current security version",
    "revocation: no CRL is looked at",
    "qe-identity: of the quoting enclave's identity, signer, product and debug attribute alone",
    "mrtd: the firmware of the trust domain (MRTD) and its configuration are compared with nothing",
)
"""What a verified quote does not say, one code and its meaning each."""

_TD_QE_PRODUCT = 2
_SGX_EXTENSIONS = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_ENCLAVE_DEBUG = 0x02
_REPORT_DATA_SIZE = 64
_RTMRS = (0, 1, 2, 3)
_PROOF = object()


@frozen(kw_only=True)
class TdxQuote:
    """A quote, read but not verified."""

    raw: bytes = field(repr=False, converter=bytes, validator=instance_of(bytes))
    # Read from the very bytes that the signature is checked over.
    fields: TdxQuoteFields = field(init=False)

    @fields.default
    def _read_fields(self) -> TdxQuoteFields:
        return parse_tdx_quote(self.raw)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.raw,)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a quote of version 4 or 5; raises :class:`~measlog.errors.FormatError`."""
        return cls(raw=data)

    @property
    def report(self) -> TdReport:
        """What the quote says of the trust domain, unproven."""
        return self.fields.report

    def verify(
        self,
        *,
        report_data: bytes,
        roots: bytes,
        now: datetime | None = None,
        qe_signers: Collection[bytes] = (INTEL_QE_SIGNER,),
        unsafe_allow_debug: bool = False,
    ) -> VerifiedTdxQuote:
        """Prove that a genuine quoting enclave vouches for the trust domain that answered this challenge.

        ``report_data`` are the 64 bytes that the caller asked for, ``roots`` PEM (Intel's SGX Root CA), ``qe_signers``
        MRSIGNER values of quoting enclaves. Raises an :class:`~measlog.errors.EvidenceError` whose ``check`` names the
        step that failed, and :class:`~measlog.errors.FormatError` for certificates that cannot be read.
        """
        fields = self.fields
        # 1. It answers this verifier's question (A15).
        if len(report_data) != _REPORT_DATA_SIZE or not any(report_data):
            raise NonceError("the report data to compare with must be 64 bytes, not all zero", check="nonce")
        if not hmac.compare_digest(fields.report.report_data, report_data):
            raise NonceError(
                f"the quote answers {fields.report.report_data.hex()}, not {report_data.hex()}", check="nonce"
            )
        # 2. The platform's key is certified by a root that the verifier names (A16).
        platform = _platform_key(fields, roots, now)
        # 3. It signed the report of the quoting enclave (A14).
        _check_ecdsa(platform, fields.qe_signature, fields.qe_report_raw, "qe-report-signature")
        # 4. That enclave is Intel's for trust domains, and no debugger reads its keys: any enclave can have itself certified.
        qe = fields.qe_report
        if qe.mr_signer not in qe_signers or qe.isv_prod_id != _TD_QE_PRODUCT:
            raise KeyTrustError("the quoting enclave is not a known one", check="qe-identity")
        if qe.attributes[0] & _ENCLAVE_DEBUG:
            raise KeyTrustError("the quoting enclave can be debugged", check="qe-debug")
        # 5. The attestation key is that enclave's own (A16).
        bound = hashlib.sha256(fields.attestation_key + fields.qe_authentication).digest() + bytes(32)
        if not hmac.compare_digest(qe.report_data, bound):
            raise KeyTrustError("the quoting enclave vouches for another attestation key", check="qe-binding")
        # 6. It signed these very bytes (A14).
        _check_ecdsa(_point(fields.attestation_key), fields.signature, fields.signed, "signature")
        # 7. The TDX module is Intel's, and the host cannot look into the trust domain (TUD attributes).
        if any(fields.report.mr_signer_seam) or any(fields.report.seam_attributes):
            raise KeyTrustError("the TDX module is not Intel's", check="tdx-module")
        if fields.report.td_attributes[0] and not unsafe_allow_debug:
            raise EvidenceError("the trust domain can be debugged", check="td-debug")
        return VerifiedTdxQuote._proven(self)  # noqa: SLF001 - the one place that makes it


@final
@frozen(kw_only=True, init=False, eq=False, slots=False, getstate_setstate=False)
class VerifiedTdxQuote(Proven):
    """A quote that was verified. Only :meth:`TdxQuote.verify` makes one."""

    quote: TdxQuote

    def __init__(self, *, quote: TdxQuote, proof: object = None) -> None:
        if proof is not _PROOF:
            raise TypeError("a VerifiedTdxQuote is made by TdxQuote.verify, not by hand")
        self.__attrs_init__(quote=quote)

    @classmethod
    def _proven(cls, quote: TdxQuote) -> VerifiedTdxQuote:
        return cls(quote=quote, proof=_PROOF)

    @property
    def report(self) -> TdReport:
        """What the quoting enclave vouches for."""
        return self.quote.report

    @property
    def not_checked(self) -> tuple[str, ...]:
        """What this does not say: :data:`NOT_CHECKED`."""
        return NOT_CHECKED

    def verify_log(self, log: EventLog, *, registers: Sequence[int] = _RTMRS) -> VerifiedTdxEvidence:
        """Prove that a CCEL replays to the quoted RTMRs, all of them unless ``registers`` names fewer.

        Raises :class:`~measlog.errors.ReplayError`, which names each register that differs.
        """
        # 1. It is a CCEL, and whole (A36, A37, A39).
        if log.kind != "ccel":
            raise ReplayError("the log is a TPM's: its registers are PCRs, which no TDX quote holds", check="log-kind")
        if not log.complete:
            raise ReplayError("the log is followed by bytes that are neither events nor filler", check="log-incomplete")
        unknown = sorted(set(registers) - set(_RTMRS))
        if unknown:
            raise ReplayError(f"there is no RTMR {unknown[0]}", check="replay")
        # 2. Each register is what the log gives; one without events is at its start (A22, A36).
        replayed = log.verify_pcrs("sha384", {index: self.report.rtmrs[index] for index in registers})
        if not any(index in replayed.bank for index in registers):
            raise ReplayError("the log explains none of the quoted registers", check="nothing-compared")
        return VerifiedTdxEvidence._proven(self, replayed)  # noqa: SLF001 - the one place that makes it


@final
@frozen(kw_only=True, init=False, eq=False, slots=False, getstate_setstate=False)
class VerifiedTdxEvidence(Proven):
    """A verified quote and a log that replays to its registers. Only :meth:`VerifiedTdxQuote.verify_log` makes one."""

    quote: VerifiedTdxQuote
    replayed: ReplayedLog

    def __init__(self, *, quote: VerifiedTdxQuote, replayed: ReplayedLog, proof: object = None) -> None:
        if proof is not _PROOF:
            raise TypeError("VerifiedTdxEvidence is made by VerifiedTdxQuote.verify_log, not by hand")
        self.__attrs_init__(quote=quote, replayed=replayed)

    @classmethod
    def _proven(cls, quote: VerifiedTdxQuote, replayed: ReplayedLog) -> VerifiedTdxEvidence:
        return cls(quote=quote, replayed=replayed, proof=_PROOF)

    @property
    def log(self) -> EventLog:
        """The log, proven to replay to the quoted registers."""
        return self.replayed.log


def _platform_key(fields: TdxQuoteFields, roots: bytes, now: datetime | None) -> ec.EllipticCurvePublicKey:
    """The key of the PCK certificate, whose chain ends in one of ``roots``."""
    if fields.certification_type != PCK_CERTIFICATE_CHAIN:
        raise KeyTrustError(
            f"the quote carries certification data of type {fields.certification_type}, not its certificate chain",
            check="chain",
        )
    # A NUL at its end, as Intel's quotes have, is outside the PEM; Intel's CAs state no extended key usage.
    chain = load_certificates(fields.certification, "certificate chain of the quote")
    verify_path(chain, load_certificates(roots, "roots"), now, None)
    leaf = chain[0]
    try:
        extensions = leaf.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        extensions.get_extension_for_oid(_SGX_EXTENSIONS)
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        key: Any = leaf.public_key()
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise KeyTrustError(f"the certificate is no PCK certificate: {error}", check="pck-certificate") from None
    if constraints.ca or not usage.digital_signature:
        raise KeyTrustError("the certificate is not for signing reports", check="pck-certificate")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise KeyTrustError("the certificate's key is not on P-256", check="pck-certificate")
    return key


def _point(raw: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
    except ValueError:
        raise SignatureError("the attestation key is no point of P-256", check="key-type") from None


def _check_ecdsa(key: ec.EllipticCurvePublicKey, raw: bytes, message: bytes, check: str) -> None:
    half = len(raw) // 2
    signature = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureError("a signature of the quote does not verify", check=check) from None
