"""GRUB's lexer (grub-core/script/yylex.l, lexer.c): lines in, tokens out.

It keeps the original's habits, since they decide what is measured: it reads another line only inside a construct that
is open, it takes the longest match and the first rule among equals, a quoted string that does not end in its line is
read again with the next one in front of it, and text between braces is recorded as it stood in the source.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import NamedTuple

from measlog.errors import LimitExceededError

__all__ = ["Lexer", "Lost", "Part", "PartKind", "Token", "split_word"]

TOKEN_SIZE = 8192
"""flex's YYLMAX: GRUB stops the machine at a token of this many bytes or more."""

RESERVED = frozenset(b"[[ ]] case do done elif else esac fi for if in select then until while function".split())

_ESC = rb"\\[\s\S]"
# Unrolled, and without possessive groups: Python before 3.11.5 matches these wrongly.
_DQ = rb'[^\\"]*(?:' + _ESC + rb'[^\\"]*)*'
_NAME = rb"[A-Za-z_][A-Za-z0-9_]*+"
_PLAIN = rb"""[^{}|&$;<> \t\n'"\\]++"""
_VARIABLE = rb"\$(?:" + _NAME + rb"|\{" + _NAME + rb"\}|[0-9]++|\{[0-9]++\}|[?#*@]|\{[?#*@]\})"
_WORD = (
    rb"(?:" + _PLAIN + rb"|\"" + _DQ + rb"\"|'[^']*+'|" + _ESC + rb"|" + _VARIABLE + rb"|\$\"" + _DQ + rb"\")"
)  # fmt: skip

_BLANK_RE = re.compile(rb"[ \t]++")
_COMMENT_RE = re.compile(rb"#[^\n]*+")
_OPERATOR_RE = re.compile(rb"\n|\|\||&&|;;|[|&;<>{}]")
_WORD_RE = re.compile(_WORD + rb"+")
_OPEN_RE = re.compile(rb"\$?\"" + _DQ + rb"|'[^']*+")
_NAME_RE = re.compile(_NAME)
_SIMPLE_RE = re.compile(rb"""[^"'$\\]*+""")
_SPLIT_VARIABLE_RE = re.compile(
    rb"(?P<plain>" + _NAME + rb"|[0-9]++|[?#*@])|\{(?P<braced>" + _NAME + rb"|[0-9]++|[?#*@])\}"
)


class Lost(Exception):  # noqa: N818  (a signal between lexer, parser and reader; it never leaves this package)
    """The statement does not parse; GRUB forgets the lines that it has read for it."""


class PartKind(enum.Enum):
    """GRUB_SCRIPT_ARG_TYPE."""

    TEXT = enum.auto()
    VAR = enum.auto()
    DQVAR = enum.auto()
    DQSTR = enum.auto()
    SQSTR = enum.auto()
    GETTEXT = enum.auto()
    BLOCK = enum.auto()


class Part(NamedTuple):
    """A piece of a word: its kind and its text (a variable's name, a block's source)."""

    kind: PartKind
    text: bytes


class Token(NamedTuple):
    """``kind`` is an operator or reserved word, ``name``, ``word`` or ``eof``; ``parts`` make up a word."""

    kind: str
    parts: tuple[Part, ...] = ()


_EOF = Token("eof")


