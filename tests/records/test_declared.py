"""The records, read by hand, agree with the declarations in ``measlog.formats`` on sound bytes and on broken ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from measlog import testing
from measlog.errors import FormatError
from measlog.formats import payloads, uefi
from measlog.formats.cursor import Cursor
from measlog.formats.declare import parse
from measlog.records import (
    DevicePath,
    Record,
    SignatureLists,
    SpecIdEvent,
    Undecodable,
    VariableData,
    decode,
)
from measlog.records.device_path import read_path
from measlog.records.load_option import read_load_option
from measlog.records.signature_list import read_lists
from measlog.records.sipa import read_sipa
from measlog.registry import EventType, Register
from tests.records.declared import declared, plain

E = EventType
PCR = Register("pcr", 0)
TYPES: dict[Any, EventType] = {
    uefi.UEFI_VARIABLE_DATA: E.EV_EFI_VARIABLE_DRIVER_CONFIG,
    uefi.UEFI_IMAGE_LOAD_EVENT: E.EV_EFI_BOOT_SERVICES_APPLICATION,
    uefi.UEFI_HANDOFF_TABLE_POINTERS2: E.EV_EFI_HANDOFF_TABLES2,
    uefi.UEFI_GPT_DATA: E.EV_EFI_GPT_EVENT,
    payloads.TCG_PCClientTaggedEvent: E.EV_EVENT_TAG,
    payloads.TCG_DEVICE_SECURITY_EVENT_DATA: E.EV_EFI_SPDM_FIRMWARE_BLOB,
    payloads.TCG_DEVICE_SECURITY_EVENT_DATA2: E.EV_EFI_SPDM_FIRMWARE_CONFIG,
}


def _read(declaration: Any, data: bytes) -> Record:
    """The record of the structure, or FormatError: what an event's data, or a part of one, goes through."""
    cursor = Cursor(data)
    if declaration is uefi.EFI_SIGNATURE_LISTS:
        return SignatureLists(lists=read_lists(cursor))
    if declaration is uefi.EFI_DEVICE_PATH:
        return read_path(cursor)
    if declaration is uefi.EFI_LOAD_OPTION:
        return read_load_option(cursor)
    if declaration is payloads.SIPA_EVENT:
        found = read_sipa(cursor)
        cursor.expect_end()
        return found
    record = decode(TYPES.get(declaration, E.EV_NO_ACTION), PCR, data)
    if isinstance(record, Undecodable):
        raise FormatError(record.reason)
    if record.trailing:
        raise FormatError("trailing bytes")
    return record


STRATEGIES = {
    "signature lists": testing.signature_lists(),
    "device paths": testing.device_paths(),
    "load options": testing.load_options(),
    "variables": testing.variables(),
    "image loads": testing.image_loads(),
    "handoff tables": testing.handoff_tables(),
    "gpt": testing.gpt_events(),
    "sipa": testing.sipa_events(),
    "tagged": testing.tagged_events(),
    "device security": testing.device_security_events(),
    "no action": testing.no_action_events(),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_reads_and_writes_what_the_declaration_built(name: str) -> None:
    @given(STRATEGIES[name])
    def agrees(made: testing.Built) -> None:
        record = _read(made.declaration, made.data)
        assert declared(record) == plain(parse(made.declaration, made.data, clause="test"))
        assert record.to_bytes() == made.data

    agrees()


@pytest.mark.parametrize("name", STRATEGIES)
def test_accepts_cut_bytes_only_where_the_declaration_does(name: str) -> None:
    @given(STRATEGIES[name], st.data())
    def agrees(made: testing.Built, data: st.DataObject) -> None:
        if not made.data:
            return
        short = made.data[: data.draw(st.integers(0, len(made.data) - 1))]
        _same_verdict(made.declaration, short)

    agrees()


# Where two declarations share an event type, a changed signature leads to another reading: these are compared elsewhere.
_BY_STRUCTURE = ("signature lists", "device paths", "load options", "variables", "gpt", "sipa", "handoff tables")


@pytest.mark.parametrize("name", _BY_STRUCTURE)
def test_accepts_changed_bytes_only_where_the_declaration_does(name: str) -> None:
    @given(STRATEGIES[name], st.data())
    def agrees(made: testing.Built, data: st.DataObject) -> None:
        if not made.data:
            return
        changed = bytearray(made.data)
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(
                st.one_of(st.sampled_from([0, 1, 0x7F, 0xFF]), st.integers(0, 255))
            )
        _same_verdict(made.declaration, bytes(changed))

    agrees()


def _same_verdict(declaration: Any, data: bytes) -> None:
    try:
        expected = plain(parse(declaration, data, clause="test"))
    except FormatError:
        expected = None
    try:
        found = _read(declaration, data)
    except FormatError:
        assert expected is None
        return
    if isinstance(found, SpecIdEvent) and found.vendor_info_size != len(found.vendor_info):
        # The one thing that may be missing: logs are known that leave the vendor information outside the event.
        assert expected is None
        return
    if expected is None:
        # Without its signature or its tag the data is text or bytes, which no declaration speaks of.
        with pytest.raises(AssertionError):
            declared(found)
        return
    assert declared(found) == expected


@given(st.binary(max_size=120))
@example(b"\x04\x04\x04\x00\x7f\xff\x04\x00")
def test_any_bytes_are_a_device_path_for_both_or_for_neither(data: bytes) -> None:
    _same_verdict(uefi.EFI_DEVICE_PATH, data)


@given(st.binary(max_size=120))
def test_any_bytes_are_signature_lists_for_both_or_for_neither(data: bytes) -> None:
    _same_verdict(uefi.EFI_SIGNATURE_LISTS, data)


@given(testing.device_paths())
def test_every_device_path_has_a_text_that_gives_it_back(made: testing.Built) -> None:
    # UEFI 2.10, 10.6: the text form is reversible. A path without its end node gets one.
    path = read_path(Cursor(made.data))
    again = DevicePath.from_text(path.text)
    ended = path.nodes[-1:] == again.nodes[-1:]
    assert again.nodes == (path.nodes if ended else (*path.nodes, again.nodes[-1]))


@given(testing.variables())
def test_spans_hold_what_the_fields_were_read_from(made: testing.Built) -> None:
    record = decode(E.EV_EFI_VARIABLE_DRIVER_CONFIG, PCR, made.data)
    assert isinstance(record, VariableData)
    spans = record.spans

    def at(name: str) -> bytes:
        return made.data[slice(*spans[name])]

    assert at("guid") == record.guid.bytes_le
    assert at("name") == record.name.encode("utf-16-le", "surrogatepass")
    assert at("value") == record.value
    if isinstance(record.decoded, SignatureLists):
        for number, item in enumerate(record.decoded.lists):
            for index, signature in enumerate(item.signatures):
                name = f"decoded.lists[{number}].signatures[{index}]"
                assert (at(f"{name}.owner"), at(f"{name}.data")) == (signature.owner.bytes_le, signature.data)
    assert all(0 <= start <= end <= len(made.data) for start, end in spans.values())
