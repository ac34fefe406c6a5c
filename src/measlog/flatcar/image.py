"""Disk images in Flatcar's layout: what is on them, and the reference manifest of a boot from them."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.errors import FormatError, ManifestError, TruncatedError
from measlog.flatcar.layout import EspContents, read_esp, scan_partitions
from measlog.flatcar.registers import COVERS, NOT_COVERED
from measlog.formats.blocks import Window
from measlog.formats.fat import FatVolume
from measlog.formats.gpt import Gpt
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.reference.manifest import Disk, Partition, ReferenceManifest, Source, Usr

__all__ = ["ESP_TYPE", "USR_SLOTS", "USR_TYPE", "FileBlocks", "Image"]

ESP_TYPE = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
USR_TYPE = UUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6")
USR_SLOTS = {
    UUID("7130c94a-213a-4e5a-8e26-6cce9662f132"): "a",
    UUID("e03dd35c-7c2d-4a47-b3fe-27f15780a57c"): "b",
}
"""The slot that GRUB takes a USR partition for, by its GUID (Flatcar's ``grub.cfg``)."""

_CHUNK = 4 << 20


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


@frozen(kw_only=True)
class Image:
    """A disk image as read: nothing stays open. ``sources`` are the files it came from, ``usr`` the state of each slot."""

    name: str = field(validator=instance_of(str))
    sources: tuple[Source, ...] = field(validator=deep_iterable(instance_of(Source)))
    gpt: Gpt = field(validator=instance_of(Gpt))
    partitions: tuple[Partition, ...] = field(validator=deep_iterable(instance_of(Partition)))
    esp_number: int = field(validator=instance_of(int))
    esp: EspContents = field(validator=instance_of(EspContents))
    usr: tuple[Usr, ...] = field(validator=deep_iterable(instance_of(Usr)))

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verity: bool = True, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read the disk image at ``path`` once, whole.

        ``verity=False`` leaves USR unchecked and says so in the manifest. Raises FormatError with the place in the
        image where it is not what Flatcar's layout demands, and OSError where the file cannot be read.
        """
        place = Path(path)
        with place.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            blocks = FileBlocks(stream.fileno(), size)
            whole = _BackgroundDigest(blocks)
            try:
                gpt = Gpt.read(blocks, limits=limits)
                gpt.check_backup(blocks, limits=limits)
                esp_number = _esp_number(gpt)
                partitions = scan_partitions(gpt, blocks, limits=limits)
                row = next(entry for entry in gpt.partitions if entry.number == esp_number)
                label = f"partitions[{esp_number}]"
                try:
                    volume = FatVolume(Window(blocks, row.start, row.size), limits=limits)
                except FormatError as error:
                    raise error.inside(label, row.start) from None
                try:
                    esp = read_esp(volume, esp_number, limits=limits, strict=verity)
                except FormatError as error:
                    raise error.inside(label) from None
                usr = _usr(gpt, esp)
            except BaseException:
                whole.cancel()
                raise
            source = Source(name=place.name, size=size, sha256=whole.result())
        return cls(
            name=place.name.partition(".")[0] or place.name,
            sources=(source,),
            gpt=gpt,
            partitions=partitions,
            esp_number=esp_number,
            esp=esp,
            usr=usr,
        )

    @property
    def arch(self) -> str:
        """``amd64`` or ``arm64``, from the programs on the ESP."""
        return self.esp.arch

    def reference_manifest(
        self,
        *,
        name: str | None = None,
        release: str | None = None,
        channel: str | None = None,
        version: int | None = None,
        not_before: datetime | None = None,
        expires: datetime | None = None,
    ) -> ReferenceManifest:
        """The manifest of this image.

        ``release`` is Flatcar's version (``4230.2.1``); unless ``version`` is given, the number for rollback floors is
        made from it by :func:`release_number`. Raises ManifestError where a value is not acceptable.
        """
        number = version if version is not None else 0 if release is None else release_number(release)
        return ReferenceManifest(
            name=name or self.name,
            release=release,
            channel=channel,
            arch=self.arch,
            version=number,
            not_before=not_before,
            expires=expires,
            sources=self.sources,
            components=self.esp.components,
            grub=self.esp.grub,
            disk=Disk(
                sector_size=self.gpt.sector_size,
                disk_guid=self.gpt.disk_guid,
                partitions=self.partitions,
                esp=self.esp_number,
                listed=(self.esp_number,),
                files=self.esp.files,
            ),
            usr=self.usr,
            covers=COVERS,
            not_covered=NOT_COVERED,
        )


def release_number(release: str) -> int:
    """Flatcar's version as one number that grows with it: ``4230.2.1`` is 4230002001; ManifestError for other forms."""
    found = re.fullmatch(r"([0-9]{1,5})\.([0-9]{1,3})\.([0-9]{1,3})(?:[-+].*)?", release)
    if found is None:
        raise ManifestError(
            f"release {release!r} is not like 4230.2.1: give the version number for rollback floors too"
        )
    major, minor, patch = (int(part) for part in found.groups())
    return major * 1_000_000 + minor * 1_000 + patch


def _esp_number(gpt: Gpt) -> int:
    found = [partition for partition in gpt.partitions if partition.type_guid == ESP_TYPE]
    if len(found) != 1:
        raise FormatError(
            f"{len(found)} EFI system partitions, expected one: is this a Flatcar image?", path="partitions"
        )
    return found[0].number


def _usr(gpt: Gpt, esp: EspContents) -> tuple[Usr, ...]:
    """The USR partitions that a kernel on the ESP goes with."""
    slots = []
    for partition in gpt.partitions:
        slot = USR_SLOTS.get(partition.guid)
        kernel = None if slot is None else esp.kernel(slot)
        if slot is None or kernel is None:
            continue
        if partition.type_guid != USR_TYPE:
            raise FormatError(
                f"has the GUID of USR-{slot.upper()}, but type {partition.type_guid}",
                path=f"partitions[{partition.number}]",
            )
        slots.append(Usr(slot=slot, partition=partition.number, status="unchecked", root=kernel.verity_root))
    return tuple(slots)


class _BackgroundDigest:
    """SHA-256 of a whole file, computed by a thread while others read parts of it."""

    def __init__(self, blocks: FileBlocks) -> None:
        self._blocks = blocks
        self._hash = hashlib.sha256()
        self._stop = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="measlog-digest", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            place = 0
            while place < self._blocks.size and not self._stop:
                step = min(_CHUNK, self._blocks.size - place)
                self._hash.update(self._blocks.read(place, step))
                place += step
        except BaseException as error:  # noqa: BLE001  (handed to the thread that asks for the result)
            self._error = error

    def cancel(self) -> None:
        self._stop = True
        self._thread.join()

    def result(self) -> bytes:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._hash.digest()
