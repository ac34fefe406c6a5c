"""Boots of unified kernel images, appraised: real ones, and what can be done to them.

The manifests are those of the lab's images, made from the disk and never from a log. Attacks are mounted on the capture
and are consistent: registers and quote are made to fit by :mod:`fixtures.attacks.forge`, which shares nothing with the
library.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

import measlog as ml
from fixtures.attacks.forge import NAMES, ForgedEvent, ForgedLog, quote
from measlog.appraisal import AppraisalResult, Policy
from measlog.appraisal.policy import ByBootLoader, leaves
from measlog.appraisal.policy_file import load_policy
from measlog.appraisal.rules.unified import PHASE_PATHS, UnifiedBoot
from measlog.errors import PolicyError
from measlog.evidence import VerifiedEvidence
from measlog.interop.systemdlog import SystemdRecord
from measlog.reference.manifest import ReferenceManifest
from measlog.registry import PCR_NAMES, Register
from tests.appraisal.machine import NONCE, codes, compared, good_log, passed_over
from tests.appraisal.machine import lines as said
from tests.appraisal.test_captures import lab_manifest
from tests.evidence.test_further import records, verify

KEY = ec.derive_private_key(0x756B69, ec.SECP256R1())
SHA256 = 0x000B
PHASES = ("enter-initrd", "leave-initrd", "sysinit", "ready")
QUOTED = tuple(range(15))
EV_IPL, EV_EVENT_TAG, EV_IMAGE = 0xD, 0x6, 0x80000003

Change = Callable[[tuple[ForgedEvent, ...]], Iterable[ForgedEvent]]


def extended(index: int, text: str, hashed: bytes | None = None) -> SystemdRecord:
    digests = {name: hashlib.new(name, text.encode() if hashed is None else hashed).digest() for name in NAMES.values()}
    return SystemdRecord.of(Register("pcr", index), text, digests)


def phases(*words: str) -> list[SystemdRecord]:
    return [extended(11, word) for word in words]


def machine(log: ForgedLog, further: Sequence[SystemdRecord], *, quoted: Sequence[int] = QUOTED) -> VerifiedEvidence:
    """Evidence that verifies, with registers that both logs were extended into."""

    def registers(alg: int) -> dict[int, bytes]:
        values = log.registers(alg)
        for record in further:
            value = values[record.register.index] + record.digests[NAMES[alg]]
            values[record.register.index] = hashlib.new(NAMES[alg], value).digest()
        return values

    made = quote(KEY, NONCE, [(SHA256, quoted)], registers)
    evidence = ml.Evidence(
        log=ml.EventLog.from_bytes(log.put_together()),
        quote=ml.Quote.from_bytes(made.attest, made.signature),
        further={"systemd": further},
    )
    return evidence.verify(ak=made.ak, nonce=NONCE)


def appraise(
    change: Change | None = None,
    further: Sequence[SystemdRecord] | None = None,
    *,
    name: str = "uki",
    policy: Policy | None = None,
    manifests: Sequence[ReferenceManifest] | None = None,
    quoted: Sequence[int] = QUOTED,
) -> AppraisalResult:
    log = good_log(name)
    if change is not None:
        log = log.with_events(change(log.events))
    references = [lab_manifest("uki")] if manifests is None else manifests
    verifier = ml.Verifier(references, policy=policy or ml.policy.flatcar(), unsafe_unsigned_manifests=True)
    return verifier.appraise(machine(log, phases(*PHASES) if further is None else further, quoted=quoted))


def places(events: Sequence[ForgedEvent], pcr: int) -> list[int]:
    return [i for i, e in enumerate(events) if e.pcr == pcr]


def at(pcr: int, nth: int, make: Callable[[ForgedEvent], Iterable[ForgedEvent]]) -> Change:
    """Replace the nth event of a register."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        place = places(events, pcr)[nth]
        return (*events[:place], *make(events[place]), *events[place + 1 :])

    return change


def then(*changes: Change) -> Change:
    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        for one in changes:
            events = tuple(one(events))
        return events

    return change


def event(pcr: int, kind: int, data: bytes, hashed: bytes) -> ForgedEvent:
    digests = {alg: hashlib.new(NAMES[alg], hashed).digest() for alg in good_log("uki").algorithms}
    return ForgedEvent(pcr, kind, digests, data)


