"""An hour of good, bad and hostile machines through all three paths, with memory that must stay where it is.

    python -m benchmarks.soak --minutes 60 [--rows 96] [--seed 1] [--forgetful] [--write docs/figures-soak.md]

Every round makes rows that were not there before: good machines, tampered ones, and rows with cells of mutated,
exchanged, missing or oversized bytes. They go through an appraiser that lives as long as the run, a fresh one, the scalar
path and Parquet files. The status is 1 as soon as two of these differ, a good machine is not affirming, a tampered one
is, an exception was none of the library's, a file is left behind; and at the end where memory, Python's objects or open
files grew with time.

An appraiser remembers keys and templates of logs, up to a number, and then forgets them all. Python's objects are judged
only where both were seen to be forgotten in every stretch of the time; ``--forgetful`` makes the numbers small, so that
it happens within an hour.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import platform
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from attrs import astuple, define, field, fields, frozen

import measlog as ml
from benchmarks.bulk import CELLS
from benchmarks.fleets import verifier
from fixtures import fleet
from measlog import lanes
from measlog.bulk.appraise import Appraiser
from measlog.bulk.stream import verify_parquet
from measlog.bulk.verdict import appraise_row
from tests.fuzz.mutations import mutate

VERDICT = ("status", "code", "pcr", "event", "identified")
WARM_UP = 0.2
"""Share of the time whose samples say nothing: caches fill, and the allocator learns how much is needed."""
GROWTH = 0.02
"""What may be added to the median from the end of the warm-up to the end, by the straight line through the peaks."""
STRETCHES = 6
"""Memory goes up and down as things are remembered and forgotten; the peaks of equal stretches of time must not."""
FORGETFUL = {
    "measlog.bulk.quotes": {"_REMEMBERED": 64},
    "measlog.bulk.appraise": {"_KEPT_IN_ALL": 8, "_KEPT_OPINIONS": 16},
}
OBJECTS = "memory blocks of Python's allocator"
OVERSIZED = 1 << 20
PROCESSES_EVERY = 60
"""One of so many rounds streams with two worker processes."""
TABLE = pa.schema([pa.field(name, pa.binary()) for name in CELLS])

Row = dict[str, Any]
Verdict = tuple[object, ...]


@frozen
class Sample:
    """What the process holds after a round: seconds since the start, bytes resident, objects, open files, threads.

    ``templates`` and ``keys``: how often the lasting appraiser had forgotten them by then.
    """

    seconds: float
    resident: int
    objects: int
    arrow: int
    files: int
    threads: int
    templates: int
    keys: int


@frozen
class Trend:
    """The straight line, by least squares, through the peaks of equal stretches of the time behind the warm-up."""

    median: float
    slope: float
    """Units an hour."""
    error: float
    """Standard error of the slope."""
    growth: float
    """Slope times the time that was looked at, as a share of the median."""


@frozen
class Run:
    """What a run saw. The samples are numbers in an array: objects of the run's own would look like growth."""

    numbers: array[float] = field(factory=lambda: array("d"))
    statuses: Counter[str] = field(factory=Counter)
    codes: Counter[str] = field(factory=Counter)
    kinds: Counter[str] = field(factory=Counter)

    @property
    def rounds(self) -> int:
        """How many rounds are behind the run."""
        return len(self.numbers) // len(fields(Sample))

    def keep(self, one: Sample) -> None:
        """Add the sample of a round."""
        self.numbers.extend(astuple(one))

    def samples(self) -> list[Sample]:
        """The samples of all rounds."""
        width = len(fields(Sample))
        rows = (self.numbers[at : at + width] for at in range(0, len(self.numbers), width))
        return [Sample(row[0], *map(int, row[1:])) for row in rows]


