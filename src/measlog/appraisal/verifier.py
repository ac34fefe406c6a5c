"""The verifier: verified evidence, references and a policy, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from measlog.appraisal.case import Case
from measlog.appraisal.paths import Predictions
from measlog.appraisal.policy import Policy
from measlog.appraisal.report import Report
from measlog.appraisal.result import AppraisalResult
from measlog.appraisal.unquoted import UnquotedLog, UnquotedResult
from measlog.errors import ManifestError, PolicyError
from measlog.evidence import VerifiedEvidence
from measlog.log import EventLog
from measlog.reference.manifest import ReferenceManifest
from measlog.reference.signing import not_in_force
from measlog.registry import PCR_NAMES

if TYPE_CHECKING:
    from measlog.appraisal.baseline import Baseline

__all__ = ["Verifier"]


class Verifier:
    """Appraises machines. A value: it keeps no state between machines, and it pickles.

    ``manifests`` are verified ones; unsigned ones are refused unless ``unsafe_unsigned_manifests`` says so. Each
    component may match any of them: an updated machine runs the boot loader of one release with another's kernel.
    A verifier may live longer than its manifests: each appraisal compares with those that are in force then.
    """

    def __init__(
        self,
        manifests: Sequence[ReferenceManifest],
        *,
        baselines: Iterable[Baseline] = (),
        policy: Policy,
        unsafe_unsigned_manifests: bool = False,
    ) -> None:
        if not isinstance(policy, Policy):
            raise PolicyError(f"a policy is needed, not {type(policy).__name__}")
        self.manifests = tuple(manifests)
        self.baselines = tuple(baselines)
        self.policy = policy
        self.unsafe_unsigned_manifests = unsafe_unsigned_manifests
        self._predictions = Predictions()
        # A manifest that nobody signed is what an attacker would hand over (A43).
        for manifest in self.manifests:
            if manifest.signed_by is None and not unsafe_unsigned_manifests:
                raise ManifestError(f"the manifest {manifest.name} is not signed by a key that was verified")

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_predictions": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._predictions = Predictions()

    def __repr__(self) -> str:
        names = ", ".join(m.name for m in self.manifests) or "no manifest"
        return f"<Verifier {self.policy.name}: {names}, {len(self.baselines)} baselines>"

    def in_force(self, now: datetime | None = None) -> tuple[ReferenceManifest, ...]:
        """The manifests that are in force at ``now``, the current time where none is given; it needs a time zone."""
        return tuple(manifest for manifest in self.manifests if not_in_force(manifest, now) is None)

    def appraise(self, evidence: VerifiedEvidence, *, now: datetime | None = None) -> AppraisalResult:
        """The verdict on one machine; an unfavourable one is a value, not an error.

        ``now`` is the time at which the manifests must be in force, as in :meth:`measlog.SignedManifest.verify`: the
        current time where none is given. Evidence that is appraised again later needs the time of then. Raises
        ManifestError for a time without a time zone, TypeError for anything but VerifiedEvidence.
        """
        # 1. Only verified evidence is appraised: nobody can skip the quote.
        if not isinstance(evidence, VerifiedEvidence):
            raise TypeError(f"only VerifiedEvidence is appraised, not {type(evidence).__name__}")
        report = self._judge(evidence, now)
        return AppraisalResult.of(
            report,
            bank=evidence.bank,
            policy=self.policy.name,
            ak_trust=evidence.ak_trust,
            ak_fingerprint=evidence.key.fingerprint,
            clock_info=evidence.quote.clock_info,
            firmware_version=evidence.quote.firmware_version,
        )

    def unsafe_appraise_unquoted(
        self, log: EventLog, *, bank: str = "sha256", pcrs: Iterable[int], now: datetime | None = None
    ) -> UnquotedResult:
        """The verdict that would follow *if* a quote said that ``pcrs`` hold what the log replays to.

        For programs that verify the quote themselves and hand over the log alone. Whoever holds the quote verifies it
        with :meth:`measlog.Evidence.verify` instead, and calls :meth:`appraise`; ``now`` is as there. Raises an
        :class:`~measlog.errors.EvidenceError` for a log that no quote could belong to.
        """
        assumed = UnquotedLog.assume(log, bank=bank, pcrs=pcrs)
        report = self._judge(assumed, now)
        return UnquotedResult.of(report, bank=assumed.bank, policy=self.policy.name, assumed=tuple(assumed.values))

    def _judge(self, evidence: VerifiedEvidence | UnquotedLog, now: datetime | None) -> Report:
        report = Report()
        # 2. A manifest that was in force when it was verified may have expired since (A43: freshness).
        manifests = self._in_force(now, report)
        case = Case(evidence=evidence, manifests=manifests, baselines=self.baselines, predictions=self._predictions)
        # 3. What the policy requires was quoted, so that its events are known to have happened (A12).
        for pcr in self.policy.quoted:
            if not case.quoted(pcr):
                report.find("register.not-quoted", f"the quote does not cover PCR {pcr}", pcr=pcr)
        # 4. Each rule of the policy.
        self.policy.rule.appraise(case, report)
        # 5. A required register that no reference speaks of is not passed over in silence (A41).
        for pcr in sorted(self.policy.required - report.covered):
            said = f"no reference covers PCR {pcr} ({PCR_NAMES[pcr]})"
            report.find("register.not-covered", said, severity="warning", pcr=pcr)
        named = {n.pcr for n in report.not_covered}
        for pcr in case.registers:
            if pcr not in report.covered and pcr not in named:
                report.skip(_name(pcr), "no rule of the policy speaks of it", pcr=pcr)
        # 6. Values that no event explains are not a boot's; a policy may know better (A26).
        for pcr in evidence.unexplained:
            if pcr not in report.covered:
                report.skip(_name(pcr), "its value does not follow from the log", pcr=pcr)
        return report

    def _in_force(self, now: datetime | None, report: Report) -> tuple[ReferenceManifest, ...]:
        """The manifests to compare with; a finding for each of the others, an error where there is nothing left."""
        reasons = [(manifest, not_in_force(manifest, now)) for manifest in self.manifests]
        left = tuple(manifest for manifest, reason in reasons if reason is None)
        for manifest, reason in reasons:
            if reason is not None:
                report.find(
                    "manifest.not-in-force",
                    f"the manifest {manifest.name} {reason}: nothing is compared with it",
                    severity="info" if left else "error",
                )
        return left


def _name(pcr: int) -> str:
    return PCR_NAMES.get(pcr, f"PCR {pcr}")
