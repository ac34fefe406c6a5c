r"""Words to arguments: expansion and splitting (grub-core/script/execute.c, argv.c).

GRUB escapes values against its wildcards while it joins the pieces of a word and removes the escapes at the end. The
images known here have no wildcard translator, so only the traces of the escaping are left: an unquoted ``\c`` is
``c``, and builds that keep ``\xHH`` leave it alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from measlog.errors import LimitExceededError, UnsupportedError
from measlog.flatcar.grub.lexer import Part, PartKind
from measlog.flatcar.grub.numbers import strtoul

__all__ = ["Scope", "expand"]

_HEX = re.compile(rb"\\x[0-9A-Fa-f]{2}")
_SPACE = re.compile(rb"[ \t\n\v\f\r]+")
_UNESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_UNESCAPE_HEX = re.compile(rb"(\\x[0-9A-Fa-f]{2})|\\(.)", re.DOTALL)
_SPECIAL = re.compile(rb"[0-9].*|[#*@]", re.DOTALL)
_TRANSLATED = re.compile(rb"\{([^}]*)\}|([0-9]+|[A-Za-z_][A-Za-z0-9_]*)|([?#])")


class Scope:
    """Positional parameters: those of a function or of a menu entry."""

    __slots__ = ("arguments",)

    def __init__(self, arguments: Sequence[bytes]) -> None:
        self.arguments = list(arguments)


class _Words:
    """The argument vector under construction; the last slot is None until something is appended to it."""

    __slots__ = ("_limit", "slots")

    def __init__(self, limit: int) -> None:
        self.slots: list[bytes | None] = []
        self._limit = limit

    def next(self) -> None:
        if not (self.slots and self.slots[-1] is None):
            self.slots.append(None)

    def append(self, text: bytes) -> None:
        joined = (self.slots[-1] or b"") + text
        if len(joined) > self._limit:
            raise LimitExceededError(f"a word of more than {self._limit} bytes")
        self.slots[-1] = joined

    def split_append(self, text: bytes) -> None:
        """White space separates within the value; at its ends it is dropped and separates nothing."""
        for index, piece in enumerate(filter(None, _SPACE.split(text))):
            if index:
                self.next()
            self.append(piece)


def _escape(text: bytes, *, keep_hex: bool) -> bytes:
    if keep_hex and b"\\x" in text:
        made = bytearray()
        at = 0
        for match in _HEX.finditer(text):
            made += _escape(text[at : match.start()], keep_hex=False) + match.group()
            at = match.end()
        return bytes(made) + _escape(text[at:], keep_hex=False)
    return text.replace(b"\\", b"\\\\").replace(b"*", b"\\*").replace(b"?", b"\\?")


def _unescape(text: bytes, *, keep_hex: bool) -> bytes:
    if b"\\" not in text:
        return text
    if keep_hex:
        return _UNESCAPE_HEX.sub(lambda match: match.group(1) or match.group(2), text)
    return _UNESCAPE.sub(rb"\1", text)


def expand(
    words: Sequence[tuple[Part, ...]],
    get: Callable[[bytes], bytes | None],
    scope: Scope | None,
    *,
    keep_hex: bool,
    limit: int,
    wildcards: bool = False,
) -> list[bytes]:
    """The arguments that ``words`` become; an empty list where nothing is left of them.

    Raises LimitExceededError for a word of more than ``limit`` bytes, and UnsupportedError for a pattern where the
    build expands ``wildcards``.
    """
    made = _Words(limit)
    for word in words:
        made.next()
        for kind, text in word:
            if kind is PartKind.TEXT:
                if text:
                    made.append(text)
            elif kind in {PartKind.VAR, PartKind.DQVAR}:
                quoted = kind is PartKind.DQVAR
                for index, value in enumerate(_values(text, get, scope, quoted=quoted, limit=limit)):
                    if index:
                        made.next()
                    if quoted:
                        made.append(_escape(value, keep_hex=keep_hex))
                    else:
                        made.append(
                            value.replace(b"\\", b"\\\\").replace(b"\\\\*", b"\\\\\\*").replace(b"\\\\?", b"\\\\\\?")
                        )
            elif kind is PartKind.BLOCK:
                made.append(b"{" + _escape(text, keep_hex=keep_hex) + b"}")
            elif kind is PartKind.GETTEXT:
                made.append(_escape(_translate(text, get, scope, keep_hex=keep_hex), keep_hex=keep_hex))
            else:
                made.append(_escape(text, keep_hex=keep_hex))
    slots = [slot for slot in made.slots if slot is not None]
    if wildcards:
        for slot in slots:
            if re.search(rb"(?<!\\)(?:\\\\)*[*?]", slot):
                raise UnsupportedError(f"this build expands the pattern {slot!r} against files that are not known")
    return [_unescape(slot, keep_hex=keep_hex) for slot in slots]


def _values(
    name: bytes, get: Callable[[bytes], bytes | None], scope: Scope | None, *, quoted: bool, limit: int
) -> list[bytes]:
    """The pieces that ``$name`` stands for; none where it is unset or, unquoted, empty (``grub_script_env_get``)."""
    result = _Words(limit)
    result.next()

    def add(text: bytes) -> None:
        if quoted:
            result.append(text)
        else:
            result.split_append(text)

    if _SPECIAL.fullmatch(name) is None:
        value = get(name)
        if value:
            add(value)
    elif scope is None:
        pass
    elif name == b"#":
        result.append(b"%d" % len(scope.arguments))
    elif name == b"*" and quoted:
        for index, text in enumerate(scope.arguments):
            result.append(b" " + text if index else text)
    elif name in {b"*", b"@"}:
        for index, text in enumerate(scope.arguments):
            if index:
                result.next()
            add(text)
    else:
        number = strtoul(name, 10)[0]
        if 0 < number <= len(scope.arguments):
            add(scope.arguments[number - 1])
    return [slot for slot in result.slots if slot is not None]


def _translate(text: bytes, get: Callable[[bytes], bytes | None], scope: Scope | None, *, keep_hex: bool) -> bytes:
    """The text of ``$"..."``, without a catalogue (``gettext_append``): variables are replaced, never split."""
    made = bytearray()
    escaped = False
    at = 0
    while at < len(text):
        char = text[at : at + 1]
        if char == b"\\":
            if keep_hex and not escaped and (match := _HEX.match(text, at)):
                made += match.group()
                at = match.end()
                continue
            if escaped:
                made += b"\\"
            escaped = not escaped
            at += 1
        elif char == b"$" and escaped:
            escaped = False
            made += b"$"
            at += 1
        elif char == b"$":
            at += 1
            match = _TRANSLATED.match(text, at)
            if match:
                made += _translated_value(match.group(match.lastindex or 0), get, scope)
                at = match.end()
            elif text[at : at + 1] == b"{":
                break
            else:
                made += b"$"
        else:
            if escaped:
                made += b"\\"
            escaped = False
            made += char
            at += 1
    return bytes(made)


def _translated_value(name: bytes, get: Callable[[bytes], bytes | None], scope: Scope | None) -> bytes:
    if name == b"#":
        if scope is None:
            raise UnsupportedError(
                "$# in a translated string outside any function makes GRUB read through a null pointer"
            )
        return b"%d" % len(scope.arguments)
    return get(name) or b""
