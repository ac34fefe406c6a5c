"""EV_IPL: what boot loaders measure. GRUB, shim, systemd-boot and systemd-stub share the type and tell nothing more.

Which loader wrote an event is concluded from its register and from the beginning of its text; neither is in the
digest. A reader who decides anything looks at the digest check and at the order of the events in their register.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.formats.cursor import Cursor, decode_text, encode_text
from measlog.records.base import Opaque, Record, Utf16Text
from measlog.records.text import looks_like_utf16, printable, read_any, read_opaque, read_utf16
from measlog.registry import Register

__all__ = [
    "PREFIXES",
    "SHIM_VARIABLES",
    "UKI_SECTIONS",
    "GrubCommand",
    "GrubFile",
    "IplText",
    "KernelCommandLine",
    "ModuleCommandLine",
    "ShimVariable",
    "StubCommandLine",
    "UkiSection",
    "read_ipl",
]


@frozen(kw_only=True)
class IplText(Record):
    """Text of one byte a unit behind a ``prefix`` that is in no digest; ``terminator`` holds NUL bytes at the end."""

    default_prefix: ClassVar[str] = ""

    prefix: str = field(validator=instance_of(str))
    text: str = field(validator=instance_of(str))
    terminator: bytes = field(default=b"\0", validator=instance_of(bytes))

    @prefix.default
    def _default_prefix(self) -> str:
        return self.default_prefix

    def _body(self) -> bytes:
        return encode_text(self.prefix) + encode_text(self.text) + self.terminator


@frozen(kw_only=True)
class GrubCommand(IplText):
    """A line that GRUB's script engine ran, after expansion. The digest is that of ``text``."""

    default_prefix: ClassVar[str] = "grub_cmd: "


@frozen(kw_only=True)
class KernelCommandLine(IplText):
    """What the event says is the kernel's command line.

    A GRUB command with the same text has the same digest: only the place in a fully explained register tells them
    apart (A45).
    """

    default_prefix: ClassVar[str] = "kernel_cmdline: "


@frozen(kw_only=True)
class ModuleCommandLine(IplText):
    """Command line of a multiboot module. The digest is that of ``text``."""

    default_prefix: ClassVar[str] = "module_cmdline: "


@frozen(kw_only=True)
class GrubFile(IplText):
    """A file that GRUB read. The digest is that of the file's contents; ``text``, its name, is in none."""


@frozen(kw_only=True)
class ShimVariable(IplText):
    """A variable that shim mirrors (register 14). The digest is that of what shim mirrored; the name is in none."""


@frozen(kw_only=True)
class UkiSection(Utf16Text):
    """A section of a unified kernel image (register 11): measured twice, first its name, then its contents."""


@frozen(kw_only=True)
class StubCommandLine(Utf16Text):
    """Kernel command line as systemd-boot or systemd-stub measured it (register 12, in old versions 8)."""


PREFIXES: tuple[tuple[bytes, type[IplText]], ...] = (
    (b"grub_cmd: ", GrubCommand),
    (b"kernel_cmdline: ", KernelCommandLine),
    (b"module_cmdline: ", ModuleCommandLine),
    (b"grub_kernel_cmdline ", KernelCommandLine),
    (b"grub_module_cmdline ", ModuleCommandLine),
    (b"grub_cmd ", GrubCommand),
    (b"grub_linuxefi ", GrubFile),
    (b"grub_linux ", GrubFile),
    (b"grub_initrd ", GrubFile),
)
"""The beginnings of GRUB's texts, the present ones (with a colon) first, then those of older distribution patches."""

SHIM_VARIABLES = frozenset(
    {"MokList", "MokListX", "MokListTrusted", "MokSBState", "MokDBState", "MokIgnoreDB", "SbatLevel", "MokPolicy"}
    | {"HSIStatus"}
)
UKI_SECTIONS = frozenset(
    {".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"}
    | {".profile", ".dtbauto", ".hwids", ".efifw"}
)

_FILE_REGISTERS = frozenset({Register("pcr", 9), Register("rtmr", 2)})


def read_ipl(cursor: Cursor, register: Register) -> Record:
    """EV_IPL by the beginning of its data and its register. Empty data is possible (quirk Q18)."""
    data = cursor.peek
    for prefix, kind in PREFIXES:
        if data.startswith(prefix):
            return _read_prefixed(cursor, prefix, kind)
    if printable(data):
        name = decode_text(data.rstrip(b"\0"))
        if name in SHIM_VARIABLES or register == Register("pcr", 14):
            return _read_prefixed(cursor, b"", ShimVariable)
        if register in _FILE_REGISTERS:
            return _read_prefixed(cursor, b"", GrubFile)
        return read_any(cursor)
    if looks_like_utf16(data):
        found = read_utf16(cursor)
        if found.text in UKI_SECTIONS:
            return UkiSection(text=found.text, terminator=found.terminator, trailing=found.trailing, spans=found.spans)
        if register in {Register("pcr", 8), Register("pcr", 12)}:
            return StubCommandLine(
                text=found.text, terminator=found.terminator, trailing=found.trailing, spans=found.spans
            )
        return found
    if register in _FILE_REGISTERS and data and b"\0" not in data.rstrip(b"\0"):
        # File names are bytes: GRUB passes on what the file system holds.
        return _read_prefixed(cursor, b"", GrubFile)
    return read_opaque(cursor) if data else Opaque(raw=b"", **cursor.finish())


def _read_prefixed(cursor: Cursor, prefix: bytes, kind: type[IplText]) -> IplText:
    start = cursor.pos
    data = cursor.rest("text")
    body = data.rstrip(b"\0") if len(data) > len(prefix) else data
    end = max(len(body), len(prefix))
    cursor.mark("prefix", start, start + len(prefix))
    cursor.mark("text", start + len(prefix), start + end)
    if end != len(data):
        cursor.mark("terminator", start + end, start + len(data))
    return kind(
        prefix=decode_text(prefix),
        text=decode_text(data[len(prefix) : end]),
        terminator=data[end:],
        **cursor.finish(),
    )
