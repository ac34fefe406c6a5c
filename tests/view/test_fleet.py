"""Cohorts as people and programs see them. Which machines belong together is the business of tests/bulk."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

from measlog.errors import MissingExtraError
from measlog.view.columns import COHORT_COLUMNS, cohort_schema, columns_page
from tests.view.hostile import MARK, PAYLOADS, Seen
from tests.view.test_notebook import ATTRIBUTES, TAGS

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

import measlog as ml  # noqa: E402
from measlog.bulk.cohorts import Cohort, Cohorts, cohorts  # noqa: E402
from tests.bulk.fleets import machines, table, verifier  # noqa: E402

HOSTILE = Cohorts(
    machines=len(PAYLOADS) + 2,
    affirming=2,
    usual={8: 2},
    cohorts=tuple(
        Cohort(
            machines=1,
            status="contraindicated",
            code="command.unexpected",
            explanation="a command",
            pcr=8,
            event=17,
            shared=3,
            digest=bytes(32),
            usual=None,
            text=payload,
            counts={payload: {payload: 1}},
            rows=(i,),
        )
        for i, payload in enumerate(PAYLOADS)
    ),
)


@cache
def fleet() -> Cohorts:
    rows = machines("identical", 60, seed=12, tampered=0.35)
    judged = ml.bulk.appraise(table(rows), verifier())
    return cohorts(judged.append_column("region", pa.array(["north", "south"] * 30)), by=["region"])


def test_one_line_a_table_and_a_summary() -> None:
    found = fleet()
    deviating = found.machines - found.affirming
    assert len(found.cohorts) > 2
    assert repr(found) == f"<Cohorts: 60 machines, {found.affirming} affirming, {len(found.cohorts)} cohorts>"
    lines = str(found).splitlines()
    assert lines[0] == f"60 machines, {found.affirming} affirming, {deviating} not"
    assert len(lines) == 2 + len(found.cohorts)
    markup = found._repr_html_()
    for cohort in found.cohorts:
        assert "\n" not in repr(cohort)
        assert any(line.split()[:3] == [str(cohort.machines), cohort.status, cohort.code or "-"] for line in lines)
        assert str(cohort.code) in markup
        if cohort.digest is not None:
            assert f'title="{cohort.digest.hex()}"' in markup
    assert str(Cohorts(machines=3, affirming=3, usual={}, cohorts=())) == "3 machines, 3 affirming, 0 not\n"


def test_hostile_words_are_words() -> None:
    """Names and values of columns come from whoever sent the rows, the text from the log."""
    seen = Seen(HOSTILE._repr_html_())
    assert seen.open == []
    assert seen.tags <= TAGS
    assert seen.attributes <= ATTRIBUTES
    assert (seen.links, seen.comments) == (set(), [])
    assert MARK in "".join(seen.words)
    for shown in (str(HOSTILE), repr(HOSTILE)):
        assert all(character.isprintable() or character == "\n" for character in shown)
    assert len(str(HOSTILE).splitlines()) == 2 + len(PAYLOADS)


def test_a_great_many_cohorts_stay_small() -> None:
    many = Cohorts(machines=50_000, affirming=0, usual={8: 1}, cohorts=HOSTILE.cohorts * 5_000)
    assert len(many._repr_html_()) < 1_000_000
    assert "more" in many._repr_html_()
    assert f"{len(many.cohorts) - 100} more cohorts" in str(many)


@pytest.mark.parametrize("found", [fleet, lambda: HOSTILE], ids=["fleet", "hostile"])
def test_frames_have_a_row_a_cohort_and_survive_parquet(found: object, tmp_path: Path) -> None:
    groups: Cohorts = found()  # type: ignore[operator]
    frame = groups.to_arrow()
    assert frame.schema == cohort_schema()
    assert frame.num_rows == len(groups.cohorts)
    frame.validate(full=True)
    for row, cohort in zip(frame.to_pylist(), groups.cohorts, strict=True):
        assert (row["machines"], row["status"], row["code"]) == (cohort.machines, cohort.status, cohort.code)
        assert (row["pcr"], row["event"], row["shared"]) == (cohort.pcr, cohort.event, cohort.shared)
        assert (row["digest"], row["usual"], tuple(row["rows"])) == (cohort.digest, cohort.usual, cohort.rows)
        assert sum(entry["machines"] for entry in row["counts"]) == cohort.machines
    pq.write_table(frame, tmp_path / "cohorts.parquet")
    read = pq.read_table(tmp_path / "cohorts.parquet")
    assert read.equals(frame)
    assert read.schema == frame.schema
    assert groups.to_polars().height == len(groups.to_pandas()) == len(groups.cohorts)
    assert all(isinstance(kind, pd.ArrowDtype) for kind in groups.to_pandas().dtypes)


def test_columns_are_documented() -> None:
    _, _, part = columns_page().partition("## Columns of a frame of cohorts")
    assert [c.name for c in COHORT_COLUMNS] == cohort_schema().names
    assert all(f"| `{c.name}` | `{c.type}` |" in part for c in COHORT_COLUMNS)


@pytest.mark.parametrize(
    ("package", "method", "extra"),
    [("pyarrow", "to_arrow", "arrow"), ("pandas", "to_pandas", "pandas"), ("polars", "to_polars", "polars")],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, method: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"measlog\[{extra}\]"):
        getattr(HOSTILE, method)()
