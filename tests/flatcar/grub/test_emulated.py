"""The tables of GRUB's commands in a real GRUB: grub-emu, GRUB as a program, reads a disk with the same files.

Debian 12 has it at version 2.06. Nothing of measlog runs here: what the tables say is what GRUB prints.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.flatcar.grub.commands import DISK, MEMDISK, MEMDISK_STATUSES, MENUS, SCRIPTS, STATUSES
from tests.flatcar.images import tool

pytestmark = pytest.mark.slow
SECTORS = {1: (2048, 32768), 3: (34816, 10240)}
END = b"END-OF-THE-SCRIPT"
PROMPT = b"grub>"
"""Where GRUB waits for commands: it gave the script up, or it ended in an unfinished one."""
START = b"insmod part_gpt\ninsmod fat\ninsmod ext2\nset root=hd0,gpt1\n"
TAR = b"insmod loopback\ninsmod tar\nloopback tar /tar\n"


def run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a disk as DISK says, made by the file systems' own tools, and GRUB's map of devices."""
    tool("grub-emu")
    made = tmp_path_factory.mktemp("emu")
    esp, oem = DISK.partitions
    disk, volume, source = made / "disk", made / "volume", made / "source"
    disk.write_bytes(bytes(48 << 20))
    for one in (esp, oem):
        first, count = SECTORS[one.number]
        words = ["-a", "1", "-n", f"{one.number}:{first}:{first + count - 1}", "-u", f"{one.number}:{one.guid}"]
        run(tool("sgdisk"), *words, "-c", f"{one.number}:{one.label.decode()}", disk)
    volume.write_bytes(bytes(SECTORS[1][1] * 512))
    serial = (esp.filesystem_uuid or b"").replace(b"-", b"").decode()
    run(tool("mkfs.vfat"), "-F", "16", "-i", serial, "-n", (esp.filesystem_label or b"").decode(), volume)
    run(tool("mmd"), "-i", volume, "::/dir")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in MEMDISK.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    files = {path: file.content for path, file in esp.files.items() if file.content is not None}
    for path, content in {**files, "tar": out.getvalue()}.items():
        source.write_bytes(content)
        run(tool("mcopy"), "-i", volume, source, f"::/{path}")
    image = bytearray(disk.read_bytes())
    image[SECTORS[1][0] * 512 : SECTORS[1][0] * 512 + volume.stat().st_size] = volume.read_bytes()
    volume.write_bytes(bytes(SECTORS[3][1] * 512))
    label, uuid = (oem.filesystem_label or b"").decode(), (oem.filesystem_uuid or b"").decode()
    run(tool("mke2fs"), "-q", "-t", "ext4", "-L", label, "-U", uuid, "-O", "^metadata_csum,^64bit", volume)
    image[SECTORS[3][0] * 512 : SECTORS[3][0] * 512 + volume.stat().st_size] = volume.read_bytes()
    disk.write_bytes(image)
    (made / "map").write_text(f"(hd0) {disk}\n")
    return made


def said(folder: Path, script: bytes, *, menu: bool = False) -> list[str]:
    """What ``echo @ ...`` printed, the first line of each. A key is pressed wherever GRUB waits for one."""
    (folder / "grub.cfg").write_bytes(START + script + (b"" if menu else b"echo " + END + b"\nexit\n"))
    ours, theirs = pty.openpty()
    words = [tool("grub-emu"), "-d", str(folder), "-m", str(folder / "map")]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "dumb"})
    os.close(theirs)
    printed, latest = b"", time.monotonic() + 60
    try:
        while time.monotonic() < latest and END not in printed and PROMPT not in printed:
            if select.select([ours], [], [], 0.3)[0]:
                printed += os.read(ours, 1 << 16)
            else:
                os.write(ours, b"\r")
    except OSError:
        pass  # GRUB has ended
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]|\r", b"", printed)
    return [line.decode() for line in re.findall(rb"@ ?([^\n]*)", plain)]


def statuses(folder: Path, commands: list[str], before: bytes = b"") -> list[str]:
    return said(folder, before + "".join(f"{command}\necho @ $?\n" for command in commands).encode())


@pytest.mark.parametrize("part", range(8))
def test_statuses(part: int, folder: Path) -> None:
    commands = list(STATUSES)[part::8]
    assert dict(zip(commands, statuses(folder, commands), strict=True)) == {c: STATUSES[c] for c in commands}


def test_paths_in_a_tar(folder: Path) -> None:
    found = statuses(folder, [command.replace("(memdisk)", "(tar)") for command in MEMDISK_STATUSES], TAR)
    assert dict(zip(MEMDISK_STATUSES, found, strict=True)) == MEMDISK_STATUSES


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(script: str, folder: Path) -> None:
    assert said(folder, script.encode() + b"\n") == [line.partition("\n")[0] for line in SCRIPTS[script]]


@pytest.mark.parametrize("script", MENUS)
def test_menus(script: str, folder: Path) -> None:
    # The last entry leaves GRUB, so that the menu is not shown again.
    assert said(folder, b"timeout=0\n" + script.encode() + b"\n", menu=True) == MENUS[script]
