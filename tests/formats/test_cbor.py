"""CBOR: the examples of RFC 8949, appendix A, another decoder's opinion, and what must be refused."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.cbor import decode_cbor, encode_cbor
from measlog.limits import Limits

# RFC 8949, appendix A, as far as it is of the kinds that are read.
EXAMPLES: list[tuple[str, Any]] = [
    ("00", 0),
    ("17", 23),
    ("1818", 24),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("3bffffffffffffffff", -18446744073709551616),
    ("20", -1),
    ("3863", -100),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("40", b""),
    ("4401020304", b"\1\2\3\4"),
    ("60", ""),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "\u00fc"),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("83010203", [1, 2, 3]),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", list(range(1, 26))),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
]


@pytest.mark.parametrize(("data", "value"), EXAMPLES)
def test_the_examples_of_the_rfc(data: str, value: Any) -> None:
    raw = bytes.fromhex(data)
    assert decode_cbor(raw) == value
    assert type(decode_cbor(raw)) is type(value)
    assert encode_cbor(value) == raw
    for cut in range(len(raw)):
        with pytest.raises(TruncatedError):
            decode_cbor(raw[:cut])
    with pytest.raises(FormatError):
        decode_cbor(raw + b"\0")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("1817", FormatError),  # 23 in two bytes
        ("190017", FormatError),
        ("1900ff", FormatError),
        ("1a0000ffff", FormatError),
        ("1b00000000ffffffff", FormatError),
        ("5f42010243030405ff", UnsupportedError),  # indefinite length
        ("9fff", UnsupportedError),
        ("bf6161019fff", UnsupportedError),
        ("1c", UnsupportedError),
        ("fc", UnsupportedError),
        ("f7", UnsupportedError),  # undefined
        ("f0", UnsupportedError),
        ("f818", UnsupportedError),
        ("f90000", UnsupportedError),  # floating point
        ("fb3ff199999999999a", UnsupportedError),
        ("c074323031332d30332d32315432303a30343a30305a", UnsupportedError),  # tags: a date, a bignum, a decimal
        ("c249010000000000000000", UnsupportedError),
        ("c48221196ab3", UnsupportedError),
        ("d81c80", UnsupportedError),  # a value that may share itself
        ("a201020103", FormatError),  # a key twice
        ("a2616101616102", FormatError),
        ("a1400100", FormatError),
        ("a14001", UnsupportedError),  # a key of bytes
        ("a1f501", UnsupportedError),
        ("61ff", FormatError),  # no UTF-8
        ("9affffffff", TruncatedError),  # four thousand million items in no bytes
        ("baffffffff00", TruncatedError),
        ("5b7fffffffffffffff00", TruncatedError),
    ],
)
def test_what_is_refused(data: str, kind: type[FormatError]) -> None:
    with pytest.raises(kind) as caught:
        decode_cbor(bytes.fromhex(data))
    assert caught.value.offset is not None


def test_depth_size_and_number_of_items_are_bounded() -> None:
    assert decode_cbor(b"\x81" * 16 + b"\0") is not None
    for data in (b"\x81" * 17 + b"\0", b"\x81" * 1_000_000 + b"\0", b"\xa1\0" * 1_000_000 + b"\0"):
        with pytest.raises(LimitExceededError):
            decode_cbor(data)
    with pytest.raises(LimitExceededError):
        decode_cbor(bytes(11), limits=Limits(log_size=10))
    with pytest.raises(LimitExceededError):
        decode_cbor(b"\x98\x80" + bytes(128), limits=Limits(records=2))


VALUES = st.recursive(
    st.one_of(
        st.integers(-(1 << 64), (1 << 64) - 1), st.binary(max_size=30), st.text(max_size=20), st.booleans(), st.none()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.integers(-300, 300), st.text(max_size=5)), inner, max_size=4),
    ),
    max_leaves=10,
)


def _ordered(value: Any) -> Any:
    """Keys in the order of RFC 8949, 4.2.1; what that library calls canonical is the older order of RFC 7049."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=cbor2.dumps)}
    return [_ordered(one) for one in value] if isinstance(value, list) else value


@given(VALUES)
def test_values_are_written_as_another_library_writes_them(value: Any) -> None:
    data = encode_cbor(value)
    assert data == cbor2.dumps(_ordered(value))
    assert decode_cbor(data) == value
    assert cbor2.loads(data) == value


@given(st.one_of(st.binary(max_size=60), VALUES.map(encode_cbor)))
def test_any_bytes_give_the_value_that_another_library_gives_or_an_error(data: bytes) -> None:
    try:
        value = decode_cbor(data)
    except FormatError:
        return
    assert cbor2.loads(data) == value


def test_a_number_of_more_than_64_bits_has_no_form() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encode_cbor(1 << 64)
