"""Summaries for notebooks: what users hold shows itself. No script, no network, bounded in size whatever a log says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from measlog.errors import ReplayError
from measlog.registry import PCR_NAMES, Register
from measlog.view.assets import asset
from measlog.view.builtin import built_in_lines, unread_command_lines
from measlog.view.compare import expected_text
from measlog.view.findings import finding_block
from measlog.view.fleet import counted
from measlog.view.html import Html, clip, el, join
from measlog.view.pieces import (
    STATUS_WORDS,
    badge,
    check_badge,
    data_cell,
    digest,
    facts,
    register_chip,
    table,
)
from measlog.view.render import display_bank, listed
from measlog.view.sides import difference_rows

if TYPE_CHECKING:
    from measlog.appraisal.diff import Difference, HistoryDiff
    from measlog.appraisal.result import AppraisalResult
    from measlog.bulk.cohorts import Cohorts
    from measlog.evidence import Quote
    from measlog.flatcar.boot import PredictedBoot
    from measlog.log import Event, EventLog
    from measlog.reference.manifest import ReferenceManifest

__all__ = ["boot_html", "cohorts_html", "diff_html", "log_html", "manifest_html", "quote_html", "result_html"]

_MAX_EVENTS = 1000
_MAX_BYTES = 600_000
_MAX_TEXT = 200
_MAX_ROWS = 200
_MAX_ANOMALIES = 50


def _page(*parts: Html | None) -> str:
    """The summary as notebooks take it: plain text of type ``str`` that holds markup."""
    style = Html(f"<style>{asset('base.css')}{asset('notebook.css')}</style>")
    return str(join([style, el("div", *parts, cls="measlog")]))


def _head(name: str, *words: str) -> Html:
    return el("div", el("span", name, cls="m-head"), " ", " · ".join(words))


def _fold(label: Html, *parts: Html | None, opened: bool = False) -> Html:
    return el("details", el("summary", label), *parts, open=opened)


def _more(count: int, how: str) -> Html | None:
    return el("p", f"{count} more: {how}", cls="m-note") if count > 0 else None


def log_html(log: EventLog) -> str:
    """A log, folded by register: how many events, their digest checks, the value that they leave."""
    bank = display_bank(log.algorithms)
    try:
        values = {Register(log.replay(bank).kind, i): v for i, v in log.replay(bank).items()}
        refused = None
    except ReplayError as error:
        values, refused = {}, str(error)
    by_register: dict[Register, list[Event]] = {}
    for event in log:
        by_register.setdefault(event.register, []).append(event)
    words = [log.kind, f"{len(log)} events", ", ".join(log.algorithms), f"{len(log.to_bytes())} bytes"]
    if not log.complete:
        words.append("incomplete")
    each = max(8, _MAX_EVENTS // max(1, len(by_register)))
    folds: list[Html] = []
    size = 0
    for register, events in sorted(by_register.items()):
        fold = _register_fold(register, events, bank, values.get(register), each)
        size += len(fold)
        if size > _MAX_BYTES:
            folds.append(el("p", "Further registers are left out for their size.", cls="m-note"))
            break
        folds.append(fold)
    return _page(
        _head("EventLog", *words),
        None if refused is None else el("div", badge("cannot be replayed", "warning"), " ", refused),
        _anomalies(log),
        el(
            "p",
            f"Digests of the bank {bank}. ~ marks what no digest covers: anybody may have written it. "
            "The rest is worth something once a quote has proven the log.",
            cls="m-note",
        ),
        *folds,
    )


def _anomalies(log: EventLog) -> Html | None:
    found = log.anomalies
    if not found:
        return None
    rows = [
        ("log" if a.event is None else f"event {a.event}", a.code, clip(a.message, _MAX_TEXT))
        for a in found[:_MAX_ANOMALIES]
    ]
    label = join([badge(f"{len(found)} anomalies" if len(found) > 1 else "1 anomaly", "warning")])
    return _fold(
        label,
        table(("where", "code", "what"), rows),
        _more(len(found) - _MAX_ANOMALIES, "see log.anomalies"),
        opened=True,
    )


def _register_fold(register: Register, events: Sequence[Event], bank: str, value: bytes | None, each: int) -> Html:
    checks = Counter(event.check(bank).status for event in events)
    counted = [badge(f"{count} {status}", status.replace("_", "-")) for status, count in sorted(checks.items())]
    label = join(
        [
            register_chip(register),
            el("span", f" {PCR_NAMES.get(register.index, '')}" if register.kind == "pcr" else "", cls="m-note"),
            f" {len(events)} event{'s' if len(events) > 1 else ''} ",
            join(counted, " "),
            " ",
            digest(value) if value is not None else None,
        ]
    )
    shown = events if len(events) <= each else [*events[: each - each // 4], *events[-(each // 4) :]]
    rows = [
        (
            event.index,
            event.type.name,
            digest(event.digests.get(bank)),
            check_badge(event.check(bank)),
            data_cell(event, bank, most=_MAX_TEXT),
        )
        for event in shown
    ]
    return _fold(
        label,
        table(("#", "type", bank, "check", "data"), rows),
        _more(len(events) - len(shown), "log.to_pandas() has them all"),
    )


def quote_html(quote: Quote) -> str:
    """A quote, as the machine states it: nothing here says that it was verified."""
    clock = quote.clock_info
    covered = "; ".join(f"{s.algorithm} PCR {listed(s.pcrs)}" for s in quote.selections if s.pcrs)
    return _page(
        _head("Quote", "as it was sent: its signature and nonce are verified by Evidence.verify"),
        facts(
            (
                ("registers", covered or "none"),
                ("nonce", el("code", quote.nonce.hex() or "(none)")),
                ("digest", el("code", quote.pcr_digest.hex())),
                ("clock", f"{clock.clock} ms, {clock.reset_count} resets, {clock.restart_count} restarts"),
                ("firmware", f"0x{quote.firmware_version:016x}"),
            )
        ),
    )


def result_html(result: AppraisalResult) -> str:
    """A verdict, what it rests on, and what nobody spoke for."""
    parts: list[Html | None] = [
        _head("AppraisalResult", f"policy {result.policy}", f"bank {result.bank}"),
        el("div", badge(result.status, result.status), " ", STATUS_WORDS[result.status]),
    ]
    if result.findings:
        blocks: list[Html] = []
        size = 0
        for finding in result.findings[:_MAX_ROWS]:
            blocks.append(finding_block(finding, most=_MAX_TEXT))
            size += len(blocks[-1])
            if size > _MAX_BYTES:
                break
        more = _more(len(result.findings) - len(blocks), "see result.findings")
        parts.append(_fold(_count(len(result.findings), "finding"), *blocks, more, opened=True))
    checked = [
        (register_chip(c.pcr), listed(c.events) or "-", el("code", c.rule), clip(c.against, _MAX_TEXT))
        for c in result.checked[:_MAX_ROWS]
    ]
    parts.append(
        _fold(
            _count(len(result.checked), "check", " passed"),
            table(("register", "events", "rule", "against"), checked),
        )
    )
    missing = [(register_chip(n.pcr), n.subject, clip(n.reason, _MAX_TEXT)) for n in result.not_covered[:_MAX_ROWS]]
    parts.append(
        _fold(
            _count(
                len(result.not_covered),
                "register",
                " or components not covered" if len(missing) != 1 else " or component not covered",
            ),
            table(("register", "what", "why"), missing),
        )
    )
    if result.identified:
        known = [(i.component, i.release, i.slot or "-", i.boot_path or "-") for i in result.identified]
        parts.append(
            _fold(_count(len(known), "component", " identified"), table(("what", "release", "slot", "boot"), known))
        )
    return _page(*parts)


def _count(count: int, word: str, rest: str = "") -> Html:
    """``3 findings``."""
    return join([f"{count} {word}{'' if count == 1 else 's'}{rest}"])


def diff_html(found: HistoryDiff) -> str:
    """The places where two histories differ, register by register, with the words that differ marked."""
    rows = found.differences
    by_register: dict[int, list[Difference]] = {}
    for row in rows[:_MAX_ROWS]:
        by_register.setdefault(row.pcr, []).append(row)
    head = el("tr", *(el("th", name, scope="col") for name in ("kind", "event", "left", "right")))
    budget = _MAX_BYTES // max(1, len(by_register))
    folds = [
        _fold(
            join([register_chip(pcr), " ", _count(len(lines), "difference")]),
            el("table", el("thead", head), el("tbody", *difference_rows(lines, budget=budget))),
            opened=True,
        )
        for pcr, lines in by_register.items()
    ]
    unknown = [(register_chip(pcr), why) for pcr, why in sorted(found.not_compared.items())]
    verdict = badge(f"{len(rows)} differences", "changed") if rows else badge("no difference", "same")
    silent = _fold(_count(len(unknown), "register", " not compared"), table(("register", "why"), unknown))
    return _page(
        _head("HistoryDiff", f"bank {found.bank}", f"{len(found.rows)} places compared"),
        el("div", verdict),
        *folds,
        _more(len(rows) - _MAX_ROWS, "see diff.differences"),
        silent if unknown else None,
    )


def boot_html(boot: PredictedBoot) -> str:
    """A boot that was predicted: its registers, its events, and what could not be known."""
    bank = display_bank(tuple(boot.pcrs) or ("sha256",))
    values = [
        (register_chip(pcr), PCR_NAMES.get(pcr, ""), el("code", value.hex()))
        for pcr, value in boot.pcrs.get(bank, {}).items()
    ]
    events = [
        (
            register_chip(e.pcr),
            e.kind,
            digest(e.digests.get(bank)),
            el(
                "bdi",
                clip(("" if e.authenticated else "~") + expected_text(e), _MAX_TEXT),
                cls=None if e.authenticated else "m-untrusted",
            ),
        )
        for e in boot.events[:_MAX_EVENTS]
    ]
    unknown = [(register_chip(pcr), why) for pcr, why in sorted(boot.unknown.items())]
    return _page(
        _head("PredictedBoot", boot.name, boot.release, f"ends with {boot.outcome}"),
        _fold(
            _count(len(values), "register", f" in {bank}"),
            table(("register", "name", "value"), values),
            opened=True,
        ),
        _fold(_count(len(boot.events), "event"), table(("register", "kind", bank, "data"), events)),
        _fold(_count(len(unknown), "register", " unknown"), table(("register", "why"), unknown)) if unknown else None,
        _fold(_count(len(boot.assumptions), "assumption"), el("ul", *(el("li", line) for line in boot.assumptions)))
        if boot.assumptions
        else None,
    )


def cohorts_html(found: Cohorts) -> str:
    """A fleet: how many machines are affirming, and the others by what they have in common."""
    rows = [
        (
            str(c.machines),
            badge(c.status, c.status, STATUS_WORDS.get(c.status)),
            el("span", c.code or "-", title=c.explanation),
            register_chip(c.pcr),
            "-" if c.event is None else str(c.event),
            digest(c.digest),
            digest(c.usual),
            c.explanation if c.text is None else el("bdi", f"~{clip(c.text, _MAX_TEXT)}", cls="m-untrusted"),
            clip(counted(c), _MAX_TEXT),
            ", ".join(map(str, c.rows)),
        )
        for c in found.cohorts[:_MAX_ROWS]
    ]
    columns = (
        "machines", "status", "code", "register", "event", "digest", "on most machines", "what", "among them", "rows",
    )  # fmt: skip
    usual = [(register_chip(pcr), str(count)) for pcr, count in found.usual.items()]
    return _page(
        _head("Cohorts", f"{found.machines} machines", f"{found.affirming} affirming"),
        _fold(
            _count(len(rows), "cohort", " of machines that deviate alike"),
            table(columns, rows),
            _more(len(found.cohorts) - _MAX_ROWS, "cohorts.to_pandas() has them all"),
            opened=True,
        )
        if rows
        else None,
        _fold(join(["registers as most machines have them"]), table(("register", "machines"), usual)),
    )


def manifest_html(manifest: ReferenceManifest) -> str:
    """What a manifest speaks for, and what not."""
    signed = ", ".join(manifest.signed_by) if manifest.signed_by else "nobody whose signature was verified"
    components = [
        (
            c.role,
            c.slot or "-",
            clip(c.path, _MAX_TEXT),
            digest(c.authenticode.get("sha256")),
            digest(c.flat.get("sha256")),
        )
        for c in manifest.components
    ]
    spoken = [(register_chip(p), badge("covered", "same"), t) for p, t in sorted(manifest.covers.items())]
    silent = [(register_chip(p), badge("not covered", "warning"), t) for p, t in sorted(manifest.not_covered.items())]
    paths = [(p.name, p.slot or "-", len(p.events)) for p in manifest.boot_paths[:_MAX_ROWS]]
    return _page(
        _head("ReferenceManifest", manifest.name, manifest.release or "release unknown", manifest.arch),
        facts(
            (
                ("version", manifest.version),
                ("channel", manifest.channel or "unknown"),
                ("expires", "never" if manifest.expires is None else manifest.expires.isoformat()),
                ("signed by", signed),
                *(("made from", f"{s.name}, {s.size} bytes, {s.authenticity}") for s in manifest.sources),
                *(
                    ("usr", f"slot {u.slot}, {u.status}, root {u.root.hex() if u.root else 'unknown'}")
                    for u in manifest.usr
                ),
                *(("built in", f"{clip(path, _MAX_TEXT)}: {words}") for path, words in built_in_lines(manifest)),
                *(
                    ("built in", f"{clip(path, _MAX_TEXT)}: not known: {reason}")
                    for path, reason in unread_command_lines(manifest)
                ),
            )
        ),
        _fold(
            _count(len(components), "component"),
            table(("component", "slot", "path", "authenticode sha256", "file sha256"), components),
            opened=True,
        ),
        _fold(_count(len(spoken) + len(silent), "register"), table(("register", "", "what"), [*spoken, *silent])),
        _fold(_count(len(manifest.boot_paths), "boot path"), table(("boot path", "slot", "events"), paths))
        if paths
        else None,
    )
