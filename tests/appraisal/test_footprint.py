"""What enters a verdict: the parts of events that a policy's rules look at."""

from __future__ import annotations

from attrs import evolve

import measlog as ml
from fixtures.attacks.forge import ForgedLog
from measlog.appraisal.footprint import footprint
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
