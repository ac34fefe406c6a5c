"""Which release, slot and boot path a log shows, looked up by digest among any number of manifests.

This recognises; it does not vouch. A log alone can say anything, so what is identified here becomes a verdict only
through a quote and :class:`measlog.Verifier`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of, optional

from measlog.errors import UnsupportedError
from measlog.log import Event, EventLog
from measlog.reference.manifest import BANKS, ReferenceManifest
from measlog.registry import EventType

__all__ = ["Identification", "IdentifiedProgram", "IdentifiedRelease", "Identifier", "UnknownProgram"]

_PREFERRED = ("sha256", "sha384", "sha512", "sha1")
_PROGRAMS = frozenset({(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION), (9, EventType.EV_IPL)})
_KERNEL = re.compile(rb"(?:grub_cmd: linux\S*|kernel_cmdline:) (?:\([^)\s]*\))?/?flatcar/vmlinuz-([ab])(?=[\s\0]|$)")
_PATH_REGISTERS = (8, 11)


@frozen
class IdentifiedRelease:
    """A manifest as it names itself; ``version`` is the number that rollback floors are compared with."""

    name: str
    release: str | None
    channel: str | None
    arch: str
    version: int


@frozen(kw_only=True)
class IdentifiedProgram:
    """An event whose digest manifests name: its role, and every release that has this very program."""

    role: str = field(validator=instance_of(str))
    pcr: int = field(validator=instance_of(int))
    event: int = field(validator=instance_of(int))
    digest: bytes = field(validator=instance_of(bytes))
    releases: tuple[IdentifiedRelease, ...] = field(validator=deep_iterable(instance_of(IdentifiedRelease)))


@frozen(kw_only=True)
class UnknownProgram:
    """A program that the firmware started, or a file that the boot loader read, which no manifest names."""

    pcr: int = field(validator=instance_of(int))
    event: int = field(validator=instance_of(int))
    digest: bytes = field(validator=instance_of(bytes))


@frozen(kw_only=True)
class Identification:
    """What a log shows, component by component. ``bank`` is the one whose digests were looked up.

    ``boot_paths`` are the names of the paths whose commands, or sections, are exactly those of the log; ``slot`` is that
    path's, else the one that the kernel's file name tells.
    """

    bank: str = field(validator=instance_of(str))
    programs: tuple[IdentifiedProgram, ...] = field(validator=deep_iterable(instance_of(IdentifiedProgram)))
    unknown: tuple[UnknownProgram, ...] = field(validator=deep_iterable(instance_of(UnknownProgram)))
    boot_paths: tuple[str, ...] = field(validator=deep_iterable(instance_of(str)))
    slot: str | None = field(validator=optional(instance_of(str)))

    def releases(self, role: str) -> tuple[IdentifiedRelease, ...]:
        """The releases that have the programs of one role; none where the role was not recognised."""
        found = dict.fromkeys(one for program in self.programs if program.role == role for one in program.releases)
        return tuple(found)

    @property
    def release(self) -> IdentifiedRelease | None:
        """The release that has every program recognised; None where there is none, or several."""
        common = self._common()
        return common[0] if len(common) == 1 else None

    @property
    def mixed(self) -> bool:
        """Whether no single release has all the programs: a boot loader of one with the kernel of another is normal."""
        return bool(self.programs) and not self._common()

    def _common(self) -> list[IdentifiedRelease]:
        sets = [set(program.releases) for program in self.programs]
        return sorted(set.intersection(*sets), key=lambda one: (one.version, one.name)) if sets else []


class Identifier:
    """An index by digest over manifests, which are not kept: thousands of them fit.

    ``manifests`` may be a generator. What is looked up is the digest in the log's strongest bank.
    """

    def __init__(self, manifests: Iterable[ReferenceManifest]) -> None:
        self._releases: list[IdentifiedRelease] = []
        self._programs: dict[tuple[int, bytes], dict[str, list[int]]] = {}
        self._paths: dict[bytes, list[tuple[int, str, str | None]]] = {}
        for manifest in manifests:
            self._add(manifest)

    def __len__(self) -> int:
        """How many manifests are indexed."""
        return len(self._releases)

    def _add(self, manifest: ReferenceManifest) -> None:
        number = len(self._releases)
        self._releases.append(
            IdentifiedRelease(manifest.name, manifest.release, manifest.channel, manifest.arch, manifest.version)
        )
        for component in manifest.components:
            for bank in BANKS:
                keys = {(4, component.authenticode[bank]), (9, component.flat[bank])}
                if component.uki is not None and component.uki.kernel_authenticode is not None:
                    keys.add((4, component.uki.kernel_authenticode[bank]))
                for key in keys:
                    owners = self._programs.setdefault(key, {}).setdefault(component.role, [])
                    if not owners or owners[-1] != number:
                        owners.append(number)
        for path in manifest.boot_paths:
            for register in _PATH_REGISTERS:
                events = path.of(register)
                for bank in BANKS if events else ():
                    if all(bank in event.digests for event in events):
                        sequence = _sequence(register, bank, [event.digests[bank] for event in events])
                        self._paths.setdefault(sequence, []).append((number, path.name, path.slot))

    def identify(self, log: EventLog, *, bank: str | None = None) -> Identification:
        """What ``log`` shows. ``bank`` is the strongest that the log has unless given; UnsupportedError without one."""
        chosen = bank if bank is not None else next((one for one in _PREFERRED if one in log.algorithms), None)
        if chosen is None or chosen not in log.algorithms:
            raise UnsupportedError(f"the log has no bank {chosen or 'of ' + ', '.join(_PREFERRED)}")
        programs: list[IdentifiedProgram] = []
        unknown: list[UnknownProgram] = []
        histories: dict[int, list[bytes]] = {register: [] for register in _PATH_REGISTERS}
        slot: str | None = None
        for event in log:
            digest = event.digests.get(chosen)
            if digest is None or event.type == EventType.EV_NO_ACTION or event.pcr is None:
                continue
            if event.pcr in histories:
                histories[event.pcr].append(digest)
                slot = _slot(event, digest, chosen) or slot
            elif (event.pcr, event.type) in _PROGRAMS:
                owners = self._programs.get((event.pcr, digest))
                if owners is None:
                    unknown.append(UnknownProgram(pcr=event.pcr, event=event.index, digest=digest))
                    continue
                for role, numbers in owners.items():
                    releases = tuple(self._releases[number] for number in numbers)
                    programs.append(
                        IdentifiedProgram(role=role, pcr=event.pcr, event=event.index, digest=digest, releases=releases)
                    )
        paths = self._boot_paths(histories, chosen, programs)
        slots = {one for _, one in paths if one is not None}
        return Identification(
            bank=chosen,
            programs=tuple(programs),
            unknown=tuple(unknown),
            boot_paths=tuple(dict.fromkeys(name for name, _ in paths)),
            slot=slots.pop() if len(slots) == 1 else slot,
        )

    def _boot_paths(
        self, histories: dict[int, list[bytes]], bank: str, programs: Sequence[IdentifiedProgram]
    ) -> list[tuple[str, str | None]]:
        """The paths with the very events of the log, of the releases whose boot loader was recognised."""
        loaders = {one for program in programs if program.role in {"grub", "uki"} for one in program.releases}
        found = []
        for register, digests in histories.items():
            for number, name, slot in self._paths.get(_sequence(register, bank, digests), ()):
                if not loaders or self._releases[number] in loaders:
                    found.append((name, slot))
        return found


def _sequence(register: int, bank: str, digests: Iterable[bytes]) -> bytes:
    return hashlib.sha256(f"{register}:{bank}:".encode() + b"".join(digests)).digest()


def _slot(event: Event, digest: bytes, bank: str) -> str | None:
    """The slot of the kernel that a command of GRUB names, where its digest is that of its text."""
    found = _KERNEL.match(event.raw)
    if found is None:
        return None
    text = event.raw.partition(b": ")[2].removesuffix(b"\0")
    return found[1].decode() if hashlib.new(bank, text).digest() == digest else None
