"""One PCR extend: compiled lanes against a hashlib loop, arrays in and out, every message different.

    python benchmarks/lanes.py [--machines 16384] [--rounds 7] [--json]

Rounds of all contestants are interleaved and the best of each is taken: on a shared machine the best is what the code
can do, the median what the neighbours left of it; both are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from measlog import lanes
from measlog.registry import ALGORITHMS_BY_NAME

ALGORITHMS = ("sha1", "sha256", "sha384", "sha512")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def contestants(algorithm: str, machines: int) -> dict[str, Callable[[], object]]:
    size = ALGORITHMS_BY_NAME[algorithm].size
    random = np.random.default_rng(1)
    states = random.integers(0, 256, (machines, size), dtype=np.uint8)
    digests = random.integers(0, 256, (machines, size), dtype=np.uint8)
    new = getattr(hashlib, algorithm)
    pairs = [(s.tobytes(), d.tobytes()) for s, d in zip(states, digests, strict=True)]

    def by_engine(name: str) -> Callable[[], object]:
        return lambda: lanes.extend(algorithm, states, digests, engine=name)

    found: dict[str, Callable[[], object]] = {"loop": lambda: [new(s + d).digest() for s, d in pairs]}
    return found | {name: by_engine(name) for name in lanes.engines()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Time PCR extends.")
    parser.add_argument("--machines", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for algorithm in ALGORITHMS:
        work = contestants(algorithm, given.machines)
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(given.rounds):
            for name, one in work.items():
                times[name].append(timed(one) / given.machines * 1e9)
        for name, found in times.items():
            rows.append(
                {
                    "algorithm": algorithm,
                    "engine": name,
                    "best_ns": round(min(found), 1),
                    "median_ns": round(statistics.median(found), 1),
                    "ratio": round(min(times["loop"]) / min(found), 1),
                    "ratio_of_medians": round(statistics.median(times["loop"]) / statistics.median(found), 1),
                }
            )
    if given.json:
        print(json.dumps({"machines": given.machines, "python": platform.python_version(), "rows": rows}))
        return 0
    print(f"{'':8}{'':10}{'best ns':>10}{'median':>10}{'ratio':>8}{'(medians)':>11}")
    for row in rows:
        print(
            f"{row['algorithm']:8}{row['engine']:10}{row['best_ns']:>10}{row['median_ns']:>10}{row['ratio']:>8}"
            f"{row['ratio_of_medians']:>11}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
