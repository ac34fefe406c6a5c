"""Predicted boots with an operator's arguments. What they must equal is what the TPM reported after real boots whose OEM
file ends in the very line that the arguments make; where there is no such boot, hashes of texts that are written out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import attrs
import pytest

import measlog as ml
from measlog.errors import UnsupportedError
from measlog.flatcar import ArgumentModel, ArgumentRule, oem_with_arguments, predict
from measlog.flatcar.boot import PredictedBoot
from measlog.flatcar.grub import GrubFile
from measlog.reference.manifest import ReferenceManifest
from measlog.reference.signing import SignedManifest
from tests.conftest import FIXTURES

KEY = FIXTURES / "lab" / "keys" / "manifest.pub"
EC2 = FIXTURES / "oem-ec2"
MODEL = ArgumentModel(rules=[ArgumentRule(name="flatcar.autologin", pattern="tty[A-Z]*[0-9]+")])


@pytest.fixture(scope="module")
def release() -> ReferenceManifest:
    signed = SignedManifest.from_bytes((FIXTURES / "flatcar-lab-good" / "manifest.dsse.json").read_bytes())
    return signed.verify(keys=[KEY.read_bytes()])


def log_of(folder: Path) -> ml.EventLog:
    return ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())


def split_ec2() -> tuple[bytes, list[str]]:
    """The real file without its last line, and the arguments that the last line appends."""
    *lines, last = (EC2 / "oem-grub.cfg").read_bytes().splitlines(keepends=True)
    start, end = b'set linux_append="$linux_append ', b'"\n'
    assert last.startswith(start)
    assert last.endswith(end)
    return b"".join(lines), last[len(start) : -len(end)].decode().split()


def test_values_give_the_registers_of_a_real_boot(release: ReferenceManifest) -> None:
    before, arguments = split_ec2()
    assert len(arguments) == 2
    (boot,) = predict(release, secure_boot=True, slot="a", first_boot=True, oem_grub_cfg=before, arguments=arguments)
    reported = json.loads((EC2 / "pcrs.json").read_text())
    for bank in ("sha1", "sha256", "sha384"):
        for pcr in (4, 8, 9, 14):
            assert boot.pcrs[bank][pcr].hex() == reported[bank][str(pcr)]
    assert not {4, 8, 9} & boot.unknown.keys()
    # The file to write is the one that was predicted with.
    assert oem_with_arguments(before, arguments) == (EC2 / "oem-grub.cfg").read_bytes()
    assert oem_with_arguments(before.rstrip(b"\n"), arguments) == (EC2 / "oem-grub.cfg").read_bytes()


def test_without_a_file_there_will_be_one(release: ReferenceManifest) -> None:
    """The kernel's text and the OEM file's bytes, written out here."""
    (boot,) = predict(
        release,
        secure_boot=True,
        slot="a",
        first_boot=False,
        arguments=["flatcar.autologin=ttyS0", b"mitigations=auto"],
    )
    assert boot.command_line is not None
    (real,) = (e for e in log_of(FIXTURES / "user-argument") if e.raw.startswith(b"kernel_cmdline: "))
    assert boot.of(8)[boot.command_line].data == real.raw
    assert boot.of(8)[boot.command_line].digests["sha256"] == real.digests["sha256"]
    file = next(e for e in boot.of(9) if e.text == b"(hd0,gpt6)/grub.cfg")
    line = b'set linux_append="$linux_append flatcar.autologin=ttyS0 mitigations=auto"\n'
    assert file.digests["sha256"] == hashlib.sha256(line).digest()


@pytest.mark.parametrize(
    "argument",
    ["", " ", "a b", "a\tb", "a\nb", 'a="b', "a='b'", "a\0", b"a\xa0b", "--", "a\\b", 'x" init=/bin/sh "'],
)
def test_what_would_not_be_one_argument_is_refused(release: ReferenceManifest, argument: str | bytes) -> None:
    with pytest.raises(UnsupportedError):
        predict(release, secure_boot=True, slot="a", first_boot=False, arguments=["quiet", argument])


@pytest.mark.parametrize("argument", ["a=$b", "a=${b}", "a=`b`;c", "a={b}", "a=b|c&d", "a=#b", "a==", "µ"])
def test_what_means_something_to_grub_reaches_the_kernel(release: ReferenceManifest, argument: str) -> None:
    (boot,) = predict(release, secure_boot=True, slot="a", first_boot=False, arguments=[argument])
    assert boot.command_line is not None
    assert boot.of(8)[boot.command_line].text.endswith(b" " + argument.encode())


def test_none_and_a_text_are_no_lists(release: ReferenceManifest) -> None:
    nothing: tuple[list[str], str] = ([], "quiet")
    for arguments in nothing:
        with pytest.raises(UnsupportedError):
            predict(release, arguments=arguments)


def opened(boot: PredictedBoot) -> list[bytes]:
    return [event.text for event in boot.events if not event.digests]


def test_rules_leave_open_what_they_are_about(release: ReferenceManifest) -> None:
    choice = {"secure_boot": True, "slot": "a", "first_boot": False}
    (boot,) = predict(release, arguments=MODEL, **choice)  # type: ignore[arg-type]
    (plain,) = predict(release, oem_grub_cfg=b"\n", **choice)  # type: ignore[arg-type]
    assert {8, 9} <= boot.unknown.keys()
    assert all("rules" in boot.unknown[pcr] for pcr in (8, 9))
    assert not {8, 9} & boot.pcrs["sha256"].keys()
    assert {4, 14} <= boot.pcrs["sha256"].keys()
    assert boot.pcrs["sha256"][4] == plain.pcrs["sha256"][4]
    (line,) = (event for event in boot.events if event.arguments is not None)
    assert boot.command_line is not None
    assert line is boot.of(8)[boot.command_line]
    assert line.arguments == MODEL
    assert line.text == plain.of(8)[plain.command_line or 0].text + b" {arguments}"
    assert not line.authenticated
    # Open are: the file, the setting, what is put together from it, the command, and the kernel's text; no more.
    texts = opened(boot)
    assert texts[0] == b"(hd0,gpt6)/grub.cfg"
    assert texts[1].startswith(b"set linux_append=")
    assert texts[2].startswith(b"set linux_cmdline=")
    assert texts[3].startswith(b"linux ")
    assert texts[4:] == [line.text]
    known = [event.digests for event in boot.events if event.digests]
    assert [digests for digests in known if digests not in [e.digests for e in plain.events]] == []


def test_rules_are_shown(release: ReferenceManifest) -> None:
    (boot,) = predict(release, secure_boot=True, slot="a", first_boot=False, arguments=MODEL)
    assert "[arguments: flatcar.autologin=what matches tty[A-Z]*[0-9]+]" in str(boot)
    assert "flatcar.autologin=what matches" in boot._repr_html_()


def test_a_machine_s_next_boot_with_more_arguments(release: ReferenceManifest) -> None:
    """Without an OEM file in the log the file is the line alone; with one, nobody knows what else is in it."""
    log = log_of(FIXTURES / "later-boot")
    now, *_ = predict(release, log, arguments=["quiet"])
    line = hashlib.sha256(b'set linux_append="$linux_append quiet"\n').digest()
    assert line in [event.digests["sha256"] for event in now.of(9)]
    assert 9 in now.pcrs["sha256"]
    log = log_of(FIXTURES / "user-argument")
    now, *_ = predict(release, log, arguments=["quiet"])
    assert b"set linux_append=flatcar.autologin=ttyS0 mitigations=auto quiet" in [event.text for event in now.of(8)]
    assert 8 in now.pcrs["sha256"]
    assert "what else is in the OEM grub.cfg" in now.unknown[9]
    assert 9 not in now.moves
    ruled, *_ = predict(release, log, arguments=MODEL)
    assert {8, 9} <= ruled.unknown.keys()
    # The file itself is better than what the log shows of it.
    given, *_ = predict(
        release, log, oem_grub_cfg=(FIXTURES / "user-argument" / "oem-grub.cfg").read_bytes(), arguments=["quiet"]
    )
    assert 9 in given.pcrs["sha256"]


def test_arguments_that_the_configuration_does_not_take(release: ReferenceManifest) -> None:
    assert release.grub is not None
    deaf = attrs.evolve(
        release, grub=attrs.evolve(release.grub, config=release.grub.config.replace("$linux_append", ""))
    )
    for arguments in (["quiet"], MODEL):
        with pytest.raises(UnsupportedError, match="not among the arguments"):
            predict(deaf, arguments=arguments)


def test_a_file_that_cannot_be_appended_to(release: ReferenceManifest) -> None:
    with pytest.raises(UnsupportedError, match="not known"):
        predict(release, oem_grub_cfg=GrubFile(digests={"sha256": bytes(32)}), arguments=["quiet"])
    with pytest.raises(UnsupportedError, match="of its own"):
        predict(release, oem_grub_cfg=b"set x={arguments}\n", arguments=MODEL)


def test_a_boot_that_starts_no_kernel_has_no_arguments_to_look_for(release: ReferenceManifest) -> None:
    # How this GRUB starts a kernel on arm64 is not known: nothing is claimed of what the kernel is given.
    assert release.grub is not None
    other = attrs.evolve(release, arch="arm64", grub=attrs.evolve(release.grub, profile="flatcar-2.12"))
    boots = predict(other, arguments=["quiet"])
    assert boots
    assert {boot.outcome for boot in boots} == {"unknown"}
    assert all(boot.events == () and 8 in boot.unknown for boot in boots)
