"""PE images: what is read, and that lies are found before they cost anything."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.pecoff import PeImage
from measlog.limits import Limits
from tests.formats.pe_maker import OPTIONAL, make_pe, patch, section_header

TEXT, DATA = b"t" * 0x200, b"d" * 0x180
GOOD = make_pe([(b".text", TEXT), (b".data", DATA)])
CERTIFICATES = struct.pack("<IHH", 8 + 13, 0x0200, 2) + b"first".ljust(13, b".") + bytes(3)
SIGNED = make_pe([(b".text", TEXT), (b".data", DATA)], certificates=CERTIFICATES)


def test_sections_and_headers_are_read() -> None:
    image = PeImage.from_bytes(GOOD)
    assert image.architecture == "amd64"
    assert image.certificate_table == (0, 0)
    assert [(s.name, s.pointer_to_raw_data, s.size_of_raw_data) for s in image.sections] == [
        (".text", 0x400, 0x200),
        (".data", 0x600, 0x180),
    ]
    section = image.section(".data")
    assert section is not None
    assert image.content(GOOD, section) == DATA
    assert image.section(".none") is None


def test_certificates_are_read() -> None:
    image = PeImage.from_bytes(SIGNED)
    (one,) = image.certificates(SIGNED)
    assert (one.revision, one.type, one.data) == (0x0200, 2, b"first".ljust(13, b"."))


def test_content_ends_at_the_virtual_size() -> None:
    short = patch(GOOD, section_header(1) + 8, struct.pack("<I", 5))
    image = PeImage.from_bytes(short)
    section = image.section(".data")
    assert section is not None
    assert image.content(short, section) == DATA[:5]


HUGE = struct.pack("<I", 0xFFFFFFFF)
LIES = {
    "empty file": (b"", TruncatedError, "DosHeader"),
    "no MZ": (patch(GOOD, 0, b"ZM"), FormatError, "e_magic"),
    "e_lfanew outside": (patch(GOOD, 0x3C, HUGE), TruncatedError, "FileHeader"),
    "no PE signature": (patch(GOOD, 0x40, b"NE"), FormatError, "FileHeader.Signature"),
    "65535 sections": (patch(GOOD, 0x46, b"\xff\xff"), LimitExceededError, "NumberOfSections"),
    "sections beyond the headers": (patch(GOOD, 0x46, b"\x40\x00"), FormatError, "SizeOfHeaders"),
    "unknown magic": (patch(GOOD, OPTIONAL, b"\x07\x01"), UnsupportedError, "OptionalHeader.Magic"),
    "2^32 data directories": (patch(GOOD, OPTIONAL + 108, HUGE), FormatError, "NumberOfRvaAndSizes"),
    "SizeOfHeaders 2^32": (patch(GOOD, OPTIONAL + 60, HUGE), FormatError, "SizeOfHeaders"),
    "SizeOfHeaders 0": (patch(GOOD, OPTIONAL + 60, bytes(4)), FormatError, "SizeOfHeaders"),
    "SizeOfHeaders inside a section": (
        patch(GOOD, OPTIONAL + 60, struct.pack("<I", 0x500)),
        FormatError,
        "sections[0]",
    ),
    "section of 2^32 bytes": (patch(GOOD, section_header(0) + 16, HUGE), FormatError, "sections[0]"),
    "section outside": (patch(GOOD, section_header(1) + 20, HUGE), FormatError, "sections[1]"),
    "section in the headers": (
        patch(GOOD, section_header(0) + 20, struct.pack("<I", 0x10)),
        FormatError,
        "sections[0]",
    ),
    "sections overlap": (patch(GOOD, section_header(1) + 20, struct.pack("<I", 0x5F0)), FormatError, "sections[1]"),
    "certificates outside": (patch(SIGNED, OPTIONAL + 112 + 32, HUGE), FormatError, "DataDirectory[4]"),
    "certificates of 2^32 bytes": (patch(SIGNED, OPTIONAL + 112 + 36, HUGE), FormatError, "DataDirectory[4]"),
    "certificates not at the end": (SIGNED + b"more", FormatError, "DataDirectory[4]"),
    "certificates over a section": (
        patch(SIGNED, OPTIONAL + 112 + 32, struct.pack("<II", len(SIGNED) - 64, 64)),
        FormatError,
        "sections[1]",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_one_error_that_says_where(name: str) -> None:
    data, kind, place = LIES[name]
    with pytest.raises(kind) as caught:
        PeImage.from_bytes(data)
    assert place in (caught.value.path or "")
    assert caught.value.offset is not None


def test_a_certificate_longer_than_the_table_is_refused() -> None:
    data = patch(SIGNED, len(SIGNED) - len(CERTIFICATES), HUGE)
    with pytest.raises(FormatError, match="dwLength 4294967295"):
        PeImage.from_bytes(data).certificates(data)


def test_the_limit_on_sections_is_the_callers() -> None:
    with pytest.raises(LimitExceededError):
        PeImage.from_bytes(GOOD, limits=Limits(pe_sections=1))


def test_two_sections_of_one_name_are_not_chosen_from() -> None:
    with pytest.raises(FormatError, match="2 sections"):
        PeImage.from_bytes(make_pe([(b".sbat", b"1"), (b".sbat", b"2")])).section(".sbat")


@given(st.binary(max_size=1600))
def test_any_bytes_are_an_image_or_a_format_error(data: bytes) -> None:
    for candidate in (data, b"MZ" + data):
        try:
            PeImage.from_bytes(candidate)
        except FormatError:
            continue


@given(st.integers(0, 0x2FF), st.binary(min_size=1, max_size=8))
def test_changed_headers_are_an_image_or_a_format_error(place: int, change: bytes) -> None:
    data = patch(SIGNED, place, change)
    try:
        image = PeImage.from_bytes(data)
        image.certificates(data)
    except FormatError:
        return
    for section in image.sections:
        assert section.size_of_raw_data == 0 or section.pointer_to_raw_data + section.size_of_raw_data <= len(data)


@pytest.mark.parametrize("cut", range(0, len(SIGNED), 7))
def test_a_cut_image_is_refused(cut: int) -> None:
    with pytest.raises(FormatError):
        PeImage.from_bytes(SIGNED[:cut])


def test_zeros_behind_the_last_certificate_end_the_table() -> None:
    # Signing tools fill the table up; a length of 0 followed by anything is none.
    one = struct.pack("<IHH", 16, 0x0200, 2) + b"8 bytes."
    for padding, whole in ((bytes(8), True), (bytes(64), True), (bytes(8) + b"\1".ljust(8, b"\0"), False)):
        data = make_pe([(b".text", b"text")], certificates=one + padding)
        image = PeImage.from_bytes(data)
        if whole:
            assert [found.data for found in image.certificates(data)] == [b"8 bytes."]
        else:
            with pytest.raises(FormatError, match=f"dwLength 0 where {len(padding)} bytes are left"):
                image.certificates(data)


@pytest.mark.parametrize("directories", [0, 4, 5, 16])
def test_an_image_may_have_no_place_for_a_signature(directories: int) -> None:
    # NumberOfRvaAndSizes may end before the entry of the certificate table, the fifth.
    data = make_pe([(b".text", b"text")], directories=directories)
    image = PeImage.from_bytes(data)
    assert (image.security_entry is None) is (directories < 5)
    assert image.certificate_table == (0, 0)
    assert image.certificates(data) == ()
