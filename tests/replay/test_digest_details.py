"""Details of what digests are digests of: lengths that lie, texts without their NUL, and names that only look alike.

Expected digests are computed with ``hashlib`` over bytes put together by hand from the rule's description.
"""

from __future__ import annotations

import hashlib

import pytest

from measlog.records import decode
from measlog.registry import EventType, Register
from measlog.replay.digests import Piece, check, trust
from tests.replay.test_digests import DER, GLOBAL, SIPA, VARIABLE, pcr, sha, variable

E = EventType
RTMR2 = Register("rtmr", 2)
NONE = Register("none", 0xFFFFFFFF)


def test_a_piece_is_its_slices_one_after_the_other() -> None:
    piece = Piece(ranges=((0, 2), (4, 6)), appended=b"!")
    assert piece.bytes_of(b"abcdefgh") == b"abef!"


def test_a_variable_without_name_and_value_is_all_head() -> None:
    """UEFI_VARIABLE_DATA (PFP 1.06, 10.2.6) has 32 bytes before the name; the value of none is hashed as no bytes."""
    empty = variable("", b"")
    assert len(empty) == 32
    found = check(E.EV_EFI_VARIABLE_BOOT, pcr(1), empty, "sha256", sha(b""))
    assert (found.status, found.rule, found.covered) == ("matches", "variable.value", ((32, 32),))
    cut = check(E.EV_EFI_VARIABLE_BOOT, pcr(1), empty[:-1], "sha256", sha(b""))
    assert (cut.status, cut.rule) == ("differs", "variable.value")


def test_what_is_left_of_a_value_that_was_cut_off_is_not_the_value() -> None:
    found = check(E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE[:-1], "sha256", sha(b"valu"))
    assert (found.status, found.covered) == ("differs", ())


@pytest.mark.parametrize("start", range(0, 32, 2))
def test_lengths_are_unsigned(start: int) -> None:
    """A name whose length, read as a signed number, is negative would make a value of the GUID before it."""
    name_length = 2**64 - (32 - start) // 2
    raw = GLOBAL + name_length.to_bytes(8, "little") + (5).to_bytes(8, "little") + b"value"
    found = check(E.EV_EFI_VARIABLE_BOOT, pcr(1), raw, "sha256", sha(raw[start : start + 5]))
    assert (found.status, found.covered) == ("differs", ())


@pytest.mark.parametrize(
    ("raw", "hashed", "covered"),
    [(b"grub_cmd: ls", b"ls", ((10, 12),)), (b"grub_cmd ls", b"ls", ((9, 11),)), (b"kernel_cmdline: ", b"", ((16, 16),))],
)  # fmt: skip
def test_a_command_that_has_no_nul_is_hashed_to_its_end(
    raw: bytes, hashed: bytes, covered: tuple[tuple[int, int], ...]
) -> None:
    digest = hashlib.sha384(hashed).digest()
    found = check(E.EV_IPL, pcr(8), raw, "sha384", digest)
    assert (found.status, found.rule, found.quirk) == ("matches", "text.without-nul", None)
    assert found.covered == covered
    # With a letter more it is another command: the last byte counts where it is no NUL.
    longer = check(E.EV_IPL, pcr(8), raw + b"x", "sha384", digest)
    assert (longer.status, longer.rule) == ("differs", "text.without-nul")


@pytest.mark.parametrize(
    ("register", "raw", "expected"),
    [
        (RTMR2, b"MokList\0", "shim.mirrored-variable"),
        (RTMR2, b"MokListX\0", "shim.mirrored-variable"),
        (RTMR2, b"MokListXX\0", "file.contents"),
        (RTMR2, b"SbatLevelX", "file.contents"),
        (RTMR2, b"/flatcar/vmlinuz-a\0", "file.contents"),
        (pcr(9), b"MokList\0", "file.contents"),
        (pcr(14), b"MokList\0", "shim.mirrored-variable"),
    ],
)
def test_a_file_is_taken_for_a_variable_of_shims_only_by_its_whole_name(
    register: Register, raw: bytes, expected: str
) -> None:
    """An RTMR holds what goes to PCR 9 and what goes to PCR 14; a PCR tells them by itself."""
    found = check(E.EV_IPL, register, raw, "sha256", sha(b"contents"))
    assert (found.status, found.rule) == ("not_derivable", expected)


def test_a_tag_of_windows_without_data_is_bound_all_the_same() -> None:
    """PFP 10.4.2.1: a tag and a length of zero are whole; less than both is no tag."""
    empty = SIPA[:4] + bytes(4)
    assert check(E.EV_EVENT_TAG, pcr(12), empty, "sha256", sha(empty)).status == "matches"
    assert check(E.EV_EVENT_TAG, pcr(12), empty, "sha256", sha(b"x")).status == "differs"
    assert check(E.EV_EVENT_TAG, pcr(12), empty[:7], "sha256", sha(b"x")).status == "not_derivable"


@pytest.mark.parametrize("kind", [E.EV_EVENT_TAG, E.EV_NO_ACTION, E.EV_SEPARATOR, EventType(0x1234)])
def test_what_is_measured_into_no_register_is_not_extended_whatever_its_type(kind: EventType) -> None:
    """Quirk Q21: Windows logs events with PCR 2^32 - 1, which no TPM has; a digest that fits proves nothing."""
    for digest in (sha(SIPA), sha(b"x")):
        found = check(kind, NONE, SIPA, "sha256", digest)
        assert (found.status, found.rule, found.covered) == ("not_extended", None, ())
    record = decode(kind, NONE, SIPA)
    fields = {*record.spans, "digest", "register"}
    assert {trust(record, found, name) for name in fields} == {"unauthenticated"}


def test_a_field_with_a_place_is_not_judged_by_what_it_is_within() -> None:
    """All of the certificate is hashed, of the value that it stands in all but the last byte."""
    record = decode(E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), DER)
    short = check(E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), DER, "sha256", sha(DER[:-1]))
    assert trust(record, short, "decoded.der") == "authenticated"
