"""EFI_IMAGE_LOAD_EVENT (PFP 1.06, clause 10.2.3)."""

from __future__ import annotations

import struct

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor
from measlog.records.base import Record, Undecodable
from measlog.records.device_path import DevicePath, read_path

__all__ = ["ImageLoadEvent", "read_image_load"]

CLAUSE = "PFP 1.06, 10.2.3"


@frozen(kw_only=True)
class ImageLoadEvent(Record):
    """EFI_IMAGE_LOAD_EVENT: addresses and lengths in bytes. The digest is the image's; none of these fields is in it."""

    location: int = field(validator=instance_of(int))
    """ImageLocationInMemory."""
    length: int = field(validator=instance_of(int))
    """ImageLengthInMemory."""
    link_time_address: int = field(validator=instance_of(int))
    """ImageLinkTimeAddress."""
    device_path: DevicePath | Undecodable

    def _body(self) -> bytes:
        path = self.device_path.to_bytes()
        return struct.pack("<QQQQ", self.location, self.length, self.link_time_address, len(path)) + path


def read_image_load(cursor: Cursor) -> ImageLoadEvent:
    """EFI_IMAGE_LOAD_EVENT with UINTN of 64 bits. A device path that is none is kept as it is.

    :raises FormatError: fewer bytes than the fields or LengthOfDevicePath call for.
    """
    cursor.clause = CLAUSE
    location = cursor.u64("location")
    length = cursor.u64("length")
    link_time_address = cursor.u64("link_time_address")
    inner = cursor.inside("device_path", cursor.u64("length_of_device_path"))
    raw = inner.peek
    path: DevicePath | Undecodable
    try:
        path = read_path(inner)
    except FormatError as error:
        path = Undecodable(raw=raw, reason=str(error))
    return ImageLoadEvent(
        location=location,
        length=length,
        link_time_address=link_time_address,
        device_path=path,
        **cursor.finish(),
    )
