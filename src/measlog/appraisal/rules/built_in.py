"""The command line that is built into a kernel: in no event, and bound by the kernel's digest alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measlog.appraisal.report import Report
    from measlog.reference.manifest import Component, ReferenceManifest

__all__ = ["judge_built_in"]


def judge_built_in(
    manifest: ReferenceManifest, kernel: Component, report: Report, *, pcr: int, allow_override: bool
) -> None:
    """Say what the kernel makes of the command line that ``pcr`` was extended with."""
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
        report.find(
            "kernel.built-in",
            f"{kernel.path} of {manifest.name} has arguments built in, {kernel.command_line_use} those that were measured",
            severity="info",
            pcr=pcr,
            observed=kernel.command_line,
        )
    elif kernel.command_line is None:
        reason = kernel.command_line_unread or "the manifest does not say"
        report.skip("built-in command line", f"{kernel.path} of {manifest.name}: {reason}")
