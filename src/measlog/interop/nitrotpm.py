"""The attestation document of AWS NitroTPM: registers of the instance's vTPM, signed by the Nitro hypervisor.

Source: Amazon EC2 User Guide, "Validate a NitroTPM Attestation Document". There is no TPM quote in it: the hypervisor signs
the registers itself, in SHA-384.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Self, final

from attrs import field, frozen
from attrs.validators import instance_of
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from measlog.errors import FormatError, KeyTrustError, NonceError, ReplayError, UnsupportedError
from measlog.evidence.proof import Proven
from measlog.evidence.trust import UNREADABLE, load_certificate, load_certificates, verify_path
from measlog.interop.cbor import decode
from measlog.interop.cose import Sign1
from measlog.log import EventLog, ReplayedLog
from measlog.replay.pcr import PCR_COUNT

__all__ = ["NitroTpmContents", "NitroTpmDocument", "VerifiedNitroTpm"]

_CLAUSE = "EC2 User Guide, NitroTPM Attestation Document specification"
_SIZE = 1 << 18
_BANK, _DIGEST_SIZE = "sha384", 48
_REGISTERS = 32
_CERTIFICATE_SIZE = 1024
_MAX_BUNDLE = 16
_DATA_SIZE = 1024
_PROOF = object()


@frozen(kw_only=True)
class NitroTpmContents:
    """What a document says. ``timestamp`` is in milliseconds since 1970; certificates are DER, the bundle's root first."""

    module_id: str
    timestamp: int
    pcrs: Mapping[int, bytes] = field(repr=False)
    """By index, SHA-384."""
    certificate: bytes = field(repr=False)
    cabundle: tuple[bytes, ...] = field(repr=False)
    public_key: bytes | None = field(repr=False)
    user_data: bytes | None
    nonce: bytes | None


