"""One IMA entry of each template and one CEL content of each type, shared by the tests and by what fuzzing starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from measlog.interop.cel import (
    CelContent,
    CelLog,
    CelRecord,
    CelTimestamp,
    CelVersion,
    FirmwareEnd,
    ImaTemplate,
    ImaTlv,
    Management,
    PcClientStd,
    StateTransition,
)
from measlog.interop.cel.records import OpaqueContent
from measlog.registry import EventType, Register
from tests.interop.cel_maker import tlv

NG = b"sha256:\0" + bytes(range(32))
SHA256 = bytes(range(32))
IMA_LISTED = f"# a list\n{SHA256.hex()}  /bin/true\nverity:sha256:{SHA256.hex()}  /bin/a b\n".encode()

IMA_CASES: dict[str, tuple[bytes, ...]] = {
    "ima": (bytes(range(20)), b"/bin/true"),
    "ima-ng": (NG, b"/bin/true\0"),
    "ima-sig": (NG, b"/bin/true\0", bytes.fromhex("030204") + bytes(60)),
    "ima-ngv2": (b"verity:" + NG, b"/bin/true\0"),
    "ima-sigv2": (b"ima:" + NG, b"/bin/true\0", b""),
    "ima-buf": (NG, b"kexec-cmdline\0", b"console=ttyS0"),
    "ima-modsig": (NG, b"/m.ko\0", b"", b"sha512:\0" + bytes(64), b"\x30\x82"),
    "evm-sig": (
        NG,
        b"/x\0",
        b"\x05\x02",
        b"security.ima\0",
        b"\x16\0\0\0",
        b"\x04",
        b"\0\0\0\0",
        b"\xe8\x03\0\0",
        b"\xa4\x81",
    ),
}
CEL_TABLE: list[tuple[Any, bytes, Any, Any]] = [
    (
        PcClientStd(event_type=EventType.EV_SEPARATOR, event_data=b"\0\0\0\0"),
        tlv(5, tlv(0, b"\0\0\0\4") + tlv(1, b"\0\0\0\0")),
        ("pcclient_std", {"event_type": "EV_SEPARATOR", "event_data": "00000000"}),
        (5, {0: 4, 1: b"\0\0\0\0"}),
    ),
    (
        PcClientStd(event_type=EventType(0x99), event_data=b""),
        tlv(5, tlv(0, b"\0\0\0\x99") + tlv(1, b"")),
        ("pcclient_std", {"event_type": 153, "event_data": ""}),
        (5, {0: 153, 1: b""}),
    ),
    (
        ImaTemplate(template_name="ima-ng", template_data=b"\xaa"),
        tlv(7, tlv(0, b"ima-ng") + tlv(1, b"\xaa")),
        ("ima_template", {"template_name": "ima-ng", "template_data": "aa"}),
        (7, {0: "ima-ng", 1: b"\xaa"}),
    ),
    (
        ImaTlv(tlv(0, b"/x") + tlv(1, tlv(11, SHA256))),
        tlv(8, tlv(0, b"/x") + tlv(1, tlv(11, SHA256))),
        ("ima_tlv", (tlv(0, b"/x") + tlv(1, tlv(11, SHA256))).hex()),
        (8, tlv(0, b"/x") + tlv(1, tlv(11, SHA256))),
    ),
    (
        Management((CelVersion(major=1, minor=1),)),
        # whooo/libcel, test_tlv.c: a version is a field with two fields, numbers without leading zeros
        tlv(4, bytes.fromhex("010000000c" + "000000000101" + "010000000101")),
        ("cel", {"type": "cel_version", "data": {"major": 1, "minor": 1}}),
        (4, {0: 1, 1: {0: 1, 1: 1}}),
    ),
    (
        Management((FirmwareEnd(),)),
        tlv(4, bytes.fromhex("0200000000")),
        ("cel", {"type": "firmware_end"}),
        (4, {0: 2}),
    ),
    (
        Management((CelTimestamp(0x1234),)),
        tlv(4, bytes.fromhex("50000000021234")),
        ("cel", {"type": "cel_timestamp", "data": 0x1234}),
        (4, {0: 80, 1: 0x1234}),
    ),
    (
        Management((StateTransition("kexec"),)),
        tlv(4, bytes.fromhex("510000000102")),
        ("cel", {"type": "state_trans", "data": "kexec"}),
        (4, {0: 81, 1: 2}),
    ),
    (
        Management((FirmwareEnd(), StateTransition("suspend"))),
        tlv(4, bytes.fromhex("0200000000" + "510000000100")),
        ("cel", [{"type": "firmware_end"}, {"type": "state_trans", "data": "suspend"}]),
        (4, [{0: 2}, {0: 81, 1: 0}]),
    ),
    (
        OpaqueContent(content_type=9, data=b"enter-initrd"),
        tlv(9, b"enter-initrd"),
        ("systemd", b"enter-initrd".hex()),
        (9, b"enter-initrd"),
    ),
    (OpaqueContent(content_type=200, data=b"\1"), tlv(200, b"\1"), (200, "01"), (200, b"\1")),
]
"""Content, as TLV, as JSON (type and content), as CBOR (type and content), each written out by hand."""

CEL_CONTENTS: list[CelContent] = [row[0] for row in CEL_TABLE]


def cel_log(contents: Sequence[CelContent]) -> CelLog:
    """A log with a record for each content."""
    register = Register("pcr", 4)
    return CelLog(
        CelRecord(recnum=number, register=register, digests={"sha256": SHA256}, content=content)
        for number, content in enumerate(contents)
    )
