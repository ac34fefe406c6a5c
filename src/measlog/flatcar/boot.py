"""Boots that have not happened yet: their events and the registers they leave.

A release decides a small number of boots: by slot, by whether it is the first one, by what happens when a slot does not
start, with Secure Boot on or off. For each of them GRUB's configuration is run on a model of the machine, and shim,
GRUB and kernel are put in the places where the firmware and shim measure them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from measlog.errors import ManifestError, UnsupportedError
from measlog.flatcar.grub import GrubBoot, GrubEvent, GrubFile, Outcome, replay, run
from measlog.flatcar.machine import BootState, bootloader_of, build_machine, build_of, states
from measlog.reference.fields import FrozenMapping
from measlog.reference.manifest import BANKS, BootPath, Component, ExpectedEvent, ReferenceManifest
from measlog.registry import ALGORITHMS_BY_NAME, EventType, hash_constructor

if TYPE_CHECKING:
    from measlog.flatcar.cmdline import ArgumentModel
    from measlog.flatcar.grub.parser import Script
    from measlog.log import EventLog

__all__ = [
    "PredictedBoot",
    "PredictedEvent",
    "action",
    "boot_paths",
    "hashes",
    "image",
    "mok_events",
    "oem_script",
    "predict",
    "predict_state",
    "registers",
    "separator",
]

CALLING = b"Calling EFI Application from Boot Option"
RETURNING = b"Returning from EFI Application from Boot Option"
SEPARATOR = bytes(4)
_UNTOUCHED = (11, 12, 13)


def _digests(value: Mapping[str, bytes]) -> Mapping[str, bytes]:
    return value if isinstance(value, FrozenMapping) else FrozenMapping(value)


@frozen(kw_only=True)
class PredictedEvent:
    """An event that a boot will make.

    ``kind`` says who makes it and why: ``action``, ``separator``, ``image`` (register 4), ``command``, ``cmdline``
    (register 8), ``file``, ``options`` (register 9), ``section``, ``phase`` (register 11), ``mok`` (register 14),
    ``platform`` (taken from a log). ``text`` is what was hashed, where that is text, else the name of what was measured,
    which no digest covers. ``data`` is the event's data in the log where it is known. ``digests`` has every bank that
    can be computed: none of a text that is open. ``arguments`` are the rules that such a command line will keep, at the
    place of ``{arguments}`` in its text.
    """

    pcr: int
    kind: str
    type: EventType
    text: bytes
    data: bytes | None = None
    digests: Mapping[str, bytes] = field(converter=_digests, repr=False)
    arguments: ArgumentModel | None = field(default=None, repr=False)

    @property
    def authenticated(self) -> bool:
        """Whether the digest covers the text."""
        return bool(self.digests) and self.kind in {"action", "command", "cmdline", "options"}


def _registers(value: Mapping[str, Mapping[int, bytes]]) -> Mapping[str, Mapping[int, bytes]]:
    return FrozenMapping({bank: FrozenMapping(values) for bank, values in value.items()})


def _reasons(value: Mapping[int, str]) -> Mapping[int, str]:
    return FrozenMapping(value)


@frozen(kw_only=True)
class PredictedBoot:
    """One boot: ``events`` in the order they are made, ``pcrs`` as ``{bank: {pcr: bytes}}``.

    ``unknown`` says for each register that is in no bank of ``pcrs`` why; ``assumptions`` on what the others rest.
    ``slot`` is the one that is booted, ``chosen`` the one that was tried first (the same unless it did not start).
    ``release`` names the manifest of the kernel, ``bootloader`` that of shim and GRUB. ``attributes`` are those of
    partitions that GRUB writes, by number. ``moves`` says what changes from a machine's log, where one was given.
    """

    name: str
    slot: str | None
    chosen: str | None
    first_boot: bool
    secure_boot: bool
    oem: bool
    release: str
    bootloader: str
    outcome: str
    events: tuple[PredictedEvent, ...] = field(repr=False)
    pcrs: Mapping[str, Mapping[int, bytes]] = field(converter=_registers, repr=False)
    unknown: Mapping[int, str] = field(converter=_reasons, repr=False)
    assumptions: tuple[str, ...] = ()
    attributes: Mapping[int, int] = field(factory=dict, repr=False)
    moves: Mapping[int, str] = field(factory=dict, repr=False)

    def __repr__(self) -> str:
        return f"<PredictedBoot {self.name}: {len(self.events)} events, unknown: {len(self.unknown)} registers>"

    def __str__(self) -> str:
        from measlog.view.compare import boot_page  # noqa: PLC0415 - presentation is loaded when asked for

        return boot_page(self).to_text()

    def _repr_html_(self) -> str:
        from measlog.view.notebook import boot_html  # noqa: PLC0415 - presentation is loaded when asked for

        return boot_html(self)

    def of(self, pcr: int) -> tuple[PredictedEvent, ...]:
        """The events of one register, in order."""
        return tuple(event for event in self.events if event.pcr == pcr)

    @property
    def command_line(self) -> int | None:
        """Which of register 8's events, from 0, is the kernel command line; None where no kernel starts.

        Whatever the label of an event in a log says, the event at this place is the command line (A45).
        """
        found = [index for index, event in enumerate(self.of(8)) if event.kind == "cmdline"]
        return found[-1] if found else None

    @property
    def linux_command(self) -> int | None:
        """Which of register 8's events, from 0, is the ``linux`` command that carries the same arguments."""
        last = self.command_line
        if last is None:
            return None
        events = self.of(8)[:last]
        return next((i for i in range(last - 1, -1, -1) if events[i].text.startswith((b"linux ", b"linuxefi "))), None)


