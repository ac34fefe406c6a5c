"""construct's errors become measlog's, and say where."""

from __future__ import annotations

from typing import Any

import construct as c
import pytest

from measlog.errors import FormatError, TruncatedError, UnsupportedError
from measlog.formats.declare import build, parse

PAIR = c.Struct("first" / c.Int8ub, "second" / c.Struct("inner" / c.Int16ub))

FAILURES: list[tuple[str, Any, bytes, type[FormatError], int, str]] = [
    ("cut in a nested field", PAIR, b"\1\2", TruncatedError, 102, "outer: the 2 bytes end inside second.inner at byte 102 (clause)"),
    ("left over", PAIR, b"\1\2\3\4\5", FormatError, 103, "outer: 2 bytes are left over at byte 103 (clause)"),
    ("a constant that differs", c.Struct("a" / c.Const(b"xy")), b"xz", FormatError, 102, "outer.a: "),
    ("a check that fails", c.Struct("n" / c.Int8ub, "small" / c.Check(c.this.n < 3)), b"\3", FormatError, 101, "outer.small: "),
    ("an enumeration", c.Struct("a" / c.Mapping(c.Int8ub, {"one": 1})), b"\2", UnsupportedError, 101, "outer.a: "),
    ("a case that is not there", c.Struct("a" / c.Int8ub, "b" / c.Switch(c.this.a, {1: c.Byte}, default=c.Error)), b"\2\2", FormatError, 101, "outer.b: "),
    ("text that is none", c.Struct("a" / c.PaddedString(2, "utf-8")), b"\xff\xfe", FormatError, 102, "outer"),
    ("a number that is none", c.ExprAdapter(c.Byte, lambda value, _: int(f"x{value}"), lambda value, _: value), b"\1", FormatError, 101, "outer: invalid literal"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("declaration", "data", "kind", "offset", "text"), [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES]
)
def test_failures(declaration: Any, data: bytes, kind: type[FormatError], offset: int, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(declaration, data, clause="clause", path="outer", base=100)
    assert (type(caught.value), caught.value.offset, caught.value.clause) == (kind, offset, "clause")
    assert str(caught.value).startswith(text)
    # Programs compare codes; people read one line.
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_failures_without_a_path() -> None:
    with pytest.raises(TruncatedError) as caught:
        parse(c.Int32ub, b"\1", clause="clause")
    assert (caught.value.path, str(caught.value)) == (None, "the 1 bytes end inside the structure at byte 1 (clause)")
    with pytest.raises(FormatError) as other:
        parse(c.Struct("a" / c.Const(b"x")), b"y", clause="clause")
    assert other.value.path == "a"


def test_values() -> None:
    fields = {"first": 1, "second": {"inner": 0x0203}}
    assert build(PAIR, fields) == b"\1\2\3"
    assert parse(PAIR, b"\1\2\3", clause="clause").second.inner == 0x0203
    assert parse(PAIR, b"\1\2\3rest", clause="clause", exact=False).first == 1
