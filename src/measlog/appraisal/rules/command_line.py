"""The kernel's arguments: which of them follow from the release's ``grub.cfg``, and which do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from measlog.records.ipl import GrubCommand, KernelCommandLine

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.paths import Candidate, Following
    from measlog.appraisal.report import Report
    from measlog.flatcar.cmdline import ArgumentModel

__all__ = ["explain_arguments", "judge_arguments", "judge_command_line"]


def judge_arguments(candidate: Candidate, following: Following, model: ArgumentModel, report: Report) -> None:
    """The command line of a boot with an operator's settings is within the model, argument by argument (A44).

    It is the event at the command line's place among those of PCR 8 that were found to be as predicted, so that its
    digest covers the text; whatever any event is labelled plays no part (A45).
    """
    place = candidate.boot.command_line
    assert candidate.plain is not None
    # Both boots end in a kernel: others are no candidates.
    assert place is not None
    assert candidate.plain.command_line is not None
    if place >= len(following.matched):
        return
    measured = following.matched[place][0]
    expected = candidate.plain.of(8)[candidate.plain.command_line].text
    violations = model.violations(candidate.boot.of(8)[place].text, expected)
    for violation in violations:
        argument = violation.argument.raw.decode("utf-8", "backslashreplace")
        missing = violation.code == "cmdline.missing"
        report.find(
            "kernel.argument-missing" if missing else "kernel.argument",
            f"the kernel's arguments are not those that the policy's model admits: {violation.message}",
            pcr=8,
            event=measured.index,
            expected=argument if missing else None,
            observed=None if missing else argument,
        )
    if not violations:
        report.check("kernel-arguments", model.sentence, pcr=8, events=[measured.index])


def explain_arguments(
    case: Case, candidate: Candidate, allowed: tuple[str, ...], model: ArgumentModel | None, report: Report
) -> None:
    """Name each kernel argument that the boot path does not give, and each that it gives and that is missing.

    An explanation, not a verdict: PCR 8 was found to differ before.
    """
    observed = _command_line(case)
    place = candidate.boot.command_line
    if observed is None or place is None:
        return
    measured, text = observed
    wanted = _arguments(candidate.boot.of(8)[place].text.decode("utf-8", "surrogateescape"))

    def admitted(argument: str) -> bool:
        return argument in allowed or (model is not None and model.allows(argument.encode("utf-8", "surrogateescape")))

    _name_arguments(8, "the grub.cfg of the release", measured, wanted, _arguments(text), admitted, report)


def judge_command_line(measured: Measured, own: str, given: str, allowed: tuple[str, ...], report: Report) -> None:
    """Judge the command line that a unified image was given: its own, with nothing but admitted arguments added."""
    words, more = own.split(" "), given.split(" ")
    name = "the unified kernel image"
    if _name_arguments(12, name, measured, words, more, allowed.__contains__, report):
        return
    rest = iter(more)
    if not all(word in rest for word in words):
        report.find(
            "sequence.order",
            "the arguments of the image's command line stand in another order",
            pcr=12,
            event=measured.index,
            expected=own,
            observed=given,
        )
        return
    added = " ".join((Counter(more) - Counter(words)).elements())
    report.find(
        "kernel.argument-admitted",
        f"the policy admits the kernel arguments that were added: {added!r}",
        severity="info",
        pcr=12,
        event=measured.index,
        observed=added,
    )


def _name_arguments(
    pcr: int,
    source: str,
    measured: Measured,
    own: list[str],
    given: list[str],
    admitted: Callable[[str], bool],
    report: Report,
) -> bool:
    """Find each argument that is too many or missing; whether there is one."""
    too_many = [a for a in (Counter(given) - Counter(own)).elements() if not admitted(a)]
    missing = list((Counter(own) - Counter(given)).elements())
    for argument in too_many:
        report.find(
            "kernel.argument",
            f"the kernel argument {argument!r} does not follow from {source}",
            pcr=pcr,
            event=measured.index,
            observed=argument,
        )
    for argument in missing:
        report.find(
            "kernel.argument-missing",
            f"the kernel argument {argument!r} is missing",
            pcr=pcr,
            event=measured.index,
            expected=argument,
        )
    return bool(too_many or missing)


def _command_line(case: Case) -> tuple[Measured, str] | None:
    """The event that holds the kernel's command line, with a digest that covers its text."""
    fallback: tuple[Measured, str] | None = None
    for measured in case.history(8):
        record = measured.event.data
        if measured.event.check(case.bank).status != "matches":
            continue
        if isinstance(record, KernelCommandLine):
            return measured, record.text
        if isinstance(record, GrubCommand) and record.text.startswith(("linux ", "linuxefi ")):
            fallback = measured, record.text.partition(" ")[2]
    return fallback


def _arguments(text: str) -> list[str]:
    """The arguments behind the kernel's file name."""
    return text.split(" ")[1:]
