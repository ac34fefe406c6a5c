"""The text form of device paths (UEFI 2.10, clause 10.6), in both directions.

Every node has a text form from which exactly its bytes come back. Where the standard's form for a node would lose
something (reserved bytes that are not zero, odd characters), and for nodes it has none for, the standard's generic
form is given: ``Path(type,subtype,hex)``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from measlog.errors import FormatError
from measlog.records.device_path import END, END_ENTIRE, END_INSTANCE, DevicePathNode
from measlog.records.device_path_nodes import build_node, node_fields
from measlog.records.device_path_special import SPECIAL_READERS, SPECIAL_WRITERS

__all__ = ["node_from_text", "node_to_text", "path_from_text", "path_to_text"]

CLAUSE = "UEFI 2.10, 10.6"
Kind = tuple[int, int]
Fields = Mapping[str, Any]


def _bad(text: str) -> FormatError:
    return FormatError(f"not the text form of a device path node: {text[:60]!r}", clause=CLAUSE)


def _number(text: str) -> int:
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}", text):
        return int(text, 16)
    if re.fullmatch(r"[0-9]{1,20}", text):
        return int(text)
    raise _bad(text)


def _hex_bytes(text: str) -> bytes:
    digits = text.removeprefix("0x")
    if len(digits) % 2 or not re.fullmatch(r"[0-9a-fA-F]*", digits):
        raise _bad(text)
    return bytes.fromhex(digits)


def _guid(text: str) -> UUID:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise _bad(text)
    return UUID(text)


def _ip(text: str) -> bytes:
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        raise _bad(text) from None


_CODECS: Mapping[str, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    "hex": (lambda value: f"0x{value:X}", _number),
    "hex16": (lambda value: f"0x{value:04X}", _number),
    "dec": (str, _number),
    "guid": (lambda value: str(value).upper(), _guid),
    "0xbytes": (lambda value: "0x" + value.hex().upper(), _hex_bytes),
    "bytes": (lambda value: value.hex().upper(), _hex_bytes),
    "eui": (lambda value: "-".join(f"{byte:02X}" for byte in value), lambda text: _hex_bytes(text.replace("-", ""))),
    "ip": (lambda value: str(ipaddress.ip_address(value)), _ip),
    "text": (str, str),
    "ssid": (
        lambda value: value.rstrip(b"\0").decode("latin-1"),
        lambda text: text.encode("latin-1", "replace").ljust(32, b"\0"),
    ),
}

# Nodes whose text form is a name and its fields, in order: (type, subtype): (name, ((field, codec), ...), defaults)
_SIMPLE: Mapping[Kind, tuple[str, tuple[tuple[str, str], ...], Fields]] = {
    (1, 1): ("Pci", (("device", "hex"), ("function", "hex")), {}),
    (1, 2): ("PcCard", (("function_number", "hex"),), {}),
    (1, 3): ("MemoryMapped", (("memory_type", "hex"), ("start_address", "hex"), ("end_address", "hex")), {}),
    (1, 5): ("Ctrl", (("controller_number", "hex"),), {}),
    (1, 6): ("BMC", (("interface_type", "hex"), ("base_address", "hex")), {}),
    (3, 2): ("Scsi", (("target_id", "hex"), ("lun", "hex")), {}),
    (3, 3): ("Fibre", (("wwn", "hex"), ("lun", "hex")), {"reserved": 0}),
    (3, 4): ("I1394", (("guid", "hex"),), {"reserved": 0}),
    (3, 5): ("USB", (("parent_port_number", "hex"), ("interface_number", "hex")), {}),
    (3, 6): ("I2O", (("target_id", "hex"),), {}),
    (3, 9): (
        "Infiniband",
        (
            ("resource_flags", "hex"),
            ("port_gid", "guid"),
            ("service_id", "hex"),
            ("target_port_id", "hex"),
            ("device_id", "hex"),
        ),
        {},
    ),
    (3, 17): ("Unit", (("lun", "hex"),), {}),
    (3, 18): ("Sata", (("hba_port", "hex"), ("port_multiplier_port", "hex"), ("lun", "hex")), {}),
    (3, 20): ("Vlan", (("vlan_id", "dec"),), {}),
    (3, 21): ("FibreEx", (("wwn", "0xbytes"), ("lun", "0xbytes")), {"reserved": 0}),
    (3, 23): ("NVMe", (("namespace_id", "hex"), ("eui64", "eui")), {}),
    (3, 24): ("Uri", (("uri", "text"),), {}),
    (3, 25): ("UFS", (("target_id", "hex"), ("lun", "hex")), {}),
    (3, 26): ("SD", (("slot_number", "hex"),), {}),
    (3, 27): ("Bluetooth", (("bd_addr", "bytes"),), {}),
    (3, 28): ("Wi-Fi", (("ssid", "ssid"),), {}),
    (3, 29): ("eMMC", (("slot_number", "hex"),), {}),
    (3, 30): ("BluetoothLE", (("bd_addr", "bytes"), ("address_type", "hex")), {}),
    (4, 2): ("CDROM", (("boot_entry", "hex"), ("partition_start", "hex"), ("partition_size", "hex")), {}),
    (4, 5): ("Media", (("protocol_guid", "guid"),), {}),
    (4, 6): ("FvFile", (("fv_file_name", "guid"),), {}),
    (4, 7): ("Fv", (("fv_name", "guid"),), {}),
    (4, 8): ("Offset", (("starting_offset", "hex"), ("ending_offset", "hex")), {"reserved": 0}),
}
_SIMPLE_BY_NAME: Mapping[str, Kind] = {name: kind for kind, (name, _, _) in _SIMPLE.items()}
_GENERIC = {"HardwarePath": 1, "AcpiPath": 2, "Msg": 3, "MediaPath": 4, "BbsPath": 5}
_NODE = re.compile(r"([A-Za-z0-9-]+)\((.*)\)", re.DOTALL)
# One argument: what a comma ends, quoted strings as they are.
_ARGUMENT = re.compile(r'(?:"[^"]*"|[^,"])*')


def node_to_text(node: DevicePathNode) -> str:
    """The text form of one node; the end of a path is nothing, that of an instance a comma."""
    if node.type == END and not node.data and node.subtype in {END_ENTIRE, END_INSTANCE}:
        return "" if node.subtype == END_ENTIRE else ","
    text = _standard_text(node)
    if text is not None and _reads_back(text, node):
        return text
    data = f",{node.data.hex().upper()}" if node.data else ""
    return f"Path({node.type},{node.subtype}{data})"


def _reads_back(text: str, node: DevicePathNode) -> bool:
    # Within a path the text has to be found again: "/" and "," outside of parentheses end a node.
    try:
        return _split_path(text) == [[text]] and node_from_text(text) == node
    except FormatError:
        return False


def _standard_text(node: DevicePathNode) -> str | None:
    try:
        fields = node_fields(node)
    except FormatError:
        return None
    kind = (node.type, node.subtype)
    simple = _SIMPLE.get(kind)
    if simple is not None:
        name, arguments, _ = simple
        return f"{name}({','.join([_CODECS[codec][0](fields[field]) for field, codec in arguments])})"
    writer = SPECIAL_WRITERS.get(kind)
    return writer(fields) if writer is not None else None


def node_from_text(text: str) -> DevicePathNode:
    """The node that ``text`` is the form of; text that is no ``Name(...)`` is a file path.

    :raises FormatError: a known name with arguments that do not fit it.
    """
    found = _NODE.fullmatch(text)
    if found is None:
        return build_node((4, 4), {"path_name": text})
    name, inner = found.group(1), found.group(2)
    # The one argument of these two may hold commas.
    arguments = [inner] if name in {"Uri", "Wi-Fi"} else _arguments(inner)
    if name == "Path" and len(arguments) in {2, 3}:
        data = _hex_bytes(arguments[2]) if len(arguments) == 3 else b""
        return _generic(_number(arguments[0]), _number(arguments[1]), data)
    if name in _GENERIC and len(arguments) in {1, 2}:
        data = _hex_bytes(arguments[1]) if len(arguments) == 2 else b""
        return _generic(_GENERIC[name], _number(arguments[0]), data)
    kind = _SIMPLE_BY_NAME.get(name)
    if kind is not None:
        _, layout, defaults = _SIMPLE[kind]
        if len(arguments) != len(layout):
            raise _bad(text)
        fields = {field: _CODECS[codec][1](value) for (field, codec), value in zip(layout, arguments, strict=True)}
        return build_node(kind, {**defaults, **fields})
    reader = SPECIAL_READERS.get(name)
    if reader is None:
        return build_node((4, 4), {"path_name": text})
    try:
        kind, fields = reader(arguments)
    except (ValueError, IndexError, KeyError):
        raise _bad(text) from None
    return build_node(kind, fields)


def _generic(kind: int, subtype: int, data: bytes) -> DevicePathNode:
    if not 0 <= kind <= 0xFF or not 0 <= subtype <= 0xFF or len(data) > 0xFFFF - 4:
        raise _bad(f"Path({kind},{subtype})")
    return DevicePathNode(type=kind, subtype=subtype, data=data)


def _arguments(text: str) -> list[str]:
    found: list[str] = []
    pos = 0
    while True:
        match = _ARGUMENT.match(text, pos)
        end = match.end() if match else pos
        found.append(text[pos:end])
        if end >= len(text):
            return found
        if text[end] != ",":
            raise _bad(text)
        pos = end + 1


def path_to_text(nodes: Sequence[DevicePathNode]) -> str:
    """The text form of a path: nodes joined by ``/``, instances by ``,``; its last end node goes without saying."""
    instances: list[list[str]] = [[]]
    last = len(nodes) - 1
    for index, node in enumerate(nodes):
        if node.type == END and not node.data and node.subtype == END_INSTANCE:
            instances.append([])
        elif node.type == END and not node.data and node.subtype == END_ENTIRE and index == last:
            break
        elif node.type == END:
            data = f",{node.data.hex().upper()}" if node.data else ""
            instances[-1].append(f"Path({node.type},{node.subtype}{data})")
        else:
            instances[-1].append(node_to_text(node))
    return ",".join(["/".join(nodes_of_one) for nodes_of_one in instances])


def path_from_text(text: str) -> tuple[DevicePathNode, ...]:
    """The nodes that ``text`` is the form of, an End Entire node at the end.

    :raises FormatError: parentheses that do not close, or a node that cannot be read.
    """
    nodes: list[DevicePathNode] = []
    for number, instance in enumerate(_split_path(text)):
        if number:
            nodes.append(DevicePathNode(type=END, subtype=END_INSTANCE))
        nodes.extend([node_from_text(part) for part in instance if part])
    nodes.append(DevicePathNode(type=END, subtype=END_ENTIRE))
    return tuple(nodes)


def _split_path(text: str) -> list[list[str]]:
    instances: list[list[str]] = [[]]
    depth, quoted, start = 0, False, 0
    for index, char in enumerate(text):
        if char == '"' and depth:
            quoted = not quoted
        elif quoted:
            continue
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth < 0:
                raise _bad(text)
        elif char in "/," and not depth:
            instances[-1].append(text[start:index])
            start = index + 1
            if char == ",":
                instances.append([])
    if depth or quoted:
        raise _bad(text)
    instances[-1].append(text[start:])
    return instances
