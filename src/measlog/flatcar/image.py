"""Disk images in Flatcar's layout: what is on them, and the reference manifest of a boot from them."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self, TypedDict, Unpack
from uuid import UUID

from attrs import evolve, field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.errors import FormatError, ManifestError, UnsupportedError
from measlog.flatcar.authenticity import OpenPgpKeys, parse_digests
from measlog.flatcar.boot import boot_paths, mok_events
from measlog.flatcar.layout import EspContents, read_built_ins, read_esp, read_oem, scan_partitions
from measlog.flatcar.registers import COVERS, NOT_COVERED, UNTOUCHED_MOK
from measlog.flatcar.scan import BackgroundDigest, FileBlocks, Progress, TreeScan, scan
from measlog.flatcar.unified import UKI_COVERS, UKI_NOT_COVERED, uki_boot_paths, uki_root_hashes
from measlog.flatcar.unpack import QEMU_FORMATS, SparseWriter, container_kind, convert, unpack
from measlog.flatcar.verity import HashTree, VerityLayout
from measlog.formats.blocks import Blocks, Window
from measlog.formats.fat import FatVolume
from measlog.formats.gpt import Gpt, GptPartition
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.reference.manifest import Disk, DiskFile, Partition, ReferenceManifest, Source, Usr

__all__ = [
    "ESP_TYPE",
    "USR_SLOTS",
    "USR_TYPE",
    "Image",
    "Naming",
    "authenticate",
    "named",
    "read_small",
    "release_number",
]

ESP_TYPE = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
USR_TYPE = UUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6")
USR_SLOTS = {
    UUID("7130c94a-213a-4e5a-8e26-6cce9662f132"): "a",
    UUID("e03dd35c-7c2d-4a47-b3fe-27f15780a57c"): "b",
}
"""The slot that GRUB takes a USR partition for, by its GUID (Flatcar's ``grub.cfg``)."""


SIGNATURE_LIMIT = 1 << 20
_UNPREDICTED = {8: "commands of the boot loader", 9: "files that the boot loader reads"}


class Naming(TypedDict, total=False):
    """What a caller says of a manifest, by keyword.

    ``release`` is Flatcar's version (``4230.2.1``); unless ``version`` is given, the number for rollback floors is made
    from it by :func:`release_number`. ``not_before`` and ``expires`` need a time zone.
    """

    name: str | None
    release: str | None
    channel: str | None
    version: int | None
    not_before: datetime | None
    expires: datetime | None


def named(name: str, naming: Naming) -> dict[str, Any]:
    """The manifest's own arguments, with ``name`` where the caller gives none."""
    version, release = naming.get("version"), naming.get("release")
    if version is None:
        version = release_number(release) if release else 0
    return {**naming, "name": naming.get("name") or name, "version": version}


@frozen(kw_only=True)
class Image:
    """A disk image as read: nothing stays open.

    ``sources`` are the files it came from, ``usr`` the state of each slot, ``oem`` the number and the files of the OEM
    partition where they could be read.
    """

    name: str = field(validator=instance_of(str))
    sources: tuple[Source, ...] = field(validator=deep_iterable(instance_of(Source)))
    gpt: Gpt = field(validator=instance_of(Gpt))
    partitions: tuple[Partition, ...] = field(validator=deep_iterable(instance_of(Partition)))
    esp_number: int = field(validator=instance_of(int))
    esp: EspContents = field(validator=instance_of(EspContents))
    oem: tuple[int, tuple[DiskFile, ...]] | None = field(repr=False)
    usr: tuple[Usr, ...] = field(validator=deep_iterable(instance_of(Usr)))

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        keys: OpenPgpKeys | None = None,
        verity: bool = True,
        limits: Limits = DEFAULT_LIMITS,
        progress: Progress | None = None,
    ) -> Self:
        """Read the disk image at ``path`` once, whole: raw, compressed, in an archive, or in a hypervisor's format.

        With ``keys`` the file must have a good signature (see :func:`authenticate`), without it is marked as unchecked.
        ``verity=False`` leaves USR unchecked and says so in the manifest; ``progress`` is called with the bytes done and
        those there are in all. Raises FormatError with the place in the image where it is not what Flatcar's layout
        demands, or where USR is not what its kernel expects, and OSError where the file cannot be read.
        """
        place = Path(path)
        with place.open("rb") as stream, tempfile.TemporaryDirectory(prefix="measlog-") as folder:
            size = os.fstat(stream.fileno()).st_size
            packed = FileBlocks(stream.fileno(), size)
            kind = _container(packed)
            if kind is None:
                image, digest = cls._read(place.name, packed, verity=verity, limits=limits, progress=progress)
                assert digest is not None
            else:
                whole = BackgroundDigest(packed, progress)
                try:
                    image = cls._unpacked(place, stream, kind, Path(folder), verity=verity, limits=limits)
                finally:
                    digest = whole.result()
        source = Source(name=place.name, size=size, sha256=digest)
        return evolve(image, sources=(source if keys is None else authenticate(place, source, keys),))

    @classmethod
    def _unpacked(
        cls, place: Path, stream: IO[bytes], kind: str, folder: Path, *, verity: bool, limits: Limits
    ) -> Self:
        """The image in a container of the kind named; the raw disk lies in ``folder`` as a sparse file meanwhile.

        A cloud's image is packed twice as it is published: compressed, and in a hypervisor's format.
        """
        target = folder / "disk"
        with target.open("w+b") as raw:
            if kind in QEMU_FORMATS:
                convert(str(place.resolve()), kind, str(target), limits=limits)
            else:
                unpack(stream, kind, SparseWriter(raw), limits=limits)
        with target.open("rb") as disk:
            inner = _container(FileBlocks(disk.fileno(), os.fstat(disk.fileno()).st_size))
        if inner in QEMU_FORMATS:
            packed, target = target, folder / "raw"
            convert(str(packed), inner, str(target), limits=limits)
            packed.unlink()
        with target.open("rb") as disk:
            blocks = FileBlocks(disk.fileno(), os.fstat(disk.fileno()).st_size)
            return cls._read(place.name, blocks, verity=verity, limits=limits, whole=False)[0]

    @classmethod
    def _read(
        cls,
        name: str,
        blocks: FileBlocks,
        *,
        verity: bool,
        limits: Limits,
        whole: bool = True,
        progress: Progress | None = None,
    ) -> tuple[Self, bytes | None]:
        """The image in ``blocks``, without its source, and the SHA-256 of the whole where that is asked for."""
        gpt = Gpt.read(blocks, limits=limits)
        gpt.check_backup(blocks, limits=limits)
        esp_number = _esp_number(gpt)
        partitions = scan_partitions(gpt, blocks, limits=limits)
        row = _row(gpt, esp_number)
        try:
            volume = FatVolume(Window(blocks, row.start, row.size), limits=limits)
        except FormatError as error:
            raise error.inside(f"partitions[{esp_number}]", row.start) from None
        try:
            esp = read_esp(volume, esp_number, limits=limits, strict=verity)
        except FormatError as error:
            raise error.inside(f"partitions[{esp_number}]") from None
        oem = read_oem(partitions, gpt, blocks, limits=limits)
        usr = _usr(gpt, esp)
        layouts = [_verity_layout(gpt, one, blocks, limits) for one in usr] if verity else []
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="measlog-kernel") as reader:
            # Unpacking kernels takes as long as a part of the disk: meanwhile the disk is read.
            components = reader.submit(read_built_ins, volume, esp.components, limits=limits)
            digest, scans = scan(
                blocks,
                lambda pool: [TreeScan(start=start, tree=HashTree(layout, executor=pool)) for start, layout in layouts],
                whole=whole,
                progress=progress,
            )
            try:
                esp = evolve(esp, components=components.result())
            except FormatError as error:
                raise error.inside(f"partitions[{esp_number}]") from None
        if verity:
            usr = tuple(_checked(gpt, one, part, blocks) for one, part in zip(usr, scans, strict=True))
        image = cls(
            name=name.partition(".")[0] or name,
            sources=(),
            gpt=gpt,
            partitions=partitions,
            esp_number=esp_number,
            esp=esp,
            oem=oem,
            usr=usr,
        )
        return image, digest

    @property
    def arch(self) -> str:
        """``amd64`` or ``arm64``, from the programs on the ESP."""
        return self.esp.arch

    def reference_manifest(self, **naming: Unpack[Naming]) -> ReferenceManifest:
        """The manifest of this image. Raises ManifestError where a value of :class:`Naming` is not acceptable."""
        manifest = ReferenceManifest(
            **named(self.name, naming),
            arch=self.arch,
            sources=self.sources,
            components=self.esp.components,
            grub=self.esp.grub,
            disk=Disk(
                sector_size=self.gpt.sector_size,
                disk_guid=self.gpt.disk_guid,
                partitions=self.partitions,
                esp=self.esp_number,
                listed=(self.esp_number,) if self.oem is None else (self.esp_number, self.oem[0]),
                files=self.esp.files if self.oem is None else (*self.esp.files, *self.oem[1]),
            ),
            usr=self.usr,
            covers=COVERS,
            not_covered=NOT_COVERED,
        )
        if self.esp.grub is None:
            paths = uki_boot_paths(manifest)
            return _with_mok(evolve(manifest, boot_paths=paths, covers=UKI_COVERS, not_covered=UKI_NOT_COVERED))
        try:
            paths = boot_paths(manifest)
        except UnsupportedError as error:
            # Programs and files are known all the same; what the boot loader does with them is not.
            missing = {**NOT_COVERED, **{register: f"{reason}: {error}" for register, reason in _UNPREDICTED.items()}}
            covered = {register: reason for register, reason in COVERS.items() if register not in missing}
            return evolve(manifest, covers=covered, not_covered=missing)
        return _with_mok(evolve(manifest, boot_paths=paths))


