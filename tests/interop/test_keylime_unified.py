"""Unified kernel images through Keylime's own code: it compares all registers but those of which it has no log."""

from __future__ import annotations

from typing import Any

import pytest

import measlog as ml
from measlog.interop.keylime import policy_document
from measlog.interop.keylime.unified import LEFT_OUT, NAME
from tests.conftest import FIXTURES
from tests.interop import keylime_host as host


@pytest.fixture(autouse=True)
def _keylime(monkeypatch: pytest.MonkeyPatch) -> None:
    host.keylime()
    monkeypatch.setenv("KEYLIME_VERIFIER_MEASURED_BOOT_POLICY_NAME", NAME)


def policy(name: str = "uki", *, secure_boot: bool = True, unproven: bool = True) -> str:
    toml = f"""
    format = "measlog.policy/1"
    name = "unified"
    use = "flatcar"
    secure_boot = {str(secure_boot).lower()}
    allow_unproven_phases = {str(unproven).lower()}
    """
    manifest = (FIXTURES / name / "manifest.dsse.json").read_bytes()
    return policy_document(policy=toml, manifests=[manifest], keys=[host.KEY]).decode()


def verdict(name: str, text: str, **options: Any) -> dict[str, dict[str, Any]]:
    """What Keylime says, without what it says of IMA: that is another policy's, and these agents have none."""
    ima = (FIXTURES / name / "ascii_runtime_measurements").read_text()
    found = host.check_quote(name, text, ima=ima, **{"registers": NAME, **options})
    return {code: said for code, said in found.items() if not code.startswith("ima.")}


def test_keylime_knows_the_registers() -> None:
    """Importing the module registered them, as Keylime imports it."""
    registered = host.keylime().policies.get_policy(NAME)
    compared = host.keylime().tpm.Tpm.mb_pcrs_to_check(NAME)
    assert compared == {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14} == registered.get_relevant_pcrs()
    assert {11, 15} == LEFT_OUT


@pytest.mark.parametrize(("name", "secure_boot"), [("uki", True), ("uki-sb-off", False)])
def test_good_boots_pass(name: str, secure_boot: bool) -> None:
    assert verdict(name, policy(name, secure_boot=secure_boot)) == {}


def test_a_tampered_boot_fails_with_the_event_named() -> None:
    found = verdict("uki-tampered-cmdline", policy())
    log = ml.EventLog.from_bytes((FIXTURES / "uki-tampered-cmdline" / "binary_bios_measurements").read_bytes())
    said = found["measured_boot.measlog.kernel.argument"]
    assert (said["pcr"], said["observed"]) == (12, "init=/bin/sh")
    assert "init=/bin/sh" in log[said["event"]].raw.decode("utf-16-le")
    image = found["measured_boot.measlog.image.unknown"]
    assert image["pcr"] == 4
    assert log[image["event"]].digests["sha256"].hex() == image["observed"]
    assert set(found) == {"measured_boot.measlog.kernel.argument", "measured_boot.measlog.image.unknown"}


def test_a_log_that_hides_the_tampering_fails_by_keylimes_comparison() -> None:
    found = verdict("uki-tampered-cmdline", policy(), log=host.log_of("uki"))
    assert {"measured_boot.invalid_pcr_4", "measured_boot.invalid_pcr_12"} <= set(found)


def test_machines_that_grub_booted_pass_beside_them() -> None:
    name = "flatcar-lab-good"
    assert host.check_quote(name, host.policy_of(name), registers=NAME) == {}
    tampered = host.check_quote("flatcar-lab-tampered", host.policy_of(name), registers=NAME)
    assert "measured_boot.measlog.command.unexpected" in tampered


def test_the_policy_must_say_so() -> None:
    found = verdict("uki", policy(unproven=False))
    assert {(code, said["pcr"]) for code, said in found.items()} == {("measured_boot.measlog.register.not-quoted", 11)}


def test_without_the_registers_keylime_itself_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYLIME_VERIFIER_MEASURED_BOOT_POLICY_NAME", "accept-all")
    found = verdict("uki", policy(), registers="accept-all")
    assert "measured_boot.invalid_pcr_11" in found


def test_keylimes_own_evaluation_does_not_pass() -> None:
    """Where the other module is not imported, Keylime evaluates by the registered policy itself."""
    registered = host.keylime().policies.get_policy(NAME)
    assert "is not among the measured_boot_imports" in registered.evaluate({"kernels": []}, {})
    from keylime.mba.elchecking import elchecker

    _, _, data, _ = host.keylime().own_parser.bootlog_parse(host.log_of("uki"), "sha256")
    assert elchecker.bootlog_evaluate('{"kernels": []}', data, set(range(24)), "agent")
