"""What a person is told of a boot that is not the expected one, and the value that the register would then have.

Logs are real ones, changed. The values are folded here, with hashlib, from digests of the description of the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent, ForgedLog
from measlog.appraisal.explain import Explanation, Hypothesis, explain_boot, explain_replay
from measlog.errors import UnsupportedError
from measlog.reference.manifest import ReferenceManifest
from measlog.registry import EventType
from tests.appraisal.machine import SHA256, good_log
from tests.appraisal.test_captures import capture_manifest

Events = Sequence[ForgedEvent]
Change = Callable[[Events], Iterable[ForgedEvent]]

ELSE = b"another program"
NOT_A_PROGRAM = {EventType.EV_EFI_ACTION, EventType.EV_SEPARATOR}
SLOT_A = "usr-a-secureboot"
BOOTS = {"other-slot", "first-boot", "secure-boot", "fallback", "other-boot"}


@cache
def release(shared: Path) -> ReferenceManifest:
    return capture_manifest(shared)


@cache
def update(shared: Path) -> ReferenceManifest:
    return capture_manifest(shared, updated=True)


@cache
def capture(shared: Path, name: str) -> ForgedLog:
    folder = shared / "flatcar" / "captures" / name
    return ForgedLog.take_apart((folder / "binary_bios_measurements").read_bytes())


def changed_log(shared: Path, change: Change, name: str = SLOT_A) -> ml.EventLog:
    log = capture(shared, name)
    return ml.EventLog.from_bytes(log.with_events(change(log.events)).put_together())


def explained(log: ml.EventLog, *manifests: ReferenceManifest, secure_boot: bool = True) -> dict[int, Explanation]:
    return {e.pcr: e for e in explain_boot(log, manifests, secure_boot=secure_boot)}


def folded(digests: Iterable[bytes], start: bytes = bytes(32)) -> bytes:
    for digest in digests:
        start = hashlib.sha256(start + digest).digest()
    return start


def measured(log: ml.EventLog, pcr: int) -> bytes:
    """The register, without what the firmware's boot manager says of itself in PCR 4."""
    left_out = NOT_A_PROGRAM if pcr == 4 else set()
    return folded(e.digests["sha256"] for e in log if e.pcr == pcr and e.type not in left_out)


def causes(explanation: Explanation) -> list[str]:
    """What is supposed of this boot, not that it is another one."""
    return [h.code for h in explanation.hypotheses if h.code not in BOOTS]


def digests(shared: Path, *kinds: str) -> list[bytes]:
    """``shim`` for the Authenticode digest of the description, ``shim.flat`` for that of the whole file."""
    found = []
    for kind in kinds:
        role, _, flat = kind.partition(".")
        component = release(shared).component(role)
        assert component is not None
        found.append((component.flat if flat else component.authenticode)["sha256"])
    return found


def program(nth: int, make: Callable[[ForgedEvent], ForgedEvent], *, pcr: int = 4) -> Change:
    """Change the nth program of PCR 4, counted from 0, or the nth event of another register."""

    def change(events: Events) -> list[ForgedEvent]:
        places = [i for i, e in enumerate(events) if e.pcr == pcr and not (pcr == 4 and e.type in NOT_A_PROGRAM)]
        place = places[nth]
        return [*events[:place], make(events[place]), *events[place + 1 :]]

    return change


def another(event: ForgedEvent) -> ForgedEvent:
    return event.rehashed(ELSE)


def whole_files(shared: Path) -> Change:
    names = ("shim", "grub", "kernel")
    flat = {digests(shared, name)[0]: digests(shared, f"{name}.flat")[0] for name in names}

    def change(events: Events) -> list[ForgedEvent]:
        return [
            replace(e, digests={**e.digests, SHA256: flat.get(e.digests[SHA256], e.digests[SHA256])})
            if e.pcr == 4
            else e
            for e in events
        ]

    return change


def with_nul(events: Events) -> list[ForgedEvent]:
    return [e.rehashed(e.data.split(b": ", 1)[1]) if e.pcr == 8 else e for e in events]


def files(before: Sequence[bytes], after: Sequence[bytes] = (), kernels: int = 1) -> Change:
    """Files that GRUB reads before and after the kernel's, each with its name as its content."""

    def change(events: Events) -> list[ForgedEvent]:
        place = next(i for i, e in enumerate(events) if e.pcr == 9)
        kernel = events[place]
        made = [[replace(kernel, data=name + b"\0").rehashed(name) for name in names] for names in (before, after)]
        return [*events[:place], *made[0], *[kernel] * kernels, *made[1], *events[place + 1 :]]

    return change


def of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


