"""What firmware measures of devices over SPDM (PFP 1.06, clause 10.2.7): EV_EFI_SPDM_FIRMWARE_BLOB and _CONFIG."""

from __future__ import annotations

import struct

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor
from measlog.records.base import Opaque, Record, Undecodable
from measlog.records.device_path import DevicePath, read_path

__all__ = [
    "DeviceSecurityEvent",
    "DeviceSecurityEvent2",
    "OemMeasurement",
    "PciContext",
    "SpdmCertChain",
    "SpdmMeasurementBlock",
    "SpdmMeasurements",
    "UsbContext",
    "read_device_security",
    "read_device_security2",
]

CLAUSE = "PFP 1.06, 10.2.7"
_SIGNATURE_1 = b"SPDM Device Sec\0"
_SIGNATURE_2 = b"SPDM Device Sec2"
_DEVICE_PCI = 1
_DEVICE_USB = 2
_PCI = struct.Struct("<HHHHB3sHH")
_CONTEXT_HEAD = struct.Struct("<HH")
_DMTF = 0x01


@frozen(kw_only=True)
class PciContext(Record):
    """TCG_DEVICE_SECURITY_EVENT_DATA_PCI_CONTEXT: the device's identity as its configuration space has it."""

    version: int = 0
    vendor_id: int
    device_id: int
    revision_id: int
    class_code: bytes = field(validator=instance_of(bytes))
    subsystem_vendor_id: int
    subsystem_id: int

    def _body(self) -> bytes:
        return _PCI.pack(
            self.version,
            _PCI.size,
            self.vendor_id,
            self.device_id,
            self.revision_id,
            self.class_code,
            self.subsystem_vendor_id,
            self.subsystem_id,
        )


@frozen(kw_only=True)
class UsbContext(Record):
    """TCG_DEVICE_SECURITY_EVENT_DATA_USB_CONTEXT: the device's descriptors, one after another, as USB defines them."""

    version: int = 0
    descriptors: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        return _CONTEXT_HEAD.pack(self.version, _CONTEXT_HEAD.size + len(self.descriptors)) + self.descriptors


@frozen(kw_only=True)
class SpdmMeasurementBlock:
    """SPDM_MEASUREMENT_BLOCK (DSP0274, MEASUREMENTS response): ``measurement`` as ``measurement_specification`` says."""

    index: int
    measurement_specification: int
    measurement: bytes

    @property
    def dmtf(self) -> tuple[int, bytes] | None:
        """DMTFSpecMeasurementValueType and value, where the measurement has the DMTF's form."""
        data = self.measurement
        if self.measurement_specification != _DMTF or len(data) < 3:
            return None
        kind, size = struct.unpack_from("<BH", data)
        return (kind, data[3:]) if size == len(data) - 3 else None

    def to_bytes(self) -> bytes:
        """Header and measurement."""
        head = struct.pack("<BBH", self.index, self.measurement_specification, len(self.measurement))
        return head + self.measurement


@frozen(kw_only=True)
class SpdmMeasurements(Record):
    """TCG_DEVICE_SECURITY_EVENT_DATA_SUB_HEADER_SPDM_MEASUREMENT_BLOCK."""

    spdm_version: int
    reserved: int = 0
    measurement_hash_algo: int
    """SpdmMeasurementHashAlgo: the bit that SPDM's ALGORITHMS response gave, not a TPM_ALG_ID."""
    blocks: tuple[SpdmMeasurementBlock, ...] = field(validator=deep_iterable(instance_of(SpdmMeasurementBlock)))

    def _body(self) -> bytes:
        head = struct.pack("<HBBI", self.spdm_version, len(self.blocks), self.reserved, self.measurement_hash_algo)
        return head + b"".join([block.to_bytes() for block in self.blocks])


