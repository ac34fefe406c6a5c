"""What a cursor bounds: the fields of one event, however they are spread over structures."""

from __future__ import annotations

import pytest

from measlog.errors import LimitExceededError, TruncatedError
from measlog.formats.cursor import Cursor
from measlog.limits import Limits


def test_the_number_of_fields_is_bounded() -> None:
    cursor = Cursor(bytes(20), limits=Limits(items=3))
    for number in range(6):
        assert cursor.inside(f"f{number}", 1).end == number + 1
    with pytest.raises(LimitExceededError, match="more than 6 fields") as caught:
        cursor.inside("f6", 1)
    assert (caught.value.path, caught.value.offset) == ("f6", 6)


def test_a_part_cannot_be_left() -> None:
    cursor = Cursor(b"0123456789")
    part = cursor.inside("part", 4)
    assert part.take("first", 4) == b"0123"
    with pytest.raises(TruncatedError, match="needs 1 bytes, 0 are left") as caught:
        part.u8("second")
    assert (caught.value.path, caught.value.offset) == ("part.second", 4)
    assert cursor.rest("more") == b"456789"
