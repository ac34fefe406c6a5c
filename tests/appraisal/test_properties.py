"""Whatever is changed in a register that the policy covers, digests recomputed and the quote signed anew, never passes.

And whatever only the log decides, the order in which registers were written, never matters (attack A49).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import measlog as ml
from fixtures.attacks.forge import ForgedEvent, ForgedLog
from tests.appraisal.machine import good_log, machine
from tests.appraisal.test_captures import lab_manifest

GOOD = ("flatcar-lab-good", "random-disk-guid", "banks-sha256")
COVERED = frozenset({4, 7, 8, 9, 14})
TYPES = st.sampled_from([0, 1, 3, 4, 5, 6, 0xD, 0x80000001, 0x80000003, 0x80000007, 0x800000E0, 0x80000008, 0x12345678])


@cache
def verifier(name: str) -> ml.Verifier:
    manifests = [lab_manifest(name)]
    return ml.Verifier(manifests, policy=ml.policy.flatcar(secure_boot=not name.startswith("sb-off")))


def events_of(log: ForgedLog) -> list[int]:
    return [i for i, e in enumerate(log.events) if e.pcr in COVERED]


def status(name: str, events: Sequence[ForgedEvent]) -> str:
    """The verdict; events that a machine's registers cannot have are refused before it."""
    try:
        return verifier(name).appraise(machine(good_log(name).with_events(events))).status
    except ml.MeaslogError as error:
        return error.code


@pytest.mark.parametrize("name", GOOD)
def test_the_machines_that_are_changed_pass_unchanged(name: str) -> None:
    assert status(name, good_log(name).events) == "affirming"


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int]:
    name = draw(st.sampled_from(GOOD))
    return name, draw(st.sampled_from(events_of(good_log(name))))


@given(places())
def test_an_event_removed(place: tuple[str, int]) -> None:
    name, i = place
    events = good_log(name).events
    assert status(name, (*events[:i], *events[i + 1 :])) == "contraindicated"


@given(places())
def test_an_event_repeated(place: tuple[str, int]) -> None:
    name, i = place
    events = good_log(name).events
    assert status(name, (*events[: i + 1], *events[i:])) == "contraindicated"


@given(places(), st.sampled_from(sorted(COVERED)), TYPES.filter(lambda t: t != 3), st.binary(max_size=40))
def test_an_event_added(place: tuple[str, int], pcr: int, kind: int, data: bytes) -> None:
    name, i = place
    events = good_log(name).events
    added = replace(events[i], pcr=pcr, type=kind, data=data).rehashed(data)
    assert status(name, (*events[:i], added, *events[i:])) == "contraindicated"


@given(places(), st.data())
def test_two_events_exchanged(place: tuple[str, int], data: st.DataObject) -> None:
    name, i = place
    events = list(good_log(name).events)
    others = [j for j in events_of(good_log(name)) if events[j].pcr == events[i].pcr and events[j] != events[i]]
    # The kernel that Debian's GRUB measures twice differs in nothing but an address, which nobody relies on.
    others = [j for j in others if events[j].digests != events[i].digests]
    if not others:
        return
    j = data.draw(st.sampled_from(others))
    events[i], events[j] = events[j], events[i]
    assert status(name, events) == "contraindicated"


@given(places(), TYPES)
def test_an_event_retyped(place: tuple[str, int], kind: int) -> None:
    name, i = place
    events = list(good_log(name).events)
    if events[i].type == kind:
        return
    events[i] = replace(events[i], type=kind)
    assert status(name, events) in {"contraindicated", "evidence.replay"}


@given(places(), st.integers(0, 15))
def test_an_event_on_another_register(place: tuple[str, int], pcr: int) -> None:
    name, i = place
    events = list(good_log(name).events)
    if events[i].pcr == pcr:
        return
    events[i] = replace(events[i], pcr=pcr)
    assert status(name, events) == "contraindicated"


@given(places(), st.binary(max_size=64))
def test_the_data_beside_a_digest_changed(place: tuple[str, int], data: bytes) -> None:
    """Text that no digest covers is no reason to pass, and a false one is a reason not to."""
    name, i = place
    events = list(good_log(name).events)
    if events[i].data == data:
        return
    events[i] = replace(events[i], data=data)
    assert status(name, events) == "contraindicated"


@given(places(), st.binary(max_size=64))
def test_other_data_measured(place: tuple[str, int], data: bytes) -> None:
    name, i = place
    events = list(good_log(name).events)
    events[i] = replace(events[i], data=data).rehashed(data)
    assert status(name, events) == "contraindicated"


@settings(max_examples=20)
@given(st.sampled_from(GOOD), st.randoms(use_true_random=False))
def test_the_interleaving_of_registers_changes_nothing(name: str, source: random.Random) -> None:
    log = good_log(name)
    queues: dict[int, list[ForgedEvent]] = {}
    for event in log.events:
        queues.setdefault(event.pcr, []).append(event)
    mixed = []
    while queues:
        pcr = source.choice(sorted(queues))
        mixed.append(queues[pcr].pop(0))
        if not queues[pcr]:
            del queues[pcr]
    before = verifier(name).appraise(machine(log))
    after = verifier(name).appraise(machine(log.with_events(mixed)))
    assert after.status == before.status == "affirming"
    assert {(f.code, f.pcr) for f in after.findings} == {(f.code, f.pcr) for f in before.findings}
    assert after.identified == before.identified
