"""Authenticode and flat digests against other tools, against what signers hashed, and against hand-made images."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import measlog as ml
from measlog.errors import FormatError, UnsupportedError
from measlog.formats.pecoff import PeImage
from measlog.reference import authenticode_digests, flat_digests
from measlog.reference.manifest import BANKS
from tests.conftest import shared_path
from tests.formats.pe_maker import OPTIONAL, make_pe, patch

DEBIAN = {
    "shim": "/usr/lib/shim/shimx64.efi.signed",
    "unsigned shim": "/usr/lib/shim/shimx64.efi",
    "MokManager": "/usr/lib/shim/mmx64.efi.signed",
    "fallback": "/usr/lib/shim/fbx64.efi.signed",
    "GRUB": "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    "monolithic GRUB": "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi",
    "kernel": "/boot/vmlinuz-*-amd64",
    "systemd-boot": "/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
}


def debian_file(name: str) -> Path:
    """A program that a Debian package brings; skips where the package is not installed."""
    pattern = DEBIAN[name].lstrip("/")
    found = sorted(Path("/").glob(pattern))
    if not found:
        pytest.skip(f"Debian's {name} is not installed here: no /{pattern}")
    return found[-1]


def run(*words: str | Path) -> str:
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"{words[0]} is not installed here")
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("bank", ["sha1", "sha256"])
@pytest.mark.parametrize("name", DEBIAN)
def test_the_digest_is_that_of_pesign(name: str, bank: str) -> None:
    path = debian_file(name)
    computed = authenticode_digests(path.read_bytes())[bank].hex()
    assert run("pesign", "-h", "-i", path, "-d", bank).split()[-1] == computed


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("name", DEBIAN)
def test_the_digest_is_that_of_virt_firmware(name: str, bank: str) -> None:
    pefile = pytest.importorskip("pefile")
    pesign = pytest.importorskip("virt.peutils.pesign")
    data = debian_file(name).read_bytes()
    data += bytes(-len(data) % 8)  # it pads what it hashes, as signing tools do; firmware hashes what is there
    assert pesign.pe_authenticode_hash(pefile.PE(data=data), bank) == authenticode_digests(data)[bank]


@pytest.mark.parametrize("name", ["shim", "MokManager", "GRUB", "kernel"])
def test_the_digest_is_what_the_signer_hashed(name: str) -> None:
    # SpcIndirectDataContent.messageDigest, inside the PKCS #7 signature: DER of a DigestInfo with SHA-256.
    data = debian_file(name).read_bytes()
    signatures = PeImage.from_bytes(data).certificates(data)
    assert signatures
    info = bytes.fromhex("3031300d060960864801650304020105000420")
    signed = {one.data[one.data.index(info) + len(info) :][:32] for one in signatures}
    assert signed == {authenticode_digests(data)["sha256"]}


def test_the_digest_is_that_of_osslsigncode() -> None:
    path = debian_file("MokManager")  # shim carries two signatures, which osslsigncode 2.9 does not read
    tool = shutil.which("osslsigncode")
    if tool is None:
        pytest.skip("osslsigncode is not installed here")
    said = subprocess.run([tool, "verify", "-in", str(path)], capture_output=True, text=True, check=False, timeout=60)
    found = re.findall(r"Calculated message digest *: ([0-9A-F]{64})", said.stdout)
    assert found
    assert {line.lower() for line in found} == {authenticode_digests(path.read_bytes())["sha256"].hex()}


def tables() -> dict[tuple[str, str], dict[str, str]]:
    lines = shared_path("flatcar", "files.tsv").read_text().splitlines()
    names = lines[0].split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]
    return {(row["path"], row["kind"]): row for row in rows}


def test_debians_shim_has_the_digests_of_the_shared_table() -> None:
    data = debian_file("shim").read_bytes()
    rows = tables()
    flat, image = rows["EFI/boot/bootx64.efi", "flat"], rows["EFI/boot/bootx64.efi", "authenticode"]
    if flat["sha256"] != hashlib.sha256(data).hexdigest():
        pytest.skip("Debian's shim here is another version than the one in the shared captures")
    for bank in ("sha1", "sha256", "sha384"):
        assert flat_digests(data)[bank].hex() == flat[bank]
        assert authenticode_digests(data)[bank].hex() == image[bank]


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
@pytest.mark.parametrize(
    ("capture", "kernel", "secure_boot"),
    [
        ("usr-a-first-boot-secureboot", "flatcar/vmlinuz-a", True),
        ("usr-a-secureboot", "flatcar/vmlinuz-a", True),
        ("usr-b-after-update", "flatcar/vmlinuz-b", True),
        ("oem-qemu-first-boot", "flatcar/vmlinuz-a", False),
    ],
)
def test_captures_measured_the_files_of_the_shared_table(
    capture: str, kernel: str, secure_boot: bool, bank: str
) -> None:
    # The table was computed from the files, the logs by firmware, shim and GRUB.
    rows = tables()
    log = ml.EventLog.from_bytes(shared_path("flatcar", "captures", capture, "binary_bios_measurements").read_bytes())
    booted = [rows[f"EFI/boot/{name}", "authenticode"][bank] for name in ("bootx64.efi", "grubx64.efi")]
    if secure_boot:
        booted.append(rows[kernel, "authenticode"][bank])
    programs = ml.EventType.EV_EFI_BOOT_SERVICES_APPLICATION
    in_4 = [event.digests[bank].hex() for event in log if event.pcr == 4 and event.type == programs]
    assert in_4 == booted
    in_9 = [event.digests[bank].hex() for event in log if event.pcr == 9]
    assert rows[kernel, "flat"][bank] in in_9


TEXT, DATA = bytes(range(256)) * 2, b"d" * 0x180


def spliced(data: bytes) -> bytes:
    """What is hashed of a hand-made image without trailer or certificates: all but checksum and directory entry."""
    checksum, entry = OPTIONAL + 64, OPTIONAL + 112 + 32
    return data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 :]


@pytest.mark.parametrize("bank", BANKS)
def test_checksum_and_directory_entry_are_left_out(bank: str) -> None:
    data = make_pe([(b".text", TEXT), (b".data", DATA)])
    assert authenticode_digests(data)[bank] == hashlib.new(bank, spliced(data)).digest()


def test_certificates_change_nothing_and_data_after_the_sections_counts() -> None:
    sections = [(b".text", TEXT), (b".data", DATA)]
    plain = make_pe(sections, trailer=b"trailing")
    signed = make_pe(sections, trailer=b"trailing", certificates=struct.pack("<IHH", 16, 0x200, 2) + bytes(8))
    assert authenticode_digests(signed) == authenticode_digests(plain)
    assert authenticode_digests(plain) != authenticode_digests(make_pe(sections))
    assert authenticode_digests(plain)["sha256"] == hashlib.sha256(spliced(plain)).digest()


def test_sections_are_hashed_by_their_place_in_the_file() -> None:
    data = make_pe([(b".text", TEXT), (b".data", DATA)])
    first, second = OPTIONAL + 112 + 128, OPTIONAL + 112 + 128 + 40
    swapped = patch(patch(data, first, data[second : second + 40]), second, data[first : first + 40])
    assert authenticode_digests(swapped)["sha256"] == hashlib.sha256(spliced(swapped)).digest()


def test_without_a_certificate_directory_only_the_checksum_is_left_out() -> None:
    data = make_pe([(b".text", TEXT)], directories=4)
    checksum = OPTIONAL + 64
    assert authenticode_digests(data)["sha256"] == hashlib.sha256(data[:checksum] + data[checksum + 4 :]).digest()


def test_with_a_gap_the_rest_is_counted_by_size() -> None:
    # Authenticode steps 13 and 14, as firmware does it: the last 16 + 16 bytes of the file are hashed once more.
    data = make_pe([(b".text", TEXT), (b".data", DATA)], gap=16)
    checksum, entry = OPTIONAL + 64, OPTIONAL + 112 + 32
    head = data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 : 0x400]
    stored = 0x400 + len(TEXT) + len(DATA)
    assert authenticode_digests(data)["sha256"] == hashlib.sha256(head + TEXT + DATA + data[stored:]).digest()


@given(st.integers(0, 0x400 + len(TEXT) + len(DATA) - 1), st.integers(1, 255))
def test_every_byte_but_the_two_fields_counts(place: int, change: int) -> None:
    data = make_pe([(b".text", TEXT), (b".data", DATA)])
    changed = patch(data, place, bytes([data[place] ^ change]))
    checksum, entry = OPTIONAL + 64, OPTIONAL + 112 + 32
    left_out = checksum <= place < checksum + 4 or entry <= place < entry + 8
    try:
        same = authenticode_digests(changed) == authenticode_digests(data)
    except FormatError:
        return
    assert same == left_out


def test_an_algorithm_that_is_not_there_is_named() -> None:
    with pytest.raises(UnsupportedError, match="sha3_999"):
        flat_digests(b"", ["sha3_999"])


def test_flat_digests_are_those_of_hashlib() -> None:
    data = b"0123456789" * 70_000
    assert flat_digests(data) == {bank: hashlib.new(bank, data).digest() for bank in BANKS}
