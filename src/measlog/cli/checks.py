"""``measlog checks``."""

from __future__ import annotations

import click

from measlog.cli.files import read_log
from measlog.cli.options import FILE, as_json
from measlog.cli.output import emit, emit_json
from measlog.replay.counts import CheckCount, count_checks
from measlog.view.grid import Grid, span
from measlog.view.render import Page

__all__ = ["checks"]


@click.command(epilog="Example: measlog checks fixtures/*/binary_bios_measurements")
@click.argument("logs", type=FILE, nargs=-1, required=True, metavar="LOG...")
@as_json
def checks(logs: tuple[str, ...], *, as_json: bool) -> None:
    """How many events of each type have digests that follow from their data, cannot be derived, or differ.

    Counted over all LOGs together, with the rule that matched and the quirk that it is.
    """
    counts = count_checks(event for path in logs for event in read_log(path))
    if as_json:
        emit_json({"measlog": "checks/1", "logs": len(logs), "counts": [_document(count) for count in counts]})
    else:
        emit(Page(parts=(_grid(counts),)))


def _document(count: CheckCount) -> dict[str, object]:
    return {
        "type": count.type.name,
        "register": count.register_kind,
        "status": count.status,
        "rule": count.rule or None,
        "quirk": count.quirk or None,
        "banks_agree": count.banks_agree,
        "events": count.events,
    }


def _grid(counts: tuple[CheckCount, ...]) -> Grid:
    rows = tuple(
        (
            span(c.type.name),
            span(c.register_kind),
            span(c.status if c.banks_agree else f"{c.status}, banks differ", _STYLES.get(c.status, "")),
            span(c.rule),
            span(c.quirk),
            span(str(c.events)),
        )
        for c in counts
    )
    return Grid(columns=("type", "register", "digest", "rule", "quirk", "events"), rows=rows)


_STYLES = {"differs": "red", "matches": "green"}
