"""Frozen records of what events hold, one module per family, and :func:`decode` that finds the right one."""

from __future__ import annotations

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
