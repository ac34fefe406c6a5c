"""Counts of digest checks. Expected numbers come from a walk over the bytes that shares nothing with the library."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from fixtures.attacks.forge import ForgedLog
from tests.cli.command import Runner

SHA256 = 0x000B
TEXTS = (b"grub_cmd: ", b"kernel_cmdline: ")


def test_counts_are_those_of_the_bytes(measlog: Runner, fixtures: Path) -> None:
    logs = [fixtures / name / "binary_bios_measurements" for name in ("flatcar-lab-good", "flatcar-lab-tampered")]
    events = [e for path in logs for e in ForgedLog.take_apart(path.read_bytes()).events]
    whole = Counter(e.type for e in events if e.type != 0xD and hashlib.sha256(e.data).digest() == e.digests[SHA256])
    texts = sum(
        hashlib.sha256(e.data.split(b": ", 1)[1].rstrip(b"\0")).digest() == e.digests[SHA256]
        for e in events
        if e.type == 0xD and e.data.startswith(TEXTS)
    )
    document = measlog("checks", *logs, "--json").document
    assert document["logs"] == 2
    counted: Counter[tuple[str, str]] = Counter()
    for row in document["counts"]:
        counted[row["type"], row["status"]] += row["events"]
    assert counted["EV_IPL", "matches"] == texts
    assert counted["EV_SEPARATOR", "matches"] == whole[4]
    assert counted["EV_EFI_ACTION", "matches"] == whole[0x80000007]
    assert counted["EV_EFI_VARIABLE_DRIVER_CONFIG", "matches"] == whole[0x80000001]
    assert not any(row["status"] == "differs" for row in document["counts"])
    # The header event of each log is counted as well.
    assert sum(row["events"] for row in document["counts"]) == len(events) + len(logs)


def test_counts_as_a_table(measlog: Runner, fixtures: Path) -> None:
    done = measlog("checks", fixtures / "flatcar-lab-good" / "binary_bios_measurements")
    assert done.status == 0
    assert "EV_SEPARATOR" in done.out
    assert "text.without-nul" in done.out


def test_what_is_no_log_is_named(measlog: Runner, tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    path.write_bytes(b"")
    done = measlog("checks", path)
    assert (done.status, done.out) == (3, "")
    assert str(path) in done.err
