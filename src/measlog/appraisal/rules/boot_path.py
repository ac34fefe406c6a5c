"""PCR 4, 8, 9 and 14 together: the boot followed one of the paths that the manifests allow for.

The order of events across registers is bound by nothing, so each register is followed on its own (A49); what ties them
together is that one path explains all of them, and that the kernel is the same component in each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import Factory, frozen

from measlog.appraisal.paths import Candidate, Following, follow
from measlog.appraisal.result import Identified
from measlog.appraisal.rules.boundaries import separator_digests
from measlog.appraisal.rules.command_line import explain_arguments
from measlog.records.ipl import IplText
from measlog.registry import PCR_NAMES, EventType

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.report import Report
    from measlog.reference.manifest import ExpectedEvent

__all__ = ["BootPaths"]

CALLING = b"Calling EFI Application from Boot Option"
RETURNING = b"Returning from EFI Application from Boot Option"
_REGISTERS = (4, 8, 9, 14)
_MANDATORY = frozenset({4, 8, 9})
_IMAGE = EventType.EV_EFI_BOOT_SERVICES_APPLICATION


@frozen
class BootPaths:
    """Every event of PCR 4, 8, 9 and 14 is explained, in order, by one boot path of a manifest (A1, A3, A45, A46).

    ``oem_grub_cfg`` and ``allowed_arguments`` name what operators add; ``allow_boot_option_retries`` admits boot
    options that returned before the one that booted, which leave pairs of actions in PCR 4.
    """

    secure_boot: bool = True
    allowed_arguments: tuple[str, ...] = ()
    oem_grub_cfg: tuple[bytes, ...] = ()
    allow_boot_option_retries: bool = True
    code: str = "boot-path"
    sentence: str = (
        "Shim, GRUB and kernel are the release's; every command, file and kernel argument follows from its grub.cfg."
    )
    registers: frozenset[int] = Factory(lambda: frozenset({4, 8, 9, 14}))

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        # 1. PCR 4 begins with what the boot manager does; what follows are the images that were started.
        images = self._images(case, report)
        # 2. Follow every path that a manifest allows for; the one that explains most is the one to talk about.
        best = max(
            (self._follow(case, candidate, images) for candidate in self._candidates(case)),
            key=_score,
            default=None,
        )
        if best is None:
            for pcr in _REGISTERS:
                if case.quoted(pcr):
                    report.skip(PCR_NAMES[pcr], "no manifest describes a boot of this kind", pcr=pcr)
            return
        candidate, followings = best
        for following in followings:
            self._judge(case, candidate, following, report)
        # 3. The kernel is the same in every register that names it (A45).
        self._judge_kernel(followings, report)
        self._identify(candidate, followings, report)

    def _candidates(self, case: Case) -> Iterator[Candidate]:
        for manifest in case.manifests:
            others = tuple(m for m in case.manifests if m is not manifest)
            for path in manifest.boot_paths:
                if path.secure_boot in {None, self.secure_boot}:
                    yield Candidate(manifest=manifest, path=path, others=others)

    def _images(self, case: Case, report: Report) -> tuple[Measured, ...]:
        """The events of PCR 4 behind the boot manager's; findings where those are not as they must be."""
        history = case.history(4)
        separators, _ = separator_digests(case)
        letters = {case.digest(CALLING): "C", case.digest(RETURNING): "R", **dict.fromkeys(separators, "S")}
        word = "".join(letters.get(m.digest, ".") for m in history)
        pairs = "(?:RC)*" if self.allow_boot_option_retries else ""
        match = re.match(rf"(?:CS|SC){pairs}", word)
        start = match.end() if match else 0
        if match is None:
            report.find(
                "boot-manager.order",
                "PCR 4 does not begin with the boot manager calling an option and closing the firmware's phase",
                pcr=4,
                event=history[0].index if history else None,
            )
            start = next((i for i, letter in enumerate(word) if letter == "."), len(word))
        elif "R" in word[:start]:
            report.find(
                "boot-manager.retry",
                f"{word[:start].count('R')} boot option(s) failed before the one that booted, as the policy allows",
                severity="info",
                pcr=4,
                event=history[word.index("R")].index,
            )
        for measured, letter in zip(history[:start], word[:start], strict=True):
            if letter in "CR" and measured.event.type != EventType.EV_EFI_ACTION:
                report.find("event.type", "an action of the boot manager of another type", pcr=4, event=measured.index)
        return history[start:]

    def _follow(
        self, case: Case, candidate: Candidate, images: Sequence[Measured]
    ) -> tuple[Candidate, tuple[Following, ...]]:
        followings = []
        for pcr in _REGISTERS:
            expected = candidate.path.of(pcr)
            if not case.quoted(pcr) or (pcr not in _MANDATORY and not expected):
                continue
            observed = images if pcr == 4 else case.history(pcr)
            followings.append(follow(candidate, pcr, observed, expected, case.bank))
        return candidate, tuple(followings)

    def _judge(self, case: Case, candidate: Candidate, following: Following, report: Report) -> None:
        pcr = following.pcr
        report.cover(pcr)
        for measured, consumed, _ in following.matched:
            _judge_label(measured, consumed, pcr, report)
        divergence = following.divergence
        if divergence is None:
            report.check(
                self.code,
                f"{candidate.name}",
                pcr=pcr,
                events=[m.index for m, _, _ in following.matched],
            )
            return
        observed, expected = divergence.observed, divergence.expected
        code, message = _explain(case, pcr, observed, expected)
        report.find(
            code,
            f"{message} ({candidate.name})",
            pcr=pcr,
            event=None if observed is None else observed.index,
            expected=_shown(expected),
            observed=None if observed is None else (_text(observed) or observed.digest),
        )
        if pcr == 8:
            explain_arguments(case, candidate, self.allowed_arguments, report)

    def _judge_kernel(self, followings: Sequence[Following], report: Report) -> None:
        """All registers that name a kernel name the same one."""
        common: set[tuple[str, str]] | None = None
        for following in followings:
            for measured, _, owners in following.matched:
                kernels = {(manifest.name, c.path) for manifest, c in owners if c.role == "kernel"}
                if not kernels:
                    continue
                common = kernels if common is None else common & kernels
                if not common:
                    report.find(
                        "kernel.mismatch",
                        "the kernel that was started is not the kernel file that was read",
                        pcr=following.pcr,
                        event=measured.index,
                    )
                    return

    @staticmethod
    def _identify(candidate: Candidate, followings: Sequence[Following], report: Report) -> None:
        complete = all(f.complete for f in followings)
        for following in followings:
            for _, _, owners in following.matched:
                if not owners:
                    continue
                manifest, component = owners[0]
                found = Identified(
                    component=component.role,
                    release=manifest.release or manifest.name,
                    slot=candidate.path.slot if component.role == "kernel" else None,
                    boot_path=candidate.path.name if complete else None,
                )
                if found not in report.identified:
                    report.identified.append(found)


