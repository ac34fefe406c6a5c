"""Policies: nothing passes because nothing was checked (attack A41); files with exact errors."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

import measlog as ml
from measlog.appraisal import AllOf, AnyOf, Policy, UnsafeAcceptAll, flatcar
from measlog.appraisal.policy import ByBootLoader, leaves
from measlog.appraisal.rules.banks import MeasuredBank
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import HandOver, Separators
from measlog.appraisal.rules.platform import OpenEnded, Untouched
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.appraisal.rules.unified import PHASE_PATHS, UnifiedBoot
from measlog.errors import PolicyError
from measlog.flatcar.cmdline import ArgumentRule
from tests.appraisal.machine import appraise, codes, good_log, machine


def test_an_empty_policy_is_an_error() -> None:
    for kind in (AllOf, AnyOf):
        with pytest.raises(PolicyError, match="accept everything"):
            kind(())


@pytest.mark.parametrize("rule", [None, "separators", object(), Separators])
def test_what_is_no_rule_is_an_error(rule: object) -> None:
    with pytest.raises(PolicyError):
        AllOf((rule,))  # type: ignore[arg-type]


def test_a_rule_that_compares_nothing_gives_none() -> None:
    """MeasuredBank only refuses: alone it has compared nothing with anything."""
    result = appraise(Policy(name="nothing", rule=MeasuredBank(), required=()))
    assert result.status == "none"


def test_registers_that_nobody_speaks_of_are_a_warning() -> None:
    result = appraise(Policy(name="four", rule=Separators(), required={4}))
    assert result.status == "warning"
    assert codes(result, severity="warning") == {"register.not-covered"}


def test_any_of_takes_the_one_that_holds_and_reports_the_one_that_is_closest() -> None:
    on, off = SecureBoot(enabled=True), SecureBoot(enabled=False)
    assert appraise(Policy(name="either", rule=AnyOf((off, on)), required={7})).status == "affirming"
    result = appraise(Policy(name="neither", rule=AnyOf((off, AllOf((off, Untouched((4,)))))), required={7}))
    assert result.status == "contraindicated"
    assert codes(result) == {"secureboot.state", "secureboot.authority-order"}


def test_any_of_is_not_satisfied_by_a_rule_that_compares_nothing() -> None:
    result = appraise(Policy(name="nothing", rule=AnyOf((MeasuredBank(),)), required=()))
    assert codes(result) == {"policy.nothing-compared"}


def test_the_dangerous_one_has_a_dangerous_name() -> None:
    result = appraise(Policy(name="all", rule=UnsafeAcceptAll(), required=()), lambda events: events[:30])
    assert result.status == "affirming"
    assert [c.against for c in result.checked] == ["nothing at all"]


def test_a_result_is_not_true_or_false() -> None:
    result = appraise(Policy(name="s", rule=Separators(), required=()))
    with pytest.raises(TypeError, match=r"compare result\.status"):
        bool(result)


def test_only_verified_evidence_is_appraised() -> None:
    verified = machine(good_log())
    verifier = ml.Verifier([], policy=flatcar())
    for other in (verified.log, verified.quote, verified.replayed, None):
        with pytest.raises(TypeError, match="VerifiedEvidence"):
            verifier.appraise(other)  # type: ignore[arg-type]


def test_a_verifier_is_a_value_that_pickles() -> None:
    verifier = ml.Verifier([], policy=flatcar(allowed_arguments=["quiet"]))
    again = pickle.loads(pickle.dumps(verifier))
    assert again.policy == verifier.policy
    assert again.appraise(machine(good_log())) == verifier.appraise(machine(good_log()))


def rule_of(policy: Policy, kind: type) -> Any:
    (found,) = (rule for rule in leaves(policy.rule) if isinstance(rule, kind))
    return found


DIGEST = bytes(range(32))


@pytest.mark.parametrize(
    ("setting", "kind", "attribute", "default", "value", "kept"),
    [
        ("secure_boot", SecureBoot, "enabled", True, False, False),
        ("minimum_sbat", SecureBoot, "minimum_sbat", {}, {"shim": 4}, {"shim": 4}),
        ("minimum_dbx", SecureBoot, "minimum_dbx", frozenset(), [DIGEST], frozenset({DIGEST})),
        ("allow_mok", SecureBoot, "allow_mok", False, True, True),
        ("allow_dma_disabled", SecureBoot, "allow_dma_disabled", False, True, True),
        ("allow_late_separator", SecureBoot, "allow_late_separator", False, True, True),
        ("secure_boot", BootPaths, "secure_boot", True, False, False),
        ("allowed_arguments", BootPaths, "allowed_arguments", (), ["quiet"], ("quiet",)),
        ("oem_grub_cfg", BootPaths, "oem_grub_cfg", (), [b"set a=b\n"], (b"set a=b\n",)),
        ("allow_boot_option_retries", BootPaths, "allow_boot_option_retries", True, False, False),
        ("allow_fallback", BootPaths, "allow_fallback", True, False, False),
        ("allow_first_boot", BootPaths, "allow_first_boot", True, False, False),
        ("allow_silent_boot_manager", BootPaths, "allow_silent_boot_manager", False, True, True),
        ("allow_unchecked_usr", BootPaths, "allow_unchecked_usr", False, True, True),
        ("secure_boot", UnifiedBoot, "secure_boot", True, False, False),
        ("allow_unproven_phases", UnifiedBoot, "allow_unproven_phases", False, True, True),
        ("phases", UnifiedBoot, "phases", PHASE_PATHS, [PHASE_PATHS[0]], (PHASE_PATHS[0],)),
        ("allowed_arguments", UnifiedBoot, "allowed_arguments", (), ["quiet"], ("quiet",)),
        ("allow_boot_option_retries", UnifiedBoot, "allow_boot_option_retries", True, False, False),
        ("allow_silent_boot_manager", UnifiedBoot, "allow_silent_boot_manager", False, True, True),
        ("allow_unchecked_usr", UnifiedBoot, "allow_unchecked_usr", False, True, True),
    ],
)
def test_a_setting_of_the_published_policy_is_one_of_its_rule(
    setting: str, kind: type, attribute: str, default: object, value: object, kept: object
) -> None:
    given = iter(value) if isinstance(value, list) else value
    before, after = flatcar(), flatcar(**{setting: given})  # type: ignore[arg-type]
    assert (getattr(rule_of(before, kind), attribute), getattr(rule_of(after, kind), attribute)) == (default, kept)
    assert type(getattr(rule_of(after, kind), attribute)) is type(kept)


def test_what_the_published_policy_demands() -> None:
    """README: these rules, and these registers; an argument for each that a policy may leave open."""
    policy = flatcar()
    assert [type(rule).__name__ for rule in leaves(policy.rule)] == [
        "SoundLog", "MeasuredBank", "ConsistentBanks", "HashedData", "Separators", "HandOver", "SecureBoot",
        "BootPaths", "Untouched", "UnifiedBoot", "Platform",
    ]  # fmt: skip
    assert rule_of(policy, Untouched).pcrs == (11, 12, 13)
    assert policy.required == {4, 7, 8, 9, 14}
    assert policy.open_ended == ()
    assert (policy.name, flatcar(secure_boot=False).name) == ("flatcar, Secure Boot on", "flatcar, Secure Boot off")
    opened = flatcar(open_ended=iter([15, 10]))
    assert rule_of(opened, OpenEnded).pcrs == (15, 10)
    assert opened.open_ended == (10, 15)
    rules = [ArgumentRule(name="quiet")]
    assert rule_of(flatcar(arguments=rules), BootPaths).arguments == BootPaths(arguments=rules).arguments
    assert rule_of(flatcar(arguments=rules), BootPaths).arguments != BootPaths().arguments


def test_what_rules_say_of_themselves() -> None:
    one, two = Separators(), HandOver()
    assert AllOf((one, two)).sentence == f"{one.sentence} {two.sentence}"
    assert AnyOf((one, two)).sentence == f"{one.sentence} Or: {two.sentence}"
    assert ByBootLoader(grub=one, unified=two).sentence == f"{one.sentence} Or: {two.sentence}"
    assert AllOf((one, two)).registers == AnyOf((one, two)).registers == one.registers | two.registers
    assert ByBootLoader(grub=one, unified=two).registers == {5}


def test_what_is_refused_of_a_policy_is_said() -> None:
    for rule, said in ((None, "None"), ("separators", "'separators'"), (Separators, repr(Separators))):
        with pytest.raises(PolicyError, match=f"^{re.escape(said)} is no rule of a policy$"):
            AllOf((rule,))  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match=r"^a policy without rules would accept everything$"):
        AllOf(())
    numbers: list[Any] = [24, -1, "4"]
    for number in numbers:
        with pytest.raises(PolicyError, match=r"^a policy requires PCR 0 to 23$"):
            Policy(name="p", rule=Separators(), required=[number])
    assert Policy(name="p", rule=Separators(), required=[0, 15]).quoted == (*range(8), 15)
    assert Policy(name="p", rule=HandOver(), required=[0]).quoted == (0, 5)
    with pytest.raises(PolicyError, match=r"^PCR 16 can be reset while .* runs: it is no evidence of a boot \(A23\)$"):
        Policy(name="p", rule=Separators(), required=[16])


def test_of_alternatives_the_one_with_fewest_errors_is_reported() -> None:
    """Warnings and remarks do not count; what the others say is left out."""
    off, left = SecureBoot(enabled=False), Untouched((4, 5, 8))
    for rules in ((off, left), (left, off)):
        result = appraise(Policy(name="any", rule=AnyOf(rules), required=()))
        assert codes(result) == {"secureboot.state", "secureboot.authority-order"}
    result = appraise(Policy(name="any", rule=AnyOf((off, Separators(), left)), required=()))
    assert (result.status, {c.rule for c in result.checked}) == ("affirming", {"separators"})


def test_a_milder_rule_is_milder_in_any_composition() -> None:
    mild = SecureBoot(enabled=False, severity="warning")
    for rule in (
        AllOf((mild,)),
        AnyOf((AllOf((mild,)), Untouched((4, 5, 7, 8)))),
        ByBootLoader(grub=mild, unified=mild),
    ):
        result = appraise(Policy(name="mild", rule=AllOf((rule, Separators())), required=()))
        assert codes(result) <= {"policy.nothing-compared"}
        assert codes(result, severity="warning") == {"secureboot.state", "secureboot.authority-order"}
