"""Structures put together by hand from the tables of their clauses, and the records that they hold."""

from __future__ import annotations

from uuid import UUID

from measlog.records import (
    DevicePath,
    DevicePathNode,
    DeviceSecurityEvent,
    DeviceSecurityEvent2,
    GptEvent,
    GptHeader,
    GptPartition,
    LoadOption,
    Record,
    SignatureData,
    SignatureList,
)
from measlog.records.spdm import PciContext, SpdmCertChain, SpdmMeasurementBlock, SpdmMeasurements
from measlog.registry import Register


def pcr(index: int) -> Register:
    return Register("pcr", index)


def h(text: str) -> bytes:
    return bytes.fromhex(text)


def u16(text: str) -> bytes:
    return text.encode("utf-16-le")


GLOBAL = h("61dfe48b ca93 d211 aa0d 00e098032b8c")
SECURITY = h("cbb219d7 3a3d 9645 a3bc dad00e67656f")
SHIM = h("50ab5d60 46e0 0043 abb6 3dd810dd8b23")
OWNER = UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")
OWNER_BYTES = h("bd9afa77 5903 324d bd60 28f4e78f784b")
SHA256_TYPE = h("2616c4c1 4c50 9240 aca9 41f936934328")
DEVICE_SECURITY_DATABASE = UUID("b9c2b4f4-bf5f-462d-8adf-c5c70ac35dad")
END = h("7fff0400")


def variable(guid: bytes, name: str, value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA, PFP 1.06, 10.2.6."""
    return guid + len(name).to_bytes(8, "little") + len(value).to_bytes(8, "little") + u16(name) + value


# UEFI 2.10, 32.4.1: one list of one SHA-256 digest: size 28 + 48, no header, entries of 48 bytes
HASH_LIST = SHA256_TYPE + h("4c000000 00000000 30000000") + OWNER_BYTES + bytes(range(32))
HASH_LIST_RECORD = SignatureList(
    type=UUID("c1c41626-504c-4092-aca9-41f936934328"),
    signature_size=48,
    signatures=(SignatureData(owner=OWNER, data=bytes(range(32))),),
)
# UEFI 2.10, 10.3.2.1 Pci(0x1F,0x2) and 10.3.3 PciRoot(0x0)
PCI_PATH = h("02010c00 d041030a 00000000") + h("01010600 021f") + END
PCI_NODES = (
    DevicePathNode(type=2, subtype=1, data=h("d041030a00000000")),
    DevicePathNode(type=1, subtype=1, data=h("021f")),
    DevicePathNode(type=0x7F, subtype=0xFF),
)
# UEFI 2.10, 3.1.3: active, path list of 22 bytes, description, path, optional data
OPTION = h("01000000 1600") + u16("Disk\0") + PCI_PATH + b"opt"
OPTION_RECORD = LoadOption(
    attributes=1, description="Disk", file_path_list=(DevicePath(nodes=PCI_NODES),), optional_data=b"opt"
)

# UEFI 2.10, 5.3.2 and 5.3.3; in EV_EFI_GPT_EVENT2 the GUIDs of disk and partitions are zero (PFP 1.06, 10.2.6)
GPT_HEAD = (
    b"EFI PART"
    + h("00000100 5c000000 11223344 00000000")
    + h("0100000000000000 ff07000000000000 2200000000000000 de07000000000000")
    + bytes(16)
    + h("0200000000000000 80000000 80000000 55667788")
)
ESP = h("28732ac1 1ff8 d211 ba4b 00a0c93ec93b")
GPT_ENTRY = ESP + bytes(16) + h("2800000000000000 e700000000000000 0000000000000000") + u16("ESP").ljust(72, b"\0")
GPT2 = GPT_HEAD + h("0100000000000000") + GPT_ENTRY
GPT2_RECORD = GptEvent(
    header=GptHeader(
        signature=b"EFI PART",
        revision=0x00010000,
        header_size=92,
        header_crc32=0x44332211,
        reserved=0,
        my_lba=1,
        alternate_lba=0x7FF,
        first_usable_lba=0x22,
        last_usable_lba=0x7DE,
        disk_guid=UUID(int=0),
        partition_entry_lba=2,
        number_of_partition_entries=128,
        size_of_partition_entry=128,
        partition_entry_array_crc32=0x88776655,
    ),
    partitions=(
        GptPartition(
            type_guid=UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
            unique_guid=UUID(int=0),
            starting_lba=0x28,
            ending_lba=0xE7,
            attributes=0,
            raw_name=u16("ESP").ljust(72, b"\0"),
        ),
    ),
)

# PFP 1.06, 10.2.7: version 1 with a DMTF measurement block (DSP0274: type 0, 4 bytes) of a PCI device
PCI_CONTEXT = h("0000 1000 8680 3412 05 000002 f41a 0011")
PCI_CONTEXT_RECORD = PciContext(
    vendor_id=0x8086,
    device_id=0x1234,
    revision_id=5,
    class_code=h("000002"),
    subsystem_vendor_id=0x1AF4,
    subsystem_id=0x1100,
)
SPDM1 = b"SPDM Device Sec\0" + h("0100 3a00 02000000 01000000") + h("01 01 0700 00 0400 deadbeef") + PCI_CONTEXT
SPDM1_RECORD = DeviceSecurityEvent(
    length=0x3A,
    spdm_hash_algo=2,
    device_type=1,
    block=SpdmMeasurementBlock(index=1, measurement_specification=1, measurement=h("000400deadbeef")),
    context=PCI_CONTEXT_RECORD,
)


def spdm2(kind: str, sub_header: bytes) -> bytes:
    """TCG_DEVICE_SECURITY_EVENT_DATA2 with a device path and a PCI context, PFP 1.06, 10.2.7."""
    return (
        b"SPDM Device Sec2"
        + h("0200 00 00 64000000 01000000")
        + h(kind)
        + len(sub_header).to_bytes(4, "little")
        + h("efcdab8967452301")
        + len(PCI_PATH).to_bytes(8, "little")
        + PCI_PATH
        + sub_header
        + PCI_CONTEXT
    )


def spdm2_record(kind: int, sub_header: Record) -> DeviceSecurityEvent2:
    return DeviceSecurityEvent2(
        auth_state=0,
        length=100,
        device_type=1,
        sub_header_type=kind,
        sub_header_uid=0x0123456789ABCDEF,
        device_path=DevicePath(nodes=PCI_NODES),
        sub_header=sub_header,
        context=PCI_CONTEXT_RECORD,
    )


MEASUREMENTS = h("1200 01 00 04000000") + h("03 01 0200 aabb")
MEASUREMENTS_RECORD = SpdmMeasurements(
    spdm_version=0x12,
    measurement_hash_algo=4,
    blocks=(SpdmMeasurementBlock(index=3, measurement_specification=1, measurement=h("aabb")),),
)
CHAIN = h("1200 00 00 02000000") + b"chain"
CHAIN_RECORD = SpdmCertChain(spdm_version=0x12, slot_id=0, hash_algo=2, cert_chain=b"chain")

VENDOR_GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")
VENDOR_GUID_BYTES = h("33221100 5544 7766 8899 aabbccddeeff")
PLATFORM2 = (
    h("57010000")
    + VENDOR_GUID_BYTES
    + b"\x05ACME\0"
    + b"\x02A\0"
    + b"\x02B\0"
    + b"\x02C\0"
    + h("04030201")
    + b"\x02D\0"
)
