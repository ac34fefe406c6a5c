"""Nothing from a log reaches a terminal that acts upon it."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.attacks.forge import ForgedLog
from measlog.cli.output import emit
from measlog.view.escape import escape
from measlog.view.grid import Grid, Span, span
from measlog.view.render import Page
from tests.cli.command import Runner
from tests.cli.conftest import measlog

__all__ = ["measlog"]

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07\x1b[31mred",
    "\x9b31m C1",
    "\r overwritten\b\b\n second line\v\f\x7f\x00",
    "\u202e reversed \u2066\u2069\u200f\u061c",
    "\u2028\u2029\u0085 line ends",
    "\u200b\ufeff\u00ad invisible",
    "\udc80\udcff bytes \ud800",
    "[bold red]markup[/] [link=x]y[/link] :warning: [/nothing",
)


def harmless(text: str) -> bool:
    """Whether a terminal shows the text and does nothing else; from Unicode's categories, not the library's rule."""
    return not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)


@given(st.text(st.characters()))
def test_whatever_is_escaped_is_harmless(text: str) -> None:
    assert harmless(escape(text))


@given(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\\")))
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("\\EFI\\BOOT\\BOOTX64.EFI", "\\EFI\\BOOT\\BOOTX64.EFI"),
        ("\\x1b", "\\\\x1b"),
        ("\x1b[0m", "\\x1b[0m"),
        ("a\nb\tc", "a\\x0ab\\x09c"),
        ("\x9b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("\U000e0001", "\\U000e0001"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("Müller 木", "Müller 木"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.fixture(params=range(len(HOSTILE)))
def hostile_log(request: pytest.FixtureRequest, fixtures: Path, tmp_path: Path) -> Path:
    """A log that says something hostile in every text of the registers 8, 9 and 14."""
    log = ForgedLog.take_apart((fixtures / "flatcar-lab-good" / "binary_bios_measurements").read_bytes())
    text = HOSTILE[request.param].encode("utf-8", "surrogatepass")
    changed = [
        type(e)(e.pcr, e.type, e.digests, e.data.rstrip(b"\0") + text + b"\0") if e.pcr in {8, 9, 14} else e
        for e in log.events
    ]
    path = tmp_path / "hostile.log"
    path.write_bytes(log.with_events(changed).put_together())
    return path


def test_a_hostile_log_is_shown_harmlessly(measlog: Runner, hostile_log: Path) -> None:
    for words in (("show",), ("show", "--json"), ("replay",), ("replay", "--json")):
        done = measlog(words[0], hostile_log, *words[1:])
        assert done.status == 0
        assert harmless(done.out.replace("\n", ""))
    document = measlog("show", hostile_log, "--json").document
    assert sum(e["pcr"] in {8, 9, 14} for e in document["events"]) > 20
    # As many lines as without: no text starts a line of its own.
    good = ForgedLog.take_apart(hostile_log.read_bytes())
    rows = [line for line in measlog("show", hostile_log).out.splitlines() if "EV_" in line]
    assert len(rows) == len(good.events) + 1


class Terminal(io.StringIO):
    """Standard output that is a terminal, as far as anybody asks."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_are_no_escapes_but_those_of_the_styles(
    monkeypatch: pytest.MonkeyPatch,
    hostile_log: Path,
    measlog: Runner,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "10000")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert measlog("show", hostile_log).status == 0
    text = terminal.getvalue()
    assert harmless(text.replace("\n", ""))
    assert sum("EV_IPL" in line for line in text.splitlines()) > 20


def test_markup_is_shown_and_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    markup = "[bold]x[/bold] :warning: [/]"
    emit(Page(parts=(span(markup), Grid(columns=("a", "[b]"), rows=((span(markup), (Span(markup),)),)))))
    assert terminal.getvalue().count(markup) == 3
    assert "[b]" in terminal.getvalue()


def test_a_message_about_a_hostile_file_name_is_one_line(measlog: Runner, tmp_path: Path) -> None:
    done = measlog("show", tmp_path / "a\nb\x1b[31m\u202e[bold]")
    assert done.status == 3
    assert done.err.count("\n") == 1
    assert "a\\x0ab\\x1b[31m\\u202e[bold]" in done.err
    assert harmless(done.err.rstrip("\n"))
