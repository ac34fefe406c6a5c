"""Signed manifests: DSSE envelopes (secure-systems-lab/dsse, protocol 1.0 and envelope 1.0).

The signature covers the pre-authentication encoding of payload type and payload, never the JSON of the envelope.
Ed25519, ECDSA with P-256 and SHA-256, and ECDSA with P-384 and SHA-384 are the only keys used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Protocol, Self, runtime_checkable

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from measlog.errors import ManifestError
from measlog.reference.manifest import SIZE_LIMIT, ReferenceManifest, canonical_json, parse_json

__all__ = [
    "PAYLOAD_TYPE",
    "Dated",
    "DsseSignature",
    "Envelope",
    "PrivateKey",
    "PublicKey",
    "SignedManifest",
    "Signer",
    "check_in_force",
    "check_validity",
    "key_id",
    "load_public_key",
    "load_signer",
    "not_in_force",
    "pre_authentication_encoding",
    "sign",
    "sign_payload",
]

PAYLOAD_TYPE = "application/vnd.measlog.manifest+json"

PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

SIGNATURE_LIMIT = 16
ENVELOPE_LIMIT = SIZE_LIMIT * 2


@runtime_checkable
class Signer(Protocol):
    """Something that signs: a key on a token, for instance.

    ``public_key`` is the key that verifies; ``sign(data)`` returns an Ed25519 signature, or an ECDSA one as DER, made
    with the hash that :mod:`measlog.reference.signing` uses for that key.
    """

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies what :meth:`sign` makes."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over ``data``."""
        ...


@frozen(kw_only=True)
class DsseSignature:
    """One signature of an envelope. ``keyid`` is a hint that nobody vouches for."""

    keyid: str = field(validator=instance_of(str))
    sig: bytes = field(validator=instance_of(bytes))


@frozen(kw_only=True)
class Envelope:
    """A DSSE envelope as read: anybody's bytes until :meth:`verified_payload` has been asked."""

    payload_type: str = field(validator=instance_of(str))
    payload: bytes = field(validator=instance_of(bytes), repr=lambda payload: f"<{len(payload)} bytes>")
    signatures: tuple[DsseSignature, ...] = field(validator=deep_iterable(instance_of(DsseSignature)))

    @classmethod
    def from_bytes(cls, data: bytes, *, limit: int = ENVELOPE_LIMIT) -> Self:
        """Read an envelope of at most ``limit`` bytes; ManifestError for anything else."""
        document = parse_json(data, what="envelope", size=limit)
        if not {"payload", "payloadType", "signatures"} <= document.keys():  # the rest is to be ignored
            raise ManifestError("envelope: expected payload, payloadType and signatures; is this a signed manifest?")
        kind, signatures = document["payloadType"], document["signatures"]
        if not isinstance(kind, str):
            raise ManifestError("envelope.payloadType: expected text")
        if not isinstance(signatures, list) or not 1 <= len(signatures) <= SIGNATURE_LIMIT:
            raise ManifestError(f"envelope.signatures: expected a list of 1 to {SIGNATURE_LIMIT}")
        read = []
        for index, one in enumerate(signatures):
            path = f"envelope.signatures[{index}]"
            if not isinstance(one, dict) or "sig" not in one:
                raise ManifestError(f"{path}: expected an object with sig")
            keyid = one.get("keyid", "")
            if not isinstance(keyid, str):
                raise ManifestError(f"{path}.keyid: expected text")
            read.append(DsseSignature(keyid=keyid, sig=_base64(one["sig"], f"{path}.sig")))
        payload = _base64(document["payload"], "envelope.payload")
        return cls(payload_type=kind, payload=payload, signatures=tuple(read))

    def to_bytes(self) -> bytes:
        """The envelope as canonical JSON."""
        return canonical_json(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": one.keyid, "sig": base64.b64encode(one.sig).decode()} for one in self.signatures
                ],
            }
        )

    def verified_payload(
        self, *, payload_type: str, keys: Iterable[PublicKey | bytes | str]
    ) -> tuple[bytes, tuple[str, ...]]:
        """The payload and the ids of the given keys that signed it; ManifestError where none did."""
        # 1. The payload type first: a document of another kind, signed by the same key, is not a manifest (A43).
        if self.payload_type != payload_type:
            raise ManifestError(f"payload type {self.payload_type[:80]!r}, expected {payload_type!r}")
        # 2. Only keys of the kinds allowed (A17), and at least one of them (A41).
        loaded = [load_public_key(key) for key in keys]
        if not loaded:
            raise ManifestError("no key was given to verify the manifest with")
        # 3. The signature, over type and payload together. Key ids are hints and choose nothing: every key is tried.
        message = pre_authentication_encoding(self.payload_type, self.payload)
        signers = tuple(
            key_id(key) for key in loaded if any(_verifies(key, one.sig, message) for one in self.signatures)
        )
        if not signers:
            known = ", ".join(key_id(key)[:16] for key in loaded)
            raise ManifestError(f"the manifest is signed by none of the given keys ({known})")
        return self.payload, tuple(dict.fromkeys(signers))


