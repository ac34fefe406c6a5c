"""What is handed to a unified kernel image beside its own sections: command lines, credentials, extensions.

systemd's ``docs/TPM2_PCR_MEASUREMENTS.md``: PCR 12 holds command lines that the loader or the stub was given, add-ons and
credentials, PCR 13 system extensions. Linux' EFI stub says in PCR 9 which load options and initrd it got.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from measlog.appraisal.report import Report
from measlog.appraisal.rules.command_line import judge_command_line
from measlog.log import FurtherEvent
from measlog.records.ipl import StubCommandLine
from measlog.records.tagged import TaggedEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from measlog.appraisal.case import Case, Measured
    from measlog.reference.manifest import Component

__all__ = ["judge_additions"]

_LOAD_OPTIONS, _INITRD = 0x8F3B22ED, 0x8F3B22EC
"""Tags of Linux' EFI stub (``drivers/firmware/efi/libstub/efistub.h``)."""
_MOST_LINES = 2
"""systemd-boot and systemd-stub each measure the command line that they pass on."""


def judge_additions(code: str, case: Case, image: Component, allowed: tuple[str, ...], report: Report) -> None:
    """Find what PCR 8, 9, 12 and 13 hold beside what follows from the image; ``code`` is the rule's."""
    assert image.uki is not None
    line = image.uki.command_line
    own = frozenset() if line is None else _digests(case, line)
    initrds = frozenset(s.digests[case.bank] for s in image.uki.sections if s.name == ".initrd")
    # PCR 12 first: a command line that is admitted there is what the kernel says that it got.
    for pcr in (12, 9, 8, 13):
        if not case.quoted(pcr):
            continue
        report.cover(pcr)
        history = case.history(pcr)
        attempt = Report()
        if pcr == 12:
            own |= _command_lines(case, line, own, allowed, attempt)
        elif pcr == 9:
            _kernel(history, {_LOAD_OPTIONS: own, _INITRD: initrds}, attempt)
        else:
            for measured in history:
                _find(measured, pcr, "something, though this way of booting leaves it alone", attempt)
        if not attempt.failed:
            against = "the image's own command line and initrd" if pcr in {9, 12} else "the start value"
            attempt.check(code, against, pcr=pcr, events=[m.index for m in history])
        report.absorb(attempt)


def _digests(case: Case, line: str) -> frozenset[bytes]:
    """What measures a command line: systemd leaves out the NUL at its end since version 253, and did not before."""
    return frozenset(case.digest(text.encode("utf-16-le")) for text in (line, f"{line}\0"))


def _command_lines(
    case: Case, line: str | None, own: frozenset[bytes], allowed: tuple[str, ...], report: Report
) -> frozenset[bytes]:
    """Judge PCR 12; returns the digests of command lines that name their arguments, which findings are about."""
    seen: Counter[bytes] = Counter()
    named: set[bytes] = set()
    for measured in case.history(12):
        seen[measured.digest] += 1
        record = measured.event.data
        if seen[measured.digest] > _MOST_LINES:
            _find(measured, 12, "a command line more often than loader and stub measure it", report)
        elif measured.digest in own:
            continue
        elif (
            line is not None and isinstance(record, StubCommandLine) and measured.digest in _digests(case, record.text)
        ):
            judge_command_line(measured, line, record.text, allowed, report)
            named.add(measured.digest)
        else:
            _find(measured, 12, "something that is not the image's own command line", report)
    return frozenset(named)


def _kernel(history: Sequence[Measured], expected: Mapping[int, frozenset[bytes]], report: Report) -> None:
    """Judge PCR 9: load options and initrd, each once at most."""
    left = dict(expected)
    for measured in history:
        record = measured.event.data
        tag = record.id if isinstance(record, TaggedEvent) else 0
        if measured.digest not in left.pop(tag, frozenset()):
            _find(measured, 9, "a command line, an initrd or a file that is not the image's", report)


def _find(measured: Measured, pcr: int, what: str, report: Report) -> None:
    further = isinstance(measured.event, FurtherEvent)
    report.find(
        "system.unexpected" if further else "unified.addition",
        f"PCR {pcr} holds {what}: {measured.place}",
        pcr=pcr,
        event=measured.index,
        observed=measured.digest,
    )
