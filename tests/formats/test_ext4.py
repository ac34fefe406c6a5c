"""ext4 volumes as mke2fs and debugfs make them, and ones that lie."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
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
