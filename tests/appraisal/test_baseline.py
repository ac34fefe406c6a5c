"""Baselines: the platform as it was observed, and what is allowed by having been seen (attack A42)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import Policy
from measlog.appraisal.rules.platform import OpenEnded, Platform, Untouched
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.errors import ManifestError, PolicyError
from tests.appraisal.machine import SHA256, Change, codes, compared, good_log, lines, machine, passed_over, where

FIRMWARE = Policy(name="platform", rule=Platform(), required=())
KEYS = Policy(name="keys", rule=SecureBoot(), required={7})
PLATFORM = (0, 1, 2, 3, 5, 6)


def baseline(*names: str, model: str | None = None) -> ml.Baseline:
    return ml.Baseline.learn([machine(good_log(name)) for name in names or ("flatcar-lab-good",)], model=model)


def appraise(policy: Policy, baselines: list[ml.Baseline], change: Change | None = None) -> ml.AppraisalResult:
    log = good_log()
    changed = log if change is None else log.with_events(change(log.events))
    return ml.Verifier([], policy=policy, baselines=baselines).appraise(machine(changed))


def altered(pcr: int, kind: int | None = None) -> Change:
    def fits(e: ForgedEvent) -> bool:
        return e.pcr == pcr and (kind is None or e.type == kind)

    return where(fits, lambda e: (e.rehashed(b"another firmware"),))


def test_a_machine_is_like_the_one_that_was_learned_from() -> None:
    result = appraise(FIRMWARE, [baseline(model="lab")])
    assert result.status == "affirming"
    assert {c.pcr for c in result.checked} == set(PLATFORM)
    assert all("observed on 1 known-good machine of model lab" in c.against for c in result.checked)


@pytest.mark.parametrize("pcr", PLATFORM)
def test_a_platform_that_was_never_seen_is_refused(pcr: int) -> None:
    result = appraise(FIRMWARE, [baseline()], altered(pcr))
    assert codes(result) == {"platform.differs"}
    finding = result.findings[0]
    first = next(i + 1 for i, e in enumerate(good_log().events) if e.pcr == pcr)
    assert (finding.pcr, finding.event) == (pcr, first)


def test_an_event_less_is_another_platform() -> None:
    result = appraise(FIRMWARE, [baseline()], lambda events: (e for e in events if not (e.pcr == 6 and e.type == 4)))
    assert [(f.code, f.pcr, f.event) for f in result.findings] == [("platform.differs", 6, None)]


def test_without_a_baseline_registers_are_named_as_not_covered() -> None:
    result = appraise(FIRMWARE, [])
    assert result.status == "none"
    assert {n.pcr for n in result.not_covered} >= set(PLATFORM)


def test_a_baseline_of_another_bank_says_nothing() -> None:
    other = ml.Baseline(bank="sha384", samples=1, histories=baseline().histories)
    assert appraise(FIRMWARE, [other]).status == "none"


def test_a_key_added_to_db_is_not_as_observed() -> None:
    """The keys of Secure Boot are the platform's: PCR 7 up to its separator is learned."""
    result = appraise(KEYS, [baseline()])
    assert result.status == "affirming"
    # SecureBoot, PK, KEK, db, dbx and the separator.
    places = ",".join(str(i + 1) for i, e in enumerate(good_log().events) if e.pcr == 7)
    assert "4,5,6,7,8,9,22" in places
    assert "platform.baseline PCR 7 events 4,5,6,7,8: keys observed on known-good machines" in compared(result)
    said = "error platform.differs PCR 7{}: the Secure Boot keys are not as on any known-good machine"
    more = good_log("tampered-db-key-only")
    db = next(i + 1 for i, e in enumerate(more.events) if e.pcr == 7 and e.data[32:36] == b"d\0b\0")
    result = ml.Verifier([], policy=KEYS, baselines=[baseline()]).appraise(machine(more))
    assert lines(result) == [said.format(f" event {db}")]
    # The baseline that agrees for longer says where; one of another bank says nothing.
    other = where(lambda e: e.pcr == 7, lambda e: (e.rehashed(b"x"),))
    first = ml.Baseline.learn([machine(good_log().with_events(other(good_log().events)))])
    for baselines in ([first, baseline()], [baseline(), first]):
        result = ml.Verifier([], policy=KEYS, baselines=baselines).appraise(machine(more))
        assert lines(result) == [said.format(f" event {db}")]
    longer = ml.Baseline(bank="sha256", samples=1, histories={7: ((*baseline().histories[7][0], b"\1" * 32),)})
    assert lines(appraise(KEYS, [longer])) == [said.format("")]
    foreign = ml.Baseline(bank="sha384", samples=1, histories=baseline().histories)
    keyless = ml.Baseline(bank="sha256", samples=1, histories={6: baseline().histories[6]})
    for baselines in ([], [foreign], [keyless]):
        without = ml.Verifier([], policy=KEYS, baselines=baselines).appraise(machine(more))
        assert passed_over(without)[:2] == [
            "image signatures PCR 7: no manifest says who signed each of the images that were started",
            "secure-boot-keys PCR 7: PK, KEK, db and dbx are the platform's, and no baseline was given",
        ]