@frozen(kw_only=True)
class SignedManifest:
    """A signed manifest as read, before anything about it is known. :meth:`verify` gives the manifest."""

    envelope: Envelope = field(validator=instance_of(Envelope))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a signed manifest; ManifestError for anything else."""
        return cls(envelope=Envelope.from_bytes(data))

    def verify(
        self,
        *,
        keys: Iterable[PublicKey | bytes | str],
        now: datetime | None = None,
        minimum_version: int | None = None,
    ) -> ReferenceManifest:
        """The manifest, if it is signed by one of ``keys``, in force at ``now`` and not older than ``minimum_version``.

        ``keys`` are objects or PEM; ``now`` is the current time where none is given and needs a time zone. The
        manifest's ``signed_by`` names the keys. Raises :class:`ManifestError`.
        """
        # Steps 1 to 3: type, keys, signature. Nothing of the payload is looked at before.
        payload, signers = self.envelope.verified_payload(payload_type=PAYLOAD_TYPE, keys=keys)
        # 4. The signed bytes are a manifest of a known version.
        manifest = ReferenceManifest.from_json(payload)
        # 5. In force: neither expired nor for later (A43: freshness).
        # 6. Not rolled back below the caller's floor (A43: rollback).
        check_in_force(manifest, now, minimum_version, what="manifest")
        # signed_by is no argument of the class, so that no caller can claim a signature by construction.
        object.__setattr__(manifest, "signed_by", signers)
        return manifest


class Dated(Protocol):
    """What is in force for a time and has versions: a manifest, or an index of them."""

    @property
    def name(self) -> str:
        """What errors call it."""

    @property
    def version(self) -> int:
        """It grows from one to the next."""

    @property
    def not_before(self) -> datetime | None:
        """The moment from which it is in force."""

    @property
    def expires(self) -> datetime | None:
        """The moment from which it is in force no longer."""


def check_in_force(document: Dated, now: datetime | None, minimum_version: int | None, *, what: str) -> None:
    """Raise ManifestError unless the document is in force at ``now``, and not of a lower version.

    ``now`` is the current time where none is given.
    """
    check_validity(document.not_before, document.expires, now, what=f"{what} {document.name}")
    if minimum_version is not None and document.version < minimum_version:
        raise ManifestError(
            f"{what} {document.name} has version {document.version}, at least {minimum_version} is required"
        )


def not_in_force(document: Dated, now: datetime | None) -> str | None:
    """Why a document is not in force at ``now`` (the current time where none is given), or None where it is.

    Raises ManifestError for a ``now`` without a time zone.
    """
    return _outside(document.not_before, document.expires, now)


def check_validity(not_before: datetime | None, expires: datetime | None, now: datetime | None, *, what: str) -> None:
    """Raise ManifestError unless ``now`` (the current time where none is given) is within the bounds that are given."""
    if (reason := _outside(not_before, expires, now)) is not None:
        raise ManifestError(f"{what} {reason}")


def _outside(not_before: datetime | None, expires: datetime | None, now: datetime | None) -> str | None:
    moment = datetime.now(UTC) if now is None else now
    if moment.utcoffset() is None:
        raise ManifestError("the time to judge the manifest by has no time zone")
    if not_before is not None and moment < not_before:
        return f"is not valid before {not_before:%Y-%m-%dT%H:%M:%SZ}"
    if expires is not None and moment >= expires:
        return f"expired at {expires:%Y-%m-%dT%H:%M:%SZ}"
    return None


def sign(manifest: ReferenceManifest, private_key: PrivateKey | Signer | bytes | str) -> bytes:
    """The manifest in a DSSE envelope, signed by a key object, an unencrypted PEM key or a :class:`Signer`."""
    return sign_payload(PAYLOAD_TYPE, manifest.to_json(), private_key)


def sign_payload(payload_type: str, payload: bytes, private_key: PrivateKey | Signer | bytes | str) -> bytes:
    """A DSSE envelope of any payload type with one signature.

    Raises ManifestError where the key does not verify it.
    """
    public, signer = load_signer(private_key)
    message = pre_authentication_encoding(payload_type, payload)
    signature = signer(message)
    if not _verifies(public, signature, message):
        raise ManifestError("the signature just made does not verify with its own public key")
    made = DsseSignature(keyid=key_id(public), sig=signature)
    return Envelope(payload_type=payload_type, payload=payload, signatures=(made,)).to_bytes()


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """PAE(type, body) of DSSE protocol 1.0: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: PublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo (DER) in hexadecimal digits."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def load_public_key(key: PublicKey | bytes | str) -> PublicKey:
    """A key object or PEM as a public key of an allowed kind; ManifestError for others."""
    if isinstance(key, bytes | str):
        pem = key.encode() if isinstance(key, str) else key
        if b"PRIVATE KEY-----" in pem:
            raise ManifestError("the manifest key is a private key, where the public one is needed")
        try:
            loaded: object = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ManifestError("the manifest key is not a PEM public key") from error
    else:
        loaded = key
    if isinstance(loaded, ed25519.Ed25519PublicKey):
        return loaded
    if isinstance(loaded, ec.EllipticCurvePublicKey) and loaded.curve.name in _CURVES:
        return loaded
    raise ManifestError("manifests are signed with Ed25519, ECDSA P-256 or ECDSA P-384; the key given is another kind")


