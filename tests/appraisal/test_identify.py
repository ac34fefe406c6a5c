"""Recognising logs among manifests: real boots, mixed ones, unknown ones, thousands of releases."""

from __future__ import annotations

import hashlib

import attrs
import pytest

import measlog as ml
from measlog.appraisal.identify import Identifier
from measlog.errors import UnsupportedError
from measlog.flatcar.boot import boot_paths
from measlog.formats.pfp import LogEvent, build_log
from measlog.reference.manifest import BANKS, BootPath, ExpectedEvent
from measlog.reference.signing import Envelope
from measlog.reference.uki import Uki
from tests.conftest import FIXTURES
from tests.work import calls

REFERENCE = "banks-sha256"
"""Its manifest is that of the image which most captures were booted from."""


def log_of(name: str) -> ml.EventLog:
    return ml.EventLog.from_bytes((FIXTURES / name / "binary_bios_measurements").read_bytes())


def manifest_of(folder: str) -> ml.ReferenceManifest:
    payload = Envelope.from_bytes((FIXTURES / folder / "manifest.dsse.json").read_bytes()).payload
    made = ml.ReferenceManifest.from_json(payload)
    return attrs.evolve(made, boot_paths=boot_paths(made))


def digest(bank: str, *parts: object) -> bytes:
    return hashlib.new(bank, repr(parts).encode()).digest()


def synthetic(number: int) -> ml.ReferenceManifest:
    """A release like no other: the lab's manifest with every digest replaced."""
    made = manifest_of(REFERENCE)
    components = tuple(
        attrs.evolve(
            one,
            authenticode={bank: digest(bank, number, one.path, 1) for bank in BANKS},
            flat={bank: digest(bank, number, one.path, 2) for bank in BANKS},
        )
        for one in made.components
    )
    event = ExpectedEvent(pcr=8, type=13, text="x", digests={bank: digest(bank, number) for bank in BANKS})
    path = BootPath(name=f"path {number}", slot="a", events=(event,))
    return attrs.evolve(made, name=f"release {number}", version=number, components=components, boot_paths=(path,))


@pytest.mark.parametrize(
    ("name", "slot", "path"),
    [
        ("flatcar-lab-good", "a", "slot a, first boot, Secure Boot on"),
        ("later-boot", "a", "slot a, later boot, Secure Boot on"),
        ("slot-b", "b", "slot b, later boot, Secure Boot on"),
        ("sb-off-good", "a", "slot a, first boot, Secure Boot off"),
        ("user-argument", "a", None),
    ],
)
def test_a_real_boot_is_recognised(name: str, slot: str, path: str | None) -> None:
    manifest = attrs.evolve(manifest_of(REFERENCE), name="lab")
    found = Identifier([synthetic(1), manifest, synthetic(2)]).identify(log_of(name))
    assert found.slot == slot
    assert found.boot_paths == (() if path is None else (path,))
    assert {one.name for role in ("shim", "grub") for one in found.releases(role)} == {"lab"}
    assert found.release is not None
    assert found.release.name == "lab"
    log = log_of(name)
    for program in found.programs:
        component = manifest.component(program.role)
        assert component is not None
        assert log[program.event].digests[found.bank] == program.digest
        expected = component.authenticode if program.pcr == 4 else component.flat
        assert program.digest == expected[found.bank]


def test_a_boot_loader_of_one_release_and_the_kernel_of_another() -> None:
    lab = manifest_of(REFERENCE)
    kernels = tuple(one for one in lab.components if one.role == "kernel")
    loaders = tuple(one for one in lab.components if one.role != "kernel")
    old = attrs.evolve(synthetic(1), name="old", components=loaders)
    new = attrs.evolve(synthetic(2), name="new", components=kernels)
    found = Identifier([old, new]).identify(log_of("flatcar-lab-good"))
    assert [one.name for one in found.releases("grub")] == ["old"]
    assert [one.name for one in found.releases("kernel")] == ["new"]
    assert found.mixed
    assert found.release is None
    assert found.unknown == ()


def test_what_no_manifest_names_is_unknown() -> None:
    found = Identifier([synthetic(1)]).identify(log_of("flatcar-lab-good"))
    assert (found.programs, found.boot_paths, found.release, found.mixed) == ((), (), None, False)
    log = log_of("flatcar-lab-good")
    assert {one.pcr for one in found.unknown} == {4, 9}
    assert all(log[one.event].digests["sha256"] == one.digest for one in found.unknown)
    assert found.slot == "a"


def test_the_slot_is_not_taken_from_a_text_that_was_not_measured() -> None:
    # The kernel's name changed in the text alone: the digest is that of the old text (A2).
    data = (FIXTURES / "user-argument" / "binary_bios_measurements").read_bytes()
    changed = ml.EventLog.from_bytes(data.replace(b"/flatcar/vmlinuz-a", b"/flatcar/vmlinuz-b"))
    assert Identifier([manifest_of(REFERENCE)]).identify(changed).slot is None


