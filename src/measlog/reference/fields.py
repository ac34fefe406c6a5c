"""One declaration per field of the signed documents: it checks, writes, reads and publishes the schema.

A :class:`Codec` turns a value into JSON and back and describes the JSON it accepts (JSON Schema 2020-12). Records are
attrs classes whose fields are made with :func:`member`; :func:`record` gives the codec of such a class. Reading is
strict: a missing or surplus key, another type, an odd number of hexadecimal digits or a value out of bounds raises
:class:`measlog.errors.ManifestError` that starts with the path of the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import attrs
from attrs import frozen

from measlog.errors import ManifestError
from measlog.registry import ALGORITHMS_BY_NAME

__all__ = [
    "BANKS",
    "Codec",
    "FrozenMapping",
    "boolean",
    "choice",
    "digest",
    "digests",
    "frozen_mapping",
    "hexadecimal",
    "integer",
    "mapping",
    "member",
    "optional",
    "record",
    "sequence",
    "text",
    "timestamp",
    "uuid",
]

T = TypeVar("T")
BANKS = ("sha1", "sha256", "sha384", "sha512")
"""The banks that every component has digests for."""

SAFE_INTEGER = (1 << 53) - 1
"""The largest integer that every JSON reader keeps exactly (RFC 7493, clause 2.2)."""


@frozen
class Codec(Generic[T]):
    """How a value is checked, written and read. ``check`` and ``decode`` raise ManifestError with the path given."""

    check: Callable[[Any, str], None]
    encode: Callable[[T], Any]
    decode: Callable[[Any, str], T]
    schema: Mapping[str, Any]


def _refuse(path: str, expected: str, value: object) -> ManifestError:
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return ManifestError(f"{path}: expected {expected}, got {shown}")


def _same(value: T) -> T:
    return value


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def text(*, maximum: int = 4096, pattern: str | None = None, multiline: bool = False) -> Codec[str]:
    """Unicode text of at most ``maximum`` characters, without control characters unless ``multiline``."""
    compiled = None if pattern is None else re.compile(pattern)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _refuse(path, "text", value)
        if len(value) > maximum:
            raise ManifestError(f"{path}: text of {len(value)} characters, the most is {maximum}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _refuse(path, "text without lone surrogates", value) from None
        if not multiline and _CONTROL.search(value) is not None:
            raise _refuse(path, "text without control characters", value)
        if compiled is not None and compiled.fullmatch(value) is None:
            raise _refuse(path, f"text that matches {pattern}", value)

    def decode(value: Any, path: str) -> str:
        check(value, path)
        assert isinstance(value, str)
        return value

    schema: dict[str, Any] = {"type": "string", "maxLength": maximum}
    if pattern is not None:
        schema["pattern"] = f"^(?:{pattern})$"
    elif not multiline:
        schema["pattern"] = r"^[^\u0000-\u001f\u007f]*$"
    return Codec(check, _same, decode, schema)


def integer(*, minimum: int = 0, maximum: int = SAFE_INTEGER) -> Codec[int]:
    """An integer from ``minimum`` to ``maximum``; true and false are none."""

    def check(value: Any, path: str) -> None:
        if type(value) is not int and not (isinstance(value, int) and not isinstance(value, bool)):
            raise _refuse(path, "an integer", value)
        if not minimum <= value <= maximum:
            raise _refuse(path, f"an integer from {minimum} to {maximum}", value)

    def decode(value: Any, path: str) -> int:
        check(value, path)
        return int(value)

    return Codec(check, int, decode, {"type": "integer", "minimum": minimum, "maximum": maximum})


def boolean() -> Codec[bool]:
    """True or false."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, bool):
            raise _refuse(path, "true or false", value)

    def decode(value: Any, path: str) -> bool:
        check(value, path)
        return bool(value)

    return Codec(check, _same, decode, {"type": "boolean"})


