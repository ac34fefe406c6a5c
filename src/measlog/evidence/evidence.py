"""Log, quote and register values of one machine, and the proof that they belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, final

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import PcrDigestError, ReplayError, SelectionError
from measlog.evidence.keys import AkKey, AkTrust, AttestationKey
from measlog.evidence.quote import Quote
from measlog.log import EventLog, FurtherRecord, JoinedLog, ReplayedLog

if TYPE_CHECKING:
    from measlog.replay.pcr import Bank

__all__ = ["Evidence", "VerifiedEvidence"]


OPEN_ENDED_PCRS = frozenset({10, 11, 12, 13, 15})
"""PCRs that may be left to the running system: no firmware and no boot loader but a unified image's answers for them."""


def _records(further: Mapping[str, Iterable[FurtherRecord]]) -> Mapping[str, tuple[FurtherRecord, ...]]:
    return {source: tuple(records) for source, records in further.items()}


@frozen(kw_only=True)
class Evidence:
    """What a machine sent. ``pcrs`` are register values of the bank that is verified, by PCR index.

    They are needed where the quote covers registers that go on changing after the log was written (PCR 10, say).
    ``further`` are the logs that the running system keeps of its own measurements: the name of each source, and its
    records in order. They explain what was extended behind the firmware's log, and must fit the quote as it does.
    """

    log: EventLog = field(validator=instance_of(EventLog))
    quote: Quote = field(validator=instance_of(Quote))
    pcrs: Mapping[int, bytes] | None = field(default=None, repr=False)
    further: Mapping[str, Iterable[FurtherRecord]] = field(factory=dict, converter=_records, repr=False)

    def verify(
        self,
        *,
        ak: AkKey | AttestationKey | bytes,
        nonce: bytes,
        bank: str = "sha256",
        required: Sequence[int] | None = None,
        open_ended: Iterable[int] = (),
        unsafe_allow_sha1: bool = False,
    ) -> VerifiedEvidence:
        """Prove that a TPM with this key quoted registers to which this log replays, for this nonce.

        ``ak`` is a ``cryptography`` public key, PEM or TPM2B_PUBLIC; why it is trusted is the caller's to know.
        ``required`` are PCR indices that the quote must cover. ``open_ended`` are those that the running system goes on
        extending: where the logs do not give the value in ``pcrs``, the quote's is taken and nothing is proven of the
        register's events. Raises an :class:`~measlog.errors.EvidenceError` whose ``check`` names the step that failed.
        """
        # 1-3. Magic and type (when the quote was read), key attributes, signature, nonce (A14 to A17).
        key = self.quote.verify_signature(ak, nonce, unsafe_allow_sha1=unsafe_allow_sha1)
        # 4. The attested selection is what the verifier asked for (A10 to A13).
        selected = self.quote.verify_selection(bank, required, unsafe_allow_sha1=unsafe_allow_sha1)
        # 5. The log is whole: nothing after its events but filler (A36, A37), and a TPM's, not a CCEL (A39).
        if self.log.kind == "ccel":
            raise ReplayError("the log is a CCEL: its registers are RTMRs, which no TPM quotes", check="log-kind")
        if not self.log.complete:
            raise ReplayError("the log is followed by bytes that are neither events nor filler", check="log-incomplete")
        #    Further logs speak of registers that are the running system's, each of its own (A7, A38).
        joined = JoinedLog.of(self.log, self.further)
        # 6. Every quoted bank is in the log (A9: an unmeasured bank has no history, or any that somebody makes up).
        values: dict[str, Mapping[int, bytes]] = {}
        left: frozenset[int] = frozenset()
        given = {pcr: bytes(value) for pcr, value in (self.pcrs or {}).items()}
        for selection in self.quote.selections:
            if not selection.pcrs:
                continue
            if selection.algorithm not in self.log.algorithms:
                raise SelectionError(
                    f"the quote covers the bank {selection.algorithm}, of which the log has nothing", check="bank"
                )
            mine = selection.algorithm == bank
            replayed_bank = joined.replay(selection.algorithm)
            if mine:
                left = _left_open(replayed_bank, given, frozenset(open_ended))
            values[selection.algorithm] = _values(
                replayed_bank, selection.pcrs, given if mine else {}, left if mine else frozenset()
            )
        # 7. Given values are the quoted ones, so that a difference to the log can be named by register (A13).
        if set(selected) <= set(given):
            self.quote.verify_pcr_digest({**values, bank: given})
        # 8. The logs replay to the given values, register by register (A22, A36); open-ended ones prove nothing (A26).
        replayed = joined.verify_pcrs(bank, _to_compare(joined.replay(bank), selected, given, left))
        # 9. What the log replays to is what was signed (A36: no event is missing, added or changed).
        try:
            self.quote.verify_pcr_digest(values)
        except PcrDigestError as error:
            raise PcrDigestError(
                f"the log does not replay to the quoted registers: {error}", check=error.check
            ) from None
        return VerifiedEvidence._proven(  # noqa: SLF001 - the one place that makes it
            replayed=replayed, quote=self.quote, key=key, values=values[bank], open_ended=left
        )


