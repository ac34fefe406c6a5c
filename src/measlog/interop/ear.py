"""EAT Attestation Results: a verdict as a signed JWT with AR4SI's trustworthiness vector.

Sources: draft-ietf-rats-ear (the claims), draft-ietf-rats-ar4si (the vector, clause numbers of its text 2.3), RFC 7515 and
RFC 8037 (the signature). The table of which claim follows from what is in docs/corim-ear.md and below. A claim is affirming
only where the verdict is, and every check that the claim rests on was made.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric import ed25519

from measlog.appraisal.result import AppraisalResult, Check, Finding, Status
from measlog.interop.cose import raw_signature
from measlog.reference.signing import PrivateKey, PublicKey, Signer, key_id, load_signer

__all__ = ["Profile", "claims", "sign", "trustworthiness_vector"]

Profile = Literal["veraison-2023", "ietf-04"]
Aspect = Literal["executables", "configuration", "hardware", "instance-identity"]


@frozen(kw_only=True)
class _Names:
    """What the drafts call the claims: the dots of the earlier ones are what the deployed libraries read."""

    profile: str
    verifier_id: str
    status: str
    vector: str
    policy: str
    policies: bool


_NAMES: Mapping[Profile, _Names] = MappingProxyType(
    {
        "veraison-2023": _Names(
            profile="tag:github.com,2023:veraison/ear",
            verifier_id="ear.verifier-id",
            status="ear.status",
            vector="ear.trustworthiness-vector",
            policy="ear.appraisal-policy-id",
            policies=False,
        ),
        "ietf-04": _Names(
            profile="tag:ietf.org,2026:rats/ear#04",
            verifier_id="ear_verifier_id",
            status="ear_status",
            vector="ear_trustworthiness_vector",
            policy="ear_appraisal_policy_ids",
            policies=True,
        ),
    }
)

# What a claim says where findings speak against it: contraindicated for an error, warning for a warning (2.3.4; where AR4SI
# has no warning that fits, the first of the values that are free for others).
_AGAINST: Mapping[Aspect, Mapping[str, int]] = MappingProxyType(
    {
        "executables": {"error": 96, "warning": 33},
        "configuration": {"error": 96, "warning": 36},
        "hardware": {"error": 97, "warning": -33},
    }
)
# What a claim needs to be affirming: (rule, PCR) of all these checks, and the value that it then has.
_NEEDS: Mapping[Aspect, tuple[int, frozenset[tuple[str, int]]]] = MappingProxyType(
    {
        "executables": (3, frozenset({("boot-path", 4), ("boot-path", 9)})),
        "configuration": (
            2,
            frozenset(
                {
                    ("boot-path", 8),
                    ("secure-boot", 7),
                    ("platform.baseline", 1),
                    ("platform.baseline", 3),
                    ("platform.baseline", 7),
                }
            ),
        ),
        "hardware": (2, frozenset({("platform.baseline", 0), ("platform.baseline", 2)})),
    }
)
_RECOGNISED = 2
_NO_ASSERTION = 0
# By the longest beginning of a finding's code; what is not here is by its register.
_ASPECTS: Mapping[str, Aspect] = MappingProxyType(
    {
        "platform.": "hardware",
        "secureboot.": "configuration",
        "secureboot.image-": "executables",
        "shim.": "configuration",
        "boot.": "configuration",
        "boot.closest": "executables",
        "boot-manager.": "executables",
        "image.": "executables",
        "file.": "executables",
        "sequence.": "executables",
        "command.": "configuration",
        "kernel.argument": "configuration",
        "kernel.mismatch": "executables",
        "usr.": "executables",
        "policy.": "executables",
    }
)
_BY_REGISTER: Mapping[int, Aspect] = MappingProxyType(
    {
        0: "hardware",
        1: "configuration",
        2: "hardware",
        3: "configuration",
        5: "configuration",
        6: "hardware",
        7: "configuration",
        8: "configuration",
        12: "configuration",
    }
)
_TIERS: tuple[Status, ...] = ("affirming", "none", "warning", "contraindicated")
_NONCE_BYTES = range(8, 65)


def trustworthiness_vector(result: AppraisalResult, *, instance_recognised: bool = False) -> dict[str, int]:
    """AR4SI's claims about a machine; what is not there is not asserted.

    ``instance_recognised`` is the caller's word that the attestation key is that of a machine it knows: AR4SI wants the
    claim *instance-identity* from those alone who expect to recognise the machine.
    """
    made = {(check.rule, check.pcr) for check in result.checked}
    vector: dict[str, int] = {}
    for aspect, (value, needs) in _NEEDS.items():
        worst = _worst(finding.severity for finding in result.findings if _aspect(finding) == aspect)
        if worst is not None:
            vector[aspect] = _AGAINST[aspect][worst]
        elif result.status == "affirming" and needs <= made and (aspect != "hardware" or result.ak_trust != "caller"):
            vector[aspect] = value
    if instance_recognised and result.status == "affirming":
        vector["instance-identity"] = _RECOGNISED
    # The vector must not be empty, and 0 is the same as no claim (2.3.2).
    return vector or {"executables": _NO_ASSERTION}


def _worst(severities: Iterable[str]) -> Literal["error", "warning"] | None:
    found = set(severities)
    return "error" if "error" in found else "warning" if "warning" in found else None


def _aspect(finding: Finding) -> Aspect:
    for length in range(len(finding.code), 0, -1):
        if (aspect := _ASPECTS.get(finding.code[:length])) is not None:
            return aspect
    return "executables" if finding.pcr is None else _BY_REGISTER.get(finding.pcr, "executables")


def _tier(value: int) -> Status:
    """The tier of a claim (2.3.2)."""
    if value in {-1, 0, 1}:
        return "none"
    size = value if value > 0 else -value - 1
    return "affirming" if size < 32 else "warning" if size < 96 else "contraindicated"


def claims(
    result: AppraisalResult,
    *,
    developer: str,
    build: str = "measlog",
    submodule: str = "measlog",
    policy_id: str | None = None,
    nonce: bytes | None = None,
    now: datetime | None = None,
    instance_recognised: bool = False,
    profile: Profile = "veraison-2023",
    details: bool = False,
) -> dict[str, Any]:
    """The claims set of a verdict, as JSON has it.

    ``developer`` is who runs the verifier (a URI, say), ``build`` what software it is; ``policy_id`` names the policy, by default as the verdict does;
    ``nonce`` is the relying party's, 8 to 64 bytes; ``details`` adds codes and registers of findings and checks under
    ``measlog.appraisal``. Texts of the log, which are hostile, never get in. ValueError for a nonce of another length and
    a time without a zone.
    """
    names = _NAMES[profile]
    vector = trustworthiness_vector(result, instance_recognised=instance_recognised)
    # No higher trust than the worst claim of the vector (draft-ietf-rats-ear, 3.1). A claim that is not made counts for
    # nothing, so that "none" is the verdict's alone.
    tiers = {result.status, *(_tier(value) for value in vector.values() if _tier(value) != "none")}
    moment = datetime.now(UTC) if now is None else now
    if moment.utcoffset() is None:
        raise ValueError("the time of issue has no time zone")
    policy = result.policy if policy_id is None else policy_id
    appraisal: dict[str, Any] = {
        names.status: max(tiers, key=_TIERS.index),
        names.vector: vector,
        names.policy: [policy] if names.policies else policy,
    }
    if details:
        appraisal["measlog.appraisal"] = {
            "bank": result.bank,
            "ak-trust": result.ak_trust,
            "findings": [_finding(finding) for finding in result.findings],
            "checked": [_check(check) for check in result.checked],
        }
    made: dict[str, Any] = {
        "eat_profile": names.profile,
        "iat": int(moment.timestamp()),
        names.verifier_id: {"developer": developer, "build": build},
        "submods": {submodule: appraisal},
    }
    if nonce is not None:
        if len(nonce) not in _NONCE_BYTES:
            raise ValueError(f"a nonce of {len(nonce)} bytes; an EAR carries 8 to 64")
        made["eat_nonce"] = base64.urlsafe_b64encode(nonce).decode()
    return made


def sign(claims_set: Mapping[str, Any], private_key: PrivateKey | Signer | bytes | str) -> str:
    """The claims as a JWT: ES256, ES384 or EdDSA, as the key is.

    Raises :class:`~measlog.errors.ManifestError` for a key of another kind.
    """
    public, make = load_signer(private_key)
    header = {"alg": _jose_algorithm(public), "kid": key_id(public), "typ": "JWT"}
    signed = b".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims_set))
    signature = raw_signature(public, make(signed))
    return (signed + b"." + _base64url(signature)).decode()


def _jose_algorithm(key: PublicKey) -> str:
    """RFC 7518, 3.4, and RFC 8037, 3.1; the keys that sign manifests have no other curves."""
    return "EdDSA" if isinstance(key, ed25519.Ed25519PublicKey) else f"ES{key.curve.key_size}"


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _finding(finding: Finding) -> dict[str, Any]:
    place = {"pcr": finding.pcr, "event": finding.event}
    return {"code": finding.code, "severity": finding.severity, **{k: v for k, v in place.items() if v is not None}}


def _check(check: Check) -> dict[str, Any]:
    return {"rule": check.rule} if check.pcr is None else {"rule": check.rule, "pcr": check.pcr}
