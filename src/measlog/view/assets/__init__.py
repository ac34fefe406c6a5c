"""The style sheets and the script of pages: files of this package, read once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["asset"]


@cache
def asset(name: str) -> str:
    """The text of one of the files beside this one."""
    return files(__name__).joinpath(name).read_text("utf-8")
