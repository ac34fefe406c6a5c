"""GRUB's script language run over a model of the machine, with the measurements that GRUB makes.

The rules are those of GRUB 2.06 (Debian 12) and 2.12 with the Red Hat and Flatcar patches, read from their sources
and checked against the logs of real boots. Bytes in, values out: nothing is opened and nothing is executed.
"""

from __future__ import annotations

from measlog.flatcar.grub.builds import BUILDS, DEBIAN_2_06, FLATCAR_2_12, GrubBuild
from measlog.flatcar.grub.machine import run
from measlog.flatcar.grub.model import (
    DEFAULT_GRUB_LIMITS,
    Disk,
    GrubBoot,
    GrubEvent,
    GrubFile,
    GrubLimits,
    Machine,
    Outcome,
    Partition,
    replay,
)

__all__ = [
    "BUILDS",
    "DEBIAN_2_06",
    "DEFAULT_GRUB_LIMITS",
    "FLATCAR_2_12",
    "Disk",
    "GrubBoot",
    "GrubBuild",
    "GrubEvent",
    "GrubFile",
    "GrubLimits",
    "Machine",
    "Outcome",
    "Partition",
    "replay",
    "run",
]
