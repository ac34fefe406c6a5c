"""The code blocks of a Markdown page, and running them as a reader would, from top to bottom.

``sh`` and ``python`` blocks run; a block ``output`` right behind one is what it must print. ``...`` stands for any text in
a line, and alone for any lines. HTML comments, which readers do not see, say what is different:

``<!-- not run: REASON -->`` before a block: it is not run.
``<!-- package: NAME -->`` before a block: it runs where this package is installed, and is told of where it is not.
``<!-- run by the gate -->`` before a block: its commands are steps of ``.ci/run``.
``<!-- needs: MARKER -->`` anywhere: the page runs only in the test runs with this marker.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from markdown_it import MarkdownIt

RUN = ("sh", "python")
SHOWN = ("console", "ini", "json", "make", "mermaid", "output", "promql", "text", "toml", "yaml")
TIMEOUT = 300
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(.*?)\s*-->", re.DOTALL)
_PACKAGE = re.compile(r"<!--\s*package:\s*(\w+)\s*-->")
_GATE = re.compile(r"<!--\s*run by the gate\s*-->")
_NEEDS = re.compile(r"<!--\s*needs:\s*(\w+)\s*-->")


@frozen(kw_only=True)
class Block:
    """A fenced block: its language, text and first line; what it must print; why it is not run; what it imports."""

    language: str
    text: str
    line: int
    output: str | None = None
    not_run: str | None = None
    package: str | None = None
    by_the_gate: bool = False


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    comment = ""
    last_was_code = False
    for token in MarkdownIt().parse(page):
        if token.type == "html_block":
            comment += token.content
            continue
        if token.type == "fence":
            language = token.info.split()[0] if token.info.strip() else ""
            if language == "output" and last_was_code:
                found[-1] = evolve(found[-1], output=token.content)
                last_was_code = False
            elif not language.startswith("{"):  # those are the documentation's own directives
                reason = _NOT_RUN.search(comment)
                package = _PACKAGE.search(comment)
                assert token.map is not None
                block = Block(
                    language=language,
                    text=token.content,
                    line=token.map[0] + 2,
                    not_run=" ".join(reason[1].split()) if reason else None,
                    package=package[1] if package else None,
                    by_the_gate=bool(_GATE.search(comment)),
                )
                found.append(block)
                last_was_code = language in RUN
        else:
            last_was_code = False
        comment = ""
    return found


def marker(page: str) -> str | None:
    """The marker that a page's blocks need."""
    found = _NEEDS.search(page)
    return found[1] if found else None


def matches(shown: str, printed: str) -> bool:
    """Whether what was printed is what the page shows."""
    pattern = ""
    for line in shown.strip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ ]*\n"
    return re.fullmatch(pattern, printed.strip("\n") + "\n") is not None


def stage(folder: Path, root: Path) -> None:
    """Make ``folder`` look like a checkout that ``dev.py`` has set up, with this Python as its environment."""
    leave = {".git", ".venv", "dev.py", "build", "dist"}
    for path in root.iterdir():
        if path.name not in leave and not path.name.endswith("_cache"):
            folder.joinpath(path.name).symlink_to(path)
    shutil.copy(root / "dev.py", folder)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, words in {
        "python": "",
        "python3": "",
        "measlog": "-m measlog",
        "pytest": "-m pytest -p no:cacheprovider",
        "towncrier": "-m towncrier",
    }.items():
        programs.joinpath(name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        programs.joinpath(name).chmod(0o755)
    programs.joinpath("activate").write_text(f"PATH={shlex.quote(str(programs))}:$PATH\n")
    spec = importlib.util.spec_from_file_location("staged_dev", folder / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    dev: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dev)
    dev.READY.write_text(dev.stamp())


def run(name: str, page: str, folder: Path, names: dict[str, Any] | None = None) -> list[str]:
    """Run the blocks of a page in ``folder``; the failure names the line of the first that is wrong.

    ``names`` gets the variables of the Python blocks. What is returned says which blocks a missing package left out.
    """
    names = {} if names is None else names
    names["__name__"] = "__main__"
    left_out: list[str] = []
    for block in blocks(page):
        if block.language not in RUN or block.not_run or block.by_the_gate:
            continue
        where = f"{name}:{block.line}"
        if block.package is not None and importlib.util.find_spec(block.package) is None:
            left_out.append(f"{where} needs the package {block.package}")
            continue
        printed = _python(block, name, names) if block.language == "python" else _shell(block, where, folder)
        if block.output is not None and not matches(block.output, printed):
            pytest.fail(f"{where}: the page shows\n{block.output}\nand what was printed is\n{printed}", pytrace=False)
    return left_out


def _python(block: Block, name: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.text, name, "exec")
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PySpark does not yet fully support", category=FutureWarning)
        warnings.filterwarnings("ignore", category=ResourceWarning)  # Spark's sockets
        exec(code, names)
    return printed.getvalue()


def _shell(block: Block, where: str, folder: Path) -> str:
    """One shell for the whole page, as far as its variables and its folder go."""
    state = folder / ".venv" / "state"
    keep = f"{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} >{shlex.quote(str(state))}"
    before = f". {shlex.quote(str(state))}\n" if state.exists() else ""
    script = f"{before}set -a -euo pipefail\n{block.text}\n{keep}\n"
    environment = {
        **os.environ,
        "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "PYTHONWARNINGS": "default",
    }
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    if done.returncode:
        pytest.fail(f"{where}: exit status {done.returncode}\n{block.text}\n{done.stdout}", pytrace=False)
    return done.stdout


def main(names: list[str]) -> None:
    """Run pages in this folder as it is, a checkout, as their readers do: ``python -m tests.docs.blocks PAGE ...``."""
    for name in names:
        left_out = run(name, Path(name).read_text(), Path.cwd())
        but = f", but {'; '.join(left_out)}" if left_out else ""
        print(f"{name}: all blocks ran, and printed what the page shows{but}")  # noqa: T201 - this is a program too


if __name__ == "__main__":
    main(sys.argv[1:])
