"""Manifests: the same bytes always, everything else refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import measlog
from measlog.errors import ManifestError
from measlog.reference import ReferenceManifest
from measlog.reference.manifest import (
    BANKS,
    BootPath,
    Component,
    Disk,
    DiskFile,
    ExpectedEvent,
    Grub,
    Partition,
    SbatEntry,
    Source,
    Usr,
    manifest_schema,
)

SCHEMA = Path(measlog.__file__).parent / "schemas" / "manifest-1.json"
SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}


def digests(byte: int) -> dict[str, bytes]:
    return {bank: bytes([byte]) * SIZES[bank] for bank in BANKS}


def make_manifest(**changes: Any) -> ReferenceManifest:
    """A manifest with something in every field."""
    kernel = Component(
        role="kernel",
        slot="a",
        path="flatcar/vmlinuz-a",
        size=5012016,
        authenticode=digests(1),
        flat=digests(2),
        version="6.12.0",
        verity_root=bytes(32),
        sbat=(SbatEntry(component="linux", generation=1, vendor="Ünïcode", url="https://example.org"),),
    )
    shim = Component(role="shim", path="EFI/boot/bootx64.efi", size=1, authenticode=digests(3), flat=digests(4))
    partition = Partition(
        number=1,
        label="EFI-SYSTEM",
        type_guid=UUID(int=1),
        guid=UUID(int=2),
        first_lba=2048,
        last_lba=4095,
        attributes=bytes(8),
        filesystem="fat",
        filesystem_uuid="5F1A-7C42",
    )
    files = (DiskFile(partition=1, path="flatcar/first_boot", size=0, flat=digests(5), text="a\n\tb"),)
    disk = Disk(sector_size=512, disk_guid=UUID(int=3), partitions=(partition,), esp=1, listed=(1,), files=files)
    event = ExpectedEvent(pcr=8, type=13, text="grub_cmd: set", digests={"sha256": bytes(32)})
    values: dict[str, Any] = {
        "name": "flatcar-4230.2.1-amd64",
        "release": "4230.2.1",
        "channel": "stable",
        "arch": "amd64",
        "version": 4230002001,
        "not_before": datetime(2026, 1, 1, tzinfo=UTC),
        "expires": datetime(2027, 1, 1, tzinfo=UTC),
        "sources": (Source(name="image.bin", size=7, sha256=bytes(32)),),
        "components": (shim, kernel),
        "grub": Grub(config="set\n", load_config="x", prefix="(memdisk)", modules=("normal",), memdisk={"b": "2"}),
        "disk": disk,
        "usr": (Usr(slot="a", partition=3, status="unchecked", root=bytes(32)),),
        "covers": {4: "programs", 10: "ten"},
        "not_covered": {0: "firmware"},
        "boot_paths": (BootPath(name="first boot", slot="a", first_boot=True, events=(event,)),),
    }
    return ReferenceManifest(**(values | changes))


def document(**changes: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(make_manifest().to_json())
    return read | changes


def encoded(read: dict[str, Any]) -> bytes:
    return json.dumps(read).encode()


def test_writing_and_reading_give_the_same() -> None:
    manifest = make_manifest()
    again = ReferenceManifest.from_json(manifest.to_json())
    assert again == manifest
    assert again.to_json() == manifest.to_json()
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    assert again.component("kernel", "a") == manifest.components[1]
    assert again.component("kernel", "b") is None
    assert again.boot_paths[0].of(8) == again.boot_paths[0].events


def test_the_bytes_are_canonical() -> None:
    written = make_manifest().to_json()
    read = json.loads(written)
    assert written == json.dumps(read, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    assert b"\xc3\x9cn" in written


def test_the_bytes_depend_on_no_hash_seed_locale_or_time_zone() -> None:
    program = "import sys; from tests.reference.test_manifest import make_manifest as m; sys.stdout.buffer.write(m().to_json())"
    root = Path(__file__).resolve().parents[2]
    for seed, zone, locale in (("0", "UTC", "C"), ("7", "Pacific/Auckland", "tr_TR.UTF-8")):
        environment = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, check=True, timeout=60
        )
        assert done.stdout == make_manifest().to_json()


def test_a_moment_is_written_in_utc() -> None:
    manifest = make_manifest(expires=datetime(2027, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert manifest.to_json() == make_manifest().to_json()


def test_the_published_schema_is_that_of_the_code_and_accepts_what_is_written() -> None:
    published = json.loads(SCHEMA.read_text())
    assert published == manifest_schema()
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(document(), published)


REFUSED: dict[str, dict[str, Any]] = {
    "another format": {"format": "measlog.manifest/2"},
    "no format": {"format": None},
    "no name": {"name": None},
    "a surplus key": {"surplus": 1},
    "no components": {"components": []},
    "components that are no list": {"components": {}},
    "an unknown architecture": {"arch": "mips"},
    "a version that is text": {"version": "1"},
    "a version that is true": {"version": True},
    "a negative version": {"version": -1},
    "a version beyond 2^53": {"version": 1 << 53},
    "a moment without zone": {"expires": "2027-01-01T00:00:00"},
    "a moment that is none": {"expires": "2027-02-30T00:00:00Z"},
    "a register that is none": {"covers": {"24": "x"}},
    "a register with a sign": {"covers": {"+4": "x"}},
    "control characters": {"name": "a\x1b[31m"},
    "a long name": {"name": "x" * 257},
    "a source in a folder": {"sources": [{"name": "../image.bin", "size": 7, "sha256": "00" * 32}]},
    "a component that is a number": {"components": [7]},
    "registers in a list": {"covers": ["4"]},
    "a boot that is 1": {"boot_paths": [{"name": "x", "first_boot": 1, "events": []}]},
    "files without end": {"grub": {"config": "x", "memdisk": {str(i): "x" for i in range(257)}}},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_manifest_is_one_error(name: str) -> None:
    changed = document(**REFUSED[name])
    with pytest.raises(ManifestError):
        ReferenceManifest.from_json(encoded(changed))
    if "2027-02-30T00:00:00Z" in changed.values():
        return  # the schema knows the form of a moment, not the calendar
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize(
    ("digest", "message"),
    [
        ("0" * 63, r"components\[0\].flat.sha256: expected 64 lower-case"),
        ("0" * 62, r"components\[0\].flat.sha256"),
        ("A" * 64, r"components\[0\].flat.sha256"),
        (7, r"components\[0\].flat.sha256"),
    ],
)
def test_a_digest_that_is_none_is_named(digest: object, message: str) -> None:
    changed = document()
    changed["components"][0]["flat"]["sha256"] = digest
    with pytest.raises(ManifestError, match=message):
        ReferenceManifest.from_json(encoded(changed))


@pytest.mark.parametrize("bank", BANKS)
def test_a_component_has_digests_of_every_bank(bank: str) -> None:
    changed = document()
    del changed["components"][0]["authenticode"][bank]
    with pytest.raises(ManifestError, match=f"no {bank} digest"):
        ReferenceManifest.from_json(encoded(changed))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON: it is empty"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "nested too deeply|not JSON"),
        (b'{"a":' * 100_000, "nested too deeply|not JSON"),
        (b'{"format": 1, "format": 2}', "'format' is there twice"),
        (b'{"version": 1.5}', "1.5 is not an integer"),
        (b'{"version": NaN}', "NaN is not an integer"),
        (b'{"version": ' + b"9" * 10_000 + b"}", "out of range"),
        (b" " * (5 << 20), "the most is"),
    ],
)
def test_json_that_is_not_plain_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        ReferenceManifest.from_json(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"components": ()},
        {"components": "x"},
        {"arch": "x86"},
        {"version": 1.5},
        {"expires": datetime(2025, 1, 1, tzinfo=UTC)},
        {"expires": datetime(2027, 1, 1)},  # noqa: DTZ001  (no time zone is the defect)
        {"not_covered": {4: "both"}},
        {"name": "\ud800"},
    ],
)
def test_a_manifest_that_is_wrong_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        make_manifest(**changes)


SHIM = make_manifest().components[0]
PARTS: dict[str, tuple[type, dict[str, Any], str]] = {
    "no text": (SbatEntry, {"component": 7, "generation": 1}, "component: expected text, got 7"),
    "text that is long": (
        SbatEntry,
        {"component": "x" * 257, "generation": 1},
        "component: text of 257 characters, the most is 256",
    ),
    "a path for a name": (
        Source,
        {"name": "a/b", "size": 1, "sha256": bytes(32)},
        "name: expected text that matches",
    ),
    "hex for bytes": (Source, {"name": "a", "size": 1, "sha256": "00" * 32}, "sha256: expected bytes"),
    "a SHA-1 for SHA-256": (
        Source,
        {"name": "a", "size": 1, "sha256": bytes(20)},
        "sha256: 20 bytes where 32 are allowed",
    ),
    "1 for true": (BootPath, {"name": "x", "first_boot": 1, "events": ()}, "first_boot: expected true or false, got 1"),
    "no digests": (
        ExpectedEvent,
        {"pcr": 8, "type": 13, "digests": b"x"},
        "digests: expected digests by algorithm",
    ),
    "no mapping": (Grub, {"config": "x", "memdisk": ["x"]}, "memdisk: expected a mapping"),
    "a mapping without end": (
        Grub,
        {"config": "x", "memdisk": {str(i): "x" for i in range(257)}},
        "memdisk: 257 entries, the most is 256",
    ),
    "text for a UUID": (
        Disk,
        {"sector_size": 512, "disk_guid": str(UUID(int=3)), "partitions": (), "esp": 1, "listed": (), "files": ()},
        "disk_guid: expected a UUID",
    ),
    "another record": (BootPath, {"name": "x", "events": (SHIM,)}, r"events\[0\]: expected a ExpectedEvent"),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_wrong_cannot_be_made_and_the_field_is_named(name: str) -> None:
    kind, fields, message = PARTS[name]
    with pytest.raises(ManifestError, match=f"^{message}"):
        kind(**fields)


def test_a_uuid_has_one_form() -> None:
    # Two spellings would be two manifests with one meaning and two signatures.
    changed = document()
    changed["disk"]["disk_guid"] = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
    with pytest.raises(ManifestError, match="disk_guid: expected a UUID in lower case"):
        ReferenceManifest.from_json(encoded(changed))


def test_the_same_component_twice_is_refused() -> None:
    shim = make_manifest().components[0]
    with pytest.raises(ManifestError, match="there twice"):
        make_manifest(components=(shim, shim))


def test_nothing_made_by_hand_counts_as_signed() -> None:
    manifest = make_manifest()
    assert manifest.signed_by is None
    with pytest.raises(TypeError):
        make_manifest(signed_by=("key",))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        manifest.signed_by = ("key",)  # type: ignore[misc]
    assert b"signed_by" not in manifest.to_json()
    with pytest.raises(ManifestError, match="signed_by"):
        ReferenceManifest.from_json(encoded(document(signed_by=["key"])))


@given(st.data())
def test_any_change_of_the_bytes_is_a_manifest_or_a_manifest_error(data: st.DataObject) -> None:
    written = make_manifest().to_json()
    place = data.draw(st.integers(0, len(written)))
    change = data.draw(st.binary(max_size=4))
    changed = written[:place] + change + written[place + len(change) :]
    try:
        again = ReferenceManifest.from_json(changed)
    except ManifestError:
        return
    assert ReferenceManifest.from_json(again.to_json()) == again
