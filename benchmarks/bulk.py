"""Fleets: replay and appraisal in columns, against what one would write by hand and against the scalar path.

    python benchmarks/bulk.py [--machines 4000] [--rounds 4] [--workers] [--memory] [--write docs/figures-bulk.md]

Fleets come from the lab's generator. Times of replay and appraisal are processor time of one process, contestants
interleaved, the best round of each; those of workers are wall time. Only the ratios carry over to other
machines; what else runs on the machine makes all of it worse.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import measlog as ml  # noqa: E402
from benchmarks import lanes as lane_figures  # noqa: E402
from fixtures import fleet  # noqa: E402
from measlog import lanes  # noqa: E402
from measlog.bulk.appraise import Appraiser  # noqa: E402
from measlog.bulk.evidence import Candidates  # noqa: E402
from measlog.bulk.fold import replay  # noqa: E402
from measlog.bulk.schema import BinaryColumn  # noqa: E402
from measlog.bulk.stream import verify_parquet  # noqa: E402
from measlog.bulk.verdict import appraise_row  # noqa: E402

CELLS = ("log", "attest", "signature", "ak", "nonce", "pcrs")
BY_HAND = 400  # logs in a round of the slow contestants

Line = tuple[str, str, str]


def by_hand(data: bytes) -> dict[str, dict[int, bytes]]:
    """Parse and replay all banks: struct and hashlib, as one would write it for one's own logs."""
    (size,) = struct.unpack_from("<I", data, 28)
    (count,) = struct.unpack_from("<I", data, 56)
    names = {4: "sha1", 0xB: "sha256", 0xC: "sha384", 0xD: "sha512"}
    banks = [struct.unpack_from("<HH", data, 60 + 4 * i) for i in range(count)]
    header = struct.Struct("<III" + "".join(f"H{width}s" for _, width in banks) + "I")
    columns = [(names[alg], getattr(hashlib, names[alg]), width, 4 + 2 * i) for i, (alg, width) in enumerate(banks)]
    found: dict[str, dict[int, bytes]] = {name: {} for name, _, _, _ in columns}
    at, end = 32 + size, len(data)
    while at < end:
        fields = header.unpack_from(data, at)
        if fields[1] != 3:
            for name, new, width, place in columns:
                values = found[name]
                values[fields[0]] = new(values.get(fields[0], bytes(width)) + fields[place]).digest()
        at += header.size + fields[-1]
    return found


def verifier() -> ml.Verifier:
    """The manifests of the captures that fleets are made of."""
    key = (ROOT / "fixtures/lab/keys/manifest.pub").read_bytes()
    manifests: dict[bytes, Any] = {}
    for name in ("flatcar-lab-good", *fleet.REALISTIC):
        path = ROOT / "fixtures" / name / "manifest.dsse.json"
        if path.exists():
            manifest = ml.SignedManifest.from_bytes(path.read_bytes()).verify(keys=[key])
            manifests.setdefault(manifest.to_json(), manifest)
    return ml.Verifier(list(manifests.values()), policy=ml.policy.flatcar(secure_boot=True, allow_unchecked_usr=True))


def table(machines: int, mode: str, tampered: float) -> pa.Table:
    """A fleet."""
    batches = fleet.batches(machines, mode=mode, seed=1, tampered=tampered, workers=1)
    return pa.Table.from_batches(list(batches)).combine_chunks()


