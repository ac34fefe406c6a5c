"""Debian 13 in a root of its own, made with debootstrap and kept in the cache; MEASLOG_TRIXIE names another place."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.interop.swtpm import need

PACKAGES = (
    "systemd", "systemd-cryptsetup", "cryptsetup-bin", "libtss2-tcti-swtpm0t64", "libtss2-esys-3.0.2-0t64",
    "libtss2-rc0t64", "libtss2-mu-4.0.1-0t64", "clevis", "clevis-tpm2", "tpm2-tools",
)  # fmt: skip


def trixie(tool: str) -> Path:
    """The root, made where the program ``tool`` is not in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for chroot")
    place = Path(os.environ.get("MEASLOG_TRIXIE") or Path.home() / ".cache" / "measlog-lab" / "trixie")
    if not (place / tool).exists():
        need("debootstrap")
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "trixie", str(place)],
            check=True,
            capture_output=True,
            timeout=900,
        )
    return place
