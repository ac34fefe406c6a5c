"""IMA logs made with struct and hashlib alone, as Linux' ima_fs.c and ima_crypto.c describe them, and strategies."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}


def field(data: bytes, mark: str = "<") -> bytes:
    return struct.pack(f"{mark}I", len(data)) + data


def entry(
    template: str,
    fields: Sequence[bytes],
    *,
    pcr: int = 10,
    violation: bool = False,
    mark: str = "<",
    alg: str = "sha1",
) -> bytes:
    """One entry; ``fields`` of the template ``ima`` are digest and name, without its NUL."""
    if template == "ima":
        digest, name = fields
        data = digest + field(name, mark)
        hashed = digest + name + bytes(256 - len(name))
    else:
        body = b"".join(field(one, mark) for one in fields)
        data, hashed = field(body, mark), body
    stated = bytes(SIZES[alg]) if violation else hashlib.new(alg, hashed).digest()
    name_field = struct.pack(f"{mark}I", len(template)) + template.encode()
    return struct.pack(f"{mark}I", pcr) + stated + name_field + data


def pcr_10(hashed: Sequence[bytes | None], alg: str) -> bytes:
    """PCR 10 after these template data, ``None`` for a violation."""
    state = bytes(SIZES[alg])
    for data in hashed:
        digest = b"\xff" * SIZES[alg] if data is None else hashlib.new(alg, data).digest()
        state = hashlib.new(alg, state + digest).digest()
    return state


names = st.text(st.characters(codec="utf-8", exclude_characters="\0\n "), min_size=1, max_size=30).map(str.encode)
_raw = st.binary(max_size=40)


def _digest(prefix: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(sorted(SIZES.items())).flatmap(
        lambda one: st.binary(min_size=one[1], max_size=one[1]).map(
            lambda digest: prefix + one[0].encode() + b":\0" + digest
        )
    )


ng, ngv2 = _digest(b""), st.sampled_from([b"ima:", b"verity:"]).flatmap(_digest)
_z = names.map(lambda name: name + b"\0")
_u32, _u16 = st.binary(min_size=4, max_size=4), st.binary(min_size=2, max_size=2)
TEMPLATES: dict[str, st.SearchStrategy[tuple[bytes, ...]]] = {
    "ima": st.tuples(st.binary(min_size=20, max_size=20), names),
    "ima-ng": st.tuples(ng, _z),
    "ima-sig": st.tuples(ng, _z, _raw),
    "ima-ngv2": st.tuples(ngv2, _z),
    "ima-sigv2": st.tuples(ngv2, _z, _raw),
    "ima-buf": st.tuples(ng, _z, _raw),
    "ima-modsig": st.tuples(ng, _z, _raw, st.one_of(st.just(b""), ng), _raw),
    "evm-sig": st.tuples(ng, _z, _raw, st.one_of(st.just(b""), _z), _raw, _raw, _u32, _u32, _u16),
    "d-ng|n-ng|imode": st.tuples(ng, _z, _u16),
}


def _entry(template: str) -> st.SearchStrategy[bytes]:
    make: Callable[..., bytes] = lambda fields, violation, pcr: entry(  # noqa: E731 - read beside what it is given to
        template, fields, violation=violation, pcr=pcr
    )
    return st.builds(
        make, TEMPLATES[template], st.sampled_from([False, False, False, True]), st.sampled_from([10, 10, 11])
    )


entries = st.sampled_from(sorted(TEMPLATES)).flatmap(_entry)
logs = st.lists(entries, max_size=4).map(b"".join)
