"""What is said of a boot that leaves its path: code, event, values, and the sentence a person acts on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import Policy
from measlog.appraisal.rules.boot_path import BootPaths
from tests.appraisal.machine import SHA256, Change, appraise, compared, good_log, lines, passed_over
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.test_impostors import component

GOOD = "flatcar-lab-good"
NAME = "flatcar-lab: slot a, first boot, Secure Boot on"
CLOSEST = f"info boot.closest: the boot that explains most is {NAME}"
EV_POST_CODE, EV_IPL, EV_IMAGE, EV_ACTION = 1, 0xD, 0x80000003, 0x80000007

# Places in the capture: what was called, then shim, GRUB and the kernel twice; the fourth command; the kernel's file.
CALLED, SHIM, GRUB, KERNEL = 14, 24, 30, 64
FOURTH, FILE, LISTS, COMMAND_LINE = 34, 63, 25, 66
END = len(good_log().events) + 1


def paths(**settings: Any) -> Policy:
    return Policy(name="paths", rule=BootPaths(**settings), required=())


def at(place: int, *made: Callable[[ForgedEvent], ForgedEvent]) -> Change:
    """What stands at a place, replaced."""
    return lambda events: (*events[: place - 1], *(make(events[place - 1]) for make in made), *events[place:])


def same(event: ForgedEvent) -> ForgedEvent:
    return event


def typed(kind: int) -> Callable[[ForgedEvent], ForgedEvent]:
    return lambda e: replace(e, type=kind)


def saying(data: bytes) -> Callable[[ForgedEvent], ForgedEvent]:
    return lambda e: replace(e, data=data)


def measured(hashed: bytes, data: bytes | None = None) -> Callable[[ForgedEvent], ForgedEvent]:
    return lambda e: replace(e.rehashed(hashed), data=e.data if data is None else data)


def command(text: bytes) -> Callable[[ForgedEvent], ForgedEvent]:
    """GRUB hashes the text alone, without what it is called and without the NUL."""
    return measured(text, b"grub_cmd: " + text + b"\0")


def digest(place: int) -> str:
    return good_log().events[place - 1].digests[SHA256].hex()


def data(place: int) -> bytes:
    return good_log().events[place - 1].data


def sha256(hashed: bytes) -> str:
    return hashlib.sha256(hashed).hexdigest()


LINE = data(COMMAND_LINE).removeprefix(b"kernel_cmdline: ").rstrip(b"\0")


def line(text: bytes) -> Change:
    return at(COMMAND_LINE, measured(text, b"kernel_cmdline: " + text + b"\0"))


CALLING = next(e for e in good_log().events if e.type == EV_ACTION)
RETURNING = replace(
    CALLING.rehashed(b"Returning from EFI Application from Boot Option"),
    data=b"Returning from EFI Application from Boot Option",
)
RETRY = at(19, same, lambda _: RETURNING, lambda _: CALLING)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            at(FOURTH, same, command(b"set evil=1")),
            [
                (
                    f"error command.unexpected PCR 8 event {FOURTH + 1}: GRUB ran 'set evil=1', which does not follow from the"
                    " grub.cfg of the release | observed grub_cmd: set evil=1"
                ),
                CLOSEST,
            ],
            id="a command more",
        ),
        pytest.param(
            at(FOURTH),
            [
                (
                    "error sequence.missing PCR 8: 'set fallback=0 0' is expected in PCR 8 and is not there"
                    " | expected grub_cmd: set fallback=0 0"
                ),
                CLOSEST,
            ],
            id="a command less",
        ),
        pytest.param(
            at(FOURTH, measured(b"other", b"??")),
            [
                (
                    f"error sequence.unexpected PCR 8 event {FOURTH}: PCR 8 holds an event that the boot does not have there"
                    " | expected grub_cmd: set fallback=0 0 | observed ??"
                ),
                CLOSEST,
            ],
            id="something that its text does not explain",
        ),
        pytest.param(
            at(FOURTH, saying(b"grub_cmd: lies\0")),
            [
                (
                    f"error event.label PCR 8 event {FOURTH}: the digest is as expected, but the event's text says something"
                    f" else | expected {data(FOURTH).hex()} | observed {b'grub_cmd: lies'.hex()}00"
                )
            ],
            id="a lie beside a command",
        ),
        pytest.param(
            at(FILE, saying(b"/evil\0")),
            [
                (
                    f"error event.label PCR 9 event {FILE}: the digest is as expected, but the event's text says something"
                    f" else | expected {data(FILE).hex()} | observed {b'/evil'.hex()}00"
                )
            ],
            id="a lie beside a file",
        ),
        pytest.param(
            at(SHIM, measured(b"other")),
            [
                (
                    f"error image.unknown PCR 4 event {SHIM}: an image was started that no manifest knows in place of"
                    f" 'EFI/boot/bootx64.efi' | expected {digest(SHIM)} | observed {sha256(b'other')}"
                ),
                CLOSEST,
            ],
            id="another shim",
        ),
        pytest.param(
            at(67, same, lambda _: good_log().events[SHIM - 1].rehashed(b"other")),
            [
                (
                    f"error image.unknown PCR 4 event 68: an image was started that no manifest knows"
                    f" | observed {sha256(b'other')}"
                ),
                CLOSEST,
            ],
            id="an image more",
        ),
        pytest.param(
            at(SHIM, saying(b"")),
            [
                (
                    f"error event.label PCR 4 event {SHIM}: the image is the release's, but the event's data says something"
                    " else about it | expected EFI/boot/bootx64.efi"
                )
            ],
            id="an image without a record",
        ),
        pytest.param(
            at(GRUB, lambda e: replace(e, data=e.data.replace("grub".encode("utf-16-le"), "evil".encode("utf-16-le")))),
            [
                (
                    f"error event.label PCR 4 event {GRUB}: the image is the release's, but the event's data says something"
                    " else about it | expected EFI/boot/grubx64.efi | observed EFI/BOOT/evilx64.efi"
                )
            ],
            id="an image from another place",
        ),
        pytest.param(
            at(FILE, measured(b"other", b"/evil\xff\0")),
            [
                (
                    f"error file.unknown PCR 9 event {FILE}: GRUB read a file that is not the release's; the log calls it"
                    r" '/evil\\xff' | expected /flatcar/vmlinuz-a | observed /evil\xff"
                ),
                CLOSEST,
            ],
            id="another file",
        ),
        pytest.param(
            at(LISTS, measured(b"other")),
            [
                (
                    f"error sequence.unexpected PCR 14 event {LISTS}: PCR 14 holds an event that the boot does not have there"
                    " | expected MokList | observed MokList"
                ),
                CLOSEST,
            ],
            id="another MokList",
        ),
        pytest.param(
            at(LISTS, typed(EV_POST_CODE)),
            [
                (
                    f"error event.type PCR 14 event {LISTS}: an event of type EV_POST_CODE in PCR 14 holds what may be"
                    f" something else | expected MokList | observed {digest(LISTS)}"
                ),
                CLOSEST,
            ],
            id="MokList by another type",
        ),
        pytest.param(
            at(SHIM, typed(EV_POST_CODE)),
            [
                (
                    f"error event.type PCR 4 event {SHIM}: an event of type EV_POST_CODE in PCR 4 holds the Authenticode"
                    f" digest of EFI/boot/bootx64.efi of flatcar-lab | expected {digest(SHIM)} | observed {digest(SHIM)}"
                ),
                CLOSEST,
            ],
            id="shim by another type",
        ),
        pytest.param(
            lambda events: (*(e for e in events if e.type != EV_IMAGE), *(events[i - 1] for i in (KERNEL, 65, GRUB))),
            [
                (
                    "error sequence.missing PCR 4: 'EFI/boot/bootx64.efi' is expected in PCR 4 and is not there"
                    f" | expected {digest(SHIM)}"
                ),
                (
                    "error sequence.missing PCR 4: 'EFI/boot/grubx64.efi' is expected in PCR 4 and is not there"
                    f" | expected {digest(GRUB)}"
                ),
                (
                    "error sequence.order PCR 4 event 68: PCR 4 holds the Authenticode digest of EFI/boot/grubx64.efi of"
                    f" flatcar-lab where the boot has something else | observed {digest(GRUB)}"
                ),
                CLOSEST,
            ],
            id="another order",
        ),
        pytest.param(
            line(LINE + b" init=/bin/sh"),
            [
                (
                    f"error command.unexpected PCR 8 event {COMMAND_LINE}: GRUB gave the kernel"
                    f" {LINE.decode() + ' init=/bin/sh'!r}, which does not follow from the grub.cfg of the release"
                    f" | expected kernel_cmdline: {LINE.decode()} | observed kernel_cmdline: {LINE.decode()} init=/bin/sh"
                ),
                (
                    f"error kernel.argument PCR 8 event {COMMAND_LINE}: the kernel argument 'init=/bin/sh' does not follow"
                    " from the grub.cfg of the release | observed init=/bin/sh"
                ),
                CLOSEST,
            ],
            id="an argument more",
        ),
        pytest.param(
            line(LINE.replace(b" root=LABEL=ROOT", b"")),
            [
                (
                    f"error command.unexpected PCR 8 event {COMMAND_LINE}: GRUB gave the kernel"
                    f" {LINE.decode().replace(' root=LABEL=ROOT', '')!r}, which does not follow from the grub.cfg of the"
                    f" release | expected kernel_cmdline: {LINE.decode()}"
                    f" | observed kernel_cmdline: {LINE.decode().replace(' root=LABEL=ROOT', '')}"
                ),
                (
                    f"error kernel.argument-missing PCR 8 event {COMMAND_LINE}: the kernel argument 'root=LABEL=ROOT' is"
                    " missing | expected root=LABEL=ROOT"
                ),
                CLOSEST,
            ],
            id="an argument less",
        ),
        pytest.param(
            RETRY,
            [
                (
                    "info boot-manager.retry PCR 4 event 20: 1 boot option(s) failed before the one that booted, as the"
                    " policy allows"
                )
            ],
            id="a boot option that failed",
        ),
        pytest.param(
            at(CALLED),
            [
                (
                    "error boot-manager.order PCR 4 event 18: PCR 4 does not begin with the boot manager calling an option"
                    " and closing the firmware's phase"
                )
            ],
            id="no option called",
        ),
        pytest.param(
            at(CALLED, typed(EV_IPL)),
            [f"error event.type PCR 4 event {CALLED}: an action of the boot manager of another type"],
            id="an action by another type",
        ),
        pytest.param(
            lambda events: (e for e in events if e.pcr != 4),
            [
                (
                    "error boot-manager.order PCR 4: PCR 4 does not begin with the boot manager calling an option and"
                    " closing the firmware's phase"
                ),
                (
                    "error sequence.missing PCR 4: '/flatcar/vmlinuz-a' is expected in PCR 4 and is not there"
                    f" | expected {digest(KERNEL)}"
                ),
                (
                    "error sequence.missing PCR 4: 'EFI/boot/bootx64.efi' is expected in PCR 4 and is not there"
                    f" | expected {digest(SHIM)}"
                ),
                (
                    "error sequence.missing PCR 4: 'EFI/boot/grubx64.efi' is expected in PCR 4 and is not there"
                    f" | expected {digest(GRUB)}"
                ),
                CLOSEST,
            ],
            id="nothing in PCR 4",
        ),
    ],
)
def test_a_boot_that_leaves_its_path(change: Change, said: list[str]) -> None:
    assert lines(appraise(paths(), change, manifests=[lab_manifest(GOOD)])) == said


def test_a_file_that_was_measured_whole_is_known_by_its_digest() -> None:
    """Q11: the digest is the component's, and not the one that belongs there."""
    flat = component(lab_manifest(GOOD), "shim").flat["sha256"]
    change = at(SHIM, lambda e: replace(e, digests={**e.digests, SHA256: flat}))
    assert lines(appraise(paths(), change, manifests=[lab_manifest(GOOD)])) == [
        (
            f"error sequence.order PCR 4 event {SHIM}: PCR 4 holds the flat file digest of EFI/boot/bootx64.efi of flatcar-lab"
            f" where the boot has something else | expected {digest(SHIM)} | observed {flat.hex()}"
        ),
        CLOSEST,
    ]


