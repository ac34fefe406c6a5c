"""Text forms of messaging nodes that are more than a name and the fields in order (UEFI 2.10, clause 10.6)."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from measlog.records.device_path_codecs import (
    Fields,
    Kind,
    Reader,
    Writer,
    read_vendor,
    to_index,
    to_int,
    unquote,
    write_vendor,
)

__all__ = ["MESSAGING_READERS", "MESSAGING_WRITERS"]

_PRIMARY = ("Primary", "Secondary")
_MASTER = ("Master", "Slave")


def _write_ata(fields: Fields) -> str | None:
    if fields["primary_secondary"] > 1 or fields["slave_master"] > 1:
        return None
    return f"Ata({_PRIMARY[fields['primary_secondary']]},{_MASTER[fields['slave_master']]},0x{fields['lun']:X})"


def _read_ata(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    channel, device, lun = arguments
    return (3, 1), {
        "primary_secondary": to_index(_PRIMARY, channel),
        "slave_master": to_index(_MASTER, device),
        "lun": to_int(lun),
    }


# Vendor-defined messaging nodes that have names of their own (UEFI 2.10, 10.3.4.17; EDK2 for DebugPort).
_VENDOR_NAMES = {
    UUID("e0c14753-f9be-11d2-9a0c-0090273fc14d"): "VenPcAnsi",
    UUID("dfa66065-b419-11d3-9a2d-0090273fc14d"): "VenVt100",
    UUID("7baec70b-57e0-4c76-8e87-2f9e28088343"): "VenVt100Plus",
    UUID("ad15a0d6-8bec-4acf-a073-d01de77e2d88"): "VenUtf8",
    UUID("eba4e8d2-3858-41ec-a281-2647ba9660d0"): "DebugPort",
}
_FLOW_CONTROL = UUID("37499a9d-542f-4c89-a026-35da142094e4")
_FLOWS = ("None", "Hardware", "XonXoff")


def _write_messaging_vendor(fields: Fields) -> str:
    guid, data = fields["vendor_guid"], fields["vendor_defined_data"]
    if guid in _VENDOR_NAMES and not data:
        return f"{_VENDOR_NAMES[guid]}()"
    if guid == _FLOW_CONTROL and len(data) == 4 and int.from_bytes(data, "little") < 3:
        return f"UartFlowCtrl({_FLOWS[int.from_bytes(data, 'little')]})"
    return str(write_vendor("VenMsg")(fields))


def _read_named_vendor(guid: UUID) -> Reader:
    def read(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
        if arguments != [""]:
            raise ValueError(arguments)
        return (3, 10), {"vendor_guid": guid, "vendor_defined_data": b""}

    return read


def _read_flow(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    (flow,) = arguments
    data = struct.pack("<I", to_index(_FLOWS, flow))
    return (3, 10), {"vendor_guid": _FLOW_CONTROL, "vendor_defined_data": data}


def _write_mac(fields: Fields) -> str:
    size = 6 if fields["if_type"] in {0, 1} else 32
    return f"MAC({fields['mac_address'][:size].hex().upper()},0x{fields['if_type']:X})"


def _read_mac(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    address, kind = arguments
    return (3, 11), {"mac_address": bytes.fromhex(address).ljust(32, b"\0"), "if_type": to_int(kind)}


_PROTOCOLS = {6: "TCP", 17: "UDP"}
_PROTOCOL_NUMBERS = {name: number for number, name in _PROTOCOLS.items()}
_IPV4_ORIGINS = ("DHCP", "Static")
_IPV6_ORIGINS = ("Static", "StatelessAutoConfigure", "StatefulAutoConfigure")


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, f"0x{number:X}")


def _ipv4(data: bytes) -> str:
    return str(ipaddress.IPv4Address(data))


def _ipv6(data: bytes) -> str:
    return str(ipaddress.IPv6Address(data))


def _write_ipv4(fields: Fields) -> str | None:
    if fields["static_ip_address"] > 1:
        return None
    parts = [
        _ipv4(fields["remote_ip_address"]),
        _protocol(fields["protocol"]),
        _IPV4_ORIGINS[fields["static_ip_address"]],
        _ipv4(fields["local_ip_address"]),
    ]
    if "subnet_mask" in fields:
        parts += [_ipv4(fields["gateway_ip_address"]), _ipv4(fields["subnet_mask"])]
    return f"IPv4({','.join(parts)})"


def _read_ipv4(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    remote, protocol, origin, local, *rest = arguments
    fields = {
        "local_ip_address": ipaddress.IPv4Address(local).packed,
        "remote_ip_address": ipaddress.IPv4Address(remote).packed,
        "local_port": 0,
        "remote_port": 0,
        "protocol": _PROTOCOL_NUMBERS[protocol] if protocol in _PROTOCOL_NUMBERS else to_int(protocol),
        "static_ip_address": to_index(_IPV4_ORIGINS, origin),
    }
    if rest:
        gateway, mask = rest
        fields["gateway_ip_address"] = ipaddress.IPv4Address(gateway).packed
        fields["subnet_mask"] = ipaddress.IPv4Address(mask).packed
    return (3, 12), fields


def _write_ipv6(fields: Fields) -> str | None:
    if fields["ip_address_origin"] > 2:
        return None
    parts = [
        _ipv6(fields["remote_ip_address"]),
        _protocol(fields["protocol"]),
        _IPV6_ORIGINS[fields["ip_address_origin"]],
        _ipv6(fields["local_ip_address"]),
    ]
    if "gateway_ip_address" in fields:
        parts += [f"0x{fields['prefix_length']:X}", _ipv6(fields["gateway_ip_address"])]
    return f"IPv6({','.join(parts)})"


def _read_ipv6(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    remote, protocol, origin, local, *rest = arguments
    fields = {
        "local_ip_address": ipaddress.IPv6Address(local).packed,
        "remote_ip_address": ipaddress.IPv6Address(remote).packed,
        "local_port": 0,
        "remote_port": 0,
        "protocol": _PROTOCOL_NUMBERS[protocol] if protocol in _PROTOCOL_NUMBERS else to_int(protocol),
        "ip_address_origin": to_index(_IPV6_ORIGINS, origin),
    }
    if rest:
        prefix, gateway = rest
        fields["prefix_length"] = to_int(prefix)
        fields["gateway_ip_address"] = ipaddress.IPv6Address(gateway).packed
    return (3, 13), fields


_PARITIES = "DNEOMS"
_STOP_BITS = ("D", "1", "1.5", "2")


def _write_uart(fields: Fields) -> str | None:
    if fields["parity"] >= len(_PARITIES) or fields["stop_bits"] >= len(_STOP_BITS):
        return None
    baud, data = (fields[name] or "DEFAULT" for name in ("baud_rate", "data_bits"))
    return f"Uart({baud},{data},{_PARITIES[fields['parity']]},{_STOP_BITS[fields['stop_bits']]})"


def _read_uart(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    baud, data, parity, stop = arguments
    return (3, 14), {
        "reserved": 0,
        "baud_rate": 0 if baud == "DEFAULT" else to_int(baud),
        "data_bits": 0 if data == "DEFAULT" else to_int(data),
        "parity": _PARITIES.index(parity) if len(parity) == 1 else -1,
        "stop_bits": to_index(_STOP_BITS, stop),
    }


_USB_CLASSES = {
    1: "UsbAudio",
    2: "UsbCDCControl",
    3: "UsbHID",
    6: "UsbImage",
    7: "UsbPrinter",
    8: "UsbMassStorage",
    9: "UsbHub",
    10: "UsbCDCData",
    11: "UsbSmartCard",
    14: "UsbVideo",
    220: "UsbDiagnostic",
    224: "UsbWireless",
}
_USB_SUBCLASSES = {1: "UsbDeviceFirmwareUpdate", 2: "UsbIrdaBridge", 3: "UsbTestAndMeasurement"}
_USB_SUBCLASS_CLASS = 254


def _write_usb_class(fields: Fields) -> str:
    ids = f"0x{fields['vendor_id']:X},0x{fields['product_id']:X}"
    group, sub, protocol = fields["device_class"], fields["device_sub_class"], fields["device_protocol"]
    if group in _USB_CLASSES:
        return f"{_USB_CLASSES[group]}({ids},0x{sub:X},0x{protocol:X})"
    if group == _USB_SUBCLASS_CLASS and sub in _USB_SUBCLASSES:
        return f"{_USB_SUBCLASSES[sub]}({ids},0x{protocol:X})"
    return f"UsbClass({ids},0x{group:X},0x{sub:X},0x{protocol:X})"


def _usb(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    names = ("vendor_id", "product_id", "device_class", "device_sub_class", "device_protocol")
    return (3, 15), dict(zip(names, map(to_int, arguments), strict=True))


def _read_usb(group: int) -> Reader:
    return lambda arguments: _usb([*arguments[:2], str(group), *arguments[2:]])


def _read_usb_sub(sub: int) -> Reader:
    return lambda arguments: _usb([*arguments[:2], str(_USB_SUBCLASS_CLASS), str(sub), *arguments[2:]])


def _write_wwid(fields: Fields) -> str:
    ids = f"0x{fields['vendor_id']:X},0x{fields['product_id']:X},0x{fields['interface_number']:X}"
    return f'UsbWwid({ids},"{fields["serial_number"]}")'


def _read_wwid(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    vendor, product, interface, serial = arguments
    return (3, 16), {
        "interface_number": to_int(interface),
        "vendor_id": to_int(vendor),
        "product_id": to_int(product),
        "serial_number": unquote(serial),
    }


_DIGESTS = ("None", "CRC32C")
_AUTHENTICATIONS = {"None": 0x0800, "CHAP_UNI": 0x1000, "CHAP_BI": 0x0000}


def _write_iscsi(fields: Fields) -> str | None:
    options = fields["login_option"]
    method = next((name for name, bits in _AUTHENTICATIONS.items() if options & 0x1800 == bits), None)
    if method is None or fields["protocol"] != 0:
        return None
    header, data = _DIGESTS[options >> 1 & 1], _DIGESTS[options >> 3 & 1]
    lun = fields["lun"].hex().upper()
    return (
        f"iSCSI({fields['target_name']},0x{fields['target_portal_group_tag']:X},0x{lun},{header},{data},{method},TCP)"
    )


def _read_iscsi(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    name, group, lun, header, data, method, protocol = arguments
    if protocol != "TCP":
        raise ValueError(protocol)
    options = to_index(_DIGESTS, header) << 1 | to_index(_DIGESTS, data) << 3 | _AUTHENTICATIONS[method]
    return (3, 19), {
        "protocol": 0,
        "login_option": options,
        "lun": bytes.fromhex(lun.removeprefix("0x")),
        "target_portal_group_tag": to_int(group),
        "target_name": name,
    }


_SAS = ("SAS", "SATA")
_LOCATION = ("Internal", "External")
_CONNECT = ("Direct", "Expanded")


def _write_sas(fields: Fields) -> str:
    # DeviceTopology: bits 0-3 how much more is told, 4 SATA, 5 external, 6 expanded, 8-15 drive bay less one.
    topology = fields["device_topology"]
    head = f"0x{fields['sas_address'].hex().upper()},0x{fields['lun'].hex().upper()}"
    head += f",0x{fields['relative_target_port']:X}"
    if topology == 0:
        return f"SasEx({head},NoTopology,0,0,0)"
    words = f"{_SAS[topology >> 4 & 1]},{_LOCATION[topology >> 5 & 1]},{_CONNECT[topology >> 6 & 1]}"
    bay = f"0x{(topology >> 8) + 1:X}" if topology & 0x0F == 2 else "0"
    return f"SasEx({head},{words},{bay})"


def _read_sas(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    address, lun, port, kind, location, connect, bay = arguments
    topology = 0
    if kind != "NoTopology":
        number = to_int(bay)
        topology = 1 if number == 0 else 2 | (number - 1) << 8
        topology |= to_index(_SAS, kind) << 4 | to_index(_LOCATION, location) << 5 | to_index(_CONNECT, connect) << 6
    return (3, 22), {
        "sas_address": bytes.fromhex(address.removeprefix("0x")),
        "lun": bytes.fromhex(lun.removeprefix("0x")),
        "device_topology": topology,
        "relative_target_port": to_int(port),
    }


def _write_dns(fields: Fields) -> str | None:
    if fields["is_ipv6"] > 1 or not fields["dns_server_ip"]:
        return None
    if fields["is_ipv6"]:
        return f"Dns({','.join(map(_ipv6, fields['dns_server_ip']))})"
    return f"Dns({','.join([_ipv4(address[:4]) for address in fields['dns_server_ip']])})"


def _read_dns(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    addresses = [ipaddress.ip_address(argument) for argument in arguments]
    six = addresses[0].version == 6
    if any((address.version == 6) != six for address in addresses):
        raise ValueError(arguments)
    return (3, 31), {
        "is_ipv6": int(six),
        "dns_server_ip": [address.packed.ljust(16, b"\0") for address in addresses],
    }


def _write_nvmeof(fields: Fields) -> str:
    return f"NVMEoF({fields['subsystem_nqn']},{fields['nid_type']},{fields['nid'].hex().upper()})"


def _read_nvmeof(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    nqn, kind, nid = arguments
    return (3, 34), {"nid_type": to_int(kind), "nid": bytes.fromhex(nid), "subsystem_nqn": nqn}


MESSAGING_WRITERS: Mapping[Kind, Writer] = {
    (3, 1): _write_ata,
    (3, 10): _write_messaging_vendor,
    (3, 11): _write_mac,
    (3, 12): _write_ipv4,
    (3, 13): _write_ipv6,
    (3, 14): _write_uart,
    (3, 15): _write_usb_class,
    (3, 16): _write_wwid,
    (3, 19): _write_iscsi,
    (3, 22): _write_sas,
    (3, 31): _write_dns,
    (3, 34): _write_nvmeof,
}
MESSAGING_READERS: Mapping[str, Reader] = {
    "Ata": _read_ata,
    "VenMsg": read_vendor((3, 10)),
    **{name: _read_named_vendor(guid) for guid, name in _VENDOR_NAMES.items()},
    "UartFlowCtrl": _read_flow,
    "MAC": _read_mac,
    "IPv4": _read_ipv4,
    "IPv6": _read_ipv6,
    "Uart": _read_uart,
    "UsbClass": _usb,
    **{name: _read_usb(number) for number, name in _USB_CLASSES.items()},
    **{name: _read_usb_sub(number) for number, name in _USB_SUBCLASSES.items()},
    "UsbWwid": _read_wwid,
    "iSCSI": _read_iscsi,
    "SasEx": _read_sas,
    "Dns": _read_dns,
    "NVMEoF": _read_nvmeof,
}
