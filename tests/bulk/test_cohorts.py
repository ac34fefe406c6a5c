"""Machines grouped by what deviates."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

import measlog as ml
from fixtures.lab import eventlog
from measlog.bulk.cohorts import CohortBuilder, cohorts
from measlog.bulk.schema import TableError

pa = pytest.importorskip("pyarrow")

from tests.bulk.fleets import machines, table, verifier  # noqa: E402


def test_three_of_many_part_at_one_event() -> None:
    rows = machines("identical", 160, seed=12, tampered=0.35)
    judged = ml.bulk.appraise(table(rows), verifier())
    regions = ["north" if i % 3 else "south" for i in range(len(rows))]
    found = cohorts(judged.append_column("region", pa.array(regions)), by=["region"])
    truths = Counter(row["truth"] for row in rows)
    assert found.machines == 160
    assert found.affirming == truths["good"]
    assert sum(c.machines for c in found.cohorts) == 160 - truths["good"]
    assert [c.machines for c in found.cohorts] == sorted((c.machines for c in found.cohorts), reverse=True)

    (argument,) = (c for c in found.cohorts if c.code == "command.unexpected")
    assert argument.machines == truths["argument"]
    assert argument.pcr == 8
    # Where the histories part and what stands there, from the logs by the lab's own reader.
    good = next(row["log"] for row in rows if row["truth"] == "good")
    bad = next(row["log"] for row in rows if row["truth"] == "argument")
    usual, theirs = ([e for e in eventlog.parse(log) if e.pcr == 8] for log in (good, bad))
    parts = next(i for i, (a, b) in enumerate(zip(usual, theirs, strict=True)) if a.digests != b.digests)
    assert argument.shared == parts
    assert (argument.digest, argument.usual) == (theirs[parts].digests["sha256"], usual[parts].digests["sha256"])
    assert argument.text is not None
    assert "init=/bin/sh" in argument.text
    assert sum(argument.counts["region"].values()) == argument.machines
    assert all(rows[i]["truth"] == "argument" for i in argument.rows)
    # Machines that are refused have no register: their logs prove nothing.
    nonce = next(c for c in found.cohorts if c.code == "evidence.nonce")
    assert (nonce.machines, nonce.pcr, nonce.digest, nonce.status) == (truths["nonce"], None, None, "none")
    # Tampered kernels are each its own.
    kernels = [c for c in found.cohorts if c.status == "contraindicated" and c is not argument]
    assert len(kernels) == truths["kernel"]
    authentic = truths["good"] + truths["argument"] + truths["kernel"]
    assert found.usual[7] == authentic
    assert found.usual[8] == truths["good"] + truths["kernel"]
    assert "PCR 8 (boot-loader-commands)" in argument.sentence
    assert str(argument.machines) in argument.sentence


def test_batches_add_up() -> None:
    judged = ml.bulk.appraise(table(machines("realistic", 60, seed=2, tampered=0.3)), verifier())
    builder = CohortBuilder()
    for first in range(0, 60, 7):
        builder.add(judged.slice(first, 7))
    assert builder.finish() == cohorts(judged)
    assert cohorts(judged.slice(0, 0)).cohorts == ()


def test_tables_without_verdicts_are_refused() -> None:
    source = table(machines("identical", 2))
    with pytest.raises(TableError, match="status"):
        cohorts(source)
    with pytest.raises(TableError, match="colour"):
        cohorts(ml.bulk.appraise(source, verifier()), by=["colour"])
    with pytest.raises(TableError, match="list"):
        cohorts([])


def test_the_usual_history_is_that_of_most() -> None:
    rows = machines("identical", 12)
    found = cohorts(ml.bulk.appraise(table(rows), verifier()))
    events = [e for e in eventlog.parse(rows[0]["log"]) if e.pcr == 4]
    assert hashlib.sha256(events[0].data).digest() == events[0].digests["sha256"]
    assert set(found.usual.values()) == {12}
    assert found.cohorts == ()
