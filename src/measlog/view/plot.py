"""Pictures of boots with matplotlib. Each function draws into the given Axes, or new ones, and returns them.

Colours are of the palette by Okabe and Ito, which people with any colour vision can tell apart, and nothing is said by
colour alone. Foreign text is drawn as it is: matplotlib is told not to read formulas in it. Needs the extra ``plot``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from measlog.appraisal.diff import Difference, diff
from measlog.errors import MissingExtraError
from measlog.registry import PCR_NAMES, Register
from measlog.view.compare import side_texts
from measlog.view.escape import escape
from measlog.view.pieces import CHECK_WORDS
from measlog.view.render import display_bank

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from measlog.appraisal.result import AppraisalResult
    from measlog.flatcar.boot import PredictedBoot
    from measlog.log import EventLog

__all__ = ["boots", "chain", "heatmap", "timeline"]

_GREY = "#8c8c8c"
_STYLES: Mapping[str, tuple[str, str]] = {
    "matches": ("#009e73", "o"),
    "differs": ("#d55e00", "X"),
    "not_derivable": ("#56b4e9", "s"),
    "not_extended": (_GREY, "|"),
    "no_digest": (_GREY, "_"),
}
_KINDS = {"same": "#009e73", "changed": "#d55e00", "deleted": "#cc79a7", "inserted": "#0072b2", "moved": "#e69f00"}
_WORDS = {
    "same": "same",
    "changed": "changed",
    "deleted": "only in the log",
    "inserted": "missing in the log",
    "moved": "elsewhere",
}
# The commonest value is pale, so that what is unusual stands out.
_RANKS = ("#dde8f0", "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442", "#d55e00", "#0072b2")
_DARK = frozenset({"#0072b2"})
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MAX_TEXT = 70
_MAX_EVENTS = 44


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _shown(text: str, most: int = _MAX_TEXT) -> str:
    plain = escape(text).encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def _named(register: Register) -> str:
    if register.kind == "none":
        return "no register"
    name = PCR_NAMES.get(register.index) if register.kind == "pcr" else None
    return f"{register} {name}" if name else str(register)


def timeline(
    log: EventLog, *, result: AppraisalResult | None = None, bank: str | None = None, ax: Axes | None = None
) -> Axes:
    """The boot from left to right, one line a register: each event, and whether its data gives its digest.

    With ``result`` the events that have a finding are ringed.
    """
    name = display_bank(log.algorithms) if bank is None else bank
    registers = sorted({event.register for event in log}, reverse=True)
    place = {register: i for i, register in enumerate(registers)}
    ax = _axes(ax, 10, 1.6 + 0.32 * len(registers))
    points: dict[str, list[tuple[int, int]]] = {}
    for event in log:
        points.setdefault(event.check(name).status, []).append((event.index, place[event.register]))
    for status in CHECK_WORDS:
        if status in points:
            colour, marker = _STYLES[status]
            x, y = zip(*points[status], strict=True)
            ax.scatter(x, y, s=42, c=colour, marker=marker, label=status.replace("_", " "), zorder=3)
    if result is not None:
        wrong = sorted({f.event for f in result.findings if f.event is not None and f.event < len(log)})
        if wrong:
            y = tuple(place[log[i].register] for i in wrong)
            ax.scatter(
                wrong, y, s=170, facecolors="none", edgecolors="black", linewidths=1.5, label="finding", zorder=4
            )
    ax.set_yticks(range(len(registers)), [_named(r) for r in registers])
    ax.set_xlabel("event")
    ax.set_title(f"{len(log)} events, digests of {name}")
    ax.grid(axis="y", color="#dddddd", zorder=0)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=6, frameon=False)
    return ax


def chain(
    log: EventLog, pcr: int, reference: EventLog | PredictedBoot, *, bank: str = "sha256", ax: Axes | None = None
) -> Axes:
    """The history of one PCR beside that of a reference, from the top down, with the place where they part.

    Of long histories the part around that place is drawn. Raises :class:`~measlog.errors.EvidenceError` where the log
    does not carry the bank.
    """
    found = diff(log, reference, bank=bank)
    rows = [row for row in found.rows if row.pcr == pcr]
    first = next((i for i, row in enumerate(rows) if row.kind != "same"), None)
    start = 0 if first is None else max(0, min(first - _MAX_EVENTS // 3, len(rows) - _MAX_EVENTS))
    shown = rows[start : start + _MAX_EVENTS]
    ax = _axes(ax, 13, 1.6 + 0.27 * max(1, len(shown)))
    for line, row in enumerate(shown):
        _link(ax, line, row)
    if first is None:
        why = found.not_compared.get(pcr)
        ending = f"not compared: {_shown(why)}" if why else "no difference"
    else:
        ax.axhline(first - start - 0.5, color="black", linewidth=1.5, linestyle="--")
        ending = f"they part at place {first}"
    left_out = f", places {start} to {start + len(shown) - 1} of {len(rows)}" if len(shown) < len(rows) else ""
    ax.set_title(f"{_named(Register('pcr', pcr))}, {bank}: {ending}{left_out}", parse_math=False)
    ax.set_xlim(-0.12, 2)
    ax.set_ylim(max(1, len(shown)) - 0.5, -0.9)
    ax.text(0, -0.75, "this log", weight="bold", va="center")
    ax.text(1.02, -0.75, "reference", weight="bold", va="center")
    ax.set_axis_off()
    return ax


def _link(ax: Axes, line: int, row: Difference) -> None:
    colour = _KINDS[row.kind]
    number = "" if row.left is None or row.left.event is None else str(row.left.event)
    ax.text(-0.05, line, number, ha="right", va="center", family="monospace", size=8, color="#444444")
    ax.plot([-0.03, -0.03], [line - 0.5, line + 0.5], color=colour, linewidth=5, solid_capstyle="butt")
    left, right = side_texts(row)
    if row.kind == "changed":
        left, right = _from_difference(left, right)
    weight = "normal" if row.kind == "same" else "bold"
    for x, words in ((0.0, left), (1.02, right)):
        ax.text(x, line, _shown(words), va="center", family="monospace", size=8, weight=weight, parse_math=False)
    if row.kind != "same":
        ax.text(2.0, line, _WORDS[row.kind], ha="right", va="center", size=8, color="#444444", style="italic")


def _from_difference(left: str, right: str) -> tuple[str, str]:
    """Long texts from shortly before the place where they differ, so that the difference is in the picture."""
    same = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    start = max(0, same - _MAX_TEXT // 2)
    if start == 0 or max(len(left), len(right)) <= _MAX_TEXT:
        return left, right
    return f"...{left[start:]}", f"...{right[start:]}"


def heatmap(values: Mapping[str, Mapping[int, bytes]], *, reference: str | None = None, ax: Axes | None = None) -> Axes:
    """Registers by cohort (or by machine): the same letter in a column is the same value.

    ``values`` gives for each cohort its register values by index. ``A`` is the value of the cohort ``reference``, or
    the commonest one.
    """
    names = list(values)
    registers = sorted({pcr for held in values.values() for pcr in held})
    first = values.get(reference, {}) if reference is not None else {}
    columns = [_ranked([values[name].get(pcr) for name in names], first.get(pcr)) for pcr in registers]
    ax = _axes(ax, 4.2 + 0.55 * len(registers), 1.8 + 0.36 * max(1, len(names)))
    for x, column in enumerate(columns):
        for y, rank in enumerate(column):
            _cell(ax, x, y, rank)
    ax.set_xticks(range(len(registers)), [f"PCR {pcr}" for pcr in registers], rotation=60, ha="right")
    ax.set_yticks(range(len(names)), [_shown(name, 32) for name in names], parse_math=False)
    _frame(ax, len(registers), len(names))
    ax.set_title("register values: the same letter is the same value")
    return ax


def boots(
    logs: Iterable[tuple[str, EventLog]],
    *,
    bank: str = "sha256",
    registers: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The registers of one machine over a series of boots, each with its name, first boot first.

    A letter is a value; an outlined cell differs from the boot before. Raises :class:`~measlog.errors.ReplayError`
    where a log does not carry the bank.
    """
    series = [(name, log.replay(bank)) for name, log in logs]
    wanted = sorted({pcr for _, held in series for pcr in held}) if registers is None else list(registers)
    ax = _axes(ax, 4 + 0.7 * len(series), 2.6 + 0.36 * len(wanted))
    for y, pcr in enumerate(wanted):
        line = [held.get(pcr) for _, held in series]
        for x, rank in enumerate(_in_order(line)):
            _cell(ax, x, y, rank, changed=x > 0 and line[x] != line[x - 1])
    ax.set_xticks(
        range(len(series)), [_shown(name, 24) for name, _ in series], rotation=40, ha="right", parse_math=False
    )
    ax.set_yticks(range(len(wanted)), [_named(Register("pcr", pcr)) for pcr in wanted])
    _frame(ax, len(series), len(wanted))
    ax.set_title(f"registers over {len(series)} boots, {bank}: outlined where a boot changed one")
    return ax


