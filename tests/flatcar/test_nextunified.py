"""Machine plus release, for unified kernel images: the registers of a boot from a log of another one.

The fixtures are boots of one machine: ``uki`` of an image, ``uki-tampered-cmdline`` of another image that the same key
has signed, which is what an update is. What the TPM reported of the latter is in no way an input of its prediction.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import attrs
import pytest

from measlog.errors import ManifestError, UnsupportedError
from measlog.flatcar.boot import PredictedBoot, predict
from measlog.flatcar.nextunified import observe_unified
from measlog.interop import seal
from measlog.log import Event, EventLog
from measlog.reference.manifest import Certificate, Component, ReferenceManifest, Signer
from measlog.reference.signing import SignedManifest
from measlog.reference.uki import UkiSection
from tests.conftest import FIXTURES
from tests.flatcar.grub.captures import read_log

KEY = (FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()
PHASES = ("", "enter-initrd", "enter-initrd:leave-initrd", "enter-initrd:leave-initrd:sysinit")
READY = "enter-initrd:leave-initrd:sysinit:ready"
KNOWN = {*range(10), 11, 12, 13, 14}
OTHER = {bank: hashlib.new(bank, b"another").digest() for bank in ("sha1", "sha256", "sha384", "sha512")}
OLD, NEW = "EFI/Linux/flatcar-lab-1.efi of 1.0.0", "EFI/Linux/flatcar-lab-1.efi of 1.0.1"


@cache
def release(name: str, file: str = "manifest.dsse.json") -> ReferenceManifest:
    return SignedManifest.from_bytes((FIXTURES / name / file).read_bytes()).verify(keys=[KEY])


def present() -> ReferenceManifest:
    return release("uki")


def update() -> ReferenceManifest:
    return release("uki-tampered-cmdline", "image.dsse.json")


def captured(name: str) -> EventLog:
    return EventLog.from_bytes((FIXTURES / name / "binary_bios_measurements").read_bytes())


def reported(name: str) -> dict[str, dict[int, bytes]]:
    table = json.loads((FIXTURES / name / "pcrs.json").read_text())
    return {bank: {int(pcr): bytes.fromhex(v) for pcr, v in values.items()} for bank, values in table.items()}


def boots(
    new: ReferenceManifest | None = None,
    log: EventLog | None = None,
    old: ReferenceManifest | None = None,
    **given: Any,
) -> dict[str, PredictedBoot]:
    made = predict(
        update() if new is None else new,
        captured("uki") if log is None else log,
        present() if old is None else old,
        phase=given.pop("phase", READY),
        **given,
    )
    return {boot.name.removesuffix(f", {READY}"): boot for boot in made}


def changed(manifest: ReferenceManifest, role: str, **values: Any) -> ReferenceManifest:
    components = tuple(attrs.evolve(c, **values) if c.role == role else c for c in manifest.components)
    return attrs.evolve(manifest, components=components)


def other_uki(manifest: ReferenceManifest, **values: Any) -> ReferenceManifest:
    component = manifest.component("uki")
    assert component is not None
    assert component.uki is not None
    return changed(manifest, "uki", uki=attrs.evolve(component.uki, **values))


IDS = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}


def written(event: Event, *, pcr: int | None = None, digests: Mapping[str, bytes] | None = None) -> bytes:
    """An event as TCG_PCR_EVENT2 (PFP 1.06, clause 10.2.2), in another register or with other digests."""
    values = event.digests if digests is None else digests
    body = b"".join(struct.pack("<H", IDS[bank]) + digest for bank, digest in values.items())
    number = event.pcr if pcr is None else pcr
    assert number is not None
    return struct.pack("<III", number, event.type, len(values)) + body + struct.pack("<I", len(event.raw)) + event.raw


def with_events(log: EventLog, events: Iterable[bytes]) -> EventLog:
    """A log with the first event of another one, which declares the banks, and these behind it."""
    return EventLog.from_bytes(log.to_bytes()[: log[1].offset] + b"".join(events))


def test_the_boot_of_the_update_is_known_before_it_happens() -> None:
    boot = boots()[f"{NEW}, updated"]
    pcrs = reported("uki-tampered-cmdline")
    assert set(boot.pcrs) == set(pcrs)
    for bank, values in boot.pcrs.items():
        assert values == {pcr: pcrs[bank][pcr] for pcr in KNOWN}
    log = read_log(FIXTURES / "uki-tampered-cmdline" / "binary_bios_measurements")
    for pcr in (4, 5, 7, 9, 12, 14):
        assert [e.digests["sha256"] for e in boot.of(pcr)] == [e.digests["sha256"] for e in log if e.pcr == pcr]
    # The firmware's log ends before the running system extends register 11.
    sections = [e.digests["sha256"] for e in log if e.pcr == 11]
    assert [e.digests["sha256"] for e in boot.of(11) if e.kind == "section"] == sections
    assert [e.data for e in boot.of(12)] == [e.data for e in log if e.pcr == 12]
    assert (set(boot.unknown), boot.secure_boot, boot.slot, boot.outcome) == ({10, 15}, True, None, "kernel")


@pytest.mark.parametrize("name", ["uki", "uki-sb-off"])
def test_without_an_update_the_registers_stay(name: str) -> None:
    made = boots(present(), captured(name))
    assert list(made) == [f"{OLD}, nothing updated"]
    boot = made[f"{OLD}, nothing updated"]
    pcrs = reported(name)
    for bank, values in boot.pcrs.items():
        assert values == {pcr: pcrs[bank][pcr] for pcr in KNOWN}
    assert {pcr for pcr, text in boot.moves.items() if text.startswith("stays")} == KNOWN


def test_with_secure_boot_off_the_kernel_inside_is_started_too() -> None:
    made = boots(log=captured("uki-sb-off"))
    new = update().component("uki")
    assert new is not None
    assert new.uki is not None
    boot = made[f"{NEW}, updated"]
    assert not boot.secure_boot
    assert [event.digests for event in boot.of(4)[-2:]] == [new.authenticode, new.uki.kernel_authenticode]
    # Both systemd-boot and the stub hand the command line on.
    line = f"{new.uki.command_line}\0".encode("utf-16-le")
    assert [event.digests["sha256"] for event in boot.of(12)] == [hashlib.sha256(line).digest()] * 2
    assert boot.unknown.keys() == {10, 15}


def test_each_phase_is_a_boot_and_register_11_tells_them_apart() -> None:
    made = predict(update(), captured("uki"), present())
    assert [boot.name.rpartition(", ")[2] for boot in made[:5]] == ["before the initrd", *PHASES[1:], READY]
    assert len(made) == 3 * 5
    value = reported("uki-tampered-cmdline")["sha256"][11]
    assert [boot.name for boot in made if boot.pcrs["sha256"][11] == value] == [f"{NEW}, updated, {READY}"]
    for phase in PHASES:
        (first, *_) = predict(update(), captured("uki"), present(), phase=phase)
        assert first.pcrs == next(b.pcrs for b in made if b.name == first.name)


@pytest.mark.parametrize("phase", ["ready", "enter-initrd:", "leave-initrd:enter-initrd", ":", "x" * 200])
def test_a_phase_that_there_is_not(phase: str) -> None:
    with pytest.raises(ManifestError, match="phase"):
        predict(present(), phase=phase)
    with pytest.raises(ManifestError, match="phase"):
        predict(update(), captured("uki"), present(), phase=phase)


def test_a_phase_without_a_log_leaves_that_one() -> None:
    (boot,) = predict(present(), secure_boot=True, phase=READY)
    assert boot.pcrs["sha256"][11] == reported("uki")["sha256"][11]


def test_boots_through_grub_have_no_phases() -> None:
    with pytest.raises(UnsupportedError, match="phases"):
        predict(release("flatcar-lab-good"), phase=READY)


def test_going_back_is_among_the_boots_and_leaves_the_old_registers() -> None:
    made = boots()
    assert list(made) == [f"{OLD}, nothing updated", f"{NEW}, updated", f"{OLD}, back after the update"]
    assert made[f"{OLD}, back after the update"].pcrs == made[f"{OLD}, nothing updated"].pcrs


def test_what_moves_is_explained() -> None:
    moves = boots()[f"{NEW}, updated"].moves
    pcrs, before = reported("uki-tampered-cmdline")["sha256"], reported("uki")["sha256"]
    assert set(moves) == KNOWN
    assert {pcr for pcr, text in moves.items() if text.startswith("changes: ")} == {
        pcr for pcr in KNOWN if pcrs[pcr] != before[pcr]
    }
    assert all(text.partition(": ")[2] for text in moves.values())


def test_only_the_secure_boot_state_of_the_machine() -> None:
    assert boots(secure_boot=False) == {}
    assert list(boots(secure_boot=True)) == list(boots())


def test_a_log_of_another_image_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="PCR 4 and 11"):
        predict(present(), captured("uki"), update())
    with pytest.raises(UnsupportedError, match="PCR 4 and 11"):
        predict(present(), captured("flatcar-lab-good"))
    # The image is in register 11, and another program in register 4.
    stranger = changed(present(), "uki", authenticode=OTHER)
    with pytest.raises(UnsupportedError, match="PCR 4 and 11"):
        predict(update(), captured("uki"), stranger)


def test_the_firmware_may_have_started_the_image_itself() -> None:
    """The log of a machine without shim or without systemd-boot, whose manifest has them all the same."""
    log = captured("uki")
    image, loader, shim = present().component("uki"), present().component("systemd-boot"), present().component("shim")
    assert image is not None
    assert loader is not None
    assert shim is not None
    for left_out, ways in (((loader,), (shim, None)), ((shim,), (None, loader)), ((shim, loader), (None, None))):
        gone = {c.authenticode["sha256"] for c in left_out}
        fewer = with_events(log, [written(e) for e in log[1:] if e.pcr != 4 or e.digests["sha256"] not in gone])
        seen = observe_unified(fewer, present())
        assert (seen.shim, seen.loader) == ways
        boot = boots(log=fewer)[f"{NEW}, updated"]
        new = update().component("uki")
        assert new is not None
        assert [e.digests["sha256"] for e in boot.of(4) if e.kind == "image"] == [
            one.authenticode["sha256"] for one in (*ways, new) if one is not None
        ]


def test_without_shim_register_14_stays_zero() -> None:
    boot = boots(log=with_events(captured("uki"), [written(e) for e in captured("uki")[1:] if e.pcr != 14]))
    assert {made.pcrs["sha256"][14] for made in boot.values()} == {bytes(32)}


def test_a_program_that_no_manifest_knows_is_taken_to_stay() -> None:
    """Another systemd-boot than the manifest's: its event is the log's, and the prediction says what it rests on."""
    boot = boots(old=changed(present(), "systemd-boot", authenticode=OTHER))[f"{NEW}, updated"]
    assert any("register 4" in text for text in boot.assumptions)
    assert boot.pcrs["sha256"][4] == reported("uki-tampered-cmdline")["sha256"][4]
    assert not any("register 4" in text for text in boots()[f"{NEW}, updated"].assumptions)


def test_another_stub_may_record_other_things() -> None:
    boot = boots(other_uki(update(), stub="256"))[f"{NEW}, updated"]
    assert {9, 12} <= set(boot.unknown)
    assert "252" in boot.unknown[12]
    assert "256" in boot.unknown[12]
    assert not {9, 12} & set(boot.pcrs["sha256"])
    # What does not depend on it is known all the same, and so is the way back.
    assert {4, 7, 11} <= set(boot.pcrs["sha256"])
    assert not {9, 12} & set(boots(other_uki(update(), stub="256"))[f"{OLD}, back after the update"].unknown)


@pytest.mark.parametrize("role", ["uki", "systemd-boot"])
def test_programs_of_no_known_version_are_not_taken_for_the_same(role: str) -> None:
    def nameless(manifest: ReferenceManifest) -> ReferenceManifest:
        return other_uki(manifest, stub=None) if role == "uki" else changed(manifest, role, version=None)

    new = nameless(changed(update(), "systemd-boot", authenticode=OTHER))
    behind = f"{NEW}, behind the systemd-boot of 1.0.1"
    assert {5, 9} & set(boots(new, old=nameless(present()))[behind].unknown) == {{"uki": 9, "systemd-boot": 5}[role]}
    assert 12 in boots(new, old=nameless(present()))[behind].unknown


def test_another_kernel_is_taken_to_record_as_the_old_one_does() -> None:
    new = update().component("uki")
    assert new is not None
    assert new.uki is not None
    assert not any("register 9" in text for text in boots()[f"{NEW}, updated"].assumptions)
    sections = tuple(
        attrs.evolve(s, digests={b: b"\x05" * len(d) for b, d in s.digests.items()}) if s.name == ".linux" else s
        for s in new.uki.sections
    )
    boot = boots(other_uki(update(), sections=sections))[f"{NEW}, updated"]
    assert any("register 9" in text for text in boot.assumptions)
    assert 9 in boot.pcrs["sha256"]


@pytest.mark.parametrize(
    ("what", "registers"),
    [
        ({"command_line": None}, {9, 12}),
        ({"command_line": "root=LABEL=ROOT\n"}, {9, 12}),
        ({"command_line": "a\\xffb"}, {9, 12}),
    ],
    ids=["none", "a line's end", "not UTF-8"],
)
def test_a_command_line_whose_record_is_not_known(what: dict[str, Any], registers: set[int]) -> None:
    boot = boots(other_uki(update(), **what))[f"{NEW}, updated"]
    assert set(boot.unknown) == {10, 15} | registers


def test_microcode_in_the_new_image_leaves_register_9_unknown() -> None:
    new = update().component("uki")
    assert new is not None
    assert new.uki is not None
    code = UkiSection(name=".ucode", size=1, digests=new.uki.sections[0].digests)
    boot = boots(other_uki(update(), sections=(*new.uki.sections, code)))[f"{NEW}, updated"]
    assert set(boot.unknown) == {9, 10, 15}


def test_what_the_log_does_not_explain_is_not_taken_for_the_image_s() -> None:
    """A command line that somebody has added to, and an initrd that is not the image's alone."""
    log = captured("uki")

    def tampered(pcr: int, at: int) -> EventLog:
        place = [event.index for event in log if event.pcr == pcr][at]
        wrong = {bank: b"\x07" * len(digest) for bank, digest in log[place].digests.items()}
        return with_events(log, [written(e, digests=wrong if e.index == place else None) for e in log[1:]])

    for pcr, at in ((12, 0), (9, 0), (9, 1)):
        made = boots(log=tampered(pcr, at))
        assert set(made[f"{NEW}, updated"].unknown) == {pcr, 10, 15}
        # The machine as it is stays as it is.
        assert set(made[f"{OLD}, nothing updated"].unknown) == {10, 15}


