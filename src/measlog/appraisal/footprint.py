"""What of a log can enter a verifier's verdict: the ground on which one verdict may stand for several machines.

Two machines whose quotes cover the same registers, and whose logs have the same footprint, get the same verdict. The
quote, its nonce and the registers are verified machine by machine all the same (A40): this is about what is concluded
from evidence that was verified.

A rule that is not known here makes the footprint the whole log. A rule that starts to look at more must say so here.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from measlog.appraisal.policy import UnsafeAcceptAll, leaves
from measlog.appraisal.rules.banks import ConsistentBanks, HashedData, MeasuredBank, SoundLog
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import (
    ERROR_SEPARATOR,
    EXIT_FAILURE,
    EXIT_INVOCATION,
    EXIT_SUCCESS,
    GOOD_SEPARATORS,
    HandOver,
    Separators,
)
from measlog.appraisal.rules.platform import OpenEnded, Platform, Untouched
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.appraisal.rules.unified import UnifiedBoot
from measlog.registry import hash_constructor
from measlog.replay.pcr import PCR_COUNT

if TYPE_CHECKING:
    from measlog.appraisal.verifier import Verifier
    from measlog.log import Event

__all__ = ["Footprint", "footprint"]

_BLIND = (SoundLog, MeasuredBank, ConsistentBanks, Untouched, OpenEnded, UnsafeAcceptAll)
"""Rules that look at no digest and no data of an ordinary event beyond what :class:`Footprint` keeps of each."""
_WHOLE: Mapping[type, frozenset[int]] = {
    SecureBoot: frozenset({4, 7}),
    BootPaths: frozenset({4, 8, 9, 14}),
    UnifiedBoot: frozenset({4, 8, 9, 11, 12, 13, 14}),
}


@frozen(kw_only=True)
class Footprint:
    """What a verdict in one bank rests on.

    Always: the Spec ID event, EV_NO_ACTION events with all they hold, and of each event its place, register and type.
    Of registers in ``whole``: all. Of other registers: whether the digest is one of ``telling`` (with the data then),
    whether digest and data fit together alike in all banks, and in registers of ``hashed`` whether they fit.
    """

    bank: str
    whole: frozenset[int]
    telling: Mapping[int, frozenset[bytes]] = field(repr=False)
    hashed: frozenset[int]

    def rest(self, event: Event) -> Hashable:
        """What an event of a register that is not among ``whole`` contributes, beside its place, register and type.

        Equal values enter every verdict alike.
        """
        assert event.pcr is not None
        digest = event.digests.get(self.bank)
        told = (digest, event.raw) if digest in self.telling.get(event.pcr, ()) else None
        mine = event.check(self.bank)
        apart: tuple[str, ...] = ()
        if mine.status in {"matches", "differs"}:
            checks = {other: event.check(other) for other in event.digests if other != self.bank}
            apart = tuple(o for o, c in checks.items() if (c.status, c.rule) != (mine.status, mine.rule))
        empty = tuple(bank for bank, value in event.digests.items() if not any(value))
        return told, mine.status if event.pcr in self.hashed else None, apart, empty


def footprint(verifier: Verifier, bank: str) -> Footprint | None:
    """What the verdicts of a verifier rest on, or ``None`` where that cannot be told: then on everything."""
    new = hash_constructor(bank)
    if new is None:
        return None
    whole: frozenset[int] = frozenset()
    hashed: frozenset[int] = frozenset()
    telling: dict[int, set[bytes]] = {pcr: set() for pcr in range(PCR_COUNT)}
    for rule in leaves(verifier.policy.rule):
        kind = type(rule)
        if kind in _WHOLE:
            whole |= _WHOLE[kind]
        elif isinstance(rule, HashedData) and kind is HashedData:
            hashed |= frozenset(rule.pcrs)
        elif kind is Separators:
            for pcr in range(8):
                telling[pcr] |= {new(data).digest() for data in (*GOOD_SEPARATORS, ERROR_SEPARATOR)}
        elif kind is HandOver:
            telling[5] |= {new(text).digest() for text in (EXIT_INVOCATION, EXIT_SUCCESS, EXIT_FAILURE)}
        elif isinstance(rule, Platform) and kind is Platform:
            for baseline in verifier.baselines:
                if baseline.bank == bank:
                    for pcr, sequences in baseline.histories.items():
                        telling[pcr] |= {digest for sequence in sequences for digest in sequence}
        elif kind not in _BLIND:
            return None
    return Footprint(
        bank=bank,
        whole=whole,
        telling={pcr: frozenset(digests) for pcr, digests in telling.items() if pcr not in whole},
        hashed=hashed - whole,
    )
