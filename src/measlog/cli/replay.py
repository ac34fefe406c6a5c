"""``measlog replay``."""

from __future__ import annotations

import click

from measlog.cli.errors import InputError
from measlog.cli.files import read_log
from measlog.cli.further import join_userspace
from measlog.cli.options import USERSPACE_LOG, as_json, log_argument
from measlog.cli.output import emit, emit_json
from measlog.cli.spread import SpreadCommand
from measlog.errors import ReplayError
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.replay.pcr import Bank
from measlog.view.document import replay_document
from measlog.view.render import bank_page

__all__ = ["replay"]


@click.command(cls=SpreadCommand, epilog="Example: measlog replay binary_bios_measurements --alg sha256 --json")
@log_argument
@click.option(
    "--alg",
    "algorithms",
    type=click.Choice(sorted(ALGORITHMS_BY_NAME)),
    multiple=True,
    help="Only this bank; all of the log's unless given.",
)
@USERSPACE_LOG
@as_json
def replay(log: str, algorithms: tuple[str, ...], userspace_log: str | None, *, as_json: bool) -> None:
    """The register values that follow from LOG.

    A bank that was not named and cannot be replayed is listed with the reason; one that was named is an error then.
    """
    history = join_userspace(read_log(log), userspace_log)
    banks: dict[str, Bank] = {}
    refused: dict[str, str] = {}
    for name in dict.fromkeys(algorithms or history.firmware.algorithms):
        try:
            banks[name] = history.replay(name)
        except ReplayError as error:
            if algorithms:
                raise InputError(f"{log}: {error}") from None
            refused[name] = str(error)
    if as_json:
        emit_json(replay_document(banks, refused))
    else:
        emit(bank_page(banks, refused))
