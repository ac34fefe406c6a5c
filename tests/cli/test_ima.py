"""measlog ima, and convert to the forms of the canonical event log; expected values are the TPM's or another library's."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest

from measlog import EventLog
from measlog.interop.cel import CelLog
from tests.cli.command import Runner
from tests.interop.ima_maker import entry

DIGEST = bytes(range(32))


@pytest.fixture
def folder(fixtures: Path) -> Path:
    return fixtures / "ima"


@pytest.mark.parametrize("name", ["binary_runtime_measurements", "ascii_runtime_measurements"])
def test_the_registers_that_the_tpm_reported(measlog: Runner, folder: Path, name: str) -> None:
    firmware = folder / "binary_bios_measurements"
    done = measlog("ima", folder / name, "--log", firmware, "--sha1-padded", "sha384", "--json")
    assert (done.status, done.err) == (0, "")
    document = done.document
    reported = json.loads((folder / "pcrs.json").read_text())
    for bank, values in reported.items():
        assert document["registers"][bank] == {"10": values["10"]}
    assert document["log"] == {"entries": 66, "templates": ["ima-sig"], "template_hash": "sha1", "violations": 0}
    assert document["boot_aggregate"]["status"] == "matches"
    assert document["refused"] == {}
    entries = document["entries"]
    assert {e["check"] for e in entries} == {"matches"}
    assert entries[2]["name"] == "/bin/busybox"
    assert entries[2]["trust"] == {"d-ng": "authenticated", "n-ng": "authenticated", "sig": "positional"}


def test_only_the_banks_that_were_named(measlog: Runner, folder: Path) -> None:
    done = measlog("ima", "--alg", "sha256", folder / "binary_runtime_measurements", "--json")
    assert set(done.document["registers"]) == {"sha256"}
    text = measlog("ima", folder / "binary_runtime_measurements", "--alg", "sha256").out
    assert f"PCR 10   {done.document['registers']['sha256']['10']}" in text
    assert sum("  matches  sha256:" in line for line in text.splitlines()) == 66


def test_entries_that_are_not_allowed(measlog: Runner, folder: Path, tmp_path: Path) -> None:
    log = folder / "binary_runtime_measurements"
    entries = measlog("ima", log, "--json").document["entries"]
    lines = [f"{e['file_digest']['digest']}  {e['name']}\n" for e in entries]
    listed = tmp_path / "listed"
    listed.write_text("".join(lines))
    done = measlog("ima", log, "--allow", listed, "--json")
    assert done.status == 0
    assert {e["verdict"] for e in done.document["entries"]} == {"allowed", "boot-aggregate"}
    listed.write_text("".join(lines[:10] + lines[11:]))
    done = measlog("ima", log, "--allow", listed, "--json")
    assert done.status == 1
    assert [e["index"] for e in done.document["entries"] if e["verdict"] == "unknown-name"] == [10]
    shown = measlog("ima", log, "--allow", listed)
    assert shown.status == 1
    assert sum("unknown-name" in line for line in shown.out.splitlines()) == 1
    listed.write_text("nonsense\n")
    done = measlog("ima", log, "--allow", listed)
    assert (done.status, done.out) == (3, "")
    assert f"{listed}: line 1" in done.err


def test_a_changed_entry_and_another_firmware(measlog: Runner, folder: Path, fixtures: Path, tmp_path: Path) -> None:
    changed = tmp_path / "log"
    data = (folder / "binary_runtime_measurements").read_bytes().replace(b"/bin/busybox", b"/bin/sashimi")
    changed.write_bytes(data)
    done = measlog("ima", changed, "--json")
    assert done.status == 1
    assert done.document["registers"] == {}
    assert all("entries[2]" in reason for reason in done.document["refused"].values())
    assert "differs" in measlog("ima", changed).out
    other = fixtures / "uki" / "binary_bios_measurements"
    done = measlog("ima", folder / "binary_runtime_measurements", "--log", other)
    assert done.status == 1
    assert "boot aggregate: differs" in done.out


def test_text_of_a_log_reaches_no_terminal(measlog: Runner, tmp_path: Path) -> None:
    log = tmp_path / "log"
    name = b"/tmp/\x1b]0;x\x07\xff\0"
    log.write_bytes(entry("ima-ng", (b"sha256:\0" + DIGEST, name)) + entry("\x1bx", (b"a",)))
    done = measlog("ima", log)
    assert "\x1b" not in done.out
    assert "/tmp/\\x1b]0;x\\x07\\xff" in done.out
    assert "\x1b" not in measlog("ima", log, "--json").out
    assert [e["template"] for e in measlog("ima", log, "--json").document["entries"]] == ["ima-ng", "\x1bx"]


def test_what_is_no_ima_log(measlog: Runner, folder: Path, tmp_path: Path) -> None:
    for data in (b"x", b"\x0a\0\0\0", b"10 ima\n", (folder / "quote.msg").read_bytes()):
        (tmp_path / "log").write_bytes(data)
        done = measlog("ima", tmp_path / "log")
        assert (done.status, done.out) == (3, "")
        assert str(tmp_path / "log") in done.err
    (tmp_path / "log").write_bytes(b"")
    assert measlog("ima", tmp_path / "log", "--json").document["log"]["entries"] == 0
    assert "register" not in measlog("ima", tmp_path / "log").out


def test_the_violation_is_counted(measlog: Runner, tmp_path: Path) -> None:
    fields = (b"sha256:\0" + bytes(20), b"/var/log/x\0")
    (tmp_path / "log").write_bytes(entry("ima-ng", fields, violation=True))
    done = measlog("ima", tmp_path / "log", "--json")
    assert done.status == 0
    assert done.document["log"]["violations"] == 1
    assert "~/var/log/x" in measlog("ima", tmp_path / "log").out


def _records(log: Path) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = json.loads(CelLog.from_log(EventLog.from_bytes(log.read_bytes())).to_json())
    return made


def test_convert_writes_canonical_event_logs(measlog: Runner, folder: Path, tmp_path: Path) -> None:
    log, out = folder / "binary_bios_measurements", tmp_path / "out"
    assert json.loads(measlog("convert", log, "--to", "cel-json").out) == _records(log)
    assert measlog("convert", log, "--to", "cel-cbor", "-o", out).status == 0
    records = cbor2.loads(out.read_bytes())
    assert [r[10][1].hex() for r in records] == [r["content"]["event_data"] for r in _records(log)]
    assert measlog("convert", log, "--to", "cel-tlv", "-o", out).status == 0
    assert CelLog.from_tlv(out.read_bytes()).to_log().to_bytes() == log.read_bytes()


def test_convert_says_what_json_has_no_name_for(measlog: Runner, shared: Path) -> None:
    log = shared / "corpus" / "logs" / "CCEL_unpadded.bin"
    done = measlog("convert", log, "--to", "cel-json")
    assert (done.status, done.out) == (3, "")
    assert f"{log}: records[0]" in done.err


def test_convert_writes_parquet(measlog: Runner, folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra arrow is not installed")
    log, out = folder / "binary_bios_measurements", tmp_path / "out.parquet"
    assert measlog("convert", log, "--to", "parquet", "-o", out).status == 0
    table = parquet.read_table(io.BytesIO(out.read_bytes()))
    events = EventLog.from_bytes(log.read_bytes())
    assert table["raw"].to_pylist() == [event.raw for event in events]
    assert table["digest"].to_pylist() == [event.digests.get("sha256") for event in events]
