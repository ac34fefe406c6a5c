"""The verifier: verified evidence, references and a policy, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from measlog.appraisal.case import Case
from measlog.appraisal.paths import Predictions
from measlog.appraisal.policy import Policy
from measlog.appraisal.report import Report
from measlog.appraisal.result import AppraisalResult
from measlog.errors import ManifestError, PolicyError
from measlog.evidence import VerifiedEvidence
from measlog.reference.manifest import ReferenceManifest
from measlog.registry import PCR_NAMES

if TYPE_CHECKING:
    from measlog.appraisal.baseline import Baseline

__all__ = ["Verifier"]


class Verifier:
    """Appraises machines. A value: it keeps no state between machines, and it pickles.

    ``manifests`` are verified ones; unsigned ones are refused unless ``unsafe_unsigned_manifests`` says so. Each
    component may match any of them: an updated machine runs the boot loader of one release with another's kernel.
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

    def appraise(self, evidence: VerifiedEvidence) -> AppraisalResult:
        """The verdict on one machine; an unfavourable one is a value, not an error.

        Raises TypeError for anything but VerifiedEvidence.
        """
        # 1. Only verified evidence is appraised: nobody can skip the quote.
        if not isinstance(evidence, VerifiedEvidence):
            raise TypeError(f"only VerifiedEvidence is appraised, not {type(evidence).__name__}")
        report = Report()
        case = Case(
            evidence=evidence, manifests=self.manifests, baselines=self.baselines, predictions=self._predictions
        )
        # 2. What the policy requires was quoted, so that its events are known to have happened (A12).
        for pcr in self.policy.quoted:
            if not case.quoted(pcr):
                report.find("register.not-quoted", f"the quote does not cover PCR {pcr}", pcr=pcr)
        # 3. Each rule of the policy.
        self.policy.rule.appraise(case, report)
        # 4. A required register that no reference speaks of is not passed over in silence (A41).
        for pcr in sorted(self.policy.required - report.covered):
            name = PCR_NAMES.get(pcr, "")
            report.find("register.not-covered", f"no reference covers PCR {pcr} ({name})", severity="warning", pcr=pcr)
        named = {n.pcr for n in report.not_covered}
        for pcr in case.registers:
            if pcr not in report.covered and pcr not in named:
                report.skip(PCR_NAMES.get(pcr, f"PCR {pcr}"), "no rule of the policy speaks of it", pcr=pcr)
        # 5. Values that no event explains are not a boot's; a policy may know better (A26).
        for pcr in evidence.unexplained:
            if pcr not in report.covered:
                report.skip(PCR_NAMES.get(pcr, f"PCR {pcr}"), "its value does not follow from the log", pcr=pcr)
        return AppraisalResult(
            status=report.status,
            findings=tuple(sorted(report.findings, key=lambda f: f.sort_key)),
            checked=tuple(report.checked),
            not_covered=tuple(report.not_covered),
            identified=tuple(report.identified),
            quirks=tuple(sorted(report.quirks)),
            bank=evidence.bank,
            policy=self.policy.name,
            ak_trust=evidence.ak_trust,
            ak_fingerprint=evidence.key.fingerprint,
            clock_info=evidence.quote.clock_info,
            firmware_version=evidence.quote.firmware_version,
        )
