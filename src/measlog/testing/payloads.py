"""Event data, built by the declarations of :mod:`measlog.formats` from drawn values."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import strategies as st

from measlog.formats import payloads as p
from measlog.formats import uefi as u
from measlog.formats.declare import build
from measlog.registry import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE, SHIM_LOCK

__all__ = [
    "Built",
    "device_paths",
    "device_security_events",
    "gpt_events",
    "handoff_tables",
    "image_loads",
    "load_options",
    "no_action_events",
    "signature_lists",
    "sipa_events",
    "tagged_events",
    "variables",
]


class Built(NamedTuple):
    """A declaration, the value that was drawn for it, and the bytes that it gives."""

    declaration: Any
    value: Any
    data: bytes


def _built(declaration: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Built]:
    return values.map(lambda value: Built(declaration, value, build(declaration, value)))


def _bytes(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


_u8 = st.integers(0, 0xFF)
_u16 = st.integers(0, 0xFFFF)
_u32 = st.integers(0, 0xFFFFFFFF)
_u64 = st.integers(0, 2**64 - 1)
_guid = st.one_of(
    st.uuids(), st.sampled_from([EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE, SHIM_LOCK, UUID(int=0)])
)
_short = st.binary(max_size=20)
# CHAR16 text: any unit but NUL, unpaired surrogates included.
_char16 = st.lists(st.integers(1, 0xFFFF), max_size=12).map(
    lambda units: b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le", "surrogatepass")
)


@st.composite
def _signature_list(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.one_of(st.sampled_from(sorted(u.SIGNATURE_SIZES)), st.uuids()))
    size = u.SIGNATURE_SIZES.get(kind) or draw(st.integers(16, 60))
    entry = st.fixed_dictionaries({"SignatureOwner": _guid, "SignatureData": _bytes(size - 16)})
    return {
        "SignatureType": kind,
        "SignatureSize": size,
        "SignatureHeader": draw(st.one_of(st.just(b""), st.binary(max_size=8))),
        "Signatures": draw(st.lists(entry, max_size=3)),
    }


def signature_lists() -> st.SearchStrategy[Built]:
    """EFI_SIGNATURE_LISTs one after another, of known and unknown types (UEFI 2.10, 32.4.1)."""
    return _built(u.EFI_SIGNATURE_LISTS, st.lists(_signature_list(), max_size=3))


_KNOWN_NODES = [
    *((1, sub) for sub in range(1, 7)),
    *((2, sub) for sub in range(1, 5)),
    *((3, sub) for sub in range(1, 35)),
    *((4, sub) for sub in range(1, 10)),
    (5, 1),
]


@st.composite
def _node(draw: st.DrawFn) -> dict[str, Any]:
    kind, subtype = draw(st.one_of(st.sampled_from(_KNOWN_NODES), st.tuples(_u8, _u8)))
    if kind == 0x7F and subtype == 0xFF:
        subtype = 1
    return {"Type": kind, "SubType": subtype, "Data": draw(st.binary(max_size=48))}


def device_paths() -> st.SearchStrategy[Built]:
    """Device paths with nodes of all kinds, sound and odd, with or without their end node (UEFI 2.10, 10.3)."""
    end = {"Type": 0x7F, "SubType": 0xFF, "Data": b""}
    nodes = st.lists(_node(), max_size=5)
    whole = st.one_of(nodes, nodes.map(lambda found: [*found, end]))
    return _built(u.EFI_DEVICE_PATH, whole.map(lambda found: {"Nodes": found}))


def load_options() -> st.SearchStrategy[Built]:
    """EFI_LOAD_OPTION with one device path or none (UEFI 2.10, 3.1.3)."""
    return _built(
        u.EFI_LOAD_OPTION,
        st.fixed_dictionaries(
            {
                "Attributes": _u32,
                "Description": _char16,
                "FilePathList": st.one_of(st.just(b""), device_paths().map(lambda made: made.data)),
                "OptionalData": _short,
            }
        ),
    )


_NAMES = ["SecureBoot", "PK", "KEK", "db", "dbx", "BootOrder", "Boot0001", "MokList", "MokSBState", "SbatLevel", "Shim"]
_values = st.one_of(
    st.binary(max_size=24),
    st.sampled_from([b"", b"\0", b"\1", b"\2", b"sbat,1,2021030218\n"]),
    signature_lists().map(lambda made: made.data),
    load_options().map(lambda made: made.data),
)


def variables() -> st.SearchStrategy[Built]:
    """UEFI_VARIABLE_DATA of variables with a meaning and of others; the value need not fit the name (PFP 10.2.6)."""
    return _built(
        u.UEFI_VARIABLE_DATA,
        st.fixed_dictionaries(
            {"VariableName": _guid, "UnicodeName": st.one_of(st.sampled_from(_NAMES), _char16), "VariableData": _values}
        ),
    )


def image_loads() -> st.SearchStrategy[Built]:
    """UEFI_IMAGE_LOAD_EVENT (PFP 10.2.3)."""
    return _built(
        u.UEFI_IMAGE_LOAD_EVENT,
        st.fixed_dictionaries(
            {
                "ImageLocationInMemory": _u64,
                "ImageLengthInMemory": _u64,
                "ImageLinkTimeAddress": _u64,
                "DevicePath": st.one_of(device_paths().map(lambda made: made.data), _short),
            }
        ),
    )


def handoff_tables() -> st.SearchStrategy[Built]:
    """UEFI_HANDOFF_TABLE_POINTERS2 (PFP 10.2.4)."""
    entry = st.fixed_dictionaries({"VendorGuid": _guid, "VendorTable": _u64})
    return _built(
        u.UEFI_HANDOFF_TABLE_POINTERS2,
        st.fixed_dictionaries({"TableDescription": st.text(max_size=9), "TableEntry": st.lists(entry, max_size=3)}),
    )


@st.composite
def _gpt(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(st.sampled_from([128, 128, 136, 256]))
    number = draw(st.integers(0, 3))
    return {
        "UEFIPartitionHeader": {
            "Revision": draw(_u32),
            "HeaderSize": draw(_u32),
            "HeaderCRC32": draw(_u32),
            "Reserved": draw(_u32),
            "MyLBA": draw(_u64),
            "AlternateLBA": draw(_u64),
            "FirstUsableLBA": draw(_u64),
            "LastUsableLBA": draw(_u64),
            "DiskGUID": draw(_guid),
            "PartitionEntryLBA": draw(_u64),
            "NumberOfPartitionEntries": draw(_u32),
            "SizeOfPartitionEntry": size,
            "PartitionEntryArrayCRC32": draw(_u32),
        },
        "Partitions": [
            {
                "PartitionTypeGUID": draw(_guid),
                "UniquePartitionGUID": draw(_guid),
                "StartingLBA": draw(_u64),
                "EndingLBA": draw(_u64),
                "Attributes": draw(_u64),
                "PartitionName": draw(_bytes(72)),
                "Reserved": draw(_bytes(size - 128)),
            }
            for _ in range(number)
        ],
    }


def gpt_events() -> st.SearchStrategy[Built]:
    """UEFI_GPT_DATA with entries of 128 bytes and of more (PFP 10.2.6)."""
    return _built(u.UEFI_GPT_DATA, _gpt())


_sipa_leaf = st.fixed_dictionaries(
    {"Type": st.sampled_from([0x00020002, 0x00050001, 0x00070001, 0x80080001]), "Data": _short}
)
_sipa_tree = st.recursive(
    _sipa_leaf,
    lambda children: st.fixed_dictionaries(
        {"Type": st.sampled_from([0x40010001, 0x40010003, 0xC0010004]), "Data": st.lists(children, max_size=4)}
    ),
    max_leaves=8,
)


def sipa_events() -> st.SearchStrategy[Built]:
    """Trees of Windows' measured boot events (wbcl.h), a few levels deep."""
    return _built(p.SIPA_EVENT, _sipa_tree)


