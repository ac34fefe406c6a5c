"""Reports: how findings, checks and coverage of several rules become one verdict."""

from __future__ import annotations

import pytest

from measlog.appraisal.report import Report
from measlog.appraisal.result import Check, Finding, Identified, NotCovered, Severity, milder


def filled(mark: str, severity: Severity = "error") -> Report:
    report = Report()
    report.find(mark, "m", severity=severity, pcr=1, event=2, expected=b"e", observed="o")
    report.check(mark, "against", pcr=3, events=iter([4, 5]))
    report.cover(*map(ord, mark))
    report.skip(mark, "reason", pcr=6)
    report.identified.append(Identified(component=mark, release="r"))
    report.quirks.add(mark)
    return report


def finding(mark: str, severity: Severity = "error") -> Finding:
    return Finding(code=mark, severity=severity, pcr=1, event=2, message="m", expected=b"e", observed="o")


CHECK = {mark: Check(rule=mark, pcr=3, events=(4, 5), against="against") for mark in "abc"}
SKIP = {mark: NotCovered(subject=mark, pcr=6, reason="reason") for mark in "abc"}
KNOWN = {mark: Identified(component=mark, release="r") for mark in "abc"}


def test_what_is_written_down_is_kept() -> None:
    report = filled("a")
    assert report.findings == [finding("a")]
    assert report.checked == [CHECK["a"]]
    assert (report.covered, report.not_covered) == ({ord("a")}, [SKIP["a"]])
    bare = Report()
    bare.find("c", "m")
    bare.check("c", "x")
    bare.skip("s", "r")
    assert bare.findings == [Finding(code="c", severity="error", message="m")]
    assert (bare.findings[0].pcr, bare.findings[0].event, bare.findings[0].expected) == (None, None, None)
    assert bare.checked == [Check(rule="c", against="x")]
    assert bare.not_covered == [NotCovered(subject="s", reason="r")]


def test_the_same_finding_is_said_once() -> None:
    report = filled("a")
    report.find("a", "m", severity="error", pcr=1, event=2, expected=b"e", observed="o")
    assert len(report.findings) == 1
    report.find("a", "m", severity="error", pcr=1, event=3, expected=b"e", observed="o")
    assert len(report.findings) == 2


def test_a_report_takes_over_what_another_says() -> None:
    """Each thing once, in order; checks are what was done, and each counts."""
    report = filled("a")
    for other in (filled("b"), filled("a"), filled("c")):
        report.absorb(other)
    assert report.findings == [finding(mark) for mark in "abc"]
    assert report.checked == [CHECK[mark] for mark in "abac"]
    assert report.not_covered == [SKIP[mark] for mark in "abc"]
    assert report.identified == [KNOWN[mark] for mark in "abc"]
    assert report.covered == {ord(mark) for mark in "abc"}
    assert report.quirks == set("abc")


@pytest.mark.parametrize(
    ("severity", "at_most", "kept"),
    [
        ("error", "error", "error"),
        ("error", "warning", "warning"),
        ("error", "info", "info"),
        ("warning", "error", "warning"),
        ("warning", "info", "info"),
        ("info", "warning", "info"),
    ],
)
def test_no_finding_is_worse_than_its_rule_may_be(severity: Severity, at_most: Severity, kept: Severity) -> None:
    assert milder(severity, at_most) == milder(at_most, severity) == kept
    report = Report()
    report.absorb(filled("a", severity), at_most=at_most)
    assert report.findings == [finding("a", kept)]
    assert report.failed == (kept == "error")
    assert report.status == {"error": "contraindicated", "warning": "warning", "info": "affirming"}[kept]


def test_without_a_check_there_is_no_verdict() -> None:
    report = Report()
    said: list[str] = [report.status]
    report.find("a", "m", severity="warning")
    said.append(report.status)
    report.check("a", "x")
    said.append(report.status)
    report.find("b", "m")
    said.append(report.status)
    assert said == ["none", "none", "warning", "contraindicated"]


def test_findings_are_sorted_worst_first_then_by_event() -> None:
    report = Report()
    for code, severity, event in (
        ("g", "info", 0), ("f", "warning", None), ("d", "error", 2), ("c", "error", 1), ("b", "error", None),
        ("a", "error", 1), ("e", "error", 10),
    ):  # fmt: skip
        report.find(code, "m", severity=severity, event=event)  # type: ignore[arg-type]
    assert "".join(f.code for f in report.sorted_findings) == "bacdefg"
    twice = Report()
    twice.find("a", "z")
    twice.find("a", "y")
    assert [f.message for f in twice.sorted_findings] == ["y", "z"]
    # An event 0 is one, too.
    first = Report()
    first.find("a", "m", event=0)
    first.find("b", "m")
    assert [f.code for f in first.sorted_findings] == ["b", "a"]
