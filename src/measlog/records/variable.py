"""UEFI_VARIABLE_DATA (PFP 1.06, clause 10.2.6) and what the variables that are measured hold."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from attrs import evolve, field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor, encode_utf16
from measlog.records.base import Opaque, Record, Undecodable
from measlog.records.load_option import read_load_option
from measlog.records.signature_list import SignatureData, SignatureLists, load_certificate, read_lists
from measlog.records.text import read_any
from measlog.registry import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE, SHIM_LOCK

if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "Absent",
    "BareCertificate",
    "BootNumber",
    "BootOrder",
    "Flag",
    "SbatLevel",
    "Timeout",
    "VariableData",
    "read_authority",
    "read_variable",
]

CLAUSE = "PFP 1.06, 10.2.6"
_HEADER = struct.Struct("<16sQQ")


@frozen(kw_only=True)
class Absent(Record):
    """A variable that was measured with no value: it did not exist."""

    def _body(self) -> bytes:
        return b""


@frozen(kw_only=True)
class Flag(Record):
    """A variable of one byte that is exactly 0 or 1 (UEFI 2.10, clause 3.3: SecureBoot, SetupMode and so on)."""

    value: bool = field(validator=instance_of(bool))

    def __bool__(self) -> bool:
        return self.value

    def _body(self) -> bytes:
        return b"\1" if self.value else b"\0"


@frozen(kw_only=True)
class BootOrder(Record):
    """``BootOrder`` and its kin: numbers of ``Boot####`` options, first tried first (UEFI 2.10, clause 3.3)."""

    options: tuple[int, ...] = field(validator=deep_iterable(instance_of(int)))

    def _body(self) -> bytes:
        return struct.pack(f"<{len(self.options)}H", *self.options)


@frozen(kw_only=True)
class BootNumber(Record):
    """``BootCurrent``, ``BootNext``: the number of a ``Boot####`` option (UEFI 2.10, clause 3.3)."""

    option: int = field(validator=instance_of(int))

    def _body(self) -> bytes:
        return struct.pack("<H", self.option)


@frozen(kw_only=True)
class Timeout(Record):
    """``Timeout``: seconds before the boot manager starts the default option (UEFI 2.10, clause 3.3)."""

    seconds: int = field(validator=instance_of(int))

    def _body(self) -> bytes:
        return struct.pack("<H", self.seconds)


@frozen(kw_only=True)
class SbatLevel(Record):
    """``SbatLevel``: shim's revocation list, CSV text (shim's SBAT.md)."""

    text: str = field(validator=instance_of(str))
    terminator: bytes = field(default=b"", validator=instance_of(bytes))

    @property
    def generations(self) -> dict[str, int]:
        """The least generation allowed of each component, the date of the list under its ``sbat`` left out.

        :raises FormatError: a line that is no ``component,generation``, or a component named twice.
        """
        found: dict[str, int] = {}
        for number, line in enumerate(self.text.splitlines()):
            name, _, rest = line.partition(",")
            generation = rest.partition(",")[0]
            if not name or not generation.isascii() or not generation.isdigit() or name in found:
                raise FormatError("no component,generation", path=f"line {number + 1}", clause="SBAT.md")
            found[name] = int(generation)
        return found

    def _body(self) -> bytes:
        return self.text.encode("utf-8", "surrogateescape") + self.terminator


