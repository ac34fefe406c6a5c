"""Explanations: hypotheses that reproduce a register are confirmed, whatever the appraisal thought of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal.explain import Explanation, Hypothesis, explain_boot, explain_replay
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


# Every hypothesis about a register, by the values that hashlib gives.


def folded(digests: Sequence[bytes], start: bytes = bytes(32)) -> bytes:
    value = start
    for digest in digests:
        value = hashlib.sha256(value + digest).digest()
    return value


def small_log(pcr: int, number: int) -> ml.EventLog:
    """The good log's other registers, and a few events of this one."""
    log = good_log()
    empty = next(e for e in log.events if e.pcr == 8)
    made = [replace(empty, pcr=pcr).rehashed(b"%d" % i) for i in range(number)]
    others = [e for e in log.events if e.pcr != pcr]
    return ml.EventLog.from_bytes(log.with_events([*others, *made]).put_together())


D = [hashlib.sha256(b"%d" % i).digest() for i in range(4)]


@pytest.mark.parametrize(
    ("real", "code", "nth", "said"),
    [
        pytest.param(D[1:], "event-added", 0, "was never extended", id="the first is not there"),
        pytest.param(D[:3], "event-added", 3, "was never extended", id="the last is not there"),
        pytest.param([D[0], *D], "event-repeated", 0, "was extended twice", id="the first twice"),
        pytest.param([*D, D[3]], "event-repeated", 3, "was extended twice", id="the last twice"),
        pytest.param([D[0], D[1], D[1], *D[2:]], "event-repeated", 1, "was extended twice", id="one within twice"),
        pytest.param(
            [D[1], D[0], *D[2:]],
            "event-moved",
            0,
            "and the next one were extended in the other order",
            id="the first two exchanged",
        ),
        pytest.param(
            [D[0], D[1], D[3], D[2]],
            "event-moved",
            2,
            "and the next one were extended in the other order",
            id="the last two exchanged",
        ),
    ],
)
def test_the_event_to_blame_is_named(real: list[bytes], code: str, nth: int, said: str) -> None:
    log = small_log(2, 4)
    first = len(log) - 4
    value = folded(real)
    (found,) = explain_replay(log, {2: value})
    (hypothesis,) = found.hypotheses
    assert hypothesis == Hypothesis(
        code=code,
        pcr=2,
        sentence=f"event {first + nth} (EV_IPL) {said}",
        value=value,
        confirmed=True,
        event=first + nth,
    )
    assert (found.pcr, found.value, found.confirmed) == (2, value, (hypothesis,))


def test_nothing_that_is_told_explains_the_register() -> None:
    """A value that no single event explains has no hypothesis; one of an empty history has that one."""
    (found,) = explain_replay(small_log(2, 4), {2: b"\1" * 32})
    assert (found.value, found.hypotheses) == (b"\1" * 32, ())
    empty, other = explain_replay(small_log(2, 0), {2: b"\1" * 32, 12: b"\2" * 32})
    for one, pcr, value in ((empty, 2, b"\1" * 32), (other, 12, b"\2" * 32)):
        said = "the log has no event for the register"
        assert (one.pcr, one.value) == (pcr, value)
        assert one.hypotheses == (
            Hypothesis(code="no-events", pcr=pcr, sentence=said, value=bytes(32), confirmed=False, event=None),
        )
    # The values that the log gives need no explanation, whatever their order.
    values = good_log().registers(SHA256)
    log = ml.EventLog.from_bytes(good_log().put_together())
    assert explain_replay(log, {pcr: values[pcr] for pcr in (9, 8, 0, 17, 12)}) == ()
    wrong = dict.fromkeys((9, 3, 8), b"\x01" * 32)
    assert [one.pcr for one in explain_replay(log, wrong)] == [3, 8, 9]


@pytest.mark.parametrize(("number", "searched"), [(512, True), (513, False)])
def test_a_history_is_searched_up_to_512_events(number: int, searched: bool) -> None:
    log = small_log(2, number)
    real = [hashlib.sha256(b"%d" % i).digest() for i in range(1, number)]
    (found,) = explain_replay(log, {2: folded(real)})
    assert [h.code for h in found.confirmed] == (["event-added"] if searched else [])


