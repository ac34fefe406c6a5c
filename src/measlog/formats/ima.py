"""The structures of IMA's binary runtime log, and the walk that cuts a log into entries.

Source: Linux, ``security/integrity/ima``: ``ima_fs.c`` (ima_measurements_show), ``ima_template.c``
(ima_restore_measurement_list, builtin_templates) and ``ima_template_lib.c`` (ima_parse_buf and the fields). The numbers
are in the byte order of the host that wrote the log, or little-endian where it was booted with ``ima_canonical_fmt``;
template digests are computed over the data in that same order, so that the order is a matter of the framing alone.

The walk is written by hand because a log may have a hundred thousand entries; the tests prove that it agrees with what
is declared here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import construct as c

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.declare import build
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "IMA_DIGEST_SIZE",
    "IMA_EVENT_NAME_LEN_MAX",
    "IMA_TEMPLATE",
    "ByteOrder",
    "ImaFrame",
    "ImaRow",
    "build_entry",
    "frame_ima",
    "ima_template_entry",
    "join_fields",
    "split_fields",
]

ByteOrder = Literal["little", "big"]

IMA_TEMPLATE = b"ima"
"""The first template, whose entries have a layout and a hash of their own."""
IMA_DIGEST_SIZE = 20
"""ima.h: the size of the ``d`` field of that template, in bytes."""
IMA_EVENT_NAME_LEN_MAX = 255
"""ima.h: the longest name in an entry of that template, in bytes."""
_TEMPLATE_NAME_MAX = 255
"""Of a template's name; one given by its format (``ima_template_fmt=``) is a list of at most 15 fields."""
_FIELDS_MAX = 15  # IMA_TEMPLATE_NUM_FIELDS_MAX
_CLAUSE = "Linux ima_fs.c, ima_measurements_show"
_CLAUSE_FIELDS = "Linux ima_template_lib.c, ima_parse_buf"


class ImaRow(NamedTuple):
    """One entry as it lies in the log. Offsets are in bytes from the start of the log."""

    offset: int
    pcr: int
    template_hash: bytes
    template: bytes
    data_start: int
    data_end: int
    """The template data: fields with their lengths, or for the template ``ima`` digest, length and name."""


class ImaFrame(NamedTuple):
    """A log cut into entries, column by column: what :class:`ImaRow` has of one entry, lists of equal length."""

    offsets: list[int]
    pcrs: list[int]
    template_hashes: list[bytes]
    templates: list[bytes]
    data_starts: list[int]
    data_ends: list[int]

    def rows(self) -> Iterator[ImaRow]:
        """The entries one by one."""
        return map(ImaRow._make, zip(*self, strict=True))

    def part(self, first: int, count: int) -> ImaFrame:
        """Some of the entries."""
        columns: Any = (column[first : first + count] for column in self)
        return ImaFrame(*columns)


def _numbers(order: ByteOrder) -> Any:
    return c.Int32ul if order == "little" else c.Int32ub


def ima_template_entry(hash_size: int, order: ByteOrder = "little") -> Any:
    """One entry of the binary log, whose template hashes have ``hash_size`` bytes."""
    u32 = _numbers(order)
    return c.Struct(
        "pcr" / u32,
        "digest" / c.Bytes(hash_size),
        "template_name_len" / c.Rebuild(u32, lambda ctx: len(ctx.template_name)),
        "template_name" / c.Bytes(lambda ctx: ctx.template_name_len),
        "data"
        / c.IfThenElse(
            lambda ctx: ctx.template_name == IMA_TEMPLATE,
            # IMA_SHOW_BINARY_NO_FIELD_LEN and IMA_SHOW_BINARY_OLD_STRING_FMT
            c.RawCopy(
                c.Struct(
                    "d" / c.Bytes(IMA_DIGEST_SIZE),
                    "n_len" / c.Rebuild(u32, lambda ctx: len(ctx.n)),
                    "n" / c.Bytes(lambda ctx: ctx.n_len),
                )
            ),
            c.Prefixed(u32, c.RawCopy(c.GreedyBytes)),
        ),
    )


def build_entry(
    pcr: int, template_hash: bytes, template: bytes, data: bytes, *, byte_order: ByteOrder = "little"
) -> bytes:
    """The bytes of one entry; ``data`` is the template data as :class:`ImaRow` delimits it."""
    return build(
        ima_template_entry(len(template_hash), byte_order),
        {"pcr": pcr, "digest": template_hash, "template_name": template, "data": {"data": data}},
    )


