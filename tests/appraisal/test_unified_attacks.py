"""What can be done to the boot of a unified kernel image, consistently, and what the library says of it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from measlog.interop.systemdlog import SystemdRecord
from measlog.registry import Register
from tests.appraisal.machine import codes
from tests.appraisal.machine import lines as said
from tests.appraisal.unified import (
    EV_EVENT_TAG,
    EV_IPL,
    PHASES,
    Change,
    appraise,
    at,
    command_line,
    event,
    extended,
    lines,
    more,
    phases,
    places,
    then,
    utf16,
)

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
