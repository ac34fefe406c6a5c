"""A Keylime verifier that imports measlog's module, called through Keylime's own code (the package from PyPI)."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import measlog as ml
from fixtures.attacks.forge import quote as forged_quote
from measlog.errors import EvidenceError, MissingExtraError, SelectionError
from measlog.interop.keylime import AgentQuote, KeylimePolicy, bootlog_parse, policy_document
from measlog.interop.keylime.module import _failures
from tests.appraisal.machine import NONCE, SHA256, good_log
from tests.conftest import FIXTURES, shared_path
from tests.evidence.quotes import pcr_file, public
from tests.interop import keylime_host as host
from tests.records.logs import log_id, own_logs, shared_logs

AK = ec.derive_private_key(0x4B65796C696D65, ec.SECP256R1())
GOOD = [
    "flatcar-lab-good",
    "later-boot",
    "slot-b",
    "sb-off-good",
    "sb-off-slot-b",
    "network-card",
    "random-disk-guid",
    "banks-four",
]
# The event at which the boot leaves what the release decides, by its data; the fixtures' ORIGIN.md say what was done.
TAMPERED = {
    "flatcar-lab-tampered": ("command.unexpected", 8, "grub_cmd: source (hd0,gpt6)/grub.cfg"),
    "sb-off-tampered-init": ("command.unexpected", 8, "grub_cmd: source (hd0,gpt6)/grub.cfg"),
    "sb-off-tampered-kernel": ("file.unknown", 9, "/flatcar/vmlinuz-a"),
    "tampered-kernel": ("file.unknown", 9, "/flatcar/vmlinuz-a"),
    "tampered-grub-config": ("image.unknown", 4, None),
    "tampered-older-shim": ("image.unknown", 4, None),
    "tampered-mok-key": ("file.unknown", 9, "/flatcar/vmlinuz-a"),
    "tampered-secure-boot-off": ("secureboot.state", 7, None),
    "tampered-prompt": ("command.unexpected", 8, None),
}


@pytest.fixture(scope="module", autouse=True)
def _keylime() -> None:
    host.keylime()


def test_keylime_takes_every_function_from_the_module() -> None:
    # It asks inspect.isfunction of each, in the order of the imports.
    for name in ("bootlog_parse", "policy_load", "policy_is_valid", "bootlog_evaluate"):
        assert host.keylime().mba._find_implementation(name).__name__ == host.MODULE


@pytest.mark.parametrize("name", GOOD)
def test_good_boots_pass(name: str) -> None:
    assert host.check_quote(name, host.policy_of(name)) == {}


def test_rsa_quotes_pass() -> None:
    assert host.check_quote("flatcar-lab-good", host.policy_of("flatcar-lab-good"), suffix="-rsa") == {}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_boots_fail_with_the_event_named(name: str) -> None:
    code, pcr, data = TAMPERED[name]
    found = host.check_quote(name, host.policy_of(host.record_of(name)["twin"]))
    said = found[f"measured_boot.measlog.{code}"]
    assert said["pcr"] == pcr
    assert not {key for key in found if "invalid_pcr" in key}  # the machine did not lie: log and quote agree
    if data is not None:
        log = ml.EventLog.from_bytes((FIXTURES / name / "binary_bios_measurements").read_bytes())
        event = log[said["event"]]
        assert (said["event_data"], said["event_type"], said["event_offset"]) == (data, event.type.name, event.offset)
        assert event.raw.rstrip(b"\0").decode() == data


# No evidence verifies of the first three (see below). Of a unified kernel image, the running system extends PCR 11.
_APART = {
    "tampered-foreign-quote",
    "tampered-bank-off",
    "tampered-log-cut",
    "uki",
    "uki-sb-off",
    "uki-tampered-cmdline",
}
QUOTED = sorted(path.parent.name for path in FIXTURES.glob("*/quote.pcrs") if path.parent.name not in _APART)


@pytest.mark.parametrize("name", QUOTED)
def test_the_verdict_is_that_of_measlog_over_the_verified_quote(name: str) -> None:
    """Of every capture, good or bad, by the policy of its good twin: what Keylime is told is what ``appraise`` says."""
    text = host.policy_of(host.record_of(name)["twin"] or name)
    folder = FIXTURES / name
    log = ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    nonce = bytes.fromhex((folder / "nonce.txt").read_text().strip())
    verified = (
        AgentQuote.from_text(host.quote_of(name))
        .evidence(log)
        .verify(ak=(folder / "ak.tpm2b").read_bytes(), nonce=nonce)
    )
    result = KeylimePolicy.from_json(text).verifier.appraise(verified)
    told = [f"measured_boot.measlog.{f.code}" for f in result.findings if f.severity != "info"]
    *_, data, failure = host.keylime().mba.bootlog_parse(host.log_of(name), "sha256")
    assert not failure
    ids = host.keylime().mba.bootlog_evaluate(text, data, set(verified.values), "agent").get_event_ids()
    assert ids == told
    assert bool(ids) is (result.status != "affirming")


def test_a_log_that_was_cut_fails_both_by_keylimes_comparison_and_here() -> None:
    found = host.check_quote("tampered-log-cut", host.policy_of("flatcar-lab-good"))
    assert {"measured_boot.invalid_pcr_8", "measured_boot.measlog.sequence.missing"} <= set(found)


def test_a_quote_of_another_key_compares_no_register_and_fails() -> None:
    """Whatever Keylime makes of the signature itself, nothing is concluded from registers that were not compared."""
    found = host.check_quote("tampered-foreign-quote", host.policy_of("flatcar-lab-good"), ak=_other_key())
    assert found["measured_boot.measlog.evidence.replay"]["message"].startswith("the log explains none")


def _other_key() -> bytes:
    return (FIXTURES / "slot-b" / "ak.tpm2b").read_bytes()


def test_a_log_without_the_quoted_bank_fails() -> None:
    found = host.check_quote("tampered-bank-off", host.policy_of("flatcar-lab-good"))
    assert "no sha256 digests" in found["measured_boot.parser.evidence.replay"]["message"]


def test_no_log_fails() -> None:
    found = host.check_quote("flatcar-lab-good", host.policy_of("flatcar-lab-good"), log="")
    assert "measured_boot.measlog.log.missing" in found


@pytest.mark.parametrize("policy", ["{}", "[]", "null", "no JSON", '{"kernels": []}', "1", '"text"'])
def test_policies_that_keylime_would_not_evaluate_fail(policy: str) -> None:
    found = host.check_quote("flatcar-lab-tampered", policy)
    assert "pcr_validation.invalid_mb_policy" in found


def test_keylime_evaluates_the_first_time_only_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why docs/keylime.md demands measured_boot_evaluate = always: with the default, a later boot is not looked at."""
    policy = host.policy_of("flatcar-lab-good")
    assert host.check_quote("flatcar-lab-tampered", policy, count=7)
    monkeypatch.setenv("KEYLIME_VERIFIER_MEASURED_BOOT_EVALUATE", "once")
    assert host.check_quote("flatcar-lab-tampered", policy, count=0)
    assert not host.check_quote("flatcar-lab-tampered", policy, count=7)


