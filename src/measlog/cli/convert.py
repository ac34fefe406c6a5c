"""``measlog convert``."""

from __future__ import annotations

import json
from typing import Literal

import click

from measlog.cli.errors import about
from measlog.cli.files import read_log, write
from measlog.cli.options import FILE, log_argument
from measlog.log import EventLog
from measlog.view.render import display_bank

__all__ = ["convert"]


@click.command(epilog="Example: measlog convert binary_bios_measurements --to yaml -o log.yaml")
@log_argument
@click.option("--to", "form", type=click.Choice(["yaml", "json"]), required=True, help="The form that is written.")
@click.option("-o", "--output", type=FILE, default="-", metavar="FILE", help="Where it is written; standard output.")
@click.option(
    "--eventlog-version", type=click.Choice(["1", "2"]), default="1", show_default=True, help="For yaml: as tpm2-tools."
)
@click.option(
    "--device-paths",
    type=click.Choice(["raw", "efivar37", "efivar39"]),
    default="raw",
    show_default=True,
    help="For yaml: as hex, or as these versions of efivar print them.",
)
@click.option(
    "--tpm2-tools-replay", is_flag=True, help="For yaml: registers as tpm2_eventlog computes them, faults too."
)
def convert(
    log: str,
    form: str,
    output: str,
    eventlog_version: str,
    device_paths: Literal["raw", "efivar37", "efivar39"],
    *,
    tpm2_tools_replay: bool,
) -> None:
    """LOG in another form: yaml as tpm2_eventlog prints it, or json as measlog show --json prints it."""
    history = read_log(log)
    with about(log):
        if form == "yaml":
            text = _yaml(history, eventlog_version, device_paths, tpm2tools_replay=tpm2_tools_replay)
        else:
            text = _json(history)
    write(output, text.encode("utf-8", "backslashreplace"))


def _yaml(
    log: EventLog, version: str, device_paths: Literal["raw", "efivar37", "efivar39"], *, tpm2tools_replay: bool
) -> str:
    from measlog.interop.tpm2tools import to_yaml

    number: Literal[1, 2] = 2 if version == "2" else 1
    return to_yaml(log, version=number, device_paths=device_paths, tpm2tools_replay=tpm2tools_replay)


def _json(log: EventLog) -> str:
    from measlog.view.document import log_document

    return json.dumps(log_document(log, log, display_bank(log.algorithms)), indent=1, ensure_ascii=True) + "\n"
