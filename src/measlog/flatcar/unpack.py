"""Images as they are published: compressed, in archives, in the formats of hypervisors.

Each reader hands on the raw disk piece by piece. How long the disk may become is what its own partition table says.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import lzma
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Protocol, Self

from measlog.errors import FormatError, LimitExceededError, MissingExtraError, TruncatedError, UnsupportedError
from measlog.formats.gpt import EFI_PARTITION_TABLE_HEADER
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["DAMAGE", "QEMU_FORMATS", "Raw", "SparseWriter", "container_kind", "convert", "pieces", "unpack"]

DAMAGE = (zlib.error, lzma.LZMAError, struct.error, tarfile.TarError, zipfile.BadZipFile)
"""What the standard library's readers raise of their own for damaged input."""

CHUNK = 1 << 20
SECTOR = 512
HEAD = 64 << 10
DAMAGE_WITHIN = 64 << 20
"""Bytes of what is no disk that are looked through for damage; a block of bzip2 made of zeros unpacks to 45 MB."""

_MAGIC = (
    (0, b"BZh", "bzip2"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"QFI\xfb", "qcow2"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"KDMV", "vmdk"),
    (0, b"conectix", "vpc"),
    (257, b"ustar", "tar"),
)
QEMU_FORMATS = frozenset({"qcow2", "vhdx", "vmdk", "vpc"})
"""Formats that ``qemu-img`` turns into a raw disk."""