EXTRA = "GRUB read files that the release does not have, by the log's names: "
BESIDE = "a grub.cfg lies beside GRUB on the ESP and replaces the embedded configuration (A46)"
PLANTED = b"(hd0,gpt1)/EFI/BOOT/grub.cfg"


@pytest.mark.parametrize(
    ("change", "pcr", "code", "said", "nth", "confirmed", "others"),
    [
        pytest.param(
            program(0, another),
            4,
            "other-shim",
            "the shim is another one than the release's",
            0,
            [of(ELSE), "grub", "kernel"],
            ["flat-digest"],
            id="shim",
        ),
        pytest.param(
            program(1, another),
            4,
            "other-grub",
            "the grub is another one than the release's",
            1,
            ["shim", of(ELSE), "kernel"],
            ["flat-digest"],
            id="GRUB",
        ),
        pytest.param(
            program(2, another),
            4,
            "other-kernel",
            "the kernel is another one than the release's",
            2,
            ["shim", "grub", of(ELSE)],
            ["flat-digest"],
            id="kernel",
        ),
        pytest.param(
            program(0, another, pcr=9),
            9,
            "other-kernel",
            "the kernel is another one than the release's",
            0,
            [of(ELSE)],
            ["extra-file"],
            id="the kernel's file",
        ),
        pytest.param(
            None,
            4,
            "flat-digest",
            "the firmware measured whole files instead of Authenticode digests",
            None,
            ["shim.flat", "grub.flat", "kernel.flat"],
            [],
            id="whole files",
        ),
        pytest.param(
            files([b"/b\0\xffX", b"/c"]),
            9,
            "extra-file",
            EXTRA + "/b\0\\xffX, /c",
            0,
            [of(b"/b\0\xffX"), of(b"/c"), "kernel.flat"],
            [],
            id="files before the kernel",
        ),
        pytest.param(
            files([], [b"\0X"]),
            9,
            "extra-file",
            EXTRA + "\0X",
            1,
            ["kernel.flat", of(b"\0X")],
            [],
            id="a file after the kernel",
        ),
        pytest.param(
            files([PLANTED]),
            9,
            "grub-cfg-beside",
            BESIDE,
            0,
            [of(PLANTED), "kernel.flat"],
            ["extra-file"],
            id="a grub.cfg beside GRUB",
        ),
        pytest.param(
            files([PLANTED, b"/other"]),
            9,
            "grub-cfg-beside",
            BESIDE,
            0,
            [of(PLANTED), of(b"/other"), "kernel.flat"],
            ["extra-file"],
            id="a grub.cfg that reads another file",
        ),
    ],
)
def test_one_cause_is_told_in_a_sentence(
    shared: Path,
    change: Change | None,
    pcr: int,
    code: str,
    said: str,
    nth: int | None,
    confirmed: list[str | bytes],
    others: list[str],
) -> None:
    """``nth`` is the event of the register that the sentence is about; ``confirmed`` the history that it tells."""
    log = changed_log(shared, change or whole_files(shared))
    history = [item if isinstance(item, bytes) else digests(shared, item)[0] for item in confirmed]
    explanation = explained(log, release(shared))[pcr]
    assert explanation.value == measured(log, pcr) == folded(history)
    events = [e for e in log if e.pcr == pcr and e.type not in NOT_A_PROGRAM]
    assert Hypothesis(
        code=code,
        pcr=pcr,
        sentence=said,
        value=folded(history),
        confirmed=True,
        event=None if nth is None else events[nth].index,
    ) in (explanation.hypotheses)
    assert sorted(causes(explanation)) == sorted([code, *others])


def test_texts_and_their_nul(shared: Path) -> None:
    log = changed_log(shared, with_nul)
    explanation = explained(log, release(shared))[8]
    texts = [e.raw.split(b": ", 1)[1] for e in log if e.pcr == 8]
    assert all(text.endswith(b"\0") for text in texts)
    assert explanation.confirmed == (
        Hypothesis(
            code="nul-terminated",
            pcr=8,
            sentence="the boot loader hashed its texts with the NUL behind them",
            value=folded(of(text) for text in texts),
            confirmed=True,
        ),
    )
    assert causes(explanation) == ["nul-terminated"]


def test_histories_that_are_supposed_and_do_not_fit(shared: Path) -> None:
    """What is not confirmed has a value as well: that of the history in its sentence, the release's files once each."""
    (kernel,) = digests(shared, "kernel.flat")
    # The kernel was read twice.
    log = changed_log(shared, files([b"/b"], kernels=2))
    hypotheses = explained(log, release(shared))[9].hypotheses
    (extra,) = [h for h in hypotheses if h.code == "extra-file"]
    assert (extra.value, extra.confirmed) == (folded([of(b"/b"), kernel]), False)
    # It was not read: nothing of the release follows what the planted configuration read.
    log = changed_log(shared, files([PLANTED, b"/b"], kernels=0))
    found = {h.code: h for h in explained(log, release(shared))[9].hypotheses}
    for code in ("grub-cfg-beside", "extra-file"):
        assert (found[code].value, found[code].confirmed) == (folded([of(PLANTED), of(b"/b"), kernel]), False)