def _left_open(replayed: Bank, given: Mapping[int, bytes], open_ended: frozenset[int]) -> frozenset[int]:
    """The open-ended registers whose given value the logs do not give."""
    wrong = sorted(open_ended - OPEN_ENDED_PCRS)
    if wrong:
        raise SelectionError(f"PCR {wrong[0]} cannot be open-ended", check="open-ended")
    return frozenset(pcr for pcr in open_ended if pcr in given and pcr in replayed and given[pcr] != replayed[pcr])


def _values(
    replayed: Bank, pcrs: Sequence[int], given: Mapping[int, bytes], left: frozenset[int]
) -> Mapping[int, bytes]:
    """The values that the quote should cover: the logs'; where they are silent or left open the given or the start value."""
    return {
        pcr: replayed[pcr] if pcr in replayed and pcr not in left else given.get(pcr, replayed.reset_value(pcr))
        for pcr in pcrs
    }


def _to_compare(
    replayed: Bank, selected: Sequence[int], given: Mapping[int, bytes], left: frozenset[int]
) -> Mapping[int, bytes]:
    """Values of the selected registers for the logs to agree with: given ones, where the logs have events."""
    explained = [pcr for pcr in selected if pcr in replayed and pcr not in left]
    if not explained:
        raise ReplayError(
            f"the log explains none of the quoted {replayed.algorithm} registers", check="nothing-compared"
        )
    return {pcr: given.get(pcr, replayed[pcr]) for pcr in explained}


_PROOF = object()


@final
@frozen(kw_only=True, init=False, eq=False, getstate_setstate=False)
class VerifiedEvidence:
    """Evidence whose quote was verified and whose log replays to it. Only :meth:`Evidence.verify` makes one."""

    replayed: ReplayedLog
    quote: Quote
    key: AttestationKey = field(repr=False)
    values: Mapping[int, bytes] = field(repr=False)
    """The quoted register values of the verified bank, by PCR index."""
    open_ended: frozenset[int] = field(default=frozenset(), repr=False)
    """Registers whose value is the quote's alone: the logs do not give it, and prove nothing of their events."""

    def __init__(
        self,
        *,
        replayed: ReplayedLog,
        quote: Quote,
        key: AttestationKey,
        values: Mapping[int, bytes],
        open_ended: frozenset[int] = frozenset(),
        proof: object = None,
    ) -> None:
        if proof is not _PROOF:
            raise TypeError("VerifiedEvidence is made by Evidence.verify, not by hand")
        self.__attrs_init__(replayed=replayed, quote=quote, key=key, values=values, open_ended=open_ended)

    @classmethod
    def _proven(
        cls,
        *,
        replayed: ReplayedLog,
        quote: Quote,
        key: AttestationKey,
        values: Mapping[int, bytes],
        open_ended: frozenset[int],
    ) -> VerifiedEvidence:
        frozen_values = MappingProxyType(dict(values))
        return cls(replayed=replayed, quote=quote, key=key, values=frozen_values, open_ended=open_ended, proof=_PROOF)

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("VerifiedEvidence has no subclasses: they would be proofs of nothing")

    def __reduce__(self) -> NoReturn:
        raise TypeError("VerifiedEvidence is not pickled: send the evidence, and verify again")

    @property
    def ak_trust(self) -> AkTrust:
        """Who vouches for the key: the caller, a certificate chain, or a credential that its TPM could open (A16)."""
        return self.key.trust

    @property
    def log(self) -> EventLog:
        """The firmware's log, proven to replay to the quoted registers, with further logs where they were given."""
        return self.replayed.log

    @property
    def joined(self) -> JoinedLog:
        """The history of all logs, proven to replay to the quoted registers except the :attr:`open_ended` ones."""
        return self.replayed.joined

    @property
    def bank(self) -> str:
        """The bank that was verified."""
        return self.replayed.algorithm

    @property
    def unexplained(self) -> tuple[int, ...]:
        """Quoted registers that hold a value which the events of no log explain (PCR 10 after IMA, say)."""
        bank = self.replayed.bank
        return tuple(
            p
            for p, v in sorted(self.values.items())
            if p in self.open_ended or (p not in bank and v != bank.reset_value(p))
        )

    @property
    def unmeasured(self) -> tuple[int, ...]:
        """Quoted registers at their start value."""
        bank = self.replayed.bank
        return tuple(p for p, v in sorted(self.values.items()) if p not in bank and v == bank.reset_value(p))
