"""Reading the logs that the running system keeps beside the firmware's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def read_further(
    paths: Mapping[str, str], bank: str = "sha256", pcrs: Mapping[int, bytes] | None = None
) -> Mapping[str, Sequence[FurtherRecord]]:
    """The records of further logs, by source.

    IMA goes on measuring while its log is read: of that, the entries up to where its register has the value in ``pcrs``,
    if there is one and the log comes to it.
    """
    made: dict[str, Sequence[FurtherRecord]] = {}
    for source, path in paths.items():
        data = read(path, DEFAULT_LIMITS.log_size)
        with about(path):
            made[source] = (
                _quoted_part(read_ima(data), bank, pcrs or {}) if source == "ima" else read_userspace_log(data)
            )
    return made


def _quoted_part(log: ImaLog, bank: str, pcrs: Mapping[int, bytes]) -> Sequence[FurtherRecord]:
    from measlog.interop.ima import IMA_PCR

    value = pcrs.get(IMA_PCR)
    count = None if value is None or bank not in log.extends else log.entries_until(bank, value)
    return log if count is None else log[:count]


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


def join_userspace(log: EventLog, userspace_log: str | None) -> JoinedLog:
    """The firmware's log with systemd's behind it, where a file of that is given."""
    if userspace_log is None:
        return JoinedLog(firmware=log)
    further = read_further({"systemd": userspace_log})
    with about(userspace_log):
        return JoinedLog.of(log, further)
