"""Signed indexes: the manifests of many releases, each loaded when one of its programs is met.

An index says of each manifest which file it is (by the SHA-256 of the signed file) and which programs it names. It is
signed like a manifest, under its own payload type, and has its own version, not-before and expiry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Self

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import ManifestError
from measlog.reference.fields import choice, digest, integer, member, optional, record, sequence, text, timestamp
from measlog.reference.manifest import ReferenceManifest, canonical_json, check_period, parse_json
from measlog.reference.signing import (
    Envelope,
    PrivateKey,
    PublicKey,
    SignedManifest,
    Signer,
    check_in_force,
    sign_payload,
)

__all__ = [
    "INDEX_PAYLOAD_TYPE",
    "IndexEntry",
    "LazyManifests",
    "ManifestIndex",
    "SignedIndex",
    "index_entry",
    "index_schema",
]

INDEX_PAYLOAD_TYPE = "application/vnd.measlog.index+json"
FORMAT = "measlog.index/1"
INDEX_LIMIT = 64 << 20

_NAME = text(maximum=256)


@frozen(kw_only=True)
class IndexEntry:
    """One signed manifest: its file's name, size and SHA-256, what it is of, and the SHA-256 digests of its programs.

    ``programs`` are Authenticode and flat digests alike, sorted.
    """

    file: str = member(text(maximum=256, pattern=r"[^/\\]+"))
    size: int = member(integer())
    sha256: bytes = member(digest("sha256"))
    name: str = member(_NAME)
    release: str | None = member(optional(text(maximum=64)), default=None)
    channel: str | None = member(optional(text(maximum=64)), default=None)
    arch: str = member(choice("amd64", "arm64"))
    version: int = member(integer(), default=0)
    programs: tuple[bytes, ...] = member(sequence(digest("sha256"), maximum=1024))


@frozen(kw_only=True)
class ManifestIndex:
    """The manifests of a channel. ``signed_by`` holds key ids after :meth:`SignedIndex.verify`, and is None before."""

    name: str = member(_NAME)
    version: int = member(integer(), default=0)
    not_before: datetime | None = member(optional(timestamp()), default=None)
    expires: datetime | None = member(optional(timestamp()), default=None)
    entries: tuple[IndexEntry, ...] = member(sequence(record(IndexEntry), minimum=1, maximum=65_536))
    signed_by: tuple[str, ...] | None = field(init=False, default=None, eq=False)

    def __attrs_post_init__(self) -> None:
        check_period(self.not_before, self.expires)
        if len({entry.file for entry in self.entries}) != len(self.entries):
            raise ManifestError("entries: a file is there twice")

    def to_json(self) -> bytes:
        """The index's canonical bytes."""
        return canonical_json({"format": FORMAT, **_CODEC.encode(self)})

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read an unsigned index; ManifestError for anything else."""
        document = parse_json(data, what="index", size=INDEX_LIMIT)
        version = document.pop("format", None)
        if version != FORMAT:
            raise ManifestError(f"format: expected {FORMAT!r}, got {str(version)[:60]!r}")
        read = _CODEC.decode(document, "index")
        assert isinstance(read, cls)
        return read

    def sign(self, private_key: PrivateKey | Signer | bytes | str) -> bytes:
        """The index in a DSSE envelope."""
        return sign_payload(INDEX_PAYLOAD_TYPE, self.to_json(), private_key)


_CODEC = record(ManifestIndex)


def index_schema() -> dict[str, Any]:
    """The JSON Schema that ``schemas/index-1.json`` publishes."""
    body = dict(_CODEC.schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:measlog:index:1",
        "title": "measlog manifest index, version 1",
        "type": "object",
        "properties": {"format": {"const": FORMAT}, **body["properties"]},
        "required": ["format", *body["required"]],
        "additionalProperties": False,
    }


def index_entry(file: str, signed: bytes, manifest: ReferenceManifest) -> IndexEntry:
    """The entry of a manifest whose signed form is the file ``file`` with the bytes ``signed``."""
    programs = {one.authenticode["sha256"] for one in manifest.components}
    programs |= {one.flat["sha256"] for one in manifest.components}
    return IndexEntry(
        file=file,
        size=len(signed),
        sha256=hashlib.sha256(signed).digest(),
        name=manifest.name,
        release=manifest.release,
        channel=manifest.channel,
        arch=manifest.arch,
        version=manifest.version,
        programs=tuple(sorted(programs)),
    )


@frozen(kw_only=True)
class SignedIndex:
    """A signed index as read, before anything about it is known."""

    envelope: Envelope = field(validator=instance_of(Envelope))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a signed index; ManifestError for anything else."""
        return cls(envelope=Envelope.from_bytes(data, limit=2 * INDEX_LIMIT))

    def verify(
        self,
        *,
        keys: Iterable[PublicKey | bytes | str],
        now: datetime | None = None,
        minimum_version: int | None = None,
    ) -> ManifestIndex:
        """The index, if it is signed by one of ``keys``, in force and not rolled back; else ManifestError."""
        # 1. Type, keys and signature, before anything is read (A43).
        payload, signers = self.envelope.verified_payload(payload_type=INDEX_PAYLOAD_TYPE, keys=keys)
        index = ManifestIndex.from_json(payload)
        # 2. In force: a withheld newer index shows by its expiry. 3. Not rolled back.
        check_in_force(index, now, minimum_version, what="index")
        object.__setattr__(index, "signed_by", signers)
        return index


