"""show, replay and quote on real captures; expected values are the TPM's, tpm2-tools' or computed here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fixtures.attacks.forge import ForgedLog
from tests.cli.command import Runner


@pytest.fixture
def good(fixtures: Path) -> Path:
    return fixtures / "flatcar-lab-good"


@pytest.fixture
def log(good: Path) -> Path:
    return good / "binary_bios_measurements"


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
def test_replay_gives_the_registers_that_the_tpm_reported(measlog: Runner, good: Path, log: Path, bank: str) -> None:
    reported = json.loads((good / "pcrs.json").read_text())[bank]
    done = measlog("replay", log, "--alg", bank, "--json")
    assert done.status == 0
    assert done.err == ""
    values = done.document[bank]
    assert set(values) >= {"0", "4", "7", "8", "9"}
    assert values == {index: reported[index] for index in values}


def test_replay_shows_all_banks_unless_named(measlog: Runner, log: Path) -> None:
    assert set(measlog("replay", log, "--json").document) == {"measlog", "sha1", "sha256", "sha384"}
    some = {"measlog", "sha1", "sha384"}
    assert set(measlog("replay", log, "--alg", "sha1", "--alg", "sha384", "--json").document) == some
    assert set(measlog("replay", log, "--alg", "sha1", "sha384", "--json").document) == some
    assert set(measlog("replay", "--alg", "sha1", "sha384", log, "--json").document) == some


def test_replay_as_text_has_the_same_values(measlog: Runner, log: Path) -> None:
    document = measlog("replay", log, "--json").document
    text = measlog("replay", log).out
    for bank in ("sha1", "sha256", "sha384"):
        for index, value in document[bank].items():
            assert any(line.startswith(f"PCR {index} ") and line.endswith(value) for line in text.splitlines())


def test_a_bank_that_cannot_be_replayed_is_refused_with_the_reason(measlog: Runner, log: Path, tmp_path: Path) -> None:
    lame = tmp_path / "log"
    forged = ForgedLog.take_apart(log.read_bytes())
    first, *rest = forged.events
    lacking = {alg: digest for alg, digest in first.digests.items() if alg != 0x0004}
    lame.write_bytes(
        forged.with_events([type(first)(first.pcr, first.type, lacking, first.data), *rest]).put_together()
    )
    done = measlog("replay", lame, "--json")
    assert done.status == 0
    document = done.document
    assert "sha1" not in document
    assert set(document["refused"]) == {"sha1"}
    assert "events[1]" in document["refused"]["sha1"]
    assert document["sha256"] == measlog("replay", log, "--json").document["sha256"]
    named = measlog("replay", lame, "--alg", "sha1")
    assert (named.status, named.out) == (3, "")
    assert str(lame) in named.err
    assert "events[1]" in named.err


def test_show_has_every_event_as_logged(measlog: Runner, log: Path) -> None:
    data = log.read_bytes()
    forged = ForgedLog.take_apart(data)
    document = measlog("show", log, "--json").document
    assert document["log"]["size"] == len(data)
    assert document["log"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert document["log"]["algorithms"] == ["sha1", "sha256", "sha384"]
    assert document["anomalies"] == []
    shown = [(e["pcr"], e["type"]["number"], e["raw"], e["digests"]["sha256"]) for e in document["events"][1:]]
    assert shown == [(e.pcr, e.type, e.data.hex(), e.digests[0x000B].hex()) for e in forged.events]
    assert [e["index"] for e in document["events"]] == list(range(len(forged.events) + 1))


def test_show_tells_what_a_digest_covers(measlog: Runner, log: Path) -> None:
    document = measlog("show", log, "--pcr", "8", "--json").document
    events = document["events"]
    assert {e["pcr"] for e in events} == {8}
    for event in events:
        assert event["checks"]["sha256"]["status"] == "matches"
        assert event["trust"]["text"] == "authenticated"
        assert event["trust"]["prefix"] == "unauthenticated"
        text = event["data"]["text"].encode()
        assert hashlib.sha256(text).hexdigest() == event["digests"]["sha256"]


def test_show_selects_registers_given_in_a_row_or_one_by_one(measlog: Runner, log: Path) -> None:
    one_by_one = measlog("show", log, "--pcr", "4", "--pcr", "9", "--json").out
    assert measlog("show", log, "--pcr", "4", "9", "--json").out == one_by_one
    assert measlog("show", "--pcr", "4", "9", log, "--json").out == one_by_one
    assert {e["pcr"] for e in json.loads(one_by_one)["events"]} == {4, 9}


def test_show_as_text_has_a_line_for_each_event(measlog: Runner, log: Path) -> None:
    lines = measlog("show", log).out.splitlines()
    count = len(ForgedLog.take_apart(log.read_bytes()).events) + 1
    rows = [line for line in lines if line[:3].strip().isdigit() and "EV_" in line]
    assert len(rows) == count
    assert any("kernel command line" in row and "verity.usr=" in row for row in rows)
    assert all(line == line.rstrip() for line in lines)


def test_quote_is_verified_with_each_kind_of_key(measlog: Runner, good: Path) -> None:
    nonce = (good / "nonce.txt").read_text().strip()
    for kind, keys in (("quote", ("ak.pub", "ak.tpm2b")), ("quote-rsa", ("ak-rsa.pub", "ak-rsa.tpm2b"))):
        for key in keys:
            words = ("--quote", good / f"{kind}.msg", "--signature", good / f"{kind}.sig", "--ak", good / key)
            done = measlog("quote", *words, "--nonce", nonce, "--pcrs", good / f"{kind}.pcrs", "--json")
            assert done.status == 0, done.err
            document = done.document
            assert document["nonce"] == nonce
            assert document["selections"] == {"sha256": list(range(15))}
            reported = json.loads((good / "pcrs.json").read_text())["sha256"]
            assert document["pcrs"]["sha256"] == {str(i): reported[str(i)] for i in range(15)}
            assert (document["key"]["attributes"] is None) == key.endswith(".pub")
            text = measlog("quote", *words, "--nonce", nonce)
            assert text.status == 0
            assert nonce in text.out


def test_quote_says_which_file_is_to_blame(measlog: Runner, good: Path, fixtures: Path, tmp_path: Path) -> None:
    other = fixtures / "flatcar-lab-tampered"
    parts = {"--quote": good / "quote.msg", "--signature": good / "quote.sig", "--ak": good / "ak.pub"}
    parts |= {"--nonce": Path((good / "nonce.txt").read_text().strip()), "--pcrs": good / "quote.pcrs"}
    flipped = bytearray((good / "quote.msg").read_bytes())
    flipped[40] ^= 1
    (tmp_path / "flipped.msg").write_bytes(flipped)
    for option, wrong, blamed in (
        ("--ak", other / "ak.pub", "quote.sig"),
        ("--ak", good / "ak-rsa.pub", "quote.sig"),
        ("--ak", good / "quote.msg", "quote.msg"),
        ("--ak", good / "ek.tpm2b", "ek.tpm2b"),
        ("--nonce", Path("00" * 20), "quote.msg"),
        ("--signature", other / "quote.sig", "quote.sig"),
        ("--signature", good / "quote.msg", "quote.msg"),
        ("--quote", tmp_path / "flipped.msg", "quote.sig"),
        ("--quote", good / "quote.sig", "quote.sig"),
        ("--pcrs", other / "quote.pcrs", "quote.pcrs"),
        ("--pcrs", good / "pcrs.json", "pcrs.json"),
    ):
        words = [word for name, value in (parts | {option: wrong}).items() for word in (name, value)]
        done = measlog("quote", *words)
        assert (done.status, done.out) == (3, ""), (option, wrong)
        assert done.err.startswith("measlog: "), done.err
        assert blamed in done.err.split(": ")[1], (option, wrong, done.err)
        assert done.err.count("\n") == 1
