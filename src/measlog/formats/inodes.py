"""What file systems with inodes have in common: files by path, found from the root directory on."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, LimitExceededError
from measlog.limits import Limits

__all__ = ["InodeFile", "walk_files"]


@frozen(kw_only=True)
class InodeFile:
    """A regular file: ``path`` without leading slash, ``size`` in bytes, its inode's number."""

    path: str = field(validator=instance_of(str))
    size: int = field(validator=instance_of(int))
    inode: int = field(validator=instance_of(int))


def walk_files(
    root: int,
    look: Callable[[int, str], tuple[int, int]],
    names: Callable[[int, str], Iterable[tuple[str, int]]],
    *,
    limits: Limits,
    clause: str,
) -> tuple[InodeFile, ...]:
    """Every regular file below the directory ``root``, by path.

    ``look`` gives mode and size of an inode, ``names`` the entries of a directory with their inodes; both are told the
    path for their errors. Directories that loop or are there twice are a FormatError, too many or too deep ones a
    LimitExceededError.
    """
    found: list[InodeFile] = []
    seen = {root}
    pending = [("", root, 1)]
    while pending:
        folder, number, depth = pending.pop()
        if depth > limits.depth:
            raise LimitExceededError(f"deeper than {limits.depth} folders", path=folder, clause=clause)
        if not stat.S_ISDIR(look(number, folder or "/")[0]):
            raise FormatError("is no directory", path=folder or "/", clause=clause)
        for name, child in names(number, folder or "/"):
            mode, size = look(child, folder + name)
            if stat.S_ISDIR(mode):
                if child in seen:
                    raise FormatError("a directory that is there twice", path=folder + name, clause=clause)
                seen.add(child)
                pending.append((f"{folder}{name}/", child, depth + 1))
            elif stat.S_ISREG(mode):
                found.append(InodeFile(path=folder + name, size=size, inode=child))
            if len(found) + len(seen) > limits.fat_files:
                raise LimitExceededError(f"more than {limits.fat_files} files", path=folder, clause=clause)
    return tuple(sorted(found, key=lambda file: file.path))
