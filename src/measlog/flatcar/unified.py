"""Boots of unified kernel images: shim, systemd-boot and the image itself, without GRUB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

from measlog.flatcar.registers import NOT_COVERED
from measlog.reference.manifest import BootPath, Component, ExpectedEvent, ReferenceManifest
from measlog.registry import EventType

__all__ = ["UKI_COVERS", "UKI_NOT_COVERED", "uki_boot_paths", "uki_root_hashes"]

UKI_COVERS: Mapping[int, str] = {
    4: "shim, systemd-boot and the unified kernel image; the kernel inside it where Secure Boot is off",
    11: "the sections of the unified kernel image, and each phase of the boot",
}
UKI_NOT_COVERED: Mapping[int, str] = {
    **{register: reason for register, reason in NOT_COVERED.items() if register != 11},
    8: "no GRUB",
    9: "the kernel's own record of its command line and initrd, which PCR 11 covers in the image",
    12: "the command line as the boot loader hands it over",
}

_ROOT = re.compile(r"(?:^|\s)verity\.usrhash=([0-9a-f]{64})(?=\s|$)")
_DEVICE = re.compile(r"(?:^|\s)verity\.usr=PARTUUID=([0-9a-fA-F-]{36})(?=\s|$)")


def uki_root_hashes(components: tuple[Component, ...]) -> dict[UUID, bytes]:
    """The dm-verity root hash that the command lines of unified images name for each USR partition, by its GUID."""
    found = {}
    for component in components:
        line = component.uki.command_line if component.uki is not None else None
        if line is None:
            continue
        roots, devices = _ROOT.findall(line), _DEVICE.findall(line)
        if len(roots) == len(devices) == 1:
            found[UUID(devices[0])] = bytes.fromhex(roots[0])
    return found


def uki_boot_paths(manifest: ReferenceManifest) -> tuple[BootPath, ...]:
    """For each unified image the boot with Secure Boot on and off."""
    before = [one for role in ("shim", "systemd-boot") if (one := manifest.component(role)) is not None]
    paths = []
    for image in manifest.components:
        if image.uki is None:
            continue
        for secure in (True, False):
            events = [_program(one.path, one.authenticode) for one in (*before, image)]
            for name, values in image.uki.events():
                events.append(ExpectedEvent(pcr=11, type=EventType.EV_IPL, text=name, digests=values))
            if not secure and image.uki.kernel_authenticode is not None:
                events.append(_program(f"{image.path} .linux", image.uki.kernel_authenticode))
            state = "on" if secure else "off"
            paths.append(BootPath(name=f"{image.path}, Secure Boot {state}", secure_boot=secure, events=tuple(events)))
    return tuple(paths)


def _program(name: str, values: Mapping[str, bytes]) -> ExpectedEvent:
    return ExpectedEvent(pcr=4, type=EventType.EV_EFI_BOOT_SERVICES_APPLICATION, text=name, digests=values)
