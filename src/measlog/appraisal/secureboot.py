"""The state of Secure Boot as PCR 7 tells it, from authenticated bytes only.

Source: TCG PC Client Platform Firmware Profile 1.06 (PFP), clauses 3.3.4.8 (PCR 7) and 10.2.6; UEFI 2.10, clause 3.3;
shim's README.tpm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from attrs import Factory, define, frozen

from measlog.appraisal.rules.boundaries import separator_digests
from measlog.records.signature_list import SignatureLists
from measlog.records.variable import BareCertificate, Flag, SbatLevel, VariableData
from measlog.registry import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE, SHIM_LOCK, EventType

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.records.signature_list import SignatureData, SignatureList

__all__ = ["Authority", "Problem", "SecureBootState", "read_state"]

VariableId = tuple[UUID, str]

_SECURE_BOOT: VariableId = (EFI_GLOBAL_VARIABLE, "SecureBoot")
_DB: VariableId = (EFI_IMAGE_SECURITY_DATABASE, "db")
_DBX: VariableId = (EFI_IMAGE_SECURITY_DATABASE, "dbx")
# The order in which the firmware measures them (PFP 3.3.4.8); those after dbx may be missing.
_CONFIGURATION: tuple[VariableId, ...] = (
    _SECURE_BOOT,
    (EFI_GLOBAL_VARIABLE, "PK"),
    (EFI_GLOBAL_VARIABLE, "KEK"),
    _DB,
    _DBX,
    (EFI_IMAGE_SECURITY_DATABASE, "dbt"),
    (EFI_IMAGE_SECURITY_DATABASE, "dbr"),
    (EFI_GLOBAL_VARIABLE, "AuditMode"),
    (EFI_GLOBAL_VARIABLE, "DeployedMode"),
    (EFI_GLOBAL_VARIABLE, "SetupMode"),
)
_MANDATORY = 5
DEBUG_MODE = b"UEFI Debug Mode"
DMA_DISABLED = b"DMA Protection Disabled"


@frozen(kw_only=True)
class Problem:
    """Something in PCR 7 that a sound firmware and shim do not measure."""

    code: str
    message: str
    event: int | None = None


@frozen(kw_only=True)
class Authority:
    """An EV_EFI_VARIABLE_AUTHORITY event: what verified an image, or what shim was told."""

    measured: Measured
    variable: VariableData
    early: bool = False
    """Whether it stands before the separator, which some firmware measures only at the hand-over (Q9)."""

    @property
    def id(self) -> VariableId:
        """Vendor GUID and name."""
        return self.variable.guid, self.variable.name


@define(kw_only=True)
class SecureBootState:
    """What PCR 7 says. ``problems`` lists what could not be explained; a state with problems proves nothing."""

    variables: dict[VariableId, VariableData] = Factory(dict)
    authorities: list[Authority] = Factory(list)
    actions: list[tuple[str, Measured]] = Factory(list)
    """``debug`` and ``dma``: actions that weaken the platform."""
    problems: list[Problem] = Factory(list)
    explained: list[int] = Factory(list)
    quirks: set[str] = Factory(set)

    @property
    def enabled(self) -> bool | None:
        """Whether ``SecureBoot`` was exactly 1 or exactly 0; ``None`` where it is neither or not measured."""
        return self.flag(_SECURE_BOOT)

    def flag(self, variable: VariableId) -> bool | None:
        """The value of a variable of one byte, ``None`` where it is not measured or no such byte."""
        found = self.variables.get(variable)
        return found.decoded.value if found is not None and isinstance(found.decoded, Flag) else None

    def mode(self, name: Literal["AuditMode", "DeployedMode", "SetupMode"]) -> bool | None:
        """A mode of the firmware's Secure Boot, where it is measured."""
        return self.flag((EFI_GLOBAL_VARIABLE, name))

    def lists(self, variable: VariableId) -> tuple[SignatureList, ...]:
        """The signature lists of a database; none where it is empty or absent."""
        found = self.variables.get(variable)
        return tuple(found.decoded) if found is not None and isinstance(found.decoded, SignatureLists) else ()

    def signatures(self, variable: VariableId) -> Iterator[tuple[SignatureList, SignatureData]]:
        """Each signature of a database with the list that it stands in."""
        for signatures in self.lists(variable):
            for signature in signatures.signatures:
                yield signatures, signature

    @property
    def sbat_level(self) -> Mapping[str, int] | None:
        """The generations that shim demanded, by component; ``None`` where shim measured none."""
        for authority in self.authorities:
            if authority.id == (SHIM_LOCK, "SbatLevel") and isinstance(authority.variable.decoded, SbatLevel):
                return authority.variable.decoded.generations
        return None

    @property
    def shim_validation(self) -> bool:
        """False where shim was told not to verify what it starts (``MokSBState`` is 1)."""
        return not any(
            authority.id == (SHIM_LOCK, "MokSBState") and authority.variable.value != b"\x00"
            for authority in self.authorities
        )

    def problem(self, code: str, message: str, event: int | None = None) -> None:
        """Write down a problem."""
        self.problems.append(Problem(code=code, message=message, event=event))


