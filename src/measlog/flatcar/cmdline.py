"""The kernel command line as a list of arguments: read as the kernel reads it, checked argument by argument.

Source: Linux, lib/cmdline.c (``next_arg``) and kernel/params.c (``parse_args``, ``parameq``); GRUB, lib/cmdline.c for
the escaping that its ``kernel_cmdline`` text carries. ``verity.usrhash=`` is no part of that text: GRUB appends it after
it has measured, from the kernel file, so the kernel's own digest is what binds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import field, frozen
from attrs.validators import instance_of, optional

from measlog.errors import FormatError, LimitExceededError, MeaslogError, PolicyError

__all__ = [
    "Argument",
    "ArgumentModel",
    "ArgumentRule",
    "CommandLine",
    "Violation",
    "check",
    "grub_words",
    "one_word",
    "parse",
]

SIZE_LIMIT = 1 << 16
KEPT = 1792
"""Bytes of measured text that a kernel surely keeps of its 2,047: the rest is for ``BOOT_IMAGE=``, for its built-in
arguments and for ``verity.usrhash=``, which stands last and would be the first to be cut off."""
_QUOTES = frozenset(b"\"'")

# isspace() of the kernel (lib/ctype.c), which takes the no-break space for white space too.
_SPACE = frozenset(b" \t\n\v\f\r\xa0")


@frozen
class Argument:
    """One argument: ``raw`` as it stands, ``name`` and ``value`` (None without ``=``) as the kernel takes them apart."""

    raw: bytes
    name: bytes
    value: bytes | None = None

    @property
    def key(self) -> bytes:
        """The name as the kernel compares it: ``-`` and ``_`` are the same."""
        return self.name.replace(b"-", b"_")


@frozen
class CommandLine:
    """``image`` is the file that was booted, ``arguments`` the kernel's, ``init_arguments`` those after ``--``.

    ``divided`` says whether there is a ``--``, be it the last word.
    """

    image: bytes | None
    arguments: tuple[Argument, ...]
    init_arguments: tuple[Argument, ...] = ()
    divided: bool = False

    def all(self, name: bytes | str) -> tuple[Argument, ...]:
        """Every argument of that name, in order."""
        key = (name.encode() if isinstance(name, str) else name).replace(b"-", b"_")
        return tuple(argument for argument in self.arguments if argument.key == key)

    def last(self, name: bytes | str) -> Argument | None:
        """The one that counts for most arguments: the last of that name."""
        found = self.all(name)
        return found[-1] if found else None

    @property
    def duplicates(self) -> frozenset[bytes]:
        """Names that occur more than once."""
        keys = [argument.key for argument in self.arguments]
        return frozenset(key for key in keys if keys.count(key) > 1)


def parse(text: bytes, *, measured: bool = True) -> CommandLine:
    """Read a command line; ``measured`` text begins with the name of the image (GRUB's ``kernel_cmdline``).

    Raises FormatError for a NUL, LimitExceededError for more than 64 KiB.
    """
    if len(text) > SIZE_LIMIT:
        raise LimitExceededError(f"a command line of {len(text)} bytes, the most is {SIZE_LIMIT}")
    if (nul := text.find(0)) >= 0:
        raise FormatError("a NUL inside the command line", offset=nul)
    arguments = list(_arguments(text))
    image: bytes | None = None
    if measured:
        if not arguments:
            raise FormatError("an empty command line: the image's name is missing", offset=0)
        image = arguments.pop(0).raw
    elif arguments and arguments[0].name == b"BOOT_IMAGE":
        image = arguments.pop(0).value
    end = next((i for i, a in enumerate(arguments) if a.value is None and a.name == b"--"), None)
    if end is None:
        return CommandLine(image, tuple(arguments))
    return CommandLine(image, tuple(arguments[:end]), tuple(arguments[end + 1 :]), divided=True)


def _arguments(text: bytes) -> Iterable[Argument]:
    at = 0
    while True:
        while at < len(text) and text[at] in _SPACE:
            at += 1
        if at >= len(text):
            return
        start = at
        quoted = False
        while at < len(text) and (quoted or text[at] not in _SPACE):
            # A backslash means nothing to the kernel: the quote after it opens or closes.
            if text[at] == 0x22:
                quoted = not quoted
            at += 1
        yield _argument(text[start:at])


def _argument(raw: bytes) -> Argument:
    body = raw
    opened = body[:1] == b'"'
    if opened:
        body = body[1:]
    # ``next_arg`` notes the first ``=`` at an index above 0.
    equals = body.find(b"=", 1)
    if equals < 0:
        return Argument(raw, body.removesuffix(b'"') if opened else body)
    name, value = body[:equals], body[equals + 1 :]
    if value[:1] == b'"':
        value = value[1:].removesuffix(b'"')
    elif opened:
        value = value.removesuffix(b'"')
    return Argument(raw, name, value)


_GRUB_WORD = re.compile(rb'(?:[^ "\\]|\\[\s\S])+|"(?:[^"\\]|\\[\s\S])*"')
_GRUB_ESCAPE = re.compile(rb"(\\x[0-9A-Fa-f]{2})|\\([\\'\"])")


def grub_words(text: bytes, *, keep_hex: bool = True) -> tuple[bytes, ...]:
    r"""The words that the ``linux`` command was given, from the measured text: GRUB's escaping undone.

    ``keep_hex`` for builds that leave ``\xHH`` alone (2.12 with the Red Hat patches). Empty words keep their place.
    """
    words: list[bytes] = []
    for piece in _split(text):
        body = piece[1:-1] if piece[:1] == b'"' and piece[-1:] == b'"' and len(piece) > 1 else piece
        if keep_hex:
            words.append(_GRUB_ESCAPE.sub(lambda match: match.group(1) or match.group(2), body))
        else:
            words.append(re.sub(rb"\\([\\'\"])", rb"\1", body))
    return tuple(words)


def _split(text: bytes) -> list[bytes]:
    pieces: list[bytes] = []
    at = 0
    while True:
        match = _GRUB_WORD.match(text, at)
        if match is None:
            pieces.append(b"")
        else:
            pieces.append(match.group())
            at = match.end()
        if at >= len(text):
            return pieces
        if text[at : at + 1] != b" ":
            raise FormatError("not a command line as GRUB writes it: an unescaped quote inside a word", offset=at)
        at += 1


def _text(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _texts(values: Iterable[str | bytes] | None) -> tuple[bytes, ...] | None:
    if isinstance(values, str | bytes):
        raise PolicyError(f"the values of an argument are a list, not {values!r}")
    return None if values is None else tuple(_text(value) for value in values)


def _pattern(value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(value.encode(), re.DOTALL)
        except re.error as error:
            raise PolicyError(f"the pattern {value!r} is no regular expression: {error}") from None
    return value


def one_word(text: bytes) -> bool:
    """Whether every reader of a command line takes the text for (a part of) one word, and for itself."""
    return not _SPACE.union(_QUOTES, b"\0").intersection(text)


@frozen(kw_only=True)
class ArgumentRule:
    """An argument that may be there beyond those of the image.

    ``values`` lists what it may be; ``pattern`` is a regular expression that the whole value must match; without
    either, it must have no value. ``repeat`` allows it more than once, ``override`` allows a name that the image's own
    arguments have as well: the kernel takes the last one, so the image's own may then be missing.
    Raises PolicyError for a name or value that no argument can have.
    """

    name: bytes = field(converter=_text, validator=instance_of(bytes))
    values: tuple[bytes, ...] | None = field(default=None, converter=_texts)
    pattern: str | None = field(default=None, converter=_pattern, validator=optional(instance_of(str)))
    repeat: bool = field(default=False, validator=instance_of(bool))
    override: bool = field(default=False, validator=instance_of(bool))

    def __attrs_post_init__(self) -> None:
        if not self.name or self.name == b"--" or b"=" in self.name[1:] or not one_word(self.name):
            raise PolicyError(f"{self.name!r} is not the name of an argument")
        if self.values is not None and not self.values:
            raise PolicyError(f"no value is listed for the argument {self.name!r}, so that none could be there")
        for value in self.values or ():
            if not one_word(value):
                raise PolicyError(f"{value!r} is not the value of an argument: white space and quotes are not admitted")

    @classmethod
    def exactly(cls, argument: str | bytes) -> ArgumentRule:
        """The rule that one argument, written as on the command line, may be there any number of times."""
        name, equals, value = _text(argument).partition(b"=")
        return cls(name=name, values=[value] if equals else None, repeat=True, override=True)

    def allows(self, argument: Argument) -> bool:
        """Whether name and value are the rule's."""
        if argument.key != self.name.replace(b"-", b"_"):
            return False
        if argument.value is None:
            return self.values is None and self.pattern is None
        if self.values is not None and argument.value in self.values:
            return True
        # The whole value, never a part of it (A44).
        return self.pattern is not None and re.fullmatch(self.pattern.encode(), argument.value, re.DOTALL) is not None

    @property
    def sentence(self) -> str:
        """The rule in words."""
        choices = [_shown(value) for value in self.values or ()]
        if self.pattern is not None:
            choices.append(f"what matches {self.pattern}")
        words = [f"{_shown(self.name)}={' or '.join(choices)}" if choices else _shown(self.name)]
        words += ["more than once"] * self.repeat + ["in place of the image's"] * self.override
        return ", ".join(words)


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _rules(values: Iterable[ArgumentRule]) -> tuple[ArgumentRule, ...]:
    found = tuple(values)
    if not found or not all(isinstance(rule, ArgumentRule) for rule in found):
        raise PolicyError("a model of arguments is a list of ArgumentRule with at least one of them")
    return found


@frozen(kw_only=True)
class ArgumentModel:
    """What the kernel's arguments may be: the image's own, in their order, and what ``rules`` name.

    ``ordered`` demands that the additional ones come in the order of the rules. Patterns see what an attacker wrote:
    one with repetitions inside repetitions can take very long.
    """

    rules: tuple[ArgumentRule, ...] = field(converter=_rules)
    ordered: bool = field(default=False, validator=instance_of(bool))

    @property
    def sentence(self) -> str:
        """The model in words."""
        return "; ".join(rule.sentence for rule in self.rules) + (" (in this order)" if self.ordered else "")

    def allows(self, text: bytes) -> bool:
        """Whether the text is one argument that a rule allows; how often and where is another question."""
        if not text or len(text) > KEPT or not one_word(text):
            return False
        argument = _argument(text)
        return any(rule.allows(argument) for rule in self.rules)

    def violations(self, observed: bytes, expected: bytes) -> tuple[Violation, ...]:
        """What is wrong with a measured command line, beside the one of the same boot without additional arguments.

        Codes: those of :func:`check`, ``cmdline.unreadable`` for a text that no kernel is given, and ``cmdline.size``
        for one so long that its end may be cut off.
        """
        whole = Argument(observed, observed)
        try:
            line = parse(observed)
        except MeaslogError as error:
            return (Violation(code="cmdline.unreadable", argument=whole, index=None, message=str(error)),)
        found = check(line, parse(expected), self.rules, ordered=self.ordered)
        if len(observed) > KEPT:
            message = f"a command line of {len(observed)} bytes, of which a kernel may not keep the end"
            found += (Violation(code="cmdline.size", argument=whole, index=None, message=message),)
        return found


@frozen(kw_only=True)
class Violation:
    """An argument that is not allowed, missing, or out of place; ``index`` counts the observed ones from 0."""

    code: str
    argument: Argument
    index: int | None
    message: str


def check(
    observed: CommandLine, expected: CommandLine, rules: Sequence[ArgumentRule] = (), *, ordered: bool = False
) -> tuple[Violation, ...]:
    """What is wrong with ``observed``: each argument is the image's, in its order, or one that a rule names.

    With ``ordered``, the additional ones come in the order of the rules.
    Codes: ``cmdline.image``, ``cmdline.missing``, ``cmdline.order``, ``cmdline.unexpected``, ``cmdline.quoting``,
    ``cmdline.duplicate``, ``cmdline.override``, ``cmdline.init``.
    """
    found: list[Violation] = []

    def report(code: str, argument: Argument, index: int | None, message: str) -> None:
        found.append(Violation(code=code, argument=argument, index=index, message=message))

    if observed.image != expected.image:
        given = Argument(observed.image or b"", observed.image or b"")
        report("cmdline.image", given, None, f"the image is {observed.image!r}, expected {expected.image!r}")
    waiting = list(expected.arguments)
    used: dict[bytes, int] = {}
    own = {argument.key for argument in expected.arguments}
    # The last one of a name counts: where an allowed one takes the place of the image's, those are not missed.
    replaced = {a.key for a in observed.arguments if any(rule.override and rule.allows(a) for rule in rules)}
    reached = 0
    for index, argument in enumerate(observed.arguments):
        place = next((i for i, one in enumerate(waiting) if one.key not in replaced), len(waiting))
        next_own = next((i for i, one in enumerate(waiting[: place + 1]) if one.raw == argument.raw), None)
        if next_own is not None:
            del waiting[: next_own + 1]
            continue
        number = next((i for i, rule in enumerate(rules) if rule.allows(argument)), None)
        if number is None:
            late = next((i for i, one in enumerate(waiting) if one.raw == argument.raw), None)
            if late is None:
                report("cmdline.unexpected", argument, index, f"{argument.raw!r} is not allowed")
            else:
                del waiting[late]
                report("cmdline.order", argument, index, f"{argument.raw!r} is not at its place")
            continue
        if not one_word(argument.raw):
            # systemd unquotes both kinds, dracut none: what is one argument to the kernel is several to others.
            report("cmdline.quoting", argument, index, f"{argument.raw!r} has quotes, which are not read alike by all")
        if ordered and number < reached:
            report("cmdline.order", argument, index, f"{argument.raw!r} is not at its place")
        reached = max(reached, number)
        used[argument.key] = used.get(argument.key, 0) + 1
        if used[argument.key] > 1 and not rules[number].repeat:
            report("cmdline.duplicate", argument, index, f"{argument.raw!r} is given more than once")
        if argument.key in own and not rules[number].override:
            report("cmdline.override", argument, index, f"{argument.raw!r} replaces an argument of the image")
    for argument in waiting:
        if argument.key not in replaced:
            report("cmdline.missing", argument, None, f"{argument.raw!r} is missing")
    if (observed.init_arguments, observed.divided) != (expected.init_arguments, expected.divided):
        # Behind a "--" nothing is the kernel's any more: not even what GRUB appends after it has measured.
        for index, argument in enumerate(observed.init_arguments):
            report("cmdline.init", argument, index, f"{argument.raw!r} after -- goes to the init program")
        if observed.divided and not observed.init_arguments:
            report("cmdline.init", Argument(b"--", b"--"), None, "what follows -- goes to the init program")
        for argument in () if observed.init_arguments else expected.init_arguments:
            report("cmdline.missing", argument, None, f"{argument.raw!r} after -- is missing")
    return tuple(found)
