"""The events of a report: a table with filters, each row with everything that is known of the event."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from measlog.log import FurtherEvent
from measlog.replay.digests import trust
from measlog.replay.history import register_history
from measlog.view.escape import escape
from measlog.view.html import Html, clip, el, join
from measlog.view.html import text as html_text
from measlog.view.jsonable import jsonable
from measlog.view.pieces import CHECK_WORDS, badge, check_badge, data_cell, digest, register_chip, scrolled

if TYPE_CHECKING:
    from measlog.appraisal.result import Finding
    from measlog.log import Event
    from measlog.replay.digests import DigestCheck
    from measlog.view.report import Report

__all__ = ["events_section"]

_MAX_TEXT = 4096 + 64
_MAX_FIELD = 2000
_MAX_RAW = 4096
_COLUMNS = ("#", "register", "type", "digest", "check", "data")


def events_section(report: Report) -> Html:
    """All events of the log, and filters that a script shows."""
    log, bank = report.log, report.bank
    if bank not in log.algorithms:
        return el("p", f"The log has no digests of the bank {bank}.")
    values = register_history(
        log.to_bytes(),
        log.rows,
        algorithm=bank,
        column=log.algorithms.index(bank),
        kind="rtmr" if log.kind == "ccel" else "pcr",
    )
    findings: dict[int, list[Finding]] = {}
    for finding in report.result.findings if report.result is not None else ():
        if finding.event is not None:
            findings.setdefault(finding.event, []).append(finding)
    quoted = frozenset(report.evidence.values if report.evidence is not None else ())
    rows: list[Html] = []
    registers: dict[str, None] = {}
    types: set[str] = set()
    further = report.evidence.joined.further if report.evidence is not None else ()
    for event, value in (*zip(log, values, strict=True), *((event, None) for event in further)):
        registers[str(event.register)] = None
        types.add(_type_name(event))
        rows.append(_row(event, bank, value, findings.get(event.index, ()), proven=event.pcr in quoted))
    head = el("tr", *(el("th", name, scope="col") for name in _COLUMNS))
    table = el(
        "table",
        el("caption", f"Digests and register values of the bank {bank}."),
        el("thead", head),
        el("tbody", *rows),
        id="event-table",
        cls="events",
    )
    trusted = (
        "~ marks what neither a digest nor the quote covers: anybody may have written it."
        if report.evidence is not None
        else "No quote vouches for this log: anybody may have written all of it."
    )
    return join(
        [
            el("p", f"{len(log)} events, {log.kind}, {', '.join(log.algorithms)}. {trusted}"),
            _anomalies(report),
            _filters(registers, sorted(types)),
            scrolled(table, "Events table"),
        ]
    )


def _anomalies(report: Report) -> Html | None:
    found = report.log.anomalies
    if not found:
        return None
    items = (
        el(
            "li",
            el("code", a.code),
            " ",
            "log" if a.event is None else el("a", f"event {a.event}", href=f"#event-{a.event}"),
            ": ",
            el("bdi", clip(a.message, _MAX_FIELD)),
        )
        for a in found
    )
    return join([el("h3", "Anomalies of the log"), el("ul", *items)])


def _filters(registers: Iterable[str], types: Iterable[str]) -> Html:
    controls = [
        _select("register", "Register", [(name, name) for name in registers]),
        _select("type", "Type", [(name, name) for name in types]),
        _select("check", "Digest", [(status, status.replace("_", " ")) for status in CHECK_WORDS]),
        _select(
            "finding",
            "Finding",
            [
                ("any", "with a finding"),
                ("none", "without"),
                ("error", "error"),
                ("warning", "warning"),
                ("info", "info"),
            ],
        ),
        el("label", "Text ", el("input", type="search", id="filter-text"), for_="filter-text"),
        el("button", "Show all", type="button", id="filter-reset"),
        " ",
        el("output", id="filter-count", aria_live="polite"),
    ]
    return el("fieldset", el("legend", "Filter"), *controls, id="filters", cls="filters", hidden=True)


def _select(name: str, label: str, options: Iterable[tuple[str, str]]) -> Html:
    made = (el("option", shown, value=value) for value, shown in options)
    return el(
        "label",
        f"{label} ",
        el("select", el("option", "all", value=""), *made, id=f"filter-{name}"),
        for_=f"filter-{name}",
    )


def _type_name(event: Event) -> str:
    return event.source if isinstance(event, FurtherEvent) else event.type.name


def _row(event: Event, bank: str, value: bytes | None, findings: Iterable[Finding], *, proven: bool) -> Html:
    check = event.check(bank)
    severities = list(dict.fromkeys(f.severity for f in findings))
    worst = next((s for s in ("error", "warning") if s in severities), None)
    return el(
        "tr",
        el("th", event.index, scope="row"),
        el("td", register_chip(event.register)),
        el("td", _type_name(event)),
        el("td", digest(event.digests.get(bank))),
        el("td", check_badge(check)),
        el(
            "td",
            *_findings(findings),
            data_cell(event, bank, most=_MAX_TEXT, proven=proven),
            _details(event, bank, check, value, proven=proven),
        ),
        id=f"event-{event.index}",
        cls=None if worst is None else f"has-{worst}",
        data_register=str(event.register),
        data_type=_type_name(event),
        data_check=check.status,
        data_finding=" ".join(severities) or None,
    )


def _findings(findings: Iterable[Finding]) -> list[Html]:
    codes = {f.code: f.severity for f in findings}
    return [
        el("div", badge(severity, severity), " ", el("a", code, href=f"#finding-{code}"))
        for code, severity in codes.items()
    ]


def _details(event: Event, bank: str, check: DigestCheck, value: bytes | None, *, proven: bool) -> Html:
    record = event.data
    lines = [f"offset      {event.offset}", f"type        0x{event.type.value:08x}"]
    lines += [f"{name:<11} {data.hex()}" for name, data in event.digests.items()]
    if value is not None:
        lines.append(f"{event.register} after it, {bank}: {value.hex()}")
    lines += ["", type(record).__name__]
    for attribute in attrs.fields(type(record)):
        name = attribute.name
        if name == "spans" or (name == "trailing" and not record.trailing):
            continue
        shown = json.dumps(jsonable(getattr(record, name)), ensure_ascii=False)
        trusted = trust(record, check, name) if proven else "unauthenticated"
        lines.append(f"  {name} ({trusted}): {escape(clip(shown, _MAX_FIELD))}")
    raw = event.raw[:_MAX_RAW].hex()
    cut = f"... (+{len(event.raw) - _MAX_RAW} bytes)" if len(event.raw) > _MAX_RAW else ""
    lines += ["", f"data, {len(event.raw)} bytes", raw + cut]
    body = Html("\n".join(html_text(line) for line in lines))
    return el("details", el("summary", f"all of event {event.index}"), el("pre", body, tabindex=0), cls="bulky")
