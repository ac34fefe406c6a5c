"""What is said of the place where a register leaves its path, on boots made by hand."""

from __future__ import annotations

import hashlib

import attrs
import pytest

from measlog.appraisal.case import Case, Measured
from measlog.appraisal.paths import Candidate, follow
from measlog.appraisal.report import Report
from measlog.appraisal.rules.divergence import judge_following
from measlog.flatcar.boot import PredictedEvent
from measlog.registry import EventType
from tests.appraisal.machine import appraise, good_log, machine
from tests.appraisal.test_boot_findings import FILE, at, command, measured, paths, same
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.test_details import with_another_grub
from tests.appraisal.test_impostors import both, release, standing_in
from tests.appraisal.test_path_parts import MANIFEST, boot, expected
from tests.appraisal.test_path_parts import measured as event

GOOD = "flatcar-lab-good"
IMAGE = EventType.EV_EFI_BOOT_SERVICES_APPLICATION
CASE = Case(evidence=machine(good_log()), manifests=(MANIFEST,), baselines=())
Line = tuple[str, str, "bytes | str | None", "bytes | str | None"]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def ran(text: bytes, data: bytes | None = None) -> Measured:
    """GRUB's record of a command, whose digest is of the text alone."""
    made = event(8, sha256(text))
    raw = b"grub_cmd: " + text + b"\0" if data is None else data
    return attrs.evolve(
        made, event=attrs.evolve(made.event, raw=raw, digests={**made.event.digests, "sha256": sha256(text)})
    )


def to_run(text: bytes) -> PredictedEvent:
    return attrs.evolve(expected(8, sha256(text), text=text), data=b"grub_cmd: " + text + b"\0")


def said(pcr: int, observed: list[Measured], *wanted: PredictedEvent) -> list[Line]:
    candidate = Candidate(manifest=MANIFEST, boot=boot(*wanted))
    report = Report()
    judge_following("rule", CASE, candidate, follow(candidate, pcr, observed, "sha256"), report)
    assert {f.pcr for f in report.findings} <= {pcr}
    return [(f.code, f.message, f.expected, f.observed) for f in report.findings]


# Texts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"echo a: b", "echo a: b"),
        (b"set a=X", "set a=X"),
        (b"echo XX", "echo XX"),
        (b"echo kernel_cmdline: x", "echo kernel_cmdline: x"),
        (b"echo \xff", "echo \\xff"),
        (b"", ""),
    ],
)
def test_a_command_is_told_as_it_is(text: bytes, shown: str) -> None:
    """Whole, though it has a colon in it or ends in whatever letter; escaped where it is no text; there or missing."""
    follows = "does not follow from the grub.cfg of the release"
    assert said(8, [ran(text)]) == [
        ("command.unexpected", f"GRUB ran {shown!r}, which {follows}", None, f"grub_cmd: {shown}")
    ]
    assert said(8, [], to_run(text)) == [
        ("sequence.missing", f"{shown!r} is expected in PCR 8 and is not there", f"grub_cmd: {shown}", None)
    ]


def test_an_event_without_text_is_told_by_its_digest() -> None:
    assert said(8, [ran(b"", b"")]) == [
        (
            "command.unexpected",
            "GRUB ran '', which does not follow from the grub.cfg of the release",
            None,
            sha256(b""),
        )
    ]


# Which kind of difference it is


@pytest.mark.parametrize(
    ("pcr", "kind", "code"),
    [
        pytest.param(4, IMAGE, "image.unknown", id="a program"),
        pytest.param(4, EventType.EV_IPL, "sequence.unexpected", id="no program in the programs' register"),
        pytest.param(9, IMAGE, "file.unknown", id="called a program in the files' register"),
        pytest.param(14, IMAGE, "sequence.unexpected", id="called a program in shim's register"),
    ],
)
def test_an_image_is_an_event_of_that_type_in_pcr_4(pcr: int, kind: EventType, code: str) -> None:
    """Elsewhere the type is only what somebody called the event: it does not make a program of it."""
    assert [line[0] for line in said(pcr, [event(pcr, sha256(b"?"), kind)])] == [code]


# Which events are named


def test_what_was_explained_is_no_difference() -> None:
    """A command that is measured again later is wrong where it is repeated, not where it belongs."""
    first = next(i + 1 for i, e in enumerate(good_log().events) if e.pcr == 8)
    result = appraise(paths(), at(first, same, command(b"set evil=1"), same), manifests=[lab_manifest(GOOD)])
    assert [f.event for f in result.findings if f.pcr == 8] == [first + 1, first + 2]


def test_a_program_that_may_stand_in_is_no_difference() -> None:
    """An updated machine's kernel is another release's: where the register differs before it, only that is named."""
    updated = with_another_grub(release("kernel"))
    change = both(standing_in(4, "kernel", updated), standing_in(9, "kernel", updated))
    evil = at(FILE, measured(b"other", b"/evil\0"), same)
    result = appraise(paths(), both(change, evil), manifests=[lab_manifest(GOOD), updated])
    assert [(f.code, f.event) for f in result.findings if f.severity == "error"] == [("file.unknown", FILE)]


@pytest.mark.parametrize("known", [sha256(b"what it was predicted with"), None], ids=["known", "unknown"])
def test_a_file_that_is_left_open_does_not_take_the_place_of_others(known: bytes | None) -> None:
    """It may hold anything, which any event does: those that are expected elsewhere are where they belong."""
    wanted = (
        expected(9, sha256(b"cfg"), "file"),
        expected(9, known, "file", b"/free"),
        expected(9, sha256(b"linux"), "file"),
    )
    candidate = Candidate(manifest=MANIFEST, boot=boot(*wanted), free_file=b"/free")
    observed = [event(9, sha256(text), index=i) for i, text in enumerate((b"evil", b"cfg", b"free", b"linux"))]
    report = Report()
    judge_following("rule", CASE, candidate, follow(candidate, 9, observed, "sha256"), report)
    assert [(f.code, f.event) for f in report.findings] == [("file.unknown", 0)]
