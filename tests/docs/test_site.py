"""The pages agree with the code: what is drawn, listed and referred to is what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCS = ROOT / "docs"
PICTURES = sorted((DOCS / "pictures").glob("*.svg"))


def test_the_picture_of_the_house_has_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = [[name.strip().removeprefix("measlog.") for name in layer.split("|")] for layer in layers]
    drawn: dict[str, list[str]] = {}
    picture = (DOCS / "pictures" / "house.svg").read_text()
    for height, name in re.findall(r'<text class="text" x="\d+" y="(\d+)"><tspan class="head">(\w+)', picture):
        drawn.setdefault(height, []).append(name)
    from_top = [drawn[height] for height in sorted(drawn, key=int)]
    assert from_top == [layer for layer in rooms if layer != ["__main__"]]


def test_the_reference_has_every_room() -> None:
    told = set(re.findall(r"measlog-api:: measlog\.(\w+)", "".join(p.read_text() for p in DOCS.rglob("*.rst"))))
    source = ROOT / "src" / "measlog"
    rooms = {path.stem for path in source.glob("*.py")} | {path.parent.name for path in source.glob("*/__init__.py")}
    # The commands have a page of their own, made from click; so has the table of codes.
    assert told == {room for room in rooms if not room.startswith("_")} - {"cli", "codes"}


@pytest.mark.parametrize("path", PICTURES, ids=[path.name for path in PICTURES])
def test_pictures_are_for_light_and_dark(path: Path) -> None:
    text = path.read_text()
    light, _, dark = text.partition("prefers-color-scheme: dark")
    classes = set(re.findall(r'class="([^"]+)"', text))
    used = {name for words in classes for name in words.split()} - {"head"}
    for name in used:
        assert f".{name} {{" in light
        assert f".{name} {{" in dark
    assert not re.search(r'(fill|stroke)="#', text), "a colour that does not follow the theme"
    assert "<script" not in text
    assert "href=" not in text


def test_decisions_say_what_else_there_was_and_show_evidence() -> None:
    pages = [path for path in (DOCS / "decisions").glob("*.md") if path.stem != "index"]
    assert len(pages) >= 5
    index = (DOCS / "decisions" / "index.md").read_text()
    for path in pages:
        text = path.read_text()
        assert path.stem in index
        for part in ("**Chosen.**", "**Why.**", "**What else there was.**", "**Evidence.**"):
            assert part in text, (path.name, part)


def test_paths_in_decisions_exist() -> None:
    for path in (DOCS / "decisions").glob("*.md"):
        for name in re.findall(r"`((?:tests|benchmarks|docs|src)/[\w/.]+)`", path.read_text()):
            assert (ROOT / name).exists(), (path.name, name)


def test_contributing_has_ten_commands() -> None:
    numbers = re.findall(r"# (\d+)$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, 11))
