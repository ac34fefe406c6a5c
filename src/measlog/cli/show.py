"""``measlog show``."""

from __future__ import annotations

import click

from measlog.cli.files import read_log
from measlog.cli.further import join_userspace
from measlog.cli.options import USERSPACE_LOG, as_json, log_argument
from measlog.cli.output import emit, emit_json
from measlog.cli.spread import SpreadCommand
from measlog.view.document import log_document
from measlog.view.render import display_bank, log_page

__all__ = ["show"]


@click.command(
    cls=SpreadCommand, epilog="Example: measlog show /sys/kernel/security/tpm0/binary_bios_measurements --pcr 4 8"
)
@log_argument
@click.option(
    "--pcr", "pcrs", type=click.IntRange(0, 23), multiple=True, metavar="N", help="Only events of this register."
)
@USERSPACE_LOG
@as_json
def show(log: str, pcrs: tuple[int, ...], userspace_log: str | None, *, as_json: bool) -> None:
    """The events of LOG, decoded, each with the check of its digest against its data.

    What is marked ~ is covered by no digest: whoever wrote the log can have written anything there. The numbers of
    --pcr are those of PCRs, in a CCEL those of RTMRs. Events of another log are named after what wrote it.
    """
    history = read_log(log)
    joined = join_userspace(history, userspace_log)
    bank = display_bank(history.algorithms)
    events = (e for e in joined if not pcrs or (e.register.kind in {"pcr", "rtmr"} and e.register.index in pcrs))
    if as_json:
        emit_json(log_document(history, events, bank))
    else:
        emit(log_page(history, events, bank))
