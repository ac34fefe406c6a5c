"""Secure Boot from authenticated events only (attacks A1, A28 to A31, A47)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

import pytest

from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import Policy
from measlog.appraisal.rules.secure_boot import SecureBoot
from tests.appraisal.machine import Change, appraise, codes, compared, good_log, lines, where

CONFIG = 0x80000001
AUTHORITY = 0x800000E0
ACTION = 0x80000007
SEPARATOR = 4
GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SHIM = UUID("605dab50-e046-4300-abb6-3dd810dd8b23")

ON = Policy(name="on", rule=SecureBoot(enabled=True), required={7})
OFF = Policy(name="off", rule=SecureBoot(enabled=False), required={7})


def variable(guid: UUID, name: str, value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA by PFP 10.2.6."""
    encoded = name.encode("utf-16-le")
    return guid.bytes_le + struct.pack("<QQ", len(name), len(value)) + encoded + value


def event(kind: int, data: bytes) -> ForgedEvent:
    return ForgedEvent(7, kind, dict.fromkeys((0x0004, 0x000B, 0x000C), b""), data).rehashed(data)


def config(name: str, value: bytes, guid: UUID = GLOBAL) -> ForgedEvent:
    return event(CONFIG, variable(guid, name, value))


def is_named(e: ForgedEvent, name: str, kind: int = CONFIG) -> bool:
    (length,) = struct.unpack_from("<Q", e.data, 16) if len(e.data) >= 32 else (0,)
    return e.pcr == 7 and e.type == kind and e.data[32 : 32 + 2 * length] == name.encode("utf-16-le")


def swap(name: str, *made: ForgedEvent, kind: int = CONFIG) -> Change:
    return where(lambda e: is_named(e, name, kind), lambda _: made)


def beside(name: str, *added: ForgedEvent, kind: int = CONFIG) -> Change:
    return where(lambda e: is_named(e, name, kind), lambda e: (e, *added))


def at_end(*added: ForgedEvent) -> Change:
    return lambda events: (*events, *added)


def original(name: str, kind: int = CONFIG) -> ForgedEvent:
    return next(e for e in good_log().events if is_named(e, name, kind))


def later(name: str) -> Change:
    """The variable measured behind the separator."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        moved = original(name)
        rest = [e for e in events if not is_named(e, name)]
        place = next(i for i, e in enumerate(rest) if e.pcr == 7 and e.type == SEPARATOR)
        return [*rest[: place + 1], moved, *rest[place + 1 :]]

    return change


def exchanged(first: str, second: str) -> Change:
    """Two variables in each other's place."""
    a, b = original(first), original(second)
    return lambda events: (b if e == a else a if e == b else e for e in events)


def dbx_with(kind: UUID, entry: bytes) -> ForgedEvent:
    """A dbx of one list with one entry (EFI_SIGNATURE_LIST, UEFI 2.10 clause 32.4.1)."""
    body = bytes(16) + entry
    lists = kind.bytes_le + struct.pack("<III", 28 + len(body), 0, len(body)) + body
    return config("dbx", lists, SECURITY)


def started_image() -> bytes:
    return next(e.digests[0x000B] for e in good_log().events if e.pcr == 4 and e.type == 0x80000003)


def db_certificate() -> bytes:
    """The certificate that verified shim: behind the owner in the authority event."""
    data = original("db", AUTHORITY).data
    (length,) = struct.unpack_from("<Q", data, 16)
    return data[32 + 2 * length + 16 :]


def test_the_good_boot_had_secure_boot_on() -> None:
    result = appraise(ON)
    assert result.status == "affirming"
    explained = {i for c in result.checked for i in c.events}
    assert explained == {i + 1 for i, e in enumerate(good_log().events) if e.pcr == 7}


def test_what_secure_boot_was_compared_with() -> None:
    events = ",".join(str(i + 1) for i, e in enumerate(good_log().events) if e.pcr == 7)
    assert compared(appraise(ON)) == [f"secure-boot PCR 7 events {events}: UEFI variables by GUID and name"]
    # PCR 7 alone decides whether there is something to look at.
    bare = Policy(name="bare", rule=SecureBoot(), required=())
    for quoted in ((7,), (4, 7)):
        assert len(compared(appraise(bare, quoted=quoted))) == 1
    for quoted in ((8,), (6, 8)):
        result = appraise(bare, quoted=quoted)
        assert (compared(result), lines(result)) == (
            [],
            ["error register.not-quoted PCR 7: the quote does not cover PCR 7"],
        )
        assert {n.reason for n in result.not_covered} == {"no rule of the policy speaks of it"}
    refused = appraise(ON, swap("SecureBoot", config("SecureBoot", b"\0")))
    assert (compared(refused), refused.quirks) == ([], ())


