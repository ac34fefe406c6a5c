"""The columns of a log's frame: names, Arrow types and what they mean. The schema and docs/columns.md follow from this.

The schema is the same for every log, so that the frames of many logs can be put below one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from attrs import frozen

from measlog.records import (
    DevicePath,
    FirmwareBlob,
    FirmwareBlob2,
    GptEvent,
    ImageLoadEvent,
    IplText,
    Record,
    Separator,
    StartupLocality,
    TaggedEvent,
    Text,
    Undecodable,
    Utf16Text,
    VariableData,
)
from measlog.view.html import clip
from measlog.view.jsonable import json_text
from measlog.view.summary import summary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "COHORT_COLUMNS",
    "COLUMNS",
    "DATA",
    "Column",
    "Decoded",
    "arrow_schema",
    "cohort_schema",
    "columns_page",
    "decoded",
]

_WORD = "dictionary<int32, string>"
_MAX_TEXT = 8192


@frozen
class Column:
    """A column: its name, its type as Arrow writes it, whether it can be null, what it means."""

    name: str
    type: str
    null: bool
    about: str


@frozen
class Decoded:
    """A field of the column ``data``: set where the event's record is of one of these classes, null elsewhere."""

    name: str
    records: tuple[type[Record], ...]
    fields: tuple[Column, ...]
    read: Callable[[Record], dict[str, object]]


def _path(record: Record) -> str | None:
    return json_text(record.text) if isinstance(record, DevicePath) else None


def _image(record: Record) -> dict[str, object]:
    assert isinstance(record, ImageLoadEvent)
    return {
        "location": record.location,
        "length": record.length,
        "device_path": _path(record.device_path),
    }


def _variable(record: Record) -> dict[str, object]:
    assert isinstance(record, VariableData)
    return {
        "name": json_text(record.name),
        "guid": str(record.guid),
        "value": record.value,
        "summary": clip(json_text("".join(words for _, words in summary(record.decoded))), _MAX_TEXT),
    }


def _text(record: Record) -> dict[str, object]:
    if isinstance(record, IplText):
        return {"prefix": json_text(record.prefix) or None, "text": json_text(record.text)}
    assert isinstance(record, Text | Utf16Text)
    return {"prefix": None, "text": json_text(record.text)}


def _gpt(record: Record) -> dict[str, object]:
    assert isinstance(record, GptEvent)
    partitions = [
        {"name": json_text(p.name), "type_guid": str(p.type_guid), "guid": str(p.unique_guid)}
        for p in record.partitions
    ]
    return {"disk_guid": str(record.header.disk_guid), "partitions": partitions}


def _blob(record: Record) -> dict[str, object]:
    assert isinstance(record, FirmwareBlob | FirmwareBlob2)
    description = json_text(record.description) if isinstance(record, FirmwareBlob2) else None
    return {"description": description, "base": record.base, "length": record.length}


def _separator(record: Record) -> dict[str, object]:
    assert isinstance(record, Separator)
    return {"value": record.value}


def _locality(record: Record) -> dict[str, object]:
    assert isinstance(record, StartupLocality)
    return {"locality": record.locality}


def _tag(record: Record) -> dict[str, object]:
    assert isinstance(record, TaggedEvent)
    return {"id": record.id, "name": record.name, "data": record.data}


def _undecodable(record: Record) -> dict[str, object]:
    assert isinstance(record, Undecodable)
    return {"reason": json_text(record.reason)}


