"""An operator's own settings in the OEM ``grub.cfg``, as the log shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from measlog.errors import MeaslogError
from measlog.flatcar.boot import oem_script

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.paths import Candidate, Following

__all__ = ["OEM_FILE", "operator_settings"]

OEM_FILE = b"(hd0,gpt6)/grub.cfg"
# What an OEM configuration is there to set (Flatcar's grub.cfg); anything else changes more than arguments.
_VARIABLES = frozenset({b"linux_append", b"linux_console", b"oem_id"})
_SETTING = re.compile(rb"grub_cmd: set ([a-z_]+)=(.*)\0", re.DOTALL)
_SOURCE = b"grub_cmd: source " + OEM_FILE + b"\0"
_MAX_SETTINGS = 64


def operator_settings(
    case: Case, candidate: Candidate, followings: Sequence[Following], allowed: tuple[str, ...]
) -> bytes | None:
    """A script that does what the log says the OEM ``grub.cfg`` did, or ``None`` where that is not admitted.

    Everything that a sourced file runs is in PCR 8, function bodies included, so settings that are recorded one after
    another are all that happened. The boot is then predicted with this script and compared as a whole: what is taken
    from the log here is a hypothesis, not a result. Arguments must be among ``allowed``.
    """
    diverged = next((f.divergence for f in followings if f.pcr == 8), None)
    if diverged is None or diverged.observed is None or diverged.expected is None:
        return None
    history = case.history(8)
    start = history.index(diverged.observed)
    if not _says(case, diverged.observed, _SOURCE):
        return None
    rest = {e.digests.get(case.bank) for e in candidate.expected(8)[diverged.position :]}
    settings: list[bytes] = []
    for measured in history[start + 1 : start + 1 + _MAX_SETTINGS]:
        match = _SETTING.fullmatch(measured.event.raw)
        if match is None or not _says(case, measured, measured.event.raw):
            break
        name, value = match.groups()
        if name not in _VARIABLES or not _admitted(name, value, allowed):
            return None if measured.digest not in rest else _script(settings)
        settings.append(b"set " + name + b"=" + value)
    return _script(settings)


def _script(settings: Sequence[bytes]) -> bytes | None:
    try:
        return oem_script(settings) or b"\n"
    except MeaslogError:
        return None


def _says(case: Case, measured: Measured, raw: bytes) -> bool:
    """Whether the event has this text and its digest covers it."""
    return measured.event.raw == raw and measured.event.check(case.bank).status == "matches"


def _admitted(name: bytes, value: bytes, allowed: tuple[str, ...]) -> bool:
    if name == b"oem_id":
        return f"flatcar.oem.id={value.decode('utf-8', 'replace')}" in allowed
    return all(argument.decode("utf-8", "replace") in allowed for argument in value.split())
