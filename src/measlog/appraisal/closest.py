"""Which of several predicted boots a log comes closest to. It chooses what a reader is shown; it is no verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from measlog.flatcar.boot import PredictedBoot
from measlog.log import EventLog
from measlog.registry import EventType

__all__ = ["closest_boot"]

_REGISTERS = (4, 8, 9, 14)


def closest_boot(log: EventLog, boots: Iterable[PredictedBoot], *, bank: str = "sha256") -> PredictedBoot | None:
    """The boot that shares most events with the log in registers 4, 8, 9 and 14 and has fewest that the log lacks.

    Of boots that come equally close the first; ``None`` where there is none that knows the bank.
    """
    measured: dict[int, Counter[bytes]] = {pcr: Counter() for pcr in _REGISTERS}
    for event in log:
        digest = event.digests.get(bank)
        if event.pcr in measured and digest is not None and event.type is not EventType.EV_NO_ACTION:
            measured[event.pcr][digest] += 1
    candidates = [boot for boot in boots if bank in boot.pcrs]
    return max(candidates, key=lambda boot: _score(measured, boot, bank), default=None)


def _score(measured: dict[int, Counter[bytes]], boot: PredictedBoot, bank: str) -> int:
    score = 0
    for pcr, found in measured.items():
        if pcr in boot.unknown:
            continue
        expected = Counter(event.digests.get(bank, b"") for event in boot.of(pcr))
        shared = (found & expected).total()
        score += 2 * shared - expected.total()
    return score
