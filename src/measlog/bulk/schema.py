"""The columns of fleet tables and of flat events, and binary columns as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from measlog.errors import MissingExtraError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "EVIDENCE",
    "OPTIONAL_EVIDENCE",
    "VERDICT",
    "BinaryColumn",
    "TableError",
    "pyarrow",
    "verdict_fields",
]

EVIDENCE = ("log", "attest", "signature", "ak", "nonce")
"""What each row of a fleet table must have, all binary."""
OPTIONAL_EVIDENCE = ("pcrs",)
VERDICT = ("status", "code", "pcr", "event", "identified")
"""What an appraisal adds to each row."""


class TableError(TypeError):
    """A table that is no fleet table: a column is missing, or of another type. No row's bytes can raise it."""


def pyarrow() -> Any:
    """The optional package; :class:`~measlog.errors.MissingExtraError` where it is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("pyarrow", "arrow") from None
    return pa


def verdict_fields() -> list[pa.Field]:
    """The columns that an appraisal adds, as Arrow fields."""
    pa = pyarrow()
    words = pa.dictionary(pa.int32(), pa.string())
    return [
        pa.field("status", words, nullable=False),
        pa.field("code", words),
        pa.field("pcr", pa.uint8()),
        pa.field("event", pa.uint32()),
        pa.field("identified", words),
    ]


@frozen(kw_only=True, eq=False)
class BinaryColumn:
    """A column of byte strings as it lies in memory: row ``i`` is ``data[starts[i]:ends[i]]``; nothing is copied.

    ``data`` is uint8, ``starts`` and ``ends`` are int64, ``null`` says which rows have no value (they have no bytes).
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    null: NDArray[np.bool_]

    @classmethod
    def from_arrow(cls, array: pa.Array) -> BinaryColumn:
        """Look into an Arrow array of binary, string, large, view, fixed-size or dictionary type.

        Raises TableError for others.
        """
        pa = pyarrow()
        kind = array.type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            try:
                array = array.cast(pa.large_binary())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
                raise TableError(f"a column of {kind} where binary is needed") from None
        count, first = len(array), array.offset
        width = np.int64 if pa.types.is_large_binary(array.type) else np.int32
        _, offsets, values = array.buffers()
        if count == 0 or offsets is None:
            bounds = np.zeros(count + 1, dtype=np.int64)
        else:
            bounds = np.frombuffer(offsets, dtype=width)[first : first + count + 1].astype(np.int64)
        data = np.frombuffer(values, dtype=np.uint8) if values is not None else np.zeros(0, dtype=np.uint8)
        null = np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
        starts, ends = bounds[:-1], np.where(null, bounds[:-1], bounds[1:])
        # Offsets come with the table: a file may hold any, and everything below relies on them.
        if count and (starts.min() < 0 or ends.max() > len(data) or bool((ends < starts).any())):
            raise TableError("a binary column whose offsets lie outside its data")
        return cls(data=data, starts=starts, ends=ends, null=null)

    @classmethod
    def from_list(cls, values: list[bytes]) -> BinaryColumn:
        """The column of these byte strings."""
        bounds = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum([len(value) for value in values], out=bounds[1:])
        data = np.frombuffer(b"".join(values), dtype=np.uint8)
        return cls(data=data, starts=bounds[:-1], ends=bounds[1:], null=np.zeros(len(values), dtype=np.bool_))

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each row in bytes."""
        return self.ends - self.starts

    def __getitem__(self, row: int) -> bytes:
        """The bytes of one row."""
        return self.data[self.starts[row] : self.ends[row]].tobytes()

    def take(self, rows: NDArray[np.int64]) -> BinaryColumn:
        """Some rows; no bytes are copied."""
        return BinaryColumn(data=self.data, starts=self.starts[rows], ends=self.ends[rows], null=self.null[rows])

    def cells(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        """The bytes of some rows, one after the other."""
        view = memoryview(self.data)  # type: ignore[arg-type,unused-ignore]
        bounds = zip(self.starts[rows].tolist(), self.ends[rows].tolist(), strict=True)
        return (bytes(view[start:end]) for start, end in bounds)