def test_a_bank_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"^the log has no bank sha512$"):
        Identifier([]).identify(log_of("flatcar-lab-good"), bank="sha512")
    other = ml.EventLog.from_bytes(build_log([LogEvent(4, 4, {"sm3_256": bytes(32)}, b"")], algorithms=["sm3_256"]))
    with pytest.raises(UnsupportedError, match=r"^the log has no bank of sha256, sha384, sha512, sha1$"):
        Identifier([]).identify(other)


@pytest.mark.parametrize(
    ("banks", "chosen"),
    [(("sha1", "sha256", "sha384"), "sha256"), (("sha1", "sha512", "sha384"), "sha384"), (("sha1",), "sha1")],
)
def test_the_bank_is_the_first_of_those_that_are_liked(banks: tuple[str, ...], chosen: str) -> None:
    sizes = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
    event = LogEvent(4, 4, {bank: bytes(sizes[bank]) for bank in banks}, bytes(4))
    log = ml.EventLog.from_bytes(build_log([event], algorithms=list(banks)))
    assert Identifier([]).identify(log).bank == chosen


def test_every_bank_recognises_the_same() -> None:
    identifier = Identifier([manifest_of(REFERENCE)])
    log = log_of("flatcar-lab-good")
    found = [identifier.identify(log, bank=bank) for bank in log.algorithms]
    assert len({tuple((one.role, one.event) for one in each.programs) for each in found}) == 1
    assert len({each.boot_paths for each in found}) == 1


def test_hundreds_of_releases_take_no_more_work_than_a_few() -> None:
    """How long it takes: ``python benchmarks/reference.py``."""
    first = synthetic(0)
    releases = [
        attrs.evolve(
            first,
            name=f"release {number}",
            version=number,
            components=tuple(
                attrs.evolve(one, flat={bank: digest(bank, number, one.path) for bank in BANKS})
                for one in first.components
            ),
        )
        for number in range(300)
    ]
    few, many = Identifier(releases[:3]), Identifier(releases)
    assert len(many) == 300
    log = log_of("flatcar-lab-good")
    many.identify(log)  # what the log keeps for the next time
    assert calls(lambda: many.identify(log)) < 2 * calls(lambda: few.identify(log))


def test_a_program_that_a_release_has_twice_is_its_once() -> None:
    lab = attrs.evolve(manifest_of(REFERENCE), name="lab")
    (kernel,) = (one for one in lab.components if one.role == "kernel")
    twice = attrs.evolve(lab, components=(*lab.components, attrs.evolve(kernel, slot="b", path="flatcar/vmlinuz-b")))
    found = Identifier([twice]).identify(log_of("flatcar-lab-good"))
    assert all(len(program.releases) == 1 for program in found.programs)


def test_a_path_is_of_the_release_whose_boot_loader_ran() -> None:
    """Two releases with the same commands: the one whose GRUB is in the log is the one that ran them."""
    lab = attrs.evolve(manifest_of(REFERENCE), name="lab")
    named = tuple(attrs.evolve(path, name=f"other {path.name}") for path in lab.boot_paths)
    other = attrs.evolve(synthetic(1), boot_paths=named)
    found = Identifier([other, lab]).identify(log_of("flatcar-lab-good"))
    assert found.boot_paths == ("slot a, first boot, Secure Boot on",)


def test_a_path_is_looked_up_in_the_banks_that_it_has() -> None:
    lab = manifest_of(REFERENCE)
    paths = tuple(
        attrs.evolve(
            path,
            events=tuple(attrs.evolve(e, digests={"sha256": e.digests["sha256"]}) for e in path.events),
        )
        for path in lab.boot_paths
    )
    identifier = Identifier([attrs.evolve(lab, boot_paths=paths)])
    log = log_of("flatcar-lab-good")
    assert identifier.identify(log, bank="sha256").boot_paths == ("slot a, first boot, Secure Boot on",)
    assert identifier.identify(log, bank="sha384").boot_paths == ()


def test_the_kernel_inside_a_unified_image_is_the_images() -> None:
    """systemd-stub starts the kernel that it carries: PCR 4 has both, and both are the one program."""
    lab = manifest_of(REFERENCE)
    (kernel,) = (one for one in lab.components if one.role == "kernel")
    uki = Uki(kernel_authenticode=kernel.authenticode, sections=(), phases=())
    image = attrs.evolve(synthetic(1).components[0], role="uki", slot=None, path="EFI/Linux/flatcar.efi", uki=uki)
    made = attrs.evolve(synthetic(1), components=(image,), boot_paths=())
    found = Identifier([made]).identify(log_of("flatcar-lab-good"))
    assert {(program.role, program.digest) for program in found.programs} == {("uki", kernel.authenticode["sha256"])}


