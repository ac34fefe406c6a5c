"""Settings of an OEM ``grub.cfg`` as the explanation of PCR 8: what is said of them, and when it is confirmed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal.explain import Hypothesis, explain_boot
from measlog.flatcar.boot import PredictedBoot, predict
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.machine import SHA256
from tests.appraisal.test_explanations import SLOT_A, capture, changed_log, folded, measured, release

TAMPERED = "oem-tampered-init"
SOURCE = b"grub_cmd: source (hd0,gpt6)/grub.cfg\0"
SAID = "the grub.cfg of the OEM partition ran: "


def settings(log: ml.EventLog, manifest: ReferenceManifest, *, secure_boot: bool = False) -> tuple[Hypothesis, ...]:
    """The hypotheses of settings; each is of PCR 8, named by the event that reads the file."""
    found = {e.pcr: e for e in explain_boot(log, [manifest], secure_boot=secure_boot)}
    assert found[8].value == measured(log, 8)
    hypotheses = tuple(h for h in found[8].hypotheses if h.code == "oem-file")
    for hypothesis in hypotheses:
        assert (hypothesis.pcr, hypothesis.confirmed) == (8, hypothesis.value == found[8].value)
        assert hypothesis.event is not None
        assert log[hypothesis.event].raw == SOURCE
    return hypotheses


def place_of(events: Sequence[ForgedEvent], data: bytes) -> int:
    return next(i for i, e in enumerate(events) if e.pcr == 8 and e.data == data)


def with_settings(shared: Path, *commands: bytes) -> ml.EventLog:
    """The tampered boot, with other commands behind the one that reads the OEM file, and the rest as it was."""

    def change(events: Sequence[ForgedEvent]) -> Iterable[ForgedEvent]:
        place = place_of(events, SOURCE)
        rest = [
            e for e in events[place + 1 :] if not e.data.startswith((b"grub_cmd: set oem_id", b"grub_cmd: set lin"))
        ]
        made = [replace(events[place], data=b"grub_cmd: " + text + b"\0").rehashed(text) for text in commands]
        return [*events[: place + 1], *made, *rest]

    return changed_log(shared, change, TAMPERED)


def as_log(shared: Path, boot: PredictedBoot) -> ml.EventLog:
    """A log of a boot that was never recorded: texts are hashed here, programs and files have their digests."""
    log = capture(shared, SLOT_A)
    made = []
    for event in boot.events:
        digests = {alg: bytes(20 if alg == 4 else 48 if alg == 12 else 32) for alg in log.algorithms}
        text = event.pcr == 8
        digests[SHA256] = hashlib.sha256(event.text).digest() if text else event.digests["sha256"]
        prefix = b"kernel_cmdline: " if event.kind == "cmdline" else b"grub_cmd: " if text else b""
        made.append(ForgedEvent(event.pcr, int(event.type), digests, prefix + event.text + b"\0"))
    return ml.EventLog.from_bytes(log.with_events(made).put_together())


def booted(
    shared: Path, manifest: ReferenceManifest, oem: bytes, *, name: str, secure_boot: bool = True
) -> ml.EventLog:
    (boot,) = [
        boot
        for boot in predict(manifest, secure_boot=secure_boot, oem_grub_cfg=oem)
        if boot.name.startswith(f"{name}, Secure Boot")
    ]
    return as_log(shared, boot)


def test_what_the_oem_file_set_is_told_and_where_it_was_read(shared: Path) -> None:
    """The real attack: the value is the TPM's."""
    log = changed_log(shared, lambda events: events, TAMPERED)
    (found,) = settings(log, release(shared))
    assert found.sentence == SAID + "set oem_id=qemu; set linux_append=flatcar.autologin init=/bin/sh"
    assert found.confirmed
    pcrs = (shared / "flatcar" / "captures" / TAMPERED / "pcrs.txt").read_text()
    assert f"PCR sha256 8 {found.value.hex().upper()}\n" in pcrs
    # The register alone decides: with Secure Boot on it would be the same, and PCR 4 is explained by itself.
    assert settings(log, release(shared), secure_boot=True) == (found,)


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        pytest.param([b"set oem_id=\xffX"], ["set oem_id=\\xffX"], id="bytes that are no text, and the last letter"),
        pytest.param(
            [b"set oem_id=a", b"set what"], ["set oem_id=a"], id="what is no setting ends them, and is left out"
        ),
        pytest.param([b"set what"], [], id="no setting at all"),
        pytest.param([b"insmod x"], [], id="another command"),
        pytest.param(
            [b"set oem_id=a", b"set linux_append=b"],
            ["set oem_id=a; set linux_append=b", "set oem_id=a"],
            id="as many as there may be",
        ),
    ],
)
def test_settings_that_do_not_lead_to_the_register(shared: Path, commands: list[bytes], said: list[str]) -> None:
    """They are told for a person to weigh, and confirmed is none of them."""
    found = settings(with_settings(shared, *commands), release(shared))
    assert [(h.sentence, h.confirmed) for h in found] == [(SAID + text, False) for text in said]


