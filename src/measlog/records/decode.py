"""From event type, register and bytes to a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.records.base import Record, Undecodable
from measlog.records.firmware import (
    read_blob,
    read_blob2,
    read_blob_or_text,
    read_handoff,
    read_handoff2,
    read_nonhost,
    read_separator,
    read_version,
)
from measlog.records.gpt import read_gpt
from measlog.records.image import read_image_load
from measlog.records.ipl import read_ipl
from measlog.records.no_action import read_no_action
from measlog.records.sipa import read_sipa
from measlog.records.spdm import read_device_security
from measlog.records.tagged import read_tagged
from measlog.records.text import read_any, read_opaque
from measlog.records.txt import TXT_EVENT_TYPES, read_txt
from measlog.records.variable import read_authority, read_variable
from measlog.registry import EventType, Register

__all__ = ["decode"]

_E = EventType
_READERS: Mapping[EventType, Callable[[Cursor], Record]] = MappingProxyType(
    {
        _E.EV_PREBOOT_CERT: read_any,
        _E.EV_POST_CODE: read_blob_or_text,
        _E.EV_UNUSED: read_any,
        _E.EV_SEPARATOR: read_separator,
        _E.EV_ACTION: read_any,
        _E.EV_EVENT_TAG: read_tagged,
        _E.EV_S_CRTM_CONTENTS: read_blob_or_text,
        _E.EV_S_CRTM_VERSION: read_version,
        _E.EV_CPU_MICROCODE: read_blob_or_text,
        _E.EV_PLATFORM_CONFIG_FLAGS: read_any,
        _E.EV_TABLE_OF_DEVICES: read_any,
        _E.EV_COMPACT_HASH: read_any,
        _E.EV_IPL_PARTITION_DATA: read_opaque,
        _E.EV_NONHOST_CODE: read_nonhost,
        _E.EV_NONHOST_CONFIG: read_nonhost,
        _E.EV_NONHOST_INFO: read_nonhost,
        _E.EV_OMIT_BOOT_DEVICE_EVENTS: read_any,
        _E.EV_POST_CODE2: read_blob_or_text,
        _E.EV_EFI_VARIABLE_DRIVER_CONFIG: read_variable,
        _E.EV_EFI_VARIABLE_BOOT: read_variable,
        _E.EV_EFI_BOOT_SERVICES_APPLICATION: read_image_load,
        _E.EV_EFI_BOOT_SERVICES_DRIVER: read_image_load,
        _E.EV_EFI_RUNTIME_SERVICES_DRIVER: read_image_load,
        _E.EV_EFI_GPT_EVENT: read_gpt,
        _E.EV_EFI_ACTION: read_any,
        _E.EV_EFI_PLATFORM_FIRMWARE_BLOB: read_blob,
        _E.EV_EFI_HANDOFF_TABLES: read_handoff,
        _E.EV_EFI_PLATFORM_FIRMWARE_BLOB2: read_blob2,
        _E.EV_EFI_HANDOFF_TABLES2: read_handoff2,
        _E.EV_EFI_VARIABLE_BOOT2: read_variable,
        _E.EV_EFI_GPT_EVENT2: read_gpt,
        _E.EV_EFI_HCRTM_EVENT: read_any,
        _E.EV_EFI_VARIABLE_AUTHORITY: read_authority,
        _E.EV_EFI_SPDM_FIRMWARE_BLOB: read_device_security,
        _E.EV_EFI_SPDM_FIRMWARE_CONFIG: read_device_security,
        _E.EV_EFI_SPDM_DEVICE_POLICY: read_variable,
        _E.EV_EFI_SPDM_DEVICE_AUTHORITY: read_authority,
    }
)


def decode(event_type: EventType, register: Register, data: bytes, limits: Limits = DEFAULT_LIMITS) -> Record:
    """The record that ``data`` holds. Never raises: what cannot be read is an :class:`~measlog.records.Undecodable`.

    Any record, an :class:`~measlog.records.Undecodable` too, gives ``data`` back by ``to_bytes()``: this is looked at
    before the record is handed out. Bytes after the decoded structure are its ``trailing`` (A34).
    """
    if len(data) > limits.event_size:
        return Undecodable(raw=data, reason=f"{len(data)} bytes of event data, the limit is {limits.event_size}")
    try:
        record = _read(event_type, register, Cursor(data, limits=limits))
    except FormatError as error:
        return Undecodable(raw=data, reason=str(error))
    if record.to_bytes() != data:
        return Undecodable(raw=data, reason="does not write back what was read")
    return record


def _read(event_type: EventType, register: Register, cursor: Cursor) -> Record:
    if event_type is EventType.EV_NO_ACTION:
        return _read_trust_point(cursor) if register.kind == "none" else read_no_action(cursor)
    if event_type is EventType.EV_IPL:
        return read_ipl(cursor, register)
    reader = _READERS.get(event_type)
    if reader is not None:
        return reader(cursor)
    if int(event_type) in TXT_EVENT_TYPES:
        return read_txt(cursor, int(event_type))
    return read_any(cursor)


def _read_trust_point(cursor: Cursor) -> Record:
    """What Windows logs on register 0xFFFFFFFF: a SIPA tree with a quote; one that is cut is kept as bytes."""
    start = cursor.pos
    try:
        record = read_sipa(cursor)
    except FormatError:
        cursor.pos = start
        cursor.spans.clear()
        return read_no_action(cursor)
    extra = cursor.finish()
    return type(record)(type=record.type, data=record.data, children=record.children, **extra)
