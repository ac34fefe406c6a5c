"""Event data that the PC Client Platform Firmware Profile 1.06 (PFP) defines, and what systems put into its tags.

Declared as printed there: EV_NO_ACTION (10.4.5), SPDM device events (10.2.7), tagged events (10.4.2.1), and Windows'
SIPA trees (wbcl.h), which are tagged events within tagged events.
"""

from __future__ import annotations

from typing import Any

import construct as c

from measlog.formats.uefi import EFI_GUID, UntilEnd

__all__ = [
    "SIPA_EVENT",
    "SPDM_MEASUREMENT_BLOCK",
    "TCG_DEVICE_SECURITY_EVENT_DATA",
    "TCG_DEVICE_SECURITY_EVENT_DATA2",
    "TCG_DEVICE_SECURITY_EVENT_DATA_PCI_CONTEXT",
    "TCG_NV_INDEX_DYNAMIC_EVENT_LOG_STRUCT",
    "TCG_NV_INDEX_INSTANCE_EVENT_LOG_STRUCT",
    "TCG_HCRTMComponentEvent",
    "TCG_PCClientSpecIDEvent",
    "TCG_PCClientTaggedEvent",
    "TCG_Sp800_155_PlatformId_Event",
    "TCG_Sp800_155_PlatformId_Event2",
    "TCG_Sp800_155_PlatformId_Event3",
    "sub_header_bytes",
]

_SHORT = c.Prefixed(c.Int8ul, c.GreedyBytes)

# TCG EFI Platform 1.22, 7.4, and TCG PC Client Implementation for Conventional BIOS 1.21, 11.3.4.1: before digests
# of several algorithms. uintnSize is a reserved byte in Spec ID Event00.
TCG_PCClientSpecIDEvent = c.Struct(
    "signature" / c.OneOf(c.Bytes(16), [b"Spec ID Event00\0", b"Spec ID Event02\0"]),
    "platformClass" / c.Int32ul,
    "specVersionMinor" / c.Int8ul,
    "specVersionMajor" / c.Int8ul,
    "specErrata" / c.Int8ul,
    "uintnSize" / c.Int8ul,
    "vendorInfo" / _SHORT,
)

# 10.4.5.4 TCG_HCRTMComponentEvent
TCG_HCRTMComponentEvent = c.Struct(
    "Signature" / c.Const(b"H-CRTM CompMeas\0"),
    "ComponentDescription" / _SHORT,
    "MeasurementFormatType" / c.Int8ul,
    "ComponentMeasurement" / c.Prefixed(c.Int16ul, c.GreedyBytes),
)

_PLATFORM = (
    "PlatformManufacturerStr" / _SHORT,
    "PlatformModel" / _SHORT,
    "PlatformVersion" / _SHORT,
    "FirmwareManufacturerStr" / _SHORT,
    "FirmwareManufacturerId" / c.Int32ul,
    "FirmwareVersion" / _SHORT,
)

# 10.4.5.2 SP800-155 events
TCG_Sp800_155_PlatformId_Event = c.Struct(
    "Signature" / c.Const(b"SP800-155 Event\0"), "VendorId" / c.Int32ul, "ReferenceManifestGuid" / EFI_GUID
)
TCG_Sp800_155_PlatformId_Event2 = c.Struct(
    "Signature" / c.Const(b"SP800-155 Event2"), "VendorId" / c.Int32ul, "ReferenceManifestGuid" / EFI_GUID, *_PLATFORM
)
TCG_Sp800_155_PlatformId_Event3 = c.Struct(
    "Signature" / c.Const(b"SP800-155 Event3"),
    "VendorId" / c.Int32ul,
    "ReferenceManifestGuid" / EFI_GUID,
    *_PLATFORM,
    "RimLocatorType" / c.Int32ul,
    "RimLocator" / c.Prefixed(c.Int32ul, c.GreedyBytes),
    "PlatformCertLocatorType" / c.Int32ul,
    "PlatformCertLocator" / c.Prefixed(c.Int32ul, c.GreedyBytes),
)

# DMTF DSP0274, MEASUREMENTS response
SPDM_MEASUREMENT_BLOCK = c.Struct(
    "Index" / c.Int8ul,
    "MeasurementSpecification" / c.Int8ul,
    "Measurement" / c.Prefixed(c.Int16ul, c.GreedyBytes),
)

# 10.2.7: Length counts the whole context
TCG_DEVICE_SECURITY_EVENT_DATA_PCI_CONTEXT = c.Struct(
    "Version" / c.Int16ul,
    "Length" / c.Const(16, c.Int16ul),
    "VendorId" / c.Int16ul,
    "DeviceId" / c.Int16ul,
    "RevisionID" / c.Int8ul,
    "ClassCode" / c.Bytes(3),
    "SubsystemVendorID" / c.Int16ul,
    "SubsystemID" / c.Int16ul,
)
TCG_DEVICE_SECURITY_EVENT_DATA_USB_CONTEXT = c.Struct(
    "Version" / c.Int16ul,
    "Length" / c.Rebuild(c.Int16ul, lambda ctx: 4 + len(ctx.Descriptors)),
    "Descriptors" / c.Bytes(lambda ctx: ctx.Length - 4),
)

