"""Fleets: replay and appraisal in columns, against what one would write by hand and against the scalar path.

    python benchmarks/bulk.py --all --write docs/figures-bulk.md
    python benchmarks/bulk.py [--machines 8000] [--rounds 8] [--workers] [--memory] [--engines]

Fleets come from the lab's generator. Times of replay and appraisal are processor time of one process, contestants
interleaved, the best round of each; those of workers and engines are wall time. Only the ratios carry over to other
machines; what else runs on the machine makes all of it worse. Streams and engines have scripts of their own beside this
one. With ``--all``, half an hour on two cores that have nothing else to do. The page keeps a section for each
processor: one that lacks some lanes says so, and takes nothing from those that have them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import measlog as ml  # noqa: E402
from benchmarks import engines, streams  # noqa: E402
from benchmarks import lanes as lane_figures  # noqa: E402
from benchmarks.fleets import Line, table, verifier  # noqa: E402
from measlog import lanes  # noqa: E402
from measlog.bulk.appraise import Appraiser  # noqa: E402
from measlog.bulk.evidence import Candidates  # noqa: E402
from measlog.bulk.fold import replay  # noqa: E402
from measlog.bulk.schema import BinaryColumn  # noqa: E402
from measlog.bulk.verdict import appraise_row  # noqa: E402

CELLS = ("log", "attest", "signature", "ak", "nonce", "pcrs")
BY_HAND = 400  # logs in a round of the slow contestants


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
    for (algorithm, name), least in needed.items():
        if name not in lanes.engines():
            yield (
                f"{algorithm} extend, all distinct, {name}",
                "not run on this machine: its processor has none",
                f"at least {least}",
            )


def processor() -> str:
    """The processor's name, as the system says it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def section(lines: list[Line], given: argparse.Namespace, load: float) -> str:
    """What was measured here, with where and when."""
    packages = ("numpy", "pyarrow", "cryptography", *(("dask", "ray", "pyspark") if given.engines else ()))
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    head = (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores, load {load:.1f} before it began; Python "
        f"{platform.python_version()}, {versions}; lanes: {lanes.engine()}; {given.machines:,} machines unless a line "
        "says otherwise.\n\n"
    )
    rows = "".join(f"| {what} | {figure} | {ratio} |\n" for what, figure, ratio in lines)
    return head + "| what | figure | ratio |\n|---|---|---|\n" + rows


HEAD = """# Figures of the columnar path

Written by `python benchmarks/bulk.py`, which replaces the section of the processor that it runs on and leaves the others
as they were measured. Fleets are made by the lab's generator. Replay, appraisal and lanes: processor time of one process,
best of interleaved rounds; workers and engines: wall time, of engines the median of rounds. Only the ratios carry over.
"""


def page(before: str, name: str, measured: str) -> str:
    """The page, with this section in place of an earlier one of the same processor, or behind the others."""
    titles = re.split(r"^## (.+)\n+", before, flags=re.MULTILINE)[1:]
    sections = dict(zip(titles[::2], titles[1::2], strict=True)) | {name: measured}
    return HEAD + "".join(f"\n## {title}\n\n{text.rstrip()}\n" for title, text in sections.items())


def main() -> int:
    parser = argparse.ArgumentParser(description="Time fleets.")
    parser.add_argument("--machines", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="?", const=streams.WORKERS, metavar="MACHINES")
    parser.add_argument("--memory", type=int, nargs="?", const=streams.MACHINES, metavar="MACHINES")
    parser.add_argument("--engines", type=int, nargs="?", const=100_000, metavar="MACHINES")
    parser.add_argument("--all", action="store_true", help="workers, memory and engines too, at full size")
    parser.add_argument("--folder", type=Path, help="where fleets are kept for the next time")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if given.all:
        given.workers = given.workers or streams.WORKERS
        given.memory = given.memory or streams.MACHINES
        given.engines = given.engines or 100_000
    lines: list[Line] = []
    before = given.write.read_text() if given.write and given.write.exists() else ""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        parts: list[Iterator[Line]] = [
            lane_lines(),
            replay_lines(given.machines, given.rounds),
            appraisal_lines(given.machines, given.rounds),
        ]
        if given.workers:
            parts.append(streams.worker_lines(given.workers, folder))
        if given.engines:
            parts += [engines.lines(given.engines, workers, engines.ROUNDS, folder) for workers in (1, 2)]
        if given.memory:
            parts.append(streams.memory_lines(given.memory, folder))
        for part in parts:
            for line in part:
                print(" | ".join(line), flush=True)
                lines.append(line)
                if given.write:  # whatever comes later, what was measured is kept
                    given.write.write_text(page(before, processor(), section(lines, given, load)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
