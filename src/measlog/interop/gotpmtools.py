"""The ``Attestation`` message of go-tpm-tools: what a machine (of Google Cloud, mostly) sends to be attested.

Source: google/go-tpm-tools, ``proto/attest.proto`` (Attestation) and ``proto/tpm.proto`` (Quote, PCRs).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal, Self

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of
from cryptography.hazmat.primitives.serialization import Encoding

from measlog.errors import FormatError, KeyTrustError, LimitExceededError, UnsupportedError
from measlog.evidence import AttestationKey, Evidence, Quote
from measlog.evidence.tdx import TdxQuote
from measlog.evidence.trust import load_certificate, verify_ak_certificate
from measlog.formats.protobuf import LEN, VARINT, WireField, bytes_of, int_of, message
from measlog.interop.cel import CelLog
from measlog.interop.gotdx import raw_quote
from measlog.interop.quoted import QuotedBank, quote_of, sized_public
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.log import EventLog
from measlog.registry import algorithm_name
from measlog.replay.pcr import PCR_COUNT

__all__ = ["GceInstance", "GoTpmToolsAttestation", "TeeAttestation"]

_CLAUSE = "go-tpm-tools, attest.proto"
_CANONICAL = "canonical_event_log"
_MAX_QUOTES = 16
_MAX_CERTIFICATES = 16

_ATTESTATION = {
    1: ("ak_pub", LEN, False),
    2: ("quotes", LEN, True),
    3: ("event_log", LEN, False),
    4: ("instance_info", LEN, False),
    5: (_CANONICAL, LEN, False),
    6: ("ak_cert", LEN, False),
    7: ("intermediate_certs", LEN, True),
    8: ("sev_snp_attestation", LEN, False),
    9: ("tdx_attestation", LEN, False),
}
_QUOTE = {1: ("quote", LEN, False), 2: ("raw_sig", LEN, False), 3: ("pcrs", LEN, False)}
_PCRS = {1: ("hash", VARINT, False), 2: ("pcrs", LEN, True)}
_MAP_ENTRY = {1: ("key", VARINT, False), 2: ("value", LEN, False)}
_INSTANCE = {
    1: ("zone", LEN, False),
    2: ("project_id", LEN, False),
    3: ("project_number", VARINT, False),
    4: ("instance_name", LEN, False),
    5: ("instance_id", VARINT, False),
}


@frozen(kw_only=True)
class GceInstance:
    """What the message says of its virtual machine. Nobody vouches for it: a certificate's extension would."""

    zone: str = field(validator=instance_of(str))
    project_id: str = field(validator=instance_of(str))
    project_number: int = field(validator=instance_of(int))
    instance_name: str = field(validator=instance_of(str))
    instance_id: int = field(validator=instance_of(int))


@frozen(kw_only=True)
class TeeAttestation:
    """The attestation of a trusted execution environment, as the bytes of its own message: not verified."""

    kind: Literal["sev-snp", "tdx"]
    raw: bytes = field(validator=instance_of(bytes), repr=False)

    def tdx_quote(self) -> TdxQuote:
        """The quote in the message, not verified.

        Raises :class:`~measlog.errors.FormatError`, and its kind :class:`~measlog.errors.UnsupportedError` for an
        attestation of AMD SEV-SNP.
        """
        if self.kind != "tdx":
            raise UnsupportedError(
                "an attestation of AMD SEV-SNP is not read", path="sev_snp_attestation", clause=_CLAUSE
            )
        try:
            return TdxQuote.from_bytes(raw_quote(self.raw))
        except FormatError as error:
            raise error.inside("tdx_attestation") from None


