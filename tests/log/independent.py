"""A reader and replayer of its own for the tests: ``struct`` and ``hashlib``, nothing of the library.

It trusts the log: it is meant for logs that are known to be sound.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

NAMES = {0x04: "sha1", 0x0B: "sha256", 0x0C: "sha384", 0x0D: "sha512"}


class Plain(NamedTuple):
    register: int
    type: int
    digests: dict[str, bytes]
    data: bytes


def events(log: bytes) -> Iterator[Plain]:
    """The events of a sound log; stops where 0xFF filler begins."""
    index, kind, digest, size = struct.unpack_from("<II20sI", log)
    data, at = log[32 : 32 + size], 32 + size
    if not data.startswith(b"Spec ID Event03\0"):
        at = 0
        while at < len(log):
            index, kind, digest, size = struct.unpack_from("<II20sI", log, at)
            yield Plain(index, kind, {"sha1": digest}, log[at + 32 : at + 32 + size])
            at += 32 + size
        return
    (count,) = struct.unpack_from("<I", data, 24)
    sizes = dict(struct.unpack_from("<HH", data, 28 + 4 * i) for i in range(count))
    vendor = data[28 + 4 * count] if len(data) > 28 + 4 * count else 0
    at = max(at, 32 + 29 + 4 * count + vendor)
    yield Plain(index, kind, {}, data)
    while at < len(log) and log[at : at + 8] != b"\xff" * 8:
        index, kind, count = struct.unpack_from("<III", log, at)
        at += 12
        digests = {}
        for _ in range(count):
            (alg,) = struct.unpack_from("<H", log, at)
            digests[NAMES[alg]] = log[at + 2 : at + 2 + sizes[alg]]
            at += 2 + sizes[alg]
        (size,) = struct.unpack_from("<I", log, at)
        yield Plain(index, kind, digests, log[at + 4 : at + 4 + size])
        at += 4 + size


def replay(log: bytes, bank: str) -> dict[int, bytes]:
    """Register values of one bank: PCR 0 starts at the startup locality, all others at zero."""
    values: dict[int, bytes] = {}
    size = hashlib.new(bank).digest_size
    for event in events(log):
        if event.type == 3:
            if event.data[:16] == b"StartupLocality\0":
                values[0] = bytes(size - 1) + event.data[16:17]
            continue
        start = values.get(event.register, bytes(size))
        values[event.register] = hashlib.new(bank, start + event.digests[bank]).digest()
    return values
