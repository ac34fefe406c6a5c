"""EFI_DEVICE_PATH_PROTOCOL (UEFI 2.10, clause 10.3): a list of nodes, and its text form (clause 10.6)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from attrs import field, frozen
from attrs.validators import and_, deep_iterable, instance_of, le
from attrs.validators import ge as at_least

from measlog.formats.cursor import Cursor
from measlog.records.base import Record

__all__ = ["DevicePath", "DevicePathNode", "read_path"]

CLAUSE = "UEFI 2.10, 10.3"
_HEADER = struct.Struct("<BBH")
END = 0x7F
END_ENTIRE = 0xFF
END_INSTANCE = 0x01


@frozen(kw_only=True)
class DevicePathNode:
    """One EFI_DEVICE_PATH_PROTOCOL node. ``data`` is what follows the four bytes of its header."""

    type: int = field(validator=and_(instance_of(int), at_least(0), le(0xFF)))
    subtype: int = field(validator=and_(instance_of(int), at_least(0), le(0xFF)))
    data: bytes = field(default=b"", validator=instance_of(bytes))

    def to_bytes(self) -> bytes:
        """Header and data."""
        return _HEADER.pack(self.type, self.subtype, _HEADER.size + len(self.data)) + self.data

    @property
    def name(self) -> str:
        """Name of the kind of node, such as ``HardDrive``; empty where UEFI 2.10 has none for it."""
        from measlog.records.device_path_nodes import KINDS  # noqa: PLC0415 - the table refers back to this class

        kind = KINDS.get((self.type, self.subtype))
        return kind.name if kind is not None else ""

    @property
    def fields(self) -> Mapping[str, object]:
        """The node's fields by the names that UEFI 2.10 gives them.

        :raises FormatError: the data is too short, too long or otherwise not what this kind of node holds.
        :raises UnsupportedError: UEFI 2.10 has no such node.
        """
        from measlog.records.device_path_nodes import node_fields  # noqa: PLC0415

        return node_fields(self)

    @property
    def text(self) -> str:
        """The text form. Any node has one: unknown and odd ones are ``Path(type,subtype,hex)``."""
        from measlog.records.device_path_text import node_to_text  # noqa: PLC0415

        return node_to_text(self)


@frozen(kw_only=True)
class DevicePath(Record):
    """A device path, its end nodes included.

    In an event log it is free text: no digest covers a device path in an image load event.
    """

    nodes: tuple[DevicePathNode, ...] = field(validator=deep_iterable(instance_of(DevicePathNode)))

    def _body(self) -> bytes:
        return b"".join([node.to_bytes() for node in self.nodes])

    def __iter__(self) -> Iterator[DevicePathNode]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def text(self) -> str:
        """The text form of UEFI 2.10, clause 10.6: nodes joined by ``/``, instances by ``,``."""
        from measlog.records.device_path_text import path_to_text  # noqa: PLC0415

        return path_to_text(self.nodes)

    @classmethod
    def from_text(cls, text: str) -> DevicePath:
        """The path that ``text`` describes, ended by an End Entire node.

        :raises FormatError: what is not the text form of a device path.
        """
        from measlog.records.device_path_text import path_from_text  # noqa: PLC0415

        return cls(nodes=path_from_text(text))


def read_path(cursor: Cursor) -> DevicePath:
    """Nodes until the end of the cursor; no node may follow the one that ends the entire path.

    A path without an end node, and an empty one, are read as they are: shim logs empty ones.

    :raises FormatError: a node shorter than its header or longer than what is left, or bytes after the end.
    """
    cursor.clause = CLAUSE
    data, end = cursor.data, cursor.end
    pos = cursor.pos
    nodes: list[DevicePathNode] = []
    while pos < end:
        cursor.pos = pos
        name = f"nodes[{len(nodes)}]"
        if end - pos < _HEADER.size:
            raise cursor.error(f"{end - pos} bytes left are no device path node", name)
        kind, subtype, length = _HEADER.unpack_from(data, pos)
        if length < _HEADER.size or length > end - pos:
            raise cursor.error(f"node of {length} bytes, {end - pos} are left", name)
        if len(nodes) >= cursor.limits.items:
            raise cursor.error(f"more than {cursor.limits.items} nodes", name)
        nodes.append(DevicePathNode(type=kind, subtype=subtype, data=data[pos + _HEADER.size : pos + length]))
        cursor.spans[cursor.path + name] = (pos, pos + length)
        pos += length
        cursor.pos = pos
        if kind == END and subtype == END_ENTIRE and pos != end:
            raise cursor.error(f"{end - pos} bytes follow the end of the path", name)
    return DevicePath(nodes=tuple(nodes))
