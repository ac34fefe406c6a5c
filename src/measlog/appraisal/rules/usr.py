"""USR: its contents are in no register, its root hash is in the kernel, or in the command line of a unified image."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measlog.appraisal.report import Report
    from measlog.reference.manifest import ReferenceManifest

__all__ = ["judge_usr"]


def judge_usr(
    manifest: ReferenceManifest, roots: Container[bytes | None], whose: str, report: Report, *, allow_unchecked: bool
) -> None:
    """Say whether USR was compared with one of ``roots`` when the manifest was built; ``whose`` hash that is."""
    known = [usr for usr in manifest.usr if usr.root is not None and usr.root in roots]
    if any(usr.status == "verified" for usr in known):
        report.check("usr", f"the root of USR's hash tree, as it was computed for the manifest {manifest.name}")
    elif manifest.usr and not allow_unchecked:
        report.find(
            "usr.unchecked",
            f"the manifest {manifest.name} was built without checking USR against the {whose}'s root hash",
        )
    else:
        report.skip("usr", f"the manifest {manifest.name} says nothing about what the {whose}'s root hash binds")
