"""Boot programs: what their sections say is read as the tools that write them lay it out, and refused where it is not."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import measlog as ml
from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.reference.manifest import Component
from measlog.reference.programs import (
    MEMDISK_LIMIT,
    SCRIPT_LIMIT,
    kernel_version,
    memdisk_files,
    parse_sbat,
    read_grub,
    read_program,
    vendor_data,
)
from tests.formats.pe_maker import make_pe, patch
from tests.records.pieces import HASH_LIST
from tests.reference.test_signers import EC_LEAF

SBAT = b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"


def component(data: bytes, path: str) -> Component | None:
    return read_program(data, path=path, flat=ml.reference.flat_digests(data))


def shim(**sections: bytes) -> bytes:
    """Sections by their long names: PE format, "/N" is the name at byte N of the COFF string table."""
    names = [name.replace("__", ".").encode() for name in sections]
    strings, made = b"", []
    for name, content in zip(names, sections.values(), strict=True):
        made.append((b"/%d" % (4 + len(strings)), content))
        strings += name + b"\0"
    place = 0x400 + sum(len(content) for content in sections.values())
    data = make_pe(made, trailer=struct.pack("<I", 4 + len(strings)) + strings)
    return patch(data, 0x4C, struct.pack("<I", place))  # PointerToSymbolTable, with no symbols before the strings


def vendor_cert(db: bytes, dbx: bytes) -> bytes:
    """Shim's cert.S: two sizes, two offsets from the start of the section, the two contents."""
    return struct.pack("<IIII", len(db), len(dbx), 16, 16 + len(db)) + db + dbx


def test_lines_of_sbat_may_be_short_or_empty() -> None:
    # shim's SBAT.md: component and generation are what counts; the fields after them are for people.
    entries = parse_sbat(SBAT + b"\n  \ngrub,4\n\0not,1,read\n")
    assert [(one.component, one.generation, one.url != "") for one in entries] == [
        ("sbat", 1, True),
        ("grub", 4, False),
    ]


@pytest.mark.parametrize("line", [b"grub", b",4", b"grub,x", b"grub,-1", b"grub,9999999999", b"grub,\xd9\xa2"])
def test_a_line_of_sbat_without_generation_is_refused(line: bytes) -> None:
    with pytest.raises(
        FormatError, match=r"line 2 is not component,generation.*\.sbat|\.sbat.*line 2 is not component"
    ):
        parse_sbat(SBAT + line + b"\n")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "too short for its four fields"),
        (bytes(15), "too short for its four fields"),
        (struct.pack("<IIII", 5, 0, 16, 16) + b"1234", "vendor_db is bytes 16 to 21 of 20"),
        (struct.pack("<IIII", 0, 1, 16, 0xFFFFFFFF), "vendor_dbx is bytes 4294967295 to 4294967296 of 16"),
    ],
)
def test_vendor_keys_that_lie_outside_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        vendor_data(raw)


def test_a_vendor_database_is_measured_as_it_is_and_a_certificate_as_a_list_of_one() -> None:
    # shim mok.c: the vendor's db is mirrored before MokList as it stands; a bare certificate is wrapped.
    der = EC_LEAF.public_bytes(Encoding.DER)
    with_list, with_certificate = (
        component(shim(__vendor_cert=vendor_cert(db, b""), __sbat=SBAT), "EFI/boot/bootx64.efi")
        for db in (HASH_LIST, der)
    )
    assert with_list is not None
    assert with_certificate is not None
    assert with_list.role == with_certificate.role == "shim"
    assert (with_list.vendor_certificates, with_list.mok_list) == ((), ml.reference.flat_digests(HASH_LIST))
    assert [one.subject for one in with_certificate.vendor_certificates] == ["CN=leaf"]
    # UEFI 2.10, 32.4.1: EFI_SIGNATURE_LIST of type EFI_CERT_X509_GUID, its one entry owned by SHIM_LOCK.
    owner = bytes.fromhex("50ab5d6046e00043abb63dd810dd8b23")
    kind = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")
    wrapped = kind + struct.pack("<III", 28 + 16 + len(der), 0, 16 + len(der)) + owner + der
    assert with_certificate.mok_list == ml.reference.flat_digests(wrapped)
    assert with_certificate.mok_list_x is None


