"""What enters a verdict: the parts of events that a policy's rules look at."""

from __future__ import annotations

import hashlib

from attrs import evolve

import measlog as ml
from fixtures.attacks.forge import ForgedLog
from measlog.appraisal.footprint import Footprint, footprint
from measlog.appraisal.rules.banks import HashedData
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import HandOver, Separators
from measlog.appraisal.rules.platform import Platform
from measlog.appraisal.rules.secure_boot import SecureBoot
from tests.conftest import FIXTURES

JUDGE = ml.Verifier([], policy=ml.policy.flatcar())


def _log() -> ml.EventLog:
    return ml.EventLog.from_bytes((FIXTURES / "flatcar-lab-good" / "binary_bios_measurements").read_bytes())


def test_registers_that_are_read_whole() -> None:
    mark = footprint(JUDGE, "sha256")
    assert mark is not None
    assert mark.whole == {4, 7, 8, 9, 11, 12, 13, 14}
    assert mark.hashed == {5}


def test_separators_tell_and_other_digests_do_not() -> None:
    mark = footprint(JUDGE, "sha256")
    assert mark is not None
    table = next(event for event in _log() if event.pcr == 5 and event.type is ml.EventType.EV_EFI_GPT_EVENT)
    data = bytes(16) + table.raw[16:]
    made = ForgedLog.take_apart(_log().to_bytes()).events[table.index - 1].rehashed(data)
    names = {4: "sha1", 0xB: "sha256", 0xC: "sha384"}
    other = evolve(table, raw=data, digests={names[alg]: digest for alg, digest in made.digests.items()})
    assert mark.rest(other) == mark.rest(table)
    # The data no longer hashed, one bank apart, and a separator in its place: each contributes something else.
    separator = next(event for event in _log() if event.pcr == 5 and event.type is ml.EventType.EV_SEPARATOR)
    seen = [
        mark.rest(table),
        mark.rest(evolve(table, raw=data)),
        mark.rest(evolve(table, digests={**table.digests, "sha1": bytes(19) + b"\1"})),
        mark.rest(evolve(table, digests={**table.digests, "sha1": bytes(20)})),
        mark.rest(evolve(table, raw=separator.raw, digests=separator.digests)),
    ]
    assert len(set(seen)) == len(seen)


def test_the_unknown_is_not_guessed() -> None:
    assert footprint(JUDGE, "sha3_999") is None

    class Odd(type(JUDGE.policy.rule)):  # type: ignore[misc]
        """A rule that is more than the one it is made from."""

    rule = Odd(JUDGE.policy.rule.rules)  # type: ignore[attr-defined]
    policy = ml.policy.Policy(name="odd", rule=rule, required=frozenset({4}))
    assert footprint(ml.Verifier([], policy=policy), "sha256") is None


def policy(*rules: object) -> ml.policy.Policy:
    return ml.policy.Policy(name="some", rule=ml.policy.AllOf(rules), required=frozenset())  # type: ignore[arg-type]


def digests(*data: bytes) -> set[bytes]:
    return {hashlib.sha256(one).digest() for one in data}


EXITS = (
    b"Exit Boot Services Invocation",
    b"Exit Boot Services Returned with Success",
    b"Exit Boot Services Returned with Failure",
)


def test_what_each_rule_looks_at() -> None:
    """PFP 8.2 and 10.4.1: separators, and the texts of the hand-over in PCR 5."""
    separators = digests(bytes(4), b"\xff" * 4, b"\1\0\0\0")
    found = footprint(ml.Verifier([], policy=policy(Separators())), "sha256")
    assert found is not None
    assert (found.bank, found.whole, found.hashed) == ("sha256", frozenset(), frozenset())
    assert {pcr: set(told) for pcr, told in found.telling.items() if told} == dict.fromkeys(range(8), separators)
    assert set(found.telling) == set(range(24))
    found = footprint(ml.Verifier([], policy=policy(HandOver())), "sha256")
    assert found is not None
    assert {pcr: set(told) for pcr, told in found.telling.items() if told} == {5: digests(*EXITS)}
    found = footprint(
        ml.Verifier([], policy=policy(Separators(), HandOver(), HashedData((3, 4)), BootPaths())), "sha256"
    )
    assert found is not None
    assert found.telling[5] == separators | digests(*EXITS)
    assert (set(found.whole), set(found.hashed)) == ({4, 8, 9, 14}, {3})
    assert not set(found.telling) & found.whole
    found = footprint(ml.Verifier([], policy=policy(SecureBoot(), HashedData((1,)), HashedData((2,)))), "sha256")
    assert found is not None
    assert (set(found.whole), set(found.hashed)) == ({4, 7}, {1, 2})


