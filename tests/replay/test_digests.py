"""Which bytes of an event its digest is a digest of.

Expected digests are computed here with ``hashlib`` over bytes put together by hand from the rule's description, or, for
whole logs, are those that the TPM extended. The counts per type are the table of "what each event's digest is a digest
of", which was made with another program.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.records import VariableData, decode
from measlog.registry import EventType, Register
from measlog.replay.digests import DigestCheck, check, rules_for, trust
from measlog.replay.quirks import QUIRKS
from tests.records.logs import log_id, own_logs, read, shared_logs

E = EventType


def pcr(index: int) -> Register:
    return Register("pcr", index)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")


def variable(name: str, value: bytes) -> bytes:
    head = GLOBAL + len(name).to_bytes(8, "little") + len(value).to_bytes(8, "little")
    return head + name.encode("utf-16-le") + value


VARIABLE = variable("AB", b"value")
SIZE = len(VARIABLE)
DER = variable("db", b"\x30\x82\x00\x02xy\0")
LONG_DER = variable("db", b"\x30\x83\x00\x00\x02xy\0")
TAG = bytes.fromhex("ec223b8f03000000") + b"abc"
SIPA = bytes.fromhex("0100014009000000" + "020002000100000007")
STUB = "ro".encode("utf-16-le") + b"\0"
SECTION = ".linux\0".encode("utf-16-le")

ROWS: list[tuple[str, EventType, Register, bytes, bytes, str, str | None, str | None, tuple[tuple[int, int], ...]]] = [
    # name, type, register, data, hashed bytes, status, rule, quirk, covered
    ("driver config", E.EV_EFI_VARIABLE_DRIVER_CONFIG, pcr(7), VARIABLE, VARIABLE, "matches", "data.whole", None, ((0, SIZE),)),
    ("driver config, value", E.EV_EFI_VARIABLE_DRIVER_CONFIG, pcr(7), VARIABLE, b"value", "matches", "variable.value", "Q30", ((36, 41),)),
    ("driver config, neither", E.EV_EFI_VARIABLE_DRIVER_CONFIG, pcr(7), VARIABLE, b"other", "differs", "data.whole", None, ()),
    ("boot", E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE, b"value", "matches", "variable.value", None, ((36, 41),)),
    ("boot, whole", E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE, VARIABLE, "matches", "data.whole", "Q7", ((0, SIZE),)),
    ("boot, cut data", E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE[:-1], b"value", "differs", "variable.value", None, ()),
    ("boot2", E.EV_EFI_VARIABLE_BOOT2, pcr(1), VARIABLE, VARIABLE, "matches", "data.whole", None, ((0, SIZE),)),
    ("boot2, value", E.EV_EFI_VARIABLE_BOOT2, pcr(1), VARIABLE, b"value", "differs", "data.whole", None, ()),
    ("authority", E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), VARIABLE, VARIABLE, "matches", "data.whole", None, ((0, SIZE),)),
    ("authority, bare DER", E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), DER, DER[:-1], "matches", "data.without-last-byte", "Q31", ((0, len(DER) - 1),)),
    ("authority, bare DER with a length of three bytes", E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), LONG_DER, LONG_DER[:-1], "matches", "data.without-last-byte", "Q31", ((0, len(LONG_DER) - 1),)),
    ("authority, one byte short", E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), VARIABLE, VARIABLE[:-1], "differs", "data.whole", None, ()),
    ("separator", E.EV_SEPARATOR, pcr(0), bytes(4), bytes(4), "matches", "data.whole", None, ((0, 4),)),
    ("separator, long", E.EV_SEPARATOR, pcr(0), bytes(50), bytes(4), "matches", "separator.first-four-bytes", "Q27", ((0, 4),)),
    ("separator, five bytes", E.EV_SEPARATOR, pcr(0), bytes(5), bytes(4), "matches", "separator.first-four-bytes", "Q27", ((0, 4),)),
    ("separator, error", E.EV_SEPARATOR, pcr(0), b"no memory", b"\1\0\0\0", "matches", "separator.error", None, ()),
    ("separator, windows", E.EV_SEPARATOR, pcr(13), b"WBCL", b"WBCL", "matches", "data.whole", None, ((0, 4),)),
    ("action", E.EV_EFI_ACTION, pcr(4), b"Calling", b"Calling", "matches", "data.whole", None, ((0, 7),)),
    ("action, NUL in data", E.EV_EFI_ACTION, pcr(7), b"DMA\0", b"DMA", "matches", "data.without-nul", "Q8", ((0, 3),)),
    ("action, NULs behind an X", E.EV_EFI_ACTION, pcr(7), b"DMAX\0\0", b"DMAX", "matches", "data.without-nul", "Q8", ((0, 4),)),
    ("action, NUL in hash", E.EV_EFI_ACTION, pcr(7), b"DMA", b"DMA\0", "matches", "data.and-nul", "Q8", ((0, 3),)),
    ("action, other", E.EV_ACTION, pcr(4), b"DMA", b"DMB", "differs", "data.whole", None, ()),
    ("gpt2", E.EV_EFI_GPT_EVENT2, pcr(5), b"EFI PART", b"EFI PART", "matches", "data.whole", None, ((0, 8),)),
    ("gpt", E.EV_EFI_GPT_EVENT, pcr(5), b"EFI PART", b"other", "differs", "data.whole", None, ()),
    ("version", E.EV_S_CRTM_VERSION, pcr(0), b"\0\0", b"\0\0", "matches", "data.whole", None, ((0, 2),)),
    ("post code, string", E.EV_POST_CODE, pcr(0), b"POST CODE", b"POST CODE", "matches", "data.whole", None, ((0, 9),)),
    ("post code", E.EV_POST_CODE, pcr(0), b"POST CODE", b"code", "not_derivable", "firmware.code", None, ()),
    ("hcrtm", E.EV_EFI_HCRTM_EVENT, pcr(0), b"HCRTM", b"code", "not_derivable", "firmware.code", None, ()),
    ("hcrtm, string", E.EV_EFI_HCRTM_EVENT, pcr(0), b"HCRTM", b"HCRTM", "matches", "data.whole", None, ((0, 5),)),
    ("image", E.EV_EFI_BOOT_SERVICES_APPLICATION, pcr(4), bytes(32), b"pe", "not_derivable", "image.authenticode", None, ()),
    ("image, its data", E.EV_EFI_BOOT_SERVICES_APPLICATION, pcr(4), bytes(32), bytes(32), "not_derivable", "image.authenticode", None, ()),
    ("blob", E.EV_EFI_PLATFORM_FIRMWARE_BLOB2, pcr(0), b"x", b"y", "not_derivable", "firmware.code", None, ()),
    ("nonhost info", E.EV_NONHOST_INFO, pcr(0), b"x", b"y", "differs", "data.whole", None, ()),
    ("spdm measurement", E.EV_EFI_SPDM_FIRMWARE_BLOB, pcr(2), b"x", b"y", "not_derivable", "device.measurement", None, ()),
    ("spdm policy", E.EV_EFI_SPDM_DEVICE_POLICY, pcr(7), VARIABLE, VARIABLE, "matches", "data.whole", None, ((0, SIZE),)),
    ("spdm authority", E.EV_EFI_SPDM_DEVICE_AUTHORITY, pcr(7), VARIABLE, b"y", "differs", "data.whole", None, ()),
    ("grub", E.EV_IPL, pcr(8), b"grub_cmd: ls\0", b"ls", "matches", "text.without-nul", None, ((10, 12),)),
    ("grub, empty", E.EV_IPL, pcr(8), b"grub_cmd: \0", b"", "matches", "text.without-nul", None, ((10, 10),)),
    ("grub, rtmr", E.EV_IPL, Register("rtmr", 2), b"grub_cmd: ls\0", b"ls", "matches", "text.without-nul", None, ((10, 12),)),
    ("grub, old", E.EV_IPL, pcr(8), b"grub_cmd ls\0", b"ls\0", "matches", "text.with-nul", "Q19", ((9, 12),)),
    ("grub, with its prefix", E.EV_IPL, pcr(8), b"grub_cmd: ls\0", b"grub_cmd: ls", "differs", "text.without-nul", None, ()),
    ("kernel", E.EV_IPL, pcr(8), b"kernel_cmdline: k\0", b"k", "matches", "text.without-nul", None, ((16, 17),)),
    ("kernel, old", E.EV_IPL, pcr(8), b"grub_kernel_cmdline k\0", b"k", "matches", "text.without-nul", None, ((20, 21),)),
    ("module", E.EV_IPL, pcr(8), b"module_cmdline: m\0", b"m", "matches", "text.without-nul", None, ((16, 17),)),
    # A1, A2: text that looks like a command in another register proves nothing
    ("grub text in PCR 9", E.EV_IPL, pcr(9), b"grub_cmd: ls\0", b"ls", "not_derivable", "file.contents", None, ()),
    ("file", E.EV_IPL, pcr(9), b"/k\0", b"kernel", "not_derivable", "file.contents", None, ()),
    ("mok", E.EV_IPL, pcr(14), b"MokList\0", b"list", "not_derivable", "shim.mirrored-variable", None, ()),
    ("mok, rtmr", E.EV_IPL, Register("rtmr", 2), b"MokList\0", b"list", "not_derivable", "shim.mirrored-variable", None, ()),
    ("uki name", E.EV_IPL, pcr(11), SECTION, b".linux\0", "matches", "section.name", None, ((0, 12),)),
    ("uki contents", E.EV_IPL, pcr(11), SECTION, b"kernel", "not_derivable", "section.contents", None, ()),
    ("uki contents, no UTF-16", E.EV_IPL, pcr(11), b"\x00\xd8.", b"kernel", "not_derivable", "section.contents", None, ()),
    ("uki name, longer", E.EV_IPL, pcr(11), ".linuxX\0".encode("utf-16-le"), b".linux\0", "not_derivable", "section.contents", None, ()),
    ("stub", E.EV_IPL, pcr(12), STUB + b"\0", STUB + b"\0", "matches", "data.whole", None, ((0, 6),)),
    ("stub, cut", E.EV_IPL, pcr(8), STUB, STUB + b"\0", "matches", "data.and-nul", "Q33", ((0, 5),)),
    ("tag, windows", E.EV_EVENT_TAG, pcr(12), SIPA, SIPA, "matches", "data.whole", None, ((0, 17),)),
    ("tag, windows, other", E.EV_EVENT_TAG, pcr(12), SIPA, b"x", "differs", "data.whole", None, ()),
    ("tag, linux", E.EV_EVENT_TAG, pcr(9), TAG, b"initrd", "not_derivable", "tag.subject", None, ()),
    ("tag, its data", E.EV_EVENT_TAG, pcr(9), TAG, b"abc", "matches", "tag.data", None, ((8, 11),)),
    ("tag, no data", E.EV_EVENT_TAG, pcr(9), TAG[:4] + bytes(4), b"", "matches", "tag.data", None, ((8, 8),)),
    ("unknown type", EventType(0x1234), pcr(9), b"x", b"y", "not_derivable", None, None, ()),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384", "sha512", "sha3_256"])
def test_rules(row: Any, bank: str) -> None:
    _, kind, register, data, hashed, status, rule, quirk, covered = row
    digest = hashlib.new(bank, hashed).digest()
    found = check(kind, register, data, bank, digest)
    assert (found.status, found.rule, found.quirk, found.covered) == (status, rule, quirk, covered)


def test_no_action_extends_nothing() -> None:
    assert check(E.EV_NO_ACTION, pcr(0), b"x", "sha256", bytes(32)) == DigestCheck(
        status="not_extended", rule="no-action.zero"
    )
    # PFP 1.06, 10.4.5.5: the digest of the NV index events is what the index was extended with
    assert check(E.EV_NO_ACTION, pcr(0), b"x", "sha256", sha(b"x")).rule == "no-action.data"
    # A21: not zero, and of nothing known
    assert check(E.EV_NO_ACTION, pcr(0), b"x", "sha256", sha(b"y")).rule is None
    windows = check(E.EV_NO_ACTION, Register("none", 0xFFFFFFFF), b"x", "sha256", sha(b"y"))
    assert (windows.status, windows.quirk) == ("not_extended", "Q21")


def test_an_algorithm_that_cannot_be_computed_says_nothing() -> None:
    found = check(E.EV_SEPARATOR, pcr(0), bytes(4), "0x0099", bytes(16))
    assert (found.status, found.rule) == ("not_derivable", "data.whole")


def test_every_quirk_that_a_rule_names_is_described() -> None:
    named = set()
    for kind in EventType:
        for register in (pcr(0), pcr(8), pcr(11), pcr(12), Register("rtmr", 2)):
            for raw in (b"", b"grub_cmd: x\0"):
                rules = rules_for(kind, register, raw)
                named |= {rule.quirk for rule in rules.rules if rule.quirk}
                for rule in rules.rules:
                    assert rule.quirk is None or kind in QUIRKS[rule.quirk].applies
    assert {"Q7", "Q8", "Q19", "Q27", "Q30", "Q31", "Q33"} == named
    assert list(QUIRKS) == [f"Q{number}" for number in range(1, 34)]


@given(st.binary(max_size=60), st.sampled_from(list(EventType)), st.integers(0, 23))
def test_any_data_is_checked_and_a_match_covers_only_what_was_hashed(raw: bytes, kind: EventType, index: int) -> None:
    for digest in (sha(raw), sha(raw[:-1]), bytes(32)):
        found = check(kind, pcr(index), raw, "sha256", digest)
        assert all(0 <= start <= end <= len(raw) for start, end in found.covered)
        if found.status == "matches" and found.rule == "data.whole":
            assert digest == sha(raw)


def test_trust_goes_by_byte_range() -> None:
    # A47: by this rule only the value is hashed, so name and GUID are free
    record = decode(E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE)
    assert isinstance(record, VariableData)
    value = check(E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE, "sha256", sha(b"value"))
    fields = ("guid", "name", "value", "decoded", "decoded.text", "variable_data_length", "nonsense")
    assert [trust(record, value, name) for name in fields] == [
        "unauthenticated",
        "unauthenticated",
        "authenticated",
        "authenticated",
        "authenticated",
        "unauthenticated",
        "unauthenticated",
    ]
    whole = check(E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE, "sha256", sha(VARIABLE))
    assert {trust(record, whole, name) for name in ("guid", "name", "value")} == {"authenticated"}
    # The last byte, which is not hashed, is free.
    authority = decode(E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), DER)
    short = check(E.EV_EFI_VARIABLE_AUTHORITY, pcr(7), DER, "sha256", sha(DER[:-1]))
    assert trust(authority, short, "name") == "authenticated"
    assert trust(authority, short, "decoded.der") == "authenticated"
    assert trust(authority, short, "decoded.der.subject") == "authenticated"
    assert trust(authority, short, "decoded.trailing") == "unauthenticated"
    assert trust(authority, short, "value") == "unauthenticated"


def test_a_field_within_a_field_is_trusted_as_the_outermost_with_a_place() -> None:
    record = decode(E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE)
    value = check(E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE, "sha256", sha(b"value"))
    assert trust(record, value, "value.first.byte") == "authenticated"
    assert trust(record, value, "name.first") == "unauthenticated"
    assert trust(record, value, "nowhere.first") == "unauthenticated"


def test_a_name_that_no_section_has_is_no_sections_name() -> None:
    """systemd-stub measures the sections that it knows; another name in the log is not hashed as one."""
    known, unknown = (name.encode("utf-16-le") + bytes(2) for name in (".linux", ".evil"))
    assert check(E.EV_IPL, pcr(11), known, "sha256", sha(b".linux\0")).status == "matches"
    assert check(E.EV_IPL, pcr(11), unknown, "sha256", sha(b".evil\0")).status != "matches"


def test_nothing_is_authenticated_by_a_digest_that_does_not_fit() -> None:
    record = decode(E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE)
    other = check(E.EV_EFI_VARIABLE_BOOT, pcr(1), VARIABLE, "sha256", sha(b"other"))
    assert other.status == "differs"
    assert [trust(record, other, name) for name in ("value", "decoded.text", "digest", "register")] == [
        "unauthenticated",
        "unauthenticated",
        "positional",
        "positional",
    ]
    nothing = check(E.EV_NO_ACTION, pcr(1), b"x", "sha256", bytes(32))
    absent = DigestCheck(status="no_digest")
    for other in (nothing, absent):
        assert [trust(record, other, name) for name in ("digest", "register")] == ["unauthenticated"] * 2


@pytest.mark.parametrize("raw", [b"", b"\1" * 7, b"\1\0\0\0\2\0\0\0x"])
def test_a_tag_that_is_cut_off_gives_no_digest(raw: bytes) -> None:
    """PFP 10.4.2.1: a tag, a length, and that many bytes; a length beyond the data hashes nothing that is there."""
    found = check(E.EV_EVENT_TAG, pcr(5), raw, "sha256", sha(raw[8:]))
    assert found.status != "matches" or found.covered == ((0, len(raw)),)


def test_the_prefix_of_a_grub_text_is_never_authenticated() -> None:
    # A45: prefixes can be swapped between events with the same text
    raw = b"kernel_cmdline: /k\0"
    record = decode(E.EV_IPL, pcr(8), raw)
    found = check(E.EV_IPL, pcr(8), raw, "sha256", sha(b"/k"))
    assert trust(record, found, "text") == "authenticated"
    assert trust(record, found, "prefix") == "unauthenticated"
    assert trust(record, found, "terminator") == "unauthenticated"


def test_a_digest_that_is_not_derivable_authenticates_nothing_but_its_place() -> None:
    raw = b"/flatcar/vmlinuz-a\0"
    record = decode(E.EV_IPL, pcr(9), raw)
    found = check(E.EV_IPL, pcr(9), raw, "sha256", sha(b"kernel"))
    assert trust(record, found, "text") == "unauthenticated"
    assert trust(record, found, "digest") == "positional"
    assert trust(record, found, "register") == "positional"
    locality = decode(E.EV_NO_ACTION, pcr(0), b"StartupLocality\0\3")
    none = check(E.EV_NO_ACTION, pcr(0), b"StartupLocality\0\3", "sha256", bytes(32))
    assert {trust(locality, none, name) for name in ("locality", "digest", "register")} == {"unauthenticated"}


@pytest.mark.parametrize("path", [*own_logs(), *shared_logs()], ids=log_id)
def test_no_digest_of_a_real_log_differs_and_all_banks_agree(path: Path) -> None:
    log = read(path)
    for event in log:
        found = {event.check(name) for name in event.digests}
        # The Spec ID event of a crypto-agile log has no digest in any bank of the log.
        assert len(found) == 1 or (not found and event.type is E.EV_NO_ACTION), (event.index, found)
        assert "differs" not in {one.status for one in found}, event.index


def _count(paths: Iterable[Path], wanted: EventType) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in paths:
        for event in read(path):
            if event.type is wanted:
                first = event.check(next(iter(event.digests)))
                found[first.rule if first.status == "matches" and first.rule else first.status] += 1
    return found


# The table of 39 real logs. The fortieth, usr-b-after-update, was captured after it was made.
TABLE: dict[EventType, dict[str, int]] = {
    E.EV_EFI_VARIABLE_DRIVER_CONFIG: {"data.whole": 136 + 27, "variable.value": 5},
    E.EV_EFI_VARIABLE_BOOT: {"variable.value": 122 + 2 + 13, "data.whole": 38},
    E.EV_EFI_VARIABLE_AUTHORITY: {"data.whole": 30 + 6, "data.without-last-byte": 9},
    E.EV_EFI_GPT_EVENT: {"data.whole": 26 + 3},
    E.EV_EFI_ACTION: {"data.whole": 82},
    E.EV_S_CRTM_VERSION: {"data.whole": 28},
    E.EV_NONHOST_INFO: {"data.whole": 9},
    E.EV_COMPACT_HASH: {"data.whole": 4},
    E.EV_EVENT_TAG: {"data.whole": 15, "not_derivable": 2},
    E.EV_EFI_BOOT_SERVICES_APPLICATION: {"not_derivable": 61 + 8},
    E.EV_EFI_BOOT_SERVICES_DRIVER: {"not_derivable": 12},
    E.EV_EFI_PLATFORM_FIRMWARE_BLOB: {"not_derivable": 23},
    E.EV_EFI_PLATFORM_FIRMWARE_BLOB2: {"not_derivable": 5},
    E.EV_POST_CODE: {"not_derivable": 9 + 1},
    E.EV_S_CRTM_CONTENTS: {"not_derivable": 4},
    E.EV_EFI_HANDOFF_TABLES: {"not_derivable": 1},
    E.EV_EFI_HANDOFF_TABLES2: {"not_derivable": 5},
    E.EV_PLATFORM_CONFIG_FLAGS: {"not_derivable": 17},
    E.EV_CPU_MICROCODE: {"not_derivable": 1},
}


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.name)
def test_counts_agree_with_what_was_counted_elsewhere(kind: EventType) -> None:
    paths = [path for path in shared_logs() if path.parent.name != "usr-b-after-update"]
    if not paths:
        pytest.skip("needs ../shared, which is not beside this checkout")
    assert dict(_count(paths, kind)) == TABLE[kind]