@define
class Forgotten:
    """How often an appraiser forgot templates and keys, seen from outside: it remembers fewer than a round before."""

    appraiser: Appraiser
    counts: list[int] = field(factory=lambda: [0, 0])
    _last: list[int] = field(factory=lambda: [0, 0])

    def look(self) -> None:
        """Compare with the last look."""
        mind = self.appraiser
        kept = [sum(map(len, mind._templates.values())), len(mind._reader._keys)]  # noqa: SLF001 - seen nowhere else
        for place, (now, before) in enumerate(zip(kept, self._last, strict=True)):
            self.counts[place] += now < before
        self._last = kept


class FailedError(Exception):
    """A rule of the soak was broken; the message says which."""


def hostile(chance: random.Random, row: Row, others: Sequence[Row]) -> Row:
    """The row with one to three of its cells spoilt."""
    spoilt = dict(row)
    for name in chance.sample(CELLS, chance.choice((1, 1, 2, 3))):
        kind = chance.randrange(12)
        if kind == 0:
            spoilt[name] = None
        elif kind == 1:
            spoilt[name] = b""
        elif kind == 2:
            spoilt[name] = chance.choice(others)[name]
        elif kind == 3:
            spoilt[name] = (spoilt[name] or b"")[:200] + bytes(OVERSIZED)
        else:
            spoilt[name] = mutate(chance, spoilt[name] or b"", [other[name] for other in others])
    return spoilt


