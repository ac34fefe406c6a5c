"""Evidence of boots of unified kernel images, changed as one likes: registers and quote are made to fit.

:mod:`fixtures.attacks.forge`, which does that, shares nothing with the library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec

import measlog as ml
from fixtures.attacks.forge import NAMES, ForgedEvent, ForgedLog, quote
from measlog.appraisal import AppraisalResult, Policy
from measlog.evidence import VerifiedEvidence
from measlog.interop.systemdlog import SystemdRecord
from measlog.reference.manifest import ReferenceManifest
from measlog.registry import Register
from tests.appraisal.machine import NONCE, good_log
from tests.appraisal.test_captures import lab_manifest

KEY = ec.derive_private_key(0x756B69, ec.SECP256R1())
SHA256 = 0x000B
PHASES = ("enter-initrd", "leave-initrd", "sysinit", "ready")
QUOTED = tuple(range(15))
EV_IPL, EV_EVENT_TAG, EV_IMAGE = 0xD, 0x6, 0x80000003

Change = Callable[[tuple[ForgedEvent, ...]], Iterable[ForgedEvent]]


def extended(index: int, text: str, hashed: bytes | None = None) -> SystemdRecord:
    digests = {name: hashlib.new(name, text.encode() if hashed is None else hashed).digest() for name in NAMES.values()}
    return SystemdRecord.of(Register("pcr", index), text, digests)


def phases(*words: str) -> list[SystemdRecord]:
    return [extended(11, word) for word in words]


def machine(log: ForgedLog, further: Sequence[SystemdRecord], *, quoted: Sequence[int] = QUOTED) -> VerifiedEvidence:
    """Evidence that verifies, with registers that both logs were extended into."""

    def registers(alg: int) -> dict[int, bytes]:
        values = log.registers(alg)
        for record in further:
            value = values[record.register.index] + record.digests[NAMES[alg]]
            values[record.register.index] = hashlib.new(NAMES[alg], value).digest()
        return values

    made = quote(KEY, NONCE, [(SHA256, quoted)], registers)
    evidence = ml.Evidence(
        log=ml.EventLog.from_bytes(log.put_together()),
        quote=ml.Quote.from_bytes(made.attest, made.signature),
        further={"systemd": further},
    )
    return evidence.verify(ak=made.ak, nonce=NONCE)


def appraise(
    change: Change | None = None,
    further: Sequence[SystemdRecord] | None = None,
    *,
    name: str = "uki",
    policy: Policy | None = None,
    manifests: Sequence[ReferenceManifest] | None = None,
    quoted: Sequence[int] = QUOTED,
) -> AppraisalResult:
    log = good_log(name)
    if change is not None:
        log = log.with_events(change(log.events))
    references = [lab_manifest("uki")] if manifests is None else manifests
    verifier = ml.Verifier(references, policy=policy or ml.policy.flatcar(), unsafe_unsigned_manifests=True)
    return verifier.appraise(machine(log, phases(*PHASES) if further is None else further, quoted=quoted))


def places(events: Sequence[ForgedEvent], pcr: int) -> list[int]:
    return [i for i, e in enumerate(events) if e.pcr == pcr]


def at(pcr: int, nth: int, make: Callable[[ForgedEvent], Iterable[ForgedEvent]]) -> Change:
    """Replace the nth event of a register."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        place = places(events, pcr)[nth]
        return (*events[:place], *make(events[place]), *events[place + 1 :])

    return change


def then(*changes: Change) -> Change:
    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        for one in changes:
            events = tuple(one(events))
        return events

    return change


def event(pcr: int, kind: int, data: bytes, hashed: bytes) -> ForgedEvent:
    digests = {alg: hashlib.new(NAMES[alg], hashed).digest() for alg in good_log("uki").algorithms}
    return ForgedEvent(pcr, kind, digests, data)


def more(made: ForgedEvent) -> Change:
    """One event more before the boot services are left."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        return (*events[:-2], made, *events[-2:])

    return change


def utf16(text: str) -> bytes:
    return f"{text}\0".encode("utf-16-le")


def command_line() -> str:
    component = lab_manifest("uki").component("uki")
    assert component is not None
    assert component.uki is not None
    assert component.uki.command_line is not None
    return component.uki.command_line


def lines(text: str) -> Change:
    """Another command line handed over, as systemd-boot, the stub and the kernel would tell."""
    return then(
        at(12, 0, lambda e: [replace(e.rehashed(utf16(text)), data=utf16(text))]),
        at(9, 0, lambda e: [e.rehashed(utf16(text))]),
    )
