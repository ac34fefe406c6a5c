"""Registers: their start values and the extend operation, folded over the events of a log.

Source: TCG PC Client Platform TPM Profile 1.05, clause 4.6 (start values, resettable registers); TCG PC Client
Platform Firmware Profile 1.06 (PFP), clauses 3.3.2 and 10.4.5.3 (startup locality, H-CRTM).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from attrs import field, frozen

from measlog.errors import ReplayError
from measlog.formats.framing import Row
from measlog.registry import ALGORITHMS_BY_NAME, EventType, hash_constructor

__all__ = [
    "PCR_COUNT",
    "RESETTABLE_PCRS",
    "STARTUP_LOCALITIES",
    "STARTUP_LOCALITY",
    "Bank",
    "Chains",
    "LocalityProblem",
    "replay_bank",
    "start_value",
    "startup_locality",
]

PCR_COUNT = 24
"""A PC client TPM has PCR 0 to 23."""

RESETTABLE_PCRS = frozenset({16, 17, 18, 19, 20, 21, 22, 23})
"""PCR 16 and 23 can be reset by anyone, 17 to 22 by a dynamic launch: none of them is evidence of the boot."""

_DYNAMIC = range(17, 23)
_RTMR_COUNT = 4
_NO_ACTION = EventType.EV_NO_ACTION.value
_HCRTM = EventType.EV_EFI_HCRTM_EVENT.value
STARTUP_LOCALITY = b"StartupLocality\0"
_MAY_STATE = frozenset({_NO_ACTION, _HCRTM})
STARTUP_LOCALITIES = frozenset({0, 3, 4})
_LOCALITY_HCRTM = 4


def _read_only(values: Mapping[int, bytes]) -> Mapping[int, bytes]:
    return MappingProxyType(dict(values))


@frozen(kw_only=True)
class Bank(Mapping[int, bytes]):
    """Register values of one bank as a log gives them: exactly the registers that the log says something about.

    Keys are PCR indices, or RTMR indices where ``kind`` is ``rtmr``; values have the size of the algorithm's digest.
    """

    algorithm: str
    kind: Literal["pcr", "rtmr"]
    values_by_index: Mapping[int, bytes] = field(repr=False, converter=_read_only)
    """Read-only, so that nobody changes what a log was found to say."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_bank, (self.algorithm, self.kind, dict(self.values_by_index))

    def __getitem__(self, index: int) -> bytes:
        return self.values_by_index[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self.values_by_index)

    def __len__(self) -> int:
        return len(self.values_by_index)

    @property
    def unmeasured(self) -> tuple[int, ...]:
        """The registers that no event of the log extends or sets, ascending."""
        count = PCR_COUNT if self.kind == "pcr" else _RTMR_COUNT
        return tuple(i for i in range(count) if i not in self.values_by_index)

    def reset_value(self, index: int) -> bytes:
        """The value that a register of this bank has when nothing was extended into it."""
        # RTMRs start at zero, as PCRs with their numbers do.
        return start_value(index, ALGORITHMS_BY_NAME[self.algorithm].size)


def _rebuild_bank(algorithm: str, kind: Literal["pcr", "rtmr"], values: Mapping[int, bytes]) -> Bank:
    return Bank(algorithm=algorithm, kind=kind, values_by_index=values)


@frozen
class LocalityProblem:
    """Why a log's statement about the startup locality cannot be believed; ``event`` is the index of the event."""

    event: int
    message: str


def start_value(pcr: int, size: int, *, locality: int = 0, launched: bool = False) -> bytes:
    """The value of a PCR before its first extend, ``size`` bytes long.

    ``locality`` is that of TPM2_Startup, or 4 after an H-CRTM, and shows in PCR 0 only. PCR 17 to 22 start at all
    ones and are set to zero by a dynamic launch (``launched``).
    """
    if pcr == 0:
        return locality.to_bytes(size, "big")
    return b"\xff" * size if pcr in _DYNAMIC and not launched else bytes(size)


def startup_locality(data: bytes, rows: Iterable[Row]) -> tuple[int | None, LocalityProblem | None]:
    """The start of PCR 0 that the log states, ``None`` where it states nothing, and what is wrong with the statement.

    A StartupLocality event counts once, in PCR 0, with zero digests, before anything is extended into PCR 0; an H-CRTM
    event stands for locality 4 and must be the first extend (PFP 10.4.5.3, 3.3.2).
    """
    locality: int | None = None
    extended = False
    rows = tuple(rows)
    # Most logs state nothing: they are told at a glance.
    if not [row for row in rows if row[2] in _MAY_STATE and _may_state(data, row)]:
        return None, None
    for number, row in enumerate(rows):
        if row.type == _NO_ACTION:
            if data[row.data_start : row.data_start + 16] != STARTUP_LOCALITY:
                continue
            problem = _locality_problem(data, row, repeated=locality is not None, late=extended)
            if problem is not None:
                return locality, LocalityProblem(number, problem)
            locality = data[row.data_start + 16]
        elif row.register == 0:
            if row.type == _HCRTM and not extended:
                if locality not in {None, _LOCALITY_HCRTM}:
                    return locality, LocalityProblem(
                        number, f"an H-CRTM event, which starts PCR 0 at 4, contradicts the startup locality {locality}"
                    )
                locality = _LOCALITY_HCRTM
            extended = True
    return locality, None


