"""Which registers a Flatcar manifest speaks for, and why not for the others."""

from __future__ import annotations

from collections.abc import Mapping

from measlog.reference.fields import FrozenMapping

__all__ = ["COVERS", "NOT_COVERED", "UNTOUCHED_MOK"]

COVERS: Mapping[int, str] = FrozenMapping(
    {
        4: "shim and GRUB; the kernel too where Secure Boot is on",
        8: "the commands of the embedded grub.cfg and the kernel command line",
        9: "the files that GRUB reads: the kernel, and nothing that is not on the image",
    }
)

UNTOUCHED_MOK = "shim's lists of keys where the machine's owner has enrolled none"
"""What is said of PCR 14 where shim's own part of it is known."""

NOT_COVERED: Mapping[int, str] = FrozenMapping(
    {
        0: "firmware code: the platform's",
        1: "firmware settings and boot options: the platform's",
        2: "option ROMs and their drivers: the platform's",
        3: "settings of option ROMs: the platform's",
        5: "the partition table's disk GUID and attributes change on each machine; the firmware's actions are the platform's",
        6: "vendor specific: the platform's",
        7: "Secure Boot keys are the platform's; what the image adds depends on which of them verified it",
        10: "IMA: written by the running system",
        11: "not extended when GRUB starts the kernel",
        12: "not extended when GRUB starts the kernel",
        13: "not extended when GRUB starts the kernel",
        14: "MokList and its relatives: the machine's owner decides them",
        15: "written by the running system",
        16: "resettable by anybody",
        17: "DRTM: not used",
        18: "DRTM: not used",
        19: "DRTM: not used",
        20: "DRTM: not used",
        21: "DRTM: not used",
        22: "DRTM: not used",
        23: "resettable by anybody",
    }
)
