"""Windows' measured boot events (SIPA, in the WBCL): trees of tagged values within EV_EVENT_TAG.

Source: wbcl.h of the Windows SDK. The digest of the event is that of the whole tree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from attrs import frozen

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor
from measlog.records.base import Record
from measlog.records.text import read_any

__all__ = ["SIPA_NAMES", "SipaEvent", "is_sipa", "read_sipa", "read_trust_point"]

CLAUSE = "wbcl.h"
_HEADER = struct.Struct("<II")
_CLASS_MASK = 0x000F0000
_CONTAINER = 0x00010000
_KNOWN_CLASSES = range(0x1, 0xD)


@frozen(kw_only=True)
class SipaEvent(Record):
    """One SIPA event: ``children`` of an aggregation, ``data`` of any other. Numbers are little-endian."""

    type: int
    data: bytes = b""
    children: tuple[SipaEvent, ...] = ()

    @property
    def name(self) -> str:
        """Its name in wbcl.h without ``SIPAEVENT_``, or the number in hex."""
        return SIPA_NAMES.get(self.type, f"0x{self.type:08x}")

    @property
    def container(self) -> bool:
        """Whether it holds other events."""
        return self.type & _CLASS_MASK == _CONTAINER

    @property
    def value(self) -> bool | int | str | bytes:
        """``data`` as its size and name suggest: text for names and paths, numbers of 1, 2, 4 or 8 bytes, or bytes."""
        if self.name in _TEXTS and len(self.data) % 2 == 0:
            return self.data.decode("utf-16-le", "surrogatepass").rstrip("\0")
        if self.name.endswith(_BYTES):
            return self.data
        if len(self.data) == 1 and self.name not in _NUMBERS:
            return self.data[0] != 0 if self.data[0] <= 1 else self.data[0]
        if len(self.data) in {1, 2, 4, 8}:
            return int.from_bytes(self.data, "little")
        return self.data

    def walk(self) -> Iterator[SipaEvent]:
        """This event and all below it, in the order of the log."""
        yield self
        for child in self.children:
            yield from child.walk()

    def _body(self) -> bytes:
        data = b"".join([child.to_bytes() for child in self.children]) if self.container else self.data
        return _HEADER.pack(self.type, len(data)) + data


def is_sipa(number: int) -> bool:
    """Whether a tag's id has the shape of a SIPA event's type."""
    flags, group = number >> 20, (number & _CLASS_MASK) >> 16
    return flags in {0x000, 0x400, 0x800, 0xC00} and group in _KNOWN_CLASSES and 0 < number & 0xFFFF < 0x100


def read_sipa(cursor: Cursor) -> SipaEvent:
    """One event and what it holds; :meth:`Cursor.inside` bounds nesting and the number of events (A33).

    :raises FormatError: sizes that do not fit, or nesting too deep.
    """
    cursor.clause = CLAUSE
    kind = cursor.u32("type")
    size = cursor.u32("size")
    if kind & _CLASS_MASK != _CONTAINER:
        return SipaEvent(type=kind, data=cursor.take("data", size))
    inner = cursor.inside("children", size)
    children: list[SipaEvent] = []
    while inner.remaining:
        start = inner.pos
        if inner.remaining < _HEADER.size:
            raise inner.error(f"{inner.remaining} bytes left are no event", f"[{len(children)}]")
        length = _HEADER.unpack_from(inner.data, start)[1]
        children.append(read_sipa(inner.inside(f"[{len(children)}]", _HEADER.size + length)))
    return SipaEvent(type=kind, children=tuple(children))


def read_trust_point(cursor: Cursor) -> Record:
    """What Windows logs on register 0xFFFFFFFF: a tree with a quote. One that is cut is kept as text or bytes."""
    start = cursor.pos
    try:
        record = read_sipa(cursor)
    except FormatError:
        cursor.pos = start
        cursor.spans.clear()
        return read_any(cursor)
    return SipaEvent(type=record.type, data=record.data, children=record.children, **cursor.finish())


SIPA_NAMES: Mapping[int, str] = MappingProxyType(
    {
        0x40010001: "TRUSTBOUNDARY",
        0x40010002: "ELAM_AGGREGATION",
        0x40010003: "LOADEDMODULE_AGGREGATION",
        0xC0010004: "TRUSTPOINT_AGGREGATION",
        0x40010005: "KSR_AGGREGATION",
        0x40010006: "KSR_SIGNED_MEASUREMENT_AGGREGATION",
        0x00020001: "INFORMATION",
        0x00020002: "BOOTCOUNTER",
        0x00020003: "TRANSFER_CONTROL",
        0x00020004: "APPLICATION_RETURN",
        0x00020005: "BITLOCKER_UNLOCK",
        0x00020006: "EVENTCOUNTER",
        0x00020007: "COUNTERID",
        0x00020008: "MORBIT_NOT_CANCELABLE",
        0x00020009: "APPLICATION_SVN",
        0x0002000A: "SVN_CHAIN_STATUS",
        0x0002000B: "MORBIT_API_STATUS",
        0x00040001: "BOOTDEBUGGING",
        0x00040002: "BOOT_REVOCATION_LIST",
        0x00050001: "OSKERNELDEBUG",
        0x00050002: "CODEINTEGRITY",
        0x00050003: "TESTSIGNING",
        0x00050004: "DATAEXECUTIONPREVENTION",
        0x00050005: "SAFEMODE",
        0x00050006: "WINPE",
        0x00050007: "PHYSICALADDRESSEXTENSION",
        0x00050008: "OSDEVICE",
        0x00050009: "SYSTEMROOT",
        0x0005000A: "HYPERVISOR_LAUNCH_TYPE",
        0x0005000B: "HYPERVISOR_PATH",
        0x0005000C: "HYPERVISOR_IOMMU_POLICY",
        0x0005000D: "HYPERVISOR_DEBUG",
        0x0005000E: "DRIVER_LOAD_POLICY",
        0x0005000F: "SI_POLICY",
        0x00050010: "HYPERVISOR_MMIO_NX_POLICY",
        0x00050011: "HYPERVISOR_MSR_FILTER_POLICY",
        0x00050012: "VSM_LAUNCH_TYPE",
        0x00050013: "OS_REVOCATION_LIST",
        0x00050020: "VSM_IDK_INFO",
        0x00050021: "FLIGHTSIGNING",
        0x00050022: "PAGEFILE_ENCRYPTION_ENABLED",
        0x00050023: "VSM_IDKS_INFO",
        0x00050024: "HIBERNATION_DISABLED",
        0x00050025: "DUMPS_DISABLED",
        0x00050026: "DUMP_ENCRYPTION_ENABLED",
        0x00050027: "DUMP_ENCRYPTION_KEY_DIGEST",
        0x00050028: "LSAISO_CONFIG",
        0x00060001: "NOAUTHORITY",
        0x00060002: "AUTHORITYPUBKEY",
        0x00070001: "FILEPATH",
        0x00070002: "IMAGESIZE",
        0x00070003: "HASHALGORITHMID",
        0x00070004: "AUTHENTICODEHASH",
        0x00070005: "AUTHORITYISSUER",
        0x00070006: "AUTHORITYSERIAL",
        0x00070007: "IMAGEBASE",
        0x00070008: "AUTHORITYPUBLISHER",
        0x00070009: "AUTHORITYSHA1THUMBPRINT",
        0x0007000A: "IMAGEVALIDATED",
        0x0007000B: "MODULE_SVN",
        0x80080001: "QUOTE",
        0x80080002: "QUOTESIGNATURE",
        0x80080003: "AIKID",
        0x80080004: "AIKPUBDIGEST",
        0x00090001: "ELAM_KEYNAME",
        0x00090002: "ELAM_CONFIGURATION",
        0x00090003: "ELAM_POLICY",
        0x00090004: "ELAM_MEASURED",
        0x000A0001: "VBS_VSM_REQUIRED",
        0x000A0002: "VBS_SECUREBOOT_REQUIRED",
        0x000A0003: "VBS_IOMMU_REQUIRED",
        0x000A0004: "VBS_MMIO_NX_REQUIRED",
        0x000A0005: "VBS_MSR_FILTERING_REQUIRED",
        0x000A0006: "VBS_MANDATORY_ENFORCEMENT",
        0x000A0007: "VBS_HVCI_POLICY",
        0x000A0008: "VBS_MICROSOFT_BOOT_CHAIN_REQUIRED",
        0x000B0001: "KSR_SIGNATURE",
    }
)
"""SIPAEVENT_* numbers whose meaning is published; others keep their number and their bytes."""

_TEXTS = frozenset(
    {"FILEPATH", "SYSTEMROOT", "HYPERVISOR_PATH", "AUTHORITYISSUER", "AUTHORITYPUBLISHER", "ELAM_KEYNAME", "AIKID"}
)
_BYTES = ("HASH", "DIGEST", "THUMBPRINT", "SERIAL", "PUBKEY", "QUOTE", "SIGNATURE")
_NUMBERS = frozenset({"BITLOCKER_UNLOCK", "TRANSFER_CONTROL"})
