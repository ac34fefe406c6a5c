"""Details of verdicts: which event is blamed, which boots are looked at, and what a verifier keeps."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable
from dataclasses import replace

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import Policy
from measlog.appraisal.paths import Predictions
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import HandOver
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.errors import PolicyError
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.machine import SHA256, appraise, codes, good_log, machine, where
from tests.appraisal.test_boundaries import FAILURE, INVOCATION, SUCCESS, action, without_exit
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.test_impostors import both, component, release, standing_in
from tests.appraisal.test_secure_boot import config, swap
from tests.appraisal.test_unusual import judged, with_oem

GOOD = "flatcar-lab-good"


# The boots that are looked at


def test_each_prediction_is_of_its_own_manifest_state_and_configuration() -> None:
    lab, other = lab_manifest(GOOD), release("kernel")
    predictions = Predictions()
    for manifest in (lab, other):
        kernel = component(manifest, "kernel")
        for secure_boot in (True, False):
            for oem in (None, b"set linux_append=x\n"):
                boots = predictions.of(manifest, secure_boot=secure_boot, oem=oem)
                assert boots
                if oem is not None:
                    assert predictions.with_settings(manifest, secure_boot=secure_boot, oem=oem) == boots
                for boot in boots:
                    assert (boot.secure_boot, boot.oem) == (secure_boot, oem is not None)
                    assert kernel.flat["sha256"] in {e.digests.get("sha256") for e in boot.of(9)}
                    started = {e.digests.get("sha256") for e in boot.of(4)}
                    assert (kernel.authenticode["sha256"] in started) == secure_boot


def test_predictions_keep_the_manifests_that_they_are_of() -> None:
    """They are found by identity: a manifest that was freed could lend its identity to another."""
    predictions = Predictions()
    manifest = release("kernel")
    predictions.of(manifest, secure_boot=True, oem=None)
    assert any(kept is manifest for kept in predictions._manifests.values())


@pytest.mark.parametrize("secure_boot", [True, False])
def test_the_boot_of_the_other_state_is_not_this_ones(secure_boot: bool) -> None:
    """With Secure Boot the kernel is in PCR 4, without it is not: each is refused where the policy demands the other."""
    policy = Policy(name="paths", rule=BootPaths(secure_boot=not secure_boot), required={4, 8, 9})
    name = GOOD if secure_boot else "sb-off-good"
    result = appraise(policy, name=name, manifests=[lab_manifest(GOOD)])
    assert result.status == "contraindicated"
    assert 4 in {f.pcr for f in result.findings if f.severity == "error"}


def with_another_grub(manifest: ReferenceManifest) -> ReferenceManifest:
    """The release with another GRUB and another configuration."""
    assert manifest.grub is not None
    grub = component(manifest, "grub")
    digests = {bank: hashlib.new(bank, b"another GRUB").digest() for bank in grub.authenticode}
    made = attrs.evolve(grub, authenticode=digests, flat=digests)
    return attrs.evolve(
        manifest,
        components=tuple(made if c is grub else c for c in manifest.components),
        grub=attrs.evolve(manifest.grub, config=f"set another=one\n{manifest.grub.config}"),
    )


def test_a_shim_of_another_release_may_start_this_ones_grub() -> None:
    """The updater replaces neither; a reinstalled shim with the same lists is as good as the one it replaces."""
    other = with_another_grub(release("shim"))
    manifests = [lab_manifest(GOOD), other]
    result = appraise(ml.policy.flatcar(), standing_in(4, "shim", other), manifests=manifests)
    assert (result.status, codes(result)) == ("affirming", set())


def test_a_grub_of_another_release_does_not_run_this_ones_commands() -> None:
    other = with_another_grub(release("kernel"))
    manifests = [lab_manifest(GOOD), other]
    result = appraise(ml.policy.flatcar(), standing_in(4, "grub", other), manifests=manifests)
    assert result.status == "contraindicated"
    assert {f.pcr for f in result.findings if f.severity == "error"} <= {4, 8}
    kernel = both(standing_in(4, "kernel", other), standing_in(9, "kernel", other))
    assert appraise(ml.policy.flatcar(), kernel, manifests=manifests).status == "affirming"


def test_an_id_that_is_no_text() -> None:
    for setting in (b"set oem_id=\xff", b"set linux_append=\xff"):
        assert judged(setting).status == "contraindicated"


def test_settings_leave_only_the_oem_file_open() -> None:
    """What a machine's OEM file contains is free where all that it did is known; no other file is."""
    events = with_oem(b"set linux_append=quiet")
    policy = ml.policy.flatcar(allowed_arguments=["quiet"])
    verifier = ml.Verifier([lab_manifest(GOOD)], policy=policy)
    places = [i for i, e in enumerate(events) if e.pcr == 9]
    verdicts = {}
    for i in places:
        changed = [*events[:i], events[i].rehashed(b"another file"), *events[i + 1 :]]
        verdicts[events[i].data] = verifier.appraise(machine(good_log().with_events(changed))).status
    assert verdicts.pop(b"(hd0,gpt6)/grub.cfg\0") == "affirming"
    assert set(verdicts.values()) == {"contraindicated"}
    assert b"/flatcar/vmlinuz-a\0" in verdicts


