"""The command line that is built into a kernel: from kernels of every packing, and from none that lies."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import random
import resource
import struct
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, ManifestError, TruncatedError
from measlog.limits import Limits
from measlog.reference.kernelconfig import BuiltInCommandLine, _embedded, in_words, read_built_in
from measlog.reference.manifest import Component
from measlog.reference.programs import read_program
from tests.flatcar.images import tool
from tests.reference.kernels import CONFIG, PAYLOAD_AT, arm64_image, bzimage, embedded, setup, vmlinux, zboot
from tests.reference.test_manifest import digests

LAB = Path("~/.cache/measlog-lab").expanduser()
FLATCAR = BuiltInCommandLine(text="rootflags=rw mount.usrflags=ro", use="before")
ARM64 = CONFIG.replace("CONFIG_X86=y", "CONFIG_ARM64=y").replace("CONFIG_CMDLINE_BOOL=y\n", "")
KERNEL = vmlinux(embedded())

# The commands with which the kernel's own build packs it (scripts/Makefile.lib, scripts/xz_wrap.sh).
PACKERS: dict[str, list[str]] = {
    "gzip": ["gzip", "-n", "-f", "-9"],
    "bzip2": ["bzip2", "-9"],
    "lzma": ["lzma", "-9"],
    "xz": ["xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"],
    "zstd": ["zstd", "-q", "-22", "--ultra"],
}


@cache
def packed(data: bytes, packer: str) -> bytes:
    """``data`` as the kernel's build packs it, with the size that the build appends."""
    name, *words = PACKERS[packer]
    done = subprocess.run([tool(name), *words], input=data, capture_output=True, check=True, timeout=60)
    return done.stdout + struct.pack("<I", len(data))


@pytest.fixture(params=PACKERS)
def packer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "zstd":
        pytest.importorskip("zstandard")
    return name


def test_a_kernel_says_what_is_built_into_it(packer: str) -> None:
    assert read_built_in(bzimage(packed(KERNEL, packer)), "amd64") == FLATCAR


def test_a_large_kernel_says_it_too(packer: str) -> None:
    # More than one piece of what is unpacked, and most of it does not shrink.
    noise = random.Random(packer).randbytes((1 << 20) - 5000)
    assert read_built_in(bzimage(packed(noise + KERNEL, packer)), "amd64") == FLATCAR


EXTRACT = sorted(LAB.glob("linux-source-*/scripts/extract-ikconfig"))


