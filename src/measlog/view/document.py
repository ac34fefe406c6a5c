"""The JSON documents of the commands. Each has a schema in ``measlog/schemas`` named after its ``measlog`` key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from measlog.log import FurtherEvent
from measlog.view.jsonable import jsonable

if TYPE_CHECKING:
    from measlog.appraisal.baseline import Baseline
    from measlog.appraisal.diff import HistoryDiff, Side
    from measlog.appraisal.identify import Identification
    from measlog.appraisal.result import AppraisalResult, Finding
    from measlog.evidence import AttestationKey, Quote, VerifiedEvidence
    from measlog.log import Event, EventLog
    from measlog.reference.manifest import ReferenceManifest
    from measlog.replay.digests import DigestCheck
    from measlog.replay.pcr import Bank

__all__ = [
    "baseline_document",
    "diff_document",
    "event_document",
    "identification_document",
    "log_document",
    "manifest_facts",
    "quote_document",
    "replay_document",
    "result_document",
]

_LABELS = {"pcr": "", "rtmr": "rtmr-"}


def log_document(log: EventLog, events: Iterable[Event], bank: str) -> dict[str, Any]:
    """``show/1``: the log, and the events given, with the trust of their fields as of ``bank``."""
    data = log.to_bytes()
    return {
        "measlog": "show/1",
        "log": {
            "kind": log.kind,
            "algorithms": list(log.algorithms),
            "events": len(log),
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "complete": log.complete,
            "filler": None if log.filler is None else jsonable(log.filler),
        },
        "anomalies": [jsonable(anomaly) for anomaly in log.anomalies],
        "bank": bank,
        "events": [event_document(event, bank) for event in events],
    }


def event_document(event: Event, bank: str) -> dict[str, Any]:
    """One event: as logged, decoded, checked in each bank that it has a digest for, and the trust of each field."""
    data = event.data
    fields = [a.name for a in attrs.fields(type(data)) if a.name not in {"spans", "trailing"}]
    further = {"source": event.source} if isinstance(event, FurtherEvent) else {}
    return {
        **further,
        "index": event.index,
        "offset": event.offset,
        "register": jsonable(event.register),
        "pcr": event.pcr,
        "type": {"name": event.type.name, "number": event.type.value},
        "digests": jsonable(event.digests),
        "raw": event.raw.hex(),
        "data": jsonable(data),
        "checks": {name: _check(event.check(name)) for name in event.digests},
        "trust": {name: event.trust(name, bank) for name in fields},
    }


def _check(check: DigestCheck) -> dict[str, Any]:
    return {"status": check.status, "rule": check.rule, "quirk": check.quirk}


def replay_document(banks: Mapping[str, Bank], refused: Mapping[str, str]) -> dict[str, Any]:
    """``replay/1``: register values by bank and index, and under ``refused`` the banks that cannot be replayed."""
    made: dict[str, Any] = {"measlog": "replay/1"}
    for name, bank in banks.items():
        made[_LABELS[bank.kind] + name] = {str(index): value.hex() for index, value in bank.items()}
    if refused:
        made["refused"] = dict(refused)
    return made


def quote_document(quote: Quote, key: AttestationKey, pcrs: Mapping[str, Mapping[int, bytes]] | None) -> dict[str, Any]:
    """``quote/1``: a quote whose signature and nonce were verified."""
    attributes = key.attributes
    return {
        "measlog": "quote/1",
        "key": {
            "sha256": key.fingerprint,
            "name": None if key.name is None else key.name.hex(),
            "attributes": None if attributes is None else [flag.name for flag in type(attributes) if flag & attributes],
        },
        "nonce": quote.nonce.hex(),
        "hash": quote.hash,
        "selections": {s.algorithm: list(s.pcrs) for s in quote.selections if s.pcrs},
        "pcr_digest": quote.pcr_digest.hex(),
        "pcrs": None if pcrs is None else {bank: jsonable(values) for bank, values in pcrs.items()},
        "clock_info": jsonable(quote.clock_info),
        "firmware_version": quote.firmware_version,
    }


def result_document(
    result: AppraisalResult, evidence: VerifiedEvidence, manifests: Iterable[ReferenceManifest]
) -> dict[str, Any]:
    """``verify/1``: an appraisal with its reasons, the evidence that it is about, the manifests it rests on."""
    return {
        "measlog": "verify/1",
        "status": result.status,
        "findings": [_finding(finding) for finding in result.findings],
        "checked": [jsonable(check) for check in result.checked],
        "not_covered": [jsonable(missing) for missing in result.not_covered],
        "identified": [jsonable(item) for item in result.identified],
        "quirks": list(result.quirks),
        "bank": result.bank,
        "policy": result.policy,
        "ak": {"sha256": result.ak_fingerprint, "trust": result.ak_trust},
        "quote": {
            "nonce": evidence.quote.nonce.hex(),
            "pcrs": jsonable(evidence.values),
            "clock_info": jsonable(result.clock_info),
            "firmware_version": result.firmware_version,
        },
        "manifests": [manifest_facts(manifest) for manifest in manifests],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    made: dict[str, Any] = jsonable(finding)
    for name in ("expected", "observed"):
        value = getattr(finding, name)
        # Bytes and text are told apart: both may look like hexadecimal digits.
        made[name] = None if value is None else {"bytes" if isinstance(value, bytes) else "text": jsonable(value)}
    return made


def manifest_facts(manifest: ReferenceManifest) -> dict[str, Any]:
    """What names a manifest, and who signed it."""
    return {
        "name": manifest.name,
        "release": manifest.release,
        "version": manifest.version,
        "signed_by": None if manifest.signed_by is None else list(manifest.signed_by),
    }


def baseline_document(baseline: Baseline) -> dict[str, Any]:
    """``baseline-learn/1``: what was learned, and what varied between the samples and will be allowed."""
    return {
        "measlog": "baseline-learn/1",
        "bank": baseline.bank,
        "samples": baseline.samples,
        "model": baseline.model,
        "pcrs": sorted(baseline.histories),
        "variations": [jsonable(variation) for variation in baseline.variations],
    }


def diff_document(found: HistoryDiff, *, boot: str | None) -> dict[str, Any]:
    """``diff/1``: where two histories differ, in the order of registers; ``boot`` names the predicted one."""
    return {
        "measlog": "diff/1",
        "bank": found.bank,
        "boot": boot,
        "compared": len(found.rows),
        "differences": [
            {"pcr": row.pcr, "kind": row.kind, "left": _side(row.left), "right": _side(row.right)}
            for row in found.differences
        ],
        "likely_causes": {str(pcr): jsonable(cause) for pcr, cause in found.likely_causes.items()},
        "not_compared": {str(pcr): why for pcr, why in sorted(found.not_compared.items())},
    }


def _side(side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    text = None if side.text is None else jsonable(side.text)
    return {"event": side.event, "type": side.type.name, "digest": side.digest.hex(), "text": text}


def identification_document(found: Identification) -> dict[str, Any]:
    """``identify/1``: what a log shows, component by component; nothing in it is verified."""
    return {
        "measlog": "identify/1",
        "bank": found.bank,
        "release": None if found.release is None else jsonable(found.release),
        "mixed": found.mixed,
        "slot": found.slot,
        "boot_paths": list(found.boot_paths),
        "programs": [jsonable(program) for program in found.programs],
        "unknown": [jsonable(program) for program in found.unknown],
    }
