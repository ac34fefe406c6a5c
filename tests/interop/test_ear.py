"""EAR: other libraries verify what we sign, and a claim is affirming only where its checks were made."""

from __future__ import annotations

import base64
import datetime as dt
import json
from functools import cache
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

import measlog as ml
from measlog.appraisal.result import AppraisalResult, Check, Finding
from measlog.codes import CODES
from measlog.errors import ManifestError
from measlog.interop import ear
from measlog.interop.cbor import encode
from measlog.interop.ear import claims, trustworthiness_vector
from measlog.reference.signing import key_id
from tests.appraisal.machine import good_log, machine
from tests.conftest import FIXTURES

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
ED = ed25519.Ed25519PrivateKey.generate()
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
WHO = "https://verifier.example"

# draft-ietf-rats-ear, figures 1 and 2, and draft-ietf-rats-ar4si, 2.3 and 3, for JSON; the names of both profiles.
CDDL = """
start = EAR
EAR = {
  "eat_profile" => PROFILE,
  "iat" => int,
  VERIFIER => { "developer" => tstr, "build" => tstr },
  "submods" => { + tstr => EAR-appraisal },
  ? "eat_nonce" => tstr .size (12..88)
}
EAR-appraisal = {
  STATUS => trust-tier,
  ? VECTOR => trustworthiness-vector,
  ? POLICY,
  * "measlog.appraisal" => any
}
trust-tier = "none" / "affirming" / "warning" / "contraindicated"
trustworthiness-vector = {
  ? "instance-identity" => claim, ? "configuration" => claim, ? "executables" => claim, ? "file-system" => claim,
  ? "hardware" => claim, ? "runtime-opaque" => claim, ? "storage-opaque" => claim, ? "sourced-data" => claim
}
claim = int  ; -128..127: pycddl knows no negative bounds, the test looks at them
"""
PROFILES = {
    "veraison-2023": {
        "PROFILE": '"tag:github.com,2023:veraison/ear"',
        "VERIFIER": '"ear.verifier-id"',
        "STATUS": '"ear.status"',
        "VECTOR": '"ear.trustworthiness-vector"',
        "POLICY": '"ear.appraisal-policy-id" => tstr',
    },
    "ietf-04": {
        "PROFILE": '"tag:ietf.org,2026:rats/ear#04"',
        "VERIFIER": '"ear_verifier_id"',
        "STATUS": '"ear_status"',
        "VECTOR": '"ear_trustworthiness_vector"',
        "POLICY": '"ear_appraisal_policy_ids" => [ + tstr ]',
    },
}