def test_a_log_that_ends_among_the_settings(shared: Path) -> None:
    def cut(events: Sequence[ForgedEvent]) -> Iterable[ForgedEvent]:
        place = place_of(events, SOURCE)
        return [e for i, e in enumerate(events) if e.pcr != 8 or i <= place + 2]

    found = settings(changed_log(shared, cut, TAMPERED), release(shared))
    assert [(h.sentence, h.confirmed) for h in found] == [(SAID + "set oem_id=qemu", False)]


def test_only_a_command_reads_the_file(shared: Path) -> None:
    """A text that GRUB recorded as anything else ran nothing, whatever it says."""

    def relabel(events: Sequence[ForgedEvent]) -> Iterable[ForgedEvent]:
        place = place_of(events, SOURCE)
        text = SOURCE.removeprefix(b"grub_cmd: ")
        return [*events[:place], replace(events[place], data=text), *events[place + 1 :]]

    assert settings(changed_log(shared, relabel, TAMPERED), release(shared)) == ()


@pytest.mark.parametrize(
    "name",
    [
        "slot a, first boot",
        "slot b, later boot",
        "slot a, falls back to slot b, later boot",
    ],
)
def test_settings_are_confirmed_in_every_boot(shared: Path, name: str) -> None:
    """Whichever slot it is: what is said of a boot that does not fit does not hide the one that does."""
    manifest = release(shared)
    log = booted(shared, manifest, b"set linux_append=single\n", name=name)
    (found,) = settings(log, manifest, secure_boot=True)
    assert (found.sentence, found.confirmed) == (SAID + "set linux_append=single", True)
    assert found.value == folded(
        hashlib.sha256(e.raw.removesuffix(b"\0").split(b": ", 1)[1]).digest() for e in log if e.pcr == 8
    )


def test_settings_alone_do_not_explain_a_first_boot_that_looks_like_a_later_one(shared: Path) -> None:
    """Confirmed is a cause beside which nothing differs: this boot shows the command line of a later boot, as a setting."""
    manifest = release(shared)
    (later,) = [e.data for e in capture(shared, SLOT_A).events if e.data.startswith(b"grub_cmd: set linux_cmdline=")]
    line = later.removeprefix(b"grub_cmd: ").removesuffix(b"\0")
    oem = b"set '" + line.removeprefix(b"set ") + b"'\nset linux_append=single\n"
    found = settings(booted(shared, manifest, oem, name="slot a, first boot"), manifest, secure_boot=True)
    assert [(h.sentence, h.confirmed) for h in found] == [
        (f"{SAID}{line.decode()}; set linux_append=single", False),
        (f"{SAID}{line.decode()}", False),
    ]


def test_settings_alone_do_not_explain_another_state_of_secure_boot(shared: Path) -> None:
    """A configuration that records GRUB's ``lockdown``, which is set where Secure Boot is on."""
    plain = release(shared)
    assert plain.grub is not None
    config = plain.grub.config + "\nset seen=$lockdown\n"
    manifest = attrs.evolve(plain, grub=attrs.evolve(plain.grub, config=config))
    log = booted(shared, manifest, b"set linux_append=single\n", name="slot a, later boot")
    assert [e.raw for e in log if e.raw.startswith(b"grub_cmd: set seen=")] == [b"grub_cmd: set seen=y\0"]
    for secure_boot in (True, False):
        (found,) = settings(log, manifest, secure_boot=secure_boot)
        assert (found.sentence, found.confirmed) == (SAID + "set linux_append=single", secure_boot)
