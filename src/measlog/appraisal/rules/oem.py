"""An operator's own settings in the OEM ``grub.cfg``, as the log shows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from measlog.errors import MeaslogError
from measlog.flatcar.boot import oem_script

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.paths import Candidate, Following

__all__ = ["OEM_FILE", "listed", "operator_settings"]

OEM_FILE = b"(hd0,gpt6)/grub.cfg"
# What an OEM configuration is there to set (Flatcar's grub.cfg); anything else changes more than arguments.
_VARIABLES = frozenset({b"linux_append", b"linux_console", b"oem_id"})
_SETTING = re.compile(rb"grub_cmd: set ([a-z_]+)=(.*)\0", re.DOTALL)
_SOURCE = b"grub_cmd: source " + OEM_FILE + b"\0"
_MAX_SETTINGS = 64
_MAX_VALUE = 4096
"""No kernel is given more: twice what Linux keeps."""


def operator_settings(
    case: Case, candidate: Candidate, followings: Sequence[Following], admitted: Callable[[bytes, bytes], bool]
) -> bytes | None:
    """A script that does what the log says the OEM ``grub.cfg`` did, or ``None`` where that is not admitted.

    Everything that a sourced file runs is in PCR 8, function bodies included, so settings that are recorded one after
    another are all that happened; they may come behind a file that the policy names, which the candidate has. The boot
    is then predicted with this script and compared as a whole: what is taken from the log here is a hypothesis, not a
    result. ``admitted`` is asked for each variable and its value.
    """
    diverged = next((f.divergence for f in followings if f.pcr == 8), None)
    if diverged is None or diverged.observed is None or diverged.expected is None:
        return None
    history = case.history(8)
    start = history.index(diverged.observed)
    if candidate.oem is None:
        if not _says(case, diverged.observed, _SOURCE):
            return None
        start += 1
    rest = {e.digests.get(case.bank) for e in candidate.expected(8)[diverged.position :]}
    settings: list[bytes] = []
    for measured in history[start : start + _MAX_SETTINGS]:
        match = _SETTING.fullmatch(measured.event.raw)
        if match is None or not _says(case, measured, measured.event.raw):
            break
        name, value = match.groups()
        if name not in _VARIABLES or len(value) > _MAX_VALUE or not admitted(name, value):
            if measured.digest not in rest:
                return None
            break
        settings.append(b"set " + name + b"=" + value)
    return _script(candidate.oem, settings)


def _script(oem: bytes | None, settings: Sequence[bytes]) -> bytes | None:
    try:
        script = oem_script(settings)
    except MeaslogError:
        return None
    return (script or b"\n") if oem is None else oem + b"\n" + script


def _says(case: Case, measured: Measured, raw: bytes) -> bool:
    """Whether the event has this text and its digest covers it."""
    return measured.event.raw == raw and measured.event.check(case.bank).status == "matches"


def listed(name: bytes, value: bytes, allowed: tuple[str, ...]) -> bool:
    """Whether each argument that the variable gives is one of ``allowed``."""
    if name == b"oem_id":
        return f"flatcar.oem.id={value.decode('utf-8', 'replace')}" in allowed
    return all(argument.decode("utf-8", "replace") in allowed for argument in value.split())
