"""What parsing a log costs a Keylime verifier: measlog's ``bootlog_parse`` beside Keylime's own.

Keylime's own writes the log to a file, runs ``tpm2_eventlog`` and reads the YAML that it prints; both get the log in
base64 and give register values, boot aggregates and the log for the evaluation. For each log one parser is timed after
the other, as a verifier has one of them; with ``--in-turn`` they take turns, and each finds the caches of the processor as
the other left them. Beside the seconds that pass, in which a busy machine makes Keylime wait for its process, stand those
that the processors work, the process included: the target is for the medians of these.

Needs the extra ``keylime`` and tpm2-tools. Run ``python -m benchmarks.keylime``; the exit status is 1 where the two
disagree on a log that Keylime reads rightly, or where all logs together are not parsed as many times faster as the target
says.
"""

from __future__ import annotations

import argparse
import base64
import gc
import logging
import resource
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from benchmarks.read import ROOT, typical_logs
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


class Spent(NamedTuple):
    """Seconds of one call."""

    passed: float
    worked: float


def spend(function: Parse, text: str, bank: str) -> Spent:
    """One call, timed."""
    gc.collect()  # each pays for its own garbage
    worked, passed = _worked(), perf_counter()
    function(text, bank)
    return Spent(perf_counter() - passed, _worked() - worked)


def _worked() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(functions: tuple[Parse, Parse], text: str, bank: str, rounds: int, *, in_turn: bool) -> list[list[Spent]]:
    """The calls of both functions, as many as there are rounds."""
    if in_turn:
        pairs = [[spend(function, text, bank) for function in functions] for _ in range(rounds)]
        return [list(calls) for calls in zip(*pairs, strict=True)]
    return [[spend(function, text, bank) for _ in range(rounds)] for function in functions]


def main() -> int:
    """Print a table; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each log (default: 5)")
    parser.add_argument("--in-turn", action="store_true", help="let the parsers take turns, call by call")
    options = parser.parse_args()
    own = own_parser()
    corpus = {path.stem for path in (ROOT.parent / "shared").glob("corpus/logs/*.bin")}
    groups: dict[str, list[list[list[Spent]]]] = {"corpus": [], "captures": []}
    logs = typical_logs()
    gc.collect()
    gc.freeze()  # so that the collection before each call does not walk through all that is loaded
    print(f"{'log':52} {'bytes':>7} {'events':>6} {'Keylime':>9} {'measlog':>9} {'times':>6}")
    for name, log in logs:
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
        calls = measure((own, bootlog_parse), text, bank, options.rounds, in_turn=options.in_turn)
        groups["corpus" if name in corpus else "captures"].append(calls)
        medians = [median(call.worked for call in one) for one in calls]
        row = f"{medians[0] * 1e3:6.1f} ms {medians[1] * 1e3:6.2f} ms {medians[0] / medians[1]:6.0f}"
        print(f"{name[:52]:52} {len(log):7} {len(read):6} {row}")
    everything = [calls for group in groups.values() for calls in group]
    for group, found in (*groups.items(), ("all", everything)):
        if found:
            told = ", ".join(
                f"{how} {_ratio(found, pick, which):.0f} ({named})"
                for how, pick in (("medians", median), ("best", min))
                for which, named in enumerate(("passed", "worked"))
            )
            print(f"{group}, {len(found)} logs, times faster than Keylime's own parser: {told}")
    return 0 if everything and _ratio(everything, median, 1) >= TARGET else 1


def _ratio(found: list[list[list[Spent]]], pick: Callable[[list[float]], float], which: int) -> float:
    """How many times longer Keylime's calls take, over all logs of ``found``."""
    theirs, ours = (sum(pick([call[which] for call in calls[one]]) for calls in found) for one in (0, 1))
    return theirs / ours


if __name__ == "__main__":
    sys.exit(main())
