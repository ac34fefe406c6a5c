"""What the engines cost over the plain function: the same fleet, the same number of workers, signatures included.

    python benchmarks/engines.py [--machines 100000] [--workers 2] [--rounds 5] [--engines dask ray spark] [--folder FOLDER]

All read the same Parquet files, appraise every machine and count the statuses; the logs stay where they were read. The
plain function runs in as many processes as the engine has workers. Clusters and processes are up before the clock starts;
what a job itself takes to start, until its workers know the manifests, is what a job of a few machines takes, and is left
out of the overhead that counts. Wall time, rounds of an engine and of the plain function in turn. A shared machine is a
quarter faster in one minute than in another, so an engine is compared with the plain function of its own round, and of
these ratios the median counts; all are shown. With as many workers as the machine has cores, an engine's own processes
(scheduler, driver, object store) take their time from the workers, as no process of the plain function does; with one core
more than workers they have that one.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import fleets  # noqa: E402
from measlog.bulk import engines  # noqa: E402

ENGINES = ("dask", "ray", "spark")
ALLOWED = {"dask": 0.25, "ray": 0.25, "spark": 1.0}
PART = 2000  # machines in a file: a partition of an engine, a task of the plain function
ROUNDS = 5
# What glibc may keep of freed memory: less, and large arrays are fetched from the system anew in every batch. Dask lets its
# workers return all beyond 64 KiB.
KEPT = {"MALLOC_TRIM_THRESHOLD_": 256 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20}

Counts = dict[str, int]
Run = Callable[[Path], Counts]


@lru_cache(maxsize=1)
def _worker(job: int) -> engines.Worker:  # noqa: ARG001 - a new one for each
    """What a process of the plain contestant appraises a job with."""
    pa.set_cpu_count(1)
    return engines.Worker(fleets.verifier(), evidence=False)


def _count(job: int, path: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=PART, use_threads=False):
            counts.update(_worker(job)(batch)["status"].to_pylist())
    return counts


@contextmanager
def plain(workers: int) -> Iterator[Run]:
    """The batch function in processes, which learn a fleet anew in every job, as those of an engine do."""
    jobs = count()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:

        def run(folder: Path) -> Counts:
            return dict(sum(pool.map(partial(_count, next(jobs)), sorted(folder.iterdir())), Counter[str]()))

        yield run


@contextmanager
def dask(workers: int) -> Iterator[Run]:
    """A local cluster of as many processes of one thread."""
    import dask.dataframe as dd  # noqa: PLC0415
    from dask import config  # noqa: PLC0415
    from distributed import Client, LocalCluster  # noqa: PLC0415

    with (
        config.set({f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in KEPT.items()}),
        LocalCluster(  # type: ignore[no-untyped-call,unused-ignore]
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call,unused-ignore]
    ):
        client.run(sys.path.append, str(ROOT))
        client.run(pa.set_cpu_count, 1)

        def run(folder: Path) -> Counts:
            frame = dd.read_parquet(f"{folder}/*.parquet", dtype_backend="pyarrow", blocksize=None)
            judged = engines.dask(frame, fleets.verifier(), evidence=False)
            return {str(k): int(v) for k, v in judged["status"].value_counts(split_out=1).compute().items()}

        yield run


@contextmanager
def ray(workers: int) -> Iterator[Run]:
    """As many tasks of one core, each of which reads what it appraises."""
    import ray as engine  # noqa: PLC0415

    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1",  # it starts a process for every ten files otherwise
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # its blocks are so large that Arrow's own pool fetches each one anew
        **{name: str(value) for name, value in KEPT.items()},
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    with patch.dict(os.environ, environment):
        engine.init(
            num_cpus=workers,
            include_dashboard=False,
            configure_logging=False,
            _node_ip_address="127.0.0.1",
            object_store_memory=1 << 30,
        )
        engine.data.DataContext.get_current().enable_progress_bars = False
        try:

            def run(folder: Path) -> Counts:
                judged = engines.ray(engine.data.read_parquet(str(folder)), fleets.verifier(), evidence=False)
                counts: Counter[str] = Counter()
                for batch in judged.iter_batches(batch_format="pyarrow", batch_size=None):
                    counts.update(batch["status"].to_pylist())
                return dict(counts)

            yield run
        finally:
            engine.shutdown()


@contextmanager
def spark(workers: int) -> Iterator[Run]:
    """Local mode with as many tasks at a time."""
    from pyspark.sql import SparkSession  # noqa: PLC0415

    environment = {
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    with patch.dict(os.environ, environment):
        session = (
            SparkSession.builder.master(f"local[{workers}]")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.memory", "3g")
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(PART))
            .config("spark.sql.parquet.columnarReaderBatchSize", "512")
            .config("spark.sql.files.maxPartitionBytes", str(16 << 20))
            .getOrCreate()
        )
        session.sparkContext.setLogLevel("ERROR")
        try:

            def run(folder: Path) -> Counts:
                judged = engines.spark(session.read.parquet(str(folder)), fleets.verifier(), evidence=False)
                return {row["status"]: row["count"] for row in judged.groupBy("status").count().collect()}

            yield run
        finally:
            session.stop()


def lines(
    machines: int, workers: int, rounds: int, folder: Path, names: tuple[str, ...] = ENGINES
) -> Iterator[fleets.Line]:
    """The rows of the table."""
    whole = fleets.parts(fleets.file(folder, machines), folder / "parts", PART)
    small = fleets.parts(fleets.file(folder, 200), folder / "few", 100)
    contestants = {"dask": dask, "ray": ray, "spark": spark}
    with plain(workers) as alone:
        alone(small)
        for name in names:
            with contestants[name](workers) as engine:
                if engine(small) != alone(small):
                    raise SystemExit(f"{name} counts otherwise than the plain function")
                times = [
                    [_timed(run, fleet) for run in (alone, engine) for fleet in (small, whole)] for _ in range(rounds)
                ]
            few_alone, all_alone, few, all_ = (median(column) for column in zip(*times, strict=True))
            net = [(d - c) / (b - a) - 1 for a, b, c, d in times]
            started = [d / b - 1 for _, b, _, d in times]
            shown = ", ".join(f"{one:+.0%}" for one in sorted(net))
            yield (
                f"{name.title()}, {machines:,} machines, {workers} worker{'s' * (workers > 1)}, with signatures",
                f"{all_:.1f} s, of which {few:.1f} to start a job; the plain function {all_alone:.1f}, {few_alone:.1f}",
                f"{median(net):+.0%} without the start ({shown}), {median(started):+.0%} with it (at most {ALLOWED[name]:+.0%})",
            )


def _timed(run: Run, folder: Path) -> float:
    gc.collect()
    began = time.perf_counter()
    run(folder)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description="Time engines.")
    parser.add_argument("--machines", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--folder", type=Path, help="where the fleet is kept for the next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        for line in lines(given.machines, given.workers, given.rounds, folder, tuple(given.engines)):
            print(" | ".join(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
