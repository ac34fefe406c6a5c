"""The library keeps no state: any number of threads get the answers that one alone gets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

import measlog as ml
from measlog import lanes
from tests.conftest import FIXTURES
from tests.reliability.work import NAMES, appraisal, hashing, reading, verifier

THREADS = 8


@pytest.fixture(autouse=True)
def _switching() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def _together(jobs: list[Callable[[], str]]) -> list[str]:
    """The answers of jobs that start at the same moment, one thread each."""
    start = Barrier(len(jobs))

    def one(job: Callable[[], str]) -> str:
        start.wait(timeout=60)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(one, jobs))


def test_one_verifier_appraises_for_many_threads() -> None:
    judge = verifier()
    alone = {name: appraisal(verifier(), name) for name in NAMES}
    assert len(set(alone.values())) == len(NAMES)
    names = [NAMES[i % len(NAMES)] for i in range(THREADS)]
    found = _together([lambda name=name: appraisal(judge, name) for name in names])  # type: ignore[misc]
    assert found == [alone[name] for name in names]


def test_one_log_is_read_by_many_threads() -> None:
    """What a log works out when it is first asked is asked for by all at once."""
    data = (FIXTURES / "flatcar-lab-good/binary_bios_measurements").read_bytes()
    alone = reading(ml.EventLog.from_bytes(data))
    shared = ml.EventLog.from_bytes(data)
    assert _together([lambda: reading(shared)] * THREADS) == [alone] * THREADS


@pytest.mark.parametrize("engine", lanes.engines())
def test_lanes_hash_for_many_threads(engine: str) -> None:
    """The compiled ones without the interpreter's lock; hashlib says what is right."""
    assert _together([lambda: hashing(engine)] * THREADS) == [hashing("hashlib")] * THREADS


def test_a_verifier_is_shared_by_the_columns_of_many_threads() -> None:
    pytest.importorskip("pyarrow")
    from tests.bulk import fleets

    judge, rows = fleets.verifier(), fleets.machines("realistic", 24, seed=9, tampered=0.3)
    alone = repr([fleets.scalar(row, judge) for row in rows])
    found = _together([lambda: repr(fleets.columnar(rows, judge))] * 4)
    assert found == [alone] * 4
