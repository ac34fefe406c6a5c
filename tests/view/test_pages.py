"""What pages say of the rarer cases: nothing compared, nothing recognised, a log that is cut, registers left out."""

from __future__ import annotations

from dataclasses import replace

import attrs
import pytest

from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal.baseline import Baseline
from measlog.appraisal.diff import diff
from measlog.appraisal.identify import Identification, IdentifiedProgram, IdentifiedRelease, UnknownProgram
from measlog.flatcar.boot import predict
from measlog.log.eventlog import EventLog
from measlog.view.compare import boot_page, diff_page
from measlog.view.notebook import log_html, result_html
from measlog.view.pieces import digest
from measlog.view.render import bank_page, baseline_page, identification_page, log_page, manifest_page, result_page
from measlog.view.report import report_page
from tests.appraisal.machine import good_log
from tests.conftest import FIXTURES
from tests.reference.test_manifest import make_manifest
from tests.view.hostile import Seen
from tests.view.reports import report_of
from tests.view.test_notebook import manifest

GOOD = (FIXTURES / "flatcar-lab-good" / "binary_bios_measurements").read_bytes()
SEPARATOR = ForgedEvent(0, 4, good_log().events[0].digests, bytes(4)).rehashed(bytes(4))
ENDS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "bytes"),
    "filler": (b"\xff" * 64, "filled up with 64 bytes 0xff after the last event"),
    "anything else": (b"\xff" * 64 + b"x", "incomplete: bytes after the last event are neither events nor filler"),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_log_ends_is_said_at_its_head(name: str) -> None:
    after, said = ENDS[name]
    log = EventLog.from_bytes(GOOD + after)
    head = log_page(log, (), "sha256").to_text()
    assert said in head
    assert ("incomplete" in head) == (name == "anything else")
    assert ("incomplete" in Seen(log_html(log)).text) == (name == "anything else")


def test_a_page_without_events_has_no_empty_table() -> None:
    log = EventLog.from_bytes(GOOD)
    text = log_page(log, (), "sha256").to_text()
    assert "check" not in text
    assert "check" in log_page(log, log, "sha256").to_text()


def test_registers_without_events_are_listed_where_there_are_some() -> None:
    good = good_log()
    few = EventLog.from_bytes(replace(good, events=(SEPARATOR,)).put_together())
    every = tuple(replace(SEPARATOR, pcr=pcr) for pcr in range(24))
    full = EventLog.from_bytes(replace(good, events=every).put_together())
    assert "no event: 1-23" in bank_page({"sha256": few.replay("sha256")}, {}).to_text()
    assert "no event" not in bank_page({"sha256": full.replay("sha256")}, {}).to_text()


def test_a_verdict_with_nothing_behind_it_has_no_empty_headings() -> None:
    result = report_of("good").result
    assert result is not None
    bare = attrs.evolve(result, status="none", findings=(), checked=(), not_covered=(), identified=())
    text = result_page(bare).to_text()
    assert "none: nothing could be compared" in text
    for word in ("findings", "checked and", "not covered", "identified"):
        assert word not in text
    seen = Seen(result_html(bare)).text
    assert "Nothing could be compared." in seen
    assert "identified" not in seen
    assert "0 checks passed" in seen


def test_a_report_says_that_nothing_was_compared_and_nothing_left_out() -> None:
    report = report_of("good")
    assert report.result is not None
    page = report_page(attrs.evolve(report, result=attrs.evolve(report.result, checked=(), not_covered=())))
    text = Seen(page).text
    assert "No rule compared anything." in text
    assert "Nothing is left out." in text
    # Nothing that was not compared may be told as something that follows.
    assert "Each phase was closed." not in text


def test_a_report_says_how_many_differences_it_leaves_out() -> None:
    report = report_of("tampered")
    assert report.boot is not None
    wrong = [row for row in report.boot.rows if row.kind != "same"]
    rows = tuple(wrong[:1] * 20_000)
    page = report_page(attrs.evolve(report, boot=attrs.evolve(report.boot, rows=rows)))
    text = Seen(page).text
    assert "more differences are left out." in text
    assert len(page) < 8_000_000


def test_a_summary_is_bounded_however_many_findings_and_registers_there_are() -> None:
    result = report_of("tampered").result
    assert result is not None
    long = attrs.evolve(result.findings[0], message='"<&' * 4000, expected="<" * 4000, observed=">" * 4000)
    page = result_html(attrs.evolve(result, findings=(long,) * 500))
    assert len(page.encode()) < 1_000_000
    assert "more: see result.findings" in Seen(page).text


