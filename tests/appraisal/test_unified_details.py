"""Details of how boots of unified kernel images are judged: which registers, which images, and what is said."""

from __future__ import annotations

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import AppraisalResult, Policy
from measlog.appraisal.case import Case
from measlog.appraisal.rules.unified import UnifiedBoot, boots_unified
from measlog.flatcar.boot import CALLING, RETURNING
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.machine import codes, good_log, passed_over
from tests.appraisal.machine import lines as said
from tests.appraisal.machine import machine as booted_by_grub
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.unified import (
    EV_IPL,
    PHASES,
    QUOTED,
    Change,
    appraise,
    at,
    event,
    machine,
    more,
    phases,
    places,
    then,
    utf16,
)

EV_ACTION = 0x80000007
UKI, GRUB = lab_manifest("uki"), lab_manifest("flatcar-lab-good")
UNPROVEN = ml.policy.flatcar(open_ended=(11,), allow_unproven_phases=True)


def unified(**settings: bool) -> Policy:
    return Policy(name="unified", rule=UnifiedBoot(**settings), required=())  # type: ignore[arg-type]


def with_components(manifest: ReferenceManifest, *roles: str) -> ReferenceManifest:
    """The manifest with its components in this order."""
    found = [manifest.component(role) for role in roles]
    return attrs.evolve(manifest, components=tuple(c for c in found if c is not None))


# Which rule is asked


NO_IMAGE = at(4, -1, lambda e: [e.rehashed(b"image")])


def without(*pcrs: int) -> Change:
    return lambda events: [e for e in events if e.pcr not in pcrs]


GRUB_COMMAND = event(8, EV_IPL, b"grub_cmd: ls\0", b"ls")
SYSTEMD_LINE = event(12, EV_IPL, utf16("quiet"), utf16("quiet"))


@pytest.mark.parametrize(
    ("manifests", "change", "expected"),
    [
        pytest.param([GRUB], None, False, id="no image is known"),
        pytest.param([], None, False, id="nothing is known"),
        pytest.param([UKI], None, True, id="nothing else is known"),
        pytest.param([UKI], without(4, 11), True, id="nothing else is known, nor measured"),
        pytest.param([UKI], more(GRUB_COMMAND), True, id="nothing else is known, and GRUB's register is not empty"),
        pytest.param([UKI, GRUB], more(GRUB_COMMAND), True, id="the image was started"),
        pytest.param([GRUB, UKI], then(without(11), more(GRUB_COMMAND)), True, id="the image was started, in whatever order"),
        pytest.param([GRUB, UKI], NO_IMAGE, True, id="another image, with sections"),
        pytest.param([GRUB, UKI], then(NO_IMAGE, without(8, 9, 12)), True, id="another image, with sections alone"),
        pytest.param([GRUB, UKI], then(NO_IMAGE, more(GRUB_COMMAND)), False, id="another image, with commands of GRUB's"),
        pytest.param([GRUB, UKI], then(NO_IMAGE, without(11)), False, id="another image, without sections"),
        pytest.param(
            [GRUB, UKI], then(NO_IMAGE, without(11), more(SYSTEMD_LINE)), False, id="a command line is no section"
        ),
        pytest.param([GRUB, UKI], without(4, 11), False, id="nothing in any register that tells"),
        pytest.param([GRUB, UKI], then(without(4, 11), more(GRUB_COMMAND)), False, id="commands of GRUB's alone"),
    ],
)  # fmt: skip
def test_a_machine_is_judged_by_what_it_booted(
    manifests: list[ReferenceManifest], change: Change | None, expected: bool
) -> None:
    """By the image that was started; where that is unknown, by the registers that its stub and GRUB extend."""
    log = good_log("uki")
    log = log if change is None else log.with_events(change(log.events))
    case = Case(evidence=machine(log, []), manifests=tuple(manifests), baselines=())
    assert boots_unified(case) is expected


def test_a_machine_that_grub_booted_is_judged_as_one() -> None:
    case = Case(evidence=booted_by_grub(good_log()), manifests=(GRUB, UKI), baselines=())
    assert not boots_unified(case)


# The boot manager