def more(made: ForgedEvent) -> Change:
    """One event more before the boot services are left."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        return (*events[:-2], made, *events[-2:])

    return change


def utf16(text: str) -> bytes:
    return f"{text}\0".encode("utf-16-le")


def command_line() -> str:
    component = lab_manifest("uki").component("uki")
    assert component is not None
    assert component.uki is not None
    assert component.uki.command_line is not None
    return component.uki.command_line


def lines(text: str) -> Change:
    """Another command line handed over, as systemd-boot, the stub and the kernel would tell."""
    return then(
        at(12, 0, lambda e: [replace(e.rehashed(utf16(text)), data=utf16(text))]),
        at(9, 0, lambda e: [e.rehashed(utf16(text))]),
    )


@pytest.mark.parametrize(("name", "secure_boot"), [("uki", True), ("uki-sb-off", False)])
def test_real_boots(name: str, secure_boot: bool) -> None:
    verifier = ml.Verifier([lab_manifest(name)], policy=ml.policy.flatcar(secure_boot=secure_boot))
    result = verifier.appraise(verify(name, records(name)))
    assert (result.status, result.findings) == ("affirming", ())
    assert {(i.component, i.release) for i in result.identified} == {
        ("shim", "1.0.0"), ("systemd-boot", "1.0.0"), ("uki", "1.0.0"),
    }  # fmt: skip
    checked = {c.pcr: c.events for c in result.checked if c.rule == "unified-boot"}
    assert set(checked) == {4, 8, 9, 11, 12, 13, 14}
    assert len(checked[11]) == 8 + 4
    assert "usr" in {c.rule for c in result.checked}
    assert {n.pcr for n in result.not_covered} == {0, 1, 2, 3, 5, 6, 7, 10, None}
    assert [n.subject for n in result.not_covered if n.pcr is None] == ["built-in command line"]
    # Its good twin in the other state of Secure Boot is not what was asked for.
    other = ml.Verifier([lab_manifest(name)], policy=ml.policy.flatcar(secure_boot=not secure_boot))
    assert other.appraise(verify(name, records(name))).status == "contraindicated"


def test_a_real_tampered_command_line() -> None:
    name = "uki-tampered-cmdline"
    evidence = verify(name, records(name))
    result = ml.Verifier([lab_manifest(name)], policy=ml.policy.flatcar()).appraise(evidence)
    assert result.status == "contraindicated"
    found = {f.code: f for f in result.findings if f.severity == "error"}
    assert set(found) == {"image.unknown", "section.unknown", "kernel.argument"}
    assert found["kernel.argument"].observed == "init=/bin/sh"
    section = found["section.unknown"]
    assert section.event is not None
    assert section.pcr == 11
    assert evidence.log[section.event].raw == utf16(".cmdline")
    assert "usr" not in {c.rule for c in result.checked}


def test_without_systemds_log_the_phase_is_not_known() -> None:
    """Left open, PCR 11 proves nothing; and a policy for unified images needs it proven."""
    from tests.evidence.test_further import evidence

    made, ak, nonce = evidence("uki", None)
    policy = ml.policy.flatcar(open_ended=(11,))
    assert policy.open_ended == (11,)
    verified = made.verify(ak=ak, nonce=nonce, open_ended=policy.open_ended)
    result = ml.Verifier([lab_manifest("uki")], policy=policy).appraise(verified)
    assert (result.status, codes(result)) == ("contraindicated", {"register.not-quoted"})


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_phase_is_one_that_a_boot_comes_to(count: int) -> None:
    result = appraise(further=phases(*PHASES[:count]))
    assert result.status == "affirming"
    # Unless the policy wants the boot to have come further, or not so far.
    for path in PHASE_PATHS:
        strict = appraise(further=phases(*PHASES[:count]), policy=ml.policy.flatcar(phases=(path,)))
        assert (strict.status == "affirming") == (path == PHASE_PATHS[count - 1])


ATTACKS: dict[str, tuple[Change | None, list[SystemdRecord] | None, set[str]]] = {
    "the firmware's part of PCR 11 alone": (None, [], {"sequence.missing"}),
    "a phase skipped": (None, phases("enter-initrd", "sysinit", "ready"), {"sequence.missing"}),
    "the first phase skipped": (None, phases(*PHASES[1:]), {"sequence.missing"}),
    "a phase twice": (None, phases("enter-initrd", "enter-initrd", *PHASES[1:]), {"phase.order"}),
    "the last phase twice": (None, phases(*PHASES, "ready"), {"phase.order"}),
    "phases out of order": (
        None, phases("enter-initrd", "sysinit", "leave-initrd", "ready"), {"phase.order", "sequence.missing"},
    ),
    "a phase that is none": (None, phases(*PHASES, "shutdown"), {"system.unexpected"}),
    "a machine id in PCR 11": (None, [*phases(*PHASES), extended(11, "machine-id:00")], {"system.unexpected"}),
    "a record without text": (
        None,
        [*phases(*PHASES), SystemdRecord(register=Register("pcr", 11), digests=extended(11, "?").digests, content={})],
        {"system.unexpected"},
    ),
    "a phase with another digest": (None, [extended(11, "enter-initrd", b"else"), *phases(*PHASES[1:])], {"phase.order"}),
    "a record in PCR 9": (None, [*phases(*PHASES), extended(9, "nvpcr-init:x")], {"system.unexpected"}),
    "a record in PCR 12": (None, [*phases(*PHASES), extended(12, "quiet")], {"system.unexpected"}),
    "a record in PCR 13": (None, [*phases(*PHASES), extended(13, "sysext")], {"system.unexpected"}),
    "a section's content": (at(11, 7, lambda e: [e.rehashed(b"initrd")]), None, {"section.unknown"}),
    "a section's name": (
        at(11, 6, lambda e: [replace(e.rehashed(b".ucode\0"), data=utf16(".ucode"))]), None, {"section.unknown"},
    ),
    "a section's name beside the digest": (at(11, 7, lambda e: [replace(e, data=utf16(".linux"))]), None, {"event.label"}),
    "two sections swapped": (
        lambda events: [
            *events[: places(events, 11)[0]],
            *(events[i] for i in [*places(events, 11)[2:4], *places(events, 11)[:2], *places(events, 11)[4:]]),
            *(e for e in events[places(events, 11)[0] :] if e.pcr != 11),
        ],
        None,
        {"sequence.missing", "sequence.unexpected"},
    ),
    "a section left out": (then(at(11, 7, lambda _: []), at(11, 6, lambda _: [])), None, {"sequence.missing"}),
    "a section more": (
        then(more(event(11, EV_IPL, utf16(".dtb"), b".dtb\0")), more(event(11, EV_IPL, utf16(".dtb"), b"tree"))),
        None,
        {"sequence.unexpected"},
    ),
    "a section of another type": (at(11, 7, lambda e: [replace(e, type=EV_EVENT_TAG)]), None, {"event.type"}),
    "a phase that the firmware's log has": (
        more(event(11, EV_IPL, b"enter-initrd", b"enter-initrd")), phases(*PHASES[1:]), {"sequence.unexpected"},
    ),
    "another image": (at(4, -1, lambda e: [e.rehashed(b"image")]), None, {"image.unknown"}),
    "another loader": (at(4, -2, lambda e: [e.rehashed(b"loader")]), None, {"image.unknown"}),
    "an image more": (at(4, -1, lambda e: [e, e.rehashed(b"more")]), None, {"image.unknown"}),
    "no image": (at(4, -1, lambda _: []), None, {"sequence.missing"}),
    "another path beside the image": (
        at(4, -1, lambda e: [replace(e, data=e.data.replace(utf16("1.efi"), utf16("2.efi")))]), None, {"event.label"},
    ),
    "credentials": (more(event(12, EV_IPL, utf16("Credentials initrd"), b"cpio")), None, {"unified.addition"}),
    "a system extension": (more(event(13, EV_IPL, utf16("sysext"), b"cpio")), None, {"unified.addition"}),
    "an argument": (lines(f"{command_line()} init=/bin/sh"), None, {"kernel.argument"}),
    "an argument less": (lines(command_line().replace("root=LABEL=ROOT ", "")), None, {"kernel.argument-missing"}),
    "arguments in another order": (lines(" ".join(reversed(command_line().split(" ")))), None, {"sequence.order"}),
    "a command line that was not hashed": (
        at(12, 0, lambda e: [e.rehashed(utf16("init=/bin/sh"))]), None, {"unified.addition"},
    ),
    "a command line three times": (at(12, 0, lambda e: [e, e, e]), None, {"unified.addition"}),
    "another command line for the kernel alone": (at(9, 0, lambda e: [e.rehashed(utf16("quiet"))]), None, {"unified.addition"}),
    "another initrd for the kernel": (at(9, 1, lambda e: [e.rehashed(b"initrd")]), None, {"unified.addition"}),
    "an initrd twice": (at(9, 1, lambda e: [e, e]), None, {"unified.addition"}),
    "a file of GRUB's": (more(event(9, EV_IPL, b"(hd0,gpt1)/grub.cfg\0", b"grub")), None, {"unified.addition"}),
    "a command of GRUB's": (more(event(8, EV_IPL, b"grub_cmd: ls\0", b"ls")), None, {"unified.addition"}),
    "a key of the owner's": (at(14, 0, lambda e: [e.rehashed(b"keys")]), None, {"sequence.unexpected"}),
}  # fmt: skip


REVERSED = " ".join(reversed(command_line().split(" ")))
CLOSEST = "info boot.closest: the boot that explains most is flatcar-lab: EFI/Linux/flatcar-lab-1.efi, Secure Boot on"
HELD = "PCR 9 holds a command line, an initrd or a file that is not the image's"
NOT_THERE = "PCR 11 holds an event that the boot does not have there"
# What is said of each; digests are left out.
SAID: dict[str, list[str]] = {
    "the firmware's part of PCR 11 alone": [
        (
            "error sequence.missing PCR 11: 'enter-initrd' is expected in PCR 11 and is not there | expected"
            " enter-initrd"
        ),
        CLOSEST,
    ],
    "a phase skipped": [
        (
            "error sequence.missing PCR 11: 'leave-initrd' is expected in PCR 11 and is not there | expected"
            " leave-initrd"
        ),
        CLOSEST,
    ],
    "the first phase skipped": [
        (
            "error sequence.missing PCR 11: 'enter-initrd' is expected in PCR 11 and is not there | expected"
            " enter-initrd"
        ),
        CLOSEST,
    ],
    "a phase twice": [
        (
            "error phase.order PCR 11 event 46: systemd's record 1 extended PCR 11 with 'enter-initrd',"
            " where the boot has something else | observed enter-initrd"
        ),
        CLOSEST,
    ],
    "the last phase twice": [
        (
            "error phase.order PCR 11 event 49: systemd's record 4 extended PCR 11 with 'ready', where the"
            " boot has something else | observed ready"
        ),
        CLOSEST,
    ],
    "phases out of order": [
        (
            "error sequence.missing PCR 11: 'leave-initrd' is expected in PCR 11 and is not there | expected"
            " leave-initrd"
        ),
        (
            "error phase.order PCR 11 event 47: systemd's record 2 extended PCR 11 with 'leave-initrd',"
            " where the boot has something else | observed leave-initrd"
        ),
        CLOSEST,
    ],
    "a phase that is none": [
        (
            "error system.unexpected PCR 11 event 49: systemd's record 4 extended PCR 11 with 'shutdown',"
            " where the boot has something else | observed shutdown"
        ),
        CLOSEST,
    ],
    "a machine id in PCR 11": [
        (
            "error system.unexpected PCR 11 event 49: systemd's record 4 extended PCR 11 with"
            " 'machine-id:00', where the boot has something else | observed machine-id:00"
        ),
        CLOSEST,
    ],
    "a record without text": [
        (
            "error system.unexpected PCR 11 event 49: systemd's record 4 extended PCR 11 with None, where"
            " the boot has something else | observed DIGEST"
        ),
        CLOSEST,
    ],
    "a phase with another digest": [
        (
            "error phase.order PCR 11 event 45: systemd's record 0 extended PCR 11 with 'enter-initrd',"
            " where the boot has something else | expected enter-initrd | observed enter-initrd"
        ),
        CLOSEST,
    ],
    "a record in PCR 9": [
        f"error system.unexpected PCR 9 event 49: {HELD}: systemd's record 4 | observed DIGEST",
    ],
    "a record in PCR 12": [
        (
            "error system.unexpected PCR 12 event 49: PCR 12 holds something that is not the image's own"
            " command line: systemd's record 4 | observed DIGEST"
        ),
    ],
    "a record in PCR 13": [
        (
            "error system.unexpected PCR 13 event 49: PCR 13 holds something, though this way of booting"
            " leaves it alone: systemd's record 4 | observed DIGEST"
        ),
    ],
    "a section's content": [
        (
            "error section.unknown PCR 11 event 40: the section that the log calls '.initrd' is not the"
            " release's '.initrd' | expected DIGEST | observed DIGEST"
        ),
        CLOSEST,
    ],
    "a section's name": [
        (
            "error section.unknown PCR 11 event 39: the section that the log calls '.ucode' is not the"
            " release's '.initrd' | expected DIGEST | observed DIGEST"
        ),
        CLOSEST,
    ],
    "a section's name beside the digest": [
        (
            "error event.label PCR 11 event 40: the digest is as expected, but the event's text says"
            " something else | expected 2e0069006e0069007400720064000000 | observed 2e006c0069006e00750078000000"
        ),
    ],
    "two sections swapped": [
        "error sequence.missing PCR 11: '.linux' is expected in PCR 11 and is not there | expected DIGEST",
        "error sequence.missing PCR 11: '.linux' is expected in PCR 11 and is not there | expected DIGEST",
        f"error sequence.unexpected PCR 11 event 35: {NOT_THERE} | observed DIGEST",
        f"error sequence.unexpected PCR 11 event 36: {NOT_THERE} | observed DIGEST",
        CLOSEST,
    ],
    "a section left out": [
        "error sequence.missing PCR 11: '.initrd' is expected in PCR 11 and is not there | expected DIGEST",
        "error sequence.missing PCR 11: '.initrd' is expected in PCR 11 and is not there | expected DIGEST",
        CLOSEST,
    ],
    "a section more": [
        f"error sequence.unexpected PCR 11 event 43: {NOT_THERE} | observed DIGEST",
        f"error sequence.unexpected PCR 11 event 44: {NOT_THERE} | observed DIGEST",
        CLOSEST,
    ],
    "a section of another type": [
        (
            "error event.type PCR 11 event 40: an event of type EV_EVENT_TAG stands where a section is"
            " measured | expected DIGEST | observed DIGEST"
        ),
        CLOSEST,
    ],
    "a phase that the firmware's log has": [
        f"error sequence.unexpected PCR 11 event 43: {NOT_THERE} | expected enter-initrd | observed enter-initrd",
        CLOSEST,
    ],
    "another image": [
        (
            "error image.unknown PCR 4 event 31: an image was started that no manifest knows in place of"
            " 'EFI/Linux/flatcar-lab-1.efi' | expected DIGEST | observed DIGEST"
        ),
        CLOSEST,
    ],
    "another loader": [
        (
            "error image.unknown PCR 4 event 30: an image was started that no manifest knows in place of"
            " 'EFI/boot/grubx64.efi' | expected DIGEST | observed DIGEST"
        ),
        CLOSEST,
    ],
    "an image more": [
        "error image.unknown PCR 4 event 32: an image was started that no manifest knows | observed DIGEST",
        CLOSEST,
    ],
    "no image": [
        (
            "error sequence.missing PCR 4: 'EFI/Linux/flatcar-lab-1.efi' is expected in PCR 4 and is not"
            " there | expected DIGEST"
        ),
        CLOSEST,
    ],
    "another path beside the image": [
        (
            "error event.label PCR 4 event 31: the image is the release's, but the event's data says"
            " something else about it | expected EFI/Linux/flatcar-lab-1.efi | observed EFI/Linux/flatcar-lab-2.efi"
        ),
    ],
    "credentials": [
        (
            "error unified.addition PCR 12 event 43: PCR 12 holds something that is not the image's own"
            " command line: event 43 | observed DIGEST"
        ),
    ],
    "a system extension": [
        (
            "error unified.addition PCR 13 event 43: PCR 13 holds something, though this way of booting"
            " leaves it alone: event 43 | observed DIGEST"
        ),
    ],
    "an argument": [
        (
            "error kernel.argument PCR 12 event 32: the kernel argument 'init=/bin/sh' does not follow from"
            " the unified kernel image | observed init=/bin/sh"
        ),
    ],
    "an argument less": [
        (
            "error kernel.argument-missing PCR 12 event 32: the kernel argument 'root=LABEL=ROOT' is missing"
            " | expected root=LABEL=ROOT"
        ),
    ],
    "arguments in another order": [
        f"error sequence.order PCR 12 event 32: the arguments of the image's command line stand in another order | expected {command_line()} | observed {REVERSED}",
    ],
    "a command line that was not hashed": [
        (
            "error unified.addition PCR 12 event 32: PCR 12 holds something that is not the image's own"
            " command line: event 32 | observed DIGEST"
        ),
    ],
    "a command line three times": [
        (
            "error unified.addition PCR 12 event 34: PCR 12 holds a command line more often than loader and"
            " stub measure it: event 34 | observed DIGEST"
        ),
    ],
    "another command line for the kernel alone": [
        f"error unified.addition PCR 9 event 41: {HELD}: event 41 | observed DIGEST",
    ],
    "another initrd for the kernel": [
        f"error unified.addition PCR 9 event 42: {HELD}: event 42 | observed DIGEST",
    ],
    "an initrd twice": [
        f"error unified.addition PCR 9 event 43: {HELD}: event 43 | observed DIGEST",
    ],
    "a file of GRUB's": [
        f"error unified.addition PCR 9 event 43: {HELD}: event 43 | observed DIGEST",
    ],
    "a command of GRUB's": [
        (
            "error unified.addition PCR 8 event 43: PCR 8 holds something, though this way of booting leaves"
            " it alone: event 43 | observed DIGEST"
        ),
    ],
    "a key of the owner's": [
        (
            "error sequence.unexpected PCR 14 event 25: PCR 14 holds an event that the boot does not have"
            " there | expected MokList | observed MokList"
        ),
        CLOSEST,
    ],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    change, further, expected = ATTACKS[name]
    result = appraise(change, further)
    assert result.status == "contraindicated"
    assert codes(result) >= expected, codes(result)
    text = said(result)
    assert [line if "usrhash" in line else re.sub("[0-9a-f]{64}", "DIGEST", line) for line in text] == SAID[name]


def test_the_boot_passes_unchanged() -> None:
    """Otherwise the refusals above would say nothing."""
    assert (appraise().status, appraise().findings) == ("affirming", ())


def test_what_the_boot_was_compared_with() -> None:
    events = {pcr: [i + 1 for i in places(good_log("uki").events, pcr)] for pcr in (4, 9, 11, 12, 14)}
    events[4] = events[4][2:]
    events[11] += [len(good_log("uki").events) + 1 + i for i in range(4)]
    name = "flatcar-lab: EFI/Linux/flatcar-lab-1.efi, Secure Boot on"
    path = {pcr: ",".join(map(str, of)) for pcr, of in events.items()}
    rule = UnifiedBoot()
    assert compared(appraise(policy=Policy(name="one", rule=rule, required=()))) == [
        *(f"unified-boot PCR {pcr} events {path[pcr]}: {name}" for pcr in (4, 11, 14)),
        f"unified-boot PCR 12 events {path[12]}: the image's own command line and initrd",
        f"unified-boot PCR 9 events {path[9]}: the image's own command line and initrd",
        "unified-boot PCR 8: the start value",
        "unified-boot PCR 13: the start value",
        "usr: the root of USR's hash tree, as it was computed for the manifest flatcar-lab",
    ]
    result = appraise(policy=Policy(name="one", rule=rule, required=()), manifests=[])
    assert passed_over(result)[:7] == [
        f"{PCR_NAMES[pcr]} PCR {pcr}: no manifest has a unified kernel image" for pcr in (4, 8, 9, 11, 12, 13, 14)
    ]
    unquoted = appraise(policy=Policy(name="one", rule=rule, required=()), quoted=(4, 11))
    assert said(unquoted) == [
        *(f"error register.not-quoted PCR {pcr}: the quote does not cover PCR {pcr}" for pcr in (12, 13)),
        *(f"error register.not-quoted PCR {pcr}: the quote proves nothing of PCR {pcr}" for pcr in (12, 13)),
    ]


def test_findings_name_the_record() -> None:
    result = appraise(further=[*phases(*PHASES), extended(11, "machine-id:00")])
    (finding,) = (f for f in result.findings if f.severity == "error")
    assert finding.event == len(good_log("uki").events) + 1 + 4
    assert "systemd's record 4 extended PCR 11 with 'machine-id:00'" in finding.message


def test_arguments_that_the_policy_admits() -> None:
    policy = ml.policy.flatcar(allowed_arguments=("quiet", "debug"))
    result = appraise(lines(f"{command_line()} quiet"), policy=policy)
    assert result.status == "affirming"
    place = places(good_log("uki").events, 12)[0] + 1
    assert said(result) == [
        (
            f"info kernel.argument-admitted PCR 12 event {place}: the policy admits the kernel arguments that were added:"
            " 'quiet' | observed quiet"
        )
    ]
    assert appraise(lines(f"quiet {command_line()}"), policy=policy).status == "affirming"
    assert appraise(lines(f"{command_line()} quiet init=/bin/sh"), policy=policy).status == "contraindicated"
    shuffled = command_line().split(" ")
    shuffled[0], shuffled[1] = shuffled[1], shuffled[0]
    assert codes(appraise(lines(" ".join([*shuffled, "quiet"])), policy=policy)) == {"sequence.order"}


def test_a_command_line_as_newer_systemd_measures_it() -> None:
    """Since version 253 without the NUL, or not at all where it is the image's own."""
    text = command_line().encode("utf-16-le")
    assert appraise(at(12, 0, lambda e: [e.rehashed(text)])).status == "affirming"
    assert appraise(at(12, 0, lambda _: [])).status == "affirming"
    assert appraise(at(12, 0, lambda e: [e, e.rehashed(text)])).status == "affirming"


