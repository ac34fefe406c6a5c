"""Seeds are read, what fuzzing found stays repaired, and a short seeded run finds nothing new."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.conftest import FIXTURES
from tests.fuzz.mutations import mutate
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, fuzz

FINDINGS = sorted(path for path in FIXTURES.glob("fuzz/*/*") if path.parent.name in TARGETS and path.suffix != ".md")


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_is_read_or_refused(path: Path) -> None:
    fuzz(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("name", [name for name in TARGETS if name in seeds()])
def test_a_seed_of_every_target_is_read(name: str) -> None:
    # A harness whose seeds are refused looks at nothing but the first check.
    assert any(fuzz(TARGETS[name], data) for data in seeds()[name])


@pytest.mark.parametrize("name", [name for name in TARGETS if name in seeds()])
def test_a_short_seeded_run(name: str) -> None:
    rng = random.Random(f"measlog {name}")
    known = seeds()[name]
    for _ in range(30 if name in {"log", "framing", "yaml", "fat", "gpt", "pe"} else 150):
        fuzz(TARGETS[name], mutate(rng, rng.choice(known), known))
