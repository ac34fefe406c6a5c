"""A sign of life on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from measlog.view.escape import escape

__all__ = ["working"]


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show that something is going on while the block runs."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True, markup=False, emoji=False).status(Text(escape(message))):
        yield
