"""PE/COFF images: headers, sections and the attribute certificate table.

Microsoft PE Format, as far as UEFI looks at it (UEFI 2.10, clause 2.1.1 and 32.5). Nothing here believes a header:
every offset is compared with the file before it is used.
"""

from __future__ import annotations

from typing import Any, Self

import construct as c
from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["MACHINES", "WIN_CERTIFICATE", "PeCertificate", "PeImage", "PeSection"]

CLAUSE = "PE Format"

MACHINES = {0x8664: "amd64", 0xAA64: "arm64", 0x014C: "386", 0x01C2: "arm", 0x5064: "riscv64"}
"""IMAGE_FILE_MACHINE_* by measlog's name of the architecture."""

IMAGE_DOS_HEADER = c.Struct(
    "e_magic" / c.Bytes(2),
    "reserved" / c.Bytes(58),
    "e_lfanew" / c.Int32ul,
)

IMAGE_FILE_HEADER = c.Struct(
    "Signature" / c.Bytes(4),
    "Machine" / c.Int16ul,
    "NumberOfSections" / c.Int16ul,
    "TimeDateStamp" / c.Int32ul,
    "PointerToSymbolTable" / c.Int32ul,
    "NumberOfSymbols" / c.Int32ul,
    "SizeOfOptionalHeader" / c.Int16ul,
    "Characteristics" / c.Int16ul,
)

_STANDARD = (
    "Magic" / c.Int16ul,
    "MajorLinkerVersion" / c.Int8ul,
    "MinorLinkerVersion" / c.Int8ul,
    "SizeOfCode" / c.Int32ul,
    "SizeOfInitializedData" / c.Int32ul,
    "SizeOfUninitializedData" / c.Int32ul,
    "AddressOfEntryPoint" / c.Int32ul,
    "BaseOfCode" / c.Int32ul,
)


def _windows(word: Any) -> tuple[Any, ...]:
    return (
        "ImageBase" / word,
        "SectionAlignment" / c.Int32ul,
        "FileAlignment" / c.Int32ul,
        "Versions" / c.Bytes(12),
        "Win32VersionValue" / c.Int32ul,
        "SizeOfImage" / c.Int32ul,
        "SizeOfHeaders" / c.Int32ul,
        "CheckSum" / c.Int32ul,
        "Subsystem" / c.Int16ul,
        "DllCharacteristics" / c.Int16ul,
        "SizeOfStackReserve" / word,
        "SizeOfStackCommit" / word,
        "SizeOfHeapReserve" / word,
        "SizeOfHeapCommit" / word,
        "LoaderFlags" / c.Int32ul,
        "NumberOfRvaAndSizes" / c.Int32ul,
    )


IMAGE_OPTIONAL_HEADER32 = c.Struct(*_STANDARD, "BaseOfData" / c.Int32ul, *_windows(c.Int32ul))
IMAGE_OPTIONAL_HEADER64 = c.Struct(*_STANDARD, *_windows(c.Int64ul))
IMAGE_DATA_DIRECTORY = c.Struct("VirtualAddress" / c.Int32ul, "Size" / c.Int32ul)

IMAGE_SECTION_HEADER = c.Struct(
    "Name" / c.Bytes(8),
    "VirtualSize" / c.Int32ul,
    "VirtualAddress" / c.Int32ul,
    "SizeOfRawData" / c.Int32ul,
    "PointerToRawData" / c.Int32ul,
    "PointerToRelocations" / c.Int32ul,
    "PointerToLinenumbers" / c.Int32ul,
    "NumberOfRelocations" / c.Int16ul,
    "NumberOfLinenumbers" / c.Int16ul,
    "Characteristics" / c.Int32ul,
)

WIN_CERTIFICATE = c.Struct(
    "dwLength" / c.Int32ul,
    "wRevision" / c.Int16ul,
    "wCertificateType" / c.Int16ul,
)

IMAGE_DIRECTORY_ENTRY_SECURITY = 4


@frozen(kw_only=True)
class PeSection:
    """IMAGE_SECTION_HEADER: sizes and file offset in bytes. ``name`` without its padding."""

    name: str = field(validator=instance_of(str))
    virtual_size: int = field(validator=instance_of(int))
    virtual_address: int = field(validator=instance_of(int))
    size_of_raw_data: int = field(validator=instance_of(int))
    pointer_to_raw_data: int = field(validator=instance_of(int))
    characteristics: int = field(validator=instance_of(int))


@frozen(kw_only=True)
class PeCertificate:
    """WIN_CERTIFICATE: revision, type (2 is PKCS_SIGNED_DATA) and its bytes; ``offset`` in the file."""

    offset: int = field(validator=instance_of(int))
    revision: int = field(validator=instance_of(int))
    type: int = field(validator=instance_of(int))
    data: bytes = field(validator=instance_of(bytes), repr=lambda data: f"<{len(data)} bytes>")


