"""What the text forms of the kinds of device path nodes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

__all__ = ["Fields", "Kind", "Reader", "Writer", "read_vendor", "to_index", "to_int", "unquote", "write_vendor"]

Fields = Mapping[str, Any]
Kind = tuple[int, int]
Writer = Callable[[Fields], str | None]
Reader = Callable[[list[str]], tuple[Kind, dict[str, Any]]]


def to_int(text: str) -> int:
    """A number, decimal or hex."""
    return int(text, 16) if text[:2] in {"0x", "0X"} else int(text)


def to_index(names: tuple[str, ...], text: str) -> int:
    """Which of ``names`` it is."""
    return names.index(text)


def unquote(text: str) -> str:
    """The text between double quotes. Raises ValueError where it is not quoted."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise ValueError(text)
    return text[1:-1]


def write_vendor(name: str) -> Writer:
    """``VenHw`` and its kin: a GUID and, where there is any, data in hex."""

    def write(fields: Fields) -> str:
        data = fields["vendor_defined_data"]
        return f"{name}({str(fields['vendor_guid']).upper()}{',' + data.hex().upper() if data else ''})"

    return write


def read_vendor(kind: Kind) -> Reader:
    """The inverse of :func:`write_vendor`. Raises ValueError for anything else."""

    def read(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
        guid, *data = arguments
        if len(data) > 1:
            raise ValueError(data)
        return kind, {"vendor_guid": UUID(guid), "vendor_defined_data": bytes.fromhex(data[0] if data else "")}

    return read
