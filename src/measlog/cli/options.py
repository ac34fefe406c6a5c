"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["FILE", "HEX", "IMA_LOG", "MIN_VERSION", "USERSPACE_LOG", "as_json", "log_argument"]

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=str, readable=False)
"""A path as given: whether it can be read is found out by reading it."""

USERSPACE_LOG = click.option(
    "--userspace-log", type=FILE, metavar="FILE", help="systemd's log of its measurements, behind the firmware's."
)

IMA_LOG = click.option(
    "--ima-log", type=FILE, metavar="FILE", help="IMA's log, binary or ascii, of the boot that was quoted."
)

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")


class Hex(click.ParamType[bytes]):
    """Bytes as hexadecimal digits, two a byte, nothing else between them."""

    name = "hex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """The bytes, or wrong usage."""
        if not isinstance(value, str) or _HEX.fullmatch(value) is None:
            self.fail(f"{value[:80]!r} is not an even number of hexadecimal digits", param, ctx)
        return bytes.fromhex(value)


HEX = Hex()


class Floor(click.ParamType[int]):
    """The least version of a manifest: the number that it has for this, not the name of the release."""

    name = "version"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or wrong usage."""
        if re.fullmatch(r"[0-9]{1,20}", str(value)) is None:
            said = f"{str(value)[:80]!r} is not a manifest's version, a number that 'measlog manifest show' prints"
            self.fail(said, param, ctx)
        return int(value)


MIN_VERSION = click.option("--min-version", type=Floor(), metavar="V", help="Refuse manifests of lower version.")


def log_argument(function: F) -> F:
    """The log as the command's argument."""
    return click.argument("log", type=FILE, metavar="LOG")(function)


def as_json(function: F) -> F:
    """The ``--json`` flag."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")(function)
