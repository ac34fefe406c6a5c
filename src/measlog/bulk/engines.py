"""The batch function on engines: each adapter is a few lines around :class:`measlog.bulk.Appraiser`.

All of them take and give the columns of a fleet table and are the same function: a partition's rows in, the same rows
with their verdicts out. A verifier is pickled with the function, once for a job, and read once in a process;
:class:`Worker` makes an appraiser where it runs, once a thread.
With ``evidence=False`` the columns of the evidence are left out of the result: logs are most of a fleet table, and to hand
them on costs an engine more than to appraise them.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from measlog.bulk.appraise import Appraiser, appraise, verdict_schema
from measlog.bulk.schema import EVIDENCE, OPTIONAL_EVIDENCE, pyarrow, verdict_fields

if TYPE_CHECKING:
    from measlog.appraisal import Verifier

__all__ = ["Worker", "dask", "duckdb", "polars", "ray", "spark"]

_EVIDENCE = (*EVIDENCE, *OPTIONAL_EVIDENCE)


class Worker:
    """A function from batches to batches that pickles: all copies of it in one thread share one appraiser.

    Engines send a function with every task. What an appraiser learns of a fleet takes longer to learn than a task's rows
    take to appraise, so that it must outlast the copy that came with the task.
    """

    def __init__(self, verifier: Verifier, bank: str = "sha256", *, plain: bool = False, evidence: bool = True) -> None:
        self.verifier, self.bank, self.plain, self.evidence = verifier, bank, plain, evidence
        # Not made from what it contains: rules of one name may differ from one definition of theirs to the next.
        self._name = uuid4().hex

    def __call__(self, table: Any) -> Any:
        """A Table or RecordBatch with its verdicts; ``plain`` ones have strings where there would be dictionaries."""
        appraiser = _APPRAISERS.of(self)
        pa = pyarrow()
        if isinstance(table, pa.RecordBatch):
            judged = appraiser.batch(table)
        else:
            batches = [appraiser.batch(batch) for batch in table.to_batches()]
            judged = pa.Table.from_batches(batches, schema=verdict_schema(table.schema)).unify_dictionaries()
        if not self.evidence:
            judged = judged.select([name for name in judged.schema.names if name not in _EVIDENCE])
        return judged.cast(_plain(judged.schema)) if self.plain else judged

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same for an iterator of RecordBatches."""
        return map(self, batches)


class _Appraisers(threading.local):
    """The appraisers of a thread's latest workers, by their names: an appraiser is for one thread at a time."""

    kept = 2

    def __init__(self) -> None:
        self._known: dict[str, Appraiser] = {}

    def of(self, worker: Worker) -> Appraiser:
        """The appraiser of a worker and of all its copies."""
        name = worker._name  # noqa: SLF001
        found = self._known.pop(name, None) or Appraiser(worker.verifier, worker.bank)
        self._known[name] = found
        while len(self._known) > self.kept:
            del self._known[next(iter(self._known))]
        return found


_APPRAISERS = _Appraisers()


class _Sent:
    """A worker on its way: bytes, which an engine copies into its tasks at no cost, and a process reads once.

    ``dumps`` is the engine's own: it sends functions by value that exist only where the job is described.
    """

    def __init__(self, worker: Worker, dumps: Callable[[Worker], bytes]) -> None:
        self._pickled = dumps(worker)

    def worker(self) -> Worker:
        """The worker; the same one for all copies in a process."""
        return _received(self._pickled)


@lru_cache(maxsize=2)
def _received(pickled: bytes) -> Worker:
    worker: Worker = pickle.loads(pickled)  # noqa: S301 - it came with the engine's own pickled task
    return worker


def _plain(schema: Any) -> Any:
    pa = pyarrow()
    fields = [pa.field(f.name, pa.string()) if pa.types.is_dictionary(f.type) else f for f in schema]
    names = {f.name for f in verdict_fields()}
    return pa.schema([f.with_nullable(True) if f.name in names else f for f in fields], metadata=schema.metadata)


def spark(frame: Any, verifier: Verifier, bank: str = "sha256", *, evidence: bool = True) -> Any:
    """A Spark DataFrame with the verdicts, by ``mapInArrow``; ``pcr`` and ``event`` are integers there.

    Spark sends its batches of ``spark.sql.execution.arrow.maxRecordsPerBatch`` rows.
    """
    from pyspark import cloudpickle  # noqa: PLC0415
    from pyspark.sql.types import IntegerType, LongType, StringType, StructField, StructType  # noqa: PLC0415

    kinds = {"pcr": IntegerType(), "event": LongType()}
    added = [StructField(f.name, kinds.get(f.name, StringType())) for f in verdict_fields()]
    kept = [f for f in frame.schema.fields if evidence or f.name not in _EVIDENCE]
    sent = _Sent(Worker(verifier, bank, plain=True, evidence=evidence), cloudpickle.dumps)

    def judge(batches: Iterator[Any]) -> Iterator[Any]:
        pa = pyarrow()
        for batch in sent.worker().batches(batches):
            wide = {"pcr": pa.int32(), "event": pa.int64()}
            fields = [pa.field(f.name, wide.get(f.name, f.type)) for f in batch.schema]
            yield batch.cast(pa.schema(fields))

    return frame.mapInArrow(judge, StructType([*kept, *added]))


def ray(dataset: Any, verifier: Verifier, bank: str = "sha256", *, evidence: bool = True, **options: Any) -> Any:
    """A Ray Dataset with the verdicts, by ``map_batches``; ``options`` are that method's.

    With none of them, Ray appraises a block in the task that reads it, and no log passes through the object store.
    ``batch_size`` and ``concurrency`` make it a task of its own.
    """
    from ray import cloudpickle  # noqa: PLC0415

    sent = _Sent(Worker(verifier, bank, plain=True, evidence=evidence), cloudpickle.dumps)

    # A function: an actor, which a class would be, starts anew for every execution, and learns the fleet anew.
    def judge(batch: Any) -> Any:
        return sent.worker()(batch)

    options = {"batch_size": None, "zero_copy_batch": True, **options}
    return dataset.map_batches(judge, batch_format="pyarrow", **options)


def dask(frame: Any, verifier: Verifier, bank: str = "sha256", *, evidence: bool = True) -> Any:
    """A Dask DataFrame with the verdicts, by ``map_partitions``; binary columns are of a pandas Arrow type or objects."""
    import cloudpickle  # noqa: PLC0415
    from dask.delayed import delayed  # noqa: PLC0415

    sent = _Sent(Worker(verifier, bank, plain=True), cloudpickle.dumps)
    meta = _judge_pandas(frame._meta, sent, evidence=evidence)  # noqa: SLF001
    # A node of its own in the graph, which every partition's task refers to: it goes to each worker process once.
    return frame.map_partitions(_judge_pandas, delayed(sent, pure=True), evidence=evidence, meta=meta)


def _judge_pandas(part: Any, sent: _Sent, *, evidence: bool) -> Any:
    import pandas as pd  # noqa: PLC0415

    pa = pyarrow()
    names = [name for name in _EVIDENCE if name in part.columns or name in EVIDENCE]
    cells = {name: pa.array(part[name], pa.large_binary(), from_pandas=True) for name in names}
    judged = sent.worker()(pa.table(cells)).drop_columns(names)
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
