"""Real Flatcar boots: each log replays to the registers that its TPM reported, in three banks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from measlog import EventLog
from measlog.errors import ReplayError
from tests.conftest import SHARED
from tests.log import independent

CAPTURES: list[Any] = sorted(SHARED.glob("flatcar/captures/*"))
NOTHING = [pytest.param(None, marks=pytest.mark.skip("needs ../shared, which is not beside this checkout"))]
captures = pytest.mark.parametrize("folder", CAPTURES or NOTHING, ids=lambda p: p.name if p else None)
banks = pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])


def registers(folder: Path) -> dict[str, dict[int, bytes]]:
    """What tpm2_pcrread reported after boot."""
    found: dict[str, dict[int, bytes]] = {}
    for line in (folder / "pcrs.txt").read_text().splitlines():
        _, bank, index, value = line.split()
        found.setdefault(bank, {})[int(index)] = bytes.fromhex(value)
    return found


@captures
@banks
def test_replay(folder: Path, bank: str) -> None:
    data = (folder / "binary_bios_measurements").read_bytes()
    log = EventLog.from_bytes(data)
    reported = registers(folder)[bank]
    assert sorted(reported) == list(range(24))
    replayed = log.replay(bank)
    assert {**{i: replayed.reset_value(i) for i in range(24)}, **replayed} == reported
    assert dict(replayed) == independent.replay(data, bank)
    proof = log.verify_pcrs(bank, reported)
    assert (proof.log, proof.algorithm, proof.values) == (log, bank, reported)
    assert proof.unmeasured == replayed.unmeasured == tuple(i for i in range(24) if i not in replayed)
    assert log.complete
    assert log.anomalies == ()
    assert log.to_bytes() == data


@captures
@banks
def test_every_wrong_register_is_named(folder: Path, bank: str) -> None:
    log = EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    reported = registers(folder)[bank]
    for index in range(24):
        wrong = {**reported, index: bytes([reported[index][0] ^ 1]) + reported[index][1:]}
        with pytest.raises(ReplayError) as caught:
            log.verify_pcrs(bank, wrong)
        assert caught.value.check == "replay"
        assert f"PCR {index} is {wrong[index].hex()}" in str(caught.value)
        assert str(caught.value).count(" is ") == 1


@captures
def test_every_log_that_lacks_an_event_is_refused(folder: Path) -> None:
    """Without any one event that extends a register, and cut after any of them, the registers are not reached (A36)."""
    log = EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    data, reported = log.to_bytes(), registers(folder)["sha256"]
    for row in log.rows[1:]:
        if row.type == 3:
            continue
        for less in (data[: row.offset] + data[row.data_end :], data[: row.offset]):
            with pytest.raises(ReplayError) as caught:
                EventLog.from_bytes(less).verify_pcrs("sha256", reported)
            assert f"PCR {row.register} is " in str(caught.value)