def test_without_a_separator_all_of_pcr_7_would_be_keys() -> None:
    """A6: what is compared ends nowhere, and differs where the known-good machine's keys end."""
    open_ended = appraise(KEYS, [baseline()], lambda events: (e for e in events if (e.pcr, e.type) != (7, 4)))
    authority = next(i + 1 for i, e in enumerate(good_log().events) if e.pcr == 7 and e.type == 0x800000E0)
    said = f"PCR 7 event {authority - 1}: the Secure Boot keys are not as on any known-good machine"
    assert f"error platform.differs {said}" in lines(open_ended)


def test_what_varies_between_samples_is_shown() -> None:
    """Two machines with other boot options: what is allowed by both is for a person to see."""
    log = good_log()
    other = log.with_events(altered(1, 0x80000002)(log.events))
    learned = ml.Baseline.learn([machine(log), machine(other), machine(log)])
    assert (learned.samples, [(v.pcr, v.histories, v.first_difference) for v in learned.variations]) == (
        3,
        [(1, 2, 0)],
    )
    assert baseline().variations == ()


def test_baselines_are_written_and_read() -> None:
    learned = baseline(model="lab")
    text = learned.to_json()
    assert json.loads(text)["observed"] is True
    assert ml.Baseline.from_json(text) == learned
    assert ml.Baseline.from_json(text).to_json() == text
    expected = [e.digests[SHA256] for e in good_log().events if e.pcr == 0]
    assert learned.histories[0] == (tuple(expected),)


def changed(**members: object) -> bytes:
    return json.dumps({**json.loads(baseline().to_json()), **members}).encode()


