"""Boots of unified kernel images on the command line: systemd's log among the evidence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.command import Outcome, Runner


def verify(measlog: Runner, folder: Path, *more: str | Path) -> Outcome:
    key = folder.parent / "lab" / "keys" / "manifest.pub"
    if not key.exists():
        key = Path(__file__).resolve().parents[2] / "fixtures" / "lab" / "keys" / "manifest.pub"
    nonce = (folder / "nonce.txt").read_text().strip()
    return measlog(
        *("verify", folder, "--nonce", nonce, "--manifest", folder / "manifest.dsse.json", "--manifest-key", key), *more
    )


@pytest.fixture
def copy(fixtures: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fixtures / "uki", tmp_path / "uki"))


def test_the_folder_holds_systemds_log(measlog: Runner, fixtures: Path) -> None:
    assert verify(measlog, fixtures / "uki").status == 0
    off = verify(measlog, fixtures / "uki-sb-off", "--policy", "flatcar-secure-boot-off", "--json")
    assert (off.status, off.document["status"]) == (0, "affirming")
    tampered = verify(measlog, fixtures / "uki-tampered-cmdline", "--json")
    assert tampered.status == 1
    assert {f["code"] for f in tampered.document["findings"]} >= {"section.unknown", "kernel.argument"}


def test_a_log_that_is_missing_cut_or_broken(measlog: Runner, copy: Path) -> None:
    log = copy / "tpm2-measure.log"
    data = log.read_bytes()
    records = data.split(b"\x1e")
    log.write_bytes(b"\x1e".join(records[:-1]))
    done = verify(measlog, copy)
    assert done.status == 3
    assert "PCR 11" in done.err
    assert str(log) in done.err
    log.write_bytes(data[:-3])
    done = verify(measlog, copy)
    assert (done.status, "does not end with LF" in done.err) == (3, True)
    log.write_bytes(data.replace(b'"pcr":11', b'"pcr":7', 1))
    done = verify(measlog, copy)
    assert (done.status, "systemd[0]: PCR 7" in done.err, str(log) in done.err) == (3, True, True)
    log.unlink()
    assert verify(measlog, copy).status == 3


def test_a_policy_that_leaves_pcr_11_open(measlog: Runner, copy: Path, tmp_path: Path) -> None:
    """Without the log the evidence is authentic then, and a unified image is not affirmed by it."""
    (copy / "tpm2-measure.log").unlink()
    policy = tmp_path / "policy.toml"
    policy.write_text('format = "measlog.policy/1"\nname = "open"\nuse = "flatcar"\nopen_ended = [10, 11]\n')
    done = verify(measlog, copy, "--policy", policy, "--json")
    assert done.status == 1
    assert {f["code"] for f in done.document["findings"]} == {"register.not-quoted"}


def test_files_given_one_by_one(measlog: Runner, fixtures: Path) -> None:
    folder = fixtures / "uki"
    words: list[str | Path] = [
        *("--log", folder / "binary_bios_measurements", "--quote", folder / "quote.msg"),
        *("--signature", folder / "quote.sig", "--ak", folder / "ak.pub", "--pcrs", folder / "quote.pcrs"),
        *("--nonce", (folder / "nonce.txt").read_text().strip(), "--manifest", folder / "manifest.dsse.json"),
        *("--manifest-key", fixtures / "lab" / "keys" / "manifest.pub"),
    ]
    further = ("--userspace-log", folder / "tpm2-measure.log")
    assert measlog("verify", *words, *further).status == 0
    assert measlog("verify", *words).status == 3
    assert measlog("verify", folder, *further, *words[-6:]).status == 2


def test_show_and_replay_take_it_too(measlog: Runner, fixtures: Path) -> None:
    folder = fixtures / "uki"
    log, further = folder / "binary_bios_measurements", ("--userspace-log", folder / "tpm2-measure.log")
    shown = measlog("show", log, "--pcr", "11", *further)
    assert [line.split()[3] for line in shown.out.splitlines() if "leave-initrd" in line] == ["systemd"]
    (*_, last) = measlog("show", log, "--json", *further).document["events"]
    assert (last["source"], last["offset"], last["data"]["text"]) == ("systemd", 3, "ready")
    assert last["checks"]["sha256"]["status"] == "matches"
    reported = json.loads((folder / "pcrs.json").read_text())
    for bank, values in reported.items():
        found = measlog("replay", log, "--alg", bank, "--json", *further).document[bank]
        assert found["11"] == values["11"]


def test_the_report_shows_its_events(measlog: Runner, fixtures: Path, tmp_path: Path) -> None:
    folder, page = fixtures / "uki", tmp_path / "page.html"
    nonce = (folder / "nonce.txt").read_text().strip()
    key = fixtures / "lab" / "keys" / "manifest.pub"
    words = ("--nonce", nonce, "--manifest", folder / "manifest.dsse.json", "--manifest-key", key, "-o", page)
    assert measlog("report", folder, *words).status == 0
    text = page.read_text()
    assert 'id="event-48"' in text
    assert "leave-initrd" in text
    assert "tpm2-measure.log" in text


@pytest.mark.parametrize("name", ["binary_runtime_measurements", "ascii_runtime_measurements"])
def test_imas_log_explains_its_register(measlog: Runner, fixtures: Path, name: str) -> None:
    """The TPM's quote covers PCR 10, so it is the independent source of what the log must come to."""
    folder = fixtures / "uki"
    without = verify(measlog, folder, "--json").document["not_covered"]
    found = verify(measlog, folder, "--json", "--ima-log", folder / name)
    assert found.status == 0
    why = "its value does not follow from the log"
    assert [item["reason"] for item in without if item["pcr"] == 10].count(why) == 1
    assert why not in [item["reason"] for item in found.document["not_covered"]]


