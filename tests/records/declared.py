"""What a record says, put the way the declarations of ``measlog.formats`` say it.

The declarations are an independent reading of the same bytes: they are written from the specification's tables and share
no code with the records, which are read by hand.
"""

from __future__ import annotations

from typing import Any

from measlog import records as r
from measlog.formats.cursor import encode_text
from measlog.records.signature_list import SignatureList
from measlog.records.spdm import OemMeasurement, PciContext, SpdmCertChain, SpdmMeasurements, UsbContext


def plain(value: Any) -> Any:
    """construct's containers as plain values, without what they add for themselves."""
    if isinstance(value, dict):
        checks = {"long", "ended", "sound", "large"}
        return {k: plain(v) for k, v in value.items() if not k.startswith("_") and k not in checks}
    return [plain(v) for v in value] if isinstance(value, list) else value


def _signature_list(item: SignatureList) -> dict[str, Any]:
    return {
        "SignatureType": item.type,
        "SignatureListSize": len(item.to_bytes()),
        "SignatureHeaderSize": len(item.header),
        "SignatureSize": item.signature_size,
        "SignatureHeader": item.header,
        "Signatures": [{"SignatureOwner": s.owner, "SignatureData": s.data} for s in item.signatures],
    }


def _context(record: r.Record) -> Any:
    match record:
        case PciContext():
            return {
                "Version": record.version,
                "Length": 16,
                "VendorId": record.vendor_id,
                "DeviceId": record.device_id,
                "RevisionID": record.revision_id,
                "ClassCode": record.class_code,
                "SubsystemVendorID": record.subsystem_vendor_id,
                "SubsystemID": record.subsystem_id,
            }
        case UsbContext():
            size = 4 + len(record.descriptors)
            return {"Version": record.version, "Length": size, "Descriptors": record.descriptors}
        case _:
            return record.to_bytes()


def _block(block: Any) -> dict[str, Any]:
    return {
        "Index": block.index,
        "MeasurementSpecification": block.measurement_specification,
        "Measurement": block.measurement,
    }


def _sub_header(record: r.Record) -> Any:
    match record:
        case SpdmMeasurements():
            return {
                "SpdmVersion": record.spdm_version,
                "SpdmMeasurementBlockCount": len(record.blocks),
                "Reserved": record.reserved,
                "SpdmMeasurementHashAlgo": record.measurement_hash_algo,
                "SpdmMeasurementBlock": [_block(block) for block in record.blocks],
            }
        case SpdmCertChain():
            return {
                "SpdmVersion": record.spdm_version,
                "SpdmSlotId": record.slot_id,
                "Reserved": record.reserved,
                "SpdmHashAlgo": record.hash_algo,
                "SpdmCertChain": record.cert_chain,
            }
        case OemMeasurement():
            return {"Type": record.type, "Value": record.value}
        case _:
            return record.to_bytes()


def _device_security2(record: r.DeviceSecurityEvent2) -> dict[str, Any]:
    return {
        "Signature": b"SPDM Device Sec2",
        "Version": record.version,
        "AuthState": record.auth_state,
        "Reserved": record.reserved,
        "Length": record.length,
        "DeviceType": record.device_type,
        "SubHeaderType": record.sub_header_type,
        "SubHeaderLength": len(record.sub_header.to_bytes()),
        "SubHeaderUID": record.sub_header_uid,
        "DevicePath": record.device_path.to_bytes(),
        "EventDataSubHeader": _sub_header(record.sub_header),
        "DeviceContext": _context(record.context),
    }


def _platform(record: r.PlatformId) -> dict[str, Any]:
    said: dict[str, Any] = {
        "Signature": record.signature,
        "VendorId": record.vendor_id,
        "ReferenceManifestGuid": record.reference_manifest_guid,
    }
    if isinstance(record, r.PlatformId2):
        said |= {
            "PlatformManufacturerStr": encode_text(record.platform_manufacturer),
            "PlatformModel": encode_text(record.platform_model),
            "PlatformVersion": encode_text(record.platform_version),
            "FirmwareManufacturerStr": encode_text(record.firmware_manufacturer),
            "FirmwareManufacturerId": record.firmware_manufacturer_id,
            "FirmwareVersion": encode_text(record.firmware_version),
        }
    if isinstance(record, r.PlatformId3):
        said |= {
            "RimLocatorType": record.rim_locator_type,
            "RimLocator": record.rim_locator,
            "PlatformCertLocatorType": record.platform_cert_locator_type,
            "PlatformCertLocator": record.platform_cert_locator,
        }
    return said


