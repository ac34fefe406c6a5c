"""A machine that says whatever a test wants it to say: changed logs, honestly replayed and quoted.

Register values and quotes come from :mod:`fixtures.attacks.forge`, which shares nothing with the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

import measlog as ml
from fixtures.attacks.forge import NAMES, ForgedEvent, ForgedLog, quote
from measlog.appraisal import AppraisalResult, Policy
from measlog.evidence import VerifiedEvidence
from measlog.reference.manifest import ReferenceManifest

ROOT = Path(__file__).resolve().parents[2]
SHA256 = 0x000B
NONCE = bytes(range(20))
KEY = ec.derive_private_key(0x6D6561736C6F67, ec.SECP256R1())
QUOTED = (*range(15),)

Change = Callable[[tuple[ForgedEvent, ...]], Iterable[ForgedEvent]]


@cache
def good_log(name: str = "flatcar-lab-good") -> ForgedLog:
    """The log of one of the project's captures."""
    return ForgedLog.take_apart((ROOT / "fixtures" / name / "binary_bios_measurements").read_bytes())


def machine(log: ForgedLog, *, quoted: Sequence[int] = QUOTED, bank: int = SHA256) -> VerifiedEvidence:
    """Evidence that verifies: the log as it is, its registers, and a quote over them."""
    made = quote(KEY, NONCE, [(bank, quoted)], log.registers)
    evidence = ml.Evidence(
        log=ml.EventLog.from_bytes(log.put_together()), quote=ml.Quote.from_bytes(made.attest, made.signature)
    )
    return evidence.verify(ak=made.ak, nonce=NONCE, bank=NAMES[bank])


def appraise(
    policy: Policy,
    change: Change | None = None,
    *,
    name: str = "flatcar-lab-good",
    manifests: Sequence[ReferenceManifest] = (),
    quoted: Sequence[int] = QUOTED,
) -> AppraisalResult:
    """The verdict on a capture whose events were changed."""
    log = good_log(name)
    if change is not None:
        log = log.with_events(change(log.events))
    return ml.Verifier(manifests, policy=policy, unsafe_unsigned_manifests=True).appraise(machine(log, quoted=quoted))


def codes(result: AppraisalResult, *, severity: str = "error") -> set[str]:
    """The codes of the findings of one severity."""
    return {f.code for f in result.findings if f.severity == severity}


def where(
    condition: Callable[[ForgedEvent], bool], make: Callable[[ForgedEvent], Iterable[ForgedEvent]], *, nth: int = 0
) -> Change:
    """Replace the nth event that fulfils a condition."""

    def change(events: tuple[ForgedEvent, ...]) -> Iterable[ForgedEvent]:
        places = [i for i, e in enumerate(events) if condition(e)]
        place = places[nth]
        return (*events[:place], *make(events[place]), *events[place + 1 :])

    return change


def lines(result: AppraisalResult) -> list[str]:
    """All that a verdict says of findings, one line each: severity, code, register, event, sentence, values."""
    return [
        f"{f.severity} {f.code}"
        + ("" if f.pcr is None else f" PCR {f.pcr}")
        + ("" if f.event is None else f" event {f.event}")
        + f": {f.message}"
        + ("" if f.expected is None else f" | expected {_shown(f.expected)}")
        + ("" if f.observed is None else f" | observed {_shown(f.observed)}")
        for f in result.findings
    ]


def compared(result: AppraisalResult) -> list[str]:
    """What a verdict rests on, one line each: rule, register, events, against what."""
    return [
        f"{c.rule}"
        + ("" if c.pcr is None else f" PCR {c.pcr}")
        + (f" events {','.join(map(str, c.events))}" if c.events else "")
        + f": {c.against}"
        for c in result.checked
    ]


def passed_over(result: AppraisalResult) -> list[str]:
    """What no reference spoke for, one line each."""
    return [f"{n.subject}" + ("" if n.pcr is None else f" PCR {n.pcr}") + f": {n.reason}" for n in result.not_covered]


def _shown(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.hex()
