"""What a machine's log says of the platform, for boots of it that are to come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from measlog.errors import UnsupportedError
from measlog.flatcar.boot import PredictedEvent
from measlog.log import Event, EventLog
from measlog.records.variable import VariableData
from measlog.reference.manifest import BANKS
from measlog.registry import ALGORITHMS_BY_NAME, EFI_GLOBAL_VARIABLE, EventType

__all__ = ["RUNNING_SYSTEM", "authorities", "banks_of", "moves_between", "platform_event", "secure_boot_of", "staying"]

RUNNING_SYSTEM = "written by the running system"


def banks_of(log: EventLog) -> tuple[str, ...]:
    """The banks that a prediction from the log can have; UnsupportedError for a log that is not crypto-agile."""
    if log.kind != "crypto-agile":
        raise UnsupportedError(f"boots are predicted from crypto-agile logs, this is {log.kind}")
    return tuple(bank for bank in log.algorithms if bank in BANKS)


def secure_boot_of(log: EventLog) -> bool:
    """The Secure Boot state; UnsupportedError where the log does not tell it."""
    for event in log:
        if event.pcr == 7 and event.type == EventType.EV_EFI_VARIABLE_DRIVER_CONFIG:
            data = event.data
            if isinstance(data, VariableData) and (data.guid, data.name) == (EFI_GLOBAL_VARIABLE, "SecureBoot"):
                return data.value == b"\x01"
    raise UnsupportedError("the log does not tell the Secure Boot state")


def authorities(log: EventLog) -> set[bytes]:
    """SHA-256 of the certificates that verified something."""
    found: set[bytes] = set()
    for event in log:
        if (
            event.pcr == 7
            and event.type == EventType.EV_EFI_VARIABLE_AUTHORITY
            and isinstance(event.data, VariableData)
        ):
            value = event.data.value
            # EFI_SIGNATURE_DATA is an owner and the certificate; shim may give the bare certificate.
            found |= {sha256(value).digest(), sha256(value[16:]).digest(), sha256(value[:-1]).digest()}
    return found


def platform_event(event: Event, banks: Iterable[str]) -> PredictedEvent:
    """An event that the next boot makes again as it is in the log."""
    assert event.pcr is not None
    return PredictedEvent(
        pcr=event.pcr,
        kind="platform",
        type=event.type,
        text=b"",
        data=event.raw,
        digests={bank: event.digests[bank] for bank in banks if bank in event.digests},
    )


def staying(
    log: EventLog, banks: Iterable[str], pcrs: Iterable[int], unknown: Mapping[int, str]
) -> dict[str, dict[int, bytes]]:
    """Those of ``pcrs`` that are not ``unknown``, as the log leaves them, by bank: zero where nothing extends them."""
    wanted = [pcr for pcr in pcrs if pcr not in unknown]
    made = {}
    for bank in banks:
        values = log.replay(bank)
        made[bank] = {pcr: values.get(pcr, bytes(ALGORITHMS_BY_NAME[bank].size)) for pcr in wanted}
    return made


def moves_between(before: Mapping[int, bytes], after: Mapping[int, bytes], why: Mapping[int, str]) -> dict[int, str]:
    """Register by register: whether it moves, and why. A register that nothing extended before was zero."""
    return {
        pcr: f"{'stays' if before.get(pcr, bytes(len(value))) == value else 'changes'}: {why.get(pcr, '')}"
        for pcr, value in after.items()
    }
