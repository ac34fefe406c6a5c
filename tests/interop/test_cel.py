"""The TCG Canonical Event Log: other tools' files, firmware logs there and back, and all encodings of all contents."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import cbor2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from measlog import EventLog
from measlog.errors import FormatError, UnsupportedError
from measlog.formats.cel import CEL_RECORD, ImaTlvType, walk_tlvs
from measlog.formats.declare import parse
from measlog.interop.cel import (
    CelLog,
    CelRecord,
    CelTimestamp,
    CelVersion,
    FirmwareEnd,
    ImaTlv,
    Management,
    PcClientStd,
    StateTransition,
)
from measlog.interop.cel.records import OpaqueContent
from measlog.registry import EventType, Register
from tests.conftest import FIXTURES, shared_path
from tests.interop.cases import CEL_TABLE as CONTENTS
from tests.interop.cases import cel_log
from tests.interop.cel_maker import FORMS, read_form, records, tlv, write_form
from tests.records.logs import log_id, own_logs, shared_logs

SHA256 = bytes(range(32))
PCR_4 = Register("pcr", 4)

# Files of other tools.


def test_records_equal_those_that_tpm2_tools_prints() -> None:
    text = shared_path("corpus", "tpm2-tools-golden", "event-moklisttrusted-hex.yaml").read_text()
    expected = yaml.safe_load(text)
    log = EventLog.from_bytes(shared_path("corpus", "logs", "event-moklisttrusted.bin").read_bytes())
    found = json.loads(CelLog.from_log(log).to_json())
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        # Rule: the tool's records on PCR 0 are numbered from 1, those on other registers from 0 as the specification says.
        other["recnum"] -= other["pcr"] == 0
        assert one == other


def test_the_tools_own_document_is_read_with_its_numbers() -> None:
    text = shared_path("corpus", "tpm2-tools-golden", "event-moklisttrusted-hex.yaml").read_text()
    read = CelLog.from_json(json.dumps(yaml.safe_load(text)).encode())
    assert read.numbering == "register"
    log = EventLog.from_bytes(shared_path("corpus", "logs", "event-moklisttrusted.bin").read_bytes())
    assert read.to_log() == log


def test_the_log_of_a_confidential_space_is_read_and_written_back() -> None:
    data = base64.b64decode(shared_path("corpus", "other", "cel-tlv.b64").read_text())
    log = CelLog.from_tlv(data)
    assert len(log) == 18
    assert log.to_tlv() == data
    first = log[0]
    # go-tpm-tools: field 108, measurement register 4 of the CCEL, which is RTMR 3; its own content type 80.
    assert (first.recnum, first.register) == (0, Register("rtmr", 3))
    assert set(first.digests) == {"sha384"}
    assert isinstance(first.content, OpaqueContent)
    assert first.content.content_type == 80
    assert b"us-west1-docker.pkg.dev" in first.content.data
    with pytest.raises(UnsupportedError, match="RTMR 3"):
        log.to_json()


# Firmware logs: there and back.

OUTSIDE = {"specid-vendordata"}  # vendor information outside the Spec ID event
FILLED = {"ccel-event-log", "cos-113-intel-tdx", "cos-113-intel-tdx-dupe-separator"}


@pytest.mark.parametrize("path", own_logs() + shared_logs(), ids=log_id)
def test_every_log_comes_back_from_every_encoding(path: Path) -> None:
    log = EventLog.from_bytes(path.read_bytes())
    cel = CelLog.from_log(log)
    assert [r.content.event_data for r in cel if isinstance(r.content, PcClientStd)] == [e.raw for e in log]
    assert [r.measured for r in cel] == [e.type != EventType.EV_NO_ACTION for e in log]
    for form in ("tlv",) if log.kind == "ccel" else FORMS:
        assert read_form(form, write_form(form, cel)) == cel
    if path.stem in OUTSIDE:
        with pytest.raises(FormatError):
            cel.to_log()
        return
    again = cel.to_log()
    end = log.filler.offset if log.filler is not None else len(log.to_bytes())
    assert log.filler is None or path.stem in FILLED
    assert again.to_bytes() == log.to_bytes()[:end]


def test_what_systemd_pcrlock_prints_can_be_had() -> None:
    # Its numbers go through the whole log, from 1, and it leaves EV_NO_ACTION out.
    log = EventLog.from_bytes((FIXTURES / "uki" / "binary_bios_measurements").read_bytes())
    cel = CelLog.from_log(log, numbering="log", first=1, no_action=False)
    events = [event for event in log if event.type is not EventType.EV_NO_ACTION]
    assert [record.recnum for record in cel] == list(range(1, len(events) + 1))
    assert [record.register for record in cel] == [event.register for event in events]
    assert CelLog.from_json(cel.to_json()).numbering == "log"
    with pytest.raises(FormatError):
        CelLog.from_log(log, no_action=False).to_log().replay("sha256")


# One table of contents in all three encodings, written out by hand; CBOR by another library.


@pytest.mark.parametrize(("content", "as_tlv", "as_json", "as_cbor"), CONTENTS)
@pytest.mark.parametrize(
    ("register", "kind", "number"), [(PCR_4, "pcr", 4), (Register("nv", 0x1C00002), "nv_index", 0x1C00002)]
)
def test_contents_in_all_encodings(
    content: Any, as_tlv: bytes, as_json: Any, as_cbor: Any, register: Register, kind: str, number: int
) -> None:
    log = CelLog([CelRecord(recnum=3, register=register, digests={"sha256": SHA256}, content=content)])
    place = tlv(1, b"\4") if kind == "pcr" else tlv(2, number.to_bytes(4, "big"))
    data = tlv(0, (3).to_bytes(8, "big")) + place + tlv(3, tlv(11, SHA256)) + as_tlv
    assert log.to_tlv() == data
    assert CelLog.from_tlv(data) == log
    for cut in range(1, len(data)):
        with pytest.raises(FormatError):
            CelLog.from_tlv(data[:cut])
    document = [
        {
            "recnum": 3,
            kind: number,
            "digests": [{"hashAlg": "sha256", "digest": SHA256.hex()}],
            "content_type": as_json[0],
            "content": as_json[1],
        }
    ]
    assert json.loads(log.to_json()) == document
    assert CelLog.from_json(json.dumps(document).encode()) == log
    item = {0: 3, 1 if kind == "pcr" else 2: number, 3: [{0: 11, 1: SHA256}], 9: as_cbor[0], 10: as_cbor[1]}
    assert log.to_cbor() == cbor2.dumps([item], canonical=True)
    assert CelLog.from_cbor(cbor2.dumps([item])) == log
    for form in FORMS:
        with pytest.raises(FormatError):
            read_form(form, write_form(form, log) + b"\1")


@given(records())
def test_every_log_round_trips_in_every_encoding(made: list[CelRecord]) -> None:
    log = CelLog(made)
    for form in FORMS:
        again = read_form(form, write_form(form, log))
        assert again == log
        assert write_form(form, again) == write_form(form, log)


@given(records())
def test_the_walk_over_fields_agrees_with_the_declaration(made: list[CelRecord]) -> None:
    data = CelLog(made).to_tlv()
    fields = list(walk_tlvs(data, 0, len(data), path="test"))
    at = 0
    for number in range(0, len(fields), 4):
        end = fields[number + 3][2]
        record = parse(CEL_RECORD, data[at:end], clause="test")
        for field, (kind, start, stop) in zip(
            (record.recnum, record.register, record.digests, record.content), fields[number : number + 4], strict=True
        ):
            assert (field.type, field.value) == (kind, data[start:stop])
        at = end


@given(records(), st.sampled_from(FORMS), st.data())
def test_any_bytes_give_a_log_or_a_format_error(made: list[CelRecord], form: str, draw: st.DataObject) -> None:
    data = bytearray(write_form(form, CelLog(made)))
    for _ in range(draw.draw(st.integers(0, 3))):
        place = draw.draw(st.integers(0, max(0, len(data) - 1)))
        data[place : place + draw.draw(st.integers(0, 3))] = draw.draw(st.binary(max_size=3))
    try:
        log = read_form(form, bytes(data))
    except FormatError:
        return
    assert read_form(form, write_form(form, log)) == log


def test_numbers_in_the_place_of_names_are_read_in_json() -> None:
    # whooo/libcel, test/data/cel_multi_numbers.json
    record = {
        "nv_index": 10,
        "recnum": 20,
        "content_type": 4,
        "content": [
            {"type": 2},
            {"type": 80, "data": 1234567890},
            {"type": 81, "data": 2},
            {"type": 1, "data": {"major": 123, "minor": 456}},
        ],
        "digests": [{"hashAlg": 4, "digest": "aa" * 20}],
    }
    (only,) = CelLog.from_json(json.dumps([record]).encode())
    assert only.register == Register("nv", 10)
    assert only.digests == {"sha1": b"\xaa" * 20}
    events = (FirmwareEnd(), CelTimestamp(1234567890), StateTransition("kexec"), CelVersion(major=123, minor=456))
    assert only.content == Management(events)
    assert only.measured


def test_systemds_own_objects_stay_in_json() -> None:
    content = {"string": "enter-initrd", "bootId": "00" * 16, "timestamp": 123, "eventType": "phase"}
    record = {
        "recnum": 0,
        "pcr": 11,
        "digests": [{"hashAlg": "sha256", "digest": SHA256.hex()}],
        "content_type": "systemd",
        "content": content,
    }
    log = CelLog.from_json(json.dumps([record]).encode())
    assert json.loads(log.to_json()) == [record]
    for form in ("tlv", "cbor"):
        with pytest.raises(UnsupportedError, match="json"):
            write_form(form, log)
    item = {0: 0, 1: 11, 3: [{0: 11, 1: SHA256}], 9: 200, 10: {0: 7}}
    log = CelLog.from_cbor(cbor2.dumps([item]))
    assert log.to_cbor() == cbor2.dumps([item], canonical=True)
    for form in ("tlv", "json"):
        with pytest.raises(UnsupportedError, match="cbor"):
            write_form(form, log)


def test_numbers_of_any_length_are_read_in_tlv() -> None:
    tail = tlv(3, tlv(11, SHA256)) + tlv(9, b"x")
    short = tlv(0, b"\4\xd2") + tlv(1, b"\0") + tail  # whooo/libcel, test_tlv.c: record number 1234
    long = tlv(0, (1234).to_bytes(8, "big")) + tlv(1, bytes(4)) + tail
    assert CelLog.from_tlv(short) == CelLog.from_tlv(long)
    assert CelLog.from_tlv(short)[0].recnum == 1234


def test_what_ima_measured_field_by_field() -> None:
    content = ImaTlv(tlv(0, b"/x") + tlv(7, b"label"))
    assert dict(content.fields) == {ImaTlvType.PATH: b"/x", ImaTlvType.LABEL: b"label"}
    record = CelRecord(recnum=0, register=Register("pcr", 10), digests={"sha256": SHA256}, content=content)
    assert record.text == "/x"


def test_records_fit_the_history_of_joined_logs() -> None:
    # Items with a register, the values that were extended by bank, and a text.
    log = cel_log([row[0] for row in CONTENTS])
    assert [(str(r.register), set(r.digests)) for r in log.measured()] == [("PCR 4", {"sha256"})] * 9
    assert [r.text for r in log.measured()] == [
        "EV_SEPARATOR",
        "EV_0x00000099",
        "ima-ng",
        "/x",
        "CelTimestamp",
        "StateTransition",
        "FirmwareEnd, StateTransition",
        "enter-initrd",
        "\1",
    ]
    with pytest.raises(TypeError):
        log[0].digests["sha256"] = b""  # type: ignore[index]
    assert str(Register("nv", 0x1C00002)) == "NV 0x01c00002"
    assert {log: 1}[cel_log([row[0] for row in CONTENTS])] == 1
    assert repr(log) == "<CelLog: 11 records>"
    assert list(log[1:2]) == [log[1]]
    assert pickle.loads(pickle.dumps(log)) == log


def test_the_registers_of_tdx_are_those_of_the_ccel() -> None:
    content = OpaqueContent(content_type=80, data=b"x")
    for register, number in ((Register("mrtd", 0), 0), (Register("rtmr", 0), 1), (Register("rtmr", 3), 4)):
        log = CelLog([CelRecord(recnum=0, register=register, digests={"sha384": bytes(48)}, content=content)])
        assert log.to_tlv()[13:19] == tlv(108, bytes([number]))
        assert CelLog.from_tlv(log.to_tlv()) == log
        for form in ("json", "cbor"):
            with pytest.raises(UnsupportedError):
                write_form(form, log)
