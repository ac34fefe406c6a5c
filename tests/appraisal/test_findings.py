"""What a verdict says, whole: code, severity, register, event, values and the sentence a person acts on."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

import measlog as ml
from fixtures.attacks.forge import ForgedEvent, quote
from measlog.appraisal import Policy
from measlog.appraisal.rules.banks import ConsistentBanks, HashedData, MeasuredBank, SoundLog
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import HandOver, Separators
from measlog.appraisal.rules.platform import OpenEnded, Platform, Untouched
from measlog.errors import ManifestError, PolicyError
from measlog.reference.signing import not_in_force
from measlog.registry import PCR_NAMES
from tests.appraisal.machine import (
    KEY,
    NONCE,
    QUOTED,
    SHA256,
    Change,
    appraise,
    codes,
    compared,
    good_log,
    lines,
    machine,
    passed_over,
    where,
)
from tests.appraisal.test_baseline import altered, baseline
from tests.appraisal.test_boundaries import action, append, is_exit, is_separator, without_exit
from tests.appraisal.test_captures import lab_manifest

GOOD = "flatcar-lab-good"
SHA1 = 0x0004
EV_IPL, EV_BOOT_VARIABLE = 0xD, 0x80000002


def only(rule: object, required: Sequence[int] = ()) -> Policy:
    return Policy(name="one", rule=rule, required=required)  # type: ignore[arg-type]


def is_command(e: ForgedEvent) -> bool:
    return e.pcr == 8


def index(pcr: int, kind: int | None = None, *, nth: int = 0) -> int:
    """Where the good log has the nth event of a register: event 0 is the header, which is no event of a register."""
    return [i + 1 for i, e in enumerate(good_log().events) if e.pcr == pcr and kind in {None, e.type}][nth]


COMMAND, SEPARATOR, END = index(8), index(3, 4), len(good_log().events) + 1
LIE = where(is_command, lambda e: (replace(e, data=b"grub_cmd: something friendly\0"),))


@pytest.mark.parametrize(
    ("rule", "change", "said"),
    [
        pytest.param(
            ConsistentBanks(),
            where(is_command, lambda e: (replace(e, digests={**e.digests, SHA1: e.rehashed(b"x").digests[SHA1]}),)),
            f"error bank.differs PCR 8 event {COMMAND}: the sha1 digest of the event does not belong to the same data as"
            " its sha256 digest",
            id="another story in another bank",
        ),
        pytest.param(
            MeasuredBank(),
            lambda events: (e for e in events if e.pcr != 2),
            "error bank.unmeasured PCR 2: PCR 2 of the bank sha256 was never extended: anybody could write its history",
            id="unmeasured",
        ),
        pytest.param(
            MeasuredBank(),
            lambda events: (replace(e, digests={**e.digests, SHA1: bytes(20)}) for e in events),
            "info bank.empty: the log declares the bank sha1 but measures nothing into it",
            id="an empty bank",
        ),
        pytest.param(
            SoundLog(),
            lambda events: (*events, replace(events[-1], type=3)),
            f"error event.no-action-digest event {END}: EV_NO_ACTION with a digest that is not zero",
            id="an anomaly",
        ),
        pytest.param(
            SoundLog(),
            where(is_command, lambda e: (replace(e, digests=dict(reversed(list(e.digests.items())))),)),
            f"info event.digest-order event {COMMAND}: the digests are not in the order of the Spec ID event",
            id="digests in another order",
        ),
        pytest.param(
            HashedData(),
            LIE,
            f"error event.data PCR 8 event {COMMAND}: the data of an event in PCR 8 is not what was hashed"
            f" | expected {good_log().events[COMMAND - 1].digests[SHA256].hex()}",
            id="other data",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda _: ()),
            "error separator.missing PCR 3: the firmware never closed PCR 3 with a separator",
            id="no separator",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda e: (e, e)),
            f"error separator.repeated PCR 3 event {SEPARATOR + 1}: PCR 3 is closed a second time",
            id="two separators",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda e: (e, e.rehashed(b"\1\0\0\0"))),
            f"error separator.error PCR 3 event {SEPARATOR + 1}: the firmware closed PCR 3 with an error separator",
            id="an error separator",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda e: (e, replace(e, type=EV_IPL))),
            f"error separator.retyped PCR 3 event {SEPARATOR + 1}: an event in PCR 3 has a separator's digest but is not"
            " called one",
            id="a retyped separator",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda e: (e, e.rehashed(b"something else"))),
            f"error separator.fake PCR 3 event {SEPARATOR + 1}: an event in PCR 3 is called a separator, but its digest"
            " is not one's",
            id="a separator in name",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda e: (replace(e, data=bytes(3)),)),
            f"error separator.data PCR 3 event {SEPARATOR}: the separator of PCR 3 has 3 bytes of data instead of the"
            " four it hashes",
            id="a short separator",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda e: (replace(e, data=b"\1" + bytes(4)),)),
            f"error separator.data PCR 3 event {SEPARATOR}: the separator of PCR 3 has 5 bytes of data instead of the"
            " four it hashes",
            id="a long separator that begins with something else",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda e: (replace(e, data=bytes(5)),)),
            f"info separator.data PCR 3 event {SEPARATOR}: the separator of PCR 3 has 5 bytes of data instead of the"
            " four it hashes (quirk Q27)",
            id="a separator with one byte more",
        ),
        pytest.param(
            Separators(),
            where(is_separator, lambda e: (replace(e, data=bytes(50)),)),
            f"info separator.data PCR 3 event {SEPARATOR}: the separator of PCR 3 has 50 bytes of data instead of the"
            " four it hashes (quirk Q27)",
            id="a separator in a large slot",
        ),
        pytest.param(
            Separators(),
            where(lambda e: (e.pcr, e.type) == (1, EV_BOOT_VARIABLE), lambda e: (e, e.rehashed(bytes(4)))),
            f"info separator.ambiguous PCR 1 event {index(1, EV_BOOT_VARIABLE) + 1}: an event of another kind in PCR 1"
            " has the digest of a separator",
            id="a boot variable like a separator",
        ),
        pytest.param(
            Separators(),
            where(lambda e: e.pcr == 0, lambda e: (e, e.rehashed(bytes(4)))),
            f"info separator.ambiguous PCR 0 event {index(0) + 1}: an event of another kind in PCR 0 has the digest of a"
            " separator",
            id="firmware like a separator",
        ),
        pytest.param(
            HandOver(),
            without_exit,
            "error handover.missing PCR 5: the log does not show that the boot services were left",
            id="never left",
        ),
        pytest.param(
            HandOver(),
            append(action(b"more")),
            f"error handover.order PCR 5 event {END}: the boot services were not left in the one way that is allowed, or"
            " something follows in PCR 5",
            id="more behind the end",
        ),
        pytest.param(
            HandOver(),
            where(is_exit, lambda e: (replace(e, type=EV_IPL),)),
            f"error event.type PCR 5 event {END - 2}: an exit-boot-services event of another type",
            id="another type",
        ),
        pytest.param(
            Untouched((11, 12)),
            append(replace(action(b"x"), pcr=12)),
            f"error register.unexpected PCR 12 event {END}: PCR 12 was extended, which this way of booting never does"
            f" | observed {action(b'x').digests[SHA256].hex()}",
            id="a register that was left alone",
        ),
        pytest.param(
            ml.policy.AnyOf((OpenEnded((10,)), OpenEnded((15,)))),
            None,
            "error policy.nothing-compared: none of the alternatives compared anything",
            id="nothing compared",
        ),
    ],
)
def test_a_finding(rule: object, change: Change | None, said: str) -> None:
    assert lines(appraise(only(rule), change)) == [said]


def test_how_vendor_information_is_padded_is_mentioned() -> None:
    """It is covered by no register and changes nothing."""
    log = good_log()
    (size,) = struct.unpack_from("<I", log.header, 28)
    padded = replace(log, header=log.header[:28] + struct.pack("<I", size + 4) + log.header[32:] + bytes(4))
    result = ml.Verifier([], policy=only(SoundLog())).appraise(machine(padded))
    assert lines(result) == ["info spec-id.trailing-bytes event 0: 4 bytes after the vendor information"]


def judged(
    policy: Policy, *baselines: ml.Baseline, change: Change | None = None, quoted: Sequence[int] = QUOTED
) -> ml.AppraisalResult:
    log = good_log()
    log = log if change is None else log.with_events(change(log.events))
    return ml.Verifier([], policy=policy, baselines=baselines).appraise(machine(log, quoted=quoted))


def test_a_platform_that_differs() -> None:
    policy = only(Platform())
    said = "error platform.differs PCR {0}{1}: PCR {0} ({2}) is not as on any known-good machine, from its event {3} on"
    other = judged(policy, baseline(), change=altered(2))
    digest = action(b"another firmware").digests[SHA256].hex()
    at = f" event {index(2)}"
    assert lines(other) == [said.format(2, at, "external-code", 1) + f" | observed {digest}"]
    # The third event of the register is another; of two histories the one that agrees for longer counts.
    third = where(lambda e: e.pcr == 0, lambda e: (e.rehashed(b"another firmware"),), nth=2)
    changed = ml.Baseline.learn([machine(good_log().with_events(altered(0)(good_log().events)))])
    for baselines in ([baseline(), changed], [changed, baseline()]):
        result = judged(policy, *baselines, change=third)
        assert lines(result) == [
            said.format(0, f" event {index(0, nth=2)}", "platform-code", 3) + f" | observed {digest}"
        ]
    less = judged(policy, baseline(), change=lambda events: (e for e in events if (e.pcr, e.type) != (5, 0x80000007)))
    assert lines(less) == [said.format(5, "", "boot-loader-config", 3)]
    nothing = judged(policy, baseline(), change=lambda events: (e for e in events if e.pcr != 6))
    assert lines(nothing) == [said.format(6, "", "host-platform", 1)]


def test_what_a_platform_was_compared_with() -> None:
    policy = only(Platform((2, 6)))
    of = {pcr: f"platform.baseline PCR {pcr} events {index(pcr)}: a history observed on" for pcr in (2, 6)}
    assert compared(judged(policy, baseline(model="lab"))) == [
        f"{of[2]} 1 known-good machine of model lab",
        f"{of[6]} 1 known-good machine of model lab",
    ]
    assert compared(judged(policy, baseline("flatcar-lab-good", "flatcar-lab-good"))) == [
        f"{of[2]} 2 known-good machines",
        f"{of[6]} 2 known-good machines",
    ]
    # What was compared is covered.
    assert lines(judged(only(Platform((2,)), (2,)), baseline())) == []
    # A register that the quote leaves out is neither compared nor excused by the rule.
    unquoted = judged(policy, baseline(), quoted=(2,))
    assert compared(unquoted) == [f"{of[2]} 1 known-good machine"]
    assert "host-platform PCR 6: no rule of the policy speaks of it" in passed_over(unquoted)


def test_what_the_smaller_rules_compared() -> None:
    assert compared(appraise(only(Separators()))) == [
        f"separators PCR {pcr} events {index(pcr, 4)}: the digest of four bytes 00 or FF" for pcr in range(8)
    ]
    assert compared(appraise(only(HandOver()))) == [f"hand-over PCR 5 events {END - 2},{END - 1}: the texts of PFP 8.2"]
    events = good_log().events
    text = ",".join(str(i + 1) for i, e in enumerate(events) if e.pcr == 8)
    assert compared(appraise(only(HashedData((8,))))) == [
        f"event.hashed PCR 8 events {text}: the digest rules of the event types"
    ]
    assert compared(appraise(only(Untouched((11, 12))))) == [
        "untouched PCR 11: the start value",
        "untouched PCR 12: the start value",
    ]
    assert compared(appraise(only(ml.policy.UnsafeAcceptAll()))) == ["unsafe.accept-all: nothing at all"]


def test_a_separator_beside_one_that_is_none_is_not_what_was_compared() -> None:
    """A register that is closed twice rests on neither."""
    result = appraise(only(Separators()), where(is_separator, lambda e: (e, e)))
    assert {c.pcr for c in result.checked} == {0, 1, 2, 4, 5, 6, 7}


def test_what_nothing_spoke_for() -> None:
    """Each register is named, by its name where it has one, and the reason is the first that holds."""
    unspoken = "no rule of the policy speaks of it"
    result = judged(only(Untouched((11,))))
    assert passed_over(result) == [f"{PCR_NAMES[pcr]} PCR {pcr}: {unspoken}" for pcr in range(15) if pcr != 11]
    silent = judged(only(Platform((0,))))
    assert passed_over(silent)[0] == "platform-code PCR 0: no release decides it, and no baseline was given"
    assert passed_over(silent)[1:] == [f"{PCR_NAMES[pcr]} PCR {pcr}: {unspoken}" for pcr in range(1, 15)]
    left = judged(only(OpenEnded((10,))))
    assert passed_over(left)[0] == "ima PCR 10: the policy leaves it to the running system"
    assert not any(line.startswith("ima") for line in passed_over(left)[1:])
    nameless = judged(only(SoundLog()), quoted=(*QUOTED, 15, 20))
    assert passed_over(nameless)[-2:] == [f"{PCR_NAMES[15]} PCR 15: {unspoken}", f"PCR 20 PCR 20: {unspoken}"]


def test_what_the_policy_requires_and_nothing_covers() -> None:
    result = judged(only(SoundLog(), (7, 14)), quoted=(4, 7))
    assert lines(result) == [
        "error register.not-quoted PCR 14: the quote does not cover PCR 14",
        "warning register.not-covered PCR 14: no reference covers PCR 14 (shim-policy)",
        "warning register.not-covered PCR 7: no reference covers PCR 7 (secure-boot-policy)",
    ]


def test_a_result_says_whose_quote_it_was_and_when() -> None:
    """Key, clock, firmware version and bank are the quote's; the policy is the verifier's."""
    for bank, name in ((SHA256, "sha256"), (0x000C, "sha384")):
        evidence = machine(good_log(), bank=bank)
        result = ml.Verifier([lab_manifest(GOOD)], policy=ml.policy.flatcar()).appraise(evidence)
        assert (result.status, result.bank, result.policy) == ("affirming", name, "flatcar, Secure Boot on")
        key = load_pem_public_key(quote(KEY, NONCE, [(bank, QUOTED)], good_log().registers).ak)
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert result.ak_fingerprint == hashlib.sha256(der).hexdigest()
        assert result.clock_info == evidence.quote.clock_info
        assert result.firmware_version == evidence.quote.firmware_version
        assert result.ak_trust == "caller"
        assert {(i.component, i.slot) for i in result.identified} >= {("shim", None), ("kernel", "a")}


def test_what_a_verifier_will_not_take() -> None:
    with pytest.raises(PolicyError, match=r"^a policy is needed, not BootPaths$"):
        ml.Verifier([], policy=BootPaths())  # type: ignore[arg-type]
    verifier = ml.Verifier([], policy=only(SoundLog()))
    with pytest.raises(TypeError, match=r"^only VerifiedEvidence is appraised, not EventLog$"):
        verifier.appraise(machine(good_log()).log)  # type: ignore[arg-type]
    unsigned = attrs.evolve(lab_manifest(GOOD))
    with pytest.raises(ManifestError, match=r"^the manifest flatcar-lab is not signed by a key that was verified$"):
        ml.Verifier([unsigned], policy=only(SoundLog()))
    for unsafe in (True, False):
        made = ml.Verifier([], policy=only(SoundLog()), unsafe_unsigned_manifests=unsafe)
        assert made.unsafe_unsigned_manifests is unsafe


def test_a_manifest_that_expired_is_named() -> None:
    """A43: an error where nothing is left, else by the way; and nothing is compared with it."""
    then = datetime(2027, 1, 1, tzinfo=UTC)
    old = attrs.evolve(lab_manifest(GOOD), expires=then)
    said = f"manifest.not-in-force: the manifest flatcar-lab {not_in_force(old, then)}: nothing is compared with it"
    made = ml.Verifier([old], policy=only(SoundLog()), unsafe_unsigned_manifests=True)
    alone = made.appraise(machine(good_log()), now=then)
    assert lines(alone) == [f"error {said}"]
    both = [old, lab_manifest(GOOD)]
    beside = ml.Verifier(both, policy=only(SoundLog()), unsafe_unsigned_manifests=True)
    assert lines(beside.appraise(machine(good_log()), now=then)) == [f"info {said}"]
    assert lines(beside.appraise(machine(good_log()), now=then - timedelta(seconds=1))) == []
    unquoted = beside.unsafe_appraise_unquoted(machine(good_log()).log, pcrs=QUOTED, now=then)
    assert [f"{f.severity} {f.code}: {f.message}" for f in unquoted.findings] == [f"info {said}"]


def test_what_stands_before_an_event_does_not_hide_it() -> None:
    """An event on no register, one whose digest says nothing, a register that is not quoted: the rest is looked at."""
    stray = ForgedEvent(0xFFFFFFFF, 3, {alg: bytes(len(d)) for alg, d in good_log().events[0].digests.items()}, b"x")
    lie = where(is_command, lambda e: (replace(e, digests={**e.digests, SHA1: e.rehashed(b"x").digests[SHA1]}),))

    def hidden(events: tuple[ForgedEvent, ...]) -> list[ForgedEvent]:
        return [stray, *lie(events)]

    assert [line[:40] for line in lines(appraise(only(ConsistentBanks()), hidden))] == [
        f"error bank.differs PCR 8 event {COMMAND + 1}: the s"
    ]
    result = judged(only(HashedData((4, 8))), change=LIE, quoted=(7, 8))
    assert codes(result) == {"event.data"}
    separators = judged(only(Separators()), quoted=(1, 3))
    assert [c.pcr for c in separators.checked] == [1, 3]
    platform = judged(only(Platform((2, 6))), baseline(), quoted=(6,))
    assert [c.pcr for c in platform.checked] == [6]
    untouched = judged(only(Untouched((11, 12))), quoted=(4, 12))
    assert [c.pcr for c in untouched.checked] == [12]
    # A register whose history is not known by any baseline does not end the comparison.
    some = ml.Baseline(bank="sha256", samples=1, histories={6: baseline().histories[6]})
    assert [c.pcr for c in judged(only(Platform((2, 6))), some).checked] == [6]
    assert {c.pcr for c in judged(only(Platform((2, 6))), baseline(), change=altered(2)).checked} == {6}


def test_the_verified_bank_is_the_one_that_lies() -> None:
    """A10: the digests beside it belong to the data, the quoted one does not: each of the others differs from it."""
    change = where(is_command, lambda e: (replace(e, digests={**e.digests, SHA256: e.rehashed(b"x").digests[SHA256]}),))
    said = (
        "error bank.differs PCR 8 event {}: the {} digest of the event does not belong to the same data as its sha256"
    )
    assert lines(appraise(only(ConsistentBanks()), change)) == [
        said.format(COMMAND, bank) + " digest" for bank in ("sha1", "sha384")
    ]


def test_the_hand_over_is_judged_by_pcr_5_alone() -> None:
    for quoted in ((5,), (4, 5, 7)):
        assert lines(judged(only(HandOver()), change=without_exit, quoted=quoted)) == [
            "error handover.missing PCR 5: the log does not show that the boot services were left"
        ]
    unquoted = judged(only(HandOver()), change=without_exit, quoted=(4, 6))
    assert codes(unquoted) == {"register.not-quoted"}
    assert unquoted.checked == ()
    # Nothing before it is needed.
    alone = judged(only(HandOver()), change=lambda events: (e for e in events if e.pcr != 5 or e.type == 0x80000007))
    assert compared(alone) == [f"hand-over PCR 5 events {END - 4},{END - 3}: the texts of PFP 8.2"]
