"""``measlog ima``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from measlog.cli.errors import about
from measlog.cli.files import read, read_log
from measlog.cli.further import read_ima
from measlog.cli.options import FILE, as_json, log_argument
from measlog.cli.output import emit, emit_json
from measlog.cli.spread import SpreadCommand
from measlog.errors import ReplayError
from measlog.limits import DEFAULT_LIMITS
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.view.grid import Cell, Grid, span
from measlog.view.jsonable import json_text, jsonable
from measlog.view.render import Page

if TYPE_CHECKING:
    from measlog.interop.ima import BootAggregate, Extends, ImaEntry, ImaLog
    from measlog.replay.pcr import Bank

__all__ = ["ima"]

_BANKS = ("sha1", "sha256", "sha384", "sha512")
_GOOD = frozenset({"allowed", "boot-aggregate"})
_STYLES = {"matches": "green", "allowed": "green", "boot-aggregate": "green", "violation": "yellow"}
_BAD = "bold red"


@click.command(
    cls=SpreadCommand,
    epilog="Example: measlog ima binary_runtime_measurements --log binary_bios_measurements --allow sha256sums",
)
@log_argument
@click.option("--log", "firmware", type=FILE, metavar="FILE", help="The firmware's event log of the same boot.")
@click.option("--allow", type=FILE, metavar="FILE", help="Digests and names, as sha256sum prints them.")
@click.option(
    "--alg",
    "algorithms",
    type=click.Choice(sorted(ALGORITHMS_BY_NAME)),
    multiple=True,
    help="Only the registers of this bank; sha1, sha256, sha384 and sha512 unless given.",
)
@click.option(
    "--sha1-padded",
    "padded",
    type=click.Choice(sorted(ALGORITHMS_BY_NAME)),
    multiple=True,
    help="The kernel lacked this bank's hash when IMA started, and extended SHA-1 filled up with zeros.",
)
@click.option(
    "--template-hash",
    type=click.Choice(sorted(ALGORITHMS_BY_NAME)),
    default="sha1",
    show_default=True,
    help="For a binary log that is named after another hash.",
)
@as_json
@click.pass_context
def ima(
    context: click.Context,
    log: str,
    firmware: str | None,
    allow: str | None,
    algorithms: tuple[str, ...],
    padded: tuple[str, ...],
    template_hash: str,
    *,
    as_json: bool,
) -> None:
    """The entries and registers of LOG, binary_runtime_measurements or ascii_runtime_measurements.

    The status is 1 where a template hash is not that of its data, where the boot aggregate is not that of --log, or where
    an entry is not allowed by --allow. None of this is evidence before a quote over the register was verified.
    """
    from measlog.interop.ima.allow import AllowList

    entries = _read(log, algorithms or _BANKS, padded, template_hash)
    aggregate = None if firmware is None else entries.boot_aggregate(read_log(firmware))
    verdicts: list[str] | None = None
    if allow is not None:
        data = read(allow, DEFAULT_LIMITS.log_size)
        with about(allow):
            listed = AllowList.from_text(data)
        verdicts = [listed.verdict(entry) for entry in entries]
    banks: dict[str, Bank] = {}
    refused: dict[str, str] = {}
    for name in entries.extends:
        try:
            banks[name] = entries.replay(name)
        except ReplayError as error:
            refused[name] = str(error)
    if as_json:
        emit_json(_document(entries, banks, refused, aggregate, verdicts))
    else:
        emit(_page(entries, banks, refused, aggregate, verdicts))
    bad = any(entry.check() == "differs" for entry in entries)
    bad = bad or (aggregate is not None and aggregate.status != "matches")
    bad = bad or (verdicts is not None and not set(verdicts) <= _GOOD)
    context.exit(1 if bad else 0)


def _read(path: str, algorithms: tuple[str, ...], padded: tuple[str, ...], template_hash: str) -> ImaLog:
    data = read(path, DEFAULT_LIMITS.log_size)
    how: dict[str, Extends] = dict.fromkeys(padded, "sha1-padded")
    with about(path):
        return read_ima(data, algorithms, template_hash=template_hash, extends=how)


def _document(
    log: ImaLog,
    banks: Mapping[str, Bank],
    refused: Mapping[str, str],
    aggregate: BootAggregate | None,
    verdicts: list[str] | None,
) -> dict[str, Any]:
    """``ima/1``."""
    return {
        "measlog": "ima/1",
        "log": {
            "entries": len(log),
            "templates": [json_text(name) for name in log.templates],
            "template_hash": log.template_hash,
            "violations": sum(1 for entry in log if entry.violation),
        },
        "registers": {name: {str(index): value.hex() for index, value in bank.items()} for name, bank in banks.items()},
        "extends": dict(log.extends),
        "refused": dict(refused),
        "boot_aggregate": None if aggregate is None else jsonable(aggregate),
        "entries": [_entry(entry, None if verdicts is None else verdicts[entry.index]) for entry in log],
    }


def _entry(entry: ImaEntry, verdict: str | None) -> dict[str, Any]:
    stated = entry.file_digest
    return {
        "index": entry.index,
        "offset": entry.offset,
        "register": jsonable(entry.register),
        "template": json_text(entry.template),
        "template_hash": entry.template_hash.hex(),
        "check": entry.check(),
        "file_digest": None if stated is None else jsonable(stated),
        "name": json_text(entry.name),
        "fields": {name: value.hex() for name, value in entry.fields.items()},
        "trust": {name: entry.trust(name) for name in entry.fields},
        "verdict": verdict,
    }


def _page(
    log: ImaLog,
    banks: Mapping[str, Bank],
    refused: Mapping[str, str],
    aggregate: BootAggregate | None,
    verdicts: list[str] | None,
) -> Page:
    parts: list[Cell | Grid] = [span(f"{len(log)} entries, {', '.join(log.templates) or 'no template'}")]
    if aggregate is not None:
        words = f"boot aggregate: {aggregate.status}" + (f": {aggregate.reason}" if aggregate.reason else "")
        parts.append(span(words, _STYLES.get(aggregate.status, _BAD)))
    rows = []
    for entry in log:
        check, verdict = entry.check(), "" if verdicts is None else verdicts[entry.index]
        # Of a violation nothing is covered, of another entry its digest and its name are.
        mark = "" if check == "matches" else "~"
        rows.append(
            (
                span(entry.index),
                span(entry.register),
                span(check, _STYLES.get(check, _BAD)),
                *([span(verdict, _STYLES.get(verdict, _BAD))] if verdicts is not None else []),
                span(entry.file_digest or "-"),
                span(mark + entry.name),
            )
        )
    if rows:
        columns = ("#", "register", "check", *(["verdict"] if verdicts is not None else []), "digest", "name")
        parts += [span(""), Grid(columns=columns, rows=tuple(rows), right=frozenset({"#"}))]
    for name, bank in banks.items():
        how = "" if log.extends[name] == "hashed" else f" ({log.extends[name]})"
        parts += [span(""), span(f"{name}{how}")]
        parts += [span(f"PCR {index:<4} {value.hex()}") for index, value in bank.items()]
    parts += [span(f"{name}: {reason}", _BAD) for name, reason in refused.items()]
    return Page(parts=tuple(parts))
