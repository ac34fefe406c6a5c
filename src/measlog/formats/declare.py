"""Reading and writing bytes by a ``construct`` declaration, with measlog's errors."""

from __future__ import annotations

import io
from typing import Any

import construct

from measlog.errors import FormatError, TruncatedError, UnsupportedError

__all__ = ["build", "parse"]


def parse(declaration: Any, data: bytes, *, clause: str, path: str = "", base: int = 0, exact: bool = True) -> Any:
    """Read ``data`` as ``declaration``; ``base`` is added to the offsets that errors name.

    Raises :class:`~measlog.errors.TruncatedError` where the bytes end early and
    :class:`~measlog.errors.FormatError` where a value is not allowed or, with ``exact``, bytes are left over.
    """
    stream = io.BytesIO(data)
    try:
        value = declaration.parse_stream(stream)
    except construct.StreamError as error:
        raise TruncatedError(
            f"the {len(data)} bytes end inside {_field(error) or 'the structure'}",
            offset=base + len(data),
            path=path or None,
            clause=clause,
        ) from None
    except construct.ConstructError as error:
        raise _explained(error, path=path, offset=base + stream.tell(), clause=clause) from None
    except (OverflowError, UnicodeDecodeError, ValueError) as error:
        raise FormatError(str(error), offset=base + stream.tell(), path=path or None, clause=clause) from None
    if exact and stream.tell() != len(data):
        raise FormatError(
            f"{len(data) - stream.tell()} bytes are left over",
            offset=base + stream.tell(),
            path=path or None,
            clause=clause,
        )
    return value


def build(declaration: Any, value: object) -> bytes:
    """Write ``value`` as ``declaration`` says."""
    built: bytes = declaration.build(value)
    return built


def _field(error: construct.ConstructError) -> str:
    """The field that construct names, in measlog's spelling."""
    return (getattr(error, "path", None) or "").removeprefix("(parsing)").replace(" -> ", ".").strip(". ")


def _explained(error: construct.ConstructError, *, path: str, offset: int, clause: str) -> FormatError:
    where = ".".join(part for part in (path, _field(error)) if part) or None
    kind: type[FormatError] = FormatError
    if isinstance(error, construct.MappingError | construct.SwitchError):
        kind = UnsupportedError
    # construct puts "Error in path ..." before what a person wants to read.
    text = str(error).split("\n", 1)[-1].strip()
    return kind(text or type(error).__name__, offset=offset, path=where, clause=clause)
