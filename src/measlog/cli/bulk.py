"""``measlog bulk``."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from measlog.appraisal.verifier import Verifier
from measlog.bulk.cohorts import CohortBuilder, Cohorts
from measlog.bulk.schema import TableError, pyarrow
from measlog.bulk.stream import Progress, Summary, verify_parquet
from measlog.cli.errors import InputError, about
from measlog.cli.manifests import read_baseline, read_manifest, read_public_key, unsafe_read_unsigned_manifest
from measlog.cli.options import FILE, MIN_VERSION, as_json
from measlog.cli.output import emit_json
from measlog.cli.policy import NAMES, choose_policy
from measlog.cli.spread import SpreadCommand
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.view.escape import escape

__all__ = ["bulk"]

_ROWS = 1024
_BANK = click.option(
    "--bank", type=click.Choice(list(ALGORITHMS_BY_NAME)), default="sha256", show_default=True, help="Verified bank."
)


@click.group(epilog="Example: measlog bulk verify fleet.parquet --manifest M.json --manifest-key M.pub -o out.parquet")
def bulk() -> None:
    """Fleets: many machines at a time, from Parquet to Parquet."""


@bulk.command(
    cls=SpreadCommand,
    epilog="Example: measlog bulk verify fleet.parquet --manifest release.json --manifest-key release.pub "
    "-o verdicts.parquet --workers 8",
)
@click.argument("table", type=FILE, metavar="TABLE.parquet")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT.parquet", help="Where the verdicts are written.")
@click.option(
    "--manifest", "manifests", type=FILE, multiple=True, required=True, metavar="M", help="Signed reference manifest."
)
@click.option("--manifest-key", "keys", type=FILE, multiple=True, metavar="PEM", help="Key that signs the manifests.")
@click.option("--unsafe-unsigned-manifest", "unsigned", is_flag=True, help="Believe manifests that nobody signed.")
@MIN_VERSION
@click.option("--baseline", "baselines", type=FILE, multiple=True, metavar="B", help="Baseline of platform registers.")
@click.option(
    "--policy", default="flatcar", show_default=True, metavar="P", help=f"{', '.join(NAMES)}, or a TOML file."
)
@_BANK
@click.option("--workers", type=click.IntRange(1, 1024), default=1, show_default=True, help="Processes.")
@as_json
def verify(
    table: str,
    output: str,
    manifests: tuple[str, ...],
    keys: tuple[str, ...],
    min_version: int | None,
    baselines: tuple[str, ...],
    policy: str,
    bank: str,
    workers: int,
    *,
    unsigned: bool,
    as_json: bool,
) -> int:
    """Appraise every row of a fleet table, and write it with its verdicts.

    The table has the binary columns log, attest, signature, ak and nonce, optionally pcrs, and any others. A run that
    was interrupted goes on where it stopped. Exit status 0 means that every machine is affirming.
    """
    if unsigned == bool(keys):
        raise click.UsageError("Give either --manifest-key or --unsafe-unsigned-manifest.")
    chosen = choose_policy(policy)
    loaded = [read_public_key(path) for path in keys]
    references = [
        unsafe_read_unsigned_manifest(path) if unsigned else read_manifest(path, loaded, min_version)
        for path in manifests
    ]
    verifier = Verifier(
        references,
        baselines=[read_baseline(path) for path in baselines],
        policy=chosen,
        unsafe_unsigned_manifests=unsigned,
    )
    with about(table):
        _refuse_folder(table)
        try:
            summary = verify_parquet(
                table, output, verifier, bank=bank, workers=workers, progress=_show if sys.stderr.isatty() else None
            )
        except TableError as error:
            raise InputError(f"{table}: {error}") from None
    if sys.stderr.isatty():
        click.echo(err=True)
    if as_json:
        emit_json(_summary_document(summary))
    else:
        _print_summary(summary)
    return 0 if set(summary.statuses) <= {"affirming"} else 1


def _show(progress: Progress) -> None:
    share = 100 * progress.done // progress.rows if progress.rows else 100
    text = f"{progress.done} of {progress.rows} machines ({share} %)"
    if progress.rate is not None and progress.remaining is not None:
        text += f", {progress.rate:.0f} a second, {progress.remaining:.0f} s left"
    click.echo(f"\r\x1b[K{text}", nl=False, err=True)


def _summary_document(summary: Summary) -> dict[str, object]:
    return {
        "measlog": "bulk-verify/1",
        "machines": summary.rows,
        "statuses": dict(summary.statuses),
        "codes": dict(summary.codes),
        "resumed": summary.resumed,
        "seconds": round(summary.seconds, 3),
    }


def _print_summary(summary: Summary) -> None:
    rate = summary.rows / summary.seconds if summary.seconds else 0
    click.echo(f"{summary.rows} machines in {summary.seconds:.1f} s ({rate:.0f} a second)")
    if summary.resumed:
        click.echo(f"{summary.resumed} of them were done by an earlier run")
    for status, count in summary.statuses.items():
        click.echo(f"{count:>10}  {status}")
    for code, count in summary.codes.items():
        click.echo(f"{count:>10}  {code}")


@bulk.command(cls=SpreadCommand, epilog="Example: measlog bulk cohorts verdicts.parquet --by region")
@click.argument("table", type=FILE, metavar="OUT.parquet")
@click.option("--by", multiple=True, metavar="COLUMN", help="Count the values of a column in each cohort.")
@click.option("--most", type=click.IntRange(min=1), default=20, show_default=True, help="Cohorts to show.")
@_BANK
@as_json
def cohorts(table: str, by: tuple[str, ...], most: int, bank: str, *, as_json: bool) -> int:
    """Group the machines that deviate by what deviates, from a table that bulk verify wrote."""
    found = _read(table, lambda: CohortBuilder(bank=bank, by=by))
    if as_json:
        emit_json(_cohorts_document(found))
        return 0
    deviating = found.machines - found.affirming
    click.echo(f"{found.machines} machines, {found.affirming} affirming, {deviating} not")
    for pcr, count in found.usual.items():
        click.echo(f"{count:>10}  share PCR {pcr}")
    for cohort in found.cohorts[:most]:
        click.echo(f"\n{escape(cohort.sentence)}")
        click.echo(f"  {cohort.status}, {cohort.code}; first rows: {', '.join(map(str, cohort.rows))}")
        if cohort.shared is not None:
            click.echo(f"  {cohort.shared} events of the register are as on most machines")
            click.echo(f"  then {_hex(cohort.digest)} in place of {_hex(cohort.usual)}")
        if cohort.text is not None:
            click.echo(f"  the log calls the event {escape(cohort.text)!r}")
        for name, values in cohort.counts.items():
            counted = ", ".join(f"{escape(value)} {count}" for value, count in list(values.items())[:10])
            click.echo(f"  {escape(name)}: {counted}")
    if len(found.cohorts) > most:
        click.echo(f"\n{len(found.cohorts) - most} more cohorts; --most shows them")
    return 0


def _read(table: str, make: Callable[[], CohortBuilder]) -> Cohorts:
    pa = pyarrow()
    import pyarrow.parquet as pq

    builder = make()
    with about(table):
        _refuse_folder(table)
        try:
            with pq.ParquetFile(table) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    builder.add(batch)
        except TableError as error:
            raise InputError(f"{table}: {error}") from None
        except pa.ArrowInvalid as error:
            raise InputError(f"{table}: not a Parquet file: {error}") from None
    return builder.finish()


def _refuse_folder(table: str) -> None:
    # pyarrow says the same in a sentence with the path in it.
    if Path(table).is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), table)


def _hex(digest: bytes | None) -> str:
    return "nothing" if digest is None else digest.hex()


def _cohorts_document(found: Cohorts) -> dict[str, object]:
    return {
        "measlog": "bulk-cohorts/1",
        "machines": found.machines,
        "affirming": found.affirming,
        "usual": {str(pcr): count for pcr, count in found.usual.items()},
        "cohorts": [
            {
                "machines": c.machines,
                "status": c.status,
                "code": c.code,
                "explanation": c.explanation,
                "pcr": c.pcr,
                "event": c.event,
                "shared": c.shared,
                "digest": None if c.digest is None else c.digest.hex(),
                "usual": None if c.usual is None else c.usual.hex(),
                "text": c.text,
                "counts": {name: dict(values) for name, values in c.counts.items()},
                "rows": list(c.rows),
            }
            for c in found.cohorts
        ],
    }
