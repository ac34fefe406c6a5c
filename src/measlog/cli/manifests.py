"""Reading reference manifests and baselines."""

from __future__ import annotations

from collections.abc import Sequence

from measlog.appraisal.baseline import Baseline
from measlog.cli.errors import about
from measlog.cli.files import KEY_LIMIT, MANIFEST_LIMIT, read
from measlog.errors import ManifestError
from measlog.reference.manifest import ReferenceManifest
from measlog.reference.signing import Envelope, PublicKey, SignedManifest, load_public_key

__all__ = ["read_baseline", "read_manifest", "read_public_key", "unsafe_read_unsigned_manifest"]


def read_public_key(path: str) -> PublicKey:
    """The key that manifests are signed with."""
    data = read(path, KEY_LIMIT)
    with about(path):
        return load_public_key(data)


def read_manifest(path: str, keys: Sequence[PublicKey], minimum_version: int | None) -> ReferenceManifest:
    """A signed manifest, verified."""
    data = read(path, MANIFEST_LIMIT)
    with about(path):
        return SignedManifest.from_bytes(data).verify(keys=keys, minimum_version=minimum_version)


def unsafe_read_unsigned_manifest(path: str) -> ReferenceManifest:
    """A manifest that nobody vouches for: unsigned, or in an envelope whose signatures are not looked at."""
    data = read(path, MANIFEST_LIMIT)
    with about(path):
        try:
            payload = Envelope.from_bytes(data).payload
        except ManifestError:
            payload = data
        return ReferenceManifest.from_json(payload)


def read_baseline(path: str) -> Baseline:
    """A baseline of platform registers."""
    data = read(path, MANIFEST_LIMIT)
    with about(path):
        return Baseline.from_json(data)
