"""Boots of unified kernel images without the log that shows their phases, as a policy may admit."""

from __future__ import annotations

import attrs
import pytest

import measlog as ml
from measlog.appraisal import AppraisalResult
from measlog.appraisal.rules.unified import UnifiedBoot
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.machine import codes
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.unified import (
    EV_IPL,
    QUOTED,
    Change,
    appraise,
    at,
    command_line,
    event,
    lines,
    more,
    phases,
)
from tests.evidence.test_further import evidence

UNPROVEN = ml.policy.flatcar(open_ended=(11,), allow_unproven_phases=True)


def test_a_policy_may_do_without_the_phases() -> None:
    """Then PCR 4 tells the image, and the sections that are known to be in it bind the root hash."""
    made, ak, nonce = evidence("uki", None)
    verified = made.verify(ak=ak, nonce=nonce, open_ended=UNPROVEN.open_ended, required=UNPROVEN.quoted)
    result = ml.Verifier([lab_manifest("uki")], policy=UNPROVEN).appraise(verified)
    assert (result.status, result.findings) == ("affirming", ())
    assert {c.pcr for c in result.checked if c.rule == "unified-boot"} == {4, 8, 9, 12, 13, 14}
    assert "usr" in {c.rule for c in result.checked}
    assert [n.reason for n in result.not_covered if n.pcr == 11] == [
        "the image is told by PCR 4; the phases of the boot are not known",
        "the policy leaves it to the running system",
    ]
    assert 11 not in UnifiedBoot(allow_unproven_phases=True).registers
    assert 11 in UnifiedBoot().registers


def without_pcr_11(change: Change | None = None, manifest: ReferenceManifest | None = None) -> AppraisalResult:
    manifests = [manifest or lab_manifest("uki")]
    return appraise(change, [], policy=UNPROVEN, manifests=manifests, quoted=[p for p in QUOTED if p != 11])


def test_what_is_refused_without_the_phases() -> None:
    """Whatever is not in PCR 11 is judged as ever, and PCR 11 where it is quoted, too."""
    assert without_pcr_11().status == "affirming"
    image = at(4, -1, lambda e: [e.rehashed(b"another image")])
    assert codes(without_pcr_11(image)) >= {"image.unknown"}
    assert codes(without_pcr_11(lines(command_line() + " init=/bin/sh"))) == {"kernel.argument"}
    assert codes(without_pcr_11(more(event(13, EV_IPL, b"", b"an extension")))) == {"unified.addition"}
    assert codes(without_pcr_11(at(4, -1, lambda _: []))) >= {"sequence.missing"}
    assert appraise(policy=UNPROVEN).status == "affirming"
    assert codes(appraise(further=phases("another"), policy=UNPROVEN)) == {"system.unexpected"}
    for lacking in (4, 12, 13):
        quoted = [pcr for pcr in QUOTED if pcr not in {11, lacking}]
        assert codes(appraise(further=[], policy=UNPROVEN, quoted=quoted)) == {"register.not-quoted"}


@pytest.mark.parametrize("section", [".profile", ".dtbauto"])
def test_an_image_with_alternatives_needs_pcr_11(section: str) -> None:
    """The same file, and so the same PCR 4, whichever of its command lines or device trees the stub takes."""
    manifest = lab_manifest("uki")
    image = manifest.component("uki")
    assert image is not None
    assert image.uki is not None
    more_sections = (*image.uki.sections, attrs.evolve(image.uki.sections[0], name=section))
    other = attrs.evolve(image, uki=attrs.evolve(image.uki, sections=more_sections))
    changed = attrs.evolve(manifest, components=tuple(other if c is image else c for c in manifest.components))
    assert codes(without_pcr_11(manifest=changed)) == {"register.not-quoted"}
