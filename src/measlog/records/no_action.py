"""EV_NO_ACTION (PFP 1.06, clause 10.4.5): events that extend nothing, told apart by a signature of 16 bytes.

What they say is in no digest: whoever can write the log can write them. A StartupLocality is believed because the
register replays with it, and for no other reason.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar
from uuid import UUID

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor, decode_text, encode_text
from measlog.records.base import Record
from measlog.records.text import read_any
from measlog.registry import algorithm_name

__all__ = [
    "HcrtmComponent",
    "NvIndexDynamic",
    "NvIndexInstance",
    "PlatformId",
    "PlatformId2",
    "PlatformId3",
    "SpecIdEvent",
    "StartupLocality",
    "read_no_action",
]


@frozen(kw_only=True)
class SpecIdEvent(Record):
    """TCG_EfiSpecIDEvent (PFP 1.06, 10.4.5.1), and its older forms ``Spec ID Event00`` and ``Spec ID Event02``.

    ``algorithms`` are pairs of TPM_ALG_ID and digest size in bytes, empty in the older forms. ``vendor_info_size`` is
    what the event declares; a log is known that leaves the vendor information outside the event. It is ``None`` where
    the event ends before it.
    """

    signature: str = field(default="Spec ID Event03", validator=instance_of(str))
    platform_class: int = field(default=0, validator=instance_of(int))
    spec_version_minor: int = field(default=0, validator=instance_of(int))
    spec_version_major: int = field(default=2, validator=instance_of(int))
    spec_errata: int = field(default=0, validator=instance_of(int))
    uintn_size: int = field(default=2, validator=instance_of(int))
    """1 for UINT32, 2 for UINT64; a reserved byte in ``Spec ID Event00``."""
    algorithms: tuple[tuple[int, int], ...] = ()
    vendor_info_size: int | None = 0
    vendor_info: bytes = field(default=b"", validator=instance_of(bytes))

    @property
    def algorithm_names(self) -> tuple[str, ...]:
        """measlog's names of the algorithms, in the event's order."""
        return tuple(algorithm_name(number) for number, _ in self.algorithms)

    def _body(self) -> bytes:
        head = self.signature.encode("ascii").ljust(16, b"\0") + struct.pack(
            "<IBBBB",
            self.platform_class,
            self.spec_version_minor,
            self.spec_version_major,
            self.spec_errata,
            self.uintn_size,
        )
        if self.signature == "Spec ID Event03":
            head += struct.pack("<I", len(self.algorithms))
            head += b"".join([struct.pack("<HH", *pair) for pair in self.algorithms])
        return head + (b"" if self.vendor_info_size is None else bytes([self.vendor_info_size]) + self.vendor_info)


@frozen(kw_only=True)
class StartupLocality(Record):
    """TCG_EfiStartupLocalityEvent (PFP 1.06, 10.4.5.3): the locality that sent TPM2_Startup; 0, 3 or 4."""

    locality: int = field(validator=instance_of(int))

    def _body(self) -> bytes:
        return b"StartupLocality\0" + bytes([self.locality])


@frozen(kw_only=True)
class HcrtmComponent(Record):
    """TCG_HCRTMComponentEvent (PFP 1.06, 10.4.5.4): one component that the H-CRTM measured.

    ``measurement_format_type``: 0 for a digest (a TPMT_HA), 0x80 for raw data.
    """

    component_description: str = field(validator=instance_of(str))
    measurement_format_type: int = field(validator=instance_of(int))
    component_measurement: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        text = encode_text(self.component_description)
        return (
            b"H-CRTM CompMeas\0"
            + bytes([len(text)])
            + text
            + struct.pack("<BH", self.measurement_format_type, len(self.component_measurement))
            + self.component_measurement
        )


@frozen(kw_only=True)
class PlatformId(Record):
    """TCG_Sp800_155_PlatformId_Event (PFP 1.06, 10.4.5.2): where to find the reference manifest of this firmware.

    ``vendor_id`` is an IANA private enterprise number.
    """

    signature: ClassVar[bytes] = b"SP800-155 Event\0"

    vendor_id: int = field(validator=instance_of(int))
    reference_manifest_guid: UUID = field(validator=instance_of(UUID))

    def _body(self) -> bytes:
        return self.signature + struct.pack("<I", self.vendor_id) + self.reference_manifest_guid.bytes_le


@frozen(kw_only=True)
class PlatformId2(PlatformId):
    """TCG_Sp800_155_PlatformId_Event2 (PFP 1.06, 10.4.5.2). The texts keep their NUL where they have one."""

    signature: ClassVar[bytes] = b"SP800-155 Event2"

    platform_manufacturer: str = field(validator=instance_of(str))
    platform_model: str = field(validator=instance_of(str))
    platform_version: str = field(validator=instance_of(str))
    firmware_manufacturer: str = field(validator=instance_of(str))
    firmware_manufacturer_id: int = field(validator=instance_of(int))
    firmware_version: str = field(validator=instance_of(str))

    def _body(self) -> bytes:
        return (
            self.signature
            + struct.pack("<I", self.vendor_id)
            + self.reference_manifest_guid.bytes_le
            + _pack_text(self.platform_manufacturer)
            + _pack_text(self.platform_model)
            + _pack_text(self.platform_version)
            + _pack_text(self.firmware_manufacturer)
            + struct.pack("<I", self.firmware_manufacturer_id)
            + _pack_text(self.firmware_version)
        )


@frozen(kw_only=True)
class PlatformId3(PlatformId2):
    """TCG_Sp800_155_PlatformId_Event3 (PFP 1.06, 10.4.5.2): with where the RIM and the platform certificate lie.

    Locator types: 0 raw data, 1 URI, 2 device path, 3 UEFI variable.
    """

    signature: ClassVar[bytes] = b"SP800-155 Event3"

    rim_locator_type: int = field(validator=instance_of(int))
    rim_locator: bytes = field(validator=instance_of(bytes))
    platform_cert_locator_type: int = field(validator=instance_of(int))
    platform_cert_locator: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        return (
            PlatformId2._body(self)  # noqa: SLF001 - super() fails in slotted classes that attrs makes anew
            + struct.pack("<II", self.rim_locator_type, len(self.rim_locator))
            + self.rim_locator
            + struct.pack("<II", self.platform_cert_locator_type, len(self.platform_cert_locator))
            + self.platform_cert_locator
        )


@frozen(kw_only=True)
class NvIndexInstance(Record):
    """NV_INDEX_INSTANCE_EVENT_LOG_DATA (PFP 1.06, 10.4.5.5): what was extended into NV index 0x01C40200."""

    version: int = field(default=1, validator=instance_of(int))
    reserved: bytes = field(default=bytes(6), validator=instance_of(bytes))
    data: Record = field(validator=instance_of(Record))

    def _body(self) -> bytes:
        return b"NvIndexInstance\0" + struct.pack("<H", self.version) + self.reserved + self.data.to_bytes()


@frozen(kw_only=True)
class NvIndexDynamic(Record):
    """NV_INDEX_DYNAMIC_EVENT_LOG_DATA (PFP 1.06, 10.4.5.5): what was extended into NV index 0x01C40201.

    ``uid`` ties it to the device security event with the same SubHeaderUID.
    """

    version: int = field(default=1, validator=instance_of(int))
    reserved: bytes = field(default=bytes(6), validator=instance_of(bytes))
    uid: int = field(validator=instance_of(int))
    description: str = field(validator=instance_of(str))
    data: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        text = encode_text(self.description)
        return (
            b"NvIndexDynamic \0"
            + struct.pack("<H", self.version)
            + self.reserved
            + struct.pack("<QH", self.uid, len(text))
            + text
            + struct.pack("<H", len(self.data))
            + self.data
        )


def _pack_text(text: str) -> bytes:
    data = encode_text(text)
    return bytes([len(data)]) + data


def read_no_action(cursor: Cursor) -> Record:
    """EV_NO_ACTION by its signature; without a known one, text or bytes."""
    reader = _READERS.get(cursor.peek[:16])
    if reader is None:
        return read_any(cursor)
    cursor.take("signature", 16)
    return reader(cursor)


def _read_spec_id_old(cursor: Cursor, signature: str) -> SpecIdEvent:
    cursor.clause = "TCG EFI Platform 1.22, 7.4"
    fields = _read_spec_id_head(cursor)
    return SpecIdEvent(signature=signature, **fields, **_read_vendor_info(cursor), **cursor.finish())


def _read_spec_id_head(cursor: Cursor) -> dict[str, Any]:
    return {
        "platform_class": cursor.u32("platform_class"),
        "spec_version_minor": cursor.u8("spec_version_minor"),
        "spec_version_major": cursor.u8("spec_version_major"),
        "spec_errata": cursor.u8("spec_errata"),
        "uintn_size": cursor.u8("uintn_size"),
    }


def _read_vendor_info(cursor: Cursor) -> dict[str, Any]:
    if not cursor.remaining:
        return {"vendor_info_size": None}
    size = cursor.u8("vendor_info_size")
    return {"vendor_info_size": size, "vendor_info": cursor.take("vendor_info", min(size, cursor.remaining))}


def _read_spec_id(cursor: Cursor) -> SpecIdEvent:
    cursor.clause = "PFP 1.06, 10.4.5.1"
    fields = _read_spec_id_head(cursor)
    number = cursor.count("algorithms", cursor.u32("number_of_algorithms"), 4)
    algorithms = []
    for index in range(number):
        inner = cursor.inside(f"algorithms[{index}]", 4)
        algorithms.append((inner.u16("algorithm_id"), inner.u16("digest_size")))
    return SpecIdEvent(**fields, algorithms=tuple(algorithms), **_read_vendor_info(cursor), **cursor.finish())


def _read_locality(cursor: Cursor) -> StartupLocality:
    cursor.clause = "PFP 1.06, 10.4.5.3"
    return StartupLocality(locality=cursor.u8("locality"), **cursor.finish())


def _read_hcrtm(cursor: Cursor) -> HcrtmComponent:
    cursor.clause = "PFP 1.06, 10.4.5.4"
    description = decode_text(cursor.take("component_description", cursor.u8("component_description_size")))
    kind = cursor.u8("measurement_format_type")
    measurement = cursor.take("component_measurement", cursor.u16("component_measurement_size"))
    return HcrtmComponent(
        component_description=description,
        measurement_format_type=kind,
        component_measurement=measurement,
        **cursor.finish(),
    )


def _read_u8_text(cursor: Cursor, name: str) -> str:
    return decode_text(cursor.take(name, cursor.u8(f"{name}_size")))


def _read_platform_head(cursor: Cursor) -> dict[str, Any]:
    cursor.clause = "PFP 1.06, 10.4.5.2"
    return {
        "vendor_id": cursor.u32("vendor_id"),
        "reference_manifest_guid": cursor.guid("reference_manifest_guid"),
    }


def _read_platform2(cursor: Cursor) -> dict[str, Any]:
    return {
        **_read_platform_head(cursor),
        "platform_manufacturer": _read_u8_text(cursor, "platform_manufacturer"),
        "platform_model": _read_u8_text(cursor, "platform_model"),
        "platform_version": _read_u8_text(cursor, "platform_version"),
        "firmware_manufacturer": _read_u8_text(cursor, "firmware_manufacturer"),
        "firmware_manufacturer_id": cursor.u32("firmware_manufacturer_id"),
        "firmware_version": _read_u8_text(cursor, "firmware_version"),
    }


def _read_platform3(cursor: Cursor) -> dict[str, Any]:
    fields = _read_platform2(cursor)
    for name in ("rim_locator", "platform_cert_locator"):
        fields[f"{name}_type"] = cursor.u32(f"{name}_type")
        fields[name] = cursor.take(name, cursor.u32(f"{name}_length"))
    return fields


def _read_nv_instance(cursor: Cursor) -> NvIndexInstance:
    from measlog.records.spdm import read_device_security2  # noqa: PLC0415 - no other signature needs the module

    cursor.clause = "PFP 1.06, 10.4.5.5"
    version = cursor.u16("version")
    reserved = cursor.take("reserved", 6)
    inner = cursor.inside("data", cursor.remaining)
    data = read_device_security2(inner)
    if inner.remaining:
        raise FormatError(f"{inner.remaining} bytes follow", offset=inner.pos, path="data", clause=cursor.clause)
    return NvIndexInstance(version=version, reserved=reserved, data=data, **cursor.finish())


def _read_nv_dynamic(cursor: Cursor) -> NvIndexDynamic:
    cursor.clause = "PFP 1.06, 10.4.5.5"
    version = cursor.u16("version")
    reserved = cursor.take("reserved", 6)
    uid = cursor.u64("uid")
    description = decode_text(cursor.take("description", cursor.u16("description_size")))
    data = cursor.take("data", cursor.u16("data_size"))
    return NvIndexDynamic(
        version=version, reserved=reserved, uid=uid, description=description, data=data, **cursor.finish()
    )


_READERS = {
    b"Spec ID Event00\0": lambda cursor: _read_spec_id_old(cursor, "Spec ID Event00"),
    b"Spec ID Event02\0": lambda cursor: _read_spec_id_old(cursor, "Spec ID Event02"),
    b"Spec ID Event03\0": _read_spec_id,
    b"StartupLocality\0": _read_locality,
    b"H-CRTM CompMeas\0": _read_hcrtm,
    PlatformId.signature: lambda cursor: PlatformId(**_read_platform_head(cursor), **cursor.finish()),
    PlatformId2.signature: lambda cursor: PlatformId2(**_read_platform2(cursor), **cursor.finish()),
    PlatformId3.signature: lambda cursor: PlatformId3(**_read_platform3(cursor), **cursor.finish()),
    b"NvIndexInstance\0": _read_nv_instance,
    b"NvIndexDynamic \0": _read_nv_dynamic,
}