def test_an_expected_digest_under_another_type(shared: Path) -> None:
    def change(events: Events) -> Iterable[ForgedEvent]:
        driver = int(EventType.EV_EFI_BOOT_SERVICES_DRIVER)
        return program(0, lambda e: replace(e, type=driver))(list(program(2, another)(events)))

    log = changed_log(shared, change)
    explanation = explained(log, release(shared))[4]
    shim = next(e for e in log if e.type == EventType.EV_EFI_BOOT_SERVICES_DRIVER and e.pcr == 4)
    assert sorted(causes(explanation)) == ["flat-digest", "other-kernel", "retyped"]
    assert [h for h in explanation.hypotheses if h.code == "retyped"] == [
        Hypothesis(
            code="retyped",
            pcr=4,
            sentence=f"event {shim.index} holds what is expected there under the type EV_EFI_BOOT_SERVICES_DRIVER",
            value=folded(digests(shared, "shim", "grub", "kernel")),
            confirmed=False,
            event=shim.index,
        )
    ]


def test_a_program_of_any_of_the_releases_is_replaced(shared: Path) -> None:
    """The other release's kernel is no stranger, and the first event that differs is the one that is named."""
    log = changed_log(shared, program(2, another))
    for manifests in ((release(shared), update(shared)), (update(shared), release(shared))):
        explanation = explained(log, *manifests)[4]
        assert "other-kernel" in {h.code for h in explanation.confirmed}
    # A release whose GRUB is the program that is shim to the other one.
    shim = release(shared).component("shim")
    assert shim is not None
    odd = attrs.evolve(release(shared), grub=None, components=(attrs.evolve(shim, role="grub"),))
    log = changed_log(shared, lambda events: program(0, another)(list(program(1, another)(events))))
    (found,) = [h for h in explained(log, release(shared), odd)[4].hypotheses if h.code == "other-grub"]
    first = next(e for e in log if e.pcr == 4 and e.type not in NOT_A_PROGRAM)
    assert (found.event, found.confirmed) == (first.index, True)


@pytest.mark.parametrize("pcr", [4, 8, 9, 14])
def test_a_register_without_events(shared: Path, pcr: int) -> None:
    log = changed_log(shared, lambda events: (e for e in events if e.pcr != pcr))
    found = explained(log, release(shared))
    assert {e.pcr: (e.value, e.confirmed) for e in found.values()} == {pcr: (bytes(32), ())}


@pytest.mark.parametrize(
    ("pcr", "kind"), [(8, EventType.EV_SEPARATOR), (9, EventType.EV_EFI_ACTION), (14, EventType.EV_SEPARATOR)]
)
def test_only_in_pcr_4_does_the_boot_manager_speak(shared: Path, pcr: int, kind: EventType) -> None:
    """Elsewhere an event of its types was measured like any other, and is what the register differs by."""
    log = changed_log(shared, lambda events: (*events, replace(another(events[-1]), pcr=pcr, type=int(kind))))
    found = explained(log, release(shared))
    assert {e.pcr: e.value for e in found.values()} == {pcr: measured(log, pcr)}


@pytest.mark.parametrize(("pcr", "left"), [(4, 9), (9, 4)])
def test_the_release_is_recognised_by_either_register(shared: Path, pcr: int, left: int) -> None:
    """The updated machine without the events of one register: the other one still shows whose kernel it is."""
    log = changed_log(shared, lambda events: (e for e in events if e.pcr != pcr), "usr-b-after-update")
    assert {e.digests["sha256"] for e in log if e.pcr == left} & {
        d["sha256"] for c in update(shared).components if c.role == "kernel" for d in (c.authenticode, c.flat)
    }
    assert set(explained(log, release(shared), update(shared))) == {pcr}


def test_the_oem_file_that_is_given_is_expected(shared: Path) -> None:
    name = "oem-qemu-first-boot"
    log = changed_log(shared, lambda events: events, name)
    oem = (shared / "flatcar" / "captures" / name / "oem-grub.cfg").read_bytes()
    assert explain_boot(log, [release(shared)], secure_boot=False, oem_grub_cfg=oem) == ()
    assert set(explained(log, release(shared), secure_boot=False)) == {8, 9}
    # A file that was read between it and the kernel is the one thing that differs, at its place.
    place = [e.pcr for e in capture(shared, name).events].index(9) + 1

    def another_file(events: Events) -> list[ForgedEvent]:
        return [*events[:place], replace(events[place - 1], data=b"/b\0").rehashed(b"/b"), *events[place:]]

    between = changed_log(shared, another_file, name)
    (found,) = explain_boot(between, [release(shared)], secure_boot=False, oem_grub_cfg=oem)
    history = [of(oem), of(b"/b"), *digests(shared, "kernel.flat")]
    assert [(h.code, h.value) for h in found.confirmed] == [("extra-file", folded(history))]


