"""Elements: what is put into them is shown as it is, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.view.escape import escape
from measlog.view.html import Html, clip, el, join, text
from tests.view.hostile import PAYLOADS, Seen

_anything = st.one_of(st.text(st.characters()), st.sampled_from(PAYLOADS))


@given(_anything, _anything)
def test_text_and_attributes_come_out_as_they_went_in_and_make_no_markup(words: str, title: str) -> None:
    seen = Seen(el("p", words, el("span", "x", title=title), cls="m-note"))
    assert seen.tags == {"p", "span"}
    assert seen.attributes == {"class", "title"}
    assert not seen.comments
    assert seen.text == escape(words) + "x"


@given(_anything)
def test_pages_can_be_written_as_utf_8(words: str) -> None:
    assert text(words).encode("utf-8").decode("utf-8") == text(words)


@pytest.mark.parametrize(
    "tag", ["script", "style", "iframe", "img", "svg", "object", "base", "link", "form", "P", "x y"]
)
def test_elements_that_run_or_load_something_cannot_be_made(tag: str) -> None:
    with pytest.raises(ValueError, match="has the element"):
        el(tag)


@pytest.mark.parametrize("name", ["onclick", "style", "src", "srcset", "action", "formaction", "x y", "ping"])
def test_attributes_that_run_or_load_something_cannot_be_made(name: str) -> None:
    with pytest.raises(ValueError, match="has the attribute"):
        el("p", **{name: "x"})


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "http://attacker.invalid", "//attacker.invalid", "data:,x", ""]
)
def test_links_lead_nowhere_else(target: str) -> None:
    with pytest.raises(ValueError, match="refer to themselves"):
        el("a", "x", href=target)
    assert el("a", "x", href="#here") == '<a href="#here">x</a>'


def test_only_html_is_taken_for_html() -> None:
    assert join([Html("<b>"), "<b>", None, 3]) == "<b>&lt;b&gt;3"
    assert el("p", None, hidden=False, open=True) == "<p open></p>"


def test_what_is_clipped_says_so() -> None:
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdef", 2) == "ab... (+4 characters)"
