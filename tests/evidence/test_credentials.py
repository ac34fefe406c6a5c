"""Challenges for endorsement keys, opened in the test as a TPM opens them.

TPM2_ActivateCredential is done here with ``cryptography``'s own key derivations (SP 800-108, SP 800-56A), which
measlog does not use.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import importlib.util
import struct
import sys
import warnings
from typing import Any
from unittest.mock import create_autospec

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from measlog import AttestationKey
from measlog.errors import FormatError, KeyTrustError
from measlog.evidence import trust
from measlog.evidence.trust import CredentialChallenge, make_credential, verify_ak_certificate
from tests.evidence import quotes
from tests.evidence.test_trust import AK_USAGE, NOW, Authority, issue, pem

SECRET = b"a secret of thirty-two bytes ..."
# TPMA_OBJECT of an EK: fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt
EK_ATTRIBUTES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 16 | 1 << 17
AK = AttestationKey.load(quotes.public(quotes.ecc_key()))
NAMES = {"sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}


def _split(data: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack_from(">H", data)
    return data[2 : 2 + size], data[2 + size :]


def _kdfa(name: str, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    return KBKDFHMAC(
        algorithm=quotes.HASHES[name], mode=Mode.CounterMode, length=bits // 8, rlen=4, llen=4,
        location=CounterLocation.BeforeFixed, label=label, context=context, fixed=None,
    ).derive(key)  # fmt: skip


def activate(ek: Any, name: str, object_name: bytes, blob: bytes, encrypted: bytes) -> bytes:
    """TPM2_ActivateCredential (TPM 2.0 Part 3, 12.5)."""
    algorithm = quotes.HASHES[name]
    secret, rest = _split(encrypted)
    assert rest == b""
    if isinstance(ek, rsa.RSAPrivateKey):
        seed = ek.decrypt(secret, padding.OAEP(padding.MGF1(algorithm), algorithm, b"IDENTITY\0"))
    else:
        x, more = _split(secret)
        y, rest = _split(more)
        assert rest == b""
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ek.curve)
        shared = ek.exchange(ec.ECDH(), numbers.public_key())
        own = ek.public_key().public_numbers().x.to_bytes(len(x), "big")
        seed = ConcatKDFHash(algorithm, algorithm.digest_size, b"IDENTITY\0" + x + own).derive(shared)
    body, rest = _split(blob)
    assert rest == b""
    integrity, identity = _split(body)
    key = _kdfa(name, seed, b"INTEGRITY", b"", 8 * algorithm.digest_size)
    assert hmac.compare_digest(integrity, hmac.digest(key, identity + object_name, name))
    cipher = Cipher(
        algorithms.AES(_kdfa(name, seed, b"STORAGE", object_name, 128)), vars(trust)["CFB"](bytes(16))
    ).decryptor()
    opened, rest = _split(cipher.update(identity) + cipher.finalize())
    assert rest == b""
    return opened


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "ek",
    [quotes.rsa_key("ek"), quotes.rsa_key("ek3072", 3072), quotes.ecc_key("ek"), quotes.ecc_key("ek384", ec.SECP384R1),
     quotes.ecc_key("ek521", ec.SECP521R1)],
    ids=["rsa2048", "rsa3072", "P-256", "P-384", "P-521"],
)  # fmt: skip
def test_the_ek_alone_opens_what_is_made_for_it(ek: Any, name: str) -> None:
    public = AttestationKey.load(quotes.public(ek, attributes=EK_ATTRIBUTES, name_alg=NAMES[name]))
    assert AK.name is not None
    blob, encrypted = make_credential(public, AK.name, SECRET)
    assert activate(ek, name, AK.name, blob, encrypted) == SECRET
    # Bound to the AK's Name: another object in the same TPM does not get it.
    with pytest.raises(AssertionError):
        activate(ek, name, b"\x00\x0b" + hashlib.sha256(b"another object").digest(), blob, encrypted)
    again = make_credential(public, AK.name, SECRET)
    assert again[0] != blob
    assert again[1] != encrypted


def test_eks_that_are_not_accepted() -> None:
    bare = AttestationKey.load(quotes.ecc_key("ek").public_key())
    with pytest.raises(FormatError, match="TPM2B_PUBLIC of the EK"):
        make_credential(bare, b"name", SECRET)
    by_sha1 = AttestationKey.load(quotes.public(quotes.ecc_key("ek"), name_alg=0x0004))
    with pytest.raises(KeyTrustError, match="Name is by sha1") as caught:
        make_credential(by_sha1, b"name", SECRET)
    assert caught.value.check == "ek"


def test_the_file_of_tpm2_tools() -> None:
    challenge = CredentialChallenge(key=AK, credential_blob=b"blob", encrypted_secret=b"seed", secret=SECRET)
    assert challenge.to_tpm2_tools() == bytes.fromhex("badcc0de00000001") + b"blobseed"
    assert SECRET.decode() not in repr(challenge)


def test_certificates_for_keys_that_no_tpm_has() -> None:
    authority = Authority()
    key: Any = ed25519.Ed25519PrivateKey.generate().public_key()
    leaf = issue("ak", key, "middle", authority.middle_key, usage=AK_USAGE)
    with pytest.raises(KeyTrustError) as caught:
        verify_ak_certificate(
            quotes.public(quotes.ecc_key()), pem(leaf, authority.middle), pem(authority.root), now=NOW
        )
    assert caught.value.check in {"certificate", "chain"}
    with pytest.raises(KeyTrustError, match="Ed25519PublicKey is not for a key of a TPM") as caught:
        trust._public(leaf)
    assert caught.value.check == "certificate"


def test_certificates_whose_key_cannot_be_read() -> None:
    broken = create_autospec(x509.Certificate, instance=True)
    broken.public_key.side_effect = ValueError("a point off the curve")
    with pytest.raises(KeyTrustError, match="off the curve") as caught:
        trust._public(broken)
    assert caught.value.check == "certificate"


def test_chains_are_judged_at_the_present_unless_a_time_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority()
    ak = quotes.public(quotes.ecc_key())
    chain = pem(authority.certify(ak, usage=AK_USAGE), authority.middle)

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            assert tz is dt.UTC
            return NOW + dt.timedelta(days=1000)

    monkeypatch.setattr(trust, "datetime", Clock)
    with pytest.raises(KeyTrustError) as caught:
        verify_ak_certificate(ak, chain, pem(authority.root))
    assert caught.value.check == "chain"
    assert verify_ak_certificate(ak, chain, pem(authority.root), now=NOW).trust == "chain"


def test_older_releases_of_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have CFB among the other modes."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.decrepit.ciphers.modes", None)
    spec = importlib.util.spec_from_file_location("measlog.evidence.trust_again", trust.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    assert module.CFB.__name__ == "CFB"


def test_trust_is_not_given_by_hand() -> None:
    """A key says ``chain`` or ``credential`` only where that was verified (A16)."""
    key = AttestationKey.load(quotes.public(quotes.ecc_key()))
    forged: Any = AttestationKey
    with pytest.raises(TypeError):
        forged(public_key=key.public_key, area=key.area, trust="credential")
    assert (key.trust, hashes.SHA256.name) == ("caller", "sha256")