def test_variations_that_the_policy_does_not_name() -> None:
    manifests = [lab_manifest(GOOD)]
    twice = appraise(paths(allow_boot_option_retries=False), RETRY, manifests=manifests)
    unexpected = "error sequence.unexpected PCR 4 event {}: PCR 4 holds an event that the boot does not have there"
    assert lines(twice) == [
        f"{unexpected.format(20)} | observed {RETURNING.digests[SHA256].hex()}",
        f"{unexpected.format(21)} | observed {CALLING.digests[SHA256].hex()}",
        CLOSEST,
    ]
    assert lines(appraise(paths(allow_first_boot=False), manifests=manifests)) == [
        "error boot.first-boot PCR 8: the machine was provisioned in this boot, with settings that nothing measures"
    ]
    # Two options that failed, and a policy that also admits a silent firmware.
    more = at(19, same, *(make for _ in range(2) for make in (lambda _: RETURNING, lambda _: CALLING)))
    for settings in ({}, {"allow_silent_boot_manager": True}):
        assert lines(appraise(paths(**settings), more, manifests=manifests)) == [
            (
                "info boot-manager.retry PCR 4 event 20: 2 boot option(s) failed before the one that booted, as the policy"
                " allows"
            )
        ]
    retyped = at(19, same, lambda _: replace(RETURNING, type=EV_IPL), lambda _: CALLING)
    assert "error event.type PCR 4 event 20: an action of the boot manager of another type" in lines(
        appraise(paths(), retyped, manifests=manifests)
    )


