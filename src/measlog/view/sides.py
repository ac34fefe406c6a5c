"""Differences between two histories as HTML: side by side, with the words that differ marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from measlog.view.compare import side_texts
from measlog.view.html import Html, clip, el, join
from measlog.view.pieces import badge

if TYPE_CHECKING:
    from measlog.appraisal.diff import Difference

__all__ = ["difference_rows", "marked"]

_MAX_WORDS = 64
"""Aligning words costs up to the cube of their number."""
_MAX_TEXT = 4096 + 64
"""Longer than the longest kernel command line: what differs must not be hidden."""


def marked(left: str, right: str) -> tuple[Html, Html]:
    """Two texts, with the words that only one of them has marked."""
    a, b = clip(left, _MAX_TEXT).split(" "), clip(right, _MAX_TEXT).split(" ")
    gone: list[Html] = []
    come: list[Html] = []
    for kind, i1, i2, j1, j2 in _opcodes(a, b):
        mine, theirs = " ".join(a[i1:i2]), " ".join(b[j1:j2])
        if i1 < i2:
            gone.append(join([mine]) if kind == "equal" else el("strong", mine, cls="m-gone"))
        if j1 < j2:
            come.append(join([theirs]) if kind == "equal" else el("strong", theirs, cls="m-come"))
    return join(gone, " "), join(come, " ")


def _opcodes(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """What is equal at both ends, and between them an alignment, where that is cheap."""
    shorter = min(len(a), len(b))
    head = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    tail = next((i for i in range(shorter - head) if a[-1 - i] != b[-1 - i]), shorter - head)
    i2, j2 = len(a) - tail, len(b) - tail
    yield "equal", 0, head, 0, head
    if max(i2, j2) - head <= _MAX_WORDS:
        for kind, *places in SequenceMatcher(None, a[head:i2], b[head:j2], autojunk=False).get_opcodes():
            yield kind, places[0] + head, places[1] + head, places[2] + head, places[3] + head
    else:
        yield "replace", head, i2, head, j2
    yield "equal", i2, len(a), j2, len(b)


def difference_rows(
    rows: Sequence[Difference], *, words: Mapping[str, str] | None = None, link: bool = False, budget: int = 600_000
) -> list[Html]:
    """Table rows: the kind, the event's index, and both sides. As many as ``budget`` characters hold.

    ``words`` are what the kinds are called; with ``link`` the index refers to the element ``event-N`` of the page.
    """
    made: list[Html] = []
    for row in rows:
        left, right = side_texts(row)
        one, other = (
            marked(left, right)
            if row.left and row.right
            else (join([clip(left, _MAX_TEXT)]), join([clip(right, _MAX_TEXT)]))
        )
        event = row.event
        number: Html | str = "-" if event is None else str(event)
        if link and event is not None:
            number = el("a", str(event), href=f"#event-{event}")
        cells = (el("td", number), el("td", el("bdi", one)), el("td", el("bdi", other)))
        made.append(el("tr", el("th", badge((words or {}).get(row.kind, row.kind), row.kind), scope="row"), *cells))
        budget -= len(made[-1])
        if budget < 0:
            break
    return made