@pytest.mark.parametrize(
    ("ident", "version"),
    [
        (b"$Version: 15.8 $\0", "15.8"),
        (b"$Version: $\0", "4-1"),
        (b"$Version: " + b"1" * 40 + b" $", "4-1"),
        (None, "4-1"),
    ],
)
def test_the_version_of_shim_is_its_own_word_or_its_vendors(ident: bytes | None, version: str) -> None:
    # shim's version.c; SBAT.md: the line shim.VENDOR gives the version of the vendor's package.
    sbat = SBAT + b"shim,4,UEFI shim,shim,1,https://x\nshim.debian,1,Debian,shim,4-1,https://x\n"
    more = {} if ident is None else {"__data__ident": ident}
    found = component(shim(__vendor_cert=vendor_cert(b"", b""), __sbat=sbat, **more), "EFI/boot/bootx64.efi")
    assert found is not None
    assert (found.role, found.version) == ("shim", version)


@pytest.mark.parametrize(
    ("sections", "path", "role", "version"),
    [
        ([(b".sdmagic", b"#### LoaderInfo: systemd-boot 257.7-1 ####\0")], "EFI/a.efi", "systemd-boot", "257.7-1"),
        ([(b".sdmagic", b"#### LoaderInfo: another 1 ####\0")], "EFI/a.efi", "systemd-boot", None),
        ([(b".text", b"k")], "flatcar/vmlinuz-a", "kernel", None),
    ],
)
def test_what_a_program_is_shows_in_its_sections(
    sections: list[tuple[bytes, bytes]], path: str, role: str, version: str | None
) -> None:
    found = component(make_pe(sections), path)
    assert found is not None
    assert (found.role, found.version) == (role, version)


@pytest.mark.parametrize("path", ["EFI/memtest.efi", "EFI/boot/shell.efi"])
def test_what_no_boot_path_knows_is_no_component(path: str) -> None:
    assert component(make_pe([(b".text", b"k")]), path) is None


def boot_header(pointer: int, text: bytes) -> bytes:
    """Linux Documentation/arch/x86/boot.rst: HdrS at 0x202, kernel_version at 0x20E counts from 0x200."""
    data = patch(bytes(0x600), 0x202, b"HdrS")
    return patch(patch(data, 0x20E, struct.pack("<H", pointer)), 0x200 + pointer, text)


@pytest.mark.parametrize(
    ("data", "arch", "version"),
    [
        (boot_header(0x100, b"6.12.1-flatcar (core@build) #1\0"), "amd64", "6.12.1-flatcar (core@build) #1"),
        (boot_header(0x100, b"6.12.1\0"), "arm64", None),
        (boot_header(0, b""), "amd64", None),
        (boot_header(0x100, b"x" * 512), "amd64", None),
        (bytes(0x600), "amd64", None),
        (b"", "amd64", None),
    ],
)
def test_the_version_of_a_kernel_is_that_of_its_boot_header(data: bytes, arch: str, version: str | None) -> None:
    assert kernel_version(data, arch) == version


def tar(*members: tuple[str, bytes, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


FILE = tarfile.REGTYPE


def test_folders_of_a_memdisk_are_passed_over() -> None:
    raw = tar(("./boot", tarfile.DIRTYPE, b""), ("./boot/grub.cfg", FILE, b"set"), ("/x", FILE, b""))
    assert memdisk_files(raw) == {"boot/grub.cfg": b"set", "x": b""}


CUT = tar(("grub.cfg", FILE, b"x" * 600))
MEMDISKS: dict[str, tuple[Callable[[], bytes], type[FormatError], str]] = {
    "a link": (lambda: tar(("grub.cfg", tarfile.SYMTYPE, b"")), UnsupportedError, "'grub.cfg' is neither a file nor"),
    "one name twice": (lambda: tar(("a", FILE, b"1"), ("./a", FILE, b"2")), FormatError, "'a' is there twice"),
    "cut": (lambda: CUT[:700], FormatError, "ends beyond the archive|not a tar archive"),
    "no tar": (lambda: b"x" * 2048, FormatError, "not a tar archive"),
    "without end": (lambda: bytes(MEMDISK_LIMIT + 1), LimitExceededError, f"the limit is {MEMDISK_LIMIT}"),
}


@pytest.mark.parametrize("name", MEMDISKS)
def test_a_memdisk_that_two_readers_could_read_differently_is_refused(name: str) -> None:
    make, kind, message = MEMDISKS[name]
    with pytest.raises(kind, match=message) as caught:
        memdisk_files(make())
    assert caught.value.path == "memdisk"


def test_a_script_has_a_limit() -> None:
    from tests.flatcar.images import grub, memdisk

    with pytest.raises(LimitExceededError, match=f"the limit is {SCRIPT_LIMIT}"):
        read_grub(grub(objects=[(1, memdisk({"grub.cfg": "#" * (SCRIPT_LIMIT + 1)}))]))


def test_a_program_without_modules_is_no_grub() -> None:
    with pytest.raises(FormatError, match="no mods section: not a GRUB image"):
        read_grub(make_pe([(b".text", b"t")]))
