"""The report as a document: what stands where, what its policy admits, and that no log gets markup into it.

What a browser does with it is tested in test_browser.py.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections import Counter

import attrs
import pytest
from attrs import evolve

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal.closest import closest_boot
from measlog.codes import CODES
from measlog.flatcar.boot import predict
from measlog.replay.quirks import QUIRKS
from measlog.view.report import report_page
from tests.appraisal.machine import good_log, machine
from tests.view.hostile import MARK, PAYLOADS, Seen
from tests.view.reports import NAMES, page_of, report_of
from tests.view.test_notebook import big_log, log_of, manifest
from tests.work import calls


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_well_formed_and_refers_to_itself_alone(name: str) -> None:
    page = page_of(name)
    seen = Seen(page)
    assert seen.open == []
    assert seen.comments == []
    assert not seen.tags & {
        "img",
        "svg",
        "link",
        "base",
        "iframe",
        "object",
        "embed",
        "form",
        "video",
        "audio",
        "source",
    }
    assert not {a for a in seen.attributes if a.startswith("on") or a in {"src", "style", "srcset", "action", "ping"}}
    assert page.count("<script") == page.count("</script") == 1
    assert page.count("<style") == page.count("</style") == 1
    ids = Counter(seen.ids)
    assert ids.most_common(1)[0][1] == 1, "an id is there twice"
    assert all(link.startswith("#") and link[1:] in ids for link in seen.links), seen.links
    assert page.encode("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_policy_admits_the_one_script_and_the_one_style_sheet(name: str) -> None:
    page = page_of(name)
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found is not None
    policy = dict(part.split(" ", 1) for part in found[1].replace("&#x27;", "'").split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for tag in ("script", "style"):
        source = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert source is not None
        digest = b64encode(hashlib.sha256(source[1].encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert found.start() < page.index("<style"), "a policy binds what comes after it"


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_comes_first_and_everything_else_in_its_order(name: str) -> None:
    seen = Seen(page_of(name))
    order = ["verdict", "why", "checked", "not-checked", "registers", "events", "difference", "raw", "reproduce"]
    assert [i for i in seen.ids if i in order] == order


@pytest.mark.parametrize(
    ("name", "word"), [("good", "affirming"), ("tampered", "contraindicated"), ("hostile", "contraindicated")]
)
def test_the_verdict_is_the_appraisals(name: str, word: str) -> None:
    assert f"<strong>{word}</strong>" in page_of(name)


def test_a_finding_is_explained_and_leads_to_its_event() -> None:
    page, result = page_of("tampered"), report_of("tampered").result
    assert result is not None
    seen = Seen(page)
    for finding in result.findings:
        assert finding.code in seen.text
        assert CODES[finding.code] in seen.text
        if finding.event is not None:
            assert f"#event-{finding.event}" in seen.links
    # fixtures/flatcar-lab-tampered/ORIGIN.md: init=/bin/sh was added.
    assert '<strong class="m-gone">init=/bin/sh</strong>' in page


def test_what_was_not_checked_is_said_with_its_reason() -> None:
    result = report_of("good").result
    assert result is not None
    text = Seen(page_of("good")).text
    part = text[text.index("What was not checked", text.index("What was compared")) :]
    for missing in result.not_covered:
        assert missing.reason in part


def test_evidence_that_is_not_authentic_gives_no_value_any_credit() -> None:
    text = Seen(page_of("not-authentic")).text
    assert "not authentic" in text
    assert "the quote answers another nonce" in text
    assert "No quote vouches for this log" in text
    assert "affirming" not in text
    assert "No register value is proven" in text


@pytest.mark.parametrize("name", ["good", "tampered", "hostile"])
def test_each_event_has_a_row_with_all_of_its_bytes(name: str) -> None:
    page, log = page_of(name), report_of(name).log
    assert [i for i in Seen(page).ids if i.startswith("event-") and i != "event-table"] == [
        f"event-{i}" for i in range(len(log))
    ]
    for event in log:
        assert event.raw[:4096].hex() in page
        assert all(d.hex() in page for d in event.digests.values())


def test_raw_values_are_there_for_copying() -> None:
    page, report = page_of("good"), report_of("good")
    assert report.evidence is not None
    for value in (report.quote.attest, report.quote.signature, report.quote.nonce, *report.evidence.values.values()):
        assert value.hex() in page
    block = re.search(r'id="raw-log"[^>]*>([^<]*)<', page)
    assert block is not None
    assert b64decode(block[1]) == report.log.to_bytes()


def test_hostile_text_is_shown_as_text() -> None:
    text = Seen(page_of("hostile")).text
    for payload in PAYLOADS[:10]:
        assert payload in text
    assert text.count(MARK) > 100
    assert not re.search("[\u202e\u200b\x1b\x07]", page_of("hostile"))


@pytest.mark.parametrize(
    ("name", "slot", "first_boot", "secure_boot"),
    [
        # As ORIGIN.md of each capture says.
        ("flatcar-lab-good", "a", True, True),
        ("flatcar-lab-tampered", "a", True, True),
        ("slot-b", "b", False, True),
        ("later-boot", "a", False, True),
    ],
)
def test_the_closest_boot_is_the_one_that_was_made(name: str, slot: str, first_boot: bool, secure_boot: bool) -> None:
    boot = closest_boot(log_of(name), predict(manifest()))
    assert boot is not None
    assert (boot.slot, boot.first_boot, boot.secure_boot) == (slot, first_boot, secure_boot)


def test_there_is_no_closest_boot_of_none() -> None:
    assert closest_boot(log_of("flatcar-lab-good"), []) is None
    assert closest_boot(log_of("flatcar-lab-good"), predict(manifest()), bank="sm3_256") is None


def test_a_bank_that_the_log_lacks_is_said_and_not_made_up() -> None:
    page = report_page(evolve(report_of("not-authentic"), bank="sm3_256"))
    assert "has no digests of the bank sm3_256" in page


@pytest.mark.parametrize("text", [b"some setting of a variable", b'"<&' * 100], ids=["plain", "escaped"])
def test_the_work_for_a_report_grows_with_its_events(text: bytes) -> None:
    """How long it takes: ``benchmarks/view.py``."""
    small, large = (evolve(report_of("not-authentic"), log=big_log(events, text)) for events in (250, 1000))
    assert report_page(large).count("<tr") > 1000
    assert calls(lambda: report_page(large)) < 8 * calls(lambda: report_page(small))


@pytest.mark.parametrize("quoted", [range(15), range(8), None], ids=["all", "firmware-only", "not-authentic"])
def test_a_field_is_authenticated_only_where_the_quote_covers_its_register(quoted: range | None) -> None:
    if quoted is None:
        report = report_of("not-authentic")
    else:
        evidence = machine(good_log(), quoted=quoted)
        report = evolve(report_of("good"), evidence=evidence, log=evidence.log)
    page = report_page(report)
    for event in report.log:
        row = page[page.index(f'id="event-{event.index}"') :].partition("</tr>")[0]
        proven = quoted is not None and event.pcr in quoted
        assert ("(authenticated)" in row) == (proven and "authenticated" in trusts(event)), event
        assert ('class="m-trusted"' not in row) or proven


def trusts(event: ml.Event) -> set[str]:
    names = [name for name in attrs.fields(type(event.data)) if name.name not in {"spans", "trailing"}]
    return {event.trust(name.name, "sha256") for name in names}


def test_anomalies_of_the_log_stand_before_its_events() -> None:
    good = good_log()
    # PFP 1.06, 10.4.5.3: there is no locality 9.
    zero = {alg: bytes(len(digest)) for alg, digest in good.events[0].digests.items()}
    bad = ForgedEvent(0, 3, zero, b"StartupLocality\0\x09")
    log = ml.EventLog.from_bytes(good.with_events([bad, *good.events]).put_together())
    page = report_page(evolve(report_of("not-authentic"), log=log))
    assert "event.startup-locality" in page[page.index('id="events"') : page.index('id="event-table"')]
    assert 'href="#event-1"' in page


def test_the_quirks_that_a_verdict_rests_on_are_named() -> None:
    report = report_of("good")
    assert report.result is not None
    page = report_page(evolve(report, result=evolve(report.result, quirks=("Q1", "Q999"))))
    assert QUIRKS["Q1"].title in Seen(page).text
    assert "Q999" in page


def test_what_nothing_covers_is_marked_in_the_row() -> None:
    page = page_of("good")
    row = page[page.index('id="event-0"') :].partition("</tr>")[0]
    assert "~Spec ID Event03" in row, "the Spec ID event extends nothing"
