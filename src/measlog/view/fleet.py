"""Cohorts of a fleet as a table for people, and as frames: one row a cohort, described in docs/columns.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from measlog.errors import MissingExtraError
from measlog.view.columns import cohort_schema
from measlog.view.escape import escape
from measlog.view.grid import Cell, Grid, span
from measlog.view.html import clip
from measlog.view.render import Page

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from measlog.bulk.cohorts import Cohort, Cohorts

__all__ = ["cohorts_page", "cohorts_pandas", "cohorts_polars", "cohorts_table", "counted"]

_MAX_TEXT = 4096
_MAX_COHORTS = 100
_STYLES = {"warning": "yellow", "contraindicated": "bold red", "none": "bold red"}


def counted(cohort: Cohort, *, most: int = 5) -> str:
    """The values of the columns asked for, the most frequent first: ``region north 3, south 1``."""
    return "; ".join(
        f"{name} " + ", ".join(f"{value} {count}" for value, count in [*values.items()][:most])
        for name, values in cohort.counts.items()
    )


def cohorts_page(found: Cohorts) -> Page:
    """How many machines are affirming, and the others by what they have in common."""
    parts: list[Cell | Grid] = [
        span(f"{found.machines} machines, {found.affirming} affirming, {found.machines - found.affirming} not", "bold")
    ]
    shown = found.cohorts[:_MAX_COHORTS]
    if shown:
        rows = tuple(
            (
                span(c.machines),
                span(c.status, _STYLES.get(c.status, "")),
                span(c.code or "-"),
                span("-" if c.pcr is None else f"PCR {c.pcr}"),
                span("-" if c.event is None else c.event),
                span("-" if c.digest is None else c.digest.hex()[:16]),
                span(
                    c.explanation if c.text is None else f"~{clip(c.text, _MAX_TEXT)}", "" if c.text is None else "dim"
                ),
                span(counted(c)),
            )
            for c in shown
        )
        columns = ("machines", "status", "code", "register", "event", "digest", "what", "among them")
        parts.append(Grid(columns=columns, rows=rows, right=frozenset({"machines", "event"})))
    if len(found.cohorts) > len(shown):
        parts.append(span(f"{len(found.cohorts) - len(shown)} more cohorts: see cohorts.cohorts", "dim"))
    return Page(parts=tuple(parts))


def cohorts_table(found: Cohorts) -> pa.Table:
    """One row a cohort. Without pyarrow: :class:`~measlog.errors.MissingExtraError`."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("pyarrow", "arrow") from None
    rows = [
        {
            "machines": c.machines,
            "status": c.status,
            "code": c.code,
            "explanation": c.explanation,
            "pcr": c.pcr,
            "event": c.event,
            "shared": c.shared,
            "digest": c.digest,
            "usual": c.usual,
            "text": None if c.text is None else escape(c.text),
            "counts": [
                {"column": escape(name), "value": escape(value), "machines": count}
                for name, values in c.counts.items()
                for value, count in values.items()
            ],
            "rows": list(c.rows),
        }
        for c in found.cohorts
    ]
    return pa.Table.from_pylist(rows, schema=cohort_schema())


def cohorts_pandas(found: Cohorts) -> pd.DataFrame:
    """The table for pandas, with Arrow's dtypes. Without pandas or pyarrow: :class:`~measlog.errors.MissingExtraError`."""
    try:
        import pandas as pd  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("pandas", "pandas") from None
    frame: pd.DataFrame = cohorts_table(found).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def cohorts_polars(found: Cohorts) -> pl.DataFrame:
    """The table for polars. Without polars or pyarrow: :class:`~measlog.errors.MissingExtraError`."""
    try:
        import polars as pl  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("polars", "polars") from None
    frame = pl.from_arrow(cohorts_table(found))
    assert isinstance(frame, pl.DataFrame)
    return frame
