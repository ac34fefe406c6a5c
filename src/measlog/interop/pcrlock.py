"""Component files of systemd-pcrlock: what one part of the boot measures, in all its variants (``systemd.pcrlock(5)``).

A file is an object with ``records``; each names a PCR and the digests that it may be extended with. Numbers, contents and
content types of records are CEL-JSON's, and systemd-pcrlock passes over them. A component has the name of its file, or of
the folder ``NAME.pcrlock.d`` in which the files of its variants lie; components follow one another in the order of their
names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, LimitExceededError
from measlog.interop.jsontext import parse_value
from measlog.interop.measurements import digests_to_json, frozen_digests, read_digests, read_pcr
from measlog.interop.systemdlog import CONTENT_TYPE, SystemdRecord
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.log import EventLog
from measlog.registry import EventType, Register

__all__ = [
    "BANKS",
    "PcrlockComponent",
    "PcrlockRecord",
    "cel_documents",
    "read_component",
    "read_components",
    "write_component",
]

BANKS = ("sha512", "sha384", "sha256", "sha1")
"""The banks that systemd-pcrlock knows, in the order in which it writes them."""

_CLAUSE = "systemd.pcrlock(5)"
_KEYS = {"pcr", "recnum", "digests", "content_type", "content"}
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,127}"
_FILE = re.compile(rf"(?P<name>{_NAME})\.pcrlock(?:\.d/(?P<variant>{_NAME})\.pcrlock)?")


@frozen(kw_only=True)
class PcrlockRecord:
    """One extension that a component makes: the PCR, and the digests by algorithm."""

    pcr: int = field(validator=instance_of(int))
    digests: Mapping[str, bytes] = field(converter=frozen_digests, repr=False)

    @property
    def register(self) -> Register:
        """The register that is extended."""
        return Register("pcr", self.pcr)


@frozen(kw_only=True)
class PcrlockComponent:
    """A component: its name, and by the variant's name the records of each. A lone variant has the component's name."""

    name: str
    variants: Mapping[str, tuple[PcrlockRecord, ...]] = field(repr=False)


def read_component(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[PcrlockRecord, ...]:
    """The records of one component file, in order.

    Raises :class:`~measlog.errors.FormatError` with the record for what systemd-pcrlock passes over without a word, too:
    a bare list, a record without digests, members that it does not know.
    """
    document = parse_value(data, size=limits.log_size, depth=limits.depth, fractions=False)
    if not isinstance(document, dict) or set(document) != {"records"}:
        raise FormatError("expected an object with records, and nothing else", offset=0, clause=_CLAUSE)
    records = document["records"]
    if not isinstance(records, list):
        raise FormatError("expected a list", path="records", clause=_CLAUSE)
    if len(records) > limits.events:
        raise LimitExceededError(f"{len(records)} records, the limit is {limits.events}", path="records")
    return tuple(_record(value, f"records[{number}]") for number, value in enumerate(records))


def _record(value: Any, path: str) -> PcrlockRecord:
    if not isinstance(value, dict):
        raise FormatError("expected an object", path=path, clause=_CLAUSE)
    for name in value:
        if name not in _KEYS:
            raise FormatError(f"the member {name[:60]!r} is not known", path=path, clause=_CLAUSE)
    for name in ("pcr", "digests"):
        if name not in value:
            raise FormatError(f"{name} is missing", path=path, clause=_CLAUSE)
    register = read_pcr(value["pcr"], path, 0)
    return PcrlockRecord(pcr=register.index, digests=read_digests(value["digests"], path, 0))


def read_components(files: Mapping[str, bytes], *, limits: Limits = DEFAULT_LIMITS) -> tuple[PcrlockComponent, ...]:
    """The components in files by their path below the folder, in the order of their names.

    Raises :class:`~measlog.errors.FormatError` with the file for what is no component, and where a component is a file
    and a folder both, which systemd-pcrlock would take for two alternatives.
    """
    if len(files) > limits.items:
        raise LimitExceededError(f"{len(files)} files, the limit is {limits.items}")
    found: dict[str, dict[str, tuple[PcrlockRecord, ...]]] = {}
    for path in sorted(files):
        match = _FILE.fullmatch(path)
        if match is None:
            raise FormatError("is no component: expected NAME.pcrlock or NAME.pcrlock.d/VARIANT.pcrlock", path=path)
        try:
            records = read_component(files[path], limits=limits)
        except FormatError as error:
            raise error.inside(path) from None
        name, variant = match["name"], match["variant"]
        variants = found.setdefault(name, {})
        if variants and (variant is None) != (set(variants) == {name}):
            raise FormatError(f"the component {name} is a file and a folder both", path=path, clause=_CLAUSE)
        variants[name if variant is None else variant] = records
    return tuple(PcrlockComponent(name=name, variants=found[name]) for name in sorted(found))


def write_component(records: Iterable[PcrlockRecord]) -> bytes:
    """One component file."""
    made = [{"pcr": r.pcr, "digests": digests_to_json(r.digests)} for r in records]
    return json.dumps({"records": made}, separators=(",", ":")).encode() + b"\n"


def cel_documents(log: EventLog, records: Iterable[SystemdRecord] = ()) -> list[dict[str, Any]]:
    """What ``systemd-pcrlock cel`` prints for the firmware's log and systemd's own: CEL-JSON, in one list.

    Every event that extends a PCR, numbered from 1, with its digests in the banks that systemd knows, the firmware's with
    type and data. Records of NvPCRs are left out.
    """
    made: list[dict[str, Any]] = []

    def add(pcr: int, digests: Mapping[str, bytes], content_type: str, content: Mapping[str, Any]) -> None:
        banks = {name: digests[name] for name in BANKS if name in digests}
        record = {"pcr": pcr, "recnum": len(made) + 1, "digests": digests_to_json(banks)}
        made.append({**record, "content_type": content_type, "content": dict(content)})

    for event in log:
        if event.pcr is not None and event.type != EventType.EV_NO_ACTION:
            content = {"event_type": event.type.name, "event_data": event.raw.hex()}
            add(event.pcr, event.digests, "pcclient_std", content)
    for record in records:
        if record.nv_index is None:
            add(record.register.index, record.digests, CONTENT_TYPE, record.content)
    return made
