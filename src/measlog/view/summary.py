"""What an event's data says, in one line: pieces of text, each with the field that it was taken from.

The pieces are raw: whoever shows them escapes them. The field tells how far a piece can be trusted.
"""

from __future__ import annotations

from functools import singledispatch
from uuid import UUID

import attrs

from measlog.errors import FormatError
from measlog.records import (
    Absent,
    BareCertificate,
    BootNumber,
    BootOrder,
    DevicePath,
    FirmwareBlob,
    FirmwareBlob2,
    Flag,
    GptEvent,
    GrubCommand,
    HandoffTables,
    HandoffTables2,
    ImageLoadEvent,
    IplText,
    KernelCommandLine,
    LoadOption,
    Opaque,
    Record,
    SbatLevel,
    Separator,
    SignatureData,
    SignatureLists,
    SipaEvent,
    SpecIdEvent,
    StartupLocality,
    TaggedEvent,
    Text,
    Timeout,
    Undecodable,
    Utf16Text,
    VariableData,
    VersionGuid,
)
from measlog.registry import GUID_NAMES

__all__ = ["Piece", "summary"]

Piece = tuple[str, str]
"""A field's name (empty for words of ours) and text."""

_MAX_BYTES = 32


def _hex(data: bytes) -> str:
    if len(data) <= _MAX_BYTES:
        return data.hex() or "(no bytes)"
    return f"{data[:_MAX_BYTES].hex()}... ({len(data)} bytes)"


def _guid(guid: UUID) -> str:
    return GUID_NAMES.get(guid, str(guid))


@singledispatch
def summary(record: Record) -> tuple[Piece, ...]:
    """The pieces of one line about ``record``; any kind has some."""
    pieces: list[Piece] = []
    for attribute in attrs.fields(type(record)):
        if attribute.name in {"trailing", "spans"} or not attribute.repr:
            continue
        value = getattr(record, attribute.name)
        text = _hex(value) if isinstance(value, bytes) else _short(value)
        pieces.append((attribute.name, f"{attribute.name}={text}"))
    return _spaced(*pieces)


def _short(value: object) -> str:
    if isinstance(value, Record):
        return "".join(text for _, text in summary(value))
    if isinstance(value, tuple):
        return f"({len(value)})"
    return str(value)


def _spaced(*pieces: Piece) -> tuple[Piece, ...]:
    made: list[Piece] = []
    for piece in pieces:
        if made:
            made.append(("", " "))
        made.append(piece)
    return tuple(made)


@summary.register
def _(record: Undecodable) -> tuple[Piece, ...]:
    return (("", "undecodable: "), ("raw", f"{_hex(record.raw)}, {record.reason}"))


@summary.register
def _(record: Opaque) -> tuple[Piece, ...]:
    return (("raw", _hex(record.raw)),)


@summary.register(Text)
@summary.register(Utf16Text)
def _(record: Text | Utf16Text) -> tuple[Piece, ...]:
    return (("text", record.text or "(empty)"),)


@summary.register
def _(record: IplText) -> tuple[Piece, ...]:
    words = {GrubCommand: "(command) ", KernelCommandLine: "(kernel command line) "}.get(type(record), "")
    return (("prefix", words or record.prefix), ("text", record.text))


@summary.register
def _(record: SpecIdEvent) -> tuple[Piece, ...]:
    version = f"{record.spec_version_major}.{record.spec_version_minor} errata {record.spec_errata}"
    return (("signature", f"{record.signature}, version {version}, {', '.join(record.algorithm_names)}"),)


@summary.register
def _(record: StartupLocality) -> tuple[Piece, ...]:
    return (("locality", f"startup locality {record.locality}"),)


@summary.register
def _(record: FirmwareBlob) -> tuple[Piece, ...]:
    return (("base", f"blob at 0x{record.base:x}"), ("", ", "), ("length", f"{record.length} bytes"))


@summary.register
def _(record: FirmwareBlob2) -> tuple[Piece, ...]:
    place = f" at 0x{record.base:x}, {record.length} bytes"
    return (("description", record.description), ("base", place))


