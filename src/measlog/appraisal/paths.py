"""The boots that the manifests allow for, and how far a log follows one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen

from measlog.flatcar.boot import PredictedBoot, PredictedEvent, predict
from measlog.reference.manifest import Component, ReferenceManifest

if TYPE_CHECKING:
    from measlog.appraisal.case import Measured

__all__ = ["Candidate", "Divergence", "Following", "Owner", "Predictions", "follow"]

Owner = tuple[ReferenceManifest, Component]


class Predictions:
    """The boots of each manifest, computed when they are first asked for.

    Prediction is a pure function of the manifest and an OEM configuration; only its results are kept, no verdict (A40).
    """

    def __init__(self) -> None:
        self._boots: dict[tuple[int, bool, bytes | None], tuple[PredictedBoot, ...]] = {}
        self._manifests: list[ReferenceManifest] = []

    def of(self, manifest: ReferenceManifest, *, secure_boot: bool, oem: bytes | None) -> tuple[PredictedBoot, ...]:
        """The boots that end in a kernel; none of a manifest without GRUB."""
        if manifest.grub is None or manifest.disk is None:
            return ()
        key = id(manifest), secure_boot, oem
        if key not in self._boots:
            self._manifests.append(manifest)  # keeps the manifest, and with it the id, alive
            boots = predict(manifest, secure_boot=secure_boot, oem_grub_cfg=oem)
            self._boots[key] = tuple(boot for boot in boots if boot.slot is not None)
        return self._boots[key]


@frozen(kw_only=True)
class Candidate:
    """One boot that the manifest of the boot loader decides.

    ``others`` are the other manifests, whose components may stand in for those of the same role: the updater replaces
    the kernel, not the boot loader. ``free_file`` names a file whose contents the policy leaves open because all that
    it did is in PCR 8.
    """

    manifest: ReferenceManifest
    boot: PredictedBoot
    others: tuple[ReferenceManifest, ...] = field(default=(), repr=False)
    free_file: bytes | None = None

    @property
    def name(self) -> str:
        """The manifest's name and the boot's."""
        return f"{self.manifest.name}: {self.boot.name}"

    def expected(self, pcr: int) -> tuple[PredictedEvent, ...]:
        """The events of a register that image and configuration decide; the boot manager's are the platform's."""
        return tuple(e for e in self.boot.of(pcr) if e.kind not in {"action", "separator"})

    def accepts(self, expected: PredictedEvent, measured: Measured, bank: str) -> tuple[Owner, ...] | None:
        """Whether an event is the expected one, and the components it may be; ``None`` where it is not."""
        if measured.event.type != expected.type:
            return None
        if expected.kind == "file" and self.free_file is not None and expected.text == self.free_file:
            return ()
        digest = expected.digests.get(bank)
        if digest is None:
            return None
        roles = {(c.role, c.machine) for c in self.manifest.components if digest in _digests(c, expected, bank)}
        # Another release's kernel may be started, and another's shim start it, but the commands were predicted for
        # this GRUB: another one runs another configuration.
        owners = tuple(
            (manifest, component)
            for manifest in (self.manifest, *self.others)
            for component in manifest.components
            if (component.role, component.machine) in roles
            and (component.role != "grub" or manifest is self.manifest)
            and measured.digest in _digests(component, expected, bank)
        )
        return owners if owners or digest == measured.digest else None


def _digests(component: Component, expected: PredictedEvent, bank: str) -> tuple[bytes, ...]:
    """The digest of a component that an event of this kind holds: images are measured as such, files as they lie."""
    digests: Mapping[str, bytes] = {"image": component.authenticode, "file": component.flat}.get(expected.kind, {})
    return (digests[bank],) if bank in digests else ()


@frozen(kw_only=True)
class Divergence:
    """The first place where a register's history leaves the expected one; one side is ``None`` at its end."""

    position: int
    expected: PredictedEvent | None
    observed: Measured | None


@frozen(kw_only=True)
class Following:
    """How far the events of one register follow what is expected of it.

    ``matched`` are the events that were explained, one by one and in order, each with the expectation it consumed and
    the components that it may be.
    """

    pcr: int
    matched: tuple[tuple[Measured, PredictedEvent, tuple[Owner, ...]], ...]
    divergence: Divergence | None
    observed: tuple[Measured, ...] = field(repr=False)
    shared: int
    """How many events the register has in common with what is expected, wherever they stand."""
    wanted: int
    """How many events are expected."""

    @property
    def complete(self) -> bool:
        """Whether every event was expected and every expected event is there."""
        return self.divergence is None


def follow(candidate: Candidate, pcr: int, observed: Sequence[Measured], bank: str) -> Following:
    """Walk two sequences together until they part; each expectation is consumed by one event (A3)."""
    matched: list[tuple[Measured, PredictedEvent, tuple[Owner, ...]]] = []
    wanted = candidate.expected(pcr)
    divergence: Divergence | None = None
    for position in range(max(len(observed), len(wanted))):
        event = observed[position] if position < len(observed) else None
        expectation = wanted[position] if position < len(wanted) else None
        if event is not None and expectation is not None:
            owners = candidate.accepts(expectation, event, bank)
            if owners is not None:
                matched.append((event, expectation, owners))
                continue
        divergence = Divergence(position=position, expected=expectation, observed=event)
        break
    common = Counter(m.digest for m in observed) & Counter(e.digests.get(bank, b"") for e in wanted)
    return Following(
        pcr=pcr,
        matched=tuple(matched),
        divergence=divergence,
        observed=tuple(observed),
        shared=common.total(),
        wanted=len(wanted),
    )
