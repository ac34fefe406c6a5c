"""What is said of a register that follows an expected boot, and of the place where it leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from measlog.appraisal.diff import align
from measlog.appraisal.paths import Candidate, Following
from measlog.appraisal.result import Identified
from measlog.appraisal.rules.boot_manager import judge_path
from measlog.log import FurtherEvent
from measlog.records.ipl import UkiSection
from measlog.reference.uki import PHASES
from measlog.registry import EventType

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.report import Report
    from measlog.flatcar.boot import PredictedEvent

__all__ = ["Followed", "boot_score", "complete_boot", "identify", "judge_following"]

_MAX_DIFFERENCES = 24
_IMAGE = EventType.EV_EFI_BOOT_SERVICES_APPLICATION

Followed = tuple[Candidate, tuple[Following, ...]]
"""A boot, and how far each register followed it."""


def judge_following(code: str, case: Case, candidate: Candidate, following: Following, report: Report) -> None:
    """Say what was explained of a register, and each difference; ``code`` is the rule's."""
    pcr = following.pcr
    report.cover(pcr)
    for measured, consumed, owners in following.matched:
        if consumed.kind == "image":
            judge_path(measured, owners, report)
        else:
            _judge_label(measured, consumed, pcr, report)
    divergence = following.divergence
    if divergence is None:
        report.check(code, candidate.name, pcr=pcr, events=[m.index for m, _, _ in following.matched])
        return
    for observed, expected in _differences(case, candidate, following):
        code, message = _explain(case, pcr, observed, expected)
        report.find(
            code,
            message,
            pcr=pcr,
            event=None if observed is None else observed.index,
            expected=_shown(expected, case.bank),
            observed=None if observed is None else _seen(observed),
        )


def identify(best: Followed, report: Report) -> None:
    """Name each component that was recognised."""
    candidate, followings = best
    complete = complete_boot(best)
    for following in followings:
        for _, _, owners in following.matched:
            if not owners:
                continue
            manifest, component = owners[0]
            found = Identified(
                component=component.role,
                release=manifest.release or manifest.name,
                slot=candidate.boot.slot if component.role == "kernel" else None,
                boot_path=candidate.boot.name if complete else None,
            )
            if found not in report.identified:
                report.identified.append(found)


def _differences(
    case: Case, candidate: Candidate, following: Following
) -> list[tuple[Measured | None, PredictedEvent | None]]:
    """From the place where a register leaves its path: what is there that should not be, and the other way round.

    All of it is one failure; the list is for the person who has to find out what happened.
    """
    assert following.divergence is not None
    done = len(following.matched)
    observed, expected = following.observed[done:], candidate.expected(following.pcr)[done:]
    right = [(e.digests.get(case.bank), e.type) for e in expected]
    # An event that is expected nowhere, but may stand where another is, takes that one's name for the alignment.
    own = {digest for digest, _ in right}
    names: dict[bytes, bytes | None] = {m.digest: m.digest for m in observed}
    for wanted in expected:
        for measured in observed:
            if measured.digest not in own and candidate.accepts(wanted, measured, case.bank) is not None:
                names[measured.digest] = wanted.digests.get(case.bank)
    left = [(names[m.digest], m.event.type) for m in observed]
    found: list[tuple[Measured | None, PredictedEvent | None]] = [
        (None if i is None else observed[i], None if j is None else expected[j])
        for i, j in align(left, right)
        if i is None or j is None or left[i] != right[j]
    ]
    return found[:_MAX_DIFFERENCES]


def complete_boot(followed: Followed) -> bool:
    """Whether every register followed the boot to its end."""
    return all(f.complete for f in followed[1])


def boot_score(followed: Followed) -> tuple[int, int, int]:
    """Complete registers first; then what is shared, less what is expected and not there."""
    _, followings = followed
    return (
        sum(f.complete for f in followings),
        sum(2 * f.shared - f.wanted for f in followings),
        sum(len(f.matched) for f in followings),
    )