def predict(
    manifest: ReferenceManifest,
    log: EventLog | None = None,
    bootloader: ReferenceManifest | None = None,
    secure_boot: bool | None = None,  # noqa: FBT001  (the published signature)
    slot: str | None = None,
    first_boot: bool | None = None,  # noqa: FBT001
    oem_grub_cfg: bytes | GrubFile | None = None,
    arguments: ArgumentModel | Iterable[str | bytes] | None = None,
    phase: str | None = None,
) -> list[PredictedBoot]:
    """Every boot that the release of ``manifest`` decides, or those that the arguments leave.

    ``bootloader`` is the manifest of the release that shim and GRUB come from, where the machine was installed with
    another one. ``oem_grub_cfg`` is the ``grub.cfg`` of the OEM partition, ``arguments`` what the operator appends to
    it: kernel arguments one by one, for boots with other digests, or a model that they will keep, for boots whose
    registers 8 and 9 are unknown and whose command line says what may stand at which place. ``log`` is a good log of the
    machine: what the platform measures is taken from it, and only boots with its Secure Boot state and disk are listed.
    A release of unified kernel images has a boot for each image and each phase that systemd measures, and none of the
    other variations; ``phase`` leaves one phase, by its path (``enter-initrd:leave-initrd``, empty before the first).
    ``bootloader`` is then the manifest of the release whose image the log shows, where ``manifest`` is an update of it.

    Raises UnsupportedError for a boot chain without GRUB or with a GRUB whose rules are not known, for a log that is no
    boot of that boot loader, and for arguments that would not reach the kernel, LimitExceededError for a configuration
    that does not end, ManifestError for a slot other than a and b, a phase that there is not, or a release without a
    boot loader that can be followed.
    """
    if slot not in {None, "a", "b"}:
        raise ManifestError(f"slot {slot!r}: expected a or b")
    if manifest.grub is None and any(component.uki is not None for component in manifest.components):
        given = (slot, first_boot, oem_grub_cfg, arguments, None if log is not None else bootloader)
        if any(value is not None for value in given):
            raise UnsupportedError(
                f"{manifest.name}: its unified kernel images have no boots but by Secure Boot and phase"
            )
        return _unified(manifest, log, bootloader or manifest, secure_boot=secure_boot, phase=phase)
    if phase is not None:
        raise UnsupportedError(f"{manifest.name}: its boots have no phases that systemd measures")
    loader = bootloader_of(bootloader or manifest)
    if arguments is not None:
        from measlog.flatcar.arguments import boots_with_arguments  # noqa: PLC0415  (most predictions need no more)

        oem = _oem_file(log, loader, oem_grub_cfg)
        return boots_with_arguments(
            lambda file: predict(manifest, log, bootloader, secure_boot, slot, first_boot, file), arguments, oem
        )
    if log is not None:
        from measlog.flatcar.nextboot import predict_from_log  # noqa: PLC0415  (needs logs; most predictions do not)

        return predict_from_log(
            manifest, log, loader, secure_boot=secure_boot, slot=slot, first_boot=first_boot, oem_grub_cfg=oem_grub_cfg
        )
    cache: dict[tuple[bytes, bool], Script] = {}
    assert loader.grub is not None
    # A boot loader that does not look for another slot has no boot that falls back to one.
    falls_back = "gptprio" in build_of(loader.grub).modules
    return [
        predict_state(manifest, loader, state, oem_grub_cfg=oem_grub_cfg, cache=cache)
        for state in states(secure_boot=secure_boot, slot=slot, first_boot=first_boot, falls_back=falls_back)
    ]


