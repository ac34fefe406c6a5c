"""Files read as blocks: what is not there is an error, whatever the system hands over at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from measlog.errors import TruncatedError
from measlog.flatcar import scan
from measlog.flatcar.scan import BackgroundDigest, FileBlocks

CONTENT = bytes(range(256)) * 16


def blocks(path: Path, descriptors: list[int]) -> FileBlocks:
    path.write_bytes(CONTENT)
    descriptors.append(os.open(path, os.O_RDONLY))
    return FileBlocks(descriptors[-1], len(CONTENT))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[FileBlocks]:
    descriptors: list[int] = []
    yield blocks(tmp_path / "file", descriptors)
    os.close(descriptors[0])


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, -1), (0, 4097), (4096, 1), (1 << 60, 1)])
def test_nothing_is_read_beyond_the_file(opened: FileBlocks, offset: int, length: int) -> None:
    assert opened.read(4090, 6) == CONTENT[4090:]
    assert opened.read(4096, 0) == b""
    with pytest.raises(TruncatedError, match="the file has 4096 in all") as caught:
        opened.read(offset, length)
    assert caught.value.offset == offset


def test_a_file_that_became_shorter_is_an_error(opened: FileBlocks, tmp_path: Path) -> None:
    os.truncate(tmp_path / "file", 1000)
    with pytest.raises(TruncatedError, match="became shorter while it was read") as caught:
        opened.read(500, 1000)
    assert caught.value.offset == 1000


def test_reads_go_on_where_the_system_hands_over_less(opened: FileBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: whole(fd, min(length, 100), offset))
    assert opened.read(7, 1234) == CONTENT[7 : 7 + 1234]


def test_holes_are_a_matter_of_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    with path.open("wb") as stream:
        stream.truncate(4 << 20)
    with path.open("rb") as stream:
        sparse = FileBlocks(stream.fileno(), 4 << 20)
        assert sparse.hole(0, 4 << 20)
        monkeypatch.setattr(scan, "_SEEK_DATA", None)
        assert not sparse.hole(0, 4 << 20)
        assert scan.scan(sparse, lambda _pool: [])[0] == hashlib.sha256(bytes(4 << 20)).digest()


def test_progress_ends_where_the_file_does(tmp_path: Path) -> None:
    size = (3 << 20) + 5
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    expected = hashlib.sha256(path.read_bytes()).digest()
    with path.open("rb") as stream:
        read = FileBlocks(stream.fileno(), size)
        steps: list[tuple[int, int]] = []
        assert (
            scan.scan(read, lambda _pool: [], progress=lambda done, whole: steps.append((done, whole)))[0] == expected
        )
        assert steps == [(1 << 20, size), (2 << 20, size), (3 << 20, size), (size, size)]
        steps.clear()
        assert BackgroundDigest(read, lambda done, whole: steps.append((done, whole))).result() == expected
        assert steps[-1] == (size, size)
