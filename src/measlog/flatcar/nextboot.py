"""The next boots of a machine: one good log of it, and the release that the updater brings.

The updater replaces the kernel and USR of the slot that is not in use; firmware, shim and GRUB stay. What the platform
measures is therefore taken from the log, what GRUB will do is computed from its configuration, and the partition table
is the one in the log with the attributes that GRUB and the updater leave.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from uuid import UUID

from attrs import evolve, field, frozen

from measlog.errors import UnsupportedError
from measlog.flatcar.boot import PredictedBoot, PredictedEvent, hashes, oem_script, predict_state, registers
from measlog.flatcar.grub import GrubFile
from measlog.flatcar.grub.parser import Script
from measlog.flatcar.logged import (
    RUNNING_SYSTEM,
    authorities,
    banks_of,
    moves_between,
    platform_event,
    secure_boot_of,
    staying,
)
from measlog.flatcar.machine import USR_GUIDS, BootState, kernel_of
from measlog.flatcar.partitions import PartitionTable
from measlog.log import Event, EventLog
from measlog.reference.fields import FrozenMapping
from measlog.reference.manifest import ReferenceManifest
from measlog.registry import EventType

__all__ = ["Observed", "observe", "predict_from_log"]

_PLATFORM = (0, 1, 2, 3, 6)
_PREFIX = re.compile(rb"set prefix=\((hd[0-9]+),gpt[0-9]+\)")
_OEM = re.compile(rb"(?:source|\.) \((hd[0-9]+),gpt[0-9]+\)/grub\.cfg")
_SETTINGS_LIMIT = 64
_OTHER = {"a": "b", "b": "a"}
_GPT_EVENTS = {EventType.EV_EFI_GPT_EVENT, EventType.EV_EFI_GPT_EVENT2}


@frozen(kw_only=True)
class Observed:
    """What a good log tells of its machine: how it was booted, and what stands before and after GRUB's own part."""

    log: EventLog = field(repr=False)
    banks: tuple[str, ...]
    secure_boot: bool
    disk: bytes
    state: BootState
    oem: GrubFile | None
    kernel: GrubFile
    boot: PredictedBoot = field(repr=False)


def predict_from_log(
    manifest: ReferenceManifest,
    log: EventLog,
    bootloader: ReferenceManifest,
    *,
    secure_boot: bool | None = None,
    slot: str | None = None,
    first_boot: bool | None = None,
    oem_grub_cfg: bytes | GrubFile | None = None,
) -> list[PredictedBoot]:
    """The machine's next boots: unchanged, into the update, later ones of it, and back in the old slot.

    The first is the boot that comes if nothing is updated. ``manifest`` is the release that the updater installs,
    ``bootloader`` the one whose shim and GRUB the machine has. Each boot's ``moves`` says register by register what
    changes from the log and why. Raises UnsupportedError where the log is no boot of that boot loader.
    """
    seen = observe(log, bootloader)
    given: GrubFile | None
    if oem_grub_cfg is None:
        given = seen.oem
    else:
        given = oem_grub_cfg if isinstance(oem_grub_cfg, GrubFile) else GrubFile(content=oem_grub_cfg)
    boots = []
    for plan in _plans(seen.state.slot):
        if slot not in {None, plan.booted} or secure_boot not in {None, seen.secure_boot} or first_boot:
            continue
        boots.append(_next(plan, seen, manifest, bootloader, given))
    return [boot for boot in boots if boot.outcome == "kernel"]


@frozen(kw_only=True)
class _Plan:
    """A boot to come: the slot GRUB chooses, and how the attributes of the slots were before, by slot."""

    name: str
    slot: str
    new: bool
    fails: bool = False
    table: str

    @property
    def booted(self) -> str:
        return _OTHER[self.slot] if self.fails else self.slot


def _plans(now: str) -> Iterator[_Plan]:
    other = _OTHER[now]
    yield _Plan(name=f"slot {now}, nothing updated", slot=now, new=False, table="settled")
    yield _Plan(name=f"slot {other}, first boot of the update", slot=other, new=True, table="updated")
    yield _Plan(name=f"slot {other}, later boot of the update", slot=other, new=True, table="successful")
    yield _Plan(
        name=f"slot {now}, back after slot {other} was not marked successful", slot=now, new=False, table="spent"
    )
    yield _Plan(
        name=f"slot {now}, because the kernel of slot {other} cannot be read",
        slot=other,
        new=False,
        fails=True,
        table="updated",
    )


