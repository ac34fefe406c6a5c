"""The whole appraisal on the command line, on the committed captures and with each part exchanged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import Outcome, Runner
from tests.evidence.test_trust import AK_USAGE, Authority, pem
from tests.reference.test_manifest import make_manifest


class Machine:
    """The words that verify the good capture, any of which a test exchanges."""

    def __init__(self, measlog: Runner, fixtures: Path) -> None:
        self.measlog = measlog
        self.fixtures = fixtures
        self.good = fixtures / "flatcar-lab-good"
        self.manifest = self.good / "manifest.dsse.json"
        self.key = fixtures / "lab" / "keys" / "manifest.pub"

    def verify(self, folder: Path | None = None, *more: str | Path, **changes: str | Path | None) -> Outcome:
        folder = folder or self.good
        options: dict[str, str | Path | None] = {
            "nonce": (folder / "nonce.txt").read_text().strip() if (folder / "nonce.txt").exists() else "00",
            "manifest": self.manifest,
            "manifest_key": self.key,
        }
        words = [f for n, v in (options | changes).items() if v is not None for f in (f"--{n.replace('_', '-')}", v)]
        return self.measlog("verify", folder, *words, *more)


@pytest.fixture
def machine(measlog: Runner, fixtures: Path) -> Machine:
    return Machine(measlog, fixtures)


def test_the_good_boot_is_affirming_and_says_why(machine: Machine) -> None:
    done = machine.verify()
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("affirming: ")
    assert "every command, file and kernel argument follows from its grub.cfg" in done.out
    assert "not covered" in done.out
    document = machine.verify(None, "--json").document
    assert document["status"] == "affirming"
    assert [f for f in document["findings"] if f["severity"] != "info"] == []
    assert {c["pcr"] for c in document["checked"]} >= {4, 7, 8, 9, 14}
    assert document["quote"]["nonce"] == (machine.good / "nonce.txt").read_text().strip()
    reported = json.loads((machine.good / "pcrs.json").read_text())["sha256"]
    assert document["quote"]["pcrs"] == {pcr: reported[pcr] for pcr in document["quote"]["pcrs"]}
    assert len(document["manifests"]) == 1
    assert document["manifests"][0]["signed_by"]
    assert document["ak"]["trust"] == "caller"


def test_the_tampered_boot_is_contraindicated_and_names_the_event(machine: Machine) -> None:
    folder = machine.fixtures / "flatcar-lab-tampered"
    done = machine.verify(folder)
    assert (done.status, done.err) == (1, "")
    assert done.out.startswith("contraindicated: ")
    document = machine.verify(folder, "--json").document
    assert document["status"] == "contraindicated"
    named = [f for f in document["findings"] if f["observed"] == {"text": "init=/bin/sh"}]
    assert [(f["severity"], f["pcr"]) for f in named] == [("error", 8)]
    assert f"PCR 8, event {named[0]['event']}: " in done.out
    shown = machine.measlog("show", folder / "binary_bios_measurements", "--json").document
    assert shown["events"][named[0]["event"]]["data"]["text"].endswith("init=/bin/sh")


def test_files_given_one_by_one_are_the_folder(machine: Machine) -> None:
    good = machine.good
    nonce = (good / "nonce.txt").read_text().strip()
    words = ("--nonce", nonce, "--manifest", machine.manifest, "--manifest-key", machine.key, "--json")
    for kind, key in (
        ("quote", "ak.pub"),
        ("quote", "ak.tpm2b"),
        ("quote-rsa", "ak-rsa.pub"),
        ("quote-rsa", "ak-rsa.tpm2b"),
    ):
        log, message = good / "binary_bios_measurements", good / f"{kind}.msg"
        parts = ("--log", log, "--quote", message, "--signature", good / f"{kind}.sig", "--ak", good / key)
        for pcrs in ((), ("--pcrs", good / f"{kind}.pcrs")):
            done = machine.measlog("verify", *parts, *pcrs, *words)
            assert done.status == 0, done.err
            assert done.document["status"] == "affirming"


def test_several_manifests_in_a_row(machine: Machine) -> None:
    other = machine.fixtures / "flatcar-lab-tampered" / "manifest.dsse.json"
    nonce = (machine.good / "nonce.txt").read_text().strip()
    words = ("--nonce", nonce, "--manifest-key", machine.key, "--manifest", other, machine.manifest)
    assert machine.measlog("verify", machine.good, *words).status == 0
    # The last word is the folder where nothing else can be.
    done = machine.measlog("verify", *words, machine.good, "--json")
    assert done.status == 0
    assert len(done.document["manifests"]) == 2


def test_evidence_that_is_not_authentic_is_status_3_and_names_the_file(machine: Machine, tmp_path: Path) -> None:
    good, other = machine.good, machine.fixtures / "flatcar-lab-tampered"
    names = ("binary_bios_measurements", "quote.msg", "quote.sig", "ak.pub", "quote.pcrs", "nonce.txt")
    for name, source, blamed in (
        ("binary_bios_measurements", other / "binary_bios_measurements", "binary_bios_measurements"),
        ("quote.msg", other / "quote.msg", "quote.sig"),
        ("quote.sig", other / "quote.sig", "quote.sig"),
        ("ak.pub", other / "ak.pub", "quote.sig"),
        ("ak.pub", good / "quote.sig", "ak.pub"),
        ("ak.pub", good / "ek.tpm2b", "ak.pub"),
        ("nonce.txt", other / "nonce.txt", "quote.msg"),
        ("quote.pcrs", other / "quote.pcrs", "quote.pcrs"),
        ("quote.pcrs", good / "quote.sig", "quote.pcrs"),
        ("quote.msg", None, "quote.msg"),
        ("ak.pub", None, "ak.pub"),
        ("binary_bios_measurements", None, "binary_bios_measurements"),
    ):
        folder = tmp_path / f"{name}-{source and source.parent.name}-{source and source.name}"
        folder.mkdir()
        for each in names:
            (folder / each).write_bytes((good / each).read_bytes())
        if source is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(source.read_bytes())
        done = machine.verify(folder)
        assert (done.status, done.out) == (3, ""), (name, source, done)
        assert done.err.startswith(f"measlog: {folder / blamed}: "), (name, source, done.err)
        assert done.err.count("\n") == 1


def test_every_flipped_bit_of_the_log_that_a_digest_covers_is_noticed(machine: Machine, tmp_path: Path) -> None:
    log = bytearray((machine.good / "binary_bios_measurements").read_bytes())
    document = machine.measlog("show", machine.good / "binary_bios_measurements", "--json").document
    for name in ("quote.msg", "quote.sig", "ak.pub", "nonce.txt"):
        (tmp_path / name).write_bytes((machine.good / name).read_bytes())
    events = [e for e in document["events"] if e["pcr"] in {4, 7, 8, 9, 14}]
    for event in events[::9]:
        # A digest of the verified bank: the registers change.
        place = log.index(bytes.fromhex(event["digests"]["sha256"]), event["offset"]) + 7
        log[place] ^= 0x10
        (tmp_path / "binary_bios_measurements").write_bytes(log)
        assert machine.verify(tmp_path).status == 3, event["index"]
        log[place] ^= 0x10
        # Text that a digest covers: the registers stay, the digest does not follow from the data any more.
        if event["trust"].get("text") == "authenticated":
            place = log.index(bytes.fromhex(event["raw"]), event["offset"]) + len(event["raw"]) // 2 - 2
            log[place] ^= 0x01
            (tmp_path / "binary_bios_measurements").write_bytes(log)
            assert machine.verify(tmp_path).status == 1, event["index"]
            log[place] ^= 0x01


def test_a_manifest_that_is_not_authentic_is_status_3(machine: Machine, tmp_path: Path) -> None:
    data = bytearray(machine.manifest.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(data)
    (tmp_path / "unsigned").write_bytes(make_manifest().to_json())
    for manifest, key, said in (
        (tmp_path / "flipped", machine.key, "flipped: "),
        (tmp_path / "unsigned", machine.key, "unsigned: "),
        (tmp_path / "missing", machine.key, "missing: No such file"),
        (machine.manifest, machine.good / "ak.pub", "none of the given keys"),
        (machine.manifest, machine.good / "ak-rsa.pub", "ak-rsa.pub: "),
        (machine.manifest, machine.good / "quote.sig", "quote.sig: "),
        (machine.manifest, tmp_path / "missing", "missing: No such file"),
    ):
        done = machine.verify(manifest=manifest, manifest_key=key)
        assert (done.status, done.out) == (3, ""), (manifest, key)
        assert said in done.err


def test_a_floor_refuses_what_is_older(machine: Machine) -> None:
    version = machine.verify(None, "--json").document["manifests"][0]["version"]
    assert machine.verify(min_version=str(version)).status == 0
    done = machine.verify(min_version=str(version + 1))
    assert done.status == 3
    assert str(machine.manifest) in done.err


def test_an_unsigned_manifest_needs_the_name_that_looks_wrong(machine: Machine, tmp_path: Path) -> None:
    shown = machine.measlog("manifest", "show", machine.manifest, "--json").document
    assert shown["signed_by"] is None
    plain = tmp_path / "plain"
    plain.write_text(json.dumps(shown["manifest"]))
    for manifest in (plain, machine.manifest):
        assert machine.verify(None, "--unsafe-unsigned-manifest", manifest=manifest, manifest_key=None).status == 0


@pytest.mark.parametrize("bank", ["sha384", "sha1"])
def test_a_bank_that_was_not_quoted_is_refused(machine: Machine, bank: str) -> None:
    done = machine.verify(bank=bank)
    assert done.status == 3
    assert bank in done.err


def test_policies_by_name_and_from_files(machine: Machine, tmp_path: Path) -> None:
    assert machine.verify(policy="flatcar").status == 0
    assert machine.verify(policy="flatcar-secure-boot-off").status == 1
    good = tmp_path / "good.toml"
    good.write_text('format = "measlog.policy/1"\nname = "our fleet"\nuse = "flatcar"\nsecure_boot = true\n')
    done = machine.verify(None, "--json", policy=good)
    assert (done.status, done.document["policy"]) == (0, "our fleet")
    bad = tmp_path / "bad.toml"
    bad.write_text('format = "measlog.policy/1"\nname = "x"\nuse = "flatcar"\ncolour = true\n')
    done = machine.verify(policy=bad)
    assert (done.status, done.out) == (3, "")
    assert done.err.startswith(f"measlog: {bad}: line 4: ")
    assert machine.verify(policy=tmp_path / "missing").status == 3


def test_a_baseline_covers_what_no_release_decides(machine: Machine, tmp_path: Path) -> None:
    baseline = tmp_path / "platform.json"
    folders = [machine.good, machine.fixtures / "flatcar-lab-tampered"]
    samples = [f"{f}={(f / 'nonce.txt').read_text().strip()}" for f in folders]
    learned = machine.measlog("baseline", "learn", *samples, "-o", baseline, "--model", "lab", "--json")
    assert learned.status == 0, learned.err
    assert learned.document["samples"] == 2
    assert set(learned.document["pcrs"]) >= {0, 1, 2, 3, 5, 6}
    document = machine.verify(None, "--json", baseline=baseline).document
    assert document["status"] == "affirming"
    assert {c["pcr"] for c in document["checked"]} >= {0, 1, 2, 3, 5, 6}
    assert not {n["pcr"] for n in document["not_covered"]} & {0, 1, 2, 3, 5, 6}
    text = machine.measlog("baseline", "learn", samples[0], "-o", tmp_path / "b")
    assert "observed on one machine" in text.out
    wrong = machine.measlog("baseline", "learn", f"{machine.good}=00", "-o", tmp_path / "never")
    assert wrong.status == 3
    assert not (tmp_path / "never").exists()
    (tmp_path / "bad").write_text("{}")
    assert machine.verify(baseline=tmp_path / "bad").status == 3


def test_a_baseline_on_standard_output_stands_there_alone(machine: Machine) -> None:
    sample = f"{machine.good}={(machine.good / 'nonce.txt').read_text().strip()}"
    done = machine.measlog("baseline", "learn", sample, "-o", "-")
    assert done.status == 0
    assert json.loads(done.out)["samples"] == 1


def test_a_folder_that_is_none_is_named(machine: Machine, tmp_path: Path) -> None:
    for folder, said in ((tmp_path / "missing", "No such file"), (machine.good / "quote.msg", "is not a folder")):
        done = machine.verify(folder)
        assert (done.status, done.out) == (3, "")
        assert done.err.startswith(f"measlog: {folder}: {said}")


def test_certificates_of_the_attestation_key(machine: Machine, tmp_path: Path) -> None:
    authority = Authority()
    ak = (machine.good / "ak.pub").read_bytes()
    files = {
        "chain": pem(authority.certify(ak, usage=AK_USAGE), authority.middle),
        "of another": pem(authority.certify((machine.good / "ak.pub").read_bytes()), authority.middle),
        "roots": pem(authority.root),
        "other roots": pem(Authority().root),
        "none": b"no certificate",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    done = machine.verify(None, "--json", ak_chain=tmp_path / "chain", ak_roots=tmp_path / "roots")
    assert (done.status, done.err) == (0, "")
    assert done.document["ak"]["trust"] == "chain"
    for chain, roots in (("chain", "other roots"), ("of another", "roots"), ("none", "roots"), ("chain", "none")):
        done = machine.verify(ak_chain=tmp_path / chain, ak_roots=tmp_path / roots)
        assert (done.status, done.out) == (3, "")
        blamed = tmp_path / ("none" if "none" in {chain, roots} else chain)
        assert done.err.startswith(f"measlog: {blamed}: ")


def test_a_manifest_that_cannot_be_used_is_refused(machine: Machine, tmp_path: Path) -> None:
    # A GRUB of a version whose measurement rules are not known.
    (tmp_path / "unsigned").write_bytes(make_manifest(not_before=None, expires=None).to_json())
    done = machine.verify(None, "--unsafe-unsigned-manifest", manifest=tmp_path / "unsigned", manifest_key=None)
    assert (done.status, done.out) == (3, "")
    assert done.err.startswith(f"measlog: {tmp_path / 'unsigned'}: ")
    assert done.err.count("\n") == 1


def test_the_nonce_is_never_taken_from_the_folder(machine: Machine) -> None:
    done = machine.verify(nonce=None)
    assert done.status == 2
    assert "--nonce" in done.err


def test_a_manifest_is_signed_shown_and_verified(measlog: Runner, fixtures: Path, tmp_path: Path) -> None:
    manifest = make_manifest(not_before=None, expires=None)
    (tmp_path / "m.json").write_bytes(manifest.to_json())
    keys = fixtures / "lab" / "keys"
    made = measlog("manifest", "sign", tmp_path / "m.json", "--key", keys / "manifest.key", "-o", tmp_path / "m.dsse")
    assert (made.status, made.out, made.err) == (0, "", "")
    document = measlog(
        "manifest", "show", tmp_path / "m.dsse", "--manifest-key", keys / "manifest.pub", "--json"
    ).document
    assert document["manifest"] == json.loads(manifest.to_json())
    assert len(document["signed_by"]) == 1
    text = measlog("manifest", "show", tmp_path / "m.dsse", "--manifest-key", keys / "manifest.pub").out
    assert document["signed_by"][0] in text
    assert "nobody (not verified)" in measlog("manifest", "show", tmp_path / "m.dsse").out
    other = fixtures / "flatcar-lab-good" / "ak.pub"
    assert measlog("manifest", "show", tmp_path / "m.dsse", "--manifest-key", other).status == 3
