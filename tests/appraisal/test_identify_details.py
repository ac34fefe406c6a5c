"""Recognising logs: events that extend nothing, texts with colons, boot loaders that share their commands."""

from __future__ import annotations

import hashlib

import attrs
import pytest

import measlog as ml
from measlog.appraisal.identify import Identifier
from measlog.formats.pfp import LogEvent, build_log
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.test_identify import REFERENCE, commands, log_of, manifest_of, synthetic

PATH = "slot a, first boot, Secure Boot on"


def renamed(manifest: ReferenceManifest, name: str) -> ReferenceManifest:
    """The same release under another name, with its paths named after it."""
    paths = tuple(attrs.evolve(path, name=f"{name}: {path.name}") for path in manifest.boot_paths)
    return attrs.evolve(manifest, name=name, boot_paths=paths)


def test_an_event_that_extends_nothing_hides_no_boot_path() -> None:
    """PFP 10.4.5: EV_NO_ACTION is in no register, whichever it names."""
    log = log_of("flatcar-lab-good")
    events = [LogEvent(e.pcr or 0, int(e.type), dict(e.digests), e.raw) for e in log if e.type != 3]
    for pcr in (8, 11):
        silent = LogEvent(pcr, 3, {bank: bytes(len(d)) for bank, d in events[0].digests.items()}, b"nothing")
        longer = ml.EventLog.from_bytes(build_log([silent, *events, silent], algorithms=list(log.algorithms)))
        assert Identifier([manifest_of(REFERENCE)]).identify(longer).boot_paths == (PATH,)


def test_a_command_that_extends_nothing_names_no_slot() -> None:
    text = b"linux /flatcar/vmlinuz-b"
    silent = LogEvent(8, 3, {"sha256": hashlib.sha256(text).digest()}, b"grub_cmd: " + text + b"\0")
    log = ml.EventLog.from_bytes(build_log([silent], algorithms=["sha256"]))
    assert Identifier([]).identify(log).slot is None


def test_the_release_whose_kernel_ran_did_not_decide_the_path() -> None:
    """The commands are those of the boot loader's configuration: two releases have the same, one has the GRUB."""
    lab = manifest_of(REFERENCE)
    old = attrs.evolve(lab, components=tuple(one for one in lab.components if one.role != "kernel"))
    new = attrs.evolve(lab, components=tuple(one for one in lab.components if one.role in {"shim", "kernel"}))
    found = Identifier([renamed(new, "new"), renamed(old, "old")]).identify(log_of("flatcar-lab-good"))
    assert [one.name for one in found.releases("kernel")] == ["new"]
    assert found.boot_paths == (f"old: {PATH}",)


def test_a_unified_image_with_the_same_sections_in_another_image_is_another() -> None:
    """PCR 11 has the sections, PCR 4 the image around them: the path is that of the image that ran."""
    lab = renamed(manifest_of("uki"), "lab")
    other = attrs.evolve(renamed(manifest_of("uki"), "other"), components=synthetic(1).components)
    identifier = Identifier([other, lab])
    found = identifier.identify(log_of("uki"))
    assert [one.name for one in found.releases("uki")] == ["lab"]
    assert found.boot_paths
    assert {name.partition(": ")[0] for name in found.boot_paths} == {"lab"}
    # Where no boot loader is recognised, each that has the sections may be it.
    unknown = attrs.evolve(lab, components=synthetic(2).components)
    found = Identifier([other, unknown]).identify(log_of("uki"))
    assert {name.partition(": ")[0] for name in found.boot_paths} == {"other", "lab"}


@pytest.mark.parametrize(
    "text",
    [b"grub_cmd: linux /flatcar/vmlinuz-a note=x: y\0", b"kernel_cmdline: /flatcar/vmlinuz-a a: b: c\0"],
)
def test_the_label_of_a_command_ends_at_the_first_colon(text: bytes) -> None:
    """GRUB's label is no part of what it hashes; whatever follows it is."""
    assert Identifier([]).identify(commands(text)).slot == "a"


def test_no_path_is_found_where_nothing_was_measured() -> None:
    """A boot by GRUB has no events in PCR 11, and a log without any in PCR 8 is none of its boots."""
    events = [LogEvent(4, 4, {"sha256": hashlib.sha256(bytes(4)).digest()}, bytes(4))]
    log = ml.EventLog.from_bytes(build_log(events, algorithms=["sha256"]))
    assert Identifier([manifest_of(REFERENCE)]).identify(log).boot_paths == ()
