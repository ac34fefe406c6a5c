"""Files of tpm2-tools in each of the forms that its commands write.

Signatures: TPMT_SIGNATURE, or what ``-f plain`` gives, an ECDSA signature in DER or the bare bytes of an RSA one. Register
values: the file of ``tpm2_quote -o``, or bare values one after the other (``tpm2_quote -F values``, ``tpm2_pcrread -o``).
Keys, in PEM or as TPM2B_PUBLIC, are read by :meth:`measlog.AttestationKey.load`; values for ``tpm2_policypcr -f`` are
written by :func:`measlog.interop.seal.tpm2_policy`. Tried with tpm2-tools 5.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from measlog.errors import FormatError
from measlog.evidence import AttestationKey, Quote
from measlog.evidence.keys import AkKey
from measlog.formats.tpm2 import (
    TPM_ALG_ECDSA,
    TPM_ALG_NULL,
    TPM_ALG_RSASSA,
    PcrSelection,
    SignatureBlob,
    build_signature,
    parse_attest,
    parse_pcr_file,
)
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.replay.pcr import PCR_COUNT

__all__ = ["parse_selection", "read_quote", "read_register_values"]

_DER_SEQUENCE = 0x30
_SIGNING_HASHES = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
_SELECTION = re.compile(r"([a-z0-9_]+):(all|none|[0-9]{1,2}(?:,[0-9]{1,2})*)")
_LONGEST_SELECTION = 1024


def read_quote(attest: bytes, signature: bytes, *, ak: AkKey | AttestationKey | bytes) -> Quote:
    """A quote as ``tpm2_quote -m -s`` writes it, whichever form its signature has; read and not verified.

    A plain signature names neither scheme nor hash. They are those that the key is bound to; where it is bound to none, or
    only its PEM is given, the scheme is RSASSA or ECDSA, tpm2-tools' own choice, and the hash the one that is as long as
    the quote's digest of registers, which the TPM computes by the same. A wrong guess is a signature that does not
    verify. Raises :class:`~measlog.errors.FormatError`.
    """
    key = AttestationKey.load(ak)
    is_rsa = isinstance(key.public_key, rsa.RSAPublicKey)
    size = (key.public_key.key_size + 7) // 8
    if is_rsa and len(signature) == size:
        scheme, name = _scheme_of(key, attest, TPM_ALG_RSASSA)
        blob = SignatureBlob(scheme=scheme, hash=name, value=signature)
    elif not is_rsa and signature[:1] == bytes([_DER_SEQUENCE]):
        try:
            r, s = decode_dss_signature(signature)
        except ValueError as error:
            raise FormatError(
                f"no ECDSA signature in DER: {error}", path="signature", clause="RFC 3279, 2.2.3"
            ) from None
        if max(r, s).bit_length() > 8 * size or min(r, s) < 0:
            raise FormatError(
                f"r and s do not fit a curve of {8 * size} bits", path="signature", clause="RFC 3279, 2.2.3"
            )
        scheme, name = _scheme_of(key, attest, TPM_ALG_ECDSA)
        blob = SignatureBlob(scheme=scheme, hash=name, r=r, s=s)
    else:
        return Quote.from_bytes(attest, signature)
    return Quote.from_bytes(attest, build_signature(blob, size))


def _scheme_of(key: AttestationKey, attest: bytes, usual: int) -> tuple[int, int]:
    if key.area is not None and key.area.scheme != TPM_ALG_NULL and key.area.scheme_hash is not None:
        return key.area.scheme, key.area.scheme_hash
    size = len(parse_attest(attest).pcr_digest)
    name = _SIGNING_HASHES.get(size)
    if name is None:
        raise FormatError(
            f"a plain signature does not name its hash, and no hash is as long as the PCR digest of {size} bytes",
            path="signature",
        )
    return usual, ALGORITHMS_BY_NAME[name].id


def read_register_values(data: bytes, selections: Sequence[PcrSelection]) -> Mapping[str, Mapping[int, bytes]]:
    """Register values by bank and PCR index, from any of the files that tpm2-tools writes them into.

    ``selections`` say which registers bare values belong to, bank by bank: the quote's own
    (:attr:`measlog.Quote.selections`), or those that ``tpm2_pcrread`` was given (:func:`parse_selection`). The file of
    ``tpm2_quote -o`` names its registers itself. Raises :class:`~measlog.errors.FormatError`.
    """
    if len(data) != _length(selections):
        return parse_pcr_file(data)
    banks: dict[str, dict[int, bytes]] = {}
    at = 0
    for selection in selections:
        if selection.algorithm in banks:
            raise FormatError(f"the bank {selection.algorithm} is selected twice", path="pcrs")
        bank = banks[selection.algorithm] = {}
        for pcr in selection.pcrs:
            size = ALGORITHMS_BY_NAME[selection.algorithm].size
            bank[pcr] = data[at : at + size]
            at += size
    return banks


def _length(selections: Sequence[PcrSelection]) -> int | None:
    """How long bare values are, in bytes; None where a bank is unknown, or there is none."""
    if not selections or any(s.algorithm not in ALGORITHMS_BY_NAME for s in selections):
        return None
    return sum(ALGORITHMS_BY_NAME[s.algorithm].size * len(s.pcrs) for s in selections)


def parse_selection(text: str) -> tuple[PcrSelection, ...]:
    """What ``tpm2_pcrread`` and ``tpm2_quote -l`` are given: ``sha1:0,1+sha256:all``; registers ascending.

    Raises :class:`~measlog.errors.FormatError` for anything else, and for a bank that is there twice.
    """
    if len(text) > _LONGEST_SELECTION:
        raise FormatError(f"a selection of {len(text)} characters", path="selection")
    found: list[PcrSelection] = []
    at = 0
    for part in text.split("+"):
        match = _SELECTION.fullmatch(part)
        if match is None or match[1] not in ALGORITHMS_BY_NAME:
            raise FormatError("expected BANK:REGISTERS, joined by +", offset=at, path="selection")
        if match[1] in {one.algorithm for one in found}:
            raise FormatError(f"the bank {match[1]} is selected twice", offset=at, path="selection")
        chosen = {"all": list(range(PCR_COUNT)), "none": []}.get(match[2])
        pcrs = sorted({int(n) for n in match[2].split(",")}) if chosen is None else chosen
        if pcrs and pcrs[-1] >= PCR_COUNT:
            raise FormatError(f"there is no PCR {pcrs[-1]}", offset=at, path="selection")
        found.append(PcrSelection(algorithm=match[1], pcrs=tuple(pcrs)))
        at += len(part) + 1
    return tuple(found)
