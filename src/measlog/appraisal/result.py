"""What an appraisal says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from attrs import field, frozen

if TYPE_CHECKING:
    from measlog.appraisal.report import Report
    from measlog.evidence.keys import AkTrust
    from measlog.formats.tpm2 import ClockInfo

__all__ = ["AppraisalResult", "Check", "Finding", "Identified", "NotCovered", "Severity", "Status", "Verdict", "milder"]

Status = Literal["affirming", "warning", "contraindicated", "none"]
Severity = Literal["info", "warning", "error"]

_ORDER: Mapping[Severity, int] = {"error": 0, "warning": 1, "info": 2}


def milder(a: Severity, b: Severity) -> Severity:
    """The less severe of two."""
    return max(a, b, key=_ORDER.__getitem__)


@frozen(kw_only=True)
class Finding:
    """Something that the policy has an opinion about. ``code`` is from :data:`measlog.codes.CODES`.

    ``pcr`` and ``event`` (the index in the log) say where, ``expected`` and ``observed`` what. Texts from the log are
    hostile: escape them before they are shown.
    """

    code: str
    severity: Severity
    pcr: int | None = None
    event: int | None = None
    message: str
    expected: bytes | str | None = None
    observed: bytes | str | None = None

    @property
    def sort_key(self) -> tuple[int, int, str, str]:
        """Worst first, then by event; findings about no event in particular come before those about one."""
        return _ORDER[self.severity], -1 if self.event is None else self.event, self.code, self.message


@frozen(kw_only=True)
class Check:
    """Something that was compared and found right: which rule, on which register, which events, against what."""

    rule: str
    pcr: int | None = None
    events: tuple[int, ...] = ()
    against: str


@frozen(kw_only=True)
class NotCovered:
    """A register or component that no reference spoke for, and why."""

    subject: str
    pcr: int | None = None
    reason: str


@frozen(kw_only=True)
class Identified:
    """A component that was recognised: its role, the release whose manifest names it, slot and boot path if known."""

    component: str
    release: str
    slot: str | None = None
    boot_path: str | None = None


@frozen(kw_only=True)
class Verdict:
    """What every result says.

    ``status`` is ``contraindicated`` where anything differs from what the policy demands, ``none`` where nothing was
    compared, ``warning`` where a required register has no reference, ``affirming`` otherwise.
    """

    status: Status
    findings: tuple[Finding, ...]
    checked: tuple[Check, ...]
    not_covered: tuple[NotCovered, ...]
    identified: tuple[Identified, ...]
    quirks: tuple[str, ...] = ()
    """Quirks of :data:`measlog.replay.quirks.QUIRKS` that the verdict rests on."""
    bank: str
    policy: str

    @classmethod
    def of(cls, report: Report, *, bank: str, policy: str, **more: Any) -> Self:
        """What a report comes to; ``more`` are the members that this kind of result has beside."""
        return cls(
            status=report.status,
            findings=report.sorted_findings,
            checked=tuple(report.checked),
            not_covered=tuple(report.not_covered),
            identified=tuple(report.identified),
            quirks=tuple(sorted(report.quirks)),
            bank=bank,
            policy=policy,
            **more,
        )

    def __bool__(self) -> bool:
        """Refused: ``if result`` would take a warning for a pass."""
        raise TypeError("an appraisal result is not true or false: compare result.status")


@frozen(kw_only=True)
class AppraisalResult(Verdict):
    """The verdict on one machine, with its reasons."""

    ak_trust: AkTrust
    ak_fingerprint: str = field(repr=False)
    clock_info: ClockInfo = field(repr=False)
    firmware_version: int = field(repr=False)

    def __repr__(self) -> str:
        worst = f", first: {self.findings[0].code}" if self.findings else ""
        return f"<AppraisalResult {self.status}: {len(self.findings)} findings{worst}>"

    def __str__(self) -> str:
        from measlog.view.render import result_page  # noqa: PLC0415 - presentation is loaded when asked for

        return result_page(self).to_text()

    def _repr_html_(self) -> str:
        from measlog.view.notebook import result_html  # noqa: PLC0415 - presentation is loaded when asked for

        return result_html(self)