def test_imas_log_must_be_that_of_the_quote(measlog: Runner, fixtures: Path, tmp_path: Path) -> None:
    folder, log = fixtures / "uki", tmp_path / "ima"
    lines = (folder / "ascii_runtime_measurements").read_bytes().splitlines(keepends=True)
    for wrong in (lines[:-1], [*lines[1:], lines[0]], [*lines[:-2], lines[-1]]):
        log.write_bytes(b"".join(wrong))
        done = verify(measlog, folder, "--ima-log", log)
        assert (done.status, str(log) in done.err, "PCR 10" in done.err) == (3, True, True)
    log.write_bytes(b"".join(lines).replace(b"10 ", b"4 ", 1))
    done = verify(measlog, folder, "--ima-log", log)
    assert (done.status, str(log) in done.err, "ima[0]: PCR 4 is not one" in done.err) == (3, True, True)
    log.write_bytes((folder / "binary_runtime_measurements").read_bytes()[:-3])
    done = verify(measlog, folder, "--ima-log", log)
    assert (done.status, f"{log}: entries[" in done.err) == (3, True)
    log.unlink()
    done = verify(measlog, folder, "--ima-log", log)
    assert (done.status, str(log) in done.err) == (3, True)


def test_imas_log_may_have_grown_since_the_quote(measlog: Runner, fixtures: Path, copy: Path) -> None:
    log = copy / "ima"
    lines = (fixtures / "uki" / "ascii_runtime_measurements").read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines, lines[3], lines[-1]]))
    assert verify(measlog, copy, "--ima-log", log).status == 0
    # Nobody tells where the quote was made but the values that came with it.
    (copy / "quote.pcrs").unlink()
    done = verify(measlog, copy, "--ima-log", log)
    assert (done.status, str(log) in done.err or "quote.msg" in done.err) == (3, True)
    log.write_bytes(b"".join(lines))
    assert verify(measlog, copy, "--ima-log", log).status == 0


def test_imas_log_beside_files_and_in_the_report(measlog: Runner, fixtures: Path, tmp_path: Path) -> None:
    folder, page = fixtures / "ima", tmp_path / "page.html"
    ima = folder / "binary_runtime_measurements"
    words: list[str | Path] = [
        *("--log", folder / "binary_bios_measurements", "--quote", folder / "quote.msg"),
        *("--signature", folder / "quote.sig", "--ak", folder / "ak.pub", "--ima-log", ima),
        *("--nonce", (folder / "nonce.txt").read_text().strip(), "--manifest", folder / "manifest.dsse.json"),
        *("--manifest-key", fixtures / "lab" / "keys" / "manifest.pub"),
    ]
    # No register values are needed beside it: the logs give all that was quoted.
    assert measlog("verify", *words).status == 1
    assert measlog("report", *words, "-o", page).status == 1
    text = page.read_text()
    assert f"--ima-log {ima}" in text
    assert "boot_aggregate" in text
