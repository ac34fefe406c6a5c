"""Records of the TCG Canonical Event Log: the information model that all its encodings carry (CEL 1.1, clause 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

from attrs import field, frozen

from measlog.errors import FormatError
from measlog.formats.cel import ImaTlvType, walk_tlvs
from measlog.formats.cursor import decode_text
from measlog.registry import ALGORITHMS_BY_NAME, EventType, Register
from measlog.replay.pcr import PCR_COUNT

__all__ = [
    "MAX_DIGESTS",
    "CelContent",
    "CelRecord",
    "CelTimestamp",
    "CelVersion",
    "FirmwareEnd",
    "ImaTemplate",
    "ImaTlv",
    "Management",
    "ManagementEvent",
    "OpaqueContent",
    "PcClientStd",
    "StateTransition",
    "algorithm_id",
    "check_numbers",
    "check_record",
    "pcr_register",
]

MAX_DIGESTS = 16
MAX_DIGEST_SIZE = 128
"""Of an algorithm that nobody here knows, in bytes."""


@frozen(kw_only=True)
class CelVersion:
    """``cel_version``: the version of the specification; not measured."""

    major: int
    minor: int


@frozen
class FirmwareEnd:
    """``firmware_end``: the firmware is done; not measured."""


@frozen
class CelTimestamp:
    """``cel_timestamp``, as recorded: CEL 1.1 calls it seconds in table 6 and milliseconds in 4.4.3."""

    value: int


@frozen
class StateTransition:
    """``state_trans``: what the machine went through (CEL 1.1, table 8)."""

    state: Literal["suspend", "hibernate", "kexec"]


ManagementEvent: TypeAlias = CelVersion | FirmwareEnd | CelTimestamp | StateTransition


@frozen
class Management:
    """``cel``: one event about the log itself, or in the manner of CEL 1.0 several."""

    events: tuple[ManagementEvent, ...]


@frozen(kw_only=True)
class PcClientStd:
    """``pcclient_std``: type and data of a TCG_PCR_EVENT2. The digest does not cover the type."""

    event_type: EventType
    event_data: bytes = field(repr=False)


@frozen(kw_only=True)
class ImaTemplate:
    """``ima_template``: name and data of a template. The digest does not cover the name."""

    template_name: str
    template_data: bytes = field(repr=False)


@frozen
class ImaTlv:
    """``ima_tlv``: what IMA measured, as fields of their own; the digest covers them with their types and lengths."""

    data: bytes = field(repr=False)

    @property
    def fields(self) -> Mapping[ImaTlvType, bytes]:
        """The fields by type. Raises :class:`~measlog.errors.FormatError` where the data is none of them."""
        found: dict[ImaTlvType, bytes] = {}
        for kind, start, end in walk_tlvs(self.data, 0, len(self.data), path="ima_tlv"):
            if kind not in ImaTlvType.__members__.values():
                raise FormatError(
                    f"no field has the type {kind}", offset=start - 5, path="ima_tlv", clause="CEL 1.1, 4.7"
                )
            if ImaTlvType(kind) in found:
                raise FormatError(f"the field {kind} is there twice", offset=start - 5, path="ima_tlv")
            found[ImaTlvType(kind)] = self.data[start:end]
        return MappingProxyType(found)


@frozen(kw_only=True)
class OpaqueContent:
    """Content that is kept as it is: systemd's, and that of types that the specification does not know.

    ``form`` says what ``data`` is: ``bytes``, which every encoding can carry, or a JSON text or a CBOR item, which stay
    with their encoding. ``content_type`` is a number, or a name that only CEL-JSON knows.
    """

    content_type: int | str
    data: bytes = field(repr=False)
    form: Literal["bytes", "json", "cbor"] = "bytes"


CelContent: TypeAlias = Management | PcClientStd | ImaTemplate | ImaTlv | OpaqueContent


def _read_only(digests: Mapping[str, bytes]) -> Mapping[str, bytes]:
    return MappingProxyType(dict(digests))


@frozen(kw_only=True)
class CelRecord:
    """A record (``TPMS_CEL_EVENT``): its number, its register, what was extended into each bank, and its content."""

    recnum: int
    register: Register
    digests: Mapping[str, bytes] = field(repr=False, converter=_read_only, hash=False)
    content: CelContent

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.recnum, self.register, dict(self.digests), self.content)

    @property
    def measured(self) -> bool:
        """Whether the digests were extended: not those of EV_NO_ACTION, of the version and of the firmware's end."""
        if isinstance(self.content, PcClientStd):
            return self.content.event_type is not EventType.EV_NO_ACTION
        if isinstance(self.content, Management):
            return not all(isinstance(event, CelVersion | FirmwareEnd) for event in self.content.events)
        return True

    @property
    def text(self) -> str:
        """One line about the content; anybody's text, to be escaped before it is shown."""
        content = self.content
        if isinstance(content, PcClientStd):
            return content.event_type.name
        if isinstance(content, ImaTemplate):
            return content.template_name
        if isinstance(content, ImaTlv):
            return decode_text(content.fields.get(ImaTlvType.PATH, b""))
        if isinstance(content, Management):
            return ", ".join(type(event).__name__ for event in content.events)
        return decode_text(content.data)


