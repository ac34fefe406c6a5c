"""The next boots of a machine that starts a unified kernel image: one good log of it, and the release of the update.

An update brings another image. The firmware, its settings and shim stay, so what they measure is taken from the log; what
follows from the image is computed from its manifest. The log also shows what this loader, this stub and this kernel
record of a command line: another version of them may record something else, which is then unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import evolve, field, frozen

from measlog.errors import UnsupportedError
from measlog.flatcar.boot import PredictedBoot, PredictedEvent, hashes, image, registers
from measlog.flatcar.logged import (
    RUNNING_SYSTEM,
    authorities,
    banks_of,
    moves_between,
    platform_event,
    secure_boot_of,
    staying,
)
from measlog.flatcar.unified import PHASE_PATHS, inner_kernel, phase_events, phase_path, section_events
from measlog.log import Event, EventLog
from measlog.records.tagged import TaggedEvent
from measlog.reference.fields import FrozenMapping
from measlog.reference.manifest import Component, ReferenceManifest
from measlog.reference.uki import Uki
from measlog.registry import EventType

__all__ = ["ObservedUnified", "observe_unified", "predict_unified_from_log"]

_PLATFORM = (0, 1, 2, 3, 6, 7, 14)
_FOLLOWED = frozenset({*range(10), 11, 12, 13, 14})
_STARTED = EventType.EV_EFI_BOOT_SERVICES_APPLICATION
_LOAD_OPTIONS, _INITRD = 0x8F3B22ED, 0x8F3B22EC
"""Tags of Linux' EFI stub (``drivers/firmware/efi/libstub/efistub.h``)."""


@frozen(kw_only=True)
class ObservedUnified:
    """What a good log tells of its machine.

    ``image`` was booted, behind ``shim`` and ``loader`` where they were. ``inner`` says whether the kernel inside was
    measured as a program of its own, as it is where Secure Boot is off. ``started`` are the indices of the events that
    measured them into register 4, in their order.
    """

    log: EventLog = field(repr=False)
    banks: tuple[str, ...]
    secure_boot: bool
    shim: Component | None
    loader: Component | None
    image: Component
    inner: bool
    started: tuple[int, ...]


@frozen(kw_only=True)
class _Plan:
    """A boot to come: the image and the loader that are on the disk then, each with the name of its release."""

    name: str
    image: Component
    loader: Component | None
    release: str
    bootloader: str


def predict_unified_from_log(
    manifest: ReferenceManifest,
    log: EventLog,
    present: ReferenceManifest,
    *,
    secure_boot: bool | None = None,
    phases: tuple[tuple[str, ...], ...] = PHASE_PATHS,
) -> list[PredictedBoot]:
    """The machine's next boots, each at each of ``phases``: unchanged, into each image of the update, and back.

    ``manifest`` is the release of the update, ``present`` the one whose image the log shows. Where the update brings
    another systemd-boot, the boots behind that one are listed too: whether it has been installed is not known. Raises
    UnsupportedError where the log is no boot of an image of ``present``.
    """
    seen = observe_unified(log, present)
    if secure_boot not in {None, seen.secure_boot}:
        return []
    now: dict[tuple[str, ...], PredictedBoot] = {}
    boots = []
    for plan in _plans(seen, manifest, present):
        for reached in phases:
            boot = _next(plan, seen, reached)
            before = now.setdefault(reached, boot)
            boots.append(evolve(boot, moves=_moves(before, boot, seen.banks[-1])))
    return boots


def observe_unified(log: EventLog, present: ReferenceManifest) -> ObservedUnified:
    """Which image of ``present`` the log shows, and what started it; UnsupportedError where it shows none."""
    banks = banks_of(log)
    if not banks:
        raise UnsupportedError("the log has no bank that a manifest has digests for")
    bank, secure_boot = banks[-1], secure_boot_of(log)
    started = [e for e in log if e.pcr == 4 and e.type == _STARTED]
    digests = [event.digests.get(bank) for event in started]
    sections = [event.digests.get(bank) for event in log if event.pcr == 11]
    for one in present.components:
        if one.uki is None or sections != [values.get(bank) for _, values in one.uki.events()]:
            continue
        for shim, loader, inner in _ways(present, one):
            chain = [program.digests.get(bank) for program in _programs(shim, loader, one, inner=inner)]
            if digests[-len(chain) :] == chain:
                return ObservedUnified(
                    log=log,
                    banks=banks,
                    secure_boot=secure_boot,
                    shim=shim,
                    loader=loader,
                    image=one,
                    inner=inner,
                    started=tuple(event.index for event in started[-len(chain) :]),
                )
    raise UnsupportedError(f"PCR 4 and 11 of the log are no boot of a unified kernel image of {present.name}")


