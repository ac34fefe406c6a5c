"""Logs, register values, quotes and appraisals as lines and tables for people. All foreign text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from measlog.log import FurtherEvent
from measlog.registry import PCR_NAMES
from measlog.view.builtin import built_in_lines, unread_command_lines
from measlog.view.escape import escape
from measlog.view.grid import Cell, Grid, Span, span
from measlog.view.summary import summary

if TYPE_CHECKING:
    from measlog.appraisal.baseline import Baseline
    from measlog.appraisal.identify import Identification
    from measlog.appraisal.result import AppraisalResult, Check, Finding
    from measlog.evidence import AttestationKey, Quote
    from measlog.log import Anomaly, Event, EventLog
    from measlog.reference.manifest import ReferenceManifest
    from measlog.replay.digests import DigestCheck
    from measlog.replay.pcr import Bank

__all__ = [
    "Page",
    "bank_page",
    "baseline_page",
    "display_bank",
    "identification_page",
    "listed",
    "log_page",
    "manifest_page",
    "quote_page",
    "result_page",
]

_MAX_CELL = 4096 + 64
"""Longer than the longest kernel command line, so that nothing of one is ever hidden."""

_CHECK_STYLES = {"matches": "green", "differs": "bold red", "not_derivable": "yellow"}
_STATUS_STYLES = {
    "affirming": "bold green",
    "warning": "bold yellow",
    "contraindicated": "bold red",
    "none": "bold red",
}
_SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
_PREFERRED = ("sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512", "sm3_256")


@frozen(kw_only=True)
class Page:
    """What a command shows: lines and tables, in order."""

    parts: tuple[Cell | Grid, ...]

    def to_text(self) -> str:
        """The page as plain text."""
        return "".join(
            part.to_text() if isinstance(part, Grid) else "".join(s.text for s in part).rstrip() + "\n"
            for part in self.parts
        )


def display_bank(algorithms: Sequence[str]) -> str:
    """The bank that is shown when one is enough: the preferred one of those that the log has."""
    return next((name for name in _PREFERRED if name in algorithms), algorithms[0])


def listed(numbers: Iterable[int]) -> str:
    """Numbers in ascending order with runs abbreviated: ``0-7, 9, 14``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _clipped(text: str) -> str:
    text = escape(text)
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}... (+{len(text) - _MAX_CELL} characters)"


def log_page(log: EventLog, events: Iterable[Event], bank: str) -> Page:
    """A log's events with digest checks and trust in one bank, its shape before and its anomalies after them."""
    rows = [_event_row(event, bank) for event in events]
    parts: list[Cell | Grid] = [*_log_head(log)]
    if rows:
        columns = ("#", "register", "type", bank, "check", "data")
        parts += [span(""), Grid(columns=columns, rows=tuple(rows), right=frozenset({"#"}))]
        parts += [span(""), span("~ marks what no digest covers: anybody may have written it.", "dim")]
    parts += [_anomaly_line(anomaly) for anomaly in log.anomalies]
    return Page(parts=tuple(parts))


def _log_head(log: EventLog) -> list[Cell]:
    kind = {"sha1": "SHA-1 format", "crypto-agile": "crypto-agile format", "ccel": "CCEL"}[log.kind]
    size = len(log.to_bytes())
    lines = [span(f"{len(log)} events, {kind}, {', '.join(log.algorithms)}, {size} bytes")]
    if log.filler is not None:
        lines.append(span(f"filled up with {log.filler.length} bytes 0x{log.filler.value:02x} after the last event"))
    if not log.complete:
        lines.append(span("incomplete: bytes after the last event are neither events nor filler", "bold red"))
    return lines


def _anomaly_line(anomaly: Anomaly) -> Cell:
    where = "log" if anomaly.event is None else f"event {anomaly.event}"
    return span(f"anomaly: {where}: {anomaly.message} ({anomaly.code})", "yellow")


def _event_row(event: Event, bank: str) -> tuple[Cell, ...]:
    check = event.check(bank)
    digest = event.digests.get(bank)
    register = "-" if event.register.kind == "none" else str(event.register)
    return (
        span(event.index),
        span(register),
        span(event.source if isinstance(event, FurtherEvent) else event.type.name),
        span("-" if digest is None else digest[:8].hex()),
        _check_cell(check),
        _data_cell(event, bank),
    )


def _check_cell(check: DigestCheck) -> Cell:
    text = check.status.replace("_", " ")
    if check.quirk is not None:
        text += f" ({check.quirk})"
    return span(text, _CHECK_STYLES.get(check.status, "dim"))


def _data_cell(event: Event, bank: str) -> Cell:
    spans: list[Span] = []
    for name, text in summary(event.data):
        shown = _clipped(text)
        if not name or not shown:
            spans.append(Span(shown))
        elif event.trust(name, bank) == "unauthenticated":
            spans.append(Span(f"~{shown}", "dim"))
        else:
            spans.append(Span(shown))
    return tuple(spans)


