"""Each extra alone: ``python -m release.extras dist [NAME ...] [--marked EXPRESSION]``.

For every extra of the wheel's metadata a clean environment with nothing besides: what it requires can be imported, and so
can every module of measlog that imports it; then, with the extra ``test`` added, the tests that use those run. Extras whose
packages need a service or a display are no exception: they only have to be importable.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from release.matrix import Failed, call, install, pip, pytest, requirement, wheels
from release.places import ROOT, Place, here

__all__ = ["extras", "main"]

# In the environment: the top-level modules of what an extra requires, by the metadata of what is installed. A package may
# have one besides that wants a package which it does not require, as duckdb has for adbc_driver_manager.
MODULES = """
import importlib, importlib.metadata as metadata, json, re, sys
def canonical(name): return re.sub(r"[-_.]+", "-", name).lower()
wanted, found, missing = {canonical(name) for name in json.loads(sys.argv[1])}, {}, {}
for module, owners in sorted(metadata.packages_distributions().items()):
    here = wanted & {canonical(owner) for owner in owners}
    module = module.replace("/", ".")  # a package of a namespace, in setuptools' list
    if here and all(map(str.isidentifier, module.split("."))) and not module.startswith("_"):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            missing.update(dict.fromkeys(here, error))
        else:
            found[module] = here
for name in wanted.difference(*found.values()):
    raise missing.get(name) or SystemExit(f"{name}: no module to import")
print(json.dumps(list(found)))
"""
IMPORTS = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
NONE_SELECTED = 5  # pytest.ExitCode.NO_TESTS_COLLECTED
ANY = "slow or not slow"  # with marks that leave a test out of an ordinary run, or without
# Tools of developers: commands, not libraries that measlog or its tests import.
TOOLS = {"dev", "release", "mutation", "fuzz"}


def extras() -> dict[str, list[str]]:
    """The extras of pyproject.toml and the distributions that each asks for, those of extras that it names included."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def direct(name: str) -> list[str]:
        named: list[str] = []
        for line in found[name]:
            match = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]+)\])?", line)
            assert match is not None, line
            others = [word.strip() for word in (match[2] or "").split(",")] if match[1] == "measlog" else []
            named += [one for other in others for one in direct(other)] if others else [match[1]]
        return named

    return {name: direct(name) for name in found if name not in TOOLS}


def users(modules: Sequence[str]) -> tuple[list[str], list[str]]:
    """Modules of measlog that import one of ``modules``, and the tests that import either of them."""
    source = {path: path.read_text() for path in sorted((ROOT / "src" / "measlog").rglob("*.py"))}
    tests = {path: path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    mine = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for path, text in source.items()
        if _names(text, modules)
    ]
    chosen = [
        str(path.relative_to(ROOT))
        for path, text in tests.items()
        if _names(text, modules) or _names(text, [name for name in mine if name.count(".") > 1])
    ]
    return mine, chosen


def _names(text: str, modules: Sequence[str]) -> bool:
    """Whether the text imports, or asks pytest to import, one of the modules."""
    if not modules:
        return False
    names = "|".join(map(re.escape, modules))
    return (
        re.search(rf"^\s*(?:from|import) (?:{names})\b|importorskip\(\"(?:{names})\b", text, re.MULTILINE) is not None
    )


def one(place: Place, name: str, required: list[str], wheel: Path, work: Path, marked: str | None) -> str:
    """Try one extra; what was imported and what pytest said."""
    python = install(place, wheel, name, work)
    modules = json.loads(call(place, [str(python), "-B", "-c", MODULES, json.dumps(required)], work))
    mine, tests = users(modules)
    if "click" not in modules:  # commands need it besides whatever else they import
        mine = [name for name in mine if not name.startswith("measlog.cli")]
    call(place, [str(python), "-B", "-c", IMPORTS, *mine], work)
    told = f"{len(modules)} modules of {len(required)} packages, {len(mine)} modules of measlog"
    if not tests:
        return f"{told}; no tests of its own"
    call(place, [*pip(python), requirement(work / wheel.name, "test")], work)
    told += f", {len(tests)} files of tests"
    try:
        return f"{told}: {pytest(place, python, [*_selected(marked), *tests], work)}"
    except Failed as error:
        if marked is not None or error.status != NONE_SELECTED:
            raise
    return f"{told}, all of them marked: {pytest(place, python, [*_selected(ANY), *tests], work)}"


def _selected(marked: str | None) -> list[str]:
    return [] if marked is None else ["-m", marked]


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m release.extras", description="Try each extra alone.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="default: all but the developers' tools")
    parser.add_argument("--marked", help="pytest's marker expression, such as 'engines'")
    given = parser.parse_args()
    known, failed = extras(), 0
    place = next(iter(here()))
    wheel = wheels(given.folder)["lanes"]
    with tempfile.TemporaryDirectory(prefix="measlog-extras.") as folder:
        for name in given.names or known:
            began = time.monotonic()
            try:
                said = one(place, name, known[name], wheel, Path(folder), given.marked)
            except Failed as error:
                said, failed = f"FAILED: {error}", failed + 1
            print(f"{name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
