"""manifest check, diff and lint-policy-zip: verdicts on manifests that were signed by the lab."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.cli.command import Runner
from tests.flatcar.images import tool
from tests.flatcar.test_policyzip import GOOD, zipped
from tests.flatcar.test_release import Gpg, image_file


@pytest.fixture
def key(fixtures: Path) -> Path:
    return fixtures / "lab" / "keys" / "manifest.pub"


@pytest.fixture
def signed(fixtures: Path) -> Path:
    return fixtures / "flatcar-lab-good" / "manifest.dsse.json"


def test_a_signed_manifest_is_accepted_down_to_its_floor(measlog: Runner, signed: Path, key: Path) -> None:
    done = measlog("manifest", "check", signed, "--manifest-key", key, "--json")
    assert done.status == 0
    version = done.document["version"]
    assert measlog("manifest", "check", signed, "--manifest-key", key, "--min-version", str(version)).status == 0
    refused = measlog("manifest", "check", signed, "--manifest-key", key, "--min-version", str(version + 1))
    assert (refused.status, refused.out) == (3, "")
    assert str(signed) in refused.err


def test_who_vouches_for_an_image_is_in_its_manifest(measlog: Runner, tmp_path: Path) -> None:
    pytest.importorskip("pysequoia")
    image, built, certificates = image_file(tmp_path), tmp_path / "m.json", tmp_path / "keys.asc"
    words = ("manifest", "build", image, "--no-verity", "-o", built, "--openpgp-keys", certificates)
    with tempfile.TemporaryDirectory(prefix="mlg") as folder:
        gpg = Gpg(Path(folder, "h"))
        try:
            certificates.write_bytes(gpg.run("--armor", "--export"))
            unsigned = measlog(*words)
            assert (unsigned.status, built.exists()) == (3, False)
            assert unsigned.err.startswith(f"measlog: {image}: ")
            gpg.sign(image)
        finally:
            subprocess.run([tool("gpgconf"), "--homedir", f"{folder}/h", "--kill", "all"], check=False, timeout=60)
    done = measlog(*words)
    assert (done.status, done.err) == (0, "")
    (source,) = json.loads(built.read_text())["sources"]
    assert (source["authenticity"], source["signer"]) == ("openpgp", gpg.fingerprint)
    for data, said in ((b"no key", "the OpenPGP keys cannot be read: "), (b"", "no OpenPGP key was given")):
        certificates.write_bytes(data)
        refused = measlog(*words)
        assert refused.status == 3
        assert refused.err.startswith(f"measlog: {certificates}: {said}")
        assert "backtrace" not in refused.err


def test_another_key_vouches_for_nothing(measlog: Runner, signed: Path, fixtures: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_bytes((fixtures / "flatcar-lab-good" / "ak.pub").read_bytes())
    done = measlog("manifest", "check", signed, "--manifest-key", other)
    assert (done.status, done.out) == (3, "")


def test_a_release_does_not_differ_from_itself(measlog: Runner, signed: Path, key: Path) -> None:
    done = measlog("manifest", "diff", signed, signed, "--manifest-key", key, "--json")
    assert (done.status, done.document["changes"]) == (0, [])
    assert "nothing that is measured changes" in measlog("manifest", "diff", signed, signed).out


def test_what_an_update_changes_in_words_and_registers(
    measlog: Runner, fixtures: Path, signed: Path, key: Path
) -> None:
    """The lab's second release has another kernel, which PCR 4 and 9 show."""
    new = fixtures / "tampered-kernel" / "manifest.dsse.json"
    done = measlog("manifest", "diff", signed, new, "--manifest-key", key, "--json")
    kernels = [c for c in done.document["changes"] if "kernel" in c["subject"]]
    same = measlog("manifest", "show", signed, "--json").document["manifest"]["components"]
    other = measlog("manifest", "show", new, "--json").document["manifest"]["components"]
    assert bool(kernels) == ([c for c in same if c["role"] == "kernel"] != [c for c in other if c["role"] == "kernel"])
    assert done.status == (1 if done.document["changes"] else 0)


def test_what_changes_is_a_table(measlog: Runner, signed: Path, tmp_path: Path) -> None:
    document = measlog("manifest", "show", signed, "--json").document["manifest"]
    document["grub"]["config"] += "set debug=1\n"
    (tmp_path / "new.json").write_text(json.dumps(document))
    done = measlog("manifest", "diff", signed, tmp_path / "new.json")
    assert done.status == 1
    lines = done.out.splitlines()
    assert lines[0].split() == ["register", "what", "change"]
    assert any(line.startswith("4, 8") for line in lines[1:])
    assert len(lines) - 1 == len(
        measlog("manifest", "diff", signed, tmp_path / "new.json", "--json").document["changes"]
    )


def test_the_obsolete_policy_is_judged_value_by_value(measlog: Runner, signed: Path, key: Path, tmp_path: Path) -> None:
    path = tmp_path / "_pcr_policy.zip"
    path.write_bytes(zipped(GOOD))
    done = measlog("manifest", "lint-policy-zip", path, "--json")
    verdicts = {row["verdict"] for row in done.document["rules"]}
    assert done.status == 1
    assert verdicts & {"never", "broken"}
    assert all(row["reasons"] for row in done.document["rules"] if row["verdict"] in {"never", "broken"})
    tried = measlog("manifest", "lint-policy-zip", path, "--manifest", signed, "--manifest-key", key)
    assert "never" in tried.out or "broken" in tried.out


def test_what_is_no_archive_is_named(measlog: Runner, tmp_path: Path) -> None:
    path = tmp_path / "policy.zip"
    path.write_bytes(b"no archive")
    done = measlog("manifest", "lint-policy-zip", path)
    assert (done.status, done.out) == (3, "")
    assert str(path) in done.err