def _without_line(manifest: ReferenceManifest) -> ReferenceManifest:
    image = manifest.component("uki")
    assert image is not None
    assert image.uki is not None
    bare = attrs.evolve(image, uki=attrs.evolve(image.uki, command_line=None))
    return attrs.evolve(manifest, components=tuple(bare if c is image else c for c in manifest.components))


def test_an_image_without_a_command_line_is_given_none() -> None:
    manifest = _without_line(lab_manifest("uki"))
    none = then(at(12, 0, lambda _: []), at(9, 0, lambda _: []))
    result = appraise(none, manifests=[manifest], policy=ml.policy.flatcar(allow_unchecked_usr=True))
    assert result.status == "affirming"
    assert "usr" in {n.subject for n in result.not_covered}
    assert codes(appraise(none, manifests=[manifest])) == {"usr.unchecked"}
    assert codes(appraise(manifests=[manifest])) == {"unified.addition", "usr.unchecked"}


@pytest.mark.parametrize("lacking", [4, 11, 12, 13])
def test_registers_that_must_be_quoted(lacking: int) -> None:
    result = appraise(quoted=[pcr for pcr in QUOTED if pcr != lacking])
    assert result.status == "contraindicated"
    assert codes(result) == {"register.not-quoted"}


def test_registers_that_need_not_be_quoted() -> None:
    result = appraise(quoted=[pcr for pcr in QUOTED if pcr != 10])
    assert result.status == "affirming"


