"""Where the firmware ends: separators, and the hand-over to the operating system.

Source: TCG PC Client Platform Firmware Profile 1.06 (PFP), clauses 3.3.4 and 10.4.1 (EV_SEPARATOR), 8.2 (exit boot
services).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

from measlog.appraisal.result import Severity
from measlog.registry import EventType

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.report import Report

__all__ = [
    "ERROR_SEPARATOR",
    "EXIT_FAILURE",
    "EXIT_INVOCATION",
    "EXIT_SUCCESS",
    "GOOD_SEPARATORS",
    "HandOver",
    "Separators",
    "separator_digests",
]

GOOD_SEPARATORS = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff")
ERROR_SEPARATOR = b"\x01\x00\x00\x00"
_FIRMWARE = range(8)
# Only the value of a boot variable is hashed, and PCR 0 holds digests of firmware: both may look like a separator.
_LOOKALIKES = frozenset({EventType.EV_EFI_VARIABLE_BOOT, EventType.EV_EFI_VARIABLE_BOOT2})

EXIT_INVOCATION = b"Exit Boot Services Invocation"
EXIT_SUCCESS = b"Exit Boot Services Returned with Success"
EXIT_FAILURE = b"Exit Boot Services Returned with Failure"


def separator_digests(case: Case) -> tuple[frozenset[bytes], bytes]:
    """The digests of a separator, and of one that reports an error, in the verified bank."""
    return frozenset(case.digest(value) for value in GOOD_SEPARATORS), case.digest(ERROR_SEPARATOR)


@frozen
class Separators:
    """PCR 0 to 7 each hold exactly one separator, found by its digest, and none of an error (A4, A5, A6)."""

    code: str = "separators"
    severity: Severity = "error"
    sentence: str = "The firmware closed PCR 0 to 7 with one separator each, and reported no error."
    registers: frozenset[int] = frozenset(_FIRMWARE)

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        good, error = separator_digests(case)
        for pcr in _FIRMWARE:
            if not case.quoted(pcr):
                continue
            found: list[Measured] = []
            for measured in case.history(pcr):
                if measured.digest == error:
                    report.find(
                        "separator.error",
                        f"the firmware closed PCR {pcr} with an error separator",
                        pcr=pcr,
                        event=measured.index,
                    )
                elif measured.digest in good:
                    self._judge(pcr, measured, found, report)
                elif measured.event.type == EventType.EV_SEPARATOR:
                    report.find(
                        "separator.fake",
                        f"an event in PCR {pcr} is called a separator, but its digest is not one's",
                        pcr=pcr,
                        event=measured.index,
                    )
            if not found:
                report.find("separator.missing", f"the firmware never closed PCR {pcr} with a separator", pcr=pcr)
            elif len(found) == 1:
                report.check(self.code, "the digest of four bytes 00 or FF", pcr=pcr, events=[found[0].index])

    @staticmethod
    def _judge(pcr: int, measured: Measured, found: list[Measured], report: Report) -> None:
        event = measured.event
        if event.type == EventType.EV_SEPARATOR:
            if event.raw not in GOOD_SEPARATORS:
                longer = event.raw[:4] in GOOD_SEPARATORS
                report.find(
                    "separator.data",
                    f"the separator of PCR {pcr} has {len(event.raw)} bytes of data instead of the four it hashes"
                    + (" (quirk Q27)" if longer else ""),
                    severity="info" if longer else "error",
                    pcr=pcr,
                    event=event.index,
                )
                if longer:
                    report.quirks.add("Q27")
            found.append(measured)
            if len(found) > 1:
                report.find("separator.repeated", f"PCR {pcr} is closed a second time", pcr=pcr, event=event.index)
        elif pcr == 0 or event.type in _LOOKALIKES:
            report.find(
                "separator.ambiguous",
                f"an event of another kind in PCR {pcr} has the digest of a separator",
                severity="info",
                pcr=pcr,
                event=event.index,
            )
        else:
            report.find(
                "separator.retyped",
                f"an event in PCR {pcr} has a separator's digest but is not called one",
                pcr=pcr,
                event=event.index,
            )


@frozen
class HandOver:
    """PCR 5 ends with the hand-over to the operating system, which was called and succeeded (A6, A7).

    ``allow_failed_attempts`` admits calls that returned with failure before the one that succeeded.
    """

    allow_failed_attempts: bool = True
    code: str = "hand-over"
    severity: Severity = "error"
    sentence: str = "The boot services were left once, successfully, and PCR 5 says nothing after that."
    registers: frozenset[int] = frozenset({5})

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        if not case.quoted(5):
            return
        letters = {
            case.digest(EXIT_INVOCATION): "I",
            case.digest(EXIT_SUCCESS): "S",
            case.digest(EXIT_FAILURE): "F",
        }
        history = case.history(5)
        word = "".join(letters.get(m.digest, ".") for m in history)
        start = word.find("I")
        if start < 0:
            report.find("handover.missing", "the log does not show that the boot services were left", pcr=5)
            return
        pattern = r"(?:IF)*IS" if self.allow_failed_attempts else "IS"
        if not re.fullmatch(pattern, word[start:]) or re.search("[SF]", word[:start]):
            culprit = self._culprit(word, start)
            report.find(
                "handover.order",
                "the boot services were not left in the one way that is allowed, or something follows in PCR 5",
                pcr=5,
                event=history[culprit].index,
            )
            return
        for measured in history[start:]:
            if measured.event.type != EventType.EV_EFI_ACTION:
                report.find("event.type", "an exit-boot-services event of another type", pcr=5, event=measured.index)
        report.check(self.code, "the texts of PFP 8.2", pcr=5, events=[m.index for m in history[start:]])

    @staticmethod
    def _culprit(word: str, start: int) -> int:
        """The first event that fits nowhere."""
        early = re.search("[SF]", word[:start])
        if early:
            return early.start()
        match = re.match(r"(?:IF)*(?:IS)?", word[start:])
        assert match is not None
        return min(start + match.end(), len(word) - 1)
