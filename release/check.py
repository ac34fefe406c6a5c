"""Check what a release folder holds: ``python -m release.check dist [--again] [--target NAME ...]``.

Wheel by wheel, by readers that have nothing to do with the compiler: that tags, limited API, C library, machine and
contents are what the name says. ``--again`` builds everything a second time, from a copy of the checkout in another
folder, with another umask, time zone and an empty compiler cache, and compares the bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lief

from release.build import LANES, ROOT, SOURCES, epoch_of
from release.targets import TARGETS, Target

__all__ = ["main", "wrong_with"]

EXPORT = "PyInit__lanes"
MACHINES = {"x86_64": "X86_64", "aarch64": "AARCH64", "arm64": "ARM64"}
OLDEST_API = "3.11"


class UnreadableError(Exception):
    """A reader could make nothing of a wheel."""


def wrong_with(wheel: Path) -> Iterator[str]:
    """What is not as the name of the wheel says."""
    try:
        yield from _wrong_with(wheel)
    except UnreadableError as error:
        yield str(error)


def _wrong_with(wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        metadata = {Path(name).name: name for name in names if ".dist-info/" in name}
        tags = re.findall(r"^Tag: (.+)$", packed.read(metadata["WHEEL"]).decode(), re.MULTILINE)
        lanes = packed.read(f"measlog/{LANES}") if f"measlog/{LANES}" in names else None
        if packed.testzip() is not None:
            yield "a member's CRC is wrong"
    if sorted(tags) != sorted(_tags(wheel)):
        yield f"WHEEL has the tags {tags}"
    foreign = sorted(name for name in names if not name.startswith("measlog/") and ".dist-info/" not in name)
    if foreign or any(name.endswith((".c", ".pyc")) for name in names):
        yield f"members that do not belong there: {foreign}"
    if not {"METADATA", "RECORD", "WHEEL", "LICENSE", "entry_points.txt"} <= metadata.keys():
        yield "a file of metadata is missing"
    if "none-any" in wheel.name:
        if lanes is not None:
            yield "compiled lanes in the wheel without"
        return
    if lanes is None:
        yield "no compiled lanes"
        return
    target = next(target for target in TARGETS if wheel.stem.endswith(target.platform))
    yield from _api(wheel)
    yield from _mach(lanes, target) if "macos" in target.zig else _elf(lanes, target)
    if "gnu" in target.zig:
        yield from _glibc(wheel, target)


def _tags(wheel: Path) -> list[str]:
    python, abi, platforms = wheel.stem.split("-")[-3:]
    return [f"{python}-{abi}-{one}" for one in platforms.split(".")]


def _tool(*command: str) -> Any:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise UnreadableError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-300:]}") from None


def _api(wheel: Path) -> Iterator[str]:
    """Trail of Bits' abi3audit, which knows since which version each symbol is in the limited API."""
    (said,) = _tool("abi3audit", "--strict", "--report", str(wheel))["specs"].values()
    results = [one["result"] for one in said["wheel"]]
    if len(results) != 1:
        yield f"abi3audit saw {len(results)} shared objects"
    for one in results:
        if not (one["is_abi3"] and one["is_abi3_baseline_compatible"] and one["baseline"] == OLDEST_API):
            yield f"not of the limited API of {OLDEST_API}: {one}"


def _glibc(wheel: Path, target: Target) -> Iterator[str]:
    """PyPA's auditwheel: the oldest glibc that has all the symbols, and no library but those of every system."""
    said = _tool("auditwheel", "show", "--json", str(wheel))
    tag, foreign = said.get("overall_tag", "nothing"), said.get("external_libs", "nothing")
    found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", tag)
    named = re.search(r"manylinux_2_(\d+)_(\w+)", target.platform)
    assert named is not None
    if found is None or int(found[1]) > int(named[1]) or found[2] != named[2] or foreign:
        yield f"auditwheel says {tag}, external libraries {foreign}"


