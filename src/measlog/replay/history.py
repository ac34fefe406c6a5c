"""The value of a register after each event: what any register was at any place of a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from measlog.formats.framing import Row
from measlog.registry import ALGORITHMS_BY_NAME, EventType, hash_constructor
from measlog.replay.pcr import PCR_COUNT, start_value, startup_locality

__all__ = ["register_history"]

_RTMR_COUNT = 4
_NO_ACTION = EventType.EV_NO_ACTION.value


def register_history(
    data: bytes, rows: Sequence[Row], *, algorithm: str, column: int, kind: Literal["pcr", "rtmr"]
) -> list[bytes | None]:
    """For each event the value of its register in one bank once the event is extended.

    An event that extends nothing shows the value as it stands. ``None`` where the value cannot be known: where the event
    names no register, from the first event without a digest of the bank on, in PCR 0 where the startup locality is not
    credible, and everywhere where this Python cannot compute the hash.
    """
    new = hash_constructor(algorithm)
    known = ALGORITHMS_BY_NAME.get(algorithm)
    if new is None or known is None:
        return [None] * len(rows)
    limit = PCR_COUNT if kind == "pcr" else _RTMR_COUNT + 1
    states: dict[int, bytes | None] = {}
    if kind == "pcr":
        locality, problem = startup_locality(data, rows)
        if problem is not None:
            states[0] = None
        elif locality is not None:
            states[0] = start_value(0, known.size, locality=locality)
    else:
        states[0] = None  # MRTD: no event extends it
    found: list[bytes | None] = []
    for row in rows:
        if row.register >= limit:
            found.append(None)
            continue
        if row.register not in states:
            # RTMRs start at zero, as registers with these numbers do.
            states[row.register] = start_value(row.register, known.size, launched=row.type != _NO_ACTION)
        state = states[row.register]
        if row.type != _NO_ACTION and state is not None:
            digest = row.digests[column]
            state = states[row.register] = None if digest is None else new(state + digest).digest()
        found.append(state)
    return found
