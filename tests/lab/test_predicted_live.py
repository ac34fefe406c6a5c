"""Boots that were tampered with, predicted from their own images and what was done to the machine, then booted.

What a prediction must equal is what the TPM reports and the log that explains it. Its inputs are the image, the OEM
configuration and the state: first boot, Secure Boot, keys of the owner. The log is none of them.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fixtures.lab import capture, eventlog, image, machine
from fixtures.lab.firmware import SHIM_GUID
from fixtures.lab.image import LAYOUT, MIB
from fixtures.lab.packages import require, tool
from fixtures.lab.scenarios import Scenario, scenario
from fixtures.lab.signing import certificate
from measlog.flatcar.boot import PredictedBoot, predict, predict_state
from measlog.flatcar.grub import GrubFile
from measlog.flatcar.image import Image
from measlog.flatcar.machine import BootState
from measlog.reference.manifest import ReferenceManifest
from tests.lab.predicted import OWN_IMAGE, QUICK

pytestmark = pytest.mark.lab

PCRS = (4, 8, 9, 14)
CERT_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")


def own_manifest(row: Scenario) -> ReferenceManifest:
    """The manifest of the image that is booted, tampered with as it is: nobody would sign it."""
    disk = image.image(row.image) / "disk.img"
    verity = row.image.kernel == "lab" or row.image.boot == "uki"
    return Image.open(disk, verity=verity).reference_manifest(release="1.0.0")


def file_of(row: Scenario, name: str) -> bytes:
    """A file of the image's ESP, read by mtools."""
    offset = next(part.start for part in LAYOUT if part.label == "EFI-SYSTEM") * MIB
    disk = image.image(row.image) / "disk.img"
    words = [tool("mtype"), "-i", f"{disk}@@{offset}", f"::/{name}"]
    return subprocess.run(words, capture_output=True, check=True).stdout


def section(content: bytes, name: str, folder: Path) -> bytes:
    """A section of a program or module, by objcopy; empty where it has none."""
    source, target, copy = folder / "program", folder / "section", folder / "copy"
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    words: list[str | Path] = [tool("objcopy"), "--dump-section", f"{name}={target}", source, copy]
    subprocess.run(words, capture_output=True, check=False)
    return target.read_bytes() if target.exists() else b""


def modules(row: Scenario, manifest: ReferenceManifest, folder: Path) -> dict[str, GrubFile]:
    """GRUB's modules on the ESP with those that they name: a manifest has no more than their digests."""
    assert manifest.disk is not None
    found = {}
    for file in manifest.disk.files:
        if file.path.endswith(".mod"):
            needs = section(file_of(row, file.path), ".moddeps", folder).split(b"\0")
            found[file.path] = GrubFile(
                digests=file.flat, size=file.size, kernel=False, needs=[name.decode() for name in needs if name]
            )
    return found


def secure_boot(row: Scenario) -> bool:
    """What GRUB finds: where shim's validation is switched off, it takes Secure Boot for off as well."""
    return row.firmware.secure_boot and not row.firmware.mok_validation_off


def accepted(row: Scenario) -> bool:
    """Whether a key of the firmware's or of the owner's has signed the kernel."""
    return row.image.kernel_key in {*row.firmware.db, *row.firmware.mok}


def predicted(row: Scenario, folder: Path) -> PredictedBoot:
    manifest = own_manifest(row)
    if row.image.boot == "uki":
        return predict(manifest, secure_boot=row.firmware.secure_boot)[-1]
    kernel = manifest.component("kernel")
    assert kernel is not None
    return predict_state(
        manifest,
        manifest,
        BootState(slot=row.image.slot, first_boot=row.image.first_boot, secure_boot=secure_boot(row)),
        kernel=GrubFile(
            digests=kernel.flat,
            size=kernel.size,
            authenticode=kernel.authenticode,
            kernel=True,
            signed=accepted(row),
        ),
        known=modules(row, manifest, folder),
    )


