"""The four functions of a Keylime measured-boot module.

Source: ``keylime/mba/mba.py`` of Keylime 7.14.3, which names the functions, and ``keylime/tpm/tpm_main.py``
(``check_quote``, ``check_pcrs``), which calls them: the quote's signature, nonce and register values are verified first;
then the log is parsed, the quoted values are compared with ``pcr_hashes``, and the log is evaluated, whatever came of the
comparison. Any event of a ``keylime.failure.Failure`` makes the attestation fail.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measlog.errors import EvidenceError, FormatError, MeaslogError, MissingExtraError, PolicyError
from measlog.interop.keylime.document import SIZE_LIMIT, KeylimePolicy
from measlog.limits import DEFAULT_LIMITS
from measlog.log import EventLog
from measlog.registry import hash_constructor

if TYPE_CHECKING:
    from measlog.appraisal.result import Finding

__all__ = ["bootlog_evaluate", "bootlog_parse", "policy_is_valid", "policy_load"]

_AGGREGATES = (tuple(range(8)), tuple(range(10)))
"""Keylime knows two boot aggregates: of PCR 0 to 7, and of PCR 0 to 9."""
_MOST_FINDINGS = 64
_MOST_TEXT = 1024
_BASE64_LIMIT = DEFAULT_LIMITS.log_size // 3 * 4 + 4


def bootlog_parse(
    bootlog_b64: str | None, hash_alg: str
) -> tuple[dict[str, int], dict[str, list[str]] | None, dict[str, object], Any]:
    """What follows from a log in base64: register values by PCR, boot aggregates by bank, the log, and a Failure.

    ``hash_alg`` names the bank of the values; they are integers, and registers without events are not there. Aggregates
    are hex; one is left out where a register that it covers has no event, as in Keylime's own parser. A log that cannot
    be read or replayed, is cut off or is none of a TPM gives a Failure that says why, and nothing else.
    """
    failure = _failure("parser")
    if not bootlog_b64:
        # Keylime itself complains about each quoted register, and the evaluation about the rest.
        return {}, None, {}, failure
    bank = str(getattr(hash_alg, "value", hash_alg))
    try:
        log = _read(bootlog_b64)
        values = log.replay(bank).values_by_index
    except (FormatError, EvidenceError) as error:
        # Keylime compares and evaluates nothing after this: no label may make it pass.
        failure.add_event(error.code, {"message": _plain(str(error))}, False)
        return {}, None, {}, failure
    if not values:
        failure.add_event("evidence.replay", {"message": "the log extends no register"}, False)
        return {}, None, {}, failure
    hashes = {str(pcr): int.from_bytes(value, "big") for pcr, value in values.items()}
    return hashes, _boot_aggregates(log), {"log": log, "bank": bank}, failure


def policy_load(policy_path: str | None = None) -> str:
    """The text of a policy file, if it is one that :func:`policy_is_valid` accepts.

    Raises :class:`~measlog.errors.PolicyError` or :class:`~measlog.errors.ManifestError`, both a :class:`ValueError`,
    that say why not, and :class:`OSError` where the file cannot be read.
    """
    if policy_path is None:
        raise PolicyError("no policy file was named")
    with Path(policy_path).open("rb") as file:
        data = file.read(SIZE_LIMIT + 1)
    KeylimePolicy.from_json(data)
    return data.decode()


def policy_is_valid(policy: str | None) -> bool:
    """Whether a policy can be evaluated, checks something, and has manifests that are signed and in force.

    Keylime asks before it compares and evaluates, and fails the attestation otherwise; without this, it would take
    ``{}``, ``[]`` and what is no JSON for a policy that everything passes.
    """
    if not isinstance(policy, str):
        return False
    try:
        _policy(policy)
    except MeaslogError:
        return False
    return True


def bootlog_evaluate(
    policy_data: str | None,
    measurement_data: Mapping[str, object],
    pcrsInQuote: Iterable[int],  # noqa: N803 - Keylime's name
    agent_id: str,  # noqa: ARG001 - nothing depends on which machine it is
) -> Any:
    """Evaluate a log that :func:`bootlog_parse` returned; a Failure with an event for each finding.

    The events are called ``measured_boot.measlog.`` and the code of the finding. The verdict holds if the registers of
    ``pcrsInQuote`` hold what the log replays to, which Keylime compares: others are taken for not quoted.
    """
    failure = _failure("measlog")
    # 1. The policy is good at this moment: its manifests are signed and in force (A43).
    try:
        policy = _policy(policy_data if isinstance(policy_data, str) else "")
    except MeaslogError as error:
        failure.add_event(error.code, {"message": _plain(str(error))}, False)
        return failure
    # 2. There is a log, and it is what this module parsed (A41).
    log, bank = measurement_data.get("log"), measurement_data.get("bank")
    if not isinstance(log, EventLog) or not isinstance(bank, str):
        failure.add_event("log.missing", {"message": "there is no event log to evaluate"}, False)
        return failure
    # 3. Of the quoted registers those that Keylime compares with this log: of no other it is known that they agree.
    try:
        result = policy.verifier.unsafe_appraise_unquoted(log, bank=bank, pcrs=_compared() & set(pcrsInQuote))
    except MeaslogError as error:
        failure.add_event(error.code, {"message": _plain(str(error))}, False)
        return failure
    # 4. Only an affirming verdict passes; what is not worse than a notice is no failure.
    if result.status == "affirming":
        return failure
    told = [finding for finding in result.findings if finding.severity != "info"]
    for finding in told[:_MOST_FINDINGS]:
        failure.add_event(finding.code, _context(finding, log, policy.policy.name), True)
    if len(told) > _MOST_FINDINGS:
        failure.add_event("findings.omitted", {"message": f"{len(told) - _MOST_FINDINGS} more findings"}, True)
    if not told:
        failure.add_event("policy.nothing-compared", {"message": "the policy compared nothing"}, False)
    return failure


@lru_cache(maxsize=8)
def _parsed(text: str) -> KeylimePolicy:
    # A pure function of the text but for the time, which _policy looks at again.
    return KeylimePolicy.from_json(text)


def _policy(text: str) -> KeylimePolicy:
    found = _parsed(text)
    found.check_in_force()
    return found


def _read(text: str) -> EventLog:
    if len(text) > _BASE64_LIMIT:
        raise FormatError(f"a log of {len(text)} characters in base64, at most {_BASE64_LIMIT} are read")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"the log is not base64: {error}") from None
    log = EventLog.from_bytes(data)
    if log.kind == "ccel":
        raise FormatError("the log is a CCEL: its registers are RTMRs, which no TPM quotes")
    if not log.complete:
        raise FormatError("the log is followed by bytes that are neither events nor filler")
    return log


def _boot_aggregates(log: EventLog) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in log.algorithms:
        new = hash_constructor(name)
        try:
            values = log.replay(name).values_by_index
        except EvidenceError:
            continue
        if new is not None and values:
            found[name] = [
                new(b"".join([values[pcr] for pcr in covered])).digest().hex()
                for covered in _AGGREGATES
                if all(map(values.__contains__, covered))
            ]
    return found


def _failure(name: str) -> Any:
    failure, component = _failures()
    return failure(component, [name])


@cache
def _failures() -> tuple[Any, Any]:
    """Keylime's ``Failure``, and the component that this module's belong to."""
    try:
        from keylime.failure import Component, Failure  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingExtraError("keylime", "keylime") from None
    return Failure, Component.MEASURED_BOOT


def _compared() -> set[int]:
    """The registers that Keylime compares with the log: fewer, where one of its own policies is configured."""
    from keylime import config  # noqa: PLC0415 - optional
    from keylime.mba.elchecking import policies  # noqa: PLC0415

    pcrs = {int(pcr) for pcr in config.MEASUREDBOOT_PCRS}
    name = config.get("verifier", "measured_boot_policy_name", fallback="accept-all")
    policy = policies.get_policy(name)
    relevant = set() if policy is None else set(policy.get_relevant_pcrs())
    return pcrs & relevant if relevant else pcrs


def _context(finding: Finding, log: EventLog, policy: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "message": _plain(finding.message),
        "severity": finding.severity,
        "policy": _plain(policy),
        "pcr": finding.pcr,
        "event": finding.event,
    }
    if finding.event is not None:
        event = log[finding.event]
        said |= {"event_type": event.type.name, "event_offset": event.offset, "event_data": _data(event.raw)}
    for name, value in (("expected", finding.expected), ("observed", finding.observed)):
        if value is not None:
            said[name] = value.hex() if isinstance(value, bytes) else _plain(value)
    return said


def _data(raw: bytes) -> str:
    """The data of an event as text, if it is text, else in hex; cut off where it is long."""
    try:
        text = raw.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        text = ""
    return _plain(text) if text and "\0" not in text else raw[: _MOST_TEXT // 2].hex()


def _plain(text: str) -> str:
    """Printable text of bounded length: what a terminal would act upon is escaped (A35)."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_MOST_TEXT])