@frozen(kw_only=True)
class BareCertificate(Record):
    """A certificate without the owner that EFI_SIGNATURE_DATA demands (quirk Q5).

    ``trailing`` is what follows the DER; shim logs one byte there that it does not hash (Q2, Q31).
    """

    der: bytes = field(validator=instance_of(bytes))

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate.

        :raises FormatError: it is none that ``cryptography`` can read.
        """
        return load_certificate(self.der)

    def _body(self) -> bytes:
        return self.der


@frozen(kw_only=True)
class VariableData(Record):
    """UEFI_VARIABLE_DATA: VariableName (a vendor GUID, in spite of its name), UnicodeName, VariableData.

    Two variables are the same when ``guid`` and ``name`` both are: compare the pair. ``decoded`` is ``value`` read as
    that variable; for those that no specification describes, text or bytes as they look.
    """

    guid: UUID = field(validator=instance_of(UUID))
    name: str = field(validator=instance_of(str))
    value: bytes = field(validator=instance_of(bytes))
    decoded: Record = field(validator=instance_of(Record), eq=False)

    @decoded.default
    def _decode_value(self) -> Record:
        return _decode_value(Cursor(self.value), self.guid, self.name, _DECODERS)

    def _body(self) -> bytes:
        name = encode_utf16(self.name)
        return _HEADER.pack(self.guid.bytes_le, len(name) // 2, len(self.value)) + name + self.value


def _read_flag(cursor: Cursor) -> Record:
    if not cursor.remaining:
        return Absent()
    value = cursor.u8("value")
    cursor.expect_end()
    if value > 1:
        raise cursor.error(f"{value} is neither 0 nor 1")
    return Flag(value=bool(value))


def _read_numbers(cursor: Cursor) -> Record:
    if not cursor.remaining:
        return Absent()
    number, odd = divmod(cursor.remaining, 2)
    if odd:
        raise cursor.error(f"{cursor.remaining} bytes are no list of UINT16")
    cursor.count("options", number, 2)
    return BootOrder(options=struct.unpack(f"<{number}H", cursor.rest("options")))


def _read_number(cursor: Cursor) -> Record:
    if not cursor.remaining:
        return Absent()
    value = cursor.u16("option")
    cursor.expect_end()
    return BootNumber(option=value)


def _read_timeout(cursor: Cursor) -> Record:
    if not cursor.remaining:
        return Absent()
    value = cursor.u16("seconds")
    cursor.expect_end()
    return Timeout(seconds=value)


def _read_lists(cursor: Cursor) -> Record:
    return SignatureLists(lists=read_lists(cursor)) if cursor.remaining else Absent()


def _read_option(cursor: Cursor) -> Record:
    return read_load_option(cursor) if cursor.remaining else Absent()


def _read_sbat(cursor: Cursor) -> Record:
    if not cursor.remaining:
        return Absent()
    data = cursor.rest("text")
    body = data.rstrip(b"\0")
    return SbatLevel(text=body.decode("utf-8", "surrogateescape"), terminator=data[len(body) :])


def _read_unknown(cursor: Cursor) -> Record:
    if not cursor.remaining:
        return Absent()
    return evolve(read_any(cursor), spans={})


_Reader = Callable[[Cursor], Record]
_GLOBAL: dict[str, _Reader] = {
    **dict.fromkeys(
        ("SecureBoot", "SetupMode", "AuditMode", "DeployedMode", "VendorKeys", "CustomMode", "SecureBootEnable"),
        _read_flag,
    ),
    **dict.fromkeys(("PK", "KEK", "PKDefault", "KEKDefault", "dbDefault", "dbxDefault", "dbtDefault"), _read_lists),
    **dict.fromkeys(("BootOrder", "DriverOrder", "SysPrepOrder"), _read_numbers),
    **dict.fromkeys(("BootCurrent", "BootNext"), _read_number),
    "Timeout": _read_timeout,
    "PlatformRecovery0000": _read_option,
    "OsRecoveryOrder": _read_unknown,
}
_SHIM: dict[str, _Reader] = {
    **dict.fromkeys(("MokList", "MokListRT", "MokListX", "MokListXRT"), _read_lists),
    **dict.fromkeys(
        ("MokSBState", "MokSBStateRT", "MokDBState", "MokIgnoreDB", "MokListTrusted", "MokListTrustedRT"), _read_flag
    ),
    **dict.fromkeys(("SbatLevel", "SbatLevelRT"), _read_sbat),
}
_DECODERS: dict[UUID, dict[str, _Reader]] = {
    EFI_GLOBAL_VARIABLE: _GLOBAL,
    EFI_IMAGE_SECURITY_DATABASE: dict.fromkeys(("db", "dbx", "dbt", "dbr"), _read_lists),
    SHIM_LOCK: _SHIM,
}
_LOAD_OPTION_NAME = re.compile(r"(?:Boot|Driver|SysPrep|OsRecovery|PlatformRecovery)[0-9A-F]{4}")


def _decode_value(cursor: Cursor, guid: UUID, name: str, decoders: dict[UUID, dict[str, _Reader]]) -> Record:
    reader = decoders.get(guid, {}).get(name)
    if reader is None:
        numbered = guid == EFI_GLOBAL_VARIABLE and _LOAD_OPTION_NAME.fullmatch(name)
        reader = _read_option if numbered else _read_unknown
    raw = cursor.peek
    try:
        record = reader(cursor)
    except FormatError as error:
        return Undecodable(raw=raw, reason=str(error))
    return record if record.to_bytes() == raw else Undecodable(raw=raw, reason="does not write back what was read")


def _read_head(cursor: Cursor) -> tuple[UUID, str, Cursor, bytes]:
    cursor.clause = CLAUSE
    guid = cursor.guid("guid")
    name_length = cursor.u64("unicode_name_length")
    value_length = cursor.u64("variable_data_length")
    # Compared before it is doubled and sliced: both lengths are 64 bits wide (A33).
    if name_length > cursor.remaining:
        raise cursor.error(f"UnicodeNameLength {name_length}, {cursor.remaining} bytes are left", "name")
    name = cursor.take("name", name_length * 2).decode("utf-16-le", "surrogatepass")
    inner = cursor.inside("value", value_length)
    inner.path = "decoded."
    cursor.mark("decoded", inner.pos, inner.end)
    return guid, name, inner, inner.peek


def read_variable(cursor: Cursor) -> VariableData:
    """UEFI_VARIABLE_DATA whose value is the variable's."""
    guid, name, inner, value = _read_head(cursor)
    decoded = _decode_value(inner, guid, name, _DECODERS)
    return VariableData(guid=guid, name=name, value=value, decoded=decoded, **cursor.finish())


