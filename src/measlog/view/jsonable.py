"""Objects as JSON-ready values: bytes become lower-case hex, numbers of 64 bits stay numbers, nothing is rounded."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

from measlog.records import (
    DevicePath,
    DevicePathNode,
    GptPartition,
    Record,
    SignatureList,
    SipaEvent,
    SpecIdEvent,
    TaggedEvent,
)
from measlog.registry import Register

__all__ = ["json_text", "jsonable"]

_DERIVED: Mapping[type, tuple[str, ...]] = {
    DevicePath: ("text",),
    DevicePathNode: ("text",),
    GptPartition: ("name",),
    SignatureList: ("type_name",),
    SipaEvent: ("name",),
    SpecIdEvent: ("algorithm_names",),
    TaggedEvent: ("name",),
}
"""What a reader of the document would otherwise have to compute, by class."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_text(text: str) -> str:
    r"""Text that every JSON reader accepts: bytes that were no UTF-8 (lone surrogates) are written ``\xNN``."""
    return _SURROGATE.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def jsonable(value: object) -> Any:
    """``value`` as JSON: records and other attrs objects become objects, records with their class under ``record``.

    Positions of fields (``spans``) and empty ``trailing`` bytes are left out. Raises TypeError for other types.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return json_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Register):
        return {"kind": value.kind, "index": value.index}
    if attrs.has(type(value)):
        return _object(value)
    if isinstance(value, Mapping):
        return {json_text(str(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, Sequence | frozenset | set):
        return [jsonable(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _object(value: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"record": type(value).__name__} if isinstance(value, Record) else {}
    for name in _DERIVED.get(type(value), ()):
        made[name] = jsonable(getattr(value, name))
    for attribute in attrs.fields(type(value)):
        name = attribute.name
        if name.startswith("_") or name == "spans":
            continue
        item = getattr(value, name)
        if name == "trailing" and not item:
            continue
        made[name] = jsonable(item)
    return made
