"""``measlog diff``."""

from __future__ import annotations

import click

from measlog.appraisal.closest import closest_boot
from measlog.appraisal.diff import HistoryDiff
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
    a, b = (_read(path) for path in (left, right))
    with about(right if isinstance(a, list) else left):
        name, found = _compared(a, b, bank)
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


def _compared(
    a: EventLog | list[PredictedBoot], b: EventLog | list[PredictedBoot], bank: str
) -> tuple[str | None, HistoryDiff]:
    if isinstance(a, list):
        if isinstance(b, list):
            raise click.UsageError("One of the two must be a log.")
        boot = _closest(b, a, bank)
        return boot.name, align(boot, b, bank=bank)
    if isinstance(b, list):
        boot = _closest(a, b, bank)
        return boot.name, align(a, boot, bank=bank)
    return None, align(a, b, bank=bank)


def _closest(log: EventLog, boots: list[PredictedBoot], bank: str) -> PredictedBoot:
    boot = closest_boot(log, boots, bank=bank)
    if boot is None:
        raise FormatError(f"nothing is predicted of the bank {bank}")
    return boot
