"""Tables that know nothing of where they are shown: plain text for files and pipes, rich for terminals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from measlog.view.escape import escape

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Cell", "Grid", "Span", "span"]


@frozen
class Span:
    """A piece of text, escaped already, and how it looks on a terminal (a rich style; none in plain text)."""

    text: str
    style: str = ""


Cell = tuple[Span, ...]


def span(text: object, style: str = "") -> Cell:
    """A cell of one piece; whatever text it is given is escaped here."""
    return (Span(escape(str(text)), style),)


@frozen(kw_only=True)
class Grid:
    """Columns by name and rows of cells. Columns in ``right`` are aligned to the right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[str] = frozenset()

    def to_text(self) -> str:
        """The table as lines, no line ending in a space, the last column as long as it is."""
        lines = [self.columns, *(tuple("".join(s.text for s in cell) for cell in row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "".join(self._line(line, widths) for line in lines)

    def _line(self, cells: Sequence[str], widths: Iterable[int]) -> str:
        padded = (
            cell.rjust(width) if name in self.right else cell.ljust(width)
            for name, cell, width in zip(self.columns, cells, widths, strict=True)
        )
        return "  ".join(padded).rstrip() + "\n"

    def to_rich(self) -> Table:
        """The table for a terminal. Needs the extra ``cli``."""
        from rich.table import Table  # noqa: PLC0415 - only terminals need it
        from rich.text import Text  # noqa: PLC0415 - as above

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in self.columns:
            last = name == self.columns[-1]
            table.add_column(
                Text(name), justify="right" if name in self.right else "left", no_wrap=not last, overflow="fold"
            )
        for row in self.rows:
            # Text objects, not strings: a string would be read as markup.
            table.add_row(*(Text.assemble(*((s.text, s.style) for s in cell)) for cell in row))
        return table
