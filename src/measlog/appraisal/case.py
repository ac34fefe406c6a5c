"""One machine's evidence beside the references it is compared with, arranged by register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import field, frozen

from measlog.appraisal.paths import Predictions
from measlog.log import Event, FurtherEvent
from measlog.registry import EventType, hash_constructor

if TYPE_CHECKING:
    from measlog.appraisal.baseline import Baseline
    from measlog.appraisal.unquoted import UnquotedLog
    from measlog.evidence import VerifiedEvidence
    from measlog.reference.manifest import Component, ReferenceManifest

__all__ = ["Case", "Measured"]


@frozen(kw_only=True)
class Measured:
    """An event that was extended into a register, with its digest in the verified bank."""

    event: Event
    digest: bytes

    @property
    def index(self) -> int:
        """The event's place in the log; those of further logs count on behind the firmware's."""
        return self.event.index

    @property
    def place(self) -> str:
        """Where the event is recorded, for messages."""
        event = self.event
        return f"{event.source}'s record {event.offset}" if isinstance(event, FurtherEvent) else f"event {event.index}"


@frozen(kw_only=True, slots=False)
class Case:
    """What the rules of a policy look at. Nothing here depends on how registers are interleaved in the log (A49)."""

    evidence: VerifiedEvidence | UnquotedLog
    manifests: tuple[ReferenceManifest, ...]
    baselines: tuple[Baseline, ...]
    predictions: Predictions = field(factory=Predictions, repr=False)

    @property
    def bank(self) -> str:
        """The bank that the evidence was verified in."""
        return self.evidence.bank

    @cached_property
    def _by_pcr(self) -> Mapping[int, tuple[Measured, ...]]:
        found: dict[int, list[Measured]] = {}
        for event in self.evidence.joined:
            if event.pcr is not None and event.type != EventType.EV_NO_ACTION:
                found.setdefault(event.pcr, []).append(Measured(event=event, digest=event.digests[self.bank]))
        return {pcr: tuple(events) for pcr, events in found.items()}

    def history(self, pcr: int) -> tuple[Measured, ...]:
        """The events that were extended into a register, in order; their fold is the quoted value."""
        return self._by_pcr.get(pcr, ())

    @cached_property
    def registers(self) -> Sequence[int]:
        """The registers that the quote covers or the log extends, ascending."""
        return sorted({*self.evidence.values, *self._by_pcr})

    def quoted(self, pcr: int) -> bool:
        """Whether the quote proves a register's events: it covers the register, whose value follows from the logs."""
        return pcr in self.evidence.values and pcr not in self.evidence.open_ended

    def digest(self, data: bytes) -> bytes:
        """The digest of ``data`` in the verified bank."""
        new = hash_constructor(self.bank)
        assert new is not None  # the log was replayed in this bank
        return new(data).digest()

    @cached_property
    def components(self) -> Mapping[bytes, tuple[tuple[ReferenceManifest, Component], ...]]:
        """The manifests' components by Authenticode and by flat digest in the verified bank."""
        found: dict[bytes, list[tuple[ReferenceManifest, Component]]] = {}
        for manifest in self.manifests:
            for component in manifest.components:
                for digests in (component.authenticode, component.flat):
                    if self.bank in digests:
                        found.setdefault(digests[self.bank], []).append((manifest, component))
        return {digest: tuple(owners) for digest, owners in found.items()}

    def known_as(self, digest: bytes) -> str | None:
        """What the manifests know a digest as, for messages."""
        owners = self.components.get(digest)
        if not owners:
            return None
        manifest, component = owners[0]
        kind = "Authenticode" if component.authenticode.get(self.bank) == digest else "flat file"
        return f"the {kind} digest of {component.path} of {manifest.name}"
