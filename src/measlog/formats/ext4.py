"""ext4 file systems, read only, as far as small configuration partitions need them: extents, no encryption, no journal replay.

Linux ``Documentation/filesystems/ext4``. A block belongs to one file here; trees that loop or cross are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import construct as c
from attrs import frozen

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.formats.blocks import Blocks
from measlog.formats.inodes import InodeFile, walk_files
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["Ext4Volume"]

CLAUSE = "Linux ext4 documentation"

SUPER_BLOCK = c.Struct(
    "s_inodes_count" / c.Int32ul,
    "s_blocks_count_lo" / c.Int32ul,
    "s_counts" / c.Bytes(12),
    "s_first_data_block" / c.Int32ul,
    "s_log_block_size" / c.Int32ul,
    "s_log_cluster_size" / c.Int32ul,
    "s_blocks_per_group" / c.Int32ul,
    "s_clusters_per_group" / c.Int32ul,
    "s_inodes_per_group" / c.Int32ul,
    "s_times" / c.Bytes(12),
    "s_magic" / c.Int16ul,
    "s_state" / c.Bytes(30),
    "s_inode_size" / c.Int16ul,
    "s_block_group_nr" / c.Int16ul,
    "s_feature_compat" / c.Int32ul,
    "s_feature_incompat" / c.Int32ul,
    "s_names" / c.Bytes(154),
    "s_desc_size" / c.Int16ul,
)
EXTENT_HEADER = c.Struct(
    "eh_magic" / c.Int16ul,
    "eh_entries" / c.Int16ul,
    "eh_max" / c.Int16ul,
    "eh_depth" / c.Int16ul,
    "eh_generation" / c.Int32ul,
)
EXTENT = c.Struct("ee_block" / c.Int32ul, "ee_len" / c.Int16ul, "ee_start_hi" / c.Int16ul, "ee_start_lo" / c.Int32ul)
EXTENT_INDEX = c.Struct(
    "ei_block" / c.Int32ul, "ei_leaf_lo" / c.Int32ul, "ei_leaf_hi" / c.Int16ul, "ei_unused" / c.Int16ul
)

# filetype, needs recovery, extents, 64bit, flex_bg, large xattrs, checksum seed, large directories.
READABLE = 0x2 | 0x4 | 0x40 | 0x80 | 0x200 | 0x400 | 0x2000 | 0x4000
BIT64, RECOVER = 0x80, 0x4
EXTENTS_FLAG = 0x80000
ROOT_INODE = 2
SIZE_LIMIT = 16 << 20


@frozen(kw_only=True)
class _Inode:
    mode: int
    size: int
    flags: int
    block: bytes


class Ext4Volume:
    """An ext4 volume; FormatError where ``blocks`` hold none, UnsupportedError for features that are not read here."""

    def __init__(self, blocks: Blocks, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._blocks = blocks
        self._limits = limits
        self._taken = 0
        head: Any = SUPER_BLOCK.parse(blocks.read(1024, SUPER_BLOCK.sizeof()))
        if head.s_magic != 0xEF53:
            raise FormatError("no ext4 file system", offset=1024 + 56, path="s_magic", clause=CLAUSE)
        if head.s_feature_incompat & ~READABLE:
            raise UnsupportedError(
                f"features 0x{head.s_feature_incompat & ~READABLE:x}",
                offset=1024 + 96,
                path="s_feature_incompat",
                clause=CLAUSE,
            )
        if head.s_feature_incompat & RECOVER:
            raise UnsupportedError("the journal has to be replayed", offset=1024 + 96, clause=CLAUSE)
        if head.s_log_block_size > 6:
            raise FormatError(f"blocks of 2^{10 + head.s_log_block_size} bytes", offset=1024 + 24, clause=CLAUSE)
        self._block_size = 1024 << head.s_log_block_size
        self._first = head.s_first_data_block
        self._per_group = head.s_inodes_per_group
        self._inodes = head.s_inodes_count
        self._inode_size = head.s_inode_size
        self._descriptor = head.s_desc_size if head.s_feature_incompat & BIT64 else 32
        if not 1 <= self._per_group <= 8 * self._block_size or not 128 <= self._inode_size <= self._block_size:
            raise FormatError("inodes per group or inode size out of range", offset=1024 + 40, clause=CLAUSE)
        if not 32 <= self._descriptor <= 1024:
            raise FormatError(f"group descriptors of {self._descriptor} bytes", offset=1024 + 254, clause=CLAUSE)

    def _block(self, number: int, path: str) -> bytes:
        self._taken += 1
        if self._taken > self._limits.items:
            raise LimitExceededError(f"more than {self._limits.items} blocks", path=path, clause=CLAUSE)
        if (number + 1) * self._block_size > self._blocks.size:
            raise FormatError(f"block {number} is beyond the end", path=path, clause=CLAUSE)
        return self._blocks.read(number * self._block_size, self._block_size)

    def _inode(self, number: int, path: str) -> _Inode:
        if not 1 <= number <= self._inodes:
            raise FormatError(f"inode {number} of {self._inodes}", path=path, clause=CLAUSE)
        group, index = divmod(number - 1, self._per_group)
        place = (self._first + 1) * self._block_size + group * self._descriptor
        descriptor = self._blocks.read(place, self._descriptor)
        table = int.from_bytes(descriptor[8:12], "little")
        if self._descriptor >= 64:
            table |= int.from_bytes(descriptor[40:44], "little") << 32
        raw = self._blocks.read(table * self._block_size + index * self._inode_size, 128)
        size = int.from_bytes(raw[4:8], "little") | int.from_bytes(raw[108:112], "little") << 32
        return _Inode(
            mode=int.from_bytes(raw[0:2], "little"),
            size=size,
            flags=int.from_bytes(raw[32:36], "little"),
            block=raw[40:100],
        )

    def _content(self, inode: _Inode, path: str) -> bytes:
        if inode.size > min(SIZE_LIMIT, self._limits.file_size):
            raise LimitExceededError(f"{inode.size} bytes, more than are read here", path=path, clause=CLAUSE)
        if not inode.flags & EXTENTS_FLAG:
            raise UnsupportedError("a file without extents", path=path, clause=CLAUSE)
        data = bytearray(inode.size)
        count = (inode.size + self._block_size - 1) // self._block_size
        for logical, number in self._extents(inode.block, path, 5, count):
            start = logical * self._block_size
            data[start : start + self._block_size] = self._block(number, path)[: inode.size - start]
        return bytes(data)

    def _extents(self, node: bytes, path: str, depth: int, count: int) -> Iterator[tuple[int, int]]:
        """Logical and physical number of the first ``count`` blocks of a file, as far as they are stored."""
        header = EXTENT_HEADER.parse(node)
        step = EXTENT.sizeof()
        if header.eh_magic != 0xF30A or header.eh_depth > depth or 12 + header.eh_entries * step > len(node):
            raise FormatError("a damaged extent tree", path=path, clause=CLAUSE)
        for index in range(header.eh_entries):
            raw = node[12 + index * step : 12 + (index + 1) * step]
            if header.eh_depth:
                entry = EXTENT_INDEX.parse(raw)
                below = self._block(entry.ei_leaf_hi << 32 | entry.ei_leaf_lo, path)
                yield from self._extents(below, path, header.eh_depth - 1, count)
                continue
            leaf = EXTENT.parse(raw)
            if leaf.ee_len > 32768:
                continue  # allocated, never written: zeros
            for offset in range(min(leaf.ee_len, max(count - leaf.ee_block, 0))):
                yield leaf.ee_block + offset, (leaf.ee_start_hi << 32 | leaf.ee_start_lo) + offset

    def files(self) -> tuple[InodeFile, ...]:
        """Every regular file, by path."""

        def look(number: int, path: str) -> tuple[int, int]:
            inode = self._inode(number, path)
            return inode.mode, inode.size

        def names(number: int, path: str) -> Iterator[tuple[str, int]]:
            return self._names(self._content(self._inode(number, path), path), path)

        return walk_files(ROOT_INODE, look, names, limits=self._limits, clause=CLAUSE)

    @staticmethod
    def _names(data: bytes, folder: str) -> Iterator[tuple[str, int]]:
        place = 0
        while place + 8 <= len(data):
            child = int.from_bytes(data[place : place + 4], "little")
            length = int.from_bytes(data[place + 4 : place + 6], "little")
            size = data[place + 6]
            if length < 8 or length % 4 or place + length > len(data) or 8 + size > length:
                raise FormatError(f"a damaged entry at byte {place} of the directory", path=folder, clause=CLAUSE)
            name = data[place + 8 : place + 8 + size].decode("utf-8", "backslashreplace")
            if child and name not in {".", ".."}:
                if not name or "/" in name or "\0" in name:
                    raise FormatError(f"the name {name!r} is none", path=folder, clause=CLAUSE)
                yield name, child
            place += length

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of every regular file, by path."""
        for file in self.files():
            yield file.path, self.read(file)

    def read(self, file: InodeFile) -> bytes:
        """All bytes of one of :meth:`files`."""
        return self._content(self._inode(file.inode, file.path), file.path)