def choice(*values: str) -> Codec[str]:
    """One of the words given."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise _refuse(path, "one of " + ", ".join(values), value)

    def decode(value: Any, path: str) -> str:
        check(value, path)
        return str(value)

    return Codec(check, _same, decode, {"enum": list(values)})


_HEX = re.compile(r"(?:[0-9a-f]{2})*")


def hexadecimal(*, size: int | None = None, maximum: int = 1 << 20) -> Codec[bytes]:
    """Bytes, written as lower-case hexadecimal digits; ``size`` or ``maximum`` in bytes."""
    described = "lower-case hexadecimal digits" if size is None else f"{2 * size} lower-case hexadecimal digits"

    def check(value: Any, path: str) -> None:
        if not isinstance(value, bytes):
            raise _refuse(path, "bytes", value)
        if (size is not None and len(value) != size) or len(value) > maximum:
            raise ManifestError(f"{path}: {len(value)} bytes where {size if size is not None else maximum} are allowed")

    def decode(value: Any, path: str) -> bytes:
        if not isinstance(value, str) or _HEX.fullmatch(value) is None:
            raise _refuse(path, described, value)
        if (size is not None and len(value) != 2 * size) or len(value) > 2 * maximum:
            raise _refuse(path, described, value)
        return bytes.fromhex(value)

    count = "*" if size is None else f"{{{size}}}"
    return Codec(check, bytes.hex, decode, {"type": "string", "pattern": f"^(?:[0-9a-f]{{2}}){count}$"})


def digest(algorithm: str) -> Codec[bytes]:
    """A digest of the algorithm named."""
    return hexadecimal(size=ALGORITHMS_BY_NAME[algorithm].size)


def digests(required: tuple[str, ...] = ("sha256",)) -> Codec[Mapping[str, bytes]]:
    """Digests by algorithm name, of the right sizes; those ``required`` must be there."""
    by_name = {name: digest(name) for name in ALGORITHMS_BY_NAME}

    def keys(value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise _refuse(path, "digests by algorithm", value)
        for name in value:
            if name not in by_name:
                raise _refuse(path, "names of hash algorithms", name)
        for name in required:
            if name not in value:
                raise ManifestError(f"{path}: no {name} digest")

    def check(value: Any, path: str) -> None:
        keys(value, path)
        for name, item in value.items():
            by_name[name].check(item, f"{path}.{name}")

    def encode(value: Mapping[str, bytes]) -> Any:
        return {name: item.hex() for name, item in value.items()}

    def decode(value: Any, path: str) -> Mapping[str, bytes]:
        keys(value, path)
        return FrozenMapping({name: by_name[name].decode(item, f"{path}.{name}") for name, item in value.items()})

    schema = {
        "type": "object",
        "properties": {name: dict(codec.schema) for name, codec in by_name.items()},
        "required": list(required),
        "additionalProperties": False,
    }
    return Codec(check, encode, decode, schema)


class FrozenMapping(Mapping[Any, Any]):
    """A mapping that nobody changes; unlike a mappingproxy it pickles, hashes and copies."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[Any, Any]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __iter__(self) -> Any:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def frozen_mapping(value: Any) -> Any:
    """The attrs converter for mappings; anything else is left for the validator to refuse."""
    return FrozenMapping(value) if isinstance(value, Mapping) and not isinstance(value, FrozenMapping) else value


