"""FAT volumes as mkfs.vfat and mtools make them, and volumes whose tables and directories lie."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError
from measlog.formats.blocks import BytesBlocks
from measlog.formats.fat import FatVolume
from measlog.limits import Limits

SIZES = {12: 2 << 20, 16: 16 << 20, 32: 40 << 20}
FILES = {
    "EFI/boot/bootx64.efi": random.Random(1).randbytes(300_001),
    "flatcar/vmlinuz-a": random.Random(2).randbytes(70_000),
    "flatcar/first_boot": b"",
    "flatcar/a long name with ünïcode and spaces.text": b"long",
    "UPPER.TXT": b"short",
    "many/" + "x" * 200: b"y" * 2048,
}


def read_all(volume: FatVolume) -> dict[str, bytes]:
    return {file.path: volume.read(file) for file in volume.files()}


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


@cache
def volume_bytes(kind: int) -> bytes:
    """A volume with FILES, made by mkfs.vfat and mtools."""
    import tempfile

    mkfs, mmd, mcopy = tool("mkfs.vfat"), tool("mmd"), tool("mcopy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "volume")
        path.write_bytes(bytes(SIZES[kind]))

        def run(*words: str, data: bytes | None = None) -> None:
            subprocess.run(words, check=True, capture_output=True, timeout=60, input=data, env={"LC_ALL": "C.UTF-8"})

        run(mkfs, "--invariant", "-F", str(kind), "-s", "1", "-i", "5F1A7C42", "-n", "EFI-SYSTEM", str(path))
        run(mmd, "-i", str(path), "::/EFI", "::/EFI/boot", "::/flatcar", "::/many")
        for name, content in FILES.items():
            source = Path(folder, "source")
            source.write_bytes(content)
            run(mcopy, "-i", str(path), str(source), f"::/{name}")
        return path.read_bytes()


@pytest.mark.parametrize("kind", SIZES)
def test_what_mtools_wrote_is_read(kind: int) -> None:
    volume = FatVolume(BytesBlocks(volume_bytes(kind)))
    assert volume.kind == kind
    assert (volume.uuid, volume.label) == ("5F1A-7C42", "EFI-SYSTEM")
    assert read_all(volume) == FILES


@pytest.mark.parametrize("kind", SIZES)
def test_fragmented_files_are_read(kind: int, tmp_path: Path) -> None:
    # Files of one cluster each, every second one deleted, then a file that has to use the holes.
    path = tmp_path / "volume"
    path.write_bytes(volume_bytes(kind))
    small = tmp_path / "small"
    small.write_bytes(b"s" * 400)
    names = [f"::/s{number}" for number in range(60)]
    for name in names:
        subprocess.run([tool("mcopy"), "-i", path, small, name], check=True, timeout=60)
    subprocess.run([tool("mdel"), "-i", path, *names[::2]], check=True, timeout=60)
    large = tmp_path / "large"
    large.write_bytes(random.Random(3).randbytes(50_000))
    subprocess.run([tool("mcopy"), "-i", path, large, "::/large"], check=True, timeout=60)
    volume = FatVolume(BytesBlocks(path.read_bytes()))
    assert read_all(volume)["large"] == large.read_bytes()


def table(data: bytes) -> tuple[int, int]:
    """Start of the first FAT and of the data area, in bytes."""
    sector, per_cluster, reserved, tables, _ = struct.unpack_from("<HBHBH", data, 11)
    assert per_cluster == 1
    size = struct.unpack_from("<I", data, 36)[0]
    return reserved * sector, (reserved + tables * size) * sector


def first_cluster(data: bytes, name: bytes) -> tuple[int, int]:
    """Where the directory entry of a short name is, and its first cluster."""
    at = data.index(name)
    return at, struct.unpack_from("<H", data, at + 20)[0] << 16 | struct.unpack_from("<H", data, at + 26)[0]


def linked(data: bytes, cluster: int, following: int) -> bytes:
    start, _ = table(data)
    changed = bytearray(data)
    struct.pack_into("<I", changed, start + 4 * cluster, following)
    return bytes(changed)


def redirected(data: bytes, name: bytes, cluster: int) -> bytes:
    """Another first cluster in the directory entry of a short name."""
    at, _ = first_cluster(data, name)
    return data[: at + 26] + struct.pack("<H", cluster) + data[at + 28 :]


def sized(data: bytes, name: bytes, size: int) -> bytes:
    at, _ = first_cluster(data, name)
    return data[: at + 28] + struct.pack("<I", size) + data[at + 32 :]


def in_chain(data: bytes, name: bytes, place: int, following: bytes | int, offset: int = 0) -> bytes:
    """The entry ``place`` clusters into a file's chain, made to go to a cluster or into another file."""
    _, first = first_cluster(data, name)
    target = following if isinstance(following, int) else first_cluster(data, following)[1]
    return linked(data, first + place, target + offset)


