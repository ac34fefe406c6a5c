"""The parts that boot paths are followed with, one by one, on boots made by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

from measlog.appraisal.case import Measured
from measlog.appraisal.paths import Candidate, Following, Predictions, follow
from measlog.appraisal.report import Report
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.command_line import judge_arguments
from measlog.appraisal.rules.divergence import boot_score, complete_boot, identify
from measlog.flatcar.boot import PredictedBoot, PredictedEvent
from measlog.flatcar.cmdline import ArgumentModel, ArgumentRule
from measlog.log import EventLog
from measlog.reference.manifest import BANKS
from measlog.registry import EventType
from tests.appraisal.machine import good_log
from tests.appraisal.test_captures import lab_manifest

MANIFEST = lab_manifest("flatcar-lab-good")
LOG = EventLog.from_bytes(good_log().put_together())


def measured(pcr: int, digest: bytes, kind: EventType = EventType.EV_IPL, index: int = 7) -> Measured:
    event = attrs.evolve(next(e for e in LOG if e.pcr == pcr), type=kind, index=index)
    return Measured(event=event, digest=digest)


def expected(pcr: int, digest: bytes | None, kind: str = "command", text: bytes = b"x") -> PredictedEvent:
    digests: Mapping[str, bytes] = {} if digest is None else {"sha256": digest}
    return PredictedEvent(pcr=pcr, kind=kind, type=EventType.EV_IPL, text=text, digests=digests)


def boot(*events: PredictedEvent, **changed: Any) -> PredictedBoot:
    made = PredictedBoot(
        name="N", slot="a", chosen="a", first_boot=False, secure_boot=True, oem=False, release="r", bootloader="r",
        outcome="kernel", events=events, pcrs={"sha256": {}}, unknown={},
    )  # fmt: skip
    return attrs.evolve(made, **changed)


def other_digests() -> dict[str, bytes]:
    return {bank: hashlib.new(bank, b"another program").digest() for bank in BANKS}


A, C = bytes([1]) * 32, bytes([3]) * 32
B = other_digests()["sha256"]


# What the policy admits by name


FALLBACK = "boot.fallback PCR 8: slot b did not start, and slot a was booted in its place"
FIRST = "error boot.first-boot PCR 8: the machine was provisioned in this boot, with settings that nothing measures"
OEM = "PCR 9: the OEM partition has a grub.cfg, which the policy admits"


@pytest.mark.parametrize(
    ("changed", "free", "settings", "said"),
    [
        ({}, None, {}, []),
        ({"chosen": "b"}, None, {}, [f"info {FALLBACK}"]),
        ({"chosen": "b"}, None, {"allow_fallback": False}, [f"error {FALLBACK}"]),
        ({"first_boot": True}, None, {}, []),
        ({"first_boot": True}, None, {"allow_first_boot": False}, [FIRST]),
        ({}, None, {"allow_first_boot": False, "allow_fallback": False}, []),
        ({"oem": True}, None, {}, [f"info boot.oem-file {OEM}"]),
        ({"oem": True}, b"(hd0,gpt6)/grub.cfg", {}, [f"info boot.oem-settings {OEM}"]),
        ({}, b"(hd0,gpt6)/grub.cfg", {}, []),
    ],
)
def test_variations(changed: dict[str, Any], free: bytes | None, settings: dict[str, Any], said: list[str]) -> None:
    report = Report()
    candidate = Candidate(manifest=MANIFEST, boot=boot(**changed), free_file=free)
    BootPaths(**settings)._judge_variation(candidate, report)
    assert [f"{f.severity} {f.code} PCR {f.pcr}: {f.message}" for f in report.findings] == said


def following(pcr: int, *owners: Sequence[str], index: int = 7) -> Following:
    """Events that were explained, each by the components of these roles."""
    own = [tuple((MANIFEST, c) for c in MANIFEST.components if c.role in roles) for roles in owners]
    matched = tuple((measured(pcr, A, index=index + i), expected(pcr, A), o) for i, o in enumerate(own))
    return Following(pcr=pcr, matched=matched, divergence=None, observed=(), shared=0, wanted=0)


def test_the_kernel_is_one() -> None:
    """A45: what PCR 4 and PCR 9 name must have a kernel in common; programs that are none do not count."""
    kernel = next(c for c in MANIFEST.components if c.role == "kernel")
    other = attrs.evolve(kernel, authenticode=other_digests(), flat=other_digests())
    half = attrs.evolve(kernel, authenticode=other_digests())

    def named(pcr: int, *components: Any) -> Following:
        return attrs.evolve(
            following(pcr, ["shim"], ()),
            matched=(
                (measured(pcr, A, index=1), expected(pcr, A), ((MANIFEST, MANIFEST.components[0]),)),
                (measured(pcr, A, index=pcr), expected(pcr, A), tuple((MANIFEST, c) for c in components)),
            ),
        )

    def said(*followings: Following) -> list[tuple[str, int | None, int | None, str]]:
        report = Report()
        BootPaths._judge_kernel("sha256", followings, report)
        return [(f.code, f.pcr, f.event, f.message) for f in report.findings]

    found = [("kernel.mismatch", 9, 9, "the kernel that was started is not the kernel file that was read")]
    assert said(named(4, kernel), named(9, kernel)) == []
    assert said(named(4, kernel, other), named(9, other)) == []
    assert said(named(4, kernel), named(9, other)) == found
    assert said(named(4, kernel), named(9, half)) == found
    assert said(named(4, kernel, other), named(9, other), named(14, kernel)) == [
        ("kernel.mismatch", 14, 14, found[0][3])
    ]
    # It is said once.
    assert said(named(4, kernel), named(9, other), named(14, other)) == found
    assert said(named(4), named(9, other)) == []


# Arguments by rules


def line(text: bytes) -> PredictedEvent:
    return expected(8, A, kind="cmdline", text=text)


@pytest.mark.parametrize(
    ("given", "place", "said", "checked"),
    [
        (b"/k root=x quiet", 1, [], 1),
        (b"/k root=x", 1, [], 1),
        (
            b"/k root=x evil=\xff",
            1,
            [("kernel.argument", None, "evil=\\xff")],
            0,
        ),
        (b"/k quiet", 1, [("kernel.argument-missing", "root=x", None)], 0),
        (b"/k evil", 0, [], 0),
    ],
)
def test_the_model_judges_what_was_explained(
    given: bytes, place: int, said: list[tuple[str, str | None, str | None]], checked: int
) -> None:
    """The command line is the second event of PCR 8; one that was not explained is not judged."""
    model = ArgumentModel(rules=[ArgumentRule(name="quiet")])
    made = boot(expected(8, B), line(given))
    plain = boot(expected(8, B), expected(8, B), line(b"/k root=x"))
    assert (made.command_line, plain.command_line) == (1, 2)
    found = following(8, *[()] * (place + 1), index=30)
    report = Report()
    judge_arguments(Candidate(manifest=MANIFEST, boot=made, plain=plain), found, model, report)
    assert [(f.code, f.expected, f.observed) for f in report.findings] == said
    assert all((f.pcr, f.event, f.severity) == (8, 31, "error") for f in report.findings)
    prefix = "the kernel's arguments are not those that the policy's model admits: "
    assert all(f.message.startswith(prefix) and len(f.message) > len(prefix) for f in report.findings)
    assert [(c.rule, c.pcr, c.events, c.against) for c in report.checked] == [
        ("kernel-arguments", 8, (31,), model.sentence)
    ] * checked


# Following


def test_two_sequences_are_walked_until_they_part() -> None:
    candidate = Candidate(manifest=MANIFEST, boot=boot(expected(8, A), expected(8, B), expected(9, C)))
    a, b, c = (measured(8, digest, index=i) for i, digest in enumerate((A, B, C)))
    whole = follow(candidate, 8, [a, b], "sha256")
    assert ([m.index for m, _, _ in whole.matched], whole.divergence, whole.complete) == ([0, 1], None, True)
    assert (whole.pcr, whole.observed, whole.shared, whole.wanted) == (8, (a, b), 2, 2)
    for observed, matched, position, want, have, shared in (
        ([a], 1, 1, B, None, 1),
        ([a, b, c], 2, 2, None, c, 2),
        ([a, c], 1, 1, B, c, 1),
        ([b, a], 0, 0, A, b, 2),
        ([], 0, 0, A, None, 0),
        ([a, a], 1, 1, B, a, 1),
    ):
        found = follow(candidate, 8, observed, "sha256")
        assert len(found.matched) == matched
        assert found.divergence is not None
        assert (found.divergence.position, found.divergence.observed) == (position, have)
        assert (found.divergence.expected and found.divergence.expected.digests["sha256"]) == want
        assert (found.shared, found.wanted, found.complete) == (shared, 2, False)


def test_what_is_expected_is_what_image_and_configuration_decide() -> None:
    events = [expected(4, A, kind="action"), expected(4, B, kind="separator"), expected(4, C, kind="image")]
    candidate = Candidate(manifest=MANIFEST, boot=boot(*events))
    assert candidate.expected(4) == (events[2],)
    assert candidate.expected(8) == ()
    assert candidate.name == "flatcar-lab: N"


def test_what_is_accepted_in_an_events_place() -> None:
    """Type and digest; a component of the place's role, as this kind of event measures it; a file that is left open."""
    shim = next(c for c in MANIFEST.components if c.role == "shim")
    kernel = next(c for c in MANIFEST.components if c.role == "kernel")
    flat, image = kernel.flat["sha256"], kernel.authenticode["sha256"]
    candidate = Candidate(manifest=MANIFEST, boot=boot())
    assert candidate.accepts(expected(8, A), measured(8, A), "sha256") == ()
    assert candidate.accepts(expected(8, A), measured(8, B), "sha256") is None
    assert candidate.accepts(expected(8, A), measured(8, A, EventType.EV_ACTION), "sha256") is None
    assert candidate.accepts(expected(8, None), measured(8, A), "sha256") is None
    assert candidate.accepts(expected(8, A), measured(8, A), "sha384") is None
    assert candidate.accepts(expected(9, flat, "file"), measured(9, flat), "sha256") == ((MANIFEST, kernel),)
    assert candidate.accepts(expected(9, image, "file"), measured(9, image), "sha256") == ()
    assert candidate.accepts(expected(4, image, "image"), measured(4, image), "sha256") == ((MANIFEST, kernel),)
    assert candidate.accepts(expected(4, flat, "image"), measured(4, image), "sha256") is None
    assert candidate.accepts(expected(4, shim.authenticode["sha256"], "image"), measured(4, image), "sha256") is None
    free = attrs.evolve(candidate, free_file=b"/free")
    assert free.accepts(expected(9, A, "file", b"/free"), measured(9, B), "sha256") == ()
    assert free.accepts(expected(9, A, "file", b"/other"), measured(9, B), "sha256") is None
    assert free.accepts(expected(8, A, "command", b"/free"), measured(8, B), "sha256") is None
    assert free.accepts(expected(9, A, "file", b"/free"), measured(9, B, EventType.EV_ACTION), "sha256") is None
    assert candidate.accepts(expected(9, A, "file", b"x"), measured(9, B), "sha256") is None


