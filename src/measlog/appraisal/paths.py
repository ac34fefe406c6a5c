"""The boots that the manifests allow for, and how far a log follows one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import field, frozen

from measlog.reference.manifest import BootPath, Component, ExpectedEvent, ReferenceManifest

if TYPE_CHECKING:
    from measlog.appraisal.case import Measured

__all__ = ["Candidate", "Divergence", "Following", "Owner", "follow"]

Owner = tuple[ReferenceManifest, Component]


@frozen(kw_only=True, slots=False)
class Candidate:
    """One boot path of the manifest whose boot loader decides it.

    ``kernels`` of the other manifests may stand in for its own: the updater replaces the kernel, not the boot loader.
    """

    manifest: ReferenceManifest
    path: BootPath
    others: tuple[ReferenceManifest, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The manifest's name and the boot path's."""
        return f"{self.manifest.name}: {self.path.name}"

    @cached_property
    def _own(self) -> Mapping[bytes, Component]:
        """This manifest's components by every digest that an event may hold."""
        return {
            digest: component
            for component in self.manifest.components
            for digests in (component.authenticode, component.flat)
            for digest in digests.values()
        }

    def alternatives(self, expected: ExpectedEvent, bank: str) -> Mapping[bytes, tuple[Owner, ...]]:
        """The digests that satisfy an expected event, each with the components that have it.

        An event for a component may be that of the same role in any manifest, each of which was checked on its own.
        """
        digest = expected.digests.get(bank)
        if digest is None:
            return {}
        component = self._own.get(digest)
        if component is None:
            return {digest: ()}
        image = component.authenticode.get(bank) == digest
        found: dict[bytes, list[Owner]] = {}
        for manifest in (self.manifest, *self.others):
            for other in manifest.components:
                value = (other.authenticode if image else other.flat).get(bank)
                if other.role == component.role and other.machine == component.machine and value is not None:
                    found.setdefault(value, []).append((manifest, other))
        return {value: tuple(owners) for value, owners in found.items()}


@frozen(kw_only=True)
class Divergence:
    """The first place where a register's history leaves the expected one; one side is ``None`` at its end."""

    position: int
    expected: ExpectedEvent | None
    observed: Measured | None


@frozen(kw_only=True)
class Following:
    """How far the events of one register follow what is expected of it.

    ``matched`` are the events that were explained, one by one and in order, each with the expectation it consumed and
    the components that it may be.
    """

    pcr: int
    matched: tuple[tuple[Measured, ExpectedEvent, tuple[Owner, ...]], ...]
    divergence: Divergence | None

    @property
    def complete(self) -> bool:
        """Whether every event was expected and every expected event is there."""
        return self.divergence is None


def follow(
    candidate: Candidate, pcr: int, observed: Sequence[Measured], expected: Iterable[ExpectedEvent], bank: str
) -> Following:
    """Walk two sequences together until they part; each expectation is consumed by one event (A3)."""
    matched: list[tuple[Measured, ExpectedEvent, tuple[Owner, ...]]] = []
    wanted = tuple(expected)
    divergence: Divergence | None = None
    for position in range(max(len(observed), len(wanted))):
        event = observed[position] if position < len(observed) else None
        expectation = wanted[position] if position < len(wanted) else None
        if event is not None and expectation is not None:
            owners = candidate.alternatives(expectation, bank).get(event.digest)
            if owners is not None and event.event.type == expectation.type:
                matched.append((event, expectation, owners))
                continue
        divergence = Divergence(position=position, expected=expectation, observed=event)
        break
    return Following(pcr=pcr, matched=tuple(matched), divergence=divergence)
