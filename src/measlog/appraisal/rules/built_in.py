"""The command line that is built into a kernel: in no event, and bound by the kernel's digest alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measlog.appraisal.report import Report
    from measlog.reference.manifest import Component, ReferenceManifest

__all__ = ["judge_built_in"]


def judge_built_in(
    kernels: Sequence[tuple[ReferenceManifest, Component]], report: Report, *, pcr: int, allow_override: bool
) -> None:
    """Say what the kernel makes of the command line that ``pcr`` was extended with.

    ``kernels`` are the manifests that name the kernel that was started, with what each says of it. A manifest that says
    nothing takes nothing from what another one says.
    """
    said = {(c.command_line, c.command_line_use): (m, c) for m, c in reversed(kernels) if c.command_line is not None}
    if kernels and not said:
        manifest, kernel = kernels[0]
        reason = kernel.command_line_unread or "the manifest does not say"
        report.skip("built-in command line", f"{kernel.path} of {manifest.name}: {reason}")
    for manifest, kernel in said.values():
        if kernel.command_line_use == "instead":
            # What was measured is not what the kernel uses: neither its arguments nor the root hash of USR reach it.
            report.find(
                "kernel.built-in-override",
                f"{kernel.path} of {manifest.name} uses its built-in command line in place of the one that was measured",
                severity="info" if allow_override else "error",
                pcr=pcr,
                observed=kernel.command_line,
            )
        elif kernel.command_line_use in {"before", "after"}:
            place = kernel.command_line_use
            report.find(
                "kernel.built-in",
                f"{kernel.path} of {manifest.name} has arguments built in, {place} those that were measured",
                severity="info",
                pcr=pcr,
                observed=kernel.command_line,
            )
