"""A finding as HTML: where, what, what was expected in its place, and what its code means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from measlog.codes import CODES
from measlog.registry import PCR_NAMES
from measlog.view.html import Html, Part, clip, el
from measlog.view.pieces import badge, facts, register_chip
from measlog.view.sides import marked

if TYPE_CHECKING:
    from measlog.appraisal.result import Finding

__all__ = ["finding_block"]

_MAX_TEXT = 4096 + 64
"""Longer than the longest kernel command line: what differs must not be hidden."""


def finding_block(finding: Finding, *, link: bool = False, anchor: str | None = None, most: int = _MAX_TEXT) -> Html:
    """A finding. With ``link`` its event refers to the element ``event-N`` of the page; ``most`` bounds its message."""
    where: list[Part] = []
    if finding.pcr is not None:
        where += [" ", register_chip(finding.pcr), " ", PCR_NAMES.get(finding.pcr, "")]
    if finding.event is not None:
        name = f"event {finding.event}"
        where += [" ", el("a", name, href=f"#event-{finding.event}") if link else name]
    values = _expected_and_observed(finding)
    return el(
        "div",
        el("p", badge(finding.severity, finding.severity), " ", el("code", finding.code), *where),
        el("p", el("bdi", clip(finding.message, most))),
        facts(values) if values else None,
        el("p", f"{finding.code}: {CODES[finding.code]}", cls="m-note") if finding.code in CODES else None,
        cls=f"m-finding m-is-{finding.severity}",
        id=anchor,
    )


def _expected_and_observed(finding: Finding) -> list[tuple[str, Part]]:
    expected, observed = finding.expected, finding.observed
    if isinstance(expected, str) and isinstance(observed, str):
        seen, wanted = marked(observed, expected)
        return [("expected", el("code", wanted, cls="m-long")), ("observed", el("code", seen, cls="m-long"))]
    return [(name, _value(v)) for name, v in (("expected", expected), ("observed", observed)) if v is not None]


def _value(value: bytes | str) -> Html:
    return el("code", value.hex() if isinstance(value, bytes) else clip(value, _MAX_TEXT), cls="m-long")