def test_what_a_baseline_tells() -> None:
    """Each digest that was seen on a known-good machine, of baselines of the bank alone."""
    a, b, c = (bytes([i]) * 32 for i in range(3))
    baselines = [
        ml.Baseline(bank="sha256", samples=1, histories={0: ((a, b),), 1: ((c,),)}),
        ml.Baseline(bank="sha256", samples=1, histories={0: ((c,),)}),
        ml.Baseline(bank="sha384", samples=1, histories={2: ((bytes(48),),)}),
    ]
    found = footprint(ml.Verifier([], policy=policy(Platform()), baselines=baselines), "sha256")
    assert found is not None
    assert {pcr: told for pcr, told in found.telling.items() if told} == {0: {a, b, c}, 1: {c}}
    without = footprint(ml.Verifier([], policy=policy(Separators()), baselines=baselines), "sha256")
    assert without is not None
    assert a not in without.telling[0]


def test_what_an_event_contributes() -> None:
    mark = footprint(ml.Verifier([], policy=policy(Separators(), HashedData((5,)))), "sha256")
    assert mark is not None
    by = {(event.pcr, int(event.type)): event for event in _log()}
    separator, table, firmware = by[5, 4], by[5, 0x80000006], by[0, 8]
    assert mark.rest(separator) == ((separator.digests["sha256"], separator.raw), "matches", (), ())
    assert mark.rest(table) == (None, "matches", (), ())
    # Registers whose data need not fit say nothing of it; banks that are empty, or that tell another story, are named.
    assert mark.rest(by[3, 4]) == ((separator.digests["sha256"], separator.raw), None, (), ())
    assert mark.rest(firmware) == (None, None, (), ())
    apart = evolve(table, digests={**table.digests, "sha1": b"\1" * 20, "sha384": bytes(48)})
    assert mark.rest(apart) == (None, "matches", ("sha1", "sha384"), ("sha384",))
    other = evolve(table, digests={**table.digests, "sha256": b"\1" * 32})
    assert mark.rest(other) == (None, "differs", ("sha1", "sha384"), ())


def test_rules_that_add_to_what_a_register_tells() -> None:
    """Whatever their order, and what a baseline names of a register is kept beside its separators."""
    seen = bytes(32)
    baselines = [ml.Baseline(bank="sha256", samples=1, histories={5: ((seen,),)})]
    separators = digests(bytes(4), b"\xff" * 4, b"\1\0\0\0")
    rules = (Separators(), HandOver(), Platform())
    for order in (rules, rules[::-1]):
        found = footprint(ml.Verifier([], policy=policy(*order), baselines=baselines), "sha256")
        assert found is not None
        assert found.telling[5] == {seen} | separators | digests(*EXITS)


def test_a_rule_that_is_more_than_the_one_it_is_made_from_is_unknown() -> None:
    """It may look at anything: the footprint is the whole log."""

    class MoreHashedData(HashedData):
        pass

    class MorePlatform(Platform):
        pass

    for rule in (MoreHashedData((5,)), MorePlatform()):
        assert footprint(ml.Verifier([], policy=policy(Separators(), rule)), "sha256") is None


def test_an_event_of_which_nothing_is_told() -> None:
    """No digest of its register tells anything, and no rule knows what its data should hash to."""
    event = next(event for event in _log() if event.check("sha256").status not in {"matches", "differs"})
    assert event.pcr is not None
    for telling in ({}, {event.pcr: frozenset[bytes]()}):
        mark = Footprint(bank="sha256", whole=frozenset(), telling=telling, hashed=frozenset())
        assert mark.rest(event) == (None, None, (), ())
    mark = Footprint(bank="sha256", whole=frozenset(), telling={}, hashed=frozenset({event.pcr}))
    assert mark.rest(event) == (None, event.check("sha256").status, (), ())
