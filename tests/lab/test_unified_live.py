"""The next boot of a machine whose firmware starts a unified kernel image itself, predicted from its log, then booted.

The update has another kernel and another command line in the image. What is compared is what the TPM reports; the
fixtures ``uki`` show the same behind shim and systemd-boot.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from attrs import evolve

from fixtures.lab import capture, image
from fixtures.lab.image import LAYOUT, MIB, ImageSpec
from fixtures.lab.packages import require, tool
from fixtures.lab.run import run
from fixtures.lab.scenarios import Scenario, scenario
from fixtures.lab.signing import sign
from measlog.flatcar.boot import predict
from measlog.flatcar.image import Image
from measlog.log import EventLog
from measlog.reference.manifest import ReferenceManifest

pytestmark = pytest.mark.lab

KNOWN = (*range(10), 11, 12, 13, 14)


def unified(spec: ImageSpec, target: Path) -> Path:
    """The unified image of a disk, by mtools."""
    offset = next(part.start for part in LAYOUT if part.label == "EFI-SYSTEM") * MIB
    disk = image.image(spec) / "disk.img"
    words = [tool("mtype"), "-i", f"{disk}@@{offset}", "::/EFI/Linux/flatcar-lab-1.efi"]
    target.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)
    return target


def with_other_kernel(path: Path, folder: Path) -> Path:
    """The image with another kernel of the same size in it, signed by the same key."""
    kernel, changed = folder / "kernel", folder / "changed.efi"
    run("objcopy", "--dump-section", f".linux={kernel}", path, changed)
    content = kernel.read_bytes()
    assert b"Linux version" in content
    kernel.write_bytes(content.replace(b"Linux version", b"Linux Version"))
    run("sbattach", "--remove", path)
    run("objcopy", "--update-section", f".linux={kernel}", path, changed, fixed=True)
    sign(changed, folder / "signed.efi", "lab")
    return folder / "signed.efi"


def started_by_firmware(spec: ImageSpec, program: Path) -> ImageSpec:
    """A disk with the image where the firmware looks for what it starts."""
    return evolve(spec, esp_files=(("EFI/boot/bootx64.efi", str(program)),))


def release(spec: ImageSpec, number: str) -> ReferenceManifest:
    return Image.open(image.image(spec) / "disk.img").reference_manifest(name="lab", release=number)


def booted(row: Scenario, folder: Path) -> capture.Capture:
    return capture.boot(row, logs=folder / "machine", into=folder / "capture", time_limit=600)


def test_an_update_of_an_image_that_the_firmware_starts(tmp_path: Path) -> None:
    require()
    row = scenario("uki")
    update = evolve(row.image, cmdline=f"{row.image.cmdline} lab.release=2")
    old = started_by_firmware(row.image, unified(row.image, tmp_path / "old.efi"))
    new = started_by_firmware(update, with_other_kernel(unified(update, tmp_path / "new.efi"), tmp_path))
    try:
        before, after = release(old, "1.0.0"), release(new, "1.0.1")
        first = booted(evolve(row, image=old), tmp_path / "first")
        log = EventLog.from_bytes((first.folder / "binary_bios_measurements").read_bytes())
        path = ":".join(row.phases)
        # The disk has the image of the lab's layout too, which nothing starts here: it might be started as well.
        now, other, next_one, back = predict(after, log, before, phase=path)
        second = booted(evolve(row, image=new), tmp_path / "second")
    finally:
        for spec in (update, old, new):
            shutil.rmtree(image.image(spec), ignore_errors=True)
    assert next_one.name.startswith("EFI/boot/bootx64.efi of 1.0.1")
    assert other.pcrs["sha256"][11] != next_one.pcrs["sha256"][11]
    for boot, done in ((now, first), (back, first), (next_one, second)):
        assert not {pcr for pcr in KNOWN if pcr in boot.unknown}
        for bank, reported in done.pcrs.items():
            assert {pcr: boot.pcrs[bank][pcr].hex() for pcr in KNOWN} == {pcr: reported[str(pcr)] for pcr in KNOWN}
    assert first.pcrs["sha256"]["4"] != second.pcrs["sha256"]["4"]
    # Nothing stands between firmware and image: register 4 has one program.
    assert [event.kind for event in next_one.of(4)].count("image") == 1
    assert any("register 9" in text for text in next_one.assumptions)