def test_what_a_boot_was_compared_with() -> None:
    result = appraise(paths(), manifests=[lab_manifest(GOOD)])
    of = {pcr: [i + 1 for i, e in enumerate(good_log().events) if e.pcr == pcr] for pcr in (4, 8, 9, 14)}
    of[4] = of[4][2:]
    assert compared(result) == [
        *(f"boot-path PCR {pcr} events {','.join(map(str, of[pcr]))}: {NAME}" for pcr in (4, 8, 9, 14)),
        "usr: the root of USR's hash tree, as it was computed for the manifest flatcar-lab",
    ]
    release = lab_manifest(GOOD).release or "flatcar-lab"
    assert [(i.component, i.release, i.slot, i.boot_path) for i in result.identified] == [
        ("shim", release, None, "slot a, first boot, Secure Boot on"),
        ("grub", release, None, "slot a, first boot, Secure Boot on"),
        ("kernel", release, "a", "slot a, first boot, Secure Boot on"),
    ]
    differs = appraise(paths(), at(LISTS, measured(b"other")), manifests=[lab_manifest(GOOD)])
    assert {(i.component, i.boot_path) for i in differs.identified} == {
        ("shim", None),
        ("grub", None),
        ("kernel", None),
    }
    assert [c.pcr for c in differs.checked] == [4, 8, 9, None]


