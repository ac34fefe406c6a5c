"""What shim carries of its vendor's, and which program a file is."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from pathlib import Path

import pytest

import measlog as ml
from measlog.errors import FormatError
from measlog.reference.manifest import BANKS, Component
from measlog.reference.programs import read_program, vendor_data
from measlog.registry import SHIM_LOCK
from tests.flatcar.images import SBAT, tool
from tests.formats.pe_maker import make_pe
from tests.reference.test_authenticode import debian_file

SHIM_SBAT = SBAT + b"shim,4,UEFI shim,shim,1,https://example.org\nshim.debian,1,Debian,shim,15.8,https://example.org\n"


def component(data: bytes, path: str) -> Component | None:
    return read_program(data, path=path, flat=ml.reference.flat_digests(data))


def section(db: bytes, dbx: bytes) -> bytes:
    """``.vendor_cert`` as shim's cert.S lays it out."""
    return struct.pack("<IIII", len(db), len(dbx), 16, 16 + len(db)) + db + dbx


def test_the_vendors_part_of_debians_shim(tmp_path: Path) -> None:
    # objcopy takes the section out, openssl reads the certificate.
    shim = debian_file("shim")
    raw = tmp_path / "section"
    line: list[str | Path] = [tool("objcopy"), "-O", "binary", "--only-section=.vendor_cert", shim, raw]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    sizes = struct.unpack_from("<IIII", raw.read_bytes())
    db = raw.read_bytes()[sizes[2] :][: sizes[0]]
    dbx = raw.read_bytes()[sizes[3] :][: sizes[1]]
    words = [tool("openssl"), "x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(words, input=db, check=True, capture_output=True, timeout=60).stdout.decode()
    found = component(shim.read_bytes(), "EFI/boot/bootx64.efi")
    assert found is not None
    (certificate,) = found.vendor_certificates
    assert certificate.sha256.hex() == said.strip().rpartition("=")[2].replace(":", "").lower()
    assert found.vendor_db_sha256 == hashlib.sha256(db).digest()
    assert found.vendor_dbx_sha256 == (hashlib.sha256(dbx).digest() if dbx else None)


def test_what_a_shim_mirrors_of_its_vendors_lists() -> None:
    # A certificate becomes an EFI_SIGNATURE_LIST of one (UEFI 2.10, clause 32.4.1); a list stays what it is (shim, mok.c).
    lists = hashlib.sha256(b"").digest() * 3
    found = component(make_pe([(b".vendor_", b"")]), "EFI/boot/bootx64.efi")
    assert found is None
    long = b".vendor_cert"
    data = with_long_name(make_pe([(b"/4", section(lists, lists[::-1])), (b".sbat", SHIM_SBAT)]), long)
    found = component(data, "EFI/boot/bootx64.efi")
    assert found is not None
    assert (found.role, found.vendor_certificates) == ("shim", ())
    assert found.mok_list == {bank: hashlib.new(bank, lists).digest() for bank in BANKS}
    assert found.mok_list_x == {bank: hashlib.new(bank, lists[::-1]).digest() for bank in BANKS}
    real = component(debian_file("shim").read_bytes(), "EFI/boot/bootx64.efi")
    assert real is not None
    assert real.mok_list is not None
    der = vendor_certificate()
    size = 28 + 16 + len(der)
    kind = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")
    mirrored = kind + struct.pack("<III", size, 0, 16 + len(der)) + SHIM_LOCK.bytes_le + der
    assert real.mok_list["sha256"] == hashlib.sha256(mirrored).digest()


def vendor_certificate() -> bytes:
    """The certificate in Debian's shim, found by its digest: the bytes that start where DER says and end where it says."""
    data = debian_file("shim").read_bytes()
    made = component(data, "EFI/boot/bootx64.efi")
    assert made is not None
    place = -1
    while (place := data.find(b"\x30\x82", place + 1)) >= 0:
        der = data[place : place + 4 + int.from_bytes(data[place + 2 : place + 4], "big")]
        if hashlib.sha256(der).digest() == made.vendor_db_sha256:
            return der
    raise AssertionError("the certificate is not in the file")


def with_long_name(data: bytes, name: bytes) -> bytes:
    """A PE image whose COFF string table, at its end, has this name at byte 4."""
    place = len(data)
    coff = int.from_bytes(data[0x3C:0x40], "little")
    table = struct.pack("<I", 4 + len(name) + 1) + name + b"\0"
    return data[: coff + 12] + struct.pack("<II", place, 0) + data[coff + 20 :] + table


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "too short"),
        (bytes(15), "too short"),
        (struct.pack("<IIII", 8, 0, 16, 16), "vendor_db is bytes 16 to 24 of 16"),
        (struct.pack("<IIII", 0, 1 << 31, 16, 16), "vendor_dbx is bytes"),
        (struct.pack("<IIII", 0, 8, 16, 0xFFFFFFFF), "vendor_dbx is bytes"),
    ],
)
def test_a_vendors_part_that_lies_is_one_error(raw: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        vendor_data(raw)


@pytest.mark.parametrize(
    ("name", "sections", "role", "version"),
    [
        ("EFI/boot/mmx64.efi", [(b".sbat", SHIM_SBAT)], "mokmanager", "15.8"),
        ("EFI/boot/fbx64.efi", [(b".sbat", SHIM_SBAT)], "fallback", "15.8"),
        ("EFI/boot/other.efi", [(b".sbat", SHIM_SBAT)], None, None),
        (
            "EFI/boot/grubx64.efi",
            [(b".sdmagic", b"#### LoaderInfo: systemd-boot 257.4-1 ####\0")],
            "systemd-boot",
            "257.4-1",
        ),
        ("EFI/tools/shell.efi", [(b".text", b"x")], None, None),
    ],
)
def test_which_program_a_file_is(
    name: str, sections: list[tuple[bytes, bytes]], role: str | None, version: str | None
) -> None:
    found = component(make_pe(sections), name)
    assert (None if found is None else found.role) == role
    assert (None if found is None else found.version) == version
