"""Explanations: hypotheses that reproduce a register are confirmed, whatever the appraisal thought of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal.explain import Explanation, explain_boot, explain_replay
from measlog.errors import EvidenceError, UnsupportedError
from tests.appraisal.machine import SHA256, good_log
from tests.appraisal.test_captures import capture_manifest

SLOT_B = "usr-b-after-update"


def capture(shared: Path, name: str) -> ml.EventLog:
    path = shared / "flatcar" / "captures" / name / "binary_bios_measurements"
    return ml.EventLog.from_bytes(path.read_bytes())


def confirmed(explanations: Iterable[Explanation]) -> dict[int, set[str]]:
    return {e.pcr: {h.code for h in e.confirmed} for e in explanations}


def test_a_good_boot_needs_no_explanation(shared: Path) -> None:
    assert explain_boot(capture(shared, "usr-a-secureboot"), [capture_manifest(shared)]) == ()


def test_another_kernel(shared: Path) -> None:
    """The updated machine, judged by the release it was installed with."""
    found = explain_boot(capture(shared, SLOT_B), [capture_manifest(shared)])
    assert confirmed(found) == {4: {"other-kernel"}, 9: {"other-kernel"}}


def test_an_oem_file_and_what_it_set(shared: Path) -> None:
    found = explain_boot(capture(shared, "oem-tampered-init"), [capture_manifest(shared)], secure_boot=False)
    assert confirmed(found) == {8: {"oem-file"}, 9: {"extra-file"}}
    sentence = next(h.sentence for e in found for h in e.confirmed if e.pcr == 8)
    assert "set linux_append=flatcar.autologin init=/bin/sh" in sentence


def test_another_state_of_secure_boot(shared: Path) -> None:
    """A machine with Secure Boot off, judged as if it were on."""
    log = capture(shared, "oem-qemu-first-boot")
    oem = (shared / "flatcar" / "captures" / "oem-qemu-first-boot" / "oem-grub.cfg").read_bytes()
    found = explain_boot(log, [capture_manifest(shared)], secure_boot=True, oem_grub_cfg=oem)
    assert confirmed(found)[4] == {"secure-boot", "other-boot"}


Changed = Callable[[ForgedEvent], ForgedEvent]


def changed_log(shared: Path, name: str, change: Callable[[list[ForgedEvent]], list[ForgedEvent]]) -> ml.EventLog:
    from fixtures.attacks.forge import ForgedLog

    log = ForgedLog.take_apart((shared / "flatcar" / "captures" / name / "binary_bios_measurements").read_bytes())
    return ml.EventLog.from_bytes(log.with_events(change(list(log.events))).put_together())


def test_flat_digests(shared: Path) -> None:
    """Q11: the firmware hashed the file as it lies; the digests are those of files.tsv."""
    flat = {c.authenticode["sha256"]: c.flat for c in capture_manifest(shared).components}

    def change(events: list[ForgedEvent]) -> list[ForgedEvent]:
        return [
            replace(e, digests={**e.digests, SHA256: flat[e.digests[SHA256]]["sha256"]})
            if e.digests[SHA256] in flat and e.pcr == 4
            else e
            for e in events
        ]

    found = explain_boot(changed_log(shared, "usr-a-secureboot", change), [capture_manifest(shared)])
    assert "flat-digest" in confirmed(found)[4]


def test_texts_hashed_with_their_nul(shared: Path) -> None:
    """Q19."""

    def change(events: list[ForgedEvent]) -> list[ForgedEvent]:
        return [e.rehashed(e.data.split(b": ", 1)[1]) if e.pcr == 8 else e for e in events]

    found = explain_boot(changed_log(shared, "usr-a-secureboot", change), [capture_manifest(shared)])
    assert confirmed(found) == {8: {"nul-terminated"}}


def test_a_grub_cfg_beside_grub(shared: Path) -> None:
    """A46: it is read before anything else, and then again as the configuration that runs."""

    def change(events: list[ForgedEvent]) -> list[ForgedEvent]:
        place = next(i for i, e in enumerate(events) if e.pcr == 9)
        planted = replace(events[place], data=b"(hd0,gpt1)/EFI/BOOT/grub.cfg\0").rehashed(b"set root=hd0")
        return [*events[:place], planted, planted, *events[place:]]

    found = explain_boot(changed_log(shared, "usr-a-secureboot", change), [capture_manifest(shared)])
    assert confirmed(found) == {9: {"grub-cfg-beside", "extra-file"}}


def test_exit_events_that_the_log_lacks(shared: Path) -> None:
    """Q1, on the real log of which this is known (its expected.json says so)."""
    folder = shared / "corpus" / "logs"
    log = ml.EventLog.from_bytes((folder / "ebs_event_missing_eventlog.bin").read_bytes())
    expected = json.loads((folder / "ebs_event_missing_eventlog.expected.json").read_text())["registers"]["sha1"]
    values = {int(pcr): bytes.fromhex(value) for pcr, value in expected.items()}
    assert confirmed(explain_replay(log, values, bank="sha1")) == {5: {"exit-events-missing"}}


def real_and_told(
    change: Callable[[tuple[ForgedEvent, ...]], Iterable[ForgedEvent]], *, locality: int = 0
) -> dict[int, set[str]]:
    """The registers of the good boot, and a log of it that was changed."""
    log = good_log()
    told = ml.EventLog.from_bytes(log.with_events(change(log.events)).put_together())
    return confirmed(explain_replay(told, log.registers(SHA256, locality=locality)))


@pytest.mark.parametrize(
    ("change", "pcr", "code"),
    [
        (lambda events: events, None, None),
        (lambda events: (*events, replace(events[-1], pcr=2)), 2, "event-added"),
        (lambda events: (e for i, e in enumerate(events) if i != 31), 8, None),
        (lambda events: (*events[:31], events[31], *events[31:]), 8, "event-added"),
        (lambda events: (*events[:31], events[32], events[31], *events[33:]), 8, "event-moved"),
        (lambda events: (e for e in events if e.pcr != 14), 14, None),
    ],
)
def test_one_event_is_to_blame(
    change: Callable[[tuple[ForgedEvent, ...]], Iterable[ForgedEvent]], pcr: int | None, code: str | None
) -> None:
    found = real_and_told(change)
    assert set(found) == (set() if pcr is None else {pcr})
    if pcr is not None:
        assert (code in found[pcr]) if code else not found[pcr]


def test_a_startup_locality_that_the_log_does_not_state() -> None:
    assert real_and_told(lambda events: events, locality=3) == {0: {"startup-locality"}}


def test_a_bank_that_the_log_lacks(shared: Path) -> None:
    log = capture(shared, SLOT_B)
    with pytest.raises(EvidenceError, match="no sha512 digests"):
        explain_replay(log, {}, bank="sha512")
    with pytest.raises(UnsupportedError, match="nothing to compare"):
        explain_boot(log, [])
