"""Summaries for notebooks, and what users hold as text: complete where it matters, harmless, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal.diff import diff
from measlog.appraisal.policy import flatcar
from measlog.flatcar.boot import predict
from measlog.reference.manifest import ReferenceManifest
from measlog.reference.signing import Envelope
from measlog.testing.logs import event_logs
from measlog.view.sides import marked
from tests.appraisal.machine import good_log, machine
from tests.conftest import FIXTURES
from tests.view.hostile import MARK, Seen, hostile_eventlog, hostile_log
from tests.work import calls

TAGS = {"style", "div", "span", "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td", "code"}
TAGS |= {"bdi", "strong", "p", "dl", "dt", "dd", "ul", "li"}
ATTRIBUTES = {"class", "title", "open", "scope"}


@cache
def manifest() -> ReferenceManifest:
    data = (FIXTURES / "flatcar-lab-tampered" / "manifest.dsse.json").read_bytes()
    return ReferenceManifest.from_json(Envelope.from_bytes(data).payload)


def log_of(name: str) -> ml.EventLog:
    return ml.EventLog.from_bytes((FIXTURES / name / "binary_bios_measurements").read_bytes())


@cache
def hostile_result() -> ml.AppraisalResult:
    verifier = ml.Verifier([manifest()], policy=flatcar(secure_boot=True), unsafe_unsigned_manifests=True)
    return verifier.appraise(machine(hostile_log()))


HELD: dict[str, Callable[[], object]] = {
    "log": lambda: log_of("flatcar-lab-tampered"),
    "hostile-log": hostile_eventlog,
    "quote": lambda: ml.Quote.from_bytes(
        (FIXTURES / "flatcar-lab-good" / "quote.msg").read_bytes(),
        (FIXTURES / "flatcar-lab-good" / "quote.sig").read_bytes(),
    ),
    "result": hostile_result,
    "manifest": manifest,
    "boot": lambda: predict(manifest())[0],
    "diff-with-boot": lambda: diff(log_of("flatcar-lab-tampered"), predict(manifest())[0]),
    "diff-with-hostile": lambda: diff(log_of("flatcar-lab-good"), hostile_eventlog()),
    "no-difference": lambda: diff(log_of("flatcar-lab-good"), log_of("flatcar-lab-good")),
}


@pytest.mark.parametrize("name", HELD)
def test_a_summary_holds_no_markup_but_its_own(name: str) -> None:
    page = HELD[name]()._repr_html_()  # type: ignore[attr-defined]
    seen = Seen(page)
    assert seen.open == []
    assert seen.tags <= TAGS
    assert seen.attributes <= ATTRIBUTES
    assert seen.links == set()
    assert seen.comments == []
    assert len(page) < 1_000_000
    assert page.encode("utf-8")


@pytest.mark.parametrize("name", HELD)
def test_text_for_terminals_is_printable_and_repr_is_one_line(name: str) -> None:
    held = HELD[name]()
    assert all(line.isprintable() for line in str(held).split("\n"))
    assert repr(held).isprintable()
    assert len(repr(held)) < 300
    assert str(held) != repr(held)


def test_a_log_shows_each_register_and_each_event() -> None:
    log = log_of("flatcar-lab-tampered")
    text = Seen(log._repr_html_()).text
    for register in {event.register for event in log}:
        assert str(register) in text
    assert "~/flatcar/vmlinuz-a" in text, "a file name is covered by no digest"
    assert "init=/bin/sh" in text
    assert (str(log).count("\n")) >= len(log)


def test_hostile_text_is_shown_and_not_swallowed() -> None:
    assert MARK in Seen(hostile_eventlog()._repr_html_()).text
    assert MARK in Seen(hostile_result()._repr_html_()).text


def test_a_verdict_shows_its_findings_first() -> None:
    result = hostile_result()
    assert result.status == "contraindicated"
    text = Seen(result._repr_html_()).text
    assert 0 < text.index("contraindicated") < text.index(result.findings[0].code) < text.index("not covered")


def test_what_has_the_same_text_is_told_apart_by_its_digest() -> None:
    good = good_log()
    place = next(i for i, e in enumerate(good.events) if e.pcr == 9)
    other = good.events[place].rehashed(b"another kernel")
    events = (*good.events[:place], other, *good.events[place + 1 :])
    changed = ml.EventLog.from_bytes(replace(good, events=events).put_together())
    found = diff(log_of("flatcar-lab-good"), changed)
    for digest in (good.events[place].digests[11], other.digests[11]):
        assert digest.hex() in str(found)
        assert digest.hex() in found._repr_html_()


def big_log(count: int, text: bytes) -> ml.EventLog:
    good = good_log()
    made = [
        ForgedEvent(8 + i % 2, 0x0D, good.events[-1].digests, b"grub_cmd: set v%d=" % i + text + b"\0").rehashed(text)
        for i in range(count - len(good.events) - 1)
    ]
    return ml.EventLog.from_bytes(replace(good, events=(*good.events, *made)).put_together())


@pytest.mark.parametrize("text", [b"some setting of a variable", b'"<&' * 100], ids=["plain", "escaped"])
def test_a_summary_of_5000_events_is_small(text: bytes) -> None:
    log = big_log(5000, text)
    assert len(log) == 5000
    page = log._repr_html_()
    assert len(page.encode()) < 1_000_000
    assert "more: log.to_pandas()" in page


@pytest.mark.parametrize("text", [b"some setting of a variable", b'"<&' * 100], ids=["plain", "escaped"])
def test_the_work_for_a_summary_grows_with_its_events(text: bytes) -> None:
    """How long it takes: ``benchmarks/view.py``."""
    small, large = (calls(big_log(events, text)._repr_html_) for events in (500, 2000))
    assert large < 8 * small


def test_a_log_that_cannot_be_replayed_says_so() -> None:
    good = good_log()
    # PFP 1.06, 10.4.5.3: locality 9 does not exist.
    bad = ForgedEvent(0, 3, {alg: bytes(len(d)) for alg, d in good.events[0].digests.items()}, b"StartupLocality\0\x09")
    log = ml.EventLog.from_bytes(replace(good, events=(bad, *good.events)).put_together())
    text = Seen(log._repr_html_()).text
    assert "cannot be replayed" in text
    assert "event.startup-locality" in text


def test_the_words_that_differ_are_marked_however_long_the_line_is() -> None:
    page = diff(log_of("flatcar-lab-tampered"), predict(manifest())[0])._repr_html_()
    # fixtures/flatcar-lab-tampered/ORIGIN.md: grub.cfg on the OEM partition adds init=/bin/sh.
    # It is in a command of GRUB and in the command line that the kernel was given, at least.
    assert page.count('<strong class="m-gone">init=/bin/sh</strong>') >= 2


@settings(max_examples=25)
@given(event_logs())
def test_every_log_has_a_well_formed_summary(data: bytes) -> None:
    seen = Seen(ml.EventLog.from_bytes(data)._repr_html_())
    assert seen.open == []
    assert seen.tags <= TAGS


_words = st.lists(st.sampled_from(["a", "b", "init=/bin/sh", "<b>", ""]), max_size=90).map(" ".join)


@given(_words, _words)
def test_marking_hides_and_adds_nothing(left: str, right: str) -> None:
    gone, come = marked(left, right)
    assert Seen(gone).text == left
    assert Seen(come).text == right
    assert ("<strong" in gone + come) == (left != right)


def test_only_what_differs_is_marked() -> None:
    gone, come = marked("linux a b init=/bin/sh c", "linux a x c")
    assert gone == 'linux a <strong class="m-gone">b init=/bin/sh</strong> c'
    assert come == 'linux a <strong class="m-come">x</strong> c'
    assert marked("same", "same") == ("same", "same")


def test_marking_hostile_texts_is_cheap() -> None:
    left, right = " ".join("ab"[i % 2] for i in range(2000)), " ".join("ba"[i % 3 % 2] for i in range(2000))
    short = calls(lambda: marked(left[:1000], right[:1000]))
    assert calls(lambda: marked(left, right)) < 8 * short
