"""Measurement records as JSON, the way systemd writes them: close to CEL-JSON (TCG Canonical Event Log Format 1.0).

What the user-space log and component files share: the register and digests of a record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.registry import ALGORITHMS_BY_NAME, Register
from measlog.replay.pcr import PCR_COUNT

__all__ = ["CLAUSE", "digests_to_json", "frozen_digests", "read_digests", "read_pcr"]

CLAUSE = "TCG CEL 1.0, 5.1"
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")


def read_pcr(value: Any, path: str, offset: int) -> Register:
    """The PCR that a record names. Raises FormatError for what is no number of one."""
    if type(value) is not int:
        raise FormatError("expected the number of a PCR", path=f"{path}.pcr", offset=offset, clause=CLAUSE)
    if not 0 <= value < PCR_COUNT:
        raise FormatError(f"there is no PCR {value}", path=f"{path}.pcr", offset=offset, clause=CLAUSE)
    return Register("pcr", value)


def read_digests(value: Any, path: str, offset: int) -> Mapping[str, bytes]:
    """The digests of a record by algorithm, in their order: each algorithm once, each of its algorithm's length.

    Raises :class:`~measlog.errors.FormatError` for any others.
    """
    path = f"{path}.digests"
    if not isinstance(value, list) or not value:
        raise FormatError("expected a list of digests", path=path, offset=offset, clause=CLAUSE)
    if len(value) > len(ALGORITHMS_BY_NAME):
        raise LimitExceededError(f"{len(value)} digests, there are {len(ALGORITHMS_BY_NAME)} algorithms", path=path)
    found: dict[str, bytes] = {}
    for number, item in enumerate(value):
        place = f"{path}[{number}]"
        if not isinstance(item, dict) or set(item) != {"hashAlg", "digest"}:
            raise FormatError("expected hashAlg and digest", path=place, offset=offset, clause=CLAUSE)
        name, text = item["hashAlg"], item["digest"]
        known = ALGORITHMS_BY_NAME.get(name) if isinstance(name, str) else None
        if known is None:
            raise UnsupportedError(f"unknown algorithm {str(name)[:40]!r}", path=place, offset=offset)
        if name in found:
            raise FormatError(f"a second digest for {name}", path=place, offset=offset, clause=CLAUSE)
        if not isinstance(text, str) or not _HEX.fullmatch(text):
            raise FormatError("expected hexadecimal digits", path=place, offset=offset, clause=CLAUSE)
        if len(text) != 2 * known.size:
            raise FormatError(
                f"a {name} digest of {len(text) // 2} bytes, it has {known.size}", path=place, offset=offset
            )
        found[name] = bytes.fromhex(text)
    return found


def digests_to_json(digests: Mapping[str, bytes]) -> list[dict[str, str]]:
    """The digests as a record carries them."""
    return [{"hashAlg": name, "digest": digest.hex()} for name, digest in digests.items()]


def frozen_digests(digests: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """A copy of digests by algorithm; ValueError where one has not its algorithm's length, or there is none."""
    if not digests:
        raise ValueError("a record has at least one digest")
    for name, digest in digests.items():
        known = ALGORITHMS_BY_NAME.get(name)
        if known is None or len(digest) != known.size:
            raise ValueError(f"no {name} digest has {len(digest)} bytes")
    return dict(digests)
