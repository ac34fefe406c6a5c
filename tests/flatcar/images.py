"""Small disk images in Flatcar's layout, made of hand-made programs, mkfs.vfat and mtools, with no boot in mind."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest

from tests.formats.gpt_maker import ESP, entry, make_gpt
from tests.formats.pe_maker import make_pe

USR = UUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6")
USR_A = UUID("7130c94a-213a-4e5a-8e26-6cce9662f132")
USR_B = UUID("e03dd35c-7c2d-4a47-b3fe-27f15780a57c")
ROOT_A, ROOT_B = "0123456789abcdef" * 4, "fedcba9876543210" * 4
CONFIG, LOADER = "set default=flatcar\n", "search.fs_uuid 5F1A-7C42 root\nset prefix=(memdisk)\n"
SBAT = b"sbat,1,SBAT Version,sbat,1,https://example.org/SBAT.md\n"
ESP_FIRST, ESP_SECTORS = 64, 8192
USR_FIRST, USR_SECTORS = 8256 + 64, 1024
SECTORS = 12288


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def memdisk(files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def module_area(objects: list[tuple[int, bytes]]) -> bytes:
    """grub_module_info64 and its objects, each padded to 8 bytes as grub-mkimage does."""
    body = b""
    for kind, content in objects:
        padded = content + bytes(-len(content) % 8)
        body += struct.pack("<II", kind, len(padded) + 8) + padded
    return struct.pack("<IIQQ", 0x676D696D, 0, 24, 24 + len(body)) + body


def grub(
    config: str = CONFIG, loader: str = LOADER, *, machine: int = 0x8664, objects: list[tuple[int, bytes]] | None = None
) -> bytes:
    if objects is None:
        objects = [(1, memdisk({"grub.cfg": config})), (2, loader.encode() + b"\0"), (3, b"(memdisk)\0")]
    sbat = SBAT + b"grub,5,Free Software Foundation,grub,2.12,https://example.org\n"
    return make_pe([(b"mods", module_area(objects)), (b".sbat", sbat)], machine=machine)


def kernel(root: str = ROOT_A, *, machine: int = 0x8664, text: bytes = b"kernel") -> bytes:
    if machine == 0xAA64:
        return make_pe([(b".text", text * 600)], machine=machine, first=root.encode())
    return make_pe([(b".text", text * 600)], stub=root.encode())


def esp_files(**changes: bytes | None) -> dict[str, bytes]:
    """The files of an ESP as Flatcar lays it out."""
    files: dict[str, bytes | None] = {
        "EFI/boot/grubx64.efi": grub(),
        "flatcar/vmlinuz-a": kernel(),
        "flatcar/first_boot": b"",
        "flatcar/grub/grub.cfg.tar": memdisk({"grub.cfg": CONFIG}),
        "flatcar/grub/x86_64-efi/load.cfg": LOADER.encode(),
    }
    files |= changes
    return {path: content for path, content in files.items() if content is not None}


@cache
def _volume(files: tuple[tuple[str, bytes], ...]) -> bytes:
    mkfs, mmd, mcopy = tool("mkfs.vfat"), tool("mmd"), tool("mcopy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "volume")
        path.write_bytes(bytes(ESP_SECTORS * 512))

        def run(*words: str) -> None:
            subprocess.run(words, check=True, capture_output=True, timeout=60, env={"LC_ALL": "C.UTF-8"})

        run(mkfs, "--invariant", "-i", "5F1A7C42", "-n", "EFI-SYSTEM", str(path))
        made: set[str] = set()
        for name, content in files:
            for parent in [str(one) for one in reversed(Path(name).parents) if str(one) != "."]:
                if parent not in made:
                    made.add(parent)
                    run(mmd, "-i", str(path), f"::/{parent}")
            source = Path(folder, "source")
            source.write_bytes(content)
            run(mcopy, "-i", str(path), str(source), f"::/{name}")
        return path.read_bytes()


def disk(
    files: Mapping[str, bytes],
    *,
    partitions: list[bytes] | None = None,
    usr: bytes = b"",
    attributes: int = 0x0101 << 48,
    sectors: int = SECTORS,
) -> bytes:
    """A disk image: ESP with these files, USR-A with these bytes, USR-B empty."""
    if partitions is None:
        partitions = [
            entry(ESP_FIRST, ESP_FIRST + ESP_SECTORS - 1, "EFI-SYSTEM", kind=ESP),
            bytes(128),
            entry(USR_FIRST, USR_FIRST + USR_SECTORS - 1, "USR-A", kind=USR, number=0, attributes=attributes),
            entry(USR_FIRST + USR_SECTORS, USR_FIRST + 2 * USR_SECTORS - 1, "USR-B", kind=USR),
        ]
        for index, guid in ((2, USR_A), (3, USR_B)):
            partitions[index] = partitions[index][:16] + guid.bytes_le + partitions[index][32:]
    image = bytearray(make_gpt(partitions, sectors=sectors))
    volume = _volume(tuple(files.items()))
    image[ESP_FIRST * 512 : ESP_FIRST * 512 + len(volume)] = volume
    image[USR_FIRST * 512 : USR_FIRST * 512 + len(usr)] = usr
    return bytes(image)