def _ways(present: ReferenceManifest, one: Component) -> Iterator[tuple[Component | None, Component | None, bool]]:
    """What may have started the image, and whether the kernel inside is measured: the longest chains first."""
    shim, loader = present.component("shim"), present.component("systemd-boot")
    for inner in (True, False) if inner_kernel(one) else (False,):
        yield from dict.fromkeys((*way, inner) for way in ((shim, loader), (shim, None), (None, loader), (None, None)))


def _programs(shim: Component | None, loader: Component | None, one: Component, *, inner: bool) -> list[PredictedEvent]:
    """What register 4 has of them, in order."""
    programs = [image(program) for program in (shim, loader, one) if program is not None]
    return programs + (inner_kernel(one) if inner else [])


def _plans(seen: ObservedUnified, manifest: ReferenceManifest, present: ReferenceManifest) -> Iterator[_Plan]:
    """The unchanged machine comes first. Going back is there wherever there is an update."""
    here, there = present.release or present.name, manifest.release or manifest.name
    old = _Plan(
        name=f"{seen.image.path} of {here}", image=seen.image, loader=seen.loader, release=here, bootloader=here
    )
    yield evolve(old, name=f"{old.name}, nothing updated")
    # The same image may lie in two places; which of them is started makes no difference.
    images = {c.flat["sha256"]: c for c in reversed(manifest.components) if c.uki is not None}
    images.pop(seen.image.flat["sha256"], None)
    new = [evolve(old, name=f"{c.path} of {there}", image=c, release=there) for c in reversed(images.values())]
    if not new:
        return
    for plan in new:
        yield evolve(plan, name=f"{plan.name}, updated")
    yield evolve(old, name=f"{old.name}, back after the update")
    loader = manifest.component("systemd-boot")
    if seen.loader is None or loader is None or loader.authenticode == seen.loader.authenticode:
        return
    for plan in (*new, old):
        yield evolve(plan, name=f"{plan.name}, behind the systemd-boot of {there}", loader=loader, bootloader=there)


def _next(plan: _Plan, seen: ObservedUnified, phases: tuple[str, ...]) -> PredictedBoot:
    unknown: dict[int, str] = dict.fromkeys((10, 15), RUNNING_SYSTEM)
    assumptions = [
        "registers 0 to 3 and 6: firmware, its settings and its boot options stay as they are in the log",
        "register 5: the partition table stays as it is in the log",
        "register 13: beside the image lies what lay there, or nothing",
    ]
    if any(e.pcr == 4 and e.type == _STARTED and e.index < seen.started[0] for e in seen.log):
        assumptions.append("register 4: what was started before these programs is started again")
    if plan.image is not seen.image:
        _other_image(plan.image, seen, unknown, assumptions)
    if plan.loader is not seen.loader:
        _other_loader(plan, seen, unknown)
    events = [event for event in (*_events(plan, seen, unknown), *phase_events(phases)) if event.pcr not in unknown]
    start = staying(seen.log, seen.banks, _PLATFORM, unknown)
    values = registers((event for event in events if event.pcr not in _PLATFORM), unknown, start)
    return PredictedBoot(
        name=f"{plan.name}, {phase_path(phases)}",
        slot=None,
        chosen=None,
        first_boot=False,
        secure_boot=seen.secure_boot,
        oem=False,
        release=plan.release,
        bootloader=plan.bootloader,
        outcome="kernel",
        events=tuple(events),
        pcrs={bank: {pcr: value for pcr, value in values[bank].items() if pcr not in unknown} for bank in seen.banks},
        unknown=unknown,
        assumptions=tuple(assumptions),
    )


def _other_image(new: Component, seen: ObservedUnified, unknown: dict[int, str], assumptions: list[str]) -> None:
    """What cannot be known of an image that the log does not show."""
    old = seen.image
    assert old.uki is not None
    assert new.uki is not None
    if (new.uki.command_line is None) is not (old.uki.command_line is None):
        unknown |= dict.fromkeys((9, 12), "only one of the images has a command line of its own")
    if new.uki.stub is None or new.uki.stub != old.uki.stub:
        reason = f"the new image's stub is of version {new.uki.stub}, the log's records were made by {old.uki.stub}"
        unknown |= dict.fromkeys((9, 12), reason)
        assumptions.append("register 4: the new stub starts the kernel inside the image as the one in the log does")
    if any(event.pcr == 13 for event in seen.log):
        unknown[13] = "what lies beside the new image is not known"
    if seen.inner and not inner_kernel(new):
        unknown[4] = "the kernel inside the new image is no program of its own"
    if any(event.pcr == 9 for event in seen.log) and _content(new.uki, ".linux") != _content(old.uki, ".linux"):
        assumptions.append("register 9: the new kernel records its command line and initrd as the one in the log does")
    if seen.secure_boot:
        _register_7(new, old, seen, unknown)


