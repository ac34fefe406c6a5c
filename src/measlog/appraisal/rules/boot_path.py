"""PCR 4, 8, 9 and 14 together: the boot followed one of the paths that the manifests allow for.

The order of events across registers is bound by nothing, so each register is followed on its own (A49); what ties them
together is that one path explains all of them, and that the kernel is the same component in each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import Factory, evolve, field, frozen

from measlog.appraisal.diff import align
from measlog.appraisal.paths import Candidate, Following, Owner, follow
from measlog.appraisal.result import Identified, Severity
from measlog.appraisal.rules.boundaries import separator_digests
from measlog.appraisal.rules.command_line import explain_arguments, judge_arguments
from measlog.appraisal.rules.oem import OEM_FILE, listed, operator_settings
from measlog.flatcar.boot import CALLING, RETURNING
from measlog.flatcar.cmdline import ArgumentModel, ArgumentRule
from measlog.records.device_path import DevicePath
from measlog.records.image import ImageLoadEvent
from measlog.registry import PCR_NAMES, EventType

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.report import Report
    from measlog.flatcar.boot import PredictedBoot, PredictedEvent

__all__ = ["BootPaths"]

_REGISTERS = (4, 8, 9, 14)
_MANDATORY = frozenset({4, 8, 9})
_MAX_DIFFERENCES = 24
_FILE_PATH = (4, 4)
"""Media device path, file path (UEFI 2.10, clause 10.3.5.4)."""
_IMAGE = EventType.EV_EFI_BOOT_SERVICES_APPLICATION

Followed = tuple[Candidate, tuple[Following, ...]]


def _model(value: ArgumentModel | Iterable[ArgumentRule] | None) -> ArgumentModel | None:
    return value if value is None or isinstance(value, ArgumentModel) else ArgumentModel(rules=value)


@frozen
class BootPaths:
    """Every event of PCR 4, 8, 9 and 14 is explained, in order, by one boot of a manifest (A1, A3, A45, A46).

    Variation that is admitted by name: ``oem_grub_cfg``, contents that the OEM partition's ``grub.cfg`` may have;
    ``allowed_arguments``, kernel arguments that any other OEM ``grub.cfg`` which does nothing but set variables may
    add, alone or behind one of these contents; ``arguments``, rules that the arguments of such a boot must keep;
    ``allow_boot_option_retries``, boot options that returned before the one that booted, which leave pairs of
    actions in PCR 4; ``allow_fallback``, the other slot where the chosen one did not start; ``allow_first_boot``, a boot
    that provisions the machine, by settings that nothing measures;
    ``allow_silent_boot_manager``, a firmware that does not measure which option it calls;
    ``allow_unchecked_usr``, manifests built without looking at USR.
    """

    secure_boot: bool = True
    allowed_arguments: tuple[str, ...] = ()
    oem_grub_cfg: tuple[bytes, ...] = ()
    allow_boot_option_retries: bool = True
    allow_fallback: bool = True
    allow_first_boot: bool = True
    allow_silent_boot_manager: bool = False
    allow_unchecked_usr: bool = False
    arguments: ArgumentModel | None = field(default=None, converter=_model)
    code: str = "boot-path"
    severity: Severity = "error"
    sentence: str = (
        "Shim, GRUB and kernel are the release's; every command, file and kernel argument follows from its grub.cfg."
    )
    registers: frozenset[int] = Factory(lambda: frozenset(_REGISTERS))

    def __attrs_post_init__(self) -> None:
        self._rules()

    def _rules(self) -> ArgumentModel | None:
        """The model, to which single arguments count as further rules."""
        if self.arguments is None:
            return None
        more = [ArgumentRule.exactly(argument) for argument in self.allowed_arguments]
        return evolve(self.arguments, rules=(*self.arguments.rules, *more))

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        # 1. PCR 4 begins with what the boot manager does; what follows are the images that were started.
        images = self._images(case, report)
        # 2. Follow every boot that a manifest allows for; the one that explains most is the one to talk about.
        followed = [self._follow(case, candidate, images) for candidate in self._candidates(case)]
        best = max(followed, key=_score, default=None)
        if best is not None and not _complete(best) and (self.allowed_arguments or self.arguments is not None):
            best = max([best, *self._with_settings(case, followed, images)], key=_score)
        if best is None:
            for pcr in _REGISTERS:
                if case.quoted(pcr):
                    report.skip(PCR_NAMES[pcr], "no manifest describes a boot of this kind", pcr=pcr)
            return
        candidate, followings = best
        for following in followings:
            self._judge(case, candidate, following, report)
        if not _complete(best):
            report.find("boot.closest", f"the boot that explains most is {candidate.name}", severity="info")
        # 3. The kernel is the same in every register that names it (A45).
        self._judge_kernel(case.bank, followings, report)
        # 4. What the kernel's root hash binds was compared with it when the manifest was built.
        self._judge_usr(followings, report)
        self._judge_variation(candidate, report)
        self._identify(best, report)

    def _candidates(self, case: Case) -> Iterator[Candidate]:
        for manifest in case.manifests:
            for oem in (None, *self.oem_grub_cfg):
                for boot in case.predictions.of(manifest, secure_boot=self.secure_boot, oem=oem):
                    others = tuple(m for m in case.manifests if m is not manifest)
                    yield Candidate(manifest=manifest, boot=boot, others=others, oem=oem)

    def _with_settings(
        self, case: Case, followed: Sequence[Followed], images: Sequence[Measured]
    ) -> Iterator[Followed]:
        """The boots with the settings that the log shows of an OEM ``grub.cfg``, if these are admitted.

        With a model any are, for now: what they make of the command line is judged when all of PCR 8 is explained.
        """
        for oem in dict.fromkeys(candidate.oem for candidate, _ in followed):
            best, followings = max((f for f in followed if f[0].oem == oem), key=_score)
            script = operator_settings(
                case,
                best,
                followings,
                lambda name, value: self.arguments is not None or listed(name, value, self.allowed_arguments),
            )
            if script is None:
                continue
            plain = {
                _state(boot): boot for boot in case.predictions.of(best.manifest, secure_boot=self.secure_boot, oem=oem)
            }
            boots = case.predictions.with_settings(best.manifest, secure_boot=self.secure_boot, oem=script)
            # A boot that only settings make possible is none that the model speaks of.
            for boot, before in [(boot, plain[_state(boot)]) for boot in boots if _state(boot) in plain]:
                candidate = evolve(best, boot=boot, oem=script, free_file=OEM_FILE, plain=before)
                yield self._follow(case, candidate, images)

    def _images(self, case: Case, report: Report) -> tuple[Measured, ...]:
        """The events of PCR 4 behind the boot manager's; findings where those are not as they must be."""
        history = case.history(4)
        separators, _ = separator_digests(case)
        letters = {case.digest(CALLING): "C", case.digest(RETURNING): "R", **dict.fromkeys(separators, "S")}
        word = "".join(letters.get(m.digest, ".") for m in history)
        pairs = "(?:RC)*" if self.allow_boot_option_retries else ""
        match = re.match(rf"{'C?' if self.allow_silent_boot_manager else 'C'}S{pairs}", word)
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

    @staticmethod
    def _follow(case: Case, candidate: Candidate, images: Sequence[Measured]) -> Followed:
        followings = []
        for pcr in _REGISTERS:
            if not case.quoted(pcr) or (pcr not in _MANDATORY and pcr in candidate.boot.unknown):
                continue
            observed = images if pcr == 4 else case.history(pcr)
            followings.append(follow(candidate, pcr, observed, case.bank))
        return candidate, tuple(followings)

    def _judge(self, case: Case, candidate: Candidate, following: Following, report: Report) -> None:
        pcr = following.pcr
        report.cover(pcr)
        for measured, consumed, owners in following.matched:
            if consumed.kind == "image":
                _judge_path(measured, owners, report)
            else:
                _judge_label(measured, consumed, pcr, report)
        model = self._rules()
        if pcr == 8 and model is not None and candidate.plain is not None:
            judge_arguments(candidate, following, model, report)
        divergence = following.divergence
        if divergence is None:
            report.check(self.code, candidate.name, pcr=pcr, events=[m.index for m, _, _ in following.matched])
            return
        for observed, expected in _differences(case, candidate, following):
            code, message = _explain(case, pcr, observed, expected)
            report.find(
                code,
                message,
                pcr=pcr,
                event=None if observed is None else observed.index,
                expected=_shown(expected, case.bank),
                observed=None if observed is None else (_text(observed) or observed.digest),
            )
        if pcr == 8:
            explain_arguments(case, candidate, self.allowed_arguments, model, report)

    @staticmethod
    def _judge_kernel(bank: str, followings: Sequence[Following], report: Report) -> None:
        """All registers that name a kernel name the same one, which is its digests: names may be anybody's."""
        common: set[tuple[bytes, bytes]] | None = None
        for following in followings:
            for measured, _, owners in following.matched:
                kernels = {(c.authenticode[bank], c.flat[bank]) for _, c in owners if c.role == "kernel"}
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

    def _judge_usr(self, followings: Sequence[Following], report: Report) -> None:
        """The USR of the kernel that was started: its contents are in no register, its root hash is in the kernel."""
        owners = {
            (id(manifest), component.path): (manifest, component)
            for following in followings
            for _, _, found in following.matched
            for manifest, component in found
            if component.role == "kernel"
        }
        for manifest, component in owners.values():
            known = [usr for usr in manifest.usr if usr.root is not None and usr.root == component.verity_root]
            if any(usr.status == "verified" for usr in known):
                report.check("usr", f"the root of USR's hash tree, as it was computed for the manifest {manifest.name}")
            elif manifest.usr and not self.allow_unchecked_usr:
                report.find(
                    "usr.unchecked",
                    f"the manifest {manifest.name} was built without checking USR against the kernel's root hash",
                )
            else:
                report.skip("usr", f"the manifest {manifest.name} says nothing about what the kernel's root hash binds")

    def _judge_variation(self, candidate: Candidate, report: Report) -> None:
        """What the policy admits by name is said, or refused."""
        boot = candidate.boot
        if boot.chosen != boot.slot:
            report.find(
                "boot.fallback",
                f"slot {boot.chosen} did not start, and slot {boot.slot} was booted in its place",
                severity="info" if self.allow_fallback else "error",
                pcr=8,
            )
        if boot.first_boot and not self.allow_first_boot:
            report.find(
                "boot.first-boot",
                "the machine was provisioned in this boot, with settings that nothing measures",
                pcr=8,
            )
        if boot.oem:
            report.find(
                "boot.oem-settings" if candidate.free_file is not None else "boot.oem-file",
                "the OEM partition has a grub.cfg, which the policy admits",
                severity="info",
                pcr=9,
            )

    @staticmethod
    def _identify(best: Followed, report: Report) -> None:
        candidate, followings = best
        complete = _complete(best)
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
    # An event that may stand where another is expected takes that one's name for the alignment.
    names = {m.digest: m.digest for m in observed}
    for wanted in expected:
        for measured in observed:
            if candidate.accepts(wanted, measured, case.bank) is not None:
                names[measured.digest] = wanted.digests.get(case.bank, measured.digest)
    left = [(names[m.digest], m.event.type) for m in observed]
    right = [(e.digests.get(case.bank, b""), e.type) for e in expected]
    found: list[tuple[Measured | None, PredictedEvent | None]] = [
        (None if i is None else observed[i], None if j is None else expected[j])
        for i, j in align(left, right)
        if i is None or j is None or left[i] != right[j]
    ]
    return found[:_MAX_DIFFERENCES]