@frozen(kw_only=True)
class GoTpmToolsAttestation:
    """An ``Attestation`` as read; none of it is proven.

    ``ak_public`` is TPM2B_PUBLIC; certificates are DER, the AK's first in ``certificates``; ``canonical_log`` is what the
    running system recorded of its own measurements (PCR 13 of a Container-Optimized OS, say).
    """

    ak_public: bytes = field(validator=instance_of(bytes), repr=False)
    quotes: tuple[QuotedBank, ...] = field(validator=deep_iterable(instance_of(QuotedBank)))
    log: EventLog = field(validator=instance_of(EventLog))
    instance: GceInstance | None = field(default=None)
    canonical_log: CelLog | None = field(default=None)
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    tee: TeeAttestation | None = field(default=None)

    @classmethod
    def from_bytes(cls, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read a serialised ``Attestation``.

        Raises :class:`~measlog.errors.FormatError`, for fields that are there twice and for two quotes of one bank too.
        """
        if len(data) > 2 * limits.log_size:
            raise LimitExceededError(f"{len(data)} bytes, the most is {2 * limits.log_size}", clause=_CLAUSE)
        found = message(data, _ATTESTATION)
        raw_quotes, intermediates = found["quotes"], found["intermediate_certs"]
        if not 1 <= len(raw_quotes) <= _MAX_QUOTES:
            raise FormatError(f"{len(raw_quotes)} quotes, 1 to {_MAX_QUOTES} are read", path="quotes", clause=_CLAUSE)
        if len(intermediates) > _MAX_CERTIFICATES:
            raise LimitExceededError(f"{len(intermediates)} certificates", path="intermediate_certs", clause=_CLAUSE)
        quotes = tuple(_quote(item, f"quotes[{i}]") for i, item in enumerate(raw_quotes))
        banks = [one.bank for one in quotes]
        if len(set(banks)) != len(banks):
            raise FormatError("two quotes cover the same bank", path="quotes", clause=_CLAUSE)
        sent = found["event_log"]
        if not sent:
            raise FormatError("there is no event log", path="event_log", clause=_CLAUSE)
        try:
            log = EventLog.from_bytes(bytes_of(sent), limits=limits)
        except FormatError as error:
            raise error.inside("event_log", sent[0].offset) from None
        if not found["ak_pub"]:
            raise FormatError("there is no attestation key", path="ak_pub", clause=_CLAUSE)
        if intermediates and not found["ak_cert"]:
            raise FormatError("intermediate certificates without the AK's", path="intermediate_certs", clause=_CLAUSE)
        return cls(
            ak_public=sized_public(bytes_of(found["ak_pub"])),
            quotes=quotes,
            log=log,
            instance=_instance(found["instance_info"]),
            canonical_log=_canonical(found[_CANONICAL], limits),
            certificates=tuple(bytes_of([item]) for item in (*found["ak_cert"], *intermediates)),
            tee=_tee(found["sev_snp_attestation"], found["tdx_attestation"]),
        )

    @property
    def banks(self) -> tuple[str, ...]:
        """The banks of which there is a quote, in the order of the message."""
        return tuple(one.bank for one in self.quotes)

    def evidence(self, bank: str = "sha256") -> Evidence:
        """Logs, quote and register values of one bank, for :meth:`measlog.Evidence.verify`.

        What the canonical log says was extended must fit the quote as the firmware's log does, behind which it comes.
        Raises :class:`~measlog.errors.SelectionError` where no quote covers the bank.
        """
        further = {} if self.canonical_log is None else {_CANONICAL: tuple(self.canonical_log.measured())}
        return quote_of(self.quotes, self.log, bank, further)

    def verify_ak(
        self, roots: bytes, *, now: datetime | None = None, unsafe_unstated_usage: bool = False
    ) -> AttestationKey:
        """The message's key, if the certificates beside it lead to ``roots`` (PEM); its ``trust`` is ``chain``.

        Raises :class:`~measlog.errors.KeyTrustError`. For ``unsafe_unstated_usage`` see
        :func:`measlog.verify_ak_certificate`; without the roots that the caller names, the key in a message proves
        nothing.
        """
        if not self.certificates:
            raise KeyTrustError("the message carries no certificate for its key", check="ak-certificate")
        chain = b"".join(
            load_certificate(der, f"certificates[{i}]").public_bytes(Encoding.PEM)
            for i, der in enumerate(self.certificates)
        )
        return verify_ak_certificate(self.ak_public, chain, roots, now=now, unsafe_unstated_usage=unsafe_unstated_usage)


def _canonical(items: list[WireField], limits: Limits) -> CelLog | None:
    if not items:
        return None
    try:
        return CelLog.from_tlv(bytes_of(items), limits=limits)
    except FormatError as error:
        raise error.inside(_CANONICAL, items[0].offset) from None


def _text(items: list[WireField], path: str) -> str:
    try:
        return bytes_of(items).decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("not UTF-8", offset=items[0].offset, path=path, clause=_CLAUSE) from None


def _quote(item: WireField, path: str) -> QuotedBank:
    found = message(bytes_of([item]), _QUOTE, path=path, offset=item.offset)
    bank, values = _pcrs(found["pcrs"], path, item.offset)
    try:
        read = Quote.from_bytes(bytes_of(found["quote"]), bytes_of(found["raw_sig"]))
        quoted = QuotedBank(quote=read, pcrs=MappingProxyType(dict(values)))
    except FormatError as error:
        raise error.inside(path, item.offset) from None
    if quoted.bank != bank:
        raise FormatError(f"values of {bank} beside a quote of {quoted.bank}", path=f"{path}.pcrs", clause=_CLAUSE)
    return quoted


def _pcrs(items: list[WireField], path: str, offset: int) -> tuple[str, Mapping[int, bytes]]:
    path = f"{path}.pcrs"
    if not items:
        raise FormatError("there are no register values", path=path, clause=_CLAUSE)
    start = offset + items[0].offset
    found = message(bytes_of(items), _PCRS, path=path, offset=start)
    values: dict[int, bytes] = {}
    for entry in found["pcrs"]:
        pair = message(bytes_of([entry]), _MAP_ENTRY, path=f"{path}.pcrs", offset=start + entry.offset)
        index = int_of(pair["key"])
        if index >= PCR_COUNT or index in values:
            said = "is there twice" if index in values else "does not exist"
            raise FormatError(f"register {index} {said}", offset=start + entry.offset, path=f"{path}.pcrs")
        values[index] = bytes_of(pair["value"])
    return algorithm_name(int_of(found["hash"])), values


def _instance(items: list[WireField]) -> GceInstance | None:
    if not items:
        return None
    path = "instance_info"
    found = message(bytes_of(items), _INSTANCE, path=path, offset=items[0].offset)
    return GceInstance(
        zone=_text(found["zone"], f"{path}.zone"),
        project_id=_text(found["project_id"], f"{path}.project_id"),
        project_number=int_of(found["project_number"]),
        instance_name=_text(found["instance_name"], f"{path}.instance_name"),
        instance_id=int_of(found["instance_id"]),
    )


def _tee(snp: list[WireField], tdx: list[WireField]) -> TeeAttestation | None:
    if snp and tdx:
        raise FormatError("two attestations of a TEE, which are a oneof", path="tee_attestation", clause=_CLAUSE)
    if snp:
        return TeeAttestation(kind="sev-snp", raw=bytes_of(snp))
    return TeeAttestation(kind="tdx", raw=bytes_of(tdx)) if tdx else None
