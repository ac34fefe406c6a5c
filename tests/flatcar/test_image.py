"""Disk images: a manifest from a good one, one clear error from any other."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import measlog as ml
from measlog.errors import FormatError, ManifestError
from measlog.flatcar.image import release_number
from measlog.reference import ReferenceManifest
from measlog.reference.manifest import BANKS
from tests.flatcar import images
from tests.flatcar.images import CONFIG, LOADER, ROOT_A, ROOT_B, disk, esp_files, grub, kernel, memdisk
from tests.formats.gpt_maker import ESP, entry
from tests.formats.pe_maker import make_pe, patch

LAB = Path("~/.cache/measlog-lab").expanduser()


def opened(tmp_path: Path, data: bytes, *, verity: bool = True) -> ml.flatcar.Image:
    path = tmp_path / "flatcar_production_image.bin"
    path.write_bytes(data)
    return ml.flatcar.Image.open(path, verity=verity)


def test_a_manifest_names_what_is_on_the_image(tmp_path: Path) -> None:
    files = esp_files(**{"flatcar/vmlinuz-b": kernel(ROOT_B, text=b"other"), "EFI/boot/all_video.mod": b"module"})
    data = disk(files)
    image = opened(tmp_path, data, verity=False)
    manifest = image.reference_manifest(release="4230.2.1", channel="stable")
    (source,) = manifest.sources
    assert (source.name, source.size) == ("flatcar_production_image.bin", len(data))
    assert source.sha256 == hashlib.sha256(data).digest()
    assert source.authenticity == "unchecked"
    assert (manifest.arch, manifest.release, manifest.channel, manifest.version) == (
        "amd64",
        "4230.2.1",
        "stable",
        4230002001,
    )
    assert {(one.role, one.slot, one.path) for one in manifest.components} == {
        ("grub", None, "EFI/boot/grubx64.efi"),
        ("kernel", "a", "flatcar/vmlinuz-a"),
        ("kernel", "b", "flatcar/vmlinuz-b"),
    }
    for one in manifest.components:
        assert one.flat == {bank: hashlib.new(bank, files[one.path]).digest() for bank in BANKS}
        assert one.authenticode == ml.reference.authenticode_digests(files[one.path])
    roots = {one.slot: one.verity_root for one in manifest.components if one.role == "kernel"}
    assert roots == {"a": bytes.fromhex(ROOT_A), "b": bytes.fromhex(ROOT_B)}
    assert manifest.grub is not None
    assert (manifest.grub.config, manifest.grub.load_config, manifest.grub.prefix) == (CONFIG, LOADER, "(memdisk)")
    assert manifest.disk is not None
    assert {(one.path, one.size, one.flat["sha256"]) for one in manifest.disk.files} == {
        (path, len(content), hashlib.sha256(content).digest()) for path, content in files.items()
    }
    esp, usr_a, usr_b = manifest.disk.partitions
    assert (esp.filesystem, esp.filesystem_uuid, esp.filesystem_label) == ("fat", "5F1A-7C42", "EFI-SYSTEM")
    assert (usr_a.number, usr_a.attribute_bits, usr_b.number) == (3, 0x0101 << 48, 4)
    assert [(one.slot, one.partition, one.status) for one in manifest.usr] == [
        ("a", 3, "unchecked"),
        ("b", 4, "unchecked"),
    ]
    assert not manifest.covers.keys() & manifest.not_covered.keys()
    assert manifest.covers.keys() | manifest.not_covered.keys() == set(range(24))


def test_the_same_image_gives_the_same_bytes_from_any_folder(tmp_path: Path) -> None:
    data = disk(esp_files())
    written = set()
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        written.add(opened(folder, data, verity=False).reference_manifest().to_json())
    assert len(written) == 1
    assert ReferenceManifest.from_json(written.pop()).signed_by is None


PROGRAM = """
import sys, measlog
sys.stdout.buffer.write(measlog.flatcar.Image.open(sys.argv[1], verity=False).reference_manifest().to_json())
"""


KEPT = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}


def as_nobody(program: str, *words: str) -> bytes:
    """What a program prints that another user runs, who has no home."""
    environment = {"HOME": "/nonexistent", "USER": "nobody", **KEPT}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, capture_output=True, check=True, timeout=120, cwd="/",
        user=65534, group=65534, extra_groups=[], umask=0o077,
    )  # fmt: skip
    return done.stdout


def test_the_bytes_depend_on_no_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may run a program as another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "image.bin").write_bytes(disk(esp_files()))
        (folder / "image.bin").chmod(0o444)
        written = {ml.flatcar.Image.open(folder / "image.bin", verity=False).reference_manifest().to_json()}
        try:
            as_nobody("import measlog")
        except (PermissionError, subprocess.CalledProcessError):
            pytest.skip("other users may not run this interpreter, or not read this checkout")
        assert written == {as_nobody(PROGRAM, str(folder / "image.bin"))}


def test_the_bytes_depend_on_no_hash_seed_locale_or_time_zone(tmp_path: Path) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(disk(esp_files()))
    written = {ml.flatcar.Image.open(path, verity=False).reference_manifest().to_json()}
    for seed, zone, locale in (("1", "Asia/Kathmandu", "C"), ("2", "America/St_Johns", "tr_TR.UTF-8")):
        environment = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, **KEPT}
        line = [sys.executable, "-c", PROGRAM, str(path)]
        done = subprocess.run(line, env=environment, capture_output=True, check=True, timeout=60)
        written.add(done.stdout)
    assert len(written) == 1


def test_an_arm64_image(tmp_path: Path) -> None:
    machine = 0xAA64
    files = {
        "EFI/boot/grubaa64.efi": grub(machine=machine),
        "flatcar/vmlinuz-a": kernel(machine=machine),
        "flatcar/grub/arm64-efi/load.cfg": LOADER.encode(),
    }
    manifest = opened(tmp_path, disk(files), verity=False).reference_manifest()
    assert manifest.arch == "arm64"
    found = manifest.component("kernel", "a")
    assert found is not None
    assert found.verity_root == bytes.fromhex(ROOT_A)


BROKEN: dict[str, tuple[dict[str, bytes | None], str]] = {
    "a grub.cfg beside GRUB": ({"EFI/boot/GRUB.CFG": b"set\n"}, "a grub.cfg beside GRUB"),
    "another memdisk on the ESP": ({"flatcar/grub/grub.cfg.tar": memdisk({"grub.cfg": "x"})}, "not what GRUB carries"),
    "another load.cfg on the ESP": ({"flatcar/grub/x86_64-efi/load.cfg": b"x"}, "not the load.cfg"),
    "a kernel without a hash": ({"flatcar/vmlinuz-a": make_pe([(b".text", b"k")])}, "expected the dm-verity root hash"),
    "a hash in upper case": ({"flatcar/vmlinuz-a": kernel(ROOT_A.upper())}, "upper-case digits"),
    "a hash of other digits": ({"flatcar/vmlinuz-a": kernel("g" * 64)}, "expected the dm-verity root hash"),
    "a kernel that is none": ({"flatcar/vmlinuz-a": b"kernel"}, "flatcar/vmlinuz-a"),
    "no kernel": ({"flatcar/vmlinuz-a": None}, "no kernel"),
    "no GRUB": ({"EFI/boot/grubx64.efi": None}, "no GRUB"),
    "two GRUBs": ({"EFI/boot/other.efi": grub()}, "several GRUBs"),
    "GRUB without a memdisk": ({"EFI/boot/grubx64.efi": grub(objects=[(2, b"x\0")])}, "GRUB without a memdisk"),
    "a memdisk without grub.cfg": (
        {"EFI/boot/grubx64.efi": grub(objects=[(1, memdisk({"other": "x"}))])},
        "the memdisk holds no grub.cfg",
    ),
    "a memdisk that is no tar": ({"EFI/boot/grubx64.efi": grub(objects=[(1, b"x" * 2000)])}, "not a tar archive"),
    "two memdisks": (
        {"EFI/boot/grubx64.efi": grub(objects=[(1, memdisk({"grub.cfg": "x"}))] * 2)},
        "a second object of type 1",
    ),
    "a configuration that is not UTF-8": (
        {"EFI/boot/grubx64.efi": grub(objects=[(1, memdisk({"grub.cfg": "xyz"}).replace(b"xyz", b"\xff\xfe\xfd"))])},
        "not UTF-8",
    ),
    "an SBAT line that nobody can show": (
        {"EFI/boot/grubx64.efi": make_pe([(b"mods", b"x" * 64), (b".sbat", b"grub,1,\x1b[31m\n")])},
        "control characters",
    ),
    "a prefix that nobody can show": (
        {"EFI/boot/grubx64.efi": grub(objects=[(1, memdisk({"grub.cfg": CONFIG})), (3, b"\x1b[31m\0")])},
        "control characters",
    ),
    "programs of two architectures": ({"flatcar/vmlinuz-a": kernel(machine=0xAA64)}, "programs for amd64, arm64"),
    "a program that lies": ({"EFI/boot/grubx64.efi": patch(grub(), 0x46, b"\xff\xff")}, "65535 sections"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_is_not_right_is_one_error(name: str, tmp_path: Path) -> None:
    changes, message = BROKEN[name]
    data = disk(esp_files(**changes))
    with pytest.raises(FormatError, match=message) as caught:
        opened(tmp_path, data)
    assert (caught.value.path or "").startswith("partitions[1]")


def test_without_verity_a_stock_kernel_will_do(tmp_path: Path) -> None:
    data = disk(esp_files(**{"flatcar/vmlinuz-a": make_pe([(b".text", b"k")])}))
    manifest = opened(tmp_path, data, verity=False).reference_manifest()
    (usr,) = manifest.usr
    assert (usr.status, usr.root) == ("unchecked", None)


@pytest.mark.parametrize(
    ("area", "message"),
    [
        (b"", "too short"),
        (bytes(24), "magic"),
        (struct.pack("<IIQQ", 0x676D696D, 0, 24, 1 << 60), "area of"),
        (struct.pack("<IIQQ", 0x676D696D, 0, 1 << 60, 24), "area of"),
        (struct.pack("<IIQQII", 0x676D696D, 0, 24, 32, 0, 0), "size 0"),
        (struct.pack("<IIQQII", 0x676D696D, 0, 24, 32, 0, 1 << 31), "size 2147483648"),
        (struct.pack("<IIQQI", 0x676D696D, 0, 24, 28, 0), "no whole header"),
        (images.module_area([(0, b"no ELF at all" * 9)]), "no ELF file"),
    ],
)
def test_a_module_area_that_lies_is_one_error(area: bytes, message: str, tmp_path: Path) -> None:
    program = make_pe([(b"mods", area or b"x")])
    with pytest.raises(FormatError, match=message):
        opened(tmp_path, disk(esp_files(**{"EFI/boot/grubx64.efi": program})))


def test_not_a_flatcar_disk(tmp_path: Path) -> None:
    for data, message in (
        (b"", "the disk has 0 bytes"),
        (b"not a disk at all" * 1000, "no EFI PART"),
        (disk(esp_files(), partitions=[entry(64, 8255, "root")]), "0 EFI system partitions"),
        (disk(esp_files(), partitions=[entry(64, 8255, kind=ESP), entry(9000, 9001, kind=ESP)]), "2 EFI system"),
        (disk(esp_files(), partitions=[entry(9000, 9100, kind=ESP)]), "no boot sector"),
    ):
        with pytest.raises(FormatError, match=message):
            opened(tmp_path, data)


@pytest.mark.parametrize("cut", [512, 64 << 10, 3 << 20, -512])
def test_a_truncated_image_is_one_error(cut: int, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        opened(tmp_path, disk(esp_files())[:cut])


def test_a_usr_guid_on_another_type_is_refused(tmp_path: Path) -> None:
    usr = entry(9000, 9001)
    partitions = [entry(64, 8255, kind=ESP), usr[:16] + images.USR_A.bytes_le + usr[32:]]
    with pytest.raises(FormatError, match="has the GUID of USR-A"):
        opened(tmp_path, disk(esp_files(), partitions=partitions))


def test_a_file_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ml.flatcar.Image.open(tmp_path / "none")


def test_release_numbers_grow_with_the_release() -> None:
    releases = ["2.0.0", "1855.4.0", "4230.0.1", "4230.2.1", "4230.2.10", "4230.10.0", "10000.0.0"]
    numbers = [release_number(release) for release in releases]
    assert numbers == sorted(set(numbers))
    assert release_number("4230.2.1+nightly-20250101-2100") == release_number("4230.2.1")
    for wrong in ("", "4230", "4230.2", "4230.1000.1", "v4230.2.1", "4230.2.x"):
        with pytest.raises(ManifestError):
            release_number(wrong)


def test_grub_as_grub_mkimage_makes_it(tmp_path: Path) -> None:
    # What the tool was told is what is read; the version is the package's.
    mkimage = images.tool("grub-mkimage")
    modules = Path("/usr/lib/grub/x86_64-efi")
    if not modules.is_dir():
        pytest.skip("Debian's grub-efi-amd64-bin is not installed here")
    (tmp_path / "memdisk").write_bytes(memdisk({"./grub.cfg": CONFIG}))
    (tmp_path / "load.cfg").write_text(LOADER)
    out = tmp_path / "grub.efi"
    words: list[str | Path] = [
        mkimage,
        "--format",
        "x86_64-efi",
        "--directory",
        modules,
        "--prefix",
        "(memdisk)/boot/grub",
    ]
    words += ["--config", tmp_path / "load.cfg", "--memdisk", tmp_path / "memdisk", "--output", out, "normal", "tpm"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    from measlog.reference.programs import read_grub

    read = read_grub(out.read_bytes())
    assert (read.config, read.load_config, read.prefix) == (CONFIG, LOADER, "(memdisk)/boot/grub")
    assert {"normal", "tpm", "memdisk", "tar"} - set(read.modules) <= {"memdisk", "tar"}
    assert all((modules / f"{name}.mod").is_file() for name in read.modules)
    said = subprocess.run([mkimage, "--version"], check=True, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"[0-9]+\.[0-9]+[-.+~0-9a-z]*", said)
    assert found is not None
    assert read.version == found[0]


def lab_images() -> list[Path]:
    return sorted(LAB.glob("image-*/disk.img"))


@pytest.mark.skipif(not lab_images(), reason="the lab has built no image here")
def test_images_of_the_lab(tmp_path: Path) -> None:
    # Files and digests as mtools, debugfs and hashlib see them.
    mcopy, debugfs = shutil.which("mcopy"), shutil.which("debugfs", path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
    if mcopy is None or debugfs is None:
        pytest.skip("mtools and e2fsprogs are not installed here")
    for path in lab_images():
        manifest = ml.flatcar.Image.open(path, verity=False).reference_manifest()
        assert manifest.disk is not None
        with path.open("rb") as stream:
            assert manifest.sources[0].sha256 == hashlib.file_digest(stream, "sha256").digest()
        starts = {one.number: one.first_lba * 512 for one in manifest.disk.partitions}
        for file in manifest.disk.files:
            out, start = tmp_path / "file", starts[file.partition]
            words: list[str | Path] = [mcopy, "-n", "-o", "-i", f"{path}@@{start}", f"::/{file.path}", out]
            if file.partition != manifest.disk.esp:
                words = [debugfs, "-R", f"dump /{file.path} {out}", f"{path}?offset={start}"]
            subprocess.run(words, check=True, capture_output=True, timeout=60)
            assert file.flat["sha256"] == hashlib.sha256(out.read_bytes()).digest(), (path, file.path)
            out.unlink()
        assert {one.role for one in manifest.components} & {"kernel", "uki"}


@settings(max_examples=20)
@given(st.data())
def test_one_changed_byte_of_a_boot_file_gives_another_manifest_or_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    files = esp_files()
    image = disk(files)
    good = opened(tmp_path_factory.mktemp("good"), image, verity=False).reference_manifest()
    path = data.draw(st.sampled_from(["EFI/boot/grubx64.efi", "flatcar/vmlinuz-a"]))
    content = files[path]
    place = image.index(content) + data.draw(st.integers(0, len(content) - 1))
    changed = patch(image, place, bytes([image[place] ^ data.draw(st.integers(1, 255))]))
    try:
        manifest = opened(tmp_path_factory.mktemp("bad"), changed, verity=False).reference_manifest()
    except FormatError:
        return
    before, after = ({one.path: one for one in made.components} for made in (good, manifest))
    assert path not in after or before[path].flat != after[path].flat


def test_a_changed_configuration_is_another_grub_or_no_manifest(tmp_path: Path) -> None:
    files = esp_files()
    image = disk(files)
    good = opened(tmp_path, image, verity=False).reference_manifest()
    program = files["EFI/boot/grubx64.efi"]
    place = image.index(program) + program.index(CONFIG.encode())
    with pytest.raises(FormatError, match="not what GRUB carries"):
        opened(tmp_path, patch(image, place, b"#"), verity=False)
    without = {name: content for name, content in files.items() if not name.endswith(".tar")}
    image = disk(without)
    place = image.index(program) + program.index(CONFIG.encode())
    changed = opened(tmp_path, patch(image, place, b"#"), verity=False).reference_manifest()
    first, second = good.component("grub"), changed.component("grub")
    assert first is not None
    assert second is not None
    assert first.authenticode != second.authenticode
    assert changed.grub is not None
    assert changed.grub.config == "#" + CONFIG[1:]


def test_an_oem_partition_of_a_release_is_btrfs(tmp_path: Path) -> None:
    config = b'set oem_id="qemu"\n'
    source, volume = tmp_path / "source", tmp_path / "volume"
    source.mkdir()
    (source / "grub.cfg").write_bytes(config)
    with volume.open("wb") as stream:
        stream.truncate(110 << 20)
    line: list[str | Path] = [images.tool("mkfs.btrfs"), "-q", "-L", "OEM", "--shrink", "--rootdir", source, volume]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    sectors = -(-volume.stat().st_size // 512)
    oem = entry(10400, 10399 + sectors, "OEM")
    size = 10400 + sectors + 2048
    data = disk(esp_files(), partitions=[entry(64, 8255, "EFI-SYSTEM", kind=ESP), oem], sectors=size)
    found = opened(tmp_path, patch(data, 10400 * 512, volume.read_bytes())).reference_manifest()
    assert found.disk is not None
    assert found.disk.listed == (1, 2)
    assert [(f.path, f.text) for f in found.disk.files if f.partition == 2] == [("grub.cfg", config.decode())]


def test_the_files_of_an_oem_partition_are_in_the_manifest(tmp_path: Path) -> None:
    config = b'set oem_id="qemu"\n'
    source, volume = tmp_path / "source", tmp_path / "volume"
    source.mkdir()
    (source / "grub.cfg").write_bytes(config)
    line: list[str | Path] = [images.tool("mke2fs"), "-q", "-t", "ext4", "-b", "1024", "-O", "^has_journal"]
    subprocess.run([*line, "-L", "OEM", "-d", source, volume, "800k"], check=True, capture_output=True, timeout=60)
    oem = entry(10400, 12200, "OEM")
    data = disk(esp_files(), partitions=[entry(64, 8255, "EFI-SYSTEM", kind=ESP), oem])
    data = patch(data, 10400 * 512, volume.read_bytes())
    manifest = opened(tmp_path, data).reference_manifest()
    assert manifest.disk is not None
    assert manifest.disk.listed == (1, 2)
    (found,) = (one for one in manifest.disk.files if one.partition == 2)
    assert (found.path, found.text, found.flat["sha256"]) == (
        "grub.cfg",
        config.decode(),
        hashlib.sha256(config).digest(),
    )
    inode_table = patch(data, 10400 * 512 + 2048 + 8, b"\xff\xff\xff\x7f")
    with pytest.raises(FormatError) as caught:
        opened(tmp_path, inode_table)
    assert (caught.value.path or "").startswith("partitions[2]")


def test_the_caller_s_number_comes_before_the_release_s(tmp_path: Path) -> None:
    image = opened(tmp_path, disk(esp_files()), verity=False)
    assert image.reference_manifest(release="4230.2.1").version == 4230002001
    assert image.reference_manifest(release="4230.2.1", version=7).version == 7
    assert image.reference_manifest(version=7).version == 7
    assert image.reference_manifest().version == 0


def test_the_package_has_what_it_names_and_nothing_else() -> None:
    for name in ml.flatcar.__all__:
        assert getattr(ml.flatcar, name).__name__ == name
    with pytest.raises(AttributeError, match=r"module 'measlog\.flatcar' has no attribute 'Imag'"):
        ml.flatcar.Imag  # noqa: B018
