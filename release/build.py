"""Build the source archive and the wheels: ``python -m release.build -o dist [--target NAME ...]``.

The wheels come from the source archive, not from the checkout. That without compiled lanes is built first; each of the
others is the same files and one shared object, which zig compiles for its target. The same versions of the tools
(``release/constraints.txt``), Python headers and ``SOURCE_DATE_EPOCH`` give the same bytes in whatever folder; where that
variable is not set, it is the time of the last commit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from release.archives import normalised
from release.targets import ABI, TARGETS, Target

__all__ = ["build"]

ROOT = Path(__file__).resolve().parent.parent
# What the source archive is made from: the tests and their captures stay in the repository.
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.py", "src")
LANES = "_lanes.abi3.so"
# What pyconfig.h says of every target alike (they are all LP64): the machine that builds has another one.
PYCONFIG = """
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_LONG 8
#define SIZEOF_LONG_LONG 8
#define SIZEOF_INT 4
#define SIZEOF_SHORT 2
#define SIZEOF_WCHAR_T 4
#define SIZEOF_TIME_T 8
#define SIZEOF_PID_T 4
"""
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-g0",
    "-s",
    "-fPIC",
    "-shared",
    "-fno-sanitize=undefined",  # zig's default where nothing is said of optimisation; here it would only add names
    "-Wno-psabi",
    "-DPy_LIMITED_API=0x030B0000",
)


def build(source: Path, out: Path, targets: Sequence[Target], epoch: int) -> list[Path]:
    """Build the source archive, the wheel without lanes and those of ``targets``; returns the files, in that order."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="measlog-build.") as name:
        work = Path(name)
        archive = _source_archive(source, work, out, epoch)
        with tarfile.open(archive) as packed:
            packed.extractall(work, filter="data")
        tree = work / archive.name.removesuffix(".tar.gz")
        pure = _pure_wheel(tree, work, epoch)
        files = work / "files"
        _run([sys.executable, "-m", "wheel", "unpack", "--dest", str(files), str(pure)], work, epoch)
        (unpacked,) = files.iterdir()
        headers = _headers(work)
        # Packed anew like the others, so that permissions and times are as settled as theirs.
        found = [archive, _pack(unpacked, "py3-none-any", out, epoch)]
        for target in targets:
            _compile(tree / "src" / "measlog" / "_lanes.c", headers, target, unpacked / "measlog" / LANES)
            found.append(_pack(unpacked, f"{'-'.join(ABI)}-{target.platform}", out, epoch))
    return found


def _source_archive(source: Path, work: Path, out: Path, epoch: int) -> Path:
    tree = work / "checkout"
    tree.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.pyc")
    for name in SOURCES:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, tree / name, ignore=ignored)
        else:
            shutil.copyfile(path, tree / name)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(work / "sdist"), str(tree)]
    _run(command, work, epoch)
    (made,) = (work / "sdist").iterdir()
    archive = out / made.name
    archive.write_bytes(normalised(made, epoch))
    return archive


def _pure_wheel(tree: Path, work: Path, epoch: int) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work / "pure"), str(tree)]
    _run(command, work, epoch, MEASLOG_LANES_BUILD="no")
    (made,) = (work / "pure").iterdir()
    return made


def _headers(work: Path) -> Path:
    """This Python's headers with a pyconfig.h that is of no machine; Python.h would find its own beside it."""
    place = Path(sysconfig.get_path("include"))
    if not (place / "Python.h").is_file():
        raise SystemExit(f"no Python.h in {place}: install this Python's headers (Debian: python3-dev)")
    headers = work / "include"
    shutil.copytree(place, headers, ignore=shutil.ignore_patterns("internal"))
    (headers / "pyconfig.h").unlink(missing_ok=True)
    (headers / "pyconfig.h").write_text(PYCONFIG)
    return headers


def _compile(code: Path, headers: Path, target: Target, result: Path) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target.zig, *FLAGS, *target.linker]
    # Named from its own folder: no path of this machine gets into the result.
    command += [f"-I{os.path.relpath(headers, code.parent)}", "-o", LANES, code.name]
    subprocess.run(command, cwd=code.parent, check=True)
    shutil.move(code.parent / LANES, result)
    result.chmod(0o755)


def _pack(files: Path, tag: str, out: Path, epoch: int) -> Path:
    """The wheel of these files with this tag; RECORD is written anew by ``wheel pack``."""
    python, abi, platforms = tag.split("-")
    tags = [f"Tag: {python}-{abi}-{platform}" for platform in platforms.split(".")]
    (metadata,) = files.glob("*.dist-info/WHEEL")
    kept = [line for line in metadata.read_text().splitlines() if line and not line.startswith(("Tag:", "Root-Is-"))]
    pure = "true" if abi == "none" else "false"
    metadata.write_text("\n".join([*kept, f"Root-Is-Purelib: {pure}", *tags, ""]))
    for path in files.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)
    before = set(out.glob("*.whl"))
    name = f"{metadata.parent.name.removesuffix('.dist-info')}-{tag}.whl"
    (out / name).unlink(missing_ok=True)
    _run([sys.executable, "-m", "wheel", "pack", "--dest-dir", str(out), str(files)], out, epoch)
    if not (out / name).is_file():
        raise SystemExit(f"wheel pack gave another name than {name}: {set(out.glob('*.whl')) - before}")
    return out / name


def _run(command: list[str], folder: Path, epoch: int, **variables: str) -> None:
    settings = {"SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment | settings, check=False, text=True, stdout=-1, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}")


def epoch_of(source: Path) -> int:
    """SOURCE_DATE_EPOCH, or the time of the last commit, in seconds."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    command = ["git", "-C", str(source), "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m release.build", description="Build the source archive and wheels.")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist")
    parser.add_argument(
        "--target", choices=[target.name for target in TARGETS], nargs="*", help="default: all of them; none: pure only"
    )
    given = parser.parse_args()
    chosen = [target for target in TARGETS if given.target is None or target.name in given.target]
    for path in build(ROOT, given.out.resolve(), chosen, epoch_of(ROOT)):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