def test_system_extensions_beside_the_old_image_leave_register_13_unknown() -> None:
    log = captured("uki")
    extension = written(next(e for e in log if e.pcr == 12), pcr=13)
    made = boots(log=with_events(log, [*map(written, log[1:]), extension]))
    assert 13 in made[f"{NEW}, updated"].unknown
    assert 13 not in made[f"{NEW}, updated"].pcrs["sha256"]
    assert made[f"{OLD}, nothing updated"].pcrs["sha256"][13] != bytes(32)


STRANGER = Signer(
    chain=(Certificate(subject="CN=x", issuer="CN=x", sha256=b"\x07" * 32),), algorithm="sha256", verified="yes"
)


def _shim_signers() -> tuple[Signer, ...]:
    shim = present().component("shim")
    assert shim is not None
    return shim.signers


def _refused(component: Component) -> tuple[Signer, ...]:
    return tuple(attrs.evolve(signer, verified="no") for signer in component.signers)


@pytest.mark.parametrize(
    "signers",
    [lambda _: (), lambda _: (STRANGER,), lambda _: _shim_signers(), _refused],
    ids=["unsigned", "a stranger", "another authority of the log", "a wrong signature"],
)
def test_other_authorities_leave_register_7_unknown(signers: Callable[[Component], tuple[Signer, ...]]) -> None:
    component = update().component("uki")
    assert component is not None
    made = boots(changed(update(), "uki", signers=signers(component)))
    assert 7 in made[f"{NEW}, updated"].unknown
    assert 7 not in made[f"{NEW}, updated"].pcrs["sha256"]
    assert 7 in made[f"{OLD}, back after the update"].pcrs["sha256"]
    # Without Secure Boot nobody looks.
    off = boots(changed(update(), "uki", signers=signers(component)), captured("uki-sb-off"))
    assert 7 in off[f"{NEW}, updated"].pcrs["sha256"]