def test_a_policy_for_off_refuses_on() -> None:
    # That images were verified does not go with Secure Boot off either.
    assert codes(appraise(OFF)) == {"secureboot.state", "secureboot.authority-order"}


SHA256_LIST = UUID("c1c41626-504c-4092-aca9-41f936934328")
X509_LIST = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")


# What is said in each case. Numbers are of the capture: SecureBoot is event 4, the first authority 22, the end 70.
SAID = {
    "off": [
        (
            "error secureboot.state PCR 7: Secure Boot is off, the policy demands that it is on | expected on |"
            " observed off"
        ),
    ],
    "W6 neither 0 nor 1": [
        "error secureboot.value PCR 7 event 4: SecureBoot is 02, not 00 or 01",
    ],
    "Q24 empty": [
        "error secureboot.value PCR 7 event 4: SecureBoot is empty, not 00 or 01",
    ],
    "two bytes": [
        "error secureboot.value PCR 7 event 4: SecureBoot is 0101, not 00 or 01",
    ],
    "A28 removed": [
        "error secureboot.variable-missing PCR 7: the variable SecureBoot was never measured",
    ],
    "A29 other GUID": [
        "error secureboot.variable-missing PCR 7: the variable SecureBoot was never measured",
        (
            "error secureboot.variable-unknown PCR 7 event 4: 'SecureBoot' of"
            " 605dab50-e046-4300-abb6-3dd810dd8b23 is no variable of PCR 7"
        ),
    ],
    "A28 twice": [
        "error secureboot.variable-repeated PCR 7 event 5: the variable SecureBoot is measured twice",
    ],
    "A28 off, then on": [
        (
            "error secureboot.state PCR 7: Secure Boot is off, the policy demands that it is on | expected on |"
            " observed off"
        ),
        "error secureboot.variable-repeated PCR 7 event 5: the variable SecureBoot is measured twice",
    ],
    "A28 behind the separator": [
        "error secureboot.variable-late PCR 7 event 9: dbx is measured behind the separator",
    ],
    "A28 KEK twice": [
        "error secureboot.variable-order PCR 7 event 6: the variable PK is measured out of order",
        "error secureboot.variable-repeated PCR 7 event 7: the variable KEK is measured twice",
    ],
    "A28 order": [
        "error secureboot.variable-order PCR 7 event 6: the variable PK is measured out of order",
    ],
    "A28 setup: PK empty": [
        "error secureboot.no-key PCR 7: PK is empty: anybody can change the databases",
    ],
    "A28 audit mode": [
        "error secureboot.mode PCR 7: the firmware is in audit mode",
    ],
    "A28 setup mode": [
        "error secureboot.mode PCR 7: the firmware is in setup mode",
    ],
    "A28 debug mode": [
        "error secureboot.debug PCR 7 event 70: the firmware is in debug mode",
    ],
    "A28 DMA": [
        "error secureboot.dma PCR 7 event 70: DMA protection was disabled",
    ],
    "Q8 DMA with NUL": [
        "error secureboot.dma PCR 7 event 70: DMA protection was disabled",
    ],
    "A28 MokSBState": [
        (
            "error secureboot.authority-order PCR 7 event 22: the authorities in PCR 7 are not one for shim,"
            " shim's own statements, and one for each image behind it | expected cM?LT?c{1,2} | observed cLcM"
        ),
        (
            "error shim.validation-off PCR 7 event 70: shim was told not to verify what it starts (MokSBState):"
            " Secure Boot protects nothing behind it"
        ),
    ],
    "data that is not what was hashed": [
        "error secureboot.variable-missing PCR 7: the variable SecureBoot was never measured",
        "error secureboot.digest PCR 7 event 4: the digest is not that of the variable 'SecureBoot'",
    ],
    "A34 bytes behind the variable": [
        "error secureboot.variable-missing PCR 7: the variable SecureBoot was never measured",
        "error secureboot.trailing PCR 7 event 4: bytes follow the variable 'SecureBoot'",
    ],
    "A47 Q30 value alone hashed": [
        "error secureboot.variable-missing PCR 7: the variable SecureBoot was never measured",
        (
            "error secureboot.unauthenticated PCR 7 event 4: the digest does not cover name and GUID of the"
            " variable 'SecureBoot' (Q30)"
        ),
    ],
    "A1 retyped": [
        "error secureboot.variable-missing PCR 7: the variable SecureBoot was never measured",
        "error secureboot.unexplained PCR 7 event 4: an event of type EV_IPL in PCR 7",
    ],
    "A1 unknown type": [
        "error secureboot.unexplained PCR 7 event 70: an event of type EV_0x12345678 in PCR 7",
    ],
    "A30 a certificate that is not in db": [
        (
            "error secureboot.authority PCR 7 event 70: an image was verified by 'db', which is in no database"
            " that is known"
        ),
    ],
    "A30 a vendor certificate that is not shim's": [
        (
            "error secureboot.authority PCR 7 event 70: an image was verified by 'Shim', which is in no database"
            " that is known"
        ),
    ],
    "A30 a key of the machine's owner": [
        (
            "error secureboot.authority PCR 7 event 70: an image was verified by 'MokListRT', which is in no"
            " database that is known"
        ),
    ],
    "A30 revoked image": [
        "error secureboot.image-revoked PCR 4 event 24: an image was started that dbx revokes",
    ],
    "A30 revoked certificate": [
        "error secureboot.authority-revoked PCR 7 event 22: an image was verified by a certificate that dbx revokes",
    ],
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(swap("SecureBoot", config("SecureBoot", b"\0")), "secureboot.state", id="off"),
        pytest.param(swap("SecureBoot", config("SecureBoot", b"\2")), "secureboot.value", id="W6 neither 0 nor 1"),
        pytest.param(swap("SecureBoot", config("SecureBoot", b"")), "secureboot.value", id="Q24 empty"),
        pytest.param(swap("SecureBoot", config("SecureBoot", b"\1\1")), "secureboot.value", id="two bytes"),
        pytest.param(swap("SecureBoot"), "secureboot.variable-missing", id="A28 removed"),
        pytest.param(
            swap("SecureBoot", config("SecureBoot", b"\1", SHIM)), "secureboot.variable-unknown", id="A29 other GUID"
        ),
        pytest.param(beside("SecureBoot", config("SecureBoot", b"\1")), "secureboot.variable-repeated", id="A28 twice"),
        pytest.param(
            swap("SecureBoot", config("SecureBoot", b"\0"), config("SecureBoot", b"\1")),
            "secureboot.variable-repeated",
            id="A28 off, then on",
        ),
        pytest.param(later("dbx"), "secureboot.variable-late", id="A28 behind the separator"),
        pytest.param(swap("PK", original("KEK"), original("PK")), "secureboot.variable-repeated", id="A28 KEK twice"),
        pytest.param(exchanged("PK", "KEK"), "secureboot.variable-order", id="A28 order"),
        pytest.param(swap("PK", config("PK", b"")), "secureboot.no-key", id="A28 setup: PK empty"),
        pytest.param(beside("dbx", config("AuditMode", b"\1")), "secureboot.mode", id="A28 audit mode"),
        pytest.param(beside("dbx", config("SetupMode", b"\1")), "secureboot.mode", id="A28 setup mode"),
        pytest.param(at_end(event(ACTION, b"UEFI Debug Mode")), "secureboot.debug", id="A28 debug mode"),
        pytest.param(at_end(event(ACTION, b"DMA Protection Disabled")), "secureboot.dma", id="A28 DMA"),
        pytest.param(at_end(event(ACTION, b"DMA Protection Disabled\0")), "secureboot.dma", id="Q8 DMA with NUL"),
        pytest.param(
            at_end(event(AUTHORITY, variable(SHIM, "MokSBState", b"\1"))), "shim.validation-off", id="A28 MokSBState"
        ),
        pytest.param(
            swap("SecureBoot", replace(original("SecureBoot"), data=variable(GLOBAL, "SecureBoot", b"\0"))),
            "secureboot.digest",
            id="data that is not what was hashed",
        ),
        pytest.param(
            swap(
                "SecureBoot",
                replace(original("SecureBoot"), data=original("SecureBoot").data + b"\0").rehashed(
                    original("SecureBoot").data + b"\0"
                ),
            ),
            "secureboot.trailing",
            id="A34 bytes behind the variable",
        ),
        pytest.param(
            swap("SecureBoot", original("SecureBoot").rehashed(b"\1")),
            "secureboot.unauthenticated",
            id="A47 Q30 value alone hashed",
        ),
        pytest.param(
            swap("SecureBoot", replace(original("SecureBoot"), type=0xD)), "secureboot.unexplained", id="A1 retyped"
        ),
        pytest.param(at_end(event(0x12345678, b"?")), "secureboot.unexplained", id="A1 unknown type"),
        pytest.param(
            at_end(event(AUTHORITY, variable(SECURITY, "db", bytes(16) + b"\x30\x82\x01\x00" + bytes(256)))),
            "secureboot.authority",
            id="A30 a certificate that is not in db",
        ),
        pytest.param(
            at_end(event(AUTHORITY, variable(SHIM, "Shim", b"\x30\x82\x01\x00" + bytes(256)))),
            "secureboot.authority",
            id="A30 a vendor certificate that is not shim's",
        ),
        pytest.param(
            at_end(event(AUTHORITY, variable(SHIM, "MokListRT", bytes(16) + b"\x30\x82\x01\x00" + bytes(256)))),
            "secureboot.authority",
            id="A30 a key of the machine's owner",
        ),
        pytest.param(
            swap("dbx", dbx_with(SHA256_LIST, started_image())), "secureboot.image-revoked", id="A30 revoked image"
        ),
        pytest.param(
            swap("dbx", dbx_with(X509_LIST, db_certificate())),
            "secureboot.authority-revoked",
            id="A30 revoked certificate",
        ),
    ],
)
def test_what_is_not_sound_is_refused(request: pytest.FixtureRequest, change: Change, code: str) -> None:
    result = appraise(ON, change)
    assert result.status == "contraindicated"
    assert code in codes(result)
    assert lines(result) == SAID[request.node.callspec.id]


