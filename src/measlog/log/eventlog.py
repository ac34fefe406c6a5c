"""The event log as its users hold it, and the proof that it agrees with register values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NoReturn, Self, final, overload

from attrs import field, frozen

from measlog.errors import ReplayError
from measlog.formats.framing import SPEC_ID_03, Frame, Row, frame_log
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.log.event import Event
from measlog.registry import ALGORITHMS_BY_NAME, EventType, Register, algorithm_name
from measlog.replay.pcr import PCR_COUNT, Bank, Chains, replay_bank, startup_locality

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from measlog.formats.framing import Filler, SpecIdHeader
    from measlog.log.joined import FurtherEvent, JoinedLog

__all__ = ["Anomaly", "EventLog", "ReplayedLog", "compare_registers"]

_NO_ACTION = EventType.EV_NO_ACTION.value
_NO_REGISTER = 0xFFFFFFFF
_RTMR_COUNT = 4


@frozen
class Anomaly:
    """Something that was read and kept, and that a sound log does not have. ``event`` is the event's index."""

    code: str
    event: int | None
    message: str


class EventLog(Sequence[Event]):
    """A TCG event log: SHA-1 format, crypto-agile format, or CCEL. Anybody's bytes: reading it proves nothing."""

    __slots__ = ("__dict__", "_banks", "_data", "_frame", "_limits", "_names")

    # The events follow from the bytes alone, here and when unpickled: nobody hands over another reading of them.
    def __init__(self, data: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
        self._data = data
        self._limits = limits
        self._frame: Frame = frame_log(data, limits)
        self._names = tuple(algorithm_name(alg) for alg in self._frame.algorithm_ids)
        self._banks: dict[str, Bank] = {}

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read a log.

        Raises :class:`~measlog.errors.FormatError` where the bytes are no log or end inside an event.

        TypeError for anything but bytes.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"a log is bytes, not {type(data).__name__}")
        return cls(bytes(data), limits)

    def to_bytes(self) -> bytes:
        """The bytes that were read, filler included."""
        return self._data

    @property
    def kind(self) -> Literal["sha1", "crypto-agile", "ccel"]:
        """The container: TCG_PCR_EVENT, TCG_PCR_EVENT2, or a TDX machine's CCEL."""
        return self._frame.kind

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The banks that the log declares, in the order of its Spec ID event."""
        return self._names

    @property
    def spec_id(self) -> SpecIdHeader | None:
        """The header of a crypto-agile log."""
        return self._frame.spec_id

    @property
    def filler(self) -> Filler | None:
        """Uniform bytes after the last event."""
        return self._frame.filler

    @property
    def complete(self) -> bool:
        """False when the events are followed by anything but uniform filler."""
        return self._frame.tail is None

    @cached_property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """What a sound log does not have, in the order of the events."""
        found = [Anomaly(*a) for a in self._frame.anomalies]
        found.extend(_anomalies(self._data, self._frame))
        return tuple(sorted(found, key=lambda a: (a.event is None, a.event or 0)))

    @property
    def rows(self) -> tuple[Row, ...]:
        """The framing of the events: offsets, numbers and digests without records, for code that must be fast."""
        return self._frame.rows

    def __len__(self) -> int:
        return len(self._frame.rows)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        if isinstance(index, slice):
            return tuple(self._event(i) for i in range(*index.indices(len(self))))
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"the log has {len(self)} events, there is no event {index}")
        return self._event(number)

    def __iter__(self) -> Iterator[Event]:
        return map(self._event, range(len(self)))

    def _event(self, number: int) -> Event:
        row = self._frame.rows[number]
        return Event(
            index=number,
            offset=row.offset,
            register=_register(self._frame.kind, row.register),
            type=EventType(row.type),
            digests={name: d for name, d in zip(self._names, row.digests, strict=True) if d is not None},
            raw=self._data[row.data_start : row.data_end],
        )

    def __eq__(self, other: object) -> bool:
        return self._data == other._data if isinstance(other, EventLog) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._data)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._data, self._limits)

    def __repr__(self) -> str:
        return f"<EventLog {self.kind}: {len(self)} events, {', '.join(self._names)}, {len(self._data)} bytes>"

    def __str__(self) -> str:
        from measlog.view.render import display_bank, log_page  # noqa: PLC0415 - presentation is loaded when asked for

        return log_page(self, self, display_bank(self.algorithms)).to_text()

    def _repr_html_(self) -> str:
        from measlog.view.notebook import log_html  # noqa: PLC0415 - presentation is loaded when asked for

        return log_html(self)

    def to_arrow(self, bank: str | None = None) -> pa.Table:
        """One row an event, as docs/columns.md describes. Needs the extra ``arrow``."""
        from measlog.view.frame import log_table  # noqa: PLC0415 - presentation is loaded when asked for

        return log_table(self, bank)

    def to_pandas(self, bank: str | None = None) -> pd.DataFrame:
        """The same, with dtypes that keep every Arrow type. Needs the extra ``pandas``."""
        from measlog.view.frame import log_pandas  # noqa: PLC0415 - presentation is loaded when asked for

        return log_pandas(self, bank)

    def to_polars(self, bank: str | None = None) -> pl.DataFrame:
        """The same for polars. Needs the extra ``polars``."""
        from measlog.view.frame import log_polars  # noqa: PLC0415 - presentation is loaded when asked for

        return log_polars(self, bank)

    def replay(self, algorithm: str) -> Bank:
        """The register values that follow from the log in one bank.

        Raises :class:`~measlog.errors.ReplayError` where the log does not carry the bank, an event lacks its digest,
        or the startup locality is not credible.
        """
        known = self._banks.get(algorithm)
        if known is not None:
            return known
        if algorithm not in self._names:
            raise ReplayError(
                f"the log has no {algorithm} digests, it has {', '.join(self._names)}", check="bank-missing"
            )
        if algorithm not in ALGORITHMS_BY_NAME:
            raise ReplayError(f"the algorithm {algorithm} is unknown, its bank cannot be replayed", check="algorithm")
        column = self._names.index(algorithm)
        bank = self._banks[algorithm] = replay_bank(self._chains, algorithm=algorithm, column=column)
        return bank

    @cached_property
    def _chains(self) -> Chains:
        return Chains.of(self._data, self._frame.rows, "rtmr" if self.kind == "ccel" else "pcr")

    def verify_pcrs(self, algorithm: str, values: Mapping[int, bytes]) -> ReplayedLog:
        """Compare the replayed registers with values read from the machine.

        Every register named in ``values`` must be what the log gives; one without events must be at its start value.
        Raises :class:`~measlog.errors.ReplayError`, which names each register that differs.
        """
        bank = self.replay(algorithm)
        compare_registers(bank, values)
        return ReplayedLog._proven(self, bank, values)  # noqa: SLF001 - the one place that makes it


def compare_registers(bank: Bank, values: Mapping[int, bytes]) -> None:
    """Raise :class:`~measlog.errors.ReplayError`, which names each register that is not as ``bank`` has it."""
    # 1. Something must be compared (A41: nothing passes because nothing was checked).
    if not values:
        raise ReplayError("no register values were given to compare the log with", check="nothing-compared")
    size = ALGORITHMS_BY_NAME[bank.algorithm].size
    count = PCR_COUNT if bank.kind == "pcr" else _RTMR_COUNT
    problems = []
    for index in sorted(values):
        value = values[index]
        name = f"{bank.kind.upper()} {index}"
        # 2. Index and length are those of the bank (A13, A18: no value is taken for another's).
        if not 0 <= index < count:
            problems.append(f"{name} does not exist")
        elif len(value) != size:
            problems.append(f"{name} is given with {len(value)} bytes, {bank.algorithm} has {size}")
        # 3. Each value is what the log replays to (A36), or the start value where the log is silent (A22).
        elif index in bank and bank[index] != value:
            problems.append(f"{name} is {value.hex()}, the log gives {bank[index].hex()}")
        elif index not in bank and bank.reset_value(index) != value:
            problems.append(f"{name} is {value.hex()}, but the log has no event for it")
    if problems:
        raise ReplayError(
            f"the log does not give the {bank.algorithm} registers: " + "; ".join(problems), check="replay"
        )


def _register(kind: str, index: int) -> Register:
    if kind != "ccel":
        return Register("pcr", index) if index < PCR_COUNT else Register("none", index)
    if index == 0:
        return Register("mrtd", 0)
    return Register("rtmr", index - 1) if index <= _RTMR_COUNT else Register("none", index)


def _anomalies(data: bytes, frame: Frame) -> Iterator[Anomaly]:
    known = PCR_COUNT if frame.kind != "ccel" else _RTMR_COUNT + 1
    for number, row in enumerate(frame.rows):
        # The trust point of a Windows log stands on register 0xFFFFFFFF and has a digest; it is never extended.
        if row.register >= known and not (row.register == _NO_REGISTER and row.type == _NO_ACTION):
            yield Anomaly("event.register", number, f"there is no register {row.register}")
        if row.type == _NO_ACTION and row.register != _NO_REGISTER:
            if number and any(d is not None and any(d) for d in row.digests):
                yield Anomaly("event.no-action-digest", number, "EV_NO_ACTION with a digest that is not zero")
            if number and data[row.data_start : row.data_start + 16] == SPEC_ID_03:
                yield Anomaly("event.second-spec-id", number, "a second Spec ID event")
        if row.type == EventType.EV_UNUSED:
            yield Anomaly("event.unused-type", number, "EV_UNUSED, which no log may contain")
    if frame.kind != "ccel":
        _, problem = startup_locality(data, frame.rows)
        if problem is not None:
            yield Anomaly("event.startup-locality", problem.event, problem.message)


_PROOF = object()


@final
@frozen(kw_only=True, init=False, eq=False, getstate_setstate=False)
class ReplayedLog:
    """A log that agrees with given register values. Only the ``verify_pcrs`` of event logs and joined logs makes one.

    It does not say where the values come from: that is what :class:`measlog.VerifiedEvidence` is for.
    """

    log: EventLog
    bank: Bank = field(repr=False)
    values: Mapping[int, bytes] = field(repr=False)
    """The register values that were given and found to agree, by index."""
    further: tuple[FurtherEvent, ...] = field(default=(), repr=False)
    """Events of further logs, which ``bank`` takes into account behind those of ``log``."""

    def __init__(
        self,
        *,
        log: EventLog,
        bank: Bank,
        values: Mapping[int, bytes],
        further: tuple[FurtherEvent, ...] = (),
        proof: object = None,
    ) -> None:
        if proof is not _PROOF:
            raise TypeError("a ReplayedLog is made by EventLog.verify_pcrs, not by hand")
        self.__attrs_init__(log=log, bank=bank, values=values, further=further)

    @classmethod
    def _proven(
        cls, log: EventLog, bank: Bank, values: Mapping[int, bytes], further: tuple[FurtherEvent, ...] = ()
    ) -> ReplayedLog:
        return cls(log=log, bank=bank, values=MappingProxyType(dict(values)), further=further, proof=_PROOF)

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("a ReplayedLog has no subclasses: they would be proofs of nothing")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ReplayedLog is not pickled: send the log and the values, and verify again")

    @property
    def joined(self) -> JoinedLog:
        """The history that was compared, further logs included."""
        from measlog.log.joined import JoinedLog  # noqa: PLC0415 - it knows event logs, not the reverse

        return JoinedLog(firmware=self.log, further=self.further)

    @property
    def algorithm(self) -> str:
        """The bank that was compared."""
        return self.bank.algorithm

    @property
    def unmeasured(self) -> tuple[int, ...]:
        """Registers that were compared and found at their start value, without any event that explains them."""
        return tuple(index for index in sorted(self.values) if index not in self.bank)
