"""Each row of ``vectors`` is read, written, cut at every byte and given trailing bytes; values and lengths that lie."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from measlog.errors import FormatError
from measlog.limits import Limits
from measlog.records import (
    Absent,
    BootNumber,
    BootOrder,
    Flag,
    GceNonHostInfo,
    NvIndexInstance,
    Opaque,
    Record,
    SbatLevel,
    SignatureData,
    SignatureList,
    SignatureLists,
    SipaEvent,
    TaggedEvent,
    Text,
    Timeout,
    TxtEvent,
    Undecodable,
    Utf16Text,
    VariableData,
    VersionGuid,
    decode,
)
from measlog.records.spdm import SpdmMeasurementBlock
from measlog.registry import EventType
from tests.records.pieces import (
    GLOBAL,
    GPT_HEAD,
    HASH_LIST,
    HASH_LIST_RECORD,
    MEASUREMENTS,
    OPTION,
    OPTION_RECORD,
    OWNER,
    OWNER_BYTES,
    PCI_PATH,
    PLATFORM2,
    SECURITY,
    SHA256_TYPE,
    SHIM,
    SPDM1,
    VENDOR_GUID_BYTES,
    h,
    pcr,
    spdm2,
    u16,
    variable,
)
from tests.records.vectors import ROWS

E = EventType
IDS = [row[0] for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_reads_what_the_specification_says(row: Any) -> None:
    _, kind, register, data, expected = row
    assert decode(kind, register, data) == expected


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_writes_back_a_record_made_by_hand(row: Any) -> None:
    assert row[4].to_bytes() == row[3]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_cut_at_every_byte_it_is_never_taken_for_the_whole(row: Any) -> None:
    _, kind, register, data, expected = row
    for size in range(len(data)):
        found = decode(kind, register, data[:size])
        assert found != expected
        assert found.to_bytes() == data[:size]


# Structures that say where they end; the others (text, bytes) take whatever comes.
_ENDING = [
    row
    for row in ROWS
    if not isinstance(row[4], Text | Utf16Text | Opaque | TxtEvent | VersionGuid | GceNonHostInfo)
    and row[0] not in {"post-code-blob", "post-code2", "crtm-contents-blob2"}
    and row[1] is not E.EV_IPL
    and "spdm-1" not in row[0]
]


@pytest.mark.parametrize("row", _ENDING, ids=[row[0] for row in _ENDING])
def test_bytes_after_the_structure_are_kept_and_flagged(row: Any) -> None:
    # A34: two meanings for one digest
    _, kind, register, data, expected = row
    found = decode(kind, register, data + b"\xde\xad")
    assert found.to_bytes() == data + b"\xde\xad"
    if isinstance(found, Undecodable):
        assert isinstance(expected, NvIndexInstance)
        return
    assert found.trailing == b"\xde\xad"
    assert found.spans["trailing"] == (len(data), len(data) + 2)
    assert found != expected


VALUES: list[tuple[str, bytes, str, bytes, Record]] = [
    ("on", GLOBAL, "SecureBoot", b"\1", Flag(value=True)),
    ("off", GLOBAL, "SetupMode", b"\0", Flag(value=False)),
    ("audit", GLOBAL, "AuditMode", b"\0", Flag(value=False)),
    ("deployed", GLOBAL, "DeployedMode", b"\1", Flag(value=True)),
    ("absent", GLOBAL, "SecureBoot", b"", Absent()),
    ("absent order", GLOBAL, "BootOrder", b"", Absent()),
    ("absent current", GLOBAL, "BootCurrent", b"", Absent()),
    ("absent timeout", GLOBAL, "Timeout", b"", Absent()),
    ("absent sbat", SHIM, "SbatLevel", b"", Absent()),
    ("order", GLOBAL, "BootOrder", h("0100 ff00"), BootOrder(options=(1, 0xFF))),
    ("current", GLOBAL, "BootCurrent", h("0300"), BootNumber(option=3)),
    ("timeout", GLOBAL, "Timeout", h("0a00"), Timeout(seconds=10)),
    ("option", GLOBAL, "Boot00AF", OPTION, OPTION_RECORD),
    ("no-option", GLOBAL, "Boot00af", OPTION, Opaque(raw=OPTION)),
    ("pk", GLOBAL, "PK", HASH_LIST, SignatureLists(lists=(HASH_LIST_RECORD,))),
    ("dbx", SECURITY, "dbx", HASH_LIST * 2, SignatureLists(lists=(HASH_LIST_RECORD, HASH_LIST_RECORD))),
    ("mok-list", SHIM, "MokListX", HASH_LIST, SignatureLists(lists=(HASH_LIST_RECORD,))),
    ("mok-sb-state", SHIM, "MokSBState", b"\1", Flag(value=True)),
    ("sbat", SHIM, "SbatLevel", b"sbat,1,2\nshim,3\n", SbatLevel(text="sbat,1,2\nshim,3\n")),
    # A29: the name alone does not make a variable
    ("wrong-vendor", SHIM, "SecureBoot", b"\1", Opaque(raw=b"\1")),
    ("text", VENDOR_GUID_BYTES, "Setup", b"abc\0", Text(text="abc", terminator=b"\0")),
]


@pytest.mark.parametrize(("guid", "name", "value", "expected"), [v[1:] for v in VALUES], ids=[v[0] for v in VALUES])
def test_decodes_values_by_vendor_and_name(guid: bytes, name: str, value: bytes, expected: Record) -> None:
    record = decode(E.EV_EFI_VARIABLE_DRIVER_CONFIG, pcr(7), variable(guid, name, value))
    assert isinstance(record, VariableData)
    assert record.decoded == expected
    assert VariableData(guid=UUID(bytes_le=guid), name=name, value=value).decoded == expected


BROKEN: list[tuple[str, bytes, str, bytes]] = [
    # A28: SecureBoot is exactly 0 or 1
    ("flag of two", GLOBAL, "SecureBoot", b"\2"),
    ("flag of two bytes", GLOBAL, "SecureBoot", b"\1\0"),
    ("odd order", GLOBAL, "BootOrder", b"\1\0\2"),
    # A32: sizes of a signature list that lie
    ("vendor header outside", SECURITY, "db", HASH_LIST[:20] + h("50000000") + HASH_LIST[24:]),
    ("list past the end", SECURITY, "db", HASH_LIST[:16] + h("4d000000") + HASH_LIST[20:]),
    ("list of 4 GiB", SECURITY, "db", HASH_LIST[:16] + h("ffffffff") + HASH_LIST[20:]),
    ("list smaller than its header", SECURITY, "db", HASH_LIST[:16] + h("1b000000") + HASH_LIST[20:]),
    ("entries without owner", SECURITY, "db", HASH_LIST[:24] + h("0f000000") + HASH_LIST[28:]),
    ("size zero", SECURITY, "db", HASH_LIST[:24] + h("00000000") + HASH_LIST[28:]),
    ("sha256 of 24 bytes", SECURITY, "db", HASH_LIST[:24] + h("18000000") + HASH_LIST[28:]),
    ("inexact division", SECURITY, "db", HASH_LIST[:16] + h("4b000000") + HASH_LIST[20:-1]),
    # UEFI 2.10, 3.1.3
    ("description without NUL", GLOBAL, "Boot0001", h("01000000 0000") + u16("abc")),
    ("paths past the end", GLOBAL, "Boot0001", h("01000000 ff00") + u16("a\0") + PCI_PATH),
]


@pytest.mark.parametrize(("guid", "name", "value"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_value_that_is_not_what_it_should_be_is_kept_with_the_reason(guid: bytes, name: str, value: bytes) -> None:
    record = decode(E.EV_EFI_VARIABLE_DRIVER_CONFIG, pcr(7), variable(guid, name, value))
    assert isinstance(record, VariableData)
    assert isinstance(record.decoded, Undecodable)
    assert record.decoded.reason
    assert record.value == record.decoded.raw == value


HUGE: list[tuple[str, EventType, bytes]] = [
    # A33: lengths that invite an allocation
    ("name", E.EV_EFI_VARIABLE_BOOT, GLOBAL + h("ffffffffffffffff 0000000000000000")),
    ("name that overflows when doubled", E.EV_EFI_VARIABLE_BOOT, GLOBAL + h("0000000000000080 0000000000000000")),
    ("value", E.EV_EFI_VARIABLE_BOOT, GLOBAL + h("0000000000000000 ffffffffffffffff")),
    ("tables", E.EV_EFI_HANDOFF_TABLES, h("ffffffffffffffff")),
    ("partitions", E.EV_EFI_GPT_EVENT, GPT_HEAD + h("ffffffffffffffff")),
    ("small entries", E.EV_EFI_GPT_EVENT, GPT_HEAD[:84] + h("00000000") + GPT_HEAD[88:] + h("0100000000000000")),
    ("device path", E.EV_EFI_BOOT_SERVICES_DRIVER, bytes(24) + h("ffffffffffffffff")),
    ("algorithms", E.EV_NO_ACTION, b"Spec ID Event03\0" + h("00000000 00020002 ffffffff")),
    ("locator", E.EV_NO_ACTION, b"SP800-155 Event3" + PLATFORM2 + h("00000000 ffffffff")),
    ("blocks", E.EV_EFI_SPDM_FIRMWARE_BLOB, spdm2("00000000", h("1200 ff 00 04000000"))),
]


@pytest.mark.parametrize(("kind", "data"), [row[1:] for row in HUGE], ids=[row[0] for row in HUGE])
def test_lengths_are_compared_with_what_is_there(kind: EventType, data: bytes) -> None:
    record = decode(kind, pcr(0), data)
    assert isinstance(record, Undecodable)
    assert record.raw == data
    assert "at byte" in record.reason


def test_nesting_is_bounded() -> None:
    # A33: a SIPA tree of containers within containers, 5,000 deep
    data = b""
    for _ in range(5_000):
        data = h("01000140") + len(data).to_bytes(4, "little") + data
    record = decode(E.EV_EVENT_TAG, pcr(13), data)
    assert isinstance(record, Undecodable)
    assert "nested deeper than" in record.reason


def test_too_many_entries_are_refused() -> None:
    entries = HASH_LIST[28:] * 9
    value = SHA256_TYPE + (28 + len(entries)).to_bytes(4, "little") + h("00000000 30000000") + entries
    data = variable(SECURITY, "dbx", value)
    record = decode(E.EV_EFI_VARIABLE_DRIVER_CONFIG, pcr(7), data, Limits(items=8))
    assert isinstance(record, VariableData)
    assert isinstance(record.decoded, Undecodable)
    assert "the limit is 8" in record.decoded.reason


def test_event_data_over_the_limit_is_not_looked_into() -> None:
    record = decode(E.EV_EFI_ACTION, pcr(4), b"x" * 11, Limits(event_size=10))
    assert isinstance(record, Undecodable)
    assert record.raw == b"x" * 11


def test_sipa_values_read_as_their_names_say() -> None:
    data = h("03000140 31000000") + h("01000700 06000000") + u16("a\\b") + h("02000700 08000000 0010000000000000")
    data += h("0a000700 01000000 01") + h("04000700 02000000 abcd")
    record = decode(E.EV_EVENT_TAG, pcr(13), data)
    assert isinstance(record, TaggedEvent)
    assert isinstance(record.decoded, SipaEvent)
    assert record.name == "windows.sipa"
    assert [(event.name, event.value) for event in record.decoded.children] == [
        ("FILEPATH", "a\\b"),
        ("IMAGESIZE", 4096),
        ("IMAGEVALIDATED", True),
        ("AUTHENTICODEHASH", h("abcd")),
    ]


def test_revocation_time_of_a_certificate_hash() -> None:
    # UEFI 2.10, 32.4.1 EFI_CERT_X509_SHA256: hash and EFI_TIME (8.3.1); 2012-06-27 21:27:51
    entry = bytes(32) + h("dc07 06 1b 15 1b 33 00 00000000 0000 00 00")
    kind = UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")
    lists = SignatureList(type=kind, signature_size=64, signatures=(SignatureData(owner=OWNER, data=entry),))
    (found,) = lists.x509_hashes()
    assert found.revoked is not None
    assert (found.algorithm, found.digest, found.revoked.isoformat()) == (
        "sha256",
        bytes(32),
        "2012-06-27T21:27:51+00:00",
    )


def test_a_certificate_hash_without_a_time_is_revoked_at_any_time() -> None:
    # UEFI 2.10, 32.4.1: a TimeOfRevocation of zero revokes whatever the time of signing.
    kind = UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")
    signature = SignatureData(owner=OWNER, data=bytes(range(32)) + bytes(16))
    (found,) = SignatureList(type=kind, signature_size=64, signatures=(signature,)).x509_hashes()
    assert (found.digest, found.revoked) == (bytes(range(32)), None)


def test_hashes_of_certificates_are_taken_from_no_other_list() -> None:
    with pytest.raises(FormatError, match="EFI_CERT_SHA256 holds no hashes of certificates"):
        HASH_LIST_RECORD.x509_hashes()


AUTHORITIES: list[tuple[str, bytes, Record]] = [
    # PFP 1.06, 3.3.4.8: the value is one EFI_SIGNATURE_DATA, an owner and at least one byte
    ("signature data", OWNER_BYTES + b"\1", SignatureData(owner=OWNER, data=b"\1")),
    ("an owner alone", OWNER_BYTES, Opaque(raw=OWNER_BYTES)),
    ("nothing", b"", Absent()),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in AUTHORITIES], ids=[row[0] for row in AUTHORITIES])
def test_an_authority_is_an_owner_and_what_he_enrolled(value: bytes, expected: Record) -> None:
    record = decode(E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), variable(SECURITY, "db", value))
    assert isinstance(record, VariableData)
    assert record.decoded == expected


SIPA: list[tuple[str, bytes, Limits, str]] = [
    ("half a header", h("03000140 04000000 01000700"), Limits(), "4 bytes left are no event"),
    ("many events", h("03000140 18000000") + h("02000700 00000000") * 3, Limits(items=2), "more than 4 fields"),
]


@pytest.mark.parametrize(("data", "limits", "said"), [row[1:] for row in SIPA], ids=[row[0] for row in SIPA])
def test_a_sipa_tree_that_lies_is_kept_with_the_reason(data: bytes, limits: Limits, said: str) -> None:
    record = decode(E.EV_EVENT_TAG, pcr(13), data, limits)
    assert isinstance(record, Undecodable)
    assert said in record.reason
    assert record.raw == data


def test_a_sipa_tree_is_walked_in_the_order_of_the_log() -> None:
    inner = h("03000140 0b000000") + h("07000700 03000000 abcdef")
    data = h("01000140") + (len(inner) + 9).to_bytes(4, "little") + inner + h("0a000700 01000000 02")
    record = decode(E.EV_EVENT_TAG, pcr(13), data)
    assert isinstance(record, TaggedEvent)
    assert isinstance(record.decoded, SipaEvent)
    walked = [(event.type, event.value) for event in record.decoded.walk() if not event.container]
    # Three bytes are no number of wbcl.h's; a byte that is neither 0 nor 1 is no truth value.
    assert walked == [(0x00070007, h("abcdef")), (0x0007000A, 2)]


SPDM: list[tuple[str, EventType, bytes, str]] = [
    # PFP 1.06, 10.2.7
    ("version 1 says 2", E.EV_EFI_SPDM_FIRMWARE_BLOB, SPDM1.replace(h("0100 3a00"), h("0200 3a00")), "version 2"),
    (
        "version 2 says 3",
        E.EV_EFI_SPDM_FIRMWARE_BLOB,
        spdm2("00000000", MEASUREMENTS).replace(b"Sec2\2", b"Sec2\3"),
        "version 3",
    ),
    (
        "context shorter than its header",
        E.EV_EFI_SPDM_FIRMWARE_BLOB,
        SPDM1.replace(h("0000 1000 8680"), h("0000 0300 8680")),
        "Length 3 is less than its own header",
    ),
]


@pytest.mark.parametrize(("kind", "data", "said"), [row[1:] for row in SPDM], ids=[row[0] for row in SPDM])
def test_a_device_security_event_that_lies_is_kept_with_the_reason(kind: EventType, data: bytes, said: str) -> None:
    record = decode(kind, pcr(2), data)
    assert isinstance(record, Undecodable)
    assert said in record.reason
    assert record.raw == data


def test_an_nvindex_instance_holds_device_data_of_version_2_alone() -> None:
    # PFP 1.06, 10.4.5.4
    data = b"NvIndexInstance\0" + h("0100 000000000000") + SPDM1
    record = decode(E.EV_NO_ACTION, pcr(0), data)
    assert isinstance(record, Undecodable)
    assert "signature is not SPDM Device Sec2" in record.reason
    assert record.raw == data


UTF16_CUT: list[tuple[bytes, Record]] = [
    (u16("1.2") + h("0000"), Utf16Text(text="1.2", terminator=h("0000"))),
    (u16("1.2") + h("000000"), Utf16Text(text="1.2", terminator=h("000000"))),
    (u16("1.2") + b"x", Opaque(raw=u16("1.2") + b"x")),
]


@pytest.mark.parametrize(("data", "expected"), UTF16_CUT)
def test_utf16_text_is_whole_units_and_a_terminator_that_may_be_cut(data: bytes, expected: Record) -> None:
    for kind, register in ((E.EV_EFI_ACTION, pcr(4)), (E.EV_IPL, pcr(5))):
        found = decode(kind, register, data)
        assert found == expected
        assert found.to_bytes() == data


DMTF: list[tuple[int, bytes, tuple[int, bytes] | None]] = [
    # DSP0274, DMTF measurement specification format: type, size in two bytes, value
    (1, h("00 0400 deadbeef"), (0, h("deadbeef"))),
    (1, h("81 0100 07"), (0x81, b"\7")),
    (1, h("00 0500 deadbeef"), None),
    (1, h("00 04"), None),
    (2, h("00 0400 deadbeef"), None),
]


@pytest.mark.parametrize(("specification", "measurement", "expected"), DMTF)
def test_a_measurement_is_read_as_the_dmtf_s_where_it_says_so(
    specification: int, measurement: bytes, expected: tuple[int, bytes] | None
) -> None:
    block = SpdmMeasurementBlock(index=1, measurement_specification=specification, measurement=measurement)
    assert block.dmtf == expected


def test_a_type_that_intel_txt_has_not_named_is_text_or_bytes() -> None:
    # Intel TXT Software Development Guide: 0x400 to 0x5FF are its own, not all have a name.
    assert decode(EventType(0x4F0), pcr(17), b"abc") == Text(text="abc")


@pytest.mark.parametrize("line", ["shim", "shim,", ",2", "shim,two", "shim,-1", "shim,\u0662", "sbat,1,2"])
def test_sbat_lines_that_say_no_generation_are_refused(line: str) -> None:
    # shim's SBAT.md: component,generation; one component twice would have two least generations.
    with pytest.raises(FormatError, match="line 2: no component,generation"):
        SbatLevel(text=f"sbat,1,2022052400\n{line}\n").generations  # noqa: B018


def test_sbat_generations() -> None:
    assert SbatLevel(text="sbat,1,2022052400\nshim,2\ngrub,2\n").generations == {"sbat": 1, "shim": 2, "grub": 2}
