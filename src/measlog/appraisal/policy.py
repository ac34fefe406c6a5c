"""Policies: what must be true of a machine, as small values that compose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from attrs import field, frozen

from measlog.appraisal.report import Report
from measlog.appraisal.result import Severity
from measlog.appraisal.rules.banks import ConsistentBanks, HashedData, MeasuredBank, SoundLog
from measlog.appraisal.rules.base import Rule
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import HandOver, Separators
from measlog.appraisal.rules.platform import OpenEnded, Platform, Untouched
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.appraisal.rules.unified import PHASE_PATHS, UnifiedBoot, boots_unified
from measlog.errors import PolicyError
from measlog.replay.pcr import PCR_COUNT, RESETTABLE_PCRS

if TYPE_CHECKING:
    from measlog.appraisal.case import Case
    from measlog.flatcar.cmdline import ArgumentModel, ArgumentRule

__all__ = ["AllOf", "AnyOf", "ByBootLoader", "Policy", "UnsafeAcceptAll", "apply", "flatcar", "leaves"]


def _rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    found = tuple(rules)
    if not found:
        raise PolicyError("a policy without rules would accept everything")
    for rule in found:
        _check_rule(rule)
    return found


def _check_rule(rule: object) -> None:
    if isinstance(rule, type) or not isinstance(rule, Rule):
        raise PolicyError(f"{rule!r} is no rule of a policy")


def _registers(pcrs: Iterable[int]) -> frozenset[int]:
    return frozenset(pcrs)


def apply(rule: Rule, case: Case, report: Report) -> None:
    """Let a rule write into the report, with no finding worse than its severity."""
    attempt = Report()
    rule.appraise(case, attempt)
    report.absorb(attempt, at_most=rule.severity)


@frozen
class AllOf:
    """Every rule must hold."""

    rules: tuple[Rule, ...] = field(converter=_rules)
    code: str = "all-of"
    severity: Severity = "error"

    @property
    def sentence(self) -> str:
        """The sentences of the rules."""
        return " ".join(rule.sentence for rule in self.rules)

    @property
    def registers(self) -> frozenset[int]:
        """The registers that any of the rules requires."""
        return frozenset().union(*(rule.registers for rule in self.rules))

    def appraise(self, case: Case, report: Report) -> None:
        """Apply each rule."""
        for rule in self.rules:
            apply(rule, case, report)


@frozen
class AnyOf:
    """One of the rules must hold; where none does, the findings of the one that comes closest are reported."""

    rules: tuple[Rule, ...] = field(converter=_rules)
    code: str = "any-of"
    severity: Severity = "error"

    @property
    def sentence(self) -> str:
        """The sentences of the rules."""
        return " Or: ".join(rule.sentence for rule in self.rules)

    @property
    def registers(self) -> frozenset[int]:
        """The registers that any of the rules requires."""
        return frozenset().union(*(rule.registers for rule in self.rules))

    def appraise(self, case: Case, report: Report) -> None:
        """Apply the rules until one holds and compared something."""
        tried: list[Report] = []
        for rule in self.rules:
            attempt = Report()
            apply(rule, case, attempt)
            if attempt.checked and not attempt.failed:
                report.absorb(attempt)
                return
            tried.append(attempt)
        best = min(tried, key=lambda r: sum(f.severity == "error" for f in r.findings))
        if not best.failed:
            best.find("policy.nothing-compared", "none of the alternatives compared anything")
        report.absorb(best)


@frozen(kw_only=True)
class ByBootLoader:
    """The rule for machines that GRUB booted, or the one for unified kernel images, whichever manifests and log call for.

    Where manifests describe both ways of booting, the log says which it was: a hint that costs an attacker nothing and
    gains nothing, because each rule refuses what it cannot explain.
    """

    grub: Rule
    unified: Rule
    code: str = "by-boot-loader"
    severity: Severity = "error"

    def __attrs_post_init__(self) -> None:
        for rule in self.rules:
            _check_rule(rule)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Both rules."""
        return self.grub, self.unified

    @property
    def sentence(self) -> str:
        """The sentences of the rules."""
        return " Or: ".join(rule.sentence for rule in self.rules)

    @property
    def registers(self) -> frozenset[int]:
        """The registers that both rules require: what one of them does beyond that, it finds itself."""
        return self.grub.registers & self.unified.registers

    def appraise(self, case: Case, report: Report) -> None:
        """Apply one of the rules."""
        apply(self.unified if boots_unified(case) else self.grub, case, report)


def leaves(rule: Rule) -> Iterator[Rule]:
    """The single rules within a rule."""
    if type(rule) in {AllOf, AnyOf, ByBootLoader}:
        assert isinstance(rule, AllOf | AnyOf | ByBootLoader)
        for inner in rule.rules:
            yield from leaves(inner)
    else:
        yield rule


@frozen
class UnsafeAcceptAll:
    """Accepts whatever is put before it. For tests of plumbing, and nothing else."""

    code: str = "unsafe.accept-all"
    severity: Severity = "error"
    sentence: str = "Everything is accepted."
    registers: frozenset[int] = frozenset()

    def appraise(self, case: Case, report: Report) -> None:  # noqa: ARG002 - looks at nothing, as its name says
        """Accept."""
        report.check(self.code, "nothing at all")


