"""measlog: measured-boot event logs, quotes, reference manifests and their appraisal.

The names below are loaded when they are first used, so that ``import measlog`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measlog.errors import (
        EvidenceError,
        FormatError,
        LimitExceededError,
        ManifestError,
        MeaslogError,
        PolicyError,
        TruncatedError,
        UnsupportedError,
    )
    from measlog.evidence import AttestationKey, Evidence, Quote, VerifiedEvidence
    from measlog.limits import Limits
    from measlog.log import Anomaly, Event, EventLog, ReplayedLog
    from measlog.reference import ReferenceManifest, SignedManifest
    from measlog.registry import EventType, Register

_HOMES = {
    "Anomaly": "measlog.log",
    "AttestationKey": "measlog.evidence",
    "Event": "measlog.log",
    "EventLog": "measlog.log",
    "EventType": "measlog.registry",
    "Evidence": "measlog.evidence",
    "EvidenceError": "measlog.errors",
    "FormatError": "measlog.errors",
    "LimitExceededError": "measlog.errors",
    "Limits": "measlog.limits",
    "ManifestError": "measlog.errors",
    "MeaslogError": "measlog.errors",
    "PolicyError": "measlog.errors",
    "Quote": "measlog.evidence",
    "ReferenceManifest": "measlog.reference",
    "Register": "measlog.registry",
    "ReplayedLog": "measlog.log",
    "SignedManifest": "measlog.reference",
    "TruncatedError": "measlog.errors",
    "UnsupportedError": "measlog.errors",
    "VerifiedEvidence": "measlog.evidence",
}

__all__ = [
    "Anomaly",
    "AttestationKey",
    "Event",
    "EventLog",
    "EventType",
    "Evidence",
    "EvidenceError",
    "FormatError",
    "LimitExceededError",
    "Limits",
    "ManifestError",
    "MeaslogError",
    "PolicyError",
    "Quote",
    "ReferenceManifest",
    "Register",
    "ReplayedLog",
    "SignedManifest",
    "TruncatedError",
    "UnsupportedError",
    "VerifiedEvidence",
]


_ROOMS = frozenset({"flatcar"})
"""Packages that are reached as attributes: ``measlog.flatcar.Image``."""


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"measlog.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'measlog' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
