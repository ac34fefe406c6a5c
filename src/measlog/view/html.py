"""HTML from elements. Text is escaped where it enters, so what a log says can be no markup.

An element is text of the type :class:`Html`; whatever else is put into one is escaped twice over: what a reader could
not see becomes visible (:mod:`measlog.view.escape`), what a browser would act upon becomes a character reference.
Elements, attributes and addresses by which a page could run or load something cannot be made.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as _references

from measlog.view.escape import escape

__all__ = ["Html", "Part", "clip", "el", "join", "text"]


class Html(str):
    """Text that is HTML already. Only :mod:`measlog.view` makes it."""

    __slots__ = ()


Part = Html | str | int | None

_VOID = frozenset({"br", "hr", "meta", "input"})
# fmt: off
_TAGS = _VOID | frozenset({
    "a", "abbr", "b", "bdi", "body", "button", "caption", "code", "dd", "details", "div", "dl", "dt", "fieldset",
    "footer", "h1", "h2", "h3", "head", "header", "html", "label", "legend", "li", "main", "nav", "ol", "option",
    "output", "p", "pre", "section", "select", "span", "strong", "summary", "table", "tbody", "td", "th", "thead",
    "title", "tr", "ul",
})
_ATTRIBUTES = frozenset({
    "charset", "class", "colspan", "content", "for", "hidden", "href", "http-equiv", "id", "lang", "name", "open",
    "role", "scope", "tabindex", "title", "type", "value",
})
# fmt: on
_PREFIXES = ("aria-", "data-")


def text(value: object) -> Html:
    """Any text as HTML that shows exactly it."""
    shown = str(value)
    if shown.isascii() and shown.isalnum():
        return Html(shown)
    return Html(_references(escape(shown), quote=True))


def join(parts: Iterable[Part], separator: str = "") -> Html:
    """Parts one after the other; those that are no HTML are escaped."""
    return Html(separator.join(p if isinstance(p, Html) else text(p) for p in parts if p is not None))


def clip(value: str, most: int) -> str:
    """The text, or its beginning and how much is left out."""
    return value if len(value) <= most else f"{value[:most]}... (+{len(value) - most} characters)"


def el(tag: str, *parts: Part, cls: str | None = None, **attributes: str | int | bool | None) -> Html:
    """An element. ``_`` in attribute names stands for ``-``, ``cls`` for ``class``; None and False leave one out.

    Raises ValueError for what no page of measlog has.
    """
    if tag not in _TAGS:
        raise ValueError(f"no page of measlog has the element {tag!r}")
    made = [f"<{tag}"]
    if cls is not None:
        made.append(f' class="{text(cls)}"')
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        if name not in _ATTRIBUTES and not name.startswith(_PREFIXES):
            raise ValueError(f"no page of measlog has the attribute {name!r}")
        if name == "href" and not str(value).startswith("#"):
            raise ValueError("pages of measlog refer to themselves alone")
        made.append(f" {name}" if value is True else f' {name}="{text(value)}"')
    made.append(">")
    if tag not in _VOID:
        made.extend(p if isinstance(p, Html) else text(p) for p in parts if p is not None)
        made.append(f"</{tag}>")
    return Html("".join(made))