def _other(manifest: ReferenceManifest, mark: bytes = b"2") -> ReferenceManifest:
    """The manifest of a later release: another unified image, the same shim and loader."""
    image = manifest.component("uki")
    assert image is not None
    assert image.uki is not None
    authenticode = {bank: hashlib.new(bank, mark).digest() for bank in image.authenticode}
    sections = tuple(
        attrs.evolve(s, digests={bank: hashlib.new(bank, mark + s.name.encode()).digest() for bank in s.digests})
        for s in image.uki.sections
    )
    uki = attrs.evolve(image.uki, sections=sections)
    new = attrs.evolve(image, authenticode=authenticode, uki=uki)
    return attrs.evolve(
        manifest, release="2.0.0", components=tuple(new if c is image else c for c in manifest.components)
    )


def test_the_sections_are_those_of_the_image_that_was_started() -> None:
    """One release's image with the contents of another's is neither, even where both are known."""
    old, new = lab_manifest("uki"), _other(lab_manifest("uki"))
    image = new.component("uki")
    assert image is not None
    assert image.uki is not None
    digests = {alg: image.authenticode[NAMES[alg]] for alg in good_log("uki").algorithms}
    started = at(4, -1, lambda e: [replace(e, digests=digests)])
    assert appraise(manifests=[old, new]).status == "affirming"
    mixed = appraise(started, manifests=[old, new])
    assert mixed.status == "contraindicated"
    # All of the other image, on the same loader: affirming, and named as what it is.
    change = started
    for number, section in enumerate(image.uki.sections):
        content = {alg: section.digests[NAMES[alg]] for alg in digests}
        change = then(change, at(11, 2 * number + 1, lambda e, content=content: [replace(e, digests=content)]))  # type: ignore[misc]
    initrd = {alg: image.uki.sections[3].digests[NAMES[alg]] for alg in digests}
    change = then(change, at(9, 1, lambda e: [replace(e, digests=initrd)]))
    result = appraise(change, manifests=[old, new])
    assert result.status == "affirming"
    assert ("uki", "2.0.0") in {(i.component, i.release) for i in result.identified}
    assert appraise(change, manifests=[old]).status == "contraindicated"