def test_a_manifest_that_speaks_for_nothing_has_no_empty_headings() -> None:
    text = manifest_page(make_manifest(boot_paths=(), covers={}, not_covered={})).to_text()
    for word in ("boot path", "covers", "does not cover"):
        assert word not in text
    for word in ("boot path", "covers", "does not cover"):
        assert word in manifest_page(make_manifest()).to_text()


def test_what_a_baseline_lets_vary_is_said() -> None:
    one, other = (bytes([byte]) * 32 for byte in (1, 2))
    fixed = Baseline(bank="sha256", samples=1, histories={0: ((one,),)})
    varied = Baseline(bank="sha256", samples=2, model="X", histories={0: ((one,),), 1: ((one, one), (one, other))})
    assert "observed on one machine, bank sha256: PCR 0" in baseline_page(fixed).to_text()
    assert "no register varies between the samples" in baseline_page(fixed).to_text()
    text = baseline_page(varied).to_text()
    assert "observed on 2 machines of model X" in text
    assert "PCR 1 varies: 2 histories, apart from its event 1 on" in text
    assert "no register varies" not in text


FIRST, SECOND = (
    IdentifiedRelease(name=f"flatcar-{number}", release=number, channel="stable", arch="amd64", version=int(number))
    for number in ("4230", "4459")
)


def program(event: int, *releases: IdentifiedRelease) -> IdentifiedProgram:
    return IdentifiedProgram(role="kernel", pcr=9, event=event, digest=bytes([event]) * 32, releases=releases)


IDENTIFIED: dict[str, tuple[tuple[IdentifiedProgram, ...], str]] = {
    "one release": ((program(1, FIRST, SECOND), program(2, FIRST)), "flatcar-4230, release 4230"),
    "updated": ((program(1, FIRST), program(2, SECOND)), "programs of several releases"),
    "in both": ((program(1, FIRST, SECOND),), "several releases have all that was recognised"),
    "in none": ((), "nothing was recognised"),
}


@pytest.mark.parametrize("name", IDENTIFIED)
def test_what_a_log_shows_is_said_in_the_first_line(name: str) -> None:
    programs, said = IDENTIFIED[name]
    unknown = (UnknownProgram(pcr=4, event=7, digest=b"\xab" * 32),)
    for slot, paths in ((None, ()), ("b", ("slot b, later boot",))):
        found = Identification(bank="sha256", programs=programs, unknown=unknown, boot_paths=paths, slot=slot)
        lines = identification_page(found).to_text().splitlines()
        assert lines[0] == said
        assert ("slot b" in lines, "boot path: slot b, later boot" in lines) == (slot == "b", bool(paths))
        assert f"event 7, PCR 4: in no manifest: {'ab' * 32}" in lines
        assert lines[-1] == "A log alone proves nothing: this recognises, verify vouches."
        assert any("flatcar-4" in line for line in lines[1:]) == bool(programs)


def test_a_boot_that_cannot_be_computed_says_why_and_shows_no_empty_table() -> None:
    boot = predict(manifest())[0]
    bare = attrs.evolve(boot, pcrs={}, events=(), unknown={4: "no firmware was given"})
    text = boot_page(bare).to_text()
    assert "unknown: PCR 4: no firmware was given" in text
    assert "\nregister" not in text
    assert "\nregister" in boot_page(boot).to_text()


def test_a_short_digest_is_shown_whole_and_a_long_one_on_hover() -> None:
    assert Seen(digest(b"\xab\xcd")).text == "abcd"
    assert "title" not in Seen(digest(b"\xab\xcd")).attributes
    long = digest(bytes(range(32)))
    assert Seen(long).text.endswith("…")
    assert f'title="{bytes(range(32)).hex()}"' in long


def test_a_log_of_very_many_registers_has_a_summary_that_says_what_it_leaves_out() -> None:
    good = good_log()
    text = b'"<&' * 100
    events = tuple(replace(SEPARATOR, pcr=number % 24, type=5, data=text) for number in range(24 * 60))
    log = EventLog.from_bytes(replace(good, events=events).put_together())
    page = log_html(log)
    assert len(page.encode()) < 1_000_000
    assert "Further registers are left out for their size." in Seen(page).text


def test_all_places_of_two_histories_are_shown_when_asked_for() -> None:
    log = EventLog.from_bytes(GOOD)
    found = diff(log, log)
    lines = diff_page(found, same=True).to_text().splitlines()
    assert len([line for line in lines if ": same: " in line]) == len(found.rows) > 0
    assert "same" not in diff_page(found).to_text()