def read_authority(cursor: Cursor) -> VariableData:
    """UEFI_VARIABLE_DATA whose value is one EFI_SIGNATURE_DATA, or what shim logs in its place (PFP 3.3.4.8).

    What it is shows in its structure, not in the variable's name (quirk Q31): ``SbatLevel`` and shim's flags are read
    as such; DER without an owner is a :class:`BareCertificate`.
    """
    guid, name, inner, value = _read_head(cursor)
    if guid == SHIM_LOCK and name in _SHIM and _SHIM[name] is not _read_lists:
        decoded = _decode_value(inner, guid, name, _DECODERS)
    else:
        decoded = _decode_authority(inner)
    return VariableData(guid=guid, name=name, value=value, decoded=decoded, **cursor.finish())


def _decode_authority(cursor: Cursor) -> Record:
    raw = cursor.peek
    if not raw:
        return Absent()
    size = _der_size(raw)
    if size is not None and len(raw) - size < 16:
        der = cursor.take("der", size)
        trailing = cursor.rest("trailing") if cursor.remaining else b""
        return BareCertificate(der=der, trailing=trailing)
    if len(raw) > 16:
        owner = cursor.guid("owner")
        return SignatureData(owner=owner, data=cursor.rest("data"))
    return Opaque(raw=cursor.rest("raw"))


def _der_size(data: bytes) -> int | None:
    # ITU-T X.690, 8.1.3: a SEQUENCE with a definite length of two or three bytes, which any certificate is.
    if len(data) < 4 or data[0] != 0x30 or data[1] not in {0x82, 0x83}:
        return None
    octets = data[1] & 0x7F
    size = 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")
    return size if size <= len(data) else None
