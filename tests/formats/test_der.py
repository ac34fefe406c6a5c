"""DER against X.690: lengths in both forms, cut at every byte, object identifiers as pyasn1 writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, TruncatedError
from measlog.formats.der import children, element, object_identifier


@pytest.mark.parametrize(
    ("data", "tag", "content"),
    [
        (b"\x05\x00", 0x05, b""),
        (b"\x04\x03abc and more", 0x04, b"abc"),
        # The long form of a length (8.1.3.5).
        (b"\x04\x81\x80" + bytes(128), 0x04, bytes(128)),
        (b"\x30\x82\x01\x00" + bytes(256), 0x30, bytes(256)),
        (b"\x04\x84\x00\x00\x00\x01x", 0x04, b"x"),
    ],
)
def test_an_element_ends_where_its_length_says(data: bytes, tag: int, content: bytes) -> None:
    found = element(b"??" + data, 2)
    assert (found.tag, found.content, found.offset) == (tag, content, 2)
    whole = found.encoding
    assert data.startswith(whole)
    for cut in range(len(whole)):
        with pytest.raises(TruncatedError):
            element(whole[:cut])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x1f\x81\x00\x00", "a tag of several octets"),
        # The indefinite form (8.1.3.6), which DER does not have, and a length that no 32 bits hold.
        (b"\x30\x80\x00\x00", "a length of 0 octets"),
        (b"\x30\x85\x00\x00\x00\x00\x00", "a length of 5 octets"),
        (b"\x30\xff" + bytes(127), "a length of 127 octets"),
        (b"\x30\x84\xff\xff\xff\xff", "4294967295 bytes where 0 are left"),
    ],
)
def test_what_is_no_der_is_one_error_that_says_where(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        element(b"\x05\x00" + data, 2)
    assert caught.value.offset == 2


def test_children_are_as_many_as_are_allowed() -> None:
    def parent(count: int) -> bytes:
        content = b"\x05\x00" * count
        return b"\x30\x82" + len(content).to_bytes(2, "big") + content

    assert children(element(parent(0))) == []
    assert [child.offset for child in children(element(parent(3)))] == [0, 2, 4]
    assert len(children(element(parent(256)))) == 256
    with pytest.raises(FormatError, match="more than 256 elements") as caught:
        children(element(parent(257)))
    assert caught.value.offset == 512
    with pytest.raises(TruncatedError, match="an element is cut off"):
        children(element(b"\x30\x03\x05\x00\x05"))


@given(
    st.integers(0, 1).flatmap(lambda first: st.tuples(st.just(first), st.integers(0, 39)))
    | st.tuples(st.just(2), st.integers(0, 1 << 40)),
    st.lists(st.integers(0, 1 << 40), max_size=5),
)
def test_object_identifiers_are_those_of_pyasn1(first: tuple[int, int], rest: list[int]) -> None:
    univ = pytest.importorskip("pyasn1.type.univ")
    encoder = pytest.importorskip("pyasn1.codec.der.encoder")
    dotted = ".".join(map(str, (*first, *rest)))
    assert object_identifier(element(encoder.encode(univ.ObjectIdentifier(dotted)))) == dotted


@pytest.mark.parametrize("data", [b"\x06\x00", b"\x06\x02\x2a\x86", b"\x04\x01\x2a", b"\x06\x41" + b"\x2a" * 65])
def test_what_is_no_object_identifier_is_refused(data: bytes) -> None:
    # 8.19: at least one octet, the last one without its high bit; 64 octets are more than any that is read here.
    with pytest.raises(FormatError, match="expected an object identifier"):
        object_identifier(element(data))