def test_without_a_manifest_no_boot_is_spoken_of() -> None:
    result = appraise(paths(), quoted=(0, 4, 8, 14))
    assert passed_over(result)[:3] == [
        f"{name} PCR {pcr}: no manifest describes a boot of this kind"
        for name, pcr in (("boot-loader-code", 4), ("boot-loader-commands", 8), ("shim-policy", 14))
    ]


def test_differences_are_listed_up_to_a_number() -> None:
    """All of it is one failure: 24 differences of a register are enough to see what happened."""
    many = [command(b"set evil=%d" % i) for i in range(30)]
    result = appraise(paths(), at(FOURTH, same, *many), manifests=[lab_manifest(GOOD)])
    assert sum(f.code == "command.unexpected" for f in result.findings) == 24


def test_an_image_that_is_measured_without_a_place_is_taken_by_its_digest() -> None:
    """The kernel is loaded from memory: its event has an empty device path, which says nothing false."""
    assert data(KERNEL).endswith(bytes(8))
    assert lines(appraise(paths(), manifests=[lab_manifest(GOOD)])) == []
    # A path that is written in other letters, with a NUL more or slashes, is the same path on a FAT file system.
    upper = at(GRUB, lambda e: replace(e, data=e.data.replace("grub".encode("utf-16-le"), "GRUB".encode("utf-16-le"))))
    assert lines(appraise(paths(), upper, manifests=[lab_manifest(GOOD)])) == []


def events_of(changes: Iterable[Change]) -> tuple[ForgedEvent, ...]:
    events = good_log().events
    for change in changes:
        events = tuple(change(events))
    return events


def named(*changes: Change) -> list[bytes | str | None]:
    """The arguments that are said not to follow from the configuration."""
    result = appraise(paths(), lambda _: events_of(changes), manifests=[lab_manifest(GOOD)])
    return [f.observed for f in result.findings if f.code == "kernel.argument"]


def test_a_command_line_is_the_event_that_says_so() -> None:
    """GRUB's own record of it goes before its command; where both are wrong, the record is spoken of."""
    wrong = LINE + b" evil=1"
    both = (
        line(wrong),
        at(62, command(b"linux " + wrong.replace(b"evil=1", b"evil=2"))),
    )
    assert named(*both) == ["evil=1"]
    # Without the record the command counts, and one whose digest is of something else does not.
    alone = (at(COMMAND_LINE), *both[1:])
    assert named(*alone) == ["evil=2"]
    lie = (at(COMMAND_LINE, saying(b"kernel_cmdline: " + wrong + b"\0"), same), at(FOURTH, same, command(b"x")))
    assert named(*lie) == []
    efi = (at(COMMAND_LINE), at(62, command(b"linuxefi " + wrong)))
    assert named(*efi) == ["evil=1"]
    for other in (b"linux", b"linux16 " + wrong, b"initrd " + wrong):
        change = (at(COMMAND_LINE), at(62, command(other)))
        assert named(*change) == []


def test_arguments_that_the_policy_allows_are_not_named() -> None:
    """Only without the OEM file that would explain them is the boot not one of settings: PCR 8 differs all the same."""
    manifests = [lab_manifest(GOOD)]
    change = line(LINE + b" quiet evil=1 evil=1")
    result = appraise(paths(allowed_arguments=("quiet",)), change, manifests=manifests)
    observed = [f.observed for f in result.findings if f.code == "kernel.argument"]
    # A finding that says the same is said once.
    assert observed == ["evil=1"]
    assert result.status == "contraindicated"