def tagged_events() -> st.SearchStrategy[Built]:
    """TCG_PCClientTaggedEvent with tags of Linux and systemd, and with unknown ones (PFP 10.4.2.1)."""
    number = st.one_of(st.sampled_from([0x8F3B22EC, 0x8F3B22ED, 0xF5BC582A]), st.integers(0x01000000, 0x3FFFFFFF))
    return _built(
        p.TCG_PCClientTaggedEvent, st.fixed_dictionaries({"taggedEventID": number, "taggedEventData": _short})
    )


_block = st.fixed_dictionaries({"Index": _u8, "MeasurementSpecification": _u8, "Measurement": _short})
_pci = st.fixed_dictionaries(
    {
        "Version": _u16,
        "VendorId": _u16,
        "DeviceId": _u16,
        "RevisionID": _u8,
        "ClassCode": _bytes(3),
        "SubsystemVendorID": _u16,
        "SubsystemID": _u16,
    }
)
_usb = st.fixed_dictionaries({"Version": _u16, "Descriptors": _short})
_contexts = st.one_of(
    st.tuples(st.just(1), _pci), st.tuples(st.just(2), _usb), st.tuples(st.sampled_from([0, 3, 0x80000000]), _short)
)
_measurements = st.fixed_dictionaries(
    {
        "SpdmVersion": _u16,
        "Reserved": _u8,
        "SpdmMeasurementHashAlgo": _u32,
        "SpdmMeasurementBlock": st.lists(_block, max_size=3),
    }
)
_chain = st.fixed_dictionaries(
    {"SpdmVersion": _u16, "SpdmSlotId": _u8, "Reserved": _u8, "SpdmHashAlgo": _u32, "SpdmCertChain": _short}
)
_oem = st.fixed_dictionaries({"Type": _u32, "Value": _short})
_sub_headers = st.one_of(
    st.tuples(st.just(0), _measurements),
    st.tuples(st.just(1), _chain),
    st.tuples(st.just(2), _oem),
    st.tuples(st.just(7), _short),
)


