"""docs/keylime.md: every command and example runs, and every failure that it shows is one."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from measlog.cli.main import main
from tests.conftest import FIXTURES, ROOT
from tests.interop import keylime_host as host

PAGE = (ROOT / "docs" / "keylime.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the page's relative paths lead to the fixtures."""
    (tmp_path / "fixtures").symlink_to(FIXTURES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", range(3))
def test_python_examples_run(number: int, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = blocks("python")
    assert len(examples) == 3
    exec(compile(examples[number], "docs/keylime.md", "exec"), {"__name__": "example"})
    said = re.search(r"print\(.*\)  # (.*)", examples[number].strip().splitlines()[-1])
    if said is not None:
        assert capsys.readouterr().out.splitlines()[-1] == said[1]
    assert checkout.is_dir()


def test_commands_run(checkout: Path) -> None:
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            expanded = re.sub(r"\$\(cat (\S+)\)", lambda m: Path(m[1]).read_text().strip(), line)
            program, *words = shlex.split(expanded)
            assert program == "measlog"
            assert main(words) == 0
    assert json.loads((checkout / "mb-policy.json").read_text())["format"] == "measlog.keylime/1"


def test_the_configuration_is_what_the_tests_of_keylime_run_with() -> None:
    (text,) = blocks("ini")
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    found = dict(parser["verifier"])
    assert json.loads(found.pop("measured_boot_imports")) == [host.MODULE]
    assert found == {"measured_boot_evaluate": "always", "measured_boot_policy_name": "accept-all"}


def test_keylime_reads_the_configuration(tmp_path: Path) -> None:
    host.keylime()
    (text,) = blocks("ini")
    (tmp_path / "verifier.conf").write_text(text)
    program = "from keylime.mba import mba; mba.load_imports(); print(mba._mba_imports[0].__name__)"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("KEYLIME_VERIFIER")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**settings, "KEYLIME_VERIFIER_CONFIG": str(tmp_path / "verifier.conf")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == host.MODULE


def test_the_failure_is_the_one_that_keylime_gets() -> None:
    (shown,) = (json.loads(block) for block in blocks("json"))
    failure = host.failures("flatcar-lab-tampered", host.policy_of("flatcar-lab-good"))
    contexts = [context for event, context in failure if event == "measured_boot.measlog.command.unexpected"]
    assert {**shown, "policy": "lab"} in contexts
