"""A secret sealed to a boot that has not happened yet, in real machines that share one TPM.

The machine boots from slot A; its log and the image of the next release give the registers of the boots to come; a secret
is sealed to them. The update boots and unseals it, a boot with a changed OEM configuration does not, and the old slot
still does. GRUB here is Debian's, the guest asks the TPM itself, through its kernel.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from fixtures.lab import image, initramfs, kernel, machine
from fixtures.lab.firmware import FirmwareSpec
from fixtures.lab.image import ImageSpec
from fixtures.lab.packages import require
from measlog.flatcar.boot import predict
from measlog.flatcar.image import Image
from measlog.interop import seal
from measlog.log import EventLog
from tests.interop.swtpm import SoftwareTpm, running_tpm

pytestmark = pytest.mark.lab

BANKS = ("sha1", "sha256", "sha384")
PCRS = (0, 2, 4, 5, 7, 8, 9, 14)
SECRET = b"the next boot knows"
NAMES = ("public", "private", "digests", "selection")
UNSEAL = """
if [ -n "$public" ]; then
    mkdir /run/sealed
    cd /run/sealed
    echo "$public" | xxd -r -p > public
    echo "$private" | xxd -r -p > private
    echo "$digests" | xxd -r -p > digests
    list=""
    count=$(($(wc -c < digests) / 32))
    number=0
    while [ $number -lt $count ]; do
        dd if=digests of="branch-$number" bs=32 skip=$number count=1 2>/dev/null
        list="$list${list:+,}branch-$number"
        number=$((number + 1))
    done
    tpm2 createprimary -C o -G ecc -c primary.ctx > /run/out/unseal.txt 2>&1
    tpm2 load -C primary.ctx -u public -r private -c sealed.ctx >> /run/out/unseal.txt 2>&1
    tpm2 startauthsession --policy-session -S session.ctx >> /run/out/unseal.txt 2>&1
    tpm2 policypcr -S session.ctx -l "$selection" >> /run/out/unseal.txt 2>&1
    tpm2 policyor -S session.ctx "sha256:$list" >> /run/out/unseal.txt 2>&1
    tpm2 unseal -c sealed.ctx -p session:session.ctx -o /run/out/secret >> /run/out/unseal.txt 2>&1
    cd /run/out
fi
"""


def initrd(folder: Path) -> Path:
    """The lab's guest with one more step; a later archive's files replace an earlier one's."""
    script = (Path(initramfs.__file__).parent / "guest" / "init").read_text()
    orders = "".join(f"        {name}) {name}=$value ;;\n" for name in NAMES)
    changed = script.replace("        nonce) nonce=$value ;;\n", "        nonce) nonce=$value ;;\n" + orders, 1)
    changed = changed.replace("tpm2 createek ", UNSEAL + "\ntpm2 createek ", 1)
    assert changed.count(UNSEAL) == 1
    assert orders in changed
    path = folder / "initrd"
    path.write_bytes(
        kernel.debian_initrd().read_bytes() + initramfs.newc({"init": (0o100755, changed.encode(), (0, 0))})
    )
    return path


def boot(folder: Path, spec: ImageSpec, tpm: machine.Tpm, sealed: Sequence[tuple[str, str]] = ()) -> machine.Outcome:
    folder.mkdir()
    disk = image.working_copy(spec, folder / "disk.img")
    settings = [("nonce", "00" * 20), ("bank", "sha256"), ("registers", "0"), ("slot", spec.slot), *sealed]
    done = machine.boot(
        machine.Machine(folder=folder, disk=disk, firmware=FirmwareSpec(), tpm=tpm, time_limit=600), settings
    )
    disk.unlink()
    assert done.stage == "guest", f"see {folder}/serial.log"
    return done


@contextmanager
def images(*specs: ImageSpec) -> Iterator[list[Path]]:
    try:
        yield [image.image(spec) / "disk.img" for spec in specs]
    finally:
        for spec in specs:
            shutil.rmtree(image.image(spec), ignore_errors=True)


def create_sealed(tpm: SoftwareTpm, policy: seal.Tpm2Policy) -> list[tuple[str, str]]:
    """Seal the secret on the host, in the machine's own TPM; gives the order for the guest."""
    (tpm.folder / "policy").write_bytes(policy.digest)
    tpm.tpm2("createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx")
    tpm.tpm2("create", "-C", "primary.ctx", "-u", "pub", "-r", "priv", "-L", "policy", "-i", "-", stdin=SECRET)
    tpm.tpm2("shutdown", "-c")
    (group,) = policy.groups
    return [
        ("public", (tpm.folder / "pub").read_bytes().hex()),
        ("private", (tpm.folder / "priv").read_bytes().hex()),
        ("digests", b"".join(group).hex()),
        ("selection", policy.branches[0].selection),
    ]


def test_a_secret_sealed_before_the_update_opens_after_it(tmp_path: Path) -> None:
    require()
    guest = str(initrd(tmp_path))
    old = ImageSpec(kernel="debian", esp_files=(("flatcar/initrd-a", guest),))
    new = ImageSpec(
        kernel="debian",
        slot="b",
        usr_release="2",
        kernel_edit=("Linux version", "Linux Version"),
        esp_files=(("flatcar/initrd-a", guest), ("flatcar/initrd-b", guest)),
    )
    tampered = attrs.evolve(new, oem_append='set linux_append="measlog.tampered=1"\n')
    with images(old, new, tampered) as (old_disk, new_disk, _):
        tpm = machine.manufacture(tmp_path, BANKS)
        first = boot(tmp_path / "first", old, tpm)
        log = EventLog.from_bytes(first.files["binary_bios_measurements"])
        before = Image.open(old_disk, verity=False).reference_manifest(release="1.0.0")
        after = Image.open(new_disk, verity=False).reference_manifest(release="2.0.0")
        states = seal.states_of(predict(after, log, bootloader=before), PCRS)
        policy = seal.tpm2_policy(states)
        with running_tpm(tmp_path, tpm.state) as host:
            sealed = create_sealed(host, policy)
        assert boot(tmp_path / "update", new, tpm, sealed).files.get("secret") == SECRET
        refused = boot(tmp_path / "tampered", tampered, tpm, sealed).files
        assert "secret" not in refused
        assert b"a policy check failed" in refused["unseal.txt"] or b"value" in refused["unseal.txt"]
        assert boot(tmp_path / "back", old, tpm, sealed).files.get("secret") == SECRET
