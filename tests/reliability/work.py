"""Pieces of work for threads and processes, each with an answer that is the same whoever does it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

import measlog as ml
from measlog import lanes
from tests.conftest import FIXTURES

NAMES = ("flatcar-lab-good", "flatcar-lab-tampered", "slot-b")


def verifier() -> ml.Verifier:
    """A verifier with one manifest."""
    key = (FIXTURES / "lab/keys/manifest.pub").read_bytes()
    signed = ml.SignedManifest.from_bytes((FIXTURES / "flatcar-lab-good/manifest.dsse.json").read_bytes())
    return ml.Verifier([signed.verify(keys=[key])], policy=ml.policy.flatcar(secure_boot=True))


def appraisal(judge: ml.Verifier, name: str) -> str:
    """What a verifier says of a capture, read and verified anew."""
    folder = FIXTURES / name
    parts = {part: (folder / part).read_bytes() for part in ("binary_bios_measurements", "quote.msg", "quote.sig")}
    evidence = ml.Evidence(
        log=ml.EventLog.from_bytes(parts["binary_bios_measurements"]),
        quote=ml.Quote.from_bytes(parts["quote.msg"], parts["quote.sig"]),
    )
    nonce = bytes.fromhex((folder / "nonce.txt").read_text())
    result = judge.appraise(evidence.verify(ak=(folder / "ak.pub").read_bytes(), nonce=nonce))
    return f"{result.status} {[(f.code, f.pcr, f.event) for f in result.findings]} {len(result.checked)}"


def reading(log: ml.EventLog) -> str:
    """Everything that a log has to say, whether this is the first question or not."""
    told = hashlib.sha256()
    for event in log:
        told.update(f"{event.index} {event.type!r} {event.data!r} {event.check('sha256').status}".encode())
    for name in log.algorithms:
        told.update(repr(sorted(log.replay(name).items())).encode())
    return told.hexdigest()


def hashing(engine: str) -> str:
    """Registers extended in lanes; long enough for other threads to get in between."""
    told = hashlib.sha256()
    for algorithm, size in (("sha1", 20), ("sha256", 32), ("sha384", 48), ("sha512", 64)):
        numbers = np.random.default_rng(size)
        states = numbers.integers(0, 256, (777, size), dtype=np.uint8)
        for _ in range(3):
            lanes.extend(algorithm, states, numbers.integers(0, 256, (777, size), dtype=np.uint8), engine=engine)
        rows = numbers.integers(0, 256, (333, 120), dtype=np.uint8)
        told.update(states.tobytes() + lanes.hash_rows(algorithm, rows, prefix=b"x", engine=engine).tobytes())
    return told.hexdigest()


def everything(judge: ml.Verifier) -> dict[str, str]:
    """The answers to all of it."""
    jobs: dict[str, Callable[[], str]] = {name: lambda name=name: appraisal(judge, name) for name in NAMES}  # type: ignore[misc]
    jobs |= {f"lanes {name}": lambda name=name: hashing(name) for name in lanes.engines()}  # type: ignore[misc]
    return {name: job() for name, job in jobs.items()}