@frozen(kw_only=True)
class PeImage:
    """The headers of a PE image, all of whose sections and certificates lie within the file.

    Offsets and sizes are in bytes of the file. ``security_entry`` is the offset of the certificate table's data
    directory entry, None where there are too few directories; ``certificate_table`` its (offset, size), (0, 0) if none.
    """

    size: int = field(validator=instance_of(int))
    machine: int = field(validator=instance_of(int))
    subsystem: int = field(validator=instance_of(int))
    size_of_headers: int = field(validator=instance_of(int))
    checksum_offset: int = field(validator=instance_of(int))
    security_entry: int | None = field(validator=instance_of(int | None))
    certificate_table: tuple[int, int] = field(validator=deep_iterable(instance_of(int)))
    sections: tuple[PeSection, ...] = field(validator=deep_iterable(instance_of(PeSection)))

    @property
    def architecture(self) -> str:
        """measlog's name of the machine type; ``other`` where it has none."""
        return MACHINES.get(self.machine, "other")

    def section(self, name: str) -> PeSection | None:
        """The only section of that name; FormatError where there are several."""
        found = [section for section in self.sections if section.name == name]
        if len(found) > 1:
            raise FormatError(f"{len(found)} sections are named {name!r}", path="sections", clause=CLAUSE)
        return found[0] if found else None

    def content(self, data: bytes | memoryview, section: PeSection) -> bytes:
        """The section's bytes as loaded: up to its virtual size, filled up with zeros never."""
        length = min(section.size_of_raw_data, section.virtual_size or section.size_of_raw_data)
        return bytes(data[section.pointer_to_raw_data : section.pointer_to_raw_data + length])

    def certificates(self, data: bytes | memoryview) -> tuple[PeCertificate, ...]:
        """The entries of the attribute certificate table, each aligned to 8 bytes; FormatError where they do not fit."""
        start, size = self.certificate_table
        end, place = start + size, start
        found: list[PeCertificate] = []
        while end - place >= WIN_CERTIFICATE.sizeof():
            path = f"certificates[{len(found)}]"
            header = WIN_CERTIFICATE.parse(bytes(data[place : place + WIN_CERTIFICATE.sizeof()]))
            if header.dwLength == 0 and not any(data[place:end]):
                break
            if not WIN_CERTIFICATE.sizeof() <= header.dwLength <= end - place:
                raise FormatError(
                    f"dwLength {header.dwLength} where {end - place} bytes are left",
                    offset=place,
                    path=path,
                    clause=CLAUSE,
                )
            body = bytes(data[place + WIN_CERTIFICATE.sizeof() : place + header.dwLength])
            found.append(
                PeCertificate(offset=place, revision=header.wRevision, type=header.wCertificateType, data=body)
            )
            place += (header.dwLength + 7) & ~7
        return tuple(found)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read the headers of ``data``, the whole file; FormatError where they lie about it."""
        size = len(data)
        dos = _parse(IMAGE_DOS_HEADER, data, 0, "DosHeader")
        if dos.e_magic != b"MZ":
            raise FormatError("no MZ signature: not a PE image", offset=0, path="DosHeader.e_magic", clause=CLAUSE)
        coff_at = dos.e_lfanew
        coff = _parse(IMAGE_FILE_HEADER, data, coff_at, "FileHeader")
        if coff.Signature != b"PE\0\0":
            raise FormatError("no PE signature", offset=coff_at, path="FileHeader.Signature", clause=CLAUSE)
        if coff.NumberOfSections > limits.pe_sections:
            raise LimitExceededError(
                f"{coff.NumberOfSections} sections, the limit is {limits.pe_sections}",
                offset=coff_at + 6,
                path="FileHeader.NumberOfSections",
                clause=CLAUSE,
            )
        optional_at = coff_at + IMAGE_FILE_HEADER.sizeof()
        magic = int.from_bytes(_slice(data, optional_at, 2, "OptionalHeader.Magic"), "little")
        if magic not in {0x10B, 0x20B}:
            raise UnsupportedError(
                f"Magic 0x{magic:04x} is neither PE32 nor PE32+",
                offset=optional_at,
                path="OptionalHeader.Magic",
                clause=CLAUSE,
            )
        shape = IMAGE_OPTIONAL_HEADER64 if magic == 0x20B else IMAGE_OPTIONAL_HEADER32
        optional = _parse(shape, data, optional_at, "OptionalHeader")
        directories_at = optional_at + shape.sizeof()
        sections_at = optional_at + coff.SizeOfOptionalHeader
        count = optional.NumberOfRvaAndSizes
        if directories_at + 8 * count > sections_at:
            raise FormatError(
                f"{count} data directories do not fit into an optional header of {coff.SizeOfOptionalHeader} bytes",
                offset=directories_at - 4,
                path="OptionalHeader.NumberOfRvaAndSizes",
                clause=CLAUSE,
            )
        headers_end = sections_at + coff.NumberOfSections * IMAGE_SECTION_HEADER.sizeof()
        if not headers_end <= optional.SizeOfHeaders <= size:
            raise FormatError(
                f"SizeOfHeaders {optional.SizeOfHeaders}, but the headers end at {headers_end} and the file at {size}",
                offset=optional_at + 60,
                path="OptionalHeader.SizeOfHeaders",
                clause=CLAUSE,
            )
        entry, table = None, (0, 0)
        if count > IMAGE_DIRECTORY_ENTRY_SECURITY:
            entry = directories_at + 8 * IMAGE_DIRECTORY_ENTRY_SECURITY
            table = _certificate_table(data, entry, size)
        strings = coff.PointerToSymbolTable + coff.NumberOfSymbols * 18 if coff.PointerToSymbolTable else None
        sections = _sections(data, sections_at, coff.NumberOfSections, strings)
        _check_layout(sections, optional.SizeOfHeaders, table[0] if table[1] else size)
        return cls(
            size=size,
            machine=coff.Machine,
            subsystem=optional.Subsystem,
            size_of_headers=optional.SizeOfHeaders,
            checksum_offset=optional_at + 64,
            security_entry=entry,
            certificate_table=table,
            sections=sections,
        )


def _slice(data: bytes | memoryview, offset: int, length: int, path: str) -> bytes:
    if offset + length > len(data):
        raise TruncatedError(
            f"{length} bytes expected, the file ends at byte {len(data)}", offset=offset, path=path, clause=CLAUSE
        )
    return bytes(data[offset : offset + length])


def _parse(shape: Any, data: bytes | memoryview, offset: int, path: str) -> Any:
    return shape.parse(_slice(data, offset, shape.sizeof(), path))


def _certificate_table(data: bytes | memoryview, entry: int, size: int) -> tuple[int, int]:
    security = _parse(IMAGE_DATA_DIRECTORY, data, entry, "OptionalHeader.DataDirectory[4]")
    start, length = security.VirtualAddress, security.Size
    if length == 0:
        return 0, 0
    # The table is left out of the digest by its length alone, counted from the end of the file (Authenticode, step
    # 14): anywhere else the digest would cover part of the signatures and leave part of the program free.
    if start + length != size:
        raise FormatError(
            f"the certificate table is bytes {start} to {start + length}, the file ends at {size}",
            offset=entry,
            path="OptionalHeader.DataDirectory[4]",
            clause="Authenticode PE, Calculating the PE Image Hash",
        )
    return start, length


def _name(data: bytes | memoryview, stored: bytes, strings: int | None) -> str:
    """The section's name; ``/14`` stands for the text at byte 14 of the COFF string table, where that can be read."""
    name = stored.rstrip(b"\0").decode("latin-1")
    if strings is None or not name.startswith("/") or not name[1:].isdecimal():
        return name
    start = strings + int(name[1:])
    long, end, _ = bytes(data[start : start + 64]).partition(b"\0")
    return long.decode("latin-1") if long and end else name


