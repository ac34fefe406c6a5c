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
def convert(
    log: str, form: str, output: str, eventlog_version: str, device_paths: Literal["raw", "efivar37", "efivar39"]
) -> None:
    """LOG in another form: yaml as tpm2_eventlog prints it, or json as measlog show --json prints it."""
    history = read_log(log)
    with about(log):
        text = _yaml(history, eventlog_version, device_paths) if form == "yaml" else _json(history)
    write(output, text.encode("utf-8", "backslashreplace"))


def _yaml(log: EventLog, version: str, device_paths: Literal["raw", "efivar37", "efivar39"]) -> str:
    from measlog.interop.tpm2tools import to_yaml

    return to_yaml(log, version=2 if version == "2" else 1, device_paths=device_paths)


def _json(log: EventLog) -> str:
    from measlog.view.document import log_document

    return json.dumps(log_document(log, log, display_bank(log.algorithms)), indent=1, ensure_ascii=True) + "\n"
