"""The shared captures as machines for the engine, and their logs read without the library."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from measlog.flatcar.grub import Disk, GrubFile, Machine, Partition

BANKS = {4: "sha1", 11: "sha256", 12: "sha384", 13: "sha512"}
SIZES = {4: 20, 11: 32, 12: 48, 13: 64}
USR = UUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6")
USR_A = UUID("7130c94a-213a-4e5a-8e26-6cce9662f132")
USR_B = UUID("e03dd35c-7c2d-4a47-b3fe-27f15780a57c")


class State(NamedTuple):
    """The state of the disk before a capture, as ORIGIN.md tells it."""

    secure_boot: bool
    first_boot: bool
    updated: bool


CAPTURES = {
    "usr-a-first-boot-secureboot": State(True, True, False),
    "usr-a-secureboot": State(True, False, False),
    "usr-b-after-update": State(True, False, True),
    "oem-qemu-first-boot": State(False, True, False),
    "oem-tampered-init": State(False, True, False),
    "grub-script-torture": State(False, True, False),
}


class LogEvent(NamedTuple):
    pcr: int
    type: int
    digests: dict[str, bytes]
    data: bytes


def read_log(path: Path) -> list[LogEvent]:
    """The events after the Spec ID event, by a plain walk over the bytes."""
    data = path.read_bytes()
    at = 32 + int.from_bytes(data[28:32], "little")
    events = []
    while at < len(data):
        pcr, kind, count = struct.unpack_from("<III", data, at)
        at += 12
        digests = {}
        for _ in range(count):
            algorithm = int.from_bytes(data[at : at + 2], "little")
            digests[BANKS[algorithm]] = data[at + 2 : at + 2 + SIZES[algorithm]]
            at += 2 + SIZES[algorithm]
        size = int.from_bytes(data[at : at + 4], "little")
        events.append(LogEvent(pcr, kind, digests, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return events


def read_pcrs(path: Path) -> dict[str, dict[int, bytes]]:
    """``pcrs.txt``: what the TPM said."""
    banks: dict[str, dict[int, bytes]] = {}
    for line in path.read_text().splitlines():
        _, bank, pcr, value = line.split()
        banks.setdefault(bank, {})[int(pcr)] = bytes.fromhex(value)
    return banks


def read_files(shared: Path) -> dict[tuple[str, str], GrubFile]:
    """``files.tsv``: the digests of the files on the disk, computed from the files."""
    rows: dict[tuple[str, str], dict[str, tuple[int, dict[str, bytes]]]] = {}
    for line in (shared / "flatcar" / "files.tsv").read_text().splitlines()[1:]:
        where, path, size, kind, *digests = line.split("\t")
        values = dict(zip(("sha1", "sha256", "sha384"), map(bytes.fromhex, digests), strict=True))
        rows.setdefault((where, path), {})[kind] = int(size), values
    return {
        key: GrubFile(
            size=kinds["flat"][0],
            digests=kinds["flat"][1],
            authenticode=kinds.get("authenticode", (0, {}))[1],
            kernel="vmlinuz" in key[1],
        )
        for key, kinds in rows.items()
    }


def machine(shared: Path, name: str) -> Machine:
    """The machine of a capture: its disk as it was before the boot."""
    state = CAPTURES[name]
    files = read_files(shared)
    esp = {path: file for (where, path), file in files.items() if where == "ESP"}
    if not state.first_boot:
        del esp["flatcar/first_boot"]
    if not state.updated:
        del esp["flatcar/vmlinuz-b"]
    oem = {path: file for (where, path), file in files.items() if where == "OEM"}
    for source, target in (("oem-grub.cfg", "grub.cfg"), ("oem-extra.cfg", "extra.cfg")):
        given = shared / "flatcar" / "captures" / name / source
        if given.exists():
            oem[target] = GrubFile(content=given.read_bytes())
    partitions = [
        Partition(
            number=1,
            label=b"EFI-SYSTEM",
            filesystem="fat",
            filesystem_uuid=b"5F1A-7C42",
            filesystem_label=b"EFI-SYSTEM",
            files=esp,
        ),
        Partition(number=3, label=b"USR-A", type_guid=USR, guid=USR_A, attributes=0x0101 << 48),
        Partition(number=4, label=b"USR-B", type_guid=USR, guid=USR_B, attributes=0x0012 << 48 if state.updated else 0),
        Partition(number=6, label=b"OEM", filesystem="btrfs", filesystem_label=b"OEM", files=oem),
        Partition(number=9, label=b"ROOT", filesystem="ext4", filesystem_label=b"ROOT"),
    ]
    return Machine(
        secure_boot=state.secure_boot,
        load_config=(shared / "flatcar" / "load.cfg").read_bytes(),
        disks=[Disk(partitions=partitions)],
    )