def commands(*texts: bytes, hashed: bytes | None = None) -> ml.EventLog:
    """A log of GRUB's commands alone."""
    made = []
    for text in texts:
        told = text.partition(b": ")[2].removesuffix(b"\0") if hashed is None else hashed
        made.append(LogEvent(8, 0xD, {"sha256": hashlib.sha256(told).digest()}, text))
    return ml.EventLog.from_bytes(build_log(made, algorithms=["sha256"]))


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        (b"grub_cmd: linux /flatcar/vmlinuz-a x\0", "a"),
        (b"grub_cmd: linuxefi (hd0,gpt1)/flatcar/vmlinuz-b x\0", "b"),
        (b"kernel_cmdline: /flatcar/vmlinuz-b x\0", "b"),
        (b"kernel_cmdline: flatcar/vmlinuz-b\0", "b"),
        (b"kernel_cmdline: /flatcar/vmlinuz-b", "b"),
        (b"grub_cmd: initrd /flatcar/vmlinuz-a\0", None),
        (b"grub_cmd: linux /flatcar/vmlinuz-ab\0", None),
        (b"grub_cmd: linux /flatcar/vmlinuz-c\0", None),
        (b"grub_cmd: linux /other/vmlinuz-a\0", None),
        (b"echo grub_cmd: linux /flatcar/vmlinuz-a\0", None),
    ],
)
def test_the_slot_that_a_command_names(text: bytes, slot: str | None) -> None:
    assert Identifier([]).identify(commands(text)).slot == slot
    # The text alone says nothing: it is the digest that was extended.
    assert Identifier([]).identify(commands(text, hashed=b"another")).slot is None


def test_the_last_command_that_names_a_slot_counts() -> None:
    a, b, neither = (
        b"grub_cmd: linux /flatcar/vmlinuz-a\0",
        b"grub_cmd: linux /flatcar/vmlinuz-b\0",
        b"grub_cmd: boot\0",
    )
    assert Identifier([]).identify(commands(a, b, neither)).slot == "b"
    assert Identifier([]).identify(commands(b, neither, a)).slot == "a"


def test_releases_and_what_they_have_in_common() -> None:
    lab = manifest_of(REFERENCE)
    first, second = (attrs.evolve(lab, name=name, version=version) for name, version in (("b", 2), ("a", 2)))
    found = Identifier([first, second]).identify(log_of("flatcar-lab-good"))
    assert [one.name for one in found.releases("shim")] == ["b", "a"]
    assert found.releases("nothing") == ()
    assert (found.release, found.mixed) == (None, False)
    newest = attrs.evolve(lab, name="c", version=3, channel="beta", release="4593.2.4")
    (release,) = Identifier([newest]).identify(log_of("flatcar-lab-good")).releases("kernel")
    assert (release.name, release.release, release.channel, release.arch, release.version) == (
        "c",
        "4593.2.4",
        "beta",
        newest.arch,
        3,
    )
    # Paths of the same name in two releases are one; slots that differ are none.
    both = Identifier([first, second]).identify(log_of("flatcar-lab-good"))
    assert both.boot_paths == ("slot a, first boot, Secure Boot on",)
    moved = attrs.evolve(second, boot_paths=tuple(attrs.evolve(path, slot="b") for path in second.boot_paths))
    differ = Identifier([first, moved]).identify(log_of("flatcar-lab-good"))
    assert differ.slot == "a"
    alone = Identifier([moved]).identify(log_of("flatcar-lab-good"))
    assert alone.slot == "b"


def test_events_that_are_no_programs_are_passed_over() -> None:
    """PCR 4 has actions and a separator, and an event that extends nothing is none."""
    log = log_of("flatcar-lab-good")
    found = Identifier([]).identify(log)
    assert [(one.pcr, one.event) for one in found.unknown] == [
        (e.pcr, e.index) for e in log if (e.pcr, int(e.type)) in {(4, 0x80000003), (9, 0xD)}
    ]
    image = next(e for e in log if e.pcr == 4 and e.type == 0x80000003)
    silent = [
        LogEvent(4, 3, {"sha256": bytes(32)}, b""),
        LogEvent(0xFFFFFFFF, 3, {"sha256": bytes(32)}, b""),
        LogEvent(4, 0x80000003, {"sha256": image.digests["sha256"]}, image.raw),
    ]
    short = ml.EventLog.from_bytes(build_log(silent, algorithms=["sha256"]))
    assert [one.event for one in Identifier([]).identify(short).unknown] == [3]
    # One unknown program does not end the search.
    made = manifest_of(REFERENCE)
    twice = [LogEvent(4, 0x80000003, {"sha256": b"\1" * 32}, b""), silent[2]]
    found = Identifier([made]).identify(ml.EventLog.from_bytes(build_log(twice, algorithms=["sha256"])))
    assert ([one.event for one in found.unknown], [one.event for one in found.programs]) == ([1], [2])