def _register_7(new: Component, old: Component, seen: ObservedUnified, unknown: dict[int, str]) -> None:
    """Register 7 stays where the same authorities verify the new image: each is named once, by firmware and by shim."""
    shown = authorities(seen.log)
    mine, theirs = (
        {c.sha256 for signer in one.signers if signer.verified != "no" for c in signer.chain} & shown
        for one in (new, old)
    )
    if not mine:
        unknown[7] = "no certificate of the new image's signature is among the authorities in the log"
    elif mine != theirs:
        unknown[7] = "other authorities of those in the log have signed the new image"


def _other_loader(plan: _Plan, seen: ObservedUnified, unknown: dict[int, str]) -> None:
    assert plan.loader is not None
    assert seen.loader is not None
    if plan.loader.version is None or plan.loader.version != seen.loader.version:
        reason = f"systemd-boot {plan.loader.version} may record other things than {seen.loader.version} in the log"
        unknown |= dict.fromkeys((5, 12), reason)
    if seen.secure_boot:
        _register_7(plan.loader, seen.loader, seen, unknown)


def _events(plan: _Plan, seen: ObservedUnified, unknown: dict[int, str]) -> Iterator[PredictedEvent]:
    """The log's events in their order, with what the image decides as it will be."""
    assert plan.image.uki is not None
    same = plan.image is seen.image
    programs = _programs(seen.shim, plan.loader, plan.image, inner=seen.inner)
    # There are fewer where the kernel inside is no program: register 4 is unknown then.
    measured = dict(zip(seen.started, programs, strict=False))
    sections = section_events(plan.image.uki)
    for event in seen.log:
        if event.pcr is None or event.type == EventType.EV_NO_ACTION or event.pcr not in _FOLLOWED:
            continue
        if event.index in measured:
            yield measured[event.index]
        elif event.pcr == 11:
            yield from sections
            sections = []
        elif same or event.pcr not in {9, 12}:
            yield platform_event(event, seen.banks)
        elif event.pcr not in unknown:
            made = _recorded_again(event, seen.image.uki, plan.image.uki)
            if made is None:
                unknown[event.pcr] = (
                    f"event {event.index} of the log does not follow from the image that it was made by"
                )
            else:
                yield made


def _recorded_again(event: Event, old: Uki | None, new: Uki) -> PredictedEvent | None:
    """What the same program records of the new image, where the log's event is what it records of the old one."""
    assert old is not None
    made = None
    tag = event.data.id if isinstance(event.data, TaggedEvent) else None
    if tag == _INITRD:
        # Where there is microcode too, the kernel is handed both together.
        if _all_equal(event, _content(old, ".initrd")) and _content(new, ".ucode") is None:
            made = _content(new, ".initrd"), event.raw
    elif tag in {None, _LOAD_OPTIONS}:
        for end in ("\0", ""):
            before, after = (_line(one, end) for one in (old, new))
            if before is not None and after is not None and _all_equal(event, hashes(before)):
                made = hashes(after), event.raw if tag == _LOAD_OPTIONS else after
    if made is None or made[0] is None:
        return None
    assert event.pcr is not None
    return PredictedEvent(pcr=event.pcr, kind="options", type=event.type, text=b"", data=made[1], digests=made[0])


def _content(uki: Uki, name: str) -> Mapping[str, bytes] | None:
    """The digests of a section's content."""
    return next((section.digests for section in uki.sections if section.name == name), None)


def _line(uki: Uki, end: str) -> bytes | None:
    """The command line as it is hashed: UTF-16, with the NUL at its end until systemd 252."""
    line = uki.command_line
    # What is made of space around it, and of text that is not UTF-8, differs between versions.
    return None if line is None or line != line.strip() or "\\" in line else (line + end).encode("utf-16-le")


def _all_equal(event: Event, digests: Mapping[str, bytes] | None) -> bool:
    known = set(event.digests) & set(digests or ())
    return digests is not None and bool(known) and all(event.digests[bank] == digests[bank] for bank in known)


_WHY = {
    0: "firmware code",
    1: "firmware settings and boot options",
    2: "option ROMs",
    3: "settings of option ROMs",
    4: "the programs that are started: shim, systemd-boot, the unified kernel image",
    5: "the partition table, which systemd-boot leaves alone",
    6: "vendor specific",
    7: "Secure Boot keys and the authorities that verified something",
    8: "no GRUB",
    9: "the kernel's record of the command line and initrd, which are the image's",
    11: "the sections of the unified kernel image, and the phases of the boot",
    12: "the command line as it is handed over, which is the image's",
    13: "what lies beside the image",
    14: "the lists of machine owner keys",
}


def _moves(now: PredictedBoot, boot: PredictedBoot, bank: str) -> Mapping[int, str]:
    """Register by register, against the unchanged machine in the same phase: no log tells of the phases."""
    before = now.pcrs[bank]
    after = {pcr: value for pcr, value in boot.pcrs[bank].items() if pcr in before}
    return FrozenMapping(moves_between(before, after, _WHY))
