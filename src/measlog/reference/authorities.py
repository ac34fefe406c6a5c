"""What shim adds to PCR 7: the SBAT level, and its own certificate where that verified the next program.

shim 16.1: ``sbat_var.S`` (the levels), ``sbat.c``, ``shim.c`` and ``tpm.c``. The events are EV_EFI_VARIABLE_AUTHORITY whose
digest is that of a whole UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile 1.06, clause 10.2.6). Which of them
a machine has depends on what it had stored before and on its keys; a certificate of ``db`` is the platform's to name.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence

from attrs import frozen

from measlog.errors import FormatError
from measlog.reference.fields import BANKS, choice, digests, member, text
from measlog.registry import SHIM_LOCK

__all__ = ["Contribution", "contributions", "minimum_sbat", "sbat_levels", "variable_data"]

SBAT_ORIGINAL = "sbat,1,2021030218\n"
"""The level that shim sets where Secure Boot is off or a reset was asked for."""


@frozen(kw_only=True)
class Contribution:
    """An event of PCR 7 that the image decides: what it is, the variable's name, what it says, and its digests.

    ``kind`` is ``sbat-level`` (``text`` is the level) or ``authority`` (``text`` is the certificate's subject).
    """

    kind: str = member(choice("sbat-level", "authority"))
    variable: str = member(text(maximum=64))
    policy: str = member(choice("original", "automatic", "latest", "vendor-certificate"))
    text: str = member(text(maximum=4096, multiline=True))
    digests: Mapping[str, bytes] = member(digests(BANKS))


def sbat_levels(section: bytes) -> dict[str, str]:
    """The levels in shim's ``.sbatlevel`` section: ``automatic`` and ``latest``; FormatError where it is none."""
    if len(section) < 12:
        raise FormatError("too short for its three fields", offset=0, path=".sbatlevel", clause="shim sbat_var.S")
    version, *offsets = struct.unpack_from("<III", section)
    if version != 0:
        raise FormatError(f"version {version}", offset=0, path=".sbatlevel", clause="shim sbat_var.S")
    levels = {}
    for name, offset in zip(("automatic", "latest"), offsets, strict=True):
        text, end, _ = section[4 + offset : 4 + offset + 4096].partition(b"\0")
        if not end or not text.startswith(b"sbat,1,"):
            raise FormatError(f"no {name} level at byte {4 + offset}", path=".sbatlevel", clause="shim sbat_var.S")
        try:
            levels[name] = text.decode("ascii")
        except UnicodeDecodeError:
            raise FormatError(f"the {name} level is not ASCII", path=".sbatlevel", clause="shim sbat_var.S") from None
    return levels


def minimum_sbat(levels: Mapping[str, str]) -> dict[str, int]:
    """The lowest generation of each component that the automatic level lets start.

    Raises FormatError where it is malformed.
    """
    lines = levels.get("automatic", SBAT_ORIGINAL).splitlines()
    found = {}
    for line in lines[1:]:
        match = re.fullmatch(r"([^,]{1,256}),([0-9]{1,9})", line)
        if match is None:
            raise FormatError(
                f"the line {line[:60]!r} is not component,generation", path=".sbatlevel", clause="SBAT.md"
            )
        found[match[1]] = int(match[2])
    return found


def contributions(levels: Mapping[str, str], certificates: Sequence[tuple[str, bytes]]) -> tuple[Contribution, ...]:
    """The events that a shim with these levels and vendor certificates (subject, DER) may add to PCR 7."""
    made = [
        Contribution(
            kind="sbat-level",
            variable="SbatLevel",
            policy=policy,
            text=level,
            digests=_digests("SbatLevel", level.encode()),
        )
        for policy, level in (("original", SBAT_ORIGINAL), *sorted(levels.items()))
    ]
    made += [
        Contribution(
            kind="authority", variable="Shim", policy="vendor-certificate", text=subject, digests=_digests("Shim", der)
        )
        for subject, der in certificates
    ]
    return tuple(made)


def variable_data(name: str, data: bytes) -> bytes:
    """UEFI_VARIABLE_DATA of one of shim's variables."""
    return SHIM_LOCK.bytes_le + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data


def _digests(name: str, data: bytes) -> dict[str, bytes]:
    raw = variable_data(name, data)
    return {bank: hashlib.new(bank, raw).digest() for bank in BANKS}
