"""Rows of (event type, register, bytes, record), written by hand from the specifications.

The bytes are put together here from the tables of the clause named beside them, so they owe nothing to the code that
they test.
"""

from __future__ import annotations

from uuid import UUID

from measlog.records import (
    ConfigurationTable,
    DevicePath,
    DevicePathNode,
    DeviceSecurityEvent,
    DeviceSecurityEvent2,
    FirmwareBlob,
    FirmwareBlob2,
    GceNonHostInfo,
    GptEvent,
    GptHeader,
    GptPartition,
    GrubCommand,
    GrubFile,
    HandoffTables,
    HandoffTables2,
    HcrtmComponent,
    ImageLoadEvent,
    KernelCommandLine,
    LoadOption,
    ModuleCommandLine,
    NvIndexDynamic,
    NvIndexInstance,
    Opaque,
    PlatformId,
    PlatformId2,
    PlatformId3,
    Record,
    Separator,
    ShimVariable,
    SignatureData,
    SignatureList,
    SpecIdEvent,
    StartupLocality,
    StubCommandLine,
    TaggedEvent,
    Text,
    TxtEvent,
    UkiSection,
    Utf16Text,
    VariableData,
    VersionGuid,
)
from measlog.records.spdm import OemMeasurement, PciContext, SpdmCertChain, SpdmMeasurementBlock, SpdmMeasurements
from measlog.registry import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE, EventType, Register

E = EventType


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

