"""btrfs volumes as mkfs.btrfs makes them, and ones that lie.

What is compressed is written by hand into a volume that mkfs.btrfs made, because its version 6.2 compresses nothing: the
compressed bytes are zlib's and zstd's own, and the kernel's rules (``fs/btrfs/compression.c``) say where they lie.
"""

from __future__ import annotations

import copy
import hashlib
import random
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats import btrfs
from measlog.formats.blocks import BytesBlocks
from measlog.formats.btrfs import BtrfsVolume
from measlog.formats.inodes import InodeFile
from measlog.limits import Limits

FILES = {
    "grub.cfg": b"set oem_id=qemu\n",
    "empty": b"",
    "text": b"0123456789abcdef" * 2000,
    "folder/below/file": random.Random(1).randbytes(300_000),
    **{f"many/{number:04}": str(number).encode() for number in range(300)},
}
SUPER = 0x10000


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


class Sparse:
    """What a volume holds, without its zeros; ``patches`` are laid over it."""

    STEP = 1 << 16

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.pieces: dict[int, bytes] = {}
        self.patches: dict[int, bytes] = {}
        with path.open("rb") as stream:
            for number in range(self.size // self.STEP):
                piece = stream.read(self.STEP)
                if piece.count(0) != len(piece):
                    self.pieces[number] = piece

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise TruncatedError("beyond the end", offset=offset)
        numbers = range(offset // self.STEP, (offset + length) // self.STEP + 1)
        start = offset % self.STEP
        data = bytearray(b"".join(self.pieces.get(n, bytes(self.STEP)) for n in numbers)[start : start + length])
        for place, patch in self.patches.items():
            for at, byte in enumerate(patch, place - offset):
                if 0 <= at < length:
                    data[at] = byte
        return bytes(data)

    def find(self, what: bytes) -> int:
        return next(n * self.STEP + p.index(what) for n, p in sorted(self.pieces.items()) if what in p)

    def patched(self, place: int, content: bytes) -> Sparse:
        made = copy.copy(self)
        made.patches = {**self.patches, place: content}
        return made

    def sealed(self, place: int, size: int) -> Sparse:
        """With the block's CRC-32C, computed by the polynomial bit by bit."""
        value = 0xFFFFFFFF
        for byte in self.read(place + 32, size - 32):
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (0x82F63B78 * (value & 1))
        return self.patched(place, (value ^ 0xFFFFFFFF).to_bytes(4, "little"))


@cache
def volume(*options: str) -> Sparse:
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "source"), Path(folder, "volume")
        for name, content in FILES.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        (source / "link").symlink_to("grub.cfg")
        with path.open("wb") as stream:
            stream.truncate(128 << 20)
        line: list[str | Path] = [tool("mkfs.btrfs"), "-q", *options, "--rootdir", source, path]
        subprocess.run(line, check=True, capture_output=True, timeout=60)
        return Sparse(path)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--label", "OEM", "--metadata", "single"),
        ("--mixed", "--nodesize", "4096"),
        ("--nodesize", "65536"),
        ("--checksum", "sha256"),
        ("--checksum", "blake2"),
        ("--features", "^no-holes"),
    ],
    ids=" ".join,
)
def test_what_mkfs_wrote_is_read(options: tuple[str, ...]) -> None:
    read = BtrfsVolume(volume(*options))
    assert dict(read.contents()) == FILES
    assert [file.size for file in read.files()] == [len(FILES[file.path]) for file in read.files()]


def test_what_is_not_read_is_named() -> None:
    with pytest.raises(UnsupportedError, match="checksums of type 1"):
        BtrfsVolume(volume("--checksum", "xxhash"))


def patched(offset: int, content: bytes) -> Sparse:
    return volume().patched(SUPER + offset, content).sealed(SUPER, 4096)


