"""Disks, partitions and files as GRUB names and finds them (kern/device.c, kern/file.c, fs/)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import frozen

from measlog.errors import UnsupportedError
from measlog.flatcar.grub.model import Disk, GrubFile, Machine, Partition
from measlog.flatcar.grub.status import Status

__all__ = ["Device", "Devices", "Found"]

_DEVICE = re.compile(rb"([A-Za-z]+[0-9]+)(?:,([a-z]*)([0-9]+))?")
_BLOCKS = re.compile(rb"[0-9]*\+[0-9]+(?:,[0-9]*\+[0-9]+)*")


@frozen
class Device:
    """A device that is there: a partition, a disk (no partition), or the memdisk (neither)."""

    name: bytes
    disk: Disk | None
    partition: Partition | None


@frozen
class Found:
    """A file, and whether its opening is measured."""

    file: GrubFile
    measured: bool


class Devices:
    """Looks up devices and files of one machine."""

    def __init__(self, machine: Machine, config: bytes | None) -> None:
        self._machine = machine
        self._net = "net" in machine.build.modules
        memdisk = dict(machine.memdisk)
        if config is not None:
            memdisk.setdefault("grub.cfg", GrubFile(content=config))
        self._memdisk = _Archive(memdisk, frozenset(), case_sensitive=True)
        self._trees: dict[int, _Tree] = {}

    def open(self, name: bytes) -> Device | Status:
        """The device of that name (``hd0``, ``hd0,gpt1``, ``hd0,1``, ``memdisk``), or GRUB's error."""
        if name == b"memdisk":
            return Device(name, None, None)
        # A build with networking takes a name that is no disk for a protocol, and misses its server (net/net.c).
        absent = Status.NET_BAD_ADDRESS if self._net and b"," not in name else Status.UNKNOWN_DEVICE
        match = _DEVICE.fullmatch(name)
        if match is None:
            return absent
        disk = next((d for d in self._machine.disks if d.name == match.group(1)), None)
        if disk is None:
            return absent
        if match.group(3) is None:
            return Device(name, disk, None)
        if match.group(2) not in {b"", b"gpt"}:
            return Status.UNKNOWN_DEVICE
        number = int(match.group(3))
        partition = next((p for p in disk.partitions if p.number == number), None)
        if partition is None:
            return Status.UNKNOWN_DEVICE
        return Device(name, disk, partition)

    def split(self, name: bytes, root: bytes | None) -> tuple[Device, bytes] | Status:
        """The device and the path that a file name means; without ``(device)`` it is ``root``."""
        path = name
        device: bytes | None = root or None
        if name[:1] == b"(":
            end = name.find(b")")
            if end < 0:
                return Status.BAD_FILENAME
            device = name[1:end]
            path = name[end + 1 :]
        if device is None:
            return Status.BAD_DEVICE
        found = self.open(device)
        return found if isinstance(found, Status) else (found, path)

    def file(self, name: bytes, root: bytes | None) -> Found | Status:
        """The file that opening ``name`` gives, or GRUB's error. Raises UnsupportedError for sectors of a disk."""
        place = self.split(name, root)
        if isinstance(place, Status):
            return place
        device, path = place
        if path[:1] != b"/":
            if _BLOCKS.fullmatch(path):
                raise UnsupportedError(f"{name!r} names sectors of a disk, whose content is not known")
            return Status.BAD_FILENAME
        tree = self._memdisk if device.disk is None else self._tree(device)
        if tree is None:
            return Status.UNKNOWN_FS
        file = tree.file(path)
        return Found(file, measured=device.disk is not None) if isinstance(file, GrubFile) else file

    def look(self, name: bytes, root: bytes | None) -> GrubFile | bool | None:
        """What ``test -e`` finds: a file, True for a folder, None for nothing (commands/test.c, get_fileinfo)."""
        place = self.split(name, root)
        if isinstance(place, Status):
            return None
        device, path = place
        tree = self._memdisk if device.disk is None else self._tree(device)
        if tree is None:
            return None
        path = path.rstrip(b"/")
        if not path:
            return True
        return tree.find(path)

    def all(self) -> Iterator[Device]:
        """Every device in the order in which ``search`` tries them: each disk, then its partitions, last first."""
        for disk in self._machine.disks:
            yield Device(disk.name, disk, None)
            for partition in sorted(disk.partitions, key=lambda p: -p.number):
                yield Device(b"%s,gpt%d" % (disk.name, partition.number), disk, partition)

    def partitions(self, name: bytes) -> list[bytes]:
        """The names of a disk's partitions, in their order; none where it is no disk."""
        device = self.open(name)
        if isinstance(device, Status) or device.disk is None or device.partition is not None:
            return []
        return [b"%s,gpt%d" % (name, p.number) for p in sorted(device.disk.partitions, key=lambda p: p.number)]

    def _tree(self, device: Device) -> _Tree | None:
        partition = device.partition
        if partition is None or partition.filesystem is None:
            return None
        tree = self._trees.get(id(partition))
        if tree is None:
            tree = self._trees[id(partition)] = _Tree(
                partition.files, partition.directories, case_sensitive=partition.case_sensitive
            )
        return tree


