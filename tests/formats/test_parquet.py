"""Parquet files put together: what one writer would have written, and what other readers read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from measlog.errors import FormatError, TruncatedError, UnsupportedError
from measlog.formats.parquet import MAGIC, TAIL, JoinedFooter, footer_size
from measlog.formats.thrift import STRUCT, Value, read_struct, write_struct

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SCHEMA = pa.schema(
    [
        pa.field("name", pa.dictionary(pa.int32(), pa.string())),
        pa.field("data", pa.binary(), nullable=False),
        pa.field("number", pa.uint8()),
        pa.field("list", pa.list_(pa.int64())),
    ],
    metadata={"made": "here"},
)


def _table(seed: int, rows: int) -> Any:
    return pa.table(
        {
            "name": pa.array([f"n{(seed + i) % 5}" for i in range(rows)]).dictionary_encode(),
            "data": [bytes([seed]) * (i % 50) for i in range(rows)],
            "number": pa.array([None if i % 3 else i % 256 for i in range(rows)], pa.uint8()),
            "list": [list(range(i % 4)) for i in range(rows)],
        },
        schema=SCHEMA,
    )


def _file(tables: list[Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd", **options) as writer:
        for table in tables:
            writer.write_table(table)
    return sink.getvalue()


def _footer(data: bytes) -> bytes:
    size = footer_size(data[-TAIL:], len(data))
    return data[len(data) - TAIL - size : len(data) - TAIL]


def _joined(files: list[bytes]) -> bytes:
    footer, body = JoinedFooter.like(_footer(_file([]))), MAGIC
    for data in files:
        pages = data[len(MAGIC) : len(data) - TAIL - len(_footer(data))]
        footer.add(_footer(data), len(pages))
        body += pages
        assert footer.end == len(body)
    return body + footer.to_bytes()


PARTS = [[_table(1, 100)], [], [_table(2, 1), _table(3, 3000)], [_table(4, 40)]]
TABLES = [table for part in PARTS for table in part]


@pytest.mark.parametrize("parts", [PARTS, [], [[]], PARTS[2:3]], ids=["several", "none", "empty", "one"])
def test_the_same_bytes_as_of_one_writer(parts: list[list[Any]]) -> None:
    """Arrow writes all row groups itself here: footer and pages are its own, to the last byte."""
    joined, whole = _joined([_file(part) for part in parts]), _file([table for part in parts for table in part])
    assert joined.hex() == whole.hex()


def _by_duckdb(data: bytes, tmp_path: Any) -> list[dict[str, Any]]:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "joined.parquet"
    path.write_bytes(data)
    with duckdb.connect() as connection:
        found: list[dict[str, Any]] = connection.sql(f"FROM '{path}'").to_arrow_table().to_pylist()
    return found


def _by_polars(data: bytes, _: Any) -> list[dict[str, Any]]:
    polars = pytest.importorskip("polars")
    found: list[dict[str, Any]] = polars.read_parquet(io.BytesIO(data)).to_dicts()
    return found


@pytest.mark.parametrize("reader", [_by_duckdb, _by_polars])
def test_other_readers(reader: Callable[[bytes, Any], list[dict[str, Any]]], tmp_path: Any) -> None:
    assert reader(_joined([_file(part) for part in PARTS]), tmp_path) == pa.concat_tables(TABLES).to_pylist()


def test_what_lies_behind_the_pages_moves_along() -> None:
    """Page indexes and the like have places of their own, and those of later files are moved by as much as the pages."""
    data = _joined([_file(part, write_page_index=True) for part in PARTS])
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.read().to_pylist() == pa.concat_tables(TABLES).to_pylist()
    groups = read_struct(_footer(data))[0][4].value.items
    for group in groups:
        for chunk in group[1].value.items:
            for place in (4, 6):  # OffsetIndex begins with its first list, ColumnIndex too: field 1, a list
                assert data[chunk[place].value] == 0x19


def test_files_that_do_not_belong_together() -> None:
    footer = JoinedFooter.like(_footer(_file([])))
    sink = io.BytesIO()
    pq.write_table(pa.table({"other": [1]}), sink)
    with pytest.raises(FormatError, match="schema"):
        footer.add(_footer(sink.getvalue()), 100)


def _changed(change: Callable[[dict[int, Value]], object]) -> bytes:
    found = read_struct(_footer(_file(TABLES)))[0]
    change(found)
    return write_struct(found)


def _chunk(found: dict[int, Value]) -> dict[int, Value]:
    chunk: dict[int, Value] = found[4].value.items[1][1].value.items[0]
    return chunk


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda f: f.pop(4), FormatError),
        (lambda f: f.update({4: Value(6, 1)}), FormatError),
        (lambda f: f.update({8: Value(STRUCT, {})}), UnsupportedError),
        (lambda f: f[4].value.items[0].pop(1), FormatError),
        (lambda f: f[4].value.items[0].pop(3), FormatError),
        (lambda f: _chunk(f).update({1: Value(8, b"elsewhere")}), UnsupportedError),
        (lambda f: _chunk(f).pop(3), UnsupportedError),
        (lambda f: _chunk(f)[3].value.update({9: Value(6, 1 << 40)}), FormatError),
        (lambda f: _chunk(f)[3].value.update({9: Value(6, -1)}), FormatError),
        (lambda f: _chunk(f)[3].value.update({9: Value(8, b"4")}), FormatError),
    ],
)
def test_footers_that_are_refused(change: Callable[[dict[int, Value]], object], error: type[FormatError]) -> None:
    footer = JoinedFooter.like(_footer(_file([])))
    with pytest.raises(error):
        footer.add(_changed(change), len(_file(TABLES)))


def test_the_end_of_a_file() -> None:
    with pytest.raises(FormatError, match="end"):
        footer_size(b"\x10\0\0\0PARE", 1000)
    with pytest.raises(FormatError, match="end"):
        footer_size(b"PAR1", 4)
    with pytest.raises(TruncatedError):
        footer_size(b"\xf0\0\0\0PAR1", 251)
    assert footer_size(b"\xf0\0\0\0PAR1", 252) == 240
    with pytest.raises(FormatError, match="behind"):
        JoinedFooter.like(_footer(_file([])) + b"\0")
