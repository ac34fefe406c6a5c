"""Numbers as GRUB reads them (``grub_strtoull``, kern/misc.c)."""

from __future__ import annotations

from measlog.flatcar.grub.status import Status

__all__ = ["SPACES", "strtoul", "to_int", "to_signed"]

SPACES = b" \t\n\v\f\r"
_MAXIMUM = (1 << 64) - 1


def strtoul(text: bytes, base: int = 0) -> tuple[int, int, Status]:
    """The number at the start of ``text``, the offset where it ends, and the error that GRUB notes.

    Base 0 guesses: ``0x`` is 16, a leading ``0`` before an octal digit is 8.
    """
    at = 0
    while at < len(text) and text[at] in SPACES:
        at += 1
    if text[at : at + 1] == b"0":
        if text[at + 1 : at + 2] == b"x":
            if base in {0, 16}:
                base = 16
                at += 2
        elif base == 0 and text[at + 1 : at + 2] in set(map(bytes, zip(b"01234567", strict=True))):
            base = 8
    base = base or 10
    number = 0
    found = False
    while at < len(text):
        digit = _digit(text[at])
        if digit >= base:
            break
        found = True
        number = number * base + digit
        if number > _MAXIMUM:
            return _MAXIMUM, at, Status.OUT_OF_RANGE
        at += 1
    if not found:
        return 0, at, Status.BAD_NUMBER
    return number, at, Status.NONE


def _digit(char: int) -> int:
    if 0x30 <= char <= 0x39:
        return char - 0x30
    lower = char | 0x20
    return lower - 0x61 + 10 if 0x61 <= lower <= 0x7A else 99


def to_int(number: int) -> int:
    """The number cut to a C ``int`` (32 bits, signed)."""
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number & 0x80000000 else number


def to_signed(text: bytes) -> int:
    """The operand of a number test: a sign, then a number, cut to an ``int``; no number is 0 (commands/test.c)."""
    if text[:1] == b"-":
        return to_int(-strtoul(text[1:])[0])
    return to_int(strtoul(text)[0])
