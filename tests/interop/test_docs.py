"""The examples of the pages on formats run, one page as one program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "evidence-formats.md": ["sha256 70", "tcb-status revocation qe-identity mrtd"],
    "corim-ear.md": ["True", "affirming {'executables': 3}"],
}


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / page).read_text()
    names: dict[str, object] = {"__name__": "example"}
    for example in re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        exec(compile(example, page, "exec"), names)
    assert capsys.readouterr().out.splitlines() == PAGES[page]
