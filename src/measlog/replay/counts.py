"""How many digests of a log follow from their data, by event type, kind of register and rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.registry import EventType, Register, RegisterKind
from measlog.replay.digests import DigestCheck, Status

__all__ = ["CheckCount", "CheckedEvent", "count_checks"]


class CheckedEvent(Protocol):
    """What is counted: a :class:`measlog.log.Event`."""

    @property
    def type(self) -> EventType:
        """TCG_EVENTTYPE."""

    @property
    def register(self) -> Register:
        """What the event extends."""

    @property
    def digests(self) -> Mapping[str, bytes]:
        """Digests by algorithm name."""

    def check(self, algorithm: str) -> DigestCheck:
        """Whether the digest of one bank follows from the data."""


@frozen(kw_only=True, order=True)
class CheckCount:
    """So many events of a type, extended into one kind of register, gave the same answer.

    ``banks_agree`` is false for events whose banks gave different answers; these are counted under the first bank's.
    """

    type: EventType = field(validator=instance_of(EventType))
    register_kind: RegisterKind
    status: Status
    rule: str = ""
    quirk: str = ""
    banks_agree: bool = True
    events: int = field(validator=instance_of(int))


def count_checks(events: Iterable[CheckedEvent]) -> tuple[CheckCount, ...]:
    """The counts over one log, or over the events of many; sorted by type, register kind, status and rule.

    An event without any digest (the Spec ID event) counts as ``not_extended`` if it is EV_NO_ACTION, else as
    ``no_digest``.
    """
    counts: Counter[tuple[EventType, RegisterKind, Status, str, str, bool]] = Counter()
    for event in events:
        answers = [event.check(name) for name in event.digests]
        if answers:
            first = answers[0]
        elif event.type is EventType.EV_NO_ACTION:
            first = DigestCheck(status="not_extended")
        else:
            first = DigestCheck(status="no_digest")
        same = all((one.status, one.rule) == (first.status, first.rule) for one in answers)
        counts[event.type, event.register.kind, first.status, first.rule or "", first.quirk or "", same] += 1
    return tuple(
        sorted(
            CheckCount(
                type=kind,
                register_kind=register,
                status=status,
                rule=rule,
                quirk=quirk,
                banks_agree=same,
                events=number,
            )
            for (kind, register, status, rule, quirk, same), number in counts.items()
        )
    )