ROWS: list[tuple[str, EventType, Register, bytes, Record]] = [
    # PFP 1.06, 10.4.5.1; the older forms: TCG EFI Platform 1.22, 7.4, and PC Client BIOS 1.21, 11.3.4.1
    (
        "spec-id-03",
        E.EV_NO_ACTION,
        pcr(0),
        b"Spec ID Event03\0" + h("00000000 00 02 69 02 02000000 0400 1400 0b00 2000 02 abcd"),
        SpecIdEvent(
            spec_errata=0x69,
            algorithms=((0x0004, 20), (0x000B, 32)),
            vendor_info_size=2,
            vendor_info=h("abcd"),
        ),
    ),
    (
        "spec-id-02",
        E.EV_NO_ACTION,
        pcr(0),
        b"Spec ID Event02\0" + h("00000000 02 01 02 02 01 ff"),
        SpecIdEvent(
            signature="Spec ID Event02",
            spec_version_minor=2,
            spec_version_major=1,
            spec_errata=2,
            vendor_info_size=1,
            vendor_info=b"\xff",
        ),
    ),
    (
        "spec-id-00",
        E.EV_NO_ACTION,
        pcr(0),
        b"Spec ID Event00\0" + h("01000000 15 01 01 00 00"),
        SpecIdEvent(
            signature="Spec ID Event00",
            platform_class=1,
            spec_version_minor=0x15,
            spec_version_major=1,
            spec_errata=1,
            uintn_size=0,
        ),
    ),
    # PFP 1.06, 10.4.5.3
    ("startup-locality", E.EV_NO_ACTION, pcr(0), b"StartupLocality\0\3", StartupLocality(locality=3)),
    # PFP 1.06, 10.4.5.4
    (
        "hcrtm-component",
        E.EV_NO_ACTION,
        pcr(0),
        b"H-CRTM CompMeas\0" + b"\x04BIOS" + b"\x80" + h("0300 010203"),
        HcrtmComponent(component_description="BIOS", measurement_format_type=0x80, component_measurement=h("010203")),
    ),
    # PFP 1.06, 10.4.5.2
    (
        "sp800-155-event",
        E.EV_NO_ACTION,
        pcr(0),
        b"SP800-155 Event\0" + h("57010000") + VENDOR_GUID_BYTES,
        PlatformId(vendor_id=343, reference_manifest_guid=VENDOR_GUID),
    ),
    (
        "sp800-155-event2",
        E.EV_NO_ACTION,
        pcr(0),
        b"SP800-155 Event2" + PLATFORM2,
        PlatformId2(
            vendor_id=343,
            reference_manifest_guid=VENDOR_GUID,
            platform_manufacturer="ACME\0",
            platform_model="A\0",
            platform_version="B\0",
            firmware_manufacturer="C\0",
            firmware_manufacturer_id=0x01020304,
            firmware_version="D\0",
        ),
    ),
    (
        "sp800-155-event3",
        E.EV_NO_ACTION,
        pcr(0),
        b"SP800-155 Event3" + PLATFORM2 + h("01000000 04000000") + b"u://" + h("00000000 01000000 aa"),
        PlatformId3(
            vendor_id=343,
            reference_manifest_guid=VENDOR_GUID,
            platform_manufacturer="ACME\0",
            platform_model="A\0",
            platform_version="B\0",
            firmware_manufacturer="C\0",
            firmware_manufacturer_id=0x01020304,
            firmware_version="D\0",
            rim_locator_type=1,
            rim_locator=b"u://",
            platform_cert_locator_type=0,
            platform_cert_locator=b"\xaa",
        ),
    ),
    # PFP 1.06, 10.4.5.5
    (
        "nv-index-instance",
        E.EV_NO_ACTION,
        pcr(0),
        b"NvIndexInstance\0" + h("0100 000000000000") + spdm2("01000000", CHAIN),
        NvIndexInstance(data=spdm2_record(1, CHAIN_RECORD)),
    ),
    (
        "nv-index-dynamic",
        E.EV_NO_ACTION,
        pcr(0),
        b"NvIndexDynamic \0" + h("0100 000000000000 efcdab8967452301") + h("0e00") + b"SPDM CHALLENGE" + h("0200 0102"),
        NvIndexDynamic(uid=0x0123456789ABCDEF, description="SPDM CHALLENGE", data=h("0102")),
    ),
    # PFP 1.06, 10.4.1
    ("separator", E.EV_SEPARATOR, pcr(4), bytes(4), Separator(value=bytes(4))),
    ("separator-error", E.EV_SEPARATOR, pcr(4), b"\xff\xff\xff\xff", Separator(value=b"\xff" * 4)),
    ("action", E.EV_EFI_ACTION, pcr(4), b"Calling EFI", Text(text="Calling EFI")),
    ("action-nul", E.EV_EFI_ACTION, pcr(1), b"DMA\0", Text(text="DMA", terminator=b"\0")),
    ("omit", E.EV_OMIT_BOOT_DEVICE_EVENTS, pcr(4), b"BOOT ATTEMPTS OMITTED", Text(text="BOOT ATTEMPTS OMITTED")),
    ("hcrtm", E.EV_EFI_HCRTM_EVENT, pcr(0), b"HCRTM", Text(text="HCRTM")),
    ("crtm-version", E.EV_S_CRTM_VERSION, pcr(0), u16("V1\0"), Utf16Text(text="V1", terminator=b"\0\0")),
    ("crtm-version-guid", E.EV_S_CRTM_VERSION, pcr(0), VENDOR_GUID_BYTES, VersionGuid(guid=VENDOR_GUID)),
    ("crtm-version-empty", E.EV_S_CRTM_VERSION, pcr(0), bytes(2), Utf16Text(text="", terminator=b"\0\0")),
    ("crtm-contents-text", E.EV_S_CRTM_CONTENTS, pcr(0), b"Boot Guard\0", Text(text="Boot Guard", terminator=b"\0")),
    ("post-code", E.EV_POST_CODE, pcr(0), b"POST CODE", Text(text="POST CODE")),
    (
        "post-code-blob",
        E.EV_POST_CODE,
        pcr(0),
        h("00000080 00000000 00001000 00000000"),
        FirmwareBlob(base=0x80000000, length=0x100000),
    ),
    (
        "post-code2",
        E.EV_POST_CODE2,
        pcr(0),
        b"\x04BIOS" + h("00000080 00000000 00001000 00000000"),
        FirmwareBlob2(description="BIOS", base=0x80000000, length=0x100000),
    ),
    (
        "crtm-contents-blob2",
        E.EV_S_CRTM_CONTENTS,
        pcr(0),
        b"\x00" + h("00000080 00000000 00001000 00000000"),
        FirmwareBlob2(description="", base=0x80000000, length=0x100000),
    ),
    ("microcode", E.EV_CPU_MICROCODE, pcr(1), b"CPU\0", Text(text="CPU", terminator=b"\0")),
    ("table-of-devices", E.EV_TABLE_OF_DEVICES, pcr(1), h("0001"), Opaque(raw=h("0001"))),
    ("partition-data", E.EV_IPL_PARTITION_DATA, pcr(5), bytes(66), Opaque(raw=bytes(66))),
    ("nonhost", E.EV_NONHOST_INFO, pcr(0), b"GCE NonHostInfo\0" + h("03") + bytes(15), GceNonHostInfo(technology=3)),
    # PFP 1.06, 10.2.5 and 10.2.4
    (
        "blob",
        E.EV_EFI_PLATFORM_FIRMWARE_BLOB,
        pcr(0),
        h("0100000000000000 0200000000000000"),
        FirmwareBlob(base=1, length=2),
    ),
    (
        "blob2",
        E.EV_EFI_PLATFORM_FIRMWARE_BLOB2,
        pcr(0),
        b"\x02Fv" + h("0100000000000000 0200000000000000"),
        FirmwareBlob2(description="Fv", base=1, length=2),
    ),
    (
        "handoff",
        E.EV_EFI_HANDOFF_TABLES,
        pcr(1),
        h("0100000000000000") + VENDOR_GUID_BYTES + h("8877665544332211"),
        HandoffTables(tables=(ConfigurationTable(guid=VENDOR_GUID, address=0x1122334455667788),)),
    ),
    (
        "handoff2",
        E.EV_EFI_HANDOFF_TABLES2,
        pcr(1),
        b"\x06SMBIOS" + h("0100000000000000") + VENDOR_GUID_BYTES + h("8877665544332211"),
        HandoffTables2(
            description="SMBIOS", tables=(ConfigurationTable(guid=VENDOR_GUID, address=0x1122334455667788),)
        ),
    ),
    # PFP 1.06, 10.2.3
    (
        "image",
        E.EV_EFI_BOOT_SERVICES_APPLICATION,
        pcr(4),
        h("0100000000000000 0200000000000000 0300000000000000 1600000000000000") + PCI_PATH,
        ImageLoadEvent(location=1, length=2, link_time_address=3, device_path=DevicePath(nodes=PCI_NODES)),
    ),
    (
        "image-without-path",
        E.EV_EFI_BOOT_SERVICES_DRIVER,
        pcr(2),
        h("0100000000000000 0200000000000000 0300000000000000 0000000000000000"),
        ImageLoadEvent(location=1, length=2, link_time_address=3, device_path=DevicePath(nodes=())),
    ),
    # PFP 1.06, 10.2.6
    ("gpt2", E.EV_EFI_GPT_EVENT2, pcr(5), GPT2, GPT2_RECORD),
    # PFP 1.06, 10.2.6 and 3.3.4.8; UEFI 2.10, 3.3 and 32.4.1
    (
        "secure-boot",
        E.EV_EFI_VARIABLE_DRIVER_CONFIG,
        pcr(7),
        variable(GLOBAL, "SecureBoot", b"\1"),
        VariableData(guid=EFI_GLOBAL_VARIABLE, name="SecureBoot", value=b"\1"),
    ),
    (
        "db",
        E.EV_EFI_VARIABLE_DRIVER_CONFIG,
        pcr(7),
        variable(SECURITY, "db", HASH_LIST),
        VariableData(guid=EFI_IMAGE_SECURITY_DATABASE, name="db", value=HASH_LIST),
    ),
    (
        "boot-option",
        E.EV_EFI_VARIABLE_BOOT2,
        pcr(1),
        variable(GLOBAL, "Boot0001", OPTION),
        VariableData(guid=EFI_GLOBAL_VARIABLE, name="Boot0001", value=OPTION),
    ),
    (
        "authority",
        E.EV_EFI_VARIABLE_AUTHORITY,
        pcr(7),
        variable(SECURITY, "db", OWNER_BYTES + b"\x30\x82cert"),
        VariableData(
            guid=EFI_IMAGE_SECURITY_DATABASE,
            name="db",
            value=OWNER_BYTES + b"\x30\x82cert",
            decoded=SignatureData(owner=OWNER, data=b"\x30\x82cert"),
        ),
    ),
    # PFP 1.06, 10.2.7 and 3.3.4.8
    ("spdm-1", E.EV_EFI_SPDM_FIRMWARE_BLOB, pcr(2), SPDM1, SPDM1_RECORD),
    (
        "spdm-2-measurements",
        E.EV_EFI_SPDM_FIRMWARE_CONFIG,
        pcr(3),
        spdm2("00000000", MEASUREMENTS),
        spdm2_record(0, MEASUREMENTS_RECORD),
    ),
    ("spdm-2-chain", E.EV_EFI_SPDM_FIRMWARE_BLOB, pcr(2), spdm2("01000000", CHAIN), spdm2_record(1, CHAIN_RECORD)),
    (
        "spdm-2-oem",
        E.EV_EFI_SPDM_FIRMWARE_BLOB,
        pcr(2),
        spdm2("02000000", h("07000000 02000000 abcd")),
        spdm2_record(2, OemMeasurement(type=7, value=h("abcd"))),
    ),
    (
        "spdm-policy",
        E.EV_EFI_SPDM_DEVICE_POLICY,
        pcr(7),
        variable(DEVICE_SECURITY_DATABASE.bytes_le, "devdb", HASH_LIST),
        VariableData(guid=DEVICE_SECURITY_DATABASE, name="devdb", value=HASH_LIST),
    ),
    (
        "spdm-authority",
        E.EV_EFI_SPDM_DEVICE_AUTHORITY,
        pcr(7),
        variable(DEVICE_SECURITY_DATABASE.bytes_le, "devdb", OWNER_BYTES + bytes(32)),
        VariableData(
            guid=DEVICE_SECURITY_DATABASE,
            name="devdb",
            value=OWNER_BYTES + bytes(32),
            decoded=SignatureData(owner=OWNER, data=bytes(32)),
        ),
    ),
    # PFP 1.06, 10.4.2.1; Linux's EFI stub; wbcl.h
    (
        "tag-linux",
        E.EV_EVENT_TAG,
        pcr(9),
        h("ec223b8f 0d000000") + b"Linux initrd\0",
        TaggedEvent(id=0x8F3B22EC, data=b"Linux initrd\0"),
    ),
    (
        "tag-systemd",
        E.EV_EVENT_TAG,
        pcr(5),
        h("2a58bcf5 06000000") + u16("ab\0"),
        TaggedEvent(id=0xF5BC582A, data=u16("ab\0")),
    ),
    (
        "tag-windows",
        E.EV_EVENT_TAG,
        pcr(12),
        h("01000140 11000000") + h("02000200 01000000 07") + h("03000500 00000000"),
        TaggedEvent(id=0x40010001, data=h("02000200 01000000 07 03000500 00000000")),
    ),
    ("txt", EventType(0x404), pcr(18), b"MLE", TxtEvent(name="EVTYPE_MLE_HASH", data=b"MLE")),
    # GRUB, shim, systemd
    ("grub", E.EV_IPL, pcr(8), b"grub_cmd: set a=b\0", GrubCommand(text="set a=b")),
    ("grub-old", E.EV_IPL, pcr(8), b"grub_cmd set a=b\0", GrubCommand(prefix="grub_cmd ", text="set a=b")),
    ("kernel", E.EV_IPL, pcr(8), b"kernel_cmdline: /k ro\0", KernelCommandLine(text="/k ro")),
    (
        "kernel-old",
        E.EV_IPL,
        pcr(8),
        b"grub_kernel_cmdline /k ro\0",
        KernelCommandLine(prefix="grub_kernel_cmdline ", text="/k ro"),
    ),
    ("module", E.EV_IPL, pcr(8), b"module_cmdline: /m\0", ModuleCommandLine(text="/m")),
    ("file", E.EV_IPL, pcr(9), b"(hd0,gpt6)/grub.cfg\0", GrubFile(text="(hd0,gpt6)/grub.cfg")),
    ("file-rtmr", E.EV_IPL, Register("rtmr", 2), b"/k\0", GrubFile(text="/k")),
    ("mok", E.EV_IPL, pcr(14), b"MokList\0", ShimVariable(text="MokList")),
    ("uki", E.EV_IPL, pcr(11), u16(".linux\0"), UkiSection(text=".linux", terminator=b"\0\0")),
    ("stub", E.EV_IPL, pcr(12), u16("ro quiet\0"), StubCommandLine(text="ro quiet", terminator=b"\0\0")),
    ("stub-cut", E.EV_IPL, pcr(8), u16("ro quiet\0")[:-1], StubCommandLine(text="ro quiet", terminator=b"\0")),
    ("ipl-empty", E.EV_IPL, pcr(4), b"", Opaque(raw=b"")),
    ("unknown-type", EventType(0x12345678), pcr(3), h("00ff"), Opaque(raw=h("00ff"))),
]
