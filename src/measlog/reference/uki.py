"""Unified kernel images: the sections that systemd-stub measures, and PCR 11 at each phase of the boot.

systemd's ``src/fundamental/uki.c`` (the sections in the order in which they are measured, never ``.pcrsig``) and
``systemd-measure(1)`` (the phases). For each section that is there: H(name with its NUL), then H(content up to its
virtual size).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from attrs import frozen

from measlog.errors import LimitExceededError
from measlog.formats.pecoff import PeImage, PeSection
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.reference.fields import BANKS, digests, integer, member, optional, record, sequence, text

__all__ = ["PHASES", "Uki", "UkiPhase", "UkiSection", "read_uki"]

MEASURED: tuple[tuple[str, int], ...] = (
    (".linux", 0),
    (".osrel", 0),
    (".cmdline", 0),
    (".initrd", 0),
    (".ucode", 256),
    (".splash", 0),
    (".dtb", 0),
    (".uname", 254),
    (".sbat", 254),
    (".pcrpkey", 0),
    (".profile", 257),
    (".dtbauto", 257),
    (".hwids", 257),
)
"""Section and the first systemd version whose stub knows it, in the order of measurement."""

PHASES = ("enter-initrd", "leave-initrd", "sysinit", "ready")
"""The words that systemd extends PCR 11 with while the machine starts (systemd-pcrphase)."""

_STUB = re.compile(rb"#### LoaderInfo: systemd-stub ([0-9]{2,4})([-.~+0-9A-Za-z]{0,64}) ####")


@frozen(kw_only=True)
class UkiSection:
    """A measured section: name, size in bytes, digests of its content."""

    name: str = member(text(maximum=16))
    size: int = member(integer())
    digests: Mapping[str, bytes] = member(digests(BANKS))


@frozen(kw_only=True)
class UkiPhase:
    """PCR 11 when a phase has been reached; ``path`` as systemd writes it, empty before the first one."""

    path: str = member(text(maximum=256))
    pcr11: Mapping[str, bytes] = member(digests(BANKS))


@frozen(kw_only=True)
class Uki:
    """What a unified kernel image measures. ``stub`` is systemd's version, ``authenticode`` that of the kernel inside."""

    stub: str | None = member(optional(text(maximum=128)), default=None)
    release: str | None = member(optional(text(maximum=4096, multiline=True)), default=None)
    command_line: str | None = member(optional(text(maximum=65_536, multiline=True)), default=None)
    kernel_authenticode: Mapping[str, bytes] | None = member(optional(digests(BANKS)), default=None)
    sections: tuple[UkiSection, ...] = member(sequence(record(UkiSection), maximum=64))
    phases: tuple[UkiPhase, ...] = member(sequence(record(UkiPhase), maximum=16))

    def events(self) -> list[tuple[str, Mapping[str, bytes]]]:
        """What the stub extends PCR 11 with, in order: the section's name and the digests, two for each section."""
        made: list[tuple[str, Mapping[str, bytes]]] = []
        for section in self.sections:
            name = section.name.encode() + b"\0"
            made.append((section.name, {bank: hashlib.new(bank, name).digest() for bank in section.digests}))
            made.append((section.name, section.digests))
        return made


def read_uki(
    data: bytes | memoryview,
    image: PeImage,
    kernel_authenticode: Mapping[str, bytes] | None,
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> Uki:
    """The measured sections of the unified kernel image ``data`` and the values of PCR 11 that follow."""
    stub = None
    magic = image.section(".sdmagic")
    if magic is not None and (found := _STUB.search(image.content(data, magic))):
        stub = (found[1] + found[2]).decode()
    known = 1 << 16 if stub is None else int(re.match("[0-9]+", stub)[0])  # type: ignore[index]
    texts: dict[str, str] = {}
    sections = []
    for name, since in MEASURED:
        section = image.section(name)
        if section is None or since > known:
            continue
        content = _loaded(data, image, section, limits)
        values = {bank: hashlib.new(bank, content).digest() for bank in BANKS}
        sections.append(UkiSection(name=name, size=len(content), digests=values))
        if name in {".osrel", ".cmdline"}:
            texts[name] = content.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    partial = Uki(sections=tuple(sections), phases=())
    return Uki(
        stub=stub,
        release=texts.get(".osrel"),
        command_line=texts.get(".cmdline"),
        kernel_authenticode=kernel_authenticode,
        sections=tuple(sections),
        phases=_phases(partial),
    )


def _loaded(data: bytes | memoryview, image: PeImage, section: PeSection, limits: Limits) -> bytes:
    """The section as it is in memory: up to its virtual size, zeros where the file has less."""
    if section.virtual_size > limits.file_size:
        raise LimitExceededError(
            f"a virtual size of {section.virtual_size} bytes, the limit is {limits.file_size}", path=section.name
        )
    return image.content(data, section).ljust(section.virtual_size, b"\0")


def _phases(uki: Uki) -> tuple[UkiPhase, ...]:
    values = {bank: bytes(hashlib.new(bank).digest_size) for bank in BANKS}
    for _, event in uki.events():
        values = {bank: hashlib.new(bank, values[bank] + event[bank]).digest() for bank in BANKS}
    made = [UkiPhase(path="", pcr11=values)]
    for index, phase in enumerate(PHASES):
        word = phase.encode()
        values = {bank: hashlib.new(bank, values[bank] + hashlib.new(bank, word).digest()).digest() for bank in BANKS}
        made.append(UkiPhase(path=":".join(PHASES[: index + 1]), pcr11=values))
    return tuple(made)
