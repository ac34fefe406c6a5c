"""The engine against the logs of real boots: GRUB 2.12 with the Red Hat and Flatcar patches.

Nothing is taken from the logs but what is compared: the configuration and the files come from the disk that was booted.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from measlog.flatcar.grub import GrubFile, Outcome, run
from tests.flatcar.grub.captures import CAPTURES, machine, read_log, read_pcrs

EV_IPL = 0x0D
EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003


@pytest.fixture(params=sorted(CAPTURES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config(shared: Path) -> bytes:
    return (shared / "flatcar" / "grub.cfg").read_bytes()


def test_commands_and_files_are_the_logs(shared: Path, name: str) -> None:
    boot = run(config(shared), machine(shared, name))
    log = read_log(shared / "flatcar" / "captures" / name / "binary_bios_measurements")
    for pcr in (8, 9):
        logged = [(e.data, e.digests) for e in log if e.pcr == pcr and e.type == EV_IPL]
        assert logged
        assert [(e.data, {bank: e.digest(bank) for bank in logged[0][1]}) for e in boot.of(pcr)] == logged


def test_registers_are_the_tpms(shared: Path, name: str) -> None:
    boot = run(config(shared), machine(shared, name))
    pcrs = read_pcrs(shared / "flatcar" / "captures" / name / "pcrs.txt")
    assert set(pcrs) == {"sha1", "sha256", "sha384"}
    for bank, values in pcrs.items():
        assert boot.registers(bank) == {pcr: values[pcr] for pcr in (8, 9)}


def test_the_interleaving_of_the_registers_is_the_logs(shared: Path, name: str) -> None:
    boot = run(config(shared), machine(shared, name))
    log = read_log(shared / "flatcar" / "captures" / name / "binary_bios_measurements")
    first = next(i for i, e in enumerate(log) if e.pcr == 8)
    logged = [(e.pcr, e.digests["sha256"]) for e in log[first:] if e.pcr in {4, 8, 9}]
    assert [(e.pcr, e.digest("sha256")) for e in boot.events] == logged


def test_the_kernel_is_in_register_4_with_secure_boot_alone(shared: Path, name: str) -> None:
    boot = run(config(shared), machine(shared, name))
    assert len(boot.of(4)) == (1 if CAPTURES[name].secure_boot else 0)


def test_the_outcome_is_the_kernel_of_the_slot(shared: Path, name: str) -> None:
    boot = run(config(shared), machine(shared, name))
    slot = b"b" if CAPTURES[name].updated else b"a"
    assert boot.outcome is Outcome.KERNEL
    assert boot.kernel == b"/flatcar/vmlinuz-" + slot
    assert boot.runs == 1
    # The one try of the new slot is used up; the old slot had none to lose.
    assert dict(boot.attributes) == ({(b"hd0", 4): 0x0002 << 48} if CAPTURES[name].updated else {})


def test_the_kernel_saw_the_command_line(shared: Path, name: str) -> None:
    """/proc/cmdline: the kernel's own arguments, BOOT_IMAGE=, then what was measured, then the root hash."""
    boot = run(config(shared), machine(shared, name))
    seen = (shared / "flatcar" / "captures" / name / "cmdline.txt").read_bytes()
    assert boot.command_line is not None
    assert b"BOOT_IMAGE=" + boot.command_line + b" verity.usrhash=" in seen


def test_a_changed_oem_configuration_changes_both_registers(shared: Path) -> None:
    good = run(config(shared), machine(shared, "oem-qemu-first-boot")).registers("sha256")
    bad = run(config(shared), machine(shared, "oem-tampered-init")).registers("sha256")
    assert good[8] != bad[8]
    assert good[9] != bad[9]


def test_a_configuration_beside_grub_is_opened_twice_and_run_instead(shared: Path) -> None:
    given = machine(shared, "usr-a-secureboot")
    esp = given.disks[0].partitions[0]
    planted = attrs.evolve(esp, files={**esp.files, "EFI/boot/grub.cfg": GrubFile(content=b"echo planted\n")})
    disk = attrs.evolve(given.disks[0], partitions=(planted, *given.disks[0].partitions[1:]))
    boot = run(config(shared), attrs.evolve(given, disks=(disk,)))
    assert [e.data for e in boot.events] == [
        b"(hd0,gpt1)/EFI/BOOT/grub.cfg\0",
        b"(hd0,gpt1)/EFI/BOOT/grub.cfg\0",
        b"grub_cmd: echo planted\0",
    ]
    assert boot.outcome is Outcome.PROMPT
