"""``measlog keylime``: what it writes is what Keylime's side takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import measlog as ml
from measlog.interop.keylime import KeylimePolicy, KeylimeState, policy_load
from tests.cli.command import Runner
from tests.conftest import FIXTURES

GOOD = FIXTURES / "flatcar-lab-good"
MANIFEST: list[str | Path] = [
    "--manifest",
    str(GOOD / "manifest.dsse.json"),
    "--manifest-key",
    str(FIXTURES / "lab" / "keys" / "manifest.pub"),
]


def nonce() -> str:
    return (GOOD / "nonce.txt").read_text().strip()


@pytest.mark.parametrize(("words", "enabled"), [([], True), (["--policy", "flatcar-secure-boot-off"], False)])
def test_a_policy_is_written_that_the_module_loads(
    measlog: Runner, tmp_path: Path, words: list[str], enabled: bool
) -> None:
    target = tmp_path / "policy.json"
    done = measlog("keylime", "policy", *MANIFEST, *words, "-o", target)
    assert (done.status, done.out, done.err) == (0, "", "")
    policy = KeylimePolicy.from_json(policy_load(str(target)))
    assert [m.name for m in policy.manifests] == ["flatcar-lab"]
    assert policy.policy.name == (words[-1] if words else "flatcar")
    assert policy.policy.rule == ml.policy.flatcar(secure_boot=enabled).rule


def test_a_baseline_a_floor_and_a_policy_file_are_taken_along(measlog: Runner, tmp_path: Path) -> None:
    baseline, toml, target = (tmp_path / name for name in ("baseline", "policy.toml", "policy.json"))
    assert measlog("baseline", "learn", f"{GOOD}={nonce()}", "-o", baseline).status == 0
    toml.write_text('format = "measlog.policy/1"\nname = "ours"\nuse = "flatcar"\nallow_fallback = false\n')
    words: list[str | Path] = ["--baseline", baseline, "--policy", toml, "--min-version", "1", "-o", target]
    assert measlog("keylime", "policy", *MANIFEST, *words).status == 0
    policy = KeylimePolicy.from_json(target.read_bytes())
    assert [one.samples for one in policy.baselines] == [1]
    assert policy.policy.name == "ours"
    assert json.loads(target.read_bytes())["minimum_version"] == 1


def test_a_reference_state_is_written_and_taken_into_a_policy(measlog: Runner, tmp_path: Path) -> None:
    state, target = tmp_path / "state.json", tmp_path / "policy.json"
    done = measlog("keylime", "state", f"{GOOD}={nonce()}", *MANIFEST, "-o", state)
    assert (done.status, done.err) == (0, "")
    made = KeylimeState.from_json(state.read_bytes())
    assert made.secure_boot
    assert measlog("keylime", "policy", "--state", state, "-o", target).status == 0
    assert KeylimePolicy.from_json(target.read_bytes()).policy == made.policy()


def test_wrong_usage(measlog: Runner, tmp_path: Path) -> None:
    target = tmp_path / "policy.json"
    cases: list[list[str | Path]] = [
        ["keylime", "policy", "-o", target],
        ["keylime", "policy", *MANIFEST, "--state", "x", "-o", target],
        ["keylime", "policy", *MANIFEST],
        ["keylime", "policy", *MANIFEST[:2], "-o", target],
        ["keylime", "state", str(GOOD), *MANIFEST, "-o", target],
    ]
    for words in cases:
        assert measlog(*words).status == 2
    assert not target.exists()


def test_what_would_be_refused_there_is_refused_here(measlog: Runner, tmp_path: Path) -> None:
    target, bad = tmp_path / "policy.json", tmp_path / "bad"
    bad.write_text("{}")
    lax = tmp_path / "lax.toml"
    lax.write_text('format = "measlog.policy/1"\nname = "x"\nrequired = [4]\n[[rule]]\nkind = "unsafe-accept-all"\n')
    other = GOOD / "ak.pub"
    cases: list[tuple[list[str | Path], str]] = [
        (["policy", *MANIFEST[:3], other, "-o", target], "manifest.dsse.json"),
        (["policy", *MANIFEST, "--min-version", str(2**50), "-o", target], "manifest.dsse.json"),
        (["policy", *MANIFEST, "--policy", lax, "-o", target], "unsafe-accept-all"),
        (["policy", "--state", bad, "-o", target], "scrtm_and_bios"),
        (["state", f"{GOOD}={'00' * 20}", *MANIFEST, "-o", target], "nonce"),
        (["state", f"{GOOD}={nonce()}", "--manifest", bad, *MANIFEST[2:], "-o", target], str(bad)),
    ]
    for words, named in cases:
        done = measlog("keylime", *words)
        assert done.status == 3
        assert named in done.err
    assert not target.exists()
