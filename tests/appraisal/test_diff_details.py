"""Alignments that are easily got wrong: repeated events, texts at their ends, boots that are known in part."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from measlog.appraisal.diff import align, diff
from measlog.flatcar.boot import PredictedBoot, PredictedEvent
from measlog.registry import EventType
from tests.appraisal.test_diff import rows, told


def event(
    text: bytes, *, pcr: int = 8, kind: EventType = EventType.EV_IPL, data: bytes | None = None
) -> PredictedEvent:
    digests = {"sha256": hashlib.sha256(text).digest()}
    return PredictedEvent(pcr=pcr, kind="command", type=kind, text=text, data=data, digests=digests)


def boot(*events: PredictedEvent, unknown: dict[int, str] | None = None) -> PredictedBoot:
    return PredictedBoot(
        name="N", slot="a", chosen="a", first_boot=False, secure_boot=True, oem=False, release="r", bootloader="r",
        outcome="kernel", events=events, pcrs={"sha256": {}}, unknown=unknown or {},
    )  # fmt: skip


def shown(predicted: PredictedEvent) -> str | None:
    """The text that is shown of an event which only a predicted boot has."""
    (row,) = diff(told(), boot(predicted)).rows
    assert row.right is not None
    return row.right.text


@pytest.mark.parametrize("length", [200, 500])
def test_an_event_that_a_long_history_repeats_is_aligned_like_any_other(length: int) -> None:
    """GRUB's loops repeat commands: what stands before them does not put all of them in another place."""
    shifted = [(None, 0), *((i, i + 1) for i in range(length))]
    assert list(align([0] * length, [1, *[0] * length])) == shifted
    assert list(align([1, *[0] * length], [0] * length)) == [(j, i) for i, j in shifted]


def test_what_both_have_and_one_has_once_more_did_not_move() -> None:
    """An event moves from a place to another: where the one that both have stayed, there is only one more."""
    assert rows(told("a"), told("a", "a")) in (
        [("same", "a", "a"), ("inserted", None, "a")],
        [("inserted", None, "a"), ("same", "a", "a")],
    )
    assert [kind for kind, _, _ in rows(told("a", "b"), told("b", "a", "b"))] == ["inserted", "same", "same"]
    assert [kind for kind, _, _ in rows(told("b", "a", "b"), told("a", "b"))] == ["deleted", "same", "same"]


@pytest.mark.parametrize("text", ["set a=X", "XX", "X"])
def test_of_a_text_nothing_but_its_end_is_left_out(text: str) -> None:
    """GRUB ends its texts with a NUL, which is no part of what is shown; whatever else stands there is."""
    log = told(text)
    assert log[1].raw == text.encode() + b"\0"
    assert rows(log, log) == [("same", text, text)]
    predicted = boot(event(text.encode(), data=text.encode() + b"\0"))
    assert [(r.kind, r.right and r.right.text) for r in diff(log, predicted).rows] == [("same", text)]


IMAGE = EventType.EV_EFI_BOOT_SERVICES_APPLICATION
PLAIN: list[tuple[dict[str, Any], str | None]] = [
    # The data of texts is what a log shows; of anything else, and where there is none, the name of what was measured.
    ({"text": b"set a=1", "data": b"grub_cmd: set a=1\0"}, "grub_cmd: set a=1"),
    ({"text": b"set a=1"}, "set a=1"),
    ({"text": b"/vmlinuz-a", "kind": IMAGE, "data": b"\x18\0\0\0device path"}, "/vmlinuz-a"),
    ({"text": b"/vmlinuz-a", "kind": IMAGE}, "/vmlinuz-a"),
    ({"text": b""}, None),
    # What is not UTF-8 stays visible.
    ({"text": b"set a=\xff"}, "set a=\\xff"),
    ({"text": b"set a=1", "data": b"grub_cmd: set a=\xff\0"}, "grub_cmd: set a=\\xff"),
]


@pytest.mark.parametrize(("made", "text"), PLAIN)
def test_what_is_shown_of_a_predicted_event(made: dict[str, Any], text: str | None) -> None:
    assert shown(event(**made)) == text


def test_events_after_one_of_a_register_that_is_not_known_are_compared() -> None:
    """Registers are interleaved in a boot: one that is not known takes nothing from those that are."""
    log = told("a", "b")
    predicted = boot(event(b"a"), event(b"some file", pcr=9), event(b"b"), unknown={9: "because"})
    found = diff(log, predicted)
    assert [(r.pcr, r.kind) for r in found.rows] == [(8, "same"), (8, "same")]
    assert dict(found.not_compared) == {9: "because"}
    # The same where an event lacks the bank.
    other = PredictedEvent(pcr=9, kind="file", type=EventType.EV_IPL, text=b"x", digests={})
    assert [r.kind for r in diff(log, boot(other, event(b"a"), event(b"b"))).rows] == ["same", "same"]
