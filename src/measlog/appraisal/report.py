"""Where the rules of a policy write down what they find, and how a verdict follows from it."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import Factory, define, evolve

from measlog.appraisal.result import Check, Finding, Identified, NotCovered, Severity, Status, milder

__all__ = ["Report"]


@define
class Report:
    """Findings, checks and coverage, as they are collected."""

    findings: list[Finding] = Factory(list)
    checked: list[Check] = Factory(list)
    not_covered: list[NotCovered] = Factory(list)
    identified: list[Identified] = Factory(list)
    covered: set[int] = Factory(set)
    quirks: set[str] = Factory(set)

    def find(
        self,
        code: str,
        message: str,
        *,
        severity: Severity = "error",
        pcr: int | None = None,
        event: int | None = None,
        expected: bytes | str | None = None,
        observed: bytes | str | None = None,
    ) -> None:
        """Write down a finding."""
        finding = Finding(
            code=code,
            severity=severity,
            pcr=pcr,
            event=event,
            message=message,
            expected=expected,
            observed=observed,
        )
        if finding not in self.findings:
            self.findings.append(finding)

    def check(self, rule: str, against: str, *, pcr: int | None = None, events: Iterable[int] = ()) -> None:
        """Write down that something was compared and found right."""
        self.checked.append(Check(rule=rule, pcr=pcr, events=tuple(events), against=against))

    def cover(self, *pcrs: int) -> None:
        """Say that a reference explains every event of these registers, or refuses them."""
        self.covered.update(pcrs)

    def skip(self, subject: str, reason: str, *, pcr: int | None = None) -> None:
        """Write down what no reference spoke for."""
        self.not_covered.append(NotCovered(subject=subject, pcr=pcr, reason=reason))

    def absorb(self, other: Report, *, at_most: Severity = "error") -> None:
        """Take over what another report says, with no finding worse than ``at_most``."""
        findings = [evolve(f, severity=milder(f.severity, at_most)) for f in other.findings]
        self.findings.extend(f for f in findings if f not in self.findings)
        self.checked.extend(other.checked)
        self.not_covered.extend(n for n in other.not_covered if n not in self.not_covered)
        self.identified.extend(i for i in other.identified if i not in self.identified)
        self.covered |= other.covered
        self.quirks |= other.quirks

    @property
    def sorted_findings(self) -> tuple[Finding, ...]:
        """The findings, worst first, then by event."""
        return tuple(sorted(self.findings, key=lambda f: f.sort_key))

    @property
    def failed(self) -> bool:
        """Whether any finding is an error."""
        return any(f.severity == "error" for f in self.findings)

    @property
    def status(self) -> Status:
        """The verdict: the worst wins, and nothing passes because nothing was checked (A41)."""
        if self.failed:
            return "contraindicated"
        if not self.checked:
            return "none"
        if any(f.severity == "warning" for f in self.findings):
            return "warning"
        return "affirming"
