"""The neighbours' own tools seal to predicted boots and open in them: clevis, systemd-cryptenroll, systemd-pcrlock.

They come from Debian 13 (:mod:`tests.lab.trixie`). The TPM is swtpm: a boot is made by extending the predicted events, which the tests of the lab prove to be those
of real boots. Needs root, for chroot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from measlog.flatcar.boot import PredictedBoot, predict
from measlog.interop import seal
from measlog.log import EventLog
from measlog.reference.signing import SignedManifest
from tests.conftest import FIXTURES
from tests.flatcar.grub.captures import read_log
from tests.flatcar.grub.manifests import manifest
from tests.interop.swtpm import SoftwareTpm, software_tpm
from tests.lab.trixie import trixie

pytestmark = pytest.mark.lab

PCRS = (4, 8, 9)
EV_NO_ACTION = 3
PASSWORD = "measlog"
# The kernel's resource manager is not there: what a tool leaves in the TPM is flushed when it ends, as that would do.
WRAPPER = """#!/bin/sh
/usr/bin/"${0##*/}" "$@"; status=$?
/usr/bin/tpm2_flushcontext -t >/dev/null 2>&1
/usr/bin/tpm2_flushcontext -l >/dev/null 2>&1
exit $status
"""
# An sss pin tries its pins at the same time, which needs that resource manager too: here they take turns.
ONE_BY_ONE = """#!/bin/sh
exec flock /run/measlog-tpm.lock /usr/bin/clevis-decrypt-tpm2 "$@"
"""


@pytest.fixture(scope="module")
def root() -> Path:
    """Debian 13 with the tools."""
    place = trixie("usr/bin/systemd-cryptenroll")
    tools = place / "opt/flushing"
    tools.mkdir(parents=True, exist_ok=True)
    for tool in (place / "usr/bin").glob("tpm2_*"):
        wrapper = tools / tool.name
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)
    one_by_one = tools / "clevis-decrypt-tpm2"
    one_by_one.write_text(ONE_BY_ONE)
    one_by_one.chmod(0o755)
    return place


class Guest:
    """Debian 13's tools, with the TPM of the test."""

    def __init__(self, root: Path, tpm: SoftwareTpm) -> None:
        self.root = root
        self.tpm = tpm
        self.folder = root / "work"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def run(self, *words: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        tcti = self.tpm.tcti
        script = (
            'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && cd / && '
            'exec chroot "$0" /usr/bin/env -i PATH=/opt/flushing:/usr/sbin:/usr/bin HOME=/root '
            f"TPM2TOOLS_TCTI={tcti} SYSTEMD_TPM2_DEVICE={tcti} PASSWORD={PASSWORD} "
            'sh -c \'cd /work && exec "$@"\' sh "$@"'
        )
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, str(self.root), *words],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.returncode}: {done.stderr.decode()}")
        return done


@pytest.fixture
def guest(root: Path, tmp_path: Path) -> Iterator[Guest]:
    with software_tpm(tmp_path) as tpm:
        yield Guest(root, tpm)


