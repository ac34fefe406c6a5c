"""What ``import measlog`` adds to ``import numpy, cryptography``, in fresh interpreters, timed in turn.

Run ``python -m benchmarks.imports``; the exit status is 1 above the target.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter

ROUNDS = 15
TARGET_MS = 80
STATEMENTS = {
    "nothing": "pass",
    "numpy, cryptography": "import numpy, cryptography",
    "numpy, cryptography, measlog": "import numpy, cryptography, measlog",
    "and every name used": "import numpy, cryptography, measlog; [getattr(measlog, n) for n in measlog.__all__]",
}


def main() -> int:
    """Print a table; 1 where the target is missed."""
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            before = perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            times[name].append(perf_counter() - before)
    medians = {name: 1000 * statistics.median(found) for name, found in times.items()}
    base, ours = medians["numpy, cryptography"], medians["numpy, cryptography, measlog"]
    for name, found in medians.items():
        print(f"{name:32} {found:7.1f} ms {found / base:6.2f} times numpy, cryptography")
    print(f"import measlog adds {ours - base:.1f} ms; target {TARGET_MS} ms")
    return 0 if ours - base <= TARGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