@pytest.mark.skipif(not EXTRACT, reason="the lab has unpacked no source of Linux here")
def test_the_kernels_own_script_reads_the_same_configuration(packer: str, tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(packed(KERNEL, packer)))
    done = subprocess.run(["sh", EXTRACT[0], path], capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == CONFIG
    assert read_built_in(path.read_bytes(), "amd64").text in done.stdout.decode().split('"')


def test_an_arm64_kernel_says_it() -> None:
    kernel = vmlinux(embedded(ARM64))
    expected = BuiltInCommandLine(text=FLATCAR.text, use="default")
    assert read_built_in(arm64_image(kernel), "arm64") == expected
    assert read_built_in(zboot(gzip.compress(kernel)), "arm64") == expected
    assert read_built_in(zboot(lzma.compress(kernel)), "arm64") == expected


# What the kernel does with it: arch/x86/kernel/setup.c and drivers/of/fdt.c of Linux.
LINE = "CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="
USES: list[tuple[str, str, BuiltInCommandLine]] = [
    ("amd64", "CONFIG_X86=y\n# CONFIG_CMDLINE_BOOL is not set\n", BuiltInCommandLine(text="")),
    ("amd64", f'CONFIG_X86=y\n{LINE}""\n', BuiltInCommandLine(text="")),
    ("amd64", f'CONFIG_X86=y\n{LINE}"a"\n', BuiltInCommandLine(text="a", use="before")),
    (
        "amd64",
        f'CONFIG_X86=y\n{LINE}"a b"\nCONFIG_CMDLINE_OVERRIDE=y\n',
        BuiltInCommandLine(text="a b", use="instead"),
    ),
    ("amd64", 'CONFIG_X86=y\nCONFIG_CMDLINE="a"\n', BuiltInCommandLine(text="")),
    (
        "amd64",
        f'CONFIG_X86=y\n{LINE}"x=\\"a \\\\ b\\" y"\n',
        BuiltInCommandLine(text='x="a \\ b" y', use="before"),
    ),
    ("arm64", 'CONFIG_ARM64=y\nCONFIG_CMDLINE=""\n', BuiltInCommandLine(text="")),
    ("arm64", "CONFIG_ARM64=y\n", BuiltInCommandLine(text="")),
    (
        "arm64",
        'CONFIG_ARM64=y\nCONFIG_CMDLINE="a"\nCONFIG_CMDLINE_FROM_BOOTLOADER=y\n',
        BuiltInCommandLine(text="a", use="default"),
    ),
    (
        "arm64",
        'CONFIG_ARM64=y\nCONFIG_CMDLINE="a"\nCONFIG_CMDLINE_FORCE=y\n',
        BuiltInCommandLine(text="a", use="instead"),
    ),
    (
        "arm64",
        'CONFIG_ARM64=y\nCONFIG_CMDLINE="a"\nCONFIG_CMDLINE_EXTEND=y\n',
        BuiltInCommandLine(text="a", use="after"),
    ),
]


@pytest.mark.parametrize(("arch", "config", "expected"), USES)
def test_what_the_kernel_does_with_it(arch: str, config: str, expected: BuiltInCommandLine) -> None:
    kernel = vmlinux(embedded(config))
    data = bzimage(gzip.compress(kernel)) if arch == "amd64" else arm64_image(kernel)
    assert read_built_in(data, arch) == expected


def with_payload(*parts: bytes) -> bytes:
    return bzimage(gzip.compress(vmlinux(*parts)))


BROKEN_CONFIG = b"IKCFG_ST" + gzip.compress(CONFIG.encode(), mtime=0)[:-9] + b"\0" * 9 + b"IKCFG_ED"
UNREAD: dict[str, tuple[bytes, str]] = {
    "no header": (bzimage(b"", header=b"x"), "no header says"),
    "an empty file": (b"", "no header says"),
    "an old boot protocol": (bzimage(b"", header=setup(16, 1, version=0x0207)), "no header says"),
    "a header without a payload": (bzimage(b"", header=setup(0, 0)), "no header says"),
    "lz4": (bzimage(b"\x02\x21\x4c\x18" + bytes(40)), "packed by lz4 is not read"),
    "lzo": (bzimage(b"\x89LZO\0\r\n\x1a\n" + bytes(40)), "packed by lzo is not read"),
    "packed somehow": (bzimage(b"somehow" * 9), "packed in no known way"),
    "no configuration": (with_payload(), "carries no configuration"),
    "the markers' text alone": (with_payload(b"IKCFG_ST%s IKCFG_ED%s"), "carries no configuration"),
    "two configurations": (with_payload(embedded(), embedded()), "2 embedded configurations"),
    "no end": (with_payload(embedded()[:-8]), "has no end"),
    "no end for a long time": (with_payload(embedded()[:-8], bytes(3 << 20), b"IKCFG_ED"), "has no end"),
    "a damaged configuration": (with_payload(BROKEN_CONFIG), "is damaged"),
    "a configuration cut short": (with_payload(embedded()[:90] + b"IKCFG_ED"), "is damaged, or too long"),
    "something behind the configuration": (with_payload(embedded()[:-8] + b"more" + b"IKCFG_ED"), "is damaged"),
    "an endless configuration": (with_payload(embedded(bytes(6 << 20))), "too long"),
    "another encoding": (with_payload(embedded(CONFIG.encode("latin-1"))), "not UTF-8"),
    "another architecture": (with_payload(embedded(ARM64)), "is not that of a kernel for amd64"),
    "an option set twice": (with_payload(embedded(CONFIG + 'CONFIG_CMDLINE=""\n')), "CONFIG_CMDLINE twice"),
    "no value": (with_payload(embedded(CONFIG.replace('usrflags=ro"', "usrflags=ro"))), "or to what is no value"),
    "a control character": (with_payload(embedded(CONFIG.replace("usrflags", "\x1b[31m"))), "characters that are none"),
    "a very long line": (with_payload(embedded(CONFIG.replace("usrflags", "x" * 4097))), "or too many"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_kernel_that_does_not_tell_is_no_error_and_says_why(name: str) -> None:
    data, reason = UNREAD[name]
    found = read_built_in(data, "amd64")
    assert found.text is None
    assert found.use is None
    assert reason in (found.unread or "")


def test_an_architecture_of_which_nothing_is_known() -> None:
    assert "is not that of a kernel for riscv64" in (read_built_in(with_payload(embedded()), "riscv64").unread or "")


def test_without_the_extra_a_zstd_kernel_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str) -> ModuleType:
        if name in {"zstandard", "compression.zstd"}:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    found = read_built_in(bzimage(b"\x28\xb5\x2f\xfd" + bytes(40)), "amd64")
    assert found == BuiltInCommandLine(unread="a kernel packed by zstd is read with the extra archives")


OUTSIDE = [
    bzimage(b"", header=setup(16, 1 << 20)),
    bzimage(b"", header=setup(0xFFFFFFFF, 8)),
    bzimage(b"", header=setup(16, 0xFFFFFFFF)),
    bzimage(gzip.compress(KERNEL), header=setup(16, 0)),
    zboot(b"")[:8] + struct.pack("<II", 1 << 30, 8) + bytes(0x400),
    (b"MZ".ljust(0x202, b"\0") + setup(16, 9)[2:]),
]


@pytest.mark.parametrize("data", OUTSIDE)
def test_a_payload_outside_of_the_file_is_an_error_with_its_place(data: bytes) -> None:
    with pytest.raises(FormatError, match="the payload is bytes") as caught:
        read_built_in(data, "amd64")
    assert caught.value.offset in {8, 0x248}


def test_a_damaged_kernel_is_an_error_with_its_place(packer: str) -> None:
    good = packed(KERNEL, packer)
    for cut in (len(good) - 30, 30):
        with pytest.raises(FormatError, match="cannot be unpacked") as caught:
            read_built_in(bzimage(good[:cut]), "amd64")
        assert (caught.value.offset, caught.value.path) == (PAYLOAD_AT, "payload")
        assert isinstance(caught.value, TruncatedError)
    refused = 0
    for place in range(10, len(good) - 10, max(1, len(good) // 20)):
        changed = good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :]
        try:
            read_built_in(bzimage(changed), "amd64")
        except FormatError:
            refused += 1
    assert refused >= 10


BOMB = bytes(20 << 20)
BOMBS = {"gzip": lambda: gzip.compress(BOMB), "bzip2": lambda: bz2.compress(BOMB), "xz": lambda: lzma.compress(BOMB)}


@pytest.mark.parametrize("kind", [*BOMBS, "zstd"])
def test_a_kernel_that_unpacks_without_end_is_an_error_in_bounded_memory(kind: str) -> None:
    if kind == "zstd":
        zstandard = pytest.importorskip("zstandard")
        bomb: bytes = zstandard.ZstdCompressor().compress(BOMB)
    else:
        bomb = BOMBS[kind]()
    data = bzimage(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LimitExceededError, match="unpacks to more than 8388608 bytes") as caught:
        read_built_in(data, "amd64", limits=Limits(kernel_size=8 << 20))
    assert caught.value.offset == PAYLOAD_AT
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10


def test_a_dictionary_of_four_gigabytes_is_refused_before_it_is_there() -> None:
    # LZMA's header names the size of the dictionary (lzma-file-format.txt, 1.1).
    made = lzma.compress(KERNEL, format=lzma.FORMAT_ALONE)
    with pytest.raises(FormatError, match=r"[Mm]emory"):
        read_built_in(bzimage(made[:1] + b"\x00\x00\x00\xf0" + made[5:]), "amd64")


@given(st.data())
def test_where_the_pieces_of_a_kernel_end_changes_nothing(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([vmlinux(embedded())[4990:-2990], vmlinux(embedded(), embedded())[4990:-2990]]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert outcome(iter(pieces)) == outcome(iter([whole]))


def outcome(pieces: Iterator[bytes]) -> str:
    try:
        return _embedded(pieces)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        return repr(error)


@settings(max_examples=60)
@given(st.data())
def test_any_bytes_give_a_value_or_a_format_error(data: st.DataObject) -> None:
    image = bytearray(data.draw(st.sampled_from([bzimage(gzip.compress(KERNEL)), zboot(lzma.compress(KERNEL))])))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, min(len(image), 4096) - 1))
        image[place] = data.draw(st.integers(0, 255))
    try:
        found = read_built_in(bytes(image[: data.draw(st.integers(0, len(image)))]), "amd64")
    except FormatError:
        return
    assert (found.text is None) == (found.unread is not None)


def test_the_component_of_a_kernel_has_it() -> None:
    data = bzimage(gzip.compress(KERNEL))
    component = read_program(data, path="flatcar/vmlinuz-a", flat=digests(1))
    assert component is not None
    assert (component.command_line, component.command_line_use, component.command_line_unread) == (
        FLATCAR.text,
        "before",
        None,
    )
    with pytest.raises(FormatError, match="payload"):
        read_program(bzimage(b"", header=setup(16, 1 << 20)), path="flatcar/vmlinuz-a", flat=digests(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"command_line": "a"},
        {"command_line_use": "before"},
        {"command_line": "", "command_line_use": "before"},
        {"command_line": "", "command_line_unread": "because"},
        {"command_line": "a", "command_line_use": "first"},
    ],
)
def test_a_component_contradicts_itself_nowhere(changes: dict[str, str]) -> None:
    with pytest.raises(ManifestError):
        Component(role="kernel", path="k", size=1, authenticode=digests(3), flat=digests(4), **changes)  # type: ignore[arg-type]


def test_in_words() -> None:
    assert in_words(None, None) == "not known"
    assert in_words("", None) is None
    assert in_words("a b", "before") == "a b (before what the boot loader gives)"


def kernels_of_debian() -> list[tuple[Path, Path, str]]:
    roots = [(Path("/boot"), "amd64"), *((one / "root/boot", "arm64") for one in LAB.glob("arm64-*"))]
    found = [(one, arch) for root, arch in roots for one in sorted(root.glob("vmlinuz-*"))]
    return [(one, one.with_name(one.name.replace("vmlinuz", "config")), arch) for one, arch in found]


@pytest.mark.skipif(not kernels_of_debian(), reason="no kernel of Debian is installed here")
def test_kernels_of_debian_carry_no_configuration() -> None:
    # The package brings the configuration as a file: CONFIG_IKCONFIG is off in it.
    for kernel, config, arch in kernels_of_debian():
        assert "# CONFIG_IKCONFIG is not set\n" in config.read_text()
        found = read_built_in(kernel.read_bytes(), arch)
        packing = "lz4" if "CONFIG_KERNEL_LZ4=y\n" in config.read_text() else None
        expected = "packed by lz4 is not read" if packing else "carries no configuration"
        assert expected in (found.unread or "")


@pytest.mark.skipif(not list(LAB.glob("kernel-*/vmlinuz")), reason="the lab has built no kernel here")
def test_the_kernel_of_the_lab_carries_no_configuration() -> None:
    # Its build asked for none: fixtures/lab/guest/kernel.config starts from tinyconfig and does not name it.
    pytest.importorskip("zstandard")
    for kernel in LAB.glob("kernel-*/vmlinuz"):
        assert "carries no configuration" in (read_built_in(kernel.read_bytes(), "amd64").unread or "")
