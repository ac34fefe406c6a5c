"""One pass over a disk image: the digest of the whole, and the hash trees of its USR partitions."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import TruncatedError
from measlog.flatcar.verity import HashTree
from measlog.formats.blocks import Blocks

__all__ = ["BackgroundDigest", "FileBlocks", "Progress", "TreeScan", "scan"]

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes there are in all."""

CHUNK = 1 << 20
PENDING = 8
_ZEROS = bytes(CHUNK)
_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)


class FileBlocks:
    """An open file as blocks; reading moves no shared position, so threads may read at once."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; TruncatedError where there are fewer."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise TruncatedError(f"{length} bytes expected, the file has {self.size} in all", offset=offset)
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length:
            more = os.pread(self._descriptor, length - len(data), offset + len(data))
            if not more:
                raise TruncatedError("the file became shorter while it was read", offset=offset + len(data))
            data += more
        return data

    def hole(self, offset: int, length: int) -> bool:
        """Whether the file stores nothing in this range, which then reads as zeros; False where nobody can tell."""
        if _SEEK_DATA is None:
            return False
        try:
            return os.lseek(self._descriptor, offset, _SEEK_DATA) >= offset + length
        except OSError as error:
            # ENXIO: there is no data from here to the end of the file.
            return error.errno == errno.ENXIO


@frozen(kw_only=True)
class TreeScan:
    """A hash tree and where its data starts in the image, in bytes."""

    start: int = field(validator=instance_of(int))
    tree: HashTree = field(validator=instance_of(HashTree))


def scan(
    blocks: FileBlocks,
    trees: Callable[[ThreadPoolExecutor], Sequence[TreeScan]],
    *,
    whole: bool = True,
    progress: Progress | None = None,
) -> tuple[bytes | None, Sequence[TreeScan]]:
    """Read all of ``blocks`` once: the SHA-256 of the whole, and the trees that ``trees`` made, fed with their data.

    With ``whole=False`` only the trees' data is read, and there is no digest.

    One thread makes the digest of the whole, the others hash blocks; at most a few pieces of 1 MiB are held.
    """
    with (
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="measlog-digest") as digester,
        ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="measlog-tree") as pool,
    ):
        parts = trees(pool)
        digest = hashlib.sha256()
        pending: deque[Future[None]] = deque()
        for offset, length, tree in _pieces(blocks.size, parts):
            if tree is None and not whole:
                continue
            data = _ZEROS[:length] if blocks.hole(offset, length) else blocks.read(offset, length)
            if whole:
                pending.append(digester.submit(digest.update, data))
            if tree is not None:
                tree.update(data)
            while len(pending) > PENDING:
                pending.popleft().result()
            if progress is not None:
                progress(offset + length, blocks.size)
        while pending:
            pending.popleft().result()
        return digest.digest() if whole else None, parts


def _pieces(size: int, parts: Sequence[TreeScan]) -> Iterator[tuple[int, int, HashTree | None]]:
    """Offset, length and tree of each piece; no piece crosses the border of a tree's data."""
    place = 0
    for part in sorted(parts, key=lambda one: one.start):
        yield from ((offset, length, None) for offset, length in _steps(place, part.start))
        yield from ((offset, length, part.tree) for offset, length in _steps(part.start, part.start + part.tree.size))
        place = part.start + part.tree.size
    yield from ((offset, length, None) for offset, length in _steps(place, size))


def _steps(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for offset in range(start, stop, CHUNK):
        yield offset, min(CHUNK, stop - offset)


class BackgroundDigest:
    """SHA-256 of a file that another thread unpacks meanwhile; the system reads it from the disk once for both."""

    def __init__(self, blocks: Blocks, progress: Progress | None = None) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="measlog-digest")
        self._future = self._pool.submit(_digest, blocks, progress)

    def result(self) -> bytes:
        """The digest, when the thread is done."""
        try:
            return self._future.result()
        finally:
            self._pool.shutdown()


def _digest(blocks: Blocks, progress: Progress | None) -> bytes:
    digest = hashlib.sha256()
    for offset, length in _steps(0, blocks.size):
        digest.update(blocks.read(offset, length))
        if progress is not None:
            progress(offset + length, blocks.size)
    return digest.digest()
