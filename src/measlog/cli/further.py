"""Reading the logs that the running system keeps beside the firmware's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from measlog.cli.errors import about
from measlog.cli.files import read
from measlog.interop.systemdlog import read_userspace_log
from measlog.limits import DEFAULT_LIMITS
from measlog.log import EventLog, FurtherRecord, JoinedLog

__all__ = ["FURTHER", "join_userspace", "read_further"]

FURTHER: Mapping[str, tuple[str, Callable[[bytes], Sequence[FurtherRecord]]]] = {
    "systemd": ("tpm2-measure.log", read_userspace_log),
}
"""The logs that the running system keeps, by source: the file's name in an evidence folder, and its reader."""


def read_further(paths: Mapping[str, str]) -> Mapping[str, Sequence[FurtherRecord]]:
    """The records of further logs, by source."""
    made = {}
    for source, path in paths.items():
        data = read(path, DEFAULT_LIMITS.log_size)
        with about(path):
            made[source] = FURTHER[source][1](data)
    return made


def join_userspace(log: EventLog, userspace_log: str | None) -> JoinedLog:
    """The firmware's log with systemd's behind it, where a file of that is given."""
    if userspace_log is None:
        return JoinedLog(firmware=log)
    further = read_further({"systemd": userspace_log})
    with about(userspace_log):
        return JoinedLog.of(log, further)
