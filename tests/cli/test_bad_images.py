"""What is no sound image gives one line that names the file, the place in it and what was expected; nothing is written."""

from __future__ import annotations

import bz2
import gzip
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Runner
from tests.flatcar.images import USR_A, disk, esp_files, grub, kernel
from tests.flatcar.test_release import Gpg, gpg, image_file
from tests.flatcar.test_verity import usr
from tests.formats.gpt_maker import ESP, entry, make_gpt
from tests.formats.pe_maker import make_pe, patch
from tests.formats.test_fat import KERNEL, in_chain, volume_bytes
from tests.reference.kernels import bzimage, setup

__all__ = ["gpg"]

FIRST = 64


def good() -> bytes:
    return disk(esp_files())


def without_end() -> bytes:
    packer = bz2.BZ2Compressor()
    return packer.compress(good()) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(20)) + packer.flush()


def flipped(packed: bytes) -> bytes:
    place = len(packed) // 2
    return packed[:place] + bytes([packed[place] ^ 4]) + packed[place + 1 :]


def looped() -> bytes:
    volume = in_chain(volume_bytes(32), KERNEL, 5, KERNEL)
    sectors = len(volume) // 512
    image = make_gpt([entry(FIRST, FIRST + sectors - 1, "EFI-SYSTEM", kind=ESP)], sectors=FIRST + sectors + 2048)
    return patch(image, FIRST * 512, volume)


def sound_usr() -> tuple[bytes, str]:
    with tempfile.TemporaryDirectory() as folder:
        data, root = usr(Path(folder))
    return data, root.hex()


def wrong_usr() -> bytes:
    data, root = sound_usr()
    return disk(esp_files(**{"flatcar/vmlinuz-a": kernel(root)}), usr=patch(data, 5 * 4096, b"\1\2\3"))


def wrong_payload() -> bytes:
    data, root = sound_usr()
    outside = bzimage(b"", root=root, header=setup(16, 1 << 20))
    return disk(esp_files(**{"flatcar/vmlinuz-a": outside}), usr=data)


def with_file(path: str, content: bytes) -> bytes:
    return disk(esp_files(**{path: content}))


# name: (the file's bytes, what the line must say besides the file's name; with a place in each)
IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a truncated download": (lambda: bz2.compress(good())[:-40], r"bzip2: cut short or damaged: .* at byte \d+"),
    "a truncated gzip": (lambda: gzip.compress(good())[:-40], r"gzip: cut short or damaged: .* at byte \d+"),
    "a truncated disk": (lambda: good()[:-4096], r"byte \d+"),
    "a bit-flipped download": (lambda: flipped(bz2.compress(good())), r"bzip2: .*damaged: .* at byte \d+"),
    "an archive without end": (without_end, r"unpacks to more than the \d+ bytes .* at byte \d+"),
    "a table that points outside": (
        lambda: make_gpt([entry(FIRST, 1 << 40, kind=ESP)]),
        r"partitions\[1\].*at byte \d+",
    ),
    "partitions that overlap": (
        lambda: make_gpt([entry(64, 127, kind=ESP), entry(127, 200)]),
        r"partitions\[2\].* at byte \d+",
    ),
    "a FAT loop": (looped, r"partitions\[1\].*loop.* at byte \d+"),
    "a kernel without a hash": (
        lambda: with_file("flatcar/vmlinuz-a", make_pe([(b".text", b"k" * 600)])),
        r"partitions\[1\]\.flatcar/vmlinuz-a.*: expected the dm-verity root hash, 64 lower-case .* at byte 64",
    ),
    "a kernel whose payload is outside": (
        wrong_payload,
        r"partitions\[1\]\.flatcar/vmlinuz-a\.payload: the payload is bytes .* at byte 584",
    ),
    "a GRUB without a memdisk": (
        lambda: with_file("EFI/boot/grubx64.efi", grub(objects=[(2, b"x\0")])),
        r"partitions\[1\]\.EFI/boot/grubx64\.efi\.mods: GRUB without a memdisk",
    ),
    "a USR that is not its kernel's": (wrong_usr, r"partitions\[3\]\.verity: data block 5 .* at byte \d+"),
    "another distribution": (
        lambda: disk(esp_files(**{"flatcar/vmlinuz-a": None, "EFI/debian/grubx64.efi": grub()})),
        r"no kernel: expected flatcar/vmlinuz-a; is this a Flatcar image",
    ),
    "no disk at all": (lambda: b"<html>not found</html>\n" * 1000, r"GPT|EFI PART"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_is_not_sound_is_one_line_and_nothing_is_written(
    name: str, measlog: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, said = IMAGES[name]
    path, room = tmp_path / "flatcar_production_image.bin", tmp_path / "room"
    room.mkdir()
    path.write_bytes(make())
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    done = measlog("manifest", "build", path, "-o", tmp_path / "out.json")
    assert (done.status, done.out) == (3, "")
    assert done.err.startswith(f"measlog: {path}: ")
    assert re.search(said, done.err), done.err
    assert done.err.count("\n") == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == [path.name, "room"]
    assert list(room.iterdir()) == []


def test_a_wrong_signature_is_one_line_and_nothing_is_written(gpg: Gpg, measlog: Runner, tmp_path: Path) -> None:
    path = image_file(tmp_path)
    gpg.sign(path)
    keys = tmp_path / "keys.asc"
    keys.write_bytes(gpg.run("--armor", "--export"))
    words = ("manifest", "build", path, "--no-verity", "--openpgp-keys", keys, "-o", tmp_path / "out.json")
    assert measlog(*words).status == 0
    (tmp_path / "out.json").unlink()
    path.write_bytes(with_file("flatcar/first_boot", b"changed"))
    done = measlog(*words)
    assert (done.status, done.out) == (3, "")
    assert done.err.startswith(f"measlog: {path}: ")
    assert "the OpenPGP signature is not good" in done.err
    assert not (tmp_path / "out.json").exists()


def test_a_usr_of_another_type_is_no_slot(measlog: Runner, tmp_path: Path) -> None:
    other = entry(9000, 9001)
    partitions = [entry(64, 8255, kind=ESP), other[:16] + USR_A.bytes_le + other[32:]]
    path = tmp_path / "image.bin"
    path.write_bytes(disk(esp_files(), partitions=partitions))
    done = measlog("manifest", "build", path, "-o", tmp_path / "out.json")
    assert (done.status, done.out) == (3, "")
    assert "partitions[2]: has the GUID of USR-A" in done.err
