"""What lies where in Flatcar's layout: the partitions' file systems and the boot programs on the ESP."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from attrs import evolve, field, frozen
from attrs.validators import deep_iterable, instance_of, optional

from measlog.errors import FormatError, ManifestError, UnsupportedError
from measlog.flatcar.verity import embedded_root_hash
from measlog.formats.blocks import Blocks, Window
from measlog.formats.btrfs import BtrfsVolume
from measlog.formats.ext4 import Ext4Volume
from measlog.formats.fat import FatFile, FatVolume
from measlog.formats.filesystems import identify_filesystem
from measlog.formats.gpt import Gpt
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.reference.authenticode import Digester, flat_digests
from measlog.reference.manifest import Component, DiskFile, Grub, Partition
from measlog.reference.programs import memdisk_files, read_grub, read_program, with_built_in

__all__ = ["EspContents", "read_built_ins", "read_esp", "read_oem", "scan_partitions"]

_TEXT_LIMIT = 64 << 10
_KERNEL = re.compile(r"flatcar/vmlinuz-([ab])", re.IGNORECASE)
_TARGETS = {"amd64": "x86_64-efi", "arm64": "arm64-efi"}


@frozen(kw_only=True)
class EspContents:
    """The ESP as read: every file with its digests, the boot programs among them, GRUB's embedded configuration."""

    arch: str = field(validator=instance_of(str))
    files: tuple[DiskFile, ...] = field(validator=deep_iterable(instance_of(DiskFile)))
    components: tuple[Component, ...] = field(validator=deep_iterable(instance_of(Component)))
    grub: Grub | None = field(validator=optional(instance_of(Grub)))

    def kernel(self, slot: str) -> Component | None:
        """The kernel of a slot, None where there is none."""
        return next((one for one in self.components if one.role == "kernel" and one.slot == slot), None)


def scan_partitions(gpt: Gpt, blocks: Blocks, *, limits: Limits = DEFAULT_LIMITS) -> tuple[Partition, ...]:
    """The partitions with the file systems found in them. Raises FormatError where one is damaged."""
    found = []
    for entry in gpt.partitions:
        system = identify_filesystem(Window(blocks, entry.start, entry.size), limits=limits)
        try:
            found.append(
                Partition(
                    number=entry.number,
                    label=entry.label,
                    type_guid=entry.type_guid,
                    guid=entry.guid,
                    first_lba=entry.first_lba,
                    last_lba=entry.last_lba,
                    attributes=entry.attributes.to_bytes(8, "big"),
                    filesystem=None if system is None else system.kind,
                    filesystem_uuid=None if system is None else system.uuid,
                    filesystem_label=None if system is None else system.label,
                )
            )
        except ManifestError as error:
            raise FormatError(str(error), offset=entry.start, path=f"partitions[{entry.number}]") from None
    return tuple(found)


def read_esp(volume: FatVolume, number: int, *, limits: Limits = DEFAULT_LIMITS, strict: bool = True) -> EspContents:
    """Read every file of the ESP once. ``strict`` refuses kernels without a dm-verity root hash.

    Raises FormatError with the file's path: for a program that lies about itself, a ``grub.cfg`` beside GRUB, an
    embedded configuration that differs from the copy on the ESP, and where a boot program is missing. What is built into
    kernels is left to :func:`read_built_ins`.
    """
    files: list[DiskFile] = []
    components: list[Component] = []
    contents: dict[str, bytes] = {}
    for file, path in _ordered(volume):
        lower = path.lower()
        program = lower.endswith(".efi") or _KERNEL.fullmatch(path) is not None
        small = file.size <= _TEXT_LIMIT and lower.endswith(".cfg")
        kept = program or small or lower.endswith("/grub.cfg.tar")
        digester = Digester()
        pieces: list[bytes] = []
        for piece in volume.chunks(file):
            digester.update(piece)
            if kept:
                pieces.append(piece)
        data = b"".join(pieces)
        flat = digester.digests()
        text = _text(data) if small else None
        try:
            files.append(DiskFile(partition=number, path=path, size=file.size, flat=flat, text=text))
        except ManifestError as error:
            raise FormatError(str(error), path=ascii(path)) from None
        if program:
            try:
                component = _program(data, path, flat, strict=strict, limits=limits)
                if component is not None:
                    components.append(component)
                    if component.role == "grub":
                        contents[path] = data
            except FormatError as error:
                raise error.inside(path) from None
        elif kept:
            contents[path] = data
    if not any(one.role in {"kernel", "uki"} for one in components):
        raise FormatError("no kernel: expected flatcar/vmlinuz-a; is this a Flatcar image?", path="flatcar")
    grub = _grub(components, contents, limits)
    _refuse_stray_configuration(components, files)
    arch = _arch(components)
    if grub is not None:
        _compare_copies(grub, contents, arch)
    return EspContents(arch=arch, files=tuple(files), components=tuple(components), grub=grub)


