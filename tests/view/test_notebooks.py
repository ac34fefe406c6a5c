"""The notebooks of docs/notebooks run from top to bottom, and say what they are meant to say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.notebooks import FOLDER, NAMES, execute

SAYS = {
    "first-look": ["EV_EFI_VARIABLE_AUTHORITY", "authenticated", "ReplayedLog"],
    "why-did-it-fail": ["contraindicated", "init=/bin/sh", "kernel.argument"],
    "manifest-from-release": ["verified, root", "PCR 8  as the TPM said", "PCR 9  as the TPM said"],
    "fleet": ["contraindicated", "command.unexpected", "evidence.nonce"],
}
NEVER = ["DIFFERS", "Traceback"]
LAB = {"manifest-from-release"}


def texts(book: Any) -> str:
    """Everything that the cells printed or showed, pictures aside."""
    found = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            found.append(output.get("text", ""))
            found += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(found)


def marked(name: str) -> Any:
    return pytest.param(name, marks=[pytest.mark.slow, *([pytest.mark.lab] if name in LAB else [])])


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_a_notebook_runs_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    """How long it takes: ``python -m benchmarks.notebooks``."""
    for module in ("nbformat", "nbclient", "ipykernel.kernelspec", "jupyter_client.kernelspec"):
        pytest.importorskip(module)
    book = execute(name, tmp_path)
    said = texts(book)
    assert [word for word in SAYS[name] if word not in said] == []
    assert [word for word in NEVER if word in said] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_with_outputs_of_one_run(name: str) -> None:
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    said = texts(book)
    assert [word for word in NEVER if word in said] == []
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|build)/", said), "a path of the machine it was run on"


def test_each_notebook_has_something_to_say() -> None:
    assert set(NAMES) <= set(SAYS)
