"""``measlog keylime``: the files that a Keylime verifier with measlog's module takes."""

from __future__ import annotations

import click

from measlog.cli.errors import about
from measlog.cli.evidence import verified_sample
from measlog.cli.files import KEY_LIMIT, MANIFEST_LIMIT, read, write
from measlog.cli.manifests import read_baseline, read_manifest, read_public_key
from measlog.cli.options import FILE, MIN_VERSION
from measlog.cli.policy import NAMES, policy_text
from measlog.interop.keylime import KeylimeState, policy_document, state_document
from measlog.registry import ALGORITHMS_BY_NAME

__all__ = ["keylime"]

_POLICY_EXAMPLE = "Example: measlog keylime policy --manifest release.json --manifest-key release.pub -o mb-policy.json"
_STATE_EXAMPLE = (
    "Example: measlog keylime state machine1=5f3a... --manifest release.json --manifest-key release.pub -o state.json"
)
_KEYS = click.option(
    "--manifest-key", "keys", type=FILE, multiple=True, metavar="PEM", help="Key that signs the manifests."
)
_OUTPUT = click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="Where it is written.")


@click.group(epilog=_POLICY_EXAMPLE)
def keylime() -> None:
    """Measured-boot policies for Keylime, and its reference states."""


@keylime.command(epilog=_POLICY_EXAMPLE)
@click.option("--manifest", "manifests", type=FILE, multiple=True, metavar="M", help="Signed reference manifest.")
@_KEYS
@MIN_VERSION
@click.option("--baseline", "baselines", type=FILE, multiple=True, metavar="B", help="Baseline of platform registers.")
@click.option("--policy", metavar="P", help=f"{', '.join(NAMES)}, or a TOML file.  [default: flatcar]")
@click.option("--state", type=FILE, metavar="JSON", help="A reference state of Keylime's, in place of all of these.")
@_OUTPUT
def policy(
    manifests: tuple[str, ...],
    keys: tuple[str, ...],
    min_version: int | None,
    baselines: tuple[str, ...],
    policy: str | None,
    state: str | None,
    output: str,
) -> None:
    """Write the policy that keylime_tenant is given for measured boot.

    It holds the signed manifests, the keys that verify them, and the policy: all that an evaluation needs. What would
    be refused there is refused here.
    """
    if state is not None:
        if manifests or keys or baselines or policy is not None or min_version is not None:
            raise click.UsageError("Give either --state or manifests, keys, baselines and a policy, not both.")
        data = read(state, MANIFEST_LIMIT)
        with about(state):
            made = state_document(KeylimeState.from_json(data))
    else:
        if not manifests and not baselines:
            raise click.UsageError("Give --manifest and --manifest-key, --baseline, or --state.")
        if bool(manifests) != bool(keys):
            raise click.UsageError("--manifest and --manifest-key go together.")
        public = [read_public_key(path) for path in keys]
        for path in manifests:
            read_manifest(path, public, min_version)  # the error names the file
        made = policy_document(
            policy=policy_text("flatcar" if policy is None else policy),
            manifests=[read(path, MANIFEST_LIMIT) for path in manifests],
            keys=[read(path, KEY_LIMIT) for path in keys],
            minimum_version=min_version,
            baselines=[read_baseline(path) for path in baselines],
        )
    write(output, made)


@keylime.command(epilog=_STATE_EXAMPLE)
@click.argument("platform", metavar="FOLDER=NONCEHEX")
@click.option("--manifest", type=FILE, required=True, metavar="M", help="Signed reference manifest.")
@_KEYS
@MIN_VERSION
@click.option(
    "--bank", type=click.Choice(list(ALGORITHMS_BY_NAME)), default="sha256", show_default=True, help="Verified bank."
)
@_OUTPUT
def state(platform: str, manifest: str, keys: tuple[str, ...], min_version: int | None, bank: str, output: str) -> None:
    """Write a reference state of Keylime's own: a release's boots on platforms like one that is known to be good.

    FOLDER is the evidence of that machine, verified with the nonce that you sent it. Firmware and keys are its own.
    """
    reference = read_manifest(manifest, [read_public_key(path) for path in keys], min_version)
    verified = verified_sample(platform, bank)
    with about(manifest):
        made = KeylimeState.from_manifest(reference, verified)
    write(output, made.to_json())