# Offsets of struct btrfs_super_block (include/uapi/linux/btrfs_tree.h).
@pytest.mark.parametrize(
    ("offset", "content", "kind", "message"),
    [
        (64, b"_BHRfS_X", FormatError, "no btrfs file system"),
        (188, b"\x80\x03", UnsupportedError, "features 0x80"),
        (96, b"\1", UnsupportedError, "the log has to be replayed"),
        (136, b"\2", UnsupportedError, "2 devices"),
        (148, b"\0\0\0\0", FormatError, "nodes of 0 bytes"),
        (144, b"\1\0\0\0", FormatError, "sectors of 1 bytes"),
        (80, b"\0\0\0\0\0\0\0\x7f", FormatError, "is in no chunk"),
        (198, b"\7", FormatError, "a node that is out of its place"),
        (88, b"\0\0\0\0\0\0\0\x7f", FormatError, "is in no chunk"),
        # The first of the system chunks, behind its key: type, number of stripes, where the first stripe lies.
        (811 + 17 + 24, b"\x82", UnsupportedError, "chunks of type 0x82"),
        (811 + 17 + 44, b"\0\0", FormatError, "a chunk that is beyond the end"),
        (811 + 17 + 56, b"\0\0\0\0\0\0\0\x7f", FormatError, "a chunk that is beyond the end"),
    ],
)
def test_a_superblock_that_lies(offset: int, content: bytes, kind: type[FormatError], message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        BtrfsVolume(patched(offset, content))
    assert type(caught.value) is kind


class Item(NamedTuple):
    """Where an item of a leaf is: the node, its record in the node's table, its data (struct btrfs_item)."""

    node: int
    objectid: int
    kind: int
    record: int
    data: int
    size: int


NODE = 16384


def items(disk: Sparse, address: int) -> Iterator[Item]:
    """The items below a node, as include/uapi/linux/btrfs_tree.h lays them out."""
    place = next(
        physical + address - start
        for start, (size, physical) in _opened()._chunks.items()
        if start <= address < start + size
    )
    node = disk.read(place, NODE)
    count, level = struct.unpack_from("<IB", node, 96)
    for index in range(count):
        if level:
            yield from items(disk, struct.unpack_from("<Q", node, 101 + 33 * index + 17)[0])
            continue
        objectid, kind, _, offset, size = struct.unpack_from("<QBQII", node, 101 + 25 * index)
        yield Item(place, objectid, kind, place + 101 + 25 * index, place + 101 + offset, size)


def tree(name: str) -> list[Item]:
    disk = volume()
    root, chunks = struct.unpack_from("<QQ", disk.read(SUPER + 80, 16))
    if name == "chunk":
        return list(items(disk, chunks))
    found = list(items(disk, root))
    if name == "root":
        return found
    system = next(item for item in found if (item.objectid, item.kind) == (5, btrfs.ROOT))
    return list(items(disk, struct.unpack("<Q", disk.read(system.data + 176, 8))[0]))


def named(name: bytes) -> Item:
    """The directory entry of that name (DIR_INDEX): its location is a key, the name stands behind 30 bytes."""
    disk = volume()
    return next(
        item
        for item in tree("files")
        if item.kind == btrfs.DIR_INDEX and disk.read(item.data + 30, item.size - 30) == name
    )


def of_kind(name: str, kind: int, objectid: int | None = None) -> Item:
    return next(item for item in tree(name) if item.kind == kind and objectid in {None, item.objectid})


def inode_of(name: bytes) -> bytes:
    return volume().read(named(name).data, 8)


LIES: dict[str, tuple[Callable[[], tuple[Item, int, bytes]], type[FormatError], str]] = {
    "a chunk without a stripe": (
        lambda: (item := of_kind("chunk", btrfs.CHUNK_TYPE), item.record + 21, b"\x0a\0\0\0"), FormatError, "a chunk item that is too short"),
    "a cut root item": (
        lambda: (item := of_kind("root", btrfs.ROOT, 5), item.record + 21, b"\x0a\0\0\0"), FormatError, "no file system tree"),
    "no root item": (
        lambda: (item := of_kind("root", btrfs.ROOT, 5), item.record, b"\x77"), FormatError, "no file system tree"),
    "a cut inode": (
        lambda: (item := of_kind("files", btrfs.INODE, 256), item.record + 21, b"\x0a\0\0\0"), FormatError, "an item that is too short"),
    "2^32 items": (
        lambda: (item := of_kind("files", btrfs.INODE, 256), item.node + 96, b"\xff\xff\xff\xff"), FormatError, "4294967295 items"),
    "an item beyond its node": (
        lambda: (item := of_kind("files", btrfs.INODE, 256), item.record + 17, b"\xff\xff\xff\x7f"), FormatError, "beyond its node"),
    "a root that is a file": (
        lambda: (item := of_kind("files", btrfs.INODE, 256), item.data + 52, b"\xa4\x81\0\0"), FormatError, "is no directory"),
    "an inode that is not there": (
        lambda: (item := named(b"grub.cfg"), item.data, b"\x0f\x27\0\0\0\0\0\0"), FormatError, "there is no inode 9999"),
    "a name with a slash": (
        lambda: (item := named(b"grub.cfg"), item.data + 30, b"gr/b"), FormatError, "the name 'gr/b.cfg' is none"),
    "a name of nothing": (
        lambda: (item := named(b"grub.cfg"), item.data + 27, b"\0\0"), FormatError, "the name '' is none"),
    "a name that is longer than its entry": (
        lambda: (item := named(b"grub.cfg"), item.data + 27, b"\xff\0"), FormatError, "is none"),
    "a subvolume": (
        lambda: (item := named(b"grub.cfg"), item.data + 8, bytes([btrfs.ROOT])), UnsupportedError, "a subvolume of its own"),
    "a directory that is there twice": (
        lambda: (item := named(b"many"), item.data, inode_of(b"folder")), FormatError, "there twice"),
    "a directory that holds the root": (
        lambda: (item := named(b"below"), item.data, b"\0\x01\0\0\0\0\0\0"), FormatError, "there twice"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_tree_that_lies(lie: str) -> None:
    change, kind, message = LIES[lie]
    item, place, content = change()
    with pytest.raises(FormatError, match=message) as caught:
        BtrfsVolume(volume().patched(place, content).sealed(item.node, NODE)).files()
    assert type(caught.value) is kind


def test_checksums_are_compared() -> None:
    good = volume()
    with pytest.raises(FormatError, match="the checksum of the superblock"):
        BtrfsVolume(good.patched(SUPER + 299, b"x"))
    name = good.find(b"grub.cfg")
    with pytest.raises(FormatError, match="the checksum of a node of the file system tree"):
        BtrfsVolume(good.patched(name, b"GRUB"))


def test_limits_and_other_things() -> None:
    for limits in (Limits(fat_files=10), Limits(items=3), Limits(file_size=1000)):
        with pytest.raises(LimitExceededError):
            BtrfsVolume(volume(), limits=limits).files()
    with pytest.raises(LimitExceededError):
        BtrfsVolume(volume(), limits=Limits(depth=1)).files()
    for data in (b"", bytes(4096), bytes(SUPER + 4096), volume().read(0, SUPER + 4000)):
        with pytest.raises(FormatError):
            BtrfsVolume(BytesBlocks(data))


def extent(
    content: bytes, packed: bytes, compression: int, *, kind: int = 0, ram: int | None = None, encryption: int = 0
) -> bytes:
    head: bytes = btrfs.FILE_EXTENT.build({
        "generation": 1,
        "ram_bytes": len(content) if ram is None else ram,
        "compression": compression,
        "encryption": encryption,
        "other_encoding": 0,
        "type": kind,
    })  # fmt: skip
    return head + packed


@cache
def _opened() -> BtrfsVolume:
    return BtrfsVolume(volume())


def reading(size: int, extents: dict[int, bytes], data: bytes = b"") -> bytes:
    """A file with these extents, in a volume whose data lies at its beginning."""
    made = copy.copy(_opened())
    made._spent = 0
    made._blocks = BytesBlocks(data)
    made._chunks = {0: (len(data), 0)}
    made._inodes = {300: btrfs._Inode(mode=0o100644, size=size, extents=extents)}
    return made.read(InodeFile(path="file", size=size, inode=300))


def zstd(content: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(content))


@pytest.mark.parametrize(("compression", "pack"), [(1, zlib.compress), (3, zstd)], ids=["zlib", "zstd"])
@pytest.mark.parametrize("size", [1, 100, 4096, 100_000])
def test_compressed_extents(compression: int, pack: object, size: int) -> None:
    content = (hashlib.sha256(b"content").digest() * (size // 32 + 1))[:size]
    packed = pack(content)  # type: ignore[operator]
    assert reading(size, {0: extent(content, packed, compression)}) == content
    # On disk: filled up to whole sectors, and a part of it wanted.
    held = bytes(4096) + packed.ljust(-(-len(packed) // 4096) * 4096, b"\0")
    for skip in (0, size // 2):
        disk = btrfs.FILE_EXTENT_DISK.build(
            {"disk_bytenr": 4096, "disk_num_bytes": len(held) - 4096, "offset": skip, "num_bytes": size - skip}
        )
        raw = extent(content, disk, compression, kind=1)
        assert reading(size - skip, {0: raw}, held) == content[skip:]
    with pytest.raises(FormatError):
        reading(size, {0: extent(content, packed, compression, ram=size + 1)})
    with pytest.raises(FormatError):
        reading(size, {0: extent(content, b"\xff" + packed[1:], compression)})


def on_disk(**members: int) -> bytes:
    known = {"disk_bytenr": 4096, "disk_num_bytes": 4096, "offset": 0, "num_bytes": 4096}
    return bytes(btrfs.FILE_EXTENT_DISK.build(known | members))


def test_holes_and_what_was_never_written_are_zeros() -> None:
    content = b"x" * 4096
    held = bytes(4096) + content
    there = extent(content, on_disk(), 0, kind=1)
    assert reading(12288, {8192: there}, held) == bytes(8192) + content
    assert reading(4096, {0: extent(content, on_disk(disk_bytenr=0), 0, kind=1)}, held) == bytes(4096)
    assert reading(4096, {0: extent(content, on_disk(), 0, kind=2)}, held) == bytes(4096)
    # Behind the file's end lies nothing that is read.
    assert reading(10, {0: there, 4096: b"?"}, held) == b"x" * 10


@pytest.mark.parametrize(
    ("size", "extents", "kind", "message"),
    [
        (10, {0: b"short"}, FormatError, "an extent that is too short"),
        (10, {0: extent(b"", b"", 0, encryption=1)}, UnsupportedError, "encrypted"),
        (5000, {4096: extent(b"x", b"x", 0)}, FormatError, "inline extent that is not the first"),
        (10, {0: extent(b"x", on_disk(), 0, kind=7)}, FormatError, "an extent of type 7"),
        (10, {0: extent(b"x", b"", 0, kind=1)}, FormatError, "an extent of type 1"),
        (10, {5: extent(b"x", b"x", 0)}, FormatError, "an extent at byte 5"),
        (4096, {0: extent(b"x", on_disk(offset=1), 0, kind=1)}, FormatError, "beyond its end"),
        (4096, {0: extent(b"x", on_disk(disk_bytenr=1 << 60), 0, kind=1)}, FormatError, "is in no chunk"),
        (10, {0: extent(b"x", b"x", 2)}, UnsupportedError, "compression of type 2"),
        (10, {0: extent(b"x", b"x", 1, ram=1 << 40)}, FormatError, "compressed at a time"),
        (10, {0: extent(b"x", on_disk(disk_num_bytes=1 << 40), 1, kind=1)}, FormatError, "compressed bytes at a time"),
        (10, {0: extent(b"x", b"xxxx", 1)}, FormatError, "damaged zlib data"),
        (17 << 20, {}, UnsupportedError, "more than are read here"),
    ],
)  # fmt: skip
def test_extents_that_lie(size: int, extents: dict[int, bytes], kind: type[FormatError], message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        reading(size, extents, bytes(8192))
    assert type(caught.value) is kind


def test_nothing_compressed_is_nothing() -> None:
    assert reading(4, {0: extent(b"", b"anything", 1)}) == bytes(4)


def test_a_bomb_of_extents_is_bounded() -> None:
    """As many extents as a file can have, each of which unpacks to all that btrfs compresses at a time."""
    content = bytes(btrfs.COMPRESSED_LIMIT)
    packed = zlib.compress(content, 9)
    raw = extent(content, on_disk(disk_num_bytes=4096), 1, kind=1)
    held = bytes(4096) + packed.ljust(4096, b"\0")
    made = BtrfsVolume(volume(), limits=Limits(file_size=16 << 20))
    made._blocks, made._chunks = BytesBlocks(held), {0: (len(held), 0)}
    extents = dict.fromkeys(range(0, 16 << 20, 4096), raw)
    made._inodes = {300: btrfs._Inode(mode=0o100644, size=16 << 20, extents=extents)}
    with pytest.raises(LimitExceededError, match="bytes were read"):
        made.read(InodeFile(path="file", size=16 << 20, inode=300))


@settings(max_examples=8, phases=[Phase.generate])
@given(st.data())
def test_changed_bytes_are_a_volume_or_a_format_error(data: st.DataObject) -> None:
    good = volume("--mixed", "--nodesize", "4096")
    node = good.find(b"grub.cfg") // 4096 * 4096
    place = data.draw(st.one_of(st.integers(SUPER, SUPER + 3500), st.integers(node + 32, node + 4080)))
    change = data.draw(st.binary(min_size=1, max_size=8))
    block = SUPER if place < SUPER + 4096 else node
    try:
        list(BtrfsVolume(good.patched(place, change).sealed(block, 4096)).contents())
    except FormatError:
        return
