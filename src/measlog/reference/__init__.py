"""What a machine should measure: digests of boot programs, reference manifests and their signatures."""

from __future__ import annotations

from measlog.reference.authenticode import authenticode_digests, flat_digests
from measlog.reference.manifest import ReferenceManifest
from measlog.reference.signing import SignedManifest

__all__ = ["ReferenceManifest", "SignedManifest", "authenticode_digests", "flat_digests"]
