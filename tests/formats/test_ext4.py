"""ext4 volumes as mke2fs and debugfs make them, and ones that lie."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.formats.blocks import BytesBlocks
from measlog.formats.ext4 import Ext4Volume
from measlog.limits import Limits

FILES = {
    "grub.cfg": b"set oem_id=qemu\n",
    "empty": b"",
    "folder/below/file": random.Random(1).randbytes(300_000),
    **{f"many/{number:04}": str(number).encode() for number in range(300)},
}


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


@cache
def volume(*options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "source"), Path(folder, "volume")
        for name, content in FILES.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        (source / "link").symlink_to("grub.cfg")
        line: list[str | Path] = [tool("mke2fs"), "-q", "-t", "ext4", *options, "-d", source, path, "8m"]
        subprocess.run(line, check=True, capture_output=True, timeout=60)
        return path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [(), ("-b", "1024"), ("-O", "^64bit"), ("-O", "^has_journal,^metadata_csum"), ("-I", "128", "-b", "4096")],
)
def test_what_mke2fs_wrote_is_read(options: tuple[str, ...]) -> None:
    read = Ext4Volume(BytesBlocks(volume(*options)))
    assert {file.path: read.read(file) for file in read.files()} == FILES
    assert dict(read.contents()) == FILES


@pytest.mark.parametrize("options", [("-O", "^extent,^64bit"), ("-O", "inline_data"), ("-O", "encrypt")])
def test_what_is_not_read_is_named(options: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedError):
        Ext4Volume(BytesBlocks(volume(*options))).files()


def test_limits_and_other_things() -> None:
    with pytest.raises(LimitExceededError):
        Ext4Volume(BytesBlocks(volume()), limits=Limits(fat_files=10)).files()
    with pytest.raises(LimitExceededError):
        Ext4Volume(BytesBlocks(volume()), limits=Limits(depth=1)).files()
    for data in (b"", bytes(4096)):
        with pytest.raises(FormatError):
            Ext4Volume(BytesBlocks(data))


GOOD = ("-b", "1024", "-O", "^has_journal,^metadata_csum,^64bit,^dir_index")
SUPER = 1024


def inode_at(number: int) -> int:
    """The byte where an inode is, by debugfs, which reads the same volume."""
    with tempfile.NamedTemporaryFile() as stream:
        stream.write(volume(*GOOD))
        stream.flush()
        line = [tool("debugfs"), "-R", f"imap <{number}>", stream.name]
        said = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", said)
    assert found is not None, said
    return int(found[1]) * 1024 + int(found[2], 16)


def number_of(path: str) -> int:
    with tempfile.NamedTemporaryFile() as stream:
        stream.write(volume(*GOOD))
        stream.flush()
        line = [tool("debugfs"), "-R", f"stat /{path}", stream.name]
        said = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"Inode: (\d+)", said)
    assert found is not None, said
    return int(found[1])


def entry_of(name: bytes) -> int:
    """Where the directory entry of a name is: inode (4 bytes), length (2), length of the name, type, the name."""
    data = volume(*GOOD)
    at = -1
    while True:
        at = data.index(name, at + 1)
        if data[at - 2] == len(name) and data[at - 1] in {1, 2}:
            return at - 8


ROOT = 2
DAMAGED = "a damaged entry at byte"
# Offsets in a superblock, an inode (i_mode 0, i_size_lo 4, i_flags 32, i_block 40) and an extent header (eh_magic 0,
# eh_entries 2, eh_depth 6; the first extent from 12 on: ee_block, ee_len, ee_start_hi, ee_start_lo).
LIES: dict[str, tuple[Callable[[], tuple[int, bytes]], type[FormatError], str]] = {
    "a journal to replay": (lambda: (SUPER + 96, b"\x46\x02"), UnsupportedError, "the journal has to be replayed"),
    "blocks of 2^17 bytes": (lambda: (SUPER + 24, b"\x07"), FormatError, r"blocks of 2\^17 bytes"),
    "no inodes in a group": (lambda: (SUPER + 40, bytes(4)), FormatError, "out of range"),
    "2^32 inodes in a group": (lambda: (SUPER + 40, b"\xff" * 4), FormatError, "out of range"),
    "inodes of 64 bytes": (lambda: (SUPER + 88, b"\x40\0"), FormatError, "out of range"),
    "no inodes": (lambda: (SUPER, bytes(4)), FormatError, "inode 2 of 0"),
    "a root that is a file": (lambda: (inode_at(ROOT), b"\xa4\x81"), FormatError, "is no directory"),
    "a folder of 2^31 bytes": (lambda: (inode_at(ROOT) + 4, b"\0\0\0\x80"), LimitExceededError, "more than are read here"),
    "a folder without extents": (lambda: (inode_at(ROOT) + 32, bytes(4)), UnsupportedError, "without extents"),
    "a tree that is none": (lambda: (inode_at(ROOT) + 40, b"\0\0"), FormatError, "a damaged extent tree"),
    "more extents than fit": (lambda: (inode_at(ROOT) + 42, b"\x05\0"), FormatError, "a damaged extent tree"),
    "a tree of 6 levels": (lambda: (inode_at(ROOT) + 46, b"\x06\0"), FormatError, "a damaged extent tree"),
    "a block beyond the end": (lambda: (inode_at(ROOT) + 60, b"\xff" * 4), FormatError, "is beyond the end"),
    "an entry of 4 bytes": (lambda: (entry_of(b"grub.cfg") + 4, b"\x04\0"), FormatError, DAMAGED),
    "an entry of 21 bytes": (lambda: (entry_of(b"grub.cfg") + 4, b"\x15\0"), FormatError, DAMAGED),
    "an entry beyond the folder": (lambda: (entry_of(b"grub.cfg") + 4, b"\xfc\xff"), FormatError, DAMAGED),
    "a name beyond its entry": (lambda: (entry_of(b"grub.cfg") + 6, b"\xff"), FormatError, DAMAGED),
    "a name of nothing": (lambda: (entry_of(b"grub.cfg") + 6, b"\0"), FormatError, "the name '' is none"),
    "a name with a slash": (lambda: (entry_of(b"grub.cfg") + 8, b"gr/b"), FormatError, "the name 'gr/b.cfg' is none"),
    "an inode that there is not": (lambda: (entry_of(b"grub.cfg"), b"\xff\xff\0\0"), FormatError, "inode 65535 of"),
    "a folder that is there twice": (
        lambda: (entry_of(b"many"), number_of("folder").to_bytes(4, "little")), FormatError, "there twice"),
    "a folder that holds the root": (lambda: (entry_of(b"below"), b"\x02\0\0\0"), FormatError, "there twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_one_error_that_says_where(name: str) -> None:
    change, kind, message = LIES[name]
    place, content = change()
    good = volume(*GOOD)
    if message == DAMAGED:
        # The root directory is one block.
        message += f" {entry_of(b'grub.cfg') % 1024} of the directory"
    with pytest.raises(FormatError, match=message) as caught:
        Ext4Volume(BytesBlocks(good[:place] + content + good[place + len(content) :])).files()
    assert type(caught.value) is kind
    assert caught.value.offset is not None or caught.value.path is not None


def test_descriptors_of_a_size_that_does_not_exist_are_refused() -> None:
    # s_desc_size counts with the feature 64bit alone.
    good = volume("-O", "64bit,^has_journal,^metadata_csum")
    for size in (16, 2048):
        with pytest.raises(FormatError, match=f"group descriptors of {size} bytes"):
            Ext4Volume(BytesBlocks(good[: SUPER + 254] + size.to_bytes(2, "little") + good[SUPER + 256 :]))


def test_a_file_in_many_pieces_has_a_tree_of_extents(tmp_path: Path) -> None:
    """Every second block of a file taken out: the extents no longer fit into the inode, and the holes are zeros."""
    path = tmp_path / "volume"
    path.write_bytes(volume(*GOOD))
    blocks = 293  # of 1024 bytes; folder/below/file has 300,000
    commands = "".join(f"punch folder/below/file {block} {block}\n" for block in range(1, blocks, 2))
    words = [tool("debugfs"), "-w", "-f", "-", str(path)]
    subprocess.run(words, check=True, capture_output=True, input=commands.encode(), timeout=60)
    read = Ext4Volume(BytesBlocks(path.read_bytes()))
    file = next(file for file in read.files() if file.path == "folder/below/file")
    expected = bytearray(FILES["folder/below/file"])
    for block in range(1, blocks, 2):
        expected[block * 1024 : (block + 1) * 1024] = bytes(len(expected[block * 1024 : (block + 1) * 1024]))
    assert read.read(file) == bytes(expected)
    limited = Ext4Volume(BytesBlocks(path.read_bytes()), limits=Limits(items=20))
    with pytest.raises(LimitExceededError, match="more than 20 blocks"):
        limited.read(file)


def test_what_was_never_written_is_zeros() -> None:
    # ee_len above 32768: the blocks are allocated and not initialized.
    place = inode_at(number_of("grub.cfg")) + 40 + 12 + 4
    good = volume(*GOOD)
    assert good[place : place + 2] == b"\1\0"
    read = Ext4Volume(BytesBlocks(good[:place] + b"\x01\x80" + good[place + 2 :]))
    file = next(file for file in read.files() if file.path == "grub.cfg")
    assert read.read(file) == bytes(file.size)


@given(st.data())
def test_changed_bytes_are_a_volume_or_a_format_error(data: st.DataObject) -> None:
    good = volume("-O", "^has_journal,^metadata_csum")
    place = data.draw(st.one_of(st.integers(1024, 1400), st.integers(4096, 4160), st.integers(0, 600_000)))
    change = data.draw(st.binary(min_size=1, max_size=8))
    try:
        read = Ext4Volume(BytesBlocks(good[:place] + change + good[place + len(change) :]))
        for file in read.files():
            read.read(file)
    except FormatError:
        pass
