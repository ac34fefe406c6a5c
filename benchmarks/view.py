"""What an analyst waits for: a summary and a report of a log of 5,000 events, and its frame.

Run ``python -m benchmarks.view``; the exit status is 1 where a target is missed. Each round uses a log that was just
read, so that nothing is decoded beforehand. Processor time is taken, because others use the machine too; the best round
is compared with the target, the median is printed too.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time

import measlog as ml
from measlog.appraisal.closest import closest_boot
from measlog.appraisal.diff import diff
from measlog.formats.pfp import LogEvent, build_log
from measlog.reference.manifest import ReferenceManifest
from measlog.reference.signing import Envelope
from measlog.registry import EventType, hash_constructor
from measlog.view.report import Report, report_page

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "flatcar-lab-good"
EVENTS = 5000
ROUNDS = 5
BANKS = ("sha1", "sha256", "sha384")


def big_log() -> bytes:
    """The capture's events, and behind them as many GRUB commands as it takes; each command is another."""
    log = ml.EventLog.from_bytes((FIXTURES / "binary_bios_measurements").read_bytes())
    events = [LogEvent(e.register.index, e.type, e.digests, e.raw) for e in log if e.index]
    for number in range(EVENTS - len(log)):
        text = f"set variable_{number}=rootflags=rw mount.usrflags=ro consoleblank=0".encode()
        digests = {}
        for bank in BANKS:
            new = hash_constructor(bank)
            assert new is not None
            digests[bank] = new(text).digest()
        events.append(LogEvent(8, EventType.EV_IPL, digests, b"grub_cmd: " + text + b"\0"))
    return build_log(events, algorithms=BANKS)


def manifest() -> ReferenceManifest:
    """The capture's manifest."""
    return ReferenceManifest.from_json(Envelope.from_bytes((FIXTURES / "manifest.dsse.json").read_bytes()).payload)


def report(log: ml.EventLog, quote: ml.Quote, boots: list[ml.flatcar.PredictedBoot]) -> str:
    """A report with the difference from the closest boot."""
    boot = closest_boot(log, boots)
    found = None if boot is None else diff(log, boot)
    return report_page(Report(title="5000", log=log, quote=quote, bank="sha256", boot=found, boot_name="closest"))


def main() -> int:
    """Print a table; 1 where a target is missed."""
    data = big_log()
    quote = ml.Quote.from_bytes((FIXTURES / "quote.msg").read_bytes(), (FIXTURES / "quote.sig").read_bytes())
    boots = ml.flatcar.predict(manifest())
    work: dict[str, tuple[Callable[[ml.EventLog], object], float, int | None]] = {
        "HTML summary": (lambda log: log._repr_html_(), 300, 1_000_000),
        "report": (lambda log: report(log, quote, boots), 2000, None),
        "Arrow table": (lambda log: log.to_arrow(), 1000, None),
        "text": (str, 1000, None),
    }
    missed = False
    print(f"{EVENTS} events, {len(data)} bytes")
    for name, (make, target, limit) in work.items():
        times, size = [], 0
        for _ in range(ROUNDS):
            log = ml.EventLog.from_bytes(data)
            before = process_time()
            made = make(log)
            times.append(1000 * (process_time() - before))
            size = len(made.encode()) if isinstance(made, str) else 0
        missed |= min(times) > target or (limit is not None and size > limit)
        bound = f", target {limit}" if limit is not None else ""
        shown = f", {size} bytes{bound}" if size else ""
        print(
            f"{name:14} best {min(times):7.1f} ms, median {statistics.median(times):7.1f} ms, target {target} ms{shown}"
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
