"""Every code block of the documentation runs, and prints what the page shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from measlog.appraisal.policy_file import load_policy
from tests.conftest import ROOT
from tests.docs.blocks import RUN, SHOWN, blocks, marker, matches, run, stage

PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "changelog.d/README.md")),
        *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    ]
)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
MOST_NOT_RUN = 16
"""Blocks that cannot be run; the fewer the better."""


def has_code(name: str) -> bool:
    return any(block.language in RUN and not block.not_run for block in blocks((ROOT / name).read_text()))


def marked(name: str) -> object:
    mark = marker((ROOT / name).read_text())
    return pytest.param(name, marks=[getattr(pytest.mark, mark)] if mark else [])


@pytest.mark.parametrize("name", [marked(name) for name in NAMES if has_code(name)])
def test_a_page_runs_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(tmp_path, ROOT)
    monkeypatch.chdir(tmp_path)
    left_out = run(name, (ROOT / name).read_text(), tmp_path)
    if left_out:
        pytest.skip(f"{'; '.join(left_out)}; all other blocks ran")


@pytest.mark.parametrize("name", NAMES)
def test_each_block_says_what_it_is(name: str) -> None:
    for block in blocks((ROOT / name).read_text()):
        assert block.language in {*RUN, *SHOWN}, f"{name}:{block.line}"
        assert block.language != "output", f"{name}:{block.line}: an output with nothing before it"
        if block.not_run is not None:
            assert len(block.not_run.split()) >= 4, f"{name}:{block.line}: no reason is given"


def test_few_blocks_are_left_out() -> None:
    left_out = [f"{n}:{b.line}" for n in NAMES for b in blocks((ROOT / n).read_text()) if b.not_run]
    assert len(left_out) <= MOST_NOT_RUN, left_out


def test_what_the_gate_runs_is_in_the_gate() -> None:
    gate = (ROOT / ".ci" / "run").read_text() + (ROOT / ".ci" / "lib.sh").read_text()
    seen = 0
    for name in NAMES:
        for block in blocks((ROOT / name).read_text()):
            for line in block.text.splitlines() if block.by_the_gate else ():
                words = re.sub(r"\s+#.*", "", line.replace(".venv/bin/", "")).split()
                assert " ".join(words[:2]) in gate, f"{name}:{block.line}: {line}"
                seen += 1
    assert seen


@pytest.mark.parametrize("name", NAMES)
def test_policy_files_are_policies(name: str) -> None:
    for block in blocks((ROOT / name).read_text()):
        if block.language == "toml" and "measlog.policy" in block.text:
            load_policy(block.text.encode())


PAGE = """\
Text.

```sh
echo one; false || echo "status $?"
```

```output
one
status 1
```

<!-- not run: it needs a machine of its own -->
```sh
reboot
```

```python
print(1 + 1)
```

```output
3
```

```{toctree}
page
```
"""


def test_the_blocks_of_a_page() -> None:
    first, second, third = blocks(PAGE)
    assert (first.language, first.line, first.output) == ("sh", 4, "one\nstatus 1\n")
    assert (second.not_run, second.output) == ("it needs a machine of its own", None)
    assert (third.language, third.output) == ("python", "3\n")


def test_a_wrong_output_is_noticed(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    with pytest.raises(pytest.fail.Exception, match=r"page:18: the page shows\n3"):
        run("page", PAGE, tmp_path)


def test_a_failing_command_is_noticed(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    with pytest.raises(pytest.fail.Exception, match="page:2: exit status 1"):
        run("page", "```sh\nfalse\ntrue\n```\n", tmp_path)


def test_a_missing_package_leaves_out_its_blocks_alone(tmp_path: Path) -> None:
    page = (
        "<!-- package: nowhere_to_be_had -->\n```python\nimport nowhere_to_be_had\n```\n\n```python\nlater = 1\n```\n"
    )
    names: dict[str, Any] = {}
    assert run("page", page, tmp_path, names) == ["page:3 needs the package nowhere_to_be_had"]
    assert names["later"] == 1
    assert run("page", page.replace("nowhere_to_be_had", "json"), tmp_path) == []


@pytest.mark.parametrize(
    ("shown", "printed", "right"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a\nb\nc\n", False),
        ("a\n...\nc", "a\nb\nb\nc\n", True),
        ("a\n...", "a\n", True),
        ("a ... c", "a b c\n", True),
        ("a ... c", "a b d\n", False),
        ("a.c", "abc\n", False),
        ("...\nb", "a\nc\n", False),
    ],
)
def test_what_dots_stand_for(shown: str, printed: str, right: bool) -> None:
    assert matches(shown, printed) is right
