"""JSON of strangers, bounded in size and depth, without duplicate keys and without what is no JSON (NaN)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from measlog.errors import FormatError, LimitExceededError

__all__ = ["base64_bytes", "parse_object"]

_CLAUSE = "RFC 8259"


def parse_object(data: bytes, *, size: int, depth: int = 16) -> dict[str, Any]:
    """The object in ``data``, of at most ``size`` bytes and ``depth`` levels; else a FormatError."""
    if len(data) > size:
        raise LimitExceededError(f"{len(data)} bytes of JSON, the most is {size}", clause=_CLAUSE)
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise FormatError("not UTF-8", offset=error.start, clause=_CLAUSE) from None
    except json.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error.msg} at character {error.pos}", clause=_CLAUSE) from None
    except FormatError:
        raise
    except ValueError as error:  # a number with more digits than Python converts
        raise LimitExceededError(str(error), clause=_CLAUSE) from None
    except RecursionError:
        raise LimitExceededError("nested too deeply", clause=_CLAUSE) from None
    if not isinstance(document, dict):
        raise FormatError("not a JSON object", clause=_CLAUSE)
    _check_depth(document, depth)
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
        raise FormatError(f"the key {twice[:60]!r} is there twice in one object", clause=_CLAUSE)
    return made


def _no_constant(literal: str) -> Any:
    raise FormatError(f"{literal} is no JSON", clause=_CLAUSE)


def _check_depth(document: dict[str, Any], depth: int) -> None:
    level: list[Any] = [document]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise LimitExceededError(f"nested deeper than {depth}", clause=_CLAUSE)