@frozen(kw_only=True)
class SpdmCertChain(Record):
    """TCG_DEVICE_SECURITY_EVENT_DATA_SUB_HEADER_SPDM_CERT_CHAIN: the chain as SPDM's CERTIFICATE response gives it."""

    spdm_version: int
    slot_id: int
    reserved: int = 0
    hash_algo: int
    cert_chain: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        return struct.pack("<HBBI", self.spdm_version, self.slot_id, self.reserved, self.hash_algo) + self.cert_chain


@frozen(kw_only=True)
class OemMeasurement(Record):
    """TCG_DEVICE_SECURITY_EVENT_DATA_SUB_HEADER_OEM_MEASUREMENT."""

    type: int
    value: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        return struct.pack("<II", self.type, len(self.value)) + self.value


@frozen(kw_only=True)
class DeviceSecurityEvent(Record):
    """TCG_DEVICE_SECURITY_EVENT_DATA, version 1."""

    version: int = 1
    length: int
    """The header's Length field, which implementations fill in differently."""
    spdm_hash_algo: int
    device_type: int
    """0 none, 1 PCI, 2 USB."""
    block: SpdmMeasurementBlock
    context: Record = field(validator=instance_of(Record))

    def _body(self) -> bytes:
        head = struct.pack("<HHII", self.version, self.length, self.spdm_hash_algo, self.device_type)
        return _SIGNATURE_1 + head + self.block.to_bytes() + self.context.to_bytes()


@frozen(kw_only=True)
class DeviceSecurityEvent2(Record):
    """TCG_DEVICE_SECURITY_EVENT_DATA2, version 2.

    ``auth_state``: 0 success, 1 no authentication, 2 no binding, 3 failure, no signature, 4 failure, invalid
    signature, 0xFF no SPDM. ``sub_header_uid`` binds the event to others about the same device.
    """

    version: int = 2
    auth_state: int
    reserved: int = 0
    length: int
    device_type: int
    sub_header_type: int
    """0 measurement blocks, 1 certificate chain, 2 OEM measurement."""
    sub_header_uid: int
    device_path: DevicePath | Undecodable
    sub_header: Record = field(validator=instance_of(Record))
    context: Record = field(validator=instance_of(Record))

    def _body(self) -> bytes:
        path, sub_header = self.device_path.to_bytes(), self.sub_header.to_bytes()
        head = struct.pack(
            "<HBBIIIIQQ",
            self.version,
            self.auth_state,
            self.reserved,
            self.length,
            self.device_type,
            self.sub_header_type,
            len(sub_header),
            self.sub_header_uid,
            len(path),
        )
        return _SIGNATURE_2 + head + path + sub_header + self.context.to_bytes()


def read_device_security(cursor: Cursor) -> Record:
    """Either version, by its signature; anything else is kept as bytes."""
    signature = cursor.peek[:16]
    if signature == _SIGNATURE_1:
        return _read_version1(cursor)
    if signature == _SIGNATURE_2:
        return read_device_security2(cursor, whole=True)
    return Opaque(raw=cursor.rest("raw"), **cursor.finish())


def _read_version1(cursor: Cursor) -> DeviceSecurityEvent:
    cursor.clause = CLAUSE
    cursor.take("signature", 16)
    version = cursor.u16("version")
    if version != 1:
        raise cursor.unsupported(f"version {version}", "version")
    length = cursor.u16("length")
    algorithm = cursor.u32("spdm_hash_algo")
    device_type = cursor.u32("device_type")
    block = _read_block(cursor, "block")
    context = _read_context(cursor, device_type)
    return DeviceSecurityEvent(
        length=length,
        spdm_hash_algo=algorithm,
        device_type=device_type,
        block=block,
        context=context,
        **cursor.finish(),
    )


