"""The machine that a manifest describes, in the states that decide how it boots."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from attrs import evolve, field, frozen
from attrs.validators import in_, instance_of

from measlog.errors import UnsupportedError
from measlog.flatcar.grub import BUILDS, Disk, GrubBuild, GrubFile, Machine, Partition
from measlog.flatcar.grub.gpt import USR_TYPE
from measlog.reference.manifest import Component, Grub, ReferenceManifest

__all__ = [
    "BootState",
    "bootloader_of",
    "build_machine",
    "build_of",
    "kernel_file",
    "kernel_of",
    "slot_attributes",
    "states",
]

USR_GUIDS = {
    "a": UUID("7130c94a-213a-4e5a-8e26-6cce9662f132"),
    "b": UUID("e03dd35c-7c2d-4a47-b3fe-27f15780a57c"),
}
FIRST_BOOT = "flatcar/first_boot"
OEM_LABEL = "OEM"
SLOT_FILE = "flatcar/use-usr-b"
"""Tells a GRUB without ``gptprio.next`` to boot slot b."""

SUCCESSFUL = 0x0101 << 48
"""Attributes of a slot that has booted: priority 1, successful."""
UPDATED = 0x0012 << 48
"""Attributes of a slot as the updater leaves it: priority 2, one try."""
SPENT = 0x0002 << 48
"""The same after a boot that was not marked successful."""


@frozen(kw_only=True)
class BootState:
    """What decides a boot beside the release: ``slot`` is the one that GRUB chooses first.

    ``fails`` is true where the kernel of that slot cannot be read, so that GRUB falls back to the other one.
    """

    slot: str = field(validator=in_(("a", "b")))
    first_boot: bool = field(default=False, validator=instance_of(bool))
    secure_boot: bool = field(default=True, validator=instance_of(bool))
    fails: bool = field(default=False, validator=instance_of(bool))

    @property
    def name(self) -> str:
        """In words."""
        words = [
            f"slot {self.slot}",
            "first boot" if self.first_boot else "later boot",
            f"Secure Boot {'on' if self.secure_boot else 'off'}",
        ]
        if self.fails:
            words.insert(1, f"falls back to slot {_other(self.slot)}")
        return ", ".join(words)


def _other(slot: str) -> str:
    return "b" if slot == "a" else "a"


def states(
    *,
    secure_boot: bool | None = None,
    slot: str | None = None,
    first_boot: bool | None = None,
    falls_back: bool = True,
) -> list[BootState]:
    """The states in which a release is booted. A kernel is in slot a when installed, in slot b after an update.

    ``slot`` names the slot that is booted. A first boot is from the slot that was installed. ``falls_back`` says
    whether the boot loader tries the other slot where the kernel of one cannot be read.
    """
    found = []
    for secure in (True, False) if secure_boot is None else (secure_boot,):
        for state in (
            BootState(slot="a", first_boot=True, secure_boot=secure),
            BootState(slot="a", secure_boot=secure),
            BootState(slot="b", secure_boot=secure),
            BootState(slot="b", secure_boot=secure, fails=True),
            BootState(slot="a", secure_boot=secure, fails=True),
        ):
            booted = _other(state.slot) if state.fails else state.slot
            if slot in {None, booted} and first_boot in {None, state.first_boot} and (falls_back or not state.fails):
                found.append(state)
    return found


def bootloader_of(manifest: ReferenceManifest) -> ReferenceManifest:
    """The manifest itself, if GRUB starts its kernel and its rules are known; else UnsupportedError."""
    if manifest.grub is None:
        raise UnsupportedError(f"{manifest.name}: no GRUB, so its boots are not predicted")
    build_of(manifest.grub)
    if manifest.disk is None:
        raise UnsupportedError(f"{manifest.name}: the manifest has no disk, so what GRUB finds on it is not known")
    return manifest


def build_of(grub: Grub) -> GrubBuild:
    """The measurement rules of a GRUB, with the modules that it carries.

    Raises UnsupportedError for one whose rules are not known.
    """
    build = BUILDS.get(grub.profile or "")
    if build is None:
        raise UnsupportedError(f"GRUB {grub.version or 'of an unknown version'}: its measurement rules are not known")
    return evolve(build, modules=grub.modules) if grub.modules else build


def slot_attributes(state: BootState) -> Mapping[str, int]:
    """GPT attributes of the USR slots before the boot."""
    other = _other(state.slot)
    if state.slot == "b" or state.fails:
        return {state.slot: UPDATED, other: SUCCESSFUL}
    return {state.slot: SUCCESSFUL, other: 0}


def build_machine(
    manifest: ReferenceManifest,
    bootloader: ReferenceManifest,
    state: BootState,
    *,
    oem_grub_cfg: bytes | GrubFile | None = None,
    disk: bytes = b"hd0",
    kernel: GrubFile | None = None,
    known: Mapping[str, GrubFile] | None = None,
) -> Machine:
    """The machine of ``state``: boot loader and layout from ``bootloader``, the booted kernel from ``manifest``.

    ``kernel`` takes its place where it is known from elsewhere, as the files of the ESP that are ``known`` do. The kernel of the other slot is a file of which nothing
    is known, which an honest boot does not open.
    """
    grub, layout = bootloader.grub, bootloader.disk
    assert grub is not None
    assert layout is not None
    booted = _other(state.slot) if state.fails else state.slot
    kernels = {booted: kernel_file(manifest, booted) if kernel is None else kernel}
    if not state.fails:
        kernels[_other(state.slot)] = GrubFile(kernel=True)
    bits = slot_attributes(state)
    by_guid = {guid: slot for slot, guid in USR_GUIDS.items()}
    partitions = []
    for row in layout.partitions:
        files = _files(bootloader, row.number)
        label = (row.filesystem_label or "").encode()
        if row.number == layout.esp:
            files |= {path: file for path, file in _files(manifest).items() if path not in files}
            files = {path: file for path, file in files.items() if not _is_kernel(path)}
            files.update({f"flatcar/vmlinuz-{slot}": file for slot, file in kernels.items()})
            if state.first_boot:
                files.setdefault(FIRST_BOOT, GrubFile(kernel=False))
            else:
                files.pop(FIRST_BOOT, None)
            files.pop(SLOT_FILE, None)
            files.update(_slot_file(grub, state))
            files.update(known or {})
        if OEM_LABEL in {row.label, row.filesystem_label} and oem_grub_cfg is not None:
            given = oem_grub_cfg if isinstance(oem_grub_cfg, GrubFile) else GrubFile(content=oem_grub_cfg)
            files["grub.cfg"] = given
        attributes = row.attribute_bits
        slot = by_guid.get(row.guid)
        if row.type_guid == USR_TYPE and slot is not None:
            attributes = bits[slot]
        partitions.append(
            Partition(
                number=row.number,
                label=row.label.encode(),
                type_guid=row.type_guid,
                guid=row.guid,
                attributes=attributes,
                filesystem=row.filesystem,
                filesystem_uuid=None if row.filesystem_uuid is None else row.filesystem_uuid.encode(),
                filesystem_label=label,
                files=files,
            )
        )
    return Machine(
        disks=(Disk(name=disk, partitions=partitions),),
        cpu="x86_64" if manifest.arch == "amd64" else "arm64",
        secure_boot=state.secure_boot,
        build=build_of(grub),
        load_config=None if grub.load_config is None else grub.load_config.encode(),
        home=b"(%s,gpt%d)/EFI/BOOT" % (disk, layout.esp),
        memdisk={path: GrubFile(content=text.encode()) for path, text in grub.memdisk.items() if path != "grub.cfg"},
    )


def _files(manifest: ReferenceManifest, number: int | None = None) -> dict[str, GrubFile]:
    """The files of a partition, of the ESP where no number is given, as far as the manifest knows them."""
    disk = manifest.disk
    if disk is None:
        return {}
    files: dict[str, GrubFile] = {}
    for found in disk.files:
        if found.partition == (disk.esp if number is None else number):
            content = None if found.text is None else found.text.encode()
            if found.size == 0:
                content = b""
            files[found.path] = GrubFile(content=content, digests=found.flat, size=found.size, kernel=False)
    return files


def _is_kernel(path: str) -> bool:
    return path.lower() in {"flatcar/vmlinuz-a", "flatcar/vmlinuz-b"}


def kernel_file(manifest: ReferenceManifest, slot: str) -> GrubFile:
    """The kernel of a release as it lies in a slot; the updater writes the same bytes into either."""
    kernel = kernel_of(manifest, slot)
    return GrubFile(digests=kernel.flat, size=kernel.size, authenticode=kernel.authenticode, kernel=True)


def kernel_of(manifest: ReferenceManifest, slot: str) -> Component:
    """The kernel that the image has in that slot, else the one that it has.

    Raises UnsupportedError where there is none.
    """
    kernel = manifest.component("kernel", slot) or manifest.component("kernel")
    if kernel is None:
        raise UnsupportedError(f"{manifest.name}: no kernel that GRUB starts")
    return kernel


def _slot_file(grub: Grub, state: BootState) -> dict[str, GrubFile]:
    """A build without ``gptprio.next`` may be told the slot by a file beside the kernels."""
    if SLOT_FILE not in grub.config or state.slot != "b":
        return {}
    return {SLOT_FILE: GrubFile(content=b"", kernel=False)}