def test_registers_that_keylime_does_not_compare_are_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one of its own policies configured, Keylime compares fewer registers than the quote covers."""
    evaluate = host.keylime().mba.bootlog_evaluate
    policy = host.policy_of("flatcar-lab-good")
    *_, data, _ = host.keylime().mba.bootlog_parse(host.log_of("flatcar-lab-good"), "sha256")
    assert not evaluate(policy, data, set(range(24)), "agent")
    only_ten = evaluate(policy, data, {10}, "agent")
    assert only_ten.get_event_ids() == ["measured_boot.measlog.evidence.replay"]
    without_eight = evaluate(policy, data, set(range(24)) - {8}, "agent")
    assert set(without_eight.get_event_ids()) >= {"measured_boot.measlog.register.not-quoted"}
    relevant = type("Relevant", (), {"get_relevant_pcrs": lambda _self: frozenset({0, 1, 2, 3, 5, 6, 7, 14})})()
    monkeypatch.setitem(host.keylime().policies._registry, "accept-all", relevant)
    ids = evaluate(policy, data, set(range(24)), "agent").get_event_ids()
    assert ids.count("measured_boot.measlog.register.not-quoted") == 3  # PCR 4, 8 and 9


def _evaluated(policy: str, bank: str = "sha256", name: str = "flatcar-lab-good") -> list[str]:
    """The ids of the failures of an evaluation in which every register was compared."""
    mba = host.keylime().mba
    *_, data, failure = mba.bootlog_parse(host.log_of(name), bank)
    assert not failure
    ids: list[str] = mba.bootlog_evaluate(policy, data, set(range(24)), "agent").get_event_ids()
    return ids


def _with_rules(*tables: str, required: str) -> str:
    toml = f'format = "measlog.policy/1"\nname = "x"\nrequired = {required}\n'
    toml += "".join(f"[[rule]]\n{table}\n" for table in tables)
    manifest = (FIXTURES / "flatcar-lab-good" / "manifest.dsse.json").read_bytes()
    return policy_document(policy=toml, manifests=[manifest], keys=[host.KEY]).decode()


def test_banks_other_than_sha1_are_evaluated() -> None:
    assert _evaluated(_policy(), "sha384") == []
    assert _evaluated(_policy(), "sha1") == ["measured_boot.measlog.evidence.selection"]


def test_a_verdict_that_compared_nothing_fails() -> None:
    policy = _with_rules('kind = "open-ended"\npcrs = [11]', 'kind = "platform"', required="[11]")
    assert _evaluated(policy) == ["measured_boot.measlog.policy.nothing-compared"]


def test_a_warning_fails() -> None:
    """A required register that no reference speaks of: Keylime knows no verdict between good and bad."""
    policy = _with_rules('kind = "separators"', required="[1]")
    assert _evaluated(policy) == ["measured_boot.measlog.register.not-covered"]


def test_an_invalid_policy_fails_whoever_asks() -> None:
    assert _evaluated("{}") == ["measured_boot.measlog.policy.invalid"]
    mba = host.keylime().mba
    *_, data, _ = mba.bootlog_parse(host.log_of("flatcar-lab-good"), "sha256")
    assert not mba.bootlog_evaluate(None, data, set(range(24)), "agent").recoverable


def test_findings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("measlog.interop.keylime.module._MOST_FINDINGS", 2)
    ids = _evaluated(_policy(), name="flatcar-lab-tampered")
    assert len(ids) == 3
    assert ids[-1] == "measured_boot.measlog.findings.omitted"


def test_without_keylime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _failures.cache_clear()
    monkeypatch.setitem(sys.modules, "keylime.failure", None)
    with pytest.raises(MissingExtraError, match=r"measlog\[keylime\]"):
        bootlog_parse("", "sha256")


def test_hostile_text_is_escaped() -> None:
    forged = good_log()
    evil = b"grub_cmd: set x=\x1b]0;pwned\x07\n\xe2\x80\xae\0"
    place = next(i for i, e in enumerate(forged.events) if e.pcr == 8)
    event = forged.events[place]
    digest = hashlib.sha256(evil.partition(b": ")[2].rstrip(b"\0")).digest()
    changed = type(event)(
        pcr=8,
        type=event.type,
        digests={alg: digest if alg == SHA256 else old for alg, old in event.digests.items()},
        data=evil,
    )
    log = forged.with_events([*forged.events[:place], changed, *forged.events[place + 1 :]]).put_together()
    mba = host.keylime().mba
    *_, data, failure = mba.bootlog_parse(base64.b64encode(log).decode(), "sha256")
    assert not failure
    contexts = [json.loads(e.context) for e in mba.bootlog_evaluate(_policy(), data, set(range(15)), "agent").events]
    texts = [text for context in contexts for text in context.values() if isinstance(text, str)]
    assert any("pwned" in text for text in texts)
    assert all(text.isprintable() for text in texts)


def _policy() -> str:
    return host.policy_of("flatcar-lab-good")


def test_a_relabelled_quote_is_refused_where_measlog_sees_it() -> None:
    """Values of registers that anybody may extend, sent as those of PCR 8, 9 and 14 (A13).

    ``AgentQuote`` takes the numbers from the signed structure, whatever the list beside it says.
    """
    good = good_log().registers(SHA256)
    held = {**good, 8: bytes(32), 9: bytes(32), 14: bytes(32), 11: good[8], 12: good[9], 13: good[14]}
    made = forged_quote(AK, NONCE, [(SHA256, [*range(8), 11, 12, 13])], lambda _alg: held)
    claimed = [*range(10), 14]
    file = pcr_file([(SHA256, claimed)], [good[pcr] for pcr in claimed])
    text = "r" + ":".join(base64.b64encode(part).decode() for part in (made.attest, made.signature, file))
    evidence = AgentQuote.from_text(text).evidence(ml.EventLog.from_bytes(good_log().put_together()))
    with pytest.raises(SelectionError, match="does not cover sha256 PCR 8,9,14"):
        evidence.verify(ak=public(AK), nonce=NONCE, required=ml.policy.flatcar().quoted)
    with pytest.raises(EvidenceError):
        evidence.verify(ak=public(AK), nonce=NONCE)


# Logs that Keylime's own parser reads, and does not read rightly: it extends EV_NO_ACTION and does not know localities.
WRONG = {"glinux-alex"}


@pytest.mark.parametrize("name", ["ima", "debian-kernel"])
def test_boot_aggregates_are_what_the_kernel_measured(name: str) -> None:
    """IMA's first entry is the kernel's own aggregate of PCR 0 to 9, which Keylime looks up among these."""
    first = (FIXTURES / name / "ascii_runtime_measurements").read_text().splitlines()[0].split()
    assert first[4] == "boot_aggregate"
    bank, _, value = first[3].partition(":")
    _, aggregates, _, _ = host.keylime().mba.bootlog_parse(host.log_of(name), "sha256")
    assert value in aggregates[bank]


# Registers that went on changing without the log (INDEX.tsv and the notes of the corpus): ExitBootServices, IMA.
UNLOGGED = {"ebs_event_missing_eventlog": {"5"}, "linux_tpm12": {"10"}}


def _corpus() -> list[Path]:
    return [*own_logs()[:3], *(path for path in shared_logs() if path.suffix == ".bin")]


def _own(text: str, bank: str) -> tuple[Any, Any] | None:
    """What Keylime's own parser gives: register values and boot aggregates; None where it fails, in whatever way."""
    try:
        hashes, aggregates, _, failure = host.keylime().own_parser.bootlog_parse(text, bank)
    except Exception:  # noqa: BLE001 - it raises TypeError and AttributeError for logs in the SHA-1 format
        return None
    return None if failure else (hashes, aggregates)


