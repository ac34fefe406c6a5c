"""What SHA-256 written with numpy operations would cost beside a loop of hashlib: why there is none (docs/decisions).

    python -m benchmarks.numpy_sha256

The round function is timed with made-up constants; its digests are of no use.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
ROUNDS = 64
ROWS = (100, 1_000, 10_000, 100_000)


def rotated(word: Words, bits: int) -> Words:
    return (word >> np.uint32(bits)) | (word << np.uint32(32 - bits))


def compress(state: list[Words], block: list[Words]) -> list[Words]:
    """One block of each row, in the operations that FIPS 180-4, 6.2.2 asks for."""
    w = list(block)
    for i in range(16, ROUNDS):
        small0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ (w[i - 15] >> np.uint32(3))
        small1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ (w[i - 2] >> np.uint32(10))
        w.append(w[i - 16] + small0 + w[i - 7] + small1)
    a, b, c, d, e, f, g, h = state
    for i in range(ROUNDS):
        t1 = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + np.uint32(i) + w[i]
        t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
        a, b, c, d, e, f, g, h = t1 + t2, a, b, c, d + t1, e, f, g
    return [x + y for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True)]


def main() -> None:
    """An extend is a message of 64 bytes: two blocks with the padding."""
    messages = [i.to_bytes(64, "big") for i in range(ROWS[-1])]
    for rows in ROWS:
        state = [np.full(rows, i, np.uint32) for i in range(8)]
        block = [np.full(rows, i, np.uint32) for i in range(16)]
        array = loop = float("inf")
        for _ in range(3):
            began = time.process_time()
            compress(compress(state, block), block)
            between = time.process_time()
            for message in messages[:rows]:
                hashlib.sha256(message).digest()
            array, loop = min(array, between - began), min(loop, time.process_time() - between)
        print(f"{rows} rows: {array / rows * 1e9:.0f} ns with numpy, {loop / rows * 1e9:.0f} ns in a loop of hashlib")


if __name__ == "__main__":
    main()