def observe(log: EventLog, bootloader: ReferenceManifest) -> Observed:
    """How the machine of the log was booted; UnsupportedError where ``bootloader`` does not explain its PCR 8."""
    banks = banks_of(log)
    commands = [event for event in log if event.pcr == 8]
    texts = [_text(event) for event in commands]
    disk = next((match.group(1) for text in texts if (match := _PREFIX.match(text))), None)
    if disk is None or not banks:
        raise UnsupportedError("PCR 8 of the log does not begin like a boot of Flatcar's GRUB")
    secure_boot = secure_boot_of(log)
    bank = banks[-1]
    wanted = [event.digests.get(bank) for event in commands]
    cache: dict[tuple[bytes, bool], Script] = {}
    for oem in _oem_configurations(log, texts):
        for state in (
            BootState(slot=slot, first_boot=first, secure_boot=secure_boot)
            for slot in ("a", "b")
            for first in (False, True)
        ):
            boot = predict_state(bootloader, bootloader, state, oem_grub_cfg=oem, disk=disk, cache=cache)
            if [event.digests.get(bank) for event in boot.of(8)] == wanted:
                return Observed(
                    log=log,
                    banks=banks,
                    secure_boot=secure_boot,
                    disk=disk,
                    state=state,
                    oem=oem,
                    kernel=_kernel(log, secure_boot=secure_boot),
                    boot=boot,
                )
    raise UnsupportedError(f"PCR 8 of the log is no boot that the boot loader of {bootloader.name} makes by itself")


def _text(event: Event) -> bytes:
    return event.raw.rstrip(b"\0").partition(b": ")[2]


def _oem_configurations(log: EventLog, texts: list[bytes]) -> Iterator[GrubFile | None]:
    """What the OEM configuration may have been: none, or the settings recorded after it was sourced."""
    start = next((index for index, text in enumerate(texts) if _OEM.fullmatch(text)), None)
    if start is None:
        yield None
        return
    name = texts[start].partition(b" ")[2]
    file = next((event for event in log if event.pcr == 9 and event.raw == name + b"\0"), None)
    if file is None:
        yield None
        return
    for count in range(_SETTINGS_LIMIT):
        try:
            script = oem_script(texts[start + 1 : start + 1 + count])
        except UnsupportedError:
            return
        yield GrubFile(content=script, digests=file.digests)


def _kernel(log: EventLog, *, secure_boot: bool) -> GrubFile:
    """The kernel that was booted: the last file that GRUB read, and the last image with Secure Boot on."""
    files = [event for event in log if event.pcr == 9]
    images = [event for event in log if event.pcr == 4 and event.type == EventType.EV_EFI_BOOT_SERVICES_APPLICATION]
    kernel = next((event for event in files if b"vmlinuz" in event.raw), None)
    if kernel is None or not images:
        raise UnsupportedError("the log does not show which kernel was started")
    return GrubFile(digests=kernel.digests, authenticode=images[-1].digests if secure_boot else {}, kernel=True)


def _next(
    plan: _Plan,
    seen: Observed,
    manifest: ReferenceManifest,
    bootloader: ReferenceManifest,
    oem: GrubFile | None,
) -> PredictedBoot:
    state = BootState(slot=plan.slot, secure_boot=seen.secure_boot, fails=plan.fails)
    kernel = None if plan.new else seen.kernel
    made = predict_state(manifest, bootloader, state, oem_grub_cfg=oem, disk=seen.disk, kernel=kernel)
    unknown: dict[int, str] = {}
    assumptions = [
        "registers 0 to 3 and 6: firmware, its settings and its boot options stay as they are in the log",
        *(note for note in made.assumptions if not note.startswith(("register 4", "register 8"))),
    ]
    events = _events(plan, seen, made, bootloader, unknown)
    if 5 not in unknown:
        assumptions.append("register 5: the updater gives the new slot priority 2 and one try, the old one priority 1")
    if plan.new:
        _register_7(seen, manifest, unknown, assumptions)
    start = staying(seen.log, seen.banks, (*_PLATFORM, 7, 14), unknown)
    values = registers((e for e in events if e.pcr in {4, 5, 8, 9}), unknown, start)
    pcrs = {bank: values[bank] for bank in seen.banks}
    for pcr in (10, 15):
        unknown[pcr] = RUNNING_SYSTEM
    for pcr in unknown:
        for bank in pcrs.values():
            bank.pop(pcr, None)
    return evolve(
        made,
        name=plan.name,
        first_boot=False,
        release=(manifest.release or manifest.name) if plan.new else "as in the log",
        events=tuple(events),
        pcrs=pcrs,
        unknown=unknown,
        assumptions=tuple(assumptions),
        moves=_moves(seen, pcrs, plan),
    )