class LazyManifests:
    """The manifests of a verified index, each fetched, checked and kept when first asked for.

    ``fetch`` returns the bytes of a file of the index by its name. ``keys``, ``now`` and ``minimum_version`` are as in
    :meth:`SignedManifest.verify`: every manifest is verified by itself too.
    """

    def __init__(
        self,
        index: ManifestIndex,
        fetch: Callable[[str], bytes],
        *,
        keys: Iterable[PublicKey | bytes | str],
        now: datetime | None = None,
        minimum_version: int | None = None,
    ) -> None:
        if index.signed_by is None:
            raise ManifestError("the index is not verified: see SignedIndex.verify")
        self._index = index
        self._fetch = fetch
        self._keys = tuple(keys)
        self._now = now
        self._minimum_version = minimum_version
        self._loaded: dict[str, ReferenceManifest] = {}
        self._by_program: dict[bytes, list[IndexEntry]] = {}
        for entry in index.entries:
            for program in entry.programs:
                self._by_program.setdefault(program, []).append(entry)

    def entries(self, program: bytes) -> tuple[IndexEntry, ...]:
        """The entries that name the program with this SHA-256, Authenticode or flat."""
        return tuple(self._by_program.get(program, ()))

    def by_digest(self, program: bytes) -> tuple[ReferenceManifest, ...]:
        """The manifests that name the program with this SHA-256, Authenticode or flat."""
        return tuple(self.load(entry) for entry in self.entries(program))

    def load(self, entry: IndexEntry) -> ReferenceManifest:
        """One manifest; ManifestError where it is not the file that the index means, or does not verify."""
        if entry.file not in self._loaded:
            data = self._fetch(entry.file)
            # 1. The very file that the index means: no other one, older or newer, in its place (A43).
            if len(data) != entry.size or hashlib.sha256(data).digest() != entry.sha256:
                raise ManifestError(f"{entry.file}: is not the file that the index names")
            # 2. Signed, in force and not rolled back by itself.
            manifest = SignedManifest.from_bytes(data).verify(
                keys=self._keys, now=self._now, minimum_version=self._minimum_version
            )
            # 3. What the index says of it is true.
            if index_entry(entry.file, data, manifest) != entry:
                raise ManifestError(f"{entry.file}: the index says something else of it than it says itself")
            self._loaded[entry.file] = manifest
        # 4. Still in force, both: they were verified when they were loaded, which may be long ago.
        check_in_force(self._index, self._now, None, what="index")
        check_in_force(self._loaded[entry.file], self._now, self._minimum_version, what="manifest")
        return self._loaded[entry.file]
