"""A sign of life on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from measlog.view.escape import escape

__all__ = ["working"]

Progress = Callable[[int, int], None]


@contextmanager
def working(message: str) -> Iterator[Progress | None]:
    """Show that something is going on while the block runs; gives what to call with the bytes done and in all.

    Gives ``None`` where nobody looks: standard error is no terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, markup=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(escape(message), total=None)
        # Called from the thread that reads; rich locks by itself.
        yield lambda done, there: shown.update(task, completed=done, total=there)
