"""Predicted boots, and histories side by side, as lines and tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from measlog.registry import PCR_NAMES
from measlog.view.grid import Cell, Grid, span
from measlog.view.render import Page, listed

if TYPE_CHECKING:
    from measlog.appraisal.diff import Difference, HistoryDiff, Side
    from measlog.evidence import Quote
    from measlog.flatcar.boot import PredictedBoot, PredictedEvent

__all__ = ["boot_page", "diff_page", "expected_text", "sent_quote_page", "side_texts"]

_STYLES = {"same": "dim", "changed": "bold red", "inserted": "yellow", "deleted": "yellow", "moved": "yellow"}
_MAX_TEXT = 4096


def side_texts(row: Difference) -> tuple[str, str]:
    """What the two histories have at a place: the text where there is one, else the type.

    The digest is added where that does not tell the two apart.
    """
    left, right = _side_text(row.left), _side_text(row.right)
    if row.left is None or row.right is None or row.kind != "changed":
        return left, right
    if left != right and row.left.text and row.right.text:
        return left, right
    digests = (row.left.digest.hex(), row.right.digest.hex())
    return (
        f"{row.left.text or row.left.type.name} {digests[0]}",
        f"{row.right.text or row.right.type.name} {digests[1]}",
    )


def _side_text(side: Side | None) -> str:
    if side is None:
        return "(nothing)"
    return side.text or f"{side.type.name} {side.digest.hex()}"


def expected_text(event: PredictedEvent) -> str:
    """What a predicted event is about, and what an open text may hold."""
    text = event.text.decode("utf-8", "backslashreplace") or event.kind
    return text if event.arguments is None else f"[arguments: {event.arguments.sentence}] {text}"


def diff_page(found: HistoryDiff, *, same: bool = False) -> Page:
    """The places where two histories differ (with ``same``: all places), register by register."""
    rows = found.rows if same else found.differences
    parts: list[Cell | Grid] = [span(_diff_line(found), "bold")]
    parts += [span(f"PCR {pcr}, likely cause: {cause}") for pcr, cause in found.likely_causes.items()]
    for row in rows:
        parts += _diff_lines(row)
    parts += [span(f"not compared: PCR {pcr}: {why}", "dim") for pcr, why in sorted(found.not_compared.items())]
    return Page(parts=tuple(parts))


def _diff_line(found: HistoryDiff) -> str:
    count = len(found.differences)
    if not count:
        return f"no difference in the bank {found.bank}, {len(found.rows)} events compared"
    registers = ", ".join(f"PCR {pcr}" for pcr in found.first_divergence)
    return f"{count} difference{'s' if count > 1 else ''} in the bank {found.bank}: {registers}"


def _diff_lines(row: Difference) -> list[Cell]:
    number = "" if row.event is None else f", event {row.event}"
    style = _STYLES[row.kind]
    head = span(f"PCR {row.pcr}{number}: {row.kind}", style)
    if row.kind == "same":
        return [(*head, *span(f": {side_texts(row)[0][:_MAX_TEXT]}", "dim"))]
    sides = zip(("left ", "right"), side_texts(row), strict=True)
    return [head, *(span(f"  {name}: {text[:_MAX_TEXT]}") for name, text in sides)]


def sent_quote_page(quote: Quote) -> Page:
    """A quote as the machine states it: nothing here says that it was verified."""
    clock = quote.clock_info
    covered = "; ".join(f"{s.algorithm} PCR {listed(s.pcrs)}" for s in quote.selections if s.pcrs)
    rows = (
        ("registers", covered or "none"),
        ("nonce", quote.nonce.hex() or "(none)"),
        ("digest", quote.pcr_digest.hex()),
        ("clock", f"{clock.clock} ms, {clock.reset_count} resets, {clock.restart_count} restarts"),
        ("firmware", f"0x{quote.firmware_version:016x}"),
    )
    head = span("a quote as it was sent, not verified", "bold")
    return Page(parts=(head, Grid(columns=("", ""), rows=tuple((span(name), span(text)) for name, text in rows))))


def boot_page(boot: PredictedBoot, *, bank: str = "sha256") -> Page:
    """A predicted boot: its registers in one bank, its events, and what could not be known."""
    parts: list[Cell | Grid] = [
        span(boot.name, "bold"),
        span(f"{boot.release}, boot loader of {boot.bootloader}, ends with: {boot.outcome}"),
    ]
    values = boot.pcrs.get(bank, {})
    if values:
        rows = tuple((span(f"PCR {p}"), span(PCR_NAMES.get(p, "")), span(v.hex())) for p, v in values.items())
        parts.append(Grid(columns=(bank, "", "value"), rows=rows))
    parts += [span(f"PCR {pcr} {why}") for pcr, why in sorted(boot.moves.items()) if why.startswith("changes")]
    if boot.events:
        events = tuple(
            (span(f"PCR {e.pcr}"), span(e.kind), span(e.digests.get(bank, b"").hex()[:16] or "-"), _predicted(e))
            for e in boot.events
        )
        parts.append(Grid(columns=("register", "kind", bank, "data"), rows=events))
    parts += [span(f"unknown: PCR {pcr}: {why}", "yellow") for pcr, why in sorted(boot.unknown.items())]
    parts += [span(f"assumed: {line}", "dim") for line in boot.assumptions]
    return Page(parts=tuple(parts))


def _predicted(event: PredictedEvent) -> Cell:
    text = expected_text(event)[:_MAX_TEXT]
    return span(text) if event.authenticated else span(f"~{text}", "dim")
