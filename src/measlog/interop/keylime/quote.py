"""Quotes as Keylime's agents send them.

``r`` BASE64 ``:`` BASE64 ``:`` BASE64, of TPMS_ATTEST, TPMT_SIGNATURE and the register file of ``tpm2_quote -o``
(Keylime's ``quote`` field of the API, version 2).
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.evidence import Evidence, Quote
from measlog.formats.tpm2 import parse_attest, parse_pcr_file, parse_signature
from measlog.log import EventLog

__all__ = ["AgentQuote"]

T = TypeVar("T")

_CLAUSE = "Keylime agent API, quote"
_PARTS = ("quote", "signature", "pcrs")
_SIZE_LIMIT = 1 << 20
_ZLIB = 0x78


@frozen(kw_only=True)
class AgentQuote:
    """A quote and the register values beside it, read and not verified: the values are anybody's.

    ``pcrs`` are values by bank and PCR index, under the numbers that the agent gave them. Only
    :meth:`measlog.Evidence.verify` ties them to what the TPM signed.
    """

    quote: Quote = field(validator=instance_of(Quote))
    pcrs: Mapping[str, Mapping[int, bytes]] = field(repr=False)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text of an agent.

        Raises :class:`~measlog.errors.FormatError`, whose path names the part (``quote``, ``signature``, ``pcrs``),
        and TypeError for what is no ``str``.
        """
        if not isinstance(text, str):
            raise TypeError(f"a quote of an agent is text, not {type(text).__name__}")
        if len(text) > _SIZE_LIMIT:
            raise LimitExceededError(f"a quote of {len(text)} characters, at most {_SIZE_LIMIT} are read")
        if text[:1] != "r":
            raise UnsupportedError(f"a quote of the kind {text[:1]!r}; 'r' is read", offset=0, clause=_CLAUSE)
        parts = text[1:].split(":", len(_PARTS))
        if len(parts) != len(_PARTS):
            raise FormatError(
                f"{len(parts)} parts; quote, signature and register values are separated by colons", clause=_CLAUSE
            )
        attest, signature, values = (_decode(part, name) for part, name in zip(parts, _PARTS, strict=True))
        _inside("quote", lambda: parse_attest(attest))
        _inside("signature", lambda: parse_signature(signature))
        return cls(quote=Quote.from_bytes(attest, signature), pcrs=_inside("pcrs", lambda: parse_pcr_file(values)))

    def evidence(self, log: EventLog, bank: str = "sha256") -> Evidence:
        """Evidence to be verified, of this quote and a log, with the values of one bank."""
        return Evidence(log=log, quote=self.quote, pcrs=self.pcrs.get(bank))


def _decode(part: str, name: str) -> bytes:
    try:
        data = binascii.a2b_base64(part, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"not base64: {error}", path=name, clause=_CLAUSE) from None
    if data[:1] == bytes([_ZLIB]):
        raise UnsupportedError("compressed, as agents of API 1.0 send it", path=name, offset=0, clause=_CLAUSE)
    return data


def _inside(name: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except FormatError as error:
        if (error.path or "").startswith(name):
            raise
        raise error.inside(name) from None
