"""What an appraiser remembers has an end, and forgetting changes no verdict."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("pyarrow")

from measlog.bulk import Appraiser
from tests.bulk.fleets import VERDICT, machines, scalar, table, verifier


def test_opinions_are_forgotten_before_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots, first boots, clouds and tampering: more kinds of machines than opinions that are kept."""
    monkeypatch.setattr(sys.modules[Appraiser.__module__], "_KEPT_OPINIONS", 2)
    rows = machines("realistic", 30, seed=12, tampered=0.3)
    appraiser = Appraiser(verifier())
    most = 0
    for first in range(0, len(rows), 10):
        part = rows[first : first + 10]
        judged = appraiser.batch(table(part).to_batches()[0]).to_pylist()
        assert [tuple(row[name] for name in VERDICT) for row in judged] == [scalar(row, verifier()) for row in part]
        most = max(most, len(appraiser._opinions))
    assert 0 < most <= 2
