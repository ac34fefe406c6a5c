"""Whether an event's data gives its digest, and which of its bytes were hashed.

For each event type, register and beginning of the data there is an ordered list of rules, each naming slices of the
raw data; the first whose hash is the digest names what was hashed. The rules are data: adding one is adding a row.
Nothing is re-encoded: only the bytes of the log are hashed, and the result says which (A34, A47).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from attrs import field, frozen
from attrs.validators import in_, instance_of, optional

from measlog.records.base import Record
from measlog.records.ipl import PREFIXES, SHIM_VARIABLES, UKI_SECTIONS
from measlog.records.sipa import is_sipa
from measlog.registry import EventType, Register, hash_constructor

__all__ = ["DigestCheck", "Piece", "Rule", "RuleSet", "Trust", "check", "rules_for", "trust"]

Status = Literal["matches", "differs", "not_derivable", "not_extended", "no_digest"]
_STATUSES: tuple[Status, ...] = ("matches", "differs", "not_derivable", "not_extended", "no_digest")
Trust = Literal["authenticated", "positional", "unauthenticated"]
Range = tuple[int, int]


@frozen(kw_only=True)
class DigestCheck:
    """The answer for one event and one bank.

    ``matches``: ``rule`` names what was hashed, ``quirk`` the deviation if that is none of the specification's rules,
    ``covered`` the byte ranges of the event data that were hashed. ``differs``: the digest must follow from the data
    and does not; ``rule`` is the one expected. ``not_derivable``: the digest is of bytes outside the log.
    ``not_extended``: the event extends nothing. ``no_digest``: the event has none of this bank.
    """

    status: Status = field(validator=in_(_STATUSES))
    rule: str | None = field(default=None, validator=optional(instance_of(str)))
    quirk: str | None = field(default=None, validator=optional(instance_of(str)))
    covered: tuple[Range, ...] = ()


@frozen(kw_only=True)
class Piece:
    """What a rule hashes: slices of the data and, behind them, bytes that are not in the data."""

    ranges: tuple[Range, ...]
    appended: bytes = b""
    instead: bytes | None = None
    """The hashed bytes where they are the slices' text in another encoding."""

    def bytes_of(self, raw: bytes) -> bytes:
        """The bytes to hash."""
        if self.instead is not None:
            return self.instead
        return b"".join([raw[start:end] for start, end in self.ranges]) + self.appended


@frozen
class Rule:
    """One way from data to hashed bytes; ``select`` gives ``None`` where the data has not the shape for it."""

    name: str
    select: Callable[[bytes], Piece | None]
    quirk: str | None = None


@frozen(kw_only=True)
class RuleSet:
    """The rules of one kind of event, the specification's first.

    ``binding``: one of them must hold. ``expected`` names the rule that is reported when none does.
    """

    rules: tuple[Rule, ...]
    binding: bool
    expected: str | None


def _whole(raw: bytes) -> Piece:
    return Piece(ranges=((0, len(raw)),))


def _bare_der_without_last(raw: bytes) -> Piece | None:
    # Told by the structure of the value, not by the variable's name: a DER sequence where an owner should be.
    value = _variable_value(raw)
    if value is None or not value.bytes_of(raw).startswith((b"\x30\x82", b"\x30\x83")):
        return None
    return Piece(ranges=((0, len(raw) - 1),))


def _without_nuls(raw: bytes) -> Piece | None:
    body = raw.rstrip(b"\0")
    return Piece(ranges=((0, len(body)),)) if len(body) != len(raw) else None


def _and_nul(raw: bytes) -> Piece:
    return Piece(ranges=((0, len(raw)),), appended=b"\0")


def _variable_value(raw: bytes) -> Piece | None:
    if len(raw) < 32:
        return None
    name_length, value_length = struct.unpack_from("<QQ", raw, 16)
    start = 32 + 2 * name_length
    end = start + value_length
    return Piece(ranges=((start, end),)) if end <= len(raw) else None


def _first_four(raw: bytes) -> Piece | None:
    return Piece(ranges=((0, 4),)) if len(raw) > 4 else None


def _error_separator(_: bytes) -> Piece:
    # PFP 1.06, 10.4.1: after an error the hashed value is 0x00000001, whatever the data says. Covers nothing.
    return Piece(ranges=(), appended=b"\1\0\0\0")


def _prefix_size(raw: bytes) -> int:
    # Its rules are for data that begins with one of them.
    return next(len(prefix) for prefix, _ in PREFIXES if raw.startswith(prefix))


def _text(raw: bytes) -> Piece | None:
    start = _prefix_size(raw)
    end = len(raw) - 1 if raw.endswith(b"\0") else len(raw)
    return Piece(ranges=((start, max(start, end)),))


def _text_and_nul(raw: bytes) -> Piece | None:
    start = _prefix_size(raw)
    return Piece(ranges=((start, len(raw)),)) if raw.endswith(b"\0") else None


def _tagged_data(raw: bytes) -> Piece | None:
    if len(raw) < 8:
        return None
    end = 8 + int.from_bytes(raw[4:8], "little")
    return Piece(ranges=((8, end),)) if end <= len(raw) else None


