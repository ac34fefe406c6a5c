"""The machines that wheels with compiled lanes are built for."""

from __future__ import annotations

from attrs import frozen

__all__ = ["ABI", "TARGETS", "Target"]

ABI = ("cp311", "abi3")
"""Python and ABI tag: the limited API as of CPython 3.11 (``Py_LIMITED_API`` 0x030B0000)."""


@frozen
class Target:
    """A machine: its name here, what zig calls it, and the platform tag of its wheel."""

    name: str
    zig: str
    platform: str

    @property
    def linker(self) -> tuple[str, ...]:
        """Python's symbols come from the interpreter that loads the module: Mach-O wants that said."""
        return ("-undefined", "dynamic_lookup") if "macos" in self.zig else ()


# glibc 2.17 is manylinux2014, the oldest that Python 3.11's wheels are made for; musl 1.2 is Alpine 3.13 and later; macOS
# 11 is the first on arm64.
TARGETS = (
    Target("linux-x86_64", "x86_64-linux-gnu.2.17", "manylinux2014_x86_64.manylinux_2_17_x86_64"),
    Target("linux-aarch64", "aarch64-linux-gnu.2.17", "manylinux2014_aarch64.manylinux_2_17_aarch64"),
    Target("musl-x86_64", "x86_64-linux-musl", "musllinux_1_2_x86_64"),
    Target("musl-aarch64", "aarch64-linux-musl", "musllinux_1_2_aarch64"),
    Target("macos-x86_64", "x86_64-macos.11.0", "macosx_11_0_x86_64"),
    Target("macos-arm64", "aarch64-macos.11.0", "macosx_11_0_arm64"),
)
