"""Lanes give what hashlib gives: every engine of this machine, every algorithm, every shape."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog import lanes
from measlog.registry import ALGORITHMS_BY_NAME

ALGORITHMS = ("sha1", "sha256", "sha384", "sha512")
COUNTS = (0, 1, 3, 4, 5, 8, 15, 16, 17, 31, 33, 100)


def _random(seed: int, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("engine", lanes.engines())
@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "sha3_256"])
@pytest.mark.parametrize("count", COUNTS)
def test_extend_is_the_hash_of_state_and_digest(engine: str, algorithm: str, count: int) -> None:
    size = ALGORITHMS_BY_NAME[algorithm].size
    states, digests = _random(1, count, size), _random(2, count, size)
    expected = [
        hashlib.new(algorithm, s.tobytes() + d.tobytes()).digest() for s, d in zip(states, digests, strict=True)
    ]
    lanes.extend(algorithm, states, digests, engine=engine)
    assert [row.tobytes() for row in states] == expected


@pytest.mark.parametrize("engine", lanes.engines())
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_register_extended_again_and_again(engine: str, algorithm: str) -> None:
    size = ALGORITHMS_BY_NAME[algorithm].size
    states, digests = np.zeros((19, size), dtype=np.uint8), _random(3, 12, 19, size)
    for step in digests:
        lanes.extend(algorithm, states, step, engine=engine)
    for lane in range(19):
        value = bytes(size)
        for step in digests:
            value = hashlib.new(algorithm, value + step[lane].tobytes()).digest()
        assert states[lane].tobytes() == value


@pytest.mark.parametrize("engine", lanes.engines())
@given(algorithm=st.sampled_from(ALGORITHMS), data=st.data())
def test_some_states_among_many_and_digests_within_longer_rows(
    engine: str, algorithm: str, data: st.DataObject
) -> None:
    size = ALGORITHMS_BY_NAME[algorithm].size
    places = data.draw(st.lists(st.integers(0, 49), unique=True, max_size=40))
    seed = data.draw(st.integers(0, 2**32 - 1))
    before = data.draw(st.integers(0, 7))
    states, rows = _random(seed, 50, size), _random(seed + 1, len(places), before + size + 3)
    digests = rows[:, before : before + size]
    expected = states.copy()
    for i, place in enumerate(places):
        message = states[place].tobytes() + digests[i].tobytes()
        expected[place] = np.frombuffer(hashlib.new(algorithm, message).digest(), dtype=np.uint8)
    lanes.extend(algorithm, states, digests, where=np.array(places, dtype=np.int64), engine=engine)
    assert np.array_equal(states, expected)


@pytest.mark.parametrize("engine", lanes.engines())
@given(
    algorithm=st.sampled_from(ALGORITHMS),
    count=st.integers(0, 40),
    width=st.integers(0, 400),
    prefix=st.binary(max_size=200),
)
def test_rows_of_any_width_behind_any_prefix(
    engine: str, algorithm: str, count: int, width: int, prefix: bytes
) -> None:
    rows = _random(count * 1000 + width, count, width)
    found = lanes.hash_rows(algorithm, rows, prefix=prefix, engine=engine)
    assert [row.tobytes() for row in found] == [hashlib.new(algorithm, prefix + r.tobytes()).digest() for r in rows]


@pytest.mark.parametrize("engine", lanes.engines())
def test_blocks_of_a_verity_tree(engine: str) -> None:
    rows, salt = _random(5, 37, 4096), bytes(range(32))
    found = lanes.hash_rows("sha256", rows, prefix=salt, engine=engine)
    assert [row.tobytes() for row in found] == [hashlib.sha256(salt + row.tobytes()).digest() for row in rows]


@pytest.mark.parametrize("engine", lanes.engines())
def test_messages_that_repeat_themselves(engine: str) -> None:
    states = np.tile(_random(6, 2, 32), (300, 1))
    digests = np.tile(_random(7, 3, 32), (200, 1))
    expected = [hashlib.sha256(s.tobytes() + d.tobytes()).digest() for s, d in zip(states, digests, strict=True)]
    lanes.extend("sha256", states, digests, engine=engine)
    assert [row.tobytes() for row in states] == expected


@pytest.mark.parametrize("engine", lanes.engines())
def test_arrays_that_do_not_fit_are_refused(engine: str) -> None:
    states, digests = np.zeros((4, 32), dtype=np.uint8), np.zeros((4, 32), dtype=np.uint8)
    cases: tuple[tuple[np.ndarray, np.ndarray], ...] = (
        (states, digests[:3]),
        (states[:, :20], digests),
        (states, digests[:, :20]),
        (states.astype(np.uint16), digests),
        (states[0], digests[0]),
    )
    for bad_states, bad_digests in cases:
        with pytest.raises(ValueError, match=r".+"):
            lanes.extend("sha256", bad_states, bad_digests, engine=engine)
    for places in ([0, 1, 2], [0, 1, 2, 4], [0, 1, 2, -5]):
        with pytest.raises((ValueError, IndexError)):
            lanes.extend("sha256", states, digests, where=np.array(places, dtype=np.int64), engine=engine)
    assert not states.any()
    with pytest.raises(ValueError, match="no engine"):
        lanes.extend("sha256", states, digests, engine="abacus")


@pytest.mark.parametrize("engine", lanes.engines())
def test_rows_that_are_none_are_refused(engine: str) -> None:
    rows = np.zeros((4, 32), dtype=np.uint8)
    wrongs: tuple[np.ndarray, ...] = (rows[0], rows.astype(np.uint16), rows.reshape(2, 2, 32))
    for wrong in wrongs:
        with pytest.raises(ValueError, match="uint8 of two dimensions"):
            lanes.hash_rows("sha256", wrong, engine=engine)


def test_an_algorithm_that_this_python_lacks_gives_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "hash_constructor", lambda _: None)
    with pytest.raises(ValueError, match="this Python cannot compute sm3_256"):
        lanes.hash_rows("sm3_256", np.zeros((1, 32), dtype=np.uint8))


@pytest.mark.parametrize("engine", [e for e in lanes.engines() if e != "hashlib"])
def test_compiled_lanes_refuse_what_they_could_write_past(engine: str) -> None:
    packed = np.zeros((4, 64), dtype=np.uint8)
    with pytest.raises(ValueError, match="fit"):
        lanes.extend("sha256", packed[:, :32], packed[:, 32:].copy(), engine=engine)
    with pytest.raises(ValueError, match="fit"):
        lanes.extend("sha256", packed[:, :32].copy(), np.zeros((4, 64), dtype=np.uint8)[:, ::2], engine=engine)
    with pytest.raises(ValueError, match="fit"):
        lanes.extend(
            "sha256",
            np.zeros((4, 32), dtype=np.uint8),
            np.zeros((4, 32), dtype=np.uint8),
            where=np.arange(4, dtype=np.int32),  # type: ignore[arg-type,unused-ignore]
            engine=engine,
        )
    frozen = np.zeros((4, 32), dtype=np.uint8)
    frozen.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        lanes.extend("sha256", frozen, np.zeros((4, 32), dtype=np.uint8), engine=engine)


def _engine_said(environment: dict[str, str]) -> str:
    code = "from measlog import lanes; print(lanes.engine())"
    kept = {k: v for k, v in os.environ.items() if k != "MEASLOG_LANES"}
    return subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_environment_chooses_the_engine() -> None:
    assert _engine_said({}) == lanes.engines()[0]
    for name in lanes.engines():
        assert _engine_said({"MEASLOG_LANES": name}) == name


@pytest.mark.parametrize("wrong", ["first", "last", "crossed", "rows"])
def test_an_engine_that_gives_a_wrong_answer_is_not_used(wrong: str) -> None:
    class Broken:
        """The hashlib answers, with one of them spoilt."""

        @staticmethod
        def extend(_: str, number: int, states: np.ndarray, digests: np.ndarray, where: None) -> None:
            assert where is None
            lanes.extend(ALGORITHMS[number], states, digests, engine="hashlib")
            if wrong == "crossed":
                states[[0, 1]] = states[[1, 0]]
            elif number == 3 and wrong != "rows":
                states[0 if wrong == "first" else -1, 5] ^= 1

        @staticmethod
        def hash_rows(_: str, number: int, out: np.ndarray, rows: np.ndarray, prefix: bytes) -> None:
            out[:] = lanes.hash_rows(ALGORITHMS[number], rows, prefix=prefix, engine="hashlib")
            if wrong == "rows":
                out[-1, -1] ^= 0x80

    assert not lanes._sound(Broken(), "broken")


def test_threads_do_not_disturb_each_other() -> None:
    states = [_random(i, 4096, 32) for i in range(4)]
    digests = _random(9, 4096, 32)
    expected = [s.copy() for s in states]
    for one in expected:
        lanes.extend("sha256", one, digests, engine="hashlib")
    threads = [threading.Thread(target=lanes.extend, args=("sha256", s, digests)) for s in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(states, expected, strict=True))
