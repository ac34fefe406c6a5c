"""Structures of UEFI as event data holds them, declared as their specifications print them.

Sources: UEFI 2.10 and TCG PC Client Platform Firmware Profile 1.06 (PFP), clause 10.2. The records read the same
structures by hand, because a ``dbx`` has hundreds of entries; the tests prove that both agree.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import construct as c

__all__ = [
    "EFI_CONFIGURATION_TABLE",
    "EFI_DEVICE_PATH",
    "EFI_DEVICE_PATH_PROTOCOL",
    "EFI_GUID",
    "EFI_LOAD_OPTION",
    "EFI_PARTITION_ENTRY",
    "EFI_SIGNATURE_DATA",
    "EFI_SIGNATURE_LIST",
    "EFI_SIGNATURE_LISTS",
    "UEFI_GPT_DATA",
    "UEFI_HANDOFF_TABLE_POINTERS",
    "UEFI_HANDOFF_TABLE_POINTERS2",
    "UEFI_IMAGE_LOAD_EVENT",
    "UEFI_PLATFORM_FIRMWARE_BLOB",
    "UEFI_PLATFORM_FIRMWARE_BLOB2",
    "UEFI_VARIABLE_DATA",
    "UntilEnd",
]


class UntilEnd(c.Subconstruct):  # type: ignore[misc]
    """Elements up to the end of the bytes. Unlike ``construct.GreedyRange`` it passes every error on."""

    def _parse(self, stream: Any, context: Any, path: str) -> list[Any]:
        found = []
        while stream.read(1):
            stream.seek(-1, 1)
            found.append(self.subcon._parsereport(stream, context, path))  # noqa: SLF001 - construct's own protocol
        return found

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        for element in obj:
            self.subcon._build(element, stream, context, path)  # noqa: SLF001 - as above
        return obj


class _Guid(c.Adapter):  # type: ignore[misc]
    def _decode(self, obj: bytes, _context: Any, _path: str) -> UUID:
        return UUID(bytes_le=obj)

    def _encode(self, obj: UUID, _context: Any, _path: str) -> bytes:
        return obj.bytes_le


class _Utf16(c.Adapter):  # type: ignore[misc]
    def _decode(self, obj: bytes, _context: Any, _path: str) -> str:
        return obj.decode("utf-16-le", "surrogatepass")

    def _encode(self, obj: str, _context: Any, _path: str) -> bytes:
        return obj.encode("utf-16-le", "surrogatepass")


class _Text(c.Adapter):  # type: ignore[misc]
    def _decode(self, obj: bytes, _context: Any, _path: str) -> str:
        return obj.decode("utf-8", "surrogateescape")

    def _encode(self, obj: str, _context: Any, _path: str) -> bytes:
        return obj.encode("utf-8", "surrogateescape")


# UEFI 2.10, appendix A
EFI_GUID = _Guid(c.Bytes(16))


class _Char16z(c.Construct):  # type: ignore[misc]
    """CHAR16 string with its NUL (UEFI 2.10, 2.3.1)."""

    def _parse(self, stream: Any, _context: Any, path: str) -> str:
        units: list[bytes] = []
        while True:
            unit = c.stream_read(stream, 2, path)
            if unit == b"\0\0":
                return b"".join(units).decode("utf-16-le", "surrogatepass")
            units.append(unit)

    def _build(self, obj: str, stream: Any, _context: Any, path: str) -> str:
        data = obj.encode("utf-16-le", "surrogatepass") + b"\0\0"
        c.stream_write(stream, data, len(data), path)
        return obj


CHAR16_Z = _Char16z()

# UEFI 2.10, 10.3.1 EFI_DEVICE_PATH_PROTOCOL: Length counts the four bytes of the header
EFI_DEVICE_PATH_PROTOCOL = c.Struct(
    "Type" / c.Int8ul,
    "SubType" / c.Int8ul,
    "Length" / c.Rebuild(c.Int16ul, lambda ctx: 4 + len(ctx.Data)),
    "long" / c.Check(lambda ctx: ctx.Length >= 4),
    "Data" / c.Bytes(lambda ctx: ctx.Length - 4),
)


def _ends_last(ctx: Any) -> bool:
    return not any(node["Type"] == 0x7F and node["SubType"] == 0xFF for node in ctx.Nodes[:-1])


# UEFI 2.10, 10.3.1: nodes up to the end of the bytes, where End Entire Device Path may only be the last
EFI_DEVICE_PATH = c.Struct("Nodes" / UntilEnd(EFI_DEVICE_PATH_PROTOCOL), "ended" / c.Check(_ends_last))

# UEFI 2.10, 32.4.1 EFI_SIGNATURE_DATA, SignatureSize bytes long with its owner
EFI_SIGNATURE_DATA = c.Struct("SignatureOwner" / EFI_GUID, "SignatureData" / c.GreedyBytes)

# UEFI 2.10, 32.4.1: SignatureSize of the types that have a fixed one, owner included
SIGNATURE_SIZES = {
    UUID("826ca512-cf10-4ac9-b187-be01496631bd"): 16 + 20,
    UUID("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd"): 16 + 28,
    UUID("c1c41626-504c-4092-aca9-41f936934328"): 16 + 32,
    UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"): 16 + 48,
    UUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"): 16 + 64,
    UUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6"): 16 + 256,
    UUID("e2b36190-879b-4a3d-ad8d-f2e7bba32784"): 16 + 256,
    UUID("67f8444f-8743-48f1-a328-1eaab8736080"): 16 + 256,
    UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): 16 + 32 + 16,
    UUID("7076876e-80c2-4ee6-aad2-28b349a6865b"): 16 + 48 + 16,
    UUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"): 16 + 64 + 16,
}


def _list_adds_up(ctx: Any) -> bool:
    body = ctx.SignatureListSize - 28 - ctx.SignatureHeaderSize
    fixed = SIGNATURE_SIZES.get(ctx.SignatureType, ctx.SignatureSize)
    sound: bool = ctx.SignatureSize >= 16 and body >= 0 and body % ctx.SignatureSize == 0 and ctx.SignatureSize == fixed
    return sound


# UEFI 2.10, 32.4.1 EFI_SIGNATURE_LIST
EFI_SIGNATURE_LIST = c.Struct(
    "SignatureType" / EFI_GUID,
    "SignatureListSize"
    / c.Rebuild(
        c.Int32ul, lambda ctx: 28 + len(ctx.SignatureHeader) + sum(16 + len(s["SignatureData"]) for s in ctx.Signatures)
    ),
    "SignatureHeaderSize" / c.Rebuild(c.Int32ul, lambda ctx: len(ctx.SignatureHeader)),
    "SignatureSize" / c.Int32ul,
    "sound" / c.Check(_list_adds_up),
    "SignatureHeader" / c.Bytes(lambda ctx: ctx.SignatureHeaderSize),
    "Signatures"
    / c.Array(
        lambda ctx: (ctx.SignatureListSize - 28 - ctx.SignatureHeaderSize) // ctx.SignatureSize,
        c.FixedSized(lambda ctx: ctx.SignatureSize, EFI_SIGNATURE_DATA),
    ),
)
EFI_SIGNATURE_LISTS = UntilEnd(EFI_SIGNATURE_LIST)

# UEFI 2.10, 3.1.3 EFI_LOAD_OPTION
EFI_LOAD_OPTION = c.Struct(
    "Attributes" / c.Int32ul,
    "FilePathListLength" / c.Rebuild(c.Int16ul, lambda ctx: len(ctx.FilePathList)),
    "Description" / CHAR16_Z,
    "FilePathList" / c.Bytes(lambda ctx: ctx.FilePathListLength),
    "OptionalData" / c.GreedyBytes,
)

# PFP 10.2.6 UEFI_VARIABLE_DATA; UnicodeNameLength counts CHAR16, VariableDataLength bytes
UEFI_VARIABLE_DATA = c.Struct(
    "VariableName" / EFI_GUID,
    "UnicodeNameLength"
    / c.Rebuild(c.Int64ul, lambda ctx: len(ctx.UnicodeName.encode("utf-16-le", "surrogatepass")) // 2),
    "VariableDataLength" / c.Rebuild(c.Int64ul, lambda ctx: len(ctx.VariableData)),
    "UnicodeName" / _Utf16(c.Bytes(lambda ctx: 2 * ctx.UnicodeNameLength)),
    "VariableData" / c.Bytes(lambda ctx: ctx.VariableDataLength),
)

# PFP 10.2.3 UEFI_IMAGE_LOAD_EVENT with UINTN of 64 bits
UEFI_IMAGE_LOAD_EVENT = c.Struct(
    "ImageLocationInMemory" / c.Int64ul,
    "ImageLengthInMemory" / c.Int64ul,
    "ImageLinkTimeAddress" / c.Int64ul,
    "LengthOfDevicePath" / c.Rebuild(c.Int64ul, lambda ctx: len(ctx.DevicePath)),
    "DevicePath" / c.Bytes(lambda ctx: ctx.LengthOfDevicePath),
)

# PFP 10.2.5
UEFI_PLATFORM_FIRMWARE_BLOB = c.Struct("BlobBase" / c.Int64ul, "BlobLength" / c.Int64ul)
UEFI_PLATFORM_FIRMWARE_BLOB2 = c.Struct(
    "BlobDescription" / _Text(c.Prefixed(c.Int8ul, c.GreedyBytes)),
    "BlobBase" / c.Int64ul,
    "BlobLength" / c.Int64ul,
)

# UEFI 2.10, 4.6 EFI_CONFIGURATION_TABLE
EFI_CONFIGURATION_TABLE = c.Struct("VendorGuid" / EFI_GUID, "VendorTable" / c.Int64ul)

# PFP 10.2.4
UEFI_HANDOFF_TABLE_POINTERS = c.Struct(
    "NumberOfTables" / c.Rebuild(c.Int64ul, lambda ctx: len(ctx.TableEntry)),
    "TableEntry" / c.Array(lambda ctx: ctx.NumberOfTables, EFI_CONFIGURATION_TABLE),
)
UEFI_HANDOFF_TABLE_POINTERS2 = c.Struct(
    "TableDescription" / _Text(c.Prefixed(c.Int8ul, c.GreedyBytes)),
    "NumberOfTables" / c.Rebuild(c.Int64ul, lambda ctx: len(ctx.TableEntry)),
    "TableEntry" / c.Array(lambda ctx: ctx.NumberOfTables, EFI_CONFIGURATION_TABLE),
)

# UEFI 2.10, 5.3.2 EFI_PARTITION_TABLE_HEADER
EFI_PARTITION_TABLE_HEADER = c.Struct(
    "Signature" / c.Const(b"EFI PART"),
    "Revision" / c.Int32ul,
    "HeaderSize" / c.Int32ul,
    "HeaderCRC32" / c.Int32ul,
    "Reserved" / c.Int32ul,
    "MyLBA" / c.Int64ul,
    "AlternateLBA" / c.Int64ul,
    "FirstUsableLBA" / c.Int64ul,
    "LastUsableLBA" / c.Int64ul,
    "DiskGUID" / EFI_GUID,
    "PartitionEntryLBA" / c.Int64ul,
    "NumberOfPartitionEntries" / c.Int32ul,
    "SizeOfPartitionEntry" / c.Int32ul,
    "PartitionEntryArrayCRC32" / c.Int32ul,
)

# UEFI 2.10, 5.3.3 EFI_PARTITION_ENTRY; an entry may be larger, what follows is reserved
EFI_PARTITION_ENTRY = c.Struct(
    "PartitionTypeGUID" / EFI_GUID,
    "UniquePartitionGUID" / EFI_GUID,
    "StartingLBA" / c.Int64ul,
    "EndingLBA" / c.Int64ul,
    "Attributes" / c.Int64ul,
    "PartitionName" / c.Bytes(72),
    "Reserved" / c.GreedyBytes,
)

# PFP 10.2.6 UEFI_GPT_DATA
UEFI_GPT_DATA = c.Struct(
    "UEFIPartitionHeader" / EFI_PARTITION_TABLE_HEADER,
    "NumberOfPartitions" / c.Rebuild(c.Int64ul, lambda ctx: len(ctx.Partitions)),
    "large" / c.Check(lambda ctx: ctx.UEFIPartitionHeader.SizeOfPartitionEntry >= 128),
    "Partitions"
    / c.Array(
        lambda ctx: ctx.NumberOfPartitions,
        c.FixedSized(lambda ctx: ctx.UEFIPartitionHeader.SizeOfPartitionEntry, EFI_PARTITION_ENTRY),
    ),
)
