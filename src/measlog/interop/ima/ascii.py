"""IMA's ascii runtime log: the same entries as text, one a line (Linux ``ima_fs.c``, ima_ascii_measurements_show).

Everything that template hashes are computed over can be got back from a line, so an ascii log replays like a binary one.
The kernel shows names as they are: one with a line end in it makes lines of its own, which this reader refuses or whose
template hash differs. The binary log has no such trouble; take that where there is a choice.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.formats.ima import IMA_DIGEST_SIZE, IMA_EVENT_NAME_LEN_MAX, ByteOrder, join_fields
from measlog.interop.ima.templates import field_from_text, template_fields
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["AsciiRow", "parse_ascii"]

_CLAUSE = "Linux ima_fs.c, ima_ascii_measurements_show"
_HEAD = re.compile(rb"( ?[0-9]{1,10}) ((?:[0-9a-f]{2}){20,64}) ([!-~]{1,255})(?: |$)")


class AsciiRow(NamedTuple):
    """One line; ``offset`` is in bytes from the start of the log, ``data`` what the binary log has."""

    offset: int
    pcr: int
    template_hash: bytes
    template: str
    data: bytes


def parse_ascii(
    text: bytes, *, byte_order: ByteOrder = "little", limits: Limits = DEFAULT_LIMITS
) -> tuple[AsciiRow, ...]:
    """The entries of an ascii log; ``byte_order`` is that of the host, whose lengths are part of what it hashed.

    Raises :class:`~measlog.errors.FormatError` with the offset of the line.
    """
    if len(text) > limits.log_size:
        raise LimitExceededError(f"the log has {len(text)} bytes, more than the {limits.log_size} allowed", offset=0)
    rows: list[AsciiRow] = []
    at = 0
    while at < len(text):
        if len(rows) >= limits.records:
            raise LimitExceededError(f"more than {limits.records} entries", offset=at)
        end = text.find(b"\n", at)
        if end < 0:
            raise FormatError(
                "the last line has no end", offset=len(text), path=f"entries[{len(rows)}]", clause=_CLAUSE
            )
        rows.append(_row(text[at:end], at, len(rows), byte_order, limits))
        at = end + 1
    return tuple(rows)


def _row(line: bytes, offset: int, index: int, order: ByteOrder, limits: Limits) -> AsciiRow:
    path = f"entries[{index}]"
    if len(line) > 3 * limits.event_size:
        raise LimitExceededError(f"a line of {len(line)} bytes", offset=offset, path=path)
    head = _HEAD.match(line)
    if head is None:
        raise FormatError(
            "the line does not start with register, template hash and template",
            offset=offset,
            path=path,
            clause=_CLAUSE,
        )
    pcr, template = int(head[1]), head[3].decode("ascii")
    if pcr > 0xFFFFFFFF:
        raise FormatError(f"there is no register {pcr}", offset=offset, path=f"{path}.pcr", clause=_CLAUSE)
    names = template_fields(template)
    if names is None:
        raise UnsupportedError(
            "a template that Linux does not have",
            offset=offset + head.start(3),
            path=f"{path}.template",
            clause=_CLAUSE,
        )
    texts = line[head.end() :].split(b" ", len(names))
    # A last field that is empty is shown as the space before it, and editors strip that.
    if len(texts) == len(names) - 1 and not line.endswith(b" "):
        texts.append(b"")
    if len(texts) != len(names):
        raise FormatError(
            f"{len(texts)} fields, the template {template} has {len(names)}", offset=offset, path=path, clause=_CLAUSE
        )
    values, place = [], offset + head.end()
    for name, shown in zip(names, texts, strict=True):
        try:
            values.append(field_from_text(name, shown, order))
        except FormatError as error:
            raise FormatError(error.message, offset=place, path=f"{path}.{name}", clause=_CLAUSE) from None
        place += len(shown) + 1
    return AsciiRow(
        offset, pcr, bytes.fromhex(head[2].decode("ascii")), template, _data(template, values, offset, path, order)
    )


def _data(template: str, values: list[bytes], offset: int, path: str, order: ByteOrder) -> bytes:
    if template != "ima":
        return join_fields(values, byte_order=order)
    digest, name = values[0], values[1][:-1]
    if len(digest) != IMA_DIGEST_SIZE or len(name) > IMA_EVENT_NAME_LEN_MAX:
        raise FormatError(
            f"a digest of {len(digest)} bytes and a name of {len(name)}", offset=offset, path=path, clause=_CLAUSE
        )
    return digest + len(name).to_bytes(4, order) + name
