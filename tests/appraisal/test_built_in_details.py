"""The sentences about a command line that is built into a kernel, and the register that they speak of."""

from __future__ import annotations

import pytest

import measlog as ml
from tests.appraisal.machine import good_log, lines, machine
from tests.appraisal.test_built_in import with_built_in


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("before", "info kernel.built-in PCR 8: {} has arguments built in, before those that were measured"),
        ("after", "info kernel.built-in PCR 8: {} has arguments built in, after those that were measured"),
        (
            "instead",
            "error kernel.built-in-override PCR 8: {} uses its built-in command line in place of the one that was measured",
        ),
    ],
)
def test_what_is_said_of_a_built_in_command_line(use: str, said: str) -> None:
    """The manifest, the kernel's file, where the arguments stand, and the arguments."""
    manifest = with_built_in("flatcar-lab-good", command_line="a=1", command_line_use=use)
    verifier = ml.Verifier([manifest], policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True)
    expected = f"{said.format('flatcar/vmlinuz-a of flatcar-lab')} | observed a=1"
    assert [one for one in lines(verifier.appraise(machine(good_log()))) if "built-in" in one] == [expected]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "the manifest does not say"),
        ({"command_line_unread": "lz4 is not unpacked"}, "lz4 is not unpacked"),
    ],
)
def test_why_a_built_in_command_line_is_not_known(changes: dict[str, str], reason: str) -> None:
    nothing: dict[str, str | None] = {"command_line": None, "command_line_use": None}
    manifest = with_built_in("flatcar-lab-good", **{**nothing, **changes})
    verifier = ml.Verifier([manifest], policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True)
    result = verifier.appraise(machine(good_log()))
    skipped = [s for s in result.not_covered if s.subject == "built-in command line"]
    assert [s.reason for s in skipped] == [f"flatcar/vmlinuz-a of flatcar-lab: {reason}"]
