"""systemd's log of what the running system measures: ``/run/log/systemd/tpm2-measure.log``.

A JSON text sequence (RFC 7464): for each record RS, one object, LF. The objects are those of CEL-JSON without a number,
their content systemd's own: what was measured (``string``), when, in which boot, and the kind of event
(systemd's ``docs/TPM2_PCR_MEASUREMENTS.md``). A record names a PCR, or the NV index of an NvPCR, which no quote of PCRs
covers. systemd marks a log that lacks records by the file's sticky bit, which its bytes do not show.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, LimitExceededError, TruncatedError
from measlog.interop.jsontext import parse_value
from measlog.interop.measurements import CLAUSE, digests_to_json, frozen_digests, read_digests, read_pcr
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import Register

__all__ = ["CONTENT_TYPE", "SystemdRecord", "read_userspace_log", "write_userspace_log"]

CONTENT_TYPE = "systemd"
_RS, _LF = b"\x1e", b"\n"
_NV_INDICES = range(0x0100_0000, 0x0200_0000)
"""Handles of NV indices (TCG TPM 2.0 Library, part 2, clause 7.2: TPM_HT_NV_INDEX)."""
_KEYS = {"pcr", "nv_index", "digests", "content_type", "content"}
_STRINGS = ("string", "bootId", "eventType", "nvIndexName")


def _content(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(value)


@frozen(kw_only=True)
class SystemdRecord:
    """One record. ``register`` is a PCR; for an NvPCR it has the kind ``none`` and the NV index as its index.

    ``digests`` are those that were extended, by algorithm. ``content`` is kept whole, unknown members included; it is
    covered by no digest, except ``string`` where its digest is that of the record.
    """

    register: Register = field(validator=instance_of(Register))
    digests: Mapping[str, bytes] = field(converter=frozen_digests, repr=False)
    content: Mapping[str, Any] = field(converter=_content, repr=False)

    @register.validator
    def _check_register(self, _: object, register: Register) -> None:
        if register.kind != "pcr" and (register.kind != "none" or register.index not in _NV_INDICES):
            raise ValueError(f"{register} is neither a PCR nor an NV index")

    @classmethod
    def of(
        cls,
        register: Register,
        string: str,
        digests: Mapping[str, bytes],
        *,
        event_type: str | None = None,
        boot_id: str | None = None,
        timestamp: int | None = None,
    ) -> SystemdRecord:
        """A record as systemd would write it; ``timestamp`` is in microseconds since the boot."""
        members = {"string": string, "bootId": boot_id, "timestamp": timestamp, "eventType": event_type}
        content = {name: value for name, value in members.items() if value is not None}
        return cls(register=register, digests=digests, content=content)

    @property
    def nv_index(self) -> int | None:
        """The NV index of the NvPCR that was extended, or ``None`` for a PCR."""
        return self.register.index if self.register.kind == "none" else None

    @property
    def string(self) -> str | None:
        """What was measured, where systemd says so: it keeps secrets to itself."""
        return self._text("string")

    @property
    def event_type(self) -> str | None:
        """The kind of measurement: ``phase``, ``machine-id``, ``filesystem``, ``volume-key`` and others."""
        return self._text("eventType")

    @property
    def text(self) -> str:
        """:attr:`string`, empty where there is none."""
        return self.string or ""

    def _text(self, name: str) -> str | None:
        value = self.content.get(name)
        return value if isinstance(value, str) else None


def read_userspace_log(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[SystemdRecord, ...]:
    """The records of a log, in the order in which they were extended.

    Raises :class:`~measlog.errors.FormatError` with the byte and the record for whatever is not as systemd writes it:
    a record that is cut is not skipped.
    """
    if len(data) > limits.log_size:
        raise LimitExceededError(f"a log of {len(data)} bytes, the limit is {limits.log_size}")
    if not data:
        return ()
    if not data.startswith(_RS):
        raise FormatError("a record does not start with RS (1E)", offset=0, path="records[0]", clause="RFC 7464, 2.1")
    if not data.endswith(_LF):
        raise TruncatedError("the last record does not end with LF", offset=len(data), clause="RFC 7464, 2.3")
    count = data.count(_RS)
    if count > limits.events:
        raise LimitExceededError(f"{count} records, the limit is {limits.events}")
    records = []
    offset = 1
    for number, text in enumerate(data[1:].split(_RS)):
        path = f"records[{number}]"
        if not text.endswith(_LF):
            raise TruncatedError(
                "the record does not end with LF", offset=offset + len(text), path=path, clause="RFC 7464, 2.3"
            )
        value = parse_value(text, size=limits.log_size, depth=limits.depth, path=path, offset=offset, fractions=False)
        records.append(_record(value, path, offset))
        offset += len(text) + 1
    return tuple(records)


def _record(value: Any, path: str, offset: int) -> SystemdRecord:
    if not isinstance(value, dict):
        raise FormatError("expected an object", path=path, offset=offset, clause=CLAUSE)
    for name in value:
        if name not in _KEYS:
            raise FormatError(f"the member {name[:60]!r} is not known", path=path, offset=offset, clause=CLAUSE)
    missing = sorted({"digests", "content_type", "content"} - set(value))
    if missing:
        raise FormatError(f"{missing[0]} is missing", path=path, offset=offset, clause=CLAUSE)
    if value["content_type"] != CONTENT_TYPE:
        raise FormatError(f"expected {CONTENT_TYPE!r}", path=f"{path}.content_type", offset=offset, clause=CLAUSE)
    if ("pcr" in value) == ("nv_index" in value):
        raise FormatError("expected either pcr or nv_index", path=path, offset=offset, clause=CLAUSE)
    register = read_pcr(value["pcr"], path, offset) if "pcr" in value else _nv_index(value["nv_index"], path, offset)
    digests = read_digests(value["digests"], path, offset)
    content = value["content"]
    if not isinstance(content, dict):
        raise FormatError("expected an object", path=f"{path}.content", offset=offset, clause=CLAUSE)
    for name in _STRINGS:
        if not isinstance(content.get(name, ""), str):
            raise FormatError("expected text", path=f"{path}.content.{name}", offset=offset)
    if type(content.get("timestamp", 0)) is not int or not 0 <= content.get("timestamp", 0) < 1 << 64:
        raise FormatError("expected microseconds", path=f"{path}.content.timestamp", offset=offset)
    return SystemdRecord(register=register, digests=digests, content=content)


def _nv_index(value: Any, path: str, offset: int) -> Register:
    if type(value) is not int or value not in _NV_INDICES:
        raise FormatError("expected the handle of an NV index", path=f"{path}.nv_index", offset=offset, clause=CLAUSE)
    return Register("none", value)


def write_userspace_log(records: Iterable[SystemdRecord]) -> bytes:
    """The log's bytes, as systemd writes them."""
    return b"".join(
        _RS + json.dumps(_object(r), separators=(",", ":"), ensure_ascii=False).encode() + _LF for r in records
    )


def _object(record: SystemdRecord) -> dict[str, Any]:
    name = "pcr" if record.nv_index is None else "nv_index"
    return {
        name: record.register.index,
        "digests": digests_to_json(record.digests),
        "content_type": CONTENT_TYPE,
        "content": dict(record.content),
    }
