"""Real logs of other projects' test suites, against the register values that those projects state.

The sources of the values are named in each ``expected.json``; the index says how many events and banks a log has.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from measlog import EventLog
from measlog.errors import ReplayError, UnsupportedError
from tests.conftest import SHARED
from tests.log import independent

CORPUS = SHARED / "corpus"
INDEX = list(csv.DictReader((CORPUS / "INDEX.tsv").read_text().splitlines(), delimiter="\t")) if CORPUS.is_dir() else []
LOGS = [row for row in INDEX if not row["kind"].startswith("other")]
TABLES = [row for row in INDEX if row["kind"].startswith("other")]
EXPECTED = [row for row in LOGS if row["expected_registers"] != "-"]
NOTHING: list[Any] = [pytest.param(None, marks=pytest.mark.skip("needs ../shared, which is not beside this checkout"))]


def rows(table: list[dict[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table or NOTHING, ids=lambda row: row["name"] if row else None)


def read(row: dict[str, str]) -> bytes:
    return Path(CORPUS, "logs", row["name"] + ".bin").read_bytes()


def expected_of(row: dict[str, str]) -> dict[str, dict[int, bytes]]:
    document = json.loads(Path(CORPUS, "logs", row["name"] + ".expected.json").read_text())
    return {
        bank: {int(index): bytes.fromhex(value) for index, value in values.items()}
        for bank, values in document["registers"].items()
    }


# The log of the first lacks events that its machine extended into PCR 5 (ExitBootServices): a plain replay must
# differ. Its sha256 value belongs to a bank that the log does not have.
NOT_IN_THE_LOG = {("ebs_event_missing_eventlog", "sha1"): {5}}
BANK_NOT_IN_THE_LOG = {("ebs_event_missing_eventlog", "sha256")}
# Registers as the TPM reported them after boot, which the firmware's log does not explain: IMA's PCR 10.
EXTENDED_LATER = {("linux_tpm12", "sha1"): {10}}


def kind_of(row: dict[str, str]) -> str:
    if row["kind"].startswith("CCEL"):
        return "ccel"
    return "sha1" if row["kind"].startswith("legacy") else "crypto-agile"


@rows(LOGS)
def test_reading(row: dict[str, str]) -> None:
    data = read(row)
    log = EventLog.from_bytes(data)
    assert log.to_bytes() == data
    assert len(data) == int(row["size"])
    assert len(log) == int(row["events"])
    assert log.kind == kind_of(row)
    # event-uefiaction and event-uefivar declare four banks of which their events carry two; the index names what is
    # declared.
    assert log.algorithms == tuple(row["banks"].split(","))
    assert log.complete
    padding = row["kind"].partition("padded ")[2].partition(" B")[0]
    assert (log.filler.length if log.filler else 0) == int(padding or 0)


@rows(LOGS)
def test_events_are_those_of_a_plain_walk(row: dict[str, str]) -> None:
    data = read(row)
    log = EventLog.from_bytes(data)
    plain = list(independent.events(data))
    assert [(r.register, r.type) for r in log.rows] == [(p.register, p.type) for p in plain]
    for event, wanted in zip(log, plain, strict=True):
        assert (dict(event.digests), event.raw) == (wanted.digests, wanted.data)


@rows(EXPECTED)
def test_replay_gives_the_registers_that_their_project_states(row: dict[str, str]) -> None:
    log = EventLog.from_bytes(read(row))
    compared = 0
    for bank, wanted in expected_of(row).items():
        name = bank.removeprefix("rtmr_")
        key = (row["name"], name)
        if key in BANK_NOT_IN_THE_LOG:
            with pytest.raises(ReplayError) as caught:
                log.replay(name)
            assert caught.value.check == "bank-missing"
            continue
        replayed = log.replay(name)
        assert replayed.kind == ("rtmr" if bank.startswith("rtmr_") else "pcr")
        differing = NOT_IN_THE_LOG.get(key, set()) | EXTENDED_LATER.get(key, set())
        for index, value in wanted.items():
            got = replayed.get(index, replayed.reset_value(index))
            assert (got == value) == (index not in differing), f"{name} {index}"
            compared += index not in differing
        agreeing = {i: v for i, v in wanted.items() if i not in differing}
        if agreeing:
            assert log.verify_pcrs(name, agreeing).values == agreeing
        if differing:
            with pytest.raises(ReplayError) as caught:
                log.verify_pcrs(name, wanted)
            assert caught.value.check == "replay"
            assert all(f"PCR {index} is " in str(caught.value) for index in differing)
            assert str(caught.value).count(" is ") == len(differing)
    assert compared or row["name"] == "ebs_event_missing_eventlog"


@rows(LOGS)
def test_replay_is_that_of_a_plain_loop(row: dict[str, str]) -> None:
    """All banks of all logs, those without stated values too."""
    data = read(row)
    log = EventLog.from_bytes(data)
    for bank in log.algorithms:
        if row["name"] in {"event-uefiaction", "event-uefivar"} and bank in {"sha384", "sha512"}:
            with pytest.raises(ReplayError) as caught:
                log.replay(bank)
            assert caught.value.check == "digest-missing"
            continue
        plain = independent.replay(data, bank)
        if log.kind == "ccel":
            assert dict(log.replay(bank)) == {index - 1: value for index, value in plain.items() if 1 <= index <= 4}
        else:
            # option_rom_eventlog and the Windows log have an event on 0xFFFFFFFF, which is no register.
            assert dict(log.replay(bank)) == {index: value for index, value in plain.items() if index < 24}


@rows(TABLES)
def test_acpi_tables_are_refused(row: dict[str, str]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        EventLog.from_bytes(read(row))
    assert caught.value.offset == 0
    assert "not an event log" in str(caught.value)


@rows([row for row in LOGS if row["name"] == "glinux-alex"])
def test_startup_locality_of_a_real_machine(row: dict[str, str]) -> None:
    """PCR 0 starts at 3: with any other start its stated value is not reached."""
    log = EventLog.from_bytes(read(row))
    (index,) = [i for i, event in enumerate(log) if event.raw[:16] == b"StartupLocality\0"]
    assert log[index].raw[16] == 3
    stated = expected_of(row)["sha256"]
    at = log.rows[index].data_start + 16
    for other in (0, 4):
        changed = log.to_bytes()[:at] + bytes([other]) + log.to_bytes()[at + 1 :]
        with pytest.raises(ReplayError, match="PCR 0 is"):
            EventLog.from_bytes(changed).verify_pcrs("sha256", stated)


@rows([row for row in LOGS if row["name"] == "specid-vendordata"])
def test_vendor_information_outside(row: dict[str, str]) -> None:
    log = EventLog.from_bytes(read(row))
    assert [a.code for a in log.anomalies] == ["spec-id.vendor-info-outside"]


@rows([row for row in LOGS if row["name"] == "option_rom_eventlog"])
def test_an_event_on_no_register(row: dict[str, str]) -> None:
    event = EventLog.from_bytes(read(row))[-1]
    assert (event.pcr, event.register.kind, event.register.index) == (None, "none", 0xFFFFFFFF)