DATA: tuple[Decoded, ...] = (
    Decoded(
        "image",
        (ImageLoadEvent,),
        (
            Column("location", "uint64", null=True, about="address in memory"),
            Column("length", "uint64", null=True, about="bytes in memory"),
            Column("device_path", "string", null=True, about="where it was loaded from, in UEFI's text form"),
        ),
        _image,
    ),
    Decoded(
        "variable",
        (VariableData,),
        (
            Column("name", "string", null=True, about="UnicodeName"),
            Column("guid", "string", null=True, about="VariableName, the vendor's GUID"),
            Column("value", "binary", null=True, about="VariableData"),
            Column("summary", "string", null=True, about="the value in one line"),
        ),
        _variable,
    ),
    Decoded(
        "text",
        (IplText, Text, Utf16Text),
        (
            Column("prefix", "string", null=True, about="what the boot loader writes before the measured text"),
            Column("text", "string", null=True, about="the text"),
        ),
        _text,
    ),
    Decoded(
        "gpt",
        (GptEvent,),
        (
            Column("disk_guid", "string", null=True, about="DiskGUID"),
            Column(
                "partitions",
                "list<struct<name: string, type_guid: string, guid: string>>",
                null=True,
                about="the partitions, in the order of the event",
            ),
        ),
        _gpt,
    ),
    Decoded(
        "blob",
        (FirmwareBlob, FirmwareBlob2),
        (
            Column("description", "string", null=True, about="BlobDescription"),
            Column("base", "uint64", null=True, about="address"),
            Column("length", "uint64", null=True, about="bytes"),
        ),
        _blob,
    ),
    Decoded(
        "separator",
        (Separator,),
        (Column("value", "binary", null=True, about="the four bytes, 0 or 0xffffffff where the phase ended well"),),
        _separator,
    ),
    Decoded(
        "locality",
        (StartupLocality,),
        (Column("locality", "uint8", null=True, about="locality of TPM2_Startup"),),
        _locality,
    ),
    Decoded(
        "tag",
        (TaggedEvent,),
        (
            Column("id", "uint32", null=True, about="taggedEventID"),
            Column("name", "string", null=True, about="the number's name where it has one"),
            Column("data", "binary", null=True, about="taggedEventData"),
        ),
        _tag,
    ),
    Decoded(
        "undecodable",
        (Undecodable,),
        (Column("reason", "string", null=True, about="why the data is not what the event type calls for"),),
        _undecodable,
    ),
)


def _struct(fields: tuple[Column, ...]) -> str:
    return f"struct<{', '.join(f'{f.name}: {f.type}' for f in fields)}>"


COLUMNS: tuple[Column, ...] = (
    Column("index", "uint32", null=False, about="the event's place in the log, from 0"),
    Column("offset", "uint64", null=False, about="bytes from the start of the log"),
    Column("register", _WORD, null=True, about="what the event extends: `PCR 4`, `RTMR 1`, `MRTD`; null where nothing"),
    Column("pcr", "uint8", null=True, about="the PCR's index; null where the register is no PCR"),
    Column("type", _WORD, null=False, about="the event type's name; a claim, no digest covers it"),
    Column("type_number", "uint32", null=False, about="TCG_EVENTTYPE"),
    Column("bank", _WORD, null=False, about="the bank that `digest` to `trust` are about"),
    Column("digest", "binary", null=True, about="the event's digest in the bank; null where it has none"),
    Column("digests", "map<string, binary>", null=False, about="the digests of all banks by algorithm"),
    Column(
        "check",
        _WORD,
        null=False,
        about="whether the data gives the digest: `matches`, `differs`, `not_derivable`, `not_extended`, `no_digest`",
    ),
    Column("rule", _WORD, null=True, about="the rule by which the data gives the digest, or should"),
    Column("quirk", _WORD, null=True, about="the known deviation by which the rule is not the specification's"),
    Column(
        "value",
        "binary",
        null=True,
        about="the register's value in the bank after the event; null where it cannot be known",
    ),
    Column("record", _WORD, null=False, about="the class of `measlog.records` that the data was decoded to"),
    Column("summary", "string", null=False, about="the data in one line, for people; unprintable characters escaped"),
    Column(
        "data",
        f"struct<{', '.join(f'{d.name}: {_struct(d.fields)}' for d in DATA)}>",
        null=False,
        about="decoded fields; of its fields, one at most is not null (below)",
    ),
    Column(
        "trust",
        "list<struct<field: string, trust: string>>",
        null=False,
        about="for each decoded field `authenticated` or `unauthenticated`, provided that a quote proves the register in this bank",
    ),
    Column("size", "uint32", null=False, about="bytes of event data"),
    Column("raw", "binary", null=False, about="the event data as it is in the log"),
)


COHORT_COLUMNS: tuple[Column, ...] = (
    Column("machines", "uint64", null=False, about="how many machines deviate alike"),
    Column("status", _WORD, null=False, about="`warning`, `contraindicated` or `none`"),
    Column(
        "code", _WORD, null=True, about="code of the first finding or of the error; null where nothing was compared"
    ),
    Column("explanation", "string", null=False, about="what the code means"),
    Column("pcr", "uint8", null=True, about="the register that deviates; null where the evidence was refused"),
    Column("event", "uint32", null=True, about="index in the log of the first event concerned"),
    Column("shared", "uint32", null=True, about="events of the register that are as on most machines"),
    Column("digest", "binary", null=True, about="of the event behind these; null where the register ends"),
    Column("usual", "binary", null=True, about="the digest that most machines have there; null where theirs ends"),
    Column("text", "string", null=True, about="the log's own words for the event, which no digest may cover; escaped"),
    Column(
        "counts",
        "list<struct<column: string, value: string, machines: uint64>>",
        null=False,
        about="values of the columns asked for, and how many of the machines have each",
    ),
    Column("rows", "list<uint64>", null=False, about="places of the first few machines in the table of verdicts"),
)


