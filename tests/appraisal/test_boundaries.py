"""Separators and hand-over: where firmware ends must not be movable (attacks A4 to A7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import Policy
from measlog.appraisal.rules.boundaries import HandOver, Separators
from tests.appraisal.machine import Change, appraise, codes, where

EV_SEPARATOR = 4
EV_EFI_ACTION = 0x80000007
EV_IPL = 0xD
EV_EFI_VARIABLE_BOOT = 0x80000002

SEPARATORS = Policy(name="separators", rule=Separators(), required=())
HAND_OVER = Policy(name="hand-over", rule=HandOver(), required=())


def is_separator(e: ForgedEvent) -> bool:
    return e.pcr == 3 and e.type == EV_SEPARATOR


def action(text: bytes) -> ForgedEvent:
    empty = ForgedEvent(5, EV_EFI_ACTION, dict.fromkeys((0x0004, 0x000B, 0x000C), b""), text)
    return empty.rehashed(text)


def append(*added: ForgedEvent) -> Change:
    return lambda events: (*events, *added)


def test_the_good_boot_is_closed_in_each_register() -> None:
    result = appraise(SEPARATORS)
    assert result.status == "affirming"
    assert {c.pcr for c in result.checked} == set(range(8))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(where(is_separator, lambda _: ()), "separator.missing", id="A6 removed"),
        pytest.param(where(is_separator, lambda e: (e, e)), "separator.repeated", id="A4 a second one"),
        pytest.param(
            where(is_separator, lambda e: (e.rehashed(b"\1\0\0\0"),)), "separator.error", id="A5 error, data 00000000"
        ),
        pytest.param(
            where(is_separator, lambda e: (replace(e.rehashed(b"\1\0\0\0"), type=EV_EFI_ACTION),)),
            "separator.error",
            id="A5 error under another type",
        ),
        pytest.param(where(is_separator, lambda e: (replace(e, type=EV_IPL),)), "separator.retyped", id="A4 retyped"),
        pytest.param(
            where(is_separator, lambda e: (replace(e.rehashed(b"\xff" * 4), type=EV_IPL, data=b"\xff" * 4), e)),
            "separator.retyped",
            id="W1 FFFFFFFF under another type",
        ),
        pytest.param(
            where(is_separator, lambda e: (e.rehashed(b"something else"),)), "separator.fake", id="A4 only in name"
        ),
        pytest.param(
            where(is_separator, lambda e: (replace(e, data=b"\0" * 3),)), "separator.data", id="A4 data of three bytes"
        ),
    ],
)
def test_a_boundary_that_was_moved_is_refused(change: Change, code: str) -> None:
    result = appraise(SEPARATORS, change)
    assert result.status == "contraindicated"
    assert code in codes(result)
    assert all(f.pcr == 3 for f in result.findings)


def test_a_separator_in_a_large_slot_passes_by_a_named_quirk() -> None:
    result = appraise(SEPARATORS, where(is_separator, lambda e: (replace(e, data=e.data + bytes(46)),)))
    assert result.status == "affirming"
    assert result.quirks == ("Q27",)


def test_a_boot_variable_may_look_like_a_separator_and_is_reported() -> None:
    """Only its value is hashed; the register has its separator all the same."""
    lookalike = where(lambda e: e.pcr == 1 and e.type == EV_EFI_VARIABLE_BOOT, lambda e: (e, e.rehashed(b"\0\0\0\0")))
    result = appraise(SEPARATORS, lookalike)
    assert result.status == "affirming"
    assert codes(result, severity="info") == {"separator.ambiguous"}


def test_separators_are_required_of_the_quote() -> None:
    result = appraise(SEPARATORS, quoted=(0, 1, 2, 4, 5, 6, 7))
    assert codes(result) == {"register.not-quoted"}
    assert result.findings[0].pcr == 3


INVOCATION = b"Exit Boot Services Invocation"
SUCCESS = b"Exit Boot Services Returned with Success"
FAILURE = b"Exit Boot Services Returned with Failure"


def is_exit(e: ForgedEvent) -> bool:
    return e.pcr == 5 and e.data == INVOCATION


def without_exit(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
    return (e for e in events if e.data not in {INVOCATION, SUCCESS})


@pytest.mark.parametrize(
    ("change", "status", "found"),
    [
        pytest.param(None, "affirming", set(), id="left once"),
        pytest.param(
            where(is_exit, lambda e: (e, action(FAILURE), e)), "affirming", set(), id="failed once, then succeeded"
        ),
        pytest.param(without_exit, "contraindicated", {"handover.missing"}, id="Q1 not in the log"),
        pytest.param(append(action(b"more")), "contraindicated", {"handover.order"}, id="A7 appended"),
        pytest.param(where(is_exit, lambda e: (e, e)), "contraindicated", {"handover.order"}, id="called twice"),
        pytest.param(
            where(is_exit, lambda e: (action(SUCCESS), e)), "contraindicated", {"handover.order"}, id="A7 too early"
        ),
        pytest.param(
            where(is_exit, lambda e: (replace(e, type=EV_IPL),)), "contraindicated", {"event.type"}, id="A1 retyped"
        ),
    ],
)
def test_the_hand_over(change: Change | None, status: str, found: set[str]) -> None:
    result = appraise(HAND_OVER, change)
    assert (result.status, codes(result)) == (status, found)


def test_failed_attempts_are_a_variation_that_the_policy_names() -> None:
    strict = Policy(name="strict", rule=HandOver(allow_failed_attempts=False), required=())
    assert appraise(strict).status == "affirming"
    change = where(is_exit, lambda e: (e, action(FAILURE), e))
    assert codes(appraise(strict, change)) == {"handover.order"}
