"""Logs whose quote somebody else verifies: what can be said of them when this library never sees the quote.

A verifier that hands over the log alone (Keylime's measured-boot modules get nothing else) has checked signature, nonce
and register values by its own rules. What follows here is conditional: *if* these registers hold what the log replays
to, then this is the verdict. :class:`measlog.VerifiedEvidence` cannot be had that way, and nothing here is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import final

from attrs import field, frozen

from measlog.appraisal.result import Verdict
from measlog.errors import ReplayError, SelectionError
from measlog.log import EventLog, JoinedLog
from measlog.replay.pcr import PCR_COUNT

__all__ = ["UnquotedLog", "UnquotedResult"]


@final
@frozen(kw_only=True)
class UnquotedLog:
    """A log, and the registers that the caller says hold what it replays to. It proves nothing of the kind.

    ``values`` are the replayed values of these registers, or their start values where the log is silent. There is no
    key, no nonce and no quote: whether the machine is the one that is meant, and whether it is in this state now, is
    for the caller to know.
    """

    log: EventLog
    bank: str
    values: Mapping[int, bytes] = field(repr=False)

    @classmethod
    def assume(cls, log: EventLog, *, bank: str, pcrs: Iterable[int]) -> UnquotedLog:
        """The log, with ``pcrs`` assumed to hold what it gives.

        Raises an :class:`~measlog.errors.EvidenceError` for what :meth:`measlog.Evidence.verify` would refuse too.
        """
        # 1. SHA-1 proves nothing any more, whoever compares it (A11).
        if bank == "sha1":
            raise SelectionError("the bank sha1 is not accepted", check="bank")
        # 2. Registers that exist.
        assumed = sorted(set(pcrs))
        beyond = [pcr for pcr in assumed if not 0 <= pcr < PCR_COUNT]
        if beyond:
            raise SelectionError(f"there is no PCR {beyond[0]}", check="selection")
        # 3. A TPM's log (A39), and a whole one (A36, A37).
        if log.kind == "ccel":
            raise ReplayError("the log is a CCEL: its registers are RTMRs, which no TPM quotes", check="log-kind")
        if not log.complete:
            raise ReplayError("the log is followed by bytes that are neither events nor filler", check="log-incomplete")
        # 4. The log speaks of at least one of the registers, in this bank (A9, A41).
        bank_values = log.replay(bank)
        if not any(pcr in bank_values for pcr in assumed):
            raise ReplayError(f"the log explains none of the {bank} registers", check="nothing-compared")
        values = {pcr: bank_values[pcr] if pcr in bank_values else bank_values.reset_value(pcr) for pcr in assumed}
        return cls(log=log, bank=bank, values=MappingProxyType(values))

    @property
    def joined(self) -> JoinedLog:
        """The log alone: nothing is known of what the running system recorded."""
        return JoinedLog(firmware=self.log)

    @property
    def open_ended(self) -> frozenset[int]:
        """None: no register is known to hold anything but what the log gives."""
        return frozenset()

    @property
    def unexplained(self) -> tuple[int, ...]:
        """None: every value was computed from the log."""
        return ()


@frozen(kw_only=True)
class UnquotedResult(Verdict):
    """The verdict on an unquoted log: of another type than :class:`measlog.AppraisalResult`, so that nobody mixes them.

    ``assumed`` are the registers that the verdict takes on trust from the caller.
    """

    assumed: tuple[int, ...]
