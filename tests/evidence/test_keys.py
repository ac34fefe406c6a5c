"""Attestation keys: what is taken for one, what is not, and what it may sign."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from typing import Any
from unittest.mock import create_autospec

import attrs
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from measlog import AttestationKey
from measlog.errors import FormatError, SignatureError
from measlog.evidence import ObjectAttributes, keys
from measlog.formats.tpm2 import parse_signature
from tests.evidence import quotes
from tests.evidence.quotes import AK_ATTRIBUTES, ECDSA, RSAPSS, RSASSA

MESSAGE = b"what the TPM signed"
RSA, ECC = quotes.rsa_key(), quotes.ecc_key()
CURVES: list[type[ec.EllipticCurve]] = [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1]


def pem(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


@pytest.mark.parametrize("key", [RSA, ECC, quotes.ecc_key("p384", ec.SECP384R1), quotes.ecc_key("p521", ec.SECP521R1)])
def test_the_same_key_in_all_forms(key: Any) -> None:
    given = [key.public_key(), pem(key), b"\n " + pem(key), quotes.public(key), AttestationKey.load(pem(key))]
    loaded = [AttestationKey.load(form) for form in given]
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert {k.fingerprint for k in loaded} == {hashlib.sha256(der).hexdigest()}
    assert [k.attributes for k in loaded] == [None, None, None, ObjectAttributes(AK_ATTRIBUTES), None]
    area = quotes.public(key)[2:]
    # TPM 2.0 Part 1, 16: the Name is nameAlg and the hash of the public area.
    assert [k.name for k in loaded] == [None, None, None, b"\x00\x0b" + hashlib.sha256(area).digest(), None]
    assert all(k.missing_attributes() == () for k in loaded)


@pytest.mark.parametrize("name", ["sha1", "sha384"])
def test_names_by_other_hashes(name: str) -> None:
    data = quotes.public(ECC, name_alg=quotes.ALG[name])
    wanted = struct.pack(">H", quotes.ALG[name]) + hashlib.new(name, data[2:]).digest()
    assert AttestationKey.load(data).name == wanted


def test_a_name_by_an_unknown_hash() -> None:
    assert AttestationKey.load(quotes.public(ECC, name_alg=0x0099)).name is None


# TPM 2.0 Part 2, 8.3.2
ATTRIBUTES: list[tuple[str, int, tuple[str, ...]]] = [
    ("an AK", AK_ATTRIBUTES, ()),
    ("unrestricted", AK_ATTRIBUTES & ~(1 << 16), ("restricted",)),
    ("not for signing", AK_ATTRIBUTES & ~(1 << 18), ("sign",)),
    ("may leave the TPM", AK_ATTRIBUTES & ~(1 << 1), ("fixedTPM",)),
    ("made elsewhere", AK_ATTRIBUTES & ~(1 << 5), ("sensitiveDataOrigin",)),
    ("also decrypts", AK_ATTRIBUTES | 1 << 17, ("for signing alone",)),
    ("a storage key", 1 << 16 | 1 << 17 | 1 << 1 | 1 << 5, ("sign", "for signing alone")),
    ("nothing", 0, ("restricted", "sign", "fixedTPM", "sensitiveDataOrigin")),
    ("more bits than are defined", AK_ATTRIBUTES | 1 << 31 | 1, ()),
]


def test_attribute_bits() -> None:
    """TPM 2.0 Part 2, table 31."""
    assert {flag.name: flag.bit_length() - 1 for flag in ObjectAttributes} == {
        "FIXED_TPM": 1, "ST_CLEAR": 2, "FIXED_PARENT": 4, "SENSITIVE_DATA_ORIGIN": 5, "USER_WITH_AUTH": 6,
        "ADMIN_WITH_POLICY": 7, "NO_DA": 10, "ENCRYPTED_DUPLICATION": 11, "RESTRICTED": 16, "DECRYPT": 17,
        "SIGN_ENCRYPT": 18,
    }  # fmt: skip


@pytest.mark.parametrize(("attributes", "missing"), [a[1:] for a in ATTRIBUTES], ids=[a[0] for a in ATTRIBUTES])
@pytest.mark.parametrize("key", [RSA, ECC], ids=["rsa", "ecc"])
def test_attributes(key: Any, attributes: int, missing: tuple[str, ...]) -> None:
    loaded = AttestationKey.load(quotes.public(key, attributes=attributes))
    assert loaded.attributes is not None
    assert int(loaded.attributes) == attributes
    assert loaded.missing_attributes() == missing


NOT_KEYS: list[tuple[str, Any, type[Exception], str]] = [
    ("RSA of 1024 bits", quotes.rsa_key("short", 1024).public_key(), SignatureError, "1024 bits is too short"),
    ("RSA of 1024 bits, PEM", pem(quotes.rsa_key("short", 1024)), SignatureError, "1024 bits is too short"),
    ("RSA of 1024 bits, TPM", quotes.public(quotes.rsa_key("short", 1024)), SignatureError, "1024 bits is too short"),
    ("another curve", quotes.ecc_key("k1", ec.SECP256K1).public_key(), SignatureError, "secp256k1 is not accepted"),
    ("another curve, TPM", quotes.public(quotes.ecc_key("k1", ec.SECP256K1)), SignatureError, "curve 0x0010 is not accepted"),
    ("Ed25519", ed25519.Ed25519PrivateKey.generate().public_key(), SignatureError, "no RSA or ECC public key"),
    ("Ed25519, PEM", pem(ed25519.Ed25519PrivateKey.generate()), SignatureError, "no RSA or ECC public key"),
    ("a private key", ECC, SignatureError, "ECPrivateKey is no RSA or ECC public key"),
    ("a private key, PEM", ECC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), FormatError, "PEM holds no public key"),
    ("a broken PEM", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", FormatError, "PEM holds no public key"),
    ("half a PEM", pem(ECC)[:60], FormatError, "PEM holds no public key"),
    ("nothing", b"", FormatError, "public"),
    ("DER", ECC.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), FormatError, "public"),
    ("text", "a key", SignatureError, "str is no RSA or ECC public key"),
    ("None", None, SignatureError, "NoneType is no RSA or ECC public key"),
    ("a point off the curve", quotes.public(ECC)[:-1] + bytes([quotes.public(ECC)[-1] ^ 1]), FormatError, "no valid key"),
    ("an even exponent", quotes.public(RSA, exponent=4), FormatError, "no valid key"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "kind", "words"), [n[1:] for n in NOT_KEYS], ids=[n[0] for n in NOT_KEYS])
def test_what_is_no_attestation_key(key: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        AttestationKey.load(key)
    if isinstance(caught.value, SignatureError):
        assert caught.value.check == "key-type"


def test_an_exponent_of_its_own() -> None:
    key = AttestationKey.load(quotes.public(RSA, exponent=65537))
    assert key == attrs.evolve(AttestationKey.load(pem(RSA)), area=key.area)


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize(
    ("key", "scheme"),
    [(RSA, RSASSA), (RSA, RSAPSS), *((quotes.ecc_key(c.name, c), ECDSA) for c in CURVES)],
    ids=["RSASSA", "RSAPSS", "P-256", "P-384", "P-521"],
)
def test_signatures(key: Any, scheme: int, name: str) -> None:
    """Every accepted scheme with every accepted hash, by a bare key and by one that is bound to the scheme."""
    blob = parse_signature(quotes.sign(key, MESSAGE, scheme=scheme, name=name))
    for form in (pem(key), quotes.public(key), quotes.public(key, scheme=scheme, name=name)):
        loaded = AttestationKey.load(form)
        loaded.verify(blob, MESSAGE)
        with pytest.raises(SignatureError) as caught:
            loaded.verify(blob, MESSAGE + b"!")
        assert caught.value.check == "signature"
    other = quotes.rsa_key("other") if scheme != ECDSA else quotes.ecc_key("other", CURVES[0])
    with pytest.raises(SignatureError, match="not by this key") as caught:
        AttestationKey.load(pem(other)).verify(blob, MESSAGE)
    assert caught.value.check == "signature"


@pytest.mark.parametrize(("key", "scheme"), [(RSA, RSASSA), (RSA, RSAPSS), (ECC, ECDSA)])
def test_sha1_is_refused_unless_asked_for(key: Any, scheme: int) -> None:
    blob = parse_signature(quotes.sign(key, MESSAGE, scheme=scheme, name="sha1"))
    loaded = AttestationKey.load(pem(key))
    with pytest.raises(SignatureError, match="signed over sha1") as caught:
        loaded.verify(blob, MESSAGE)
    assert caught.value.check == "signature-hash"
    loaded.verify(blob, MESSAGE, unsafe_allow_sha1=True)
    with pytest.raises(SignatureError) as caught:
        loaded.verify(blob, b"other", unsafe_allow_sha1=True)
    assert caught.value.check == "signature"


@pytest.mark.parametrize(
    ("name", "alg"), [("sha3_256", None), ("sha256", 0x0012), ("sha256", 0x0099), ("sha256", 0x0010)]
)
def test_other_hashes_are_refused(name: str, alg: int | None) -> None:
    data = quotes.sign(ECC, MESSAGE, name=name)
    if alg is not None:
        data = data[:2] + struct.pack(">H", alg) + data[4:]
    for allowed in (False, True):
        with pytest.raises(SignatureError, match="not accepted") as caught:
            AttestationKey.load(pem(ECC)).verify(parse_signature(data), MESSAGE, unsafe_allow_sha1=allowed)
        assert caught.value.check == "signature-hash"


@pytest.mark.parametrize(
    ("signer", "verifier", "words"), [(RSA, ECC, "RSASSA cannot be by an ECC"), (ECC, RSA, "ECDSA cannot be by an RSA")]
)
def test_key_type_and_scheme_belong_together(signer: Any, verifier: Any, words: str) -> None:
    with pytest.raises(SignatureError, match=words) as caught:
        AttestationKey.load(pem(verifier)).verify(parse_signature(quotes.sign(signer, MESSAGE)), MESSAGE)
    assert caught.value.check == "signature-scheme"


@pytest.mark.parametrize(("scheme", "name"), [(RSAPSS, "sha256"), (RSASSA, "sha384")])
def test_a_bound_key_signs_by_its_scheme_alone(scheme: int, name: str) -> None:
    key = AttestationKey.load(quotes.public(RSA, scheme=scheme, name=name))
    with pytest.raises(SignatureError, match="not the one that the key is bound to") as caught:
        key.verify(parse_signature(quotes.sign(RSA, MESSAGE)), MESSAGE)
    assert caught.value.check == "signature-scheme"


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">HHHH", ECDSA, 0xB, 0, 0),
        struct.pack(">HH", ECDSA, 0xB) + quotes.tpm2b(bytes(32)) * 2,
        struct.pack(">HH", ECDSA, 0xB) + quotes.tpm2b(b"\1") * 2,
        struct.pack(">HH", ECDSA, 0xB) + quotes.tpm2b(b"\xff" * 4000) * 2,
    ],
    ids=["empty", "zero", "one", "huge"],
)
def test_degenerate_ecdsa_values(data: bytes) -> None:
    with pytest.raises(SignatureError) as caught:
        AttestationKey.load(pem(ECC)).verify(parse_signature(data), MESSAGE)
    assert caught.value.check == "signature"


@pytest.mark.parametrize("scheme", [RSASSA, RSAPSS])
@pytest.mark.parametrize("value", [b"", bytes(256), b"\xff" * 256, bytes(255), bytes(257), b"\xff" * 4000])
def test_degenerate_rsa_values(scheme: int, value: bytes) -> None:
    data = struct.pack(">HH", scheme, 0xB) + quotes.tpm2b(value)
    with pytest.raises(SignatureError) as caught:
        AttestationKey.load(pem(RSA)).verify(parse_signature(data), MESSAGE)
    assert caught.value.check == "signature"


def test_pss_salts_of_every_length_that_tpms_use() -> None:
    """TPM 2.0 Part 1, B.7: as long as the key allows, or, by FIPS 186, as the digest."""
    from cryptography.hazmat.primitives.asymmetric import padding

    for length in (padding.PSS.MAX_LENGTH, padding.PSS.DIGEST_LENGTH):
        mode = padding.PSS(padding.MGF1(quotes.HASHES["sha256"]), length)
        data = struct.pack(">HH", RSAPSS, 0xB) + quotes.tpm2b(RSA.sign(MESSAGE, mode, quotes.HASHES["sha256"]))
        AttestationKey.load(pem(RSA)).verify(parse_signature(data), MESSAGE)


def test_algorithms_that_openssl_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: bytes) -> Any:
        raise UnsupportedAlgorithm("this build has no such curve")

    monkeypatch.setattr(keys, "load_pem_public_key", refuse)
    with pytest.raises(FormatError, match="no such curve") as caught:
        AttestationKey.load(pem(ECC))
    assert (caught.value.path, caught.value.__cause__) == ("ak", None)


def test_algorithms_that_a_policy_forbids() -> None:
    blob = parse_signature(quotes.sign(RSA, MESSAGE))
    unable = create_autospec(rsa.RSAPublicKey, instance=True)
    unable.verify.side_effect = UnsupportedAlgorithm("forbidden by policy")
    with pytest.raises(SignatureError, match="cannot verify RSASSA over sha256: forbidden by policy") as caught:
        AttestationKey(public_key=unable).verify(blob, MESSAGE)
    assert caught.value.check == "signature"


def test_openssl_agrees(tmp_path: Any) -> None:
    """The helper's signature is a plain one: OpenSSL's command line verifies it too."""
    (tmp_path / "key").write_bytes(pem(RSA))
    (tmp_path / "message").write_bytes(MESSAGE)
    blob = parse_signature(quotes.sign(RSA, MESSAGE))
    (tmp_path / "signature").write_bytes(blob.value)
    command = ["openssl", "dgst", "-sha256", "-verify", "key", "-signature", "signature", "message"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    assert done.stdout.strip() == "Verified OK"
