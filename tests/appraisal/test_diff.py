"""Alignment of histories: register by register, whole or up to a bound."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import measlog as ml
from measlog.appraisal.diff import Side, align, diff
from measlog.errors import EvidenceError
from measlog.registry import EventType
from tests.appraisal.machine import good_log
from tests.appraisal.test_captures import capture_manifest, lab_manifest


def log(*, name: str = "flatcar-lab-good") -> ml.EventLog:
    return ml.EventLog.from_bytes(good_log(name).put_together())


short = st.lists(st.integers(0, 5), max_size=30)


@given(short, short)
def test_an_alignment_has_each_place_once_and_in_order(left: Sequence[Hashable], right: Sequence[Hashable]) -> None:
    pairs = list(align(left, right))
    assert [i for i, _ in pairs if i is not None] == list(range(len(left)))
    assert [j for _, j in pairs if j is not None] == list(range(len(right)))
    assert (None, None) not in pairs


@given(short)
def test_a_sequence_is_aligned_with_itself(items: Sequence[Hashable]) -> None:
    assert list(align(items, items)) == [(i, i) for i in range(len(items))]


def test_long_sequences_are_paired_place_by_place() -> None:
    """Aligning costs the product of the lengths: hostile logs are compared at a bounded cost."""
    left, right = list(range(5000)), [*range(4000), -1, *range(4000, 5000)]
    pairs = list(align(left, right))
    assert pairs[3999:4001] == [(3999, 3999), (4000, 4000)]
    assert [i for i, _ in pairs if i is not None] == left
    assert pairs[-1] == (None, 5000)


def test_a_log_and_itself() -> None:
    found = diff(log(), log())
    assert found.differences == ()
    assert found.first_divergence == {}
    assert len(found.rows) == len([e for e in log() if e.type != 3])
    assert repr(found) == "<HistoryDiff sha256: no difference>"


def test_the_events_that_an_oem_file_adds(shared: Path) -> None:
    captures = shared / "flatcar" / "captures"
    good, bad = (
        ml.EventLog.from_bytes((captures / name / "binary_bios_measurements").read_bytes())
        for name in ("oem-qemu-first-boot", "oem-tampered-init")
    )
    found = ml.diff(good, bad)
    changed = [(d.left.text, d.right.text) for d in found.differences if d.pcr == 8 and d.left and d.right]
    assert changed[0] == (
        "grub_cmd: set linux_append=flatcar.autologin",
        "grub_cmd: set linux_append=flatcar.autologin init=/bin/sh",
    )
    assert {d.kind for d in found.differences if d.pcr == 8} == {"changed"}
    assert found.first_divergence[8].pcr == 8
    assert "PCR 8" in repr(found)


def test_an_event_that_moved(shared: Path) -> None:
    forged = good_log()
    events = list(forged.events)
    place = next(i for i, e in enumerate(events) if e.pcr == 8)
    moved = events.pop(place)
    events.insert(place + 5, moved)
    other = ml.EventLog.from_bytes(forged.with_events(events).put_together())
    found = diff(log(), other)
    assert {d.kind for d in found.differences} == {"moved"}
    assert {d.pcr for d in found.differences} == {8}
    assert shared.is_dir()


def test_a_log_and_a_predicted_boot(shared: Path) -> None:
    path = shared / "flatcar" / "captures" / "usr-a-first-boot-secureboot" / "binary_bios_measurements"
    real = ml.EventLog.from_bytes(path.read_bytes())
    manifest = capture_manifest(shared)
    boot, *_ = ml.flatcar.predict(manifest, secure_boot=True, slot="a", first_boot=True)
    found = diff(real, boot)
    # The firmware tried an empty drive first, which no image decides; the rest is as predicted.
    assert [(d.pcr, d.kind) for d in found.differences] == [(4, "deleted"), (4, "deleted")]
    assert set(found.not_compared) == {0, 1, 2, 3, 5, 6, 7}
    later, *_ = ml.flatcar.predict(manifest, secure_boot=True, slot="a", first_boot=False)
    assert 8 in diff(real, later).first_divergence


def test_a_bank_that_a_log_lacks() -> None:
    with pytest.raises(EvidenceError, match=r"^the log has no sm3_256 digests, it has sha1, sha256, sha384$") as caught:
        diff(log(), log(), bank="sm3_256")
    assert caught.value.check == "bank-missing"


# By hand: what stands where.


def told(*texts: str, pcr: int = 8, kind: int = 0xD) -> ml.EventLog:
    """A log whose only events are these texts of one register."""
    empty = replace(next(e for e in good_log().events if e.pcr == 8), pcr=pcr, type=kind)
    events = [replace(empty.rehashed(text.encode()), data=text.encode() + b"\0") for text in texts]
    return ml.EventLog.from_bytes(good_log().with_events(events).put_together())


def rows(left: ml.EventLog, right: ml.EventLog) -> list[tuple[str, str | None, str | None]]:
    return [
        (r.kind, None if r.left is None else r.left.text, None if r.right is None else r.right.text)
        for r in diff(left, right).rows
    ]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("ab", "ab", ["same a a", "same b b"]),
        ("ab", "ac", ["same a a", "changed b c"]),
        ("a", "ab", ["same a a", "inserted - b"]),
        ("ab", "a", ["same a a", "deleted b -"]),
        ("", "a", ["inserted - a"]),
        ("ab", "bc", ["deleted a -", "same b b", "inserted - c"]),
        ("abcd", "bcda", ["moved a -", "same b b", "same c c", "same d d", "moved - a"]),
        # Of two that are gone one came back: one moved, the other is missing.
        ("aabcd", "bcda", ["moved a -", "deleted a -", "same b b", "same c c", "same d d", "moved - a"]),
        ("abcd", "bcdaa", ["moved a -", "same b b", "same c c", "same d d", "moved - a", "inserted - a"]),
        ("abcd", "xbcd", ["changed a x", "same b b", "same c c", "same d d"]),
    ],
)
def test_what_stands_where(left: str, right: str, expected: list[str]) -> None:
    found = rows(told(*left), told(*right))
    assert [f"{kind} {a or '-'} {b or '-'}" for kind, a, b in found] == expected


def test_sides_of_a_difference() -> None:
    found = diff(told("a", "b"), told("a", "c"))
    (difference,) = found.differences
    assert (difference.pcr, difference.kind) == (8, "changed")
    assert difference.left == Side(event=2, type=EventType.EV_IPL, digest=hashlib.sha256(b"b").digest(), text="b")
    assert difference.right == Side(event=2, type=EventType.EV_IPL, digest=hashlib.sha256(b"c").digest(), text="c")
    assert found.first_divergence == {8: difference}
    assert found.bank == "sha256"
    assert diff(told("a"), told("b"), bank="sha384").rows[0].left == Side(
        event=1, type=EventType.EV_IPL, digest=hashlib.sha384(b"a").digest(), text="a"
    )
    # Text is what IPL, action and EFI action events have; what cannot be read stays visible.
    for kind, text in ((0xD, "a"), (5, "a"), (0x80000007, "a"), (6, None), (1, None)):
        (row,) = diff(told("a", kind=kind), told("a", kind=kind)).rows
        assert row.left is not None
        assert (row.left.text, row.left.type) == (text, kind)
    log = told("a")
    raw = ml.EventLog.from_bytes(log.to_bytes().replace(b"a\0", b"\xff\0"))
    (row,) = diff(raw, raw).rows
    assert row.left is not None
    assert row.left.text == "\\xff"


def test_registers_are_compared_in_their_order() -> None:
    events = good_log().events
    shuffled = [*(e for e in events if e.pcr in {9, 14}), *(e for e in events if e.pcr not in {9, 14})]
    other = ml.EventLog.from_bytes(good_log().with_events(shuffled).put_together())
    found = diff(other, log())
    assert found.differences == ()
    assert [row.pcr for row in found.rows] == sorted(e.pcr for e in events if e.type != 3)
    both = diff(told("a", pcr=9), told("a", pcr=8))
    assert [(r.pcr, r.kind) for r in both.rows] == [(8, "inserted"), (9, "deleted")]
    assert repr(both) == "<HistoryDiff sha256: 2 differences in PCR 8, PCR 9>"
    assert both.not_compared == {}
    assert both.likely_causes == {
        8: "another grub.cfg, or somebody at the GRUB prompt",
        9: "a file that only one of the two read",
    }


def test_events_that_extend_nothing_are_left_out() -> None:
    made = good_log()
    silent = replace(made.events[0], type=3, digests={alg: bytes(len(d)) for alg, d in made.events[0].digests.items()})
    nowhere = replace(silent, pcr=0xFFFFFFFF)
    more = ml.EventLog.from_bytes(made.with_events([silent, nowhere, *made.events]).put_together())
    assert diff(more, log()).differences == ()
    assert len(diff(more, log()).rows) == len(made.events)


@pytest.mark.parametrize(("length", "whole"), [(4096, True), (4097, False)])
def test_the_bound_on_what_is_aligned(length: int, whole: bool) -> None:
    left = list(range(length))
    right = left[1:]
    for pairs in (list(align(left, right)), [(j, i) for i, j in align(right, left)]):
        assert (pairs[0] == (0, None)) == whole
        assert (pairs[0] == (0, 0)) != whole
        assert len(pairs) == length
    # Two that are the same are the same at any length; of one that ends early the rest is missing.
    assert list(align(left, left)) == [(i, i) for i in left]
    assert list(align(left, left[:-1])) == [*((i, i) for i in left[:-1]), (length - 1, None)]


def test_what_a_predicted_boot_does_not_know_is_named() -> None:
    manifest = lab_manifest("flatcar-lab-good")
    boot = next(b for b in ml.flatcar.predict(manifest, secure_boot=True, slot="a", first_boot=True))
    real = ml.EventLog.from_bytes(good_log().put_together())
    found = diff(real, boot)
    assert found.differences == ()
    assert dict(found.not_compared) == {
        pcr: boot.unknown.get(pcr, "the predicted boot says nothing about it") for pcr in (0, 1, 2, 3, 5, 6, 7)
    }
    assert list(found.not_compared) == sorted(found.not_compared)
    command = next(r for r in found.rows if r.pcr == 8)
    assert command.right is not None
    assert command.left is not None
    assert (command.right.event, command.right.type) == (None, EventType.EV_IPL)
    assert (command.right.text, command.right.digest) == (command.left.text, command.left.digest)
    assert command.right.text == "grub_cmd: set prefix=(hd0,gpt1)/flatcar/grub"
    image = [r for r in found.rows if r.pcr == 4][-1]
    assert image.right is not None
    assert image.right.text == "/flatcar/vmlinuz-a"
    # A register of which the boot knows no bank is one that it says nothing about.
    bare = attrs.evolve(boot, unknown={}, events=tuple(e for e in boot.events if e.pcr != 14))
    assert diff(real, bare).not_compared[14] == "the predicted boot says nothing about it"
    reason = attrs.evolve(boot, unknown={**boot.unknown, 9: "because"})
    assert diff(real, reason).not_compared[9] == "because"
    assert 9 not in {r.pcr for r in diff(real, reason).rows}
