"""Files that do not fit into memory: two workers against one, and the memory of a worker.

    python benchmarks/streams.py [--workers 100000] [--memory 1000000] [--folder FOLDER]

The number behind an option is how many machines it is done with; without options, both. Wall time, as is what users
wait for.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import fleets  # noqa: E402
from measlog.bulk.stream import Progress, verify_parquet  # noqa: E402

WORKERS, MACHINES = 100_000, 1_000_000
TIMES = 10  # how often each machine is in the file of the memory's measurement
MEBIBYTE = 1024  # kibibytes, the unit of ru_maxrss


def rate(source: Path, target: Path, workers: int) -> tuple[float, float, float]:
    """Machines a second from when all workers are at work, seconds until then, and this process's share of the work.

    That share, of the processor time that it and its workers took, bounds what more workers can bring, and is the same on
    a machine that is busy.
    """
    seen: list[Progress] = []
    own, theirs = _spent(resource.RUSAGE_SELF), _spent(resource.RUSAGE_CHILDREN)
    summary = verify_parquet(source, target, fleets.verifier(), workers=workers, progress=seen.append)
    target.unlink()
    own, theirs = _spent(resource.RUSAGE_SELF) - own, _spent(resource.RUSAGE_CHILDREN) - theirs
    # A worker has begun when it has done something; a few row groups later all of them have.
    begun = seen[2 * workers]
    return (summary.rows - begun.done) / (summary.seconds - begun.seconds), begun.seconds, own / (own + theirs)


def _spent(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def worker_lines(machines: int, folder: Path) -> Iterator[fleets.Line]:
    """Two workers against one, in turn, the best of each."""
    source = fleets.file(folder, machines)
    best = {1: 0.0, 2: 0.0}
    start = share = 0.0
    for workers in (1, 2, 1, 2):
        found, start, share = rate(source, folder / "out.parquet", workers)
        best[workers] = max(best[workers], found)
    where = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    yield (
        f"bulk verify of {machines:,} machines, Parquet to Parquet, two workers against one",
        f"{best[1]:,.0f} machines a second with one worker, {best[2]:,.0f} with two once both are up ({start:.1f} s)",
        f"{best[2] / best[1]:.2f} times on {where} (at least 1.8); the process that they share has {share:.1%} of the work",
    )


def memory_lines(machines: int, folder: Path, workers: int = 2) -> Iterator[fleets.Line]:
    """The most that a worker, or the process that writes the output, held of a file in which each machine is ten times."""
    distinct = max(1, machines // TIMES)
    source = fleets.repeated(fleets.file(folder, distinct), folder / "many.parquet", TIMES)
    command = [sys.executable, __file__, "--stream", str(source), str(folder / "out.parquet"), str(workers)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    rows, own, theirs, seconds = int(said[0]), int(said[1]) / MEBIBYTE, int(said[2]) / MEBIBYTE, float(said[3])
    source.unlink()
    (folder / "out.parquet").unlink()
    yield (
        f"memory for {rows:,} machines streamed, {distinct:,} different ones",
        f"{theirs:.0f} MiB in a worker of {workers}, {own:.0f} in the process that writes; {seconds:.0f} s",
        f"{max(own, theirs):.0f} MiB (at most 1024)",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Time streams.")
    parser.add_argument("--workers", type=int, nargs="?", const=WORKERS, metavar="MACHINES")
    parser.add_argument("--memory", type=int, nargs="?", const=MACHINES, metavar="MACHINES")
    parser.add_argument("--folder", type=Path, help="where fleets are kept for the next time")
    parser.add_argument("--stream", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stream:
        source, target, workers = given.stream
        summary = verify_parquet(source, target, fleets.verifier(), workers=int(workers))
        # Of the children, the one that held most: that is what Linux keeps of those that ended.
        held = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        print(summary.rows, *held, summary.seconds)
        return 0
    both = given.workers is None and given.memory is None
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        parts = []
        if given.workers or both:
            parts.append(worker_lines(given.workers or WORKERS, folder))
        if given.memory or both:
            parts.append(memory_lines(given.memory or MACHINES, folder))
        for part in parts:
            for line in part:
                print(" | ".join(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