def read_built_ins(
    volume: FatVolume, components: tuple[Component, ...], *, limits: Limits = DEFAULT_LIMITS
) -> tuple[Component, ...]:
    """The components with what is built into kernels; FormatError with the path of one that is damaged."""
    files = {path: file for file, path in _ordered(volume)}
    found = []
    for one in components:
        if one.role not in {"kernel", "uki"}:
            found.append(one)
            continue
        try:
            found.append(with_built_in(one, volume.read(files[one.path]), limits=limits))
        except FormatError as error:
            raise error.inside(one.path) from None
    return tuple(found)


_VOLUMES: Mapping[str, type[Ext4Volume | BtrfsVolume]] = {"ext4": Ext4Volume, "btrfs": BtrfsVolume}


def read_oem(
    partitions: tuple[Partition, ...], gpt: Gpt, blocks: Blocks, *, limits: Limits = DEFAULT_LIMITS
) -> tuple[int, tuple[DiskFile, ...]] | None:
    """The OEM partition's number and files, None where there is none or its file system is not read.

    That of a release is btrfs; ext4 is read too. What these readers do not read (several devices, files of more than
    16 MiB) leaves the partition unread, and what GRUB does with it unknown. FormatError with the file's path where the file system is damaged.
    """
    row = next((one for one in partitions if one.label == "OEM" and one.filesystem in _VOLUMES), None)
    if row is None:
        return None
    entry = next(one for one in gpt.partitions if one.number == row.number)
    try:
        volume = _VOLUMES[row.filesystem or ""](Window(blocks, entry.start, entry.size), limits=limits)
        found = [_oem_file(row.number, path, data) for path, data in volume.contents()]
    except UnsupportedError:
        return None
    except ManifestError as error:
        raise FormatError(str(error), path=f"partitions[{row.number}]") from None
    except FormatError as error:
        raise error.inside(f"partitions[{row.number}]") from None
    return row.number, tuple(found)


def _oem_file(number: int, path: str, data: bytes) -> DiskFile:
    text = _text(data) if path.lower().endswith(".cfg") and len(data) <= _TEXT_LIMIT else None
    return DiskFile(partition=number, path=path, size=len(data), flat=flat_digests(data), text=text)


def _ordered(volume: FatVolume) -> Iterator[tuple[FatFile, str]]:
    # By path, so that the manifest does not depend on how the directories were written.
    yield from sorted(((file, file.path) for file in volume.files()), key=lambda item: item[1])


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _program(data: bytes, path: str, flat: Mapping[str, bytes], *, strict: bool, limits: Limits) -> Component | None:
    found = _KERNEL.fullmatch(path)
    slot = None if found is None else found[1].lower()
    component = read_program(data, path=path, flat=flat, slot=slot, built_in=False, limits=limits)
    if component is None or component.role != "kernel":
        return component
    try:
        return evolve(component, verity_root=embedded_root_hash(data, component.machine))
    except FormatError:
        if strict:
            raise
        return component


def _grub(components: list[Component], contents: dict[str, bytes], limits: Limits) -> Grub | None:
    found = [one for one in components if one.role == "grub"]
    if not found:
        if any(one.role in {"uki", "systemd-boot"} for one in components):
            return None
        raise FormatError("no GRUB and no unified kernel image: is this a Flatcar image?", path="EFI")
    if len(found) > 1:
        names = ", ".join(one.path for one in found)
        raise UnsupportedError(f"several GRUBs: {names}", path="EFI")
    try:
        return read_grub(contents[found[0].path], limits=limits)
    except FormatError as error:
        raise error.inside(found[0].path) from None


def _arch(components: list[Component]) -> str:
    machines = sorted({one.machine for one in components})
    if len(machines) != 1 or machines[0] not in {"amd64", "arm64"}:
        raise UnsupportedError(f"programs for {', '.join(machines)}; expected amd64 or arm64 alone", path="EFI")
    return machines[0]


def _refuse_stray_configuration(components: list[Component], files: list[DiskFile]) -> None:
    # A grub.cfg beside GRUB replaces the embedded one, Secure Boot or not (A46): such an image is not a release.
    folders = {one.path.rpartition("/")[0].lower() for one in components if one.role == "grub"}
    for file in files:
        folder, _, name = file.path.lower().rpartition("/")
        if name == "grub.cfg" and folder in folders:
            raise FormatError("a grub.cfg beside GRUB, which would run in place of the embedded one", path=file.path)


def _compare_copies(grub: Grub, contents: dict[str, bytes], arch: str) -> None:
    """The copies that Flatcar's build leaves under ``flatcar/grub`` are what is embedded."""
    for path, data in contents.items():
        lower = path.lower()
        if lower == "flatcar/grub/grub.cfg.tar":
            copies = memdisk_files(data)
            embedded = {"grub.cfg": grub.config, **grub.memdisk}
            if {name: raw.decode("utf-8", "replace") for name, raw in copies.items()} != embedded:
                raise FormatError("is not what GRUB carries in its memdisk", path=path)
        if lower == f"flatcar/grub/{_TARGETS[arch]}/load.cfg" and data.decode("utf-8", "replace") != grub.load_config:
            raise FormatError("is not the load.cfg that GRUB carries", path=path)