def test_a_loader_of_another_release() -> None:
    """Its image is known from one manifest, shim and systemd-boot from the other."""
    manifest = lab_manifest("uki")
    loader, shim = manifest.component("systemd-boot"), manifest.component("shim")
    assert loader is not None
    assert shim is not None
    digests = {bank: hashlib.new(bank, b"loader").digest() for bank in loader.authenticode}
    other = attrs.evolve(
        manifest,
        release="0.9.0",
        components=tuple(
            attrs.evolve(c, authenticode=digests) if c is loader else c for c in manifest.components if c.uki is None
        ),
    )
    change = at(4, -2, lambda e: [replace(e, digests={a: digests[NAMES[a]] for a in e.digests})])
    assert appraise(change).status == "contraindicated"
    result = appraise(change, manifests=[manifest, other])
    assert result.status == "affirming"
    assert ("systemd-boot", "0.9.0") in {(i.component, i.release) for i in result.identified}


def test_no_unified_image_to_compare_with() -> None:
    rule = UnifiedBoot()
    policy = Policy(name="unified", rule=rule, required=frozenset({11}))
    result = appraise(policy=policy, manifests=[lab_manifest("flatcar-lab-good")])
    assert result.status == "none"
    assert {n.pcr for n in result.not_covered} >= {4, 8, 9, 11, 12, 13, 14}
    fewer = appraise(policy=policy, manifests=[], quoted=[4, 11, 12, 13])
    assert {n.pcr for n in fewer.not_covered} >= {4, 11, 12, 13}