@pytest.mark.parametrize(
    ("role", "changed", "stands_in"),
    [
        ("kernel", {}, True),
        ("kernel", {"machine": "arm64"}, False),
        ("shim", {}, True),
        ("shim", {"mok_list": other_digests()}, False),
        ("shim", {"mok_list_x": other_digests()}, False),
        ("grub", {}, False),
    ],
)
def test_who_may_stand_in(role: str, changed: dict[str, Any], stands_in: bool) -> None:
    """Another release's kernel, a shim with the same lists; never another GRUB, nor a program for another machine."""
    own = next(c for c in MANIFEST.components if c.role == role)
    made = attrs.evolve(own, authenticode=other_digests(), flat=other_digests(), **changed)
    other = attrs.evolve(MANIFEST, components=(made,), boot_paths=())
    candidate = Candidate(manifest=MANIFEST, boot=boot(), others=(other,))
    image = own.authenticode["sha256"]
    found = candidate.accepts(expected(4, image, "image"), measured(4, B), "sha256")
    assert found == (((other, made),) if stands_in else None)
    assert candidate.accepts(expected(4, image, "image"), measured(4, image), "sha256") == ((MANIFEST, own),)


def test_boots_are_compared_by_what_they_explain() -> None:
    """Complete registers before anything else, then what is shared less what is missing, then how far it goes."""

    def one(matched: int, shared: int, wanted: int, complete: bool) -> Following:
        made = following(8, *[()] * matched)
        divergence = (
            None
            if complete
            else follow(Candidate(manifest=MANIFEST, boot=boot(expected(8, A))), 8, (), "sha256").divergence
        )
        return attrs.evolve(made, shared=shared, wanted=wanted, divergence=divergence)

    candidate = Candidate(manifest=MANIFEST, boot=boot())
    assert boot_score((candidate, (one(1, 3, 4, True), one(2, 1, 5, False)))) == (1, 2 - 3, 3)
    assert boot_score((candidate, ())) == (0, 0, 0)
    assert complete_boot((candidate, (one(1, 1, 1, True), one(1, 1, 1, True))))
    assert not complete_boot((candidate, (one(1, 1, 1, True), one(1, 1, 1, False))))


