"""``measlog report``."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from measlog.appraisal.closest import closest_boot
from measlog.appraisal.diff import diff
from measlog.cli.appraise import Case, Request, appraisal_options
from measlog.cli.errors import InputError
from measlog.cli.errors import report as complain
from measlog.cli.files import MANIFEST_LIMIT, read, write
from measlog.cli.options import FILE
from measlog.cli.policy import rule_sentences
from measlog.cli.spread import SpreadCommand
from measlog.errors import LimitExceededError, UnsupportedError
from measlog.flatcar.boot import PredictedBoot, predict
from measlog.view.escape import escape
from measlog.view.report import InputFile, Report, report_page

__all__ = ["report"]


@click.command(
    cls=SpreadCommand,
    epilog="Example: measlog report evidence/ --nonce 5f3a... --manifest release.json --manifest-key release.pub "
    "-o report.html",
)
@appraisal_options
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="The page to write.")
@click.option("--title", metavar="TEXT", help="What the page is called; the folder's or the log's name otherwise.")
def report(*, output: str, title: str | None, **options: Any) -> int:
    """One self-contained HTML page: the verdict, why, what was checked and what not, the events, the raw values.

    Takes what verify takes, and has its exit status. Where the evidence is not authentic, the page says so and shows
    the log, unverified. The page loads nothing and sends nothing.
    """
    request = Request(**options)
    case = request.read()
    evidence = result = error = None
    try:
        evidence = case.verify()
    except InputError as problem:
        error = problem
    else:
        result = case.appraise(evidence)
    log = case.evidence.log
    boot = _closest(case) if case.bank in log.algorithms else None
    page = report_page(
        Report(
            title=title or Path(request.folder or case.files.log).name,
            log=log,
            quote=case.evidence.quote,
            bank=case.bank,
            result=result,
            evidence=evidence,
            error=None if error is None else str(error),
            manifests=case.references,
            boot=None if boot is None else diff(log, boot, bank=case.bank),
            boot_name=None if boot is None else f"{boot.release}: {boot.name}",
            sentences=rule_sentences(case.policy.rule),
            command=_command(request),
            inputs=tuple(_inputs(request, case)),
            made=datetime.now(UTC),
            version=importlib.metadata.version("measlog"),
        )
    )
    write(output, page.encode())
    if error is not None:
        complain(f"{error}; {output} says so too")
        return 3
    assert result is not None
    click.echo(f"{escape(output)}: {result.status}")
    return 0 if result.status == "affirming" else 1


def _closest(case: Case) -> PredictedBoot | None:
    boots: list[PredictedBoot] = []
    for manifest in case.references:
        try:
            boots += predict(manifest)
        except (UnsupportedError, LimitExceededError):
            continue  # this release's boots cannot be predicted; the page says that there is nothing to compare with
    return closest_boot(case.evidence.log, boots, bank=case.bank)


def _command(request: Request) -> str:
    words = ["measlog", "verify"]
    if request.folder is not None:
        words.append(request.folder)
    single = (
        ("--log", request.log),
        ("--quote", request.message),
        ("--signature", request.signature),
        ("--ak", request.ak),
        ("--pcrs", request.pcrs),
        ("--userspace-log", request.userspace_log),
        ("--ima-log", request.ima_log),
        ("--ak-chain", request.ak_chain),
        ("--ak-roots", request.ak_roots),
        ("--nonce", request.nonce.hex()),
        ("--min-version", None if request.min_version is None else str(request.min_version)),
        ("--policy", request.policy),
        ("--bank", request.bank),
    )
    repeated = (("--manifest", request.manifests), ("--manifest-key", request.keys), ("--baseline", request.baselines))
    for name, value in single:
        words += [] if value is None else [name, value]
    for name, values in repeated:
        words += [word for value in values for word in (name, value)]
    if request.unsigned:
        words.append("--unsafe-unsigned-manifest")
    return shlex.join(words)


def _inputs(request: Request, case: Case) -> list[InputFile]:
    files = case.files
    named = [
        ("log", files.log),
        ("quote", files.message),
        ("signature", files.signature),
        ("attestation key", files.key),
    ]
    named += [("registers", files.pcrs)] if files.pcrs is not None else []
    named += [(f"{source}'s log", path) for source, path in files.further.items()]
    named += [("manifest", path) for path in request.manifests]
    named += [("manifest key", path) for path in request.keys]
    named += [("baseline", path) for path in request.baselines]
    made = []
    for role, path in named:
        data = case.evidence.log.to_bytes() if role == "log" else read(path, MANIFEST_LIMIT)
        made.append(InputFile(role=role, name=path, size=len(data), sha256=hashlib.sha256(data).hexdigest()))
    return made