def bank_page(banks: Mapping[str, Bank], refused: Mapping[str, str]) -> Page:
    """Register values, bank by bank, then the banks that cannot be replayed and why."""
    parts: list[Cell | Grid] = []
    for name, bank in banks.items():
        if parts:
            parts.append(span(""))
        rows = tuple(
            (span(f"{bank.kind.upper()} {i}"), span(PCR_NAMES.get(i, "") if bank.kind == "pcr" else ""), span(v.hex()))
            for i, v in bank.items()
        )
        parts.append(Grid(columns=(name, "", "value"), rows=rows))
        if bank.unmeasured:
            parts.append(span(f"no event: {listed(bank.unmeasured)}", "dim"))
    parts += [span(f"{name} cannot be replayed: {why}", "yellow") for name, why in refused.items()]
    return Page(parts=tuple(parts))


def quote_page(quote: Quote, key: AttestationKey, *, pcrs_checked: bool) -> Page:
    """A quote whose signature and nonce were verified."""
    attributes = key.attributes
    about_key = "attributes unknown, only a bare key was given" if attributes is None else "a restricted signing key"
    covered = "; ".join(f"{s.algorithm} PCR {listed(s.pcrs)}" for s in quote.selections if s.pcrs)
    values = "hash to the quoted digest" if pcrs_checked else "not given, the digest was compared with nothing"
    clock = quote.clock_info
    rows = (
        ("key", f"{key.fingerprint} ({about_key})"),
        ("nonce", quote.nonce.hex()),
        ("registers", covered or "none"),
        ("digest", quote.pcr_digest.hex()),
        ("values", values),
        ("clock", f"{clock.clock} ms, {clock.reset_count} resets, {clock.restart_count} restarts"),
        ("firmware", f"0x{quote.firmware_version:016x}"),
    )
    head = span("the quote is authentic: this key signed it for this nonce", "bold green")
    return Page(parts=(head, _facts(rows)))


def _facts(rows: Iterable[tuple[str, str]]) -> Grid:
    return Grid(columns=("", ""), rows=tuple((span(name), span(text)) for name, text in rows))


def result_page(
    result: AppraisalResult,
    *,
    quoted: Sequence[int] | None = None,
    manifests: Iterable[ReferenceManifest] = (),
    sentences: Mapping[str, str] | None = None,
) -> Page:
    """The verdict in plain words: findings first, then what was checked and why it passed, then what nobody knows.

    ``sentences`` say of each rule what it demands.
    """
    words = {
        "affirming": "everything that the policy demands was compared and is as the references say",
        "warning": "nothing is wrong, but the references do not speak for all that the policy demands",
        "contraindicated": "the machine did not boot what the references say",
        "none": "nothing could be compared",
    }
    parts: list[Cell | Grid] = [
        (Span(result.status, _STATUS_STYLES[result.status]), Span(f": {words[result.status]}")),
        span(f"policy {result.policy}, bank {result.bank}" + (f", quoted PCR {listed(quoted)}" if quoted else "")),
        span(f"attestation key {result.ak_fingerprint[:16]}, vouched for by: {result.ak_trust}"),
        span("the quote is by this key and for this nonce, and the log replays to the quoted registers"),
    ]
    for manifest in manifests:
        signers = ", ".join(key[:16] for key in manifest.signed_by or ()) or "nobody"
        parts.append(span(f"manifest {manifest.name}, version {manifest.version}, signed by {signers}"))
    for item in result.identified:
        place = item.boot_path or (item.slot and f"slot {item.slot}")
        parts.append(span(f"identified: {item.component} is {item.release}" + (f" ({place})" if place else "")))
    if result.findings:
        parts += [span(""), span("findings", "bold")]
        for finding in result.findings:
            parts += _finding_lines(finding)
    if result.checked:
        # A rule with an error has its sentence broken, though some of what it compared was right.
        failed = any(finding.severity == "error" for finding in result.findings)
        parts += [span(""), span(f"checked and {'right all the same' if failed else 'passed'}", "bold")]
        parts += _checked_lines(result.checked, {} if failed else sentences or {})
    if result.not_covered:
        parts += [span(""), span("not covered", "bold")]
        for missing in result.not_covered:
            where = "" if missing.pcr is None else f"PCR {missing.pcr}, "
            parts.append(span(f"  {where}{missing.subject}: {missing.reason}"))
    return Page(parts=tuple(parts))


def _checked_lines(checks: Iterable[Check], sentences: Mapping[str, str]) -> list[Cell]:
    grouped: dict[str, dict[str, list[Check]]] = {}
    for check in checks:
        grouped.setdefault(check.rule, {}).setdefault(check.against, []).append(check)
    lines: list[Cell] = []
    for rule, by_reference in grouped.items():
        sentence = sentences.get(rule)
        lines.append(span(f"  {rule}" + (f": {sentence}" if sentence else "")))
        for against, members in by_reference.items():
            where = ", ".join(filter(None, map(_where_checked, members)))
            lines.append(span(f"    {where or 'in no register'}: compared with {_clipped_raw(against)}", "dim"))
    return lines


def _where_checked(check: Check) -> str:
    register = "" if check.pcr is None else f"PCR {check.pcr}"
    events = "" if not check.events else f"event{'s' if len(check.events) > 1 else ''} {listed(check.events)}"
    return f"{register} ({events})" if register and events else register or events


