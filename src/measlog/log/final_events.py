"""EFI_TCG2_FINAL_EVENTS_TABLE (TCG EFI Protocol Specification, revision 13, clause 7): events after the log was read.

The firmware writes there what is measured once an operating system has asked for the log: as a rule the two events of
ExitBootServices. The kernel appends them; who reads log and table from elsewhere does it with this.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.framing import Row
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.log.eventlog import EventLog

__all__ = ["merge_final_events"]

CLAUSE = "TCG EFI Protocol r13, 7"
_HEADER = struct.Struct("<QQ")


def merge_final_events(log: EventLog, table: bytes, *, limits: Limits = DEFAULT_LIMITS) -> EventLog:
    """The log with the table's events after its own, filler left at the end.

    Firmware goes on writing the log too, so the table may begin with events that the log ends with: these are taken
    once. What follows the table's last event must be events or filler, and is not read. The register values that replay then gives are those of a machine whose kernel did the same.

    :raises FormatError: a table of another version, with fewer events than it says, or for a log in the SHA-1 format.
    """
    if log.kind == "sha1":
        raise UnsupportedError("a log in the SHA-1 format has no table of final events", clause=CLAUSE)
    if len(table) < _HEADER.size:
        raise TruncatedError(f"{len(table)} bytes are no table", offset=0, path="final_events", clause=CLAUSE)
    version, number = _HEADER.unpack_from(table)
    if version != 1:
        raise UnsupportedError(f"version {version}", offset=0, path="final_events.Version", clause=CLAUSE)
    if number > limits.events:
        message = f"{number} events, the limit is {limits.events}"
        raise LimitExceededError(message, offset=8, path="final_events.NumberOfEvents", clause=CLAUSE)
    data = log.to_bytes()
    head = data[: _starts(log)[0]]
    try:
        # The table's events have the layout that the log's header declares.
        tail = EventLog.from_bytes(head + table[_HEADER.size :], limits=limits)
    except FormatError as error:
        raise error.inside("final_events", _HEADER.size - len(head)) from None
    starts = [start - len(head) + _HEADER.size for start in _starts(tail)]
    if len(starts) - 1 < number:
        message = f"{number} events, {len(starts) - 1} are there"
        raise TruncatedError(message, offset=8, path="final_events.NumberOfEvents", clause=CLAUSE)
    found = [table[start:end] for start, end in pairwise(starts[: number + 1])]
    own = _starts(log)
    known = [data[start:end] for start, end in pairwise(own)]
    repeated = _overlap(known, found)
    merged = data[: own[-1]] + b"".join(found[repeated:]) + data[own[-1] :]
    return EventLog.from_bytes(merged, limits=limits)


def _overlap(known: list[bytes], found: list[bytes]) -> int:
    """Most elements that ``known`` ends with and ``found`` begins with, in time linear in both (Knuth, Morris, Pratt)."""
    joined: list[bytes | None] = [*found, None, *known[-len(found) :]] if found else []
    lengths = [0] * len(joined)
    for index in range(1, len(joined)):
        size = lengths[index - 1]
        while size and joined[index] != joined[size]:
            size = lengths[size - 1]
        lengths[index] = size + 1 if joined[index] == joined[size] else size
    return lengths[-1] if lengths else 0


def _starts(log: EventLog) -> list[int]:
    """Where the events after the header start, and where the last one ends; offsets in bytes."""
    rows: tuple[Row, ...] = log.rows
    spec_id = log.spec_id
    assert spec_id is not None
    if len(rows) > 1:
        first = rows[1].offset
    else:
        # Vendor information may lie outside of the header's event.
        inside = rows[0].data_end - rows[0].data_start
        needed = 16 + 12 + 4 * len(spec_id.algorithms) + 1 + len(spec_id.vendor_info)
        first = rows[0].data_start + max(inside, needed)
    return [first, *(row.data_end for row in rows[1:])]
