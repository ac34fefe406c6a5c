"""``measlog manifest check``, ``manifest diff`` and ``manifest lint-policy-zip``."""

from __future__ import annotations

import click

from measlog.cli.errors import about
from measlog.cli.files import MANIFEST_LIMIT, read
from measlog.cli.manifests import read_manifest, read_public_key, unsafe_read_unsigned_manifest
from measlog.cli.options import FILE, MIN_VERSION, as_json
from measlog.cli.output import emit, emit_json
from measlog.reference.manifest import ReferenceManifest
from measlog.view.grid import Grid, span
from measlog.view.render import Page, manifest_page

__all__ = ["check", "differences", "lint_policy_zip"]

_KEYS = click.option("--manifest-key", "keys", type=FILE, multiple=True, metavar="PEM", help="Verify with this key.")


@click.command(epilog="Example: measlog manifest check release.json --manifest-key release.pub --min-version 4230000")
@click.argument("path", type=FILE, metavar="M")
@click.option("--manifest-key", "keys", type=FILE, multiple=True, required=True, metavar="PEM", help="Accepted key.")
@MIN_VERSION
@as_json
def check(path: str, keys: tuple[str, ...], min_version: int | None, *, as_json: bool) -> None:
    """Whether a verifier with this key would accept the manifest M now: signature, times, version floor."""
    made = read_manifest(path, [read_public_key(key) for key in keys], min_version)
    if as_json:
        signers = list(made.signed_by or ())
        emit_json({"measlog": "manifest-check/1", "name": made.name, "version": made.version, "signed_by": signers})
    else:
        click.echo("accepted: signed by a given key, in force, and not below the floor")
        emit(manifest_page(made))


@click.command("diff", epilog="Example: measlog manifest diff old.json new.json --manifest-key release.pub")
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@_KEYS
@as_json
def differences(old: str, new: str, keys: tuple[str, ...], *, as_json: bool) -> int:
    """What a machine measures differently after it went from the release of OLD to that of NEW.

    Status 1 means that something changes. Without --manifest-key signatures are not looked at.
    """
    from measlog.reference.changes import compare

    changes = compare(_manifest(old, keys), _manifest(new, keys))
    if as_json:
        rows = [
            {
                "kind": c.kind,
                "subject": c.subject,
                "message": c.message,
                "registers": list(c.registers),
                "old": c.old,
                "new": c.new,
            }
            for c in changes
        ]
        emit_json({"measlog": "manifest-diff/1", "changes": rows})
    elif not changes:
        emit(Page(parts=(span("nothing that is measured changes"),)))
    else:
        grid = Grid(
            columns=("register", "what", "change"),
            rows=tuple(
                (span(", ".join(map(str, c.registers)) or "none"), span(c.subject), span(c.message)) for c in changes
            ),
        )
        emit(Page(parts=(grid,)))
    return 1 if changes else 0


def _manifest(path: str, keys: tuple[str, ...]) -> ReferenceManifest:
    if keys:
        return read_manifest(path, [read_public_key(key) for key in keys], None)
    return unsafe_read_unsigned_manifest(path)


@click.command("lint-policy-zip", epilog="Example: measlog manifest lint-policy-zip _pcr_policy.zip --manifest r.json")
@click.argument("path", type=FILE, metavar="ZIP")
@click.option("--manifest", "release", type=FILE, metavar="M", help="Try the values on the boots of this release.")
@_KEYS
@as_json
def lint_policy_zip(path: str, release: str | None, keys: tuple[str, ...], *, as_json: bool) -> int:
    """What the values of Flatcar's obsolete pcr_policy.zip are worth for a UEFI boot, one by one, and why.

    They are SHA-1, of BIOS boots, and never a reference. Status 1 means that some can never match or are broken.
    """
    from measlog.flatcar.policyzip import PolicyZip

    data = read(path, MANIFEST_LIMIT)
    with about(path):
        rules = PolicyZip.from_bytes(data)
    verdicts = rules.judge(None if release is None else _manifest(release, keys))
    if as_json:
        rows = [
            {
                "member": v.rule.member,
                "pcr": v.rule.pcr,
                "kind": v.rule.kind,
                "prefix": v.rule.prefix,
                "value": v.rule.value,
                "description": v.rule.description,
                "verdict": v.verdict,
                "reasons": list(v.reasons),
            }
            for v in verdicts
        ]
        emit_json({"measlog": "lint-policy-zip/1", "rules": rows})
    else:
        grid = Grid(
            columns=("file", "PCR", "value", "verdict", "why"),
            rows=tuple(
                (
                    span(v.rule.member),
                    span(str(v.rule.pcr)),
                    span(v.rule.value[:48]),
                    span(v.verdict, _STYLES.get(v.verdict, "")),
                    span("; ".join(v.reasons)),
                )
                for v in verdicts
            ),
        )
        emit(Page(parts=(grid,)))
    return 1 if any(v.verdict in {"never", "broken"} for v in verdicts) else 0


_STYLES = {"never": "red", "broken": "red", "unmatched": "yellow", "matches": "green"}
