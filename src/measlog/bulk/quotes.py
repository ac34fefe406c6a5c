"""Quotes, keys and register files of a batch.

What :mod:`measlog.formats.tpm2` reads one by one is read here by shape: the first of each shape goes through that
parser, and another one of exactly its structure differs in the values alone, whose places are known then. Whatever is
of a shape that was not seen, or is an error, goes through the parser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, evolve, field, frozen
from cryptography.hazmat.primitives.asymmetric import ec

from measlog.bulk.templates import gather
from measlog.errors import MeaslogError
from measlog.evidence import AttestationKey
from measlog.formats.tpm2 import (
    TPM_ALG_ECDSA,
    PcrSelection,
    SignatureBlob,
    parse_attest,
    parse_pcr_file,
    parse_public,
    parse_signature,
)
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.replay.pcr import PCR_COUNT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from measlog.bulk.schema import BinaryColumn

__all__ = ["GivenRegisters", "QuoteFields", "QuoteReader", "given_registers"]

_REMEMBERED = 4096
_QUOTE = b"\xffTCG\x80\x18"
_DIGEST_32 = b"\x00\x20"
_P256_UNIQUE = 68
"""TPM2B_ECC_PARAMETER x and y of 32 bytes each, at the end of a TPM2B_PUBLIC."""


@frozen
class QuoteFields:
    """What the verification needs of TPMS_ATTEST."""

    nonce: bytes
    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


@define
class QuoteReader:
    """Reads quotes and keys, and remembers structures and keys, never whether anything was right (A40)."""

    _selections: dict[bytes, tuple[PcrSelection, ...]] = field(factory=dict, init=False)
    _keys: dict[bytes, AttestationKey] = field(factory=dict, init=False)
    _areas: dict[tuple[int, bytes], AttestationKey] = field(factory=dict, init=False)

    def attest(self, data: bytes) -> QuoteFields:
        """TPMS_ATTEST of a quote; raises :class:`~measlog.errors.FormatError` as the parser does."""
        size = len(data)
        if data[:6] == _QUOTE and size > 8:
            at = 8 + int.from_bytes(data[6:8], "big")
            after = at + 2 + int.from_bytes(data[at : at + 2], "big")
            info = after + 25  # TPMS_CLOCK_INFO and firmwareVersion
            # TPMS_QUOTE_INFO ends with a digest of 32 bytes; up to it, it is a structure that was read before.
            if info + 4 + 34 <= size and data[after + 16] <= 1 and data[-34:-32] == _DIGEST_32:
                structure = data[info:-32]
                known = self._selections.get(structure)
                if known is not None:
                    return QuoteFields(data[at + 2 : after], known, data[-32:])
                fields = parse_attest(data)
                if fields.pcr_digest == data[-32:] and fields.extra_data == data[at + 2 : after]:
                    _forget(self._selections)
                    self._selections[structure] = fields.selections
                return QuoteFields(fields.extra_data, fields.selections, fields.pcr_digest)
        fields = parse_attest(data)
        return QuoteFields(fields.extra_data, fields.selections, fields.pcr_digest)

    @staticmethod
    def signature(data: bytes) -> SignatureBlob:
        """TPMT_SIGNATURE; raises :class:`~measlog.errors.FormatError` as the parser does."""
        if data[:2] == b"\x00\x18" and len(data) >= 6:
            middle = 6 + int.from_bytes(data[4:6], "big")
            if middle + 2 <= len(data) and middle + 2 + int.from_bytes(data[middle : middle + 2], "big") == len(data):
                return SignatureBlob(
                    scheme=TPM_ALG_ECDSA,
                    hash=int.from_bytes(data[2:4], "big"),
                    r=int.from_bytes(data[6:middle], "big"),
                    s=int.from_bytes(data[middle + 2 :], "big"),
                )
        return parse_signature(data)

    def key(self, data: bytes) -> AttestationKey:
        """The attestation key in PEM or TPM2B_PUBLIC, each parsed once; raises as AttestationKey.load does."""
        known = self._keys.get(data)
        if known is None:
            known = self._point(data) or AttestationKey.load(data)
            _forget(self._keys)
            self._keys[data] = known
        return known

    def _point(self, data: bytes) -> AttestationKey | None:
        """A key on P-256 whose public area was seen with another point."""
        if data[-68:-66] != _DIGEST_32 or data[-34:-32] != _DIGEST_32 or data.lstrip().startswith(b"-----BEGIN"):
            return None
        place = len(data), data[:-_P256_UNIQUE]
        if place not in self._areas:
            area = parse_public(data)
            x, y = data[-66:-34], data[-32:]
            if (area.x, area.y) != (int.from_bytes(x, "big"), int.from_bytes(y, "big")) or area.curve != 0x0003:
                return None
            key = AttestationKey.load(data)
            _forget(self._areas)
            self._areas[place] = key
            return key
        like = self._areas[place]
        try:
            # SEC 1, 2.3.3: an uncompressed point; one that is not on the curve is refused, as load does.
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + data[-66:-34] + data[-32:])
        except ValueError:
            return None
        assert like.area is not None
        area = evolve(
            like.area,
            raw=data[2:],
            x=int.from_bytes(data[-66:-34], "big"),
            y=int.from_bytes(data[-32:], "big"),
        )
        return AttestationKey(public_key=public, area=area)


def _forget(memory: dict[Any, Any]) -> None:
    if len(memory) >= _REMEMBERED:
        memory.clear()


@frozen(kw_only=True, eq=False)
class GivenRegisters:
    """Register values of one bank that came with the evidence.

    ``values`` is uint8 ``(rows, 24, digest_size)``, ``given`` ``(rows, 24)`` says which there are, ``errors`` holds
    what is wrong with the files that cannot be read.
    """

    values: NDArray[np.uint8] = field(repr=False)
    given: NDArray[np.bool_] = field(repr=False)
    errors: Mapping[int, MeaslogError]


def given_registers(column: BinaryColumn | None, rows: int, bank: str) -> GivenRegisters:
    """Read the register files of a batch, for one bank; a row without one gives no registers."""
    size = ALGORITHMS_BY_NAME[bank].size
    values = np.zeros((rows, PCR_COUNT, size), dtype=np.uint8)
    given = np.zeros((rows, PCR_COUNT), dtype=np.bool_)
    errors: dict[int, MeaslogError] = {}
    if column is not None:
        lengths = np.where(column.null, -1, column.lengths)
        for length in np.unique(lengths[lengths >= 0]).tolist():
            left = np.flatnonzero(lengths == length)
            while len(left):
                left = _take_shape(column, left, bank, values, given, errors)
    return GivenRegisters(values=values, given=given, errors=errors)


def _take_shape(
    column: BinaryColumn,
    rows: NDArray[np.int64],
    bank: str,
    values: NDArray[np.uint8],
    given: NDArray[np.bool_],
    errors: dict[int, MeaslogError],
) -> NDArray[np.int64]:
    """Read the first file by the parser, and those that differ from it in the values alone; returns the others."""
    first, rest = int(rows[0]), rows[1:]
    data = column[first]
    try:
        banks = parse_pcr_file(data)
    except MeaslogError as error:
        errors[first] = error
        return rest
    places = _value_places(data, banks)
    fixed = np.ones(len(data), dtype=np.bool_)
    for start, width, _, _ in places:
        fixed[start : start + width] = False
    found = gather(column.data, column.starts[rows], len(data))
    like = (found[:, fixed] == found[0, fixed]).all(axis=1)
    chosen, files = rows[like], found[like]
    for start, width, name, pcr in places:
        if name == bank and pcr < PCR_COUNT:
            values[chosen, pcr] = files[:, start : start + width]
            given[chosen, pcr] = True
    others: NDArray[np.int64] = rows[~like]
    return others


def _value_places(data: bytes, banks: Mapping[str, Mapping[int, bytes]]) -> list[tuple[int, int, str, int]]:
    """Place and size of each value of a register file that the parser accepts, with its bank and PCR.

    The values follow each other in lists of up to eight of 66 bytes, 532 bytes a list, from byte 136 on.
    """
    owners = [(name, pcr) for name, found in banks.items() for pcr in found]
    slots = [
        (at + 4 + 66 * i + 2, int.from_bytes(data[at + 4 + 66 * i : at + 6 + 66 * i], "little"))
        for at in range(136, len(data), 532)
        for i in range(int.from_bytes(data[at : at + 4], "little"))
    ]
    return [(start, width, name, pcr) for (start, width), (name, pcr) in zip(slots, owners, strict=True)]
