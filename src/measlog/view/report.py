"""The report: one self-contained HTML page about one machine.

The page loads nothing and runs nothing but its own script: its Content-Security-Policy admits that script and that
style sheet by their hashes and nothing else, and what a log says enters by :mod:`measlog.view.html` alone.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from measlog.appraisal.diff import HistoryDiff
from measlog.appraisal.result import AppraisalResult
from measlog.evidence import Quote, VerifiedEvidence
from measlog.log import EventLog
from measlog.reference.manifest import ReferenceManifest
from measlog.view.assets import asset
from measlog.view.html import Html, el, join
from measlog.view.report_events import events_section
from measlog.view.report_sections import (
    checked_section,
    diff_section,
    not_checked_section,
    raw_section,
    registers_section,
    reproduce_section,
    verdict_section,
    why_section,
)

__all__ = ["InputFile", "Report", "report_page"]


@frozen(kw_only=True)
class InputFile:
    """A file that the report rests on: what it was used as, its name, size in bytes and SHA-256."""

    role: str
    name: str
    size: int
    sha256: str


@frozen(kw_only=True)
class Report:
    """What a report is about.

    ``result`` and ``evidence`` are missing where the evidence is not authentic; then ``error`` says why. ``boot`` is the
    difference between the log and the predicted boot of the name ``boot_name``. ``sentences`` say of each rule what it
    demands, ``command`` is the command line that gives the same verdict.
    """

    title: str
    log: EventLog
    quote: Quote
    bank: str
    result: AppraisalResult | None = None
    evidence: VerifiedEvidence | None = None
    error: str | None = None
    manifests: tuple[ReferenceManifest, ...] = ()
    boot: HistoryDiff | None = None
    boot_name: str | None = None
    sentences: Mapping[str, str] = field(factory=dict)
    command: str | None = None
    inputs: tuple[InputFile, ...] = ()
    made: datetime | None = None
    version: str | None = None


def report_page(report: Report) -> str:
    """The page, as text to be written in UTF-8."""
    script, style = asset("report.js"), asset("base.css") + asset("report.css")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    sections = [
        ("verdict", "Verdict", verdict_section(report)),
        ("why", "Why", why_section(report)),
        ("checked", "What was checked", checked_section(report)),
        ("not-checked", "What was not checked", not_checked_section(report)),
        ("registers", "Registers", registers_section(report)),
        ("events", "Events", events_section(report)),
        ("difference", "Difference from the expected boot", diff_section(report)),
        ("raw", "Raw values", raw_section(report)),
        ("reproduce", "How to reproduce this", reproduce_section(report)),
    ]
    contents = el(
        "nav", el("ul", *(el("li", el("a", name, href=f"#{key}")) for key, name, _ in sections)), aria_label="Contents"
    )
    parts = [
        el("section", el("h2", name, id=f"{key}-head"), body, id=key, aria_labelledby=f"{key}-head")
        for key, name, body in sections
    ]
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"Measured boot: {report.title}"),
        # The two elements that el refuses to make: their text is this package's own, and the policy names its hash.
        Html(f"<style>{style}</style>"),
    )
    body = el(
        "body",
        el("a", "Skip to the verdict", href="#verdict", cls="skip"),
        el("header", el("h1", f"Measured boot: {report.title}"), contents),
        el("main", *parts),
        el("footer", _made(report)),
        Html(f"<script>{script}</script>"),
        cls="measlog",
    )
    return str(join([Html("<!doctype html>\n"), el("html", head, body, lang="en"), Html("\n")]))


def _hash(source: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _made(report: Report) -> Html:
    words = ["Made by measlog"]
    if report.version is not None:
        words.append(report.version)
    if report.made is not None:
        words.append(f"at {report.made.isoformat(timespec='seconds')}")
    return el("p", " ".join(words) + ". This page loads nothing and sends nothing.")
