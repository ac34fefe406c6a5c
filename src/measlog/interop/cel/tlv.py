"""CEL-TLV (CEL 1.1, clause 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.formats.cel import CCMR, CelManagementType, CelType, build_tlv, read_number, walk_tlvs
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
from measlog.interop.cel.words import STATES, STATES_BY_NAME
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import EventType, Register, algorithm_name

__all__ = ["read_tlv", "write_tlv"]

_CLAUSE = "CEL 1.1, 5.1"
_U8, _U16, _U32, _U64 = ((1 << 8 * size) - 1 for size in (1, 2, 4, 8))
_RTMR_COUNT = 4

Span = tuple[int, int, int]


def read_tlv(data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[CelRecord]:
    """The records. Raises :class:`~measlog.errors.FormatError` with offset and path."""
    if len(data) > limits.log_size:
        raise LimitExceededError(f"the log has {len(data)} bytes, more than the {limits.log_size} allowed", offset=0)
    records: list[CelRecord] = []
    fields: list[Span] = []
    for field in walk_tlvs(data, 0, len(data), path="records"):
        fields.append(field)
        if len(fields) == 4:
            if len(records) >= limits.records:
                raise LimitExceededError(f"more than {limits.records} records", offset=fields[0][1])
            records.append(_record(data, fields, f"records[{len(records)}]", limits))
            fields = []
    if fields:
        raise FormatError(
            "a record without its content", offset=len(data), path=f"records[{len(records)}]", clause=_CLAUSE
        )
    return records


def _record(data: bytes, fields: Sequence[Span], path: str, limits: Limits) -> CelRecord:
    number, register, digests, content = fields
    for (kind, start, _), wanted, name in ((number, CelType.RECNUM, "recnum"), (digests, CelType.DIGESTS, "digests")):
        if kind != wanted:
            raise FormatError(
                f"a field of type {kind} where {name} belongs", offset=start - 5, path=f"{path}.{name}", clause=_CLAUSE
            )
    if content[2] - content[1] > limits.event_size:
        raise LimitExceededError(
            f"content of {content[2] - content[1]} bytes", offset=content[1], path=f"{path}.content"
        )
    made = CelRecord(
        recnum=read_number(data, number[1], number[2], _U64, path=f"{path}.recnum"),
        register=_register(data, register, path),
        digests=_digests(data, digests, f"{path}.digests"),
        content=_content(data, content, f"{path}.content"),
    )
    check_record(made, path, number[1] - 5)
    return made


def _register(data: bytes, field: Span, path: str) -> Register:
    kind, start, end = field
    if kind == CelType.PCR:
        return pcr_register(read_number(data, start, end, _U32, path=f"{path}.pcr"))
    if kind == CelType.NV_INDEX:
        return Register("nv", read_number(data, start, end, _U32, path=f"{path}.nv_index"))
    if kind == CCMR:
        index = read_number(data, start, end, _RTMR_COUNT, path=f"{path}.ccmr")
        return Register("rtmr", index - 1) if index else Register("mrtd", 0)
    raise FormatError(f"a field of type {kind} where the register belongs", offset=start - 5, path=path, clause=_CLAUSE)


def _digests(data: bytes, field: Span, path: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for algorithm, start, end in walk_tlvs(data, field[1], field[2], path=path):
        name = algorithm_name(algorithm)
        if name in found:
            raise FormatError(f"two {name} digests", offset=start - 5, path=path, clause="CEL 1.1, 4.2.4")
        if len(found) >= MAX_DIGESTS:
            raise LimitExceededError(f"more than {MAX_DIGESTS} digests", offset=start - 5, path=path)
        found[name] = data[start:end]
    return found


def _content(data: bytes, field: Span, path: str) -> CelContent:
    kind, start, end = field
    if kind in {CelType.RECNUM, CelType.PCR, CelType.NV_INDEX, CelType.DIGESTS, CCMR}:
        raise FormatError(
            f"a field of type {kind} where the content belongs", offset=start - 5, path=path, clause=_CLAUSE
        )
    if kind == CelType.CEL:
        return Management(tuple(_event(data, one, path) for one in walk_tlvs(data, start, end, path=path)))
    if kind == CelType.PCCLIENT_STD:
        one, other = _pair(data, field, path)
        number = read_number(data, one[1], one[2], _U32, path=f"{path}.event_type")
        return PcClientStd(event_type=EventType(number), event_data=data[other[1] : other[2]])
    if kind == CelType.IMA_TEMPLATE:
        one, other = _pair(data, field, path)
        try:
            name = data[one[1] : one[2]].decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("a name that is not UTF-8", offset=one[1], path=f"{path}.template_name") from None
        return ImaTemplate(template_name=name, template_data=data[other[1] : other[2]])
    if kind == CelType.IMA_TLV:
        return ImaTlv(data[start:end])
    return OpaqueContent(content_type=kind, data=data[start:end])


def _pair(data: bytes, field: Span, path: str) -> tuple[Span, Span]:
    """Two fields, of the types 0 and 1."""
    found: list[Span] = []
    for one in walk_tlvs(data, field[1], field[2], path=path):
        if len(found) == 2 or one[0] != len(found):
            raise FormatError(f"a field of type {one[0]}", offset=one[1] - 5, path=path, clause=_CLAUSE)
        found.append(one)
    if len(found) != 2:
        raise FormatError(f"{len(found)} fields, there are two", offset=field[1], path=path, clause=_CLAUSE)
    return found[0], found[1]


def _event(data: bytes, field: Span, path: str) -> ManagementEvent:
    kind, start, end = field
    if kind == CelManagementType.CEL_VERSION:
        major, minor = (
            read_number(data, part[1], part[2], _U16, path=f"{path}.cel_version") for part in _pair(data, field, path)
        )
        return CelVersion(major=major, minor=minor)
    if kind == CelManagementType.FIRMWARE_END:
        if start != end:
            raise FormatError("firmware_end with data", offset=start, path=path, clause="CEL 1.1, 4.4")
        return FirmwareEnd()
    if kind == CelManagementType.CEL_TIMESTAMP:
        return CelTimestamp(read_number(data, start, end, _U64, path=f"{path}.cel_timestamp"))
    if kind == CelManagementType.STATE_TRANS:
        number = read_number(data, start, end, _U64, path=f"{path}.state_trans")
        if number in STATES:
            return StateTransition(STATES[number])
        raise FormatError(
            f"there is no state {number}", offset=start, path=f"{path}.state_trans", clause="CEL 1.1, 4.4"
        )
    raise FormatError(f"no management event has the type {kind}", offset=start - 5, path=path, clause="CEL 1.1, 4.4")


def write_tlv(records: Sequence[CelRecord]) -> bytes:
    """The bytes. Raises :class:`~measlog.errors.UnsupportedError` for what TLV has no form for."""
    return b"".join(_written(record, f"records[{place}]") for place, record in enumerate(records))


def _written(record: CelRecord, path: str) -> bytes:
    check_record(record, path)
    # go-tpm-tools wants eight bytes here, and one for a PCR.
    parts = [build_tlv(CelType.RECNUM, record.recnum.to_bytes(8, "big")), _written_register(record.register)]
    digests = []
    for name, digest in record.digests.items():
        number = algorithm_id(name)
        if number > _U8:
            raise UnsupportedError(
                f"the algorithm {name} has no number of one byte", path=f"{path}.digests", clause=_CLAUSE
            )
        digests.append(build_tlv(number, digest))
    parts.append(build_tlv(CelType.DIGESTS, b"".join(digests)))
    parts.append(_written_content(record.content, f"{path}.content"))
    return b"".join(parts)


def _written_register(register: Register) -> bytes:
    index = register.index
    if register.kind == "nv":
        return build_tlv(CelType.NV_INDEX, index.to_bytes(4, "big"))
    if register.kind == "mrtd":
        return build_tlv(CCMR, b"\0")
    if register.kind == "rtmr":
        return build_tlv(CCMR, _number(index + 1))
    return build_tlv(CelType.PCR, _number(index))


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _written_content(content: CelContent, path: str) -> bytes:
    if isinstance(content, Management):
        return build_tlv(CelType.CEL, b"".join(map(_written_event, content.events)))
    if isinstance(content, PcClientStd):
        kind = build_tlv(0, int(content.event_type).to_bytes(4, "big"))
        return build_tlv(CelType.PCCLIENT_STD, kind + build_tlv(1, content.event_data))
    if isinstance(content, ImaTemplate):
        name = build_tlv(0, content.template_name.encode("utf-8"))
        return build_tlv(CelType.IMA_TEMPLATE, name + build_tlv(1, content.template_data))
    if isinstance(content, ImaTlv):
        return build_tlv(CelType.IMA_TLV, content.data)
    if content.form != "bytes" or not isinstance(content.content_type, int) or content.content_type > _U8:
        raise UnsupportedError(
            f"content of type {content.content_type} that is {content.form} has no form in TLV",
            path=path,
            clause=_CLAUSE,
        )
    return build_tlv(content.content_type, content.data)


def _written_event(event: ManagementEvent) -> bytes:
    if isinstance(event, CelVersion):
        both = build_tlv(0, _number(event.major)) + build_tlv(1, _number(event.minor))
        return build_tlv(CelManagementType.CEL_VERSION, both)
    if isinstance(event, FirmwareEnd):
        return build_tlv(CelManagementType.FIRMWARE_END, b"")
    if isinstance(event, CelTimestamp):
        return build_tlv(CelManagementType.CEL_TIMESTAMP, _number(event.value))
    return build_tlv(CelManagementType.STATE_TRANS, _number(STATES_BY_NAME[event.state]))
