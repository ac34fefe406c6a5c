"""Hash trees against veritysetup, byte for byte, and USR partitions that do not fit their kernel."""

from __future__ import annotations

import hashlib
import random
import re
import struct
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import pytest

import measlog as ml
from measlog.errors import FormatError, TruncatedError
from measlog.flatcar.verity import BLOCK, HashTree, VerityLayout, embedded_root_hash, hash_blocks
from measlog.formats.blocks import BytesBlocks
from tests.flatcar import images
from tests.flatcar.images import disk, esp_files, kernel
from tests.formats.pe_maker import patch

BLOCKS = 64


def filesystem(blocks: int) -> bytes:
    """Random blocks with an ext4 superblock that gives their number."""
    data = bytearray(random.Random(blocks).randbytes(blocks * BLOCK))
    data[1024 : 1024 + 264] = bytes(264)
    struct.pack_into("<II16sI", data, 1024, 0, blocks, b"", 2)
    struct.pack_into("<H", data, 1024 + 56, 0xEF53)
    return bytes(data)


def usr(folder: Path, blocks: int = BLOCKS, options: Mapping[str, str] = MappingProxyType({})) -> tuple[bytes, bytes]:
    """A USR partition as veritysetup formats it, and the root hash that it names."""
    path = folder / "usr"
    path.write_bytes(filesystem(blocks))
    words = {"hash": "sha256", "data-block-size": "4096", "hash-block-size": "4096", "data-blocks": str(blocks)}
    words |= {"hash-offset": str(blocks * BLOCK), "salt": "5a" * 32, **options}
    line: list[str | Path] = [
        images.tool("veritysetup"),
        "format",
        *(f"--{name}={value}" for name, value in words.items()),
        path,
        path,
    ]
    said = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"Root hash:\s+([0-9a-f]+)", said)
    assert found is not None
    return path.read_bytes(), bytes.fromhex(found[1])


@pytest.mark.parametrize(
    ("blocks", "salt"),
    [(2, "-"), (127, "01"), (128, "5a" * 32), (129, "-"), (1000, "5a" * 32), (128 * 128 + 1, "01")],
)
def test_the_tree_is_that_of_veritysetup(blocks: int, salt: str, tmp_path: Path) -> None:
    data, root = usr(tmp_path, blocks, {"salt": salt})
    partition = BytesBlocks(data)
    layout = VerityLayout.read(partition)
    assert layout.data_blocks == blocks
    tree = HashTree(layout)
    tree.update(data)
    assert tree.finish(partition) == root


def test_threads_and_pieces_change_nothing(tmp_path: Path) -> None:
    data, root = usr(tmp_path, 1000)
    partition = BytesBlocks(data)
    with ThreadPoolExecutor(3) as pool:
        tree = HashTree(VerityLayout.read(partition), executor=pool, pending=2)
        for place in range(0, 1000 * BLOCK, 7 * BLOCK):
            tree.update(data[place : place + 7 * BLOCK])
        assert tree.finish(partition) == root


def test_data_that_ends_early_is_refused(tmp_path: Path) -> None:
    data, _ = usr(tmp_path)
    tree = HashTree(VerityLayout.read(BytesBlocks(data)))
    tree.update(data[: 10 * BLOCK])
    with pytest.raises(FormatError, match=f"{10 * BLOCK} bytes of {BLOCKS * BLOCK}"):
        tree.finish(BytesBlocks(data))


@pytest.mark.parametrize(
    "options", [{"hash": "sha512"}, {"data-block-size": "1024", "data-blocks": "256"}, {"format": "0"}]
)
def test_other_parameters_are_refused_whatever_the_superblock_says(options: dict[str, str], tmp_path: Path) -> None:
    data, _ = usr(tmp_path, BLOCKS, options)
    with pytest.raises(FormatError, match=r"verity\.(algorithm|data_block_size|hash_type)"):
        VerityLayout.read(BytesBlocks(data))


def opened(folder: Path, data: bytes, *, verity: bool = True) -> ml.flatcar.Image:
    path = folder / "image.bin"
    path.write_bytes(data)
    return ml.flatcar.Image.open(path, verity=verity)


