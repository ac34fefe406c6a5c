"""What the commands write on standard output: one JSON document, or a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from measlog.view.grid import Grid
from measlog.view.render import Page

__all__ = ["emit", "emit_json"]


def emit(page: Page) -> None:
    """Show a page: with rich on a terminal, as plain lines of any length elsewhere."""
    if not sys.stdout.isatty():
        sys.stdout.write(page.to_text())
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, highlight=False, emoji=False)
    for part in page.parts:
        if isinstance(part, Grid):
            console.print(part.to_rich())
        else:
            console.print(Text.assemble(*((s.text, s.style) for s in part)), soft_wrap=True)


def emit_json(document: Mapping[str, Any]) -> None:
    """Write one document, in ASCII: no terminal acts upon it, whatever a log holds."""
    json.dump(document, sys.stdout, indent=1, ensure_ascii=True)
    sys.stdout.write("\n")