def action(text: bytes) -> ForgedEvent:
    return event(4, EV_ACTION, text, text)


CALLED, RETURNED = action(CALLING), action(RETURNING)
RETRY = at(4, 1, lambda e: [e, RETURNED, CALLED])
SILENT = at(4, 0, lambda _: [])


def test_what_the_boot_manager_may_do_is_the_policy_s() -> None:
    """Options that failed are admitted and named unless the policy refuses them; a silent firmware the other way."""
    assert good_log("uki").events[places(good_log("uki").events, 4)[0]].data == CALLING
    event_index = places(good_log("uki").events, 4)[1] + 2
    retry = "1 boot option(s) failed before the one that booted, as the policy allows"
    assert said(appraise(RETRY, policy=unified())) == [f"info boot-manager.retry PCR 4 event {event_index}: {retry}"]
    assert "sequence.unexpected" in codes(appraise(RETRY, policy=unified(allow_boot_option_retries=False)))
    assert codes(appraise(SILENT, policy=unified())) == {"boot-manager.order"}
    assert said(appraise(SILENT, policy=unified(allow_silent_boot_manager=True))) == []


# The image


@pytest.mark.parametrize(
    "roles", [("shim", "systemd-boot", "uki"), ("uki", "shim", "systemd-boot"), ("shim", "uki", "systemd-boot")]
)
def test_an_image_is_found_wherever_its_manifest_lists_it(roles: tuple[str, ...]) -> None:
    assert appraise(manifests=[with_components(UKI, *roles)]).status == "affirming"


def test_whose_root_hash_was_not_looked_at() -> None:
    """It is in the image's command line; no kernel file is spoken of."""
    bare = attrs.evolve(
        UKI, usr=tuple(attrs.evolve(u, status="unchecked", root=None, data_blocks=None) for u in UKI.usr)
    )
    assert said(appraise(policy=unified(), manifests=[bare])) == [
        ("error usr.unchecked: the manifest flatcar-lab was built without checking USR against the image's root hash")
    ]
    admitted = appraise(policy=unified(allow_unchecked_usr=True), manifests=[bare])
    assert said(admitted) == []
    assert "usr: the manifest flatcar-lab says nothing about what the image's root hash binds" in passed_over(admitted)


# Registers that prove nothing


def unproven(manifest: ReferenceManifest) -> AppraisalResult:
    quoted = [pcr for pcr in QUOTED if pcr != 11]
    return appraise(further=[], policy=UNPROVEN, manifests=[manifest], quoted=quoted)


def test_what_is_said_where_pcr_11_proves_nothing() -> None:
    untold = "kernel-boot PCR 11: the image is told by PCR 4; the phases of the boot are not known"
    plain = unproven(UKI)
    assert said(plain) == []
    assert untold in passed_over(plain)
    image = UKI.component("uki")
    assert image is not None
    assert image.uki is not None
    sections = (*image.uki.sections, attrs.evolve(image.uki.sections[0], name=".profile"))
    several = attrs.evolve(image, uki=attrs.evolve(image.uki, sections=sections))
    result = unproven(attrs.evolve(UKI, components=tuple(several if c is image else c for c in UKI.components)))
    assert said(result) == [
        "error register.not-quoted PCR 11: PCR 11 alone tells which of the image's alternatives ran"
    ]
    assert untold in passed_over(result)


@pytest.mark.parametrize("lacking", [8, 9, 12, 13])
def test_an_addition_is_found_whichever_other_register_is_not_quoted(lacking: int) -> None:
    """One register that proves nothing does not keep the others from being judged."""
    added = {
        8: GRUB_COMMAND,
        9: event(9, EV_IPL, b"/evil\0", b"evil"),
        12: event(12, EV_IPL, utf16("Credentials initrd"), b"cpio"),
        13: event(13, EV_IPL, utf16("sysext"), b"cpio"),
    }
    change = then(*(more(made) for made in added.values()))
    quoted = [pcr for pcr in QUOTED if pcr != lacking]
    result = appraise(change, phases(*PHASES), policy=unified(), quoted=quoted)
    assert {f.pcr for f in result.findings if f.code == "unified.addition"} == added.keys() - {lacking}
