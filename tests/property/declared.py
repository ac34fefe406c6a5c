"""Logs read by the declarations alone, event by event: what the hand-written walk has to agree with."""

from __future__ import annotations

from typing import NamedTuple

from measlog.formats.declare import parse
from measlog.formats.pfp import TCG_PCR_EVENT, TCG_PCR_EVENT2, TCG_EfiSpecIDEvent


class Declared(NamedTuple):
    """One event as declared: register, type, digests by TPM_ALG_ID in the order in which they stand, data."""

    register: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    event: bytes


def read(data: bytes) -> list[Declared]:
    """All events of a log without filler; raises FormatError where an event does not fit its declaration."""
    clause = "PFP 10.2"
    found: list[Declared] = []
    first = parse(TCG_PCR_EVENT, data, clause=clause, exact=False)
    at = 32 + first.eventDataSize
    declaration = None
    if first.eventType == 3 and first.event.startswith(b"Spec ID Event03\0"):
        # The vendor information may lie outside the event's size: then the structure goes on behind it.
        spec_id = parse(TCG_EfiSpecIDEvent, data[32:], clause=clause, exact=False)
        needed = 16 + 12 + 4 * spec_id.numberOfAlgorithms + 1 + spec_id.vendorInfoSize
        at = max(at, 32 + needed)
        declaration = TCG_PCR_EVENT2({a.algorithmId: a.digestSize for a in spec_id.digestSizes})
        found.append(Declared(first.pcrIndex, first.eventType, (), data[32 : 32 + first.eventDataSize]))
    else:
        at = 0
    while at < len(data):
        if declaration is None:
            event = parse(TCG_PCR_EVENT, data[at:], clause=clause, exact=False)
            found.append(Declared(event.pcrIndex, event.eventType, ((4, event.digest),), event.event))
            at += 32 + len(event.event)
        else:
            event = parse(declaration, data[at:], clause=clause, exact=False)
            digests = tuple((d.hashAlg, d.digest) for d in event.digests.digests)
            found.append(Declared(event.pcrIndex, event.eventType, digests, event.event))
            at += 16 + sum(2 + len(d) for _, d in digests) + len(event.event)
    return found
