"""A small YAML writer: block style, every text that could mean something else in double quotes.

Text from a log is data of anybody's choosing (A35): what is not printable ASCII is written as an escape of YAML 1.2, 5.7,
so that no text can end its scalar, start another key or reach a terminal as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

__all__ = ["Hex", "dump"]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_RESERVED = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])
_SHORT = {"\0": "\\0", "\t": "\\t", "\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


class Hex(int):
    """A number that is written in hex, with at least so many digits."""

    digits: int

    def __new__(cls, value: int, digits: int = 1) -> Self:
        """The number ``value``."""
        made = super().__new__(cls, value)
        made.digits = digits
        return made


def dump(value: Mapping[Any, object]) -> str:
    """One YAML document."""
    return "---\n" + "".join(line + "\n" for line in _mapping(value, ""))


def _mapping(value: Mapping[Any, object], indent: str) -> Iterator[str]:
    for key, item in value.items():
        name = _scalar(key)
        yield from _entry(f"{indent}{name}:", item, indent)


def _entry(head: str, item: object, indent: str) -> Iterator[str]:
    if item is None or (isinstance(item, Mapping | list | tuple) and not item):
        yield head
    elif isinstance(item, Mapping):
        yield head
        yield from _mapping(item, indent + "  ")
    elif isinstance(item, list | tuple):
        yield head
        yield from _sequence(item, indent)
    else:
        yield f"{head} {_scalar(item)}"


def _sequence(value: Sequence[object], indent: str) -> Iterator[str]:
    for item in value:
        if isinstance(item, Mapping) and item:
            lines = _mapping(item, indent + "  ")
            yield f"{indent}- {next(lines)[len(indent) + 2 :]}"
            yield from lines
        else:
            yield f"{indent}- {_scalar(item)}"


def _scalar(item: object) -> str:
    if isinstance(item, Hex):
        return f"0x{int(item):0{item.digits}x}"
    if isinstance(item, int) and not isinstance(item, bool):
        return str(item)
    if isinstance(item, str):
        return _text(item)
    raise TypeError(f"no YAML form for {type(item).__name__}")


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0x20 <= code < 0x7F:
        return char
    if 0xDC80 <= code <= 0xDCFF:
        # A byte that is no UTF-8, kept by decode_text: written as the character of the same number.
        code -= 0xDC00
    if 0xD800 <= code <= 0xDFFF:
        return "\\uFFFD"
    return f"\\x{code:02X}" if code <= 0xFF else f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
