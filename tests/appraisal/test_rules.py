"""The smaller rules: banks that tell the same story, data that is what was hashed, operators' settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import Policy
from measlog.appraisal.rules.banks import ConsistentBanks, HashedData, MeasuredBank, SoundLog
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import Separators
from measlog.errors import ManifestError, PolicyError
from tests.appraisal.machine import SHA256, appraise, codes, good_log, machine, where
from tests.appraisal.test_captures import capture_manifest

SHA1 = 0x0004


def only(rule: object) -> Policy:
    return Policy(name="one", rule=rule, required=())  # type: ignore[arg-type]


def is_command(e: ForgedEvent) -> bool:
    return e.pcr == 8


def test_banks_that_tell_another_story() -> None:
    """A9, A10: the SHA-1 digest is of other data than the SHA-256 digest beside it."""
    assert codes(appraise(only(ConsistentBanks()))) == set()
    change = where(
        is_command, lambda e: (replace(e, digests={**e.digests, SHA1: e.rehashed(b"something else").digests[SHA1]}),)
    )
    result = appraise(only(ConsistentBanks()), change)
    assert codes(result) == {"bank.differs"}
    assert "sha1" in result.findings[0].message


def test_a_bank_of_which_the_firmware_measured_nothing() -> None:
    """A9: PCR 0 to 7 at their start value: whoever comes later can write any history."""
    result = appraise(only(MeasuredBank()), lambda events: (e for e in events if e.pcr != 2))
    assert [(f.code, f.pcr) for f in result.findings] == [("bank.unmeasured", 2)]


def test_a_bank_that_is_declared_and_empty_is_mentioned() -> None:
    def emptied(events: tuple[ForgedEvent, ...]) -> list[ForgedEvent]:
        return [replace(e, digests={**e.digests, SHA1: bytes(20)}) for e in events]

    result = appraise(only(MeasuredBank()), emptied)
    assert codes(result, severity="info") == {"bank.empty"}


def test_data_that_is_not_what_was_hashed() -> None:
    assert appraise(only(HashedData())).status == "affirming"
    change = where(is_command, lambda e: (replace(e, data=b"grub_cmd: something friendly\0"),))
    result = appraise(only(HashedData()), change)
    assert [(f.code, f.pcr) for f in result.findings] == [("event.data", 8)]
    unquoted = appraise(only(HashedData((8,))), change, quoted=(0, 1, 2, 3, 4, 5, 6, 7))
    assert unquoted.status == "none"


def test_a_log_with_an_anomaly_is_refused() -> None:
    """A21: an EV_NO_ACTION with a digest pretends to be an extend that never happened."""
    assert codes(appraise(only(SoundLog()))) == set()
    result = appraise(only(SoundLog()), lambda events: (*events, replace(events[-1], type=3)))
    assert codes(result) == {"event.no-action-digest"}


def test_a_rule_may_be_milder_than_its_findings() -> None:
    change = where(is_command, lambda e: (replace(e, data=b"grub_cmd: something friendly\0"),))
    rules = ml.policy.AllOf((Separators(), HashedData(severity="warning")))
    result = appraise(Policy(name="mild", rule=rules, required=()), change)
    assert result.status == "warning"
    assert codes(result, severity="warning") == {"event.data"}


def test_a_verifier_needs_a_policy_and_manifests_that_were_verified(shared: Path) -> None:
    with pytest.raises(PolicyError, match="a policy is needed"):
        ml.Verifier([], policy=None)  # type: ignore[arg-type]
    with pytest.raises(ManifestError, match="is not signed"):
        ml.Verifier([capture_manifest(shared)], policy=ml.policy.flatcar())
    text = repr(ml.Verifier([], policy=ml.policy.flatcar()))
    assert text == "<Verifier flatcar, Secure Boot on: no manifest, 0 baselines>"


def test_manifests_without_boots_cover_nothing(shared: Path) -> None:
    """A41: a manifest without values is no reason to pass."""
    empty = attrs.evolve(capture_manifest(shared), grub=None)
    result = appraise(only(BootPaths()), manifests=[empty])
    assert result.status == "none"
    assert {n.pcr for n in result.not_covered} >= {4, 8, 9, 14}


def test_a_register_that_the_quote_leaves_out_is_no_pass(shared: Path) -> None:
    result = appraise(ml.policy.flatcar(), manifests=[capture_manifest(shared)], quoted=(0, 1, 2, 3, 4, 5, 6, 7, 8))
    assert "register.not-quoted" in codes(result)
    assert {f.pcr for f in result.findings if f.code == "register.not-quoted"} == {9, 14}


def test_a_firmware_that_does_not_say_what_it_calls() -> None:
    """A variation that the policy names; some firmware measures no action at all into PCR 4."""

    def silent(events: tuple[ForgedEvent, ...]) -> list[ForgedEvent]:
        return [e for e in events if not (e.pcr == 4 and e.type == 0x80000007)]

    assert "boot-manager.order" in codes(appraise(only(BootPaths()), silent))
    assert codes(appraise(only(BootPaths(allow_silent_boot_manager=True)), silent)) == set()


def test_boot_options_that_failed_are_a_variation_that_the_policy_names() -> None:
    """The image that was tried is in PCR 4 too, if there was one; a pair of actions alone is an empty drive."""
    calling = next(e for e in good_log().events if e.pcr == 4 and e.type == 0x80000007)
    returning = calling.rehashed(b"Returning from EFI Application from Boot Option")
    returning = replace(returning, data=b"Returning from EFI Application from Boot Option")
    change = where(lambda e: e.pcr == 4 and e.type == 4, lambda e: (e, returning, calling))
    assert codes(appraise(only(BootPaths()), change), severity="info") == {"boot-manager.retry"}
    strict = appraise(only(BootPaths(allow_boot_option_retries=False)), change)
    assert "boot-manager.retry" not in codes(strict, severity="info")
    retyped = where(lambda e: e.pcr == 4 and e.type == 4, lambda e: (e, replace(returning, type=0xD), calling))
    assert "event.type" in codes(appraise(only(BootPaths()), retyped))


def test_unquoted_registers_are_not_looked_at() -> None:
    evidence = machine(good_log(), quoted=(0,))
    assert evidence.values.keys() == {0}
    assert good_log().registers(SHA256)[0] == evidence.values[0]
    result = ml.Verifier([], policy=ml.policy.flatcar()).appraise(evidence)
    assert result.status == "contraindicated"
