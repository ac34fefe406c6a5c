"""Boots of unified kernel images: shim, systemd-boot and the image itself, without GRUB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

from attrs import evolve

from measlog.errors import ManifestError
from measlog.flatcar.boot import (
    CALLING,
    PLATFORM,
    PredictedBoot,
    PredictedEvent,
    action,
    hashes,
    image,
    mok_events,
    registers,
    separator,
)
from measlog.flatcar.registers import NOT_COVERED
from measlog.log.joined import UNTYPED
from measlog.reference.manifest import BootPath, Component, ExpectedEvent, ReferenceManifest
from measlog.reference.uki import PHASES, Uki
from measlog.registry import EventType

__all__ = [
    "PHASE_PATHS",
    "UKI_COVERS",
    "UKI_NOT_COVERED",
    "inner_kernel",
    "path_name",
    "phase_events",
    "phase_path",
    "phases_of",
    "predict_unified",
    "section_events",
    "uki_boot_paths",
    "uki_root_hashes",
    "unified_boots",
]

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

PHASE_PATHS = tuple(PHASES[:count] for count in range(len(PHASES) + 1))
"""How far a boot can have come: from no phase to all of them."""

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
    for one in manifest.components:
        if one.uki is None:
            continue
        for secure in (True, False):
            events = [_program(program.path, program.authenticode) for program in (*before, one)]
            for section, values in one.uki.events():
                events.append(ExpectedEvent(pcr=11, type=EventType.EV_IPL, text=section, digests=values))
            if not secure and one.uki.kernel_authenticode is not None:
                events.append(_program(f"{one.path} .linux", one.uki.kernel_authenticode))
            name = path_name(one, secure_boot=secure)
            paths.append(BootPath(name=name, secure_boot=secure, events=tuple(events)))
    return tuple(paths)


def predict_unified(
    manifest: ReferenceManifest, component: Component, *, secure_boot: bool, phases: tuple[str, ...]
) -> PredictedBoot:
    """The boot of a unified image up to the last of ``phases``: registers 4, 11 and 14, as far as the image decides them.

    The command line in register 12 and the kernel's record in register 9 depend on the versions of loader and kernel.
    """
    assert component.uki is not None
    unknown: dict[int, str] = {}
    events = [action(4, CALLING), separator(4)]
    shim, loader = manifest.component("shim"), manifest.component("systemd-boot")
    if shim is None:
        unknown[14] = "no shim: nobody measures the lists of machine owner keys"
    else:
        mok, reason = mok_events(shim)
        events += [image(shim), *mok]
        if reason is not None:
            unknown[14] = reason
    events += [image(one) for one in (loader, component) if one is not None]
    events += section_events(component.uki)
    if not secure_boot:
        events += inner_kernel(component)
    events += phase_events(phases)
    return PredictedBoot(
        name=path_name(component, secure_boot=secure_boot),
        slot=None,
        chosen=None,
        first_boot=False,
        secure_boot=secure_boot,
        oem=False,
        release=manifest.release or manifest.name,
        bootloader=manifest.release or manifest.name,
        outcome="kernel",
        events=tuple(events),
        pcrs={},
        unknown=unknown,
    )


def section_events(uki: Uki) -> list[PredictedEvent]:
    """What the stub measures of the image that it is in."""
    return [
        PredictedEvent(
            pcr=11,
            kind="section",
            type=EventType.EV_IPL,
            text=name.encode(),
            data=f"{name}\0".encode("utf-16-le"),
            digests=values,
        )
        for name, values in uki.events()
    ]


def inner_kernel(component: Component) -> list[PredictedEvent]:
    """The kernel inside the image, which the firmware loads where Secure Boot is off; none where it is no program."""
    assert component.uki is not None
    if component.uki.kernel_authenticode is None:
        return []
    return [
        PredictedEvent(
            pcr=4,
            kind="image",
            type=EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
            text=f"{component.path} .linux".encode(),
            digests=component.uki.kernel_authenticode,
        )
    ]


def phase_events(phases: tuple[str, ...]) -> list[PredictedEvent]:
    """The phases that the running system measures."""
    words = [phase.encode() for phase in phases]
    return [PredictedEvent(pcr=11, kind="phase", type=UNTYPED, text=w, digests=hashes(w)) for w in words]


def phases_of(path: str | None) -> tuple[tuple[str, ...], ...]:
    """The phases of a path, or of every path where none is named; ManifestError for one that systemd does not measure."""
    if path is None:
        return PHASE_PATHS
    found = tuple(phases for phases in PHASE_PATHS if ":".join(phases) == path)
    if not found:
        raise ManifestError(f"phase {path[:80]!r}: expected one like {':'.join(PHASES[:2])}, or nothing")
    return found


def phase_path(phases: tuple[str, ...]) -> str:
    """How far a boot has come, in words."""
    return ":".join(phases) or "before the initrd"


def unified_boots(
    manifest: ReferenceManifest,
    *,
    secure_boot: bool | None = None,
    phases: tuple[tuple[str, ...], ...] = PHASE_PATHS,
) -> list[PredictedBoot]:
    """The boots of each unified image, one for each phase that systemd measures into register 11, with their registers.

    A secret that is bound to register 11 is opened in one phase: the values of the others are other boots.
    """
    made = []
    for component in manifest.components:
        if component.uki is None:
            continue
        for secure in (True, False) if secure_boot is None else (secure_boot,):
            for reached in phases:
                boot = predict_unified(manifest, component, secure_boot=secure, phases=reached)
                unknown = {**PLATFORM, **boot.unknown, 9: UKI_NOT_COVERED[9], 12: UKI_NOT_COVERED[12]}
                made.append(
                    evolve(
                        boot,
                        name=f"{boot.name}, {phase_path(reached)}",
                        unknown=unknown,
                        pcrs=registers(boot.events, unknown),
                        assumptions=(
                            "register 4: the firmware's first boot option starts shim, and nothing is tried before it",
                            "register 13: nothing is handed to the image beside what is in it",
                        ),
                    )
                )
    return made


def path_name(component: Component, *, secure_boot: bool) -> str:
    """What the boot of a unified image is called."""
    return f"{component.path}, Secure Boot {'on' if secure_boot else 'off'}"


def _program(name: str, values: Mapping[str, bytes]) -> ExpectedEvent:
    return ExpectedEvent(pcr=4, type=EventType.EV_EFI_BOOT_SERVICES_APPLICATION, text=name, digests=values)