def _container(blocks: FileBlocks) -> str | None:
    head, tail = min(blocks.size, 1024), min(blocks.size, 512)
    return container_kind(blocks.read(0, head), blocks.read(blocks.size - tail, tail))


def _with_mok(manifest: ReferenceManifest) -> ReferenceManifest:
    """Register 14 is covered where a shim is known with what it mirrors there."""
    shim = manifest.component("shim")
    if shim is None or not manifest.boot_paths or mok_events(shim)[1] is not None:
        return manifest
    missing = {register: reason for register, reason in manifest.not_covered.items() if register != 14}
    return evolve(manifest, covers={**manifest.covers, 14: UNTOUCHED_MOK}, not_covered=missing)


def authenticate(path: Path, source: Source, keys: OpenPgpKeys) -> Source:
    """``source``, the file at ``path``, with who vouches for it; ManifestError where nobody of ``keys`` does.

    Looked for beside the file: ``.sig``, a detached signature; then ``.DIGESTS`` with ``.DIGESTS.sig``, or
    ``.DIGESTS.asc`` signed in clear text.
    """
    name = path.name
    detached = path.with_name(f"{name}.sig")
    if detached.is_file():
        signer = keys.verify_file(str(path), read_small(detached, SIGNATURE_LIMIT), what=name)
        return evolve(source, authenticity="openpgp", signer=signer)
    listed, detached = path.with_name(f"{name}.DIGESTS"), path.with_name(f"{name}.DIGESTS.sig")
    armored = path.with_name(f"{name}.DIGESTS.asc")
    if listed.is_file() and detached.is_file():
        data, signature = read_small(listed, SIGNATURE_LIMIT), read_small(detached, SIGNATURE_LIMIT)
        data, signer = keys.verify_bytes(data, signature, what=listed.name)
    elif armored.is_file():
        data, signer = keys.verify_bytes(read_small(armored, SIGNATURE_LIMIT), None, what=armored.name)
    else:
        raise ManifestError(f"{name}: keys were given, but there is neither {name}.sig nor a signed {name}.DIGESTS")
    algorithm, expected = parse_digests(data, name)
    found, read = source.sha256, source.sha256
    if algorithm != "sha256":
        found, read = _two_digests(path, algorithm)
    if found.hex() != expected:
        raise ManifestError(f"{name}: its {algorithm} digest is not the one in the signed list")
    # What is vouched for must be what the manifest is made from, not what lies there since.
    if read != source.sha256:
        raise ManifestError(f"{name}: changed while it was read")
    return evolve(source, authenticity="digests", signer=signer)