NO_PLATFORM = "this is no baseline: registers or digests are not those of a platform"
NO_SAMPLES = "this is no baseline: samples or model"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: changed(format="measlog.baseline/2"), "format: expected 'measlog.baseline/1'"),
        (lambda: b"[", "baseline: not JSON: Expecting value at character 1"),
        (lambda: b"{}", "format: expected 'measlog.baseline/1'"),
        (lambda: changed(bank="md5"), "this is no baseline: KeyError: 'md5'"),
        (lambda: changed(samples=0), NO_SAMPLES),
        (lambda: changed(samples="1"), NO_SAMPLES),
        (lambda: changed(samples=None), NO_SAMPLES),
        (lambda: changed(model=3), NO_SAMPLES),
        (lambda: changed(histories={}), NO_PLATFORM),
        (lambda: changed(histories={"0": []}), NO_PLATFORM),
        (lambda: changed(histories={"0": [["00" * 32]], "4": [["00" * 32]]}), NO_PLATFORM),
        (lambda: changed(histories={"0": [["00" * 32, "00"]]}), NO_PLATFORM),
        (lambda: changed(histories=[]), "this is no baseline: AttributeError: 'list' object has no attribute 'items'"),
        (lambda: b" " * ((16 << 20) + 1), "baseline: 16777217 bytes, the most is 16777216"),
    ],
)
def test_what_is_no_baseline_is_said(make: Callable[[], bytes], said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        ml.Baseline.from_json(make())
    assert str(caught.value) == said


def test_a_baseline_may_have_16_mib() -> None:
    text = baseline().to_json()
    assert ml.Baseline.from_json(text + b" " * ((16 << 20) - len(text))) == baseline()
    assert ml.Baseline.from_json(changed(samples=1, model=None)).samples == 1


def test_the_bytes_of_a_baseline() -> None:
    made = ml.Baseline(bank="sha1", samples=2, model="m", histories={1: ((b"\1" * 20,), (b"\2" * 20, b"\3" * 20))})
    histories = {"1": [["01" * 20], ["02" * 20, "03" * 20]]}
    expected = {
        "bank": "sha1",
        "format": "measlog.baseline/1",
        "histories": histories,
        "model": "m",
        "observed": True,
        "samples": 2,
    }
    assert made.to_json() == json.dumps(expected, separators=(",", ":")).encode() + b"\n"
    assert ml.Baseline.from_json(made.to_json()) == made


A, B, C = (bytes([i]) * 32 for i in range(3))


@pytest.mark.parametrize(
    ("sequences", "first"),
    [
        (((A, B), (A, C)), 1),
        (((A,), (B,)), 0),
        (((A,), (A, B)), 1),
        (((A, B, C), (A, B)), 2),
        (((A, B), (A, B, C), (A, C)), 1),
    ],
)
def test_where_histories_part(sequences: tuple[tuple[bytes, ...], ...], first: int) -> None:
    made = ml.Baseline(bank="sha256", samples=9, histories={0: (sequences[0],), 3: sequences})
    assert [(v.pcr, v.histories, v.first_difference) for v in made.variations] == [(3, len(sequences), first)]


def test_what_is_learned() -> None:
    """PCR 0 to 3, 5, 6 whole and PCR 7 up to its separator, without events that extend nothing; each history once."""
    log = good_log()
    silent = ForgedEvent(0, 3, {alg: bytes(len(d)) for alg, d in log.events[0].digests.items()}, b"x")
    second = log.with_events((silent, *altered(2)(log.events)))
    learned = ml.Baseline.learn([machine(log), machine(second), machine(log, quoted=(2,)), machine(log)], model="m")
    assert (learned.bank, learned.samples, learned.model) == ("sha256", 4, "m")
    plain = {pcr: tuple(e.digests[SHA256] for e in log.events if e.pcr == pcr) for pcr in PLATFORM}
    assert {pcr: plain[pcr] for pcr in PLATFORM if pcr != 2} == {
        pcr: sequence for pcr, (sequence, *_) in learned.histories.items() if pcr not in {2, 7}
    }
    other = tuple(e.digests[SHA256] for e in second.events if e.pcr == 2)
    assert learned.histories[2] == tuple(sorted([plain[2], other]))
    assert len(learned.histories[7][0]) == 5
    assert list(learned.histories) == [0, 1, 2, 3, 5, 6, 7]
    assert list(ml.Baseline.learn([machine(log, quoted=(2, 6))]).histories) == [2, 6]
    # A register without events has no history to compare with.
    bare = ml.Baseline.learn([machine(log.with_events(e for e in log.events if e.pcr != 6))])
    assert 6 not in bare.histories
    with pytest.raises(ManifestError, match=r"^samples of the banks sha256 and sha384 cannot be mixed$"):
        ml.Baseline.learn([machine(log), machine(log, bank=0x000C)])
    with pytest.raises(ManifestError, match=r"^a baseline needs at least one machine to learn from$"):
        ml.Baseline.learn([])
    assert ml.Baseline.learn([machine(log, bank=0x000C)]).bank == "sha384"


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"[]",
        lambda: b"{}",
        lambda: changed(format="measlog.baseline/2"),
        lambda: changed(bank="md5"),
        lambda: changed(samples=0),
        lambda: changed(samples="1"),
        lambda: changed(model=3),
        lambda: changed(histories={}),
        lambda: changed(histories=[]),
        lambda: changed(histories={"0": [["00"]]}),
        lambda: changed(histories={"0": [["zz"]]}),
        lambda: changed(histories={"4": [["00" * 32]]}),
        lambda: changed(histories={"x": [["00" * 32]]}),
        lambda: b" " * (17 << 20),
    ],
)
def test_what_is_no_baseline_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(ManifestError):
        ml.Baseline.from_json(make())


def test_nothing_is_learned_from_nothing_or_from_two_banks() -> None:
    with pytest.raises(ManifestError, match="at least one machine"):
        ml.Baseline.learn([])


def test_registers_that_a_boot_leaves_alone() -> None:
    policy = Policy(name="untouched", rule=Untouched((11, 12)), required={11, 12})
    assert appraise(policy, []).status == "affirming"
    extended = ForgedEvent(12, 0xD, dict.fromkeys((0x0004, 0x000B, 0x000C), b""), b"x").rehashed(b"x")
    result = appraise(policy, [], lambda events: (*events, extended))
    assert codes(result) == {"register.unexpected"}
    assert codes(appraise(Policy(name="four", rule=Untouched((4,)), required={4}), [])) == {"register.unexpected"}


def test_open_ended_registers_are_those_of_the_running_system() -> None:
    policy = Policy(name="open", rule=OpenEnded((10,)), required={10})
    result = appraise(policy, [])
    assert result.status == "none"
    assert [(n.pcr, n.reason) for n in result.not_covered if n.pcr == 10] == [
        (10, "the policy leaves it to the running system")
    ]
    for pcr in (0, 4, 7, 8, 9, 14, 16):
        with pytest.raises(PolicyError, match="cannot be open-ended"):
            OpenEnded((pcr,))


@pytest.mark.parametrize("pcr", [16, 17, 22, 23])
def test_registers_that_anyone_can_reset_are_never_required(pcr: int) -> None:
    """A23."""
    with pytest.raises(PolicyError, match="reset"):
        Policy(name="resettable", rule=Platform(), required={4, pcr})
