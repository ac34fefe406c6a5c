"""What firmware measures of itself: blobs, versions, tables, POST codes (PFP 1.06, clauses 10.2 and 10.4.1)."""

from __future__ import annotations

import struct
from uuid import UUID

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.formats.cursor import Cursor, decode_text, encode_text
from measlog.records.base import Opaque, Record
from measlog.records.text import looks_like_utf16, printable, read_any, read_text, read_utf16

__all__ = [
    "ConfigurationTable",
    "FirmwareBlob",
    "FirmwareBlob2",
    "GceNonHostInfo",
    "HandoffTables",
    "HandoffTables2",
    "Separator",
    "VersionGuid",
    "read_blob",
    "read_blob2",
    "read_blob_or_text",
    "read_handoff",
    "read_handoff2",
    "read_nonhost",
    "read_separator",
    "read_version",
]


@frozen(kw_only=True)
class FirmwareBlob(Record):
    """UEFI_PLATFORM_FIRMWARE_BLOB (PFP 1.06, 10.2.5): BlobBase and BlobLength in bytes. The digest is the blob's."""

    base: int = field(validator=instance_of(int))
    length: int = field(validator=instance_of(int))

    def _body(self) -> bytes:
        return struct.pack("<QQ", self.base, self.length)


@frozen(kw_only=True)
class FirmwareBlob2(Record):
    """UEFI_PLATFORM_FIRMWARE_BLOB2 (PFP 1.06, 10.2.5): the same with BlobDescription."""

    description: str = field(validator=instance_of(str))
    base: int = field(validator=instance_of(int))
    length: int = field(validator=instance_of(int))

    def _body(self) -> bytes:
        text = encode_text(self.description)
        return bytes([len(text)]) + text + struct.pack("<QQ", self.base, self.length)


@frozen(kw_only=True)
class ConfigurationTable:
    """EFI_CONFIGURATION_TABLE (UEFI 2.10, clause 4.6): what the table is, and its address."""

    guid: UUID
    address: int


@frozen(kw_only=True)
class HandoffTables(Record):
    """UEFI_HANDOFF_TABLE_POINTERS (PFP 1.06, 10.2.4). The digest is that of the tables, not of the pointers."""

    tables: tuple[ConfigurationTable, ...] = field(validator=deep_iterable(instance_of(ConfigurationTable)))

    def _body(self) -> bytes:
        return _pack_tables(self.tables)


@frozen(kw_only=True)
class HandoffTables2(Record):
    """UEFI_HANDOFF_TABLE_POINTERS2 (PFP 1.06, 10.2.4): the same with TableDescription."""

    description: str = field(validator=instance_of(str))
    tables: tuple[ConfigurationTable, ...] = field(validator=deep_iterable(instance_of(ConfigurationTable)))

    def _body(self) -> bytes:
        text = encode_text(self.description)
        return bytes([len(text)]) + text + _pack_tables(self.tables)


def _pack_tables(tables: tuple[ConfigurationTable, ...]) -> bytes:
    return struct.pack("<Q", len(tables)) + b"".join(
        [table.guid.bytes_le + struct.pack("<Q", table.address) for table in tables]
    )


@frozen(kw_only=True)
class Separator(Record):
    """EV_SEPARATOR (PFP 1.06, 10.4.1): 0 or 0xFFFFFFFF; Windows writes ``WBCL`` into registers 12 to 14.

    After a firmware error the digest is that of 0x00000001 and the data is free. Data beyond four bytes, which
    coreboot leaves (quirk Q27), is ``trailing``.
    """

    value: bytes = field(validator=instance_of(bytes))

    def _body(self) -> bytes:
        return self.value


@frozen(kw_only=True)
class VersionGuid(Record):
    """EV_S_CRTM_VERSION as a GUID (PFP 1.06, 10.4.1; quirk Q16)."""

    guid: UUID = field(validator=instance_of(UUID))

    def _body(self) -> bytes:
        return self.guid.bytes_le