def _two_digests(path: Path, algorithm: str) -> tuple[bytes, bytes]:
    """The digest of a file by the algorithm named, and its SHA-256, of the same bytes."""
    one, other = hashlib.new(algorithm), hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            one.update(piece)
            other.update(piece)
    return one.digest(), other.digest()


def read_small(path: Path, limit: int) -> bytes:
    """The bytes of a file, FormatError where it has more than ``limit``."""
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise FormatError(f"more than {limit} bytes", path=path.name)
    return data


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
    """The USR partitions that a kernel on the ESP goes with, and the root hash that it expects."""
    unified = uki_root_hashes(esp.components)
    slots = []
    for partition in gpt.partitions:
        slot = USR_SLOTS.get(partition.guid)
        kernel = None if slot is None else esp.kernel(slot)
        root = kernel.verity_root if kernel is not None else unified.get(partition.guid)
        if slot is None or (kernel is None and root is None):
            continue
        if partition.type_guid != USR_TYPE:
            raise FormatError(
                f"has the GUID of USR-{slot.upper()}, but type {partition.type_guid}",
                path=f"partitions[{partition.number}]",
            )
        slots.append(Usr(slot=slot, partition=partition.number, status="unchecked", root=root))
    return tuple(slots)


def _row(gpt: Gpt, number: int) -> GptPartition:
    return next(entry for entry in gpt.partitions if entry.number == number)


def _verity_layout(gpt: Gpt, usr: Usr, blocks: Blocks, limits: Limits) -> tuple[int, VerityLayout]:
    row = _row(gpt, usr.partition)
    try:
        return row.start, VerityLayout.read(Window(blocks, row.start, row.size), limits=limits)
    except FormatError as error:
        raise error.inside(f"partitions[{row.number}]", row.start) from None


def _checked(gpt: Gpt, usr: Usr, part: TreeScan, blocks: Blocks) -> Usr:
    """The slot with its tree compared: recomputed, as stored, and as the kernel has it."""
    row = _row(gpt, usr.partition)
    try:
        root = part.tree.finish(Window(blocks, row.start, row.size))
    except FormatError as error:
        raise error.inside(f"partitions[{row.number}]", row.start) from None
    if root != usr.root:
        expected = "none" if usr.root is None else usr.root.hex()
        raise FormatError(
            f"USR-{usr.slot.upper()} has the dm-verity root hash {root.hex()}, its kernel expects {expected}",
            path=f"partitions[{row.number}]",
        )
    return evolve(usr, status="verified", data_blocks=part.tree.layout.data_blocks)