@pytest.mark.parametrize("path", _corpus(), ids=log_id)
def test_values_equal_those_of_keylimes_own_parser(path: Path) -> None:
    text = base64.b64encode(path.read_bytes()).decode()
    theirs = _own(text, "sha256")
    hashes, aggregates, _, failure = host.keylime().mba.bootlog_parse(text, host.keylime().algorithms.Hash.SHA256)
    assert bool(failure) is not bool(hashes)
    if theirs is None:
        # It reads no log in the SHA-1 format, which has no such bank, no CCEL, and none without events.
        assert failure
    elif path.stem not in WRONG:
        assert (hashes, aggregates) == theirs
    else:
        # All but PCR 0 is right.
        assert hashes.pop("0") != theirs[0].pop("0")
        assert hashes == theirs[0]


@pytest.mark.parametrize(
    "path", [path for path in shared_logs() if path.with_suffix(".expected.json").exists()], ids=log_id
)
def test_values_are_those_of_the_corpus(path: Path) -> None:
    """Register values as the source of each log states them, whether Keylime's own parser reads it or not."""
    registers = json.loads(path.with_suffix(".expected.json").read_text())["registers"]
    unlogged = UNLOGGED.get(path.stem, set())
    text = base64.b64encode(path.read_bytes()).decode()
    for bank, values in registers.items():
        hashes, aggregates, _, failure = host.keylime().mba.bootlog_parse(text, bank.removeprefix("rtmr_"))
        if bank.startswith("rtmr_"):
            assert hashes == {}
            assert "CCEL" in json.loads(failure.events[0].context)["message"]
            continue
        for pcr, value in values.items():
            # A register that the log says nothing of is at its start value, which Keylime takes for 0.
            start = len(value) * ("f" if 17 <= int(pcr) <= 22 else "0")
            given = f"{hashes[pcr]:0{len(value)}x}" if pcr in hashes else start
            assert (given == value) is (pcr not in unlogged)
        eight = [str(pcr) for pcr in range(8)]
        if not unlogged and set(eight) <= set(values) & set(hashes):
            joined = b"".join(bytes.fromhex(values[pcr]) for pcr in eight)
            assert aggregates[bank][0] == hashlib.new(bank, joined).hexdigest()


