"""Generated scripts against real GRUB: one boot of the lab sources all of them, the engine runs them, both must agree.

The firmware's log has room for a part of the events only; the registers, which the TPM extends all the same, prove the
rest. Without MEASLOG_SEED the seed is a new one each time; it is printed and kept beside the machine's folder, with the
events that were computed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import attrs
import pytest

from fixtures.lab import capture, image
from fixtures.lab.firmware import PLAIN
from fixtures.lab.image import ImageSpec
from fixtures.lab.scenarios import Scenario
from measlog.flatcar.grub import GrubFile, GrubLimits, run
from measlog.flatcar.image import Image
from measlog.flatcar.machine import BootState, build_machine
from tests.flatcar.grub.captures import read_log
from tests.flatcar.grub.scripts import LIBRARY, scripts

pytestmark = pytest.mark.lab
COUNT = 500
DEEP = "function f0 { f0 a $1; echo $?; }\nf0\necho -n $?\nf0 b\nif [ $? -ne 0 ]; then f0; else echo $?; fi\n"
"""Comes last: GRUB never forgets that its limit of recursion was met."""


def test_500_generated_scripts(tmp_path: Path) -> None:
    seed = os.environ.get("MEASLOG_SEED") or secrets.token_hex(4)
    count = int(os.environ.get("MEASLOG_SCRIPTS", COUNT))
    print(f"MEASLOG_SEED={seed}")  # noqa: T201  (a failing run is repeated with it)
    written = {**scripts(seed, count), "torture/deep.cfg": DEEP}
    oem = "".join(f"source ($root)/{path}\n" for path in written)
    spec = ImageSpec(
        first_boot=True,
        esp_files=tuple((path, f"text:{text}") for path, text in {**LIBRARY, **written}.items()),
        oem_append=oem,
    )
    row = Scenario(name="grub-scripts", summary="", image=spec, firmware=PLAIN, banks=("sha256",))
    try:
        done = capture.boot(row, logs=tmp_path / "machine", time_limit=600)
        release = Image.open(done.disk).reference_manifest(release="1.0.0")
    finally:
        shutil.rmtree(image.image(spec), ignore_errors=True)
    assert release.grub is not None
    state = BootState(slot="a", first_boot=True, secure_boot=False)
    machine = build_machine(release, release, state, oem_grub_cfg=GrubFile(content=oem.encode()))
    esp, *others = machine.disks[0].partitions
    # A manifest has the text of small .cfg files alone; the scripts source others too.
    known = {path: GrubFile(content=text.encode()) for path, text in {**LIBRARY, **written}.items()}
    esp = attrs.evolve(esp, files={**esp.files, **known})
    machine = attrs.evolve(machine, disks=(attrs.evolve(machine.disks[0], partitions=(esp, *others)),))
    (tmp_path / "seed").write_text(f"{seed} {count}\n")
    boot = run(release.grub.config.encode(), machine, GrubLimits(steps=200_000, events=100_000))
    (tmp_path / "computed").write_text("".join(f"{event.pcr} {event.data!r}\n" for event in boot.events))
    log = read_log(done.folder / "binary_bios_measurements")
    for pcr in (8, 9):
        logged = [(e.data, e.digests["sha256"]) for e in log if e.pcr == pcr]
        computed = [(e.data, e.digest("sha256")) for e in boot.of(pcr)]
        assert len(logged) > 50
        assert computed[: len(logged)] == logged, f"MEASLOG_SEED={seed}: see {done.logs}"
    registers = {pcr: bytes.fromhex(done.pcrs["sha256"][str(pcr)]) for pcr in (8, 9)}
    assert boot.registers("sha256") == registers, f"MEASLOG_SEED={seed}: see {done.logs}"
    assert len(boot.of(8)) > 5 * count