def _may_state(data: bytes, row: Row) -> bool:
    return row.type == _HCRTM or data.startswith(STARTUP_LOCALITY, row.data_start)


def _locality_problem(data: bytes, row: Row, *, repeated: bool, late: bool) -> str | None:
    if row.register != 0:
        return f"StartupLocality is recorded for register {row.register} instead of PCR 0"
    if row.data_end - row.data_start != 17:
        return f"StartupLocality has {row.data_end - row.data_start} bytes instead of 17"
    if any(d is not None and any(d) for d in row.digests):
        return "StartupLocality has a digest that is not zero"
    if repeated:
        return "the startup locality is stated a second time"
    if late:
        return "the startup locality is stated after PCR 0 was extended"
    if data[row.data_start + 16] not in STARTUP_LOCALITIES:
        return f"the startup locality {data[row.data_start + 16]} does not exist"
    return None


@frozen(kw_only=True)
class Chains:
    """What a log extends each register with, in order: sorted out once, the same for every bank.

    Registers are numbered as the log numbers them: by MR index in a CCEL.
    """

    kind: Literal["pcr", "rtmr"]
    rows: Sequence[Row] = field(repr=False)
    digests: Mapping[int, Sequence[tuple[bytes | None, ...]]] = field(repr=False)
    """By register, ascending: those of each event, in the order of the log's algorithms."""
    start: tuple[int | None, LocalityProblem | None]
    """What the log says of where PCR 0 starts."""

    @classmethod
    def of(cls, data: bytes, rows: Sequence[Row], kind: Literal["pcr", "rtmr"]) -> Chains:
        """Sort the events of a log by register, without those that extend none."""
        limit = _limit(kind)
        found: defaultdict[int, list[tuple[bytes | None, ...]]] = defaultdict(list)
        for row in rows:
            register = row[1]
            if register < limit and row[2] != _NO_ACTION:
                found[register].append(row[3])
        start = startup_locality(data, rows) if kind == "pcr" else (None, None)
        return cls(kind=kind, rows=rows, digests=dict(sorted(found.items())), start=start)


def replay_bank(chains: Chains, *, algorithm: str, column: int) -> Bank:
    """Fold the events of one bank into register values; ``column`` is the bank's place in each event's digests.

    Raises :class:`~measlog.errors.ReplayError` where an event lacks the bank's digest (the register's value cannot be
    known then), where the startup locality is not credible, or where this Python cannot compute the hash.
    """
    new = hash_constructor(algorithm)
    if new is None:
        raise ReplayError(f"this Python cannot compute {algorithm}", check="algorithm")
    size = ALGORITHMS_BY_NAME[algorithm].size
    states: dict[int, bytes] = {}
    locality, problem = chains.start
    if problem is not None:
        raise ReplayError(f"events[{problem.event}]: {problem.message}", check="startup-locality")
    if locality is not None:
        states[0] = start_value(0, size, locality=locality)
    zero = bytes(size)
    for register, chain in chains.digests.items():
        # PCR 17 to 22 start at zero too: only a dynamic launch, which sets them to zero, can write to them.
        state = states.get(register, zero)
        for digests in chain:
            digest = digests[column]
            if digest is None:
                raise _digest_missing(chains, algorithm, column)
            state = new(state + digest).digest()
        states[register] = state
    if chains.kind == "rtmr":
        states.pop(0, None)  # MRTD is measured by the TDX module at build time; no event extends it
        states = {index - 1: value for index, value in states.items()}
    return Bank(algorithm=algorithm, kind=chains.kind, values_by_index=states)


def _limit(kind: Literal["pcr", "rtmr"]) -> int:
    return PCR_COUNT if kind == "pcr" else _RTMR_COUNT + 1


def _digest_missing(chains: Chains, algorithm: str, column: int) -> ReplayError:
    """Names the first event that extends a register and lacks the digest."""
    limit = _limit(chains.kind)
    number = next(
        number
        for number, row in enumerate(chains.rows)
        if row.register < limit and row.type != _NO_ACTION and row.digests[column] is None
    )
    return ReplayError(f"events[{number}]: the event has no digest for {algorithm}", check="digest-missing")