def test_a_log_that_crashes_tpm2_eventlog_is_read() -> None:
    """Windows, with an option ROM: PCR 2 and 7 computed here from the framing of the SHA-1 format alone."""
    data = shared_path("corpus", "logs", "option_rom_eventlog.bin").read_bytes()
    text = base64.b64encode(data).decode()
    assert _own(text, "sha1") is None
    hashes, _, _, failure = host.keylime().mba.bootlog_parse(text, "sha1")
    assert not failure
    values: dict[int, bytes] = {}
    at = 0
    while at + 32 <= len(data):
        pcr, kind = int.from_bytes(data[at : at + 4], "little"), int.from_bytes(data[at + 4 : at + 8], "little")
        if kind != 3 and pcr < 24:
            values[pcr] = hashlib.sha1(values.get(pcr, bytes(20)) + data[at + 8 : at + 28]).digest()
        at += 32 + int.from_bytes(data[at + 28 : at + 32], "little")
    assert hashes == {str(pcr): int.from_bytes(value, "big") for pcr, value in values.items()}


@pytest.mark.parametrize(
    ("text", "event", "message"),
    [
        ("!", "format.invalid", "not base64"),
        ("AAAA", "format", "log"),
        (base64.b64encode(bytes(64)).decode(), "format", "log"),
    ],
)
def test_what_is_no_log_is_a_failure_that_says_so(text: str, event: str, message: str) -> None:
    hashes, aggregates, data, failure = host.keylime().mba.bootlog_parse(text, "sha256")
    assert (hashes, aggregates, data) == ({}, None, {})
    assert failure.get_event_ids()[0].startswith(f"measured_boot.parser.{event}")
    assert message in json.loads(failure.events[0].context)["message"]
    assert not failure.recoverable  # Keylime goes on to evaluate nothing: no label of severity may hide it


