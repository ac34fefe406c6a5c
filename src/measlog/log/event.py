"""One event of a log."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import field, frozen

from measlog.registry import EventType, Register

if TYPE_CHECKING:
    from measlog.records import Record
    from measlog.replay.digests import DigestCheck, Trust

__all__ = ["Event"]


@frozen(kw_only=True, slots=False)
class Event:
    """An event as the log states it; nothing in it is verified by being read.

    ``index`` counts from 0, ``offset`` is in bytes from the start of the log, ``raw`` is the event data, ``digests``
    maps algorithm names to digests. The type is a claim: no digest covers it.
    """

    index: int
    offset: int
    register: Register
    type: EventType
    digests: Mapping[str, bytes] = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def pcr(self) -> int | None:
        """The PCR that the event extends, or ``None`` when it is no PCR."""
        return self.register.index if self.register.kind == "pcr" else None

    @cached_property
    def data(self) -> Record:
        """The decoded event data; :class:`measlog.records.Undecodable` keeps what cannot be decoded."""
        from measlog.records.decode import decode  # noqa: PLC0415 - payloads are decoded when asked for

        return decode(self.type, self.register, self.raw)

    def check(self, algorithm: str) -> DigestCheck:
        """Whether the digest of one bank follows from the event data, and by which rule."""
        from measlog.replay.digests import DigestCheck, check  # noqa: PLC0415 - as above

        digest = self.digests.get(algorithm)
        if digest is None:
            return DigestCheck(status="no_digest")
        return check(self.type, self.register, self.raw, algorithm, digest)

    def trust(self, name: str, algorithm: str) -> Trust:
        """How far a field of :attr:`data` can be trusted if the bank ``algorithm`` was verified against a quote."""
        from measlog.replay.digests import trust  # noqa: PLC0415 - as above

        return trust(self.data, self.check(algorithm), name)
