"""The JSON dump of go-attestation's ``attest-tool``: log, quote, register values and key of one machine.

Source: google/go-attestation, ``attest/attest-tool/internal/internal.go`` (Dump), whose Go fields are the JSON keys; byte
strings are in base64, as encoding/json writes them. Nothing in a dump vouches for itself: verify its evidence with a key
that is trusted for a reason outside of the dump.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, UnsupportedError
from measlog.evidence import Evidence, Quote
from measlog.interop.jsontext import base64_bytes, parse_object
from measlog.interop.quoted import QuotedBank, quote_of, sized_public
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.log import EventLog
from measlog.registry import algorithm_name
from measlog.replay.pcr import PCR_COUNT

__all__ = ["AttestToolDump"]

_CLAUSE = "go-attestation, attest-tool Dump"
# attest.TPMVersion
_TPM12, _TPM20 = 1, 2
# Go's crypto.Hash, in which register values name their bank.
_GO_HASHES = {3: "sha1", 5: "sha256", 6: "sha384", 7: "sha512", 11: "sha3_256", 12: "sha3_384", 13: "sha3_512"}


@frozen(kw_only=True)
class AttestToolDump:
    """A dump as read. ``ak_public`` is TPM2B_PUBLIC, ``nonce`` what the dump says that was asked: both unproven."""

    log: EventLog = field(validator=instance_of(EventLog))
    quoted: QuotedBank = field(validator=instance_of(QuotedBank))
    nonce: bytes = field(validator=instance_of(bytes))
    ak_public: bytes = field(validator=instance_of(bytes), repr=False)
    ek_pem: bytes = field(validator=instance_of(bytes), repr=False)
    """The endorsement key as PEM, or nothing."""

    @classmethod
    def from_json(cls, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read a dump.

        Raises :class:`~measlog.errors.FormatError` for what is none, and its kind
        :class:`~measlog.errors.UnsupportedError` for a dump of a TPM 1.2.
        """
        document = parse_object(data, size=2 * limits.log_size)
        static, key, quote, log = (_object(document, name) for name in ("Static", "AK", "Quote", "Log"))
        # 1. A TPM 1.2 quotes SHA-1 registers in another structure, under a key of another kind (A11).
        version = static.get("TPMVersion")
        if version == _TPM12 and not isinstance(version, bool):
            raise UnsupportedError(
                "this is the dump of a TPM 1.2, whose quotes (TPM_QUOTE_INFO) are not supported",
                path="Static.TPMVersion",
                clause=_CLAUSE,
            )
        if version != _TPM20 or isinstance(version, bool):
            raise UnsupportedError(f"TPM version {str(version)[:20]}", path="Static.TPMVersion", clause=_CLAUSE)
        # 2. The quote is read from the bytes that were signed; what the dump says about it must agree (A13).
        read = _quote(base64_bytes(quote, "Quote", "Quote.Quote"), base64_bytes(quote, "Signature", "Quote.Signature"))
        bank, values = _values(log)
        try:
            quoted = QuotedBank(quote=read, pcrs=MappingProxyType(values))
        except FormatError as error:
            raise error.inside("Log") from None
        if quoted.bank != bank:
            raise FormatError(f"values of {bank} beside a quote of {quoted.bank}", path="Log.PCRs", clause=_CLAUSE)
        named = quote.get("Alg")
        if not isinstance(named, int) or algorithm_name(named) != quoted.bank:
            raise FormatError(
                f"the dump says algorithm {str(named)[:20]}, the quote covers {quoted.bank}",
                path="Quote.Alg",
                clause=_CLAUSE,
            )
        try:
            events = EventLog.from_bytes(base64_bytes(log, "Raw", "Log.Raw"), limits=limits)
        except FormatError as error:
            if error.path == "Log.Raw":
                raise
            raise error.inside("Log.Raw") from None
        return cls(
            log=events,
            quoted=quoted,
            nonce=base64_bytes(quote, "Nonce", "Quote.Nonce", optional=True),
            ak_public=sized_public(base64_bytes(key, "Public", "AK.Public")),
            ek_pem=base64_bytes(static, "EKPem", "Static.EKPem", optional=True),
        )

    def evidence(self) -> Evidence:
        """Log, quote and register values, for :meth:`measlog.Evidence.verify` with the bank ``quoted.bank``."""
        return quote_of((self.quoted,), self.log, self.quoted.bank)


def _object(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise FormatError("expected an object", path=name, clause=_CLAUSE)
    return value


def _quote(attest: bytes, signature: bytes) -> Quote:
    try:
        return Quote.from_bytes(attest, signature)
    except FormatError as error:
        raise error.inside("Quote") from None


def _values(log: Mapping[str, Any]) -> tuple[str, dict[int, bytes]]:
    entries = log.get("PCRs")
    if not isinstance(entries, list) or not 1 <= len(entries) <= PCR_COUNT:
        raise FormatError(f"expected a list of 1 to {PCR_COUNT} registers", path="Log.PCRs", clause=_CLAUSE)
    banks: set[str] = set()
    values: dict[int, bytes] = {}
    for number, entry in enumerate(entries):
        path = f"Log.PCRs[{number}]"
        if not isinstance(entry, dict):
            raise FormatError("expected an object", path=path, clause=_CLAUSE)
        index, go_hash = entry.get("Index"), entry.get("DigestAlg")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < PCR_COUNT:
            raise FormatError("expected the index of a register", path=f"{path}.Index", clause=_CLAUSE)
        if index in values:
            raise FormatError(f"register {index} is there twice", path=f"{path}.Index", clause=_CLAUSE)
        if isinstance(go_hash, bool) or not isinstance(go_hash, int) or go_hash not in _GO_HASHES:
            raise UnsupportedError(f"the hash {str(go_hash)[:20]}", path=f"{path}.DigestAlg", clause="Go, crypto.Hash")
        banks.add(_GO_HASHES[go_hash])
        values[index] = base64_bytes(entry, "Digest", f"{path}.Digest")
    if len(banks) != 1:
        raise FormatError(f"values of several banks: {', '.join(sorted(banks))}", path="Log.PCRs", clause=_CLAUSE)
    return banks.pop(), values
