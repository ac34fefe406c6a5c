"""Superblocks: which file system a partition holds, its UUID and label, and the dm-verity superblock.

Sources: Linux ``fs/ext4/ext4.h``, ``fs/btrfs/btrfs_tree.h``, ``fs/xfs/libxfs/xfs_format.h``, ``fs/squashfs/squashfs_fs.h``,
``fs/erofs/erofs_fs.h``; cryptsetup's "DM-Verity on-disk format".
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import construct as c
from attrs import field, frozen
from attrs.validators import instance_of, optional

from measlog.errors import FormatError
from measlog.formats.blocks import Blocks
from measlog.formats.fat import FatVolume
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["FilesystemInfo", "VeritySuperblock", "identify_filesystem", "verity_sb"]

ext4_super_block = c.Struct(
    "s_inodes_count" / c.Int32ul,
    "s_blocks_count_lo" / c.Int32ul,
    "s_counts" / c.Bytes(16),
    "s_log_block_size" / c.Int32ul,
    "s_more" / c.Bytes(28),
    "s_magic" / c.Int16ul,
    "s_state" / c.Bytes(46),
    "s_uuid" / c.Bytes(16),
    "s_volume_name" / c.Bytes(16),
)
btrfs_super_block = c.Struct(
    "csum" / c.Bytes(32),
    "fsid" / c.Bytes(16),
    "bytenr" / c.Int64ul,
    "flags" / c.Int64ul,
    "magic" / c.Bytes(8),
    "roots" / c.Bytes(40),
    "total_bytes" / c.Int64ul,
    "trees" / c.Bytes(179),
    "label" / c.Bytes(256),
)
xfs_dsb = c.Struct(
    "sb_magicnum" / c.Bytes(4),
    "sizes" / c.Bytes(28),
    "sb_uuid" / c.Bytes(16),
    "blocks" / c.Bytes(60),
    "sb_fname" / c.Bytes(12),
)
erofs_super_block = c.Struct(
    "magic" / c.Int32ul,
    "fields" / c.Bytes(44),
    "uuid" / c.Bytes(16),
    "volume_name" / c.Bytes(16),
)
verity_sb = c.Struct(
    "signature" / c.Bytes(8),
    "version" / c.Int32ul,
    "hash_type" / c.Int32ul,
    "uuid" / c.Bytes(16),
    "algorithm" / c.Bytes(32),
    "data_block_size" / c.Int32ul,
    "hash_block_size" / c.Int32ul,
    "data_blocks" / c.Int64ul,
    "salt_size" / c.Int16ul,
    "pad1" / c.Bytes(6),
    "salt" / c.Bytes(256),
    "pad2" / c.Bytes(168),
)


@frozen(kw_only=True)
class FilesystemInfo:
    """Kind, UUID as blkid prints it, label: None where the superblock has none; size in bytes, None where not read."""

    kind: str = field(validator=instance_of(str))
    uuid: str | None = field(default=None, validator=optional(instance_of(str)))
    label: str | None = field(default=None, validator=optional(instance_of(str)))
    size: int | None = field(default=None, validator=optional(instance_of(int)))


@frozen(kw_only=True)
class VeritySuperblock:
    """The dm-verity superblock: block sizes in bytes, the number of data blocks, the salt."""

    hash_type: int = field(validator=instance_of(int))
    uuid: UUID = field(validator=instance_of(UUID))
    algorithm: str = field(validator=instance_of(str))
    data_block_size: int = field(validator=instance_of(int))
    hash_block_size: int = field(validator=instance_of(int))
    data_blocks: int = field(validator=instance_of(int))
    salt: bytes = field(validator=instance_of(bytes))

    @classmethod
    def from_bytes(cls, data: bytes) -> VeritySuperblock:
        """Read a superblock; FormatError where ``data`` is none."""
        clause = "DM-Verity on-disk format"
        if len(data) < verity_sb.sizeof():
            raise FormatError(f"{len(data)} bytes, a superblock has {verity_sb.sizeof()}", offset=0, clause=clause)
        read: Any = verity_sb.parse(data[: verity_sb.sizeof()])
        if read.signature != b"verity\0\0" or read.version != 1:
            raise FormatError("no dm-verity superblock", offset=0, path="signature", clause=clause)
        if read.salt_size > len(read.salt):
            raise FormatError(f"a salt of {read.salt_size} bytes", offset=80, path="salt_size", clause=clause)
        return cls(
            hash_type=read.hash_type,
            uuid=UUID(bytes=read.uuid),
            algorithm=read.algorithm.partition(b"\0")[0].decode("ascii", "backslashreplace"),
            data_block_size=read.data_block_size,
            hash_block_size=read.hash_block_size,
            data_blocks=read.data_blocks,
            salt=read.salt[: read.salt_size],
        )


def identify_filesystem(blocks: Blocks, *, limits: Limits = DEFAULT_LIMITS) -> FilesystemInfo | None:
    """What file system starts at the beginning of ``blocks``, None where it is none of those known here."""

    def superblock(shape: Any, offset: int) -> Any:
        length = shape.sizeof()
        return shape.parse(blocks.read(offset, length)) if offset + length <= blocks.size else None

    btrfs = superblock(btrfs_super_block, 0x10000)
    if btrfs is not None and btrfs.magic == b"_BHRfS_M":
        return FilesystemInfo(
            kind="btrfs", uuid=str(UUID(bytes=btrfs.fsid)), label=_label(btrfs.label), size=btrfs.total_bytes
        )
    ext4 = superblock(ext4_super_block, 1024)
    if ext4 is not None and ext4.s_magic == 0xEF53:
        size = ext4.s_blocks_count_lo << (10 + min(ext4.s_log_block_size, 6))
        return FilesystemInfo(
            kind="ext4", uuid=str(UUID(bytes=ext4.s_uuid)), label=_label(ext4.s_volume_name), size=size
        )
    xfs = superblock(xfs_dsb, 0)
    if xfs is not None and xfs.sb_magicnum == b"XFSB":
        return FilesystemInfo(kind="xfs", uuid=str(UUID(bytes=xfs.sb_uuid)), label=_label(xfs.sb_fname))
    if xfs is not None and xfs.sb_magicnum == b"hsqs":
        return FilesystemInfo(kind="squashfs")
    erofs = superblock(erofs_super_block, 1024)
    if erofs is not None and erofs.magic == 0xE0F5E1E2:
        return FilesystemInfo(kind="erofs", uuid=str(UUID(bytes=erofs.uuid)), label=_label(erofs.volume_name))
    try:
        fat = FatVolume(blocks, limits=limits)
    except FormatError:
        return None
    return FilesystemInfo(kind="fat", uuid=fat.uuid, label=fat.label)


def _label(raw: bytes) -> str | None:
    text = raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return text or None