def _ranked(column: Sequence[bytes | None], first: bytes | None) -> list[int | None]:
    """For each value its rank among the values of its column: ``first`` first, then the commonest."""
    common = [value for value, _ in Counter(v for v in column if v is not None).most_common()]
    ranks = {value: i for i, value in enumerate(sorted(common, key=lambda value: value != first))}
    return [None if value is None else ranks[value] for value in column]


def _in_order(line: Sequence[bytes | None]) -> list[int | None]:
    """For each value its place among the values of its line, first seen first."""
    places: dict[bytes, int] = {}
    return [None if value is None else places.setdefault(value, len(places)) for value in line]


def _cell(ax: Axes, x: int, y: int, rank: int | None, *, changed: bool = False) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - optional

    colour = "#ffffff" if rank is None else _RANKS[min(rank, len(_RANKS) - 1)]
    letter = "" if rank is None else _LETTERS[rank] if rank < len(_LETTERS) else str(rank)
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=2))
    if changed:
        ax.add_patch(Rectangle((x - 0.44, y - 0.44), 0.88, 0.88, fill=False, edgecolor="black", linewidth=2))
    ax.text(x, y, letter, ha="center", va="center", size=9, color="white" if colour in _DARK else "black")


def _frame(ax: Axes, width: int, height: int) -> None:
    ax.set_xlim(-0.5, max(1, width) - 0.5)
    ax.set_ylim(max(1, height) - 0.5, -0.5)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