def mok_state(row: Scenario, folder: Path) -> list[tuple[str, bytes]]:
    """What shim measures of its key lists: the vendor's certificate before the owner's, and the switch where it is set.

    A manifest has the vendor's part alone, as a digest. Shim 15.8, mok.c.
    """
    vendor = section(file_of(row, "EFI/boot/bootx64.efi"), ".vendor_cert", folder)
    authorised, revoked, first, second = struct.unpack_from("<IIII", vendor)
    owned = [x509.load_pem_x509_certificate(certificate(name).read_bytes()) for name in row.firmware.mok]
    certificates = [vendor[first : first + authorised], *(one.public_bytes(Encoding.DER) for one in owned)]
    owner = UUID(SHIM_GUID).bytes_le
    lists = [
        CERT_X509.bytes_le + struct.pack("<III", 28 + 16 + len(one), 0, 16 + len(one)) + owner + one
        for one in certificates
    ]
    measured = [("MokList", b"".join(lists)), ("MokListX", vendor[second : second + revoked])]
    if row.firmware.mok_validation_off:
        measured.append(("MokSBState", b"\x01"))
    return [*measured, ("MokListTrusted", b"\x01")]


def owner_s(row: Scenario) -> bool:
    """Whether the owner has told shim something: the library predicts register 14 of machines where they have not."""
    return bool(row.firmware.mok) or row.firmware.mok_validation_off


def expected_digests(row: Scenario, boot: PredictedBoot, pcr: int, bank: str, folder: Path) -> list[bytes]:
    if pcr == 14 and owner_s(row):
        return [hashlib.new(bank, data).digest() for _, data in mok_state(row, folder)]
    return [event.digests[bank] for event in boot.of(pcr)]


def extended(digests: list[bytes], bank: str) -> bytes:
    value = bytes(hashlib.new(bank).digest_size)
    for digest in digests:
        value = hashlib.new(bank, value + digest).digest()
    return value


def check_boot(name: str, folder: Path) -> None:
    row = scenario(name)
    boot = predicted(row, folder)
    assert boot.outcome == "kernel"
    done = capture.boot(row, logs=folder / "machine", into=folder / "capture", time_limit=600)
    log = eventlog.parse((done.folder / "binary_bios_measurements").read_bytes())
    assert set(done.pcrs) == set(row.banks)
    for bank, reported in done.pcrs.items():
        for pcr in PCRS if row.image.boot == "grub" else (4, 8, 14):
            wanted = expected_digests(row, boot, pcr, bank, folder)
            assert wanted == [e.digests[bank] for e in log if e.pcr == pcr and e.type != eventlog.EV_NO_ACTION], pcr
            assert extended(wanted, bank).hex() == reported[str(pcr)]
            assert (boot.pcrs[bank][pcr].hex() == reported[str(pcr)]) is not (pcr == 14 and owner_s(row))
        for pcr in (11, 13):
            assert boot.pcrs[bank][pcr].hex() == reported[str(pcr)]


def check_refusal(name: str, folder: Path) -> None:
    """A boot that never reaches a guest, who alone could read the log: the TPM is asked when the machine is gone."""
    row = scenario(name)
    boot = predicted(row, folder)
    assert boot.outcome == "menu"
    attempts = sum(event.text.startswith(b"linux ") for event in boot.of(8))
    assert attempts > 1
    disk = image.working_copy(row.image, folder / "disk.img")
    done = machine.boot(
        machine.Machine(
            folder=folder,
            disk=disk,
            firmware=row.firmware,
            tpm=machine.manufacture(folder, row.banks),
            # What GRUB says when an attempt has ended.
            stop_texts=("Press any key to continue",),
            stop_count=attempts,
            ask_tpm=True,
            time_limit=600,
        ),
        [("nonce", "00" * 20)],
    )
    said = re.sub(r"\x1b\[[0-9;=?]*[A-Za-z]", "", done.serial)
    assert (done.stage, said.count("bad shim signature")) == ("grub", attempts)
    assert set(done.registers) == set(row.banks)
    values: Mapping[int, bytes]
    for bank, values in done.registers.items():
        assert {pcr: boot.pcrs[bank][pcr] for pcr in (*PCRS, 11, 12, 13)} == {
            pcr: values[pcr] for pcr in (*PCRS, 11, 12, 13)
        }


@pytest.mark.parametrize("name", sorted(OWN_IMAGE if os.environ.get("MEASLOG_LAB") == "all" else QUICK))
def test_a_boot_tampered_with_is_predicted_from_its_image(name: str, tmp_path: Path) -> None:
    require()
    if scenario(name).stop_texts:
        check_refusal(name, tmp_path)
    else:
        check_boot(name, tmp_path)