def _section_name(raw: bytes) -> Piece | None:
    # systemd-stub hashes the name as ASCII with its NUL and logs it as UTF-16.
    text = raw.decode("utf-16-le", "replace").rstrip("\0")
    if text not in UKI_SECTIONS:
        return None
    return Piece(ranges=((0, 2 * len(text)),), instead=text.encode("ascii") + b"\0")


_WHOLE = Rule("data.whole", _whole)
_DATA = RuleSet(rules=(_WHOLE,), binding=True, expected="data.whole")


def _outside(expected: str) -> RuleSet:
    # The digest is of bytes that are not in the log; a data digest is tried all the same and named if it holds.
    return RuleSet(rules=(_WHOLE,), binding=False, expected=expected)


_ACTION = RuleSet(
    rules=(
        _WHOLE,
        Rule("data.without-nul", _without_nuls, "Q8"),
        Rule("data.and-nul", _and_nul, "Q8"),
    ),
    binding=True,
    expected="data.whole",
)
_IMAGE = RuleSet(rules=(), binding=False, expected="image.authenticode")
_SHIM = RuleSet(rules=(), binding=False, expected="shim.mirrored-variable")
_FILE = RuleSet(rules=(), binding=False, expected="file.contents")

_E = EventType
_BY_TYPE: Mapping[EventType, RuleSet] = MappingProxyType(
    {
        _E.EV_PREBOOT_CERT: _outside("firmware.defined"),
        _E.EV_POST_CODE: _outside("firmware.code"),
        _E.EV_POST_CODE2: _outside("firmware.code"),
        _E.EV_UNUSED: RuleSet(rules=(), binding=False, expected=None),
        _E.EV_SEPARATOR: RuleSet(
            rules=(
                _WHOLE,
                Rule("separator.first-four-bytes", _first_four, "Q27"),
                Rule("separator.error", _error_separator),
            ),
            binding=True,
            expected="data.whole",
        ),
        _E.EV_ACTION: _ACTION,
        _E.EV_S_CRTM_CONTENTS: _outside("firmware.code"),
        _E.EV_S_CRTM_VERSION: _DATA,
        _E.EV_CPU_MICROCODE: _outside("firmware.microcode"),
        _E.EV_PLATFORM_CONFIG_FLAGS: _outside("firmware.defined"),
        _E.EV_TABLE_OF_DEVICES: _DATA,
        _E.EV_COMPACT_HASH: _outside("firmware.defined"),
        _E.EV_IPL_PARTITION_DATA: _outside("firmware.defined"),
        _E.EV_NONHOST_CODE: _outside("firmware.code"),
        _E.EV_NONHOST_CONFIG: _outside("firmware.defined"),
        _E.EV_NONHOST_INFO: _DATA,
        _E.EV_OMIT_BOOT_DEVICE_EVENTS: _DATA,
        _E.EV_EFI_VARIABLE_DRIVER_CONFIG: RuleSet(
            rules=(_WHOLE, Rule("variable.value", _variable_value, "Q30")), binding=True, expected="data.whole"
        ),
        _E.EV_EFI_VARIABLE_BOOT: RuleSet(
            rules=(Rule("variable.value", _variable_value), Rule("data.whole", _whole, "Q7")),
            binding=True,
            expected="variable.value",
        ),
        _E.EV_EFI_BOOT_SERVICES_APPLICATION: _IMAGE,
        _E.EV_EFI_BOOT_SERVICES_DRIVER: _IMAGE,
        _E.EV_EFI_RUNTIME_SERVICES_DRIVER: _IMAGE,
        _E.EV_EFI_GPT_EVENT: _DATA,
        _E.EV_EFI_ACTION: _ACTION,
        _E.EV_EFI_PLATFORM_FIRMWARE_BLOB: _outside("firmware.code"),
        _E.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _outside("firmware.code"),
        _E.EV_EFI_HANDOFF_TABLES: _outside("firmware.tables"),
        _E.EV_EFI_HANDOFF_TABLES2: _outside("firmware.tables"),
        _E.EV_EFI_VARIABLE_BOOT2: _DATA,
        # PFP 1.06, 10.2.6: the GUIDs are zero in the data as they are in what is hashed.
        _E.EV_EFI_GPT_EVENT2: _DATA,
        _E.EV_EFI_HCRTM_EVENT: _outside("firmware.code"),
        _E.EV_EFI_VARIABLE_AUTHORITY: RuleSet(
            rules=(_WHOLE, Rule("data.without-last-byte", _bare_der_without_last, "Q31")),
            binding=True,
            expected="data.whole",
        ),
        _E.EV_EFI_SPDM_FIRMWARE_BLOB: _outside("device.measurement"),
        _E.EV_EFI_SPDM_FIRMWARE_CONFIG: _outside("device.measurement"),
        _E.EV_EFI_SPDM_DEVICE_POLICY: _DATA,
        _E.EV_EFI_SPDM_DEVICE_AUTHORITY: _DATA,
    }
)

