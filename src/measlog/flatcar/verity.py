"""dm-verity as Flatcar sets it up: where the root hash stands in a kernel."""

from __future__ import annotations

import re

from measlog.errors import FormatError

__all__ = ["ROOT_HASH_OFFSETS", "embedded_root_hash"]

ROOT_HASH_OFFSETS = {"amd64": 64, "arm64": 512}
"""Byte offset of the 64 hexadecimal digits in the kernel file, by architecture."""

_DIGITS = re.compile(rb"[0-9a-f]{64}")
_ANY_CASE = re.compile(rb"[0-9A-Fa-f]{64}")


def embedded_root_hash(kernel: bytes | memoryview, arch: str) -> bytes:
    """The root hash (32 bytes) that a Flatcar kernel carries.

    FormatError where there is none, and where it is not in lower case: GRUB then adds no ``verity.usrhash`` at all, and
    the machine would boot whatever USR it finds.
    """
    offset = ROOT_HASH_OFFSETS.get(arch)
    if offset is None:
        raise FormatError(f"no place is known for the dm-verity root hash of {arch}", path="kernel")
    digits = bytes(kernel[offset : offset + 64])
    if _DIGITS.fullmatch(digits):
        return bytes.fromhex(digits.decode())
    if _ANY_CASE.fullmatch(digits):
        raise FormatError(
            "the dm-verity root hash has upper-case digits, which the boot loader does not accept",
            offset=offset,
            path="kernel",
        )
    raise FormatError(
        "expected the dm-verity root hash, 64 lower-case hexadecimal digits", offset=offset, path="kernel"
    )
