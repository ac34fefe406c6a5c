"""What predictions keep, and for how long."""

from __future__ import annotations

import gc
import weakref

import attrs

from measlog.appraisal.paths import Predictions
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.test_captures import lab_manifest


def small(name: str) -> ReferenceManifest:
    """A release with a configuration that is run in no time."""
    made = lab_manifest("flatcar-lab-good")
    assert made.grub is not None
    grub = attrs.evolve(made.grub, config="linux /flatcar/vmlinuz-a\n")
    return attrs.evolve(made, name=name, grub=grub, boot_paths=())


def test_every_manifest_lives_as_long_as_its_predictions() -> None:
    """Predictions are found by the manifest's identity: one that was freed could lend its identity to another."""
    predictions = Predictions()
    manifests = [small(name) for name in ("a", "b", "c")]
    for manifest in manifests:
        predictions.of(manifest, secure_boot=True, oem=None)
    alive = [weakref.ref(manifest) for manifest in manifests]
    del manifest
    manifests.clear()
    gc.collect()
    assert [one() and one().name for one in alive] == ["a", "b", "c"]  # type: ignore[union-attr]
    del predictions
    gc.collect()
    assert [one() for one in alive] == [None] * 3
