"""The command lines that are built into the kernels of a manifest, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measlog.reference.manifest import ReferenceManifest

__all__ = ["built_in_lines", "unread_command_lines"]


def built_in_lines(manifest: ReferenceManifest) -> list[tuple[str, str]]:
    """Path and built-in command line of each kernel that tells."""
    return [(c.path, c.built_in or "no command line") for c in manifest.components if c.command_line is not None]


def unread_command_lines(manifest: ReferenceManifest) -> list[tuple[str, str]]:
    """Path of each kernel that does not tell, and why."""
    return [(c.path, c.command_line_unread) for c in manifest.components if c.command_line_unread is not None]
