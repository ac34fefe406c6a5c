"""Bounds on what the readers accept, so that hostile bytes cost little."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, instance_of
from attrs.validators import ge as at_least

__all__ = ["DEFAULT_LIMITS", "Limits"]


def _count(default: int) -> int:
    value: int = field(default=default, validator=and_(instance_of(int), at_least(1)))
    return value


@frozen(kw_only=True)
class Limits:
    """Upper bounds; a reader that meets more raises :class:`measlog.errors.LimitExceededError`.

    Sizes are in bytes. The defaults are several times what any log seen in practice needs.
    """

    log_size: int = _count(64 << 20)
    events: int = _count(32_768)
    records: int = _count(1 << 20)
    """Entries of an IMA log, records of a Canonical Event Log: these grow for as long as a machine runs."""
    event_size: int = _count(16 << 20)
    algorithms: int = _count(16)
    depth: int = _count(16)
    """Nesting of structures within structures (SIPA trees, device paths, OCTET tables)."""
    items: int = _count(65_536)
    """Elements of one list within an event (signatures, partitions, table entries)."""
    pe_sections: int = _count(512)
    fat_files: int = _count(65_536)
    file_size: int = _count(512 << 20)
    """One file on a disk image (kernel, initrd, boot loader)."""
    kernel_size: int = _count(256 << 20)
    """A kernel when it is unpacked to look for its configuration."""
    partitions: int = _count(1024)
    image_size: int = _count(64 << 30)
    """A disk image when it is unpacked."""


DEFAULT_LIMITS = Limits()
