"""JSON of strangers, bounded in size and depth, without duplicate keys and without what is no JSON (NaN)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from measlog.errors import FormatError, LimitExceededError

__all__ = ["base64_bytes", "parse_object", "parse_value"]

_CLAUSE = "RFC 8259"
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_DIGITS = 20
"""An unsigned number of 64 bits has at most so many."""


def parse_value(
    data: bytes, *, size: int, depth: int = 16, path: str | None = None, offset: int = 0, fractions: bool = True
) -> Any:
    """The value in ``data``, of at most ``size`` bytes and ``depth`` levels of objects and lists.

    UTF-8, no key twice in an object, no integer with more digits than 64 bits need, no half of a character, and without ``fractions``
    nothing but integers. ``path`` and ``offset`` are those of ``data`` in what was handed over. Raises
    :class:`~measlog.errors.FormatError`, and its kind :class:`~measlog.errors.LimitExceededError` for what is too large.
    """
    if len(data) > size:
        raise LimitExceededError(f"{len(data)} bytes of JSON, the most is {size}", offset=offset, path=path)
    too_deep = LimitExceededError(f"nested deeper than {depth}", offset=offset, path=path, clause=_CLAUSE)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=float if fractions else _no_integer,
            parse_constant=_no_constant,
            parse_int=_bounded,
        )
        # JSON can spell half of a character, which no text holds.
        if _ESCAPED_SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("not UTF-8", offset=offset + error.start, path=path, clause=_CLAUSE) from None
    except UnicodeEncodeError:
        raise FormatError("a lone surrogate", offset=offset, path=path, clause="RFC 8259, 8.2") from None
    except json.JSONDecodeError as error:
        place = offset + len(error.doc[: error.pos].encode())
        raise FormatError(f"not JSON: {error.msg}", offset=place, path=path, clause=_CLAUSE) from None
    except FormatError as error:
        raise type(error)(error.message, offset=offset, path=path, clause=_CLAUSE) from None
    except RecursionError:
        raise too_deep from None
    if not _within(value, depth):
        raise too_deep
    return value


def parse_object(data: bytes, *, size: int, depth: int = 16) -> dict[str, Any]:
    """The object in ``data``, by :func:`parse_value`; FormatError for any other value."""
    document = parse_value(data, size=size, depth=depth)
    if not isinstance(document, dict):
        raise FormatError("not a JSON object", clause=_CLAUSE)
    return document


def base64_bytes(document: Mapping[str, Any], key: str, path: str, *, optional: bool = False) -> bytes:
    """A byte string as Go and others write it: padded standard base64; nothing for null where it is ``optional``.

    Raises :class:`~measlog.errors.FormatError` at ``path`` for anything else.
    """
    value = document.get(key)
    if value is None and optional:
        return b""
    if not isinstance(value, str):
        raise FormatError("expected base64", path=path)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise FormatError("expected base64", path=path, clause="RFC 4648, 4") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise FormatError(f"the key {twice[:60]!r} is there twice in one object")
    return made


def _no_constant(literal: str) -> Any:
    raise FormatError(f"{literal} is no JSON")


def _no_integer(literal: str) -> Any:
    raise FormatError(f"{literal[:30]} is not an integer")


def _bounded(literal: str) -> int:
    if len(literal) > _DIGITS + 1:
        raise LimitExceededError(f"{literal[:20]}... is out of range")
    return int(literal)


def _within(value: Any, depth: int) -> bool:
    """Whether objects and lists are nested at most so deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return not level
