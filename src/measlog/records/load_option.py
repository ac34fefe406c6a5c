"""EFI_LOAD_OPTION (UEFI 2.10, clause 3.1.3): what ``Boot####`` and its kin hold."""

from __future__ import annotations

import struct

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor, encode_utf16
from measlog.records.base import Record, Undecodable
from measlog.records.device_path import DevicePath, read_path

__all__ = ["LoadOption", "read_load_option"]

CLAUSE = "UEFI 2.10, 3.1.3"
_NODE = struct.Struct("<BBH")
LOAD_OPTION_ACTIVE = 0x00000001
LOAD_OPTION_HIDDEN = 0x00000008
LOAD_OPTION_CATEGORY_APP = 0x00000100


@frozen(kw_only=True)
class LoadOption(Record):
    """EFI_LOAD_OPTION. ``file_path_list`` may hold several paths, one after another, each with its end node."""

    attributes: int = field(validator=instance_of(int))
    description: str = field(validator=instance_of(str))
    file_path_list: tuple[DevicePath | Undecodable, ...]
    optional_data: bytes = field(default=b"", validator=instance_of(bytes))

    @property
    def active(self) -> bool:
        """LOAD_OPTION_ACTIVE: the boot manager tries it."""
        return bool(self.attributes & LOAD_OPTION_ACTIVE)

    @property
    def device_path(self) -> DevicePath | Undecodable | None:
        """The first path: what is loaded. The others are the loaded image's own business."""
        return self.file_path_list[0] if self.file_path_list else None

    def _body(self) -> bytes:
        paths = b"".join([path.to_bytes() for path in self.file_path_list])
        head = struct.pack("<IH", self.attributes, len(paths))
        return head + encode_utf16(self.description) + b"\0\0" + paths + self.optional_data


def read_load_option(cursor: Cursor) -> LoadOption:
    """An EFI_LOAD_OPTION that takes all that is left.

    :raises FormatError: a description without its NUL, or a path list longer than what is left.
    """
    cursor.clause = CLAUSE
    attributes = cursor.u32("attributes")
    length = cursor.u16("file_path_list_length")
    description = cursor.utf16_z("description")
    inner = cursor.inside("file_path_list", length)
    paths: list[DevicePath | Undecodable] = []
    while inner.remaining:
        size = _path_size(inner)
        raw = inner.data[inner.pos : inner.pos + size]
        part = inner.inside(f"[{len(paths)}]", size)
        try:
            paths.append(read_path(part))
        except FormatError as error:
            paths.append(Undecodable(raw=raw, reason=str(error)))
    return LoadOption(
        attributes=attributes,
        description=description,
        file_path_list=tuple(paths),
        optional_data=cursor.rest("optional_data"),
    )


def _path_size(cursor: Cursor) -> int:
    # Up to and including the first End Entire node; all that is left where there is none.
    pos = cursor.pos
    while cursor.end - pos >= 4:
        kind, subtype, length = _NODE.unpack_from(cursor.data, pos)
        if length < 4 or length > cursor.end - pos:
            break
        pos += length
        if kind == 0x7F and subtype == 0xFF:
            return int(pos) - cursor.pos
    return cursor.remaining
