"""dm-verity as Flatcar sets it up: the root hash in a kernel, and the hash tree of a USR partition.

SHA-256 over 4096-byte blocks, the salt before each block (hash type 1); as many data blocks as the file system has, the
superblock and the hash area straight behind them (cryptsetup's "DM-Verity on-disk format"). The salt is the
superblock's, which the root hash binds; everything else is as Flatcar sets it, whatever the superblock says.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future

import numpy as np
from attrs import field, frozen
from attrs.validators import instance_of

from measlog import lanes
from measlog.errors import FormatError, TruncatedError
from measlog.formats.blocks import Blocks
from measlog.formats.filesystems import VeritySuperblock, identify_filesystem
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["ROOT_HASH_OFFSETS", "HashTree", "VerityLayout", "embedded_root_hash", "hash_blocks"]

ROOT_HASH_OFFSETS = {"amd64": 64, "arm64": 512}
"""Byte offset of the 64 hexadecimal digits in the kernel file, by architecture."""

CLAUSE = "DM-Verity on-disk format"
BLOCK = 4096
DIGEST = 32
PER_BLOCK = BLOCK // DIGEST
_WIDE = frozenset({"avx512", "avx2"})
"""The lanes that keep up with a processor's own SHA-256 instructions, and let other threads go on meanwhile."""
DATA_BLOCK_LIMIT = 1 << 20
"""4 GiB, twice Flatcar's partition; the digests of that many blocks take 32 MiB."""

_DIGITS = re.compile(rb"[0-9a-f]{64}")
_ANY_CASE = re.compile(rb"[0-9A-Fa-f]{64}")


def embedded_root_hash(kernel: bytes | memoryview, arch: str) -> bytes:
    """The root hash (32 bytes) that a Flatcar kernel carries.

    FormatError where there is none, and where it is not in lower case: GRUB then adds no ``verity.usrhash`` at all, and
    the machine would boot whatever USR it finds.
    """
    offset = ROOT_HASH_OFFSETS.get(arch)
    if offset is None:
        raise FormatError(f"no place is known for the dm-verity root hash of {arch}", path="kernel")
    digits = bytes(kernel[offset : offset + 64])
    if _DIGITS.fullmatch(digits):
        return bytes.fromhex(digits.decode())
    if _ANY_CASE.fullmatch(digits):
        raise FormatError(
            "the dm-verity root hash has upper-case digits, which the boot loader does not accept",
            offset=offset,
            path="kernel",
        )
    raise FormatError(
        "expected the dm-verity root hash, 64 lower-case hexadecimal digits", offset=offset, path="kernel"
    )


@frozen(kw_only=True)
class VerityLayout:
    """Where the hash tree of a USR partition is, and its salt; ``data_blocks`` and the like count blocks of 4096 bytes."""

    data_blocks: int = field(validator=instance_of(int))
    salt: bytes = field(validator=instance_of(bytes))

    @property
    def levels(self) -> tuple[int, ...]:
        """The number of hash blocks of each level, the leaves' first."""
        sizes: list[int] = []
        count = self.data_blocks
        while not sizes or count > 1:
            count = (count + PER_BLOCK - 1) // PER_BLOCK
            sizes.append(count)
        return tuple(sizes)

    def level_start(self, level: int) -> int:
        """Where a level of the tree starts in the partition, in bytes: the top level comes first."""
        above = sum(self.levels[level + 1 :])
        return (self.data_blocks + 1 + above) * BLOCK

    @classmethod
    def read(cls, partition: Blocks, *, limits: Limits = DEFAULT_LIMITS) -> VerityLayout:
        """Find the tree of the file system in ``partition``; FormatError where it is not as Flatcar makes it."""
        system = identify_filesystem(partition, limits=limits)
        if system is None or system.size is None:
            raise FormatError("no btrfs or ext4 file system, which would tell where the hash tree starts", offset=0)
        if system.size <= 0 or system.size % BLOCK or system.size // BLOCK > DATA_BLOCK_LIMIT:
            raise FormatError(
                f"a file system of {system.size} bytes, expected a multiple of {BLOCK} up to 4 GiB", offset=0
            )
        if system.size + BLOCK > partition.size:
            raise TruncatedError(
                f"the file system ends at byte {system.size}, the partition at {partition.size}: no room for a hash tree",
                offset=system.size,
                clause=CLAUSE,
            )
        try:
            found = VeritySuperblock.from_bytes(partition.read(system.size, BLOCK))
        except FormatError as error:
            raise error.inside("verity", system.size) from None
        said = found.hash_type, found.algorithm, found.data_block_size, found.hash_block_size, found.data_blocks
        expected = 1, "sha256", BLOCK, BLOCK, system.size // BLOCK
        names = "hash_type", "algorithm", "data_block_size", "hash_block_size", "data_blocks"
        for name, one, other in zip(names, said, expected, strict=True):
            if one != other:
                raise FormatError(f"{one}, expected {other}", offset=system.size, path=f"verity.{name}", clause=CLAUSE)
        layout = cls(data_blocks=found.data_blocks, salt=found.salt)
        end = layout.level_start(0) + layout.levels[0] * BLOCK
        if end > partition.size:
            raise TruncatedError(
                f"the hash tree ends at byte {end}, the partition at {partition.size}",
                offset=system.size,
                clause=CLAUSE,
            )
        return layout


