"""Boots with kernel arguments that the operator adds: given one by one, or as rules that they will keep.

On Flatcar an operator appends ``set linux_append="$linux_append ..."`` to ``grub.cfg`` on the OEM partition. Arguments
given as values make that very line, so that registers 8 and 9 follow. Of rules only the places follow: the texts that
hold the arguments are open, and of the command line the boot says which rules it will keep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from attrs import evolve

from measlog.errors import UnsupportedError
from measlog.flatcar.boot import PredictedBoot, hashes
from measlog.flatcar.cmdline import ArgumentModel, one_word, parse
from measlog.flatcar.grub import GrubFile

__all__ = ["PLACE", "boots_with_arguments", "oem_with_arguments"]

PLACE = b"{arguments}"
"""Stands in predicted texts where arguments will be that keep the rules of a model."""

_RULED = {
    8: "the kernel's arguments are given by rules: its events can be compared one by one, the register cannot",
    9: "the arguments are given by rules, so what the OEM grub.cfg contains is not known",
}
_UNSEEN = {9: "the log does not tell what else is in the OEM grub.cfg that the arguments are appended to"}


def oem_with_arguments(oem_grub_cfg: bytes | None, arguments: Iterable[str | bytes]) -> bytes:
    """The OEM ``grub.cfg`` that adds kernel arguments: the one that is there, with a line behind it.

    Raises UnsupportedError for what cannot be one argument: GRUB splits the variable at white space, whatever quotes
    there are, and puts a backslash before quotes, which means nothing to the kernel.
    """
    words = _words(arguments)
    for word in words:
        if not word or not one_word(word):
            raise UnsupportedError(f"{word!r} cannot reach the kernel as one argument by way of grub.cfg")
    if not words:
        raise UnsupportedError("no argument is given")
    line = b'set linux_append="$linux_append ' + b" ".join(map(_escaped, words)) + b'"\n'
    before = oem_grub_cfg or b""
    return before + (b"" if not before or before.endswith(b"\n") else b"\n") + line


def _words(arguments: Iterable[str | bytes]) -> list[bytes]:
    if isinstance(arguments, str | bytes):
        raise UnsupportedError(f"arguments are given one by one, not as {arguments!r}")
    return [word.encode() if isinstance(word, str) else word for word in arguments]


def _escaped(word: bytes) -> bytes:
    """As it is written between double quotes (GRUB manual, Quoting)."""
    return word.replace(b"\\", b"\\\\").replace(b"$", b"\\$")


def boots_with_arguments(
    predict: Callable[[GrubFile], list[PredictedBoot]],
    arguments: ArgumentModel | Iterable[str | bytes],
    oem: GrubFile | None,
) -> list[PredictedBoot]:
    """The boots that ``predict`` gives for an OEM ``grub.cfg`` that adds the arguments to ``oem``.

    Where ``oem`` has digests its content is what a log shows of it, not the file. Raises UnsupportedError for arguments
    that would not be among the kernel's.
    """
    if oem is not None and oem.content is None:
        raise UnsupportedError("the content of the OEM grub.cfg is not known, so nothing can be appended to it")
    before = None if oem is None else oem.content
    if isinstance(arguments, ArgumentModel):
        if PLACE in (before or b""):
            raise UnsupportedError(f"the OEM grub.cfg has a {PLACE.decode()} of its own")
        script, boots = _appended(predict, before, [PLACE])
        return [_open(boot, arguments, hashes(script)) for boot in boots]
    script, boots = _appended(predict, before, _words(arguments))
    return boots if oem is None or not oem.digests else [_without(boot, _UNSEEN, hashes(script)) for boot in boots]


def _appended(
    predict: Callable[[GrubFile], list[PredictedBoot]], before: bytes | None, words: list[bytes]
) -> tuple[bytes, list[PredictedBoot]]:
    script = oem_with_arguments(before, words)
    boots = predict(GrubFile(content=script))
    for boot in boots:
        _reached(boot, words)
    return script, boots


def _reached(boot: PredictedBoot, words: Iterable[bytes]) -> None:
    """That the arguments are the kernel's: the configuration may take no notice, or change them."""
    place = boot.command_line
    if place is None:
        return
    given = Counter(argument.raw for argument in parse(boot.of(8)[place].text).arguments)
    lost = sorted((Counter(words) - given).elements())
    if lost:
        raise UnsupportedError(f"{boot.name}: {lost[0]!r} is not among the arguments that the kernel is given")


def _open(boot: PredictedBoot, model: ArgumentModel, file: Mapping[str, bytes]) -> PredictedBoot:
    """Texts with the place in them are known up to what will stand there, and have no digest."""
    events = [
        evolve(event, digests={}, data=None, arguments=model if event.kind == "cmdline" else None)
        if event.pcr == 8 and PLACE in event.text
        else event
        for event in boot.events
    ]
    return _without(evolve(boot, events=tuple(events)), _RULED, file)


def _without(boot: PredictedBoot, reasons: Mapping[int, str], file: Mapping[str, bytes]) -> PredictedBoot:
    """The boot without the digest of a file that was made up for the prediction, and without registers."""
    events = [evolve(e, digests={}) if e.kind == "file" and e.digests == file else e for e in boot.events]
    pcrs = {bank: {pcr: v for pcr, v in values.items() if pcr not in reasons} for bank, values in boot.pcrs.items()}
    moves = {pcr: why for pcr, why in boot.moves.items() if pcr not in reasons}
    return evolve(boot, events=tuple(events), pcrs=pcrs, unknown={**boot.unknown, **reasons}, moves=moves)
