"""Signed policies of predicted boots, in systemd's form (``.pcrsig``, ``tpm2-pcr-signature.json``).

A volume that was enrolled with the public key once opens in every boot whose policy is signed: an update brings a new
signature instead of a new enrolment.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from measlog.errors import PolicyError
from measlog.interop.seal.policy import policy_pcr
from measlog.interop.seal.states import State

__all__ = ["SigningKey", "pcrsig"]

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class SigningKey:
    """An RSA key that signs policies; ``from_pem`` reads one that is not encrypted."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        if not isinstance(key, rsa.RSAPrivateKey):
            raise PolicyError("policies are signed with an RSA key")
        self._key = key

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Raises PolicyError for anything but an RSA private key in PEM."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise PolicyError(f"not a private key in PEM: {error}") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise PolicyError("policies are signed with an RSA key")
        return cls(key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key in PKCS#1 DER, as systemd names keys."""
        public = self._key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        return hashlib.sha256(public).hexdigest()

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """RSASSA-PKCS1-v1_5."""
        return self._key.sign(data, padding.PKCS1v15(), _HASHES[algorithm]())


def pcrsig(states: Sequence[State], key: SigningKey) -> bytes:
    """The JSON document: by bank, one signed policy a state. The policy hash is SHA-256, as systemd demands.

    Raises PolicyError where there is no state, or for a bank that systemd does not sign for.
    """
    if not states:
        raise PolicyError("no state to sign")
    banks: dict[str, list[dict[str, object]]] = {}
    for state in states:
        if state.bank not in _HASHES:
            raise PolicyError(f"policies over the bank {state.bank} are not signed")
        policy = policy_pcr(state, "sha256")
        banks.setdefault(state.bank, []).append(
            {
                "pcrs": list(state.values),
                "pkfp": key.fingerprint,
                "pol": policy.hex(),
                "sig": base64.b64encode(key.sign(policy, state.bank)).decode(),
            }
        )
    return json.dumps(banks, separators=(",", ":")).encode() + b"\n"