def test_no_authority_is_no_secure_boot() -> None:
    """A28: on, and nothing that verified anything."""
    result = appraise(ON, lambda events: (e for e in events if e.type != AUTHORITY))
    assert lines(result) == [
        "error secureboot.no-authority PCR 7: no certificate is named that verified an image",
    ]


def test_a_late_separator_is_a_variation_that_the_policy_names() -> None:
    """Q9: some firmware closes PCR 7 when it hands over to the system."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        rest = [e for e in events if not (e.pcr == 7 and e.type == SEPARATOR)]
        return [*rest, next(e for e in events if e.pcr == 7 and e.type == SEPARATOR)]

    result = appraise(ON, change)
    assert lines(result) == [
        f"error secureboot.authority-early PCR 7 event {event}: {name!r} verified an image before PCR 7 was closed"
        for event, name in ((21, "db"), (26, "SbatLevel"), (28, "db"))
    ]
    late = Policy(name="late", rule=SecureBoot(allow_late_separator=True), required={7})
    assert appraise(late, change).status == "affirming"


def test_the_revocations_that_the_policy_demands() -> None:
    """A31: SBAT generations and dbx entries have a floor."""
    level = original("SbatLevel", AUTHORITY).data.split(b"shim,")[1].split(b"\n")[0]
    generation = int(level)
    good = Policy(name="floor", rule=SecureBoot(minimum_sbat={"shim": generation}), required={7})
    assert appraise(good).status == "affirming"
    high = Policy(name="floor", rule=SecureBoot(minimum_sbat={"shim": generation + 1}), required={7})
    assert lines(appraise(high)) == [
        (
            f"error secureboot.sbat PCR 7: shim demands generation {generation} of shim, the policy {generation + 1}"
            f" | expected {generation + 1} | observed {generation}"
        )
    ]
    unknown = Policy(name="floor", rule=SecureBoot(minimum_sbat={"other": 1}), required={7})
    assert lines(appraise(unknown)) == [
        "error secureboot.sbat PCR 7: shim demands generation (none) of other, the policy 1 | expected 1"
    ]
    dbx = Policy(name="floor", rule=SecureBoot(minimum_dbx=frozenset({b"\xaa" * 32, b"\xbb" * 32})), required={7})
    assert lines(appraise(dbx)) == [
        "error secureboot.dbx PCR 7: dbx lacks 2 of the revocations that the policy demands"
    ]


def test_variations_are_named_by_the_policy() -> None:
    dma = at_end(event(ACTION, b"DMA Protection Disabled\0"))
    allowed = Policy(name="dma", rule=SecureBoot(allow_dma_disabled=True), required={7})
    result = appraise(allowed, dma)
    assert (result.status, result.quirks) == ("affirming", ("Q8",))
    (check,) = result.checked
    assert check.events[-1] == len(good_log().events) + 1
    for denied in (b"DMA Protection Disabled", b"UEFI Debug Mode"):
        assert "Q8" not in appraise(allowed, at_end(event(ACTION, denied))).quirks


def test_off_is_off() -> None:
    """Secure Boot off, with what the databases say left alone."""
    change = swap("SecureBoot", config("SecureBoot", b"\0"))
    result = appraise(OFF, lambda events: (e for e in change(events) if e.type != AUTHORITY))
    assert result.status == "affirming"