_CURVES: dict[str, Callable[[], hashes.HashAlgorithm]] = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384}


def _verifies(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(_CURVES[key.curve.name]()))
    except InvalidSignature:
        return False
    return True


def load_signer(private_key: PrivateKey | Signer | bytes | str) -> tuple[PublicKey, Callable[[bytes], bytes]]:
    """The public half of a signing key, and what signs with it (ECDSA signatures as DER); ManifestError for others."""
    loaded: object = private_key
    if isinstance(private_key, bytes | str):
        pem = private_key.encode() if isinstance(private_key, str) else private_key
        try:
            loaded = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, ValueError, UnsupportedAlgorithm) as error:
            raise ManifestError("the signing key is not an unencrypted PEM private key") from error
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return loaded.public_key(), loaded.sign
    if isinstance(loaded, ec.EllipticCurvePrivateKey):
        key = loaded
        public = load_public_key(key.public_key())
        algorithm = ec.ECDSA(_CURVES[key.curve.name]())
        return public, lambda message: key.sign(message, algorithm)
    if isinstance(loaded, Signer):
        return load_public_key(loaded.public_key), loaded.sign
    raise ManifestError("manifests are signed with Ed25519, ECDSA P-256 or ECDSA P-384; the key given is another kind")


_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


def _base64(value: Any, path: str) -> bytes:
    # The envelope specification allows the standard and the URL-safe alphabet.
    if not isinstance(value, str) or _BASE64.fullmatch(value) is None:
        raise ManifestError(f"{path}: expected base64")
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        raise ManifestError(f"{path}: expected base64") from None
