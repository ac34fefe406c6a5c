"""The demands of Keylime's example policy as a rule, by digests and authenticated data alone.

Keylime goes by event types and texts, which are not in any register. Where its policy reads one to decide which digest
to look at, every event of the register is looked at here, whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.appraisal.result import Severity
from measlog.appraisal.rules.boundaries import separator_digests
from measlog.appraisal.secureboot import SecureBootState, read_state
from measlog.flatcar.boot import CALLING, RETURNING
from measlog.interop.keylime.refstate import KeylimeState, StateKernel, StateKey
from measlog.registry import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE

if TYPE_CHECKING:
    from uuid import UUID

    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.report import Report

__all__ = ["MatchesState"]

_ALLOWED: tuple[tuple[UUID, str, str], ...] = (
    (EFI_GLOBAL_VARIABLE, "PK", "pk"),
    (EFI_GLOBAL_VARIABLE, "KEK", "kek"),
    (EFI_IMAGE_SECURITY_DATABASE, "db", "db"),
)
_DBX = (EFI_IMAGE_SECURITY_DATABASE, "dbx")
_MOK_LIST_TRUSTED = b"MokListTrusted"
_LINUX = re.compile(r"(?:linux|linuxefi|linux16) (.*)", re.DOTALL)
_GRUB = re.compile(rb"(grub_cmd|kernel_cmdline): ")
_LONGEST = 8192
_UNQUOTED = dict.fromkeys(map(ord, "\"'\\"))


@frozen
class MatchesState:
    """Firmware, keys, programs, command line, initrd and MOK lists are among those of a Keylime reference state.

    Its ``vendor_db`` is not looked at: shim carries that, and shim's digest is.
    """

    state: KeylimeState = field(validator=instance_of(KeylimeState))
    code: str = "keylime.state"
    severity: Severity = "error"
    sentence: str = "Firmware, keys, programs and command line are those of a Keylime reference state."
    registers: frozenset[int] = frozenset({0, 4, 7, 8, 9, 14})

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        # 1. PCR 0: one of the firmwares, whole and in order.
        self._judge_firmware(case, report)
        # 2. PCR 7: Secure Boot in the state's state, no key that is not in it, every revocation that is.
        self._judge_keys(case, report)
        # 3. PCR 4, 8 and 9: one kernel entry explains all of them (Keylime's Or over kernels).
        self._judge_boot(case, report)
        # 4. PCR 14: what the owner of the machine may have added.
        self._judge_mok(case, report)

    def _judge_firmware(self, case: Case, report: Report) -> None:
        separators, _ = separator_digests(case)
        history = [m for m in case.history(0) if m.digest not in separators]
        known = [
            [one.scrtm.get(case.bank), *(blob.get(case.bank) for blob in one.blobs)] for one in self.state.firmware
        ]
        report.cover(0)
        digests = [m.digest for m in history]
        if digests in known:
            report.check(self.code, "a firmware of the reference state", pcr=0, events=[m.index for m in history])
            return
        place = max((_common(digests, one) for one in known), default=0)
        event = history[place] if place < len(history) else None
        report.find(
            "platform.differs",
            "PCR 0 is not that of any firmware of the reference state",
            pcr=0,
            event=None if event is None else event.index,
            observed=None if event is None else event.digest,
        )

    def _judge_keys(self, case: Case, report: Report) -> None:
        before = len(report.findings)
        found = read_state(case)
        report.cover(7)
        report.quirks |= found.quirks
        for problem in found.problems:
            report.find(problem.code, problem.message, pcr=7, event=problem.event)
        if found.enabled is not self.state.secure_boot:
            wanted = "on" if self.state.secure_boot else "off"
            report.find("secureboot.state", f"Secure Boot is not {wanted}", pcr=7, expected=wanted)
        for guid, name, member in _ALLOWED:
            allowed: Sequence[StateKey] = getattr(self.state, member)
            # Without Secure Boot and without keys in the state, Keylime leaves them open.
            if allowed or self.state.secure_boot:
                self._judge_database(case, found, (guid, name), allowed, report)
        revoked = {(signature.owner, signature.data) for _, signature in found.signatures(_DBX)}
        lacking = [key for key in self.state.dbx if (key.owner, key.data) not in revoked]
        if lacking:
            report.find("secureboot.dbx", f"dbx lacks {len(lacking)} entries of the reference state", pcr=7)
        if len(report.findings) == before:
            report.check(self.code, "the keys of the reference state", pcr=7, events=found.explained)

    @staticmethod
    def _judge_database(
        case: Case, found: SecureBootState, variable: tuple[UUID, str], allowed: Sequence[StateKey], report: Report
    ) -> None:
        known = {(key.owner, key.data) for key in allowed}
        strange = sum((s.owner, s.data) not in known for _, s in found.signatures(variable))
        if strange:
            event = next(
                (m.index for m in case.history(7) if m.event.data == found.variables[variable]),
                None,
            )
            report.find(
                "secureboot.key-unknown",
                f"{variable[1]} holds {strange} entries that the reference state does not have",
                pcr=7,
                event=event,
            )

    def _judge_boot(self, case: Case, report: Report) -> None:
        images = self._images(case)
        best: list[tuple[str, str, int, Measured | None, bytes | None]] | None = None
        for kernel in self.state.kernels:
            problems = [
                *self._images_differ(kernel, images),
                *_lines_differ(case, kernel),
                *_files_differ(case, kernel),
            ]
            if best is None or len(problems) < len(best):
                best = problems
            if not problems:
                break
        report.cover(4)
        report.skip("commands of GRUB other than the kernel's command line", "a reference state does not say", pcr=8)
        report.skip("files other than kernel and initrd", "a reference state does not say", pcr=9)
        if best is None:
            report.find("image.unknown", "the reference state has no kernels", pcr=4)
            return
        for code, message, pcr, measured, expected in best:
            report.find(
                code,
                message,
                pcr=pcr,
                event=None if measured is None else measured.index,
                expected=expected,
                observed=None if measured is None else measured.digest,
            )
        if not best:
            report.check(self.code, "a boot of the reference state", pcr=4, events=[m.index for m in images])

    @staticmethod
    def _images(case: Case) -> list[Measured]:
        separators, _ = separator_digests(case)
        passed = separators | {case.digest(CALLING), case.digest(RETURNING)}
        return [m for m in case.history(4) if m.digest not in passed]

    def _images_differ(
        self, kernel: StateKernel, images: Sequence[Measured]
    ) -> Iterator[tuple[str, str, int, Measured | None, bytes | None]]:
        wanted = [kernel.shim, kernel.grub]
        if self.state.secure_boot:
            # Shim's protocol and the firmware's loader may each measure the kernel.
            again = len(images) == 4
            wanted += [kernel.kernel or b""] * (2 if again else 1)
        for index in range(max(len(wanted), len(images))):
            image = images[index] if index < len(images) else None
            expected = wanted[index] if index < len(wanted) else None
            if image is None:
                yield "sequence.missing", "an image of the reference state was not started", 4, None, expected
            elif image.digest != expected:
                yield "image.unknown", "an image that is not the reference state's", 4, image, expected

    def _judge_mok(self, case: Case, report: Report) -> None:
        lists = [
            [digests.get(case.bank) for digests in digests_of]
            for digests_of in (self.state.mok_list, self.state.mok_list_x)
        ]
        before = len(report.findings)
        history = list(case.history(14))
        report.cover(14)
        rest = list(history)
        for name, allowed in zip(("MokList", "MokListX"), lists, strict=True):
            found = next((m for m in rest if m.digest in allowed), None)
            if found is not None:
                rest.remove(found)
            elif allowed:
                report.find("mok.unknown", f"{name} is none of those of the reference state", pcr=14)
        # Keylime takes one MokListTrusted with any contents.
        trusted = next((m for m in rest if m.event.raw.rstrip(b"\0") == _MOK_LIST_TRUSTED), None)
        for measured in (m for m in rest if m is not trusted):
            report.find(
                "mok.unknown",
                "an event that the reference state does not have",
                pcr=14,
                event=measured.index,
                observed=measured.digest,
            )
        if len(history) > len(rest) and len(report.findings) == before:
            report.check(self.code, "the MOK lists of the reference state", pcr=14, events=[m.index for m in history])


def _common(a: Sequence[bytes | None], b: Sequence[bytes | None]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _lines_differ(case: Case, kernel: StateKernel) -> Iterator[tuple[str, str, int, Measured | None, bytes | None]]:
    """Command lines that do not match, and ``linux`` commands with other arguments than the command line.

    GRUB's labels are in no register. Whoever calls the command line something else cannot do so with the command that
    it came from (A45), which differs from it in quoting alone.
    """
    pattern = re.compile(kernel.command_line)
    lines: list[str] = []
    commands: list[tuple[Measured, str]] = []
    for measured in case.history(8):
        label = _GRUB.match(measured.event.raw)
        text = measured.event.raw[label.end() if label else 0 :].rstrip(b"\0").decode("utf-8", "surrogateescape")
        command = _LINUX.fullmatch(text)
        if label is not None and label[1] == b"kernel_cmdline":
            lines.append(text.translate(_UNQUOTED))
            if len(text) > _LONGEST or pattern.fullmatch(text) is None:
                yield "kernel.argument", "a command line that does not match the reference state", 8, measured, None
        elif command is not None:
            commands.append((measured, command[1].translate(_UNQUOTED)))
    for measured, arguments in commands:
        if arguments not in lines:
            yield (
                "kernel.argument",
                "a kernel was loaded with other arguments than the command line's",
                8,
                measured,
                None,
            )
    if len(lines) != 1:
        yield "sequence.missing", f"PCR 8 has {len(lines)} kernel command lines, not one", 8, None, None


def _files_differ(case: Case, kernel: StateKernel) -> Iterator[tuple[str, str, int, Measured | None, bytes | None]]:
    """Files that the entry names and PCR 9 does not hold."""
    found = {m.digest for m in case.history(9)}
    for name, digest in (("initrd", kernel.initrd), ("vmlinuz", kernel.vmlinuz)):
        if digest is not None and digest not in found:
            yield "file.unknown", f"the {name} that was read is not the reference state's", 9, None, digest
