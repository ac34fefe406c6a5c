"""The batch function on real engines, in local mode with more than one worker."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import measlog as ml
from measlog.appraisal.result import Severity
from measlog.bulk import engines

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from tests.bulk.fleets import VERDICT, machines, table, verifier  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
ROWS = 60

Verdicts = list[tuple[object, ...]]


def _package(name: str) -> Any:
    """An engine's package; where the engines are what is tested, a missing one is no reason to skip."""
    if os.environ.get("MEASLOG_REQUIRE_ENGINES"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


@pytest.fixture(scope="module")
def source() -> Any:
    return table(machines("realistic", ROWS, seed=13, tampered=0.25))


@pytest.fixture(scope="module")
def expected(source: Any) -> Verdicts:
    return _verdicts(ml.bulk.appraise(source, verifier()).to_pylist())


@pytest.fixture(scope="module")
def file(source: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("fleet")
    for part in range(4):
        pq.write_table(source.slice(15 * part, 15), folder / f"{part}.parquet")
    return folder


def _verdicts(rows: list[dict[str, Any]]) -> Verdicts:
    rows = sorted(rows, key=lambda row: str(row["machine"]))
    return [(row["machine"], *(None if row[n] != row[n] else row[n] for n in VERDICT)) for row in rows]


def _counts(verdicts: Verdicts) -> dict[object, int]:
    return dict(Counter(status for _, status, *_ in verdicts))


def test_worker_pickles_and_goes_on(source: Any, expected: Verdicts) -> None:
    worker = pickle.loads(pickle.dumps(engines.Worker(verifier(), plain=True)))
    judged = pa.Table.from_batches(list(worker.batches(source.to_batches(max_chunksize=7))))
    assert _verdicts(judged.to_pylist()) == expected
    assert judged.schema.field("status").type == pa.string()
    assert _verdicts(worker(source).to_pylist()) == expected
    assert _verdicts(pickle.loads(pickle.dumps(worker))(source).to_pylist()) == expected
    short = engines.Worker(verifier(), evidence=False)(source)
    assert short.column_names == ["machine", *VERDICT]
    assert _verdicts(short.to_pylist()) == expected


def test_copies_of_a_worker_share_what_was_learnt(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines send a copy with each task: in one thread they have one appraiser, in another another, and few are kept."""
    made: list[tuple[ml.Verifier, int]] = []

    def appraiser(judge: ml.Verifier, bank: str) -> Any:
        made.append((judge, threading.get_ident()))
        return ml.bulk.Appraiser(judge, bank)

    monkeypatch.setattr(engines, "Appraiser", appraiser)
    few, here = source.slice(0, 3), threading.get_ident()
    first, second, third = (engines.Worker(verifier()) for _ in range(3))
    sent = pickle.dumps(first)
    for _ in range(3):
        pickle.loads(sent)(few)
    first(few)
    assert [where for _, where in made] == [here]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pickle.loads(sent), few).result()
    assert len({where for _, where in made}) == len(made) == 2
    # Another worker is another verifier, even of equal parts: a rule's name does not tell what it does.
    other = verifier(secure_boot=False)
    engines.Worker(other)(few)
    assert [judge is other for judge, _ in made] == [False, False, True]
    for worker in (first, second, first, third, first):
        worker(few)
    assert len(made) == 5
    second(few)
    assert len(made) == 6


def test_a_worker_on_its_way_is_read_once_in_a_process(source: Any, expected: Verdicts) -> None:
    """It goes with every task, and each task's copy is the same bytes."""
    sent = pickle.dumps(engines._Sent(engines.Worker(verifier()), pickle.dumps))
    copies = [pickle.loads(sent) for _ in range(3)]
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(lambda: pickle.loads(sent).worker()).result()
    assert len({id(copy.worker()) for copy in copies} | {id(elsewhere)}) == 1
    assert _verdicts(copies[0].worker()(source).to_pylist()) == expected
    other = pickle.loads(pickle.dumps(engines._Sent(engines.Worker(verifier()), pickle.dumps)))
    assert other.worker() is not elsewhere


def _with_a_rule_of_its_own() -> ml.Verifier:
    """A verifier with a rule whose class no other process can import: engines send it by value."""

    class Never:
        code = "test.never"
        severity: Severity = "error"
        sentence = "Nothing is right."
        registers = frozenset[int]()

        def appraise(self, _: Any, report: Any) -> None:
            report.find("test.never", "nothing is right")

    known = verifier()
    policy = evolve(known.policy, rule=ml.policy.AllOf([known.policy.rule, Never()]))
    return ml.Verifier(known.manifests, policy=policy)


def test_polars(source: Any, expected: Verdicts) -> None:
    pl = _package("polars")
    frame = engines.polars(pl.from_arrow(source), verifier())
    assert _verdicts(frame.to_dicts()) == expected


def test_duckdb(file: Path, expected: Verdicts) -> None:
    duckdb = _package("duckdb")
    with duckdb.connect() as connection:
        relation = connection.sql(f"SELECT * FROM '{file}/*.parquet'")
        judged = pa.Table.from_batches(list(engines.duckdb(relation, verifier(), rows=16))).unify_dictionaries()
        assert _verdicts(judged.to_pylist()) == expected
        counted = connection.sql("SELECT status, count(*) FROM judged GROUP BY status").fetchall()
    assert sum(count for _, count in counted) == ROWS


@pytest.mark.engines
@pytest.mark.filterwarnings("ignore")
def test_dask(file: Path, expected: Verdicts) -> None:
    dd, distributed = _package("dask.dataframe"), _package("distributed")

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(sys.path.append, str(ROOT))
        frame = dd.read_parquet(f"{file}/*.parquet")
        assert frame.npartitions > 1
        judged = engines.dask(frame, verifier()).compute()
        short = engines.dask(dd.read_parquet(f"{file}/*.parquet", dtype_backend="pyarrow"), verifier(), evidence=False)
        assert list(short.columns) == list(short.compute().columns) == ["machine", *VERDICT]
        assert short["status"].value_counts().compute().to_dict() == _counts(expected)
        assert _verdicts(judged.astype(object).where(judged.notna(), None).to_dict("records")) == expected
        never = engines.dask(frame, _with_a_rule_of_its_own(), evidence=False).compute()
        assert set(never["code"]) >= {"test.never"}
        assert "affirming" not in set(never["status"])


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ray = _package("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=200 << 20,
    )
    yield ray
    ray.shutdown()


@pytest.mark.engines
@pytest.mark.filterwarnings("ignore")
def test_ray(ray_cluster: Any, file: Path, expected: Verdicts) -> None:
    dataset = ray_cluster.data.read_parquet(str(file))
    judged = engines.ray(dataset, verifier(), concurrency=2, batch_size=16)
    assert _verdicts(judged.take_all()) == expected
    short = engines.ray(dataset, verifier(), concurrency=2, batch_size=16, evidence=False).take_all()
    assert _verdicts(short) == expected
    assert set(short[0]) == {"machine", *VERDICT}
    whole = engines.ray(dataset, verifier(), evidence=False).materialize()
    assert _verdicts(whole.take_all()) == expected
    # The name of the task that reads goes on with the appraisal's.
    assert "->MapBatches(judge)" in whole.stats()
    never = engines.ray(dataset, _with_a_rule_of_its_own(), evidence=False).take_all()
    assert {row["code"] for row in never} >= {"test.never"}
    assert "affirming" not in {row["status"] for row in never}


@pytest.mark.engines
@pytest.mark.filterwarnings("ignore")
def test_spark(file: Path, expected: Verdicts, monkeypatch: pytest.MonkeyPatch) -> None:
    pyspark = _package("pyspark.sql")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    session = (
        pyspark.SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "16")
        .getOrCreate()
    )
    try:
        frame = session.read.parquet(str(file)).repartition(4)
        assert frame.rdd.getNumPartitions() > 1
        judged = engines.spark(frame, verifier())
        rows = [row.asDict() for row in judged.collect()]
        short = engines.spark(frame, verifier(), evidence=False)
        assert short.columns == ["machine", *VERDICT]
        counts = {row["status"]: row["count"] for row in short.groupBy("status").count().collect()}
        never = engines.spark(frame, _with_a_rule_of_its_own(), evidence=False).collect()
        assert {row["code"] for row in never} >= {"test.never"}
        assert "affirming" not in {row["status"] for row in never}
    finally:
        session.stop()
        # The Java machine as well, or whoever asks for a session next has one that started in this folder.
        context = _package("pyspark").SparkContext
        context._gateway.shutdown()
        context._gateway = context._jvm = None
    assert _verdicts(rows) == expected
    assert counts == _counts(expected)