def _unified(
    manifest: ReferenceManifest,
    log: EventLog | None,
    present: ReferenceManifest,
    *,
    secure_boot: bool | None,
    phase: str | None,
) -> list[PredictedBoot]:
    # These modules are made of what is here.
    from measlog.flatcar.nextunified import predict_unified_from_log  # noqa: PLC0415
    from measlog.flatcar.unified import phases_of, unified_boots  # noqa: PLC0415

    phases = phases_of(phase)
    if log is None:
        return unified_boots(manifest, secure_boot=secure_boot, phases=phases)
    return predict_unified_from_log(manifest, log, present, secure_boot=secure_boot, phases=phases)


def _oem_file(
    log: EventLog | None, loader: ReferenceManifest, oem_grub_cfg: bytes | GrubFile | None
) -> GrubFile | None:
    """The OEM ``grub.cfg`` that is given, else what the log shows of it."""
    if oem_grub_cfg is not None:
        return oem_grub_cfg if isinstance(oem_grub_cfg, GrubFile) else GrubFile(content=oem_grub_cfg)
    if log is None:
        return None
    from measlog.flatcar.nextboot import observe  # noqa: PLC0415  (needs logs; most predictions do not)

    return observe(log, loader).oem


def predict_state(
    manifest: ReferenceManifest,
    bootloader: ReferenceManifest,
    state: BootState,
    *,
    oem_grub_cfg: bytes | GrubFile | None = None,
    disk: bytes = b"hd0",
    cache: dict[tuple[bytes, bool], Script] | None = None,
    kernel: GrubFile | None = None,
    known: Mapping[str, GrubFile] | None = None,
    typed: Sequence[bytes] = (),
) -> PredictedBoot:
    """One boot of one state. ``disk`` is GRUB's name of the disk; ``kernel`` is booted in place of the manifest's.

    ``known`` are files of the ESP, by path, of which more is known than the manifest says. ``typed`` are lines that a
    person gives to GRUB's command line, where the menu is shown.
    """
    name = state.name if oem_grub_cfg is None else f"{state.name}, with an OEM configuration"
    assert bootloader.grub is not None
    if manifest.arch == "arm64" and not build_of(bootloader.grub).arm64:
        reason = "how this GRUB starts a kernel on arm64, and what is measured then, is not known"
        return PredictedBoot(
            **_identity(name, state, manifest, bootloader, oem=oem_grub_cfg is not None),
            slot=state.slot,
            outcome="unknown",
            events=(),
            pcrs={},
            unknown=dict.fromkeys((4, 8, 9, 14), reason),
        )
    machine = build_machine(
        manifest, bootloader, state, oem_grub_cfg=oem_grub_cfg, disk=disk, kernel=kernel, known=known
    )
    boot = run(bootloader.grub.config.encode(), machine, cache=cache, typed=typed)
    events, unknown = _before_grub(bootloader)
    events += [_from_grub(event) for event in boot.events]
    pcrs = registers(events, unknown)
    for pcr in (4, 8, 9):
        if not any(pcr in values for values in pcrs.values()):
            unknown[pcr] = "the digest of a file or program is not known in any bank"
    return PredictedBoot(
        **_identity(name, state, manifest, bootloader, oem=oem_grub_cfg is not None),
        slot=_slot(boot),
        outcome=boot.outcome.value,
        events=tuple(events),
        pcrs=pcrs,
        unknown=unknown,
        assumptions=(
            "register 4: the firmware's first boot option starts shim, and nothing is tried before it",
            f"register 8: the disk is {disk.decode()} to GRUB",
            *boot.assumptions,
        ),
        attributes={number: bits for (_disk, number), bits in boot.attributes.items()},
    )


