"""Text from logs, quotes and file names is anybody's text: what a terminal would act upon is shown, not sent."""

from __future__ import annotations

import re

__all__ = ["escape"]

_LOOKS_ESCAPED = re.compile(r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def escape(text: str) -> str:
    r"""One line of printable text.

    Control characters, escape sequences, line ends, bidirectional overrides, invisible characters and lone surrogates
    (undecodable bytes) become ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``; a backslash that would read like one of these
    is doubled.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    text = _LOOKS_ESCAPED.sub(r"\\\\", text)
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape (PEP 383): the byte that was no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
