"""Fields of Protocol Buffers messages, after the encoding guide: each wire type, and what a reader has to skip."""

from __future__ import annotations

import struct

import pytest

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.protobuf import I32, I64, LEN, VARINT, fields

# The guide's own examples: 150 in field 1, "testing" in field 2.
EXAMPLES = b"\x08\x96\x01" + b"\x12\x07testing"
FIXED = b"\x19" + struct.pack("<d", 1.5) + b"\x25" + struct.pack("<f", 2.5)


def test_each_wire_type_is_read() -> None:
    found = [(field.number, field.kind, field.value) for field in fields(EXAMPLES + FIXED)]
    assert found == [
        (1, VARINT, 150),
        (2, LEN, b"testing"),
        (3, I64, struct.pack("<d", 1.5)),
        (4, I32, struct.pack("<f", 2.5)),
    ]


@pytest.mark.parametrize(
    ("data", "kind", "offset"),
    [
        (FIXED[:8], TruncatedError, 1),
        (FIXED[:9] + FIXED[9:12], TruncatedError, 10),
        (EXAMPLES[:-1], TruncatedError, 5),
        (b"\x08", TruncatedError, 1),
        (b"\x08" + b"\xff" * 10, FormatError, 1),
        (b"\x08" + b"\xff" * 9 + b"\x02", FormatError, 1),
        (b"\x00\x00", FormatError, 0),
        (b"\x0b\x0c", UnsupportedError, 0),
        (b"\x0e", UnsupportedError, 0),
        (b"\x08\x01" * 3, LimitExceededError, 4),
    ],
)
def test_what_is_no_field_is_refused_where_it_is(data: bytes, kind: type[FormatError], offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        list(fields(data, limit=2))
    assert (type(caught.value), caught.value.offset) == (kind, offset)
