"""btrfs file systems, read only, as far as small configuration partitions need them: one device, the top-level subvolume.

Linux ``include/uapi/linux/btrfs_tree.h`` and ``fs/btrfs``. Metadata is checked against its checksums (CRC-32C, SHA-256,
BLAKE2b), contents are not. Extents may be compressed with zlib or zstd.
"""

from __future__ import annotations

import hashlib
import importlib
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import construct as c
from attrs import define, field

from measlog.errors import FormatError, LimitExceededError, MissingExtraError, UnsupportedError
from measlog.formats.blocks import Blocks
from measlog.formats.inodes import InodeFile, walk_files
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["BtrfsVolume"]

CLAUSE = "Linux btrfs_tree.h"

SUPER_BLOCK = c.Struct(
    "csum" / c.Bytes(32),
    "fsid" / c.Bytes(16),
    "bytenr" / c.Int64ul,
    "flags" / c.Int64ul,
    "magic" / c.Bytes(8),
    "generation" / c.Int64ul,
    "root" / c.Int64ul,
    "chunk_root" / c.Int64ul,
    "log_root" / c.Int64ul,
    "unused" / c.Bytes(8),
    "total_bytes" / c.Int64ul,
    "bytes_used" / c.Int64ul,
    "root_dir_objectid" / c.Int64ul,
    "num_devices" / c.Int64ul,
    "sectorsize" / c.Int32ul,
    "nodesize" / c.Int32ul,
    "sizes" / c.Bytes(8),
    "sys_chunk_array_size" / c.Int32ul,
    "chunk_root_generation" / c.Int64ul,
    "compat" / c.Bytes(16),
    "incompat_flags" / c.Int64ul,
    "csum_type" / c.Int16ul,
    "root_level" / c.Int8ul,
    "chunk_root_level" / c.Int8ul,
    "more" / c.Bytes(611),
    "sys_chunk_array" / c.Bytes(2048),
    "roots" / c.Bytes(1237),
)
KEY = c.Struct("objectid" / c.Int64ul, "type" / c.Int8ul, "offset" / c.Int64ul)
HEADER = c.Struct(
    "csum" / c.Bytes(32),
    "fsid" / c.Bytes(16),
    "bytenr" / c.Int64ul,
    "flags" / c.Int64ul,
    "chunk_tree_uuid" / c.Bytes(16),
    "generation" / c.Int64ul,
    "owner" / c.Int64ul,
    "nritems" / c.Int32ul,
    "level" / c.Int8ul,
)
KEY_PTR = c.Struct("key" / KEY, "blockptr" / c.Int64ul, "generation" / c.Int64ul)
ITEM = c.Struct("key" / KEY, "offset" / c.Int32ul, "size" / c.Int32ul)
CHUNK = c.Struct(
    "length" / c.Int64ul,
    "owner" / c.Int64ul,
    "stripe_len" / c.Int64ul,
    "type" / c.Int64ul,
    "io" / c.Bytes(12),
    "num_stripes" / c.Int16ul,
    "sub_stripes" / c.Int16ul,
    "devid" / c.Int64ul,
    "physical" / c.Int64ul,
    "dev_uuid" / c.Bytes(16),
)
ROOT_ITEM = c.Struct("inode" / c.Bytes(176), "bytenr" / c.Int64ul, "more" / c.Bytes(54), "level" / c.Int8ul)
INODE_ITEM = c.Struct(
    "times" / c.Bytes(16), "size" / c.Int64ul, "counts" / c.Bytes(28), "mode" / c.Int32ul, "more" / c.Bytes(104)
)
DIR_ITEM = c.Struct(
    "location" / KEY, "transid" / c.Int64ul, "data_len" / c.Int16ul, "name_len" / c.Int16ul, "type" / c.Int8ul
)
FILE_EXTENT = c.Struct(
    "generation" / c.Int64ul,
    "ram_bytes" / c.Int64ul,
    "compression" / c.Int8ul,
    "encryption" / c.Int8ul,
    "other_encoding" / c.Int16ul,
    "type" / c.Int8ul,
)
FILE_EXTENT_DISK = c.Struct(
    "disk_bytenr" / c.Int64ul, "disk_num_bytes" / c.Int64ul, "offset" / c.Int64ul, "num_bytes" / c.Int64ul
)

