"""The firmware's log and what the running system measured behind it, as one history of each register.

The firmware's log ends when the boot services are left (TCG PC Client Platform Firmware Profile 1.06, clause 8.2), so
what it says of a register comes before all that the running system extends. Further logs are handed over as records
that know their register, their digests and a text; who reads them is of no concern here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self, overload

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import ReplayError
from measlog.formats.cursor import decode_text, encode_text
from measlog.log.event import Event
from measlog.log.eventlog import EventLog, ReplayedLog, compare_registers
from measlog.registry import ALGORITHMS_BY_NAME, EventType, Register, hash_constructor
from measlog.replay.pcr import Bank

if TYPE_CHECKING:
    from measlog.records.base import Text
    from measlog.replay.digests import DigestCheck

__all__ = ["SYSTEM_PCRS", "UNTYPED", "FurtherEvent", "FurtherRecord", "JoinedLog"]

SYSTEM_PCRS = frozenset({9, 10, 11, 12, 13, 15, 16, 23})
"""PCRs that a running system may say it extended. In all others an extension of its own would look like the firmware's."""

UNTYPED = EventType(0xFFFFFFFF)
"""The type of an event that no firmware recorded: TCG_EVENTTYPE is the firmware's, and has no such number."""


class FurtherRecord(Protocol):
    """A record of a log that the running system keeps.

    ``digests`` are those that were extended, by algorithm; ``text`` says what was measured, and is hostile.
    """

    @property
    def register(self) -> Register:
        """What was extended: a PCR, or (kind ``none``) something else that no quote of PCRs covers."""

    @property
    def digests(self) -> Mapping[str, bytes]:
        """The digests that were extended, by the name of the algorithm."""

    @property
    def text(self) -> str:
        """What was measured, for people."""


@frozen(kw_only=True, slots=False)
class FurtherEvent(Event):
    """An event of a further log in a joined history.

    ``source`` names the log and ``offset`` is the record's place in it, counted from 0. ``index`` is the place in the
    joined history; ``raw`` is the text in UTF-8. The type is :data:`UNTYPED`.
    """

    source: str = field(validator=instance_of(str))

    @property
    def text(self) -> str:
        """What the record says was measured."""
        return decode_text(self.raw)

    @cached_property
    def data(self) -> Text:
        """The text: a further log has no event data."""
        from measlog.records.base import Text  # noqa: PLC0415 - loaded when asked for, as in Event

        return Text(text=self.text, spans={"text": (0, len(self.raw))})

    def check(self, algorithm: str) -> DigestCheck:
        """``matches`` where the digest is that of the text, else ``not_derivable``: a record need not hold what was hashed."""
        from measlog.replay.digests import DigestCheck  # noqa: PLC0415 - as above

        digest, new = self.digests.get(algorithm), hash_constructor(algorithm)
        if digest is None:
            return DigestCheck(status="no_digest")
        if new is not None and new(self.raw).digest() == digest:
            return DigestCheck(status="matches", rule="text", covered=((0, len(self.raw)),))
        return DigestCheck(status="not_derivable")


@frozen(kw_only=True)
class JoinedLog(Sequence[Event]):
    """One history: the events of ``firmware``, then those of further logs. Anybody's bytes: reading it proves nothing."""

    firmware: EventLog = field(validator=instance_of(EventLog))
    further: tuple[FurtherEvent, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, firmware: EventLog, further: Mapping[str, Iterable[FurtherRecord]]) -> Self:
        """Join logs; ``further`` maps the name of each source to its records, in the order in which they were extended.

        Raises :class:`~measlog.errors.ReplayError` for a record that cannot have been extended behind the firmware's
        events, or whose place among those of another source nobody knows.
        """
        events: list[FurtherEvent] = []
        owners: dict[int, str] = {}
        for source, records in further.items():
            for place, record in enumerate(records):
                _check(firmware, source, place, record, owners)
                events.append(
                    FurtherEvent(
                        index=len(firmware) + len(events),
                        offset=place,
                        register=record.register,
                        type=UNTYPED,
                        digests=dict(record.digests),
                        raw=encode_text(record.text),
                        source=source,
                    )
                )
        return cls(firmware=firmware, further=tuple(events))

    def __len__(self) -> int:
        return len(self.firmware) + len(self.further)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        number = index + len(self) if index < 0 else index
        if number < len(self.firmware):
            return self.firmware[number] if number >= 0 else self.firmware[index]
        return self.further[number - len(self.firmware)]

    def __iter__(self) -> Iterator[Event]:
        yield from self.firmware
        yield from self.further

    def history(self, register: Register) -> tuple[Event, ...]:
        """The events that were extended into a register, in order."""
        return tuple(e for e in self if e.register == register and e.type != EventType.EV_NO_ACTION)

    def replay(self, algorithm: str) -> Bank:
        """The register values that follow from all logs together in one bank.

        Raises :class:`~measlog.errors.ReplayError` as :meth:`EventLog.replay` does, and where a record of a further
        log lacks the bank's digest.
        """
        bank = self.firmware.replay(algorithm)
        if not self.further:
            return bank
        new = hash_constructor(algorithm)
        assert new is not None  # the firmware's log was replayed in it
        values = dict(bank)
        for event in self.further:
            if event.pcr is None:
                continue
            digest = event.digests.get(algorithm)
            if digest is None:
                raise ReplayError(f"{_place(event)}: no digest for {algorithm}", check="digest-missing")
            before = values.get(event.pcr, bank.reset_value(event.pcr))
            values[event.pcr] = new(before + digest).digest()
        return Bank(algorithm=algorithm, kind=bank.kind, values_by_index=dict(sorted(values.items())))

    def verify_pcrs(self, algorithm: str, values: Mapping[int, bytes]) -> ReplayedLog:
        """As :meth:`EventLog.verify_pcrs`, with all logs together."""
        bank = self.replay(algorithm)
        compare_registers(bank, values)
        return ReplayedLog._proven(self.firmware, bank, values, self.further)  # noqa: SLF001 - as EventLog does


def _place(event: FurtherEvent) -> str:
    return f"{event.source}[{event.offset}]"


def _check(firmware: EventLog, source: str, place: int, record: FurtherRecord, owners: dict[int, str]) -> None:
    where = f"{source}[{place}]"
    # 1. A CCEL's registers are RTMRs, and its Linux measures into no PCR (A39).
    if firmware.kind == "ccel":
        raise ReplayError(f"{where}: a CCEL cannot be joined with a log about PCRs", check="further-log")
    # 2. The register is one that the firmware leaves to the system: nothing is passed off as the firmware's (A7, A38).
    register = record.register
    if register.kind == "pcr" and register.index not in SYSTEM_PCRS:
        raise ReplayError(
            f"{where}: PCR {register.index} is not one that the running system extends", check="further-register"
        )
    if register.kind not in {"pcr", "none"}:
        raise ReplayError(f"{where}: no register of a TPM: {register}", check="further-register")
    # 3. One source for each register: in which order two of them extended it is recorded nowhere (A38).
    if register.kind == "pcr" and owners.setdefault(register.index, source) != source:
        raise ReplayError(
            f"{where}: {owners[register.index]} claims PCR {register.index} too, and their order is not known",
            check="further-register",
        )
    # 4. Each digest has its algorithm's length, so that it is taken for no other's (A18, A20).
    for name, digest in record.digests.items():
        known = ALGORITHMS_BY_NAME.get(name)
        if known is not None and len(digest) != known.size:
            raise ReplayError(f"{where}: a {name} digest of {len(digest)} bytes", check="further-digest")
