"""The sections of a report, but for its events."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

from measlog.registry import PCR_NAMES
from measlog.replay.quirks import QUIRKS
from measlog.view.findings import finding_block
from measlog.view.html import Html, Part, clip, el, join
from measlog.view.pieces import STATUS_WORDS, badge, facts, register_chip, scrolled, table
from measlog.view.render import listed
from measlog.view.sides import difference_rows

if TYPE_CHECKING:
    from measlog.appraisal.diff import Difference
    from measlog.appraisal.result import AppraisalResult
    from measlog.reference.manifest import ReferenceManifest
    from measlog.view.report import Report

__all__ = [
    "checked_section",
    "diff_section",
    "not_checked_section",
    "raw_section",
    "registers_section",
    "reproduce_section",
    "verdict_section",
    "why_section",
]

_MAX_TEXT = 4096 + 64
_MAX_LOG = 512 << 10
_KINDS = {"deleted": "only in the log", "inserted": "missing in the log"}
_UNAUTHENTIC = "The evidence is not authentic: nothing that it says was believed, nothing was compared."


def verdict_section(report: Report) -> Html:
    """The verdict in one word and one sentence, and whose it is."""
    result = report.result
    status = "none" if result is None else result.status
    said = _UNAUTHENTIC if result is None else STATUS_WORDS[result.status]
    word = "not authentic" if result is None else status
    rows: list[tuple[str, Part]] = []
    if result is not None:
        rows += [
            ("policy", result.policy),
            ("bank", result.bank),
            (
                "attestation key",
                join([el("code", result.ak_fingerprint, cls="m-long"), f", vouched for by: {result.ak_trust}"]),
            ),
        ]
    rows += [("manifest", _manifest(manifest)) for manifest in report.manifests]
    for item in result.identified if result is not None else ():
        place = item.boot_path or (f"slot {item.slot}" if item.slot else None)
        rows.append(("identified", f"{item.component} is {item.release}" + (f" ({place})" if place else "")))
    banner = el("div", el("strong", word), said, " ", _counted(result), cls=f"verdict m-{status}")
    return join([banner, facts(rows)])


def _counted(result: AppraisalResult | None) -> str:
    errors = [f for f in result.findings if f.severity == "error"] if result is not None else []
    if not errors:
        return ""
    where = listed(f.pcr for f in errors if f.pcr is not None)
    return f"{len(errors)} error{'s' if len(errors) > 1 else ''}" + (f" in PCR {where}." if where else ".")


def _manifest(manifest: ReferenceManifest) -> Html:
    named = f"{manifest.name}, release {manifest.release or 'unknown'}, version {manifest.version}, "
    if not manifest.signed_by:
        return join([named, badge("signed by nobody", "warning")])
    return join([f"{named}signed by {', '.join(key[:16] for key in manifest.signed_by)}"])


def why_section(report: Report) -> Html:
    """The findings, worst first, each with what its code means."""
    if report.result is None:
        return el("div", el("p", el("bdi", report.error or "")), cls="m-finding m-is-error")
    findings = report.result.findings
    if not findings:
        return el("p", "There is no finding: see what was checked.")
    seen: set[str] = set()
    made = []
    for finding in findings:
        # Events refer to the first finding of a code.
        anchor = None if finding.code in seen else f"finding-{finding.code}"
        made.append(finding_block(finding, link=True, anchor=anchor))
        seen.add(finding.code)
    return join(made)


def checked_section(report: Report) -> Html:
    """What was compared and found right, rule by rule."""
    result = report.result
    if result is None:
        return el("p", "Nothing: evidence that is not authentic is not appraised.")
    proven = el(
        "p",
        "The quote is by this key and for this nonce, and the log replays to the quoted registers.",
    )
    if not result.checked:
        return join([proven, el("p", "No rule compared anything.")])
    rows = [
        (el("code", c.rule), register_chip(c.pcr), listed(c.events) or "-", el("bdi", clip(c.against, _MAX_TEXT)))
        for c in result.checked
    ]
    columns = ("rule", "register", "events", "compared with")
    parts: list[Html | None] = [proven, _table(columns, rows, "What was compared and found right")]
    # A rule that found an error has its sentence broken, though some of what it compared was right.
    if report.sentences and not any(f.severity == "error" for f in result.findings):
        rules = {c.rule for c in result.checked}
        parts.append(el("h3", "What follows"))
        parts.append(el("ul", *(el("li", text) for rule, text in report.sentences.items() if rule in rules)))
    parts.append(_quirks(result))
    return join(parts)


def _quirks(result: AppraisalResult) -> Html | None:
    if not result.quirks:
        return None
    items = [el("li", f"{key}: {QUIRKS[key].title}" if key in QUIRKS else key) for key in result.quirks]
    return join([el("h3", "Known deviations that the verdict rests on"), el("ul", *items)])


def not_checked_section(report: Report) -> Html:
    """What nobody spoke for, and why."""
    result = report.result
    if result is None:
        return el("p", "Everything.")
    if not result.not_covered:
        return el("p", "Nothing is left out.")
    rows = [(register_chip(n.pcr), n.subject, el("bdi", clip(n.reason, _MAX_TEXT))) for n in result.not_covered]
    return _table(("register", "what", "why"), rows, "Registers and components that no reference speaks for")


def registers_section(report: Report) -> Html:
    """The quoted registers with their values, and what became of each."""
    if report.evidence is None or report.result is None:
        return el("p", "No register value is proven: the quote was not accepted.")
    evidence, result = report.evidence, report.result
    right = {c.pcr for c in result.checked}
    wrong = {f.pcr for f in result.findings if f.severity == "error"}
    silent = {n.pcr for n in result.not_covered}
    rows = []
    for pcr, value in sorted(evidence.values.items()):
        state = badge("not covered", "warning")
        if pcr in wrong:
            state = badge("error", "error")
        elif pcr in right and pcr not in silent:
            state = badge("checked", "matches")
        elif pcr in right:
            state = badge("checked in part", "info")
        origin = "the log"
        if pcr in evidence.unexplained:
            origin = "not from the log"
        elif pcr in evidence.unmeasured:
            origin = "never extended"
        rows.append((register_chip(pcr), PCR_NAMES.get(pcr, ""), state, origin, el("code", value.hex(), cls="m-long")))
    caption = f"The quoted registers of the bank {evidence.bank}"
    return _table(("register", "name", "state", "explained by", "value"), rows, caption)


def diff_section(report: Report) -> Html:
    """Where the log leaves the predicted boot that comes closest."""
    found = report.boot
    if found is None:
        return el("p", "No boot could be predicted from the manifests to compare the log with.")
    intro = el("p", "The predicted boot that comes closest: ", el("strong", report.boot_name or "unnamed"), ".")
    parts: list[Html] = [intro]
    by_register: dict[int, list[Difference]] = {}
    for row in found.differences:
        by_register.setdefault(row.pcr, []).append(row)
    if not by_register:
        compared = listed({row.pcr for row in found.rows})
        parts.append(el("p", badge("no difference", "same"), f" in PCR {compared or '-'}, event by event."))
    head = el("tr", *(el("th", name, scope="col") for name in ("kind", "event", "this log", "expected")))
    for pcr, rows in by_register.items():
        shown = difference_rows(rows, words=_KINDS, link=True)
        body = el("table", el("thead", head), el("tbody", *shown))
        parts.append(el("h3", register_chip(pcr), f" {PCR_NAMES.get(pcr, '')}"))
        parts.append(scrolled(body, f"Differences in PCR {pcr}"))
        if len(shown) < len(rows):
            parts.append(el("p", f"{len(rows) - len(shown)} more differences are left out."))
    unknown = [(register_chip(pcr), why) for pcr, why in sorted(found.not_compared.items())]
    if unknown:
        parts.append(_table(("register", "why"), unknown, "Not compared"))
    return join(parts)


def raw_section(report: Report) -> Html:
    """Values to copy."""
    data = report.log.to_bytes()
    values: list[tuple[str, str, str]] = [
        ("nonce", "nonce", report.quote.nonce.hex()),
        ("quote", "quote, TPMS_ATTEST", report.quote.attest.hex()),
        ("signature", "signature, TPMT_SIGNATURE", report.quote.signature.hex()),
        ("log-sha256", f"SHA-256 of the log, {len(data)} bytes", hashlib.sha256(data).hexdigest()),
    ]
    if report.evidence is not None:
        banked = "\n".join(f"{pcr}: {value.hex()}" for pcr, value in sorted(report.evidence.values.items()))
        values.append(("registers-raw", f"registers, {report.evidence.bank}", banked))
        values.append(("ak", "attestation key, SHA-256", report.evidence.key.fingerprint))
    parts = [_copyable(key, name, value) for key, name, value in values]
    if len(data) <= _MAX_LOG:
        parts.append(_copyable("log", "log, base64", b64encode(data).decode(), folded=True))
    return join([*parts, el("p", el("output", id="copied", aria_live="polite"))])


def _copyable(key: str, name: str, value: str, *, folded: bool = False) -> Html:
    lines = Html("\n".join(join([line]) for line in value.split("\n")))
    block = el("pre", lines, id=f"raw-{key}", tabindex=0, aria_label=name)
    button = el(
        "button", "Copy", type="button", data_copy=f"raw-{key}", data_what=name, aria_label=f"Copy {name}", hidden=True
    )
    head = el("div", el("h3", name), button, cls="raw")
    if not folded:
        return join([head, block])
    return join([head, el("details", el("summary", f"show {name}"), block, cls="bulky")])


def reproduce_section(report: Report) -> Html:
    """The command line that gives the same verdict, and the files that it was given."""
    parts: list[Html] = []
    if report.command is not None:
        parts.append(_copyable("command", "command line", report.command))
    if report.inputs:
        rows: list[Sequence[Part]] = [
            (i.role, el("bdi", i.name), i.size, el("code", i.sha256, cls="m-long")) for i in report.inputs
        ]
        parts.append(_table(("what", "file", "bytes", "SHA-256"), rows, "The files that were read"))
    if not parts:
        parts.append(el("p", "How this report was made is not recorded in it."))
    return join(parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Part]], caption: str) -> Html:
    return scrolled(table(columns, rows, caption=caption), caption)
