"""What ``import measlog as ml`` offers."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import measlog


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
