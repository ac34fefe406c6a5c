"""systemd-pcrlock of Debian 13 as the judge of the logs and component files that are written and read here.

``cel`` prints the joined logs and ``list-components`` the components; neither needs a TPM. Needs root, for chroot.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from measlog.flatcar.boot import predict
from measlog.interop import seal
from measlog.interop.pcrlock import cel_documents, read_component, read_components, write_component
from measlog.interop.systemdlog import SystemdRecord, read_userspace_log, write_userspace_log
from measlog.log import EventLog
from measlog.registry import Register
from tests.conftest import FIXTURES, SHARED
from tests.flatcar.grub.manifests import manifest
from tests.lab.trixie import trixie

pytestmark = pytest.mark.lab

PCRLOCK = "/usr/lib/systemd/systemd-pcrlock"
CAPTURES = sorted(
    [path.parent for path in FIXTURES.glob("*/binary_bios_measurements")]
    + [path.parent for path in SHARED.glob("flatcar/captures/*/binary_bios_measurements")]
)


@pytest.fixture(scope="module")
def root() -> Path:
    """Debian 13 with systemd."""
    place = trixie(PCRLOCK.removeprefix("/"))
    (place / "work").mkdir(exist_ok=True)
    return place


def pcrlock(place: Path, *words: str, environment: Mapping[str, str] | None = None) -> Any:
    """What systemd-pcrlock prints; ``/work`` is the folder ``work`` of the root."""
    variables = " ".join(f"{name}={value}" for name, value in (environment or {}).items())
    script = f'mount -t proc proc "$0/proc" && exec chroot "$0" /usr/bin/env -i {variables} {PCRLOCK} "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(place), "--json=short", *words],
        capture_output=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def cel(place: Path, firmware: bytes, userspace: bytes) -> Any:
    work = place / "work"
    (work / "firmware").write_bytes(firmware)
    (work / "userspace").write_bytes(userspace)
    names = {"SYSTEMD_MEASURE_LOG_FIRMWARE": "/work/firmware", "SYSTEMD_MEASURE_LOG_USERSPACE": "/work/userspace"}
    return pcrlock(place, "cel", environment=names)


def unordered(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with digests by algorithm: the order of banks within a record is each program's own."""
    return [{**d, "digests": {one["hashAlg"]: one["digest"] for one in d["digests"]}} for d in documents]


@pytest.mark.parametrize("folder", CAPTURES, ids=lambda path: path.name)
def test_cel_says_the_same_of_every_capture(root: Path, folder: Path) -> None:
    firmware = (folder / "binary_bios_measurements").read_bytes()
    userspace = folder / "tpm2-measure.log"
    records = read_userspace_log(userspace.read_bytes()) if userspace.exists() else ()
    found = cel(root, firmware, write_userspace_log(records))
    assert unordered(found) == unordered(cel_documents(EventLog.from_bytes(firmware), records))


def test_cel_reads_what_is_written(root: Path) -> None:
    """Texts and registers that no capture has."""
    banks = {"sha1": bytes(20), "sha256": bytes(32), "sha384": bytes(48), "sha512": bytes(64)}
    texts = ["machine-id:00", 'with "quotes" and \\', "ünïcode ✓", "", "\t\n"]
    records = [
        SystemdRecord.of(
            Register("pcr", 15 - n), text, banks, event_type="machine-id", boot_id="0" * 32, timestamp=2**63
        )
        for n, text in enumerate(texts)
    ]
    firmware = (FIXTURES / "uki" / "binary_bios_measurements").read_bytes()
    found = cel(root, firmware, write_userspace_log(records))
    assert unordered(found) == unordered(cel_documents(EventLog.from_bytes(firmware), records))


def test_its_own_components_are_read(root: Path) -> None:
    """The files that Debian ships: read, and listed under the names that systemd-pcrlock gives them."""
    folder = root / "usr/lib/pcrlock.d"
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.pcrlock")}
    components = read_components(files)
    listed = pcrlock(root, "--components=/usr/lib/pcrlock.d", "list-components")
    assert len(files) >= 10
    assert sorted({row["id"] for row in listed}) == [c.name for c in components]
    assert sorted(row["variants"].removeprefix("/usr/lib/pcrlock.d/") for row in listed) == sorted(files)
    for data in files.values():
        assert read_component(write_component(read_component(data))) == read_component(data)


def test_components_that_are_written_are_listed(root: Path, shared: Path) -> None:
    boots = predict(manifest(shared), secure_boot=True)
    files = seal.pcrlock_components(boots, (4, 8, 9))
    folder = root / "work" / "written.pcrlock.d"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    listed = pcrlock(root, "--components=/work/written.pcrlock.d", "list-components")
    ours = {row["variants"].removeprefix("/work/written.pcrlock.d/") for row in listed if "/work/" in row["variants"]}
    assert ours == set(files)
    assert [c.name for c in read_components(files)] == [seal.pcrlock.COMPONENT]
