"""Thrift's compact protocol: bytes written out by the specification's rules, and structures of any shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.thrift import Elements, Struct, Value, read_struct, write_struct

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

# By hand, from "Thrift Compact protocol encoding": the field's distance to the one before and its type in a byte, zigzag
# integers in base 128, sizes before bytes and elements.
ROWS: list[tuple[str, Struct, bytes]] = [
    ("nothing", {}, b"\0"),
    ("truth", {1: Value(TRUE, True), 3: Value(TRUE, False)}, b"\x11\x22\0"),
    ("small integers", {1: Value(I16, 0), 2: Value(I32, -1), 3: Value(I64, 1)}, b"\x14\x00\x15\x01\x16\x02\0"),
    # ULEB128 of 50399 is df 89 03 in the specification; 25199 is folded to 50398.
    ("a large integer", {1: Value(I32, 25199)}, b"\x15\xde\x89\x03\0"),
    ("the least", {1: Value(I64, -(1 << 63))}, b"\x16" + b"\xff" * 9 + b"\x01\0"),
    ("a field far off", {16: Value(BYTE, 200)}, b"\x03\x20\xc8\0"),
    ("a field before", {5: Value(I32, 0), 2: Value(I32, 0)}, b"\x55\x00\x05\x04\x00\0"),
    ("text", {1: Value(BINARY, b"abc")}, b"\x18\x03abc\0"),
    ("a double", {1: Value(DOUBLE, bytes(8))}, b"\x17" + bytes(8) + b"\0"),
    ("a list", {1: Value(LIST, Elements(I32, [1, -1]))}, b"\x19\x25\x02\x01\0"),
    ("a list of truths", {1: Value(LIST, Elements(TRUE, [1, 2]))}, b"\x19\x21\x01\x02\0"),
    ("a long list", {1: Value(LIST, Elements(I32, [0] * 15))}, b"\x19\xf5\x0f" + bytes(15) + b"\0"),
    ("a structure", {1: Value(STRUCT, {2: Value(SET, Elements(BINARY, [b"", b"x"]))})}, b"\x1c\x2a\x28\x00\x01x\0\0"),
]


@pytest.mark.parametrize(("struct", "data"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_structures(struct: Struct, data: bytes) -> None:
    assert read_struct(data) == (struct, len(data))
    assert list(read_struct(data)[0]) == list(struct)
    assert write_struct(struct) == data
    assert read_struct(b"!" + data + b"?", 1) == (struct, len(data) + 1)
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            read_struct(data[:end])


def test_a_structure_inside_may_be_written_already() -> None:
    inner: Struct = {1: Value(I32, 7)}
    whole = write_struct({1: Value(LIST, Elements(STRUCT, [inner, inner]))})
    assert write_struct({1: Value(LIST, Elements(STRUCT, [write_struct(inner)] * 2))}) == whole


@pytest.mark.parametrize(
    ("data", "error", "offset"),
    [
        (b"\x15\x02\x05\x02\x02\0", FormatError, 2),  # field 1 twice
        (b"\x14\x80\x80\x04\0", FormatError, 1),  # 32768 as a 16-bit integer
        (b"\x15" + b"\xff" * 10 + b"\0", FormatError, 1),  # a number of more than 64 bits
        (b"\x19\xf5\xff\xff\xff\xff\x0f\0", TruncatedError, 1),  # a list of four thousand million
        (b"\x18\xff\xff\xff\xff\x0f\0", TruncatedError, 6),  # as much text
        (b"\x1b\x00\0", UnsupportedError, 1),  # a map
        (b"\x1f\x00\0", UnsupportedError, 1),  # a type that does not exist
        (b"\x1c" * 100, LimitExceededError, 17),
        (b"\x19" + b"\x19" * 100, LimitExceededError, 17),
    ],
)
def test_what_is_refused(data: bytes, error: type[FormatError], offset: int) -> None:
    with pytest.raises(error) as caught:
        read_struct(data)
    assert caught.value.offset == offset


_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    BYTE: st.integers(0, 255),
    I16: st.integers(-(1 << 15), (1 << 15) - 1),
    I32: st.integers(-(1 << 31), (1 << 31) - 1),
    I64: st.integers(-(1 << 63), (1 << 63) - 1),
    DOUBLE: st.binary(min_size=8, max_size=8),
    BINARY: st.binary(max_size=20),
}


def _values(inner: st.SearchStrategy[Struct]) -> st.SearchStrategy[Value]:
    kinds = {**_SCALARS, STRUCT: inner}
    plain = [st.builds(Value, st.just(kind), values) for kind, values in kinds.items()]
    lists = [st.builds(Elements, st.just(kind), st.lists(values, max_size=17)) for kind, values in kinds.items()]
    truth = st.builds(Value, st.just(TRUE), st.booleans())
    return st.one_of([truth, *plain, st.builds(Value, st.sampled_from([LIST, SET]), st.one_of(lists))])


_NOTHING: Struct = {}
_STRUCTS: st.SearchStrategy[Struct] = st.recursive(
    st.just(_NOTHING),
    lambda inner: st.dictionaries(st.integers(-(1 << 15), (1 << 15) - 1), _values(inner), max_size=5),
    max_leaves=8,
)


@given(_STRUCTS)
def test_what_was_written_is_read(struct: Struct) -> None:
    data = write_struct(struct)
    assert read_struct(data) == (struct, len(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_structure_or_an_error(data: bytes) -> None:
    try:
        struct, end = read_struct(data)
    except FormatError as caught:
        error = caught
    else:
        assert end <= len(data)
        assert read_struct(write_struct(struct))[0] == struct
        return
    assert error.offset is not None
    assert 0 <= error.offset <= len(data)