def test_a_new_systemd_boot_may_have_been_installed_or_not() -> None:
    same = boots(changed(update(), "systemd-boot", authenticode=OTHER))
    behind = "behind the systemd-boot of 1.0.1"
    assert list(same) == [*boots(), f"{NEW}, {behind}", f"{OLD}, {behind}"]
    assert OTHER["sha256"] in [e.digests["sha256"] for e in same[f"{OLD}, {behind}"].of(4)]
    assert set(same[f"{NEW}, {behind}"].unknown) == {10, 15}
    assert same[f"{NEW}, {behind}"].bootloader == "1.0.1"
    # Another version may measure its configuration into register 5, and command lines in another way.
    newer = boots(changed(update(), "systemd-boot", authenticode=OTHER, version="257"))
    assert set(newer[f"{NEW}, {behind}"].unknown) == {5, 10, 12, 15}
    stranger = boots(changed(update(), "systemd-boot", authenticode=OTHER, signers=(STRANGER,)))
    assert set(stranger[f"{OLD}, {behind}"].unknown) == {7, 10, 15}


def test_kernels_of_which_one_is_no_program() -> None:
    made = boots(other_uki(update(), kernel_authenticode=None), captured("uki-sb-off"))
    assert set(made[f"{NEW}, updated"].unknown) == {4, 10, 15}


