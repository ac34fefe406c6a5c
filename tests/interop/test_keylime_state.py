"""Reference states of Keylime's example policy: read, written, and what they demand, beside Keylime's own policy."""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent, ForgedLog
from measlog.appraisal.unquoted import UnquotedResult
from measlog.errors import FormatError, ManifestError
from measlog.interop.keylime import KeylimePolicy, KeylimeState
from tests.appraisal.machine import good_log, machine
from tests.appraisal.test_captures import evidence, lab_manifest
from tests.conftest import FIXTURES, shared_path
from tests.interop import keylime_host as host

ACCEPTED = ["event-bootorder", "event-moklisttrusted"]
"""Logs of the corpus whose own state Keylime's example policy accepts: it demands a separate initrd and Fedora's events."""
REFUSED = ["event-postcode", "ubuntu-1804-amd-sev", "coreos_36_shielded_vm_no_secure_boot_eventlog"]
"""Logs whose own state it refuses, for an event in PCR 0 that a state cannot describe."""

Document = dict[str, Any]


def path_of(name: str) -> Path:
    folder = FIXTURES / name
    return folder / "binary_bios_measurements" if folder.is_dir() else shared_path("corpus", "logs", f"{name}.bin")


@cache
def _made(name: str) -> str:
    """The state that ``keylime-policy create measured-boot`` makes of a log."""
    arguments = argparse.Namespace(eventlog_file=str(path_of(name)), without_secureboot=True, output="-")
    with contextlib.redirect_stdout(io.StringIO()):
        return json.dumps(host.keylime().create.create_mb_refstate(arguments))


def made(name: str) -> Document:
    found: Document = json.loads(_made(name))
    return found


def judge(name: str, document: Document) -> UnquotedResult:
    """The verdict by measlog's rule, on the log as it is."""
    verifier = ml.Verifier([], policy=KeylimeState.from_json(json.dumps(document)).policy())
    return verifier.unsafe_appraise_unquoted(ml.EventLog.from_bytes(path_of(name).read_bytes()), pcrs=range(15))


@cache
def _own(name: str) -> Any:
    """The log as Keylime's own parser reads it."""
    text = base64.b64encode(path_of(name).read_bytes()).decode()
    *_, data, _ = host.keylime().own_parser.bootlog_parse(text, "sha256")
    return data


def keylime_says(name: str, document: Document) -> str:
    """Why Keylime's example policy refuses the log; empty where it accepts it."""
    # It writes into the state that it is given.
    return str(host.keylime().policies.evaluate("example", json.loads(json.dumps(document)), _own(name)))


@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED, "flatcar-lab-good", "sb-off-good"])
def test_what_keylime_writes_is_read_and_written_again(name: str) -> None:
    assert json.loads(KeylimeState.from_json(_made(name)).to_json()) == made(name)


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_keylime_accepts_is_accepted(name: str) -> None:
    assert keylime_says(name, made(name)) == ""
    result = judge(name, made(name))
    assert (result.status, result.findings) == ("affirming", ())
    assert {check.pcr for check in result.checked if check.rule == "keylime.state"} >= {0, 4, 7}
    # A state leaves these to anybody, and the result says so.
    assert {n.pcr for n in result.not_covered} >= {1, 2, 3, 5, 6, 8, 9}


@pytest.mark.parametrize("name", REFUSED)
def test_what_keylime_refuses_of_the_firmware_is_refused(name: str) -> None:
    assert "PCRIndex': 0" in keylime_says(name, made(name))
    result = judge(name, made(name))
    assert result.status == "contraindicated"
    assert ("platform.differs", 0, 2) in {(f.code, f.pcr, f.event) for f in result.findings}