def read_device_security2(cursor: Cursor, *, whole: bool = False) -> DeviceSecurityEvent2:
    """Version 2, also as it lies within NvIndexInstance; ``whole`` if it is the event's data.

    :raises FormatError: another signature, or lengths that do not fit.
    """
    cursor.clause = CLAUSE
    if cursor.take("signature", 16) != _SIGNATURE_2:
        raise cursor.error("signature is not SPDM Device Sec2", "signature")
    version = cursor.u16("version")
    if version != 2:
        raise cursor.unsupported(f"version {version}", "version")
    auth_state = cursor.u8("auth_state")
    reserved = cursor.u8("reserved")
    length = cursor.u32("length")
    device_type = cursor.u32("device_type")
    sub_header_type = cursor.u32("sub_header_type")
    sub_header_length = cursor.u32("sub_header_length")
    uid = cursor.u64("sub_header_uid")
    part = cursor.inside("device_path", cursor.u64("device_path_length"))
    raw = part.peek
    path: DevicePath | Undecodable
    try:
        path = read_path(part)
    except FormatError as error:
        path = Undecodable(raw=raw, reason=str(error))
    sub_header = _read_sub_header(cursor.inside("sub_header", sub_header_length, CLAUSE), sub_header_type)
    context = _read_context(cursor, device_type)
    return DeviceSecurityEvent2(
        auth_state=auth_state,
        reserved=reserved,
        length=length,
        device_type=device_type,
        sub_header_type=sub_header_type,
        sub_header_uid=uid,
        device_path=path,
        sub_header=sub_header,
        context=context,
        **(cursor.finish() if whole else {}),
    )


def _read_block(cursor: Cursor, name: str) -> SpdmMeasurementBlock:
    index = cursor.u8(f"{name}.index")
    specification = cursor.u8(f"{name}.measurement_specification")
    measurement = cursor.take(f"{name}.measurement", cursor.u16(f"{name}.measurement_size"))
    return SpdmMeasurementBlock(index=index, measurement_specification=specification, measurement=measurement)


def _read_sub_header(cursor: Cursor, kind: int) -> Record:
    record: Record
    if kind == 0:
        version = cursor.u16("spdm_version")
        number = cursor.u8("block_count")
        reserved = cursor.u8("reserved")
        algorithm = cursor.u32("measurement_hash_algo")
        blocks = tuple(_read_block(cursor, f"blocks[{index}]") for index in range(cursor.count("blocks", number, 4)))
        record = SpdmMeasurements(
            spdm_version=version, reserved=reserved, measurement_hash_algo=algorithm, blocks=blocks
        )
    elif kind == 1:
        record = SpdmCertChain(
            spdm_version=cursor.u16("spdm_version"),
            slot_id=cursor.u8("slot_id"),
            reserved=cursor.u8("reserved"),
            hash_algo=cursor.u32("hash_algo"),
            cert_chain=cursor.rest("cert_chain"),
        )
    elif kind == 2:
        oem_type = cursor.u32("type")
        record = OemMeasurement(type=oem_type, value=cursor.take("value", cursor.u32("length")))
    else:
        record = Opaque(raw=cursor.rest("raw"))
    cursor.expect_end()
    return record


def _read_context(cursor: Cursor, device_type: int) -> Record:
    if device_type not in {_DEVICE_PCI, _DEVICE_USB}:
        return Opaque(raw=cursor.rest("context"))
    if cursor.remaining < _CONTEXT_HEAD.size:
        raise cursor.error(f"{cursor.remaining} bytes left are no device context", "context")
    _, length = _CONTEXT_HEAD.unpack_from(cursor.data, cursor.pos)
    part = cursor.inside("context", max(length, _CONTEXT_HEAD.size))
    version = part.u16("version")
    if part.u16("length") < _CONTEXT_HEAD.size:
        raise part.error(f"Length {length} is less than its own header", "length")
    if device_type == _DEVICE_USB:
        return UsbContext(version=version, descriptors=part.rest("descriptors"))
    context = PciContext(
        version=version,
        vendor_id=part.u16("vendor_id"),
        device_id=part.u16("device_id"),
        revision_id=part.u8("revision_id"),
        class_code=part.take("class_code", 3),
        subsystem_vendor_id=part.u16("subsystem_vendor_id"),
        subsystem_id=part.u16("subsystem_id"),
    )
    part.expect_end()
    return context
