"""Reports and notebook summaries in a real browser: they render, work by keyboard, execute nothing and load nothing.

Needs Debian's chromium and the extra ``browser``. Pictures of every page go to the folder that
``MEASLOG_SCREENSHOTS`` names, else to a temporary one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen

from tests.view.hostile import MARK, hostile_eventlog
from tests.view.reports import NAMES, page_of, report_of
from tests.view.test_notebook import HELD

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
# The browser is to draw pages and to talk to nobody.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists() and not os.environ.get("MEASLOG_REQUIRE_BROWSER"):
        pytest.skip(f"needs {CHROMIUM}")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@frozen
class Opened:
    """A page and what it did while it was open."""

    page: Page
    requests: list[str]
    complaints: list[str]

    def check(self, url: str) -> None:
        """Nothing was asked for but the page itself, and nothing was complained about."""
        assert self.requests == [url]
        assert self.complaints == []
        assert self.page.title() != MARK


Opener = Callable[..., Opened]


@pytest.fixture
def opener(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    contexts: list[BrowserContext] = []

    def open_page(text: str, **options: Any) -> Opened:
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        opened = Opened(page=page, requests=[], complaints=[])
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("console", lambda message: opened.complaints.append(message.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("dialog", lambda dialog: opened.complaints.append(dialog.message))
        page.goto(path.as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = os.environ.get("MEASLOG_SCREENSHOTS")
    path = Path(folder) if folder else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_renders_executes_nothing_and_asks_for_nothing(
    opener: Opener, pictures: Path, name: str, scheme: str
) -> None:
    opened = opener(page_of(name), color_scheme=scheme)
    page = opened.page
    assert page.title() != MARK
    assert page.locator("#event-table tbody tr").count() == len(report_of(name).log)
    assert (
        page.locator("#filter-count").inner_text() == f"{len(report_of(name).log)} of {len(report_of(name).log)} events"
    )
    for item in page.locator("details").all()[:20]:
        item.evaluate("item => { item.open = true }")
    page.screenshot(path=pictures / f"report-{name}-{scheme}.png")
    if name == "tampered":
        page.screenshot(path=pictures / f"report-{name}-{scheme}-full.png", full_page=True)
    opened.check(page.url)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize(("name", "scheme"), [*((name, "light") for name in NAMES), ("tampered", "dark")])
def test_axe_finds_no_serious_fault_in_a_report(opener: Opener, name: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # axe is a script: it runs where the page's policy is not asked.
    opened = opener(page_of(name), color_scheme=scheme, bypass_csp=True)
    found = axe.run(opened.page).response
    faults = [
        (v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in found["violations"] if v["impact"] in SERIOUS
    ]
    assert faults == []
    assert len(found["passes"]) > 15


def test_filters_work_by_keyboard_alone(opener: Opener) -> None:
    page = opener(page_of("tampered")).page
    log = report_of("tampered").log
    rows = page.locator("#event-table tbody tr:visible")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "filter-register":
            break
    assert page.evaluate("document.activeElement.id") == "filter-register"
    page.keyboard.type("PCR 8")
    assert rows.count() == sum(event.pcr == 8 for event in log)
    assert page.locator("#filter-count").inner_text() == f"{rows.count()} of {len(log)} events"
    page.keyboard.press("Tab")  # type
    page.keyboard.press("Tab")  # digest
    page.keyboard.press("Tab")  # finding
    page.keyboard.type("with a finding")
    result = report_of("tampered").result
    assert result is not None
    concerned = {f.event for f in result.findings if f.event is not None and log[f.event].pcr == 8}
    assert rows.count() == len(concerned) > 0
    page.keyboard.press("Tab")
    page.keyboard.type("LINUX_APPEND")
    assert rows.count() == 1
    assert "init=/bin/sh" in rows.first.inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert rows.count() == len(log)


@pytest.mark.parametrize(
    ("control", "value", "fits"),
    [
        ("type", "EV_SEPARATOR", lambda e: e.type.name == "EV_SEPARATOR"),
        ("check", "matches", lambda e: e.check("sha256").status == "matches"),
        ("text", "bin/sh", None),
        ("text", "no such text anywhere", lambda _: False),
    ],
)
def test_each_filter_shows_what_fits(
    opener: Opener, control: str, value: str, fits: Callable[[Any], bool] | None
) -> None:
    page = opener(page_of("tampered")).page
    place = page.locator(f"#filter-{control}")
    if control == "text":
        place.fill(value)
    else:
        place.select_option(value)
    shown = page.locator("#event-table tbody tr:visible")
    if fits is None:
        assert shown.count() == page.locator("#event-table tbody tr", has_text=value).count() > 0
    else:
        assert shown.count() == sum(map(fits, report_of("tampered").log))


def test_a_link_to_a_hidden_event_shows_it(opener: Opener) -> None:
    page = opener(page_of("tampered")).page
    result = report_of("tampered").result
    assert result is not None
    number = next(f.event for f in result.findings if f.pcr == 8 and f.event is not None)
    page.locator("#filter-register").select_option("PCR 0")
    assert not page.locator(f"#event-{number}").is_visible()
    page.locator(f"#why a[href='#event-{number}']").first.click()
    page.wait_for_function(f"!document.getElementById('event-{number}').hidden")
    assert page.locator(f"#event-{number}").is_visible()


def test_the_first_tab_stop_leads_past_the_contents(opener: Opener) -> None:
    page = opener(page_of("good")).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    page.keyboard.press("Enter")
    page.wait_for_url("**#verdict")
    assert page.evaluate("document.querySelector(':target').id") == "verdict"


def test_a_value_is_copied_by_its_button(opener: Opener) -> None:
    opened = opener(page_of("good"), permissions=["clipboard-read", "clipboard-write"])
    page = opened.page
    page.get_by_role("button", name="Copy nonce").click()
    page.wait_for_function("document.getElementById('copied').textContent !== ''")
    assert page.evaluate("navigator.clipboard.readText()") == report_of("good").quote.nonce.hex()


def test_without_its_script_a_report_shows_everything_but_the_filters(opener: Opener) -> None:
    page = opener(page_of("tampered"), java_script_enabled=False).page
    assert page.locator("#event-table tbody tr").count() == len(report_of("tampered").log)
    assert not page.locator("#filters").is_visible()
    assert not page.get_by_role("button", name="Copy nonce").is_visible()


def test_a_report_prints_without_its_controls(opener: Opener, pictures: Path) -> None:
    page = opener(page_of("tampered"), color_scheme="dark").page
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.pdf(path=pictures / "report-tampered.pdf")
    assert (pictures / "report-tampered.pdf").stat().st_size > 10_000


def test_a_narrow_window_does_not_scroll_sideways(opener: Opener, pictures: Path) -> None:
    page = opener(page_of("tampered")).page
    page.set_viewport_size({"width": 400, "height": 800})
    page.screenshot(path=pictures / "report-tampered-narrow.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_policy_stops_a_script_that_got_in_all_the_same(opener: Opener) -> None:
    broken = page_of("good").replace("</main>", f"<script>document.title='{MARK}'</script></main>")
    opened = opener(broken)
    assert opened.page.title() != MARK
    assert any("Content Security Policy" in line for line in opened.complaints)


@pytest.mark.parametrize(("name", "scheme"), [*((name, "light") for name in HELD), ("log", "dark"), ("result", "dark")])
def test_a_summary_renders_and_executes_nothing(opener: Opener, pictures: Path, name: str, scheme: str) -> None:
    # No policy here: a notebook has none.
    summary = HELD[name]()._repr_html_()  # type: ignore[attr-defined]
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>x</title><body><main>{summary}</main>"
    opened = opener(page, color_scheme=scheme)
    for item in opened.page.locator("details").all():
        item.evaluate("item => { item.open = true }")
    opened.page.screenshot(path=pictures / f"summary-{name}-{scheme}.png")
    opened.check(opened.page.url)
    assert opened.page.title() == "x"


def test_axe_finds_no_serious_fault_in_a_summary(opener: Opener) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    summary = hostile_eventlog()._repr_html_()
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>x</title><body><main><h1>x</h1>{summary}</main>"
    opened = opener(page)
    for item in opened.page.locator("details").all():
        item.evaluate("item => { item.open = true }")
    found = axe.run(opened.page).response
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found["violations"] if v["impact"] in SERIOUS] == []
