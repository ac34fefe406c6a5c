"""The lab's own parts, without booting anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fixtures.lab import cache, kernel, packages
from fixtures.lab.errors import LabError
from fixtures.lab.image import DISK_SIZE, LAYOUT, MIB, USR_UUIDS
from fixtures.lab.initramfs import newc
from fixtures.lab.machine import stage
from fixtures.lab.phases import specifications
from fixtures.lab.scenarios import SCENARIOS, scenario


def test_missing_package_is_named_in_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.PACKAGES, "measlog-lab-nothing", "measlog-lab-no-such-command")
    assert "measlog-lab-nothing" in packages.missing()
    with pytest.raises(LabError) as caught:
        packages.require()
    text = str(caught.value)
    assert "apt-get install -y --no-install-recommends" in text
    assert text.endswith("measlog-lab-nothing")
    assert "\n" not in text
    with pytest.raises(
        LabError, match=r"^measlog-lab-no-such-command is missing: apt-get install .* measlog-lab-nothing$"
    ):
        packages.tool("measlog-lab-no-such-command")


def test_every_tampered_boot_has_a_good_twin_and_says_what_was_done() -> None:
    for row in SCENARIOS.values():
        assert (row.twin is None) == (row.tampered is None)
        if row.twin is not None:
            assert scenario(row.twin).tampered is None
    with pytest.raises(LabError, match=r"^no scenario 'no-such'; there are: flatcar-lab-good "):
        scenario("no-such")


def test_layout_is_flatcars() -> None:
    assert [(row.number, row.label) for row in LAYOUT] == [
        (1, "EFI-SYSTEM"),
        (2, "BIOS-BOOT"),
        (3, "USR-A"),
        (4, "USR-B"),
        (6, "OEM"),
        (7, "OEM-CONFIG"),
        (9, "ROOT"),
    ]
    assert USR_UUIDS == {"a": "7130c94a-213a-4e5a-8e26-6cce9662f132", "b": "e03dd35c-7c2d-4a47-b3fe-27f15780a57c"}
    ends = [0, *(row.start + row.size for row in LAYOUT)]
    assert all(row.start >= end and row.start % 2 == 0 for row, end in zip(LAYOUT, ends, strict=False))
    assert ends[-1] * MIB < DISK_SIZE


def test_a_cache_entry_appears_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEASLOG_LAB_CACHE", str(tmp_path))

    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise LabError("power cut")

    with pytest.raises(LabError, match="power cut"):
        cache.entry("thing", {"a": "1"}, fails)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    made = cache.entry("thing", {"a": "1"}, lambda folder: (folder / "whole").touch())
    assert (made / "whole").exists()
    assert cache.entry("thing", {"a": "1"}, fails) == made
    with pytest.raises(LabError):
        cache.entry("thing", {"a": "2"}, fails)


def test_root_hash_goes_to_offset_64_and_nowhere_else() -> None:
    digits = "0123456789abcdef" * 4
    image = bytearray(range(256)) * 4
    image[:2] = b"MZ"
    image[0x3C:0x40] = (128).to_bytes(4, "little")
    done = kernel.with_root_hash(bytes(image), digits)
    assert done[64:128] == digits.encode()
    assert (done[:64], done[128:]) == (bytes(image[:64]), bytes(image[128:]))
    image[0x3C:0x40] = (64).to_bytes(4, "little")
    with pytest.raises(LabError, match="leaves no room"):
        kernel.with_root_hash(bytes(image), digits)
    with pytest.raises(LabError, match="64 hex digits"):
        kernel.with_root_hash(bytes(image), digits[:-1])


@pytest.mark.lab
def test_archive_is_read_by_cpio(tmp_path: Path) -> None:
    members = {"bin": (0o040755, b"", (0, 0)), "bin/tool": (0o100755, b"content", (0, 0))}
    subprocess.run(
        [packages.tool("busybox"), "cpio", "-id"], input=newc(members), cwd=tmp_path, check=True, capture_output=True
    )
    assert (tmp_path / "bin/tool").read_bytes() == b"content"
    assert newc(members) == newc(members)


def test_stage_is_the_last_one_reached() -> None:
    assert stage("") == "firmware"
    assert stage("GNU GRUB  version 2.06") == "grub"
    assert stage("GNU GRUB\nLinux version 6.1") == "kernel"
    assert stage("GNU GRUB\nLinux version 6.1\nLAB: guest done") == "guest"


def test_phase_is_hashed_as_the_word_itself() -> None:
    # `printf %s enter-initrd | sha256sum`
    assert specifications(("enter-initrd",), ("sha256",)) == [
        "enter-initrd/11:sha256=51e6b92f405d1f98d96e3de343d61d420ad6923b25de21d766f9298192f14fed"
    ]
