"""Kernel arguments in findings: what parts one from the next, and bytes that are no text."""

from __future__ import annotations

import pytest

import measlog as ml
from measlog.appraisal.report import Report
from measlog.appraisal.rules.command_line import judge_command_line
from tests.appraisal.machine import appraise, codes, good_log, machine
from tests.appraisal.test_arguments import with_oem
from tests.appraisal.test_boot_findings import COMMAND_LINE, LINE, at, line, measured, named, saying
from tests.appraisal.test_boot_findings import command as replaced
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.test_path_parts import A
from tests.appraisal.test_path_parts import measured as event
from tests.appraisal.test_unusual import command

GOOD = "flatcar-lab-good"


def judged(own: str, given: str, *allowed: str) -> list[tuple[str, str, str | bytes | None, str | bytes | None]]:
    report = Report()
    judge_command_line(event(8, A), own, given, allowed, report)
    return [(f.severity, f.code, f.expected, f.observed) for f in report.findings]


def test_an_image_s_own_empty_words_are_its_own() -> None:
    """Two spaces enclose an empty word, which was neither added nor taken away; what was added is named in full."""
    assert judged("a  b", "a  b quiet debug", "quiet", "debug") == [
        ("info", "kernel.argument-admitted", None, "quiet debug")
    ]
    assert judged("a b", "a  b", "quiet") == [("error", "kernel.argument", None, "")]
    assert judged("a  b", "a b quiet", "quiet") == [("error", "kernel.argument-missing", "", None)]


@pytest.mark.parametrize("space", ["\t", "\n", "\x0b", "\xa0"])
def test_a_word_ends_at_a_space_alone(space: str) -> None:
    """The kernel parts arguments at other white space too: an admitted word must not carry a second one through."""
    word = f"quiet{space}init=/bin/sh"
    assert judged("a b", f"a b {word}", "quiet") == [("error", "kernel.argument", None, word)]
    assert named(line(LINE + b" " + word.encode())) == [word]


def test_every_argument_behind_the_kernel_s_name_is_compared() -> None:
    """The first one as well, and an empty one: GRUB writes a single space between the words that it was given."""
    kernel, _, rest = LINE.partition(b" ")
    first, _, others = rest.partition(b" ")
    assert named(line(kernel + b" evil=1 " + others)) == ["evil=1"]
    assert named(line(kernel + b"  " + rest)) == [""]
    result = appraise(ml.policy.flatcar(), line(kernel + b" evil=1 " + others), manifests=[lab_manifest(GOOD)])
    assert [f.expected for f in result.findings if f.code == "kernel.argument-missing"] == [first.decode()]


def test_a_command_line_is_found_behind_events_that_are_not_what_they_say() -> None:
    """A false text before the kernel's command line does not keep its arguments from being named."""
    first = next(i + 1 for i, e in enumerate(good_log().events) if e.pcr == 8)
    assert first < COMMAND_LINE
    assert named(at(first, saying(b"grub_cmd: lies\0")), line(LINE + b" evil=1")) == ["evil=1"]
    # GRUB's command has the arguments from its first space on, be one of them called like the command.
    text = b"linux " + LINE + b" a linux b"
    assert set(named(at(COMMAND_LINE), at(62, replaced(text)))) == {"a", "linux", "b"}


def test_arguments_that_are_no_text_are_those_that_the_configuration_gives() -> None:
    """A byte that is no UTF-8 follows from the OEM file that the policy names, as everything else in it does."""
    oem = b"set linux_append='x=\xff'\n"
    events = with_oem(oem=oem)
    policy = ml.policy.flatcar(oem_grub_cfg=[oem])
    verifier = ml.Verifier([lab_manifest(GOOD)], policy=policy)
    assert verifier.appraise(machine(good_log().with_events(events))).status == "affirming"
    result = verifier.appraise(machine(good_log().with_events([*events, command(b"set evil=1")])))
    assert codes(result) == {"command.unexpected"}
    place = next(i for i, e in enumerate(events) if e.data.startswith(b"kernel_cmdline: "))
    text = events[place].data.removeprefix(b"kernel_cmdline: ").rstrip(b"\0")
    assert b"\xff" in text
    other = text.replace(b"\xff", b"\xfe")
    events[place] = measured(other, b"kernel_cmdline: " + other + b"\0")(events[place])
    result = verifier.appraise(machine(good_log().with_events(events)))
    named_bytes = {f.code: f.observed or f.expected for f in result.findings if f.code.startswith("kernel.")}
    assert named_bytes == {"kernel.argument": "x=\udcfe", "kernel.argument-missing": "x=\udcff"}
