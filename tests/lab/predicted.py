"""Which boots of the lab are predicted from what, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Mapping

from fixtures.lab.scenarios import Scenario

__all__ = ["NOT_PREDICTED", "OWN_IMAGE", "QUICK", "typed"]

OWN_IMAGE = frozenset(
    {
        "refused-unsigned-kernel",
        "sb-off-tampered-kernel",
        "tampered-db-key",
        "tampered-grub-config",
        "tampered-grub-modules",
        "tampered-kernel",
        "tampered-mok-key",
        "tampered-mok-validation",
        "tampered-older-shim",
        "uki-tampered-cmdline",
    }
)
"""Boots of programs that the manifest of the good twin does not know.

Their fixtures came from images with other kernels, byte for byte, than are built here: what predicts such a boot is the
image itself, so it is booted now.
"""

QUICK = frozenset({"refused-unsigned-kernel", "tampered-grub-modules", "tampered-mok-key"})
"""Those that every run of the lab's tests boots; with MEASLOG_LAB=all it boots all of them."""

NOT_PREDICTED: Mapping[str, str] = {}
"""Boots that nothing predicts, with the reason."""


def typed(row: Scenario) -> list[bytes]:
    """The lines that the person at the console gives to GRUB, whose command line they open by a ``c``."""
    assert not row.typing or row.typing[0].keys == "c"
    return [step.keys.removesuffix("\r").encode() for step in row.typing[1:]]
