"""Signed manifests: accepted only with the right key, type, time and version."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import ManifestError
from measlog.reference import ReferenceManifest, SignedManifest
from measlog.reference.signing import PAYLOAD_TYPE, Envelope, key_id, pre_authentication_encoding, sign_payload
from tests.reference.test_manifest import make_manifest

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256 = ec.derive_private_key(7, ec.SECP256R1())
P384 = ec.derive_private_key(8, ec.SECP384R1())
KEYS: dict[str, Any] = {"Ed25519": ED25519, "P-256": P256, "P-384": P384}
PKCS8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def accept(signed: bytes, *keys: Any, **options: Any) -> ReferenceManifest:
    return SignedManifest.from_bytes(signed).verify(keys=keys, **({"now": NOW} | options))


@pytest.mark.parametrize("name", KEYS)
def test_a_signed_manifest_is_accepted_with_its_key(name: str) -> None:
    key = KEYS[name]
    for form in (key, key.private_bytes(*PKCS8), key.private_bytes(*PKCS8).decode()):
        signed = make_manifest().sign(form)
        for public in (key.public_key(), public_pem(key), public_pem(key).decode()):
            manifest = accept(signed, public)
            assert manifest == make_manifest()
            assert manifest.signed_by == (key_id(key.public_key()),)


def test_the_encoding_is_that_of_the_specification() -> None:
    # The example of the DSSE protocol, clause "Test vectors".
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_signature_of_the_specification_is_accepted() -> None:
    # The test vector of the DSSE protocol: ECDSA P-256 and SHA-256; r and s are there as 64 bytes.
    public = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    ).public_key()
    raw = base64.b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    envelope = {
        "payload": base64.b64encode(b"hello world").decode(),
        "payloadType": "http://example.com/HelloWorld",
        "signatures": [{"keyid": "66301bbf", "sig": base64.b64encode(der).decode(), "surplus": 1}],
        "surplus": 2,
    }
    read = Envelope.from_bytes(json.dumps(envelope).encode())
    payload, signers = read.verified_payload(payload_type="http://example.com/HelloWorld", keys=[public])
    assert (payload, signers) == (b"hello world", (key_id(public),))


def test_openssl_accepts_the_signature(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed here")
    envelope = json.loads(make_manifest().sign(P256))
    payload = base64.b64decode(envelope["payload"])
    (tmp_path / "key").write_bytes(public_pem(P256))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    kind = envelope["payloadType"].encode()
    (tmp_path / "data").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    words = ["openssl", "dgst", "-sha256", "-verify", "key", "-signature", "sig", "data"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "Verified OK\n"
    assert payload == make_manifest().to_json()


def test_any_of_several_keys_will_do_and_each_that_signed_is_named() -> None:
    signed = make_manifest().sign(P384)
    assert accept(signed, ED25519.public_key(), P384.public_key()).signed_by == (key_id(P384.public_key()),)
    one, two = json.loads(make_manifest().sign(ED25519)), json.loads(signed)
    both = one | {"signatures": one["signatures"] + two["signatures"]}
    manifest = accept(json.dumps(both).encode(), ED25519.public_key(), P384.public_key())
    assert manifest.signed_by == (key_id(ED25519.public_key()), key_id(P384.public_key()))


def test_the_key_id_decides_nothing() -> None:
    envelope = json.loads(make_manifest().sign(P256))
    envelope["signatures"][0]["keyid"] = key_id(ED25519.public_key())
    assert accept(json.dumps(envelope).encode(), P256.public_key())
    with pytest.raises(ManifestError, match="none of the given keys"):
        accept(json.dumps(envelope).encode(), ED25519.public_key())


@pytest.mark.parametrize("name", KEYS)
def test_another_key_is_refused(name: str) -> None:
    signed = make_manifest().sign(KEYS[name])
    others = [key.public_key() for other, key in KEYS.items() if other != name]
    for keys in ([*others], [ed25519.Ed25519PrivateKey.generate().public_key()]):
        with pytest.raises(ManifestError, match="signed by none"):
            accept(signed, *keys)


def test_no_key_is_refused() -> None:
    with pytest.raises(ManifestError, match="no key was given"):
        accept(make_manifest().sign(P256))


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["RSA", "secp256k1", "P-521"],
)
def test_keys_of_other_kinds_are_refused(key: Any) -> None:
    with pytest.raises(ManifestError, match="another kind"):
        make_manifest().sign(key)
    with pytest.raises(ManifestError, match="another kind"):
        make_manifest().sign(key.private_bytes(*PKCS8))
    with pytest.raises(ManifestError, match="another kind"):
        accept(make_manifest().sign(P256), key.public_key())
    with pytest.raises(ManifestError, match="another kind"):
        accept(make_manifest().sign(P256), public_pem(key))


@pytest.mark.parametrize("pem", [b"", b"no PEM", "no PEM", public_pem(P256)])
def test_a_signing_key_that_is_none_is_refused(pem: bytes) -> None:
    with pytest.raises(ManifestError, match="not an unencrypted PEM private key"):
        make_manifest().sign(pem)


@pytest.mark.parametrize(
    "key", [ed448.Ed448PrivateKey.generate(), P256.public_key(), None, 7], ids=["Ed448", "public", "none", "number"]
)
def test_what_signs_no_manifests_is_refused(key: Any) -> None:
    with pytest.raises(ManifestError, match="another kind"):
        make_manifest().sign(key)


def test_a_private_key_verifies_nothing() -> None:
    with pytest.raises(ManifestError, match="is a private key, where the public one is needed"):
        accept(make_manifest().sign(P256), P256.private_bytes(*PKCS8))
    with pytest.raises(ManifestError, match="not a PEM public key"):
        accept(make_manifest().sign(P256), b"no PEM")


def test_another_payload_type_is_refused() -> None:
    other = sign_payload("application/vnd.measlog.index+json", make_manifest().to_json(), P256)
    with pytest.raises(ManifestError, match="payload type"):
        accept(other, P256.public_key())
    renamed = json.loads(other) | {"payloadType": PAYLOAD_TYPE}
    with pytest.raises(ManifestError, match="signed by none"):
        accept(json.dumps(renamed).encode(), P256.public_key())


def test_a_signed_thing_that_is_no_manifest_is_refused() -> None:
    with pytest.raises(ManifestError, match="format"):
        accept(sign_payload(PAYLOAD_TYPE, b"{}", P256), P256.public_key())


def test_the_time_is_judged() -> None:
    signed = make_manifest().sign(P256)
    key = P256.public_key()
    assert accept(signed, key, now=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(ManifestError, match="expired at 2027-01-01"):
        accept(signed, key, now=datetime(2027, 1, 1, tzinfo=UTC))
    with pytest.raises(ManifestError, match="not valid before 2026-01-01"):
        accept(signed, key, now=datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC))
    with pytest.raises(ManifestError, match="no time zone"):
        accept(signed, key, now=datetime(2026, 6, 1))  # noqa: DTZ001  (no time zone is the defect)


def test_without_a_time_the_clock_is_asked() -> None:
    today = datetime.now(UTC).replace(microsecond=0)
    past = make_manifest(not_before=None, expires=today - timedelta(days=1)).sign(P256)
    with pytest.raises(ManifestError, match="expired"):
        SignedManifest.from_bytes(past).verify(keys=[P256.public_key()])
    current = make_manifest(not_before=None, expires=today + timedelta(days=1)).sign(P256)
    assert SignedManifest.from_bytes(current).verify(keys=[P256.public_key()])


def test_rollback_is_refused() -> None:
    signed = make_manifest(version=5).sign(P256)
    assert accept(signed, P256.public_key(), minimum_version=5).version == 5
    with pytest.raises(ManifestError, match="has version 5, at least 6"):
        accept(signed, P256.public_key(), minimum_version=6)


def test_a_changed_copy_of_a_verified_manifest_is_unsigned() -> None:
    manifest = accept(make_manifest().sign(P256), P256.public_key())
    assert attrs.evolve(manifest, name="other").signed_by is None
    assert ReferenceManifest.from_json(manifest.to_json()).signed_by is None
    # Copies of the very same manifest stay what they are: worker processes get them so.
    assert pickle.loads(pickle.dumps(manifest)).signed_by == manifest.signed_by
    assert copy.deepcopy(manifest).signed_by == manifest.signed_by


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signatures": []}, "signatures"),
        ({"signatures": [{}]}, r"signatures\[0\]"),
        ({"signatures": [{"sig": 1}]}, r"signatures\[0\].sig"),
        ({"signatures": [{"sig": "%%%"}]}, r"signatures\[0\].sig"),
        ({"signatures": [{"sig": "AAA"}]}, r"signatures\[0\].sig"),
        ({"signatures": [{"sig": "", "keyid": 1}]}, "keyid"),
        ({"signatures": [{"sig": ""}] * 17}, "signatures"),
        ({"signatures": {}}, "signatures"),
        ({"payload": None}, "payload"),
        ({"payloadType": 5}, "payloadType"),
    ],
)
def test_a_malformed_envelope_is_one_error(changes: dict[str, Any], message: str) -> None:
    envelope = json.loads(make_manifest().sign(P256)) | changes
    with pytest.raises(ManifestError, match=message):
        SignedManifest.from_bytes(json.dumps(envelope).encode())


def test_an_unsigned_manifest_is_no_envelope() -> None:
    with pytest.raises(ManifestError, match="is this a signed manifest"):
        SignedManifest.from_bytes(make_manifest().to_json())


SIGNED = make_manifest().sign(ED25519)


@given(st.integers(0, len(base64.b64decode(json.loads(SIGNED)["payload"])) * 8 - 1))
def test_every_changed_bit_of_the_payload_is_refused(bit: int) -> None:
    envelope = json.loads(SIGNED)
    payload = bytearray(base64.b64decode(envelope["payload"]))
    payload[bit // 8] ^= 1 << bit % 8
    envelope["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(ManifestError, match="signed by none"):
        accept(json.dumps(envelope).encode(), ED25519.public_key())


@given(st.integers(0, len(SIGNED) - 1), st.integers(0, 255))
def test_every_changed_byte_of_the_envelope_changes_nothing_or_is_refused(place: int, byte: int) -> None:
    changed = SIGNED[:place] + bytes([byte]) + SIGNED[place + 1 :]
    try:
        manifest = accept(changed, ED25519.public_key())
    except ManifestError:
        return
    assert manifest == make_manifest()


class Token:
    """A signer that keeps its key to itself, as a token does."""

    public_key = P384.public_key()

    def sign(self, data: bytes) -> bytes:
        return P384.sign(data, ec.ECDSA(hashes.SHA384()))


class LyingToken(Token):
    def sign(self, data: bytes) -> bytes:
        return super().sign(data + b"!")


def test_a_token_signs() -> None:
    assert accept(make_manifest().sign(Token()), P384.public_key()).signed_by
    with pytest.raises(ManifestError, match="does not verify"):
        make_manifest().sign(LyingToken())
