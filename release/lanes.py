"""Right answers of every kind of lanes of a machine: ``python release/lanes.py WIDEST``, with measlog installed."""

from __future__ import annotations

import hashlib
import platform
import sys

import numpy as np

from measlog import lanes

SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33)
WIDTHS = (0, 1, 55, 56, 64, 111, 112, 300, 4096)


def check(engine: str, name: str, numbers: np.random.Generator) -> None:
    """Extends and rows of all counts and widths that fill lanes or blocks, or leave some of them empty, against hashlib."""
    size = SIZES[name]
    for count in COUNTS:
        states, digests = (numbers.integers(0, 256, (count, size), dtype=np.uint8) for _ in range(2))
        expected = [hashlib.new(name, s.tobytes() + d.tobytes()).digest() for s, d in zip(states, digests, strict=True)]
        lanes.extend(name, states, digests, engine=engine)
        assert [row.tobytes() for row in states] == expected, (engine, name, count)
    for width in WIDTHS:
        rows = numbers.integers(0, 256, (19, width), dtype=np.uint8)
        expected = [hashlib.new(name, b"x" + row.tobytes()).digest() for row in rows]
        found = lanes.hash_rows(name, rows, prefix=b"x", engine=engine)
        assert [row.tobytes() for row in found] == expected, (engine, name, width)


def main() -> int:
    """Check all; the widest must be the one that is named."""
    print(platform.machine(), platform.python_version(), *lanes.engines(), flush=True)
    assert lanes.engine() == sys.argv[1]  # it passed its known answers, otherwise it would not be there
    numbers = np.random.default_rng(1)
    for engine in lanes.engines():
        for name in SIZES:
            check(engine, name, numbers)
        print(f"{engine}: right answers for {len(SIZES)} algorithms", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
