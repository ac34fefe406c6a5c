"""Logs as frames: one row an event. The columns are described in :mod:`measlog.view.columns` and docs/columns.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from measlog.errors import MissingExtraError, ReplayError
from measlog.replay.digests import trust
from measlog.replay.history import register_history
from measlog.view.columns import arrow_schema, decoded
from measlog.view.escape import escape
from measlog.view.html import clip
from measlog.view.render import display_bank
from measlog.view.summary import summary

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from measlog.log import Event, EventLog

__all__ = ["log_pandas", "log_polars", "log_table"]

_MAX_TEXT = 8192


def log_table(log: EventLog, bank: str | None = None) -> pa.Table:
    """One row an event. ``bank`` is the bank of the columns ``digest`` to ``trust``, sha256 where the log has it.

    Raises :class:`~measlog.errors.ReplayError` where the log has no such bank and
    :class:`~measlog.errors.MissingExtraError` without pyarrow.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("pyarrow", "arrow") from None
    name = display_bank(log.algorithms) if bank is None else bank
    if name not in log.algorithms:
        raise ReplayError(f"the log has no {name} digests, it has {', '.join(log.algorithms)}", check="bank-missing")
    values = register_history(
        log.to_bytes(),
        log.rows,
        algorithm=name,
        column=log.algorithms.index(name),
        kind="rtmr" if log.kind == "ccel" else "pcr",
    )
    rows = [_row(event, name, value) for event, value in zip(log, values, strict=True)]
    return pa.Table.from_pylist(rows, schema=arrow_schema())


def _row(event: Event, bank: str, value: bytes | None) -> dict[str, Any]:
    data = event.data
    check = event.check(bank)
    # A CCEL event of no register, or one that names an impossible one, extends nothing.
    register = None if event.register.kind == "none" else str(event.register)
    fields = [a.name for a in attrs.fields(type(data)) if a.name not in {"spans", "trailing"}]
    return {
        "index": event.index,
        "offset": event.offset,
        "register": register,
        "pcr": event.pcr,
        "type": event.type.name,
        "type_number": event.type.value,
        "bank": bank,
        "digest": event.digests.get(bank),
        "digests": list(event.digests.items()),
        "check": check.status,
        "rule": check.rule,
        "quirk": check.quirk,
        "value": value,
        "record": type(data).__name__,
        "summary": clip(escape("".join(words for _, words in summary(data))), _MAX_TEXT),
        "data": decoded(data),
        "trust": [{"field": name, "trust": trust(data, check, name)} for name in fields],
        "size": len(event.raw),
        "raw": event.raw,
    }


def log_pandas(log: EventLog, bank: str | None = None) -> pd.DataFrame:
    """The table for pandas, with Arrow's dtypes, so that nothing is widened, rounded or made into an object.

    Raises MissingExtraError.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("pandas", "pandas") from None
    frame: pd.DataFrame = log_table(log, bank).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def log_polars(log: EventLog, bank: str | None = None) -> pl.DataFrame:
    """The table for polars. Raises MissingExtraError."""
    try:
        import polars as pl  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("polars", "polars") from None
    frame = pl.from_arrow(log_table(log, bank))
    assert isinstance(frame, pl.DataFrame)
    return frame
