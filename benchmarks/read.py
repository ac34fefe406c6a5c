"""What reading and replaying a log costs, beside a hand-written ``struct`` and ``hashlib`` loop.

Both read the log from bytes and replay every bank that it carries; both are timed in turn in one run, and their
medians are compared. Run ``python -m benchmarks.read``; the exit status is 1 where the ratio of all logs together is
above the target, or where the two disagree.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from measlog import EventLog

ROOT = Path(__file__).resolve().parent.parent
TARGET = 1.5
NAMES = {0x04: "sha1", 0x0B: "sha256", 0x0C: "sha384", 0x0D: "sha512"}
HASHES: dict[int, Callable[[bytes], hashlib._Hash]] = {
    0x04: hashlib.sha1,
    0x0B: hashlib.sha256,
    0x0C: hashlib.sha384,
    0x0D: hashlib.sha512,
}

Registers = dict[str, dict[int, bytes]]


def by_hand(log: bytes) -> Registers:
    """The loop that a person writes who trusts the log: no check but those that the loop cannot do without."""
    values: dict[int, dict[int, bytes]] = {}
    (size,) = struct.unpack_from("<I", log, 28)
    end = len(log)
    if log[32:48] != b"Spec ID Event03\0":
        bank = values[4] = {}
        header, at = struct.Struct("<II20sI"), 0
        while at < end:
            pcr, kind, digest, size = header.unpack_from(log, at)
            at += 32 + size
            if kind != 3 and pcr < 24:
                bank[pcr] = hashlib.sha1(bank.get(pcr, bytes(20)) + digest).digest()
        return {"sha1": bank}
    (count,) = struct.unpack_from("<I", log, 56)
    sizes = dict(struct.unpack_from("<HH", log, 60 + 4 * i) for i in range(count))
    for alg in sizes:
        values[alg] = {}
    head, tag, length = struct.Struct("<III"), struct.Struct("<H"), struct.Struct("<I")
    at = 32 + size
    while at < end:
        pcr, kind, count = head.unpack_from(log, at)
        if pcr == kind == 0xFFFFFFFF:
            break
        at += 12
        digests = []
        for _ in range(count):
            (alg,) = tag.unpack_from(log, at)
            size = sizes[alg]
            digests.append((alg, log[at + 2 : at + 2 + size]))
            at += 2 + size
        (size,) = length.unpack_from(log, at)
        data = at + 4
        at = data + size
        if kind == 3:
            if log[data : data + 16] == b"StartupLocality\0":
                for alg, size in sizes.items():
                    values[alg][0] = bytes(size - 1) + log[data + 16 : data + 17]
        elif pcr < 24:
            for alg, digest in digests:
                bank = values[alg]
                bank[pcr] = HASHES[alg](bank.get(pcr, bytes(sizes[alg])) + digest).digest()
    return {NAMES[alg]: bank for alg, bank in values.items()}


def by_measlog(log: bytes) -> Registers:
    """The same through the library."""
    read = EventLog.from_bytes(log)
    return {bank: dict(read.replay(bank)) for bank in read.algorithms}


def typical_logs() -> list[tuple[str, bytes]]:
    """The project's captures; the shared ones and the corpus too where they are beside the checkout."""
    paths = sorted(ROOT.glob("fixtures/*/binary_bios_measurements"))
    shared = ROOT.parent / "shared"
    paths += sorted(shared.glob("flatcar/captures/*/binary_bios_measurements"))
    # Left out: what is no log, what only holds one or two events, and logs of which a bank cannot be replayed.
    paths += [p for p in sorted(shared.glob("corpus/logs/*.bin")) if p.stat().st_size > 2500 and "acpi" not in p.name]
    logs = []
    for path in paths:
        data = path.read_bytes()
        if EventLog.from_bytes(data).kind != "ccel":
            logs.append((path.parent.name if path.suffix != ".bin" else path.stem, data))
    return logs


def measure(log: bytes, rounds: int) -> tuple[float, float]:
    """Median seconds of the hand-written loop and of measlog, timed in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, found in zip((by_hand, by_measlog), times, strict=True):
            before = perf_counter()
            function(log)
            found.append(perf_counter() - before)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> int:
    """Print a table; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=51, help="measurements of each log (default: 51)")
    options = parser.parse_args()
    logs = typical_logs()
    if not logs:
        print("no logs: neither fixtures/*/binary_bios_measurements nor ../shared", file=sys.stderr)
        return 2
    for name, log in logs:
        if by_hand(log) != by_measlog(log):
            print(f"{name}: the registers differ", file=sys.stderr)
            return 1
    print(f"{'log':52} {'bytes':>7} {'events':>6} {'banks':>5} {'by hand':>9} {'measlog':>9} {'ratio':>6}")
    totals = [0.0, 0.0]
    for name, log in logs:
        hand, ours = measure(log, options.rounds)
        totals[0] += hand
        totals[1] += ours
        read = EventLog.from_bytes(log)
        row = f"{len(log):7} {len(read):6} {len(read.algorithms):5} {hand * 1e6:6.0f} us {ours * 1e6:6.0f} us"
        print(f"{name[:52]:52} {row} {ours / hand:6.2f}")
    ratio = totals[1] / totals[0]
    print(f"all {len(logs)} logs: {ratio:.2f} times the loop by hand; target {TARGET}")
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
