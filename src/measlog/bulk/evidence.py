"""The steps of :meth:`measlog.Evidence.verify` for rows whose logs were read and replayed in columns.

The steps come in that method's order, so that a row is refused for the reason that it gives. Whatever is not decided
here has no answer and goes the scalar way.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from attrs import define, field

from measlog.errors import MeaslogError, NonceError, PcrDigestError, ReplayError, SelectionError, SignatureError
from measlog.evidence import Quote
from measlog.lanes import hash_rows
from measlog.registry import ALGORITHMS_BY_NAME, algorithm_name, hash_constructor
from measlog.replay.pcr import PCR_COUNT, start_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from measlog.bulk.quotes import GivenRegisters, QuoteFields, QuoteReader
    from measlog.bulk.schema import BinaryColumn
    from measlog.bulk.templates import Matched
    from measlog.evidence import AttestationKey
    from measlog.formats.tpm2 import PcrSelection, SignatureBlob

    Numbers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

__all__ = [
    "Candidates",
    "Proven",
    "check_nonces",
    "check_registers",
    "check_signatures",
    "read",
    "read_keys",
    "read_registers",
]


class Proven(NamedTuple):
    """Rows whose evidence was verified and covers the same registers.

    ``places`` are places among the matched rows, ``selected`` the quoted registers of the bank, ``unexplained`` those
    that hold a value which no event explains.
    """

    places: Numbers
    selected: tuple[int, ...]
    unexplained: frozenset[int]


@define(eq=False)
class Candidates:
    """Rows on their way through the steps, by their place among the matched rows."""

    matched: Matched
    columns: Mapping[str, BinaryColumn]
    given: GivenRegisters
    refused: dict[int, str] = field(factory=dict, init=False)
    """Codes of the rows that failed a step."""
    quotes: dict[int, tuple[QuoteFields, SignatureBlob]] = field(factory=dict, init=False)
    """Rows that passed all steps so far."""
    _replayed: dict[str, NDArray[np.uint8]] = field(factory=dict, init=False)

    def replayed(self, bank: str) -> NDArray[np.uint8]:
        """The registers that the logs replay to, ``(rows, 24, digest_size)``; banks that nobody quotes are not replayed."""
        if bank not in self._replayed:
            values = np.empty((len(self.matched.rows), PCR_COUNT, ALGORITHMS_BY_NAME[bank].size), dtype=np.uint8)
            self.matched.registers({bank: values})
            self._replayed[bank] = values
        return self._replayed[bank]

    def cell(self, name: str, place: int) -> bytes:
        """One cell of a row."""
        return self.columns[name][int(self.matched.rows[place])]

    def refuse(self, place: int, error: MeaslogError | type[MeaslogError]) -> None:
        """A row failed."""
        self.refused[place] = error.code
        self.quotes.pop(place, None)


def read(rows: Candidates, reader: QuoteReader) -> None:
    """Quote and signature of each row."""
    numbers = rows.matched.rows
    cells = zip(rows.columns["attest"].cells(numbers), rows.columns["signature"].cells(numbers), strict=True)
    for place, (attest, signature) in enumerate(cells):
        try:
            rows.quotes[place] = reader.attest(attest), reader.signature(signature)
        except MeaslogError as error:
            rows.refuse(place, error)
        except Exception:  # noqa: BLE001, S112 - a defect: the scalar path meets it, too, and says so
            continue


def read_keys(rows: Candidates, reader: QuoteReader) -> dict[int, AttestationKey]:
    """The key of each row, by place."""
    found: dict[int, AttestationKey] = {}
    places = np.array(list(rows.quotes), dtype=np.int64)
    for place, ak in zip(places.tolist(), rows.columns["ak"].cells(rows.matched.rows[places]), strict=True):
        try:
            found[place] = reader.key(ak)
        except MeaslogError as error:
            rows.refuse(place, error)
        except Exception:  # noqa: BLE001 - as above
            del rows.quotes[place]
    return found


def read_registers(rows: Candidates) -> None:
    """Register files that could not be read."""
    if rows.given.errors:
        for place in list(rows.quotes):
            error = rows.given.errors.get(int(rows.matched.rows[place]))
            if error is not None:
                rows.refuse(place, error)


def check_signatures(rows: Candidates, keys: Mapping[int, AttestationKey]) -> None:
    """1-2. The key is an attestation key as far as is known, and signed the quote by an accepted scheme (A14, A16, A17)."""
    places = np.array(list(rows.quotes), dtype=np.int64)
    messages = rows.columns["attest"].cells(rows.matched.rows[places])
    for place, message in zip(places.tolist(), messages, strict=True):
        key = keys[place]
        if key.missing_attributes():
            rows.refuse(place, SignatureError)
            continue
        try:
            key.verify(rows.quotes[place][1], message)
        except MeaslogError as error:
            rows.refuse(place, error)


def check_nonces(rows: Candidates) -> None:
    """3. The quote answers this verifier's question (A15)."""
    places = np.array(list(rows.quotes), dtype=np.int64)
    nonces = rows.columns["nonce"].cells(rows.matched.rows[places])
    for place, nonce in zip(places.tolist(), nonces, strict=True):
        if not nonce or not hmac.compare_digest(rows.quotes[place][0].nonce, nonce):
            rows.refuse(place, NonceError)


