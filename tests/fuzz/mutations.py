"""Seeded changes to bytes, of the kinds that break readers of binary formats."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["mutate"]

_NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    27,
    28,
    127,
    128,
    255,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    2**63,
    2**64 - 1,
)


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to four changes: bits, bytes, little- and big-endian numbers, cuts, insertions, repetitions, splices."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed)) if changed else 0
        kind = rng.randrange(9)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and changed:
            changed[at] = rng.randrange(256)
        elif kind in {2, 3}:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) + rng.choice((0, 0, 0, 1, -1))
            order = "little" if kind == 2 else "big"
            changed[at : at + size] = (number % (1 << (8 * size))).to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == 4:
            del changed[at:]
        elif kind == 5:
            del changed[at : at + rng.choice((1, 2, 4, 16, 64))]
        elif kind == 6:
            changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
        elif kind == 7:
            size = rng.choice((1, 4, 16, 64))
            changed[at:at] = changed[at : at + size] * rng.choice((1, 2, 8))
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other)) if other else 0
            changed[at:] = other[start:]
    return bytes(changed)
