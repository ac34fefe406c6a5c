"""``measlog baseline``."""

from __future__ import annotations

import click

from measlog.appraisal.baseline import Baseline
from measlog.cli.evidence import verified_sample
from measlog.cli.files import write
from measlog.cli.options import FILE, as_json
from measlog.cli.output import emit, emit_json
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.view.document import baseline_document
from measlog.view.render import baseline_page

__all__ = ["baseline"]


@click.group(epilog="Example: measlog baseline learn machine1=5f3a... machine2=77c0... -o platform.json")
def baseline() -> None:
    """Platform baselines: firmware registers as known-good machines had them."""


@baseline.command(epilog="Example: measlog baseline learn machine1=5f3a... machine2=77c0... -o platform.json")
@click.argument("samples", nargs=-1, required=True, metavar="FOLDER=NONCEHEX ...")
@click.option("-o", "--output", type=FILE, required=True, metavar="B", help="Where the baseline is written.")
@click.option("--model", help="The model of the machines.")
@click.option(
    "--bank", type=click.Choice(list(ALGORITHMS_BY_NAME)), default="sha256", show_default=True, help="Verified bank."
)
@as_json
def learn(samples: tuple[str, ...], output: str, model: str | None, bank: str, *, as_json: bool) -> None:
    """Learn a baseline from the verified evidence of machines that are known to be good.

    The nonce of each sample is the one that you sent. What varies between the samples is shown: it will be allowed.
    """
    verified = [verified_sample(sample, bank) for sample in samples]
    made = Baseline.learn(verified, model=model)
    write(output, made.to_json())
    if as_json:
        emit_json(baseline_document(made))
    elif output != "-":
        emit(baseline_page(made))
