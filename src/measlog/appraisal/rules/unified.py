"""Boots of unified kernel images: the image in PCR 4, its sections and the phases of the boot in PCR 11, no additions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import Factory, field, frozen

from measlog.appraisal.paths import Candidate, follow
from measlog.appraisal.result import Severity
from measlog.appraisal.rules.additions import judge_additions
from measlog.appraisal.rules.boot_manager import started_images
from measlog.appraisal.rules.built_in import judge_built_in
from measlog.appraisal.rules.divergence import Followed, boot_score, complete_boot, identify, judge_following
from measlog.appraisal.rules.usr import judge_usr
from measlog.errors import PolicyError
from measlog.flatcar.unified import predict_unified, uki_root_hashes
from measlog.reference.uki import PHASES
from measlog.registry import PCR_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.report import Report
    from measlog.reference.manifest import Component
    from measlog.reference.uki import UkiSection

__all__ = ["PHASE_PATHS", "UnifiedBoot", "boots_unified"]

PHASE_PATHS = tuple(":".join(PHASES[: i + 1]) for i in range(len(PHASES)))
"""How far a boot can be, as systemd-measure writes it: at least the initrd was entered."""

_FOLLOWED = (4, 11, 14)
_REGISTERS = (4, 8, 9, 11, 12, 13, 14)
_NEEDED = (4, 11, 12, 13)
_ALTERNATIVES = frozenset({".profile", ".dtbauto"})
"""Sections of which an image may have several, for the stub to choose: PCR 11 alone tells which (uki.c)."""
_PATH = re.compile(r"[a-z0-9-]{1,64}(?::[a-z0-9-]{1,64}){0,15}")


@frozen(kw_only=True)
class _Unified(Candidate):
    """The boot of one image."""

    image: Component

    @property
    def sections(self) -> tuple[UkiSection, ...]:
        """What its stub measures."""
        assert self.image.uki is not None  # no other is a candidate
        return self.image.uki.sections


@frozen
class UnifiedBoot:
    """PCR 4, 11, 12, 13 and 14 are those of one unified kernel image of a manifest, at a phase that is admitted.

    PCR 4: shim, systemd-boot and the image, and where Secure Boot is off the kernel inside it. PCR 11: each section,
    then the phases, which only the log of the running system shows (A26, A38). PCR 12: nothing but the image's own
    command line; PCR 8 and 13: nothing; PCR 9: nothing but what the kernel says of the same command line and initrd.

    ``phases`` are the paths that the boot may have come to (``enter-initrd:leave-initrd``); ``allowed_arguments`` kernel
    arguments that may be added to the command line; the others are those of the rule for GRUB.

    ``allow_unproven_phases`` accepts evidence that proves nothing of PCR 11, because the log of the running system is
    not at hand. The image is then told by PCR 4 alone, whose digest covers its sections; how far the boot is, nothing
    tells. An image that has alternatives in it is refused so.
    """

    secure_boot: bool = True
    phases: tuple[str, ...] = field(default=PHASE_PATHS)
    allowed_arguments: tuple[str, ...] = ()
    allow_boot_option_retries: bool = True
    allow_silent_boot_manager: bool = False
    allow_unchecked_usr: bool = False
    allow_built_in_override: bool = False
    allow_unproven_phases: bool = False
    code: str = "unified-boot"
    severity: Severity = "error"
    sentence: str = (
        "Shim, systemd-boot and the unified kernel image are the release's; its sections and an admitted phase are in "
        "PCR 11, and nothing was added to it."
    )
    registers: frozenset[int] = Factory(
        lambda self: frozenset(_NEEDED) - ({11} if self.allow_unproven_phases else set()), takes_self=True
    )

    @phases.validator
    def _check_phases(self, _: object, phases: tuple[str, ...]) -> None:
        if not phases:
            raise PolicyError("a policy that admits no phase of the boot accepts no unified kernel image")
        for path in phases:
            # Before the first phase the firmware's part of PCR 11 stands alone, which no running system has.
            if not isinstance(path, str) or not _PATH.fullmatch(path):
                raise PolicyError(f"{path!r} is no path of phases like {PHASE_PATHS[1]!r}")

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        # 1. Without these registers an addition to the image would go unseen (A12).
        for pcr in sorted(self.registers):
            if not case.quoted(pcr):
                report.find("register.not-quoted", f"the quote proves nothing of PCR {pcr}", pcr=pcr)
        # 2. PCR 4 begins with what the boot manager does; what follows are the images that were started.
        images = started_images(
            case, report, allow_retries=self.allow_boot_option_retries, allow_silent=self.allow_silent_boot_manager
        )
        # 3. Follow the boot of each unified image to each admitted phase; the one that explains most is talked about.
        best = max((self._follow(case, one, images) for one in self._candidates(case)), key=boot_score, default=None)
        if best is None:
            for pcr in _REGISTERS:
                if case.quoted(pcr):
                    report.skip(PCR_NAMES[pcr], "no manifest has a unified kernel image", pcr=pcr)
            return
        candidate, followings = best
        assert isinstance(candidate, _Unified)
        for following in followings:
            judge_following(self.code, case, candidate, following, report)
        if not case.quoted(11):
            report.skip(PCR_NAMES[11], "the image is told by PCR 4; the phases of the boot are not known", pcr=11)
            if any(section.name in _ALTERNATIVES for section in candidate.sections):
                report.find("register.not-quoted", "PCR 11 alone tells which of the image's alternatives ran", pcr=11)
        if not complete_boot(best):
            report.find("boot.closest", f"the boot that explains most is {candidate.name}", severity="info")
        # 4. Nothing was handed to the image beside what is in it: PCR 8, 9, 12 and 13.
        judge_additions(self.code, case, candidate.image, self.allowed_arguments, report)
        # 5. What the root hash in the command line binds was compared with it when the manifest was built, and the
        #    kernel uses that command line.
        if any(c is candidate.image for f in followings for _, _, owners in f.matched for _, c in owners):
            roots = set(uki_root_hashes((candidate.image,)).values())
            judge_usr(candidate.manifest, roots, "image", report, allow_unchecked=self.allow_unchecked_usr)
            allow = self.allow_built_in_override
            judge_built_in([(candidate.manifest, candidate.image)], report, pcr=11, allow_override=allow)
        identify(best, report)

    def _candidates(self, case: Case) -> Iterator[Candidate]:
        for manifest in case.manifests:
            others = tuple(m for m in case.manifests if m is not manifest)
            for component in manifest.components:
                if component.uki is None:
                    continue
                for path in self.phases:
                    phases = tuple(path.split(":"))
                    boot = predict_unified(manifest, component, secure_boot=self.secure_boot, phases=phases)
                    yield _Unified(manifest=manifest, boot=boot, others=others, image=component)

    @staticmethod
    def _follow(case: Case, candidate: Candidate, images: Sequence[Measured]) -> Followed:
        registers = (p for p in _FOLLOWED if case.quoted(p) and p not in candidate.boot.unknown)
        return candidate, tuple(
            follow(candidate, pcr, images if pcr == 4 else case.history(pcr), case.bank) for pcr in registers
        )


def boots_unified(case: Case) -> bool:
    """Whether the machine is to be judged as one that booted a unified image, of the manifests that there are.

    A hint for which rule to apply, from bytes that a machine chooses: each rule explains every event, or refuses.
    """
    images = {c.authenticode.get(case.bank) for m in case.manifests for c in m.components if c.uki is not None}
    if not images:
        return False
    if all(m.grub is None for m in case.manifests):
        return True
    if any(m.digest in images for m in case.history(4)):
        return True
    return bool(case.history(11)) and not case.history(8)
