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

_JUDGED = frozenset({4, 8, 9})
"""A boot of which one of these is unknown is no reference: nothing is compared with it."""

_Key = tuple[int, bool, bytes | None]
_MOST_SETTLED = 64
"""How many configurations of machines are remembered at a time."""


class Predictions:
    """The boots of each manifest, computed when they are first asked for.

    Prediction is a pure function of the manifest and an OEM configuration; only its results are kept, no verdict (A40).
    """

    def __init__(self) -> None:
        self._boots: dict[_Key, tuple[PredictedBoot, ...]] = {}
        self._settled: dict[_Key, tuple[PredictedBoot, ...]] = {}
        # Keeps the manifests, and with them their ids, alive.
        self._manifests: dict[int, ReferenceManifest] = {}

    def of(self, manifest: ReferenceManifest, *, secure_boot: bool, oem: bytes | None) -> tuple[PredictedBoot, ...]:
        """The boots that end in a kernel and whose registers are known; none of a manifest without GRUB."""
        return self._of(self._boots, manifest, secure_boot=secure_boot, oem=oem)

    def with_settings(self, manifest: ReferenceManifest, *, secure_boot: bool, oem: bytes) -> tuple[PredictedBoot, ...]:
        """The same for a configuration that a machine's log suggests: what machines can choose is not kept for good."""
        while len(self._settled) >= _MOST_SETTLED:
            del self._settled[next(iter(self._settled))]
        return self._of(self._settled, manifest, secure_boot=secure_boot, oem=oem)

    def _of(
        self,
        kept: dict[_Key, tuple[PredictedBoot, ...]],
        manifest: ReferenceManifest,
        *,
        secure_boot: bool,
        oem: bytes | None,
    ) -> tuple[PredictedBoot, ...]:
        if manifest.grub is None or manifest.disk is None:
            return ()
        key = id(manifest), secure_boot, oem
        if key not in kept:
            self._manifests[id(manifest)] = manifest
            boots = predict(manifest, secure_boot=secure_boot, oem_grub_cfg=oem)
            known = (boot for boot in boots if not _JUDGED & boot.unknown.keys())
            kept[key] = tuple(boot for boot in known if boot.slot is not None)
        return kept[key]


@frozen(kw_only=True)
class Candidate:
    """One boot that the manifest of the boot loader decides.

    ``others`` are the other manifests, whose components may stand in for those of the same role: the updater replaces
    the kernel, not the boot loader. ``oem`` is the OEM ``grub.cfg`` that the policy names for the boot. ``free_file`` names
    a file whose contents the policy leaves open because all that it did is in PCR 8; ``plain`` is then the same boot
    without what the file adds to ``oem``.
    """

    manifest: ReferenceManifest
    boot: PredictedBoot
    others: tuple[ReferenceManifest, ...] = field(default=(), repr=False)
    oem: bytes | None = field(default=None, repr=False)
    free_file: bytes | None = None
    plain: PredictedBoot | None = field(default=None, repr=False)

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
        # this GRUB: another one runs another configuration. Likewise what shim mirrors into PCR 14 is this shim's.
        owners = tuple(
            (manifest, component)
            for manifest in (self.manifest, *self.others)
            for component in manifest.components
            if (component.role, component.machine) in roles
            and (manifest is self.manifest or self._may_stand_in(component))
            and measured.digest in _digests(component, expected, bank)
        )
        return owners if owners or digest == measured.digest else None

    def _may_stand_in(self, component: Component) -> bool:
        """Whether a component of another manifest leaves the other registers as this boot has them."""
        if component.role == "shim":
            mine = self.manifest.component("shim")
            lists = None if mine is None else (mine.mok_list, mine.mok_list_x)
            return lists == (component.mok_list, component.mok_list_x)
        # A unified image is what PCR 11 has the sections of: each is a boot of its own.
        return component.role not in {"grub", "uki"}


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