def _identity(
    name: str, state: BootState, manifest: ReferenceManifest, bootloader: ReferenceManifest, *, oem: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "chosen": state.slot,
        "first_boot": state.first_boot,
        "secure_boot": state.secure_boot,
        "oem": oem,
        "release": manifest.release or manifest.name,
        "bootloader": bootloader.release or bootloader.name,
    }


def _slot(boot: GrubBoot) -> str | None:
    if boot.outcome is not Outcome.KERNEL or boot.kernel is None:
        return None
    return {b"-a": "a", b"-b": "b"}.get(boot.kernel[-2:])


PLATFORM = {
    0: "firmware code: the platform's",
    1: "firmware settings and boot options: the platform's",
    2: "option ROMs: the platform's",
    3: "settings of option ROMs: the platform's",
    5: "the partition table as it is on that machine",
    6: "vendor specific: the platform's",
    7: "Secure Boot keys: the platform's",
}


def _before_grub(bootloader: ReferenceManifest) -> tuple[list[PredictedEvent], dict[int, str]]:
    """Firmware and shim, up to GRUB's start, as far as the image decides it."""
    unknown = dict(PLATFORM)
    shim, grub = bootloader.component("shim"), bootloader.component("grub")
    events = [action(4, CALLING), separator(4)]
    if shim is not None:
        events.append(image(shim))
        mok, reason = mok_events(shim)
        events += mok
        if reason is not None:
            unknown[14] = reason
    else:
        unknown[14] = "no shim: nobody measures the lists of machine owner keys"
    if grub is not None:
        events.append(image(grub))
    return events, unknown


def mok_events(shim: Component) -> tuple[list[PredictedEvent], str | None]:
    """What shim measures of its key lists where the owner has not touched them, or why that is not known."""
    lists = (("MokList", shim.mok_list), ("MokListX", shim.mok_list_x))
    if any(digests is None for _, digests in lists):
        return [], "what shim mirrors into MokList and MokListX is not in the manifest"
    events = [
        PredictedEvent(
            pcr=14, kind="mok", type=EventType.EV_IPL, text=name.encode(), data=name.encode() + b"\0", digests=d
        )
        for name, d in lists
        if d is not None
    ]
    trusted = b"MokListTrusted"
    events.append(
        PredictedEvent(
            pcr=14, kind="mok", type=EventType.EV_IPL, text=trusted, data=trusted + b"\0", digests=hashes(b"\x01")
        )
    )
    return events, None


def hashes(data: bytes) -> Mapping[str, bytes]:
    """The digests of some bytes in every bank."""
    return _remembered(data) if len(data) <= _SHORT else _hashes(data)


def _hashes(data: bytes) -> Mapping[str, bytes]:
    made: dict[str, bytes] = {}
    for bank in BANKS:
        constructor = hash_constructor(bank)
        assert constructor is not None
        made[bank] = constructor(data).digest()
    return FrozenMapping(made)


_SHORT = 2048
# The boots of a release share most of their commands.
_remembered = lru_cache(maxsize=512)(_hashes)


def action(pcr: int, text: bytes) -> PredictedEvent:
    """An EV_EFI_ACTION."""
    return PredictedEvent(
        pcr=pcr, kind="action", type=EventType.EV_EFI_ACTION, text=text, data=text, digests=hashes(text)
    )


