"""``--manifest A B C`` as well as ``--manifest A --manifest B --manifest C``."""

from __future__ import annotations

import click

__all__ = ["SpreadCommand"]


class SpreadCommand(click.Command):
    """A command whose repeatable options also take several values in a row.

    Words that follow the value of a repeatable option are values of it too, as far as they are more words than the
    command has arguments for; where nothing else can be its argument, the last of them is.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the option's name before each further value, then parse as usual."""
        return super().parse_args(ctx, _spread(args, self.params))


def _spread(args: list[str], params: list[click.Parameter]) -> list[str]:
    options = {name: p for p in params if isinstance(p, click.Option) for name in (*p.opts, *p.secondary_opts)}
    wanted = sum(1 for p in params if isinstance(p, click.Argument))
    if any(isinstance(p, click.Argument) and p.nargs != 1 for p in params):
        return args
    owner: dict[int, str] = {}  # words that could be a further value, by position, with the option's name
    words = 0
    current: str | None = None
    position = 0
    while position < len(args):
        word = args[position]
        if word == "--":
            words += len(args) - position - 1
            break
        if word.startswith("-") and word != "-":
            name, given, _ = word.partition("=")
            option = options.get(name)
            current = None
            if option is not None and not option.is_flag and not given:
                position += 1  # its value
            if option is not None and option.multiple:
                current = name
        else:
            words += 1
            if current is not None:
                owner[position] = current
        position += 1
    # Words that cannot be further values are the command's arguments; then the last ones of those that can.
    keep = max(0, wanted - (words - len(owner)))
    further = list(owner)[: len(owner) - keep] if keep else list(owner)
    made: list[str] = []
    for position, word in enumerate(args):
        if position in further:
            made.append(owner[position])
        made.append(word)
    return made
