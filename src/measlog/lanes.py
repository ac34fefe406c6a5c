"""Hashing over arrays: PCR extends and rows of equal size, many at a time.

Compiled lanes where the machine has them, :mod:`hashlib` otherwise, with the same answers. Arrays are ``uint8``, one
message a row; nothing here looks into what it hashes. SHA-1, SHA-256, SHA-384 and SHA-512 have lanes; other algorithms
that this Python can compute always go through :mod:`hashlib`.

The environment variable ``MEASLOG_LANES`` names an engine to use instead of the widest one (``hashlib`` for none of
the compiled ones); it is read once, when the module is loaded.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from measlog.registry import ALGORITHMS_BY_NAME, hash_constructor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from measlog.registry import Hash

    Bytes = NDArray[np.uint8]
    Places = NDArray[np.int64]

__all__ = ["engine", "engines", "extend", "hash_rows"]

_NUMBERS = {"sha1": 0, "sha256": 1, "sha384": 2, "sha512": 3}
_HASHLIB = "hashlib"
_SAMPLE = 256
_REPEATED = 0.5
"""Share of distinct messages in a sample below which remembering them is cheaper than hashing them again."""

# H(00 01 02 ...), as many bytes as state and digest have together: sha1sum, sha256sum, sha384sum and sha512sum of
# coreutils over 40, 64, 96 and 128 such bytes.
_KNOWN = {
    "sha1": "cc9ad99e917042381b0f99588896cbf236aa8ed3",
    "sha256": "fdeab9acf3710362bd2658cdc9a29e8f9c757fcf9811603a8c447cd1d9151108",
    "sha384": "e606004ecdc6878b5ec15f4554017ccf962e92cc6eaebe4997ba34ec0e53c67d564c8461c013701a401fe347ec0f721e",
    "sha512": "1dffd5e3adb71d45d2245939665521ae001a317a03720a45732ba1900ca3b8351fc5c9b4ca513eba6f80bc7b1d1fdad4abd13491cb824d61b08d8c0e1561b3f7",
}


def extend(
    algorithm: str, states: Bytes, digests: Bytes, *, where: Places | None = None, engine: str | None = None
) -> None:
    """Replace each state by H(state || digest), in place (TPM 2.0 Part 1, 17.2).

    ``states`` is ``(machines, digest_size)``, contiguous; ``digests`` is ``(machines, digest_size)``, each row
    contiguous. With ``where``, an array of distinct row numbers, ``digests[i]`` extends ``states[where[i]]``. Raises
    ValueError where the arrays do not fit together or this Python cannot compute the algorithm.
    """
    size = ALGORITHMS_BY_NAME[algorithm].size
    if states.dtype != np.uint8 or digests.dtype != np.uint8:
        raise ValueError("states and digests are arrays of uint8")
    if states.ndim != 2 or digests.ndim != 2 or states.shape[1] != size or digests.shape[1] != size:
        raise ValueError(f"states and digests of {algorithm} have rows of {size} bytes")
    chosen = _choose(engine)
    if chosen != _HASHLIB and algorithm in _NUMBERS:
        _compiled.extend(chosen, _NUMBERS[algorithm], states, digests, where)
        return
    if where is None and len(states) != len(digests):
        raise ValueError(f"{len(digests)} digests for {len(states)} states")
    messages = np.concatenate([states if where is None else states[where], digests], axis=1)
    states[slice(None) if where is None else where] = _hashed(algorithm, messages)


def hash_rows(algorithm: str, rows: Bytes, *, prefix: bytes = b"", engine: str | None = None) -> Bytes:
    """H(prefix || row) of each row of ``rows``, ``(count, width)``: ``(count, digest_size)``.

    ``rows`` may be an overlapping or strided view, if each row is contiguous. A dm-verity tree's blocks of 4096 bytes
    are such rows, and its salt the prefix. Raises ValueError for arrays of another shape or type.
    """
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise ValueError("rows are an array of uint8 of two dimensions")
    chosen = _choose(engine)
    if chosen == _HASHLIB or algorithm not in _NUMBERS:
        return _hashed(algorithm, rows, prefix)
    out: Bytes = np.empty((len(rows), ALGORITHMS_BY_NAME[algorithm].size), dtype=np.uint8)
    _compiled.hash_rows(chosen, _NUMBERS[algorithm], out, rows, prefix)
    return out


def engine() -> str:
    """What hashes: ``avx512``, ``avx2``, ``neon`` or ``baseline`` of the compiled lanes, or ``hashlib``."""
    return _ENGINE


def engines() -> tuple[str, ...]:
    """All that this machine can use, the widest first; ``hashlib`` is always there."""
    return _ENGINES


def _choose(name: str | None) -> str:
    if name is None:
        return _ENGINE
    if name not in _ENGINES:
        raise ValueError(f"there is no engine {name} here, there are {', '.join(_ENGINES)}")
    return name


def _hashed(algorithm: str, rows: Bytes, prefix: bytes = b"") -> Bytes:
    """The same by hashlib; equal messages are hashed once where a sample says that there are enough of them."""
    new = hash_constructor(algorithm)
    if new is None:
        raise ValueError(f"this Python cannot compute {algorithm}")
    messages = [row.tobytes() for row in rows]
    sample = messages[:: max(1, len(messages) // _SAMPLE)]
    if len(set(sample)) < _REPEATED * len(sample):
        digests = {message: new(prefix + message).digest() for message in set(messages)}
        found = [digests[message] for message in messages]
    else:
        found = [new(prefix + message).digest() for message in messages]
    size = ALGORITHMS_BY_NAME[algorithm].size
    return np.frombuffer(b"".join(found), dtype=np.uint8).reshape(len(messages), size).copy()


def _load() -> tuple[Any, tuple[str, ...]]:
    """The compiled lanes and the engines of theirs that give right answers."""
    try:
        compiled: Any = importlib.import_module("measlog._lanes")
    except ImportError:
        return None, (_HASHLIB,)
    return compiled, (*(name for name in compiled.engines() if _sound(compiled, name)), _HASHLIB)


def _sound(compiled: Any, name: str) -> bool:
    """Known answers in every lane: an engine that gives another one, for whatever reason, is not used."""
    for algorithm, number in _NUMBERS.items():
        size = ALGORITHMS_BY_NAME[algorithm].size
        message = np.arange(2 * size, dtype=np.uint8)
        known = bytes.fromhex(_KNOWN[algorithm])
        rows = np.tile(message, (33, 1))  # two rounds of the widest lanes, and one more
        states = rows[:, :size].copy()
        compiled.extend(name, number, states, rows[:, size:], None)
        if any(row.tobytes() != known for row in states):
            return False
        compiled.hash_rows(name, number, states, rows, b"")
        if any(row.tobytes() != known for row in states):
            return False
    return _crossed(compiled, name)


def _crossed(compiled: Any, name: str) -> bool:
    """Different messages in the lanes keep their places: compared with hashlib, where this Python has the hash."""
    for algorithm, number in _NUMBERS.items():
        new: Callable[..., Hash] | None = hash_constructor(algorithm)
        size = ALGORITHMS_BY_NAME[algorithm].size
        rows = np.arange(33 * 2 * size, dtype=np.uint32).astype(np.uint8).reshape(33, 2 * size)
        rows[:, 0] = np.arange(33, dtype=np.uint8)
        states = rows[:, :size].copy()
        compiled.extend(name, number, states, rows[:, size:], None)
        try:
            expected = [new(row.tobytes()).digest() for row in rows] if new is not None else None
        except ValueError:  # a Python that is not allowed to compute it
            expected = None
        if expected is not None and expected != [row.tobytes() for row in states]:
            return False
    return True


_compiled, _ENGINES = _load()
_WANTED = os.environ.get("MEASLOG_LANES")
_ENGINE = _WANTED if _WANTED in _ENGINES else _ENGINES[0]