def _elf(data: bytes, target: Target) -> Iterator[str]:
    binary = lief.ELF.parse(list(data))
    assert binary is not None
    if binary.header.machine_type.name != MACHINES[target.zig.partition("-")[0]]:
        yield f"made for {binary.header.machine_type.name}"
    needed = [str(library) for library in binary.libraries]
    if needed != ["libc.so.6" if "gnu" in target.zig else "libc.so"]:
        yield f"needs {needed}"
    exported = [str(symbol.name) for symbol in binary.exported_symbols]
    if exported != [EXPORT]:
        yield f"exports {exported}"
    if any(entry.tag.name in {"RPATH", "RUNPATH"} for entry in binary.dynamic_entries):
        yield "has a search path for libraries"
    stack = [segment for segment in binary.segments if segment.type.name == "GNU_STACK"]
    if not stack or any(int(segment.flags) & 1 for segment in stack):
        yield "asks for an executable stack"


def _mach(data: bytes, target: Target) -> Iterator[str]:
    binaries = lief.MachO.parse(list(data))
    assert binaries is not None
    binary = binaries.at(0)
    assert binary is not None
    if len(binaries) != 1 or binary.header.cpu_type.name != MACHINES[target.platform.partition("_0_")[2]]:
        yield f"made for {binary.header.cpu_type.name}"
    version = [int(word) for word in target.platform.split("_")[1:3]]
    minimum = list(binary.build_version.minos)[:2] if binary.build_version is not None else None
    if minimum != version:
        yield f"for macOS {minimum} and later"
    needed = [str(library.name) for library in binary.libraries if library.command.name != "ID_DYLIB"]
    if needed != ["/usr/lib/libSystem.B.dylib"]:
        yield f"needs {needed}"
    if f"_{EXPORT}" not in [str(symbol.name) for symbol in binary.exported_symbols]:
        yield "does not export its initialisation"


def differences(folder: Path, targets: Sequence[Target]) -> Iterator[str]:
    """Build again elsewhere; what has other bytes."""
    with tempfile.TemporaryDirectory(prefix="measlog-again.") as name:
        copy, out = Path(name, "a", "longer", "path"), Path(name, "out")
        for part in (*SOURCES, "release"):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                copy.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy / part)
        settings = {
            "SOURCE_DATE_EPOCH": str(epoch_of(ROOT)),
            "TZ": "Pacific/Auckland",
            "ZIG_GLOBAL_CACHE_DIR": str(Path(name, "zig")),
            "ZIG_LOCAL_CACHE_DIR": str(Path(name, "zig")),
        }
        command = [sys.executable, "-m", "release.build", "-o", str(out), "--target", *(one.name for one in targets)]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run(
            command, cwd=copy, env=environment | settings, check=True, umask=0o077, stdout=subprocess.DEVNULL
        )
        made = sorted(path.name for path in out.iterdir())
        kept = sorted(path.name for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz")))
        if made != kept:
            yield f"other files: {made}, not {kept}"
        for file in set(made) & set(kept):
            if _sum(out / file) != _sum(folder / file):
                yield f"{file} has other bytes when it is built elsewhere"


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def native() -> list[Target]:
    """The target that is this machine, glibc taken for granted."""
    return [target for target in TARGETS if target.name == f"linux-{platform.machine()}"]


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m release.check", description="Check the files of a release.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--again", action="store_true", help="build again elsewhere and compare")
    given = parser.parse_args()
    status = 0
    wheels = sorted(given.folder.glob("*.whl"))
    for wheel in wheels:
        wrong = list(wrong_with(wheel))
        print(f"{_sum(wheel)}  {wheel.name}: {'; '.join(wrong) or 'as it says'}")
        status |= bool(wrong)
    for archive in sorted(given.folder.glob("*.tar.gz")):
        print(f"{_sum(archive)}  {archive.name}")
    if given.again:
        there = [target for target in TARGETS if any(wheel.stem.endswith(target.platform) for wheel in wheels)]
        wrong = list(differences(given.folder, there))
        print("; ".join(wrong) or "the same bytes when built elsewhere")
        status |= bool(wrong)
    return status if wheels else 2


if __name__ == "__main__":
    sys.exit(main())
