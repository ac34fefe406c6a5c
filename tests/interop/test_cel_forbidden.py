"""Canonical event logs that the specification forbids, that exceed the bounds, or that another form has no place for."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog import EventLog
from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.interop.cel import CelLog, CelRecord, FirmwareEnd, Management, PcClientStd
from measlog.interop.cel.records import OpaqueContent
from measlog.limits import Limits
from measlog.registry import EventType, Register
from tests.conftest import FIXTURES
from tests.interop.cel_maker import FORMS, read_form, records, tlv, write_form

SHA256 = bytes(range(32))
PCR_4 = Register("pcr", 4)

_GOOD: dict[str, Any] = {
    "recnum": 0,
    "pcr": 4,
    "digests": [{"hashAlg": "sha256", "digest": SHA256.hex()}],
    "content_type": "pcclient_std",
    "content": {"event_type": "EV_SEPARATOR", "event_data": "00000000"},
}
_CEL = {"content_type": "cel"}


def _with(**changes: Any) -> bytes:
    made = {name: value for name, value in (_GOOD | changes).items() if value is not ...}
    return json.dumps([made]).encode()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"{}", "records"),
        (b"[1]", "records[0]"),
        (_with(recnum=...), "records[0]"),
        (_with(recnum=-1), "records[0].recnum"),
        (_with(recnum=1 << 64), "records[0].recnum"),
        (_with(recnum=True), "records[0].recnum"),
        (_with(recnum=1.0), "records[0].recnum"),
        (_with(pcr=...), "records[0]"),
        (_with(nv_index=1), "records[0]"),
        (_with(pcr=1 << 32), "records[0].pcr"),
        (_with(pcr=..., nv_index="1"), "records[0].nv_index"),
        (_with(surplus=1), "records[0]"),
        (_with(digests=...), "records[0].digests"),
        (_with(digests=[]), "records[0].digests"),
        (_with(digests={}), "records[0].digests"),
        (_with(digests=[_GOOD["digests"][0]] * 2), "records[0].digests[1]"),
        (_with(digests=[{"hashAlg": "sha256", "digest": "00"}]), "records[0].digests"),
        (_with(digests=[{"hashAlg": "sha256", "digest": "0"}]), "records[0].digests[0].digest"),
        (_with(digests=[{"hashAlg": "SHA256", "digest": "00" * 32}]), "records[0].digests[0].hashAlg"),
        (_with(digests=[{"hashAlg": "0x000b", "digest": "00" * 32}]), "records[0].digests[0].hashAlg"),
        (_with(digests=[{"hashAlg": 65536, "digest": "00"}]), "records[0].digests[0].hashAlg"),
        (_with(digests=[{"hashAlg": "0x0099", "digest": "00" * 129}]), "records[0].digests"),
        (_with(digests=[{"hashAlg": f"0x01{i:02x}", "digest": "00"} for i in range(17)]), "records[0].digests"),
        (_with(content_type="pcclient std\n"), "records[0].content_type"),
        (_with(content_type=None), "records[0].content_type"),
        (_with(content=...), "records[0]"),
        (_with(content={"event_type": "EV_UNHEARD_OF", "event_data": ""}), "records[0].content.event_type"),
        (_with(content={"event_type": "EV_0x00000099", "event_data": ""}), "records[0].content.event_type"),
        (_with(content={"event_type": 1 << 32, "event_data": ""}), "records[0].content.event_type"),
        (_with(content={"event_type": 4}), "records[0].content"),
        (_with(content={"event_type": 4, "event_data": "xx"}), "records[0].content.event_data"),
        (
            _with(content_type="ima_template", content={"template_name": "\n", "template_data": ""}),
            "records[0].content.template_name",
        ),
        (_with(content_type="ima_tlv", content=tlv(8, b"").hex()), "records[0].content"),
        (_with(content_type="ima_tlv", content=(tlv(0, b"") * 2).hex()), "records[0].content"),
        (_with(content_type="ima_tlv", content="00"), "records[0].content"),
        (_with(**_CEL, content=[]), "records[0].content"),
        (_with(**_CEL, content={"type": "firmware_end", "data": 1}), "records[0].content.data"),
        (_with(**_CEL, content={"type": "cel_timestamp"}), "records[0].content"),
        (_with(**_CEL, content={"type": "cel_timestamp", "data": "1"}), "records[0].content.data"),
        (_with(**_CEL, content={"type": "state_trans", "data": "reboot"}), "records[0].content.data"),
        (_with(**_CEL, content={"type": "state_trans", "data": 3}), "records[0].content.data"),
        (_with(**_CEL, content={"type": "cel_version", "data": {"major": 1}}), "records[0].content.data"),
        (
            _with(**_CEL, content={"type": "cel_version", "data": {"major": 1, "minor": 1 << 16}}),
            "records[0].content.data.minor",
        ),
        (_with(**_CEL, content={"type": 3}), "records[0].content.type"),
        (_with(content_type="systemd", content=json.loads("[" * 20 + "]" * 20)), "records[0].content"),
    ],
)
def test_documents_that_the_specification_forbids(data: bytes, path: str) -> None:
    with pytest.raises(FormatError) as caught:
        CelLog.from_json(data)
    assert caught.value.path == path


def test_a_member_that_is_there_twice_is_named_as_such() -> None:
    with pytest.raises(FormatError, match=r"^the key '[a-z_]+' is there twice in one object"):
        CelLog.from_json(b'[{"recnum":0,"recnum":1}]')


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b"\xff\xfe[\0]\0",  # UTF-16
        b"[]x",
        b'[{"recnum":0,"recnum":0}]',
        b"[NaN]",
        b"[" + b"9" * 5000 + b"]",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        CelLog.from_json(data)


_NUMBER, _PCR, _DIGESTS, _CONTENT = tlv(0, b"\0"), tlv(1, b"\4"), tlv(3, tlv(11, SHA256)), tlv(9, b"x")


@pytest.mark.parametrize(
    ("data", "path", "offset"),
    [
        (b"\0\0\0\0", "records", 0),
        (b"\0\xff\xff\xff\xff", "records", 0),
        (_NUMBER + _PCR + _DIGESTS, "records[0]", 54),
        (tlv(1, b"\0") + _PCR + _DIGESTS + _CONTENT, "records[0].recnum", 0),
        (tlv(0, b"") + _PCR + _DIGESTS + _CONTENT, "records[0].recnum", 5),
        (tlv(0, bytes(9)) + _PCR + _DIGESTS + _CONTENT, "records[0].recnum", 5),
        (_NUMBER + tlv(1, b"\1\0\0\0\0") + _DIGESTS + _CONTENT, "records[0].pcr", 11),
        (_NUMBER + tlv(108, b"\5") + _DIGESTS + _CONTENT, "records[0].ccmr", 11),
        (_NUMBER + tlv(7, b"\0") + _DIGESTS + _CONTENT, "records[0]", 6),
        (_NUMBER + _PCR + tlv(4, b"") + _CONTENT, "records[0].digests", 12),
        (_NUMBER + _PCR + tlv(3, tlv(11, SHA256) * 2) + _CONTENT, "records[0].digests", 54),
        (_NUMBER + _PCR + tlv(3, tlv(11, b"x")) + _CONTENT, "records[0].digests", 0),
        (_NUMBER + _PCR + tlv(3, b"\x0b\0\0\0\x20") + _CONTENT, "records[0].digests", 17),
        (_NUMBER + _PCR + _DIGESTS + tlv(1, b"\4"), "records[0].content", 54),
        (_NUMBER + _PCR + _DIGESTS + tlv(5, tlv(0, b"\4")), "records[0].content", 59),
        (_NUMBER + _PCR + _DIGESTS + tlv(5, tlv(1, b"") + tlv(0, b"\4")), "records[0].content", 59),
        (_NUMBER + _PCR + _DIGESTS + tlv(5, tlv(0, b"\4") + tlv(1, b"") + tlv(1, b"")), "records[0].content", 70),
        (_NUMBER + _PCR + _DIGESTS + tlv(5, tlv(0, bytes([1] * 5)) + tlv(1, b"")), "records[0].content.event_type", 64),
        (_NUMBER + _PCR + _DIGESTS + tlv(7, tlv(0, b"\xff") + tlv(1, b"")), "records[0].content.template_name", 64),
        (_NUMBER + _PCR + _DIGESTS + tlv(8, tlv(8, b"")), "records[0].content", 0),
        (_NUMBER + _PCR + _DIGESTS + tlv(4, b""), "records[0].content", 0),
        (_NUMBER + _PCR + _DIGESTS + tlv(4, tlv(2, b"x")), "records[0].content", 64),
        (_NUMBER + _PCR + _DIGESTS + tlv(4, tlv(3, b"")), "records[0].content", 59),
        (_NUMBER + _PCR + _DIGESTS + tlv(4, tlv(81, b"\3")), "records[0].content.state_trans", 64),
        (_NUMBER + _PCR + _DIGESTS + tlv(4, tlv(1, tlv(0, b"\1"))), "records[0].content", 64),
    ],
)
def test_fields_that_the_specification_forbids(data: bytes, path: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        CelLog.from_tlv(data)
    assert (caught.value.path, caught.value.offset) == (path, offset)


@pytest.mark.parametrize(
    "item",
    [
        {},
        [[]],
        [{0: 0, 1: 4, 3: [{0: 11, 1: SHA256}], 9: 5}],
        [{0: 0, 1: 4, 3: [{0: 11, 1: SHA256.hex()}], 9: 9, 10: b""}],
        [{0: 0, 1: 4, 3: [{0: "sha256", 1: SHA256}], 9: 9, 10: b""}],
        [{0: 0, 1: 4, 3: [{0: 11, 1: SHA256}], 9: "systemd", 10: b""}],
        [{"recnum": 0, "pcr": 4, "digests": [], "content_type": 9, "content": b""}],
        [{0: 0, 1: 4, 3: [{0: 11, 1: SHA256}], 9: 5, 10: {0: 4, 1: b"", 2: 0}}],
        [{0: 0, 1: 4, 3: [{0: 11, 1: SHA256}], 9: 4, 10: {0: 81, 1: "kexec"}}],
        [{0: 0, 1: 4, 3: [{0: 11, 1: SHA256}], 9: 7, 10: {0: b"ima", 1: b""}}],
    ],
)
def test_items_that_the_specification_forbids(item: Any) -> None:
    with pytest.raises(FormatError):
        CelLog.from_cbor(cbor2.dumps(item))


def _numbered(*numbers: tuple[int, int]) -> list[CelRecord]:
    content = PcClientStd(event_type=EventType.EV_SEPARATOR, event_data=b"")
    return [
        CelRecord(recnum=number, register=Register("pcr", pcr), digests={"sha256": SHA256}, content=content)
        for pcr, number in numbers
    ]


def test_records_are_numbered_within_registers_or_throughout() -> None:
    assert CelLog(_numbered((0, 0), (1, 0), (0, 1), (1, 1))).numbering == "register"
    assert CelLog(_numbered((0, 5), (1, 2), (0, 6))).numbering == "register"
    assert CelLog(_numbered((0, 1), (1, 2), (0, 3))).numbering == "log"
    for wrong in (
        _numbered((0, 0), (0, 2)),
        _numbered((0, 0), (0, 0)),
        _numbered((0, 1), (0, 0)),
        _numbered((0, 0), (1, 1), (0, 3)),
    ):
        with pytest.raises(FormatError, match="record number") as caught:
            CelLog(wrong)
        assert caught.value.path == f"records[{len(wrong) - 1}].recnum"


@given(records(max_size=8), st.data())
def test_a_record_that_was_taken_out_is_missed(made: list[CelRecord], draw: st.DataObject) -> None:
    # Unless it was the first or the last of its register, where nothing but the registers themselves tells.
    where = [record.register for record in made]
    inner = [i for i, register in enumerate(where) if register in where[:i] and register in where[i + 1 :]]
    if not inner:
        return
    place = draw.draw(st.sampled_from(inner))
    with pytest.raises(FormatError):
        CelLog(made[:place] + made[place + 1 :])


def test_bounds_are_kept() -> None:
    log = CelLog(_numbered((0, 0), (0, 1), (0, 2)))
    for form in FORMS:
        data = write_form(form, log)
        for limits in (Limits(log_size=10), Limits(records=2)):
            with pytest.raises(LimitExceededError):
                read_form(form, data, limits=limits)
    with pytest.raises(LimitExceededError):
        CelLog.from_json(_with(**_CEL, content=[{"type": 2}] * 3), limits=Limits(items=2))
    many = b"".join(tlv(number, b"x") for number in range(0x80, 0x91))
    with pytest.raises(LimitExceededError):
        CelLog.from_tlv(_NUMBER + _PCR + tlv(3, many) + _CONTENT)
    big = CelLog(
        [
            CelRecord(
                recnum=0,
                register=PCR_4,
                digests={"sha256": SHA256},
                content=PcClientStd(event_type=EventType.EV_IPL, event_data=bytes(50)),
            )
        ]
    )
    for form in FORMS:
        with pytest.raises(LimitExceededError):
            read_form(form, write_form(form, big), limits=Limits(event_size=20))


def test_what_makes_no_firmware_log_is_refused() -> None:
    good = CelLog.from_log(EventLog.from_bytes((FIXTURES / "uki" / "binary_bios_measurements").read_bytes()))
    first, second = good[0], good[1]
    content = Management((FirmwareEnd(),))
    one = {"sha1": bytes(20)}
    for records_, kind in (
        ([], FormatError),
        ([second], UnsupportedError),
        ([first, CelRecord(recnum=1, register=PCR_4, digests=one, content=content)], UnsupportedError),
        (
            [first, CelRecord(recnum=0, register=Register("nv", 1), digests=one, content=second.content)],
            UnsupportedError,
        ),
        (
            [first, CelRecord(recnum=0, register=Register("rtmr", 1), digests=one, content=second.content)],
            UnsupportedError,
        ),
        (
            [first, CelRecord(recnum=0, register=PCR_4, digests={"sha512": bytes(64)}, content=second.content)],
            FormatError,
        ),
    ):
        with pytest.raises(kind):
            CelLog(records_).to_log()


def test_writers_refuse_what_an_encoding_has_no_form_for() -> None:
    wide = CelRecord(
        recnum=0, register=PCR_4, digests={"0x0123": b"x"}, content=OpaqueContent(content_type=9, data=b"")
    )
    with pytest.raises(UnsupportedError):
        CelLog([wide]).to_tlv()
    assert CelLog.from_cbor(CelLog([wide]).to_cbor())[0].digests == {"0x0123": b"x"}
    named = CelRecord(
        recnum=0, register=PCR_4, digests={"sha256": SHA256}, content=OpaqueContent(content_type="cvm", data=b"")
    )
    assert CelLog.from_json(CelLog([named]).to_json())[0] == named
    for form in ("tlv", "cbor"):
        with pytest.raises(UnsupportedError):
            write_form(form, CelLog([named]))
    for digests in ({}, {"sha256": b"x"}):
        wrong = CelRecord(recnum=0, register=PCR_4, digests=digests, content=OpaqueContent(content_type=9, data=b""))
        for form in FORMS:
            with pytest.raises(FormatError):
                write_form(form, CelLog([wrong]))