@frozen(kw_only=True)
class NitroTpmDocument:
    """A document as read, before anything about it is known."""

    raw: bytes = field(repr=False, converter=bytes, validator=instance_of(bytes))
    # Read from the very bytes that the signature is checked over.
    message: Sign1 = field(init=False, repr=False)
    contents: NitroTpmContents = field(init=False)

    @message.default
    def _read_message(self) -> Sign1:
        return Sign1.from_bytes(self.raw, size=_SIZE, tag=None)

    @contents.default
    def _read_contents(self) -> NitroTpmContents:
        return _contents(self.message.payload)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a document, with the tag of a COSE_Sign1 or without it; raises :class:`~measlog.errors.FormatError`."""
        return cls(raw=data)

    def verify(self, *, roots: bytes, nonce: bytes, now: datetime | None = None) -> VerifiedNitroTpm:
        """Prove that the Nitro hypervisor signed these registers for this nonce.

        ``roots`` are PEM: the root of AWS's Nitro attestation PKI. Its certificates live for hours: ``now`` is when the
        document was received. Raises an :class:`~measlog.errors.EvidenceError` whose ``check`` names the step that
        failed.
        """
        # 1. It answers this verifier's question (A15).
        if not nonce:
            raise NonceError("an empty nonce cannot show that a document is fresh", check="nonce")
        answered = self.contents.nonce
        if answered is None or not hmac.compare_digest(answered, nonce):
            said = "no nonce" if answered is None else f"the nonce {answered.hex()}"
            raise NonceError(f"the document answers {said}, not {nonce.hex()}", check="nonce")
        # 2. Its certificate leads to a root that the verifier names (A16). The bundle's own root is not looked at.
        #    These CAs are for nothing else: any extended usage will do.
        chain = [load_certificate(self.contents.certificate, "payload.certificate")]
        bundle = self.contents.cabundle
        chain += [load_certificate(bundle[i], f"payload.cabundle[{i}]") for i in range(len(bundle) - 1, 0, -1)]
        verify_path(chain, load_certificates(roots, "roots"), now, None)
        # 3. It is one for signing, of a key for ES384, which is the only algorithm of these documents (A17).
        key = _signing_key(chain[0])
        # 4. That key signed these very bytes (A14).
        self.message.verify(key)
        return VerifiedNitroTpm._proven(self)  # noqa: SLF001 - the one place that makes it


@final
@frozen(kw_only=True, init=False, eq=False, getstate_setstate=False)
class VerifiedNitroTpm(Proven):
    """A document that was verified. Only :meth:`NitroTpmDocument.verify` makes one."""

    document: NitroTpmDocument

    def __init__(self, *, document: NitroTpmDocument, proof: object = None) -> None:
        if proof is not _PROOF:
            raise TypeError("a VerifiedNitroTpm is made by NitroTpmDocument.verify, not by hand")
        self.__attrs_init__(document=document)

    @classmethod
    def _proven(cls, document: NitroTpmDocument) -> VerifiedNitroTpm:
        return cls(document=document, proof=_PROOF)

    @property
    def pcrs(self) -> Mapping[int, bytes]:
        """The signed registers, SHA-384, by PCR index."""
        return self.document.contents.pcrs

    def verify_log(self, log: EventLog) -> ReplayedLog:
        """Compare the log's SHA-384 bank with the signed registers: each register that it has events for.

        Registers that the log is silent about (PCR 10, say) are not compared; see :meth:`unexplained`. Raises
        :class:`~measlog.errors.ReplayError`, which names each register that differs.
        """
        # 1. It is a TPM's log, and whole (A36, A37, A39).
        if log.kind == "ccel":
            raise ReplayError("the log is a CCEL: its registers are RTMRs, which NitroTPM has not", check="log-kind")
        if not log.complete:
            raise ReplayError("the log is followed by bytes that are neither events nor filler", check="log-incomplete")
        # 2. Every register with events was signed, and is what the log gives (A22, A36).
        bank = log.replay(_BANK)
        missing = sorted(set(bank) - set(self.pcrs))
        if missing:
            raise ReplayError(
                f"the document holds no PCR {missing[0]}, for which the log has events", check="selection"
            )
        return log.verify_pcrs(_BANK, {pcr: self.pcrs[pcr] for pcr in bank})

    def unexplained(self, replayed: ReplayedLog) -> tuple[int, ...]:
        """Signed registers that hold a value which no event of the log explains."""
        bank = replayed.bank
        return tuple(p for p, v in sorted(self.pcrs.items()) if p not in bank and v != bank.reset_value(p))


def _contents(payload: bytes) -> NitroTpmContents:
    try:
        document = decode(payload, size=_SIZE, depth=4)
    except FormatError as error:
        raise error.inside("payload") from None
    if not isinstance(document, dict):
        raise FormatError("expected a map", path="payload", clause=_CLAUSE)
    if "pcrs" in document:
        raise UnsupportedError(
            "this is the document of a Nitro Enclave, whose registers are no PCRs of a TPM", path="payload.pcrs"
        )
    if (digest := document.get("digest")) != "SHA384":
        raise UnsupportedError(f"the digest {str(digest)[:20]!r}", path="payload.digest", clause=_CLAUSE)
    bundle = document.get("cabundle")
    if not isinstance(bundle, list) or not 1 <= len(bundle) <= _MAX_BUNDLE:
        raise FormatError(f"expected 1 to {_MAX_BUNDLE} certificates", path="payload.cabundle", clause=_CLAUSE)
    module, timestamp = document.get("module_id"), document.get("timestamp")
    if not isinstance(module, str) or not module:
        raise FormatError("expected text", path="payload.module_id", clause=_CLAUSE)
    if type(timestamp) is not int or timestamp < 0:
        raise FormatError("expected milliseconds", path="payload.timestamp", clause=_CLAUSE)
    return NitroTpmContents(
        module_id=module,
        timestamp=timestamp,
        pcrs=MappingProxyType(_pcrs(document.get("nitrotpm_pcrs"))),
        certificate=_sized(document.get("certificate"), "certificate", _CERTIFICATE_SIZE),
        cabundle=tuple(_sized(der, f"cabundle[{i}]", _CERTIFICATE_SIZE) for i, der in enumerate(bundle)),
        public_key=_optional(document, "public_key"),
        user_data=_optional(document, "user_data"),
        nonce=_optional(document, "nonce"),
    )


def _pcrs(value: Any) -> dict[int, bytes]:
    if not isinstance(value, dict) or not 1 <= len(value) <= _REGISTERS:
        raise FormatError(f"expected a map of 1 to {_REGISTERS}", path="payload.nitrotpm_pcrs", clause=_CLAUSE)
    for index, digest in value.items():
        path = f"payload.nitrotpm_pcrs[{str(index)[:20]}]"
        if type(index) is not int or not 0 <= index < PCR_COUNT:
            raise FormatError("there is no such register", path=path, clause=_CLAUSE)
        if not isinstance(digest, bytes) or len(digest) != _DIGEST_SIZE:
            raise FormatError(f"expected {_DIGEST_SIZE} bytes", path=path, clause=_CLAUSE)
    return value


def _sized(value: Any, path: str, most: int, least: int = 1) -> bytes:
    if not isinstance(value, bytes) or not least <= len(value) <= most:
        raise FormatError(f"expected {least} to {most} bytes", path=f"payload.{path}", clause=_CLAUSE)
    return value


def _optional(document: Mapping[str, Any], name: str) -> bytes | None:
    # Absent and null both say that there is none.
    value = document.get(name)
    return None if value is None else _sized(value, name, _DATA_SIZE, 0)


def _signing_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        key = certificate.public_key()
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise KeyTrustError(f"the certificate is not for signing: {error}", check="certificate") from None
    if constraints.ca or not usage.digital_signature:
        raise KeyTrustError("the certificate is not for signing documents", check="certificate")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise KeyTrustError("the certificate's key is not on P-384", check="certificate")
    return key