def frame_ima(
    data: bytes, hash_size: int = 20, *, byte_order: ByteOrder = "little", limits: Limits = DEFAULT_LIMITS
) -> ImaFrame:
    """Cut a binary log into entries.

    Raises :class:`~measlog.errors.FormatError` where the bytes end inside an entry or an entry cannot be delimited, and
    :class:`~measlog.errors.LimitExceededError` where they exceed ``limits``. No bytes are a log without entries.
    """
    end = len(data)
    if end > limits.log_size:
        raise LimitExceededError(f"the log has {end} bytes, more than the {limits.log_size} allowed", offset=0)
    mark = "<" if byte_order == "little" else ">"
    header, u32 = struct.Struct(f"{mark}I{hash_size}sI"), struct.Struct(f"{mark}I")
    frame = ImaFrame([], [], [], [], [], [])
    offsets, pcrs, hashes, templates, starts, ends = frame
    unpack, number, head, longest = header.unpack_from, u32.unpack_from, header.size, limits.event_size
    last = b""
    at = 0
    while at < end:
        body = at + head
        if body > end:
            raise _short(len(offsets), "header", head, end - at, at)
        pcr, digest, size = unpack(data, at)
        if not 0 < size <= _TEMPLATE_NAME_MAX:
            raise FormatError(
                f"a template name of {size} bytes",
                offset=body - 4,
                path=_path(len(offsets), "template_name"),
                clause=_CLAUSE,
            )
        start = body + size
        if start + 4 > end:
            raise _short(len(offsets), "template_name", size + 4, end - body, body)
        name = data[body:start]
        if name == last:
            name = last  # one object for all of them
        last = name
        if name == IMA_TEMPLATE:
            stop = start + _ima_size(data, start, u32, len(offsets))
        else:
            start += 4
            stop = start + number(data, start - 4)[0]
        if stop > end:
            raise _short(len(offsets), "template_data", stop - start, end - start, start)
        if stop - start > longest:
            raise LimitExceededError(
                f"template data of {stop - start} bytes, more than the {longest} allowed",
                offset=start,
                path=_path(len(offsets), "template_data"),
            )
        if len(offsets) >= limits.records:
            raise LimitExceededError(f"more than {limits.records} entries", offset=at, path=_path(len(offsets)))
        offsets.append(at)
        pcrs.append(pcr)
        hashes.append(digest)
        templates.append(name)
        starts.append(start)
        ends.append(stop)
        at = stop
    return frame


def _ima_size(data: bytes, start: int, u32: struct.Struct, entry: int) -> int:
    """The size of the data of the template ``ima``: a digest, and a name behind its length."""
    if len(data) - start < IMA_DIGEST_SIZE + 4:
        raise _short(entry, "template_data", IMA_DIGEST_SIZE + 4, len(data) - start, start)
    size: int = u32.unpack_from(data, start + IMA_DIGEST_SIZE)[0]
    if size > IMA_EVENT_NAME_LEN_MAX:
        raise FormatError(
            f"a name of {size} bytes, this template has at most {IMA_EVENT_NAME_LEN_MAX}",
            offset=start + IMA_DIGEST_SIZE,
            path=_path(entry, "n"),
            clause=_CLAUSE,
        )
    return IMA_DIGEST_SIZE + 4 + size


def _path(entry: int, field: str = "") -> str:
    return f"entries[{entry}].{field}" if field else f"entries[{entry}]"


def _short(entry: int, field: str, needed: int, left: int, offset: int) -> TruncatedError:
    return TruncatedError(
        f"needs {needed} bytes, {left} are left", offset=offset, path=_path(entry, field), clause=_CLAUSE
    )


def split_fields(data: bytes, count: int, *, byte_order: ByteOrder = "little") -> list[bytes]:
    """The fields of template data, each of which follows its length; there are exactly ``count``.

    Raises :class:`~measlog.errors.FormatError` with the offset in ``data``.
    """
    if count > _FIELDS_MAX:
        raise UnsupportedError(f"a template of {count} fields, Linux has at most {_FIELDS_MAX}", clause=_CLAUSE_FIELDS)
    found: list[bytes] = []
    at, end = 0, len(data)
    for number in range(count):
        if end - at < 4:
            raise TruncatedError(
                f"the data ends before field {number + 1} of {count}", offset=at, clause=_CLAUSE_FIELDS
            )
        size = int.from_bytes(data[at : at + 4], byte_order)
        at += 4
        if size > end - at:
            raise TruncatedError(f"a field of {size} bytes, {end - at} are left", offset=at - 4, clause=_CLAUSE_FIELDS)
        found.append(data[at : at + size])
        at += size
    if at != end:
        raise FormatError(f"{end - at} bytes after the last field", offset=at, clause=_CLAUSE_FIELDS)
    return found


def join_fields(fields: Sequence[bytes], *, byte_order: ByteOrder = "little") -> bytes:
    """The inverse of :func:`split_fields`."""
    return b"".join(len(field).to_bytes(4, byte_order) + field for field in fields)