_CONTEXT = c.Switch(
    lambda ctx: ctx.DeviceType,
    {1: TCG_DEVICE_SECURITY_EVENT_DATA_PCI_CONTEXT, 2: TCG_DEVICE_SECURITY_EVENT_DATA_USB_CONTEXT},
    default=c.GreedyBytes,
)

TCG_DEVICE_SECURITY_EVENT_DATA = c.Struct(
    "Signature" / c.Const(b"SPDM Device Sec\0"),
    "Version" / c.Const(1, c.Int16ul),
    "Length" / c.Int16ul,
    "SpdmHashAlgo" / c.Int32ul,
    "DeviceType" / c.Int32ul,
    "SpdmMeasurementBlock" / SPDM_MEASUREMENT_BLOCK,
    "DeviceContext" / _CONTEXT,
)

_MEASUREMENTS = c.Struct(
    "SpdmVersion" / c.Int16ul,
    "SpdmMeasurementBlockCount" / c.Rebuild(c.Int8ul, lambda ctx: len(ctx.SpdmMeasurementBlock)),
    "Reserved" / c.Int8ul,
    "SpdmMeasurementHashAlgo" / c.Int32ul,
    "SpdmMeasurementBlock" / c.Array(lambda ctx: ctx.SpdmMeasurementBlockCount, SPDM_MEASUREMENT_BLOCK),
)
_CERT_CHAIN = c.Struct(
    "SpdmVersion" / c.Int16ul,
    "SpdmSlotId" / c.Int8ul,
    "Reserved" / c.Int8ul,
    "SpdmHashAlgo" / c.Int32ul,
    "SpdmCertChain" / c.GreedyBytes,
)
_OEM = c.Struct("Type" / c.Int32ul, "Value" / c.Prefixed(c.Int32ul, c.GreedyBytes))
_SUB_HEADERS = {0: _MEASUREMENTS, 1: _CERT_CHAIN, 2: _OEM}


class _SubHeader(c.Construct):  # type: ignore[misc]
    """What SubHeaderType says, SubHeaderLength bytes long; written first of all, so that its length is known."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        data = c.stream_read(stream, context.SubHeaderLength, path)
        declared = _SUB_HEADERS.get(context.SubHeaderType, c.GreedyBytes)
        return c.Struct("value" / declared, c.Terminated).parse(data).value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        data = sub_header_bytes(context.SubHeaderType, obj)
        c.stream_write(stream, data, len(data), path)
        return obj


def sub_header_bytes(kind: int, value: Any) -> bytes:
    """A sub header of a device security event as it is written."""
    built: bytes = _SUB_HEADERS.get(kind, c.GreedyBytes).build(value)
    return built


TCG_DEVICE_SECURITY_EVENT_DATA2 = c.Struct(
    "Signature" / c.Const(b"SPDM Device Sec2"),
    "Version" / c.Const(2, c.Int16ul),
    "AuthState" / c.Int8ul,
    "Reserved" / c.Int8ul,
    "Length" / c.Int32ul,
    "DeviceType" / c.Int32ul,
    "SubHeaderType" / c.Int32ul,
    "SubHeaderLength"
    / c.Rebuild(c.Int32ul, lambda ctx: len(sub_header_bytes(ctx.SubHeaderType, ctx.EventDataSubHeader))),
    "SubHeaderUID" / c.Int64ul,
    "DevicePath" / c.Prefixed(c.Int64ul, c.GreedyBytes),
    "EventDataSubHeader" / _SubHeader(),
    "DeviceContext" / _CONTEXT,
)

# 10.4.5.5: extended into NV indices 0x01C40200 and 0x01C40201
TCG_NV_INDEX_INSTANCE_EVENT_LOG_STRUCT = c.Struct(
    "Signature" / c.Const(b"NvIndexInstance\0"),
    "Version" / c.Int16ul,
    "Reserved" / c.Bytes(6),
    "Data" / TCG_DEVICE_SECURITY_EVENT_DATA2,
)
TCG_NV_INDEX_DYNAMIC_EVENT_LOG_STRUCT = c.Struct(
    "Signature" / c.Const(b"NvIndexDynamic \0"),
    "Version" / c.Int16ul,
    "Reserved" / c.Bytes(6),
    "Uid" / c.Int64ul,
    "Description" / c.Prefixed(c.Int16ul, c.GreedyBytes),
    "Data" / c.Prefixed(c.Int16ul, c.GreedyBytes),
)

# 10.4.2.1 TCG_PCClientTaggedEvent
TCG_PCClientTaggedEvent = c.Struct(
    "taggedEventID" / c.Int32ul, "taggedEventData" / c.Prefixed(c.Int32ul, c.GreedyBytes)
)

# wbcl.h: an aggregation holds events, any other event a value
SIPA_EVENT: Any = c.Struct(
    "Type" / c.Int32ul,
    "Data"
    / c.IfThenElse(
        lambda ctx: ctx.Type & 0x000F0000 == 0x00010000,
        c.Prefixed(c.Int32ul, UntilEnd(c.LazyBound(lambda: SIPA_EVENT))),
        c.Prefixed(c.Int32ul, c.GreedyBytes),
    ),
)