def test_localities_are_tried_and_the_confirmed_one_comes_first() -> None:
    digests = [e.digests[SHA256] for e in good_log().events if e.pcr == 0]
    for locality in (3, 4):
        value = folded(digests, locality.to_bytes(32, "big"))
        (found,) = explain_replay(ml.EventLog.from_bytes(good_log().put_together()), {0: value})
        said = "the TPM was started from locality {}, which the log does not say"
        assert [(h.code, h.sentence, h.confirmed, h.value == value) for h in found.hypotheses] == [
            ("startup-locality", said.format(tried), tried == locality, tried == locality)
            for tried in sorted((0, 3, 4), key=lambda tried: tried != locality)
        ]
    # Locality 0 where the log says another one.
    stated = ForgedEvent(0, 3, {alg: bytes(len(d)) for alg, d in good_log().events[0].digests.items()}, b"")
    told = [replace(stated, data=b"StartupLocality\0\3"), *good_log().events]
    log = ml.EventLog.from_bytes(good_log().with_events(told).put_together())
    assert explain_replay(log, {0: folded(digests, (3).to_bytes(32, "big"))}) == ()
    (found,) = explain_replay(log, {0: folded(digests)})
    assert [h.sentence for h in found.confirmed] == [said.format(0)]
    # One event is sought in the history from the locality that is stated.
    (found,) = explain_replay(log, {0: folded(digests[1:], (3).to_bytes(32, "big"))})
    assert [(h.code, h.value == found.value) for h in found.confirmed] == [("event-added", True)]
    # What is no such event states nothing.
    for data in (b"StartupLocality\0", b"StartupLocality\0\3\0", b"startupLocality\0\3"):
        log = ml.EventLog.from_bytes(
            good_log().with_events([replace(stated, data=data), *good_log().events]).put_together()
        )
        assert explain_replay(log, {0: folded(digests)}) == ()


INVOCATION = b"Exit Boot Services Invocation"
SUCCESS, FAILURE = b"Exit Boot Services Returned with Success", b"Exit Boot Services Returned with Failure"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ((INVOCATION, SUCCESS), "Invocation, Success"),
        ((INVOCATION,), "Invocation"),
        ((SUCCESS,), "Success"),
        ((INVOCATION, FAILURE), "Invocation, Failure"),
        ((INVOCATION, FAILURE, INVOCATION, SUCCESS), "Invocation, Failure, Invocation, Success"),
        ((FAILURE, INVOCATION, SUCCESS), "Failure, Invocation, Success"),
    ],
)
def test_exit_events_that_reached_the_register_alone(missing: tuple[bytes, ...], said: str) -> None:
    """Q1: firmware that hands its log over before it leaves the boot services."""
    log = small_log(5, 2)
    value = folded([*D[:2], *(hashlib.sha256(text).digest() for text in missing)])
    (found,) = explain_replay(log, {5: value})
    assert len(found.hypotheses) == 6
    first = found.hypotheses[0]
    assert first == Hypothesis(
        code="exit-events-missing",
        pcr=5,
        sentence=f"the log lacks the exit-boot-services events {said}",
        value=value,
        confirmed=True,
    )
    assert not any(h.confirmed for h in found.hypotheses[1:])
    # Of no other register is it said.
    assert explain_replay(small_log(6, 2), {6: value})[0].hypotheses == ()


def test_a_bank_that_is_not_there_is_named() -> None:
    log = ml.EventLog.from_bytes(good_log().put_together())
    said = r"^the log has no sha512 digests, it has sha1, sha256, sha384$"
    with pytest.raises(EvidenceError, match=said) as caught:
        explain_replay(log, {}, bank="sha512")
    assert caught.value.check == "bank-missing"
    with pytest.raises(EvidenceError, match=said) as caught:
        explain_boot(log, [], bank="sha512")
    assert caught.value.check == "bank-missing"
    with pytest.raises(UnsupportedError, match=r"no manifest describes a boot by GRUB, so there is nothing to compare"):
        explain_boot(log, [])
