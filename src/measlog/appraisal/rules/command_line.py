"""The kernel's arguments: which of them follow from the release's ``grub.cfg``, and which do not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from measlog.records.ipl import GrubCommand, KernelCommandLine

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.paths import Candidate
    from measlog.appraisal.report import Report

__all__ = ["explain_arguments"]


def explain_arguments(case: Case, candidate: Candidate, allowed: tuple[str, ...], report: Report) -> None:
    """Name each kernel argument that the boot path does not give, and each that it gives and that is missing.

    An explanation, not a verdict: PCR 8 was found to differ before.
    """
    observed = _command_line(case)
    place = candidate.boot.command_line
    if observed is None or place is None:
        return
    measured, text = observed
    wanted = Counter(_arguments(candidate.boot.of(8)[place].text.decode("utf-8", "backslashreplace")))
    given = Counter(_arguments(text))
    for argument in (given - wanted).elements():
        if argument in allowed:
            continue
        report.find(
            "kernel.argument",
            f"the kernel argument {argument!r} does not follow from the grub.cfg of the release",
            pcr=8,
            event=measured.index,
            observed=argument,
        )
    for argument in (wanted - given).elements():
        report.find(
            "kernel.argument-missing",
            f"the kernel argument {argument!r} is missing",
            pcr=8,
            event=measured.index,
            expected=argument,
        )


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
