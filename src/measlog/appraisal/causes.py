"""What the first difference between two histories of a register most likely comes from, in a sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from measlog.registry import EventType

if TYPE_CHECKING:
    from measlog.appraisal.diff import Difference, Side

__all__ = ["likely_cause"]

_BY_REGISTER = {
    0: "another firmware",
    1: "other firmware settings, or boot options in another order",
    2: "another option ROM, or one more or less",
    3: "other settings of an option ROM",
    5: "another partition table (disk GUID, slots' attributes), or another way out of the firmware",
    6: "something vendor specific",
    7: "other Secure Boot keys or revocations, or something else verified the images",
    11: "another unified kernel image, or another phase of the boot",
    12: "another command line of a unified kernel image",
    13: "other system extensions",
    14: "keys of the machine's owner, or another shim",
}
_OEM = re.compile(r"grub_cmd: source \(hd\d+,gpt\d+\)/grub\.cfg")
_FIRST_BOOT = "flatcar.first_boot=detected"
_SLOT = re.compile(r"vmlinuz-[ab]|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\bslot=[ab]\b")
_KERNEL = re.compile(r"/vmlinuz-[ab]$")


def likely_cause(row: Difference) -> str:
    """The cause that fits the place, by register and by what the texts say: a guess for a person, nothing rests on it."""
    sides = [side for side in (row.left, row.right) if side is not None]
    if row.left is not None and row.right is not None and row.left.digest == row.right.digest:
        return "the same, told under another type"
    if row.pcr == 8:
        return _command(sides)
    if row.pcr == 9:
        return _file(row, sides)
    if row.pcr == 4:
        return _image(sides)
    return _BY_REGISTER.get(row.pcr, "something that the running system measured")


def _texts(sides: list[Side]) -> list[str]:
    return [side.text or "" for side in sides]


def _command(sides: list[Side]) -> str:
    texts = _texts(sides)
    if any(_OEM.fullmatch(text) for text in texts):
        return "the OEM partition of one machine has a grub.cfg, that of the other has none"
    if any("linux_append" in text or "linux_console" in text or "oem_id" in text for text in texts):
        return "an OEM grub.cfg that sets other values"
    if any("first_boot" in text for text in texts):
        return f"a first boot and a later one ({_FIRST_BOOT})"
    slots = [set(_SLOT.findall(text)) for text in texts]
    if len(slots) == 2 and slots[0] != slots[1] and all(slots):
        return "another slot"
    return "another grub.cfg, or somebody at the GRUB prompt"


def _file(row: Difference, sides: list[Side]) -> str:
    texts = _texts(sides)
    if any("/efi/boot/grub.cfg" in text.lower() for text in texts):
        return "a grub.cfg beside GRUB on the ESP, which replaces the embedded one"
    if row.kind == "changed" and len(set(texts)) == 1 and _KERNEL.search(texts[0]):
        return "another kernel"
    if row.kind == "changed" and len(set(texts)) == 1:
        return f"other contents of {texts[0]}"
    if all(_KERNEL.search(text) for text in texts):
        return "the kernel of another slot"
    if any(text.endswith(".mod") for text in texts):
        return "GRUB modules on the ESP"
    return "a file that only one of the two read"


def _image(sides: list[Side]) -> str:
    if any(side.type == EventType.EV_EFI_ACTION for side in sides):
        return "boot options that were tried, and failed, before the one that booted"
    return "another shim, GRUB or kernel, or Secure Boot off, with which the kernel is not measured here"
