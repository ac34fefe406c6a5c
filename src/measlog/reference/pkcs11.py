"""Signing manifests with a key that stays on a token: PKCS #11 (OASIS, version 2.40), by way of python-pkcs11."""

from __future__ import annotations

import hashlib
import importlib
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from measlog.errors import ManifestError, MissingExtraError
from measlog.reference.signing import PublicKey, load_public_key

__all__ = ["Pkcs11Signer"]

_HASHES = {"secp256r1": "sha256", "secp384r1": "sha384"}


class Pkcs11Signer:
    """An ECDSA key (P-256 or P-384) on a token, for :meth:`measlog.ReferenceManifest.sign`. Use it as a context manager.

    ``module`` is the path of the token's PKCS #11 library, ``token`` and ``label`` name token and key, ``pin`` is the
    user's. Raises ManifestError where one of them is not there, MissingExtraError where python-pkcs11 is not installed.
    """

    def __init__(self, *, module: str, token: str, label: str, pin: str) -> None:
        try:
            self._pkcs11: Any = importlib.import_module("pkcs11")
            codec: Any = importlib.import_module("pkcs11.util.ec")
        except ImportError:
            raise MissingExtraError("python-pkcs11", "pkcs11") from None
        session: Any = None
        try:
            session = self._pkcs11.lib(module).get_token(token_label=token).open(user_pin=pin)
            self._key: Any = session.get_key(object_class=self._pkcs11.ObjectClass.PRIVATE_KEY, label=label)
            public: Any = session.get_key(object_class=self._pkcs11.ObjectClass.PUBLIC_KEY, label=label)
            der = codec.encode_ec_public_key(public)
        except (self._pkcs11.PKCS11Error, RuntimeError, KeyError) as error:
            if session is not None:
                session.close()
            raise ManifestError(f"the key {label!r} on the token {token!r}: {error or type(error).__name__}") from None
        self._session = session
        try:
            self.public_key: PublicKey = load_public_key(load_der_public_key(der))  # type: ignore[arg-type]
        except ValueError:
            session.close()
            raise

    def sign(self, data: bytes) -> bytes:
        """The ECDSA signature over ``data``, as DER."""
        assert isinstance(self.public_key, ec.EllipticCurvePublicKey)
        hashed = hashlib.new(_HASHES[self.public_key.curve.name], data).digest()
        try:
            raw: bytes = self._key.sign(hashed, mechanism=self._pkcs11.Mechanism.ECDSA)
        except self._pkcs11.PKCS11Error as error:
            raise ManifestError(f"the token does not sign: {error or type(error).__name__}") from None
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def close(self) -> None:
        """Log out."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