@st.composite
def _device_security2(draw: st.DrawFn) -> dict[str, Any]:
    device_type, context = draw(_contexts)
    sub_type, sub_header = draw(_sub_headers)
    return {
        "AuthState": draw(_u8),
        "Reserved": draw(_u8),
        "Length": draw(_u32),
        "DeviceType": device_type,
        "SubHeaderType": sub_type,
        "SubHeaderUID": draw(_u64),
        "DevicePath": draw(device_paths()).data,
        "EventDataSubHeader": sub_header,
        "DeviceContext": context,
    }


@st.composite
def _device_security(draw: st.DrawFn) -> dict[str, Any]:
    device_type, context = draw(_contexts)
    return {
        "Length": draw(_u16),
        "SpdmHashAlgo": draw(_u32),
        "DeviceType": device_type,
        "SpdmMeasurementBlock": draw(_block),
        "DeviceContext": context,
    }


def device_security_events() -> st.SearchStrategy[Built]:
    """TCG_DEVICE_SECURITY_EVENT_DATA of both versions, with all sub headers and contexts (PFP 10.2.7)."""
    return st.one_of(
        _built(p.TCG_DEVICE_SECURITY_EVENT_DATA, _device_security()),
        _built(p.TCG_DEVICE_SECURITY_EVENT_DATA2, _device_security2()),
    )


_platform1 = {"VendorId": _u32, "ReferenceManifestGuid": _guid}
_platform2 = {
    **_platform1,
    "PlatformManufacturerStr": _short,
    "PlatformModel": _short,
    "PlatformVersion": _short,
    "FirmwareManufacturerStr": _short,
    "FirmwareManufacturerId": _u32,
    "FirmwareVersion": _short,
}
_platform3 = {
    **_platform2,
    "RimLocatorType": _u32,
    "RimLocator": _short,
    "PlatformCertLocatorType": _u32,
    "PlatformCertLocator": _short,
}


def no_action_events() -> st.SearchStrategy[Built]:
    """What EV_NO_ACTION holds, the Spec ID event of crypto-agile logs apart (PFP 10.4.5)."""
    old = {
        "signature": st.sampled_from([b"Spec ID Event00\0", b"Spec ID Event02\0"]),
        "platformClass": _u32,
        "specVersionMinor": _u8,
        "specVersionMajor": _u8,
        "specErrata": _u8,
        "uintnSize": _u8,
        "vendorInfo": _short,
    }
    hcrtm = {"ComponentDescription": _short, "MeasurementFormatType": _u8, "ComponentMeasurement": _short}
    dynamic = {"Version": _u16, "Reserved": _bytes(6), "Uid": _u64, "Description": _short, "Data": _short}
    instance = {"Version": _u16, "Reserved": _bytes(6), "Data": _device_security2()}
    return st.one_of(
        _built(p.TCG_PCClientSpecIDEvent, st.fixed_dictionaries(old)),
        _built(p.TCG_HCRTMComponentEvent, st.fixed_dictionaries(hcrtm)),
        _built(p.TCG_Sp800_155_PlatformId_Event, st.fixed_dictionaries(_platform1)),
        _built(p.TCG_Sp800_155_PlatformId_Event2, st.fixed_dictionaries(_platform2)),
        _built(p.TCG_Sp800_155_PlatformId_Event3, st.fixed_dictionaries(_platform3)),
        _built(p.TCG_NV_INDEX_DYNAMIC_EVENT_LOG_STRUCT, st.fixed_dictionaries(dynamic)),
        _built(p.TCG_NV_INDEX_INSTANCE_EVENT_LOG_STRUCT, st.fixed_dictionaries(instance)),
    )