@pytest.fixture(scope="module")
def boots() -> list[PredictedBoot]:
    """Now, after the update, and the fall back into the old slot, of the committed release."""
    key = (FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()
    signed = (FIXTURES / "flatcar-lab-good" / "manifest.dsse.json").read_bytes()
    release = SignedManifest.from_bytes(signed).verify(keys=[key])
    now = predict(release, secure_boot=True, slot="a", first_boot=False)
    after = predict(release, secure_boot=True, slot="b", first_boot=False)
    return [now[0], after[0]]


@pytest.fixture(scope="module")
def tampered() -> PredictedBoot:
    key = (FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()
    signed = (FIXTURES / "flatcar-lab-good" / "manifest.dsse.json").read_bytes()
    release = SignedManifest.from_bytes(signed).verify(keys=[key])
    oem = b'set linux_append="init=/bin/sh"\n'
    return predict(release, secure_boot=True, slot="b", first_boot=False, oem_grub_cfg=oem)[0]


def boot_into(tpm: SoftwareTpm, boot: PredictedBoot) -> None:
    tpm.restart()
    for pcr in PCRS:
        for event in boot.of(pcr):
            tpm.extend(pcr, {bank: event.digests[bank] for bank in ("sha1", "sha256", "sha384")})


def test_clevis(guest: Guest, boots: list[PredictedBoot], tampered: PredictedBoot) -> None:
    now, after = boots
    boot_into(guest.tpm, now)
    pin, config = seal.clevis_config(seal.states_of(boots, PCRS))
    assert pin == "sss"
    sealed = guest.run("clevis", "encrypt", pin, config, stdin=b"the secret").stdout
    only_next, config = seal.clevis_config(seal.states_of([after], PCRS))
    future = guest.run("clevis", "encrypt", only_next, config, stdin=b"the secret").stdout
    assert guest.run("clevis", "decrypt", stdin=sealed).stdout == b"the secret"
    # Sealed to values that the registers do not have yet.
    assert guest.run("clevis", "decrypt", stdin=future, check=False).returncode != 0
    boot_into(guest.tpm, after)
    assert guest.run("clevis", "decrypt", stdin=sealed).stdout == b"the secret"
    assert guest.run("clevis", "decrypt", stdin=future).stdout == b"the secret"
    boot_into(guest.tpm, tampered)
    assert guest.run("clevis", "decrypt", stdin=sealed, check=False).returncode != 0
    assert guest.run("clevis", "decrypt", stdin=future, check=False).returncode != 0
    boot_into(guest.tpm, now)
    assert guest.run("clevis", "decrypt", stdin=sealed).stdout == b"the secret"


def luks(guest: Guest) -> None:
    (guest.folder / "disk").write_bytes(bytes(32 << 20))
    guest.run(
        *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2"),
        *("--pbkdf-force-iterations", "1000", "--key-file", "-", "disk"),
        stdin=PASSWORD.encode(),
    )


def unlocks(guest: Guest) -> bool:
    """Whether the TPM unlocks the volume: with it, and nothing else, a recovery key can be added."""
    done = guest.run(
        "systemd-cryptenroll", f"--unlock-tpm2-device={guest.tpm.tcti}", "--recovery-key", "disk", check=False
    )
    return done.returncode == 0


def test_cryptenroll_values(guest: Guest, boots: list[PredictedBoot], tampered: PredictedBoot) -> None:
    now, after = boots
    boot_into(guest.tpm, now)
    luks(guest)
    states = seal.states_of(boots, PCRS)
    for argument in seal.cryptenroll_arguments(states):
        guest.run("systemd-cryptenroll", f"--tpm2-device={guest.tpm.tcti}", argument, "disk")
    dump = json.loads(guest.run("cryptsetup", "luksDump", "--dump-json-metadata", "disk").stdout)
    policies = {token["tpm2-policy-hash"] for token in dump["tokens"].values() if token["type"] == "systemd-tpm2"}
    assert policies == {seal.policy_pcr(state).hex() for state in states}
    assert unlocks(guest)
    boot_into(guest.tpm, after)
    assert unlocks(guest)
    boot_into(guest.tpm, tampered)
    assert not unlocks(guest)
    boot_into(guest.tpm, now)
    assert unlocks(guest)


def test_cryptenroll_signed_policies(guest: Guest, boots: list[PredictedBoot], tampered: PredictedBoot) -> None:
    """Enrolled once with the public key; a new signature, no new enrolment, opens after the update."""
    now, after = boots
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (guest.folder / "public.pem").write_bytes(public)
    signatures = guest.root / "etc/systemd/tpm2-pcr-signature.json"
    signatures.write_bytes(seal.pcrsig(seal.states_of([now], PCRS), seal.SigningKey(key)))
    try:
        boot_into(guest.tpm, now)
        luks(guest)
        guest.run(
            *("systemd-cryptenroll", f"--tpm2-device={guest.tpm.tcti}", "--tpm2-pcrs=", "--tpm2-public-key=public.pem"),
            *("--tpm2-public-key-pcrs=4+8+9", "--tpm2-signature=/etc/systemd/tpm2-pcr-signature.json", "disk"),
        )
        assert unlocks(guest)
        boot_into(guest.tpm, after)
        assert not unlocks(guest)
        signatures.write_bytes(seal.pcrsig(seal.states_of(boots, PCRS), seal.SigningKey(key)))
        assert unlocks(guest)
        boot_into(guest.tpm, tampered)
        assert not unlocks(guest)
        boot_into(guest.tpm, now)
        assert unlocks(guest)
    finally:
        signatures.unlink()


def test_pcrlock(guest: Guest, shared: Path) -> None:
    """systemd-pcrlock recognises the boot of the log among the components, and predicts all of them."""
    path = shared / "flatcar" / "captures" / "usr-a-secureboot" / "binary_bios_measurements"
    (guest.folder / "log").write_bytes(path.read_bytes())
    guest.tpm.restart()
    for event in read_log(path):
        if event.type != EV_NO_ACTION:
            guest.tpm.extend(event.pcr, event.digests)
    old, new = manifest(shared), manifest(shared, updated=True)
    boots = predict(new, EventLog.from_bytes(path.read_bytes()), bootloader=old)
    pcrs = (4, 5, 7, 8, 9, 14)
    for name, content in seal.pcrlock_components(boots, pcrs).items():
        target = guest.folder / "pcrlock.d" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    done = guest.run(
        *("env", "SYSTEMD_MEASURE_LOG_FIRMWARE=/work/log", "SYSTEMD_MEASURE_LOG_USERSPACE=/dev/null"),
        *("/usr/lib/systemd/systemd-pcrlock", "--components=/work/pcrlock.d", "--json=short"),
        *(f"--pcr={pcr}" for pcr in pcrs),
        "predict",
    )
    predicted = {entry["pcr"]: set(entry["values"]) for entry in json.loads(done.stdout)["sha256"]}
    assert predicted == {pcr: {boot.pcrs["sha256"][pcr].hex() for boot in boots} for pcr in pcrs}
