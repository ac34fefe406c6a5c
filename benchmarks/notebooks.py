"""What each notebook of ``docs/notebooks`` takes from top to bottom.

Run ``python -m benchmarks.notebooks NAME...`` (default: all); the exit status is 1 where one takes two minutes.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
TARGET_SECONDS = 120
HANGS = 1200
"""Seconds after which a cell is given up."""


def execute(name: str, folder: Path) -> Any:
    """The notebook with its outputs, made by a kernel of this interpreter; ``folder`` is for what the kernel needs."""
    # Of the extra "notebooks", and not typed.
    nbclient, nbformat, kernelspec, kernels = map(
        import_module, ("nbclient", "nbformat", "ipykernel.kernelspec", "jupyter_client.kernelspec")
    )
    manager = kernels.KernelSpecManager(kernel_dirs=[str(folder)])
    kernelspec.write_kernel_spec(str(folder / "python3"))
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for cell in book.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    client = nbclient.NotebookClient(
        book, timeout=HANGS, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.create_kernel_manager().kernel_spec_manager = manager
    client.km.transport = "ipc"
    client.km.ip = str(folder / "socket")
    client.execute()
    return book


def main(words: list[str]) -> int:
    """Print a table; 1 where the target is missed."""
    missed = 0
    for name in words or NAMES:
        began = perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            execute(name, Path(folder))
        seconds = perf_counter() - began
        missed += seconds > TARGET_SECONDS
        print(f"{name:24} {seconds:6.1f} s of {TARGET_SECONDS}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
