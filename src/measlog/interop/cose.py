"""COSE_Sign1: one signer, the payload inside (RFC 9052, clause 4.2; algorithms of RFC 9053 and RFC 8152)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from attrs import field, frozen
from attrs.validators import instance_of
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from measlog.errors import FormatError, SignatureError, UnsupportedError
from measlog.interop.cbor import Tag, decode, encode

__all__ = ["ALG", "CRITICAL", "SIGN1_TAG", "Sign1", "algorithm_of", "raw_signature"]

SIGN1_TAG = 18
# Header parameters (RFC 9052, 3.1).
ALG, CRITICAL, CONTENT_TYPE, KEY_ID = 1, 2, 3, 4

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_CLAUSE = "RFC 9052, 4.2"
_HEADER_SIZE = 1 << 16
EDDSA = -8
# RFC 9053, 2.1, each with the curve that RFC 9864 binds it to, so that a key has one algorithm and no choice.
_ECDSA: dict[str, tuple[int, hashes.HashAlgorithm]] = {
    "secp256r1": (-7, hashes.SHA256()),
    "secp384r1": (-35, hashes.SHA384()),
    "secp521r1": (-36, hashes.SHA512()),
}


def algorithm_of(key: PublicKey) -> int:
    """The COSE algorithm that a key is used with; :class:`~measlog.errors.SignatureError` for a curve that has none."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return EDDSA
    if key.curve.name not in _ECDSA:
        raise SignatureError(f"the curve {key.curve.name} is not accepted", check="key-type")
    return _ECDSA[key.curve.name][0]


def raw_signature(key: PublicKey, signature: bytes) -> bytes:
    """A signature as COSE and JOSE carry it: for ECDSA r and s side by side (RFC 9053, 2.1; RFC 7518, 3.4)."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return signature
    size = (key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


@frozen(kw_only=True)
class Sign1:
    """A COSE_Sign1 as read: anybody's bytes until :meth:`verify` has been asked.

    ``protected`` is the map that the signature covers; it is read from ``protected_raw``, its bytes.
    """

    protected_raw: bytes = field(validator=instance_of(bytes), repr=False)
    unprotected: Mapping[Any, Any] = field(factory=dict, repr=False)
    payload: bytes = field(validator=instance_of(bytes), repr=False)
    signature: bytes = field(validator=instance_of(bytes), repr=False)
    protected: Mapping[Any, Any] = field(init=False, repr=False)

    @protected.default
    def _read_protected(self) -> Mapping[Any, Any]:
        try:
            protected = decode(self.protected_raw, size=_HEADER_SIZE) if self.protected_raw else {}
        except FormatError as error:
            raise error.inside("protected") from None
        if not isinstance(protected, dict) or not isinstance(self.unprotected, dict):
            raise FormatError("expected maps of header parameters", path="protected", clause="RFC 9052, 3")
        both = [key for key in protected if key in self.unprotected]
        if both:
            raise FormatError(f"the parameter {both[0]} is protected and not", path="unprotected", clause="RFC 9052, 3")
        if CRITICAL in protected or CRITICAL in self.unprotected:
            raise UnsupportedError("critical header parameters", path="protected", clause="RFC 9052, 3.1")
        return protected

    @classmethod
    def from_bytes(cls, data: bytes, *, size: int, tag: bool | None = True) -> Self:
        """Read a COSE_Sign1 of at most ``size`` bytes; ``tag``: whether it must (or must not) have its tag.

        Raises :class:`~measlog.errors.FormatError`, for detached payloads and critical headers an UnsupportedError.
        """
        value = decode(data, size=size)
        tagged = isinstance(value, Tag) and value.number == SIGN1_TAG
        if (tag is True and not tagged) or (tag is False and tagged):
            raise FormatError(f"a COSE_Sign1 {'with' if tagged else 'without'} its tag", offset=0, clause=_CLAUSE)
        body = value.value if tagged else value
        if not isinstance(body, list) or len(body) != 4:
            raise FormatError("expected the four elements of a COSE_Sign1", offset=0, clause=_CLAUSE)
        protected_raw, unprotected, payload, signature = body
        if payload is None:
            raise UnsupportedError("a detached payload", path="payload", clause=_CLAUSE)
        for name, one in (("protected", protected_raw), ("payload", payload), ("signature", signature)):
            if not isinstance(one, bytes):
                raise FormatError("expected a byte string", path=name, clause=_CLAUSE)
        return cls(protected_raw=protected_raw, unprotected=unprotected, payload=payload, signature=signature)

    @property
    def to_be_signed(self) -> bytes:
        """Sig_structure with the context ``Signature1`` and no external data (RFC 9052, 4.4)."""
        return encode(["Signature1", self.protected_raw, b"", self.payload])

    def verify(self, key: PublicKey) -> None:
        """Check the signature with a key; raises :class:`~measlog.errors.SignatureError`."""
        # 1. The protected header names the algorithm that the key is for: the message chooses nothing (A17).
        expected = algorithm_of(key)
        if self.protected.get(ALG) != expected:
            raise SignatureError(
                f"the message is signed by the algorithm {str(self.protected.get(ALG))[:20]}, the key is for {expected}",
                check="signature-scheme",
            )
        # 2. The signature, over protected header and payload.
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(self.signature, self.to_be_signed)
                return
            size = (key.curve.key_size + 7) // 8
            if len(self.signature) != 2 * size:
                raise SignatureError(f"an ECDSA signature of {len(self.signature)} bytes", check="signature")
            r, s = (int.from_bytes(half, "big") for half in (self.signature[:size], self.signature[size:]))
            key.verify(encode_dss_signature(r, s), self.to_be_signed, ec.ECDSA(_ECDSA[key.curve.name][1]))
        except InvalidSignature:
            raise SignatureError("the signature does not verify with the key", check="signature") from None
