"""Images as they are published: packed in every way, cut, changed, without end."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import resource
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import measlog as ml
from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.flatcar.unpack import SparseWriter, container_kind, pieces
from measlog.limits import Limits
from tests.flatcar.images import disk, esp_files, tool


def zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packed: bytes = zstandard.ZstdCompressor().compress(data)
    return packed


def zipped(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


def tarred(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "bz2": bz2.compress,
    "gz": gzip.compress,
    "zst": zstd,
    "zip": lambda data: zipped(("flatcar_production_image.bin", data)),
    "tar": lambda data: tarred(("disk.raw", data)),
    "tar.gz": lambda data: gzip.compress(tarred(("disk.raw", data))),
    "tar.bz2": lambda data: bz2.compress(tarred(("disk.raw", data))),
}


def opened(folder: Path, data: bytes, name: str = "image.bin", limits: Limits | None = None) -> ml.flatcar.Image:
    path = folder / name
    path.write_bytes(data)
    return ml.flatcar.Image.open(path, verity=False, limits=limits or Limits())


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_image_is_the_image(kind: str, tmp_path: Path) -> None:
    data = disk(esp_files())
    plain = opened(tmp_path, data)
    packed = PACKERS[kind](data)
    image = opened(tmp_path, packed, f"image.bin.{kind}")
    (source,) = image.sources
    assert (source.name, source.size) == (f"image.bin.{kind}", len(packed))
    assert source.sha256 == hashlib.sha256(packed).digest()
    first, second = plain.reference_manifest(), image.reference_manifest()
    assert (first.components, first.disk, first.grub) == (second.components, second.disk, second.grub)
    assert list(tmp_path.glob("measlog-*")) == []


@pytest.mark.parametrize("present", [True, False])
def test_bzip2_is_unpacked_with_and_without_lbzip2(
    present: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = disk(esp_files())
    if present:
        tool("lbzip2")
    else:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    assert opened(tmp_path, bz2.compress(data)).esp.components
    packed = bz2.compress(data)
    for damaged in (packed[:-20], packed[: len(packed) // 2] + bytes(9) + packed[len(packed) // 2 + 9 :]):
        with pytest.raises(FormatError, match=r"bzip2: (cut short or )?damaged"):
            opened(tmp_path, damaged)


def test_a_sparse_tar_as_gnu_tar_makes_it(tmp_path: Path) -> None:
    data = disk(esp_files())
    path = tmp_path / "disk.raw"
    with path.open("wb") as stream:
        writer = SparseWriter(stream)
        writer.write(data)
        writer.finish()
    line: list[str | Path] = [tool("tar"), "--format=oldgnu", "-Sczf", tmp_path / "image.tar.gz", "disk.raw"]
    subprocess.run(line, check=True, cwd=tmp_path, timeout=60)
    image = ml.flatcar.Image.open(tmp_path / "image.tar.gz", verity=False)
    assert image.esp == opened(tmp_path, data).esp


@pytest.mark.parametrize(
    ("form", "options"), [("qcow2", []), ("qcow2", ["-c"]), ("vmdk", []), ("vpc", []), ("vhdx", [])]
)
def test_an_image_of_a_hypervisor(form: str, options: list[str], tmp_path: Path) -> None:
    data = disk(esp_files())
    raw, target = tmp_path / "raw", tmp_path / f"image.{form}"
    raw.write_bytes(data)
    line: list[str | Path] = [tool("qemu-img"), "convert", "-f", "raw", "-O", form, *options, raw, target]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    image = ml.flatcar.Image.open(target, verity=False)
    assert image.esp == opened(tmp_path, data).esp
    assert image.sources[0].sha256 == hashlib.sha256(target.read_bytes()).digest()


# The clouds' images as they are published: flatcar_production_{qemu,openstack}_image.img.{bz2,gz}, azure_image.vhd.bz2,
# hyperv_vhdx_image.vhdx.zip, vmware_image.vmdk.bz2.
PUBLISHED: list[tuple[str, list[str], Callable[[bytes], bytes]]] = [
    ("qcow2", [], bz2.compress),
    ("qcow2", ["-c"], gzip.compress),
    ("vpc", ["-o", "subformat=fixed,force_size"], bz2.compress),
    ("vpc", ["-o", "subformat=dynamic"], bz2.compress),
    ("vhdx", [], lambda data: zipped(("image.vhdx", data))),
    ("vmdk", ["-o", "subformat=streamOptimized"], bz2.compress),
]


@pytest.mark.parametrize(("form", "options", "packer"), PUBLISHED)
def test_a_packed_image_of_a_hypervisor(
    form: str, options: list[str], packer: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    data = disk(esp_files())
    raw, target = tmp_path / "raw", tmp_path / f"image.{form}"
    raw.write_bytes(data)
    line: list[str | Path] = [tool("qemu-img"), "convert", "-f", "raw", "-O", form, *options, raw, target]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    packed = packer(target.read_bytes())
    image = opened(tmp_path, packed, "packed")
    assert image.esp == opened(tmp_path, data).esp
    assert image.sources[0].sha256 == hashlib.sha256(packed).digest()


def test_a_packed_image_that_refers_to_another_file_is_refused(tmp_path: Path) -> None:
    secret, target = tmp_path / "secret", tmp_path / "image.qcow2"
    secret.write_bytes(disk(esp_files()))
    line: list[str | Path] = [tool("qemu-img"), "create", "-f", "qcow2", "-b", secret, "-F", "raw", target]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    with pytest.raises(UnsupportedError, match="refers to other files"):
        opened(tmp_path, gzip.compress(target.read_bytes()), "packed")


def test_a_packed_image_of_a_hypervisor_has_an_end(tmp_path: Path) -> None:
    endless = b"QFI\xfb" + bytes(6 << 20)
    with pytest.raises(LimitExceededError, match="more than the 2097152 bytes that are the limit"):
        opened(tmp_path, gzip.compress(endless), limits=Limits(image_size=2 << 20))


def test_a_packed_image_of_a_hypervisor_that_says_nothing_is_one_error(tmp_path: Path) -> None:
    tool("qemu-img")
    endless = b"QFI\xfb" + bytes(6 << 20)
    with pytest.raises(FormatError, match=r"qemu-img info: .*the image") as caught:
        opened(tmp_path, gzip.compress(endless), limits=Limits(image_size=16 << 20))
    assert "measlog-" not in str(caught.value)


def test_without_qemu_img_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UnsupportedError, match="qcow2 images are read by way of qemu-img, which is not installed"):
        opened(tmp_path, b"QFI\xfb" + bytes(1000))


def test_an_image_that_refers_to_another_file_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(disk(esp_files()))
    target = tmp_path / "image.qcow2"
    line: list[str | Path] = [tool("qemu-img"), "create", "-f", "qcow2", "-b", secret, "-F", "raw", target]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    with pytest.raises(UnsupportedError, match="refers to other files"):
        ml.flatcar.Image.open(target)


def test_a_damaged_image_of_a_hypervisor_is_one_error(tmp_path: Path) -> None:
    tool("qemu-img")
    with pytest.raises(FormatError, match="qemu-img info"):
        opened(tmp_path, b"QFI\xfb" + bytes(1000))


@pytest.mark.parametrize("kind", PACKERS)
def test_a_truncated_download_is_one_error(kind: str, tmp_path: Path) -> None:
    packed = PACKERS[kind](disk(esp_files()))
    for cut in (len(packed) // 2, len(packed) - 20, 30):
        if kind == "tar" and cut > len(packed) - 600 * 512:
            continue  # only the end of the archive is missing, which nobody needs
        with pytest.raises(FormatError) as caught:
            opened(tmp_path, packed[:cut])
        assert caught.value.offset is not None or caught.value.path is not None


@pytest.mark.parametrize("kind", ["bz2", "gz", "zip"])
def test_a_flipped_bit_is_one_error_or_changes_nothing(kind: str, tmp_path: Path) -> None:
    # These formats carry a checksum of what they hold; a few of their own bits mean nothing.
    data = disk(esp_files())
    packed, good, refused = PACKERS[kind](data), opened(tmp_path, data).esp, 0
    for place in range(100, len(packed) - 100, len(packed) // 9):
        try:
            read = opened(tmp_path, packed[:place] + bytes([packed[place] ^ 4]) + packed[place + 1 :])
        except FormatError:
            refused += 1
        else:
            assert read.esp == good
    assert refused >= 6


def test_an_archive_without_end_is_one_error(tmp_path: Path) -> None:
    # Behind the disk come 100 MiB that its partition table knows nothing of.
    data = disk(esp_files())
    packer = bz2.BZ2Compressor()
    packed = packer.compress(data) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LimitExceededError, match="more than the 6291968 bytes that the disk's partition table names"):
        opened(tmp_path, packed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_disk_that_claims_to_be_huge_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(LimitExceededError, match="the limit is 1048576"):
        opened(tmp_path, gzip.compress(disk(esp_files())), limits=Limits(image_size=1 << 20))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (zipped(("a", b"1"), ("b", b"2")), "a zip of 2 files"),
        (zipped(), "no EFI PART|header|table"),
        (tarred(), "tar|table|expected"),
        (gzip.compress(b"no disk"), "unpacks to 7 bytes: no disk"),
        (gzip.compress(bytes(1 << 20)), "no GUID partition table"),
        (bz2.compress(b"<html>not found</html>" * 10_000), "no GUID partition table"),
    ],
)
def test_something_else_is_one_error(packed: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        opened(tmp_path, packed)


def test_kinds_are_told_by_content() -> None:
    assert container_kind(bytes(512) + b"EFI PART", bytes(512)) is None
    assert container_kind(bytes(512) + b"EFI PART", b"conectix") == "vpc"
    assert container_kind(bytes(257) + b"ustar") == "tar"
    assert container_kind(b"") is None


def test_pieces_are_small() -> None:
    stream = io.BytesIO(gzip.compress(bytes(10 << 20)))
    assert max(len(piece) for piece in pieces(stream, "gzip")) <= 1 << 20


def test_a_sparse_file_takes_no_room(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as stream:
        writer = SparseWriter(stream)
        writer.write(bytes(50 << 20))
        writer.write(struct.pack("<I", 7))
        writer.finish()
    assert path.read_bytes() == bytes(50 << 20) + struct.pack("<I", 7)
    assert path.stat().st_blocks * 512 < 1 << 20


def test_the_first_file_of_a_tar_is_the_disk() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        only_a_folder = out.getvalue()
        member = tarfile.TarInfo("folder/disk.raw")
        member.size = 7
        archive.addfile(member, io.BytesIO(b"content"))
    assert b"".join(pieces(io.BytesIO(out.getvalue()), "tar")) == b"content"
    with pytest.raises(UnsupportedError, match="a tar without a file"):
        list(pieces(io.BytesIO(only_a_folder.ljust(10240, b"\0")), "tar"))


class Broken(io.BytesIO):
    """A stream that reads no further than its first bytes."""

    def __init__(self, data: bytes, error: Exception) -> None:
        super().__init__(data)
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyError("of the caller's own")], ids=repr)
def test_what_the_stream_itself_raises_is_not_taken_for_damage(error: Exception) -> None:
    content = bytes(range(256)) * 4096
    packed = gzip.compress(content)
    assert b"".join(pieces(io.BytesIO(packed), "gzip")) == content
    with pytest.raises(type(error)) as caught:
        list(pieces(Broken(packed[:100], error), "gzip"))
    assert caught.value is error


def test_damaged_zstd_is_one_error() -> None:
    packed = zstd(bytes(range(256)) * 4096)
    with pytest.raises(FormatError, match="zstd: damaged"):
        list(pieces(io.BytesIO(packed[:8] + b"\xff" * 40 + packed[48:]), "zstd"))


def test_a_hypervisor_s_disk_that_is_too_large_is_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    subprocess.run([tool("qemu-img"), "create", "-q", "-f", "qcow2", path, "64G"], check=True, timeout=60)
    with pytest.raises(LimitExceededError, match=f"a disk of {64 << 30} bytes, the limit is {32 << 30}"):
        opened(tmp_path, path.read_bytes(), limits=Limits(image_size=32 << 30))
