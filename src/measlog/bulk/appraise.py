"""Verdicts on batches of evidence.

Every row's quote is verified: key, signature, nonce, selection, register values, the digest over them, and that the log
replays to them, in the order of :meth:`measlog.Evidence.verify`. Shared between rows is what is computed from the same
bytes (A40): the framing of logs of one structure, keys, and, once all that is done, the policy's opinion on logs whose
footprint is the same (:mod:`measlog.appraisal.footprint`), which is the scalar verifier's on one of them. Rows of which
anything is out of the ordinary go through the scalar path one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field

from measlog.appraisal.footprint import Footprint, footprint
from measlog.bulk.evidence import (
    Candidates,
    Proven,
    check_nonces,
    check_registers,
    check_signatures,
    read,
    read_keys,
    read_registers,
)
from measlog.bulk.quotes import GivenRegisters, QuoteReader, given_registers
from measlog.bulk.schema import EVIDENCE, OPTIONAL_EVIDENCE, VERDICT, BinaryColumn, TableError, pyarrow, verdict_fields
from measlog.bulk.templates import Matched, Template
from measlog.bulk.verdict import Verdict, appraise_row, refused
from measlog.errors import SelectionError
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import ALGORITHMS_BY_NAME

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from measlog.appraisal import Verifier
    from measlog.reference.manifest import ReferenceManifest

    Numbers = NDArray[np.int64]

__all__ = ["Appraiser", "appraise", "check_columns", "verdict_schema"]

BATCH = 4096
"""Rows that are worked on together: enough for the lanes, few enough for the memory (about 10 kB a row and its cells)."""
_KEPT = 16
"""Templates of one length of log that are remembered; logs that are like none of them go the scalar way."""
_KEPT_IN_ALL = 256
"""Templates of all lengths; each takes some ten times its log's length."""
_KEPT_OPINIONS = 4096
"""Opinions that are remembered: whoever owns a machine's key chooses what it quotes, and so makes new ones."""
_FRUITLESS = 4
"""Templates in a row that no other log was like, after which no more are made for the batch and length."""


def appraise(table: Any, verifier: Verifier, bank: str = "sha256", *, limits: Limits = DEFAULT_LIMITS) -> Any:
    """The table with the columns status, code, pcr, event and identified behind its own; same rows, same order.

    ``table`` is a pyarrow Table or RecordBatch with the columns of a fleet table. No row raises; a table that is no
    fleet table is a :class:`~measlog.bulk.schema.TableError`. Without pyarrow:
    :class:`~measlog.errors.MissingExtraError`.
    """
    pa = pyarrow()
    if not isinstance(table, pa.Table | pa.RecordBatch):
        raise TableError(f"a pyarrow Table or RecordBatch is needed, not {type(table).__name__}")
    check_columns(table.schema)
    appraiser = Appraiser(verifier, bank, limits=limits)
    if isinstance(table, pa.RecordBatch):
        return appraiser.batch(table)
    batches = [appraiser.batch(batch) for batch in table.to_batches()]
    return pa.Table.from_batches(batches, schema=verdict_schema(table.schema)).unify_dictionaries()


def check_columns(schema: pa.Schema) -> None:
    """Refuse a table that lacks a column of the evidence, or has one that an appraisal adds. Raises TableError."""
    missing = [name for name in EVIDENCE if name not in schema.names]
    if missing:
        raise TableError(f"a fleet table has the columns {', '.join(EVIDENCE)}; missing: {', '.join(missing)}")
    doubled = [n for n in (*EVIDENCE, *OPTIONAL_EVIDENCE) if schema.names.count(n) > 1]
    if doubled:
        raise TableError(f"the column {doubled[0]} is there twice")
    taken = [name for name in VERDICT if name in schema.names]
    if taken:
        raise TableError(f"the table has a column {taken[0]} already, which the appraisal would add")


