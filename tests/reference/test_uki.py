"""Unified kernel images against systemd-measure, against a TPM, and against what shim wrote into real logs."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

import measlog as ml
from measlog.errors import FormatError, LimitExceededError
from measlog.formats.pecoff import PeImage
from measlog.limits import Limits
from measlog.reference.authorities import contributions, minimum_sbat, sbat_levels, variable_data
from measlog.reference.manifest import Component
from measlog.reference.programs import read_program
from measlog.reference.uki import PHASES, Uki, read_uki
from tests.conftest import FIXTURES, shared_path
from tests.formats.pe_maker import make_pe, patch, section_header
from tests.reference.test_authenticode import debian_file

LAB = Path("~/.cache/measlog-lab").expanduser()
MEASURE = "/lib/systemd/systemd-measure"
CONTENT = {
    ".osrel": b"ID=flatcar\n",
    ".cmdline": b"root=LABEL=ROOT quiet",
    ".linux": b"kernel" * 999,
    ".initrd": b"initrd" * 777,
    ".splash": b"picture",
    ".dtb": b"tree",
    ".pcrsig": b"never measured",
    ".pcrpkey": b"key",
}
MAGIC = b"#### LoaderInfo: systemd-stub 252.39-1 ####\0"


def image(**extra: bytes) -> bytes:
    sections = [(name.encode(), content) for name, content in CONTENT.items()]
    more = [(f".{name}".encode(), content) for name, content in extra.items()]
    return make_pe([(b".sdmagic", MAGIC), *sections, *more])


def read(data: bytes) -> Uki:
    return read_uki(data, PeImage.from_bytes(data), None)


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384", "sha512"])
def test_every_phase_is_that_of_systemd_measure(bank: str, tmp_path: Path) -> None:
    if not Path(MEASURE).exists():
        pytest.skip("systemd-measure is not installed here")
    words = [MEASURE, "calculate", "--json=short", f"--bank={bank}"]
    for name, content in CONTENT.items():
        if name == ".pcrsig":
            continue
        (tmp_path / name).write_bytes(content)
        words.append(f"--{name[1:]}={tmp_path / name}")
    for phase in read(image()).phases[1:]:
        line = [*words, f"--phase={phase.path}"]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            pytest.skip(f"systemd-measure: {done.stderr.strip()}")
        (expected,) = json.loads(done.stdout)[bank]
        assert phase.pcr11[bank].hex() == expected["hash"]


def test_the_sections_are_in_systemds_order_whatever_the_files() -> None:
    found = read(image())
    assert [one.name for one in found.sections] == [
        ".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey",
    ]  # fmt: skip
    assert found.stub == "252.39-1"
    assert (found.release, found.command_line) == ("ID=flatcar\n", "root=LABEL=ROOT quiet")
    assert [one.path for one in found.phases] == ["", *(":".join(PHASES[: i + 1]) for i in range(len(PHASES)))]


def test_sections_that_the_stub_does_not_know_are_not_measured() -> None:
    # As booted: systemd-stub 252 leaves .uname and .sbat alone, 254 measures them.
    old = image(uname=b"6.1", sbat=b"sbat,1\n")
    assert {".uname", ".sbat"}.isdisjoint(one.name for one in read(old).sections)
    new = old.replace(b"systemd-stub 252", b"systemd-stub 254")
    assert {".uname", ".sbat"} <= {one.name for one in read(new).sections}


def test_a_stub_that_does_not_say_its_version_is_taken_for_the_newest() -> None:
    # A section too many is a difference that is seen; one too few would let its contents change unseen.
    found = read(image(uname=b"6.1", sbat=b"sbat,1\n").replace(b"systemd-stub 252.39-1", b"another-loader 1.2345"))
    assert found.stub is None
    assert {".uname", ".sbat"} <= {one.name for one in found.sections}


def test_a_section_is_measured_up_to_its_virtual_size() -> None:
    data = image()
    header = section_header(2)  # .cmdline
    for size in (4, 100):
        changed = patch(data, header + 8, size.to_bytes(4, "little"))
        (line,) = (one for one in read(changed).sections if one.name == ".cmdline")
        expected = CONTENT[".cmdline"][:size].ljust(size, b"\0")
        assert line.digests["sha256"] == hashlib.sha256(expected).digest()
    huge = patch(data, header + 8, b"\xff\xff\xff\xff")
    with pytest.raises(LimitExceededError, match="virtual size"):
        read_uki(huge, PeImage.from_bytes(huge), None, limits=Limits(file_size=1 << 20))


def component(data: bytes, path: str) -> Component:
    made = read_program(data, path=path, flat=ml.reference.flat_digests(data))
    assert made is not None
    return made


def test_the_tpm_of_a_real_boot_holds_the_last_phase() -> None:
    # The register as the TPM reported it; the image is the lab's, where it is still there.
    expected = json.loads((FIXTURES / "uki" / "pcrs.json").read_text())["sha256"]["11"]
    origin = (FIXTURES / "uki" / "ORIGIN.md").read_text()
    for path in sorted(LAB.glob("image-*/disk.img")):
        if not (path.with_name("inputs.txt").is_file() and "spec.boot=uki" in path.with_name("inputs.txt").read_text()):
            continue
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() not in origin:
                continue
        manifest = ml.flatcar.Image.open(path).reference_manifest()
        found = manifest.component("uki")
        assert found is not None
        assert found.uki is not None
        assert found.uki.phases[-1].pcr11["sha256"].hex() == expected
        log = ml.EventLog.from_bytes((FIXTURES / "uki" / "binary_bios_measurements").read_bytes())
        on = next(one for one in manifest.boot_paths if one.secure_boot)
        programs = ml.EventType.EV_EFI_BOOT_SERVICES_APPLICATION
        for pcr, kind in ((4, programs), (11, ml.EventType.EV_IPL)):
            measured = [event.digests["sha256"] for event in log if event.pcr == pcr and event.type == kind]
            assert [event.digests["sha256"] for event in on.of(pcr)] == measured
        assert [one.status for one in manifest.usr] == ["verified"]
        return
    pytest.skip("the lab's image of the committed boot is not here")


@pytest.mark.parametrize(("folder", "policy"), [("uki", "automatic"), ("uki-sb-off", "original")])
def test_the_sbat_level_of_real_boots_is_one_of_shims(folder: str, policy: str) -> None:
    shim = component(debian_file("shim").read_bytes(), "EFI/boot/bootx64.efi")
    log = ml.EventLog.from_bytes((FIXTURES / folder / "binary_bios_measurements").read_bytes())
    if not any(event.digests.get("sha256") == shim.authenticode["sha256"] for event in log):
        pytest.skip("Debian's shim here is another version than the one that was booted")
    (level,) = (one for one in shim.secure_boot if one.policy == policy)
    for bank in ("sha1", "sha256", "sha384"):
        assert [e.pcr for e in log if e.digests.get(bank) == level.digests[bank]] == [7]
    assert shim.minimum_sbat == {"shim": 4, "grub": 5}


@pytest.mark.parametrize("name", ["event-moklisttrusted", "rhel8-uefi"])
def test_the_authority_of_real_shims_is_their_certificate(name: str) -> None:
    log = ml.EventLog.from_bytes(shared_path("corpus", "logs", f"{name}.bin").read_bytes())
    marker = "Shim".encode("utf-16-le")
    (event,) = (e for e in log if e.type == ml.EventType.EV_EFI_VARIABLE_AUTHORITY and marker in e.raw[:48])
    der = event.raw[32 + 8 :]
    assert variable_data("Shim", der) == event.raw
    (made,) = (one for one in contributions({}, [("subject", der)]) if one.kind == "authority")
    assert made.digests["sha256"] == event.digests["sha256"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (b"", "too short"),
        (b"\1" + bytes(11), "version 1"),
        (bytes(12), "no automatic level"),
        (b"\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", "no automatic level"),
        (b"\0\0\0\0\x08\0\0\0\x08\0\0\0sbat,1,\xff\0", "not ASCII"),
    ],
)
def test_levels_that_lie_are_one_error(section: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        sbat_levels(section)


def test_a_level_with_a_line_that_is_none_is_refused() -> None:
    with pytest.raises(FormatError, match="not component,generation"):
        minimum_sbat({"automatic": "sbat,1,2025\nshim,x\n"})


def test_the_events_of_a_unified_boot_are_those_of_the_image() -> None:
    # Name and content alternate, as the stub extends them; computed here from the sections themselves.
    events = read(image()).events()
    expected = []
    for name in (".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"):
        expected += [hashlib.sha256(name.encode() + b"\0").digest(), hashlib.sha256(CONTENT[name]).digest()]
    assert [values["sha256"] for _, values in events] == expected
