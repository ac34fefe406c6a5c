"""``measlog identify``."""

from __future__ import annotations

import click

from measlog.appraisal.identify import Identifier
from measlog.cli.errors import about, note
from measlog.cli.files import read_log
from measlog.cli.manifests import read_manifest, read_public_key, unsafe_read_unsigned_manifest
from measlog.cli.options import FILE, as_json, log_argument
from measlog.cli.output import emit, emit_json
from measlog.cli.spread import SpreadCommand
from measlog.view.document import identification_document
from measlog.view.render import identification_page

__all__ = ["identify"]


@click.command(
    cls=SpreadCommand,
    epilog="Example: measlog identify binary_bios_measurements --manifest 4152.json 4230.json --manifest-key release.pub",
)
@log_argument
@click.option("--manifest", "paths", type=FILE, multiple=True, required=True, metavar="M", help="Reference manifest.")
@click.option("--manifest-key", "keys", type=FILE, multiple=True, metavar="PEM", help="Verify the manifests with it.")
@as_json
def identify(log: str, paths: tuple[str, ...], keys: tuple[str, ...], *, as_json: bool) -> None:
    """Which release, slot and boot path LOG shows, looked up by digest among the manifests.

    This recognises and vouches for nothing: a log alone can say anything. For a verdict there is verify.
    """
    history = read_log(log)
    if keys:
        loaded = [read_public_key(key) for key in keys]
        manifests = [read_manifest(path, loaded, None) for path in paths]
    else:
        note("nobody vouches for the manifests, their signatures were not verified (--manifest-key)")
        manifests = [unsafe_read_unsigned_manifest(path) for path in paths]
    with about(log):
        found = Identifier(manifests).identify(history)
    if as_json:
        emit_json(identification_document(found))
    else:
        emit(identification_page(found))
