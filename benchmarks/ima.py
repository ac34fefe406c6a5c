"""What IMA logs cost: in columns, entry by entry, and by a hand-written ``struct`` and ``hashlib`` loop.

All three read the same log, check every template hash and replay PCR 10 in the SHA-256 bank; the columns also look every
entry up in an allow-list. They are timed in turn in one run, by the processor's time, and their medians are compared. Run
``python -m benchmarks.ima``; the exit status is 1 where they disagree or the columns read fewer than 100,000 entries a
second.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import struct
import sys
from collections.abc import Callable
from time import process_time

from measlog.formats.ima import build_entry, join_fields
from measlog.interop.ima import FileDigest, ImaLog
from measlog.interop.ima.allow import AllowList
from measlog.interop.ima.columns import ima_columns

TARGET = 100_000


def make_log(entries: int) -> tuple[bytes, AllowList]:
    """A log as a busy machine has it, ``ima-sig``, every tenth entry with a signature, and the list that allows it."""
    made, files = [], []
    for number in range(entries):
        digest = hashlib.sha256(b"%d" % number).digest()
        name = f"/usr/lib/x86_64-linux-gnu/{digest[:8].hex()}/lib{number}.so.{number % 7}"
        signature = bytes([3, 2, 4]) + digest * 8 if number % 10 == 0 else b""
        data = join_fields([b"sha256:\0" + digest, name.encode() + b"\0", signature])
        made.append(build_entry(10, hashlib.sha1(data).digest(), b"ima-sig", data))
        files.append((name, FileDigest("ima", "sha256", digest)))
    return b"".join(made), AllowList.of(files)


def by_hand(log: bytes) -> bytes:
    """The loop that a person writes who trusts the log."""
    state, at, end = bytes(32), 0, len(log)
    head, u32 = struct.Struct("<I20sI"), struct.Struct("<I")
    while at < end:
        _, digest, size = head.unpack_from(log, at)
        at += 28 + size
        (size,) = u32.unpack_from(log, at)
        data = log[at + 4 : at + 4 + size]
        at += 4 + size
        if hashlib.sha1(data).digest() != digest:
            raise ValueError("a template hash differs")
        state = hashlib.sha256(state + hashlib.sha256(data).digest()).digest()
    return state


def in_columns(log: bytes, allow: AllowList) -> bytes:
    """The table with a verdict for each entry, and the register."""
    found = ima_columns(log, allow=allow)
    assert found.table["verdict"].combine_chunks().value_counts().to_pylist()[0]["counts"] == len(found.table)
    return found.registers["sha256"][10]


def one_by_one(log: bytes) -> bytes:
    """The records."""
    return ImaLog.from_bytes(log, banks=("sha256",)).replay("sha256")[10]


def main() -> int:
    """Time the three in turn and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    log, allow = make_log(options.entries)
    ways: dict[str, Callable[[], bytes]] = {
        "by hand": lambda: by_hand(log),
        "in columns, looked up": lambda: in_columns(log, allow),
        "entry by entry": lambda: one_by_one(log),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    values: set[bytes] = set()
    for _ in range(options.rounds):
        for name, run in ways.items():
            start = process_time()
            values.add(run())
            times[name].append(process_time() - start)
    print(f"{options.entries:,} entries, {len(log):,} bytes")
    base = statistics.median(times["by hand"])
    rates = {}
    for name, taken in times.items():
        median = statistics.median(taken)
        rates[name] = options.entries / median
        print(f"{name:24} {rates[name]:12,.0f} entries a second, {median / base:5.2f} times the time by hand")
    if len(values) != 1:
        print("BROKEN they disagree")
    return 0 if len(values) == 1 and rates["in columns, looked up"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
