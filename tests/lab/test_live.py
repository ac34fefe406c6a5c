"""Real boots, made now. What they must show is computed from the image and by the TPM, not by the library."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from fixtures.lab import capture, eventlog
from fixtures.lab.capture import Capture
from fixtures.lab.errors import LabError
from fixtures.lab.image import LAYOUT, MIB
from fixtures.lab.packages import tool
from fixtures.lab.scenarios import scenario
from fixtures.lab.signing import KEYS

pytestmark = pytest.mark.lab

# An attacker's choice: a shell in init's place, or protections switched off.
ARGUMENTS = (
    "init=/bin/bash",
    "rd.break",
    "systemd.debug_shell",
    "selinux=0",
    "module.sig_enforce=0",
    "apparmor=0",
    "iommu=off",
)


def _boot(name: str, tmp_path: Path, **settings: str | None) -> Capture:
    return capture.boot(scenario(name), logs=tmp_path / "machine", into=tmp_path / "capture", **settings)  # type: ignore[arg-type]


def _file(image: Path, name: str) -> bytes:
    """A file of the image's ESP, read by mtools."""
    offset = next(row.start for row in LAYOUT if row.label == "EFI-SYSTEM") * MIB
    return subprocess.run(
        [tool("mtype"), "-i", f"{image}@@{offset}", f"::/{name}"], capture_output=True, check=True
    ).stdout


def _events(done: Capture) -> tuple[eventlog.Event, ...]:
    events = eventlog.parse((done.folder / "binary_bios_measurements").read_bytes())
    for bank, reported in done.pcrs.items():
        values = eventlog.replay(events, bank)
        assert {index: value.hex() for index, value in values.items()} == {int(i): v for i, v in reported.items()}
    assert set((done.folder / "checkquote.txt").read_text().split()) >= {"0"}
    assert ": 1" not in (done.folder / "checkquote.txt").read_text()
    return events


def _verdict(done: Capture, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """What `measlog verify` says, with a manifest built now from the image that the machine should have run."""
    manifest = tmp_path / "manifest.dsse.json"
    capture.write_manifest(done.scenario, manifest)
    words = [
        "verify",
        done.folder,
        "--nonce",
        done.nonce.hex(),
        "--manifest",
        manifest,
        "--manifest-key",
        KEYS / "manifest.pub",
        "--json",
    ]
    line = [sys.executable, "-m", "measlog.cli.main", *map(str, words)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    document: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, document


def _texts(events: tuple[eventlog.Event, ...], pcr: int) -> list[str]:
    return [event.data.rstrip(b"\0").decode() for event in events if event.pcr == pcr and event.type == 0x0D]


@pytest.mark.parametrize(("name", "slot"), [("flatcar-lab-good", "a"), ("slot-b", "b")])
def test_good_boot_measures_the_kernel_of_its_slot(name: str, slot: str, tmp_path: Path) -> None:
    done = _boot(name, tmp_path)
    events = _events(done)
    kernel = _file(done.disk, f"flatcar/vmlinuz-{slot}")
    files = [event for event in events if event.pcr == 9]
    assert [(event.data, event.digests["sha256"]) for event in files] == [
        (f"/flatcar/vmlinuz-{slot}\0".encode(), hashlib.sha256(kernel).digest())
    ]
    command = next(text for text in _texts(events, 8) if text.startswith("kernel_cmdline: "))
    assert command.removeprefix("kernel_cmdline: ") in "".join((done.folder / "cmdline.txt").read_text()).replace(
        "BOOT_IMAGE=", ""
    )
    assert ("flatcar.first_boot=detected" in command.split()) == (name == "flatcar-lab-good")
    status, document = _verdict(done, tmp_path)
    assert (status, document["status"]) == (0, "affirming"), document["findings"]


def test_one_more_argument_is_seen_by_the_kernel_and_in_the_log(tmp_path: Path) -> None:
    argument = random.SystemRandom().choice(ARGUMENTS)
    done = _boot("flatcar-lab-good", tmp_path, extra_argument=argument)
    events = _events(done)
    assert argument in (done.folder / "cmdline.txt").read_text().split()
    assert argument in next(text for text in _texts(events, 8) if text.startswith("kernel_cmdline: ")).split()
    oem = (done.folder / "oem-grub.cfg").read_bytes()
    assert argument.encode() in oem
    assert hashlib.sha256(oem).digest() in [event.digests["sha256"] for event in events if event.pcr == 9]
    status, document = _verdict(evolve(done, scenario=scenario("flatcar-lab-good")), tmp_path)
    assert (status, document["status"]) == (1, "contraindicated")
    accused = [finding for finding in document["findings"] if finding["pcr"] == 8 and argument in str(finding)]
    assert accused
    assert argument in events[accused[0]["event"]].data.decode()


def test_two_machines_side_by_side(tmp_path: Path) -> None:
    nonces = [bytes([number]) * 20 for number in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        done = list(
            pool.map(
                lambda nonce: capture.boot(
                    scenario("flatcar-lab-good"),
                    nonce=nonce,
                    logs=tmp_path / nonce.hex() / "m",
                    into=tmp_path / nonce.hex() / "c",
                ),
                nonces,
            )
        )
    for one, nonce in zip(done, nonces, strict=True):
        _events(one)
        assert nonce in (one.folder / "quote.msg").read_bytes()
        assert json.loads((one.folder / "pcrs.json").read_text())["sha256"] == done[0].pcrs["sha256"]
    assert (done[0].folder / "ek.pub").read_bytes() != (done[1].folder / "ek.pub").read_bytes()


def test_time_limit_ends_the_boot_and_its_processes(tmp_path: Path) -> None:
    logs = tmp_path / "machine"
    with pytest.raises(LabError, match=r"no end after 3 s, last stage .*serial\.log"):
        capture.boot(scenario("flatcar-lab-good"), logs=logs, into=tmp_path / "capture", time_limit=3)
    assert {"serial.log", "qemu.log", "swtpm.log"} <= {path.name for path in logs.iterdir()}
    mine = str(logs).encode()
    commands = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                commands.append((process / "cmdline").read_bytes())
            except OSError:
                continue
    assert [command for command in commands if mine in command] == []
