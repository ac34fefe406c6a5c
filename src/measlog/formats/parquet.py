"""The footers of Parquet files, as far as it takes to put files of one schema together without reading their pages.

Source: Apache Parquet, parquet.thrift: FileMetaData, RowGroup, ColumnChunk, ColumnMetaData. Pages say nothing about where
they lie; what does is the footer. So the bytes of one file's row groups can stand behind those of another, once their
places are counted anew.
"""

from __future__ import annotations

from attrs import define, field

from measlog.errors import FormatError, TruncatedError, UnsupportedError
from measlog.formats.thrift import I64, LIST, STRUCT, Elements, Struct, Value, read_struct, write_struct

__all__ = ["MAGIC", "TAIL", "JoinedFooter", "footer_size"]

CLAUSE = "parquet.thrift"
MAGIC = b"PAR1"
TAIL = 8
"""Bytes at the end of a file: the footer's size, and the magic."""

_ROWS, _GROUPS = 3, 4
"""FileMetaData: num_rows and row_groups."""
_ENCRYPTION = 8
_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _ORDINAL = 1, 3, 5, 7
"""RowGroup: columns, num_rows, file_offset and ordinal."""
_FILE_PATH, _META = 1, 3
_CHUNK_OFFSETS = (2, 4, 6)
"""ColumnChunk: file_offset, offset_index_offset, column_index_offset."""
_META_OFFSETS = (9, 10, 11, 14)
"""ColumnMetaData: data_page_offset, index_page_offset, dictionary_page_offset, bloom_filter_offset."""


def footer_size(tail: bytes, size: int) -> int:
    """The size in bytes of a footer, from the last ``TAIL`` bytes of a file of ``size`` bytes; FormatError for no Parquet file."""
    if len(tail) != TAIL or tail[4:] != MAGIC:
        raise FormatError("the file does not end as a Parquet file does", offset=max(0, size - TAIL), clause=CLAUSE)
    found = int.from_bytes(tail[:4], "little")
    if found > size - TAIL - len(MAGIC):
        raise TruncatedError(f"a footer of {found} bytes in a file of {size}", offset=size - TAIL, clause=CLAUSE)
    return found


@define
class JoinedFooter:
    """The footer of a file in which the row groups of other files follow each other."""

    _head: Struct
    _rest: bytes
    _groups: list[bytes] = field(factory=list, init=False)
    rows: int = field(default=0, init=False)
    end: int = field(default=len(MAGIC), init=False)
    """Where the row groups added so far end, and the next ones belong, in bytes from the start of the file."""

    @classmethod
    def like(cls, footer: bytes) -> JoinedFooter:
        """One of no row groups yet, with schema and all else of another one; FormatError where that cannot be read."""
        head, rest = _read(footer)
        return cls(head, rest)

    def add(self, footer: bytes, size: int) -> None:
        """The row groups of a file with this footer, whose ``size`` bytes behind its magic come to lie at ``end``.

        Raises :class:`~measlog.errors.FormatError` where the footer cannot be read, or is not like the first one.
        """
        found, rest = _read(footer)
        if rest != self._rest:
            raise FormatError("the files to be put together are not of one schema", clause=CLAUSE)
        groups = [_moved(group, self.end - len(MAGIC), size) for group in found[_GROUPS].value.items]
        for group in groups:
            group.pop(_ORDINAL, None)  # the number in its own file; only encryption needs one
            self.rows += group[_GROUP_ROWS].value
            self._groups.append(write_struct(group))
        self.end += size

    def to_bytes(self) -> bytes:
        """What stands behind the row groups: the footer, its size and the magic."""
        whole = dict(self._head)
        whole[_ROWS] = Value(I64, self.rows)
        whole[_GROUPS] = Value(LIST, Elements(STRUCT, list(self._groups)))
        footer = write_struct(whole)
        return footer + len(footer).to_bytes(4, "little") + MAGIC


def _read(footer: bytes) -> tuple[Struct, bytes]:
    """A footer, and what files that belong together share of it: everything but rows and row groups."""
    found, end = read_struct(footer)
    if end != len(footer):
        raise FormatError(f"{len(footer) - end} bytes behind the footer's structure", offset=end, clause=CLAUSE)
    groups = found.get(_GROUPS)
    if groups is None or not isinstance(groups.value, Elements) or (groups.value.kind != STRUCT and groups.value.items):
        raise FormatError("a footer without row groups", clause=CLAUSE)
    if _ENCRYPTION in found:
        raise UnsupportedError("an encrypted file", clause=CLAUSE)
    return found, write_struct({k: v for k, v in found.items() if k not in {_ROWS, _GROUPS}})


def _moved(group: Struct, by: int, size: int) -> Struct:
    """A row group whose bytes lie elsewhere."""
    columns = group.get(_COLUMNS)
    if columns is None or _GROUP_ROWS not in group or not isinstance(columns.value, Elements):
        raise FormatError("a row group without columns or rows", clause=CLAUSE)
    _move(group, (_GROUP_OFFSET,), by, size)
    for chunk in columns.value.items:
        if _FILE_PATH in chunk or not isinstance(getattr(chunk.get(_META), "value", None), dict):
            raise UnsupportedError("a column that lies in another file", clause=CLAUSE)
        _move(chunk, _CHUNK_OFFSETS, by, size)
        _move(chunk[_META].value, _META_OFFSETS, by, size)
    return group


def _move(struct: Struct, places: tuple[int, ...], by: int, size: int) -> None:
    for number in places:
        kind, at = struct.get(number, (I64, 0))
        # 0 stands for a place that nobody filled in, as ColumnChunk.file_offset of today's writers.
        if not at:
            continue
        if kind != I64 or not len(MAGIC) <= at <= len(MAGIC) + size:
            raise FormatError(f"something lies at byte {at} of a file of {size} bytes", clause=CLAUSE)
        struct[number] = Value(I64, at + by)
