"""Reading input with a bound, and writing output whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from pathlib import Path

from measlog.cli.errors import InputError, about
from measlog.limits import DEFAULT_LIMITS
from measlog.log import EventLog

__all__ = ["KEY_LIMIT", "MANIFEST_LIMIT", "read", "read_log", "write", "write_below"]

KEY_LIMIT = 1 << 20
"""Keys, quotes and register files are a few kilobytes; this is in bytes."""
MANIFEST_LIMIT = 64 << 20

_CHUNK = 1 << 20


def read(path: str | Path, limit: int) -> bytes:
    """The bytes of a file, at most ``limit`` of them.

    Files of the kernel say that their size is 0 and pipes have none, so the end is where nothing more comes.
    """
    with about(path), Path(path).open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size > limit:
            raise InputError(f"{path}: {status.st_size} bytes, at most {limit} are read")
        chunks = []
        left = limit + 1
        while left and (chunk := file.read(min(left, _CHUNK))):
            chunks.append(chunk)
            left -= len(chunk)
    if not left:
        raise InputError(f"{path}: more than {limit} bytes, no more are read")
    return b"".join(chunks)


def read_log(path: str | Path) -> EventLog:
    """The event log in a file."""
    data = read(path, DEFAULT_LIMITS.log_size)
    with about(path):
        return EventLog.from_bytes(data)


def write(path: str | Path, data: bytes) -> None:
    """Put ``data`` into a file that is either whole or untouched; ``-`` is standard output."""
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    with about(path):
        if target.is_symlink():
            target = target.resolve()
        if target.exists() and not target.is_file():
            if target.is_dir():
                raise InputError(f"{path}: is a directory")
            target.write_bytes(data)  # a device or a pipe: there is nothing to rename
            return
        draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def write_below(folder: str | Path, name: str, data: bytes) -> None:
    """Put ``data`` into the file ``name`` (with slashes) below a folder, which is made where it is missing."""
    target = Path(folder, name)
    with about(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
    write(target, data)
