"""Folders of release artefacts, and who vouches for them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

import measlog as ml
from measlog.errors import FormatError, ManifestError
from measlog.flatcar.authenticity import OpenPgpKeys, _signer, parse_digests
from measlog.flatcar.image import authenticate
from measlog.flatcar.release import parse_version
from measlog.limits import Limits
from measlog.reference import ReferenceManifest
from measlog.reference.manifest import Source
from tests.flatcar.images import ROOT_B, disk, esp_files, grub, kernel, tool
from tests.flatcar.test_verity import usr

IMAGE = "flatcar_production_image"
VERSION = b'FLATCAR_BUILD=4230\nFLATCAR_VERSION=4230.2.1\nFLATCAR_BUILD_ID=""\nFLATCAR_SDK_VERSION=4230.0.0\n'


def folder_with(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def test_a_folder_of_artefacts(tmp_path: Path) -> None:
    data, root = usr(tmp_path)
    (tmp_path / "usr").unlink()
    program = kernel(root.hex())
    folder_with(
        tmp_path,
        version__txt=VERSION,
        flatcar_production_image__vmlinuz=program,
        flatcar_production_image__grub=grub(),
        flatcar_production_update__bin=data,
    )
    manifest = ml.flatcar.Release.from_directory(tmp_path).reference_manifest()
    assert (manifest.name, manifest.release, manifest.channel, manifest.version, manifest.arch) == (
        "flatcar-4230.2.1",
        "4230.2.1",
        "stable",
        4230002001,
        "amd64",
    )
    assert [(one.role, one.path) for one in manifest.components] == [
        ("grub", "EFI/boot/grubx64.efi"),
        ("kernel", "flatcar/vmlinuz-a"),
    ]
    assert manifest.components[1].flat["sha256"] == hashlib.sha256(program).digest()
    assert [(one.status, one.root) for one in manifest.usr] == [("verified", root)]
    assert {one.name for one in manifest.sources} == {path.name for path in tmp_path.iterdir()}
    assert {one.authenticity for one in manifest.sources} == {"unchecked"}
    assert set(manifest.covers) == {4}
    assert {8, 9} <= set(manifest.not_covered)
    assert ReferenceManifest.from_json(manifest.to_json()) == manifest


def test_the_image_in_the_folder_counts(tmp_path: Path) -> None:
    files = esp_files()
    folder_with(tmp_path, version__txt=VERSION, flatcar_production_image__grub=files["EFI/boot/grubx64.efi"])
    (tmp_path / f"{IMAGE}.bin.bz2").write_bytes(bz2.compress(disk(files)))
    manifest = ml.flatcar.Release.from_directory(tmp_path, verity=False).reference_manifest()
    assert manifest.disk is not None
    assert manifest.release == "4230.2.1"
    assert {one.name for one in manifest.sources} == {"version.txt", f"{IMAGE}.bin.bz2", f"{IMAGE}.grub"}
    (tmp_path / f"{IMAGE}.grub").write_bytes(grub("set other=1\n"))
    with pytest.raises(FormatError, match="is not the grub on the disk image"):
        ml.flatcar.Release.from_directory(tmp_path, verity=False)


@pytest.mark.parametrize("packer", [bytes, bz2.compress])
def test_a_usr_of_another_kernel_gives_no_manifest(packer: type[bytes], tmp_path: Path) -> None:
    data, _ = usr(tmp_path)
    folder_with(tmp_path, flatcar_production_image__vmlinuz=kernel(ROOT_B), flatcar_production_update__bin=packer(data))
    with pytest.raises(FormatError, match="the kernel expects another"):
        ml.flatcar.Release.from_directory(tmp_path)
    assert ml.flatcar.Release.from_directory(tmp_path, verity=False).usr[0].status == "unchecked"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is this the folder of a release"),
        ({"version__txt": b"x"}, "no FLATCAR_VERSION"),
        ({"version__txt": VERSION + b"#" * (1 << 16)}, "more than 65536 bytes"),
        ({"flatcar_production_image__vmlinuz": b"x"}, "flatcar_production_image.vmlinuz"),
        ({"flatcar_production_image__shim": grub()}, "is no shim"),
        ({"flatcar_production_image__bin": b"x"}, "flatcar_production_image.bin"),
    ],
)
def test_a_folder_that_is_not_right_is_one_error(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        ml.flatcar.Release.from_directory(folder_with(tmp_path, **files))


def test_versions() -> None:
    assert parse_version(VERSION) == ("4230.2.1", "stable")
    assert parse_version(b"FLATCAR_VERSION=4459.0.0+nightly-1\n") == ("4459.0.0+nightly-1", "alpha")
    with pytest.raises(FormatError):
        parse_version(b"FLATCAR_VERSION=latest\n")


class Gpg:
    """A GnuPG home with one key."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._line = [tool("gpg"), "--homedir", str(home), "--batch", "--yes", "--quiet"]
        self._line += ["--pinentry-mode", "loopback", "--passphrase", ""]
        self.run("--quick-gen-key", "measlog test <test@example.org>", "ed25519", "sign", "never")
        listed = self.run("--with-colons", "--list-keys").decode().splitlines()
        self.fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr"))
        self.keys = OpenPgpKeys(certificates=self.run("--armor", "--export"))

    def run(self, *words: str | Path) -> bytes:
        return subprocess.run([*self._line, *words], check=True, capture_output=True, timeout=60).stdout

    def sign(self, path: Path, *, armor: bool = False) -> None:
        self.run(*(["--armor"] if armor else []), "--output", f"{path}.sig", "--detach-sign", path)


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    pytest.importorskip("pysequoia")
    # The sockets of gpg-agent need a short path.
    with tempfile.TemporaryDirectory(prefix="mlg") as folder:
        home = Gpg(Path(folder, "h"))
        yield home
        subprocess.run([tool("gpgconf"), "--homedir", f"{folder}/h", "--kill", "all"], check=False, timeout=60)


