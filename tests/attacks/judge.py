"""What the library says of what an attacker hands over, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import measlog as ml
from fixtures.attacks.model import Bundle, Good
from measlog.reference.signing import SignedManifest


class Verdict(NamedTuple):
    """The layer that refused, or ``passed``, and what it said."""

    layer: str
    status: str
    codes: frozenset[str]


@lru_cache(maxsize=64)
def _verifier(manifest: bytes, key: bytes, secure_boot: bool, settings: tuple[tuple[str, Any], ...]) -> ml.Verifier:
    given: dict[str, Any] = {name: dict(value) if name == "minimum_sbat" else value for name, value in settings}
    verified = SignedManifest.from_bytes(manifest).verify(keys=[key])
    return ml.Verifier([verified], policy=ml.policy.flatcar(secure_boot=secure_boot, **given))


def judge(good: Good, bundle: Bundle, needs: Mapping[str, Any] | None = None) -> Verdict:
    """Go the way of ``measlog verify``: manifest, log and quote, evidence, appraisal."""
    settings = tuple(
        (name, tuple(value.items()) if isinstance(value, dict) else value) for name, value in (needs or {}).items()
    )
    try:
        verifier = _verifier(bundle.manifest, good.manifest_key, good.secure_boot, settings)
    except ml.ManifestError as error:
        return Verdict("manifest", error.code, frozenset({error.code}))
    try:
        log = ml.EventLog.from_bytes(bundle.log)
        quote = ml.Quote.from_bytes(bundle.attest, bundle.signature)
    except ml.FormatError as error:
        return Verdict("reading", error.code, frozenset({error.code}))
    evidence = ml.Evidence(log=log, quote=quote, pcrs=bundle.pcrs)
    try:
        verified = evidence.verify(ak=bundle.ak, nonce=bundle.nonce, bank=bundle.bank, required=verifier.policy.quoted)
    except ml.EvidenceError as error:
        return Verdict("evidence", error.code, frozenset({error.check}))
    result = verifier.appraise(verified)
    codes = frozenset(f.code for f in result.findings if f.severity == "error")
    return Verdict("passed" if result.status == "affirming" else "appraisal", result.status, codes)
