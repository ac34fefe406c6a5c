"""measlog: measured-boot event logs, quotes, reference manifests and their appraisal.

The names below are loaded when they are first used, so that ``import measlog`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measlog import bulk, flatcar
    from measlog.appraisal import AppraisalResult, Baseline, Check, Finding, Policy, Verifier, policy
    from measlog.appraisal.diff import diff
    from measlog.appraisal.explain import explain_boot, explain_replay
    from measlog.errors import (
        EvidenceError,
        FormatError,
        KeyTrustError,
        LimitExceededError,
        ManifestError,
        MeaslogError,
        MissingExtraError,
        PolicyError,
        TruncatedError,
        UnsupportedError,
    )
    from measlog.evidence import AttestationKey, Evidence, Quote, VerifiedEvidence
    from measlog.evidence.trust import CredentialChallenge, verify_ak_certificate, verify_ek_certificate
    from measlog.limits import Limits
    from measlog.log import Anomaly, Event, EventLog, ReplayedLog
    from measlog.reference.manifest import ReferenceManifest
    from measlog.reference.signing import SignedManifest
    from measlog.registry import EventType, Register
    from measlog.view import plot

_HOMES = {
    "Anomaly": "measlog.log",
    "AppraisalResult": "measlog.appraisal",
    "AttestationKey": "measlog.evidence",
    "Baseline": "measlog.appraisal",
    "Check": "measlog.appraisal",
    "CredentialChallenge": "measlog.evidence.trust",
    "Event": "measlog.log",
    "EventLog": "measlog.log",
    "EventType": "measlog.registry",
    "Evidence": "measlog.evidence",
    "EvidenceError": "measlog.errors",
    "Finding": "measlog.appraisal",
    "FormatError": "measlog.errors",
    "KeyTrustError": "measlog.errors",
    "LimitExceededError": "measlog.errors",
    "Limits": "measlog.limits",
    "ManifestError": "measlog.errors",
    "MeaslogError": "measlog.errors",
    "MissingExtraError": "measlog.errors",
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
    "diff": "measlog.appraisal.diff",
    "explain_boot": "measlog.appraisal.explain",
    "explain_replay": "measlog.appraisal.explain",
    "verify_ak_certificate": "measlog.evidence.trust",
    "verify_ek_certificate": "measlog.evidence.trust",
}
_MODULES = {
    "bulk": "measlog.bulk",
    "flatcar": "measlog.flatcar",
    "plot": "measlog.view.plot",
    "policy": "measlog.appraisal.policy",
}

__all__ = [
    "Anomaly",
    "AppraisalResult",
    "AttestationKey",
    "Baseline",
    "Check",
    "CredentialChallenge",
    "Event",
    "EventLog",
    "EventType",
    "Evidence",
    "EvidenceError",
    "Finding",
    "FormatError",
    "KeyTrustError",
    "LimitExceededError",
    "Limits",
    "ManifestError",
    "MeaslogError",
    "MissingExtraError",
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
    "bulk",
    "diff",
    "explain_boot",
    "explain_replay",
    "flatcar",
    "plot",
    "policy",
    "verify_ak_certificate",
    "verify_ek_certificate",
]


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
