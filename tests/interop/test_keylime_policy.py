"""The policy document for Keylime: what is accepted, and above all what is not. Keylime is not needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import measlog as ml
from measlog.errors import ManifestError, PolicyError
from measlog.interop.keylime import KeylimePolicy, policy_document, policy_is_valid, policy_load
from tests.conftest import FIXTURES

KEY = (FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()
SIGNED = (FIXTURES / "flatcar-lab-good" / "manifest.dsse.json").read_bytes()
HEAD = 'format = "measlog.policy/1"\nname = "ours"\n'
FLATCAR = HEAD + 'use = "flatcar"\n'
BASELINE = {
    "format": "measlog.baseline/1",
    "observed": True,
    "bank": "sha256",
    "samples": 1,
    "model": None,
    "histories": {"0": [["00" * 32]]},
}


def document(**changes: Any) -> dict[str, Any]:
    found = {
        "format": "measlog.keylime/1",
        "manifests": [json.loads(SIGNED)],
        "manifest_keys": [KEY.decode()],
        "policy": FLATCAR,
        **changes,
    }
    return {key: value for key, value in found.items() if value is not ...}


def rules(*tables: str) -> str:
    return HEAD + "required = [4]\n" + "".join(f"[[rule]]\n{table}\n" for table in tables)


def test_what_is_written_is_read() -> None:
    manifest = ml.SignedManifest.from_bytes(SIGNED).verify(keys=[KEY])
    text = policy_document(policy=FLATCAR, manifests=[SIGNED], keys=[KEY], minimum_version=manifest.version)
    policy = KeylimePolicy.from_json(text)
    assert policy.manifests == (manifest,)
    assert policy.policy == attrs.evolve(ml.policy.flatcar(), name="ours")
    assert policy_is_valid(text.decode())
    # Keylime's tenant reads the file as JSON and writes it anew, which changes no signed byte.
    assert KeylimePolicy.from_json(json.dumps(json.loads(text), indent=1)).policy == policy.policy


def test_baselines_alone_are_something_to_compare_with() -> None:
    toml = HEAD + "required = [0]\n[[rule]]\nkind = 'platform'\n"
    text = json.dumps(document(manifests=..., manifest_keys=..., policy=toml, baselines=[BASELINE]))
    assert KeylimePolicy.from_json(text).baselines[0].histories == {0: ((bytes(32),),)}
    baseline = ml.Baseline.from_json(json.dumps(BASELINE).encode())
    assert KeylimePolicy.from_json(policy_document(policy=toml, baselines=[baseline])).baselines == (baseline,)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: None, "not JSON"),
    "empty object": (dict, "format: expected"),
    "empty list": (list, "not a JSON object"),
    "number": (lambda: 1, "not a JSON object"),
    "text": (lambda: "x", "not a JSON object"),
    "a reference state by itself": (lambda: {"kernels": []}, "goes into reference_state"),
    "another version": (lambda: document(format="measlog.keylime/2"), "format: expected"),
    "an unknown member": (lambda: document(extra=1), "'extra' is not known"),
    "no policy": (lambda: document(policy=...), "policy: expected"),
    "a policy that is no text": (lambda: document(policy={}), "policy: expected"),
    "a policy that is no TOML": (lambda: document(policy="{"), "policy: not TOML"),
    "a policy with a mistake": (lambda: document(policy=FLATCAR + "typo = 1\n"), "policy: line 4"),
    "a policy without rules": (lambda: document(policy=HEAD + "required = [4]\n"), "would accept everything"),
    "a policy of nothing": (lambda: document(policy=""), "policy: format must be"),
    "accept all": (lambda: document(policy=rules('kind = "unsafe-accept-all"')), "accepts everything"),
    "accept all within any of": (
        lambda: document(
            policy=rules(
                'kind = "any-of"\n[[rule.rules]]\nkind = "separators"\n[[rule.rules]]\nkind = "unsafe-accept-all"'
            )
        ),
        "accepts everything",
    ),
    "rules that only inform": (
        lambda: document(policy=rules('kind = "boot-path"\nseverity = "info"', 'kind = "open-ended"\npcrs = [10]')),
        "no rule can fail",
    ),
    "no references": (lambda: document(manifests=[], manifest_keys=[]), "nothing to compare with"),
    "manifests that are no list": (lambda: document(manifests={}), "manifests: expected a list"),
    "a manifest that is no object": (lambda: document(manifests=["x"]), r"manifests\[0\]: expected a signed"),
    "no key": (lambda: document(manifest_keys=[]), r"manifests\[0\]: no key"),
    "a key that is none": (lambda: document(manifest_keys=["x"]), r"manifests\[0\]: the manifest key is not"),
    "keys that are no text": (lambda: document(manifest_keys=[1]), "manifest_keys: expected"),
    "another key": (lambda: document(manifest_keys=[_other_key()]), r"manifests\[0\]: .* signed by none"),
    "an unsigned manifest": (lambda: document(manifests=[_unsigned()]), r"manifests\[0\]: envelope"),
    "a changed manifest": (lambda: document(manifests=[_changed()]), r"manifests\[0\]: .* signed by none"),
    "a rolled back manifest": (lambda: document(minimum_version=2**50), r"manifests\[0\]: .* at least"),
    "a version that is none": (lambda: document(minimum_version=True), "minimum_version: expected"),
    "a baseline that is none": (lambda: document(baselines=[{}]), r"baselines\[0\]: format"),
    "a baseline that is no object": (lambda: document(baselines=[[]]), r"baselines\[0\]: expected"),
    "baselines that are no list": (lambda: document(baselines=1), "baselines: expected"),
    "both kinds": (lambda: document(reference_state={}), "'manifest_keys' is not known"),
    "an empty reference state": (
        lambda: {"format": "measlog.keylime/1", "reference_state": {}},
        "reference_state.scrtm_and_bios",
    ),
    "a lone surrogate": (lambda: document(manifests=[{"payload": "\ud800"}]), r"manifests\[0\]"),
}


def _other_key() -> str:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _unsigned() -> Any:
    return json.loads(ml.SignedManifest.from_bytes(SIGNED).envelope.payload)


def _changed() -> Any:
    envelope = json.loads(SIGNED)
    payload = envelope["payload"]
    return {**envelope, "payload": ("A" if payload[0] != "A" else "B") + payload[1:]}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    made = make()
    text = "" if made is None else json.dumps(made)
    with pytest.raises((PolicyError, ManifestError), match=message):
        KeylimePolicy.from_json(text)
    assert not policy_is_valid(text)
    (tmp_path / "policy").write_text(text)
    with pytest.raises((PolicyError, ManifestError), match=message):
        policy_load(str(tmp_path / "policy"))


@pytest.mark.parametrize("text", ["{" * 100_000, '{"a": 1, "a": 2}', '{"a": 1.5}', "\ud800", "no JSON"])
def test_what_is_no_document(text: str) -> None:
    with pytest.raises(PolicyError):
        KeylimePolicy.from_json(text)
    assert not policy_is_valid(text)


def test_only_text_is_a_policy() -> None:
    assert not policy_is_valid(None)
    assert not policy_is_valid(json.loads("{}"))
    with pytest.raises(PolicyError, match="no policy file"):
        policy_load()


def test_a_manifest_out_of_force_is_refused_when_it_is_read_and_when_it_is_used() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    manifest = ml.ReferenceManifest.from_json(json.dumps(_unsigned()).encode())
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    signed = attrs.evolve(manifest, expires=moment).sign(key)
    before, after = datetime(2029, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    text = policy_document(policy=FLATCAR, manifests=[signed], keys=[pem], now=before)
    policy = KeylimePolicy.from_json(text, now=before)
    policy.check_in_force(before)
    with pytest.raises(ManifestError, match="expired"):
        policy.check_in_force(after)
    with pytest.raises(ManifestError, match="expired"):
        KeylimePolicy.from_json(text, now=after)


def test_nothing_is_written_that_would_be_refused() -> None:
    with pytest.raises(ManifestError, match="signed by none"):
        policy_document(policy=FLATCAR, manifests=[SIGNED], keys=[_other_key()])
    with pytest.raises(PolicyError, match="accepts everything"):
        policy_document(policy=rules('kind = "unsafe-accept-all"'), manifests=[SIGNED], keys=[KEY])
    with pytest.raises(ManifestError, match="not JSON"):
        policy_document(policy=FLATCAR, manifests=[b"{"], keys=[KEY])
    with pytest.raises(ManifestError, match="no Unicode"):
        policy_document(policy=FLATCAR, manifests=[b'{"payload": "\\ud800"}'], keys=[KEY])
