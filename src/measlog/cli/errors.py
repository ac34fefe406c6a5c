"""What the commands say on standard error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from measlog.errors import MeaslogError
from measlog.view.escape import escape

__all__ = ["InputError", "about", "note", "report"]


class InputError(click.ClickException):
    """Input that cannot be read, or evidence or manifests that are not authentic: exit status 3."""

    exit_code = 3


def report(message: str) -> None:
    """One line on standard error, whatever characters the message quotes."""
    click.echo(f"measlog: {escape(message)}", err=True)


def note(message: str) -> None:
    """One line on standard error about something that is no error."""
    click.echo(f"measlog: note: {escape(message)}", err=True)


@contextmanager
def about(path: str | Path) -> Iterator[None]:
    """Name the file in every error that reading it or judging its content raises."""
    try:
        yield
    except MeaslogError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        # Not error.strerror: pyarrow puts a sentence with the path in it there.
        raise InputError(f"{path}: {os.strerror(error.errno) if error.errno else error}") from None