def _rebuild(recnum: int, register: Register, digests: Mapping[str, bytes], content: CelContent) -> CelRecord:
    return CelRecord(recnum=recnum, register=register, digests=digests, content=content)


def pcr_register(index: int) -> Register:
    """The register of a PCR number; one that no TPM has, as of EV_NO_ACTION events that name none, is ``none``."""
    return Register("pcr", index) if index < PCR_COUNT else Register("none", index)


def algorithm_id(name: str) -> int:
    """The TPM_ALG_ID of a name, or of ``0x0099`` for those that have none."""
    known = ALGORITHMS_BY_NAME.get(name)
    return int(name, 16) if known is None else known.id


def check_record(record: CelRecord, path: str, offset: int | None = None) -> None:
    """Refuse what the information model forbids. Raises :class:`~measlog.errors.FormatError`."""

    def refuse(message: str, name: str) -> FormatError:
        return FormatError(message, offset=offset, path=f"{path}.{name}", clause="CEL 1.1, 4.2")

    if len(record.digests) > MAX_DIGESTS:
        raise refuse(f"{len(record.digests)} digests, at most {MAX_DIGESTS}", "digests")
    if not record.digests and record.measured:
        raise refuse("no digest", "digests")
    for name, digest in record.digests.items():
        known = ALGORITHMS_BY_NAME.get(name)
        if known is not None and len(digest) != known.size:
            raise refuse(f"a {name} digest of {len(digest)} bytes, it has {known.size}", "digests")
        if not 1 <= len(digest) <= MAX_DIGEST_SIZE:
            raise refuse(f"a digest of {len(digest)} bytes", "digests")
    if isinstance(record.content, Management) and not record.content.events:
        raise refuse("no event", "content")
    if isinstance(record.content, ImaTlv):
        try:
            _ = record.content.fields
        except FormatError as error:
            raise refuse(str(error), "content") from None


def check_numbers(records: Sequence[CelRecord]) -> Literal["register", "log"]:
    """How the records are numbered: within each register, as CEL 1.1, 4.2.2 says, or throughout the log, as some do.

    Raises :class:`~measlog.errors.FormatError` where neither is without gaps: a record is missing or out of place. A log
    may begin with any number, which says how many records came before.
    """
    by_register: dict[Register, int] = {}
    broken: int | None = None
    for place, record in enumerate(records):
        expected = by_register.get(record.register, record.recnum)
        if record.recnum != expected and broken is None:
            broken = place
        by_register[record.register] = record.recnum + 1
    if broken is None:
        return "register"
    if all(record.recnum == records[0].recnum + place for place, record in enumerate(records)):
        return "log"
    raise FormatError(
        f"record number {records[broken].recnum} does not follow the one before it on {records[broken].register}",
        path=f"records[{broken}].recnum",
        clause="CEL 1.1, 4.2.2",
    )
