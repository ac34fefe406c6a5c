"""The command line that is built into a kernel, and what a verdict makes of it."""

from __future__ import annotations

import attrs
import pytest

import measlog as ml
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.machine import good_log, machine
from tests.appraisal.test_captures import lab_manifest
from tests.evidence.test_further import records, verify


def with_built_in(name: str, **changes: str | None) -> ReferenceManifest:
    """A lab manifest that says this of each kernel."""
    made = lab_manifest(name)
    components = (
        attrs.evolve(one, **changes) if one.role in {"kernel", "uki"} else one  # type: ignore[arg-type]
        for one in made.components
    )
    return attrs.evolve(made, components=tuple(components))


BUILT_IN: list[tuple[dict[str, str], dict[str, bool], str, list[tuple[str, str, str | None]]]] = [
    ({"command_line": ""}, {}, "affirming", []),
    ({"command_line": "a=1", "command_line_use": "default"}, {}, "affirming", []),
    ({"command_line": "a=1", "command_line_use": "before"}, {}, "affirming", [("kernel.built-in", "info", "a=1")]),
    ({"command_line": "a=1", "command_line_use": "after"}, {}, "affirming", [("kernel.built-in", "info", "a=1")]),
    (
        {"command_line": "a=1", "command_line_use": "instead"},
        {},
        "contraindicated",
        [("kernel.built-in-override", "error", "a=1")],
    ),
    (
        {"command_line": "a=1", "command_line_use": "instead"},
        {"allow_built_in_override": True},
        "affirming",
        [("kernel.built-in-override", "info", "a=1")],
    ),
]


@pytest.mark.parametrize(("said", "options", "status", "expected"), BUILT_IN)
def test_what_a_kernel_makes_of_the_measured_command_line(
    said: dict[str, str],
    options: dict[str, bool],
    status: str,
    expected: list[tuple[str, str, str | None]],
) -> None:
    manifest = with_built_in("flatcar-lab-good", **said)
    policy = ml.policy.flatcar(allow_built_in_override=options.get("allow_built_in_override", False))
    result = ml.Verifier([manifest], policy=policy, unsafe_unsigned_manifests=True).appraise(machine(good_log()))
    found = [(f.code, f.severity, f.observed) for f in result.findings if f.code.startswith("kernel.built-in")]
    assert (result.status, found) == (status, expected)
    assert "built-in command line" not in {n.subject for n in result.not_covered}


def test_what_is_built_into_a_kernel_and_not_known_is_said() -> None:
    manifest = with_built_in("flatcar-lab-good", command_line_unread="a kernel packed by lz4 is not read")
    result = ml.Verifier([manifest], policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True).appraise(
        machine(good_log())
    )
    assert result.status == "affirming"
    assert [n.reason for n in result.not_covered if n.subject == "built-in command line"] == [
        f"flatcar/vmlinuz-a of {manifest.name}: a kernel packed by lz4 is not read"
    ]


def test_what_one_manifest_says_of_a_kernel_is_not_lost_in_another_that_does_not() -> None:
    """Two manifests name the same kernel, one of them from before manifests had this."""
    silent = lab_manifest("flatcar-lab-good")
    says = attrs.evolve(with_built_in("flatcar-lab-good", command_line="a=1", command_line_use="instead"), name="newer")
    for manifests in ([silent, says], [says, silent], [says, attrs.evolve(says, name="same")]):
        verifier = ml.Verifier(manifests, policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True)
        result = verifier.appraise(machine(good_log()))
        assert [f.code for f in result.findings if f.severity == "error"] == ["kernel.built-in-override"]
        assert "built-in command line" not in {n.subject for n in result.not_covered}
    verifier = ml.Verifier(
        [silent, attrs.evolve(silent, name="same")], policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True
    )
    result = verifier.appraise(machine(good_log()))
    assert [n.reason for n in result.not_covered if n.subject == "built-in command line"] == [
        f"flatcar/vmlinuz-a of {silent.name}: the manifest does not say"
    ]


def test_a_kernel_that_ignores_the_command_line_of_its_image_is_refused() -> None:
    made = lab_manifest("uki")
    (image,) = (one for one in made.components if one.role == "uki")
    other = attrs.evolve(image, command_line="quiet", command_line_use="instead")
    manifest = attrs.evolve(made, components=tuple(other if one is image else one for one in made.components))
    for allow, status in ((False, "contraindicated"), (True, "affirming")):
        policy = ml.policy.flatcar(allow_built_in_override=allow)
        verifier = ml.Verifier([manifest], policy=policy, unsafe_unsigned_manifests=True)
        result = verifier.appraise(verify("uki", records("uki")))
        assert result.status == status
        assert [(f.code, f.pcr) for f in result.findings] == [("kernel.built-in-override", 11)]
