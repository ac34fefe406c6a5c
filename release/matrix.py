"""Install the wheels that run here into clean environments and test what is installed there.

    python -m release.matrix dist [--all] [--debian] [--python NAME] [--oldest]

Every Python of this machine from 3.11 on, with ``--debian`` those of Debian's suites too, each with the compiled lanes
and without. The tests are the checkout's, the package is the installed one. ``--all`` runs the ordinary tests, otherwise
a few that touch everything. ``--oldest`` takes the oldest versions of all dependencies that ``pyproject.toml`` allows.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from release.places import ROOT, SUITES, Place, debian, here

__all__ = ["FEW", "Failed", "call", "install", "main", "pip", "probe", "pytest", "requirement", "wheels"]

FEW = (
    "tests/test_lanes.py",
    "tests/formats/test_pecoff.py",
    "tests/formats/test_pfp.py",
    "tests/formats/test_tpm2.py",
    "tests/log/test_captures.py",
    "tests/evidence/test_captures.py",
    "tests/appraisal/test_captures.py",
)
CACHE = Path(os.environ.get("MEASLOG_CI_CACHE", "/var/cache/measlog-ci"))
# What the installed package says of itself: where it is, and that it has the lanes for what the kernel says the processor has.
PROBE = """
import sys, measlog, measlog.lanes as lanes
assert measlog.__file__.startswith(sys.prefix), measlog.__file__
engines, lanes_wanted = lanes.engines(), sys.argv[1] == "lanes"
assert (len(engines) > 1) == lanes_wanted, engines
flags = open("/proc/cpuinfo").read().split()
for name, needed in (("avx2", {"avx2"}), ("avx512", {"avx512f", "avx512bw", "avx512vl"})):
    assert (name in engines) == (lanes_wanted and needed <= set(flags)), (name, engines)
print(sys.version.split()[0], *engines)
"""


def wheels(folder: Path) -> dict[str, Path]:
    """The wheel with lanes for this machine, and the one without."""
    (lanes,) = folder.glob(f"*manylinux*_{platform.machine()}.whl")
    (pure,) = folder.glob("*-none-any.whl")
    return {"lanes": lanes, "pure": pure}


class Failed(Exception):  # noqa: N818 - it is caught by name
    """A command failed: its output is the message, ``status`` its exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def call(place: Place, words: Sequence[str], work: Path, folder: Path = ROOT) -> str:
    """Run a command in a place; what it printed."""
    shared = [ROOT, work, ROOT.parent / "shared"]
    command = place.command(words, folder, shared)
    done = subprocess.run(command, stdout=-1, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(words)}\n{done.stdout}", done.returncode)
    return done.stdout


def pip(python: Path) -> list[str]:
    """The command that installs into the environment of ``python``, by the pip of this one."""
    return [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]


def lowest(python: Path) -> list[str]:
    """The same by uv, with the oldest versions that are allowed of what is asked for."""
    return [sys.executable, "-m", "uv", "pip", "install", "--quiet", "-p", str(python), "--resolution", "lowest-direct"]


def requirement(wheel: Path, extras: str) -> str:
    """What an installer is asked for: this wheel, and with it its ``extras``."""
    return f"measlog[{extras}] @ {wheel.as_uri()}"


def install(place: Place, wheel: Path, extras: str, work: Path, *, oldest: bool = False) -> Path:
    """A clean environment with the wheel; its Python."""
    folder = Path(tempfile.mkdtemp(dir=work, prefix="venv."))
    copy = work / wheel.name
    if not copy.exists():
        shutil.copyfile(wheel, copy)
    python = folder / "bin" / "python"
    if place.root is None:
        call(place, [place.python, "-m", "venv", "--without-pip", str(folder)], work)
        wanted = requirement(copy, extras) if extras else str(copy)
        call(place, [*(lowest(python) if oldest else pip(python)), wanted], work)
    else:
        call(place, [place.python, "-m", "venv", str(folder)], work)
        call(place, [str(python), "-m", "pip", "install", "--quiet", f"{copy}[{extras}]"], work)
    return python


def probe(place: Place, python: Path, kind: str, work: Path) -> str:
    """That the package is the installed one, and its lanes are there or are not."""
    return call(place, [str(python), "-B", "-c", PROBE, kind], work).strip()


def pytest(place: Place, python: Path, tests: Sequence[str], work: Path) -> str:
    """Run tests of the checkout against the installed package; the last line that pytest printed."""
    profile = ["env", "MEASLOG_HYPOTHESIS=short"] if tests == FEW else []
    words = [*profile, str(python), "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", *tests]
    return call(place, words, work).strip().splitlines()[-1]


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(
        prog="python -m release.matrix", description="Test wheels where they are installed."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="all ordinary tests, not a few")
    parser.add_argument("--debian", action="store_true", help="Debian's suites too; needs root")
    parser.add_argument("--oldest", action="store_true", help="the oldest dependencies, on Python 3.11")
    parser.add_argument("--python", default="", help="only Pythons whose name has this in it")
    parser.add_argument("--extras", help="default: test, and with --all arrow")
    given = parser.parse_args()
    extras = given.extras or ("test,arrow" if given.all else "test")
    places = [*here(), *(debian(SUITES, CACHE) if given.debian else ())]
    if given.oldest:
        places = [place for place in places if " 3.11" in place.name][:1]
    chosen = [place for place in places if given.python in place.name]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="measlog-matrix.") as name:
        work = Path(name)
        for place in chosen:
            for kind, wheel in wheels(given.folder).items():
                began = time.monotonic()
                try:
                    python = install(place, wheel, extras, work, oldest=given.oldest)
                    said = probe(place, python, kind, work)
                    said += f": {pytest(place, python, () if given.all else FEW, work)}"
                except Failed as error:
                    said, failed = f"FAILED: {error}", failed + 1
                print(f"{place.name}, {kind}: {said} ({time.monotonic() - began:.0f} s in all)", flush=True)
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
