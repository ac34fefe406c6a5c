"""Cohorts: the machines whose evidence deviates, grouped by what deviates.

The verdicts say which rows deviate and where; the logs say how. Each cohort shares a code, a register and the history of
that register, and is compared with the history that most machines have there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from measlog.bulk.schema import VERDICT, TableError, pyarrow
from measlog.codes import CODES
from measlog.errors import MeaslogError
from measlog.log import EventLog
from measlog.registry import PCR_NAMES, EventType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from measlog.log import Event

__all__ = ["Cohort", "CohortBuilder", "Cohorts", "cohorts"]

_MOST = 10_000
"""Different histories of one register that are told apart; machines beyond that are counted together."""
_TEXT = 4096

History = tuple[bytes, ...]


@frozen(kw_only=True)
class Cohort:
    """Machines that deviate alike.

    ``shared`` is how many events of the register they have in common with the usual history; the event behind them,
    ``event`` in the log, is the first that differs: ``digest`` and ``text`` are its own, ``usual`` what most machines
    have there. ``counts`` are the values of the columns asked for. ``rows`` are places in the table, the first few.
    """

    machines: int
    status: str
    code: str | None
    explanation: str
    pcr: int | None = None
    event: int | None = None
    shared: int | None = None
    digest: bytes | None = None
    usual: bytes | None = None
    text: str | None = None
    """The event's own words, where its type has any: hostile, and no digest may cover them. Escape before showing."""
    counts: Mapping[str, Mapping[str, int]] = field(factory=dict)
    rows: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"<Cohort {self.code}: {self.sentence}>"

    @property
    def sentence(self) -> str:
        """What the cohort is, in a sentence without anything of the log's own words."""
        where = "" if self.pcr is None else f" in PCR {self.pcr} ({PCR_NAMES.get(self.pcr, 'no name')})"
        parts = "" if self.event is None else f", from event {self.event} on"
        return f"{self.machines} machine{'s' * (self.machines != 1)}: {self.explanation}{where}{parts}"


@frozen(kw_only=True)
class Cohorts:
    """All machines: how many there are, how many are affirming, and the cohorts of the others, the largest first.

    ``usual`` is, by register, how many machines share the history that most have.
    """

    machines: int
    affirming: int
    usual: Mapping[int, int]
    cohorts: tuple[Cohort, ...]

    def __repr__(self) -> str:
        return f"<Cohorts: {self.machines} machines, {self.affirming} affirming, {len(self.cohorts)} cohorts>"

    def __str__(self) -> str:
        from measlog.view.fleet import cohorts_page  # noqa: PLC0415 - presentation is loaded when asked for

        return cohorts_page(self).to_text()

    def _repr_html_(self) -> str:
        from measlog.view.notebook import cohorts_html  # noqa: PLC0415 - presentation is loaded when asked for

        return cohorts_html(self)

    def to_arrow(self) -> pa.Table:
        """One row a cohort, as docs/columns.md describes. Needs the extra ``arrow``."""
        from measlog.view.fleet import cohorts_table  # noqa: PLC0415 - presentation is loaded when asked for

        return cohorts_table(self)

    def to_pandas(self) -> pd.DataFrame:
        """The same for pandas, with Arrow's dtypes. Needs the extra ``pandas``."""
        from measlog.view.fleet import cohorts_pandas  # noqa: PLC0415 - presentation is loaded when asked for

        return cohorts_pandas(self)

    def to_polars(self) -> pl.DataFrame:
        """The same for polars. Needs the extra ``polars``."""
        from measlog.view.fleet import cohorts_polars  # noqa: PLC0415 - presentation is loaded when asked for

        return cohorts_polars(self)


@define(eq=False)
class _Group:
    machines: int = 0
    rows: list[int] = field(factory=list)
    counts: dict[str, Counter[str]] = field(factory=dict)
    sample: tuple[int, Event] | None = None
    """Place in the register's history and event, where the group parts from others."""