def image_file(folder: Path) -> Path:
    path = folder / f"{IMAGE}.bin"
    path.write_bytes(disk(esp_files()))
    return path


@pytest.mark.parametrize("armor", [False, True])
def test_a_detached_signature_vouches(armor: bool, gpg: Gpg, tmp_path: Path) -> None:
    path = image_file(tmp_path)
    gpg.sign(path, armor=armor)
    (source,) = ml.flatcar.Image.open(path, keys=gpg.keys, verity=False).sources
    assert (source.authenticity, source.signer) == ("openpgp", gpg.fingerprint)


def digests_of(path: Path, *, algorithm: str = "sha512") -> Path:
    listed = path.with_name(f"{path.name}.DIGESTS")
    value = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    listed.write_text(f"# MD5 HASH\n{'0' * 32}  {path.name}\n# {algorithm.upper()} HASH\n{value}  {path.name}\n")
    return listed


@pytest.mark.parametrize("clear", [False, True])
def test_a_signed_list_of_digests_vouches(clear: bool, gpg: Gpg, tmp_path: Path) -> None:
    path = image_file(tmp_path)
    listed = digests_of(path)
    if clear:
        gpg.run("--output", f"{listed}.asc", "--clear-sign", listed)
    else:
        gpg.sign(listed)
    (source,) = ml.flatcar.Image.open(path, keys=gpg.keys, verity=False).sources
    assert (source.authenticity, source.signer) == ("digests", gpg.fingerprint)
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises((ManifestError, FormatError)):
        ml.flatcar.Image.open(path, keys=gpg.keys, verity=False)
    path.write_bytes(disk(esp_files(**{"flatcar/first_boot": b"changed"})))
    with pytest.raises(ManifestError, match="is not the one in the signed list"):
        ml.flatcar.Image.open(path, keys=gpg.keys, verity=False)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_list_vouches_for_the_bytes_that_were_read(algorithm: str, gpg: Gpg, tmp_path: Path) -> None:
    path = image_file(tmp_path)
    gpg.sign(digests_of(path, algorithm=algorithm))
    read = Source(name=path.name, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).digest())
    assert authenticate(path, read, gpg.keys).authenticity == "digests"
    with pytest.raises(ManifestError, match=r"changed while it was read|is not the one in the signed list"):
        authenticate(path, attrs.evolve(read, sha256=hashlib.sha256(b"before").digest()), gpg.keys)


def test_everything_else_is_refused(gpg: Gpg, tmp_path: Path) -> None:
    path = image_file(tmp_path)
    with pytest.raises(ManifestError, match=r"there is neither .*\.sig nor"):
        ml.flatcar.Image.open(path, keys=gpg.keys, verity=False)
    gpg.sign(path)
    signature = path.with_name(f"{path.name}.sig")
    good = signature.read_bytes()
    for wrong in (b"", b"no signature", good[:-4], good[:-1] + bytes([good[-1] ^ 1])):
        signature.write_bytes(wrong)
        with pytest.raises(ManifestError, match="the OpenPGP signature is not good"):
            ml.flatcar.Image.open(path, keys=gpg.keys, verity=False)
    signature.write_bytes(good)
    for keys in (b"", b"no key"):
        with pytest.raises(ManifestError, match="OpenPGP"):
            ml.flatcar.Image.open(path, keys=OpenPgpKeys(certificates=keys), verity=False)
    path.write_bytes(disk(esp_files(**{"flatcar/first_boot": b"changed"})))
    with pytest.raises(ManifestError, match="the OpenPGP signature is not good"):
        ml.flatcar.Image.open(path, keys=gpg.keys, verity=False)