PLACE = 0x10000
MAGIC = b"_BHRfS_M"
# Mixed back references, default subvolume, mixed groups, LZO and zstd used, big metadata, extended references, skinny
# metadata, no holes, another metadata UUID, simple quotas.
READABLE = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400 | 0x10000
# Data, system, metadata, and copies of all: one device holds the whole of a chunk in its first stripe.
WHOLE_CHUNKS = 0x1 | 0x2 | 0x4 | 0x10 | 0x20 | 0x200 | 0x400
FS_TREE, ROOT_DIRECTORY = 5, 256
INODE, DIR_INDEX, EXTENT_DATA, ROOT, CHUNK_TYPE = 1, 96, 108, 132, 228
SIZE_LIMIT = 16 << 20
COMPRESSED_LIMIT = 128 << 10
"""What is compressed at a time (BTRFS_MAX_UNCOMPRESSED)."""


@define
class _Inode:
    """What the tree says of one inode. ``extents`` are by place in the file."""

    mode: int = 0
    size: int = 0
    names: list[tuple[str, int]] = field(factory=list)
    extents: dict[int, bytes] = field(factory=dict)


class BtrfsVolume:
    """A btrfs volume; FormatError where ``blocks`` hold none, UnsupportedError for features that are not read here."""

    def __init__(self, blocks: Blocks, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._blocks = blocks
        self._limits = limits
        self._taken = self._spent = 0
        if blocks.size < PLACE + SUPER_BLOCK.sizeof():
            raise FormatError("no btrfs file system", offset=blocks.size, clause=CLAUSE)
        raw = blocks.read(PLACE, SUPER_BLOCK.sizeof())
        head: Any = SUPER_BLOCK.parse(raw)
        if head.magic != MAGIC:
            raise FormatError("no btrfs file system", offset=PLACE + 64, path="magic", clause=CLAUSE)
        self._csum_type = head.csum_type
        self._check(raw, PLACE, "the superblock")
        if head.incompat_flags & ~READABLE:
            raise UnsupportedError(
                f"features 0x{head.incompat_flags & ~READABLE:x}", path="incompat_flags", clause=CLAUSE
            )
        if head.log_root:
            raise UnsupportedError("the log has to be replayed", path="log_root", clause=CLAUSE)
        if head.num_devices != 1:
            raise UnsupportedError(f"{head.num_devices} devices", path="num_devices", clause=CLAUSE)
        if head.nodesize not in {1 << n for n in range(12, 17)}:
            raise FormatError(f"nodes of {head.nodesize} bytes", offset=PLACE + 148, path="nodesize", clause=CLAUSE)
        if head.sectorsize not in {1 << n for n in range(12, 17)}:
            raise FormatError(
                f"sectors of {head.sectorsize} bytes", offset=PLACE + 144, path="sectorsize", clause=CLAUSE
            )
        self._node_size, self._sector_size = head.nodesize, head.sectorsize
        self._chunks: dict[int, tuple[int, int]] = {}
        self._system_chunks(head.sys_chunk_array[: head.sys_chunk_array_size])
        for key, data in self._items(head.chunk_root, head.chunk_root_level, "chunk tree"):
            if key.type == CHUNK_TYPE:
                self._chunk(key.offset, data)
        self._inodes = self._read_tree(head.root, head.root_level)

    def _check(self, block: bytes, offset: int, what: str) -> None:
        """Compare the checksum at the beginning of a block with the rest of it."""
        if self._csum_type == 0:
            computed = _crc32c(block[32:]).to_bytes(4, "little")
        elif self._csum_type == 2:
            computed = hashlib.sha256(block[32:]).digest()
        elif self._csum_type == 3:
            computed = hashlib.blake2b(block[32:], digest_size=32).digest()
        else:
            raise UnsupportedError(f"checksums of type {self._csum_type}", path="csum_type", clause=CLAUSE)
        if not block.startswith(computed):
            raise FormatError(f"the checksum of {what} is not that of its contents", offset=offset, clause=CLAUSE)

    def _system_chunks(self, array: bytes) -> None:
        place = 0
        while place + KEY.sizeof() + CHUNK.sizeof() <= len(array):
            key: Any = KEY.parse(array[place : place + KEY.sizeof()])
            data = array[place + KEY.sizeof() :]
            place += KEY.sizeof() + self._chunk(key.offset, data)

    def _chunk(self, logical: int, data: bytes) -> int:
        """Remember where a chunk lies; returns the size of its item in bytes."""
        if len(data) < CHUNK.sizeof():
            raise FormatError("a chunk item that is too short", path="chunk tree", clause=CLAUSE)
        chunk: Any = CHUNK.parse(data[: CHUNK.sizeof()])
        if chunk.type & ~WHOLE_CHUNKS:
            raise UnsupportedError(f"chunks of type 0x{chunk.type:x}", path="chunk tree", clause=CLAUSE)
        if chunk.num_stripes < 1 or chunk.physical + chunk.length > self._blocks.size:
            raise FormatError("a chunk that is beyond the end", path="chunk tree", clause=CLAUSE)
        self._chunks[logical] = (chunk.length, chunk.physical)
        size: int = CHUNK.sizeof() + 32 * (chunk.num_stripes - 1)
        return size

    def _logical(self, address: int, length: int, path: str) -> bytes:
        self._spent += max(length, COMPRESSED_LIMIT)
        if self._spent > self._limits.file_size:
            raise LimitExceededError(f"more than {self._limits.file_size} bytes were read", path=path, clause=CLAUSE)
        for start, (size, physical) in self._chunks.items():
            if start <= address and address + length <= start + size:
                return self._blocks.read(physical + address - start, length)
        raise FormatError(f"the address {address} is in no chunk", path=path, clause=CLAUSE)

    def _items(self, address: int, level: int, path: str) -> Iterator[tuple[Any, bytes]]:
        """Keys and data of a tree's leaves, in order."""
        self._taken += 1
        if self._taken > self._limits.items:
            raise LimitExceededError(f"more than {self._limits.items} nodes", path=path, clause=CLAUSE)
        node = self._logical(address, self._node_size, path)
        self._check(node, address, f"a node of the {path}")
        header: Any = HEADER.parse(node[: HEADER.sizeof()])
        # Levels fall towards the leaves, so that no tree loops.
        if header.level != level or level > 7 or header.bytenr != address:
            raise FormatError(f"a node that is out of its place, at {address}", path=path, clause=CLAUSE)
        shape = KEY_PTR if level else ITEM
        start, step = HEADER.sizeof(), shape.sizeof()
        if start + header.nritems * step > len(node):
            raise FormatError(f"{header.nritems} items in a node", path=path, clause=CLAUSE)
        for index in range(header.nritems):
            item: Any = shape.parse(node[start + index * step : start + (index + 1) * step])
            if level:
                yield from self._items(item.blockptr, level - 1, path)
                continue
            if start + item.offset + item.size > len(node):
                raise FormatError("an item that is beyond its node", path=path, clause=CLAUSE)
            yield item.key, node[start + item.offset : start + item.offset + item.size]

    def _read_tree(self, root: int, level: int) -> Mapping[int, _Inode]:
        tree = next(
            (d for k, d in self._items(root, level, "root tree") if (k.objectid, k.type) == (FS_TREE, ROOT)), b""
        )
        if len(tree) < ROOT_ITEM.sizeof():
            raise FormatError("no file system tree", path="root tree", clause=CLAUSE)
        item: Any = ROOT_ITEM.parse(tree[: ROOT_ITEM.sizeof()])
        found: dict[int, _Inode] = {}
        for key, data in self._items(item.bytenr, item.level, "file system tree"):
            if key.type not in {INODE, DIR_INDEX, EXTENT_DATA}:
                continue
            if len(found) > self._limits.fat_files:
                raise LimitExceededError(f"more than {self._limits.fat_files} files", clause=CLAUSE)
            inode = found.setdefault(key.objectid, _Inode())
            if key.type == EXTENT_DATA:
                inode.extents[key.offset] = data
                continue
            shape = INODE_ITEM if key.type == INODE else DIR_ITEM
            if len(data) < shape.sizeof():
                raise FormatError("an item that is too short", path="file system tree", clause=CLAUSE)
            one: Any = shape.parse(data[: shape.sizeof()])
            if key.type == INODE:
                inode.mode, inode.size = one.mode, one.size
            else:
                inode.names.append(_name(one, data[shape.sizeof() :]))
        return found

    def files(self) -> tuple[InodeFile, ...]:
        """Every regular file, by path."""

        def look(number: int, path: str) -> tuple[int, int]:
            inode = self._inode(number, path)
            return inode.mode, inode.size

        def names(number: int, path: str) -> list[tuple[str, int]]:
            return self._inode(number, path).names

        return walk_files(ROOT_DIRECTORY, look, names, limits=self._limits, clause=CLAUSE)

    def _inode(self, number: int, path: str) -> _Inode:
        inode = self._inodes.get(number)
        if inode is None or not inode.mode:
            raise FormatError(f"there is no inode {number}", path=path, clause=CLAUSE)
        return inode

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of every regular file, by path."""
        for file in self.files():
            yield file.path, self.read(file)

    def read(self, file: InodeFile) -> bytes:
        """All bytes of one of :meth:`files`; UnsupportedError where it has more than 16 MiB."""
        inode = self._inode(file.inode, file.path)
        if inode.size > min(SIZE_LIMIT, self._limits.file_size):
            raise UnsupportedError(f"{inode.size} bytes, more than are read here", path=file.path, clause=CLAUSE)
        data = bytearray(inode.size)
        starts = sorted(start for start in inode.extents if start < inode.size)
        # An extent ends where the next one begins, so that no byte is written twice.
        for start, end in pairwise([*starts, inode.size]):
            if start % self._sector_size:
                raise FormatError(f"an extent at byte {start}", path=file.path, clause=CLAUSE)
            piece = self._extent(inode.extents[start], start, end - start, file.path)
            data[start : start + len(piece)] = piece
        return bytes(data)

    def _extent(self, raw: bytes, start: int, most: int, path: str) -> bytes:
        """The bytes of an extent, at most ``most``; none where it is a hole or was never written."""
        size = FILE_EXTENT.sizeof()
        if len(raw) < size:
            raise FormatError("an extent that is too short", path=path, clause=CLAUSE)
        head: Any = FILE_EXTENT.parse(raw[:size])
        if head.encryption or head.other_encoding:
            raise UnsupportedError("an encrypted extent", path=path, clause=CLAUSE)
        if head.type == 0:
            if start:
                raise FormatError("an inline extent that is not the first", path=path, clause=CLAUSE)
            return _unpack(head, raw[size:], path)[:most]
        if head.type not in {1, 2} or len(raw) < size + FILE_EXTENT_DISK.sizeof():
            raise FormatError(f"an extent of type {head.type}", path=path, clause=CLAUSE)
        disk: Any = FILE_EXTENT_DISK.parse(raw[size : size + FILE_EXTENT_DISK.sizeof()])
        if head.type == 2 or not disk.disk_bytenr:
            return b""
        length = min(disk.num_bytes, most)
        if head.compression == 0:
            if disk.offset + length > disk.disk_num_bytes:
                raise FormatError("an extent that is beyond its end", path=path, clause=CLAUSE)
            return self._logical(disk.disk_bytenr + disk.offset, length, path)
        if disk.disk_num_bytes > COMPRESSED_LIMIT:
            raise FormatError(f"{disk.disk_num_bytes} compressed bytes at a time", path=path, clause=CLAUSE)
        packed = self._logical(disk.disk_bytenr, disk.disk_num_bytes, path)
        return _unpack(head, packed, path)[disk.offset : disk.offset + length]


def _name(item: Any, data: bytes) -> tuple[str, int]:
    name = data[: item.name_len].decode("utf-8", "backslashreplace")
    if len(data) < item.name_len or not name or "/" in name or "\0" in name or name in {".", ".."}:
        raise FormatError(f"the name {name!r} is none", path="file system tree", clause=CLAUSE)
    if item.location.type != INODE:
        raise UnsupportedError(f"{name!r} is a subvolume of its own", path="file system tree", clause=CLAUSE)
    return name, int(item.location.objectid)


def _unpack(head: Any, packed: bytes, path: str) -> bytes:
    """The bytes of an extent as they were before compression: never more than it says, and than btrfs compresses."""
    if head.compression == 0 or not head.ram_bytes:
        return packed if head.compression == 0 else b""
    if head.ram_bytes > COMPRESSED_LIMIT:
        raise FormatError(f"{head.ram_bytes} bytes compressed at a time", path=path, clause=CLAUSE)
    if head.compression == 1:
        try:
            data = zlib.decompressobj().decompress(packed, head.ram_bytes)
        except zlib.error as error:
            raise FormatError(f"damaged zlib data: {error}", path=path, clause=CLAUSE) from None
    elif head.compression == 3:
        data = _zstd(packed, head.ram_bytes, path)
    else:
        raise UnsupportedError(f"compression of type {head.compression}", path=path, clause=CLAUSE)
    if len(data) != head.ram_bytes:
        raise FormatError(f"{len(data)} bytes were compressed, not {head.ram_bytes}", path=path, clause=CLAUSE)
    return data


def _zstd(packed: bytes, most: int, path: str) -> bytes:
    # What follows the frame fills the sector up.
    try:
        module: Any = importlib.import_module("compression.zstd")
    except ImportError:
        pass
    else:
        try:
            return bytes(module.ZstdDecompressor().decompress(packed, max_length=most))
        except module.ZstdError as error:
            raise FormatError(f"damaged zstd data: {error}", path=path, clause=CLAUSE) from None
    try:
        module = importlib.import_module("zstandard")
    except ImportError:
        raise MissingExtraError("zstandard", "archives") from None
    try:
        with module.ZstdDecompressor(max_window_size=1 << 20).stream_reader(packed) as reader:
            return bytes(reader.read(most))
    except module.ZstdError as error:
        raise FormatError(f"damaged zstd data: {error}", path=path, clause=CLAUSE) from None


@cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720 B.4)."""
    table, value = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF
