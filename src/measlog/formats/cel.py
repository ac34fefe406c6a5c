"""The TLV encoding of the TCG Canonical Event Log, its numbers, and a bounded walk over it.

Source: TCG Canonical Event Log Format (CEL) 1.0 and 1.1, clauses 4.2 to 4.7 and 5.1. A length is big-endian and so are
numbers, which writers give with leading zeros or without.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import construct as c

from measlog.errors import FormatError, TruncatedError
from measlog.formats.declare import build

__all__ = [
    "CCMR",
    "CEL_RECORD",
    "CEL_TLV",
    "CelManagementType",
    "CelType",
    "ImaTlvType",
    "build_tlv",
    "read_number",
    "walk_tlvs",
]


class CelType(enum.IntEnum):
    """Fields of a record and, from ``CEL`` on, content types (CEL 1.1, tables 1 and 2)."""

    RECNUM = 0
    PCR = 1
    NV_INDEX = 2
    DIGESTS = 3
    CEL = 4
    PCCLIENT_STD = 5
    IMA_TEMPLATE = 7
    IMA_TLV = 8
    SYSTEMD = 9


CCMR = 108
"""A measurement register of a confidential machine, numbered as in a CCEL: go-tpm-tools' word, not the specification's."""


class CelManagementType(enum.IntEnum):
    """TPMI_CELMGTTYPE (CEL 1.1, 4.4)."""

    CEL_VERSION = 1
    FIRMWARE_END = 2
    CEL_TIMESTAMP = 80
    STATE_TRANS = 81


class ImaTlvType(enum.IntEnum):
    """Fields of the content type ``ima_tlv`` (CEL 1.1, 4.7)."""

    PATH = 0
    DATAHASH = 1
    DATASIG = 2
    OWNER = 3
    GROUP = 4
    MODE = 5
    TIMESTAMP = 6
    LABEL = 7


CEL_TLV = c.Struct(
    "type" / c.Int8ub,
    "length" / c.Rebuild(c.Int32ub, lambda ctx: len(ctx.value)),
    "value" / c.Bytes(lambda ctx: ctx.length),
)

# The four fields of a record, in this order.
CEL_RECORD = c.Struct("recnum" / CEL_TLV, "register" / CEL_TLV, "digests" / CEL_TLV, "content" / CEL_TLV)

_CLAUSE = "CEL 1.1, 5.1"
_HEAD = 5


def build_tlv(kind: int, value: bytes) -> bytes:
    """One field."""
    return build(CEL_TLV, {"type": kind, "value": value})


def walk_tlvs(data: bytes, start: int, end: int, *, path: str) -> Iterable[tuple[int, int, int]]:
    """The fields in ``data[start:end]``: of each its type and where its value begins and ends.

    Raises :class:`~measlog.errors.FormatError` where a field ends behind ``end``; the tests prove that this agrees with
    the declaration above.
    """
    at = start
    while at < end:
        if end - at < _HEAD:
            raise TruncatedError(
                f"{end - at} bytes, a field has {_HEAD} and more", offset=at, path=path, clause=_CLAUSE
            )
        size = int.from_bytes(data[at + 1 : at + _HEAD], "big")
        if size > end - at - _HEAD:
            raise TruncatedError(
                f"a field of {size} bytes, {end - at - _HEAD} are left", offset=at, path=path, clause=_CLAUSE
            )
        yield data[at], at + _HEAD, at + _HEAD + size
        at += _HEAD + size


def read_number(data: bytes, start: int, end: int, maximum: int, *, path: str) -> int:
    """The number in ``data[start:end]``, which has one to eight bytes and is no more than ``maximum``.

    Raises :class:`~measlog.errors.FormatError` for any other.
    """
    if not 1 <= end - start <= 8:
        raise FormatError(f"a number of {end - start} bytes", offset=start, path=path, clause=_CLAUSE)
    value = int.from_bytes(data[start:end], "big")
    if value > maximum:
        raise FormatError(f"{value}, at most {maximum} is allowed", offset=start, path=path, clause=_CLAUSE)
    return value