def _sections(data: bytes | memoryview, offset: int, count: int, strings: int | None) -> tuple[PeSection, ...]:
    found = []
    for index in range(count):
        place = offset + index * IMAGE_SECTION_HEADER.sizeof()
        header = _parse(IMAGE_SECTION_HEADER, data, place, f"sections[{index}]")
        found.append(
            PeSection(
                name=_name(data, header.Name, strings),
                virtual_size=header.VirtualSize,
                virtual_address=header.VirtualAddress,
                size_of_raw_data=header.SizeOfRawData,
                pointer_to_raw_data=header.PointerToRawData,
                characteristics=header.Characteristics,
            )
        )
    return tuple(found)


def _check_layout(sections: tuple[PeSection, ...], headers: int, end: int) -> None:
    """Sections with raw data lie behind the headers, before ``end``, and do not overlap."""
    last = headers
    stored = [(section, index) for index, section in enumerate(sections) if section.size_of_raw_data]
    for section, index in sorted(stored, key=lambda item: item[0].pointer_to_raw_data):
        start = section.pointer_to_raw_data
        stop = start + section.size_of_raw_data
        if stop > end:
            raise FormatError(
                f"{section.name!r} ends at byte {stop}, beyond byte {end} where the image ends",
                offset=start,
                path=f"sections[{index}]",
                clause=CLAUSE,
            )
        if start < last:
            raise FormatError(
                f"{section.name!r} starts at byte {start}, inside what ends at byte {last}",
                offset=start,
                path=f"sections[{index}]",
                clause=CLAUSE,
            )
        last = stop
