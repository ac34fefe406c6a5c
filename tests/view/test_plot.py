"""Plots: what is drawn is what was measured, whatever text a log holds."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from attrs import evolve

import measlog as ml
from measlog.appraisal.closest import closest_boot
from measlog.errors import EvidenceError, MissingExtraError
from measlog.flatcar.boot import predict
from measlog.view import plot
from tests.appraisal.machine import good_log
from tests.view.hostile import hostile_eventlog
from tests.view.reports import report_of
from tests.view.test_notebook import log_of, manifest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def drawn(ax: Any) -> bytes:
    """The picture: drawing is when matplotlib would choke on a text."""
    out = io.BytesIO()
    ax.figure.savefig(out, format="png", dpi=40)
    return out.getvalue()


def texts(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_the_timeline_has_a_point_for_each_event_on_its_register() -> None:
    log = log_of("flatcar-lab-tampered")
    ax: Any = plot.timeline(log, result=report_of("tampered").result)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    points: Counter[tuple[str, int]] = Counter()
    for collection in ax.collections:
        if collection.get_label() != "finding":
            points.update((labels[int(y)].split()[1], int(x)) for x, y in collection.get_offsets())
    assert points == Counter((str(event.pcr), event.index) for event in log)
    result = report_of("tampered").result
    assert result is not None
    rings = next(c for c in ax.collections if c.get_label() == "finding")
    assert {int(x) for x, _ in rings.get_offsets()} == {f.event for f in result.findings if f.event is not None}
    assert drawn(ax)


def test_a_plot_is_drawn_into_the_axes_that_are_given() -> None:
    _, (one, other) = plt.subplots(2)
    log = log_of("flatcar-lab-good")
    assert plot.timeline(log, ax=one) is one
    assert plot.chain(log, 8, log, ax=other) is other
    assert plot.heatmap({"a": log.replay("sha256")}, ax=one) is one
    assert plot.boots([("a", log)], ax=one) is one


def test_the_chain_shows_where_a_register_parts_from_its_reference() -> None:
    log = log_of("flatcar-lab-tampered")
    boot = closest_boot(log, predict(manifest()))
    assert boot is not None
    ax = plot.chain(log, 8, boot)
    # fixtures/flatcar-lab-tampered/ORIGIN.md: grub.cfg on the OEM partition adds init=/bin/sh.
    assert "grub_cmd: source (hd0,gpt6)/grub.cfg" in texts(ax)
    assert any(text.endswith("init=/bin/sh") for text in texts(ax))
    assert "only in the log" in texts(ax)
    assert "they part at place" in ax.get_title()
    assert drawn(ax)


def test_a_chain_without_difference_or_reference_says_so() -> None:
    log = log_of("flatcar-lab-good")
    assert plot.chain(log, 8, log).get_title().endswith("no difference")
    assert "not compared" in plot.chain(log, 0, predict(manifest())[0]).get_title()
    with pytest.raises(EvidenceError):
        plot.chain(log, 8, log, bank="sha512")


def test_equal_registers_have_equal_letters_and_the_commonest_is_a() -> None:
    ax = plot.heatmap({"m1": {4: b"x", 8: b"p"}, "m2": {4: b"y", 8: b"p"}, "m3": {4: b"y"}})
    assert texts(ax) == ["B", "A", "A", "A", "A", ""]  # PCR 4 of each machine, then PCR 8
    assert [label.get_text() for label in ax.get_xticklabels()] == ["PCR 4", "PCR 8"]
    assert drawn(ax)
    ax = plot.heatmap({"m1": {4: b"x"}, "m2": {4: b"y"}, "m3": {4: b"y"}}, reference="m1")
    assert texts(ax) == ["A", "B", "B"]


def test_many_values_have_names_too() -> None:
    ax = plot.heatmap({str(i): {0: bytes([i])} for i in range(40)})
    assert len(set(texts(ax))) == 40


def test_boots_are_outlined_where_a_register_changed() -> None:
    logs = [(name, log_of(name)) for name in ("flatcar-lab-good", "flatcar-lab-good", "flatcar-lab-tampered")]
    ax: Any = plot.boots(logs)
    changed = {(round(p.get_x() + 0.44), round(p.get_y() + 0.44)) for p in ax.patches if not p.get_fill()}
    labels = [label.get_text().split()[1] for label in ax.get_yticklabels()]
    good, tampered = logs[0][1].replay("sha256"), logs[2][1].replay("sha256")
    assert {(2, labels.index(str(pcr))) for pcr in good if good[pcr] != tampered[pcr]} == changed
    assert changed
    assert drawn(ax)


def test_events_without_a_register_have_a_line_of_their_own_and_a_clean_verdict_no_rings() -> None:
    # PFP 1.06, 10.4.5: an event that extends nothing names register 0xFFFFFFFF.
    good = good_log()
    aside = replace(good.events[0], pcr=0xFFFFFFFF, type=3, data=b"noted")
    log = ml.EventLog.from_bytes(replace(good, events=(aside, *good.events)).put_together())
    result = report_of("good").result
    assert result is not None
    ax: Any = plot.timeline(log, result=evolve(result, findings=()))
    assert "no register" in [label.get_text() for label in ax.get_yticklabels()]
    assert "finding" not in [collection.get_label() for collection in ax.collections]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("a" * 60, "a" * 59 + "b", ("a" * 60, "a" * 59 + "b")),
        ("x" * 20 + "1" + "y" * 90, "x" * 20 + "2" + "y" * 90, ("x" * 20 + "1" + "y" * 90, "x" * 20 + "2" + "y" * 90)),
        ("x" * 100 + "1", "x" * 100 + "2", ("..." + "x" * 35 + "1", "..." + "x" * 35 + "2")),
        ("x" * 100, "x" * 100 + "2", ("..." + "x" * 35, "..." + "x" * 35 + "2")),
    ],
)
def test_of_long_texts_the_place_where_they_differ_is_in_the_picture(
    left: str, right: str, expected: tuple[str, str]
) -> None:
    assert plot._from_difference(left, right) == expected


def test_hostile_text_is_drawn_and_not_read_as_a_formula() -> None:
    log = hostile_eventlog()
    assert drawn(plot.timeline(log))
    for pcr in (4, 8):
        assert drawn(plot.chain(log, pcr, log_of("flatcar-lab-good")))
    name = "$\\frac{x$ \u202e<b> \U0001f600 " + "x" * 500
    assert drawn(plot.heatmap({name: {0: b"x"}}))
    assert drawn(plot.boots([(name, log)]))


def test_nothing_to_draw_is_an_empty_picture() -> None:
    assert drawn(plot.heatmap({}))
    assert drawn(plot.boots([]))


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r"measlog\[plot\]"):
        plot.timeline(log_of("flatcar-lab-good"))


def test_plots_are_reached_by_the_published_name() -> None:
    assert ml.plot is plot