def test_an_image_whose_usr_is_its_kernels(tmp_path: Path) -> None:
    data, root = usr(tmp_path)
    seen: list[tuple[int, int]] = []
    path = tmp_path / "image.bin"
    path.write_bytes(disk(esp_files(**{"flatcar/vmlinuz-a": kernel(root.hex())}), usr=data))
    image = ml.flatcar.Image.open(path, progress=lambda done, total: seen.append((done, total)))
    (slot,) = image.reference_manifest().usr
    assert (slot.slot, slot.status, slot.root, slot.data_blocks) == ("a", "verified", root, BLOCKS)
    assert image.sources[0].sha256 == hashlib.sha256(path.read_bytes()).digest()
    size = path.stat().st_size
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a byte of data": (lambda data: patch(data, 5 * BLOCK + 7, b"\x00\x01"), "data block 5 does not have the digest"),
    "a byte of the tree": (lambda data: patch(data, (BLOCKS + 1) * BLOCK + 32 * 9, b"\x00\x01"), "data block 9"),
    "a byte behind the tree's digests": (
        lambda data: patch(data, (BLOCKS + 1) * BLOCK + 32 * BLOCKS, b"\x01"),
        "data block 64",
    ),
    "the salt": (lambda data: patch(data, BLOCKS * BLOCK + 88, b"\x00"), "data block 0"),
    "no superblock": (lambda data: patch(data, BLOCKS * BLOCK, bytes(16)), "no dm-verity superblock"),
    "a huge salt": (lambda data: patch(data, BLOCKS * BLOCK + 80, b"\xff\xff"), "a salt of 65535 bytes"),
    "another number of blocks": (lambda data: patch(data, BLOCKS * BLOCK + 72, b"\x01"), "data_blocks"),
    "no file system": (lambda data: patch(data, 1024 + 56, b"\0\0"), "no btrfs or ext4"),
    "a file system of 2^32 blocks": (lambda data: patch(data, 1024 + 4, b"\xff" * 4), "up to 4 GiB"),
    "a file system beyond the partition": (lambda data: patch(data, 1024 + 4, b"\0\0\1\0"), "no room for a hash tree"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_usr_gives_no_manifest(name: str, tmp_path: Path) -> None:
    change, message = CHANGES[name]
    data, root = usr(tmp_path)
    image = disk(esp_files(**{"flatcar/vmlinuz-a": kernel(root.hex())}), usr=change(data))
    with pytest.raises(FormatError, match=message) as caught:
        opened(tmp_path, image)
    assert (caught.value.path or "").startswith("partitions[3]")
    assert caught.value.offset is not None
    (slot,) = opened(tmp_path, image, verity=False).reference_manifest().usr
    assert slot.status == "unchecked"


def test_a_usr_of_another_kernel_gives_no_manifest(tmp_path: Path) -> None:
    data, root = usr(tmp_path)
    image = disk(esp_files(), usr=data)
    with pytest.raises(FormatError, match=f"root hash {root.hex()}, its kernel expects {images.ROOT_A}"):
        opened(tmp_path, image)


def test_the_root_hash_of_a_kernel() -> None:
    assert embedded_root_hash(kernel(), "amd64") == bytes.fromhex(images.ROOT_A)
    assert embedded_root_hash(kernel(machine=0xAA64), "arm64") == bytes.fromhex(images.ROOT_A)
    for data, arch in ((kernel(), "arm64"), (b"", "amd64"), (kernel(), "riscv64")):
        with pytest.raises(FormatError):
            embedded_root_hash(data, arch)


def test_a_tree_that_does_not_fit_into_the_partition_is_refused(tmp_path: Path) -> None:
    data, _ = usr(tmp_path, 129)
    # 129 data blocks, the superblock, one block for the root and two of leaves.
    assert VerityLayout.read(BytesBlocks(data[: 133 * BLOCK])).levels == (2, 1)
    with pytest.raises(TruncatedError, match=f"the hash tree ends at byte {133 * BLOCK}, the partition at"):
        VerityLayout.read(BytesBlocks(data[: 133 * BLOCK - 1]))
    with pytest.raises(TruncatedError, match="no room for a hash tree"):
        VerityLayout.read(BytesBlocks(data[: 130 * BLOCK - 1]))


@pytest.mark.parametrize("engine", ["avx2", "scalar"])
def test_blocks_hash_alike_with_and_without_lanes(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("measlog.flatcar.verity.lanes.engine", lambda: engine)
    data, salt = random.Random(4).randbytes(3 * BLOCK), bytes(range(32))
    expected = b"".join(hashlib.sha256(salt + data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK))
    assert hash_blocks(data, salt) == expected
    assert hash_blocks(b"", salt) == b""
