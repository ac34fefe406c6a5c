"""Intel TXT and Secure Launch: event types that a dynamic launch extends into registers 17 to 22."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.formats.cursor import Cursor
from measlog.records.base import Record
from measlog.records.text import read_any

__all__ = ["TXT_EVENT_TYPES", "TxtEvent", "read_txt"]

TXT_EVENT_TYPES: Mapping[int, str] = MappingProxyType(
    {
        0x401: "EVTYPE_PCRMAPPING",
        0x402: "EVTYPE_HASH_START",
        0x403: "EVTYPE_COMBINED_HASH",
        0x404: "EVTYPE_MLE_HASH",
        0x40A: "EVTYPE_BIOSAC_REG_DATA",
        0x40B: "EVTYPE_CPU_SCRTM_STAT",
        0x40C: "EVTYPE_LCP_CONTROL_HASH",
        0x40D: "EVTYPE_ELEMENTS_HASH",
        0x40E: "EVTYPE_STM_HASH",
        0x40F: "EVTYPE_OSSINITDATA_CAP_HASH",
        0x410: "EVTYPE_SINIT_PUBKEY_HASH",
        0x411: "EVTYPE_LCP_HASH",
        0x412: "EVTYPE_LCP_DETAILS_HASH",
        0x413: "EVTYPE_LCP_AUTHORITIES_HASH",
        0x414: "EVTYPE_NV_INFO_HASH",
        0x415: "EVTYPE_COLD_BOOT_BIOS_HASH",
        0x416: "EVTYPE_KM_HASH",
        0x417: "EVTYPE_BPM_HASH",
        0x418: "EVTYPE_KM_INFO_HASH",
        0x419: "EVTYPE_BPM_INFO_HASH",
        0x41A: "EVTYPE_BOOT_POL_HASH",
        0x4FE: "EVTYPE_CAP_VALUE",
        0x4FF: "EVTYPE_RANDVAL",
        0x502: "TXT_EVTYPE_SLAUNCH",
        0x503: "TXT_EVTYPE_SLAUNCH_START",
        0x504: "TXT_EVTYPE_SLAUNCH_END",
    }
)
"""Intel TXT Software Development Guide, table of event types; the last three are Linux Secure Launch's."""


@frozen(kw_only=True)
class TxtEvent(Record):
    """An event of a dynamic launch. SINIT hashes what the type names; the data, where there is any, describes it."""

    name: str = field(validator=instance_of(str))
    data: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        return self.data


def read_txt(cursor: Cursor, number: int) -> Record:
    """The event of a type of :data:`TXT_EVENT_TYPES`; text or bytes where the type has no name there."""
    if number not in TXT_EVENT_TYPES:
        return read_any(cursor)
    return TxtEvent(name=TXT_EVENT_TYPES[number], data=cursor.rest("data"), **cursor.finish())
