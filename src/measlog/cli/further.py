"""Reading the logs that the running system keeps beside the firmware's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from measlog.cli.errors import about
from measlog.cli.files import read
from measlog.interop.systemdlog import read_userspace_log
from measlog.limits import DEFAULT_LIMITS
from measlog.log import EventLog, FurtherRecord, JoinedLog

if TYPE_CHECKING:
    from measlog.interop.ima import Extends, ImaLog

__all__ = ["IN_FOLDERS", "join_userspace", "read_further", "read_ima"]

IN_FOLDERS: Mapping[str, str] = {"systemd": "tpm2-measure.log"}
"""The logs of the running system that an evidence folder may hold: the file's name by source."""


def read_further(paths: Mapping[str, str]) -> Mapping[str, Sequence[FurtherRecord]]:
    """The records of further logs, by source."""
    made = {}
    for source, path in paths.items():
        data = read(path, DEFAULT_LIMITS.log_size)
        with about(path):
            made[source] = _READERS[source](data)
    return made


def read_ima(
    data: bytes,
    banks: Sequence[str] = ("sha1", "sha256", "sha384", "sha512"),
    *,
    template_hash: str = "sha1",
    extends: Mapping[str, Extends] | None = None,
) -> ImaLog:
    """IMA's log, binary or ascii; ``template_hash`` is that of a binary one."""
    from measlog.interop.ima import ImaLog

    # The number of a register, of four bytes, has zeros in it; text has none.
    if b"\0" in data[:4] or not data:
        return ImaLog.from_bytes(data, template_hash=template_hash, banks=banks, extends=extends)
    return ImaLog.from_ascii(data, banks=banks, extends=extends)


_READERS: Mapping[str, Callable[[bytes], Sequence[FurtherRecord]]] = {"systemd": read_userspace_log, "ima": read_ima}


def join_userspace(log: EventLog, userspace_log: str | None) -> JoinedLog:
    """The firmware's log with systemd's behind it, where a file of that is given."""
    if userspace_log is None:
        return JoinedLog(firmware=log)
    further = read_further({"systemd": userspace_log})
    with about(userspace_log):
        return JoinedLog.of(log, further)
