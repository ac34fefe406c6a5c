"""``gptprio.next``: which USR partition to boot (commands/gptprio.c of CoreOS and Flatcar)."""

from __future__ import annotations

from uuid import UUID

from measlog.flatcar.grub.engine import Engine
from measlog.flatcar.grub.model import Partition
from measlog.flatcar.grub.options import Parsed
from measlog.flatcar.grub.status import Status

__all__ = ["USR_TYPE", "gptprio_next", "priority", "successful", "tries_left", "with_tries"]

USR_TYPE = UUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6")
"""The type GUID of USR partitions."""


def priority(attributes: int) -> int:
    """Bits 48 to 51."""
    return attributes >> 48 & 0xF


def tries_left(attributes: int) -> int:
    """Bits 52 to 55."""
    return attributes >> 52 & 0xF


def successful(attributes: int) -> bool:
    """Bit 56."""
    return bool(attributes >> 56 & 1)


def with_tries(attributes: int, tries: int) -> int:
    """The attributes with another number of tries."""
    return attributes & ~(0xF << 52) | tries << 52


def gptprio_next(engine: Engine, parsed: Parsed) -> int:
    """Choose the USR partition of the highest priority above 0 that has tries left or was successful.

    Its tries are counted down on the disk, even where it was successful. Among equals the lowest number wins.
    """
    device, uuid = parsed.last("device"), parsed.last("uuid")
    if device is None or uuid is None:
        return Status.INVALID_COMMAND
    if len(parsed.rest) > 1:
        return Status.BAD_ARGUMENT
    name = parsed.rest[0] if parsed.rest else engine.environment.get(b"root") or b""
    found = engine.devices.open(name.partition(b",")[0])
    if isinstance(found, Status):
        return found
    if found.disk is None:
        return Status.BAD_PART_TABLE
    chosen: Partition | None = None
    best = 0
    for partition in sorted(found.disk.partitions, key=lambda p: p.number):
        bits = engine.attributes.get((found.disk.name, partition.number), partition.attributes)
        usable = tries_left(bits) or successful(bits)
        if partition.type_guid == USR_TYPE and usable and priority(bits) > best:
            chosen, best = partition, priority(bits)
    if chosen is None:
        return Status.UNKNOWN_DEVICE
    key = found.disk.name, chosen.number
    bits = engine.attributes.get(key, chosen.attributes)
    if tries_left(bits):
        engine.attributes[key] = with_tries(bits, tries_left(bits) - 1)
    engine.environment.set(device, b"%s,gpt%d" % (found.disk.name, chosen.number))
    engine.environment.set(uuid, str(chosen.guid).encode())
    return 0