_HEADER_NAMES = {
    "revision": "Revision",
    "header_size": "HeaderSize",
    "header_crc32": "HeaderCRC32",
    "reserved": "Reserved",
    "my_lba": "MyLBA",
    "alternate_lba": "AlternateLBA",
    "first_usable_lba": "FirstUsableLBA",
    "last_usable_lba": "LastUsableLBA",
    "disk_guid": "DiskGUID",
    "partition_entry_lba": "PartitionEntryLBA",
    "number_of_partition_entries": "NumberOfPartitionEntries",
    "size_of_partition_entry": "SizeOfPartitionEntry",
    "partition_entry_array_crc32": "PartitionEntryArrayCRC32",
}


def _gpt(record: r.GptEvent) -> dict[str, Any]:
    header = {name: getattr(record.header, field) for field, name in _HEADER_NAMES.items()}
    return {
        "UEFIPartitionHeader": {"Signature": record.header.signature, **header},
        "NumberOfPartitions": len(record.partitions),
        "Partitions": [
            {
                "PartitionTypeGUID": entry.type_guid,
                "UniquePartitionGUID": entry.unique_guid,
                "StartingLBA": entry.starting_lba,
                "EndingLBA": entry.ending_lba,
                "Attributes": entry.attributes,
                "PartitionName": entry.raw_name,
                "Reserved": entry.extra,
            }
            for entry in record.partitions
        ],
    }


def declared(record: Any) -> Any:
    """The value that the declaration of the record's structure gives."""
    match record:
        case r.SignatureLists():
            return [_signature_list(item) for item in record.lists]
        case r.DevicePath():
            nodes = [
                {"Type": n.type, "SubType": n.subtype, "Length": 4 + len(n.data), "Data": n.data} for n in record.nodes
            ]
            return {"Nodes": nodes}
        case r.LoadOption():
            paths = b"".join(path.to_bytes() for path in record.file_path_list)
            return {
                "Attributes": record.attributes,
                "FilePathListLength": len(paths),
                "Description": record.description,
                "FilePathList": paths,
                "OptionalData": record.optional_data,
            }
        case r.VariableData():
            return {
                "VariableName": record.guid,
                "UnicodeNameLength": len(record.name.encode("utf-16-le", "surrogatepass")) // 2,
                "VariableDataLength": len(record.value),
                "UnicodeName": record.name,
                "VariableData": record.value,
            }
        case r.ImageLoadEvent():
            return {
                "ImageLocationInMemory": record.location,
                "ImageLengthInMemory": record.length,
                "ImageLinkTimeAddress": record.link_time_address,
                "LengthOfDevicePath": len(record.device_path.to_bytes()),
                "DevicePath": record.device_path.to_bytes(),
            }
        case r.HandoffTables2():
            return {
                "TableDescription": record.description,
                "NumberOfTables": len(record.tables),
                "TableEntry": [{"VendorGuid": t.guid, "VendorTable": t.address} for t in record.tables],
            }
        case r.GptEvent():
            return _gpt(record)
        case r.SipaEvent():
            data = [declared(child) for child in record.children] if record.container else record.data
            return {"Type": record.type, "Data": data}
        case r.TaggedEvent():
            return {"taggedEventID": record.id, "taggedEventData": record.data}
        case r.DeviceSecurityEvent():
            return {
                "Signature": b"SPDM Device Sec\0",
                "Version": record.version,
                "Length": record.length,
                "SpdmHashAlgo": record.spdm_hash_algo,
                "DeviceType": record.device_type,
                "SpdmMeasurementBlock": _block(record.block),
                "DeviceContext": _context(record.context),
            }
        case r.DeviceSecurityEvent2():
            return _device_security2(record)
        case r.PlatformId():
            return _platform(record)
        case r.SpecIdEvent():
            return {
                "signature": record.signature.encode().ljust(16, b"\0"),
                "platformClass": record.platform_class,
                "specVersionMinor": record.spec_version_minor,
                "specVersionMajor": record.spec_version_major,
                "specErrata": record.spec_errata,
                "uintnSize": record.uintn_size,
                "vendorInfo": record.vendor_info,
            }
        case r.HcrtmComponent():
            return {
                "Signature": b"H-CRTM CompMeas\0",
                "ComponentDescription": encode_text(record.component_description),
                "MeasurementFormatType": record.measurement_format_type,
                "ComponentMeasurement": record.component_measurement,
            }
        case r.NvIndexDynamic():
            return {
                "Signature": b"NvIndexDynamic \0",
                "Version": record.version,
                "Reserved": record.reserved,
                "Uid": record.uid,
                "Description": encode_text(record.description),
                "Data": record.data,
            }
        case r.NvIndexInstance():
            assert isinstance(record.data, r.DeviceSecurityEvent2)
            return {
                "Signature": b"NvIndexInstance\0",
                "Version": record.version,
                "Reserved": record.reserved,
                "Data": _device_security2(record.data),
            }
        case _:
            raise AssertionError(f"no declaration for {type(record).__name__}")