def _events(
    plan: _Plan, seen: Observed, made: PredictedBoot, bootloader: ReferenceManifest, unknown: dict[int, str]
) -> list[PredictedEvent]:
    """The log's events in their order, with GRUB's part, the kernel and the partition table as they will be."""
    bank = seen.banks[-1]
    programs = [event for event in made.of(4) if event.kind == "image"][:2]
    started = made.events.index(programs[-1]) + 1 if programs else 0
    waiting = list(programs)
    grub = [*made.events[started:]]
    events: list[PredictedEvent] = []
    for event in seen.log:
        if event.pcr is None or (event.pcr > 9 and event.pcr != 14) or event.type == EventType.EV_NO_ACTION:
            continue
        if event.pcr in {8, 9}:
            events += grub
            grub = []
        elif event.pcr == 4 and len(waiting) < len(programs):
            # Shim has started: its own images are those of the boot loader's release, in their order.
            if waiting and event.digests.get(bank) == waiting[0].digests.get(bank):
                events.append(waiting.pop(0))
        elif event.pcr == 4 and waiting and event.digests.get(bank) == waiting[0].digests.get(bank):
            events.append(waiting.pop(0))
        elif event.pcr == 5 and event.type in _GPT_EVENTS:
            events += _partition_table(event, plan, seen, bootloader, unknown)
        else:
            events.append(platform_event(event, seen.banks))
    if waiting or not programs:
        unknown[4] = "the log does not show shim and GRUB of the boot loader's release"
    return [event for event in events if event.pcr not in unknown]


def _partition_table(
    event: Event, plan: _Plan, seen: Observed, bootloader: ReferenceManifest, unknown: dict[int, str]
) -> list[PredictedEvent]:
    table = PartitionTable.from_event(event.raw, _numbers(bootloader))
    if table is None or event.type == EventType.EV_EFI_GPT_EVENT2:
        unknown[5] = "the partition table in the log has partitions whose numbers are not known"
        return []
    now, other = USR_GUIDS[seen.state.slot], USR_GUIDS[_OTHER[seen.state.slot]]
    if now not in table.attributes or other not in table.attributes:
        unknown[5] = "the partition table in the log has no two USR partitions"
        return []
    data = table.with_attributes(_attributes(plan, table.attributes, now, other)).data
    return [PredictedEvent(pcr=5, kind="gpt", type=event.type, text=b"", data=data, digests=hashes(data))]


def _numbers(manifest: ReferenceManifest) -> dict[UUID | str, int]:
    assert manifest.disk is not None
    numbers: dict[UUID | str, int] = {}
    for partition in manifest.disk.partitions:
        numbers |= {partition.guid: partition.number, partition.label: partition.number}
    return numbers


def _attributes(plan: _Plan, before: Mapping[UUID, int], now: UUID, other: UUID) -> dict[UUID, int]:
    """Attributes of the two slots at the start of the boot; other bits than gptprio's stay."""
    keep = ~(0x1FF << 48)
    current, spare = before[now] & keep, before[other] & keep
    priority = before[now] >> 48 & 0xF
    if plan.table == "settled":
        # GRUB has counted down the try, and the running system has marked the slot successful.
        return {now: current | (0x100 | priority) << 48, other: before[other]}
    new = {"updated": 0x012, "successful": 0x102, "spent": 0x002}[plan.table]
    return {now: current | 0x101 << 48, other: spare | new << 48}


def _register_7(seen: Observed, manifest: ReferenceManifest, unknown: dict[int, str], assumptions: list[str]) -> None:
    """Register 7 stays where the new kernel is verified by an authority that the log has; shim names each once."""
    if not seen.secure_boot:
        return
    kernel = kernel_of(manifest, "a")
    if not kernel.signers:
        assumptions.append("register 7: the new kernel is signed as the one in the log is")
        return
    shown = authorities(seen.log)
    chain = {certificate.sha256 for signer in kernel.signers for certificate in signer.chain}
    if not chain & shown:
        unknown[7] = "no certificate of the new kernel's signature is among the authorities in the log"


_WHY = {
    0: "firmware code",
    1: "firmware settings and boot options",
    2: "option ROMs",
    3: "settings of option ROMs",
    4: "shim and GRUB stay, the kernel is the new release's where Secure Boot is on",
    5: "priority, tries and success of the USR slots in the partition table",
    6: "vendor specific",
    7: "Secure Boot keys and the authorities that verified something",
    8: "GRUB's commands and the kernel's arguments name the slot",
    9: "the kernel file is another one",
    11: "not extended on this way to boot",
    12: "not extended on this way to boot",
    13: "not extended on this way to boot",
    14: "the lists of machine owner keys",
}


def _moves(seen: Observed, pcrs: Mapping[str, Mapping[int, bytes]], plan: _Plan) -> Mapping[int, str]:
    """Register by register: whether it moves from the log's value, and why."""
    bank = seen.banks[-1]
    why = dict(_WHY)
    if plan.slot == seen.state.slot and seen.state.first_boot:
        why[8] = "the first boot is over"
    return FrozenMapping(moves_between(seen.log.replay(bank), pcrs[bank], why))
