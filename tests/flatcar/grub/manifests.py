"""The reference manifest of the disk that the shared captures were booted from, made from its description alone."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from measlog.reference.manifest import (
    BANKS,
    Component,
    Disk,
    DiskFile,
    Grub,
    Partition,
    ReferenceManifest,
    Source,
)
from tests.flatcar.grub.captures import USR, USR_A, USR_B, read_files

LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
OEM_CONFIG = UUID("c95dc21a-df0e-4340-8d7b-26cbfa9a03e0")


def _all_banks(digests: dict[str, bytes]) -> dict[str, bytes]:
    # The description has no SHA-512 digests; nothing here compares them.
    return {**digests, "sha512": bytes(64)} if set(BANKS) - set(digests) else digests


def manifest(shared: Path, *, updated: bool = False) -> ReferenceManifest:
    """The manifest of the release, or of the next one (``updated``), whose kernel is ``vmlinuz-b``."""
    files = {path: file for (where, path), file in read_files(shared).items() if where == "ESP"}

    def component(role: str, path: str, slot: str | None = None, at: str | None = None) -> Component:
        file = files[path]
        assert file.size is not None
        return Component(
            role=role,
            slot=slot,
            path=at or path,
            size=file.size,
            authenticode=_all_banks(dict(file.authenticode)),
            flat=_all_banks(dict(file.digests)),
        )

    def partition(number: int, label: str, kind: UUID, guid: UUID, bits: int = 0, **filesystem: str) -> Partition:
        return Partition(
            number=number,
            label=label,
            type_guid=kind,
            guid=guid,
            first_lba=4096 * number,
            last_lba=4096 * number + 4095,
            attributes=bits.to_bytes(8, "big"),
            **filesystem,
        )

    esp = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
    bios = UUID("21686148-6449-6e6f-744e-656564454649")
    root = UUID("3884dd41-8582-4404-b9a8-e9b84f2df50e")
    kernel = "flatcar/vmlinuz-b" if updated else "flatcar/vmlinuz-a"
    return ReferenceManifest(
        name="lab",
        release="2.0.0" if updated else "1.0.0",
        arch="amd64",
        sources=(Source(name="flatcar_production_image.bin", size=1, sha256=bytes(32)),),
        components=(
            component("shim", "EFI/boot/bootx64.efi"),
            component("grub", "EFI/boot/grubx64.efi"),
            component("mokmanager", "EFI/boot/mmx64.efi"),
            component("kernel", kernel, "a", "flatcar/vmlinuz-a"),
        ),
        grub=Grub(
            config=(shared / "flatcar" / "grub.cfg").read_text(),
            load_config=(shared / "flatcar" / "load.cfg").read_text(),
            version="2.12",
            profile="flatcar-2.12",
        ),
        disk=Disk(
            sector_size=512,
            disk_guid=UUID(int=1),
            esp=1,
            listed=(1,),
            partitions=(
                partition(
                    1,
                    "EFI-SYSTEM",
                    esp,
                    UUID(int=11),
                    filesystem="fat",
                    filesystem_uuid="5F1A-7C42",
                    filesystem_label="EFI-SYSTEM",
                ),
                partition(2, "BIOS-BOOT", bios, UUID(int=12)),
                partition(3, "USR-A", USR, USR_A, 0x0101 << 48, filesystem="btrfs"),
                partition(4, "USR-B", USR, USR_B),
                partition(6, "OEM", LINUX, UUID(int=16), filesystem="btrfs", filesystem_label="OEM"),
                partition(7, "OEM-CONFIG", OEM_CONFIG, UUID(int=17)),
                partition(9, "ROOT", root, UUID(int=19), filesystem="ext4", filesystem_label="ROOT"),
            ),
            files=tuple(
                DiskFile(partition=1, path=path, size=file.size, flat=_all_banks(dict(file.digests)))
                for path, file in sorted(files.items())
                if file.size is not None and path != "flatcar/vmlinuz-b"
            ),
        ),
    )
