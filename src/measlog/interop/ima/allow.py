"""Allow-lists: which digests a name may have.

One line a file, as ``sha256sum`` prints it (``HEX  NAME``, the algorithm told by the length), or with the algorithm before
the digest (``sha256:HEX  NAME``, ``verity:sha256:HEX  NAME`` for fs-verity); empty lines and those that start with ``#``
are passed over. A name may have any number of digests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, Self

from attrs import field, frozen

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.formats.cursor import encode_text
from measlog.interop.ima.entry import ImaEntry
from measlog.interop.ima.templates import FileDigest
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["VERDICTS", "AllowList", "Verdict", "verdict"]

Verdict = Literal[
    "allowed", "other-digest", "unknown-name", "other-algorithm", "boot-aggregate", "violation", "not-covered"
]
VERDICTS: tuple[Verdict, ...] = (
    "allowed",
    "other-digest",
    "unknown-name",
    "other-algorithm",
    "boot-aggregate",
    "violation",
    "not-covered",
)
"""What a look-up says.

``allowed``: name and digest are in the list. ``other-digest``: the name is, with other digests. ``other-algorithm``: the
name is, with no digest that could be compared with this one. ``boot-aggregate``: the first entry, which is compared with
the firmware's registers and with no list. ``violation``: the kernel could not say what was read. ``not-covered``: the
template hash is not that of the data, or the entry states no digest.
"""

_LINE = re.compile(
    rb"(?P<escaped>\\)?(?:(?:(?P<kind>verity|ima):)?(?P<algorithm>[a-z0-9-]{1,63}):)?"
    rb"(?P<digest>(?:[0-9a-fA-F]{2}){16,64}) [ *](?P<name>.+)"
)
_BY_SIZE = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
_REFUSED = frozenset({"md4", "md5", "rmd128"})
_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}

Known = tuple[str, str, bytes]


def _read_only(names: Mapping[bytes, frozenset[Known]]) -> Mapping[bytes, frozenset[Known]]:
    return MappingProxyType(dict(names))


@frozen
class AllowList:
    """Names with the digests that they may have; names are as IMA logs them, with underscores for spaces."""

    names: Mapping[bytes, frozenset[Known]] = field(repr=False, converter=_read_only)
    """By name the kinds, algorithms and digests."""

    @classmethod
    def of(cls, files: Iterable[tuple[str, FileDigest]]) -> Self:
        """The list of these names and digests."""
        found: dict[bytes, set[Known]] = {}
        for name, digest in files:
            key = encode_text(name).replace(b" ", b"_")
            found.setdefault(key, set()).add((digest.kind, digest.algorithm, digest.digest))
        return cls({name: frozenset(known) for name, known in found.items()})

    @classmethod
    def from_text(cls, text: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read a list. Raises :class:`~measlog.errors.FormatError` with the number of the line."""
        if len(text) > limits.log_size:
            raise LimitExceededError(f"the list has {len(text)} bytes, more than the {limits.log_size} allowed")
        found: dict[bytes, set[Known]] = {}
        offset = 0
        for number, line in enumerate(text.split(b"\n"), start=1):
            stripped = line.removesuffix(b"\r")
            if stripped and not stripped.startswith(b"#"):
                name, known = _line(stripped, number, offset)
                found.setdefault(name, set()).add(known)
            offset += len(line) + 1
        if not found:
            raise FormatError("the list allows nothing: it has no line with a digest and a name")
        return cls({name: frozenset(known) for name, known in found.items()})

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (dict(self.names),)

    def __len__(self) -> int:
        return len(self.names)

    def verdict(self, entry: ImaEntry) -> Verdict:
        """Look an entry up, by name and digest both: see :data:`VERDICTS`."""
        check = entry.check()
        if check == "violation":
            return "violation"
        stated = entry.file_digest
        if check != "matches" or stated is None:
            return "not-covered"
        return verdict(
            self,
            index=entry.index,
            name=encode_text(entry.name),
            known=(stated.kind, stated.algorithm, stated.digest),
        )


def verdict(allow: AllowList, *, index: int, name: bytes, known: Known) -> Verdict:
    """Look a name and a digest up whose template hash was found to match; ``index`` is the entry's."""
    # Only the kernel's first entry is the boot aggregate: any file can be called so.
    if index == 0 and name == b"boot_aggregate":
        return "boot-aggregate"
    allowed = allow.names.get(name)
    if allowed is None:
        return "unknown-name"
    if known in allowed:
        return "allowed"
    comparable = any(one[:2] == known[:2] for one in allowed)
    return "other-digest" if comparable else "other-algorithm"


def _line(line: bytes, number: int, offset: int) -> tuple[bytes, Known]:
    path = f"line {number}"
    match = _LINE.fullmatch(line)
    if match is None:
        raise FormatError("not a digest, two spaces and a name", offset=offset, path=path)
    digest = bytes.fromhex(match["digest"].decode("ascii"))
    named = match["algorithm"]
    algorithm = named.decode("ascii") if named is not None else _BY_SIZE.get(len(digest))
    if algorithm is None:
        raise UnsupportedError(f"no algorithm gives {len(digest)} bytes", offset=offset, path=path)
    if algorithm in _REFUSED:
        raise UnsupportedError(f"{algorithm} says nothing about a file", offset=offset, path=path)
    if _BY_SIZE.get(len(digest)) != algorithm and algorithm in _BY_SIZE.values():
        raise FormatError(f"{len(digest)} bytes, {algorithm} has another number", offset=offset, path=path)
    name = match["name"]
    if match["escaped"] is not None:
        name = re.sub(rb"\\[\\nr]", lambda m: _ESCAPES[m[0]], name)
    kind = (match["kind"] or b"ima").decode("ascii")
    return name.replace(b" ", b"_"), (kind, algorithm, digest)
