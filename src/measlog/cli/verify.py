"""``measlog verify``."""

from __future__ import annotations

from typing import Any

import click

from measlog.cli.appraise import Request, appraisal_options
from measlog.cli.options import as_json
from measlog.cli.output import emit, emit_json
from measlog.cli.policy import rule_sentences
from measlog.cli.spread import SpreadCommand
from measlog.view.document import result_document
from measlog.view.render import result_page

__all__ = ["verify"]


@click.command(
    cls=SpreadCommand,
    epilog="Example: measlog verify evidence/ --nonce 5f3a... --manifest release.json --manifest-key release.pub",
)
@appraisal_options
@as_json
def verify(*, as_json: bool, **options: Any) -> int:
    """The whole appraisal of one machine: quote, log, reference manifests, policy.

    FOLDER holds binary_bios_measurements, quote.msg, quote.sig, ak.pub and, where needed, quote.pcrs. The nonce comes
    from you, never from the folder. Exit status 0 means affirming.
    """
    case = Request(**options).read()
    verified = case.verify()
    result = case.appraise(verified)
    if as_json:
        emit_json(result_document(result, verified, case.references))
    else:
        emit(
            result_page(
                result,
                quoted=sorted(verified.values),
                manifests=case.references,
                sentences=rule_sentences(case.policy.rule),
            )
        )
    return 0 if result.status == "affirming" else 1