def mapping(key: Codec[Any], item: Codec[T], *, maximum: int = 4096) -> Codec[Mapping[Any, T]]:
    """A mapping of at most ``maximum`` entries; keys from a small range of integers are written in decimal."""
    whole = "integer" in key.schema.get("type", "")

    def size(value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise _refuse(path, "a mapping", value)
        if len(value) > maximum:
            raise ManifestError(f"{path}: {len(value)} entries, the most is {maximum}")

    def check(value: Any, path: str) -> None:
        size(value, path)
        for name, one in value.items():
            key.check(name, path)
            item.check(one, f"{path}[{name}]")

    def encode(value: Mapping[Any, T]) -> Any:
        return {str(name): item.encode(one) for name, one in value.items()}

    def decode(value: Any, path: str) -> Mapping[Any, T]:
        size(value, path)
        read: dict[Any, T] = {}
        for name, one in value.items():
            if whole and re.fullmatch(r"0|[1-9][0-9]{0,15}", name) is None:
                raise _refuse(path, "decimal numbers as keys", name)
            read[key.decode(int(name) if whole else name, path)] = item.decode(one, f"{path}[{name}]")
        return FrozenMapping(read)

    names: dict[str, Any] = dict(key.schema)
    if whole:
        names = {"enum": [str(number) for number in range(key.schema["minimum"], key.schema["maximum"] + 1)]}
    schema = {
        "type": "object",
        "maxProperties": maximum,
        "propertyNames": names,
        "additionalProperties": dict(item.schema),
    }
    return Codec(check, encode, decode, schema)


def sequence(item: Codec[T], *, minimum: int = 0, maximum: int = 4096) -> Codec[tuple[T, ...]]:
    """A tuple of ``minimum`` to ``maximum`` values."""

    def size(value: Any, path: str) -> None:
        if not minimum <= len(value) <= maximum:
            raise ManifestError(f"{path}: {len(value)} entries, allowed are {minimum} to {maximum}")

    def check(value: Any, path: str) -> None:
        if not isinstance(value, tuple):
            raise _refuse(path, "a tuple", value)
        size(value, path)
        for index, one in enumerate(value):
            item.check(one, f"{path}[{index}]")

    def encode(value: tuple[T, ...]) -> Any:
        return [item.encode(one) for one in value]

    def decode(value: Any, path: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise _refuse(path, "a list", value)
        size(value, path)
        return tuple(item.decode(one, f"{path}[{index}]") for index, one in enumerate(value))

    schema = {"type": "array", "items": dict(item.schema), "minItems": minimum, "maxItems": maximum}
    return Codec(check, encode, decode, schema)


def optional(item: Codec[T]) -> Codec[T | None]:
    """The value, or null."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            item.check(value, path)

    def encode(value: T | None) -> Any:
        return None if value is None else item.encode(value)

    def decode(value: Any, path: str) -> T | None:
        return None if value is None else item.decode(value, path)

    return Codec(check, encode, decode, {"anyOf": [{"type": "null"}, dict(item.schema)]})


def uuid() -> Codec[UUID]:
    """A UUID in its canonical lower-case form."""
    pattern = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    compiled = re.compile(pattern)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, UUID):
            raise _refuse(path, "a UUID", value)

    def decode(value: Any, path: str) -> UUID:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise _refuse(path, "a UUID in lower case", value)
        return UUID(value)

    return Codec(check, str, decode, {"type": "string", "pattern": f"^{pattern}$"})


def timestamp() -> Codec[datetime]:
    """A moment in UTC, to the second: ``2026-01-31T00:00:00Z`` (RFC 3339)."""
    pattern = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
    compiled = re.compile(pattern)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, datetime) or value.utcoffset() is None or value.microsecond or value.year < 1000:
            raise _refuse(path, "a moment with a time zone, to the second", value)

    def encode(value: datetime) -> Any:
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def decode(value: Any, path: str) -> datetime:
        if not isinstance(value, str) or compiled.fullmatch(value) is None or value < "1000":
            raise _refuse(path, "a moment like 2026-01-31T00:00:00Z", value)
        try:
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise _refuse(path, "a moment like 2026-01-31T00:00:00Z", value) from None

    return Codec(check, encode, decode, {"type": "string", "pattern": f"^{pattern}$"})


def member(codec: Codec[T], **options: Any) -> T:
    """An attrs field that is checked, written and read by ``codec``."""

    def validate(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        codec.check(value, attribute.name)

    if codec.schema.get("type") == "object" and "converter" not in options:
        options["converter"] = frozen_mapping
    made: T = attrs.field(validator=validate, metadata={"codec": codec}, **options)
    return made


def record(kind: type[T]) -> Codec[T]:
    """The codec of an attrs class: an object with its members.

    The names in JSON are those of the fields. A member that has its default is not written, and one that is absent gets
    it, so that a document stays what it is when a later version of measlog knows more members. Fields that are not made
    by :func:`member` are not written.
    """
    made: dict[str, attrs.Attribute[Any]] = {
        a.name: a
        for a in attrs.fields(kind)  # type: ignore[arg-type]
        if "codec" in a.metadata
    }
    codecs: dict[str, Codec[Any]] = {name: a.metadata["codec"] for name, a in made.items()}
    defaults = {name: _default(a) for name, a in made.items() if a.default is not attrs.NOTHING}
    required = codecs.keys() - defaults.keys()

    def check(value: Any, path: str) -> None:
        # Its own validators have run when it was made.
        if not isinstance(value, kind):
            raise _refuse(path, f"a {kind.__name__}", value)

    def encode(value: T) -> Any:
        return {
            name: codec.encode(getattr(value, name))
            for name, codec in codecs.items()
            if name in required or getattr(value, name) != defaults[name]
        }

    def decode(value: Any, path: str) -> T:
        if not isinstance(value, dict):
            raise _refuse(path, "an object", value)
        if not required <= value.keys() <= codecs.keys():
            missing = ", ".join(sorted(required - value.keys()))
            surplus = ", ".join(sorted(repr(key) for key in value.keys() - codecs.keys()))
            said = [part for part in (missing and f"lacks {missing}", surplus and f"has unknown {surplus}") if part]
            raise ManifestError(f"{path}: {'; '.join(said)}")
        read = {name: codecs[name].decode(item, f"{path}.{name}") for name, item in value.items()}
        try:
            return kind(**read)
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from None

    schema = {
        "type": "object",
        "properties": {name: dict(codec.schema) for name, codec in codecs.items()},
        "required": sorted(required),
        "additionalProperties": False,
    }
    return Codec(check, encode, decode, schema)


def _default(attribute: attrs.Attribute[Any]) -> Any:
    default: Any = attribute.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]