def _clipped_raw(text: str) -> str:
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}... (+{len(text) - _MAX_CELL} characters)"


def _finding_lines(finding: Finding) -> list[Cell]:
    where = ", ".join(
        filter(
            None,
            (
                None if finding.pcr is None else f"PCR {finding.pcr}",
                None if finding.event is None else f"event {finding.event}",
            ),
        )
    )
    head = f"{where}: " if where else ""
    text = f": {head}{_clipped_raw(finding.message)} ({finding.code})"
    lines: list[Cell] = [(Span(f"  {finding.severity}", _SEVERITY_STYLES[finding.severity]), Span(escape(text)))]
    for name, value in (("expected", finding.expected), ("observed", finding.observed)):
        if value is not None:
            shown = value.hex() if isinstance(value, bytes) else _clipped_raw(value)
            lines.append(span(f"    {name}: {shown}"))
    return lines


def manifest_page(manifest: ReferenceManifest) -> Page:
    """What a reference manifest speaks for, and what not."""
    bounds = (("from", manifest.not_before), ("until", manifest.expires))
    validity = ", ".join(f"{word} {moment.isoformat()}" for word, moment in bounds if moment is not None)
    facts = [
        ("name", manifest.name),
        ("release", manifest.release or "unknown"),
        ("channel", manifest.channel or "unknown"),
        ("architecture", manifest.arch),
        ("version", str(manifest.version)),
        ("valid", validity or "without limit"),
        ("signed by", ", ".join(manifest.signed_by) if manifest.signed_by else "nobody (not verified)"),
    ]
    facts += [
        ("made from", f"{s.name}, {s.size} bytes, sha256 {s.sha256.hex()}, {s.authenticity}") for s in manifest.sources
    ]
    facts += [("usr", f"slot {u.slot}: {u.status}, root {u.root.hex() if u.root else 'unknown'}") for u in manifest.usr]
    facts += [("built in", f"{path}: {words}") for path, words in built_in_lines(manifest)]
    components = tuple(
        (span(c.role), span(c.slot or "-"), span(c.path), span(c.authenticode.get("sha256", b"").hex() or "-"))
        for c in manifest.components
    )
    parts: list[Cell | Grid] = [
        _facts(facts),
        span(""),
        Grid(columns=("component", "slot", "path", "authenticode sha256"), rows=components),
    ]
    if manifest.boot_paths:
        paths = tuple((span(p.name), span(p.slot or "-"), span(len(p.events))) for p in manifest.boot_paths)
        parts += [span(""), Grid(columns=("boot path", "slot", "events"), rows=paths, right=frozenset({"events"}))]
    for title, registers in (("covers", manifest.covers), ("does not cover", manifest.not_covered)):
        if registers:
            parts += [span(""), span(title, "bold")]
            parts += [span(f"  PCR {pcr}: {text}") for pcr, text in sorted(registers.items())]
    parts += [span(f"  built-in command line of {path}: {reason}") for path, reason in unread_command_lines(manifest)]
    return Page(parts=tuple(parts))


def baseline_page(baseline: Baseline) -> Page:
    """What a baseline was learned from, and what varied, so that a person sees what is being allowed."""
    machines = "one machine" if baseline.samples == 1 else f"{baseline.samples} machines"
    of_model = "" if baseline.model is None else f" of model {baseline.model}"
    parts: list[Cell | Grid] = [
        span(f"observed on {machines}{of_model}, bank {baseline.bank}: PCR {listed(baseline.histories) or 'none'}")
    ]
    parts += [
        span(f"PCR {v.pcr} varies: {v.histories} histories, apart from its event {v.first_difference} on", "yellow")
        for v in baseline.variations
    ]
    if not baseline.variations:
        parts.append(span("no register varies between the samples"))
    return Page(parts=tuple(parts))


def identification_page(found: Identification) -> Page:
    """What a log shows, component by component."""
    release = found.release
    if release is not None:
        head = f"{release.name}, release {release.release or 'unknown'}"
    elif found.mixed:
        head = "programs of several releases"
    else:
        head = "several releases have all that was recognised" if found.programs else "nothing was recognised"
    parts: list[Cell | Grid] = [span(head, "bold")]
    if found.slot is not None:
        parts.append(span(f"slot {found.slot}"))
    parts += [span(f"boot path: {name}") for name in found.boot_paths]
    if found.programs:
        rows = tuple(
            (
                span(p.event),
                span(f"PCR {p.pcr}"),
                span(p.role),
                span(p.digest[:8].hex()),
                span(", ".join(r.name for r in p.releases)),
            )
            for p in found.programs
        )
        parts.append(Grid(columns=("#", "register", "component", found.bank, "of"), rows=rows, right=frozenset({"#"})))
    parts += [span(f"event {u.event}, PCR {u.pcr}: in no manifest: {u.digest.hex()}", "yellow") for u in found.unknown]
    parts += [span(""), span("A log alone proves nothing: this recognises, verify vouches.", "dim")]
    return Page(parts=tuple(parts))
