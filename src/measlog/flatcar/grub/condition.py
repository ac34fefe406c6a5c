"""``test`` and ``[`` (commands/test.c)."""

from __future__ import annotations

from collections.abc import Callable

from measlog.flatcar.grub.engine import Engine
from measlog.flatcar.grub.model import GrubFile
from measlog.flatcar.grub.numbers import strtoul, to_int, to_signed

__all__ = ["run_test"]

MAX_DEPTH = 100
"""MAX_TEST_RECURSION_DEPTH of commands/test.c (2.06 and later)."""

_STRINGS: dict[bytes, Callable[[bytes, bytes], bool]] = {
    b"=": lambda a, b: a == b,
    b"==": lambda a, b: a == b,
    b"!=": lambda a, b: a != b,
    b"<": lambda a, b: a < b,
    b"<=": lambda a, b: a <= b,
    b">": lambda a, b: a > b,
    b">=": lambda a, b: a >= b,
}
_NUMBERS: dict[bytes, Callable[[int, int], bool]] = {
    b"-eq": lambda a, b: a == b,
    b"-ge": lambda a, b: a >= b,
    b"-gt": lambda a, b: a > b,
    b"-le": lambda a, b: a <= b,
    b"-lt": lambda a, b: a < b,
    b"-ne": lambda a, b: a != b,
}


class _Level:
    """One pair of parentheses: results so far, and whether the next one is inverted."""

    __slots__ = ("every", "invert", "some")

    def __init__(self) -> None:
        self.invert = False
        self.some = False
        self.every = True

    def update(self, value: object) -> None:
        self.every = self.every and (not value if self.invert else bool(value))
        self.invert = False

    @property
    def result(self) -> bool:
        return self.some or self.every


def run_test(engine: Engine, arguments: list[bytes]) -> bool:
    """The value of the expression. ``-s`` opens the file, and so measures it; the other file tests do not."""
    words = arguments[:-1] if arguments and arguments[-1] == b"]" else arguments
    levels = [_Level()]
    depth = 0
    at = 0
    while True:
        level = levels[-1]
        if at >= len(words):
            if len(levels) == 1:
                return level.result
            levels.pop()
            levels[-1].update(level.result)
            continue
        if at + 2 < len(words):
            value = _binary(engine, words[at], words[at + 1], words[at + 2])
            if value is not None:
                level.update(value)
                at += 3
                continue
        if at + 1 < len(words):
            value = _unary(engine, words[at], words[at + 1])
            if value is not None:
                level.update(value)
                at += 2
                continue
        word = words[at]
        at += 1
        if word == b")":
            depth = max(depth - 1, 0)
            if len(levels) == 1:
                # The outermost level ends here, whatever follows.
                return level.result
            levels.pop()
            levels[-1].update(level.result)
        elif word == b"(":
            depth += 1
            if depth > MAX_DEPTH:
                # GRUB gives up this level with what it has.
                if len(levels) == 1:
                    return level.result
                levels.pop()
                levels[-1].update(level.result)
            else:
                levels.append(_Level())
        elif word == b"!":
            level.invert = not level.invert
        elif word == b"-o":
            level.some = level.some or level.every
            level.every = True
        elif word != b"-a":
            level.update(word)


def _binary(engine: Engine, left: bytes, operator: bytes, right: bytes) -> bool | None:
    if (strings := _STRINGS.get(operator)) is not None:
        return strings(left, right)
    if (numbers := _NUMBERS.get(operator)) is not None:
        return numbers(to_signed(left), to_signed(right))
    if operator in {b"-pgt", b"-plt"}:
        return _by_suffix(left, operator, right)
    if operator[:3] in {b"-nt", b"-ot"}:
        return _by_time(engine, left, operator, right)
    return None


def _by_suffix(left: bytes, operator: bytes, right: bytes) -> bool:
    """Numbers after a common beginning: ``vmlinuz-2 -plt vmlinuz-11``."""
    at = 0
    while at < len(left) and left[at : at + 1] == right[at : at + 1]:
        at += 1
    at -= 1
    while at > 0 and left[at : at + 1].isdigit():
        at -= 1
    at += 1
    first, second = strtoul(left[at:])[0], strtoul(right[at:])[0]
    return first > second if operator == b"-pgt" else first < second


def _by_time(engine: Engine, left: bytes, operator: bytes, right: bytes) -> bool:
    root = engine.environment.get(b"root")
    first, second = engine.devices.look(left, root), engine.devices.look(right, root)
    if operator[:3] == b"-nt" and first is not None and second is None:
        return True
    if operator[:3] == b"-ot" and first is None and second is not None:
        return True
    if first is None or second is None:
        return False
    times = [file.modified if isinstance(file, GrubFile) else None for file in (first, second)]
    if times[0] is None or times[1] is None:
        engine.assume(f"{left!r} and {right!r} are equally old")
        return False
    biased = to_int(times[0] + (to_signed(operator[3:]) if operator[3:] else 0))
    return biased > times[1] if operator[:3] == b"-nt" else biased < times[1]


def _unary(engine: Engine, operator: bytes, word: bytes) -> bool | None:
    root = engine.environment.get(b"root")
    if operator == b"-d":
        return engine.devices.look(word, root) is True
    if operator == b"-e":
        return engine.devices.look(word, root) is not None
    if operator == b"-f":
        return isinstance(engine.devices.look(word, root), GrubFile)
    if operator == b"-s":
        file = engine.open(word)
        if not isinstance(file, GrubFile):
            return False
        if file.length is None:
            engine.assume(f"{word!r} is not empty")
        return file.length != 0
    if operator == b"-n":
        return bool(word)
    if operator == b"-z":
        return not word
    return None
