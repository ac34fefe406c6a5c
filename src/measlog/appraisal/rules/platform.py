"""Registers that no release decides: compared with a baseline where there is one, named where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import Factory, field, frozen

from measlog.appraisal.baseline import PLATFORM_PCRS
from measlog.appraisal.result import Severity
from measlog.errors import PolicyError
from measlog.evidence.evidence import OPEN_ENDED_PCRS
from measlog.registry import PCR_NAMES

if TYPE_CHECKING:
    from measlog.appraisal.case import Case
    from measlog.appraisal.report import Report

__all__ = ["OpenEnded", "Platform", "Untouched", "shared_prefix"]


@frozen
class Platform:
    """Platform registers have a history that was observed on a known-good machine, where a baseline speaks of them."""

    pcrs: tuple[int, ...] = PLATFORM_PCRS
    code: str = "platform.baseline"
    severity: Severity = "error"
    sentence: str = "Firmware, settings and option ROMs are as they were seen on known-good machines."
    registers: frozenset[int] = frozenset()

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        for pcr in self.pcrs:
            if not case.quoted(pcr):
                continue
            sequences = {
                sequence: baseline
                for baseline in case.baselines
                if baseline.bank == case.bank
                for sequence in baseline.histories.get(pcr, ())
            }
            history = case.history(pcr)
            observed = tuple(m.digest for m in history)
            if not sequences:
                report.skip(PCR_NAMES[pcr], "no release decides it, and no baseline was given", pcr=pcr)
                continue
            report.cover(pcr)
            if observed in sequences:
                known = sequences[observed]
                report.check(
                    self.code,
                    f"a history observed on {known.samples} known-good machine{'s' * (known.samples > 1)}"
                    + (f" of model {known.model}" if known.model else ""),
                    pcr=pcr,
                    events=[m.index for m in history],
                )
                continue
            shared = max(shared_prefix(observed, sequence) for sequence in sequences)
            event = history[shared].index if shared < len(history) else None
            report.find(
                "platform.differs",
                f"PCR {pcr} ({PCR_NAMES[pcr]}) is not as on any known-good machine, from its event {shared + 1} on",
                pcr=pcr,
                event=event,
                observed=observed[shared] if event is not None else None,
            )


@frozen
class Untouched:
    """Registers that this way of booting never extends: no events, and their start value in the quote (A22)."""

    pcrs: tuple[int, ...]
    code: str = "untouched"
    severity: Severity = "error"
    sentence: str = "Nothing was measured into registers that this way of booting leaves alone."
    registers: frozenset[int] = Factory(frozenset)

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        for pcr in self.pcrs:
            if not case.quoted(pcr):
                continue
            report.cover(pcr)
            history = case.history(pcr)
            if history:
                report.find(
                    "register.unexpected",
                    f"PCR {pcr} was extended, which this way of booting never does",
                    pcr=pcr,
                    event=history[0].index,
                    observed=history[0].digest,
                )
            elif pcr in case.evidence.unexplained:
                report.find(
                    "register.unexplained", f"PCR {pcr} holds a value, and the log says nothing about it", pcr=pcr
                )
            else:
                report.check(self.code, "the start value", pcr=pcr)


@frozen
class OpenEnded:
    """Registers that the running system goes on extending are accepted with whatever value the quote has (A26).

    Only registers that no firmware and no boot loader answers for can be open-ended. Nothing is concluded from them.
    """

    pcrs: tuple[int, ...] = field()
    code: str = "open-ended"
    severity: Severity = "error"
    sentence: str = "Some registers are left to the running system, and nothing is concluded from them."
    registers: frozenset[int] = Factory(frozenset)

    @pcrs.validator
    def _check(self, _: object, pcrs: tuple[int, ...]) -> None:
        wrong = sorted(set(pcrs) - OPEN_ENDED_PCRS)
        if wrong:
            raise PolicyError(f"PCR {wrong[0]} cannot be open-ended: it is what the boot is judged by")

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        for pcr in self.pcrs:
            if pcr in case.evidence.values:
                report.cover(pcr)
                report.skip(PCR_NAMES[pcr], "the policy leaves it to the running system", pcr=pcr)


def shared_prefix(a: tuple[bytes, ...], b: tuple[bytes, ...]) -> int:
    """How many events two histories have in common from the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