def make(number: int, rows: int, seed: int) -> tuple[list[Row], list[str]]:
    """The rows of one round, and what each of them is: good, bad or hostile."""
    chance = random.Random(f"{seed} {number}")  # noqa: S311 - the same rows every time
    mode = ("realistic", "realistic", "identical", "all-distinct")[number % 4]
    known = "realistic" if mode == "all-distinct" else mode  # no manifest speaks for arguments that nobody knows
    good = [fleet.row(i, mode=known, seed=seed * 10**6 + number, tampered=0.0) for i in range(rows // 2)]
    bad = [fleet.row(i, mode=mode, seed=seed * 10**6 + number, tampered=1.0) for i in range(rows // 4)]
    found = [(row, "good") for row in good] + [(row, "bad") for row in bad]
    found += [(hostile(chance, chance.choice(good + bad), good), "hostile") for _ in range(rows - len(found))]
    chance.shuffle(found)
    return [{name: row[name] for name in CELLS} for row, _ in found], [kind for _, kind in found]


def scalar(judge: ml.Verifier, row: Row) -> Verdict:
    """The scalar path's verdict on one row."""
    log, attest, signature, ak, nonce = (row[name] or b"" for name in CELLS if name != "pcrs")
    found = appraise_row(
        judge, "sha256", log=log, attest=attest, signature=signature, ak=ak, nonce=nonce, pcrs=row["pcrs"]
    )
    return tuple(found)


def verdicts(table: pa.Table | pa.RecordBatch) -> list[Verdict]:
    """The verdicts of a judged table, row by row."""
    return [tuple(row[name] for name in VERDICT) for row in table.select(list(VERDICT)).to_pylist()]


def streamed(judge: ml.Verifier, table: pa.Table, folder: Path, workers: int) -> list[Verdict]:
    """The verdicts by way of files; nothing but the output may be left."""
    source, target = folder / "in.parquet", folder / "out.parquet"
    pq.write_table(table, source, row_group_size=max(1, table.num_rows // 3))
    verify_parquet(source, target, judge, workers=workers)
    found = verdicts(pq.read_table(target))
    left = sorted(path.name for path in folder.iterdir())
    if left != ["in.parquet", "out.parquet"]:
        raise FailedError(f"left behind: {left}")
    source.unlink()
    target.unlink()
    return found


def one_round(judge: ml.Verifier, lasting: Appraiser, run: Run, number: int, given: argparse.Namespace) -> None:
    """Make rows, judge them four times, compare."""
    rows, kinds = make(number, given.rows, given.seed)
    table = pa.Table.from_pylist(rows, schema=TABLE).combine_chunks()
    workers = 2 if number % PROCESSES_EVERY == PROCESSES_EVERY - 1 else 1
    expected = [scalar(judge, row) for row in rows]
    paths = {
        "an appraiser that has seen all rounds": verdicts(lasting.batch(table.to_batches()[0])),
        "a fresh appraiser": verdicts(ml.bulk.appraise(table, judge)),
        "Parquet": streamed(judge, table, given.folder, workers),
    }
    for name, found in paths.items():
        for place, (one, other) in enumerate(zip(expected, found, strict=True)):
            if one != other:
                raise FailedError(f"round {number}, row {place} ({kinds[place]}): scalar {one}, {name} {other}")
    for place, (kind, verdict) in enumerate(zip(kinds, expected, strict=True)):
        status, code = str(verdict[0]), verdict[1]
        if code == "error":
            raise FailedError(f"round {number}, row {place} ({kind}): an exception that is none of the library's")
        if (kind == "good") != (status == "affirming") and kind != "hostile":
            raise FailedError(f"round {number}, row {place} ({kind}): {verdict}")
        run.kinds[kind] += 1
        run.statuses[f"{kind}: {status}"] += 1
        if code is not None:
            run.codes[str(code)] += 1


def sample(started: float, forgotten: Forgotten) -> Sample:
    """What this process holds now, without what only waits for the collector of cycles."""
    forgotten.look()
    gc.collect()
    # Arrow's threads let go of what they read a moment after it was handed on.
    patience = time.monotonic() + 5
    while pa.total_allocated_bytes() and time.monotonic() < patience:
        time.sleep(0.01)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        time.monotonic() - started,
        pages * resource.getpagesize(),
        sys.getallocatedblocks(),
        pa.total_allocated_bytes(),
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
        *forgotten.counts,
    )


def _stretches(samples: Sequence[Sample]) -> list[list[Sample]]:
    first, last = samples[0].seconds, samples[-1].seconds
    parts: list[list[Sample]] = [[] for _ in range(STRETCHES)]
    for one in samples:
        parts[min(STRETCHES - 1, int((one.seconds - first) / (last - first) * STRETCHES))].append(one)
    return [part for part in parts if part]


def trend(samples: Sequence[Sample], value: Callable[[Sample], int]) -> Trend:
    """The line through the peaks of what ``value`` says of the samples."""
    peaks = [max(part, key=value) for part in _stretches(samples)]
    hours = np.array([one.seconds for one in peaks]) / 3600
    values = np.array([value(one) for one in peaks], dtype=np.float64)
    middle = hours - hours.mean()
    spread = float((middle**2).sum())
    slope = float((middle * values).sum()) / spread
    left = values - values.mean() - slope * middle
    error = float(np.sqrt((left**2).sum() / (len(peaks) - 2) / spread))
    median = float(np.median([value(one) for one in samples]))
    return Trend(median, slope, error, slope * float(hours[-1] - hours[0]) / max(median, 1.0))


def judged(samples: Sequence[Sample]) -> tuple[dict[str, Trend], list[str]]:
    """The trends behind the warm-up, and what is wrong with them."""
    settled = [one for one in samples if one.seconds >= WARM_UP * samples[-1].seconds]
    if len(settled) < 4 * STRETCHES:
        return {}, [f"only {len(settled)} rounds behind the warm-up: no trend can be seen"]
    trends = {
        "resident memory": trend(settled, lambda one: one.resident),
        OBJECTS: trend(settled, lambda one: one.objects),
    }
    if not all(p[0].templates < p[-1].templates and p[0].keys < p[-1].keys for p in _stretches(settled)):
        print("the templates or the keys were not forgotten in every stretch: Python's objects cannot be judged")
        del trends[OBJECTS]
    wrong = [f"{name} grew by {line.growth:.1%}" for name, line in trends.items() if line.growth > GROWTH]
    for name in ("files", "threads"):
        counts = [getattr(one, name) for one in settled]
        if max(counts) > counts[0]:
            wrong.append(f"{name} grew from {counts[0]} to {max(counts)}")
    if any(one.arrow for one in samples):
        wrong.append(f"Arrow held {max(one.arrow for one in samples)} bytes between rounds")
    return trends, wrong


def lines(run: Run, trends: Mapping[str, Trend], wrong: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The table of figures."""
    samples = run.samples()
    last = samples[-1]
    rows = sum(run.kinds.values())
    yield "time, rounds, rows", f"{last.seconds / 60:.1f} minutes, {len(samples)}, {rows} (each judged four times)"
    yield "rows by kind", ", ".join(f"{count} {kind}" for kind, count in run.kinds.most_common())
    yield "statuses", ", ".join(f"{count} {status}" for status, count in sorted(run.statuses.items()))
    yield "codes", f"{len(run.codes)} different ones; " + ", ".join(f"{n} {c}" for c, n in run.codes.most_common(8))
    mega = 1 << 20
    for name, line in trends.items():
        unit, scale = ("MiB", mega) if "resident" in name else ("thousand", 1000)
        middle, slope, error = (value / scale for value in (line.median, line.slope, line.error))
        text = f"{middle:.1f} {unit}; {slope:+.2f} ± {error:.2f} {unit} an hour, {line.growth:+.2%} behind the warm-up"
        yield f"{name}: median, trend of the peaks", f"{text} (at most {GROWTH:.0%})"
    yield "templates and keys forgotten", f"{last.templates} and {last.keys} times"
    resident = [one.resident / mega for one in samples]
    yield (
        "resident memory, first round, least, most",
        f"{resident[0]:.1f}, {min(resident):.1f}, {max(resident):.1f} MiB",
    )
    yield "open files and threads at the end", f"{last.files}, {last.threads}"
    yield "Arrow's memory between rounds, most", f"{max(one.arrow for one in samples)} bytes"
    unjudged = "" if OBJECTS in trends else f"; {OBJECTS} could not be judged"
    yield "verdict", ("; ".join(wrong) or "passed") + unjudged


def page(table: Sequence[tuple[str, str]], given: argparse.Namespace) -> str:
    """The figures, with where they were made."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pyarrow", "cryptography"))
    return (
        f"# Figures of {'a soak that forgets' if given.forgetful else 'the soak'}\n\n"
        f"Written by `python -m benchmarks.soak --minutes {given.minutes:g} --rows {given.rows} --seed {given.seed}"
        f"{' --forgetful' if given.forgetful else ''}` on a "
        f"machine with {os.cpu_count()} cores\nthat did other things besides (load {os.getloadavg()[0]:.1f} at the end). "
        f"Python {platform.python_version()}, {versions}; lanes: {lanes.engine()}.\n\n| what | figure |\n|---|---|\n"
        + "".join(f"| {name} | {figure} |\n" for name, figure in table)
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Soak all three paths.")
    parser.add_argument("--minutes", type=float, default=60.0, help="the run ends with the round that reaches them")
    parser.add_argument("--rows", type=int, default=96, help="rows of a round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--forgetful", action="store_true", help="let the long-lived appraiser remember little")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    for module, numbers in FORGETFUL.items() if given.forgetful else ():
        for name, number in numbers.items():
            setattr(importlib.import_module(module), name, number)
    judge, run = verifier(), Run()
    lasting = Appraiser(judge)
    forgotten = Forgotten(lasting)
    started = time.monotonic()
    given.folder = Path(tempfile.mkdtemp(prefix="measlog-soak."))
    wrong: list[str] = []
    try:
        while time.monotonic() - started < 60 * given.minutes:
            one_round(judge, lasting, run, run.rounds, given)
            run.keep(now := sample(started, forgotten))
            if run.rounds % 20 == 1:
                told = f"{run.rounds} rounds, {now.resident >> 10} KiB, {now.objects} blocks, {now.files} files"
                print(f"{now.seconds:7.0f} s: {told}", flush=True)
    except FailedError as error:
        print(f"FAILED: {error}")
        return 1
    finally:
        shutil.rmtree(given.folder)
    trends, wrong = judged(run.samples())
    table = list(lines(run, trends, wrong))
    for name, figure in table:
        print(f"{name}: {figure}")
    if given.write:
        given.write.write_text(page(table, given))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