def test_components_are_named_once() -> None:
    candidate = Candidate(manifest=MANIFEST, boot=boot())
    report = Report()
    identify((candidate, (following(4, (), ["shim"], ["shim"], ["kernel"]), following(9, ["kernel"]))), report)
    release = MANIFEST.release or MANIFEST.name
    assert [(i.component, i.release, i.slot, i.boot_path) for i in report.identified] == [
        ("shim", release, None, "N"),
        ("kernel", release, "a", "N"),
    ]
    nameless = attrs.evolve(MANIFEST, release=None, boot_paths=())
    shim = next(c for c in MANIFEST.components if c.role == "shim")
    alone = attrs.evolve(following(4, ()), matched=((measured(4, A), expected(4, A), ((nameless, shim),)),))
    other = Report()
    identify((candidate, (alone,)), other)
    assert [i.release for i in other.identified] == [MANIFEST.name]


def test_what_machines_suggest_is_kept_for_sixty_four() -> None:
    """A40: the oldest goes first; what policies ask for stays."""
    assert MANIFEST.grub is not None
    small = attrs.evolve(MANIFEST, grub=attrs.evolve(MANIFEST.grub, config="linux /flatcar/vmlinuz-a\n"), boot_paths=())
    predictions = Predictions()
    scripts = [b"set linux_append=x%d\n" % i for i in range(65)]
    for script in scripts:
        predictions.with_settings(small, secure_boot=True, oem=script)
    kept = [oem for _, _, oem in predictions._settled]
    assert kept == scripts[1:]
    assert predictions._boots == {}
