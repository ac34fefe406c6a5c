"""A whole fleet against what is known of it: the recorded truth, and the scalar verifier.

    python benchmarks/truth.py [--machines 100000] [--sample 2000] [--workers 2] [--folder FOLDER]

The generator records what was done to each machine. Every verdict must be the one that this deserves; of the machines
that something was done to, and of a sample of the others, it must be the scalar verifier's to the last column. Exit
status 1 where one is not.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import measlog as ml  # noqa: E402
from benchmarks import fleets  # noqa: E402
from fixtures import fleet  # noqa: E402
from measlog.bulk.schema import VERDICT  # noqa: E402
from measlog.bulk.stream import verify_parquet  # noqa: E402
from tests.bulk.fleets import scalar  # noqa: E402

DESERVED: dict[str, tuple[str, str | None]] = {
    "good": ("affirming", None),
    "argument": ("contraindicated", "command.unexpected"),
    "kernel": ("contraindicated", "file.unknown"),
    "log-edited": ("none", "evidence.replay"),
    "log-cut": ("none", "evidence.replay"),
    "log-unreadable": ("none", "format.truncated"),
    "nonce": ("none", "evidence.nonce"),
    "signature": ("none", "evidence.signature"),
    "foreign-key": ("none", "evidence.signature"),
}
"""Status, and code of the first finding or of the refusal, by what was done."""

SHOWN = {"argument": (8, b"init=/bin/sh"), "kernel": (9, b"/flatcar/vmlinuz")}
"""Register of the first event where it shows, and what stands in that event's data; GRUB measures a kernel as a file first."""
BANK = fleet.BANK


def wrong(row: Mapping[str, Any]) -> str | None:
    """What a verdict should have said of a machine of which the truth is known, if it did not."""
    status, code = DESERVED[row["truth"]]
    if (row["status"], row["code"]) != (status, code):
        return f"{row['machine']} ({row['truth']}): {row['status']}, {row['code']}"
    if row["truth"] in SHOWN:
        # The event named is one that was tampered with: it is not the capture's, and its data says what it is of.
        event = ml.EventLog.from_bytes(row["log"])[row["event"]]
        pcr, text = SHOWN[row["truth"]]
        before = fleet.template(row["capture"]).events[event.index]
        placed = row["pcr"] == event.pcr == pcr and text in event.raw and event.digests[BANK] != before.digests[BANK]
    else:
        placed = row["pcr"] is None and row["event"] is None
    return None if placed else f"{row['machine']} ({row['truth']}): register {row['pcr']}, event {row['event']}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Hold a fleet's verdicts against the truth.")
    parser.add_argument("--machines", type=int, default=100_000)
    parser.add_argument(
        "--sample", type=int, default=2000, help="good machines that the scalar verifier appraises, too"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where the fleet is kept for the next time")
    given = parser.parse_args()
    judge = fleets.verifier()
    with tempfile.TemporaryDirectory() as name:
        source = fleets.file(given.folder or Path(name), given.machines)
        target = Path(name) / "verdicts.parquet"
        verify_parquet(source, target, judge, workers=given.workers)
        faults, seen, compared = examine(target, judge, given.machines, given.sample)
    for (truth, status, code), count in sorted(seen.items(), key=str):
        print(f"{truth:15} {status:16} {code or '':24} {count:7}")
    for fault in faults[:40]:
        print(f"WRONG {fault}")
    tampered = sum(count for (truth, _, _), count in seen.items() if truth != "good")
    print(
        f"{seen.total()} machines, {tampered} tampered with; {compared} compared with the scalar verifier; {len(faults)} wrong"
    )
    whole = seen.total() == given.machines and compared >= tampered + min(given.sample, seen.total() - tampered)
    return 0 if whole and not faults and {truth for truth, _, _ in seen} <= {"good", *fleet.TAMPERING} else 1


def examine(
    target: Path, judge: ml.Verifier, machines: int, sample: int
) -> tuple[list[str], Counter[tuple[str, str, str | None]], int]:
    """What is wrong, the verdicts by truth, and how many were compared with the scalar verifier."""
    faults: list[str] = []
    seen: Counter[tuple[str, str, str | None]] = Counter()
    compared = 0
    # Twice as many as wanted are drawn: some of them are not good.
    chosen = set(random.Random(1).sample(range(machines), min(machines, 2 * sample)))  # noqa: S311
    good = number = 0
    with pq.ParquetFile(target) as verdicts:
        for batch in verdicts.iter_batches(batch_size=1000):
            plain = batch.select(["truth", "status", "code"]).to_pydict()
            for at, said in enumerate(zip(plain["truth"], plain["status"], plain["code"], strict=True)):
                seen[said] += 1
                taken = said[0] != "good" or (number in chosen and good < sample)
                number += 1
                if not taken:
                    if said != ("good", "affirming", None):
                        faults.append(f"row {number - 1}: {said}")
                    continue
                good += said[0] == "good"
                compared += 1
                (row,) = batch.slice(at, 1).to_pylist()
                fault = wrong(row)
                found, expected = tuple(row[column] for column in VERDICT), scalar(row, judge)
                if fault is not None or found != expected:
                    faults.append(fault or f"{row['machine']} ({row['truth']}): columns {found}, scalar {expected}")
    return faults, seen, compared


if __name__ == "__main__":
    sys.exit(main())
