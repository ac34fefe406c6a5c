"""Parquet to Parquet: the same verdicts in bounded memory, over processes, and after being killed at any point."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import measlog as ml
from measlog.bulk import stream
from measlog.bulk.schema import TableError
from measlog.bulk.stream import Progress, verify_parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from tests.bulk.fleets import machines, table, verifier  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fleet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety machines in nine row groups, one of them empty."""
    path: Path = tmp_path_factory.mktemp("fleet") / "fleet.parquet"
    whole = table(machines("identical", 90, seed=4, tampered=0.2))
    with pq.ParquetWriter(path, whole.schema) as writer:
        for first in range(0, 90, 12):
            writer.write_table(whole.slice(first, 12))
        writer.write_table(whole.slice(0, 0))
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_output_is_the_input_with_its_verdicts(fleet_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    seen: list[Progress] = []
    summary = verify_parquet(fleet_file, target, verifier(), progress=seen.append)
    expected = ml.bulk.appraise(pq.read_table(fleet_file), verifier())
    assert pq.read_table(target).to_pylist() == expected.to_pylist()
    assert sum(summary.statuses.values()) == summary.rows == 90
    assert summary.statuses["affirming"] == expected["status"].to_pylist().count("affirming")
    assert (seen[0].done, seen[0].remaining) == (0, None)
    assert (seen[-1].done, seen[-1].remaining) == (90, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.slow
def test_workers_change_nothing(fleet_file: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    verify_parquet(fleet_file, one, verifier())
    verify_parquet(fleet_file, two, verifier(), workers=2)
    assert _digest(one) == _digest(two)


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 4, 8])
def test_a_run_that_stops_is_gone_on_with(fleet_file: Path, tmp_path: Path, after: int) -> None:
    whole, target = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    verify_parquet(fleet_file, whole, verifier())
    calls = 0

    def stop(_: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        verify_parquet(fleet_file, target, verifier(), progress=stop)
    assert not target.exists()
    summary = verify_parquet(fleet_file, target, verifier())
    assert summary.resumed == min(12 * after, 90)
    assert _digest(target) == _digest(whole)


def test_nothing_is_taken_over_from_another_verifier_or_input(fleet_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"

    def stop(progress: Progress) -> None:
        if progress.done:
            raise _StoppedError

    other = verifier(secure_boot=False)
    with pytest.raises(_StoppedError):
        verify_parquet(fleet_file, target, other, progress=stop)
    assert verify_parquet(fleet_file, target, verifier()).resumed == 0
    with pytest.raises(_StoppedError):
        verify_parquet(fleet_file, target, verifier(), progress=stop)
    os.utime(fleet_file)
    assert verify_parquet(fleet_file, target, verifier()).resumed == 0


def test_what_a_run_was_made_from_is_named_alike_in_every_process() -> None:
    code = (
        "import measlog as ml; from measlog.bulk.stream import _stable;"
        "print(_stable(ml.policy.flatcar(minimum_dbx=[bytes([i]) * 32 for i in range(9)])))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(runs) == 1
    assert b"SecureBoot" in runs.pop()


def test_files_that_are_no_fleet_tables(fleet_file: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.parquet"
    text.write_text("no Parquet")
    with pytest.raises(TableError, match="Parquet"):
        verify_parquet(text, tmp_path / "out.parquet", verifier())
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"log": [b"x"]}), other)
    with pytest.raises(TableError, match="missing"):
        verify_parquet(other, tmp_path / "out.parquet", verifier())
    with pytest.raises(TableError, match="input"):
        verify_parquet(fleet_file, fleet_file, verifier())
    with pytest.raises(FileNotFoundError):
        verify_parquet(tmp_path / "none.parquet", tmp_path / "out.parquet", verifier())


_RUN = """
import sys
from pathlib import Path
from measlog.bulk.stream import verify_parquet
from tests.bulk.fleets import verifier
if __name__ == "__main__":
    tell = lambda progress: print(progress.done, flush=True)
    verify_parquet(sys.argv[1], sys.argv[2], verifier(), workers=int(sys.argv[3]), progress=tell)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_point(fleet_file: Path, tmp_path: Path, workers: int) -> None:
    """Killed outright, before it began, as soon as it said a word, and a little later each time: nothing is lost."""
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    whole, target = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    verify_parquet(fleet_file, whole, verifier())
    command = [sys.executable, str(script), str(fleet_file), str(target), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # How many lines of progress a run may print, and how long it may go on after the last of them, in seconds.
    for lines, delay in [(0, 0.1), (1, 0.0), (2, 0.0), (2, 0.002), (1, 0.02), (2, 0.005)]:
        with subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            for _ in range(lines):
                run.stdout.readline()
            time.sleep(delay)
            os.killpg(run.pid, signal.SIGKILL)
        time.sleep(0.1)  # workers of that session end
    last = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    counts = [int(word) for word in last.stdout.split()]
    assert counts[0] > 0 or target.exists(), "nothing was gone on with"
    assert counts[-1] == 90
    assert _digest(target) == _digest(whole)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda data: data[:0],
        lambda data: data[:-3],
        lambda data: b"PAR1" + bytes(len(data) - 4),
        lambda data: data[:-4] + b"PAR2",
    ],
)
def test_a_finished_row_group_that_was_damaged_since(fleet_file: Path, tmp_path: Path, damaged: Any) -> None:
    """One error that names the file; without that file the run goes on, to the same output."""
    whole, target = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    verify_parquet(fleet_file, whole, verifier())

    class StoppedError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done:
            raise StoppedError

    with pytest.raises(StoppedError):
        verify_parquet(fleet_file, target, verifier(), progress=stop)
    (part,) = tmp_path.glob(".out.parquet.parts/0*.parquet")
    part.write_bytes(damaged(part.read_bytes()))
    with pytest.raises(TableError, match="a row group that was finished") as caught:
        verify_parquet(fleet_file, target, verifier())
    assert str(part) in str(caught.value)
    assert not target.exists()
    part.unlink()
    verify_parquet(fleet_file, target, verifier())
    assert _digest(target) == _digest(whole)


def test_a_worker_keeps_to_its_row_group(fleet_file: Path, tmp_path: Path) -> None:
    """What a worker process does, done here: the row group with its verdicts, in a file that is whole or not there."""
    import pickle

    stream._start(str(fleet_file), str(tmp_path), pickle.dumps(verifier()), "sha256")
    try:
        assert stream._do_here(2) == 2
    finally:
        stream._HERE.clear()
    part = pq.read_table(tmp_path / "00000002.parquet")
    expected = ml.bulk.appraise(pq.ParquetFile(fleet_file).read_row_group(2), verifier())
    assert part.column_names == expected.column_names
    assert part.to_pylist() == expected.to_pylist()


def test_progress_counts_this_run_alone() -> None:
    progress = Progress(rows=100, done=60, before=40, seconds=2.0)
    assert (progress.rate, progress.remaining) == (10.0, 4.0)
    idle: dict[str, Any] = {"rows": 100, "done": 40, "before": 40, "seconds": 2.0}
    assert (Progress(**idle).rate, Progress(**idle).remaining) == (None, None)
