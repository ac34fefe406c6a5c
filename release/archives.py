"""Source archives whose bytes follow from their files alone."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

__all__ = ["normalised"]


def normalised(archive: Path, epoch: int) -> bytes:
    """The tar.gz with its members in order, of one time, of no user, and with no trace of the machine that packed it."""
    with tarfile.open(archive) as source:
        members = {member.name: member for member in source.getmembers()}
        contents = {name: source.extractfile(m) for name, m in members.items() if m.isfile()}
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as target:
            for name, member in sorted(members.items()):
                if not member.isfile():
                    if member.isdir():
                        continue
                    raise ValueError(f"{archive.name}: {name} is neither a file nor a folder")
                clean = tarfile.TarInfo(name)
                clean.size, clean.mtime, clean.mode = member.size, epoch, 0o644
                target.addfile(clean, contents[name])
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=epoch) as stream:
        stream.write(tar.getvalue())
    return packed.getvalue()
