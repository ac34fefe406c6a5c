"""Signed indexes: manifests are loaded by digest, and only those that the index means."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest

import measlog
from measlog.errors import ManifestError
from measlog.reference import signing
from measlog.reference.index import (
    INDEX_PAYLOAD_TYPE,
    LazyManifests,
    ManifestIndex,
    SignedIndex,
    index_entry,
    index_schema,
)
from measlog.reference.manifest import BANKS
from measlog.reference.signing import sign_payload
from tests.reference.test_manifest import make_manifest
from tests.reference.test_signing import ED25519, NOW, P256

SCHEMA = Path(measlog.__file__).parent / "schemas" / "index-1.json"
KEYS = [P256.public_key()]


def release(number: int) -> measlog.ReferenceManifest:
    digests = {bank: hashlib.new(bank, str(number).encode()).digest() for bank in BANKS}
    made = make_manifest(name=f"release {number}", version=number)
    kernel = attrs.evolve(made.components[1], authenticode=digests)
    return attrs.evolve(made, components=(made.components[0], kernel))


FILES = {f"{number}.json": release(number).sign(P256) for number in range(5)}


def make_index(**changes: Any) -> ManifestIndex:
    entries = tuple(index_entry(file, data, release(int(file[0]))) for file, data in FILES.items())
    values: dict[str, Any] = {"name": "stable", "version": 3, "entries": entries}
    return ManifestIndex(**(values | changes))


def verified(index: ManifestIndex | None = None, **options: Any) -> ManifestIndex:
    signed = (index or make_index()).sign(P256)
    values: dict[str, Any] = {"keys": KEYS, "now": NOW}
    return SignedIndex.from_bytes(signed).verify(**(values | options))


def lazy(files: dict[str, bytes] | None = None, index: ManifestIndex | None = None) -> tuple[LazyManifests, list[str]]:
    asked: list[str] = []

    def fetch(name: str) -> bytes:
        asked.append(name)
        return (files or FILES)[name]

    return LazyManifests(index or verified(), fetch, keys=KEYS, now=NOW), asked


def test_only_the_manifests_that_are_needed_are_fetched_and_once() -> None:
    manifests, asked = lazy()
    program = hashlib.sha256(b"3").digest()
    for _ in range(2):
        (found,) = manifests.by_digest(program)
        assert found == release(3)
        assert found.signed_by is not None
    assert asked == ["3.json"]
    assert manifests.by_digest(bytes(32)) == ()
    shared = release(0).components[0].authenticode["sha256"]
    assert len(manifests.by_digest(shared)) == 5


def test_writing_and_reading_give_the_same() -> None:
    index = make_index(not_before=NOW, expires=datetime(2030, 1, 1, tzinfo=UTC))
    assert ManifestIndex.from_json(index.to_json()) == index
    assert verified(index) == index
    assert json.loads(SCHEMA.read_text()) == index_schema()
    jsonschema.validate(json.loads(index.to_json()), index_schema())


def test_an_index_is_refused_like_a_manifest() -> None:
    signed = make_index(expires=datetime(2027, 1, 1, tzinfo=UTC)).sign(P256)
    read = SignedIndex.from_bytes(signed)
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"keys": [ED25519.public_key()]}, "signed by none"),
        ({"now": datetime(2028, 1, 1, tzinfo=UTC)}, "index stable expired"),
        ({"minimum_version": 4}, "index stable has version 3, at least 4"),
    )
    for options, message in cases:
        values: dict[str, Any] = {"keys": KEYS, "now": NOW}
        with pytest.raises(ManifestError, match=message):
            read.verify(**(values | options))
    with pytest.raises(ManifestError, match="payload type"):
        SignedIndex.from_bytes(make_manifest().sign(P256)).verify(keys=KEYS)
    with pytest.raises(ManifestError, match="format"):
        SignedIndex.from_bytes(sign_payload(INDEX_PAYLOAD_TYPE, b"{}", P256)).verify(keys=KEYS)
    with pytest.raises(ManifestError, match="a file is there twice"):
        make_index(entries=make_index().entries[:1] * 2)


def test_an_index_is_never_in_force_where_it_ends_before_it_begins() -> None:
    with pytest.raises(ManifestError, match="expires: not later than not_before"):
        make_index(not_before=NOW, expires=NOW)


def test_what_was_loaded_may_have_expired_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service keeps an index for months; each look at it asks again, with the current time where none was given."""

    class Clock:
        time = NOW

        @classmethod
        def now(cls, _zone: object) -> datetime:
            return cls.time

    monkeypatch.setattr(signing, "datetime", Clock)
    limit = NOW + timedelta(days=30)
    program = hashlib.sha256(b"3").digest()
    manifest = attrs.evolve(release(3), expires=limit)
    data = manifest.sign(P256)
    entry = index_entry("3.json", data, manifest)
    for index, what in (
        (make_index(entries=(entry,)), "manifest"),
        (make_index(entries=(index_entry("3.json", FILES["3.json"], release(3)),), expires=limit), "index"),
    ):
        file = data if what == "manifest" else FILES["3.json"]
        Clock.time = NOW
        manifests = LazyManifests(SignedIndex.from_bytes(index.sign(P256)).verify(keys=KEYS, now=NOW), {"3.json": file}.__getitem__, keys=KEYS)  # fmt: skip
        assert len(manifests.by_digest(program)) == 1
        Clock.time = limit
        with pytest.raises(ManifestError, match=f"^{what} .* expired"):
            manifests.by_digest(program)


def test_an_index_that_nobody_verified_is_of_no_use() -> None:
    with pytest.raises(ManifestError, match="not verified"):
        LazyManifests(make_index(), FILES.__getitem__, keys=KEYS)
    assert attrs.evolve(verified()).signed_by is None


def test_another_file_in_its_place_is_refused() -> None:
    program = hashlib.sha256(b"3").digest()
    for data in (FILES["2.json"], FILES["3.json"] + b" ", release(3).sign(ED25519)):
        manifests, _ = lazy(FILES | {"3.json": data})
        with pytest.raises(ManifestError, match="not the file that the index names"):
            manifests.by_digest(program)


def test_a_manifest_that_is_not_signed_by_the_key_is_refused_though_the_index_names_it() -> None:
    data = release(3).sign(ED25519)
    manifests, _ = lazy({"3.json": data}, verified(make_index(entries=(index_entry("3.json", data, release(3)),))))
    with pytest.raises(ManifestError, match="signed by none"):
        manifests.by_digest(hashlib.sha256(b"3").digest())


def test_an_index_that_lies_about_a_manifest_is_refused() -> None:
    entry = attrs.evolve(index_entry("3.json", FILES["3.json"], release(3)), version=99)
    manifests, _ = lazy(index=verified(make_index(entries=(entry,))))
    with pytest.raises(ManifestError, match="something else"):
        manifests.by_digest(hashlib.sha256(b"3").digest())
