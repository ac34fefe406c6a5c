"""Kernel images made by hand: headers, a kernel that is one in name alone, and the configuration that it carries."""

from __future__ import annotations

import gzip
import struct

from tests.formats.pe_maker import HEADERS, make_pe

CONFIG = """#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_CC_VERSION_TEXT="gcc (Gentoo 14.2.1_p20241221 p7) \u00fc"
CONFIG_X86=y
CONFIG_X86_64=y
CONFIG_CMDLINE_BOOL=y
CONFIG_CMDLINE="rootflags=rw mount.usrflags=ro"
# CONFIG_CMDLINE_OVERRIDE is not set
# CONFIG_CMDLINE_PARTITION is not set
CONFIG_IKCONFIG=y
"""
PAYLOAD_AT = 0xA00 + 16
"""Where :func:`bzimage` puts the payload: 16 bytes into the protected-mode code, which follows five sectors."""


def embedded(config: str | bytes = CONFIG) -> bytes:
    """A configuration as kernel/configs.c has it."""
    raw = config.encode() if isinstance(config, str) else config
    return b"IKCFG_ST" + gzip.compress(raw, mtime=0) + b"IKCFG_ED"


def vmlinux(*parts: bytes) -> bytes:
    """What stands for a kernel: these parts, with others around them."""
    return b"\x7fELF" + bytes(5000) + b"kernel".join((b"", *parts, b"")) + bytes(3000)


def setup(offset: int, size: int, *, version: int = 0x020F) -> bytes:
    """The x86 boot protocol's header from byte 0x200 on; ``setup_sects``, before it, stays 0, which means 4."""
    return b"\xeb\x6a" + b"HdrS" + struct.pack("<H", version) + bytes(0x40) + struct.pack("<II", offset, size)


def bzimage(payload: bytes, *, root: str = "", header: bytes | None = None) -> bytes:
    """A kernel as x86 boots it, with a dm-verity root hash at byte 64 where one is given."""
    first = setup(16, len(payload)) if header is None else header
    text = bytes(PAYLOAD_AT - HEADERS) + payload
    return make_pe([(b".text", text)], stub=root.encode(), first=first)


def zboot(payload: bytes, *, machine: int = 0xAA64) -> bytes:
    """A self-extracting EFI image, as arm64 has them."""
    made = make_pe([(b".gzdata", payload)], machine=machine)
    return made[:4] + b"zimg" + struct.pack("<II", HEADERS, len(payload)) + made[16:]


def arm64_image(kernel: bytes) -> bytes:
    """An arm64 ``Image``, which is the kernel as it runs."""
    made = make_pe([(b".text", kernel)], machine=0xAA64)
    return made[:56] + b"ARM\x64" + made[60:]
