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


def side(text: str, digest: bytes = b"a", kind: EventType = EventType.EV_IPL) -> Side:
    return Side(event=1, type=kind, digest=digest, text=text)


@pytest.mark.parametrize(
    ("pcr", "left", "right", "word"),
    [
        (8, side("a"), side("a", kind=EventType.EV_ACTION), "under another type"),
        (8, side("grub_cmd: ls"), None, "at the GRUB prompt"),
        (9, side("/flatcar/vmlinuz-a"), side("/flatcar/vmlinuz-a", b"b"), "another kernel"),
        (9, None, side("(hd0,gpt1)/EFI/BOOT/grub.cfg"), "beside GRUB"),
        (9, None, side("(hd0,gpt1)/flatcar/grub/x86_64-efi/all_video.mod"), "GRUB modules"),
        (9, None, side("/something"), "only one of the two read"),
        (4, side("Returning", kind=EventType.EV_EFI_ACTION), None, "boot options that were tried"),
        (0, None, side("x"), "another firmware"),
        (15, None, side("x"), "the running system"),
    ],
)
def test_what_the_place_says(pcr: int, left: Side | None, right: Side | None, word: str) -> None:
    kind = "changed" if left is not None and right is not None else "inserted" if left is None else "deleted"
    assert word in likely_cause(Difference(pcr=pcr, kind=kind, left=left, right=right))  # type: ignore[arg-type]