class Lexer:
    """Tokens of one statement after the other, from ``lines`` (without line ends) on.

    ``depth`` counts the open constructs: while there is one, the lexer reads on past the end of a line.
    """

    def __init__(self, lines: Sequence[bytes], *, scan: int) -> None:
        self.lines = lines
        self.next_line = 0
        self.depth = 0
        self._scan = scan
        self._buffer = b""
        self._at = 0
        self._prefix: bytes | None = None
        self._recording = 0
        self._recorded = bytearray()

    def start(self) -> None:
        """Begin a statement with the next line, whatever the last one left."""
        self.depth = 0
        self._prefix = None
        self._recording = 0
        self._recorded.clear()
        self._read()

    def _read(self) -> None:
        if self.next_line >= len(self.lines):
            raise Lost
        self._buffer = (self._prefix or b"") + self.lines[self.next_line] + b"\n"
        self.next_line += 1
        self._prefix = None
        self._at = 0
        self._scan -= len(self._buffer)
        if self._scan < 0:
            raise LimitExceededError("the script makes the lexer read too much", path=f"lines[{self.next_line - 1}]")

    def open(self) -> None:
        """A construct begins that may go on in the next lines."""
        self.depth += 1

    def close(self) -> None:
        """That construct has ended."""
        self.depth -= 1

    def record(self) -> int:
        """Begin to record the source; gives the place to hand to :meth:`recorded`."""
        if not self._recording:
            self._recorded.clear()
        self._recording += 1
        return len(self._recorded)

    def recorded(self, start: int) -> bytes:
        """The source since ``start``."""
        self._recording -= 1
        return bytes(self._recorded[start:])

    def _take(self, end: int) -> bytes:
        text = self._buffer[self._at : end]
        if len(text) >= TOKEN_SIZE:
            raise LimitExceededError(
                f"a token of {len(text)} bytes stops GRUB, which has room for {TOKEN_SIZE - 1}",
                path=f"lines[{self.next_line - 1}]",
            )
        self._at = end
        return text

    def _emit(self, end: int) -> bytes:
        text = self._take(end)
        if self._recording:
            self._recorded += text
        return text

    def token(self) -> Token:
        """The next token; :class:`Lost` where there is none that GRUB knows."""
        while True:
            if self._at >= len(self._buffer):
                if not self.depth and self._prefix is None:
                    return _EOF
                self._read()
            if (match := _BLANK_RE.match(self._buffer, self._at)) or (
                match := _COMMENT_RE.match(self._buffer, self._at)
            ):
                self._emit(match.end())
                continue
            if match := _OPERATOR_RE.match(self._buffer, self._at):
                return Token(self._emit(match.end()).decode())
            word = _WORD_RE.match(self._buffer, self._at)
            end = word.end() if word else self._at
            # What begins with a quote where the word ends is not closed: else it would be part of the word.
            unclosed = _OPEN_RE.match(self._buffer, end)
            if unclosed:
                self._prefix = self._take(unclosed.end())
                self._at = len(self._buffer)
                continue
            if word is None:
                raise Lost
            if end == len(self._buffer) and self._buffer.endswith(b"\\\n"):
                # A backslash at the end of the line: the word goes on in the next one.
                self._prefix = self._take(end)
                continue
            text = self._emit(end)
            if text in RESERVED:
                return Token(text.decode(), (Part(PartKind.TEXT, text),))
            if _NAME_RE.fullmatch(text):
                return Token("name", (Part(PartKind.TEXT, text),))
            return Token("word", split_word(text))


def split_word(text: bytes) -> tuple[Part, ...]:
    """The pieces of a word: text, variables, quoted strings (the lexer's second pass over it)."""
    if _SIMPLE_RE.fullmatch(text):
        return (Part(PartKind.TEXT, text),)
    parts: list[Part] = []
    held = bytearray()

    def flush(kind: PartKind) -> None:
        parts.append(Part(kind, bytes(held)))
        held.clear()

    at = 0
    while at < len(text):
        char = text[at : at + 1]
        if char == b"\\":
            pair = text[at : at + 2]
            if pair != b"\\\n":
                held += pair
            at += 2
        elif char == b"'":
            flush(PartKind.TEXT)
            end = text.index(b"'", at + 1)
            held += text[at + 1 : end]
            flush(PartKind.SQSTR)
            at = end + 1
        elif char == b'"':
            flush(PartKind.TEXT)
            at = _double_quoted(text, at + 1, parts)
        elif text[at : at + 2] == b'$"':
            flush(PartKind.GETTEXT)
            at = _translated(text, at + 2, parts)
        elif char == b"$":
            flush(PartKind.TEXT)
            at = _variable(text, at + 1, parts, PartKind.VAR)
        else:
            match = _SIMPLE_RE.match(text, at)
            assert match is not None
            held += match.group()
            at = match.end()
    flush(PartKind.TEXT)
    return tuple(parts)


def _variable(text: bytes, at: int, parts: list[Part], kind: PartKind) -> int:
    match = _SPLIT_VARIABLE_RE.match(text, at)
    if match is None:
        raise Lost
    parts.append(Part(kind, match.group("plain") or match.group("braced")))
    return match.end()


def _double_quoted(text: bytes, at: int, parts: list[Part]) -> int:
    held = bytearray()
    while True:
        char = text[at : at + 1]
        if char == b'"':
            parts.append(Part(PartKind.DQSTR, bytes(held)))
            return at + 1
        if char == b"$":
            parts.append(Part(PartKind.DQSTR, bytes(held)))
            held.clear()
            at = _variable(text, at + 1, parts, PartKind.DQVAR)
        elif char == b"\\" and text[at + 1 : at + 2] in {b"$", b"\\", b'"', b"\n"}:
            if text[at + 1 : at + 2] != b"\n":
                held += text[at + 1 : at + 2]
            at += 2
        else:
            held += char
            at += 1


def _translated(text: bytes, at: int, parts: list[Part]) -> int:
    held = bytearray()
    while True:
        char = text[at : at + 1]
        if char == b'"':
            parts.append(Part(PartKind.GETTEXT, bytes(held)))
            return at + 1
        if char == b"\\" and text[at + 1 : at + 2] in {b"\\", b'"', b"\n"}:
            if text[at + 1 : at + 2] == b"\\":
                held += b"\\\\"
            elif text[at + 1 : at + 2] == b'"':
                held += b'"'
            at += 2
        else:
            held += char
            at += 1
