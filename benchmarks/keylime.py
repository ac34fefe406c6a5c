"""What parsing a log costs a Keylime verifier: measlog's ``bootlog_parse`` beside Keylime's own, called in turn.

Keylime's own writes the log to a file, runs ``tpm2_eventlog`` and reads the YAML that it prints; both get the log in
base64 and give register values, boot aggregates and the log for the evaluation. Needs the extra ``keylime`` and
tpm2-tools. Run ``python -m benchmarks.keylime``; the exit status is 1 where the two disagree on a log that Keylime reads
rightly, or where all logs together are not parsed as many times faster as the target says.
"""

from __future__ import annotations

import argparse
import base64
import gc
import logging
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from benchmarks.read import typical_logs
from measlog import EventLog
from measlog.interop.keylime import bootlog_parse

TARGET = 50
WRONG = {"glinux-alex"}  # Keylime's values come from tpm2-tools 5.4, which does not know startup localities

Parse = Callable[[str, str], tuple[Any, Any, Any, Any]]


def own_parser() -> Parse:
    """Keylime's own function."""
    logging.disable(logging.CRITICAL)
    from keylime.mba.elparsing import tpm2_tools_elparser  # noqa: PLC0415 - reports what it finds when it is imported

    parse: Parse = tpm2_tools_elparser.bootlog_parse
    return parse


def values(parse: Parse, text: str, bank: str) -> tuple[Any, Any] | None:
    """Register values and boot aggregates; None where the log is not read."""
    try:
        hashes, aggregates, _, failure = parse(text, bank)
    except Exception:  # noqa: BLE001 - Keylime's own raises what it likes
        return None
    return None if failure else (hashes, aggregates)


def measure(functions: tuple[Parse, Parse], text: str, bank: str, rounds: int) -> list[float]:
    """The best seconds of both functions, called in turn: what else runs on the machine makes either worse."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, found in zip(functions, times, strict=True):
            gc.collect()  # each pays for its own garbage
            before = perf_counter()
            function(text, bank)
            found.append(perf_counter() - before)
    return [min(found) for found in times]


def main() -> int:
    """Print a table; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each log (default: 5)")
    options = parser.parse_args()
    own = own_parser()
    totals = [0.0, 0.0]
    count = 0
    print(f"{'log':52} {'bytes':>7} {'events':>6} {'Keylime':>9} {'measlog':>9} {'times':>6}")
    for name, log in typical_logs():
        text = base64.b64encode(log).decode()
        read = EventLog.from_bytes(log)
        bank = "sha256" if "sha256" in read.algorithms else read.algorithms[0]
        theirs, ours = values(own, text, bank), values(bootlog_parse, text, bank)
        if theirs is None:
            print(f"{name[:52]:52} {len(log):7} {len(read):6}   not read by Keylime")
            continue
        if ours != theirs and name not in WRONG:
            print(f"{name}: the values differ", file=sys.stderr)
            return 1
        medians = measure((own, bootlog_parse), text, bank, options.rounds)
        totals = [a + b for a, b in zip(totals, medians, strict=True)]
        count += 1
        row = f"{medians[0] * 1e3:6.1f} ms {medians[1] * 1e3:6.2f} ms {medians[0] / medians[1]:6.0f}"
        print(f"{name[:52]:52} {len(log):7} {len(read):6} {row}")
    ratio = totals[0] / totals[1] if count else 0.0
    print(f"all {count} logs: {ratio:.0f} times faster than Keylime's own parser; target {TARGET}")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