def test_shim_says_nothing_where_there_is_none() -> None:
    """A firmware that starts systemd-boot itself; what shim mirrors is then nobody's, and is not judged."""
    manifest = lab_manifest("uki")
    bare = attrs.evolve(manifest, components=tuple(c for c in manifest.components if c.role in {"uki", "systemd-boot"}))
    no_shim = at(4, 2, lambda _: [])
    policy = Policy(name="unified", rule=UnifiedBoot(), required=frozenset({11}))
    result = appraise(no_shim, manifests=[bare], policy=policy)
    assert result.status == "affirming"
    assert 14 not in {c.pcr for c in result.checked}
    silent = attrs.evolve(manifest, components=tuple(
        attrs.evolve(c, mok_list=None, mok_list_x=None) if c.role == "shim" else c for c in manifest.components
    ))  # fmt: skip
    assert 14 not in {c.pcr for c in appraise(manifests=[silent], policy=policy).checked}


@pytest.mark.parametrize("manifests", [["uki"], ["flatcar-lab-good", "uki"], ["uki", "flatcar-lab-good"]])
def test_the_rule_is_that_of_the_way_of_booting(manifests: list[str]) -> None:
    references = [lab_manifest(name) for name in manifests]
    assert appraise(manifests=references).status == "affirming"
    grub = appraise(name="flatcar-lab-good", further=[], manifests=references)
    assert (grub.status == "affirming") == (len(manifests) > 1)
    assert ("by GRUB" if "boot-path" in {c.rule for c in grub.checked} else "unified") == (
        "by GRUB" if len(manifests) > 1 else "unified"
    )


