"""The TCG Canonical Event Log, in its three encodings: TLV, CBOR and JSON."""

from measlog.interop.cel.log import CelLog
from measlog.interop.cel.records import (
    CelContent,
    CelRecord,
    CelTimestamp,
    CelVersion,
    FirmwareEnd,
    ImaTemplate,
    ImaTlv,
    Management,
    OpaqueContent,
    PcClientStd,
    StateTransition,
)

__all__ = [
    "CelContent",
    "CelLog",
    "CelRecord",
    "CelTimestamp",
    "CelVersion",
    "FirmwareEnd",
    "ImaTemplate",
    "ImaTlv",
    "Management",
    "OpaqueContent",
    "PcClientStd",
    "StateTransition",
]