class HashTree:
    """The tree over data that comes piece by piece, in order; pieces are hashed by ``executor`` where one is given.

    At most ``pending`` pieces are held at a time. :meth:`finish` compares with the tree that the partition stores.
    """

    def __init__(self, layout: VerityLayout, *, executor: Executor | None = None, pending: int = 4) -> None:
        self.layout = layout
        self._executor = executor
        self._pending = pending
        self._queue: deque[Future[bytes]] = deque()
        self._leaves = bytearray()
        self._taken = 0

    @property
    def size(self) -> int:
        """How many bytes of data the tree is over."""
        return self.layout.data_blocks * BLOCK

    def update(self, data: bytes | memoryview) -> None:
        """Go on with ``data``, whole blocks; what lies behind the data area is not taken."""
        data = data[: self.size - self._taken]
        self._taken += len(data)
        if self._executor is None:
            self._leaves += hash_blocks(data, self.layout.salt)
            return
        self._queue.append(self._executor.submit(hash_blocks, data, self.layout.salt))
        while len(self._queue) > self._pending:
            self._leaves += self._queue.popleft().result()

    def finish(self, partition: Blocks) -> bytes:
        """The root hash; FormatError where the tree stored in ``partition`` differs, with the first block that does."""
        while self._queue:
            self._leaves += self._queue.popleft().result()
        if self._taken != self.size:
            raise TruncatedError(f"{self._taken} bytes of {self.size}", offset=self._taken)
        digests = bytes(self._leaves)
        for level, count in enumerate(self.layout.levels):
            blocks = digests.ljust(count * BLOCK, b"\0")
            start = self.layout.level_start(level)
            stored = partition.read(start, len(blocks))
            if stored != blocks:
                raise self._difference(level, start, stored, blocks)
            digests = hash_blocks(blocks, self.layout.salt)
        return digests

    def _difference(self, level: int, start: int, stored: bytes, computed: bytes) -> FormatError:
        place = next(i for i in range(0, len(stored), DIGEST) if stored[i : i + DIGEST] != computed[i : i + DIGEST])
        index = place // DIGEST
        what = f"data block {index}" if level == 0 else f"block {index} of level {level - 1} of the hash tree"
        offset = index * BLOCK if level == 0 else self.layout.level_start(level - 1) + index * BLOCK
        return FormatError(
            f"{what} does not have the digest that the hash tree stores at byte {start + place}",
            offset=offset,
            path="verity",
            clause=CLAUSE,
        )


def hash_blocks(data: bytes | memoryview, salt: bytes) -> bytes:
    """The digests of the 4096-byte blocks of ``data``, whole blocks, one after the other."""
    if lanes.engine() in _WIDE:
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, BLOCK)
        return lanes.hash_rows("sha256", rows, prefix=salt).tobytes()
    start: Callable[[], hashlib._Hash] = hashlib.sha256(salt).copy
    view = memoryview(data)
    out = bytearray()
    for place in range(0, len(view), BLOCK):
        one = start()
        one.update(view[place : place + BLOCK])
        out += one.digest()
    return bytes(out)
