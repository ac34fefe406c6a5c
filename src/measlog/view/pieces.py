"""What pages and notebook summaries are made of: registers, digests, checks, and data with the trust of each field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from measlog.registry import PCR_NAMES, Register
from measlog.replay.digests import trust
from measlog.view.html import Html, Part, clip, el, join
from measlog.view.summary import summary

if TYPE_CHECKING:
    from measlog.log import Event
    from measlog.replay.digests import DigestCheck

__all__ = [
    "CHECK_WORDS",
    "STATUS_WORDS",
    "TRUST_WORDS",
    "badge",
    "check_badge",
    "data_cell",
    "digest",
    "facts",
    "register_chip",
    "register_name",
    "scrolled",
    "table",
]

CHECK_WORDS: Mapping[str, str] = {
    "matches": "the digest is that of the event's data",
    "differs": "the digest should be that of the event's data, and is not",
    "not_derivable": "the digest is of something that is not in the log",
    "not_extended": "the event extends no register",
    "no_digest": "the event has no digest of this bank",
}
STATUS_WORDS: Mapping[str, str] = {
    "affirming": "Everything that the policy demands was compared and is as the references say.",
    "warning": "Nothing is wrong, but the references do not speak for all that the policy demands.",
    "contraindicated": "The machine did not boot what the references say.",
    "none": "Nothing could be compared.",
}
TRUST_WORDS: Mapping[str, str] = {
    "authenticated": "inside the bytes that the digest was computed from",
    "positional": "fixed by its place in the register",
    "unauthenticated": "covered by no digest: anybody may have written it",
}
_SHORT = 12


def register_name(register: Register) -> str:
    """``PCR 4 boot-loader-code``."""
    name = PCR_NAMES.get(register.index) if register.kind == "pcr" else None
    plain = "no register" if register.kind == "none" else str(register)
    return plain if name is None else f"{plain} {name}"


def register_chip(register: Register | int | None) -> Html:
    """A register with its colour. The colour repeats what the text says."""
    if register is None:
        return el("span", "-", cls="m-reg")
    known = Register("pcr", register) if isinstance(register, int) else register
    if known.kind == "none":
        return el("span", "-", cls="m-reg", title="extends no register")
    shade = known.index % 8 if known.kind == "pcr" else (known.index + 1) % 8
    return el("span", str(known), cls=f"m-reg m-r{shade}", title=register_name(known))


def digest(value: bytes | None, *, short: int = _SHORT) -> Html:
    """A digest by its first digits, the whole of it on hover."""
    if value is None:
        return el("span", "-")
    whole = value.hex()
    if len(whole) <= short:
        return el("code", whole, cls="m-hex")
    return el("code", whole[:short] + "…", cls="m-hex", title=whole)


def badge(word: str, kind: str, title: str | None = None) -> Html:
    """A word on a coloured ground."""
    return el("span", word.replace("_", " "), cls=f"m-badge m-{kind}", title=title)


def check_badge(check: DigestCheck) -> Html:
    """What became of an event's digest, with the rule and the quirk that explain it on hover."""
    title = CHECK_WORDS[check.status]
    if check.rule is not None:
        title += f" (rule {check.rule})"
    made = badge(check.status, check.status.replace("_", "-"), title)
    return made if check.quirk is None else join([made, " ", el("span", check.quirk, cls="m-quirk")])


def data_cell(event: Event, bank: str, *, most: int, proven: bool = True) -> Html:
    """The event's data in one line; ``~`` and its look mark what no digest covers. ``most`` characters of each field.

    Where the register is not ``proven`` by a quote, nothing that the event says is covered by anything.
    """
    parts: list[Html] = []
    check = event.check(bank)
    for name, words in summary(event.data):
        shown = clip(words, most)
        if not name or not shown:
            parts.append(join([shown]))
        elif not proven or trust(event.data, check, name) == "unauthenticated":
            parts.append(el("span", f"~{shown}", cls="m-untrusted", title=f"{name}: {TRUST_WORDS['unauthenticated']}"))
        else:
            parts.append(el("span", shown, cls="m-trusted", title=f"{name}: {TRUST_WORDS['authenticated']}"))
    return el("bdi", *parts)


def facts(rows: Iterable[tuple[str, Part]]) -> Html:
    """Names and values."""
    return el("dl", *(join([el("dt", name), el("dd", value)]) for name, value in rows), cls="m-facts")


def table(columns: Sequence[str], rows: Iterable[Sequence[Part]], *, caption: str | None = None) -> Html:
    """A table whose rows are labelled by their first cell."""
    head = el("tr", *(el("th", name, scope="col") for name in columns))
    body = [
        el("tr", *(el("th" if i == 0 else "td", cell, scope="row" if i == 0 else None) for i, cell in enumerate(row)))
        for row in rows
    ]
    title = None if caption is None else el("caption", caption)
    return el("table", title, el("thead", head), el("tbody", *body))


def scrolled(body: Html, label: str) -> Html:
    """What may be wider than the window, in a region of its own that the keyboard reaches."""
    return el("div", body, cls="scroll", role="region", tabindex=0, aria_label=label)