@cache
def good() -> AppraisalResult:
    """The verdict on a capture, appraised with its manifest and without a baseline."""
    raw = (FIXTURES / "flatcar-lab-good" / "manifest.dsse.json").read_bytes()
    keys = [(FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()]
    manifest = ml.SignedManifest.from_bytes(raw).verify(keys=keys, now=NOW)
    return ml.Verifier([manifest], policy=ml.policy.flatcar(secure_boot=True)).appraise(machine(good_log()))


def verdict(**changes: Any) -> AppraisalResult:
    """A good machine's verdict with a baseline and a certified key, changed at will."""
    found = good()
    changed: AppraisalResult = attrs.evolve(found, **{"checked": EVERYTHING, "ak_trust": "chain", **changes})
    return changed


EVERYTHING = tuple(
    Check(rule=rule, pcr=pcr, against="x")
    for rule, pcr in (
        ("boot-path", 4), ("boot-path", 8), ("boot-path", 9), ("secure-boot", 7),
        ("platform.baseline", 0), ("platform.baseline", 1), ("platform.baseline", 2), ("platform.baseline", 3),
        ("platform.baseline", 7), ("usr", None),
    )
)  # fmt: skip


def finding(code: str, severity: str = "error", pcr: int | None = None) -> Finding:
    return Finding(code=code, severity=severity, pcr=pcr, message="said by the log", observed=b"<script>")  # type: ignore[arg-type]


def test_a_real_good_machine() -> None:
    """The capture was appraised with a manifest and no baseline: its firmware and keys were compared with nothing."""
    result = good()
    assert result.status == "affirming"
    assert trustworthiness_vector(result) == {"executables": 3}


def test_everything_checked_affirms_what_ar4si_can_say_of_it() -> None:
    assert trustworthiness_vector(verdict()) == {"executables": 3, "configuration": 2, "hardware": 2}
    assert trustworthiness_vector(verdict(), instance_recognised=True)["instance-identity"] == 2


@pytest.mark.parametrize("left_out", EVERYTHING, ids=lambda c: f"{c.rule} {c.pcr}")
def test_a_check_that_was_not_made_takes_its_claim_away(left_out: Check) -> None:
    rests = {4: "executables", 9: "executables", 0: "hardware", 2: "hardware"}
    vector = trustworthiness_vector(verdict(checked=tuple(c for c in EVERYTHING if c != left_out)))
    whole = {"executables": 3, "configuration": 2, "hardware": 2}
    gone = None if left_out.rule == "usr" else rests.get(left_out.pcr or 0, "configuration")
    assert vector == {claim: value for claim, value in whole.items() if claim != gone}


def test_a_key_that_only_the_caller_vouches_for_says_nothing_of_hardware() -> None:
    assert "hardware" not in trustworthiness_vector(verdict(ak_trust="caller"))
    assert trustworthiness_vector(verdict(ak_trust="credential"))["hardware"] == 2


@pytest.mark.parametrize("status", ["none", "warning", "contraindicated"])
def test_nothing_is_affirmed_of_a_machine_that_is_not(status: str) -> None:
    vector = trustworthiness_vector(verdict(status=status), instance_recognised=True)
    assert vector == {"executables": 0}
    made = claims(verdict(status=status), developer=WHO, now=NOW, instance_recognised=True)
    assert made["submods"]["measlog"]["ear.status"] == status


AGAINST = [
    ("image.unknown", None, "executables", 96, 33),
    ("file.unknown", 9, "executables", 96, 33),
    ("sequence.order", 8, "executables", 96, 33),
    ("secureboot.image-revoked", 4, "executables", 96, 33),
    ("secureboot.state", 7, "configuration", 96, 36),
    ("shim.validation-off", 14, "configuration", 96, 36),
    ("kernel.argument", 8, "configuration", 96, 36),
    ("kernel.mismatch", None, "executables", 96, 33),
    ("command.unexpected", 8, "configuration", 96, 36),
    ("boot.closest", None, "executables", 96, 33),
    ("boot.oem-file", 8, "configuration", 96, 36),
    ("platform.differs", 0, "hardware", 97, -33),
    ("register.not-covered", 0, "hardware", 97, -33),
    ("register.not-covered", 7, "configuration", 96, 36),
    ("register.unexplained", 14, "executables", 96, 33),
    ("separator.fake", 2, "hardware", 97, -33),
    ("event.data", None, "executables", 96, 33),
    ("a.new-code", 99, "executables", 96, 33),
]


@pytest.mark.parametrize(("code", "pcr", "claim", "error", "warning"), AGAINST)
def test_findings_speak_against_a_claim(code: str, pcr: int | None, claim: str, error: int, warning: int) -> None:
    against = verdict(status="contraindicated", findings=(finding(code, "error", pcr), finding(code, "warning", pcr)))
    assert trustworthiness_vector(against) == {claim: error}
    milder = verdict(status="warning", findings=(finding(code, "warning", pcr), finding(code, "info", pcr)))
    assert trustworthiness_vector(milder) == {claim: warning}
    assert trustworthiness_vector(verdict(findings=(finding(code, "info", pcr),)))[claim] in {2, 3}


def test_every_code_speaks_against_something() -> None:
    for code in CODES:
        vector = trustworthiness_vector(verdict(status="contraindicated", findings=(finding(code),)))
        assert set(vector.values()) <= {96, 97}, code


@pytest.mark.parametrize("status", ["affirming", "none", "warning"])
def test_the_status_is_never_better_than_the_worst_claim(status: str) -> None:
    """draft-ietf-rats-ear, 3.1. No verdict of measlog is like this; a policy of one's own might be."""
    for severity, tier in (("error", "contraindicated"), ("warning", "warning")):
        made = claims(verdict(status=status, findings=(finding("image.unknown", severity),)), developer=WHO, now=NOW)
        assert made["submods"]["measlog"]["ear.status"] == tier
    odd = verdict(status="affirming", findings=(finding("platform.differs", "warning"),))
    assert claims(odd, developer=WHO, now=NOW)["submods"]["measlog"]["ear.status"] == "warning"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("details", [False, True])
def test_claims_are_valid_by_the_drafts_rules(profile: Any, details: bool) -> None:
    """The rules are written for JSON; what they say of maps and integers is the same in CBOR, which pycddl judges."""
    pycddl = pytest.importorskip("pycddl")
    rules = CDDL
    for name, value in PROFILES[profile].items():
        rules = rules.replace(name, value)
    schema = pycddl.Schema(rules)
    for result in (verdict(), verdict(status="none"), good()):
        made = claims(result, developer=WHO, now=NOW, nonce=bytes(64), profile=profile, details=details)
        schema.validate_cbor(encode(made))
        vector = made["submods"]["measlog"][PROFILES[profile]["VECTOR"].strip('"')]
        assert vector
        assert all(-128 <= value <= 127 for value in vector.values())
    for broken in ({**made, "iat": "now"}, {**made, "more": 1}, {**made, "submods": {}}):
        with pytest.raises(pycddl.ValidationError):
            schema.validate_cbor(encode(broken))


def test_what_the_claims_say() -> None:
    made = claims(verdict(), developer=WHO, build="v1", now=NOW, nonce=b"12345678", policy_id="urn:example:p")
    assert made == {
        "eat_profile": "tag:github.com,2023:veraison/ear",
        "iat": 1795608000,
        "ear.verifier-id": {"developer": WHO, "build": "v1"},
        "eat_nonce": "MTIzNDU2Nzg=",
        "submods": {
            "measlog": {
                "ear.status": "affirming",
                "ear.trustworthiness-vector": {"executables": 3, "configuration": 2, "hardware": 2},
                "ear.appraisal-policy-id": "urn:example:p",
            }
        },
    }


def test_texts_of_the_log_never_get_in() -> None:
    bad = verdict(status="contraindicated", findings=(finding("image.unknown", "error", 4),))
    text = json.dumps(claims(bad, developer=WHO, now=NOW, details=True))
    assert "script" not in text
    assert "said by the log" not in text
    assert '{"code": "image.unknown", "severity": "error", "pcr": 4}' in text


def test_nonces_and_times_that_cannot_be_said_are_refused() -> None:
    for nonce in (b"", bytes(7), bytes(65)):
        with pytest.raises(ValueError, match="8 to 64"):
            claims(verdict(), developer=WHO, nonce=nonce)
    with pytest.raises(ValueError, match="time zone"):
        claims(verdict(), developer=WHO, now=dt.datetime(2026, 1, 1))  # noqa: DTZ001
    assert claims(verdict(), developer=WHO)["iat"] > 1_700_000_000


@pytest.mark.parametrize(("key", "algorithm"), [(ED, "EdDSA"), (P256, "ES256"), (P384, "ES384")])
def test_pyjwt_verifies_the_token(key: Any, algorithm: str) -> None:
    jwt = pytest.importorskip("jwt")
    made = claims(verdict(), developer=WHO, now=NOW)
    token = ear.sign(made, key)
    assert jwt.decode(token, key.public_key(), algorithms=[algorithm], options={"verify_iat": False}) == made
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": key_id(key.public_key()), "typ": "JWT"}
    other = (
        ed25519.Ed25519PrivateKey.generate().public_key()
        if key is ED
        else ec.generate_private_key(key.curve).public_key()
    )
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, other, algorithms=[algorithm])
    head, body, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps({**made, "iat": 1}).encode()).rstrip(b"=").decode()
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{head}.{forged}.{signature}", key.public_key(), algorithms=[algorithm])
    assert "=" not in token
    assert body


def test_keys_of_other_kinds_are_refused() -> None:
    with pytest.raises(ManifestError):
        ear.sign({}, ec.generate_private_key(ec.SECP521R1()))
    pem = P256.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert ear.sign({}, pem).count(".") == 2
