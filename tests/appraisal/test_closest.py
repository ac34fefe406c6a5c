"""Which predicted boot a log comes closest to: it chooses what a reader is shown."""

from __future__ import annotations

import hashlib

import measlog as ml
from measlog.appraisal.closest import closest_boot
from measlog.flatcar.boot import PredictedBoot, PredictedEvent
from measlog.formats.pfp import LogEvent, build_log
from measlog.registry import EventType


def digests(text: str) -> dict[str, bytes]:
    return {bank: hashlib.new(bank, text.encode()).digest() for bank in ("sha1", "sha256")}


def log(**registers: str) -> ml.EventLog:
    """A log of one-letter events: ``_8="ab"``."""
    made = [LogEvent(int(pcr[1:]), 0xD, digests(text), b"x") for pcr, texts in registers.items() for text in texts]
    return ml.EventLog.from_bytes(build_log(made, algorithms=["sha1", "sha256"]))


def boot(
    name: str, banks: tuple[str, ...] = ("sha1", "sha256"), unknown: tuple[int, ...] = (), **registers: str
) -> PredictedBoot:
    events = [
        PredictedEvent(
            pcr=int(pcr[1:]),
            kind="command",
            type=EventType.EV_IPL,
            text=text.encode(),
            digests={bank: value for bank, value in digests(text).items() if bank in banks},
        )
        for pcr, texts in registers.items()
        for text in texts
    ]
    return PredictedBoot(
        name=name, slot="a", chosen="a", first_boot=False, secure_boot=True, oem=False, release="r", bootloader="r",
        outcome="kernel", events=tuple(events), pcrs={bank: {} for bank in banks}, unknown=dict.fromkeys(unknown, "?"),
    )  # fmt: skip


def one(name: str, pcr: str, texts: str) -> PredictedBoot:
    """A boot of one register."""
    return boot(name, ("sha1", "sha256"), (), **{pcr: texts})


def closest(measured: ml.EventLog, *boots: PredictedBoot, bank: str = "sha256") -> str | None:
    found = closest_boot(measured, boots, bank=bank)
    return None if found is None else found.name


def test_the_boot_that_shares_most() -> None:
    """Two for each event that is shared, one off for each that is expected."""
    for pcr in ("_4", "_8", "_9", "_14"):
        measured = log(**{pcr: "abc"})
        first, second = one("one", pcr, "abx"), one("two", pcr, "abc")
        assert closest(measured, first, second) == closest(measured, second, first) == "two"
        assert closest(measured, one("more", pcr, "abcxyz"), one("less", pcr, "ab")) == "less"
        assert closest(measured, one("less", pcr, "a"), one("more", pcr, "abcx")) == "more"
        assert closest(measured, one("long", pcr, "abxy"), one("short", pcr, "a")) == "short"
        # Of what is expected, an event that was not measured weighs as much as one that was.
        assert closest(log(**{pcr: "abcd"}), one("long", pcr, "abcdxyz"), one("short", pcr, "ab")) == "short"
    # Other registers say nothing, and what was measured once is shared once.
    assert closest(log(_5="abc"), boot("one"), boot("two", _5="abc")) == "one"
    assert closest(log(_8="a"), boot("one", _8="aaaa"), boot("two", _8="ab")) == "two"
    assert closest(log(_8="aa"), boot("one", _8="a"), boot("two", _8="aa")) == "two"
    # A digest counts in its register.
    assert closest(log(_8="a", _9="b"), boot("one", _8="b", _9="a"), boot("two", _8="a")) == "two"


def test_of_equals_the_first_and_of_none_none() -> None:
    assert closest(log(_8="a"), boot("one", _8="a"), boot("two", _8="a")) == "one"
    assert closest(log(_8="a")) is None
    only = boot("one", banks=("sha1",), _8="a")
    assert closest(log(_8="a"), only) is None
    assert closest(log(_8="a"), only, bank="sha1") == "one"
    assert closest_boot(log(_8="a"), [boot("one")]) is not None


def test_a_register_that_a_boot_does_not_know_counts_for_nothing() -> None:
    """Neither for nor against it, nor does it hide the registers behind it."""
    measured = log(_4="ab", _8="c", _14="d")
    assert closest(measured, boot("one", _4="xyz"), boot("two", unknown=(4,), _4="xyz")) == "two"
    assert closest(measured, boot("one", unknown=(4,), _4="ab"), boot("two", unknown=(4,), _8="c")) == "two"


def test_an_event_that_extends_nothing_was_not_measured() -> None:
    silent = LogEvent(8, 3, digests("a"), b"x")
    measured = ml.EventLog.from_bytes(build_log([silent], algorithms=["sha1", "sha256"]))
    assert closest(measured, boot("one", _8="ab"), boot("two", _8="c")) == "two"
