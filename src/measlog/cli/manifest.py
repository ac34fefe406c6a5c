"""``measlog manifest``: making, signing and looking at reference manifests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from measlog.cli.compare import check, differences, lint_policy_zip
from measlog.cli.errors import about
from measlog.cli.files import KEY_LIMIT, MANIFEST_LIMIT, read, write
from measlog.cli.manifests import read_manifest, read_public_key, unsafe_read_unsigned_manifest
from measlog.cli.options import FILE, as_json
from measlog.cli.output import emit, emit_json
from measlog.cli.progress import working
from measlog.reference.manifest import ReferenceManifest
from measlog.view.render import manifest_page

__all__ = ["manifest"]

_OUTPUT = click.option(
    "-o", "--output", type=FILE, required=True, metavar="M", help="Where it is written, whole or not at all."
)


@click.group(epilog="Example: measlog manifest build flatcar.img -o unsigned.json --release 4230.2.1")
def manifest() -> None:
    """Reference manifests: what a release should measure."""


@manifest.command(epilog="Example: measlog manifest build flatcar.img -o unsigned.json --release 4230.2.1")
@click.argument("source", type=FILE, metavar="IMAGE_OR_DIRECTORY")
@_OUTPUT
@click.option("--no-verity", is_flag=True, help="Leave the USR partition unchecked, and say so in the manifest.")
@click.option("--openpgp-keys", type=FILE, metavar="FILE", help="Certificates that must have signed what is read.")
@click.option("--name", help="Name of the manifest; the file's or the release's unless given.")
@click.option("--release", help="Flatcar's version, such as 4230.2.1.")
@click.option("--channel", help="Flatcar's channel.")
@click.option("--version", type=click.IntRange(min=0), help="Number for version floors; made from the release.")
@click.option("--not-before", type=click.DateTime(), help="When the manifest comes into force (UTC).")
@click.option("--expires", type=click.DateTime(), help="When the manifest expires (UTC).")
def build(
    source: str,
    output: str,
    openpgp_keys: str | None,
    name: str | None,
    release: str | None,
    channel: str | None,
    version: int | None,
    not_before: datetime | None,
    expires: datetime | None,
    *,
    no_verity: bool,
) -> None:
    """Build the manifest of a disk image, or of the folder with the files of a release. It is unsigned: see sign."""
    from measlog.flatcar.authenticity import OpenPgpKeys
    from measlog.flatcar.image import Image
    from measlog.flatcar.release import Release

    keys = None
    if openpgp_keys is not None:
        certificates = read(openpgp_keys, KEY_LIMIT)
        with about(openpgp_keys):
            keys = OpenPgpKeys(certificates=certificates)
            keys.check()
    open_source = Release.from_directory if Path(source).is_dir() else Image.open
    with about(source), working(f"reading {source}") as progress:
        made = open_source(source, keys=keys, verity=not no_verity, progress=progress).reference_manifest(
            name=name,
            release=release,
            channel=channel,
            version=version,
            not_before=_utc(not_before),
            expires=_utc(expires),
        )
    write(output, made.to_json())


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


@manifest.command(epilog="Example: measlog manifest sign unsigned.json --key release.key -o release.json")
@click.argument("unsigned", type=FILE, metavar="M")
@click.option("--key", type=FILE, required=True, metavar="PEM", help="Private key: Ed25519, ECDSA P-256 or P-384.")
@_OUTPUT
def sign(unsigned: str, key: str, output: str) -> None:
    """Sign the manifest M: a DSSE envelope."""
    data = read(unsigned, MANIFEST_LIMIT)
    with about(unsigned):
        made = ReferenceManifest.from_json(data)
    secret = read(key, KEY_LIMIT)
    with about(key):
        envelope = made.sign(secret)
    write(output, envelope)


@manifest.command(epilog="Example: measlog manifest show release.json --manifest-key release.pub")
@click.argument("path", type=FILE, metavar="M")
@click.option("--manifest-key", "keys", type=FILE, multiple=True, metavar="PEM", help="Verify it with this key.")
@as_json
def show(path: str, keys: tuple[str, ...], *, as_json: bool) -> None:
    """What the manifest M speaks for. Without --manifest-key its signature is not looked at."""
    if keys:
        made = read_manifest(path, [read_public_key(key) for key in keys], None)
    else:
        made = unsafe_read_unsigned_manifest(path)
    if as_json:
        signers = None if made.signed_by is None else list(made.signed_by)
        emit_json({"measlog": "manifest-show/1", "signed_by": signers, "manifest": json.loads(made.to_json())})
    else:
        emit(manifest_page(made))


for command in (check, differences, lint_policy_zip):
    manifest.add_command(command)