def read_state(case: Case) -> SecureBootState:
    """Read PCR 7 from its first event to its last; each must be explained (A1, A28, A29)."""
    state = SecureBootState()
    separators, _ = separator_digests(case)
    position, closed = 0, False
    for measured in case.history(7):
        event = measured.event
        number = measured.index
        if measured.digest in separators:
            closed = True
            state.explained.append(number)
        elif event.type == EventType.EV_EFI_VARIABLE_DRIVER_CONFIG:
            variable = _authenticated(case, measured, state)
            if variable is None:
                continue
            position = _configuration(state, variable, position, number, closed=closed)
        elif event.type == EventType.EV_EFI_VARIABLE_AUTHORITY:
            variable = _authenticated(case, measured, state)
            if variable is not None:
                state.authorities.append(Authority(measured=measured, variable=variable, early=not closed))
                state.explained.append(number)
        elif measured.digest == case.digest(DEBUG_MODE):
            state.actions.append(("debug", measured))
            state.explained.append(number)
        elif measured.digest in {case.digest(DMA_DISABLED), case.digest(DMA_DISABLED + b"\x00")}:
            if measured.digest != case.digest(DMA_DISABLED):
                state.quirks.add("Q8")
            state.actions.append(("dma", measured))
            state.explained.append(number)
        else:
            state.problem("secureboot.unexplained", f"an event of type {event.type.name} in PCR 7", number)
    for guid, name in _CONFIGURATION[:_MANDATORY]:
        if (guid, name) not in state.variables:
            state.problem("secureboot.variable-missing", f"the variable {name} was never measured")
    return state


def _configuration(state: SecureBootState, variable: VariableData, position: int, number: int, *, closed: bool) -> int:
    """Take a configuration variable at its place; returns the place of the next."""
    key = (variable.guid, variable.name)
    if key in state.variables:
        state.problem("secureboot.variable-repeated", f"the variable {variable.name} is measured twice", number)
        return position
    if key not in _CONFIGURATION:
        state.problem(
            "secureboot.variable-unknown", f"{variable.name!r} of {variable.guid} is no variable of PCR 7", number
        )
        return position
    place = _CONFIGURATION.index(key)
    if place < position:
        state.problem("secureboot.variable-order", f"the variable {variable.name} is measured out of order", number)
    if closed:
        state.problem("secureboot.variable-late", f"{variable.name} is measured behind the separator", number)
    state.variables[key] = variable
    state.explained.append(number)
    if key == _SECURE_BOOT and not isinstance(variable.decoded, Flag):
        state.problem("secureboot.value", f"SecureBoot is {variable.value.hex() or 'empty'}, not 00 or 01", number)
    return place + 1


def _authenticated(case: Case, measured: Measured, state: SecureBootState) -> VariableData | None:
    """The variable, if the digest covers name, GUID and value; quirks that leave a byte out are written down (A47)."""
    event = measured.event
    record = event.data
    check = event.check(case.bank)
    if not isinstance(record, VariableData):
        state.problem("secureboot.undecodable", "the event holds no UEFI_VARIABLE_DATA", event.index)
        return None
    if check.status != "matches":
        state.problem("secureboot.digest", f"the digest is not that of the variable {record.name!r}", event.index)
        return None
    end = len(event.raw)
    if isinstance(record.decoded, BareCertificate):
        # Behind the certificate shim logs a byte that it does not hash (Q31).
        end = record.spans["value"][0] + len(record.decoded.der)
    if not any(a == 0 and b >= end for a, b in check.covered):
        state.problem(
            "secureboot.unauthenticated",
            f"the digest does not cover name and GUID of the variable {record.name!r} ({check.quirk or check.rule})",
            event.index,
        )
        return None
    if record.trailing:
        state.problem("secureboot.trailing", f"bytes follow the variable {record.name!r}", event.index)
        return None
    if check.quirk is not None:
        state.quirks.add(check.quirk)
    return record
