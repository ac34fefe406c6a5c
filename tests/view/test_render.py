"""Tables, abbreviations and JSON values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import measlog as ml
from measlog import records
from measlog.registry import EventType, Register
from measlog.view.grid import Grid, span
from measlog.view.jsonable import json_text, jsonable
from measlog.view.render import display_bank, listed, manifest_page
from measlog.view.summary import summary
from tests.reference.test_manifest import make_manifest


@given(st.sets(st.integers(0, 30)))
def test_listed_numbers_read_back(numbers: set[int]) -> None:
    back: set[int] = set()
    for part in filter(None, listed(numbers).split(", ")):
        first, _, last = part.partition("-")
        back |= set(range(int(first), int(last or first) + 1))
    assert back == numbers


def test_listed_numbers_are_abbreviated() -> None:
    assert listed([0, 1, 2, 3, 7, 9, 10]) == "0-3, 7, 9-10"
    assert listed([]) == ""


@pytest.mark.parametrize(
    ("banks", "shown"),
    [
        (("sha1", "sha256", "sha384"), "sha256"),
        (("sha1", "sha384"), "sha384"),
        (("sha1",), "sha1"),
        (("0x0099",), "0x0099"),
        (("sha1", "sm3_256"), "sm3_256"),
    ],
)
def test_the_bank_that_is_shown_is_the_strongest_usual_one(banks: tuple[str, ...], shown: str) -> None:
    assert display_bank(banks) == shown


def test_a_table_as_text_is_aligned_and_has_no_trailing_space() -> None:
    grid = Grid(
        columns=("n", "name", "rest"),
        rows=((span(1), span("a"), span("")), (span(22), span("long"), span("x" * 100))),
        right=frozenset({"n"}),
    )
    assert grid.to_text() == " n  name  rest\n 1  a\n22  long  " + "x" * 100 + "\n"


def test_values_as_json() -> None:
    assert jsonable(b"\x00\xff") == "00ff"
    assert jsonable({1: b"\x01"}) == {"1": "01"}
    assert jsonable(UUID(int=1)) == "00000000-0000-0000-0000-000000000001"
    assert jsonable(datetime(2025, 1, 2, tzinfo=UTC)) == "2025-01-02T00:00:00+00:00"
    assert jsonable(EventType.EV_IPL) == "EV_IPL"
    assert jsonable(Register("rtmr", 2)) == {"kind": "rtmr", "index": 2}
    assert jsonable(records.Flag(value=True)) == {"record": "Flag", "value": True}
    assert jsonable(records.Flag(value=True, trailing=b"x")) == {"record": "Flag", "value": True, "trailing": "78"}
    assert jsonable((1 << 64) - 1) == (1 << 64) - 1
    with pytest.raises(TypeError, match="object has no JSON form"):
        jsonable(object())


@given(st.text(st.characters()))
def test_text_as_json_is_text_for_every_reader(text: str) -> None:
    json_text(text).encode()
    if not any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        assert json_text(text) == text


def corpus_logs() -> list[str]:
    shared = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "logs"
    return sorted(p.name for p in shared.glob("*.bin")) or ["none"]


@pytest.mark.parametrize("name", corpus_logs())
def test_every_event_of_the_corpus_has_a_line_and_a_document(shared: Path, name: str) -> None:
    try:
        log = ml.EventLog.from_bytes((shared / "corpus" / "logs" / name).read_bytes())
    except ml.FormatError:
        return  # the corpus has files that are no logs; the log's own tests say which
    for event in log:
        assert all(isinstance(text, str) for _, text in summary(event.data))
        json.dumps(jsonable(event.data)).encode("ascii")


def test_a_manifest_is_shown_with_what_is_built_into_kernels() -> None:
    made = make_manifest()
    said: list[tuple[dict[str, Any], str]] = [
        ({"command_line": "a b", "command_line_use": "before"}, "a b (before what the boot loader gives)"),
        ({"command_line": ""}, "no command line"),
        ({"command_line_unread": "packed by lz4 & not read"}, "packed by lz4 & not read"),
    ]
    for changes, expected in said:
        kernel = attrs.evolve(made.components[1], **changes)
        manifest = attrs.evolve(made, components=(made.components[0], kernel))
        text = manifest_page(manifest).to_text()
        assert any(kernel.path in line and expected in line for line in text.splitlines())
        assert expected.replace("&", "&amp;") in manifest._repr_html_()


def test_a_manifest_is_shown_with_what_it_speaks_for() -> None:
    manifest = make_manifest()
    text = manifest_page(manifest).to_text()
    for expected in (
        "4230.2.1",
        "nobody (not verified)",
        "from 2026-01-01T00:00:00+00:00, until 2027-01-01T00:00:00+00:00",
        "03" * 32,
        "PCR 10: ten",
        "PCR 0: firmware",
        "first boot",
        "slot a: unchecked, root " + "00" * 32,
    ):
        assert expected in text
