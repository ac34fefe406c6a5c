"""``measlog baseline``."""

from __future__ import annotations

import click

from measlog.appraisal.baseline import Baseline
from measlog.cli.evidence import EvidenceFiles, naming
from measlog.cli.files import write
from measlog.cli.options import FILE, HEX, as_json
from measlog.cli.output import emit, emit_json
from measlog.evidence import VerifiedEvidence
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
    verified = [_verified(sample, bank) for sample in samples]
    made = Baseline.learn(verified, model=model)
    write(output, made.to_json())
    if as_json:
        emit_json(baseline_document(made))
    elif output != "-":
        emit(baseline_page(made))


def _verified(sample: str, bank: str) -> VerifiedEvidence:
    folder, separator, nonce = sample.rpartition("=")
    if not separator or not folder:
        raise click.UsageError(f"{sample!r} is not FOLDER=NONCEHEX.")
    files = EvidenceFiles.of_folder(folder)
    evidence, key = files.read(bank)
    with naming(files):
        return evidence.verify(ak=key, nonce=HEX.convert(nonce, None, None), bank=bank)