def timed(work: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, float]:
    """Best processor time of each contestant, in microseconds a machine."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, (one, machines) in work.items():
            start = time.process_time()
            one()
            took = (time.process_time() - start) / machines * 1e6
            best[name] = min(best.get(name, took), took)
    return best


def replay_lines(machines: int, rounds: int) -> Iterator[Line]:
    for mode, needed in (("realistic", 15), ("all-distinct", 10), ("identical", None)):
        column = BinaryColumn.from_arrow(table(machines, mode, 0.0)["log"].chunk(0))
        logs = [column[i] for i in range(min(BY_HAND, machines))]
        whole = replay(column)
        assert by_hand(logs[0])["sha384"][8] == whole.values["sha384"][0, 8].tobytes()
        best = timed(
            {
                "hand": (lambda logs=logs: [by_hand(log) for log in logs], len(logs)),  # type: ignore[misc]
                "columns": (lambda column=column: replay(column), machines),  # type: ignore[misc]
            },
            rounds,
        )
        ratio = best["hand"] / best["columns"]
        yield (
            f"parse and replay all banks, {mode}",
            f"{best['columns']:.1f} µs a log; by hand {best['hand']:.0f}",
            f"{ratio:.1f} times" + (f" (at least {needed})" if needed else ""),
        )


class WithoutSignatures(Appraiser):
    """For the clock alone: everything but keys and signatures."""

    def _check_signatures(self, rows: Candidates) -> None:
        """Leave them out."""


def appraisal_lines(machines: int, rounds: int) -> Iterator[Line]:
    judge = verifier()
    for mode, tampered, needed in (
        ("realistic", 0.0, "25,000 a second on the machine of the reference figures"),
        ("realistic", 0.01, ""),
        ("identical", 0.0, ""),
    ):
        source = table(machines, mode, tampered)
        batches = source.to_batches()
        rows = source.slice(0, 40).to_pylist()
        hand = [row["log"] for row in rows if row["truth"] != "log-unreadable"]
        bare, whole = WithoutSignatures(judge), Appraiser(judge)
        best = timed(
            {
                "hand": (lambda hand=hand: [by_hand(log) for log in hand * 5], len(hand) * 5),  # type: ignore[misc]
                "bare": (lambda a=bare, b=batches: [a.batch(x) for x in b], machines),  # type: ignore[misc]
                "whole": (lambda a=whole, b=batches: [a.batch(x) for x in b], machines),  # type: ignore[misc]
                "scalar": (lambda rows=rows: [_scalar(judge, row) for row in rows], len(rows)),  # type: ignore[misc]
            },
            rounds,
        )
        name = f"appraisal, {mode}" + (f", {tampered:.0%} tampered" if tampered else "")
        yield (
            f"{name}, without signatures",
            f"{best['bare']:.1f} µs, {1e6 / best['bare']:,.0f} logs a second",
            f"{best['hand'] / best['bare']:.1f} times the parse and replay by hand"
            + (f" (needed: {needed})" if needed else ""),
        )
        yield (
            f"{name}, with signatures",
            f"{best['whole']:.1f} µs, {1e6 / best['whole']:,.0f} logs a second",
            f"{best['scalar'] / best['whole']:.0f} times the scalar path ({best['scalar'] / 1000:.1f} ms)",
        )


def _scalar(judge: ml.Verifier, row: dict[str, Any]) -> object:
    return appraise_row(judge, "sha256", **{name: row[name] for name in CELLS})


def worker_lines(machines: int, folder: Path) -> Iterator[Line]:
    source = folder / "workers.parquet"
    pq.write_table(table(machines, "realistic", 0.01), source, compression="zstd", row_group_size=1000)
    judge = verifier()
    seconds: dict[int, float] = {}
    for workers in (1, 2, 1, 2):
        summary = verify_parquet(source, folder / "out.parquet", judge, workers=workers)
        seconds[workers] = min(seconds.get(workers, summary.seconds), summary.seconds)
    yield (
        f"bulk verify of {machines} machines, Parquet to Parquet",
        f"{seconds[1]:.1f} s with one worker, {seconds[2]:.1f} s with two (start of the processes included)",
        f"{seconds[1] / seconds[2]:.2f} times on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} (at least 1.8)",
    )


def memory_lines(machines: int, folder: Path) -> Iterator[Line]:
    source = folder / "memory.parquet"
    with pq.ParquetWriter(source, fleet.schema(), compression="zstd") as writer:
        for batch in fleet.batches(max(1, machines // 10), mode="realistic", seed=2, tampered=0.01):
            for _ in range(10):
                writer.write_batch(batch)
    command = [sys.executable, __file__, "--stream", str(source), str(folder / "out.parquet")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    yield (
        f"memory of a worker, {machines} machines streamed",
        f"{int(said[0]) / 1024:.0f} MiB at most, {float(said[1]):.0f} s",
        "at most 1024 MiB",
    )


def lane_lines() -> Iterator[Line]:
    needed = {
        ("sha256", "avx512"): 12,
        ("sha256", "avx2"): 6,
        ("sha1", "avx512"): 25,
        ("sha1", "avx2"): 12,
        ("sha384", "avx512"): 9,
        ("sha384", "avx2"): 5,
    }
    for algorithm in lane_figures.ALGORITHMS:
        work = lane_figures.contestants(algorithm, 16_384)
        best = timed({name: (one, 16_384) for name, one in work.items()}, 5)
        for name in lanes.engines():
            least = needed.get((algorithm, name))
            yield (
                f"{algorithm} extend, all distinct, {name}",
                f"{best[name] * 1000:.0f} ns; a loop of hashlib {best['loop'] * 1000:.0f}",
                f"{best['loop'] / best[name]:.1f} times" + (f" (at least {least})" if least else ""),
            )


def page(lines: list[Line], given: argparse.Namespace) -> str:
    """The table, with where it was made."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pyarrow", "cryptography"))
    head = (
        "# Figures of the columnar path\n\n"
        f"Written by `python benchmarks/bulk.py`; {given.machines} machines of the lab's generator unless a line says "
        "otherwise.\nReplay, appraisal and lanes: processor time of one process, best of interleaved rounds. Only the "
        "ratios carry over.\n\n"
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when the table was written; Python "
        f"{platform.python_version()}, {versions}; lanes: {lanes.engine()}.\n\n"
    )
    rows = "".join(f"| {what} | {figure} | {ratio} |\n" for what, figure, ratio in lines)
    return head + "| what | figure | ratio |\n|---|---|---|\n" + rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Time fleets.")
    parser.add_argument("--machines", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="?", const=10_000, metavar="MACHINES")
    parser.add_argument("--memory", type=int, nargs="?", const=1_000_000, metavar="MACHINES")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--stream", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stream:
        source, target = given.stream
        summary = verify_parquet(source, target, verifier())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, summary.seconds)
        return 0
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: list[Iterator[Line]] = [
            lane_lines(),
            replay_lines(given.machines, given.rounds),
            appraisal_lines(given.machines, given.rounds),
        ]
        if given.workers:
            parts.append(worker_lines(given.workers, folder))
        if given.memory:
            parts.append(memory_lines(given.memory, folder))
        for part in parts:
            for line in part:
                print(" | ".join(line), flush=True)
                lines.append(line)
    if given.write:
        given.write.write_text(page(lines, given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
