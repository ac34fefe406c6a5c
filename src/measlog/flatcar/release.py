"""The artefacts of a Flatcar release: boot binaries, USR, version and signatures, in one folder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import IO, Self, Unpack

from attrs import evolve, field, frozen
from attrs.validators import deep_iterable, instance_of, optional

from measlog.errors import FormatError, ManifestError
from measlog.flatcar.authenticity import OpenPgpKeys
from measlog.flatcar.image import Image, Naming, authenticate, named, read_small
from measlog.flatcar.registers import NOT_COVERED
from measlog.flatcar.scan import BackgroundDigest, FileBlocks, Progress, TreeScan, scan
from measlog.flatcar.unpack import SparseWriter, container_kind, pieces
from measlog.flatcar.verity import HashTree, VerityLayout, embedded_root_hash
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.reference.authenticode import flat_digests
from measlog.reference.manifest import Component, Grub, ReferenceManifest, Source, Usr
from measlog.reference.programs import read_grub, read_program

__all__ = ["Release", "parse_version"]

IMAGE = "flatcar_production_image"
UPDATE = "flatcar_production_update.bin"
UPDATE_SIZE = 4 << 30
"""Twice the size of the USR partition, in bytes."""
PACKED = ("", ".bz2", ".gz", ".zst", ".zip")
CHANNELS = {"0": "alpha", "1": "beta", "2": "stable", "3": "lts"}
"""Channel by the second number of a release (``FLATCAR_BRANCH``)."""

_EFI = {"amd64": "x64", "arm64": "aa64"}
_PATHS = {"shim": "EFI/boot/boot{}.efi", "grub": "EFI/boot/grub{}.efi", "kernel": "flatcar/vmlinuz-a"}
_UNREAD = "the disk layout is not among the release's files, so what GRUB finds on it is not known"


@frozen(kw_only=True)
class Release:
    """A release as its folder has it. With the disk image in the folder, everything comes from that image."""

    name: str = field(validator=instance_of(str))
    version: str | None = field(validator=optional(instance_of(str)))
    channel: str | None = field(validator=optional(instance_of(str)))
    sources: tuple[Source, ...] = field(validator=deep_iterable(instance_of(Source)))
    components: tuple[Component, ...] = field(validator=deep_iterable(instance_of(Component)))
    grub: Grub | None = field(validator=optional(instance_of(Grub)))
    usr: tuple[Usr, ...] = field(validator=deep_iterable(instance_of(Usr)))
    image: Image | None = field(validator=optional(instance_of(Image)))

    @classmethod
    def from_directory(
        cls,
        path: str | os.PathLike[str],
        *,
        keys: OpenPgpKeys | None = None,
        verity: bool = True,
        limits: Limits = DEFAULT_LIMITS,
        progress: Progress | None = None,
    ) -> Self:
        """Read the release in the folder ``path``.

        With ``keys`` every file that is used must have a good signature, its own or that of a list of digests. Raises
        FormatError and ManifestError that start with the file's name, and OSError where a file cannot be read.
        """
        folder = Path(path)
        sources: list[Source] = []
        version, channel = None, None
        if (file := folder / "version.txt").is_file():
            data = read_small(file, 1 << 16)
            version, channel = parse_version(data)
            sources.append(_source(file, data, keys))
        image = None
        if (packed := _first(folder, f"{IMAGE}.bin")) is not None:
            try:
                image = Image.open(packed, keys=keys, verity=verity, limits=limits, progress=progress)
            except FormatError as error:
                raise error.inside(packed.name) from None
            sources += image.sources
        components: list[Component] = []
        grub = None
        for role, suffix in (("shim", ".shim"), ("grub", ".grub"), ("kernel", ".vmlinuz")):
            file = folder / f"{IMAGE}{suffix}"
            if not file.is_file():
                continue
            data = read_small(file, limits.file_size)
            sources.append(_source(file, data, keys))
            try:
                component = _component(data, role, limits)
                if role == "grub":
                    grub = read_grub(data, limits=limits)
            except FormatError as error:
                raise error.inside(file.name) from None
            if image is not None:
                _same(component, image, file.name)
            components.append(component)
        if image is None and not components:
            raise FormatError(f"no {IMAGE}.bin, .vmlinuz, .grub or .shim: is this the folder of a release?")
        kernel = next((one for one in components if one.role == "kernel"), None)
        usr: tuple[Usr, ...] = image.usr if image is not None else ()
        if (update := _first(folder, UPDATE)) is not None and kernel is not None:
            found, source = _update(update, kernel, verity=verity, limits=limits, progress=progress)
            sources.append(_vouched(update, source, keys))
            usr = usr or (found,)
        elif kernel is not None and not usr:
            usr = (Usr(slot="a", partition=3, status="unchecked", root=kernel.verity_root),)
        return cls(
            name=f"flatcar-{version}" if version else folder.resolve().name,
            version=version,
            channel=channel,
            sources=tuple(sources),
            components=image.esp.components if image is not None else tuple(components),
            grub=image.esp.grub if image is not None else grub,
            usr=usr,
            image=image,
        )

    def reference_manifest(self, **naming: Unpack[Naming]) -> ReferenceManifest:
        """The manifest of this release; what a caller says (:class:`Naming`) comes before what ``version.txt`` says.

        Raises ManifestError for programs of several machines.
        """
        naming["name"] = naming.get("name") or self.name
        naming["release"] = naming.get("release") or self.version
        naming["channel"] = naming.get("channel") or self.channel
        if self.image is not None:
            return evolve(self.image.reference_manifest(**naming), sources=self.sources)
        machines = sorted({one.machine for one in self.components})
        if len(machines) != 1:
            raise ManifestError(f"programs for {', '.join(machines)} in one release")
        return ReferenceManifest(
            **named(self.name, naming),
            arch=machines[0],
            sources=self.sources,
            components=self.components,
            grub=self.grub,
            usr=self.usr,
            covers={4: "the boot programs among the release's files"},
            not_covered={**NOT_COVERED, 8: _UNREAD, 9: _UNREAD},
        )


def parse_version(data: bytes) -> tuple[str, str | None]:
    """Version and channel from ``version.txt``, lines of ``KEY=value``; FormatError where there is no version."""
    values = dict(re.findall(r"^([A-Z_]+)=\"?([^\"\n]*)\"?\s*$", data.decode("utf-8", "replace"), re.MULTILINE))
    version = values.get("FLATCAR_VERSION")
    if not version or re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.+-]*)?", version) is None:
        raise FormatError("no FLATCAR_VERSION like 4230.2.1", path="version.txt")
    return version, CHANNELS.get(version.split(".")[1])


def _vouched(path: Path, source: Source, keys: OpenPgpKeys | None) -> Source:
    return source if keys is None else authenticate(path, source, keys)


def _source(path: Path, data: bytes, keys: OpenPgpKeys | None) -> Source:
    return _vouched(path, Source(name=path.name, size=len(data), sha256=hashlib.sha256(data).digest()), keys)


def _first(folder: Path, name: str) -> Path | None:
    return next((folder / f"{name}{suffix}" for suffix in PACKED if (folder / f"{name}{suffix}").is_file()), None)


def _component(data: bytes, role: str, limits: Limits) -> Component:
    component = read_program(data, path="vmlinuz" if role == "kernel" else role, flat=flat_digests(data), limits=limits)
    if component is None or component.role != role:
        raise FormatError(f"is no {role}")
    path = _PATHS[role].format(_EFI.get(component.machine, ""))
    if role != "kernel":
        return evolve(component, path=path)
    return evolve(component, path=path, slot="a", verity_root=embedded_root_hash(data, component.machine))


def _same(component: Component, image: Image, name: str) -> None:
    other = next((one for one in image.esp.components if one.role == component.role), None)
    if other is None or other.flat != component.flat:
        raise FormatError(f"{name}: is not the {component.role} on the disk image")


def _update(
    path: Path, kernel: Component, *, verity: bool, limits: Limits, progress: Progress | None
) -> tuple[Usr, Source]:
    """USR as the updater gets it, the raw partition, compared with the kernel; the file is read once."""
    usr = Usr(slot="a", partition=3, status="unchecked", root=kernel.verity_root)
    with path.open("rb") as stream, tempfile.TemporaryFile(prefix="measlog-") as raw:
        size = os.fstat(stream.fileno()).st_size
        blocks = FileBlocks(stream.fileno(), size)
        kind = container_kind(blocks.read(0, min(size, 1024)))
        try:
            if verity and kind is None:
                digest, tree = _tree(blocks, limits, whole=True, progress=progress)
                assert digest is not None
            else:
                tree = None
                whole = BackgroundDigest(blocks, progress)
                try:
                    if verity and kind is not None:
                        _unpack_update(stream, kind, raw, limits)
                        unpacked = FileBlocks(raw.fileno(), os.fstat(raw.fileno()).st_size)
                        _, tree = _tree(unpacked, limits, whole=False)
                finally:
                    digest = whole.result()
        except FormatError as error:
            raise error.inside(path.name) from None
    source = Source(name=path.name, size=size, sha256=digest)
    if tree is None:
        return usr, source
    root, data_blocks = tree
    if root != kernel.verity_root:
        raise FormatError(f"{path.name}: its dm-verity root hash is {root.hex()}, the kernel expects another")
    return evolve(usr, status="verified", data_blocks=data_blocks), source


def _tree(
    blocks: FileBlocks, limits: Limits, *, whole: bool, progress: Progress | None = None
) -> tuple[bytes | None, tuple[bytes, int]]:
    """SHA-256 of a raw partition where ``whole`` asks for it; root hash and data blocks of its hash tree."""
    layout = VerityLayout.read(blocks, limits=limits)
    digest, (part,) = scan(
        blocks,
        lambda pool: [TreeScan(start=0, tree=HashTree(layout, executor=pool))],
        whole=whole,
        progress=progress,
    )
    return digest, (part.tree.finish(blocks), layout.data_blocks)


def _unpack_update(stream: IO[bytes], kind: str, raw: IO[bytes], limits: Limits) -> None:
    writer = SparseWriter(raw)
    bound = min(limits.image_size, UPDATE_SIZE)
    for piece in pieces(stream, kind):
        if writer.size + len(piece) > bound:
            raise FormatError(f"unpacks to more than {bound} bytes", offset=stream.tell())
        writer.write(piece)
    writer.finish()
