"""CBOR and COSE_Sign1: the RFCs' own examples, cbor2 as the other reader, and what is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, SignatureError, TruncatedError, UnsupportedError
from measlog.interop.cbor import Tag, decode, encode
from measlog.interop.cose import Sign1, algorithm_of, raw_signature

# RFC 8949, appendix A, as far as the kinds of items that are read.
EXAMPLES: list[tuple[str, Any]] = [
    ("00", 0),
    ("17", 23),
    ("1818", 24),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 2**64 - 1),
    ("3bffffffffffffffff", -(2**64)),
    ("20", -1),
    ("3863", -100),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("c11a514b67b0", Tag(1, 1363896240)),
    ("d74401020304", Tag(23, b"\x01\x02\x03\x04")),
    ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", Tag(32, "http://www.example.com")),
    ("40", b""),
    ("4401020304", b"\x01\x02\x03\x04"),
    ("60", ""),
    ("6449455446", "IETF"),
    ("62c3bc", "\u00fc"),
    ("80", []),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
]


@pytest.mark.parametrize(("text", "value"), EXAMPLES)
def test_the_examples_of_the_rfc(text: str, value: Any) -> None:
    raw = bytes.fromhex(text)
    assert decode(raw) == value
    assert type(decode(raw)) is type(value)
    assert encode(value) == raw
    for end in range(len(raw)):
        with pytest.raises(TruncatedError):
            decode(raw[:end])
    with pytest.raises(FormatError, match="1 bytes are left over"):
        decode(raw + b"\0")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("f90000", UnsupportedError, "floating-point"),
        ("fb3ff199999999999a", UnsupportedError, "floating-point"),
        ("f7", UnsupportedError, "simple value"),
        ("f818", UnsupportedError, "simple value"),
        ("f814", UnsupportedError, "simple value"),  # false in two bytes, which RFC 8949, 3.3 forbids
        ("9fff", UnsupportedError, "indefinite"),
        ("5f42010243030405ff", UnsupportedError, "indefinite"),
        ("bf61610161629f0203ffff", UnsupportedError, "indefinite"),
        ("1c", FormatError, "additional information 28"),
        ("61ff", FormatError, "not UTF-8"),
        ("a201020103", FormatError, "twice"),
        ("a1810102", UnsupportedError, "a key that is a container"),
        ("a1c1000102", UnsupportedError, "a key that is a container or a tag"),
        ("9bffffffffffffffff", TruncatedError, "are left"),
        ("bb7fffffffffffffff", TruncatedError, "are left"),
        ("5bffffffffffffffff", TruncatedError, "are left"),
    ],
)
def test_what_is_not_read_is_refused(text: str, kind: type[FormatError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        decode(bytes.fromhex(text))
    assert caught.value.offset is not None


def test_size_depth_and_number_are_bounded() -> None:
    with pytest.raises(LimitExceededError, match="nested deeper than 16"):
        decode(b"\x81" * 17 + b"\0")
    assert decode(b"\x81" * 16 + b"\0")
    with pytest.raises(LimitExceededError, match="nested"):
        decode(b"\xc1" * 200_000 + b"\0")
    with pytest.raises(LimitExceededError, match="more items"):
        decode(encode([0] * 100), items=100)
    with pytest.raises(LimitExceededError, match="the most is 10"):
        decode(bytes(11), size=10)


def test_what_has_no_encoding() -> None:
    with pytest.raises(TypeError):
        encode(1.5)
    with pytest.raises(ValueError, match="64 bits"):
        encode(2**64)


SCALARS = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=30) | st.text(max_size=20) | st.none() | st.booleans()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-50, 50) | st.text(max_size=5), inner, max_size=4)
        | st.builds(Tag, st.integers(500, 2**32), inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert decode(encode(value), depth=64) == value


@given(VALUES)
def test_cbor2_reads_and_writes_the_same(value: Any) -> None:
    cbor2 = pytest.importorskip("cbor2")

    def theirs(item: Any) -> Any:
        if isinstance(item, Tag):
            return cbor2.CBORTag(item.number, theirs(item.value))
        if isinstance(item, dict):
            return {key: theirs(one) for key, one in item.items()}
        return [theirs(one) for one in item] if isinstance(item, list) else item

    def ours(item: Any) -> Any:
        if isinstance(item, cbor2.CBORTag):
            return Tag(item.tag, ours(item.value))
        if isinstance(item, Mapping):
            return {key: ours(one) for key, one in item.items()}
        return [ours(one) for one in item] if isinstance(item, list | tuple) else item

    assert ours(cbor2.loads(encode(value))) == value
    assert decode(cbor2.dumps(theirs(value)), depth=64) == value


# RFC 8152, C.2.1, and the key "11" of its C.7.1.
SIGN1 = bytes.fromhex(
    "d28443a10126a10442313154546869732069732074686520636f6e74656e742e58408eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4"
    "d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36"
)
KEY_11 = ec.EllipticCurvePublicNumbers(
    0xBAC5B11CAD8F99F9C72B05CF4B9E26D244DC189F745228255A219A86D6A09EFF,
    0x20138BF82DC1B6D562BE0FA54AB7804A3A64B6D72CCFED6B6FB6ED28BBFC117E,
    ec.SECP256R1(),
).public_key()


def test_the_rfcs_signed_message_verifies() -> None:
    message = Sign1.from_bytes(SIGN1, size=1000)
    message.verify(KEY_11)
    assert message.payload == b"This is the content."
    for index in (4, 30, -1):  # protected header, payload, signature
        changed = bytearray(SIGN1)
        changed[index] ^= 1
        try:
            other = Sign1.from_bytes(bytes(changed), size=1000)
        except FormatError:
            continue
        with pytest.raises(SignatureError):
            other.verify(KEY_11)
    with pytest.raises(SignatureError):
        message.verify(ec.generate_private_key(ec.SECP256R1()).public_key())


def signed(key: Any, protected: dict[Any, Any], **parts: Any) -> Sign1:
    raw = encode(protected)
    tbs = encode(["Signature1", raw, b"", b"payload"])
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(tbs)
    else:
        algorithm = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.key_size]
        signature = raw_signature(key.public_key(), key.sign(tbs, ec.ECDSA(algorithm)))
    body = [raw, parts.get("unprotected", {}), parts.get("payload", b"payload"), parts.get("signature", signature)]
    return Sign1.from_bytes(encode(Tag(18, body)), size=1000)


KEYS: list[Any] = [
    ed25519.Ed25519PrivateKey.generate(),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    ec.generate_private_key(ec.SECP521R1()),
]


@pytest.mark.parametrize("key", KEYS, ids=["EdDSA", "ES256", "ES384", "ES512"])
def test_each_key_has_one_algorithm(key: Any) -> None:
    right = algorithm_of(key.public_key())
    signed(key, {1: right}).verify(key.public_key())
    for wrong in ({-7, -8, -35, -36, 0} - {right}) | {None}:
        with pytest.raises(SignatureError) as caught:
            signed(key, {1: wrong} if wrong is not None else {}).verify(key.public_key())
        assert caught.value.check == "signature-scheme"
    with pytest.raises(SignatureError):
        signed(key, {1: right}, signature=b"short").verify(key.public_key())
    with pytest.raises(SignatureError):
        signed(key, {1: right}, payload=b"another").verify(key.public_key())


def test_an_unprotected_algorithm_counts_for_nothing() -> None:
    with pytest.raises(SignatureError):
        signed(KEYS[1], {}, unprotected={1: -7}).verify(KEYS[1].public_key())
    with pytest.raises(SignatureError, match="curve secp256k1"):
        signed(KEYS[1], {1: -7}).verify(ec.generate_private_key(ec.SECP256K1()).public_key())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Tag(18, [b"", {}, b"p"]), "four elements"),
        (Tag(18, 5), "four elements"),
        (Tag(17, [b"", {}, b"p", b"s"]), "without its tag"),
        ([b"", {}, b"p", b"s"], "without its tag"),
        (Tag(18, [{}, {}, b"p", b"s"]), "protected: expected a byte string"),
        (Tag(18, [b"\xa1", {}, b"p", b"s"]), "protected"),
        (Tag(18, [b"\x80", {}, b"p", b"s"]), "expected maps"),
        (Tag(18, [b"", [], b"p", b"s"]), "expected maps"),
        (Tag(18, [encode({1: -7}), {1: -7}, b"p", b"s"]), "the parameter 1 is protected and not"),
        (Tag(18, [encode({1: -7, 2: [5]}), {}, b"p", b"s"]), "critical"),
        (Tag(18, [b"", {2: [5]}, b"p", b"s"]), "critical"),
        (Tag(18, [b"", {}, None, b"s"]), "detached"),
        (Tag(18, [b"", {}, "p", b"s"]), "payload: expected a byte string"),
        (Tag(18, [b"", {}, b"p", 5]), "signature: expected a byte string"),
    ],
)
def test_messages_that_are_none_are_refused(value: Any, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        Sign1.from_bytes(encode(value), size=1000)
    assert said in str(caught.value)


def test_a_tag_can_be_asked_for_or_not() -> None:
    bare = SIGN1[1:]
    assert Sign1.from_bytes(bare, size=1000, tag=False).payload == Sign1.from_bytes(SIGN1, size=1000, tag=None).payload
    with pytest.raises(FormatError, match="with its tag"):
        Sign1.from_bytes(SIGN1, size=1000, tag=False)