KERNEL, FOLDER, BOOT = b"VMLINU~1   ", b"FLATCAR    ", b"BOOTX64 EFI"
LIES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a file's chain with a loop": (lambda good: in_chain(good, KERNEL, 5, KERNEL), "loop"),
    "a file's chain that crosses another": (lambda good: in_chain(good, KERNEL, 5, BOOT, 1), "another file"),
    "a directory's chain with a loop": (lambda good: in_chain(good, FOLDER, 0, FOLDER), "loop"),
    "a directory that holds its parent": (lambda good: redirected(good, FOLDER, 2), "loop"),
    "a chain that ends early": (lambda good: in_chain(good, KERNEL, 5, 0x0FFFFFFF), "after 6 clusters"),
    "a chain into a free cluster": (lambda good: in_chain(good, KERNEL, 5, 0), "the chain goes to 0"),
    "a chain outside": (lambda good: in_chain(good, KERNEL, 5, 0x0FFFFF00), "the chain goes to"),
    "a file of 2^32 bytes": (lambda good: sized(good, KERNEL, 0xFFFFFFFF), "more than the volume holds"),
    "a cut volume": (lambda good: good[: len(good) // 2], "sectors"),
    "no boot sector": (lambda _: bytes(1 << 20), "no FAT file system"),
    "a tiny file": (lambda _: b"\xeb", "expected"),
    "no bytes per sector": (lambda good: good[:11] + b"\0\0" + good[13:], "BPB_BytsPerSec"),
    "3 sectors per cluster": (lambda good: good[:13] + b"\3" + good[14:], "BPB_SecPerClus"),
    "no tables": (lambda good: good[:16] + b"\0" + good[17:], "BPB_NumFATs"),
    "a table of 2^32 sectors": (lambda good: good[:36] + b"\xff" * 4 + good[40:], "BPB_FATSz32"),
    "a table of 1 sector": (lambda good: good[:36] + b"\1\0\0\0" + good[40:], "table of 512 bytes"),
    "no reserved sectors": (lambda good: good[:14] + b"\0\0" + good[16:], "BPB_RsvdSecCnt"),
    "two names that differ in case alone": (lambda good: good.replace(b"UPPER   TXT", b"FLATCAR    "), "there twice"),
    "a name of nothing": (lambda good: good.replace(b"UPPER   TXT", b" " * 11), "the name '' is none"),
    "a name with a slash": (lambda good: good.replace(b"UPPER   TXT", b"UP/ER   TXT"), "the name 'UP/ER.TXT' is none"),
    "a root outside": (lambda good: good[:44] + b"\xff\xff\xff\x0f" + good[48:], "the chain goes to"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_one_error_that_says_where(name: str) -> None:
    change, message = LIES[name]
    data = change(volume_bytes(32))
    with pytest.raises(FormatError, match=message) as caught:
        FatVolume(BytesBlocks(data)).files()
    assert caught.value.path is not None or caught.value.offset is not None


def test_the_number_of_clusters_is_what_makes_a_volume_fat32(tmp_path: Path) -> None:
    # mkfs.vfat makes this with a warning; fatgen103 and GRUB take it for FAT16 by its clusters, Linux by its fields.
    path = tmp_path / "volume"
    path.write_bytes(bytes(8 << 20))
    subprocess.run([tool("mkfs.vfat"), "-F", "32", "-s", "1", path], check=True, capture_output=True, timeout=60)
    with pytest.raises(FormatError, match="clusters make it FAT16, the fields say otherwise") as caught:
        FatVolume(BytesBlocks(path.read_bytes()))
    assert caught.value.path == "BPB.BPB_FATSz16"


class Large:
    """A boot sector at the start of ``size`` bytes that nobody keeps."""

    def __init__(self, boot: bytes, size: int) -> None:
        self.size = size
        self._boot = boot

    def read(self, offset: int, length: int) -> bytes:
        assert offset + length <= len(self._boot)
        return self._boot[offset : offset + length]


def test_a_table_of_32_mib_is_not_read() -> None:
    boot = bytearray(volume_bytes(32)[:512])
    struct.pack_into("<I", boot, 32, 1 << 23)
    struct.pack_into("<I", boot, 36, 1 << 16)
    with pytest.raises(LimitExceededError, match="the limit is 16777216"):
        FatVolume(Large(bytes(boot), 512 << 23))


def in_root(*entries: bytes) -> bytes:
    """The FAT16 volume with further entries in its root directory, which lies behind the tables."""
    good = volume_bytes(16)
    sector, _, reserved, tables, _, _, _, size = struct.unpack_from("<HBHBHHBH", good, 11)
    place = (reserved + tables * size) * sector
    while good[place]:
        place += 32
    added = b"".join(entries)
    return good[:place] + added + good[place + len(added) :]


def short(name: bytes, attributes: int = 0x20) -> bytes:
    return name + bytes([attributes]) + bytes(20)


def checksum(name: bytes) -> int:
    """fatgen103's ChkSum: rotate to the right, add."""
    value = 0
    for byte in name:
        value = (value >> 1 | value << 7) + byte & 0xFF
    return value


def long(text: str, owner: bytes, *, order: int = 0x41, check: int | None = None) -> bytes:
    """One entry of a long name of up to 13 characters, for the short name ``owner``."""
    raw = (text + "\0" * (len(text) < 13)).encode("utf-16-le").ljust(26, b"\xff")
    given = checksum(owner) if check is None else check
    return bytes([order]) + raw[:10] + bytes([0x0F, 0, given]) + raw[10:22] + bytes(2) + raw[22:]


NEW = b"NEW     TXT"


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ([short(NEW)], "NEW.TXT"),
        ([long("long name", NEW), short(NEW)], "long name"),
        ([long("of 13 letters", NEW), short(NEW)], "of 13 letters"),
        ([long("two", NEW, order=0x42), long("other entry  ", NEW, order=1), short(NEW)], "other entry  two"),
        # Orphans: another file's, a number that is missing, no last one, a deleted entry between.
        ([long("long name", NEW, check=0), short(NEW)], "NEW.TXT"),
        ([long("long name", NEW, order=0x42), short(NEW)], "NEW.TXT"),
        ([long("long name", NEW, order=1), short(NEW)], "NEW.TXT"),
        ([long("long name", NEW), b"\xe5" + bytes(31), short(NEW)], "NEW.TXT"),
        # 0x05 stands for 0xE5, which would mean a deleted entry.
        ([short(b"\x05EW     TXT")], "\\xe5EW.TXT"),
    ],
)
def test_names(entries: list[bytes], name: str) -> None:
    assert {file.path for file in FatVolume(BytesBlocks(in_root(*entries))).files()} == {*FILES, name}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [long("x", NEW, order=0x40 | 21)] + [long("x", NEW, order=n) for n in range(20, 0, -1)],
            "more than 20 entries",
        ),
        ([long("a/b", NEW), short(NEW)], "the name 'a/b' is none"),
        ([long("\0", NEW), short(NEW)], "the name '' is none"),
        ([long("x", NEW)[:1] + b"\x00\xd8" + long("x", NEW)[3:], short(NEW)], "a long name is not UTF-16"),
    ],
)
def test_names_that_are_none(entries: list[bytes], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        FatVolume(BytesBlocks(in_root(*entries))).files()


def test_the_label_is_the_root_directorys() -> None:
    # An entry of that kind in a folder names nothing.
    data = volume_bytes(16)
    assert FatVolume(BytesBlocks(data)).label == "EFI-SYSTEM"
    place = data.index(b"VMLINU~1   ") + 11
    hidden = FatVolume(BytesBlocks(data[:place] + b"\x08" + data[place + 1 :]))
    assert "flatcar/vmlinuz-a" not in {file.path for file in hidden.files()}
    assert hidden.label == "EFI-SYSTEM"


def test_a_folder_that_fills_its_clusters_has_no_end_mark(tmp_path: Path) -> None:
    # 14 files with . and .. are 16 entries: the one cluster of 512 bytes.
    path, source = tmp_path / "volume", tmp_path / "source"
    path.write_bytes(volume_bytes(12))
    source.write_bytes(b"x")
    subprocess.run([tool("mmd"), "-i", path, "::/FULL"], check=True, timeout=60)
    names = [f"FULL/S{number:02}" for number in range(14)]
    for name in names:
        subprocess.run([tool("mcopy"), "-i", path, source, f"::/{name}"], check=True, timeout=60)
    volume = FatVolume(BytesBlocks(path.read_bytes()))
    assert {file.path for file in volume.files()} == {*FILES, *names}
    assert volume.files() is volume.files()


def test_the_limits_are_the_callers() -> None:
    blocks = BytesBlocks(volume_bytes(16))
    with pytest.raises(LimitExceededError, match="more than 3 files"):
        FatVolume(blocks, limits=Limits(fat_files=3)).files()
    with pytest.raises(LimitExceededError, match="deeper than 1"):
        FatVolume(blocks, limits=Limits(depth=1)).files()
    with pytest.raises(LimitExceededError, match="more than 4 fragments"):
        FatVolume(blocks, limits=Limits(items=4)).files()
    volume = FatVolume(blocks, limits=Limits(file_size=1000))
    large = next(file for file in volume.files() if file.size > 1000)
    with pytest.raises(LimitExceededError, match="the limit is 1000"):
        volume.read(large)


def test_a_volume_in_fragments_costs_no_more_than_the_limit() -> None:
    # Every cluster of the volume in one chain that never goes to its neighbour.
    good = volume_bytes(32)
    start, data_start = table(good)
    clusters = (len(good) - data_start) // 512
    changed = bytearray(good)
    order = list(range(3, clusters, 2)) + list(range(4, clusters, 2))
    for one, following in pairwise(order):
        struct.pack_into("<I", changed, start + 4 * one, following)
    entry, _ = first_cluster(good, b"VMLINU~1   ")
    struct.pack_into("<H", changed, entry + 20, 0)
    struct.pack_into("<H", changed, entry + 26, order[0])
    struct.pack_into("<I", changed, entry + 28, (len(order) - 1) * 512)
    with pytest.raises(FormatError):
        FatVolume(BytesBlocks(bytes(changed))).files()


@given(st.data())
def test_changed_bytes_are_a_volume_or_a_format_error(data: st.DataObject) -> None:
    good = volume_bytes(12)
    place = data.draw(st.integers(0, 20_000))
    change = data.draw(st.binary(min_size=1, max_size=32))
    changed = good[:place] + change + good[place + len(change) :]
    try:
        read_all(FatVolume(BytesBlocks(changed)))
    except FormatError:
        return


@given(st.binary(max_size=2048))
def test_any_bytes_are_a_volume_or_a_format_error(data: bytes) -> None:
    for candidate in (data, b"\xeb" + data[:509].ljust(509, b"\0") + b"\x55\xaa" + data):
        try:
            read_all(FatVolume(BytesBlocks(candidate)))
        except FormatError:
            continue