def _score(found: tuple[Candidate, tuple[Following, ...]]) -> tuple[int, int]:
    _, followings = found
    return sum(f.complete for f in followings), sum(len(f.matched) for f in followings)


def _text(measured: Measured) -> str | None:
    """What the event's text says; authenticated only as far as the digest check covers it."""
    record = measured.event.data
    return record.prefix + record.text if isinstance(record, IplText) else None


def _shown(expected: ExpectedEvent | None) -> bytes | str | None:
    if expected is None:
        return None
    return expected.text if expected.text is not None else expected.digests.get("sha256")


def _judge_label(measured: Measured, expected: ExpectedEvent, pcr: int, report: Report) -> None:
    """The free text beside a digest says what it should: nothing rests on it, but a false label is a lie (A2, A45)."""
    if expected.text is None or expected.type != EventType.EV_IPL:
        return
    label = _text(measured)
    if label != expected.text:
        report.find(
            "event.label",
            "the digest is as expected, but the event's text says something else",
            pcr=pcr,
            event=measured.index,
            expected=expected.text,
            observed=label,
        )


def _explain(case: Case, pcr: int, observed: Measured | None, expected: ExpectedEvent | None) -> tuple[str, str]:
    """Code and sentence for the first place where a register leaves its path."""
    if observed is None:
        assert expected is not None
        what = f"{expected.text!r}" if expected.text else "an event"
        return "sequence.missing", f"PCR {pcr} ends before {what} that the boot path has there"
    known = case.known_as(observed.digest)
    if expected is not None and observed.event.type != expected.type and known is not None:
        return "event.type", f"an event of type {observed.event.type.name} in PCR {pcr} holds {known}"
    if known is not None:
        return "sequence.order", f"PCR {pcr} holds {known} where the boot path has something else"
    if pcr == 4 and observed.event.type == _IMAGE:
        return "image.unknown", "an image was started that no manifest knows"
    if pcr == 9:
        return "file.unknown", "GRUB read a file that is not the release's"
    if pcr == 8:
        return "command.unexpected", "GRUB ran a command that does not follow from the grub.cfg of the release"
    return "sequence.unexpected", f"PCR {pcr} holds an event that the boot path does not have there"
