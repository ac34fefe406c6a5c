"""The kinds of device path nodes of UEFI 2.10, clause 10.3, and their fields.

A layout is a row of (field, form). Forms: ``u8`` to ``u64`` little-endian numbers, ``guid``, ``bytesN``, and, up to the
end of the node, ``bytes``, ``ascii`` text, ``asciiz`` (up to its NUL), ``utf16z``, ``utf16``, ``u32s`` and ``ips``.
A row ending in ``?`` may be missing together with those after it: older specifications end the node there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

from attrs import frozen

from measlog.errors import FormatError, UnsupportedError
from measlog.formats.cursor import Cursor, decode_utf16, encode_utf16
from measlog.records.device_path import DevicePathNode

__all__ = ["KINDS", "NodeKind", "build_node", "node_fields"]

CLAUSE = "UEFI 2.10, 10.3"
Layout = tuple[tuple[str, str], ...]


@frozen
class NodeKind:
    """One kind of node: its name in the specification and its fields."""

    name: str
    layout: Layout


_VENDOR: Layout = (("vendor_guid", "guid"), ("vendor_defined_data", "bytes"))

KINDS: Mapping[tuple[int, int], NodeKind] = MappingProxyType(
    {
        # 10.3.2 hardware
        (1, 1): NodeKind("Pci", (("function", "u8"), ("device", "u8"))),
        (1, 2): NodeKind("PcCard", (("function_number", "u8"),)),
        (1, 3): NodeKind("MemoryMapped", (("memory_type", "u32"), ("start_address", "u64"), ("end_address", "u64"))),
        (1, 4): NodeKind("HardwareVendor", _VENDOR),
        (1, 5): NodeKind("Controller", (("controller_number", "u32"),)),
        (1, 6): NodeKind("Bmc", (("interface_type", "u8"), ("base_address", "u64"))),
        # 10.3.3 ACPI
        (2, 1): NodeKind("Acpi", (("hid", "u32"), ("uid", "u32"))),
        (2, 2): NodeKind(
            "AcpiExpanded",
            (
                ("hid", "u32"),
                ("uid", "u32"),
                ("cid", "u32"),
                ("hid_str", "asciiz"),
                ("uid_str", "asciiz"),
                ("cid_str", "asciiz"),
            ),
        ),
        (2, 3): NodeKind("AcpiAdr", (("adr", "u32s"),)),
        (2, 4): NodeKind("AcpiNvdimm", (("nfit_device_handle", "u32"),)),
        # 10.3.4 messaging
        (3, 1): NodeKind("Atapi", (("primary_secondary", "u8"), ("slave_master", "u8"), ("lun", "u16"))),
        (3, 2): NodeKind("Scsi", (("target_id", "u16"), ("lun", "u16"))),
        (3, 3): NodeKind("FibreChannel", (("reserved", "u32"), ("wwn", "u64"), ("lun", "u64"))),
        (3, 4): NodeKind("Ieee1394", (("reserved", "u32"), ("guid", "u64"))),
        (3, 5): NodeKind("Usb", (("parent_port_number", "u8"), ("interface_number", "u8"))),
        (3, 6): NodeKind("I2o", (("target_id", "u32"),)),
        (3, 9): NodeKind(
            "InfiniBand",
            (
                ("resource_flags", "u32"),
                ("port_gid", "guid"),
                ("service_id", "u64"),
                ("target_port_id", "u64"),
                ("device_id", "u64"),
            ),
        ),
        (3, 10): NodeKind("MessagingVendor", _VENDOR),
        (3, 11): NodeKind("MacAddress", (("mac_address", "bytes32"), ("if_type", "u8"))),
        (3, 12): NodeKind(
            "Ipv4",
            (
                ("local_ip_address", "bytes4"),
                ("remote_ip_address", "bytes4"),
                ("local_port", "u16"),
                ("remote_port", "u16"),
                ("protocol", "u16"),
                ("static_ip_address", "u8"),
                ("gateway_ip_address", "bytes4?"),
                ("subnet_mask", "bytes4?"),
            ),
        ),
        (3, 13): NodeKind(
            "Ipv6",
            (
                ("local_ip_address", "bytes16"),
                ("remote_ip_address", "bytes16"),
                ("local_port", "u16"),
                ("remote_port", "u16"),
                ("protocol", "u16"),
                ("ip_address_origin", "u8"),
                ("prefix_length", "u8?"),
                ("gateway_ip_address", "bytes16?"),
            ),
        ),
        (3, 14): NodeKind(
            "Uart",
            (("reserved", "u32"), ("baud_rate", "u64"), ("data_bits", "u8"), ("parity", "u8"), ("stop_bits", "u8")),
        ),
        (3, 15): NodeKind(
            "UsbClass",
            (
                ("vendor_id", "u16"),
                ("product_id", "u16"),
                ("device_class", "u8"),
                ("device_sub_class", "u8"),
                ("device_protocol", "u8"),
            ),
        ),
        (3, 16): NodeKind(
            "UsbWwid",
            (
                ("interface_number", "u16"),
                ("vendor_id", "u16"),
                ("product_id", "u16"),
                ("serial_number", "utf16"),
            ),
        ),
        (3, 17): NodeKind("LogicalUnit", (("lun", "u8"),)),
        (3, 18): NodeKind("Sata", (("hba_port", "u16"), ("port_multiplier_port", "u16"), ("lun", "u16"))),
        (3, 19): NodeKind(
            "IScsi",
            (
                ("protocol", "u16"),
                ("login_option", "u16"),
                ("lun", "bytes8"),
                ("target_portal_group_tag", "u16"),
                ("target_name", "ascii"),
            ),
        ),
        (3, 20): NodeKind("Vlan", (("vlan_id", "u16"),)),
        (3, 21): NodeKind("FibreChannelEx", (("reserved", "u32"), ("wwn", "bytes8"), ("lun", "bytes8"))),
        (3, 22): NodeKind(
            "SasEx",
            (
                ("sas_address", "bytes8"),
                ("lun", "bytes8"),
                ("device_topology", "u16"),
                ("relative_target_port", "u16"),
            ),
        ),
        (3, 23): NodeKind("NvmeNamespace", (("namespace_id", "u32"), ("eui64", "bytes8"))),
        (3, 24): NodeKind("Uri", (("uri", "ascii"),)),
        (3, 25): NodeKind("Ufs", (("target_id", "u8"), ("lun", "u8"))),
        (3, 26): NodeKind("Sd", (("slot_number", "u8"),)),
        (3, 27): NodeKind("Bluetooth", (("bd_addr", "bytes6"),)),
        (3, 28): NodeKind("WiFi", (("ssid", "bytes32"),)),
        (3, 29): NodeKind("Emmc", (("slot_number", "u8"),)),
        (3, 30): NodeKind("BluetoothLe", (("bd_addr", "bytes6"), ("address_type", "u8"))),
        (3, 31): NodeKind("Dns", (("is_ipv6", "u8"), ("dns_server_ip", "ips"))),
        (3, 32): NodeKind("NvdimmNamespace", (("uuid", "guid"),)),
        (3, 33): NodeKind("RestService", (("rest_service", "u8"), ("access_mode", "u8"), ("vendor", "bytes"))),
        (3, 34): NodeKind("NvmeOf", (("nid_type", "u8"), ("nid", "bytes16"), ("subsystem_nqn", "asciiz"))),
        # 10.3.5 media
        (4, 1): NodeKind(
            "HardDrive",
            (
                ("partition_number", "u32"),
                ("partition_start", "u64"),
                ("partition_size", "u64"),
                ("partition_signature", "bytes16"),
                ("partition_format", "u8"),
                ("signature_type", "u8"),
            ),
        ),
        (4, 2): NodeKind("CdRom", (("boot_entry", "u32"), ("partition_start", "u64"), ("partition_size", "u64"))),
        (4, 3): NodeKind("MediaVendor", _VENDOR),
        (4, 4): NodeKind("FilePath", (("path_name", "utf16z"),)),
        (4, 5): NodeKind("MediaProtocol", (("protocol_guid", "guid"),)),
        (4, 6): NodeKind("FvFile", (("fv_file_name", "guid"),)),
        (4, 7): NodeKind("Fv", (("fv_name", "guid"),)),
        (4, 8): NodeKind("OffsetRange", (("reserved", "u32"), ("starting_offset", "u64"), ("ending_offset", "u64"))),
        (4, 9): NodeKind(
            "RamDisk",
            (
                ("starting_address", "u64"),
                ("ending_address", "u64"),
                ("disk_type_guid", "guid"),
                ("disk_instance", "u16"),
            ),
        ),
        # 10.3.6 BIOS boot specification
        (5, 1): NodeKind("Bbs", (("device_type", "u16"), ("status_flag", "u16"), ("description", "asciiz"))),
        # 10.3.1 ends
        (0x7F, 0x01): NodeKind("EndInstance", ()),
        (0x7F, 0xFF): NodeKind("EndEntire", ()),
    }
)


def node_fields(node: DevicePathNode) -> Mapping[str, Any]:
    """The fields of a node by name.

    :raises FormatError: the data is not laid out as this kind of node is.
    :raises UnsupportedError: UEFI 2.10 has no such node.
    """
    kind = KINDS.get((node.type, node.subtype))
    if kind is None:
        raise UnsupportedError(f"no node of type {node.type}, subtype {node.subtype}", clause=CLAUSE)
    cursor = Cursor(node.data, clause=CLAUSE)
    fields: dict[str, Any] = {}
    for name, form in kind.layout:
        if form.endswith("?"):
            if not cursor.remaining:
                break
            form = form[:-1]  # noqa: PLW2901
        fields[name] = _read(cursor, name, form)
    cursor.expect_end()
    return MappingProxyType(fields)


def _read(cursor: Cursor, name: str, form: str) -> object:
    match form:
        case "u8":
            return cursor.u8(name)
        case "u16":
            return cursor.u16(name)
        case "u32":
            return cursor.u32(name)
        case "u64":
            return cursor.u64(name)
        case "guid":
            return cursor.guid(name)
        case "bytes":
            return cursor.rest(name)
        case "ascii":
            return cursor.rest(name).decode("latin-1")
        case "asciiz":
            end = cursor.peek.find(b"\0")
            if end < 0:
                raise cursor.error("text without its NUL", name)
            return cursor.take(name, end + 1)[:-1].decode("latin-1")
        case "utf16z":
            return cursor.utf16_z(name)
        case "utf16":
            if cursor.remaining % 2:
                raise cursor.error("UTF-16 text of an odd number of bytes", name)
            return decode_utf16(cursor.rest(name))
        case "u32s":
            return tuple(cursor.u32(f"{name}[{index}]") for index in range(cursor.remaining // 4))
        case "ips":
            return tuple(cursor.take(f"{name}[{index}]", 16) for index in range(cursor.remaining // 16))
        case _:
            return cursor.take(name, int(form.removeprefix("bytes")))


_NUMBERS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q"}


def build_node(kind: tuple[int, int], fields: Mapping[str, Any]) -> DevicePathNode:
    """The node of a type and subtype with these fields; the inverse of :func:`node_fields`.

    :raises FormatError: a value that its field cannot hold.
    """
    data = b""
    for name, form in KINDS[kind].layout:
        if form.endswith("?") and name not in fields:
            break
        try:
            data += _pack(fields[name], form.rstrip("?"))
        except (struct.error, UnicodeEncodeError, ValueError) as error:
            raise FormatError(f"{error}", path=name, clause=CLAUSE) from None
    return DevicePathNode(type=kind[0], subtype=kind[1], data=data)


def _pack(value: Any, form: str) -> bytes:
    if form in _NUMBERS:
        return struct.pack(_NUMBERS[form], value)
    match form:
        case "guid":
            assert isinstance(value, UUID)
            return value.bytes_le
        case "ascii":
            return bytes(value.encode("latin-1"))
        case "asciiz":
            return bytes(value.encode("latin-1")) + b"\0"
        case "utf16z":
            return encode_utf16(value) + b"\0\0"
        case "utf16":
            return encode_utf16(value)
        case "u32s":
            return struct.pack(f"<{len(value)}I", *value)
        case "ips":
            return b"".join(value)
        case _:
            size = form.removeprefix("bytes")
            if size and len(value) != int(size):
                raise ValueError(f"{len(value)} bytes, {size} are needed")
            return bytes(value)
