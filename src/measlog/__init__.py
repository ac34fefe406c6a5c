"""measlog: measured-boot event logs, quotes, reference manifests and their appraisal.

The names below are loaded when they are first used, so that ``import measlog`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measlog import flatcar
    from measlog.appraisal import AppraisalResult, Baseline, Check, Finding, Policy, Verifier, policy
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
    from measlog.reference.manifest import ReferenceManifest
    from measlog.reference.signing import SignedManifest
    from measlog.registry import EventType, Register

_HOMES = {
    "Anomaly": "measlog.log",
    "AppraisalResult": "measlog.appraisal",
    "AttestationKey": "measlog.evidence",
    "Baseline": "measlog.appraisal",
    "Check": "measlog.appraisal",
    "Event": "measlog.log",
    "EventLog": "measlog.log",
    "EventType": "measlog.registry",
    "Evidence": "measlog.evidence",
    "EvidenceError": "measlog.errors",
    "Finding": "measlog.appraisal",
    "FormatError": "measlog.errors",
    "LimitExceededError": "measlog.errors",
    "Limits": "measlog.limits",
    "ManifestError": "measlog.errors",
    "MeaslogError": "measlog.errors",
    "Policy": "measlog.appraisal",
    "PolicyError": "measlog.errors",
    "Quote": "measlog.evidence",
    "ReferenceManifest": "measlog.reference.manifest",
    "Register": "measlog.registry",
    "ReplayedLog": "measlog.log",
    "SignedManifest": "measlog.reference.signing",
    "TruncatedError": "measlog.errors",
    "UnsupportedError": "measlog.errors",
    "VerifiedEvidence": "measlog.evidence",
    "Verifier": "measlog.appraisal",
}
_MODULES = {
    "flatcar": "measlog.flatcar",
    "policy": "measlog.appraisal.policy",
}

__all__ = [
    "Anomaly",
    "AppraisalResult",
    "AttestationKey",
    "Baseline",
    "Check",
    "Event",
    "EventLog",
    "EventType",
    "Evidence",
    "EvidenceError",
    "Finding",
    "FormatError",
    "LimitExceededError",
    "Limits",
    "ManifestError",
    "MeaslogError",
    "Policy",
    "PolicyError",
    "Quote",
    "ReferenceManifest",
    "Register",
    "ReplayedLog",
    "SignedManifest",
    "TruncatedError",
    "UnsupportedError",
    "VerifiedEvidence",
    "Verifier",
    "flatcar",
    "policy",
]


_ROOMS = frozenset({"flatcar"})
"""Packages that are reached as attributes: ``measlog.flatcar.Image``."""


def __getattr__(name: str) -> object:
    value: object
    if name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'measlog' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