# The event that is blamed


I, S, F = (action(text) for text in (INVOCATION, SUCCESS, FAILURE))  # noqa: E741 - the letters of the rule
OTHER = action(b"more")


@pytest.mark.parametrize(
    ("tail", "blamed"),
    [
        pytest.param([S, I, S], 0, id="success before it was asked for"),
        pytest.param([OTHER, F, I, S], 1, id="failure before it was asked for"),
        pytest.param([I, S, OTHER], 2, id="something behind"),
        pytest.param([I, S, I, S], 2, id="twice"),
        pytest.param([I, F, I, S, OTHER, OTHER], 4, id="something behind a second attempt"),
        pytest.param([I, OTHER, S], 0, id="something between"),
        pytest.param([I], 0, id="no answer"),
        pytest.param([I, F], 1, id="failed and never again"),
    ],
)
def test_the_first_event_that_fits_nowhere_is_blamed(tail: list[ForgedEvent], blamed: int) -> None:
    """PFP 8.2: invocations, each with its answer, the last of them a success, and nothing behind it."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        return [*without_exit(events), *tail]

    result = appraise(Policy(name="hand-over", rule=HandOver(), required=()), change)
    (finding,) = result.findings
    first = len(list(without_exit(good_log().events))) + 1
    assert (finding.code, finding.event) == ("handover.order", first + blamed)


def test_a_problem_of_pcr_7_names_its_event() -> None:
    policy = Policy(name="on", rule=SecureBoot(), required={7})
    place = next(i for i, e in enumerate(good_log().events) if e.pcr == 7) + 1
    result = appraise(policy, swap("SecureBoot", config("SecureBoot", b"\2")))
    (finding,) = (f for f in result.findings if f.code == "secureboot.value")
    assert (finding.event, finding.message) == (place, "SecureBoot is 02, not 00 or 01")


# What a verifier is


def test_a_verifier_pickles_without_what_it_predicted() -> None:
    policy = ml.policy.flatcar()
    verifier = ml.Verifier([lab_manifest(GOOD)], policy=policy)
    evidence = machine(good_log())
    before = pickle.dumps(verifier)
    result = verifier.appraise(evidence)
    assert result.status == "affirming"
    # What was predicted is kept for the next machine.
    assert verifier._predictions._manifests
    # Having appraised a machine adds nothing but the references that pickle keeps of equal values.
    assert len(pickle.dumps(verifier)) < 1.1 * len(before)
    again = pickle.loads(pickle.dumps(verifier))
    assert again.appraise(evidence) == result
    assert set(vars(again)) == set(vars(verifier))


def test_a_verifier_says_what_it_is_and_what_it_is_not() -> None:
    one, two = lab_manifest(GOOD), attrs.evolve(release("kernel"), name="two")
    verifier = ml.Verifier([one, two], policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True)
    assert repr(verifier) == f"<Verifier flatcar, Secure Boot on: {one.name}, two, 0 baselines>"
    assert verifier.unsafe_unsigned_manifests is True
    assert ml.Verifier([one], policy=ml.policy.flatcar()).unsafe_unsigned_manifests is False
    with pytest.raises(PolicyError, match="a policy is needed, not str"):
        ml.Verifier([one], policy="flatcar")  # type: ignore[arg-type]


def test_a_false_text_beside_a_settings_digest() -> None:
    """A2: the log says an argument that is admitted, the digest is of one that is not."""
    lie = where(
        lambda e: e.pcr == 8,
        lambda e: (
            replace(e.rehashed(b"set linux_append=init=/bin/sh"), data=b"grub_cmd: set linux_append=quiet\0"),
            e,
        ),
    )
    result = appraise(ml.policy.flatcar(allowed_arguments=["quiet"]), lie, manifests=[lab_manifest(GOOD)])
    assert result.status == "contraindicated"
    assert SHA256 in good_log().algorithms
