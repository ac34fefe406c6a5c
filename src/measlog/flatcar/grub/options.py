"""Options of GRUB's extended commands (grub-core/lib/arg.c)."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from measlog.flatcar.grub.status import Status

__all__ = ["Option", "Parsed", "parse_options"]


@frozen
class Option:
    """``key`` names it in the result; ``short`` and ``long`` on the command line."""

    key: str
    short: bytes | None = None
    long: bytes | None = None
    value: bool = False
    optional: bool = False
    repeatable: bool = False


@frozen
class Parsed:
    """``values`` by key: a list of what was given (None for no value); ``rest`` are the other arguments."""

    values: dict[str, list[bytes | None]]
    rest: list[bytes]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def last(self, key: str) -> bytes | None:
        """The last value given."""
        given = self.values.get(key)
        return given[-1] if given else None

    def all(self, key: str) -> list[bytes]:
        """Every value given."""
        return [value for value in self.values.get(key, ()) if value is not None]


_HELP = Option("help", b"h", b"help")
_USAGE = Option("usage", b"u", b"usage")


def _short(options: Sequence[Option], char: bytes) -> Option | None:
    return next((o for o in (*options, _HELP, _USAGE) if o.short == char), None)


def _long(options: Sequence[Option], name: bytes) -> Option | None:
    return next((o for o in (*options, _HELP, _USAGE) if o.long == name), None)


def parse_options(
    options: Sequence[Option],
    arguments: Sequence[bytes],
    *,
    pending: Status,
    accept_dash: bool = False,
    at_start: bool = False,
) -> Parsed | Status:
    """What was given, or the status with which GRUB refuses (``pending`` after ``--help``, which runs nothing either).

    ``accept_dash`` takes unknown options for arguments; ``at_start`` takes everything after the first argument so.
    ``pending`` is an error that GRUB noted before and has not printed: with one, the first option is refused.
    """
    values: dict[str, list[bytes | None]] = {}
    rest: list[bytes] = []

    def give(option: Option, value: bytes | None) -> None:
        if option.repeatable:
            values.setdefault(option.key, []).append(value)
        else:
            values[option.key] = [value]

    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if (rest and at_start) or argument[:1] != b"-" or len(argument) == 1:
            rest.append(argument)
            at += 1
            continue
        value: bytes | None = None
        option: Option | None
        if argument[1:2] != b"-":
            letters = [argument[i : i + 1] for i in range(1, len(argument))]
            if accept_dash and any(_short(options, letter) is None for letter in letters):
                rest.append(argument)
                at += 1
                continue
            for letter in letters[:-1]:
                option = _short(options, letter)
                if option is None or (option.value and not option.optional):
                    return Status.BAD_ARGUMENT
                if pending or option in {_HELP, _USAGE}:
                    return pending
                give(option, None)
            option = _short(options, letters[-1])
            if option is None:
                return Status.BAD_ARGUMENT
            if option.value and at + 1 < len(arguments):
                following = arguments[at + 1]
                if not option.optional or len(following) < 2 or following[:1] != b"-":
                    value = following
                    at += 1
        else:
            if len(argument) == 2:
                rest.extend(arguments[at + 1 :])
                break
            name, equals, given = argument[2:].partition(b"=")
            option = _long(options, name)
            if equals:
                value = given
            elif option is not None and option.value and at + 1 < len(arguments) and arguments[at + 1][:1] != b"-":
                value = arguments[at + 1]
                at += 1
            if option is None:
                if not accept_dash:
                    return Status.BAD_ARGUMENT
                rest.append(argument)
                at += 1
                continue
        if option.value and value is None and not option.optional:
            return Status.BAD_ARGUMENT
        if value is not None and not option.value:
            return Status.BAD_ARGUMENT
        if pending or option in {_HELP, _USAGE}:
            return pending
        give(option, value)
        at += 1
    return Parsed(values, rest)