_READERS: Mapping[type[Record], Decoded] = MappingProxyType({r: d for d in DATA for r in d.records})


def decoded(record: Record) -> dict[str, object] | None:
    """What stands in the column ``data`` for a record."""
    for kind in type(record).__mro__:
        found = _READERS.get(kind)
        if found is not None:
            return {found.name: found.read(record)}
    return {}


def _list(*names: str, **others: pa.DataType) -> pa.DataType:
    import pyarrow as pa  # noqa: PLC0415 - optional

    # "element" is Parquet's name, so that the type is the same when it is read back.
    return pa.list_(pa.field("element", pa.struct([*((name, pa.string()) for name in names), *others.items()])))


def _types() -> Mapping[str, pa.DataType]:
    import pyarrow as pa  # noqa: PLC0415 - optional

    return {
        "uint8": pa.uint8(),
        "uint32": pa.uint32(),
        "uint64": pa.uint64(),
        "string": pa.string(),
        "binary": pa.binary(),
        _WORD: pa.dictionary(pa.int32(), pa.string()),
        "map<string, binary>": pa.map_(pa.string(), pa.binary()),
        "list<struct<field: string, trust: string>>": _list("field", "trust"),
        "list<struct<name: string, type_guid: string, guid: string>>": _list("name", "type_guid", "guid"),
        "list<struct<column: string, value: string, machines: uint64>>": _list("column", "value", machines=pa.uint64()),
        "list<uint64>": pa.list_(pa.field("element", pa.uint64())),
    }


@cache
def arrow_schema() -> pa.Schema:
    """The schema of a log's frame. Needs the extra ``arrow``."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    plain = _types()
    data = pa.struct([(d.name, pa.struct([(f.name, plain[f.type]) for f in d.fields])) for d in DATA])
    return pa.schema(
        [
            pa.field(c.name, data if c.name == "data" else plain[c.type], nullable=c.null, metadata={"about": c.about})
            for c in COLUMNS
        ]
    )


@cache
def cohort_schema() -> pa.Schema:
    """The schema of a frame of cohorts. Needs the extra ``arrow``."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    plain = _types()
    return pa.schema(
        [pa.field(c.name, plain[c.type], nullable=c.null, metadata={"about": c.about}) for c in COHORT_COLUMNS]
    )


def columns_page() -> str:
    """docs/columns.md."""
    lines = [
        "# Columns of a log's frame",
        "",
        "`log.to_arrow()`, `log.to_pandas()` and `log.to_polars()` give one row an event. The schema is the same for",
        "every log. `bank` is chosen by the argument of that name, and is sha256 where the log has it. This page is made",
        "from `measlog.view.columns`.",
        "",
        *_rows(COLUMNS),
        "",
        "## The fields of `data`",
        "",
        "Set where the event was decoded to such a record, null elsewhere; `summary` and `raw` are there for all others.",
    ]
    for item in DATA:
        classes = ", ".join(f"`{r.__name__}`" for r in item.records)
        lines += ["", f"### `data.{item.name}`", "", f"Records: {classes}.", "", *_rows(item.fields)]
    lines += [
        "",
        "## Columns of a frame of cohorts",
        "",
        "What `measlog.bulk.cohorts.cohorts()` gives has `to_arrow()`, `to_pandas()` and `to_polars()` as well: one row a",
        "cohort, the largest first.",
        "",
        *_rows(COHORT_COLUMNS),
    ]
    return "\n".join(lines) + "\n"


def _rows(columns: tuple[Column, ...]) -> list[str]:
    made = ["| column | type | null | meaning |", "|---|---|---|---|"]
    for column in columns:
        kind = "struct (below)" if column.name == "data" and column.type.startswith("struct") else f"`{column.type}`"
        made.append(f"| `{column.name}` | {kind} | {'yes' if column.null else 'no'} | {column.about} |")
    return made