@define(eq=False)
class CohortBuilder:
    """Takes verdicts batch by batch; memory grows with the number of different deviations, not of machines."""

    bank: str = "sha256"
    by: tuple[str, ...] = ()
    """Columns whose values are counted in each cohort."""
    rows_shown: int = 5
    _machines: int = field(default=0, init=False)
    _affirming: int = field(default=0, init=False)
    _usual: dict[int, Counter[History]] = field(factory=dict, init=False)
    _groups: dict[tuple[str, str | None, int | None, int | None, History | None], _Group] = field(
        factory=dict, init=False
    )
    _seen: dict[bytes, dict[int, tuple[Event, ...]]] = field(factory=dict, init=False)

    def add(self, table: Any) -> None:
        """Take a Table or RecordBatch that an appraisal gave.

        Raises TableError where it has no verdicts or lacks a column.
        """
        missing = [name for name in ("log", *VERDICT, *self.by) if name not in table.schema.names]
        if missing:
            raise TableError(f"no verdicts to group: the table has no column {missing[0]}")
        columns = {name: table.column(name).to_pylist() for name in ("status", "code", "pcr", "event", *self.by)}
        logs = table.column("log")
        for row in range(table.num_rows):
            status, code = columns["status"][row], columns["code"][row]
            number, self._machines = self._machines, self._machines + 1
            if status == "affirming":
                self._affirming += 1
            pcr, event = columns["pcr"][row], columns["event"][row]
            history: tuple[Event, ...] | None = None
            if status != "none":
                histories = self._histories(logs[row].as_py())
                for register, events in histories.items():
                    self._remember(register, self._digests(events))
                history = histories.get(pcr, ()) if pcr is not None else None
            if status == "affirming":
                continue
            place = self._group(status, code, pcr, event, history)
            group = self._groups.setdefault(place, _Group())
            group.machines += 1
            if len(group.rows) < self.rows_shown:
                group.rows.append(number)
            for name in self.by:
                group.counts.setdefault(name, Counter())[str(columns[name][row])] += 1
            if group.sample is None and history is not None and event is not None:
                group.sample = next(((i, e) for i, e in enumerate(history) if e.index == event), None)

    def _group(
        self, status: str, code: str | None, pcr: int | None, event: int | None, history: tuple[Event, ...] | None
    ) -> tuple[str, str | None, int | None, int | None, History | None]:
        shared = None if history is None else self._digests(history)
        place = status, code, pcr, event, shared
        if place not in self._groups and len(self._groups) >= _MOST:
            return status, code, pcr, None, None
        return place

    def _digests(self, events: Iterable[Event]) -> History:
        return tuple(e.digests.get(self.bank, b"") for e in events)

    def _remember(self, register: int, history: History) -> None:
        known = self._usual.setdefault(register, Counter())
        if history in known or len(known) < _MOST:
            known[history] += 1

    def _histories(self, data: bytes) -> Mapping[int, tuple[Event, ...]]:
        """The events of each register; logs that were read before are not read again."""
        known = self._seen.get(data)
        if known is None:
            found: dict[int, list[Event]] = {}
            try:
                for event in EventLog.from_bytes(data):
                    if event.pcr is not None and event.type is not EventType.EV_NO_ACTION:
                        found.setdefault(event.pcr, []).append(event)
            except MeaslogError:
                return {}
            known = {register: tuple(events) for register, events in found.items()}
            if len(self._seen) >= 64:  # a handful, for fleets that repeat themselves
                self._seen.clear()
            self._seen[data] = known
        return known

    def finish(self) -> Cohorts:
        """The cohorts so far."""
        usual = {pcr: found.most_common(1)[0] for pcr, found in sorted(self._usual.items())}
        made = [self._cohort(place, group, usual) for place, group in self._groups.items()]
        return Cohorts(
            machines=self._machines,
            affirming=self._affirming,
            usual={pcr: count for pcr, (_, count) in usual.items()},
            cohorts=tuple(sorted(made, key=lambda c: (-c.machines, c.code or "", c.rows))),
        )

    def _cohort(
        self,
        place: tuple[str, str | None, int | None, int | None, History | None],
        group: _Group,
        usual: Mapping[int, tuple[History, int]],
    ) -> Cohort:
        status, code, pcr, event, history = place
        shared = common = digest = None
        if pcr is not None and history is not None and pcr in usual:
            most = usual[pcr][0]
            shared = next((i for i, (a, b) in enumerate(zip(history, most, strict=False)) if a != b), None)
            if shared is None:
                shared = min(len(history), len(most))
            digest = history[shared] if shared < len(history) else None
            common = most[shared] if shared < len(most) else None
        text = None if group.sample is None else _text(group.sample[1])
        return Cohort(
            machines=group.machines,
            status=status,
            code=code,
            explanation=CODES.get(code or "", "nothing was compared"),
            pcr=pcr,
            event=event,
            shared=shared,
            digest=digest,
            usual=common,
            text=text,
            counts={name: dict(found.most_common()) for name, found in group.counts.items()},
            rows=tuple(group.rows),
        )


def _text(event: Event) -> str | None:
    if event.type not in {EventType.EV_IPL, EventType.EV_EFI_ACTION, EventType.EV_ACTION}:
        return None
    return event.raw[:_TEXT].rstrip(b"\0").decode("utf-8", "backslashreplace")


def cohorts(table: Any, *, bank: str = "sha256", by: Sequence[str] = ()) -> Cohorts:
    """Group the deviating machines of a table that :func:`measlog.bulk.appraise` gave.

    ``by`` are columns whose values are counted in each cohort. Raises :class:`~measlog.bulk.schema.TableError`.
    """
    pa = pyarrow()
    if not isinstance(table, pa.Table | pa.RecordBatch):
        raise TableError(f"a pyarrow Table or RecordBatch is needed, not {type(table).__name__}")
    builder = CohortBuilder(bank=bank, by=tuple(by))
    for batch in table.to_batches(max_chunksize=1024) if isinstance(table, pa.Table) else [table]:
        builder.add(batch)
    return builder.finish()
