"""Dumps and messages of the attestation libraries for Go, written by hand from their declarations."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.evidence import machines, quotes

BANKS = {"sha1": 4, "sha256": 11, "sha384": 12}
GO_HASHES = {"sha1": 3, "sha256": 5, "sha384": 6}
PCRS = range(8)


def varint(value: int) -> bytes:
    """A base-128 varint (Protocol Buffers, Encoding)."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def field(number: int, value: int | bytes) -> bytes:
    """A VARINT or LEN field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def signed(bank: str, nonce: bytes = machines.NONCE, log: bytes | None = None) -> tuple[bytes, bytes, dict[int, bytes]]:
    """TPMS_ATTEST, TPMT_SIGNATURE and the values that hashlib gives for the registers."""
    values = machines.registers(machines.log_bytes() if log is None else log, bank, PCRS)
    attest = quotes.quoted({bank: values}, nonce=nonce)
    return attest, quotes.sign(quotes.ecc_key(), attest), values


def pcrs(bank: int, values: Mapping[int, bytes]) -> bytes:
    """tpm.PCRs."""
    return field(1, bank) + b"".join(field(2, field(1, index) + field(2, value)) for index, value in values.items())


def quote(bank: str, **options: Any) -> bytes:
    """tpm.Quote."""
    attest, signature, values = signed(bank, **options)
    return field(1, attest) + field(2, signature) + field(3, pcrs(BANKS[bank], values))


def ak_area() -> bytes:
    """TPMT_PUBLIC of the key that signs."""
    return quotes.public(quotes.ecc_key())[2:]


def attestation(
    banks: Iterable[str] = ("sha1", "sha256"), *, certificates: Sequence[bytes] = (), tail: bytes = b""
) -> bytes:
    """attest.Attestation."""
    return (
        field(1, ak_area())
        + b"".join(field(2, quote(bank)) for bank in banks)
        + field(3, machines.log_bytes())
        + b"".join(field(6 if i == 0 else 7, der) for i, der in enumerate(certificates))
        + tail
    )


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def dump(bank: str = "sha256") -> dict[str, Any]:
    """attest-tool's Dump as a document; :func:`encoded` writes it."""
    attest, signature, values = signed(bank)
    return {
        "Static": {"TPMVersion": 2, "EKPem": None},
        "AK": {"Public": text(ak_area()), "CreateData": None, "CreateAttestation": None, "CreateSignature": None},
        "Quote": {
            "Nonce": text(machines.NONCE),
            "Alg": BANKS[bank],
            "Quote": text(attest),
            "Signature": text(signature),
        },
        "Log": {
            "PCRs": [{"Index": i, "Digest": text(v), "DigestAlg": GO_HASHES[bank]} for i, v in values.items()],
            "PCRAlg": 0,
            "Raw": text(machines.log_bytes()),
        },
    }


def encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()