def test_the_other_boots_of_the_release(shared: Path) -> None:
    """Each is named, and called after the one thing by which it differs; real ones with their TPM's value."""

    def registers(name: str) -> bytes:
        lines = (shared / "flatcar" / "captures" / name / "pcrs.txt").read_text().splitlines()
        (value,) = [line.split()[3] for line in lines if line.split()[:3] == ["PCR", "sha256", "8"]]
        return bytes.fromhex(value)

    log = changed_log(shared, lambda events: (*events, replace(another(events[-1]), pcr=8)))
    explanation = explained(log, release(shared))[8]
    boots = {h.sentence: h for h in explanation.hypotheses if h.code in BOOTS}
    said = "this is the boot slot {}, Secure Boot {} of lab"
    assert {sentence: h.code for sentence, h in boots.items()} == {
        said.format("a, first boot", "on"): "first-boot",
        said.format("b, later boot", "on"): "other-slot",
        said.format("b, falls back to slot a, later boot", "on"): "fallback",
        said.format("a, falls back to slot b, later boot", "on"): "other-boot",
        said.format("a, first boot", "off"): "other-boot",
        said.format("a, later boot", "off"): "secure-boot",
        said.format("b, later boot", "off"): "other-boot",
        said.format("b, falls back to slot a, later boot", "off"): "other-boot",
        said.format("a, falls back to slot b, later boot", "off"): "other-boot",
    }
    assert boots[said.format("a, first boot", "on")].value == registers("usr-a-first-boot-secureboot")
    assert boots[said.format("b, later boot", "on")].value == registers("usr-b-after-update")
    assert not explanation.confirmed


def test_nothing_to_compare_with_is_said(shared: Path) -> None:
    log = changed_log(shared, lambda events: events)
    said = r"^no manifest describes a boot by GRUB, so there is nothing to compare the log with$"
    for manifests in ([], [attrs.evolve(release(shared), grub=None)]):
        with pytest.raises(UnsupportedError, match=said):
            explain_boot(log, manifests)


def test_a_bank_that_manifests_do_not_speak_of(shared: Path) -> None:
    """TCG Algorithm Registry: 0x0C is SHA-384, 0x28 SHA3-384, of the same size."""
    log = good_log()
    header = log.header.replace(b"\x0c\x00\x30\x00", b"\x28\x00\x30\x00")
    events = [replace(e, digests={0x28 if a == 0x0C else a: d for a, d in e.digests.items()}) for e in log.events]
    algorithms = [0x28 if a == 0x0C else a for a in log.algorithms]
    other = ml.EventLog.from_bytes(ForgedLog(header, algorithms, tuple(events)).put_together())
    with pytest.raises(UnsupportedError, match="no manifest has sha3_384 digests"):
        explain_boot(other, [release(shared)], bank="sha3_384")


# Registers that do not replay.


@pytest.mark.parametrize("pcr", [16, 17, 22, 23])
def test_dynamic_registers_start_at_zero_once_they_are_extended(pcr: int) -> None:
    """PCR 17 to 22 are all ones until a dynamic launch sets them to zero."""
    empty = next(e for e in good_log().events if e.pcr == 8)
    made = [replace(empty, pcr=pcr).rehashed(b"%d" % i) for i in range(3)]
    log = ml.EventLog.from_bytes(good_log().with_events([*good_log().events, *made]).put_together())
    history = [of(b"%d" % i) for i in range(3)]
    assert explain_replay(log, {pcr: folded(history)}) == ()
    (found,) = explain_replay(log, {pcr: folded(history[1:])})
    assert [(h.code, h.event) for h in found.confirmed] == [("event-added", len(log) - 3)]


def test_the_locality_is_where_a_register_without_events_starts() -> None:
    first = good_log().events[0]
    stated = replace(first, pcr=0, type=3, digests={alg: bytes(len(d)) for alg, d in first.digests.items()})
    told = [replace(stated, data=b"StartupLocality\0\3"), *(e for e in good_log().events if e.pcr != 0)]
    log = ml.EventLog.from_bytes(good_log().with_events(told).put_together())
    (found,) = explain_replay(log, {0: bytes(32)})
    (none,) = [h for h in found.hypotheses if h.code == "no-events"]
    assert (none.value, none.confirmed) == ((3).to_bytes(32, "big"), False)