def verdict_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the result for a table of this schema."""
    pa = pyarrow()
    return pa.schema([*schema, *verdict_fields()], metadata=schema.metadata)


@define(eq=False)
class Appraiser:
    """Appraises batch after batch with one verifier in one bank.

    It remembers templates of logs, keys, and opinions on footprints; use one for a stream of batches. It is no value:
    send a :class:`~measlog.Verifier` to other processes, and make one there.
    """

    verifier: Verifier
    bank: str = "sha256"
    limits: Limits = field(default=DEFAULT_LIMITS, kw_only=True)
    _reader: QuoteReader = field(factory=QuoteReader, init=False)
    _templates: dict[int, list[Template]] = field(factory=dict, init=False)
    _opinions: dict[tuple[Template, tuple[int, ...], frozenset[int]], Verdict] = field(factory=dict, init=False)
    _footprint: Footprint | None = field(init=False)
    _in_force: tuple[ReferenceManifest, ...] = field(default=(), init=False)

    def __attrs_post_init__(self) -> None:
        if self.bank not in ALGORITHMS_BY_NAME:
            raise SelectionError(f"there is no bank {self.bank}", check="bank")
        self._footprint = footprint(self.verifier, self.bank)

    def batch(self, batch: Any) -> Any:
        """A RecordBatch of evidence, with the verdicts behind its own columns."""
        pa = pyarrow()
        check_columns(batch.schema)
        verdicts: list[Verdict] = []
        for first in range(0, batch.num_rows, BATCH):
            verdicts += self.verdicts(batch.slice(first, BATCH))
        arrays = [*batch.columns, *_verdict_arrays(verdicts)]
        return pa.RecordBatch.from_arrays(arrays, schema=verdict_schema(batch.schema))

    def verdicts(self, batch: Any) -> list[Verdict]:
        """The verdicts on the rows of a RecordBatch, in order."""
        # An opinion holds as long as the manifests that it rests on are in force.
        in_force = self.verifier.in_force()
        if in_force != self._in_force:
            self._in_force = in_force
            self._opinions.clear()
        columns = {name: BinaryColumn.from_arrow(batch.column(name)) for name in EVIDENCE}
        pcrs = BinaryColumn.from_arrow(batch.column("pcrs")) if "pcrs" in batch.schema.names else None
        given = given_registers(pcrs, batch.num_rows, self.bank)
        found: dict[int, Verdict] = {}
        for matched in self._matched(columns["log"]):
            found.update(self._appraise(matched, columns, pcrs, given))
        return [found[row] if row in found else self._scalar(columns, pcrs, row) for row in range(batch.num_rows)]

    def _scalar(self, columns: Mapping[str, BinaryColumn], pcrs: BinaryColumn | None, row: int) -> Verdict:
        return appraise_row(
            self.verifier,
            self.bank,
            log=columns["log"][row],
            attest=columns["attest"][row],
            signature=columns["signature"][row],
            ak=columns["ak"][row],
            nonce=columns["nonce"][row],
            pcrs=None if pcrs is None or pcrs.null[row] else pcrs[row],
            limits=self.limits,
        )

    def _matched(self, column: BinaryColumn) -> Iterator[Matched]:
        """The rows whose logs are like another one's, by templates known or made on the way."""
        if sum(map(len, self._templates.values())) > _KEPT_IN_ALL:
            self._templates.clear()
            self._opinions.clear()
        lengths = np.where(column.lengths > self.limits.log_size, 0, column.lengths)
        order = np.argsort(lengths, kind="stable")
        found, firsts = np.unique(lengths[order], return_index=True)
        for length, rows in zip(found.tolist(), np.split(order, firsts[1:]), strict=True):
            if length:
                yield from self._matched_of_length(column, rows, length)

    def _matched_of_length(self, column: BinaryColumn, left: Numbers, length: int) -> Iterator[Matched]:
        known = self._templates.get(length, [])
        for template in known:
            if len(left):
                matched, left = template.match(column, left)
                yield matched
        fruitless = 0
        while len(left) > 1 and len(known) < _KEPT and fruitless < _FRUITLESS:
            made = Template.of(
                column[int(left[0])], self.limits, bank=self.bank, footprint=self._footprint, verdicts=True
            )
            if made is None:
                left, fruitless = left[1:], fruitless + 1
                continue
            matched, left = made.match(column, left)
            if len(matched.rows) > 1:
                fruitless = 0
                known = self._templates.setdefault(length, [])
                known.append(made)
            else:
                fruitless += 1
            yield matched

    def _appraise(
        self, matched: Matched, columns: Mapping[str, BinaryColumn], pcrs: BinaryColumn | None, given: GivenRegisters
    ) -> dict[int, Verdict]:
        """Verdicts by row, for rows whose logs are like a template's; rows that are not decided are left out."""
        rows = Candidates(matched, columns, given)
        read(rows, self._reader)
        self._check_signatures(rows)
        check_nonces(rows)
        proven = check_registers(rows, self.bank)
        found = {int(matched.rows[place]): refused(code) for place, code in rows.refused.items()}
        for group in proven:
            numbers = matched.rows[group.places].tolist()
            verdict = self._opinion(matched, group, columns, pcrs, numbers[0])
            found.update(dict.fromkeys(numbers, verdict) if verdict.status != "none" else {numbers[0]: verdict})
        return found

    def _check_signatures(self, rows: Candidates) -> None:
        """Keys and signatures: the steps that cost most, in one place so that they can be timed apart."""
        keys = read_keys(rows, self._reader)
        read_registers(rows)
        check_signatures(rows, keys)

    def _opinion(
        self,
        matched: Matched,
        group: Proven,
        columns: Mapping[str, BinaryColumn],
        pcrs: BinaryColumn | None,
        row: int,
    ) -> Verdict:
        """What the scalar path says of one of the rows: of all that differs between them, nothing enters the verdict.

        What does enter is in the key: bank and verifier are this object's, the log's footprint is the template's, and
        the registers that are quoted, and that hold what no event explains, are named (A40).
        """
        key = matched.template, group.selected, group.unexplained
        known = self._opinions.get(key)
        if known is None:
            known = self._scalar(columns, pcrs, row)
            if known.status != "none":
                if len(self._opinions) >= _KEPT_OPINIONS:
                    self._opinions.clear()
                self._opinions[key] = known
        return known


def _verdict_arrays(verdicts: list[Verdict]) -> list[Any]:
    """The five columns, from the different verdicts and the place of each row's among them."""
    pa = pyarrow()
    places: dict[Verdict, int] = {}
    index = np.array([places.setdefault(verdict, len(places)) for verdict in verdicts], dtype=np.int64)
    arrays = []
    for at, column in enumerate(verdict_fields()):
        values = [verdict[at] for verdict in places]
        if pa.types.is_dictionary(column.type):
            words = list(dict.fromkeys(value for value in values if value is not None))
            codes = pa.array([None if v is None else words.index(v) for v in values], pa.int32()).take(index)
            arrays.append(pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.string())))
        else:
            arrays.append(pa.array(values, column.type).take(index))
    return arrays