@summary.register
def _(record: HandoffTables) -> tuple[Piece, ...]:
    return (("tables", ", ".join(_guid(t.guid) for t in record.tables) or "no tables"),)


@summary.register
def _(record: HandoffTables2) -> tuple[Piece, ...]:
    tables = ", ".join(_guid(t.guid) for t in record.tables) or "no tables"
    return (("description", record.description), ("tables", f": {tables}"))


@summary.register
def _(record: Separator) -> tuple[Piece, ...]:
    return (("value", record.value.hex()),)


@summary.register
def _(record: VersionGuid) -> tuple[Piece, ...]:
    return (("guid", str(record.guid)),)


@summary.register
def _(record: DevicePath) -> tuple[Piece, ...]:
    return (("nodes", record.text),)


@summary.register
def _(record: ImageLoadEvent) -> tuple[Piece, ...]:
    path = record.device_path
    text = (path.text or "(empty device path)") if isinstance(path, DevicePath) else f"undecodable path: {path.reason}"
    return (("device_path", text),)


@summary.register
def _(record: GptEvent) -> tuple[Piece, ...]:
    names = ", ".join(p.name or str(p.unique_guid) for p in record.partitions) or "no partitions"
    return (("header", f"disk {record.header.disk_guid}: "), ("partitions", names))


@summary.register
def _(record: VariableData) -> tuple[Piece, ...]:
    owner = GUID_NAMES.get(record.guid)
    name = record.name if owner is not None else f"{record.name} of {record.guid}"
    inner = "".join(text for _, text in summary(record.decoded))
    return (("name", name), ("", " = "), ("value", inner))


@summary.register
def _(record: Absent) -> tuple[Piece, ...]:
    del record
    return (("", "(absent)"),)


@summary.register
def _(record: Flag) -> tuple[Piece, ...]:
    return (("value", "1" if record.value else "0"),)


@summary.register
def _(record: BootOrder) -> tuple[Piece, ...]:
    return (("options", " ".join(f"{option:04X}" for option in record.options) or "(empty)"),)


@summary.register
def _(record: BootNumber) -> tuple[Piece, ...]:
    return (("option", f"{record.option:04X}"),)


@summary.register
def _(record: Timeout) -> tuple[Piece, ...]:
    return (("seconds", f"{record.seconds} s"),)


@summary.register
def _(record: SbatLevel) -> tuple[Piece, ...]:
    return (("text", record.text.strip()),)


@summary.register
def _(record: BareCertificate) -> tuple[Piece, ...]:
    return (("der", f"certificate without owner, {len(record.der)} bytes"),)


@summary.register
def _(record: SignatureData) -> tuple[Piece, ...]:
    try:
        what = f"certificate {record.certificate.subject.rfc4514_string()}"
    except (FormatError, ValueError):
        what = _hex(record.data)
    return (("data", what), ("owner", f", owner {_guid(record.owner)}"))


@summary.register
def _(record: SignatureLists) -> tuple[Piece, ...]:
    kinds: dict[str, int] = {}
    for item in record.lists:
        kinds[item.type_name] = kinds.get(item.type_name, 0) + len(item.signatures)
    text = ", ".join(f"{count} {name.removeprefix('EFI_CERT_')}" for name, count in kinds.items())
    return (("lists", text or "no signatures"),)


@summary.register
def _(record: LoadOption) -> tuple[Piece, ...]:
    paths = ", ".join(p.text if isinstance(p, DevicePath) else "undecodable path" for p in record.file_path_list)
    state = "" if record.active else " (inactive)"
    return (("description", record.description), ("attributes", state), ("file_path_list", f" at {paths}"))


@summary.register
def _(record: TaggedEvent) -> tuple[Piece, ...]:
    name = record.name or f"tag 0x{record.id:08x}"
    return (("id", f"{name}: "), ("data", "".join(text for _, text in summary(record.decoded))))


@summary.register
def _(record: SipaEvent) -> tuple[Piece, ...]:
    if record.container:
        names = ", ".join(child.name for child in record.children)
        return (("children", f"{record.name}: {names}"),)
    value = record.value
    return (("data", f"{record.name} = {_hex(value) if isinstance(value, bytes) else value}"),)