def _text(measured: Measured) -> str | None:
    """What an event's text says; authenticated only as far as the digest check covers it."""
    if isinstance(measured.event, FurtherEvent):
        return measured.event.text or None
    if isinstance(record := measured.event.data, UkiSection):
        return record.text
    if measured.event.type != EventType.EV_IPL:
        return None
    return measured.event.raw.rstrip(b"\0").decode("utf-8", "backslashreplace")


def _seen(measured: Measured) -> bytes | str:
    """What tells an event from others: its text, but of a section, which has its name twice, the digest."""
    said = None if isinstance(measured.event.data, UkiSection) else _text(measured)
    return said or measured.digest


def _shown(expected: PredictedEvent | None, bank: str) -> bytes | str | None:
    if expected is None:
        return None
    if expected.kind == "phase":
        return expected.text.decode()
    if expected.kind == "section":
        return expected.digests.get(bank)
    if expected.data is not None:
        return expected.data.rstrip(b"\0").decode("utf-8", "backslashreplace")
    return expected.digests.get(bank)


def _judge_label(measured: Measured, expected: PredictedEvent, pcr: int, report: Report) -> None:
    """The free text beside a digest says what it should: nothing rests on it, but a false label is a lie (A2, A45)."""
    if expected.type == EventType.EV_IPL and expected.data is not None and measured.event.raw != expected.data:
        report.find(
            "event.label",
            "the digest is as expected, but the event's text says something else",
            pcr=pcr,
            event=measured.index,
            expected=expected.data,
            observed=measured.event.raw,
        )


def _explain(case: Case, pcr: int, observed: Measured | None, expected: PredictedEvent | None) -> tuple[str, str]:
    """Code and sentence for a place where a register leaves its path."""
    if observed is None:
        assert expected is not None
        return "sequence.missing", f"{_quoted(expected)} is expected in PCR {pcr} and is not there"
    known = case.known_as(observed.digest)
    said = _text(observed)
    if pcr == 11:
        return _explain_unified(observed, expected, said)
    if expected is not None and observed.event.type != expected.type:
        what = known or "what may be something else"
        return "event.type", f"an event of type {observed.event.type.name} in PCR {pcr} holds {what}"
    if known is not None:
        return "sequence.order", f"PCR {pcr} holds {known} where the boot has something else"
    if pcr == 4 and observed.event.type == _IMAGE:
        wanted = "" if expected is None else f" in place of {_quoted(expected)}"
        return "image.unknown", f"an image was started that no manifest knows{wanted}"
    if pcr == 9:
        return "file.unknown", f"GRUB read a file that is not the release's; the log calls it {said!r}"
    if pcr == 8 and observed.event.check(case.bank).status == "matches":
        label, _, ran = (said or "").partition(": ")
        did = "gave the kernel" if label == "kernel_cmdline" else "ran"
        return "command.unexpected", f"GRUB {did} {ran!r}, which does not follow from the grub.cfg of the release"
    return "sequence.unexpected", f"PCR {pcr} holds an event that the boot does not have there"


def _explain_unified(observed: Measured, expected: PredictedEvent | None, said: str | None) -> tuple[str, str]:
    """The same for PCR 11: sections of a unified kernel image, and phases that the running system measured."""
    if isinstance(observed.event, FurtherEvent):
        code = "phase.order" if said in PHASES else "system.unexpected"
        return code, f"{observed.place} extended PCR 11 with {said!r}, where the boot has something else"
    if expected is not None and expected.kind == "section" and observed.event.type != expected.type:
        return "event.type", f"an event of type {observed.event.type.name} stands where a section is measured"
    if expected is not None and expected.kind == "section" and isinstance(observed.event.data, UkiSection):
        return "section.unknown", f"the section that the log calls {said!r} is not the release's {_quoted(expected)}"
    return "sequence.unexpected", "PCR 11 holds an event that the boot does not have there"


def _quoted(expected: PredictedEvent) -> str:
    return repr(expected.text.decode("utf-8", "backslashreplace"))
