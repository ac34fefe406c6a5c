"""``measlog report``: what verify says, on a page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.command import Runner
from tests.conftest import FIXTURES
from tests.view.hostile import Seen

KEY = FIXTURES / "lab" / "keys" / "manifest.pub"
MANIFEST = FIXTURES / "flatcar-lab-good" / "manifest.dsse.json"


@pytest.fixture
def measlog(capsys: pytest.CaptureFixture[str]) -> Runner:
    """The ``measlog`` command."""
    return Runner(capsys)


def words(name: str, nonce: str | None = None) -> list[str | Path]:
    folder = FIXTURES / name
    sent = (folder / "nonce.txt").read_text().strip()
    return [folder, "--nonce", nonce or sent, "--manifest", MANIFEST, "--manifest-key", KEY]


@pytest.mark.parametrize(
    ("name", "status", "word"), [("flatcar-lab-good", 0, "affirming"), ("flatcar-lab-tampered", 1, "contraindicated")]
)
def test_it_writes_the_verdict_and_has_verifys_status(
    measlog: Runner, tmp_path: Path, name: str, status: int, word: str
) -> None:
    page = tmp_path / "page.html"
    made = measlog("report", *words(name), "-o", page)
    assert (made.status, made.err) == (status, "")
    assert made.out == f"{page}: {word}\n"
    assert measlog("verify", *words(name)).status == status
    assert f"<strong>{word}</strong>" in page.read_text()
    assert Seen(page.read_text()).open == []


def test_the_command_line_on_the_page_gives_the_same_verdict(measlog: Runner, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    measlog("report", *words("flatcar-lab-tampered"), "--bank", "sha256", "--min-version", "1", "-o", page)
    shown = re.search(r'id="raw-command"[^>]*>(.*?)</pre>', page.read_text(), re.DOTALL)
    assert shown is not None
    line = shlex.split(Seen(shown[1]).text)
    assert line[:2] == ["measlog", "verify"]
    assert measlog(*line[1:]).out == measlog("verify", *words("flatcar-lab-tampered"), "--min-version", "1").out


def test_the_command_line_on_the_page_says_what_was_not_verified(measlog: Runner, tmp_path: Path) -> None:
    # It names the files one by one where they were given so, and the option that looks wrong where it was used.
    folder, page = FIXTURES / "flatcar-lab-good", tmp_path / "page.html"
    names = {"log": "binary_bios_measurements", "quote": "quote.msg", "signature": "quote.sig", "ak": "ak.pub"}
    files = [word for option, name in names.items() for word in (f"--{option}", folder / name)]
    given = [*files, "--nonce", (folder / "nonce.txt").read_text().strip(), "--manifest", MANIFEST]
    made = measlog("report", *given, "--unsafe-unsigned-manifest", "-o", page)
    assert (made.status, made.err) == (0, "")
    shown = re.search(r'id="raw-command"[^>]*>(.*?)</pre>', page.read_text(), re.DOTALL)
    assert shown is not None
    line = shlex.split(Seen(shown[1]).text)
    assert line[:4] == ["measlog", "verify", "--log", str(folder / "binary_bios_measurements")]
    assert "--unsafe-unsigned-manifest" in line
    assert measlog(*line[1:]).status == 0


def test_evidence_that_is_not_authentic_gets_a_page_that_says_so(measlog: Runner, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    made = measlog("report", *words("flatcar-lab-good", nonce="00"), "-o", page)
    assert made.status == 3
    assert made.out == ""
    assert "answers the nonce" in made.err
    text = Seen(page.read_text()).text
    assert "not authentic" in text
    assert "answers the nonce" in text


def test_it_takes_what_verify_takes() -> None:
    from measlog.cli.report import report
    from measlog.cli.verify import verify

    assert {p.name for p in verify.params} - {"as_json"} == {p.name for p in report.params} - {"output", "title"}


def test_a_page_that_cannot_be_written_is_named(measlog: Runner, tmp_path: Path) -> None:
    made = measlog("report", *words("flatcar-lab-good"), "-o", tmp_path / "no" / "page.html")
    assert made.status == 3
    assert "no/page.html" in made.err


def test_a_hostile_title_is_text(measlog: Runner, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    measlog("report", *words("flatcar-lab-good"), "--title", "</title><script>x</script>", "-o", page)
    assert page.read_text().count("<script") == 1
