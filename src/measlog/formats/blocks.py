"""What the disk readers read from: bytes at an offset, each read compared with what is there."""

from __future__ import annotations

from typing import Protocol

from attrs import field, frozen
from attrs.validators import and_, instance_of
from attrs.validators import ge as at_least

from measlog.errors import TruncatedError

__all__ = ["Blocks", "BytesBlocks", "Window"]


class Blocks(Protocol):
    """Bytes that can be read anywhere: a file, a buffer or part of one. ``size`` in bytes."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; TruncatedError where there are fewer."""
        ...


@frozen
class BytesBlocks:
    """A buffer in memory."""

    data: bytes | memoryview = field(repr=lambda data: f"<{len(data)} bytes>")

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; TruncatedError where there are fewer."""
        if offset < 0 or length < 0 or offset + length > len(self.data):
            raise TruncatedError(f"{length} bytes expected, there are {len(self.data)} in all", offset=offset)
        return bytes(self.data[offset : offset + length])


@frozen
class Window:
    """``size`` bytes of other blocks, from ``start`` on: a partition."""

    blocks: Blocks = field(repr=False)
    start: int = field(validator=and_(instance_of(int), at_least(0)))
    size: int = field(validator=and_(instance_of(int), at_least(0)))

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; TruncatedError where there are fewer."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise TruncatedError(f"{length} bytes expected, there are {self.size} in all", offset=offset)
        return self.blocks.read(self.start + offset, length)