def _flip(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def _key(data: str) -> dict[str, str]:
    return {"SignatureOwner": "77fa9abd-0359-4d32-bd60-28f4e78f784b", "SignatureData": data}


def _set(path: str, change: Callable[[Any], Any]) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        inner: Any = document
        for step in way:
            inner = inner[step]
        inner[last] = change(inner[last])

    return apply


CHANGES: dict[str, tuple[Callable[[Document], None], str, int]] = {
    "scrtm": (_set("scrtm_and_bios.0.scrtm.sha256", _flip), "platform.differs", 0),
    "a blob": (_set("scrtm_and_bios.0.platform_firmware.0.sha256", _flip), "platform.differs", 0),
    "a blob less": (_set("scrtm_and_bios.0.platform_firmware", lambda blobs: blobs[:-1]), "platform.differs", 0),
    "no firmware": (_set("scrtm_and_bios", lambda _: []), "platform.differs", 0),
    "shim": (_set("kernels.0.shim_authcode_sha256", _flip), "image.unknown", 4),
    "grub": (_set("kernels.0.grub_authcode_sha256", _flip), "image.unknown", 4),
    "kernel": (_set("kernels.0.kernel_authcode_sha256", _flip), "image.unknown", 4),
    "initrd": (_set("kernels.0.initrd_plain_sha256", _flip), "file.unknown", 9),
    "command line": (_set("kernels.0.kernel_cmdline", lambda line: line + "\\ quiet"), "kernel.argument", 8),
    "a prefix of the command line": (_set("kernels.0.kernel_cmdline", lambda line: line[:-6]), "kernel.argument", 8),
    "no kernel": (_set("kernels", lambda _: []), "image.unknown", 4),
    "PK": (_set("pk", lambda _: []), "secureboot.key-unknown", 7),
    "KEK": (_set("kek", lambda keys: keys[:-1]), "secureboot.key-unknown", 7),
    "db": (_set("db", lambda keys: keys[:-1]), "secureboot.key-unknown", 7),
    "dbx": (_set("dbx", lambda keys: [*keys, _key("0x" + "ab" * 32)]), "secureboot.dbx", 7),
    "MokList": (_set("mokdig.0.sha256", _flip), "mok.unknown", 14),
    "MokListX": (_set("mokxdig.0.sha256", _flip), "mok.unknown", 14),
}


# Of a boot without Secure Boot a state has no kernel in PCR 4, and one without keys leaves them open; this one has no MOK
# lists either.
MEANINGLESS = {"kernel", "PK", "KEK", "db", "MokList", "MokListX"}


@pytest.mark.parametrize(
    ("name", "change"),
    [("event-moklisttrusted", c) for c in CHANGES] + [("event-bootorder", c) for c in CHANGES if c not in MEANINGLESS],
)
def test_both_refuse_a_log_that_differs_from_its_state(name: str, change: str) -> None:
    apply, code, pcr = CHANGES[change]
    document = made(name)
    apply(document)
    assert keylime_says(name, document) != ""
    result = judge(name, document)
    assert result.status == "contraindicated"
    assert (code, pcr) in {(f.code, f.pcr) for f in result.findings}


@pytest.mark.parametrize(
    ("name", "state", "code", "pcr"),
    [
        ("tampered-kernel", "flatcar-lab-good", "image.unknown", 4),
        ("flatcar-lab-tampered", "flatcar-lab-good", "kernel.argument", 8),
        ("tampered-older-shim", "flatcar-lab-good", "image.unknown", 4),
        ("tampered-db-key-only", "flatcar-lab-good", "secureboot.key-unknown", 7),
        ("tampered-mok-key", "flatcar-lab-good", "mok.unknown", 14),
        ("tampered-secure-boot-off", "flatcar-lab-good", "secureboot.state", 7),
        ("second-firmware", "flatcar-lab-good", "platform.differs", 0),
        ("sb-off-tampered-init", "sb-off-good", "kernel.argument", 8),
        ("sb-off-tampered-kernel", "sb-off-good", "file.unknown", 9),
        ("tampered-log-cut", "flatcar-lab-good", "sequence.missing", 8),
    ],
)
def test_tampered_boots_differ_from_the_state_of_the_good_one(name: str, state: str, code: str, pcr: int) -> None:
    assert judge(state, made(state)).status == "affirming"
    result = judge(name, made(state))
    assert result.status == "contraindicated"
    assert (code, pcr) in {(f.code, f.pcr) for f in result.findings}


def test_a_state_made_of_a_manifest_is_the_one_that_keylime_makes_of_the_log() -> None:
    good = FIXTURES / "flatcar-lab-good"
    state = KeylimeState.from_manifest(lab_manifest("flatcar-lab-good"), evidence(good))
    theirs = made("flatcar-lab-good")
    ours = json.loads(state.to_json())
    assert ours.keys() == theirs.keys()
    (kernel,) = theirs.pop("kernels")
    assert kernel in ours.pop("kernels")
    # Of the manifest there are digests in every bank, Keylime writes SHA-256 alone.
    for name in ("mokdig", "mokxdig"):
        (one,), (other,) = ours.pop(name), theirs.pop(name)
        assert one["sha256"] == other["sha256"]
    assert ours == theirs
    # It allows for the release's other boots too, and for nobody else's.
    for name, status in (
        ("flatcar-lab-good", "affirming"),
        ("later-boot", "affirming"),
        ("tampered-kernel", "contraindicated"),
    ):
        assert judge(name, json.loads(state.to_json())).status == status


def test_a_state_made_without_secure_boot() -> None:
    good = FIXTURES / "sb-off-good"
    state = KeylimeState.from_manifest(lab_manifest("sb-off-good"), evidence(good))
    assert not state.secure_boot
    assert made("sb-off-good")["kernels"][0] in json.loads(state.to_json())["kernels"]
    assert judge("sb-off-good", json.loads(state.to_json())).status == "affirming"


def test_a_manifest_without_grub_gives_no_state() -> None:
    with pytest.raises(ManifestError, match="no boot by shim and GRUB"):
        KeylimeState.from_manifest(lab_manifest("uki"), evidence(FIXTURES / "flatcar-lab-good"))
    good = lab_manifest("flatcar-lab-good")
    assert good.grub is not None
    idle = attrs.evolve(good, grub=attrs.evolve(good.grub, config="true\n"))
    with pytest.raises(ManifestError, match="decides no boot"):
        KeylimeState.from_manifest(idle, evidence(FIXTURES / "flatcar-lab-good"))


@pytest.mark.parametrize("missing", [0, 7])
def test_a_platform_that_did_not_quote_its_firmware_gives_no_state(missing: int) -> None:
    quoted = machine(good_log(), quoted=[pcr for pcr in range(15) if pcr != missing])
    with pytest.raises(ManifestError, match=f"PCR {missing}"):
        KeylimeState.from_manifest(lab_manifest("flatcar-lab-good"), quoted)


def test_a_platform_whose_log_is_not_what_was_measured_gives_no_state() -> None:
    manifest = lab_manifest("flatcar-lab-good")
    with pytest.raises(ManifestError, match="is not what was measured"):
        KeylimeState.from_manifest(manifest, machine(_changed(lambda e: e.pcr == 7 and e.type == 0x80000001)))
    with pytest.raises(ManifestError, match="0 EV_S_CRTM_VERSION"):
        KeylimeState.from_manifest(manifest, machine(_changed(lambda e: e.type == 8, type=1)))


def _changed(which: Callable[[ForgedEvent], bool], **fields: Any) -> ForgedLog:
    """The good log with the first such event changed, its digests left alone: honest registers, a lying text."""
    log = good_log()
    place = next(i for i, event in enumerate(log.events) if which(event))
    event = log.events[place]
    fields = fields or {"data": event.data[:-1] + bytes([event.data[-1] ^ 1])}
    return log.with_events([*log.events[:place], replace(event, **fields), *log.events[place + 1 :]])


def test_keylime_evaluates_a_state_by_this_module() -> None:
    document = {"format": "measlog.keylime/1", "reference_state": made("flatcar-lab-good")}
    policy = json.dumps(document)
    assert host.check_quote("flatcar-lab-good", policy) == {}
    found = host.check_quote("tampered-kernel", policy)
    assert found["measured_boot.measlog.image.unknown"]["event_type"] == "EV_EFI_BOOT_SERVICES_APPLICATION"
    assert KeylimePolicy.from_json(policy).policy.required == {0, 4, 7, 14}


BROKEN: dict[str, tuple[Callable[[Document], None], str]] = {
    "no kernels": (lambda d: d.pop("kernels"), "kernels"),
    "kernels that are no list": (_set("kernels", lambda _: {}), "kernels"),
    "no shim": (lambda d: d["kernels"][0].pop("shim_authcode_sha256"), "kernels[0].shim_authcode_sha256"),
    "no command line": (lambda d: d["kernels"][0].pop("kernel_cmdline"), "kernels[0].kernel_cmdline"),
    "a command line that is no text": (_set("kernels.0.kernel_cmdline", lambda _: 1), "kernels[0].kernel_cmdline"),
    "a pattern that is none": (_set("kernels.0.kernel_cmdline", lambda _: "("), "kernels[0].kernel_cmdline"),
    "a pattern without end": (_set("kernels.0.kernel_cmdline", lambda _: "a" * 70_000), "kernels[0].kernel_cmdline"),
    "a digest without 0x": (_set("kernels.0.grub_authcode_sha256", lambda t: t[2:]), "kernels[0].grub_authcode_sha256"),
    "a digest in capitals": (_set("kernels.0.grub_authcode_sha256", str.upper), "kernels[0].grub_authcode_sha256"),
    "a short digest": (_set("kernels.0.grub_authcode_sha256", lambda t: t[:-2]), "kernels[0].grub_authcode_sha256"),
    "a digest that is a number": (
        _set("kernels.0.grub_authcode_sha256", lambda _: 1),
        "kernels[0].grub_authcode_sha256",
    ),
    "no scrtm": (lambda d: d["scrtm_and_bios"][0].pop("scrtm"), "scrtm_and_bios[0].scrtm"),
    "an empty scrtm": (_set("scrtm_and_bios.0.scrtm", lambda _: {}), "scrtm_and_bios[0].scrtm"),
    "an unknown algorithm": (_set("scrtm_and_bios.0.scrtm", lambda _: {"md5": "0x00"}), "scrtm_and_bios[0].scrtm"),
    "a blob that is none": (
        _set("scrtm_and_bios.0.platform_firmware.1", lambda _: 1),
        "scrtm_and_bios[0].platform_firmware[1]",
    ),
    "an owner that is none": (_set("db.0.SignatureOwner", lambda _: "x"), "db[0].SignatureOwner"),
    "an owner that is a number": (_set("db.0.SignatureOwner", lambda _: 1), "db[0].SignatureOwner"),
    "no data": (lambda d: d["db"][0].pop("SignatureData"), "db[0].SignatureData"),
    "no dbx": (lambda d: d.pop("dbx"), "dbx"),
    "too many keys": (_set("pk", lambda keys: keys * 5000), "pk"),
    "a state of Secure Boot that is none": (_set("has_secureboot", lambda _: "yes"), "has_secureboot"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_state_is_refused_with_the_place(name: str) -> None:
    change, path = BROKEN[name]
    document = made("flatcar-lab-good")
    change(document)
    with pytest.raises(FormatError) as caught:
        KeylimeState.from_json(json.dumps(document))
    assert (caught.value.path or "").startswith(path)


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{" * 99_999, b"\xff", "\ud800"])
def test_what_is_no_document_is_refused(data: bytes | str) -> None:
    with pytest.raises(FormatError):
        KeylimeState.from_json(data)


def test_a_command_line_counts_whatever_its_event_is_called() -> None:
    """GRUB's labels are in no register: the ``linux`` command of a log whose line was relabelled gives it away (A45)."""
    document = made("flatcar-lab-good")
    log = path_of("flatcar-lab-tampered").read_bytes()
    line = log.index(b"kernel_cmdline: ")
    relabelled = log[:line] + b"grub_cmd: xxxxx" + log[line + 15 :]
    verifier = ml.Verifier([], policy=attrs.evolve(KeylimeState.from_json(json.dumps(document)).policy()))
    result = verifier.unsafe_appraise_unquoted(ml.EventLog.from_bytes(relabelled), pcrs=range(15))
    commands = [f.event for f in result.findings if f.code == "kernel.argument"]
    assert commands
    assert ml.EventLog.from_bytes(relabelled)[commands[0] or 0].raw.startswith(b"grub_cmd: linux ")


@pytest.mark.parametrize("name", ["cos-101-amd-sev", "cos-85-amd-sev"])
def test_quotes_in_a_command_line_are_no_difference(name: str) -> None:
    """GRUB writes quotation marks into the command line that the command does not have."""
    assert "kernel.argument" not in {f.code for f in judge(name, made(name)).findings}