@frozen(kw_only=True)
class GceNonHostInfo(Record):
    """EV_NONHOST_INFO of Google Compute Engine: which confidential-computing technology the host says it uses.

    The numbers are those of go-tpm-tools: 0 none, 1 AMD SEV, 2 AMD SEV-ES, 3 Intel TDX, 4 AMD SEV-SNP.
    """

    technology: int = field(validator=instance_of(int))
    reserved: bytes = field(default=bytes(15), validator=instance_of(bytes))

    def _body(self) -> bytes:
        return _GCE + bytes([self.technology]) + self.reserved


_GCE = b"GCE NonHostInfo\0"


def read_blob(cursor: Cursor) -> FirmwareBlob:
    """UEFI_PLATFORM_FIRMWARE_BLOB."""
    cursor.clause = "PFP 1.06, 10.2.5"
    return FirmwareBlob(base=cursor.u64("base"), length=cursor.u64("length"), **cursor.finish())


def read_blob2(cursor: Cursor) -> FirmwareBlob2:
    """UEFI_PLATFORM_FIRMWARE_BLOB2."""
    cursor.clause = "PFP 1.06, 10.2.5"
    description = decode_text(cursor.take("description", cursor.u8("description_size")))
    return FirmwareBlob2(
        description=description, base=cursor.u64("base"), length=cursor.u64("length"), **cursor.finish()
    )


def read_blob_or_text(cursor: Cursor) -> Record:
    """EV_POST_CODE, EV_POST_CODE2, EV_S_CRTM_CONTENTS, EV_CPU_MICROCODE: blob, blob 2 or text (PFP 1.06, 10.4.1).

    Nothing in the event says which. Text comes first (quirks Q14, Q15): a blob of which all sixteen bytes are
    printable would lie at an address that no machine has.
    """
    data = cursor.peek
    if printable(data):
        return read_text(cursor)
    if len(data) == 16:
        return read_blob(cursor)
    if len(data) >= 17 and len(data) == 17 + data[0]:
        return read_blob2(cursor)
    return read_any(cursor)


def _read_tables(cursor: Cursor) -> tuple[ConfigurationTable, ...]:
    number = cursor.count("tables", cursor.u64("number_of_tables"), 24)
    tables = []
    for index in range(number):
        inner = cursor.inside(f"tables[{index}]", 24)
        tables.append(ConfigurationTable(guid=inner.guid("guid"), address=inner.u64("address")))
    return tuple(tables)


def read_handoff(cursor: Cursor) -> HandoffTables:
    """UEFI_HANDOFF_TABLE_POINTERS; the number of tables is compared with what is left first (A33)."""
    cursor.clause = "PFP 1.06, 10.2.4"
    return HandoffTables(tables=_read_tables(cursor), **cursor.finish())


def read_handoff2(cursor: Cursor) -> HandoffTables2:
    """UEFI_HANDOFF_TABLE_POINTERS2."""
    cursor.clause = "PFP 1.06, 10.2.4"
    description = decode_text(cursor.take("description", cursor.u8("description_size")))
    return HandoffTables2(description=description, tables=_read_tables(cursor), **cursor.finish())


def read_separator(cursor: Cursor) -> Record:
    """EV_SEPARATOR: the first four bytes, or fewer where there are fewer."""
    cursor.clause = "PFP 1.06, 10.4.1"
    return Separator(value=cursor.take("value", min(4, cursor.remaining)), **cursor.finish())


def read_version(cursor: Cursor) -> Record:
    """EV_S_CRTM_VERSION: CHAR16 string, or a GUID (quirk Q16)."""
    data = cursor.peek
    if not data.strip(b"\0") or looks_like_utf16(data):
        return read_utf16(cursor) if len(data) % 2 == 0 else Opaque(raw=cursor.rest("raw"), **cursor.finish())
    if len(data) == 16 and not printable(data):
        return VersionGuid(guid=cursor.guid("guid"), **cursor.finish())
    return read_any(cursor)


def read_nonhost(cursor: Cursor) -> Record:
    """EV_NONHOST_CODE, EV_NONHOST_CONFIG, EV_NONHOST_INFO: the platform's own, one known form apart."""
    if cursor.peek.startswith(_GCE) and cursor.remaining == 32:
        cursor.take("signature", 16)
        return GceNonHostInfo(technology=cursor.u8("technology"), reserved=cursor.rest("reserved"), **cursor.finish())
    return read_any(cursor)
