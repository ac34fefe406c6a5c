"""A TPM 2.0 quote."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Self

from attrs import field, frozen

from measlog.errors import NonceError, PcrDigestError, SelectionError, SignatureError
from measlog.evidence.keys import AkKey, AttestationKey
from measlog.formats.tpm2 import Attest, ClockInfo, PcrSelection, SignatureBlob, parse_attest, parse_signature
from measlog.registry import ALGORITHMS_BY_NAME, algorithm_name, hash_constructor
from measlog.replay.pcr import PCR_COUNT

__all__ = ["Quote"]


@frozen(kw_only=True)
class Quote:
    """TPMS_ATTEST of a quote and its TPMT_SIGNATURE, read but not verified.

    That the magic is TPM_GENERATED_VALUE and the type a quote is established when the bytes are read (A14).
    """

    attest: bytes = field(repr=False, converter=bytes)
    signature: bytes = field(repr=False, converter=bytes)
    # Read from the very bytes that the signature is checked over, here and when unpickled: what is believed of a quote
    # is what was signed (A14).
    fields: Attest = field(init=False)
    blob: SignatureBlob = field(init=False, repr=False)

    @fields.default
    def _read_fields(self) -> Attest:
        return parse_attest(self.attest)

    @blob.default
    def _read_blob(self) -> SignatureBlob:
        return parse_signature(self.signature)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.attest, self.signature)

    @classmethod
    def from_bytes(cls, attest: bytes, signature: bytes) -> Self:
        """Read a quote as ``tpm2_quote -m MSG -s SIG`` writes it.

        Raises :class:`~measlog.errors.FormatError`.
        """
        return cls(attest=attest, signature=signature)

    @property
    def nonce(self) -> bytes:
        """The qualifying data that the TPM signed."""
        return self.fields.extra_data

    @property
    def selections(self) -> tuple[PcrSelection, ...]:
        """The banks and registers that the quote covers, in the order of the attested selection."""
        return self.fields.selections

    @property
    def pcr_digest(self) -> bytes:
        """The digest over the concatenated register values."""
        return self.fields.pcr_digest

    @property
    def clock_info(self) -> ClockInfo:
        """Clock and reset counts at the time of the quote."""
        return self.fields.clock_info

    @property
    def firmware_version(self) -> int:
        """The TPM's firmware version, as its vendor counts."""
        return self.fields.firmware_version

    @property
    def hash(self) -> str:
        """The hash of the signing scheme, which is also that of :attr:`pcr_digest`."""
        return algorithm_name(self.blob.hash)

    def pcrs(self, bank: str) -> tuple[int, ...]:
        """The registers of one bank that the quote covers, ascending; empty where it covers none."""
        return tuple(pcr for s in self.selections if s.algorithm == bank for pcr in s.pcrs)

    def verify_signature(
        self, ak: AkKey | AttestationKey | bytes, nonce: bytes, *, unsafe_allow_sha1: bool = False
    ) -> AttestationKey:
        """Check key, signature and nonce; returns the key.

        Raises :class:`~measlog.errors.SignatureError` or :class:`~measlog.errors.NonceError`.
        """
        key = AttestationKey.load(ak)
        # 1. The key is a restricted signing key that cannot leave its TPM, as far as its public area is known (A14, A16).
        missing = key.missing_attributes()
        if missing:
            raise SignatureError(
                f"the key is no attestation key: it is not {', '.join(missing)}", check="key-attributes"
            )
        # 2. The key signed these very bytes, by an accepted scheme (A14, A17).
        key.verify(self.blob, self.attest, unsafe_allow_sha1=unsafe_allow_sha1)
        # 3. They answer this verifier's question, compared as bytes in one encoding (A15).
        if not nonce:
            raise NonceError("an empty nonce cannot show that a quote is fresh", check="nonce")
        if not hmac.compare_digest(self.nonce, nonce):
            raise NonceError(
                f"the quote answers the nonce {self.nonce.hex() or '(none)'}, not {nonce.hex()}", check="nonce"
            )
        return key

    def verify_selection(
        self, bank: str, required: Sequence[int] | None, *, unsafe_allow_sha1: bool = False
    ) -> tuple[int, ...]:
        """Check that the quote covers what is asked for; returns the registers of the bank, ascending.

        Raises :class:`~measlog.errors.SelectionError`.
        """
        # 1. The verifier names the bank, and SHA-1 only by a name that looks wrong (A10, A11).
        if bank not in ALGORITHMS_BY_NAME:
            raise SelectionError(f"there is no bank {bank}", check="bank")
        if bank == "sha1" and not unsafe_allow_sha1:
            raise SelectionError("the bank sha1 is not accepted", check="bank")
        # 2. Each bank stands in the attested selection once, with registers that exist (A13).
        names = [s.algorithm for s in self.selections if s.pcrs]
        if len(names) != len(set(names)):
            raise SelectionError("the quote selects a bank twice", check="selection")
        beyond = sorted({pcr for s in self.selections for pcr in s.pcrs if pcr >= PCR_COUNT})
        if beyond:
            raise SelectionError(f"the quote selects registers that do not exist: {_listed(beyond)}", check="selection")
        # 3. The selection of the bank is not empty and holds all that the verifier requires (A11, A12).
        selected = self.pcrs(bank)
        if not selected:
            covered = ", ".join(names) or "no register at all"
            raise SelectionError(f"the quote covers no {bank} register; it covers {covered}", check="selection")
        lacking = sorted(set(required or ()) - set(selected))
        if lacking:
            raise SelectionError(f"the quote does not cover {bank} PCR {_listed(lacking)}", check="selection")
        return selected

    def verify_pcr_digest(self, values: Mapping[str, Mapping[int, bytes]]) -> None:
        """Check that register values hash to the digest that was signed.

        ``values`` maps banks to values by PCR index; order and indices come from the attested selection alone (A13).
        Raises :class:`~measlog.errors.PcrDigestError`.
        """
        new = hash_constructor(self.hash)
        if new is None:
            raise PcrDigestError(f"this Python cannot compute {self.hash}", check="pcr-digest")
        state = new()
        for selection in self.selections:
            known = ALGORITHMS_BY_NAME.get(selection.algorithm)
            for pcr in selection.pcrs:
                value = values.get(selection.algorithm, {}).get(pcr)
                if value is None:
                    raise PcrDigestError(f"there is no value for {selection.algorithm} PCR {pcr}", check="pcr-digest")
                if known is None or len(value) != known.size:
                    raise PcrDigestError(
                        f"{selection.algorithm} PCR {pcr} is given with {len(value)} bytes", check="pcr-digest"
                    )
                state.update(value)
        if not hmac.compare_digest(state.digest(), self.pcr_digest):
            raise PcrDigestError(
                f"the register values hash to {state.digest().hex()}, the quote says {self.pcr_digest.hex()}",
                check="pcr-digest",
            )

    def __str__(self) -> str:
        from measlog.view.compare import sent_quote_page  # noqa: PLC0415 - presentation is loaded when asked for

        return sent_quote_page(self).to_text()

    def _repr_html_(self) -> str:
        from measlog.view.notebook import quote_html  # noqa: PLC0415 - presentation is loaded when asked for

        return quote_html(self)

    def __repr__(self) -> str:
        banks = "; ".join(f"{s.algorithm}:{_listed(s.pcrs)}" for s in self.selections)
        return f"<Quote {banks or 'of nothing'}, nonce {self.nonce.hex() or '(none)'}>"


def _listed(pcrs: Sequence[int]) -> str:
    return ",".join(map(str, pcrs))
