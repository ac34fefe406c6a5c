"""What a file of 64 MB costs that was built to be expensive: seconds beside one SHA-256 pass over it, and peak memory.

Run ``python -m benchmarks.hostile``; the exit status is 1 where a file takes more than a second of processor time or
200 MB, the whole process counted, or ends in another way than it should.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys

from attrs import frozen

ROUNDS = 3
TARGET_SECONDS = 1.0
TARGET_MB = 200.0
SPEC_ID = struct.pack(
    "<II20sI16sIBBBBIHHHHB", 0, 3, bytes(20), 37, b"Spec ID Event03", 0, 0, 2, 0, 2, 2, 4, 20, 11, 32, 0
)
SEPARATOR = struct.pack("<IIIH20sH32sII", 1, 4, 2, 4, bytes(20), 11, bytes(32), 4, 0)


@frozen
class Hostile:
    """A file: an expression that makes it, and how reading it must end."""

    expression: str
    outcome: str


CASES = {
    "empty events": Hostile("S + bytes(16) * ((SIZE - len(S)) // 16 - 1) + b'x'", "LimitExceededError"),
    "sha1 format": Hostile("struct.pack('<II20sI', 0, 3, bytes(20), 0) * (SIZE // 32)", "LimitExceededError"),
    "sixteen digests": Hostile("SPEC16 + EVENT16 * ((SIZE - len(SPEC16)) // len(EVENT16))", "LimitExceededError"),
    "padding, not uniform": Hostile("S + b'\\xff' * (SIZE - len(S) - 1) + b'x'", "incomplete"),
    "data like padding": Hostile("(S + (SEP[:68] + LONG + b'\\xff' * 64) * 30000).ljust(SIZE, b'\\xff')", "complete"),
    "one event and padding": Hostile("S + b'\\x01' + bytes(SIZE - len(S) - 1)", "complete"),
    "too large": Hostile("bytes(SIZE) + b'x'", "LimitExceededError"),
    "random": Hostile("S + random.Random(1).randbytes(SIZE - len(S))", "FormatError"),
    "text": Hostile("b'event ' * (SIZE // 6)", "UnsupportedError"),
    "4 GiB of data": Hostile("S + SEP[:68] + b'\\xff' * 4 + bytes(SIZE - len(S) - 72)", "TruncatedError"),
    "2^31 digests": Hostile("S + SEP[:8] + b'\\0\\0\\0\\x80' + bytes(SIZE - len(S) - 12)", "FormatError"),
    "4 GiB at the end": Hostile("S + SEP * 20000 + SEP[:68] + b'\\xff' * 4", "TruncatedError"),
}

PROGRAM = """
import hashlib, json, pathlib, random, struct, sys, time
from measlog import EventLog
from measlog.errors import FormatError
SIZE = 64 << 20
S, SEP = bytes.fromhex({spec_id!r}), bytes.fromhex({separator!r})
BODY16 = S[32:56] + struct.pack('<I', 16) + b''.join(struct.pack('<HH', 0x100 + i, 2) for i in range(16)) + b'\\0'
SPEC16 = struct.pack('<II20sI', 0, 3, bytes(20), len(BODY16)) + BODY16
EVENT16 = struct.pack('<III', 1, 5, 16) + b''.join(struct.pack('<HH', 0x10f - i, i) for i in range(16)) + bytes(4)
LONG = struct.pack('<I', 64)
data = {expression}
before = time.process_time()
try:
    log = EventLog.from_bytes(data)
    outcome = 'complete' if log.complete else 'incomplete'
except FormatError as error:
    outcome = type(error).__name__
seconds = time.process_time() - before
# Not ru_maxrss, which starts at the peak of the process that this one was forked from.
peak = next(l for l in pathlib.Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM'))
before = time.process_time()
hashlib.sha256(data).digest()
print(json.dumps([outcome, seconds, time.process_time() - before, int(peak.split()[1]) / 1024]))
"""


@frozen
class Cost:
    """What reading a file came to."""

    outcome: str
    seconds: float
    sha256_seconds: float
    megabytes: float


def cost(case: Hostile) -> Cost:
    """Read the file once, in a process of its own."""
    program = PROGRAM.format(spec_id=SPEC_ID.hex(), separator=SEPARATOR.hex(), expression=case.expression)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=120)
    return Cost(*json.loads(done.stdout))


def main() -> int:
    """Print a table; 1 where a target is missed."""
    missed = 0
    print(f"{'file':24} {'seconds':>8} {'SHA-256':>8} {'MB':>6}  outcome")
    for name, case in CASES.items():
        best = min((cost(case) for _ in range(ROUNDS)), key=lambda one: one.seconds)
        wrong = best.outcome != case.outcome or best.seconds > TARGET_SECONDS or best.megabytes > TARGET_MB
        missed += wrong
        ratio = best.seconds / best.sha256_seconds
        print(f"{name:24} {best.seconds:8.3f} {ratio:7.2f}x {best.megabytes:6.0f}  {best.outcome}{' !' * wrong}")
    print(f"targets: {TARGET_SECONDS:.0f} s of processor time and {TARGET_MB:.0f} MB; {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