def separator(pcr: int) -> PredictedEvent:
    """The separator that ends the firmware's part."""
    return PredictedEvent(
        pcr=pcr, kind="separator", type=EventType.EV_SEPARATOR, text=b"", data=SEPARATOR, digests=hashes(SEPARATOR)
    )


def image(component: Component) -> PredictedEvent:
    """A program that firmware or shim loads: its Authenticode digest in register 4."""
    return PredictedEvent(
        pcr=4,
        kind="image",
        type=EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
        text=component.path.encode(),
        digests=component.authenticode,
    )


_TYPES = {"image": EventType.EV_EFI_BOOT_SERVICES_APPLICATION, "options": EventType.EV_EVENT_TAG}


def _from_grub(event: GrubEvent) -> PredictedEvent:
    kind = _TYPES.get(event.kind, EventType.EV_IPL)
    digests = event.digests
    if not digests and event.hashed is not None:
        digests = hashes(event.hashed)
    return PredictedEvent(
        pcr=event.pcr,
        kind=event.kind,
        type=kind,
        text=event.text,
        data=event.data or None,
        digests=digests,
    )


def registers(
    events: Iterable[PredictedEvent], unknown: Mapping[int, str], start: Mapping[str, Mapping[int, bytes]] | None = None
) -> dict[str, dict[int, bytes]]:
    """The registers that the events leave, in every bank that all events of a register have a digest for.

    Registers 8 and 9 and 11 to 13 stay zero where nothing extends them, unless they are ``unknown``. ``start`` gives
    registers as they are.
    """
    by_pcr: dict[int, list[PredictedEvent]] = {8: [], 9: []}
    for event in events:
        by_pcr.setdefault(event.pcr, []).append(event)
    made: dict[str, dict[int, bytes]] = {}
    for bank in BANKS:
        values = dict(start.get(bank, {})) if start is not None else {}
        for pcr, made_there in by_pcr.items():
            if pcr not in unknown and all(bank in event.digests for event in made_there):
                values[pcr] = replay((event.digests[bank] for event in made_there), bank)
        for pcr in _UNTOUCHED:
            if pcr not in unknown:
                values.setdefault(pcr, bytes(ALGORITHMS_BY_NAME[bank].size))
        made[bank] = dict(sorted(values.items()))
    return made


def oem_script(commands: Sequence[bytes]) -> bytes:
    """An OEM ``grub.cfg`` that runs the given commands as they were recorded, each a ``set`` or an assignment.

    The commands that a verified register 8 shows between ``source (hd0,gpt6)/grub.cfg`` and the next command of the
    image say all that an OEM configuration of settings can have done, so that the rest of the boot can be predicted
    from them. Raises UnsupportedError for any other command: what it did is not in its text.
    """
    lines = []
    for command in commands:
        text = command[4:] if command.startswith(b"set ") else command
        name, equals, _value = text.partition(b"=")
        if not equals or not name.replace(b"_", b"a").isalnum() or name[:1].isdigit() or b"\0" in text:
            raise UnsupportedError(f"{command!r} is not a setting of a variable")
        quoted = b"'" + text.replace(b"'", b"'\\''") + b"'"
        lines.append((b"set " if command.startswith(b"set ") else b"") + quoted + b"\n")
    return b"".join(lines)


def boot_paths(manifest: ReferenceManifest) -> tuple[BootPath, ...]:
    """The boots of a release in the form that its manifest carries."""
    paths = []
    for boot in predict(manifest):
        events = tuple(
            ExpectedEvent(
                pcr=event.pcr,
                type=int(event.type),
                text=event.text.decode("utf-8", "backslashreplace") or None,
                digests={bank: event.digests[bank] for bank in BANKS if bank in event.digests},
            )
            for event in boot.events
        )
        paths.append(
            BootPath(
                name=boot.name,
                slot=boot.slot,
                first_boot=boot.first_boot,
                secure_boot=boot.secure_boot,
                events=events,
            )
        )
    return tuple(paths)
