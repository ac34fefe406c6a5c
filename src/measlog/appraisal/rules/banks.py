"""The verified bank is a real one, and the log is a sound one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from measlog.appraisal.result import Severity

if TYPE_CHECKING:
    from measlog.appraisal.case import Case
    from measlog.appraisal.report import Report

__all__ = ["ConsistentBanks", "HashedData", "MeasuredBank", "SoundLog"]

_FIRMWARE = range(8)


@frozen
class MeasuredBank:
    """The firmware measured into the bank: none of the quoted PCR 0 to 7 is at its start value (A9, A22)."""

    code: str = "bank.measured"
    severity: Severity = "error"
    sentence: str = "The firmware measured into every quoted register from PCR 0 to 7."
    registers: frozenset[int] = frozenset()

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        for pcr in _FIRMWARE:
            if case.quoted(pcr) and not case.history(pcr):
                report.find(
                    "bank.unmeasured",
                    f"PCR {pcr} of the bank {case.bank} was never extended: anybody could write its history",
                    pcr=pcr,
                )
        for other in case.evidence.log.algorithms:
            if other != case.bank and not any(
                any(e.digests.get(other, b"")) for e in case.evidence.log if e.pcr is not None
            ):
                report.find(
                    "bank.empty", f"the log declares the bank {other} but measures nothing into it", severity="info"
                )


@frozen
class SoundLog:
    """The log has none of the anomalies that a sound log cannot have (A19, A21, A38)."""

    code: str = "log.sound"
    severity: Severity = "error"
    sentence: str = "The log has no event that contradicts its own format."
    registers: frozenset[int] = frozenset()

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        for anomaly in case.evidence.log.anomalies:
            # How a Spec ID event pads its vendor information is covered by no register and changes nothing.
            harmless = anomaly.code.startswith("spec-id.") or anomaly.code == "event.digest-order"
            report.find(anomaly.code, anomaly.message, severity="info" if harmless else "error", event=anomaly.event)


@frozen
class ConsistentBanks:
    """All banks of the log tell the same story: where a digest follows from the data in one, it does in all (A9, A10).

    Only the verified bank is proven by the quote, so a bank that differs proves nothing about this one; but firmware
    hashes the same bytes into each, and a log that says otherwise was not written by it.
    """

    code: str = "bank.consistent"
    severity: Severity = "error"
    sentence: str = "Every bank of the log records the same data."
    registers: frozenset[int] = frozenset()

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        for event in case.evidence.log:
            if event.pcr is None:
                continue
            mine = event.check(case.bank)
            if mine.status not in {"matches", "differs"}:
                continue
            for other in event.digests:
                theirs = event.check(other)
                if other != case.bank and (theirs.status, theirs.rule) != (mine.status, mine.rule):
                    report.find(
                        "bank.differs",
                        f"the {other} digest of the event does not belong to the same data as its {case.bank} digest",
                        pcr=event.pcr,
                        event=event.index,
                    )


@frozen
class HashedData:
    """Where a digest must follow from the event's data, it does (A1, A2, A47).

    The digest is what counts, but an event whose text is not what was hashed was written to mislead its reader.
    """

    pcrs: tuple[int, ...] = (4, 5, 7, 8, 9, 14)
    code: str = "event.hashed"
    severity: Severity = "error"
    sentence: str = "The data of every event is what its digest was computed from, where that can be told."
    registers: frozenset[int] = frozenset()

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        for pcr in self.pcrs:
            if not case.quoted(pcr):
                continue
            found = []
            for measured in case.history(pcr):
                check = measured.event.check(case.bank)
                if check.status == "matches":
                    found.append(measured.index)
                elif check.status == "differs":
                    report.find(
                        "event.data",
                        f"the data of an event in PCR {pcr} is not what was hashed",
                        pcr=pcr,
                        event=measured.index,
                        expected=measured.digest,
                    )
            if found:
                report.check(self.code, "the digest rules of the event types", pcr=pcr, events=found)
