"""The README: its commands have the form that the gate runs, and do what they say. tests/docs runs its example."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import blocks

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def dev() -> Any:
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_two_commands_are_one_line_each() -> None:
    commands = [block.text.strip() for block in blocks(README) if block.language == "sh"][:2]
    assert len(commands) == 2
    for command in commands:
        assert "\n" not in command
        program, script, *_ = shlex.split(command)
        assert program == "python3"
        assert (ROOT / script).is_file()


def test_links_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)


def test_each_command_is_documented() -> None:
    from measlog.cli import app

    text = (ROOT / "docs" / "commands.md").read_text()
    for name in app.cli.lazy:
        assert f"## `measlog {name} " in text
        assert f"`measlog {name}" in README


def test_verify_knows_what_to_expect(dev: Any, capfd: pytest.CaptureFixture[str]) -> None:
    dev.VENV = Path(sys.prefix)
    assert dev.verify() == 0
    out = capfd.readouterr().out
    assert "flatcar-lab-good: affirming" in out
    assert "flatcar-lab-tampered: contraindicated" in out
    assert "init=/bin/sh" in out
    dev.GOOD, dev.TAMPERED = dev.TAMPERED, dev.GOOD
    assert dev.verify() == 1
    assert "BUT EXPECTED affirming" in capfd.readouterr().out


def test_verify_without_a_capture_is_a_failure(dev: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dev.VENV = Path(sys.prefix)
    dev.GOOD = tmp_path / "nothing"
    assert dev.verify() == 1
    assert "no verdict" in capfd.readouterr().out


def test_an_environment_is_made_once_and_anew_when_it_is_half_made(
    dev: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("one")
    dev.ROOT, dev.VENV = tmp_path, tmp_path / ".venv"
    dev.PYTHON, dev.BEGUN, dev.READY = (dev.VENV / n for n in ("bin/python", "measlog-begun", "measlog-ready"))
    steps: list[str] = []

    def run(command: list[str], problem: str) -> None:
        steps.append(command[2])
        if command[2] == "venv":
            dev.PYTHON.parent.mkdir()
            dev.PYTHON.touch()
        elif interrupted:
            raise KeyboardInterrupt(problem)

    monkeypatch.setattr(dev, "run", run)
    monkeypatch.setattr(dev, "works", dev.PYTHON.exists)
    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        dev.set_up()
    interrupted = False
    (dev.VENV / "half").touch()
    dev.set_up()
    assert steps == ["venv", "pip", "venv", "pip"]
    assert not (dev.VENV / "half").exists()
    dev.set_up()
    assert len(steps) == 4
    (tmp_path / "pyproject.toml").write_text("two")
    dev.set_up()
    assert steps[4:] == ["pip"]
    # What is compiled is compiled anew where only it changed.
    (tmp_path / "src" / "measlog").mkdir(parents=True)
    (tmp_path / "src" / "measlog" / "_lanes.c").write_text("int x;")
    dev.set_up()
    dev.set_up()
    assert steps[5:] == ["pip"]
    assert all((ROOT / name).is_file() for name in dev.MADE_FROM)
    dev.PYTHON.unlink()
    dev.set_up()
    assert steps[6:] == ["venv", "pip"]


def test_wrong_usage_of_the_script() -> None:
    for words in ([], ["nonsense"], ["verify", "more"]):
        done = subprocess.run([sys.executable, ROOT / "dev.py", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "python3 dev.py verify" in done.stderr
