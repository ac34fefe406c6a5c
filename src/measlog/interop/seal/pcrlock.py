"""Component files for systemd-pcrlock."""

from __future__ import annotations

import re
from collections.abc import Sequence

from measlog.errors import PolicyError
from measlog.flatcar.boot import PredictedBoot
from measlog.interop.pcrlock import BANKS, PcrlockRecord, write_component
from measlog.registry import ALGORITHMS_BY_NAME

__all__ = ["COMPONENT", "pcrlock_components"]

COMPONENT = "600-flatcar-boot"
"""The component's name; components are put in the order of their names."""


def pcrlock_components(
    boots: Sequence[PredictedBoot],
    pcrs: Sequence[int],
    *,
    component: str = COMPONENT,
    banks: Sequence[str] = ("sha256",),
) -> dict[str, bytes]:
    """Component files by their path below ``/var/lib/pcrlock.d``: one variant a boot, with all events of ``pcrs``.

    Raises PolicyError for a register whose events are not all known. Boots with the same events make one variant.
    """
    if not boots or not pcrs:
        raise PolicyError("nothing to seal to: boots and registers are needed")
    unknown = set(banks) - set(BANKS) | (set(banks) - set(ALGORITHMS_BY_NAME))
    if unknown or not banks:
        raise PolicyError(f"systemd-pcrlock does not take the banks {sorted(unknown)}")
    made: dict[bytes, str] = {}
    for boot in boots:
        for pcr in sorted(set(pcrs)):
            if pcr in boot.unknown or not all(bank in boot.pcrs and pcr in boot.pcrs[bank] for bank in banks):
                raise PolicyError(f"{boot.name}: register {pcr} is not known: {boot.unknown.get(pcr, 'no digest')}")
        # systemd-pcrlock finds a component in a log by its records in the order of the log, across registers.
        records = [
            PcrlockRecord(pcr=event.pcr, digests={bank: event.digests[bank] for bank in banks})
            for event in boot.events
            if event.pcr in pcrs
        ]
        if not records:
            raise PolicyError(f"{boot.name}: no event in the registers {sorted(set(pcrs))}")
        made.setdefault(write_component(records), _slug(boot.name))
    if len(made) == 1:
        return {f"{component}.pcrlock": next(iter(made))}
    files: dict[str, bytes] = {}
    for content, name in made.items():
        path = f"{component}.pcrlock.d/{name}.pcrlock"
        if path in files:
            path = f"{component}.pcrlock.d/{name}-{len(files)}.pcrlock"
        files[path] = content
    return files


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
