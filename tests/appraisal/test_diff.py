"""Alignment of histories: register by register, whole or up to a bound."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import measlog as ml
from measlog.appraisal.diff import align, diff
from measlog.errors import EvidenceError
from tests.appraisal.machine import good_log
from tests.appraisal.test_captures import capture_manifest


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


def test_long_sequences_are_aligned_up_to_where_they_part() -> None:
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
    with pytest.raises(EvidenceError, match="sm3_256"):
        diff(log(), log(), bank="sm3_256")