@pytest.mark.parametrize("cut", [200, 1000, -1])
def test_a_log_cut_inside_an_event_is_a_failure_with_the_place(cut: int) -> None:
    data = (FIXTURES / "flatcar-lab-good" / "binary_bios_measurements").read_bytes()[:cut]
    *_, failure = host.keylime().mba.bootlog_parse(base64.b64encode(data).decode(), "sha256")
    assert "events[" in json.loads(failure.events[0].context)["message"]


def test_bytes_behind_the_log_are_a_failure() -> None:
    data = good_log().put_together() + b"\xff" * 64 + b"x"
    hashes, _, _, failure = host.keylime().mba.bootlog_parse(base64.b64encode(data).decode(), "sha256")
    assert hashes == {}
    assert "neither events nor filler" in json.loads(failure.events[0].context)["message"]


def test_a_log_is_bounded_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("measlog.interop.keylime.module._BASE64_LIMIT", 100)
    *_, failure = host.keylime().mba.bootlog_parse(host.log_of("flatcar-lab-good"), "sha256")
    assert "at most 100" in json.loads(failure.events[0].context)["message"]


def test_keylime_loads_the_policy_file(tmp_path: Path) -> None:
    mba = host.keylime().mba
    (tmp_path / "good").write_text(_policy())
    (tmp_path / "empty").write_text("{}")
    text = mba.policy_load(str(tmp_path / "good"))
    # Keylime's tenant reads the file as JSON and sends it written anew.
    assert mba.policy_is_valid(text)
    assert mba.policy_is_valid(json.dumps(json.loads(text), indent=2))
    for name in ("empty", "absent"):
        with pytest.raises(ValueError):  # noqa: PT011 - what Keylime makes of any error
            mba.policy_load(str(tmp_path / name))
