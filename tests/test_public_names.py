"""What ``import measlog as ml`` offers."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import measlog
from measlog import errors
from tests.conftest import ROOT


@pytest.mark.parametrize("name", measlog.__all__)
def test_every_name_is_there(name: str) -> None:
    value = getattr(measlog, name)
    assert value is getattr(measlog, name)
    assert getattr(value, "__name__", name).rpartition(".")[2] == name


def test_dir_matches_all() -> None:
    assert dir(measlog) == sorted(measlog.__all__) == measlog.__all__


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'measlog' has no attribute 'Nothing'"):
        measlog.Nothing  # noqa: B018


def test_from_import_of_every_name() -> None:
    """In a fresh interpreter, where nothing is loaded yet."""
    program = f"from measlog import {', '.join(measlog.__all__)}"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def _modules() -> list[str]:
    found = pkgutil.walk_packages(measlog.__path__, "measlog.", onerror=lambda _: None)
    return [m.name for m in found if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", _modules())
def test_modules_export_what_they_have(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [n for n in exported if not hasattr(module, n)] == []
    assert len(set(exported)) == len(exported)
    assert module.__doc__ or not str(module.__file__).endswith(".py")


SOURCES = sorted(
    path for path in (ROOT / "src" / "measlog").rglob("*.py") if path.name != "__main__.py" and "cli" not in path.parts
)
IDS = [str(path.relative_to(ROOT / "src")) for path in SOURCES]
LONGEST = 500
"""Lines of a module that needs no reason for its length."""

Definition = ast.FunctionDef | ast.ClassDef


def _exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _public(body: list[ast.stmt]) -> list[Definition]:
    return [n for n in body if isinstance(n, Definition) and not n.name.startswith("_")]


def _functions(tree: ast.Module) -> Iterator[tuple[str, str, ast.FunctionDef]]:
    """The public functions and methods of a module: name, what the docstrings around say, definition."""
    for outer in _public(tree.body):
        if isinstance(outer, ast.FunctionDef):
            yield outer.name, "", outer
            continue
        for inner in _public(outer.body):
            if isinstance(inner, ast.FunctionDef):
                yield f"{outer.name}.{inner.name}", ast.get_docstring(outer) or "", inner


def _raised(function: ast.FunctionDef) -> Iterator[str]:
    """The kinds of errors that the function itself raises; not those of functions within it."""
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Raise) and node.exc is not None:
            kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = ast.unparse(kind).rpartition(".")[2]
            if name[:1].isupper():
                yield name


def _says(docstring: str, name: str) -> bool:
    """Whether a docstring names the error, or a kind of which it is one."""
    kind = getattr(errors, name, None)
    names = {name} | {base.__name__ for base in getattr(kind, "__mro__", ()) if base.__module__ == errors.__name__}
    return any(word in docstring for word in names - {"MeaslogError"})


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_all_is_complete(path: Path) -> None:
    """What has no underscore is exported, and what is exported says what it is."""
    tree = ast.parse(path.read_text())
    public = _public(tree.body)
    assert {node.name for node in public} <= _exported(tree)
    silent = [node.name for node in public if not ast.get_docstring(node)]
    silent += [name for name, _, function in _functions(tree) if not ast.get_docstring(function)]
    assert silent == []


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_docstrings_name_what_is_raised(path: Path) -> None:
    tree = ast.parse(path.read_text())
    missing = [
        f"{name}: {error}"
        for name, around, function in _functions(tree)
        for error in _raised(function)
        if not _says((ast.get_docstring(function) or "") + around, error)
    ]
    assert missing == []


def test_what_counts_as_named() -> None:
    assert _says("Raises FormatError.", "TruncatedError")
    assert not _says("Raises TruncatedError.", "FormatError")
    assert not _says("Raises MeaslogError.", "PolicyError")
    function = ast.parse("def f():\n  def g():\n    raise KeyError\n  raise errors.PolicyError('')").body[0]
    assert isinstance(function, ast.FunctionDef)
    assert list(_raised(function)) == ["PolicyError"]


def test_long_modules_say_why() -> None:
    """Half a thousand lines are what a reader keeps in mind at once."""
    folders = ("src", "tests", "fixtures", "benchmarks", "docs", ".ci")
    long = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "_build" not in path.parts and len(lines := path.read_text().splitlines()) > LONGEST
        if not any(line.startswith("# Longer than") for line in lines[:40])
    ]
    assert long == []
