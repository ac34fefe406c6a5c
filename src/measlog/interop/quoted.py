"""Quotes as attestation libraries for Go send them: one for each bank, with the register values beside it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, SelectionError, UnsupportedError
from measlog.evidence import Evidence, Quote
from measlog.log import EventLog, FurtherRecord
from measlog.registry import ALGORITHMS_BY_NAME

__all__ = ["QuotedBank", "quote_of", "sized_public"]


@frozen(kw_only=True)
class QuotedBank:
    """A quote and the register values that came with it, by PCR index.

    The values are the sender's; :meth:`measlog.Evidence.verify` checks them against the quote and the log. Bank and
    registers are those of the attested selection, and values of any others are refused here.
    """

    quote: Quote = field(validator=instance_of(Quote))
    pcrs: Mapping[int, bytes] = field(repr=False)

    def __attrs_post_init__(self) -> None:
        banks = [s.algorithm for s in self.quote.selections if s.pcrs]
        if len(banks) != 1:
            raise UnsupportedError(
                f"the quote covers {', '.join(banks) or 'no register'}; one bank a quote is read", path="quote"
            )
        bank, selected = banks[0], self.quote.pcrs(banks[0])
        known = ALGORITHMS_BY_NAME.get(bank)
        if set(selected) != set(self.pcrs):
            off = min(set(selected) ^ set(self.pcrs))
            said = "has no value" if off in set(selected) else "has a value and is not quoted"
            raise FormatError(f"{bank} PCR {off} {said}", path="pcrs")
        for index, value in self.pcrs.items():
            if known is None or len(value) != known.size:
                raise FormatError(f"{bank} PCR {index} is given with {len(value)} bytes", path=f"pcrs[{index}]")

    @property
    def bank(self) -> str:
        """The bank that the quote covers."""
        return next(s.algorithm for s in self.quote.selections if s.pcrs)


def quote_of(
    quotes: Sequence[QuotedBank],
    log: EventLog,
    bank: str,
    further: Mapping[str, Iterable[FurtherRecord]] | None = None,
) -> Evidence:
    """The evidence of one bank; SelectionError where no quote covers it."""
    for one in quotes:
        if one.bank == bank:
            return Evidence(log=log, quote=one.quote, pcrs=one.pcrs, further=further or {})
    covered = ", ".join(one.bank for one in quotes)
    raise SelectionError(f"no quote covers the bank {bank}; there are quotes of {covered}", check="bank")


def sized_public(area: bytes) -> bytes:
    """TPM2B_PUBLIC for a TPMT_PUBLIC; what has its size in front already is left alone.

    Raises :class:`~measlog.errors.FormatError` for more bytes than the size can tell.
    """
    # A TPMT_PUBLIC starts with its type, 0x0001 or 0x0023: no public area is as short as that.
    if len(area) > 2 and struct.unpack_from(">H", area)[0] == len(area) - 2:
        return area
    if len(area) > 0xFFFF:
        raise FormatError(f"a public area of {len(area)} bytes", path="public", clause="TPM 2.0 Part 2, 12.2.5")
    return struct.pack(">H", len(area)) + area
