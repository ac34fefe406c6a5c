"""Attestation keys, and the signatures that they make.

Sources: TCG TPM 2.0 Library Part 1, clauses 11.4 (signing) and 25 (object attributes); Part 2, clause 8.3.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Literal

from attrs import field, frozen
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from measlog.errors import FormatError, SignatureError
from measlog.formats.tpm2 import (
    TPM_ALG_ECDSA,
    TPM_ALG_RSA,
    TPM_ALG_RSAPSS,
    PublicArea,
    SignatureBlob,
    parse_public,
)
from measlog.registry import algorithm_name, hash_constructor

__all__ = ["AkKey", "AkTrust", "AttestationKey", "ObjectAttributes"]

AkTrust = Literal["caller", "chain", "credential"]
AkKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_MIN_RSA_BITS = 2048
_CURVES: dict[int, ec.EllipticCurve] = {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1(), 0x0005: ec.SECP521R1()}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_SCHEMES = {0x0014: "RSASSA", 0x0016: "RSAPSS", 0x0018: "ECDSA"}


class ObjectAttributes(enum.IntFlag, boundary=enum.KEEP):
    """TPMA_OBJECT (Part 2, 8.3.2)."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18


_REQUIRED = {
    ObjectAttributes.RESTRICTED: "restricted",
    ObjectAttributes.SIGN_ENCRYPT: "sign",
    ObjectAttributes.FIXED_TPM: "fixedTPM",
    ObjectAttributes.SENSITIVE_DATA_ORIGIN: "sensitiveDataOrigin",
}


@frozen(kw_only=True)
class AttestationKey:
    """The public half of an AK. ``area`` is its TPMT_PUBLIC where that was given: only then its attributes are known."""

    public_key: AkKey
    area: PublicArea | None = None
    trust: AkTrust = field(init=False, default="caller")
    """Who vouches for the key. :mod:`measlog.evidence.trust` alone makes keys that somebody else than the caller does."""

    @classmethod
    def load(cls, key: AkKey | AttestationKey | bytes) -> AttestationKey:
        """Take a ``cryptography`` key, PEM, or TPM2B_PUBLIC.

        Raises :class:`~measlog.errors.FormatError` for bytes that are neither, and
        :class:`~measlog.errors.SignatureError` for keys that cannot be an AK.
        """
        if isinstance(key, AttestationKey):
            return key
        if isinstance(key, bytes):
            if key.lstrip().startswith(b"-----BEGIN"):
                return cls._accept(_load_pem(key), None)
            area = parse_public(key)
            return cls._accept(_key_of(area), area)
        return cls._accept(key, None)

    @classmethod
    def _accept(cls, key: object, area: PublicArea | None) -> AttestationKey:
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < _MIN_RSA_BITS:
                raise SignatureError(f"an RSA key of {key.key_size} bits is too short for an AK", check="key-type")
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if key.curve.name not in {curve.name for curve in _CURVES.values()}:
                raise SignatureError(f"the curve {key.curve.name} is not accepted for an AK", check="key-type")
        else:
            raise SignatureError(f"{type(key).__name__} is no RSA or ECC public key", check="key-type")
        return cls(public_key=key, area=area)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, hex."""
        der = self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()

    @property
    def attributes(self) -> ObjectAttributes | None:
        """TPMA_OBJECT, or ``None`` where only the bare key was given."""
        return None if self.area is None else ObjectAttributes(self.area.attributes)

    @property
    def name(self) -> bytes | None:
        """The object's Name (Part 1, 16): nameAlg and the hash of its public area; ``None`` for a bare key."""
        if self.area is None:
            return None
        new = hash_constructor(algorithm_name(self.area.name_alg))
        if new is None:
            return None
        return self.area.name_alg.to_bytes(2, "big") + new(self.area.raw).digest()

    def missing_attributes(self) -> tuple[str, ...]:
        """What keeps this from being an AK by its attributes; nothing where they are not known.

        An unrestricted key signs whatever it is given, a forged TPMS_ATTEST included (A14).
        """
        attributes = self.attributes
        if attributes is None:
            return ()
        missing = [name for flag, name in _REQUIRED.items() if not attributes & flag]
        if attributes & ObjectAttributes.DECRYPT:
            missing.append("for signing alone")
        return tuple(missing)

    def verify(self, blob: SignatureBlob, message: bytes, *, unsafe_allow_sha1: bool = False) -> None:
        """Check a TPM's signature over ``message``; raises :class:`~measlog.errors.SignatureError`."""
        scheme = _SCHEMES[blob.scheme]
        name = algorithm_name(blob.hash)
        algorithm = _HASHES.get(name)
        # 1. The hash is one of an allow list: a SHA-1 collision is a forged quote (A17).
        if algorithm is None or (name == "sha1" and not unsafe_allow_sha1):
            raise SignatureError(f"the quote is signed over {name}, which is not accepted", check="signature-hash")
        # 2. Key and scheme belong together, and the scheme is the one that the key is bound to (A17).
        wants_rsa = blob.scheme != TPM_ALG_ECDSA
        if wants_rsa != isinstance(self.public_key, rsa.RSAPublicKey):
            kind = "RSA" if isinstance(self.public_key, rsa.RSAPublicKey) else "ECC"
            raise SignatureError(f"a signature of scheme {scheme} cannot be by an {kind} key", check="signature-scheme")
        area = self.area
        if area is not None and area.scheme in _SCHEMES and (area.scheme, area.scheme_hash) != (blob.scheme, blob.hash):
            raise SignatureError(
                "the signature's scheme is not the one that the key is bound to", check="signature-scheme"
            )
        # 3. The signature itself (A14, A15: nobody but the key's TPM made these bytes).
        try:
            if isinstance(self.public_key, rsa.RSAPublicKey):
                mode: padding.AsymmetricPadding = padding.PKCS1v15()
                if blob.scheme == TPM_ALG_RSAPSS:
                    mode = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
                self.public_key.verify(blob.value, message, mode, algorithm)
            else:
                self.public_key.verify(encode_dss_signature(blob.r, blob.s), message, ec.ECDSA(algorithm))
        except (InvalidSignature, ValueError):
            raise SignatureError("the signature over the quote is not by this key", check="signature") from None
        except UnsupportedAlgorithm as error:
            raise SignatureError(
                f"this Python cannot verify {scheme} over {name}: {error}", check="signature"
            ) from None


def _load_pem(data: bytes) -> object:
    try:
        return load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError(f"this PEM holds no public key: {error}", path="ak", clause="RFC 7468") from None


def _key_of(area: PublicArea) -> AkKey:
    try:
        if area.type == TPM_ALG_RSA:
            assert area.rsa_modulus is not None
            assert area.rsa_exponent is not None
            return rsa.RSAPublicNumbers(area.rsa_exponent, area.rsa_modulus).public_key()
        assert area.curve is not None
        assert area.x is not None
        assert area.y is not None
        curve = _CURVES.get(area.curve)
        if curve is None:
            raise SignatureError(f"the curve 0x{area.curve:04x} is not accepted for an AK", check="key-type")
        return ec.EllipticCurvePublicNumbers(area.x, area.y, curve).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError(f"the public area holds no valid key: {error}", path="public.unique") from None