def test_an_unknown_image_is_judged_by_what_it_measured() -> None:
    references = [lab_manifest("flatcar-lab-good"), lab_manifest("uki")]
    result = appraise(at(4, -1, lambda e: [e.rehashed(b"image")]), manifests=references)
    assert codes(result) == {"image.unknown"}
    # A machine that GRUB booted does not become a unified one by an event in PCR 11.
    grub = appraise(
        more(event(11, EV_IPL, utf16(".linux"), b".linux\0")), [], name="flatcar-lab-good", manifests=references
    )
    assert codes(grub) == {"register.unexpected"}


@settings(max_examples=5)
@given(st.randoms(use_true_random=False))
def test_nothing_depends_on_how_registers_interleave(random: object) -> None:
    """A49: only the order within each register is bound by the quote."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        queues: dict[int, list[ForgedEvent]] = {}
        for one in events:
            queues.setdefault(one.pcr, []).append(one)
        order = [one.pcr for one in events]
        random.shuffle(order)  # type: ignore[attr-defined]
        return [queues[pcr].pop(0) for pcr in order]

    assert appraise(change).status == "affirming"


def test_by_boot_loader_is_a_rule_of_two() -> None:
    rule = next(r for r in ml.policy.flatcar().rule.rules if isinstance(r, ByBootLoader))  # type: ignore[attr-defined]
    assert rule.registers == {4}
    assert " Or: " in rule.sentence
    assert [type(leaf).__name__ for leaf in leaves(rule)] == ["BootPaths", "Untouched", "UnifiedBoot"]
    with pytest.raises(PolicyError, match="no rule"):
        ByBootLoader(grub=rule.grub, unified="unified")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [(), ("",), ("enter initrd",), (":sysinit",), (7,)])
def test_phases_that_a_policy_cannot_name(wrong: tuple[str, ...]) -> None:
    with pytest.raises(PolicyError, match=r"no phase|no path of phases"):
        ml.policy.flatcar(phases=wrong)


def test_policies_in_files() -> None:
    text = b"""
format = "measlog.policy/1"
name = "unified"
required = [4, 7, 11]

[[rule]]
kind = "secure-boot"

[[rule]]
kind = "unified-boot"
phases = ["enter-initrd:leave-initrd:sysinit:ready"]
"""
    policy = load_policy(text)
    assert appraise(policy=policy).status == "affirming"
    assert appraise(further=phases("enter-initrd"), policy=policy).status == "contraindicated"
    published = load_policy(b'format = "measlog.policy/1"\nname = "x"\nuse = "flatcar"\nphases = ["enter-initrd"]\n')
    assert appraise(further=phases("enter-initrd"), policy=published).status == "affirming"
    assert appraise(policy=published).status == "contraindicated"
