"""Superblocks: what mkfs wrote and blkid reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError
from measlog.formats.blocks import BytesBlocks
from measlog.formats.filesystems import VeritySuperblock, identify_filesystem

UUID = "7130c94a-213a-4e5a-8e26-6cce9662f132"
SIZE = 120 << 20
XFS_SIZE = 512 << 20
"""mkfs.xfs makes none below 300 MiB; the file is sparse."""
MAKERS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-U", UUID, "-L", "OEM"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-U", UUID, "-L", "OEM"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-m", f"uuid={UUID}", "-L", "OEM"],
    "erofs": ["mkfs.erofs", "-U", UUID],
    "squashfs": ["mksquashfs"],
    "fat": ["mkfs.vfat", "-i", "5F1A7C42", "-n", "OEM"],
}


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_system_is_what_mkfs_made_and_blkid_says(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "volume"
    with path.open("wb") as stream:
        stream.truncate(XFS_SIZE if kind == "xfs" else SIZE)
    name, *options = MAKERS[kind]
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    line: list[str | Path] = [tool(name), *options, path]
    if kind == "squashfs":
        path.unlink()
        line = [tool(name), source, path, "-quiet"]
    elif kind == "erofs":
        line.append(source)
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    with path.open("rb") as stream:
        info = identify_filesystem(BytesBlocks(stream.read(SIZE).ljust(1 << 17, b"\0")))
    assert info is not None
    assert info.kind == kind
    said = subprocess.run(
        [tool("blkid"), "-p", "-o", "export", path], check=True, capture_output=True, text=True, timeout=60
    )
    values = dict(line.split("=", 1) for line in said.stdout.splitlines() if "=" in line)
    assert values["TYPE"].replace("vfat", "fat") == kind
    assert info.uuid == values.get("UUID")
    assert info.label == values.get("LABEL")
    if kind in {"ext4", "btrfs"}:
        assert info.size == SIZE


def test_nothing_known_is_none() -> None:
    assert identify_filesystem(BytesBlocks(bytes(1 << 17))) is None
    assert identify_filesystem(BytesBlocks(b"")) is None


@given(st.binary(max_size=700))
def test_any_bytes_are_a_verity_superblock_or_a_format_error(data: bytes) -> None:
    for candidate in (data, b"verity\0\0\1\0\0\0" + data):
        try:
            VeritySuperblock.from_bytes(candidate)
        except FormatError:
            continue