class Raw(Protocol):
    """What is read from: a file opened for reading bytes, or a decompressor."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...


def container_kind(head: bytes, tail: bytes = b"") -> str | None:
    """What a file is, by its first 512 bytes or more and its last 512; None for a raw disk."""
    if head[SECTOR : SECTOR + 8] == b"EFI PART" and tail[:8] != b"conectix":
        return None
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    # A fixed VHD is a raw disk with a footer (VHD specification, "Hard Disk Footer Format").
    return "vpc" if tail[:8] == b"conectix" else None


class SparseWriter:
    """Writes a file that is mostly holes: blocks of zeros take no room."""

    BLOCK = 64 << 10

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        zeros = bytes(self.BLOCK)
        for place in range(0, len(data), self.BLOCK):
            block = data[place : place + self.BLOCK]
            if block != zeros[: len(block)]:
                self._stream.seek(self.size + place)
                self._stream.write(block)
        self.size += len(data)

    def finish(self) -> None:
        """Give the file its length."""
        self._stream.truncate(self.size)
        self._stream.flush()


def unpack(stream: IO[bytes], kind: str, out: SparseWriter, *, limits: Limits = DEFAULT_LIMITS) -> None:
    """Write the disk in ``stream``, a container of the kind named, to ``out``: raw, or in one of QEMU_FORMATS.

    Raises FormatError with the place in the container where it is damaged, and LimitExceededError as soon as the disk
    becomes longer than its own partition table says, or that says more than the limits allow. A disk in a hypervisor's
    format may become as long as the limits allow.
    """
    head, whose = b"", "the disk's partition table names"
    bound: int | None = None
    packed = pieces(stream, kind)
    for piece in packed:
        if bound is None:
            head += piece
            if len(head) < HEAD:
                continue
            if container_kind(head) in QEMU_FORMATS:
                bound, whose = limits.image_size, "are the limit"
            else:
                bound = _disk_size(head, packed, limits)
            piece = head  # noqa: PLW2901
        if out.size + len(piece) > bound:
            raise LimitExceededError(f"unpacks to more than the {bound} bytes that {whose}", offset=stream.tell())
        out.write(piece)
    if bound is None:
        raise TruncatedError(f"unpacks to {len(head)} bytes: no disk", offset=stream.tell())
    out.finish()


def _disk_size(head: bytes, rest: Iterator[bytes], limits: Limits) -> int:
    """The disk's length in bytes as its GPT header has it, rounded up to a MiB: some tools round so.

    Behind it there may be a sector more, the footer of a fixed VHD.
    """
    header = EFI_PARTITION_TABLE_HEADER.parse(head[SECTOR : 2 * SECTOR])
    if header.Signature != b"EFI PART":
        # Damage is found at the end of a block, which hands out what is wrong before: that is the error to tell.
        left = DAMAGE_WITHIN
        while left > 0 and (piece := next(rest, b"")):
            left -= len(piece)
        raise FormatError("what is packed has no GUID partition table: is this a disk image?", offset=SECTOR)
    size = (int(header.AlternateLBA) + 1) * SECTOR
    if size > limits.image_size:
        raise LimitExceededError(f"a disk of {size} bytes, the limit is {limits.image_size}", offset=SECTOR + 32)
    return (size + CHUNK - 1) // CHUNK * CHUNK + SECTOR


def pieces(stream: IO[bytes], kind: str) -> Iterator[bytes]:
    """What is packed in ``stream``, at most a MiB at a time; a tar inside is opened too.

    Raises FormatError where it is damaged, TruncatedError where it ends early.
    """
    try:
        yield from _unpacked(stream, kind)
    except FormatError:
        raise
    except (EOFError, tarfile.ReadError) as error:
        raise TruncatedError(f"{kind}: cut short or damaged: {error}", offset=stream.tell()) from None
    except (OSError, RuntimeError, ValueError, *DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FormatError(f"{kind}: damaged: {error}", offset=stream.tell()) from None
    except Exception as error:
        # zstandard's error has no public base of its own kind.
        if type(error).__name__ != "ZstdError":
            raise
        raise FormatError(f"{kind}: damaged: {error}", offset=stream.tell()) from None


def _unpacked(stream: IO[bytes], kind: str) -> Iterator[bytes]:
    if kind == "zip":
        yield from _zip(stream)
    elif kind == "tar":
        yield from _tar(stream)
    else:
        unpacked: Any = {"bzip2": _bzip2, "gzip": _gzip, "zstd": _zstd}[kind](stream)
        with unpacked:
            head = _read_full(unpacked, SECTOR)
            if container_kind(head) == "tar":
                yield from _tar(_Joined(head, unpacked))
            else:
                yield head
                yield from _rest(unpacked)


def _read_full(raw: Raw, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := raw.read(size - len(data))):
        data += more
    return data


def _rest(raw: Raw) -> Iterator[bytes]:
    while piece := raw.read(CHUNK):
        yield piece


class _Joined:
    """A stream whose beginning has been read already."""

    def __init__(self, head: bytes, rest: Raw) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int = CHUNK) -> bytes:
        return self._head.read(size) or self._rest.read(size)


def _gzip(stream: IO[bytes]) -> Any:
    return gzip.GzipFile(fileobj=stream)


def _bzip2(stream: IO[bytes]) -> Any:
    # bzip2's blocks are independent: lbzip2 decompresses them on all cores, in bounded memory, where it is installed.
    tool = shutil.which("lbzip2")
    return bz2.BZ2File(stream) if tool is None else _Process([tool, "--decompress", "--stdout"], stream)


class _Process:
    """What a command makes of a stream, read from its standard output; ended as soon as nobody reads on."""

    def __init__(self, words: list[str], stream: IO[bytes]) -> None:
        os.lseek(stream.fileno(), 0, os.SEEK_SET)  # the command reads where the system is, not where Python's buffer is
        self._process = subprocess.Popen(words, stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end, and EOFError where the command failed."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        data = self._process.stdout.read(size)
        if len(data) < size and self._process.wait():
            lines = self._process.stderr.read(4096).decode(errors="replace").strip().splitlines()
            raise EOFError(lines[-1] if lines else "no reason given")
        return data


def _zstd(stream: IO[bytes]) -> Any:
    try:
        return importlib.import_module("compression.zstd").ZstdFile(stream)
    except ImportError:
        pass
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise MissingExtraError("zstandard", "archives") from None
    return zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
        stream, read_across_frames=True, closefd=False
    )


def _zip(stream: IO[bytes]) -> Iterator[bytes]:
    with zipfile.ZipFile(stream) as archive:
        found = [member for member in archive.infolist() if not member.is_dir()]
        if len(found) != 1:
            raise UnsupportedError(f"a zip of {len(found)} files, expected the disk image alone", offset=0)
        with archive.open(found[0]) as member:
            yield from _rest(member)


def _tar(stream: Any) -> Iterator[bytes]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if not member.isfile():
                continue
            content = archive.extractfile(member)
            assert content is not None
            yield from _rest(content)
            return
    raise UnsupportedError("a tar without a file, expected a disk image", offset=0)


def convert(path: str, kind: str, target: str, *, limits: Limits = DEFAULT_LIMITS) -> None:
    """Turn the image at ``path``, of one of QEMU_FORMATS, into the raw disk ``target`` by ``qemu-img``.

    UnsupportedError where ``qemu-img`` is not installed, FormatError where it refuses, and for an image that refers to
    other files: only the file that was handed over is read.
    """
    tool = shutil.which("qemu-img")
    if tool is None:
        raise UnsupportedError(f"{kind} images are read by way of qemu-img, which is not installed")
    said = json.loads(_run(tool, "info", "--output=json", "-f", kind, "--", path))
    if not isinstance(said, dict) or said.get("backing-filename") or _data_file(said):
        raise UnsupportedError(f"a {kind} image that refers to other files")
    size = said.get("virtual-size")
    if not isinstance(size, int) or size > limits.image_size:
        raise LimitExceededError(f"a disk of {size} bytes, the limit is {limits.image_size}")
    _run(tool, "convert", "-f", kind, "-O", "raw", "-S", "64k", "--", path, target)


def _data_file(said: dict[str, Any]) -> bool:
    specific = said.get("format-specific")
    data = specific.get("data") if isinstance(specific, dict) else None
    return isinstance(data, dict) and bool(data.get("data-file"))


def _run(tool: str, *words: str) -> str:
    done = subprocess.run([tool, *words], capture_output=True, text=True, check=False)  # noqa: S603  (no shell, words after --)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        # The path, the last word but one or the last, is no name that the caller knows: it may be a temporary file.
        place = words[words.index("--") + 1]
        raise FormatError(f"qemu-img {words[0]}: {lines[-1].replace(place, 'the image')}")
    return done.stdout