def check_registers(rows: Candidates, bank: str) -> list[Proven]:
    """4-9. The selection, the quoted banks, the given registers, the log's registers, and the digest over them."""
    groups: dict[tuple[tuple[PcrSelection, ...], str], list[int]] = {}
    for place, (fields, blob) in rows.quotes.items():
        groups.setdefault((fields.selections, algorithm_name(blob.hash)), []).append(place)
    proven: list[Proven] = []
    for (selections, hash_name), places in groups.items():
        if hash_constructor(hash_name) is None:
            for place in places:
                del rows.quotes[place]
            continue
        proven += _check_group(rows, bank, selections, hash_name, np.array(places, dtype=np.int64))
    return proven


def _check_group(
    rows: Candidates, bank: str, selections: tuple[PcrSelection, ...], hash_name: str, places: Numbers
) -> list[Proven]:
    template = rows.matched.template
    first = int(places[0])
    try:
        # 4. The attested selection is what was asked for; all rows of the group have this one (A10 to A13).
        quote = Quote.from_bytes(rows.cell("attest", first), rows.cell("signature", first))
        selected = quote.verify_selection(bank, None)
        # 5. The log is a TPM's and whole: no other log becomes a template (A36, A37, A39).
        # 6. Every quoted bank is in the log (A9).
        for selection in selections:
            if selection.pcrs and selection.algorithm not in template.log.algorithms:
                raise SelectionError(f"the log has nothing of {selection.algorithm}", check="bank")
    except MeaslogError as error:
        for place in places.tolist():
            rows.refuse(place, error)
        return []
    batch = rows.matched.rows[places]
    given = rows.given.given[batch][:, selected]
    mine = _values(rows, bank, selections, places)
    signed = np.array([_fits(rows.quotes[p][0].pcr_digest, hash_name) for p in places.tolist()], dtype=np.bool_)
    digests = b"".join(
        rows.quotes[p][0].pcr_digest if fits else bytes(ALGORITHMS_BY_NAME[hash_name].size)
        for p, fits in zip(places.tolist(), signed.tolist(), strict=True)
    )
    quoted = np.frombuffer(digests, dtype=np.uint8).reshape(len(places), -1)
    whole = np.concatenate([mine[s.algorithm].reshape(len(places), -1) for s in selections if s.pcrs], axis=1)
    replayed = signed & (hash_rows(hash_name, whole) == quoted).all(axis=1)
    # 7. Given values are the quoted ones, where they are complete (A13).
    told = rows.given.values[batch][:, selected]
    theirs = {**mine, bank: told}
    stated = np.concatenate([theirs[s.algorithm].reshape(len(places), -1) for s in selections if s.pcrs], axis=1)
    wrong = given.all(axis=1) & ~(signed & (hash_rows(hash_name, stated) == quoted).all(axis=1))
    _refuse(rows, places[wrong], PcrDigestError)
    # 8. The log explains some of the quoted registers, and gives the values given (A22, A36).
    explained = template.explained[list(selected)]
    differs = (given & explained & (mine[bank] != told).any(axis=2)).any(axis=1) | (not explained.any())
    _refuse(rows, places[~wrong & differs], ReplayError)
    # 9. What the log replays to is what was signed (A36).
    _refuse(rows, places[~wrong & ~differs & ~replayed], PcrDigestError)
    good = ~wrong & ~differs & replayed
    # Registers that hold something which no event explains: a policy may look at which they are.
    size = ALGORITHMS_BY_NAME[bank].size
    start = np.frombuffer(b"".join(start_value(p, size) for p in selected), dtype=np.uint8).reshape(-1, size)
    held = ~explained & (mine[bank] != start).any(axis=2)
    found: dict[bytes, list[int]] = {}
    for at in np.flatnonzero(good).tolist():
        found.setdefault(held[at].tobytes(), []).append(at)
    return [
        Proven(places[ats], selected, frozenset(np.array(selected)[held[ats[0]]].tolist())) for ats in found.values()
    ]


def _fits(digest: bytes, hash_name: str) -> bool:
    return len(digest) == ALGORITHMS_BY_NAME[hash_name].size


def _refuse(rows: Candidates, places: Numbers, error: type[MeaslogError]) -> None:
    for place in places.tolist():
        rows.refuse(place, error)


def _values(
    rows: Candidates, bank: str, selections: tuple[PcrSelection, ...], places: Numbers
) -> dict[str, NDArray[np.uint8]]:
    """The values that the quotes should cover, ``(rows, registers, digest_size)``: the log's; where it is silent, given or start values."""
    found: dict[str, NDArray[np.uint8]] = {}
    template, batch = rows.matched.template, rows.matched.rows[places]
    for selection in selections:
        if not selection.pcrs:
            continue
        name, pcrs = selection.algorithm, list(selection.pcrs)
        size = ALGORITHMS_BY_NAME[name].size
        values = rows.replayed(name)[places][:, pcrs]
        for at, pcr in enumerate(pcrs):
            if not template.explained[pcr]:
                values[:, at] = np.frombuffer(start_value(pcr, size), dtype=np.uint8)
                if name == bank:
                    stated = rows.given.given[batch, pcr]
                    values[stated, at] = rows.given.values[batch[stated], pcr]
        found[name] = values
    return found
