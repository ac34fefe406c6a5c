"""``measlog convert``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Literal

import click

from measlog.cli.errors import about
from measlog.cli.files import read_log, write
from measlog.cli.options import FILE, log_argument
from measlog.log import EventLog
from measlog.view.render import display_bank

__all__ = ["convert"]


def _yaml(
    log: EventLog,
    version: str = "1",
    device_paths: Literal["raw", "efivar37", "efivar39"] = "raw",
    *,
    tpm2tools_replay: bool = False,
) -> bytes:
    from measlog.interop.tpm2tools import to_yaml

    number: Literal[1, 2] = 2 if version == "2" else 1
    text = to_yaml(log, version=number, device_paths=device_paths, tpm2tools_replay=tpm2tools_replay)
    return text.encode("utf-8", "backslashreplace")


def _json(log: EventLog) -> bytes:
    from measlog.view.document import log_document

    document = log_document(log, log, display_bank(log.algorithms))
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def _cel_json(log: EventLog) -> bytes:
    from measlog.interop.cel import CelLog

    return CelLog.from_log(log).to_json()


def _cel_cbor(log: EventLog) -> bytes:
    from measlog.interop.cel import CelLog

    return CelLog.from_log(log).to_cbor()


def _cel_tlv(log: EventLog) -> bytes:
    from measlog.interop.cel import CelLog

    return CelLog.from_log(log).to_tlv()


def _parquet(log: EventLog) -> bytes:
    table = log.to_arrow()
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


_FORMS: Mapping[str, Callable[[EventLog], bytes]] = {
    "yaml": _yaml,
    "json": _json,
    "cel-json": _cel_json,
    "cel-cbor": _cel_cbor,
    "cel-tlv": _cel_tlv,
    "parquet": _parquet,
}


@click.command(epilog="Example: measlog convert binary_bios_measurements --to yaml -o log.yaml")
@log_argument
@click.option("--to", "form", type=click.Choice(list(_FORMS)), required=True, help="The form that is written.")
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
    """LOG in another form.

    yaml as tpm2_eventlog prints it, json as measlog show --json prints it, cel-json, cel-cbor and cel-tlv as the TCG
    Canonical Event Log Format has them, parquet with the columns of docs/columns.md.
    """
    history = read_log(log)
    with about(log):
        if form == "yaml":
            data = _yaml(history, eventlog_version, device_paths, tpm2tools_replay=tpm2_tools_replay)
        else:
            data = _FORMS[form](history)
    write(output, data)