_GRUB_TEXT = RuleSet(
    rules=(Rule("text.without-nul", _text), Rule("text.with-nul", _text_and_nul, "Q19")),
    binding=True,
    expected="text.without-nul",
)
_STUB_TEXT = RuleSet(
    rules=(_WHOLE, Rule("data.and-nul", _and_nul, "Q33")), binding=False, expected="kernel.command-line"
)
_UKI = RuleSet(rules=(Rule("section.name", _section_name),), binding=False, expected="section.contents")
_GRUB_REGISTERS = frozenset({Register("pcr", 8), Register("rtmr", 2)})
_HASHED_PREFIXES = (
    b"grub_cmd: ",
    b"kernel_cmdline: ",
    b"module_cmdline: ",
    b"grub_cmd ",
    b"grub_kernel_cmdline ",
    b"grub_module_cmdline ",
)
_SHIM_NAMES = frozenset(name.encode() for name in SHIM_VARIABLES)
_IPL: Mapping[Register, RuleSet] = MappingProxyType(
    {
        Register("pcr", 8): _STUB_TEXT,
        Register("pcr", 9): _FILE,
        Register("rtmr", 2): _FILE,
        Register("pcr", 11): _UKI,
        Register("pcr", 12): _STUB_TEXT,
        Register("pcr", 14): _SHIM,
    }
)
_SIPA = RuleSet(rules=(_WHOLE,), binding=True, expected="data.whole")
_TAGGED = RuleSet(rules=(_WHOLE, Rule("tag.data", _tagged_data)), binding=False, expected="tag.subject")
_UNKNOWN = RuleSet(rules=(_WHOLE,), binding=False, expected=None)


def rules_for(event_type: EventType, register: Register, raw: bytes) -> RuleSet:
    """The rules for an event of this type, register and data, in the order in which they are tried."""
    if event_type is EventType.EV_IPL:
        if register in _GRUB_REGISTERS and raw.startswith(_HASHED_PREFIXES):
            return _GRUB_TEXT
        if register.kind == "rtmr" and raw.rstrip(b"\0") in _SHIM_NAMES:
            return _SHIM
        return _IPL.get(register, _UNKNOWN)
    if event_type is EventType.EV_EVENT_TAG:
        return _SIPA if len(raw) >= 8 and is_sipa(int.from_bytes(raw[:4], "little")) else _TAGGED
    return _BY_TYPE.get(event_type, _UNKNOWN)


def check(event_type: EventType, register: Register, raw: bytes, algorithm: str, digest: bytes) -> DigestCheck:
    """Whether ``digest``, of the bank ``algorithm``, follows from the event data ``raw``.

    Where this Python cannot compute the algorithm, or measlog does not know it, nothing is derivable.
    """
    if event_type is EventType.EV_NO_ACTION or register.kind == "none":
        return _not_extended(register, raw, algorithm, digest)
    rule_set = rules_for(event_type, register, raw)
    new = hash_constructor(algorithm)
    if new is None:
        return DigestCheck(status="not_derivable", rule=rule_set.expected)
    for rule in rule_set.rules:
        piece = rule.select(raw)
        if piece is not None and new(piece.bytes_of(raw)).digest() == digest:
            return DigestCheck(status="matches", rule=rule.name, quirk=rule.quirk, covered=piece.ranges)
    return DigestCheck(status="differs" if rule_set.binding else "not_derivable", rule=rule_set.expected)


def _not_extended(register: Register, raw: bytes, algorithm: str, digest: bytes) -> DigestCheck:
    # PFP 1.06, 10.4.1: all digests of EV_NO_ACTION are zero; those of the NV index events are of the data (10.4.5.5).
    if not any(digest):
        return DigestCheck(status="not_extended", rule="no-action.zero")
    if register.kind == "none":
        return DigestCheck(status="not_extended", rule=None, quirk="Q21")
    new = hash_constructor(algorithm)
    if new is not None and new(raw).digest() == digest:
        return DigestCheck(status="not_extended", rule="no-action.data")
    return DigestCheck(status="not_extended")


def trust(record: Record, check: DigestCheck, field: str) -> Trust:
    """How far the field named ``field`` (a key of ``record.spans``) of an event can be trusted.

    ``authenticated``: all its bytes are among those whose hash is the event's digest. This rests on the register: it
    says something only once the log is known to replay to quoted values.

    ``positional`` is said of ``digest`` and ``register`` alone, the two that are no part of the event data: replay
    fixes each register's sequence of digests, so a digest is what it is at its place, whatever the data beside it says.
    Where nothing is extended, they are not fixed either.

    ``unauthenticated``: everything else, fields without a known place among the bytes included.
    """
    if field in {"digest", "register"}:
        return "unauthenticated" if check.status in {"not_extended", "no_digest"} else "positional"
    if check.status != "matches":
        return "unauthenticated"
    span = record.spans.get(field)
    while span is None and "." in field:
        field = field.rpartition(".")[0]
        span = record.spans.get(field)
    if span is None or not check.covered:
        return "unauthenticated"
    inside = any(start <= span[0] and span[1] <= end for start, end in check.covered)
    return "authenticated" if inside else "unauthenticated"
