"""``measlog diff``."""

from __future__ import annotations

import click

from measlog.appraisal.closest import closest_boot
from measlog.appraisal.diff import diff as align
from measlog.cli.boots import boots_of
from measlog.cli.errors import about
from measlog.cli.files import read
from measlog.cli.options import FILE, as_json
from measlog.cli.output import emit, emit_json
from measlog.errors import FormatError
from measlog.flatcar.boot import PredictedBoot
from measlog.limits import DEFAULT_LIMITS
from measlog.log import EventLog
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.view.compare import diff_page
from measlog.view.document import diff_document
from measlog.view.grid import span
from measlog.view.render import Page

__all__ = ["diff"]


@click.command(epilog="Example: measlog diff yesterday.log today.log")
@click.argument("left", type=FILE, metavar="A")
@click.argument("right", type=FILE, metavar="B")
@click.option(
    "--bank", type=click.Choice(list(ALGORITHMS_BY_NAME)), default="sha256", show_default=True, help="Compared bank."
)
@as_json
def diff(left: str, right: str, bank: str, *, as_json: bool) -> int:
    """Two logs, or a log and the JSON of a predicted boot, aligned register by register.

    Exit status 1 means that they differ. Of several predicted boots the one that comes closest is shown.
    """
    sides = {path: _read(path) for path in (left, right)}
    logs = {path: side for path, side in sides.items() if isinstance(side, EventLog)}
    if not logs:
        raise click.UsageError("One of the two must be a log.")
    place, log = next(iter(logs.items()))
    with about(place):
        a, b = (_history(sides[path], log, bank) for path in (left, right))
        found = align(a, b, bank=bank)
    name = next((side.name for side in (a, b) if isinstance(side, PredictedBoot)), None)
    if as_json:
        emit_json(diff_document(found, boot=name))
    else:
        heading = () if name is None else (span(f"closest predicted boot: {name}"),)
        emit(Page(parts=(*heading, *diff_page(found).parts)))
    return 1 if found.differences else 0


def _read(path: str) -> EventLog | list[PredictedBoot]:
    data = read(path, DEFAULT_LIMITS.log_size)
    with about(path):
        # No log starts like this: 0x7B is no register, and a log's first event is on a small one.
        return boots_of(data) if data.lstrip()[:1] == b"{" else EventLog.from_bytes(data)


def _history(side: EventLog | list[PredictedBoot], log: EventLog, bank: str) -> EventLog | PredictedBoot:
    """A log as it is; of predicted boots the one that comes closest to the log of the other side."""
    if isinstance(side, EventLog):
        return side
    boot = closest_boot(log, side, bank=bank)
    if boot is None:
        raise FormatError(f"nothing is predicted of the bank {bank}")
    return boot
