"""Policies: what must be true of a machine, as small values that compose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import field, frozen

from measlog.appraisal.report import Report
from measlog.appraisal.rules.banks import MeasuredBank, SoundLog
from measlog.appraisal.rules.base import Rule
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import HandOver, Separators
from measlog.appraisal.rules.platform import Platform, Untouched
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.errors import PolicyError

if TYPE_CHECKING:
    from measlog.appraisal.case import Case

__all__ = ["AllOf", "AnyOf", "Policy", "UnsafeAcceptAll", "flatcar"]


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


@frozen
class AllOf:
    """Every rule must hold."""

    rules: tuple[Rule, ...] = field(converter=_rules)
    code: str = "all-of"

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
            rule.appraise(case, report)


@frozen
class AnyOf:
    """One of the rules must hold; where none does, the findings of the one that comes closest are reported."""

    rules: tuple[Rule, ...] = field(converter=_rules)
    code: str = "any-of"

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
            rule.appraise(case, attempt)
            if attempt.checked and not attempt.failed:
                report.absorb(attempt)
                return
            tried.append(attempt)
        best = min(tried, key=lambda r: sum(f.severity == "error" for f in r.findings))
        if not best.failed:
            best.find("policy.nothing-compared", "none of the alternatives compared anything")
        report.absorb(best)


@frozen
class UnsafeAcceptAll:
    """Accepts whatever is put before it. For tests of plumbing, and nothing else."""

    code: str = "unsafe.accept-all"
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
        if any(not isinstance(pcr, int) or not 0 <= pcr < 24 for pcr in self.required):
            raise PolicyError("a policy requires PCR 0 to 23")

    @property
    def quoted(self) -> tuple[int, ...]:
        """The registers that a quote must cover for this policy, ascending: pass them to ``Evidence.verify``."""
        return tuple(sorted(self.required | self.rule.registers))


def flatcar(
    *,
    secure_boot: bool = True,
    allowed_arguments: Iterable[str] = (),
    oem_grub_cfg: Iterable[bytes] = (),
    minimum_sbat: dict[str, int] | None = None,
    minimum_dbx: Iterable[bytes] = (),
    allow_mok: bool = False,
    allow_dma_disabled: bool = False,
    allow_boot_option_retries: bool = True,
) -> Policy:
    """The policy for Flatcar Container Linux booted by shim and GRUB.

    Shim, GRUB and kernel are the manifests', in order; the commands in PCR 8, and with them each argument of the
    kernel, follow from the ``grub.cfg`` of the image, or are named here: ``oem_grub_cfg`` are the contents of OEM
    ``grub.cfg`` files that machines may have, ``allowed_arguments`` kernel arguments that such files may add. Allowed
    variation: boot options that failed before the one that booted (``allow_boot_option_retries``), and exits from
    boot services that failed before the one that succeeded.
    """
    return Policy(
        name=f"flatcar, Secure Boot {'on' if secure_boot else 'off'}",
        rule=AllOf(
            (
                SoundLog(),
                MeasuredBank(),
                Separators(),
                HandOver(),
                SecureBoot(
                    enabled=secure_boot,
                    minimum_sbat=dict(minimum_sbat or {}),
                    minimum_dbx=frozenset(minimum_dbx),
                    allow_mok=allow_mok,
                    allow_dma_disabled=allow_dma_disabled,
                ),
                BootPaths(
                    secure_boot=secure_boot,
                    allowed_arguments=tuple(allowed_arguments),
                    oem_grub_cfg=tuple(oem_grub_cfg),
                    allow_boot_option_retries=allow_boot_option_retries,
                ),
                Untouched((11, 12, 13)),
                Platform(),
            )
        ),
        required=frozenset({4, 7, 8, 9, 14}),
    )