def test_whether_the_kernel_inside_is_measured_is_for_the_log_to_say() -> None:
    log = captured("uki-sb-off")
    last = [event.index for event in log if event.pcr == 4][-1]
    boot = boots(log=with_events(log, [written(e) for e in log[1:] if e.index != last]))[f"{NEW}, updated"]
    new = update().component("uki")
    assert new is not None
    assert boot.of(4)[-1].digests == new.authenticode
    assert 4 not in boot.unknown


def test_what_is_not_asked_of_such_machines() -> None:
    given: dict[str, Any]
    for given in ({"slot": "a"}, {"first_boot": True}, {"oem_grub_cfg": b""}, {"arguments": ["x"]}):
        with pytest.raises(UnsupportedError, match="Secure Boot and phase"):
            boots(**given)
    with pytest.raises(UnsupportedError, match="Secure Boot and phase"):
        predict(update(), bootloader=present())


def test_it_can_be_sealed_to() -> None:
    """Every form, and the values are those that the TPM reported of both boots."""
    made = list(boots().values())
    pcrs = (4, 7, 11, 12)
    states = seal.states_of(made, pcrs)
    assert [list(state.names) for state in states] == [
        [f"{OLD}, nothing updated, {READY}", f"{OLD}, back after the update, {READY}"],
        [f"{NEW}, updated, {READY}"],
    ]
    for state, name in zip(states, ("uki", "uki-tampered-cmdline"), strict=True):
        assert state.values == {pcr: reported(name)["sha256"][pcr] for pcr in pcrs}
    assert len(seal.tpm2_policy(states).branches) == 2
    assert len(seal.cryptenroll_arguments(states)) == 2
    assert seal.clevis_config(states)[0] == "sss"
    files = seal.pcrlock_components(made, pcrs)
    assert len(files) == 2
    assert json.loads(json.dumps(seal.prediction_document(made)))["boots"][1]["name"] == f"{NEW}, updated, {READY}"
