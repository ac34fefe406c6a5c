"""``measlog quote``."""

from __future__ import annotations

import click

from measlog.cli.evidence import EvidenceFiles, naming, read_key, read_pcrs, read_quote
from measlog.cli.options import FILE, HEX, as_json
from measlog.cli.output import emit, emit_json
from measlog.view.document import quote_document
from measlog.view.render import quote_page

__all__ = ["quote"]


@click.command(
    epilog="Example: measlog quote --quote quote.msg --signature quote.sig --ak ak.pub --nonce 5f3a... --pcrs quote.pcrs"
)
@click.option("--quote", "message", type=FILE, required=True, metavar="MSG", help="TPMS_ATTEST (tpm2_quote -m).")
@click.option("--signature", type=FILE, required=True, metavar="SIG", help="TPMT_SIGNATURE (tpm2_quote -s).")
@click.option("--ak", type=FILE, required=True, metavar="KEY", help="Attestation key: PEM or TPM2B_PUBLIC.")
@click.option("--nonce", type=HEX, required=True, metavar="HEX", help="The nonce that you sent.")
@click.option("--pcrs", type=FILE, metavar="FILE", help="Register values (tpm2_quote -o) to hash and compare.")
@as_json
def quote(message: str, signature: str, ak: str, nonce: bytes, pcrs: str | None, *, as_json: bool) -> None:
    """Verify a quote alone: its form, the key, the signature, the nonce and, where given, the register values.

    It says nothing about the log: for that there is verify.
    """
    key = read_key(ak)
    given = read_quote(message, signature, key)
    values = None if pcrs is None else read_pcrs(pcrs, given)
    with naming(EvidenceFiles(log="", message=message, signature=signature, key=ak, pcrs=pcrs)):
        given.verify_signature(key, nonce)
        if values is not None:
            given.verify_pcr_digest(values)
    if as_json:
        emit_json(quote_document(given, key, values))
    else:
        emit(quote_page(given, key, pcrs_checked=values is not None))
