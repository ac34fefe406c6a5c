"""The structures of event logs as their specification prints them, and logs made from values.

Source: TCG PC Client Platform Firmware Profile 1.06 (PFP), clauses 10.2 and 10.4.5. :mod:`measlog.formats.framing`
reads the same structures by hand; what is declared here is what it has to agree with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import construct as c

from measlog.formats.declare import build
from measlog.registry import ALGORITHMS_BY_NAME, EventType

__all__ = [
    "TCG_PCR_EVENT",
    "TCG_PCR_EVENT2",
    "LogEvent",
    "TCG_EfiSpecIDEvent",
    "TCG_EfiStartupLocalityEvent",
    "build_events",
    "build_log",
    "startup_locality_event",
]

SPEC_ID_SIGNATURE = b"Spec ID Event03\0"
STARTUP_LOCALITY_SIGNATURE = b"StartupLocality\0"

# 10.2.1 TCG_PCR_EVENT, the SHA-1 format; also the first event of the crypto-agile format
TCG_PCR_EVENT = c.Struct(
    "pcrIndex" / c.Int32ul,
    "eventType" / c.Int32ul,
    "digest" / c.Bytes(20),
    "eventDataSize" / c.Rebuild(c.Int32ul, lambda ctx: len(ctx.event)),
    "event" / c.Bytes(lambda ctx: ctx.eventDataSize),
)

# 10.4.5.1 TCG_EfiSpecIdEventAlgorithmSize
TCG_EfiSpecIdEventAlgorithmSize = c.Struct("algorithmId" / c.Int16ul, "digestSize" / c.Int16ul)

# 10.4.5.1 TCG_EfiSpecIDEvent
TCG_EfiSpecIDEvent = c.Struct(
    "signature" / c.Const(SPEC_ID_SIGNATURE),
    "platformClass" / c.Int32ul,
    "specVersionMinor" / c.Int8ul,
    "specVersionMajor" / c.Int8ul,
    "specErrata" / c.Int8ul,
    "uintnSize" / c.Int8ul,
    "numberOfAlgorithms" / c.Rebuild(c.Int32ul, lambda ctx: len(ctx.digestSizes)),
    "digestSizes" / c.Array(lambda ctx: ctx.numberOfAlgorithms, TCG_EfiSpecIdEventAlgorithmSize),
    "vendorInfoSize" / c.Rebuild(c.Int8ul, lambda ctx: len(ctx.vendorInfo)),
    "vendorInfo" / c.Bytes(lambda ctx: ctx.vendorInfoSize),
)

# 10.4.5.3 TCG_EfiStartupLocalityEvent
TCG_EfiStartupLocalityEvent = c.Struct("signature" / c.Const(STARTUP_LOCALITY_SIGNATURE), "startupLocality" / c.Int8ul)


def TCG_PCR_EVENT2(algorithms: Mapping[int, int]) -> Any:  # noqa: N802 - the specification's name
    """10.2.2 TCG_PCR_EVENT2 of a log that declares ``algorithms``: digest sizes in bytes by TPM_ALG_ID.

    An event has at most one digest for each of them, and none for another algorithm, whose size nobody knows.
    """
    # TPM 2.0 Library Part 2, 10.3.2 TPMT_HA, little-endian in a log
    tpmt_ha = c.Struct(
        "hashAlg" / c.Int16ul,
        "digest" / c.Switch(c.this.hashAlg, {alg: c.Bytes(size) for alg, size in algorithms.items()}, default=c.Error),
    )
    return c.Struct(
        "pcrIndex" / c.Int32ul,
        "eventType" / c.Int32ul,
        # TPM 2.0 Library Part 2, 10.9.6 TPML_DIGEST_VALUES
        "digests"
        / c.Struct(
            "count" / c.Rebuild(c.Int32ul, lambda ctx: len(ctx.digests)),
            "bounded" / c.Check(lambda ctx: ctx.count <= len(algorithms)),
            "digests" / c.Array(lambda ctx: ctx.count, tpmt_ha),
            "distinct" / c.Check(lambda ctx: len({d["hashAlg"] for d in ctx.digests}) == ctx.count),
        ),
        "eventSize" / c.Rebuild(c.Int32ul, lambda ctx: len(ctx.event)),
        "event" / c.Bytes(lambda ctx: ctx.eventSize),
    )


class LogEvent(NamedTuple):
    """An event to be written: ``digests`` by algorithm name, in the order in which they shall stand."""

    register: int
    type: int
    digests: Mapping[str, bytes]
    data: bytes


def startup_locality_event(locality: int, algorithms: Sequence[str]) -> LogEvent:
    """The event that states the locality of TPM2_Startup (10.4.5.3); its digests are zero."""
    data = build(TCG_EfiStartupLocalityEvent, {"startupLocality": locality})
    return LogEvent(0, EventType.EV_NO_ACTION, {a: bytes(ALGORITHMS_BY_NAME[a].size) for a in algorithms}, data)


def build_log(
    events: Iterable[LogEvent],
    *,
    algorithms: Sequence[str | tuple[int, int]] | None = ("sha1", "sha256"),
    spec_id_register: int = 0,
    vendor_info: bytes = b"",
    vendor_info_outside: bool = False,
    filler: bytes = b"",
) -> bytes:
    """The bytes of a log.

    ``algorithms`` are the banks that the Spec ID event declares, each a name or a pair of TPM_ALG_ID and digest size in
    bytes; ``None`` makes a log in the SHA-1 format. ``spec_id_register`` is 1 for a CCEL. ``vendor_info_outside`` leaves
    the vendor information out of the size of the Spec ID event, as some writers do. ``filler`` follows the last event.
    """
    if algorithms is None:
        return build_events(events, None) + filler
    sizes = dict(_declared(algorithm) for algorithm in algorithms)
    body = build(
        TCG_EfiSpecIDEvent,
        {
            "platformClass": 0,
            "specVersionMinor": 0,
            "specVersionMajor": 2,
            "specErrata": 0,
            "uintnSize": 2,
            "digestSizes": [{"algorithmId": alg, "digestSize": size} for alg, size in sizes.items()],
            "vendorInfo": vendor_info,
        },
    )
    inside = len(body) - len(vendor_info) if vendor_info_outside else len(body)
    first = _legacy(LogEvent(spec_id_register, EventType.EV_NO_ACTION, {"sha1": bytes(20)}, body[:inside]))
    return b"".join([first, body[inside:], build_events(events, sizes), filler])


def build_events(events: Iterable[LogEvent], sizes: Mapping[int, int] | None) -> bytes:
    """Events one after the other: in the SHA-1 format, or where ``sizes`` of digests are given, in the crypto-agile one.

    ``sizes`` are in bytes by TPM_ALG_ID, as the Spec ID event of the log declares them.
    """
    if sizes is None:
        return b"".join(map(_legacy, events))
    declaration = TCG_PCR_EVENT2(sizes)
    return b"".join(_agile(declaration, event) for event in events)


def _declared(algorithm: str | tuple[int, int]) -> tuple[int, int]:
    if isinstance(algorithm, str):
        known = ALGORITHMS_BY_NAME[algorithm]
        return known.id, known.size
    return algorithm


def _algorithm_id(name: str) -> int:
    known = ALGORITHMS_BY_NAME.get(name)
    return int(name, 16) if known is None else known.id


def _legacy(event: LogEvent) -> bytes:
    return build(
        TCG_PCR_EVENT,
        {"pcrIndex": event.register, "eventType": event.type, "digest": event.digests["sha1"], "event": event.data},
    )


def _agile(declaration: Any, event: LogEvent) -> bytes:
    digests = [{"hashAlg": _algorithm_id(name), "digest": digest} for name, digest in event.digests.items()]
    return build(
        declaration,
        {
            "pcrIndex": event.register,
            "eventType": event.type,
            "digests": {"digests": digests},
            "event": event.data,
        },
    )
