"""What a rule is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from measlog.appraisal.case import Case
    from measlog.appraisal.report import Report
    from measlog.appraisal.result import Severity

__all__ = ["Rule"]


@runtime_checkable
class Rule(Protocol):
    """One demand of a policy. Rules are values: equal when they demand the same."""

    @property
    def code(self) -> str:
        """A dotted lower-case word that names the rule."""

    @property
    def severity(self) -> Severity:
        """The worst that a finding of the rule can be: a policy may turn a demand into a warning."""

    @property
    def sentence(self) -> str:
        """What the rule demands, in a sentence."""

    @property
    def registers(self) -> frozenset[int]:
        """The PCRs that must be quoted, and covered by a reference, for the rule to say anything."""

    def appraise(self, case: Case, report: Report) -> None:
        """Look at the evidence; write findings, checks and coverage into the report."""