def test_another_key_is_refused(gpg: Gpg, tmp_path: Path) -> None:
    path = image_file(tmp_path)
    gpg.sign(path)
    with tempfile.TemporaryDirectory(prefix="mlg") as folder:
        other = Gpg(Path(folder, "h"))
        try:
            with pytest.raises(ManifestError, match="OpenPGP"):
                ml.flatcar.Image.open(path, keys=other.keys, verity=False)
        finally:
            subprocess.run([tool("gpgconf"), "--homedir", f"{folder}/h", "--kill", "all"], check=False, timeout=60)


def test_lists_of_digests() -> None:
    sha512, sha256 = "a" * 128, "b" * 64
    listed = f"# SHA512 HASH\n{sha512}  x\n{'c' * 128}  y\n# SHA256 HASH\n{sha256} *x\n".encode()
    assert parse_digests(listed, "x") == ("sha512", sha512)
    for data, message in (
        (listed, "no SHA-256"),
        (f"# MD5 HASH\n{'0' * 32}  z\n# SHA1 HASH\n{'0' * 40}  z\n".encode(), "no SHA-256"),
        (f"# SHA512 HASH\n{'0' * 64}  z\n".encode(), "no SHA-256"),
        (f"# SHA512 HASH\n{sha512}  z\n{'1' * 128}  z\n".encode(), "two SHA512 digests"),
        (b"\xff", "not ASCII"),
        (b"\n" * (2 << 20), "the most is"),
    ):
        with pytest.raises(ManifestError, match=message):
            parse_digests(data, "z")


def test_a_folder_with_keys_needs_a_signature_of_every_file(gpg: Gpg, tmp_path: Path) -> None:
    folder_with(tmp_path, version__txt=VERSION, flatcar_production_image__grub=grub())
    gpg.sign(tmp_path / "version.txt")
    with pytest.raises(ManifestError, match=r"flatcar_production_image\.grub: keys were given"):
        ml.flatcar.Release.from_directory(tmp_path, keys=gpg.keys)
    gpg.sign(tmp_path / f"{IMAGE}.grub")
    release = ml.flatcar.Release.from_directory(tmp_path, keys=gpg.keys)
    assert {one.authenticity for one in release.sources} == {"openpgp"}


def test_a_kernel_without_a_usr_says_what_it_expects(tmp_path: Path) -> None:
    folder_with(tmp_path, flatcar_production_image__vmlinuz=kernel(ROOT_B))
    manifest = ml.flatcar.Release.from_directory(tmp_path).reference_manifest()
    (found,) = manifest.usr
    assert (found.slot, found.status, found.root) == ("a", "unchecked", bytes.fromhex(ROOT_B))


def test_programs_of_two_machines_are_no_release(tmp_path: Path) -> None:
    arm = kernel(ROOT_B, machine=0xAA64)
    folder_with(tmp_path, flatcar_production_image__grub=grub(), flatcar_production_image__vmlinuz=arm)
    release = ml.flatcar.Release.from_directory(tmp_path)
    with pytest.raises(ManifestError, match="programs for amd64, arm64 in one release"):
        release.reference_manifest()


@pytest.mark.parametrize("packer", [bz2.compress, gzip.compress])
def test_an_update_that_unpacks_to_too_much_is_one_error(packer: type[bytes], tmp_path: Path) -> None:
    folder_with(
        tmp_path,
        flatcar_production_image__vmlinuz=kernel(ROOT_B),
        flatcar_production_update__bin=packer(bytes(3 << 20)),
    )
    with pytest.raises(FormatError, match="unpacks to more than 2097152 bytes") as caught:
        ml.flatcar.Release.from_directory(tmp_path, limits=Limits(image_size=2 << 20))
    assert caught.value.path == "flatcar_production_update.bin"


def test_what_has_no_valid_signature_is_signed_by_nobody() -> None:
    # Whatever pysequoia gave back: without a signature that it calls valid nothing is vouched for.
    assert _signer(SimpleNamespace(valid_sigs=[SimpleNamespace(certificate="ab12")]), "file") == "AB12"
    with pytest.raises(ManifestError, match="file: no good OpenPGP signature by one of the keys given"):
        _signer(SimpleNamespace(valid_sigs=[]), "file")
