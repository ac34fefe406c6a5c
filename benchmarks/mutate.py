"""One million seeded mutations: no exception but FormatError, no input over a second of processor time or 300 MB.

``python -m benchmarks.mutate`` needs at most twenty minutes on two slow cores; ``--inputs 20000`` is a short run. The
run is the same for the same ``--seed`` and number of inputs. The first input that breaks a rule ends it: the status is 1,
the input is written beside ``--keep``, and belongs, made small, into ``fixtures/fuzz/TARGET/``.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import resource
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

from tests.fuzz.mutations import mutate
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, fuzz

SECONDS = 1.0
MEGABYTES = 300
# How many of every thousand inputs go to the targets that are slow; the others share the rest evenly.
SLOW = {"log": 80, "framing": 80, "yaml": 40, "pe": 60, "fat": 40, "gpt": 20, "quote": 40, "ima": 30, "ima_ascii": 30}


class Share(NamedTuple):
    """What one process is to do."""

    number: int
    inputs: int
    seed: int
    keep: Path


class Outcome(NamedTuple):
    """What one process saw: inputs and how many were read, by target, the slowest, and what broke a rule."""

    inputs: Counter[str]
    read: Counter[str]
    slowest: tuple[float, str]
    peak: int
    broken: str | None


def _plan(inputs: int) -> dict[str, int]:
    names = [name for name in TARGETS if name in seeds()]
    fast = [name for name in names if name not in SLOW]
    plan = {name: inputs * SLOW[name] // 1000 for name in names if name in SLOW}
    rest = inputs - sum(plan.values())
    plan |= {name: rest // len(fast) for name in fast}
    plan[fast[0]] += inputs - sum(plan.values())
    return plan


def _memory() -> int:
    """Most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def run(share: Share) -> Outcome:
    """One process's inputs, target by target."""
    count, read, slowest = Counter[str](), Counter[str](), (0.0, "")
    known = seeds()
    before = _memory()
    # Asking for more than the allowance fails at once, with a MemoryError that no reader expects.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    allowed = pages * resource.getpagesize() + (MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    for name, number in _plan(share.inputs).items():
        rng = random.Random(f"{share.seed} {share.number} {name}")  # noqa: S311 - the same inputs every time
        target, items = TARGETS[name], known[name]
        for _ in range(number):
            data = mutate(rng, rng.choice(items), items)
            start = process_time()
            try:
                read[name] += fuzz(target, data)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
                return Outcome(count, read, slowest, _memory() - before, _kept(share, name, data, repr(error)))
            took = process_time() - start
            count[name] += 1
            if took > slowest[0]:
                slowest = (took, name)
                if took > SECONDS:
                    message = f"{took:.2f} s for {len(data)} bytes"
                    return Outcome(count, read, slowest, _memory() - before, _kept(share, name, data, message))
    return Outcome(count, read, slowest, _memory() - before, None)


def _kept(share: Share, name: str, data: bytes, message: str) -> str:
    folder = share.keep / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return f"{name}: {message}; the input is {path}"


def main() -> int:
    """Share the inputs out among processes and say what they saw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--keep", type=Path, default=Path("findings"))
    options = parser.parse_args()
    start = perf_counter()
    sizes = [options.inputs // options.jobs] * options.jobs
    sizes[0] += options.inputs - sum(sizes)
    shares = [Share(number, size, options.seed, options.keep) for number, size in enumerate(sizes)]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        outcomes = pool.map(run, shares, chunksize=1)
    inputs = sum((outcome.inputs for outcome in outcomes), Counter[str]())
    read = sum((outcome.read for outcome in outcomes), Counter[str]())
    for name in inputs:
        print(f"{name:18} {inputs[name]:9,} inputs {100 * read[name] / inputs[name]:6.1f} % read")
    took, name = max(outcome.slowest for outcome in outcomes)
    print(f"{inputs.total():,} inputs in {perf_counter() - start:.0f} s, seed {options.seed}")
    print(
        f"slowest input {1000 * took:.0f} ms ({name}), most memory beyond the start {max(o.peak for o in outcomes)} MB"
    )
    broken = [outcome.broken for outcome in outcomes if outcome.broken]
    for one in broken:
        print(f"BROKEN {one}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
