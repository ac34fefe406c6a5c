"""The batch function on engines: each adapter is a few lines around :class:`measlog.bulk.Appraiser`.

All of them take and give the columns of a fleet table and are the same function: a partition's rows in, the same rows
with their verdicts out. A verifier is pickled to the workers once; :class:`Worker` makes its appraiser where it runs.
With ``evidence=False`` the columns of the evidence are left out of the result: logs are most of a fleet table, and to hand
them on costs an engine more than to appraise them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from measlog.bulk.appraise import Appraiser, appraise, verdict_schema
from measlog.bulk.schema import EVIDENCE, OPTIONAL_EVIDENCE, pyarrow, verdict_fields

if TYPE_CHECKING:
    from measlog.appraisal import Verifier

__all__ = ["Worker", "dask", "duckdb", "polars", "ray", "spark"]

_EVIDENCE = (*EVIDENCE, *OPTIONAL_EVIDENCE)


class Worker:
    """A function from batches to batches that pickles, and keeps one appraiser in each process that calls it."""

    def __init__(self, verifier: Verifier, bank: str = "sha256", *, plain: bool = False, evidence: bool = True) -> None:
        self.verifier, self.bank, self.plain, self.evidence = verifier, bank, plain, evidence
        self._appraiser: Appraiser | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_appraiser": None}

    def __call__(self, table: Any) -> Any:
        """A Table or RecordBatch with its verdicts; ``plain`` ones have strings where there would be dictionaries."""
        if self._appraiser is None:
            self._appraiser = Appraiser(self.verifier, self.bank)
        pa = pyarrow()
        if isinstance(table, pa.RecordBatch):
            judged = self._appraiser.batch(table)
        else:
            batches = [self._appraiser.batch(batch) for batch in table.to_batches()]
            judged = pa.Table.from_batches(batches, schema=verdict_schema(table.schema)).unify_dictionaries()
        if not self.evidence:
            judged = judged.select([name for name in judged.schema.names if name not in _EVIDENCE])
        return judged.cast(_plain(judged.schema)) if self.plain else judged

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same for an iterator of RecordBatches."""
        return map(self, batches)


def _plain(schema: Any) -> Any:
    pa = pyarrow()
    fields = [pa.field(f.name, pa.string()) if pa.types.is_dictionary(f.type) else f for f in schema]
    names = {f.name for f in verdict_fields()}
    return pa.schema([f.with_nullable(True) if f.name in names else f for f in fields], metadata=schema.metadata)


def spark(frame: Any, verifier: Verifier, bank: str = "sha256", *, evidence: bool = True) -> Any:
    """A Spark DataFrame with the verdicts, by ``mapInArrow``; ``pcr`` and ``event`` are integers there.

    Spark sends its batches of ``spark.sql.execution.arrow.maxRecordsPerBatch`` rows.
    """
    from pyspark.sql.types import IntegerType, LongType, StringType, StructField, StructType  # noqa: PLC0415

    kinds = {"pcr": IntegerType(), "event": LongType()}
    added = [StructField(f.name, kinds.get(f.name, StringType())) for f in verdict_fields()]
    kept = [f for f in frame.schema.fields if evidence or f.name not in _EVIDENCE]
    worker = Worker(verifier, bank, plain=True, evidence=evidence)

    def judge(batches: Iterator[Any]) -> Iterator[Any]:
        pa = pyarrow()
        for batch in worker.batches(batches):
            wide = {"pcr": pa.int32(), "event": pa.int64()}
            fields = [pa.field(f.name, wide.get(f.name, f.type)) for f in batch.schema]
            yield batch.cast(pa.schema(fields))

    return frame.mapInArrow(judge, StructType([*kept, *added]))


def ray(dataset: Any, verifier: Verifier, bank: str = "sha256", *, evidence: bool = True, **options: Any) -> Any:
    """A Ray Dataset with the verdicts, by ``map_batches``; ``options`` are that method's (``concurrency``, ``batch_size``)."""
    options.setdefault("batch_size", 4096)
    arguments = {
        "fn_constructor_args": (verifier, bank),
        "fn_constructor_kwargs": {"plain": True, "evidence": evidence},
    }
    return dataset.map_batches(Worker, batch_format="pyarrow", zero_copy_batch=True, **arguments, **options)


def dask(frame: Any, verifier: Verifier, bank: str = "sha256", *, evidence: bool = True) -> Any:
    """A Dask DataFrame with the verdicts, by ``map_partitions``; binary columns are of a pandas Arrow type or objects."""
    worker = Worker(verifier, bank, plain=True)
    meta = _judge_pandas(frame._meta, worker, evidence=evidence)  # noqa: SLF001
    return frame.map_partitions(_judge_pandas, worker, evidence=evidence, meta=meta)


def _judge_pandas(part: Any, worker: Worker, *, evidence: bool) -> Any:
    import pandas as pd  # noqa: PLC0415

    pa = pyarrow()
    names = [name for name in _EVIDENCE if name in part.columns or name in EVIDENCE]
    cells = {name: pa.array(part[name], pa.large_binary(), from_pandas=True) for name in names}
    judged = worker(pa.table(cells)).drop_columns(names)
    found = judged.to_pandas(types_mapper=pd.ArrowDtype)
    found.index = part.index
    return pd.concat([part if evidence else part.drop(columns=names), found], axis=1)


def duckdb(relation: Any, verifier: Verifier, bank: str = "sha256", *, rows: int = 65_536) -> Iterator[Any]:
    """The RecordBatches of a DuckDB relation with the verdicts; ``duckdb.from_arrow`` takes a Table of them back."""
    reader = (
        relation.to_arrow_reader(rows) if hasattr(relation, "to_arrow_reader") else relation.fetch_arrow_reader(rows)
    )
    return Worker(verifier, bank).batches(reader)


def polars(frame: Any, verifier: Verifier, bank: str = "sha256") -> Any:
    """A Polars DataFrame with the verdicts."""
    import polars as pl  # noqa: PLC0415

    return pl.from_arrow(appraise(frame.to_arrow(), verifier, bank))
