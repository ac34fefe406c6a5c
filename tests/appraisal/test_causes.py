"""Likely causes: guesses in words, by what is known to differ between two real boots or by the text alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import measlog as ml
from measlog.appraisal.causes import likely_cause
from measlog.appraisal.diff import Difference, Side
from measlog.registry import EventType
from tests.conftest import FIXTURES


def causes(left: Path, right: Path) -> dict[int, str]:
    logs = [ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes()) for folder in (left, right)]
    return dict(ml.diff(logs[0], logs[1]).likely_causes)


@pytest.mark.parametrize(
    ("left", "right", "pcr", "word"),
    [
        ("usr-a-first-boot-secureboot", "usr-a-secureboot", 8, "a first boot and a later one"),
        ("usr-a-secureboot", "usr-b-after-update", 8, "another slot"),
        ("usr-a-secureboot", "usr-b-after-update", 9, "the kernel of another slot"),
        ("usr-a-secureboot", "usr-b-after-update", 5, "another partition table"),
        ("oem-qemu-first-boot", "oem-tampered-init", 8, "an OEM grub.cfg that sets other values"),
        ("oem-qemu-first-boot", "oem-tampered-init", 9, "other contents of (hd0,gpt6)/grub.cfg"),
        ("usr-a-first-boot-secureboot", "oem-qemu-first-boot", 7, "other Secure Boot keys"),
        ("usr-a-first-boot-secureboot", "oem-qemu-first-boot", 4, "Secure Boot off"),
    ],
)
def test_what_is_known_to_differ(shared: Path, left: str, right: str, pcr: int, word: str) -> None:
    """ORIGIN.md says in what the captures differ."""
    captures = shared / "flatcar" / "captures"
    assert word in causes(captures / left, captures / right)[pcr]


def test_an_oem_file_that_only_one_machine_has() -> None:
    found = causes(FIXTURES / "flatcar-lab-good", FIXTURES / "flatcar-lab-tampered")
    assert "has a grub.cfg, that of the other has none" in found[8]


def side(text: str | None, digest: bytes = b"a", kind: EventType = EventType.EV_IPL) -> Side:
    return Side(event=1, type=kind, digest=digest, text=text)


OEM = "the OEM partition of one machine has a grub.cfg, that of the other has none"
SETS = "an OEM grub.cfg that sets other values"
PROMPT = "another grub.cfg, or somebody at the GRUB prompt"
FIRST = "a first boot and a later one (flatcar.first_boot=detected)"
BESIDE = "a grub.cfg beside GRUB on the ESP, which replaces the embedded one"
ONE_READ = "a file that only one of the two read"
IMAGE = "another shim, GRUB or kernel, or Secure Boot off, with which the kernel is not measured here"
A, B = "7130c94a-213a-4e5a-8e26-6cce9662f132", "e03dd35c-7c2d-4a47-b3fe-27f15780a57c"


@pytest.mark.parametrize(
    ("pcr", "left", "right", "said"),
    [
        (8, side("a"), side("a", kind=EventType.EV_ACTION), "the same, told under another type"),
        (0, side("a"), side("a", kind=EventType.EV_ACTION), "the same, told under another type"),
        (8, side("grub_cmd: ls"), None, PROMPT),
        (8, None, side("grub_cmd: ls"), PROMPT),
        (8, side(None), side(None, b"b"), PROMPT),
        (8, side("grub_cmd: source (hd0,gpt6)/grub.cfg"), None, OEM),
        (8, side("grub_cmd: set suf="), side("grub_cmd: source (hd10,gpt12)/grub.cfg", b"b"), OEM),
        (8, side("grub_cmd: source (hd0,gpt6)/grub.cfg.old"), None, PROMPT),
        (8, side("x grub_cmd: source (hd0,gpt6)/grub.cfg"), None, PROMPT),
        (8, side("grub_cmd: source (hd0,gpt6)/grubxcfg"), None, PROMPT),
        (8, side("grub_cmd: set linux_append=a"), side("grub_cmd: set linux_append=b", b"b"), SETS),
        (8, None, side("grub_cmd: set linux_console=b"), SETS),
        (8, side("grub_cmd: set oem_id=b"), None, SETS),
        (8, side("grub_cmd: set first_boot=flatcar.first_boot=detected"), None, FIRST),
        (8, side("grub_cmd: ls"), side("grub_cmd: [ -f /flatcar/first_boot ]", b"b"), FIRST),
        (8, side("linux /flatcar/vmlinuz-a"), side("linux /flatcar/vmlinuz-b", b"b"), "another slot"),
        (8, side(f"usr={A}"), side(f"usr={B}", b"b"), "another slot"),
        (8, side("set slot=a"), side("set slot=b", b"b"), "another slot"),
        # The same slot in both, or a slot in one of them alone, is none.
        (8, side("linux /vmlinuz-a x"), side("linux /vmlinuz-a y", b"b"), PROMPT),
        (8, side("linux /vmlinuz-a"), side("linux /other", b"b"), PROMPT),
        (8, side("linux /other"), side("linux /vmlinuz-b", b"b"), PROMPT),
        (8, side("linux /vmlinuz-a"), None, PROMPT),
        (8, side("set slot=ab"), side("set slot=ba", b"b"), PROMPT),
        (9, side("/flatcar/vmlinuz-a"), side("/flatcar/vmlinuz-a", b"b"), "another kernel"),
        (9, side("/flatcar/vmlinuz-a"), side("/flatcar/vmlinuz-b", b"b"), "the kernel of another slot"),
        (9, side("/flatcar/vmlinuz-a"), None, "the kernel of another slot"),
        (9, side("/flatcar/vmlinuz-a"), side("/other", b"b"), ONE_READ),
        (9, side("/other"), side("/other", b"b"), "other contents of /other"),
        (9, side("/vmlinuz-a.old"), side("/vmlinuz-a.old", b"b"), "other contents of /vmlinuz-a.old"),
        (9, None, side("(hd0,gpt1)/EFI/BOOT/grub.cfg"), BESIDE),
        (9, side("(hd0,gpt1)/efi/boot/grub.cfg"), side("/other", b"b"), BESIDE),
        (9, None, side("(hd0,gpt1)/flatcar/grub/x86_64-efi/all_video.mod"), "GRUB modules on the ESP"),
        (9, None, side("/a.mod.old"), ONE_READ),
        (9, None, side("/something"), ONE_READ),
        (9, side(None), None, ONE_READ),
        (4, side("Returning", kind=EventType.EV_EFI_ACTION), None, "boot options that were tried, and failed, before the one that booted"),
        (4, side(None), side(None, b"b"), IMAGE),
        (0, None, side("x"), "another firmware"),
        (1, None, side("x"), "other firmware settings, or boot options in another order"),
        (2, None, side("x"), "another option ROM, or one more or less"),
        (3, None, side("x"), "other settings of an option ROM"),
        (5, None, side("x"), "another partition table (disk GUID, slots' attributes), or another way out of the firmware"),
        (6, None, side("x"), "something vendor specific"),
        (7, None, side("x"), "other Secure Boot keys or revocations, or something else verified the images"),
        (11, None, side("x"), "another unified kernel image, or another phase of the boot"),
        (12, None, side("x"), "another command line of a unified kernel image"),
        (13, None, side("x"), "other system extensions"),
        (14, None, side("x"), "keys of the machine's owner, or another shim"),
        (15, None, side("x"), "something that the running system measured"),
        (10, side("x"), None, "something that the running system measured"),
    ],
)  # fmt: skip
def test_what_the_place_says(pcr: int, left: Side | None, right: Side | None, said: str) -> None:
    kind = "changed" if left is not None and right is not None else "inserted" if left is None else "deleted"
    assert likely_cause(Difference(pcr=pcr, kind=kind, left=left, right=right)) == said  # type: ignore[arg-type]


def test_an_event_that_only_moved_is_not_called_a_change() -> None:
    """Only a file that was read in the other's place has other contents."""
    for text, said in (("/flatcar/vmlinuz-a", "the kernel of another slot"), ("/other", ONE_READ)):
        row = Difference(pcr=9, kind="moved", left=side(text), right=None)
        assert likely_cause(row) == said
