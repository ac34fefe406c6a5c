"""The verdict on one row, and the scalar path that defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from measlog.errors import MeaslogError
from measlog.evidence import AttestationKey, Evidence, Quote
from measlog.formats.tpm2 import parse_pcr_file
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.log import EventLog

if TYPE_CHECKING:
    from measlog.appraisal import AppraisalResult, Verifier
    from measlog.appraisal.result import Identified

__all__ = ["Verdict", "appraise_row", "identified_text", "refused", "verdict_of"]

_NOTHING_COMPARED = "policy.nothing-compared"
_DEFECT = "error"


class Verdict(NamedTuple):
    """The columns that an appraisal adds to a row.

    ``code`` is that of the first finding, or of the error where the row has ``none``; ``pcr`` and ``event`` are those
    of that finding.
    """

    status: str
    code: str | None = None
    pcr: int | None = None
    event: int | None = None
    identified: str | None = None


def refused(code: str) -> Verdict:
    """The verdict on bytes that cannot be read, or evidence that is not authentic."""
    return Verdict("none", code)


def verdict_of(result: AppraisalResult) -> Verdict:
    """An appraisal's result in columns."""
    first = result.findings[0] if result.findings else None
    if first is None:
        code = None if result.status == "affirming" else _NOTHING_COMPARED
        return Verdict(result.status, code, None, None, identified_text(result.identified))
    return Verdict(result.status, first.code, first.pcr, first.event, identified_text(result.identified))


def identified_text(identified: Sequence[Identified]) -> str | None:
    """What was recognised, in a few words: the release, or role by role where they are of several; and the slot."""
    if not identified:
        return None
    releases = list(dict.fromkeys(i.release for i in identified))
    text = releases[0]
    if len(releases) > 1:
        text = ", ".join(dict.fromkeys(f"{i.component} {i.release}" for i in identified))
    slots = list(dict.fromkeys(i.slot for i in identified if i.slot is not None))
    return f"{text} (slot {', '.join(slots)})" if slots else text


def appraise_row(
    verifier: Verifier,
    bank: str,
    *,
    log: bytes,
    attest: bytes,
    signature: bytes,
    ak: bytes,
    nonce: bytes,
    pcrs: bytes | None,
    limits: Limits = DEFAULT_LIMITS,
) -> Verdict:
    """One row by the scalar path: this is what the columns must equal."""
    try:
        evidence = Evidence(
            log=EventLog.from_bytes(log, limits=limits),
            quote=Quote.from_bytes(attest, signature),
        )
        key = AttestationKey.load(ak)
        if pcrs is not None:
            evidence = Evidence(log=evidence.log, quote=evidence.quote, pcrs=parse_pcr_file(pcrs).get(bank))
        return verdict_of(verifier.appraise(evidence.verify(ak=key, nonce=nonce, bank=bank)))
    except MeaslogError as error:
        return refused(error.code)
    except Exception:  # noqa: BLE001 - one machine's bytes must not keep all others from their verdicts
        return refused(_DEFECT)
