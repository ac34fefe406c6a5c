"""Frozen records of what events hold, one module per family, and :func:`decode` that finds the right one.

The families are imported when first asked for: making their classes takes longer than reading most logs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measlog.records.base import Opaque, Record, Text, Undecodable, Utf16Text
    from measlog.records.decode import decode
    from measlog.records.device_path import DevicePath, DevicePathNode
    from measlog.records.firmware import (
        ConfigurationTable,
        FirmwareBlob,
        FirmwareBlob2,
        GceNonHostInfo,
        HandoffTables,
        HandoffTables2,
        Separator,
        VersionGuid,
    )
    from measlog.records.gpt import GptEvent, GptHeader, GptPartition
    from measlog.records.image import ImageLoadEvent
    from measlog.records.ipl import (
        GrubCommand,
        GrubFile,
        IplText,
        KernelCommandLine,
        ModuleCommandLine,
        ShimVariable,
        StubCommandLine,
        UkiSection,
    )
    from measlog.records.load_option import LoadOption
    from measlog.records.no_action import (
        HcrtmComponent,
        NvIndexDynamic,
        NvIndexInstance,
        PlatformId,
        PlatformId2,
        PlatformId3,
        SpecIdEvent,
        StartupLocality,
    )
    from measlog.records.signature_list import SignatureData, SignatureList, SignatureLists, X509Hash
    from measlog.records.sipa import SipaEvent
    from measlog.records.spdm import DeviceSecurityEvent, DeviceSecurityEvent2
    from measlog.records.tagged import TaggedEvent
    from measlog.records.txt import TxtEvent
    from measlog.records.variable import (
        Absent,
        BareCertificate,
        BootNumber,
        BootOrder,
        Flag,
        SbatLevel,
        Timeout,
        VariableData,
    )

__all__ = [
    "Absent",
    "BareCertificate",
    "BootNumber",
    "BootOrder",
    "ConfigurationTable",
    "DevicePath",
    "DevicePathNode",
    "DeviceSecurityEvent",
    "DeviceSecurityEvent2",
    "FirmwareBlob",
    "FirmwareBlob2",
    "Flag",
    "GceNonHostInfo",
    "GptEvent",
    "GptHeader",
    "GptPartition",
    "GrubCommand",
    "GrubFile",
    "HandoffTables",
    "HandoffTables2",
    "HcrtmComponent",
    "ImageLoadEvent",
    "IplText",
    "KernelCommandLine",
    "LoadOption",
    "ModuleCommandLine",
    "NvIndexDynamic",
    "NvIndexInstance",
    "Opaque",
    "PlatformId",
    "PlatformId2",
    "PlatformId3",
    "Record",
    "SbatLevel",
    "Separator",
    "ShimVariable",
    "SignatureData",
    "SignatureList",
    "SignatureLists",
    "SipaEvent",
    "SpecIdEvent",
    "StartupLocality",
    "StubCommandLine",
    "TaggedEvent",
    "Text",
    "Timeout",
    "TxtEvent",
    "UkiSection",
    "Undecodable",
    "Utf16Text",
    "VariableData",
    "VersionGuid",
    "X509Hash",
    "decode",
]

_HOMES = {
    "Absent": "variable",
    "BareCertificate": "variable",
    "BootNumber": "variable",
    "BootOrder": "variable",
    "ConfigurationTable": "firmware",
    "DevicePath": "device_path",
    "DevicePathNode": "device_path",
    "DeviceSecurityEvent": "spdm",
    "DeviceSecurityEvent2": "spdm",
    "FirmwareBlob": "firmware",
    "FirmwareBlob2": "firmware",
    "Flag": "variable",
    "GceNonHostInfo": "firmware",
    "GptEvent": "gpt",
    "GptHeader": "gpt",
    "GptPartition": "gpt",
    "GrubCommand": "ipl",
    "GrubFile": "ipl",
    "HandoffTables": "firmware",
    "HandoffTables2": "firmware",
    "HcrtmComponent": "no_action",
    "ImageLoadEvent": "image",
    "IplText": "ipl",
    "KernelCommandLine": "ipl",
    "LoadOption": "load_option",
    "ModuleCommandLine": "ipl",
    "NvIndexDynamic": "no_action",
    "NvIndexInstance": "no_action",
    "Opaque": "base",
    "PlatformId": "no_action",
    "PlatformId2": "no_action",
    "PlatformId3": "no_action",
    "Record": "base",
    "SbatLevel": "variable",
    "Separator": "firmware",
    "ShimVariable": "ipl",
    "SignatureData": "signature_list",
    "SignatureList": "signature_list",
    "SignatureLists": "signature_list",
    "SipaEvent": "sipa",
    "SpecIdEvent": "no_action",
    "StartupLocality": "no_action",
    "StubCommandLine": "ipl",
    "TaggedEvent": "tagged",
    "Text": "base",
    "Timeout": "variable",
    "TxtEvent": "txt",
    "UkiSection": "ipl",
    "Undecodable": "base",
    "Utf16Text": "base",
    "VariableData": "variable",
    "VersionGuid": "firmware",
    "X509Hash": "signature_list",
    "decode": "decode",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
