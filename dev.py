#!/usr/bin/env python3
"""Set up this checkout and use it. Needs Python 3.11 with venv and nothing else.

    python3 dev.py verify    verify the committed captures of a good and of a tampered boot
    python3 dev.py test      run the tests; further words go to pytest

Both make the virtual environment .venv first where it is missing, out of date or half made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BEGUN = VENV / "measlog-begun"
READY = VENV / "measlog-ready"
OLDEST = (3, 11)
EXTRAS = "test"
MADE_FROM = ("pyproject.toml", "setup.py", "src/measlog/_lanes.c")

GOOD = ROOT / "fixtures" / "flatcar-lab-good"
TAMPERED = ROOT / "fixtures" / "flatcar-lab-tampered"
MANIFEST = GOOD / "manifest.dsse.json"
MANIFEST_KEY = ROOT / "fixtures" / "lab" / "keys" / "manifest.pub"


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def main(words: list[str]) -> int:
    """Run one of the two commands; returns the exit status."""
    if sys.version_info < OLDEST:
        print(f"this needs Python {OLDEST[0]}.{OLDEST[1]} or newer, not {sys.version.split()[0]}", file=sys.stderr)
        return 2
    if words[:1] not in (["verify"], ["test"]) or (words[0] == "verify" and len(words) > 1):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        set_up()
    except SetupError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 3
    if words[0] == "test":
        return subprocess.run([PYTHON, "-m", "pytest", *words[1:]], cwd=ROOT, check=False).returncode
    return verify()


def set_up() -> None:
    """Make the virtual environment, unless it is there as it should be."""
    with alone():
        if READY.is_file() and READY.read_text() == stamp() and works():
            return
        if VENV.exists() and (BEGUN.exists() or not works()):
            say("removing an environment that is half made or broken")
            shutil.rmtree(VENV)
        if not VENV.exists():
            say("making .venv")
            VENV.mkdir()
            BEGUN.touch()
            run(
                [sys.executable, "-m", "venv", str(VENV)],
                "python3 has no venv module: install it (Debian and Ubuntu: the package python3-venv)",
            )
        READY.unlink(missing_ok=True)
        say("installing measlog and what it needs")
        run(
            [str(PYTHON), "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[{EXTRAS}]"],
            "pip could not install measlog; what it said is above",
        )
        READY.write_text(stamp())
        BEGUN.unlink(missing_ok=True)


def stamp() -> str:
    """What the environment was made from: this Python, this place, the project file, and what is compiled."""
    made = {
        name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in MADE_FROM if (ROOT / name).is_file()
    }
    return json.dumps({"python": sys.version, "place": str(ROOT), "files": made, "extras": EXTRAS})


def works() -> bool:
    """Whether the environment has a Python that starts and a pip."""
    try:
        probe = subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One set-up at a time."""
    try:
        import fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        yield
        return
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def run(command: list[str], problem: str) -> None:
    """Run a step of the set-up; SetupError with ``problem`` where it fails."""
    # An environment or path of the caller's must not leak into the one that is made.
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX"}}
    try:
        subprocess.run(command, check=True, env=clean, cwd=ROOT, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        raise SetupError(problem) from None


def verify() -> int:
    """Verify both captures; 0 only if the good one is affirming and the tampered one contraindicated."""
    good = appraise(GOOD, "affirming")
    tampered = appraise(TAMPERED, "contraindicated")
    if good and tampered:
        say("both as expected: the good boot is affirming, the tampered one is not")
        return 0
    return 1


def appraise(folder: Path, expected: str) -> bool:
    """Run the installed measlog on one capture, show what it says, and whether that is as expected."""
    command = [str(VENV / "bin" / "measlog"), "verify", str(folder)]
    command += ["--nonce", nonce(folder), "--manifest", str(MANIFEST), "--manifest-key", str(MANIFEST_KEY)]
    say(f"measlog verify {folder.name} (expected: {expected})")
    done = subprocess.run(command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL)
    as_json = subprocess.run(
        [*command, "--json"], cwd=ROOT, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    try:
        verdict = json.loads(as_json.stdout)["status"]
    except (ValueError, KeyError):
        verdict = f"no verdict (exit status {done.returncode})"
    status = {"affirming": 0, "contraindicated": 1}[expected]
    right = verdict == expected and done.returncode == as_json.returncode == status
    print()
    say(f"{folder.name}: {verdict}" + ("" if right else f", BUT EXPECTED {expected}"))
    print(flush=True)
    return right


def nonce(folder: Path) -> str:
    """The nonce that the verifier sent for this capture; the fixture keeps it beside the evidence."""
    try:
        return (folder / "nonce.txt").read_text().strip()
    except OSError:
        return ""


def say(message: str) -> None:
    """A line about what is being done."""
    print(f"dev.py: {message}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
