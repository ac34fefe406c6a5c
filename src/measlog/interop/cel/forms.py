"""CEL-JSON and CEL-CBOR (CEL 1.1, clause 5.2), which are one document with names or with numbers.

JSON keeps bytes as hexadecimal digits. Numbers in the place of names are read in JSON too, since writers give them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.interop import cbor
from measlog.interop.cel.records import (
    MAX_DIGESTS,
    CelContent,
    CelRecord,
    CelTimestamp,
    CelVersion,
    FirmwareEnd,
    ImaTemplate,
    ImaTlv,
    Management,
    ManagementEvent,
    OpaqueContent,
    PcClientStd,
    StateTransition,
    algorithm_id,
    check_record,
    pcr_register,
)
from measlog.interop.cel.words import CONTENT_TYPES, MANAGEMENT_TYPES, MEMBERS, STATES, STATES_BY_NAME
from measlog.interop.jsontext import parse_value
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import ALGORITHMS_BY_NAME, EventType, Register, algorithm_name

__all__ = ["FormName", "document", "read_cbor", "read_json", "write_cbor", "write_json"]

FormName = Literal["json", "cbor"]

_CLAUSE = "CEL 1.1, 5.2"
_ITEMS = 64
"""Of CBOR, in a record: more than one of sixteen digests and a dozen management events has."""
_U16, _U32, _U64 = ((1 << 8 * size) - 1 for size in (2, 4, 8))
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_PLAIN_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_ALGORITHM = re.compile(r"0x[0-9a-f]{4}")


def read_json(data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[CelRecord]:
    """The records of a JSON array. Raises :class:`~measlog.errors.FormatError` with the path of the member."""
    # The limit is for a record's content, and checked where that is read; no record without one is nested so deep.
    value = parse_value(data, size=limits.log_size, depth=2 * limits.depth)
    return _Reader("json", limits).records(value)


def read_cbor(data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[CelRecord]:
    """The records of a CBOR array. Raises :class:`~measlog.errors.FormatError` with offset or path."""
    items = _ITEMS * limits.records
    return _Reader("cbor", limits).records(cbor.decode(data, size=limits.log_size, depth=limits.depth, items=items))


def write_json(records: Sequence[CelRecord]) -> bytes:
    """A JSON array, a record a line, in ASCII. Raises UnsupportedError for what JSON has no form for."""
    lines = (json.dumps(one, separators=(",", ":"), ensure_ascii=True) for one in document(records, "json"))
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode("ascii")


def write_cbor(records: Sequence[CelRecord]) -> bytes:
    """A CBOR array in its deterministic form. Raises UnsupportedError for what CBOR has no form for."""
    return cbor.encode(document(records, "cbor"))


def document(records: Sequence[CelRecord], form: FormName) -> list[Any]:
    """The records as plain values, with names as keys for JSON and numbers for CBOR."""
    writer = _Writer(form)
    return [writer.record(record, f"records[{place}]") for place, record in enumerate(records)]


class _Reader:
    """Values as records; refuses whatever the specification does not have."""

    def __init__(self, form: FormName, limits: Limits) -> None:
        self.form = form
        self.limits = limits

    def records(self, value: object) -> list[CelRecord]:
        if not isinstance(value, list):
            raise FormatError("a log is an array of records", path="records", clause=_CLAUSE)
        if len(value) > self.limits.records:
            raise LimitExceededError(f"{len(value)} records, the limit is {self.limits.records}", path="records")
        return [self.record(one, f"records[{place}]") for place, one in enumerate(value)]

    def record(self, value: object, path: str) -> CelRecord:
        members = self.members(value, path, ("recnum", "content_type", "content"), ("pcr", "nv_index", "digests"))
        if ("pcr" in members) == ("nv_index" in members):
            raise FormatError("neither or both of pcr and nv_index", path=path, clause="CEL 1.1, 4.2.3")
        if "pcr" in members:
            register = pcr_register(self.number(members["pcr"], _U32, f"{path}.pcr"))
        else:
            register = Register("nv", self.number(members["nv_index"], _U32, f"{path}.nv_index"))
        made = CelRecord(
            recnum=self.number(members["recnum"], _U64, f"{path}.recnum"),
            register=register,
            digests=self.digests(members.get("digests", []), f"{path}.digests"),
            content=self.content(members["content_type"], members["content"], f"{path}.content"),
        )
        check_record(made, path)
        return made

    def digests(self, value: object, path: str) -> dict[str, bytes]:
        if not isinstance(value, list):
            raise FormatError("digests are an array", path=path, clause=_CLAUSE)
        if len(value) > MAX_DIGESTS:
            raise LimitExceededError(f"{len(value)} digests, at most {MAX_DIGESTS}", path=path)
        found: dict[str, bytes] = {}
        for place, one in enumerate(value):
            here = f"{path}[{place}]"
            members = self.members(one, here, ("hashAlg", "digest"))
            name = self.algorithm(members["hashAlg"], f"{here}.hashAlg")
            if name in found:
                raise FormatError(f"two {name} digests", path=here, clause="CEL 1.1, 4.2.4")
            found[name] = self.raw(members["digest"], f"{here}.digest")
        return found

    def algorithm(self, value: object, path: str) -> str:
        if self.form == "json" and isinstance(value, str):
            if value in ALGORITHMS_BY_NAME:
                return value
            if _ALGORITHM.fullmatch(value) and algorithm_name(int(value, 16)) == value:
                return value
            raise FormatError("no hash algorithm has this name", path=path, clause=_CLAUSE)
        return algorithm_name(self.number(value, _U16, path))

    def content(self, kind: object, value: object, path: str) -> CelContent:
        number = self.word(kind, CONTENT_TYPES, f"{path}_type", known=False)
        if number == CONTENT_TYPES["cel"]:
            events = value if isinstance(value, list) else [value]
            if len(events) > self.limits.items:
                raise LimitExceededError(f"{len(events)} events", path=path)
            return Management(tuple(self.event(one, path) for one in events))
        if number == CONTENT_TYPES["pcclient_std"]:
            members = self.members(value, path, ("event_type", "event_data"))
            event_type = self.event_type(members["event_type"], f"{path}.event_type")
            return PcClientStd(event_type=event_type, event_data=self.raw(members["event_data"], f"{path}.event_data"))
        if number == CONTENT_TYPES["ima_template"]:
            members = self.members(value, path, ("template_name", "template_data"))
            name = members["template_name"]
            if not isinstance(name, str) or not name.isprintable():
                raise FormatError("no name of a template", path=f"{path}.template_name", clause=_CLAUSE)
            data = self.raw(members["template_data"], f"{path}.template_data")
            return ImaTemplate(template_name=name, template_data=data)
        if number == CONTENT_TYPES["ima_tlv"]:
            return ImaTlv(self.raw(value, path))
        return self.opaque(number, value, path)

    def opaque(self, kind: int | str, value: object, path: str) -> OpaqueContent:
        _bounded(value, self.limits.depth, path)
        if self.form == "cbor":
            if isinstance(value, bytes):
                return OpaqueContent(content_type=kind, data=value)
            return OpaqueContent(content_type=kind, data=cbor.encode(value), form="cbor")
        if isinstance(value, str) and _PLAIN_HEX.fullmatch(value):
            return OpaqueContent(content_type=kind, data=bytes.fromhex(value))
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
        return OpaqueContent(content_type=kind, data=text.encode("ascii"), form="json")

    def event(self, value: object, path: str) -> ManagementEvent:
        members = self.members(value, path, ("type",), ("data",))
        number = self.word(members["type"], MANAGEMENT_TYPES, f"{path}.type")
        if number == MANAGEMENT_TYPES["firmware_end"]:
            if "data" in members:
                raise FormatError("firmware_end with data", path=f"{path}.data", clause="CEL 1.1, 4.4")
            return FirmwareEnd()
        if "data" not in members:
            raise FormatError("a management event without its data", path=path, clause="CEL 1.1, 4.4")
        data, here = members["data"], f"{path}.data"
        if number == MANAGEMENT_TYPES["cel_version"]:
            version = self.members(data, here, ("major", "minor"))
            major, minor = (self.number(version[name], _U16, f"{here}.{name}") for name in ("major", "minor"))
            return CelVersion(major=major, minor=minor)
        if number == MANAGEMENT_TYPES["cel_timestamp"]:
            return CelTimestamp(self.number(data, _U64, here))
        state = self.word(data, STATES_BY_NAME, here)
        assert isinstance(state, int)
        return StateTransition(STATES[state])

    def event_type(self, value: object, path: str) -> EventType:
        if isinstance(value, str):
            if value in EventType.__members__:
                return EventType[value]
            raise FormatError("no event type has this name", path=path, clause=_CLAUSE)
        return EventType(self.number(value, _U32, path))

    def members(
        self, value: object, path: str, required: Sequence[str], optional: Sequence[str] = ()
    ) -> dict[str, object]:
        """The members of a map by name."""
        if not isinstance(value, Mapping):
            raise FormatError("a map is needed here", path=path, clause=_CLAUSE)
        names = {self.key(name): name for name in (*required, *optional)}
        for key in value:
            if isinstance(key, bool) or key not in names:
                raise FormatError(f"the member {repr(key)[:40]} does not belong here", path=path, clause=_CLAUSE)
        found = {names[key]: item for key, item in value.items()}
        for name in required:
            if name not in found:
                raise FormatError(f"the member {name} is missing", path=path, clause=_CLAUSE)
        return found

    def key(self, name: str) -> int | str:
        return name if self.form == "json" else MEMBERS[name]

    def number(self, value: object, maximum: int, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise FormatError("a number is needed here", path=path, clause=_CLAUSE)
        if not 0 <= value <= maximum:
            raise FormatError(f"a number from 0 to {maximum} is needed here", path=path, clause=_CLAUSE)
        return value

    def raw(self, value: object, path: str) -> bytes:
        if self.form == "json":
            if not isinstance(value, str) or _HEX.fullmatch(value) is None:
                raise FormatError("an even number of hexadecimal digits is needed here", path=path, clause=_CLAUSE)
            data = bytes.fromhex(value)
        elif isinstance(value, bytes):
            data = value
        else:
            raise FormatError("bytes are needed here", path=path, clause=_CLAUSE)
        if len(data) > self.limits.event_size:
            raise LimitExceededError(f"{len(data)} bytes, the limit is {self.limits.event_size}", path=path)
        return data

    def word(self, value: object, names: Mapping[str, int], path: str, *, known: bool = True) -> int | str:
        """The number that a name of a table stands for; what is in no table stays as it is unless ``known``."""
        if self.form == "json" and isinstance(value, str):
            if value in names:
                return names[value]
            if not known and value.isprintable() and 0 < len(value) <= 64:
                return value
            raise FormatError("a word that does not belong here", path=path, clause=_CLAUSE)
        number = self.number(value, _U32, path)
        if known and number not in names.values():
            raise FormatError(f"the number {number} does not belong here", path=path, clause=_CLAUSE)
        return number


def _bounded(value: object, depth: int, path: str) -> None:
    """Refuse values that are nested deeper than ``depth``."""
    if depth < 0:
        raise LimitExceededError("values nested too deep", path=path)
    if isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            _bounded(one, depth - 1, path)


class _Writer:
    """Records as values."""

    def __init__(self, form: FormName) -> None:
        self.form = form

    def record(self, record: CelRecord, path: str) -> dict[Any, Any]:
        check_record(record, path)
        kind = record.register.kind
        if kind not in {"pcr", "nv", "none"}:
            raise UnsupportedError(
                f"CEL-{self.form.upper()} has no name for the register {record.register}",
                path=path,
                clause="CEL 1.1, 4.2.3",
            )
        content_type, content = self.content(record.content, f"{path}.content")
        return self.map(
            recnum=record.recnum,
            **{"nv_index" if kind == "nv" else "pcr": record.register.index},
            digests=[
                self.map(hashAlg=name if self.form == "json" else algorithm_id(name), digest=self.raw(digest))
                for name, digest in record.digests.items()
            ],
            content_type=content_type,
            content=content,
        )

    def content(self, content: CelContent, path: str) -> tuple[int | str, Any]:
        if isinstance(content, Management):
            events = [self.event(event) for event in content.events]
            return self.word("cel", CONTENT_TYPES), events[0] if len(events) == 1 else events
        if isinstance(content, PcClientStd):
            named = self.form == "json" and content.event_type.known
            event_type = content.event_type.name if named else int(content.event_type)
            value = self.map(event_type=event_type, event_data=self.raw(content.event_data))
            return self.word("pcclient_std", CONTENT_TYPES), value
        if isinstance(content, ImaTemplate):
            value = self.map(template_name=content.template_name, template_data=self.raw(content.template_data))
            return self.word("ima_template", CONTENT_TYPES), value
        if isinstance(content, ImaTlv):
            return self.word("ima_tlv", CONTENT_TYPES), self.raw(content.data)
        return self.opaque(content, path)

    def opaque(self, content: OpaqueContent, path: str) -> tuple[int | str, Any]:
        kind = content.content_type
        names = {number: name for name, number in CONTENT_TYPES.items()}
        if self.form == "json" and isinstance(kind, int):
            kind = names.get(kind, kind)
        if content.form not in {"bytes", self.form} or (self.form == "cbor" and isinstance(kind, str)):
            raise UnsupportedError(
                f"content of type {kind} that is {content.form} has no form in CEL-{self.form.upper()}",
                path=path,
                clause=_CLAUSE,
            )
        if content.form == "bytes":
            return kind, self.raw(content.data)
        return kind, json.loads(content.data) if self.form == "json" else cbor.decode(content.data)

    def event(self, event: ManagementEvent) -> dict[Any, Any]:
        if isinstance(event, CelVersion):
            data: Any = self.map(major=event.major, minor=event.minor)
            return self.map(type=self.word("cel_version", MANAGEMENT_TYPES), data=data)
        if isinstance(event, FirmwareEnd):
            return self.map(type=self.word("firmware_end", MANAGEMENT_TYPES))
        if isinstance(event, CelTimestamp):
            return self.map(type=self.word("cel_timestamp", MANAGEMENT_TYPES), data=event.value)
        state = self.word(event.state, STATES_BY_NAME)
        return self.map(type=self.word("state_trans", MANAGEMENT_TYPES), data=state)

    def map(self, **members: Any) -> dict[Any, Any]:
        return {name if self.form == "json" else MEMBERS[name]: value for name, value in members.items()}

    def raw(self, data: bytes) -> bytes | str:
        return data.hex() if self.form == "json" else data

    def word(self, name: str, names: Mapping[str, int]) -> int | str:
        return name if self.form == "json" else names[name]
