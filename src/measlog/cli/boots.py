"""Predicted boots, read back from the JSON document that ``measlog predict`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from measlog.errors import FormatError, ManifestError
from measlog.flatcar.boot import PredictedBoot, PredictedEvent
from measlog.reference.manifest import parse_json
from measlog.registry import ALGORITHMS_BY_NAME, EventType

__all__ = ["boots_of"]

_TEXTS = ("name", "release", "bootloader", "outcome")
_FLAGS = ("first_boot", "secure_boot", "oem")


def boots_of(data: bytes) -> list[PredictedBoot]:
    """The boots of a ``predict/1`` document. Raises :class:`~measlog.errors.FormatError` with the place."""
    try:
        document = parse_json(data, what="document", size=len(data))
    except ManifestError as error:
        raise FormatError(str(error)) from None
    if document.get("measlog") != "predict/1":
        raise FormatError("expected the document predict/1 of measlog predict --json")
    boots = _list(document, "boots", "document")
    if not boots:
        raise FormatError("the document holds no boot", path="boots")
    return [_boot(boot, f"boots[{i}]") for i, boot in enumerate(boots)]


def _boot(boot: Mapping[str, Any], path: str) -> PredictedBoot:
    texts = {name: _member(boot, name, str, path) for name in _TEXTS}
    flags = {name: _member(boot, name, bool, path) for name in _FLAGS}
    events = tuple(_event(e, f"{path}.events[{i}]") for i, e in enumerate(_list(boot, "events", path)))
    unknown = _member(boot, "unknown", dict, path)
    if not all(isinstance(why, str) for why in unknown.values()):
        raise FormatError("expected texts", path=f"{path}.unknown")
    return PredictedBoot(
        **texts,
        **flags,
        slot=_slot(boot, "slot", path),
        chosen=_slot(boot, "chosen", path),
        events=events,
        pcrs={
            _bank(bank, f"{path}.pcrs"): {
                _pcr(pcr, f"{path}.pcrs.{bank}"): _digest(bank, value, f"{path}.pcrs.{bank}")
                for pcr, value in _dictionary(values, f"{path}.pcrs.{bank}").items()
            }
            for bank, values in _member(boot, "pcrs", dict, path).items()
        },
        unknown={_pcr(pcr, f"{path}.unknown"): why for pcr, why in unknown.items()},
    )


def _event(event: Mapping[str, Any], path: str) -> PredictedEvent:
    number = _member(event, "type", int, path)
    if not 0 <= number <= 0xFFFFFFFF:
        raise FormatError("expected a TCG_EVENTTYPE", path=f"{path}.type")
    return PredictedEvent(
        pcr=_pcr(str(_member(event, "pcr", int, path)), f"{path}.pcr"),
        kind=_member(event, "kind", str, path),
        type=EventType(number),
        text=_member(event, "text", str, path).encode("utf-8", "backslashreplace"),
        digests={
            _bank(bank, f"{path}.digests"): _digest(bank, value, f"{path}.digests.{bank}")
            for bank, value in _member(event, "digests", dict, path).items()
        },
    )


def _member(holder: Mapping[str, Any], name: str, kind: type, path: str) -> Any:
    value = holder.get(name)
    if type(value) is not kind:
        raise FormatError(f"expected a member of type {kind.__name__}", path=f"{path}.{name}")
    return value


def _list(holder: Mapping[str, Any], name: str, path: str) -> list[Mapping[str, Any]]:
    return [_dictionary(item, f"{path}.{name}[{i}]") for i, item in enumerate(_member(holder, name, list, path))]


def _dictionary(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError("expected an object", path=path)
    return value


def _slot(boot: Mapping[str, Any], name: str, path: str) -> str | None:
    value = boot.get(name)
    if value not in {None, "a", "b"}:
        raise FormatError("expected a, b or null", path=f"{path}.{name}")
    return value


def _bank(name: str, path: str) -> str:
    if name not in ALGORITHMS_BY_NAME:
        raise FormatError(f"there is no bank {name[:40]!r}", path=path)
    return name


def _pcr(number: str, path: str) -> int:
    if not (number.isascii() and number.isdigit() and len(number) <= 2 and int(number) < 24):
        raise FormatError("expected the number of a PCR", path=path)
    return int(number)


def _digest(bank: str, value: object, path: str) -> bytes:
    try:
        made = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        made = b""
    if len(made) != ALGORITHMS_BY_NAME[bank].size:
        raise FormatError(f"expected a digest of {bank} in hexadecimal digits", path=path)
    return made
