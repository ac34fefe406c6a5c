"""Linux kernel images: where the kernel itself lies within the file that boots, and how it is packed.

The x86 boot protocol (Linux, Documentation/arch/x86/boot.rst, fields ``payload_offset`` and ``payload_length``), the image
header of arm64 (Documentation/arch/arm64/booting.rst), and that of self-extracting EFI images
(drivers/firmware/efi/libstub/zboot-header.S).
"""

from __future__ import annotations

from typing import Self

import construct as c
from attrs import field, frozen
from attrs.validators import instance_of, optional

from measlog.errors import FormatError

__all__ = ["KernelPayload", "arm64_image_header", "setup_header", "zboot_header"]

CLAUSE = "x86 boot protocol, payload_offset"

setup_header = c.Struct(
    "before" / c.Bytes(0x1F1),
    "setup_sects" / c.Int8ul,
    "between" / c.Bytes(0x10),
    "header" / c.Bytes(4),
    "version" / c.Int16ul,
    "rest" / c.Bytes(0x40),
    "payload_offset" / c.Int32ul,
    "payload_length" / c.Int32ul,
)
arm64_image_header = c.Struct("before" / c.Bytes(56), "magic" / c.Bytes(4))
zboot_header = c.Struct(
    "MZ" / c.Bytes(4),
    "image_type" / c.Bytes(4),
    "payload_offset" / c.Int32ul,
    "payload_size" / c.Int32ul,
)

PAYLOAD_SINCE = 0x0208
"""The first version of the x86 boot protocol with a payload."""

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x89LZO", "lzo"),
)


@frozen(kw_only=True)
class KernelPayload:
    """The kernel within a file: ``offset`` and ``size`` in bytes.

    ``packing`` is ``gzip``, ``bzip2``, ``lzma``, ``xz``, ``zstd``, ``lz4`` or ``lzo`` by the first bytes, ``none`` where
    the file is the kernel as it runs, and None where the first bytes are none of these.
    """

    offset: int = field(validator=instance_of(int))
    size: int = field(validator=instance_of(int))
    packing: str | None = field(validator=optional(instance_of(str)))

    @classmethod
    def find(cls, data: bytes | memoryview) -> Self | None:
        """The payload of the kernel image ``data``, the whole file; None where no header names one.

        Raises FormatError where a header names bytes that the file does not have.
        """
        size = len(data)
        head = bytes(data[: max(setup_header.sizeof(), zboot_header.sizeof())]).ljust(setup_header.sizeof(), b"\0")
        zboot = zboot_header.parse(head)
        if zboot.image_type == b"zimg":
            return cls._packed(data, zboot.payload_offset, zboot.payload_size, 8, "zboot-header.S")
        if arm64_image_header.parse(head).magic == b"ARM\x64":
            return cls(offset=0, size=size, packing="none")
        setup = setup_header.parse(head)
        if setup.header != b"HdrS" or setup.version < PAYLOAD_SINCE or setup.payload_offset == 0:
            return None
        # Where setup_sects is 0, it means 4.
        start = ((setup.setup_sects or 4) + 1) * 512 + setup.payload_offset
        return cls._packed(data, start, setup.payload_length, 0x248, CLAUSE)

    @classmethod
    def _packed(cls, data: bytes | memoryview, offset: int, size: int, place: int, clause: str) -> Self:
        if size == 0 or offset + size > len(data):
            raise FormatError(
                f"the payload is bytes {offset} to {offset + size}, the file ends at {len(data)}",
                offset=place,
                path="payload",
                clause=clause,
            )
        first = bytes(data[offset : offset + 8])
        packing = next((name for magic, name in _PACKED if first.startswith(magic)), None)
        return cls(offset=offset, size=size, packing=packing)
