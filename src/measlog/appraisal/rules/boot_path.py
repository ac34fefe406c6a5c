"""PCR 4, 8, 9 and 14 together: the boot followed one of the paths that the manifests allow for.

The order of events across registers is bound by nothing, so each register is followed on its own (A49); what ties them
together is that one path explains all of them, and that the kernel is the same component in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import Factory, evolve, field, frozen

from measlog.appraisal.paths import Candidate, Following, follow
from measlog.appraisal.result import Severity
from measlog.appraisal.rules.boot_manager import started_images
from measlog.appraisal.rules.built_in import judge_built_in
from measlog.appraisal.rules.command_line import explain_arguments, judge_arguments
from measlog.appraisal.rules.divergence import Followed, boot_score, complete_boot, identify, judge_following
from measlog.appraisal.rules.oem import OEM_FILE, listed, operator_settings
from measlog.appraisal.rules.usr import judge_usr
from measlog.flatcar.cmdline import ArgumentModel, ArgumentRule
from measlog.registry import PCR_NAMES

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.report import Report
    from measlog.flatcar.boot import PredictedBoot

__all__ = ["BootPaths"]

_REGISTERS = (4, 8, 9, 14)
_MANDATORY = frozenset({4, 8, 9})


def _model(value: ArgumentModel | Iterable[ArgumentRule] | None) -> ArgumentModel | None:
    return value if value is None or isinstance(value, ArgumentModel) else ArgumentModel(rules=value)


@frozen
class BootPaths:
    """Every event of PCR 4, 8, 9 and 14 is explained, in order, by one boot of a manifest (A1, A3, A45, A46).

    Variation that is admitted by name: ``oem_grub_cfg``, contents that the OEM partition's ``grub.cfg`` may have;
    ``allowed_arguments``, kernel arguments that any other OEM ``grub.cfg`` which does nothing but set variables may
    add, alone or behind one of these contents; ``arguments``, rules that the arguments of such a boot must keep;
    ``allow_boot_option_retries``, boot options that returned before the one that booted, which leave pairs of
    actions in PCR 4; ``allow_fallback``, the other slot where the chosen one did not start; ``allow_first_boot``, a boot
    that provisions the machine, by settings that nothing measures;
    ``allow_silent_boot_manager``, a firmware that does not measure which option it calls;
    ``allow_unchecked_usr``, manifests built without looking at USR; ``allow_built_in_override``, kernels that use their
    built-in command line in place of the one that is measured.
    """

    secure_boot: bool = True
    allowed_arguments: tuple[str, ...] = ()
    oem_grub_cfg: tuple[bytes, ...] = ()
    allow_boot_option_retries: bool = True
    allow_fallback: bool = True
    allow_first_boot: bool = True
    allow_silent_boot_manager: bool = False
    allow_unchecked_usr: bool = False
    allow_built_in_override: bool = False
    arguments: ArgumentModel | None = field(default=None, converter=_model)
    code: str = "boot-path"
    severity: Severity = "error"
    sentence: str = (
        "Shim, GRUB and kernel are the release's; every command, file and kernel argument follows from its grub.cfg."
    )
    registers: frozenset[int] = Factory(lambda: frozenset(_REGISTERS))

    def __attrs_post_init__(self) -> None:
        self._rules()

    def _rules(self) -> ArgumentModel | None:
        """The model, to which single arguments count as further rules."""
        if self.arguments is None:
            return None
        more = [ArgumentRule.exactly(argument) for argument in self.allowed_arguments]
        return evolve(self.arguments, rules=(*self.arguments.rules, *more))

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        # 1. PCR 4 begins with what the boot manager does; what follows are the images that were started.
        images = started_images(
            case,
            report,
            allow_retries=self.allow_boot_option_retries,
            allow_silent=self.allow_silent_boot_manager,
        )
        # 2. Follow every boot that a manifest allows for; the one that explains most is the one to talk about.
        followed = [self._follow(case, candidate, images) for candidate in self._candidates(case)]
        best = max(followed, key=boot_score, default=None)
        if best is not None and not complete_boot(best) and (self.allowed_arguments or self.arguments is not None):
            best = max([best, *self._with_settings(case, followed, images)], key=boot_score)
        if best is None:
            for pcr in _REGISTERS:
                if case.quoted(pcr):
                    report.skip(PCR_NAMES[pcr], "no manifest describes a boot of this kind", pcr=pcr)
            return
        candidate, followings = best
        for following in followings:
            self._judge(case, candidate, following, report)
        if not complete_boot(best):
            report.find("boot.closest", f"the boot that explains most is {candidate.name}", severity="info")
        # 3. The kernel is the same in every register that names it (A45).
        self._judge_kernel(case.bank, followings, report)
        # 4. What the kernel's root hash binds was compared with it when the manifest was built, and the kernel uses the
        #    command line that was measured.
        self._judge_started(followings, report)
        self._judge_variation(candidate, report)
        identify(best, report)

    def _candidates(self, case: Case) -> Iterator[Candidate]:
        for manifest in case.manifests:
            for oem in (None, *self.oem_grub_cfg):
                for boot in case.predictions.of(manifest, secure_boot=self.secure_boot, oem=oem):
                    others = tuple(m for m in case.manifests if m is not manifest)
                    yield Candidate(manifest=manifest, boot=boot, others=others, oem=oem)

    def _with_settings(
        self, case: Case, followed: Sequence[Followed], images: Sequence[Measured]
    ) -> Iterator[Followed]:
        """The boots with the settings that the log shows of an OEM ``grub.cfg``, if these are admitted.

        With a model any are, for now: what they make of the command line is judged when all of PCR 8 is explained.
        """
        for oem in dict.fromkeys(candidate.oem for candidate, _ in followed):
            best, followings = max((f for f in followed if f[0].oem == oem), key=boot_score)
            script = operator_settings(
                case,
                best,
                followings,
                lambda name, value: self.arguments is not None or listed(name, value, self.allowed_arguments),
            )
            if script is None:
                continue
            plain = {
                _state(boot): boot for boot in case.predictions.of(best.manifest, secure_boot=self.secure_boot, oem=oem)
            }
            boots = case.predictions.with_settings(best.manifest, secure_boot=self.secure_boot, oem=script)
            # A boot that only settings make possible is none that the model speaks of.
            for boot, before in [(boot, plain[_state(boot)]) for boot in boots if _state(boot) in plain]:
                candidate = evolve(best, boot=boot, free_file=OEM_FILE, plain=before)
                yield self._follow(case, candidate, images)

    @staticmethod
    def _follow(case: Case, candidate: Candidate, images: Sequence[Measured]) -> Followed:
        followings = []
        for pcr in _REGISTERS:
            if not case.quoted(pcr) or (pcr not in _MANDATORY and pcr in candidate.boot.unknown):
                continue
            observed = images if pcr == 4 else case.history(pcr)
            followings.append(follow(candidate, pcr, observed, case.bank))
        return candidate, tuple(followings)

    def _judge(self, case: Case, candidate: Candidate, following: Following, report: Report) -> None:
        judge_following(self.code, case, candidate, following, report)
        if following.pcr != 8:
            return
        model = self._rules()
        if model is not None and candidate.plain is not None:
            judge_arguments(candidate, following, model, report)
        if not following.complete:
            explain_arguments(case, candidate, self.allowed_arguments, model, report)

    @staticmethod
    def _judge_kernel(bank: str, followings: Sequence[Following], report: Report) -> None:
        """All registers that name a kernel name the same one, which is its digests: names may be anybody's."""
        common: set[tuple[bytes, bytes]] | None = None
        for following in followings:
            for measured, _, owners in following.matched:
                kernels = {(c.authenticode[bank], c.flat[bank]) for _, c in owners if c.role == "kernel"}
                if not kernels:
                    continue
                common = kernels if common is None else common & kernels
                if not common:
                    report.find(
                        "kernel.mismatch",
                        "the kernel that was started is not the kernel file that was read",
                        pcr=following.pcr,
                        event=measured.index,
                    )
                    return

    def _judge_started(self, followings: Sequence[Following], report: Report) -> None:
        """What is in no register and the kernel that was started binds: USR by its root hash, its built-in arguments."""
        owners = {
            (id(manifest), component.path): (manifest, component)
            for following in followings
            for _, _, found in following.matched
            for manifest, component in found
            if component.role == "kernel"
        }
        for manifest, component in owners.values():
            roots = {component.verity_root}
            judge_usr(manifest, roots, "kernel", report, allow_unchecked=self.allow_unchecked_usr)
        judge_built_in(tuple(owners.values()), report, pcr=8, allow_override=self.allow_built_in_override)

    def _judge_variation(self, candidate: Candidate, report: Report) -> None:
        """What the policy admits by name is said, or refused."""
        boot = candidate.boot
        if boot.chosen != boot.slot:
            report.find(
                "boot.fallback",
                f"slot {boot.chosen} did not start, and slot {boot.slot} was booted in its place",
                severity="info" if self.allow_fallback else "error",
                pcr=8,
            )
        if boot.first_boot and not self.allow_first_boot:
            report.find(
                "boot.first-boot",
                "the machine was provisioned in this boot, with settings that nothing measures",
                pcr=8,
            )
        if boot.oem:
            report.find(
                "boot.oem-settings" if candidate.free_file is not None else "boot.oem-file",
                "the OEM partition has a grub.cfg, which the policy admits",
                severity="info",
                pcr=9,
            )


def _state(boot: PredictedBoot) -> tuple[str | None, str | None, bool]:
    return boot.chosen, boot.slot, boot.first_boot
