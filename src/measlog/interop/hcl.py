"""Azure's HCL report: which vTPM keys the paravisor of a confidential VM vouches for.

Source: Microsoft, "Confidential VM Guest Attestation Design Detail". The report proves nothing by itself: its claims are
bound to the hardware by the report data of a verified TDX quote or SEV-SNP report.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any, Literal, Self

from attrs import field, frozen
from attrs.validators import instance_of
from cryptography.hazmat.primitives.asymmetric import rsa

from measlog.errors import FormatError, KeyTrustError, UnsupportedError
from measlog.evidence.keys import AttestationKey
from measlog.evidence.snp import SnpReport, VerifiedSnpReport
from measlog.evidence.tdx import VerifiedTdxQuote
from measlog.formats.hcl import CLAUSE, HclFields, parse_hcl_report
from measlog.interop.jsontext import parse_object

__all__ = ["HclReport"]

_AK = "HCLAkPub"
_REPORT_DATA_SIZE = 64
_CLAIMS_SIZE = 1 << 16
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@frozen(kw_only=True)
class HclReport:
    """A report as read from NV index 0x01400001; none of it is proven."""

    raw: bytes = field(repr=False, converter=bytes, validator=instance_of(bytes))
    fields: HclFields = field(init=False)
    claims: dict[str, Any] = field(init=False, repr=False)
    """The runtime claims: keys, VM configuration, user data."""

    @fields.default
    def _read_fields(self) -> HclFields:
        return parse_hcl_report(self.raw)

    @claims.default
    def _read_claims(self) -> dict[str, Any]:
        try:
            return parse_object(self.fields.claims, size=_CLAIMS_SIZE, depth=8)
        except FormatError as error:
            raise error.inside("runtime.claims") from None

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a report; raises :class:`~measlog.errors.FormatError`."""
        return cls(raw=data)

    @property
    def kind(self) -> Literal["sev-snp", "tdx"]:
        """What the hardware report is."""
        return self.fields.kind

    @property
    def expected_report_data(self) -> bytes:
        """The 64 bytes that a hardware report about these claims has: their hash, filled with zeros."""
        return hashlib.new(self.fields.hash, self.fields.claims).digest().ljust(_REPORT_DATA_SIZE, b"\0")

    def unsafe_claimed_ak(self) -> AttestationKey:
        """The vTPM's attestation key as the claims have it: whoever made the report chose it.

        Raises :class:`~measlog.errors.FormatError` where there is none, or several.
        """
        keys = self.claims.get("keys")
        if not isinstance(keys, list):
            raise FormatError("expected a list", path="runtime.claims.keys", clause=CLAUSE)
        found = [key for key in keys if isinstance(key, dict) and key.get("kid") == _AK]
        if len(found) != 1:
            raise FormatError(f"{len(found)} keys {_AK}", path="runtime.claims.keys", clause=CLAUSE)
        return AttestationKey.load(_rsa_key(found[0]))

    def snp_report(self) -> SnpReport:
        """The hardware report of an AMD machine, not verified.

        Raises :class:`~measlog.errors.FormatError`, and its kind :class:`~measlog.errors.UnsupportedError` where the
        machine is another: the TDX quote about its report is not in here.
        """
        if self.fields.kind != "sev-snp":
            raise UnsupportedError("the hardware report is of Intel TDX, not an SEV-SNP report", path="report")
        return SnpReport.from_bytes(self.fields.hardware_report)

    def ak(self, verified: VerifiedTdxQuote | VerifiedSnpReport) -> AttestationKey:
        """The vTPM's attestation key, if a verified quote or report of the hardware vouches for these claims.

        Its report data must be :attr:`expected_report_data`; that it is fresh is for the vTPM's own quote, and its
        nonce, to show. Raises :class:`~measlog.errors.KeyTrustError`, and TypeError for what is no such proof.
        """
        # 1. It is a proof, of the hardware that the report is about.
        if isinstance(verified, VerifiedTdxQuote):
            kind, report_data = "tdx", verified.report.report_data
        elif isinstance(verified, VerifiedSnpReport):
            kind, report_data = "sev-snp", verified.fields.report_data
        else:
            raise TypeError(f"only a verified quote or report vouches for a key, not {type(verified).__name__}")
        if self.fields.kind != kind:
            raise KeyTrustError(f"the report is of {self.fields.kind}, what vouches for it of {kind}", check="hcl-kind")
        # 2. It is about these claims (A16).
        if not hmac.compare_digest(report_data, self.expected_report_data):
            raise KeyTrustError("the hardware vouches for other claims", check="hcl-binding")
        return self.unsafe_claimed_ak()


def _rsa_key(key: dict[str, Any]) -> rsa.RSAPublicKey:
    """A JWK (RFC 7517, RFC 7518 6.3) of an RSA key."""
    path = f"runtime.claims.keys[{_AK}]"
    if key.get("kty") != "RSA":
        raise FormatError(f"the key type {str(key.get('kty'))[:20]}", path=path, clause="RFC 7518, 6.3")
    numbers = []
    for name in ("e", "n"):
        value = key.get(name)
        if not isinstance(value, str) or _BASE64URL.fullmatch(value) is None or len(value) % 4 == 1:
            raise FormatError("expected base64url", path=f"{path}.{name}", clause="RFC 7518, 6.3.1")
        numbers.append(int.from_bytes(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)), "big"))
    try:
        return rsa.RSAPublicNumbers(*numbers).public_key()
    except ValueError as error:
        raise FormatError(f"no RSA key: {error}", path=path, clause="RFC 7518, 6.3.1") from None
