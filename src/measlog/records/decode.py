"""From event type, register and bytes to a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.records.base import Record, Undecodable
from measlog.registry import EventType, Register

__all__ = ["decode"]

_E = EventType
# Readers as module and function: a family is imported when an event of it is met.
_TEXT = ("text", "read_any")
_CODE = ("firmware", "read_blob_or_text")
_NONHOST = ("firmware", "read_nonhost")
_VARIABLE = ("variable", "read_variable")
_AUTHORITY = ("variable", "read_authority")
_IMAGE = ("image", "read_image_load")
_GPT = ("gpt", "read_gpt")
_SPDM = ("spdm", "read_device_security")
_READERS: Mapping[EventType, tuple[str, str]] = MappingProxyType(
    {
        _E.EV_PREBOOT_CERT: _TEXT,
        _E.EV_POST_CODE: _CODE,
        _E.EV_UNUSED: _TEXT,
        _E.EV_SEPARATOR: ("firmware", "read_separator"),
        _E.EV_ACTION: _TEXT,
        _E.EV_EVENT_TAG: ("tagged", "read_tagged"),
        _E.EV_S_CRTM_CONTENTS: _CODE,
        _E.EV_S_CRTM_VERSION: ("firmware", "read_version"),
        _E.EV_CPU_MICROCODE: _CODE,
        _E.EV_PLATFORM_CONFIG_FLAGS: _TEXT,
        _E.EV_TABLE_OF_DEVICES: _TEXT,
        _E.EV_COMPACT_HASH: _TEXT,
        _E.EV_IPL_PARTITION_DATA: ("text", "read_opaque"),
        _E.EV_NONHOST_CODE: _NONHOST,
        _E.EV_NONHOST_CONFIG: _NONHOST,
        _E.EV_NONHOST_INFO: _NONHOST,
        _E.EV_OMIT_BOOT_DEVICE_EVENTS: _TEXT,
        _E.EV_POST_CODE2: _CODE,
        _E.EV_EFI_VARIABLE_DRIVER_CONFIG: _VARIABLE,
        _E.EV_EFI_VARIABLE_BOOT: _VARIABLE,
        _E.EV_EFI_BOOT_SERVICES_APPLICATION: _IMAGE,
        _E.EV_EFI_BOOT_SERVICES_DRIVER: _IMAGE,
        _E.EV_EFI_RUNTIME_SERVICES_DRIVER: _IMAGE,
        _E.EV_EFI_GPT_EVENT: _GPT,
        _E.EV_EFI_ACTION: _TEXT,
        _E.EV_EFI_PLATFORM_FIRMWARE_BLOB: ("firmware", "read_blob"),
        _E.EV_EFI_HANDOFF_TABLES: ("firmware", "read_handoff"),
        _E.EV_EFI_PLATFORM_FIRMWARE_BLOB2: ("firmware", "read_blob2"),
        _E.EV_EFI_HANDOFF_TABLES2: ("firmware", "read_handoff2"),
        _E.EV_EFI_VARIABLE_BOOT2: _VARIABLE,
        _E.EV_EFI_GPT_EVENT2: _GPT,
        _E.EV_EFI_HCRTM_EVENT: _TEXT,
        _E.EV_EFI_VARIABLE_AUTHORITY: _AUTHORITY,
        _E.EV_EFI_SPDM_FIRMWARE_BLOB: _SPDM,
        _E.EV_EFI_SPDM_FIRMWARE_CONFIG: _SPDM,
        _E.EV_EFI_SPDM_DEVICE_POLICY: _VARIABLE,
        _E.EV_EFI_SPDM_DEVICE_AUTHORITY: _AUTHORITY,
    }
)
# Intel TXT's and Secure Launch's event types lie in this range; which of them have names, their module knows.
_TXT = range(0x400, 0x600)


@cache
def _reader(module: str, function: str) -> Callable[..., Record]:
    found: Callable[..., Record] = getattr(import_module(f"measlog.records.{module}"), function)
    return found


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
        name = ("sipa", "read_trust_point") if register.kind == "none" else ("no_action", "read_no_action")
        return _reader(*name)(cursor)
    if event_type is EventType.EV_IPL:
        return _reader("ipl", "read_ipl")(cursor, register)
    if int(event_type) in _TXT:
        return _reader("txt", "read_txt")(cursor, int(event_type))
    return _reader(*_READERS.get(event_type, _TEXT))(cursor)
