"""Manifests of images, judged by boots of these very images: every boot path, both slots, unified kernel images.

A manifest built from the image makes the boot affirming; one byte of it changed, there is none, or the boot fails.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

import measlog as ml
from fixtures.lab import capture
from fixtures.lab.capture import Capture
from fixtures.lab.image import LAYOUT, MIB
from fixtures.lab.scenarios import scenario
from measlog.appraisal import AppraisalResult, Policy
from measlog.interop.systemdlog import read_userspace_log
from measlog.reference.manifest import BANKS, Component
from tests.lab.test_live import _file

pytestmark = pytest.mark.lab

GOOD = "flatcar-lab-good"
BOOTED = (
    "later-boot", "sb-off-good", "sb-off-later-boot", "sb-off-slot-b", "random-disk-guid", "debian-kernel",
    "oem-azure", "oem-ec2", "oem-gce", "user-argument", "uki", "uki-sb-off",
)  # fmt: skip
"""The images of good boots that tests/lab/test_live.py does not have, with the state of Secure Boot each boots in."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    folder = tmp_path_factory.mktemp("good")
    return capture.boot(scenario(GOOD), logs=folder / "machine", into=folder / "capture")


def manifest_of(disk: Path, *, verity: bool = True) -> ml.ReferenceManifest:
    return ml.flatcar.Image.open(disk, verity=verity).reference_manifest(release="1.0.0")


def policy_of(done: Capture) -> Policy:
    row = done.scenario
    oem = done.folder / "oem-grub.cfg"
    # Debian's stock kernel has no room for a root hash.
    return ml.policy.flatcar(
        secure_boot=row.firmware.secure_boot,
        oem_grub_cfg=[oem.read_bytes()] if oem.exists() else (),
        allow_unchecked_usr=row.image.kernel == "debian" and row.image.boot == "grub",
    )


def appraise(done: Capture, *manifests: ml.ReferenceManifest) -> AppraisalResult:
    folder = done.folder
    log = ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    quote = ml.Quote.from_bytes((folder / "quote.msg").read_bytes(), (folder / "quote.sig").read_bytes())
    written = folder / "tpm2-measure.log"
    further = {"systemd": read_userspace_log(written.read_bytes())} if written.exists() else {}
    pcrs = {int(index): bytes.fromhex(value) for index, value in done.pcrs[done.scenario.bank].items()}
    evidence = ml.Evidence(log=log, quote=quote, pcrs=pcrs, further=further)
    policy = policy_of(done)
    verified = evidence.verify(ak=(folder / "ak.pub").read_bytes(), nonce=done.nonce, bank=done.scenario.bank)
    return ml.Verifier(manifests, policy=policy, unsafe_unsigned_manifests=True).appraise(verified)


@pytest.mark.parametrize("name", BOOTED)
def test_the_manifest_of_an_image_makes_its_boot_affirming(name: str, tmp_path: Path) -> None:
    done = capture.boot(scenario(name), logs=tmp_path / "machine", into=tmp_path / "capture")
    row = done.scenario
    manifest = manifest_of(done.disk, verity=not (row.image.kernel == "debian" and row.image.boot == "grub"))
    result = appraise(done, manifest)
    assert result.status == "affirming", result.findings
    booted = {(one.component, one.slot) for one in result.identified}
    assert ("uki", None) in booted if row.image.boot == "uki" else ("kernel", row.image.slot) in booted


def changed(disk: Path, target: Path, place: int) -> Path:
    """A copy of an image in which one byte is another."""
    shutil.copyfile(disk, target)
    with target.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ 1]))
    return target


def _inside(disk: Path, content: bytes) -> int:
    found = disk.read_bytes().find(content)
    assert found >= 0
    return found


def _usr(_: Path) -> int:
    # Five blocks in: not the superblock, which says where the hash tree starts.
    return next(row.start for row in LAYOUT if row.label == "USR-A") * MIB + 5 * 4096


def _kernel(disk: Path) -> int:
    kernel = _file(disk, "flatcar/vmlinuz-a")
    return _inside(disk, kernel[len(kernel) // 2 :][:512])


def _grub(disk: Path) -> int:
    program = _file(disk, "EFI/boot/grubx64.efi")
    return _inside(disk, program[0x3000:0x3200])


def _configuration(disk: Path) -> int:
    program = _file(disk, "EFI/boot/grubx64.efi")
    start = program.index(b"set default=")
    return _inside(disk, program[start - 200 : start + 200]) + 200


PLACES: dict[str, Callable[[Path], int]] = {
    "USR": _usr,
    "kernel": _kernel,
    "GRUB": _grub,
    "grub.cfg": _configuration,
}


@pytest.mark.parametrize("name", PLACES)
def test_one_byte_of_an_image_changed_gives_no_manifest_or_one_that_the_good_boot_fails(
    name: str, good: Capture, tmp_path: Path
) -> None:
    assert appraise(good, manifest_of(good.disk)).status == "affirming"
    disk = changed(good.disk, tmp_path / "disk.img", PLACES[name](good.disk))
    try:
        manifest = manifest_of(disk)
    except ml.FormatError:
        return
    assert appraise(good, manifest).status == "contraindicated"


def other_programs(made: ml.ReferenceManifest, name: str, release: str, roles: set[str]) -> ml.ReferenceManifest:
    """A release that has this image's programs but for those of the roles named, which are other ones."""

    def other(one: Component) -> Component:
        values = {bank: hashlib.new(bank, f"{name} {one.path}".encode()).digest() for bank in BANKS}
        return attrs.evolve(one, authenticode=values, flat=values) if one.role in roles else one

    return attrs.evolve(made, name=name, release=release, components=tuple(other(one) for one in made.components))


def test_a_boot_loader_of_one_release_with_the_kernel_of_another_names_both(good: Capture) -> None:
    made = manifest_of(good.disk)
    old = other_programs(made, "old", "1.0.0", {"kernel"})
    new = other_programs(made, "new", "2.0.0", {"shim", "grub"})
    result = appraise(good, old, new)
    assert result.status == "affirming", result.findings
    assert {(one.component, one.release) for one in result.identified} == {
        ("shim", "1.0.0"), ("grub", "1.0.0"), ("kernel", "2.0.0"),
    }  # fmt: skip
    for alone in (old, new):
        assert appraise(good, alone).status == "contraindicated"