def _state(boot: PredictedBoot) -> tuple[str | None, str | None, bool]:
    return boot.chosen, boot.slot, boot.first_boot


def _complete(followed: Followed) -> bool:
    return all(f.complete for f in followed[1])


def _score(followed: Followed) -> tuple[int, int, int]:
    """Complete registers first; then what is shared, less what is expected and not there."""
    _, followings = followed
    return (
        sum(f.complete for f in followings),
        sum(2 * f.shared - f.wanted for f in followings),
        sum(len(f.matched) for f in followings),
    )


def _text(measured: Measured) -> str | None:
    """What an EV_IPL event's text says; authenticated only as far as the digest check covers it."""
    if measured.event.type != EventType.EV_IPL:
        return None
    return measured.event.raw.rstrip(b"\0").decode("utf-8", "backslashreplace")


def _shown(expected: PredictedEvent | None, bank: str) -> bytes | str | None:
    if expected is None:
        return None
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


def _judge_path(measured: Measured, owners: Sequence[Owner], report: Report) -> None:
    """The device path beside an image's digest, where there is one, names the file that the component is (A2)."""
    record = measured.event.data
    said: str | None = None
    if isinstance(record, ImageLoadEvent) and isinstance(record.device_path, DevicePath):
        nodes = [n for n in record.device_path.nodes if (n.type, n.subtype) == _FILE_PATH]
        if not nodes:
            return
        said = nodes[-1].data.decode("utf-16-le", "replace").rstrip("\0").replace("\\", "/").strip("/")
        if any(said.lower() == component.path.lower() for _, component in owners):
            return
    report.find(
        "event.label",
        "the image is the release's, but the event's data says something else about it",
        pcr=4,
        event=measured.index,
        expected=owners[0][1].path if owners else None,
        observed=said,
    )


def _explain(case: Case, pcr: int, observed: Measured | None, expected: PredictedEvent | None) -> tuple[str, str]:
    """Code and sentence for a place where a register leaves its path."""
    if observed is None:
        assert expected is not None
        return "sequence.missing", f"{_quoted(expected)} is expected in PCR {pcr} and is not there"
    known = case.known_as(observed.digest)
    said = _text(observed)
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


def _quoted(expected: PredictedEvent) -> str:
    return repr(expected.text.decode("utf-8", "backslashreplace"))