@frozen(kw_only=True)
class Policy:
    """A named rule, and the registers for which a reference must have spoken.

    ``required`` registers must be quoted; one that no reference covers makes the verdict a warning.
    """

    name: str
    rule: Rule
    required: frozenset[int] = field(converter=_registers)

    def __attrs_post_init__(self) -> None:
        _check_rule(self.rule)
        if any(not isinstance(pcr, int) or not 0 <= pcr < PCR_COUNT for pcr in self.required):
            raise PolicyError("a policy requires PCR 0 to 23")
        resettable = sorted(self.required & RESETTABLE_PCRS)
        if resettable:
            raise PolicyError(
                f"PCR {resettable[0]} can be reset while the system runs: it is no evidence of a boot (A23)"
            )

    @property
    def quoted(self) -> tuple[int, ...]:
        """The registers that a quote must cover for this policy, ascending: pass them to ``Evidence.verify``."""
        return tuple(sorted(self.required | self.rule.registers))

    @property
    def open_ended(self) -> tuple[int, ...]:
        """The registers that the policy leaves to the running system: pass them to ``Evidence.verify`` too."""
        return tuple(sorted({pcr for rule in leaves(self.rule) if isinstance(rule, OpenEnded) for pcr in rule.pcrs}))


def flatcar(
    *,
    secure_boot: bool = True,
    allowed_arguments: Iterable[str] = (),
    arguments: ArgumentModel | Iterable[ArgumentRule] | None = None,
    oem_grub_cfg: Iterable[bytes] = (),
    minimum_sbat: dict[str, int] | None = None,
    minimum_dbx: Iterable[bytes] = (),
    allow_mok: bool = False,
    allow_dma_disabled: bool = False,
    allow_boot_option_retries: bool = True,
    allow_fallback: bool = True,
    allow_first_boot: bool = True,
    allow_silent_boot_manager: bool = False,
    allow_late_separator: bool = False,
    allow_unchecked_usr: bool = False,
    allow_built_in_override: bool = False,
    allow_unproven_phases: bool = False,
    phases: Iterable[str] = PHASE_PATHS,
    open_ended: Iterable[int] = (),
) -> Policy:
    """The policy for Flatcar Container Linux booted by shim and GRUB, or as a unified kernel image.

    Shim, GRUB and kernel are the manifests', in order; the commands in PCR 8, and with them each argument of the
    kernel, follow from the ``grub.cfg`` of the image, or are named here: ``oem_grub_cfg`` are the contents of OEM
    ``grub.cfg`` files that machines may have, ``allowed_arguments`` kernel arguments that such files may add, one by
    one, and ``arguments`` rules for them: names, values, how often. An argument outside of them is a finding that names
    it; everything else in PCR 8 must be what follows from the configuration. Allowed
    variation: boot options that failed before the one that booted (``allow_boot_option_retries``), and exits from
    boot services that failed before the one that succeeded, and the other slot where the chosen one did not start
    (``allow_fallback``), a boot that provisions the machine with what Ignition finds, which nothing measures: whoever can
    write the ESP can ask for one again (``allow_first_boot``), a firmware that does not measure what it calls
    (``allow_silent_boot_manager``) or closes PCR 7 late (``allow_late_separator``). Manifests whose USR was not checked
    are refused unless ``allow_unchecked_usr``, kernels that use their built-in command line in place of the one that is
    measured unless ``allow_built_in_override``.

    Of a unified kernel image the sections are the manifest's, nothing is added to it but ``allowed_arguments``, and the
    boot has come to one of ``phases`` (:data:`~measlog.appraisal.rules.unified.PHASE_PATHS`), which takes systemd's log
    of its measurements among the evidence; ``allow_unproven_phases`` does without both. Registers that the running
    system goes on extending (10, 15) are accepted with whatever the quote says where ``open_ended`` names them.
    """
    open_ended, allowed_arguments = tuple(open_ended), tuple(allowed_arguments)
    return Policy(
        name=f"flatcar, Secure Boot {'on' if secure_boot else 'off'}",
        rule=AllOf(
            (
                SoundLog(),
                MeasuredBank(),
                ConsistentBanks(),
                HashedData(),
                Separators(),
                HandOver(),
                SecureBoot(
                    enabled=secure_boot,
                    minimum_sbat=dict(minimum_sbat or {}),
                    minimum_dbx=frozenset(minimum_dbx),
                    allow_mok=allow_mok,
                    allow_dma_disabled=allow_dma_disabled,
                    allow_late_separator=allow_late_separator,
                ),
                ByBootLoader(
                    grub=AllOf(
                        (
                            BootPaths(
                                secure_boot=secure_boot,
                                allowed_arguments=allowed_arguments,
                                oem_grub_cfg=tuple(oem_grub_cfg),
                                allow_boot_option_retries=allow_boot_option_retries,
                                allow_fallback=allow_fallback,
                                allow_first_boot=allow_first_boot,
                                allow_silent_boot_manager=allow_silent_boot_manager,
                                allow_unchecked_usr=allow_unchecked_usr,
                                allow_built_in_override=allow_built_in_override,
                                arguments=arguments,
                            ),
                            Untouched((11, 12, 13)),
                        )
                    ),
                    unified=UnifiedBoot(
                        secure_boot=secure_boot,
                        phases=tuple(phases),
                        allowed_arguments=allowed_arguments,
                        allow_boot_option_retries=allow_boot_option_retries,
                        allow_silent_boot_manager=allow_silent_boot_manager,
                        allow_unchecked_usr=allow_unchecked_usr,
                        allow_built_in_override=allow_built_in_override,
                        allow_unproven_phases=allow_unproven_phases,
                    ),
                ),
                Platform(),
                *([OpenEnded(tuple(open_ended))] if open_ended else []),
            )
        ),
        required=frozenset({4, 7, 8, 9, 14}),
    )