class _Tree:
    """Files and folders of one filesystem."""

    def __init__(
        self, files: dict[str, GrubFile] | object, directories: frozenset[str], *, case_sensitive: bool
    ) -> None:
        self._fold = not case_sensitive
        self._files: dict[bytes, GrubFile] = {}
        self._folders: set[bytes] = {b""}
        assert hasattr(files, "items")
        for path, file in files.items():
            key = self._key(path.encode("utf-8", "surrogateescape"))
            self._files[key] = file
            self._parents(key)
        for path in directories:
            key = self._key(path.encode("utf-8", "surrogateescape"))
            self._folders.add(key)
            self._parents(key)

    def _key(self, path: bytes) -> bytes:
        key = b"/".join(piece for piece in path.split(b"/") if piece)
        return key.lower() if self._fold else key

    def _parents(self, key: bytes) -> None:
        while b"/" in key:
            key = key.rpartition(b"/")[0]
            self._folders.add(key)

    def find(self, path: bytes) -> GrubFile | bool | None:
        """The file, True for a folder, None."""
        found = self._walk(path)
        return found if isinstance(found, GrubFile) else True if found is Status.NONE else None

    def file(self, path: bytes) -> GrubFile | Status:
        """The file to open."""
        return self._walk(path) or Status.BAD_FILE_TYPE

    def _at(self, key: bytes) -> GrubFile | Status:
        """The file, NONE for a folder, FILE_NOT_FOUND."""
        return self._files.get(key) or (Status.NONE if key in self._folders else Status.FILE_NOT_FOUND)

    def _walk(self, path: bytes) -> GrubFile | Status:
        """Step by step: what stands before a slash has to be a folder that is there (fs/fshelp.c)."""
        here: list[bytes] = []
        found: GrubFile | Status = Status.NONE
        for piece in self._key(path).split(b"/"):
            if isinstance(found, GrubFile):
                return Status.BAD_FILE_TYPE
            if piece == b"..":
                del here[-1:]
            elif piece != b".":
                here.append(piece)
            found = self._at(b"/".join(filter(None, here)))
            if found is Status.FILE_NOT_FOUND:
                break
        return found


class _Archive(_Tree):
    """Files of a tar, whose paths are shortened before anything is looked for (fs/archelp.c); folders cannot be opened."""

    def file(self, path: bytes) -> GrubFile | Status:
        """The file to open."""
        found = Status.FILE_NOT_FOUND if path.endswith(b"/") else self._walk(path)
        return found if isinstance(found, GrubFile) else Status.FILE_NOT_FOUND

    def _walk(self, path: bytes) -> GrubFile | Status:
        kept: list[bytes] = []
        for piece in self._key(path).split(b"/"):
            if piece == b"..":
                del kept[-1:]
            elif piece != b".":
                kept.append(piece)
        return self._at(b"/".join(filter(None, kept)))
