"""``measlog verify``."""

from __future__ import annotations

import click

from measlog.appraisal.verifier import Verifier
from measlog.cli.errors import about
from measlog.cli.evidence import EvidenceFiles, naming
from measlog.cli.files import KEY_LIMIT, read
from measlog.cli.manifests import read_baseline, read_manifest, read_public_key, unsafe_read_unsigned_manifest
from measlog.cli.options import FILE, HEX, as_json
from measlog.cli.output import emit, emit_json
from measlog.cli.policy import NAMES, choose_policy, rule_sentences
from measlog.cli.spread import SpreadCommand
from measlog.evidence.trust import verify_ak_certificate
from measlog.reference.manifest import ReferenceManifest
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.view.document import result_document
from measlog.view.render import result_page

__all__ = ["verify"]


@click.command(
    cls=SpreadCommand,
    epilog="Example: measlog verify evidence/ --nonce 5f3a... --manifest release.json --manifest-key release.pub",
)
@click.argument("folder", type=FILE, required=False, metavar="[FOLDER]")
@click.option("--log", type=FILE, help="The event log, in place of FOLDER.")
@click.option("--quote", "message", type=FILE, metavar="MSG", help="TPMS_ATTEST (tpm2_quote -m).")
@click.option("--signature", type=FILE, metavar="SIG", help="TPMT_SIGNATURE (tpm2_quote -s).")
@click.option("--ak", type=FILE, metavar="KEY", help="Attestation key: PEM or TPM2B_PUBLIC.")
@click.option("--ak-chain", type=FILE, metavar="PEM", help="Certificates of the AK, its own first.")
@click.option("--ak-roots", type=FILE, metavar="PEM", help="Roots that the AK's certificates must end in.")
@click.option("--pcrs", type=FILE, metavar="FILE", help="Register values (tpm2_quote -o).")
@click.option("--nonce", type=HEX, required=True, metavar="HEX", help="The nonce that you sent.")
@click.option(
    "--manifest", "manifests", type=FILE, multiple=True, required=True, metavar="M", help="Signed reference manifest."
)
@click.option("--manifest-key", "keys", type=FILE, multiple=True, metavar="PEM", help="Key that signs the manifests.")
@click.option("--unsafe-unsigned-manifest", "unsigned", is_flag=True, help="Believe manifests that nobody signed.")
@click.option("--min-version", type=click.IntRange(min=0), metavar="V", help="Refuse manifests of lower version.")
@click.option("--baseline", "baselines", type=FILE, multiple=True, metavar="B", help="Baseline of platform registers.")
@click.option(
    "--policy", default="flatcar", show_default=True, metavar="P", help=f"{', '.join(NAMES)}, or a TOML file."
)
@click.option(
    "--bank", type=click.Choice(list(ALGORITHMS_BY_NAME)), default="sha256", show_default=True, help="Verified bank."
)
@as_json
def verify(
    folder: str | None,
    log: str | None,
    message: str | None,
    signature: str | None,
    ak: str | None,
    ak_chain: str | None,
    ak_roots: str | None,
    pcrs: str | None,
    nonce: bytes,
    manifests: tuple[str, ...],
    keys: tuple[str, ...],
    min_version: int | None,
    baselines: tuple[str, ...],
    policy: str,
    bank: str,
    *,
    unsigned: bool,
    as_json: bool,
) -> int:
    """The whole appraisal of one machine: quote, log, reference manifests, policy.

    FOLDER holds binary_bios_measurements, quote.msg, quote.sig, ak.pub and, where needed, quote.pcrs. The nonce comes
    from you, never from the folder. Exit status 0 means affirming.
    """
    if unsigned == bool(keys):
        raise click.UsageError("Give either --manifest-key or --unsafe-unsigned-manifest.")
    if (ak_chain is None) != (ak_roots is None):
        raise click.UsageError("--ak-chain and --ak-roots go together.")
    files = _evidence(folder, {"--log": log, "--quote": message, "--signature": signature, "--ak": ak}, pcrs)
    chosen = choose_policy(policy)
    references = _references(manifests, keys, min_version, unsigned=unsigned)
    verifier = Verifier(
        references,
        baselines=[read_baseline(path) for path in baselines],
        policy=chosen,
        unsafe_unsigned_manifests=unsigned,
    )
    evidence, key = files.read(bank)
    if ak_chain is not None and ak_roots is not None:
        chain, roots = read(ak_chain, KEY_LIMIT), read(ak_roots, KEY_LIMIT)
        with about(ak_chain):
            key = verify_ak_certificate(key, chain, roots)
    with naming(files):
        verified = evidence.verify(ak=key, nonce=nonce, bank=bank, required=chosen.quoted)
    result = verifier.appraise(verified)
    if as_json:
        emit_json(result_document(result, verified, references))
    else:
        emit(
            result_page(
                result,
                quoted=sorted(verified.values),
                manifests=references,
                sentences=rule_sentences(chosen.rule),
            )
        )
    return 0 if result.status == "affirming" else 1


def _evidence(folder: str | None, parts: dict[str, str | None], pcrs: str | None) -> EvidenceFiles:
    given = [name for name, value in parts.items() if value is not None]
    if folder is not None:
        if given or pcrs is not None:
            raise click.UsageError(f"Give either FOLDER or {given[0] if given else '--pcrs'} and the like, not both.")
        return EvidenceFiles.of_folder(folder)
    missing = [name for name, value in parts.items() if value is None]
    if missing:
        raise click.UsageError(f"Give a FOLDER, or all files: {', '.join(missing)} missing.")
    log, message, signature, ak = (value or "" for value in parts.values())
    return EvidenceFiles(log=log, message=message, signature=signature, key=ak, pcrs=pcrs)


def _references(
    paths: tuple[str, ...], keys: tuple[str, ...], min_version: int | None, *, unsigned: bool
) -> list[ReferenceManifest]:
    if unsigned:
        return [unsafe_read_unsigned_manifest(path) for path in paths]
    loaded = [read_public_key(path) for path in keys]
    return [read_manifest(path, loaded, min_version) for path in paths]
