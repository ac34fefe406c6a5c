"""The fleet generator tells the truth: each row's evidence is checked here with hashlib and cryptography alone."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from fixtures import fleet
from fixtures.lab import eventlog, quotes

MACHINES = 400
AUTHENTIC = {"good", "argument", "kernel"}  # evidence that is what it says; the appraisal must find the fault


def _rows(mode: str, *, machines: int = MACHINES, tampered: float = 0.3, seed: int = 7) -> list[dict[str, Any]]:
    return [fleet.row(index, mode=mode, seed=seed, tampered=tampered) for index in range(machines)]


def _fault(row: dict[str, Any]) -> str | None:
    """What is wrong with a row's evidence, by a verifier of thirty lines."""
    try:
        events = eventlog.parse(row["log"])
    except (ValueError, struct.error):
        return "unreadable"
    try:
        quotes.verify(row["attest"], row["signature"], row["ak"])
    except InvalidSignature:
        return "signature"
    quote = quotes.read(row["attest"])
    if quote.nonce != row["nonce"]:
        return "nonce"
    values = {bank: eventlog.replay(events, bank) for bank, _ in quote.selection}
    covered = [values[bank][index] for bank, indices in quote.selection for index in indices]
    if hashlib.sha256(b"".join(covered)).digest() != quote.digest:
        return "replay"
    return None


FAULT_OF = {
    "log-edited": "replay",
    "log-cut": "replay",
    "log-unreadable": "unreadable",
    "nonce": "nonce",
    "signature": "signature",
    "foreign-key": "signature",
}


@pytest.mark.parametrize("mode", fleet.MODES)
def test_evidence_is_good_or_faulty_as_the_truth_says(mode: str) -> None:
    rows = _rows(mode)
    assert set(fleet.TAMPERING) | {"good"} == {row["truth"] for row in rows}
    assert [_fault(row) for row in rows] == [FAULT_OF.get(row["truth"]) for row in rows]


@pytest.mark.parametrize("mode", fleet.MODES)
def test_authentic_rows_replay_in_every_bank_and_their_register_files_agree(mode: str) -> None:
    for row in _rows(mode, machines=60):
        if row["truth"] not in AUTHENTIC:
            continue
        events = eventlog.parse(row["log"])
        for register, value in list(eventlog.replay(events, "sha256").items())[:15]:
            assert value in row["pcrs"], register
        for event in events[1:]:
            assert list(event.digests) == ["sha1", "sha256", "sha384"]


def _digest_follows(event: eventlog.Event, source: bytes) -> bool:
    return all(hashlib.new(bank, source).digest() == digest for bank, digest in event.digests.items())


def test_what_varies_is_hashed_anew_in_every_bank() -> None:
    for row in _rows("all-distinct", machines=40, tampered=0):
        events = eventlog.parse(row["log"])
        (table,) = (event for event in events if event.type == 0x80000006)
        header = bytearray(table.data[:92])
        (checksum,) = struct.unpack_from("<I", header, 16)
        header[16:20] = bytes(4)
        assert zlib.crc32(bytes(header)) == checksum
        assert _digest_follows(table, table.data)
        for event in events:
            if event.pcr == 8 and event.data.startswith((b"grub_cmd: ", b"kernel_cmdline: ")):
                assert _digest_follows(event, event.data.partition(b": ")[2].rstrip(b"\0"))
            if event.type == 0x80000002:
                name, size = struct.unpack_from("<QQ", event.data, 16)
                assert _digest_follows(event, event.data[32 + 2 * name : 32 + 2 * name + size])
        commands = b"".join(event.data for event in events if event.data.startswith(b"kernel_cmdline"))
        assert commands.count(b"lab.machine=") == 1


def _registers(row: dict[str, Any], *indices: int) -> tuple[bytes, ...]:
    values = eventlog.replay(eventlog.parse(row["log"]), "sha256")
    return tuple(values[index] for index in indices)


def test_modes_share_what_they_say() -> None:
    identical = _rows("identical", machines=50, tampered=0)
    assert len({row["log"] for row in identical}) == 1
    assert len({row["ak"] for row in identical}) == len({row["nonce"] for row in identical}) == 50
    realistic = _rows("realistic", machines=200, tampered=0)
    assert len({row["log"] for row in realistic}) == 200
    assert set(Counter(row["capture"] for row in realistic)) == set(fleet.REALISTIC)
    assert len({_registers(row, 4, 8, 9) for row in realistic}) == len(fleet.REALISTIC)
    distinct = _rows("all-distinct", machines=50, tampered=0)
    for register in (1, 5, 8, 9):
        assert len({_registers(row, register) for row in distinct}) == 50


def test_the_same_seed_gives_the_same_rows() -> None:
    assert _rows("realistic", machines=20) == _rows("realistic", machines=20)
    assert _rows("realistic", machines=20, seed=8) != _rows("realistic", machines=20)


def test_share_of_tampered_rows() -> None:
    rows = _rows("realistic", machines=2000, tampered=0.1)
    assert 0.07 < sum(row["truth"] != "good" for row in rows) / len(rows) < 0.13
    assert {row["truth"] for row in _rows("realistic", machines=50, tampered=0)} == {"good"}


def test_parquet(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "fleet.parquet"
    counts = fleet.write(target, 30, mode="realistic", seed=7, tampered=0.3, workers=1)
    table = pq.read_table(target)
    assert table.to_pylist() == _rows("realistic", machines=30)
    assert table.column_names[1:7] == ["log", "attest", "signature", "ak", "nonce", "pcrs"]
    assert sum(counts.values()) == 30
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.slow
def test_ten_thousand_machines() -> None:
    rows = _rows("realistic", machines=10_000, tampered=0.05, seed=1)
    assert [_fault(row) for row in rows] == [FAULT_OF.get(row["truth"]) for row in rows]
