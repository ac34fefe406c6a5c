"""A small machine for the tests: its log, the registers that hashlib gives for it, and quotes that it would make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from measlog import EventLog, Evidence, Quote
from measlog.formats.pfp import LogEvent, build_log
from tests.evidence import quotes
from tests.log import independent

NONCE = b"\x01\x02\x03 a nonce"
SIZES = {"sha1": 20, "sha256": 32, "sha384": 48}


def event(register: int, seed: int, banks: Sequence[str]) -> LogEvent:
    return LogEvent(register, 0xD, {bank: bytes([seed]) * SIZES[bank] for bank in banks}, bytes([seed]))


def log_bytes(banks: Sequence[str] = ("sha1", "sha256", "sha384"), *, extra: Sequence[LogEvent] = ()) -> bytes:
    """A log with two events in each of PCR 0 to 7."""
    return build_log([event(i % 8, 16 + i, banks) for i in range(16)] + list(extra), algorithms=banks)


def registers(log: bytes, bank: str, pcrs: Sequence[int] = tuple(range(8))) -> dict[int, bytes]:
    """What a TPM would hold: replayed by hashlib, start values elsewhere."""
    replayed = independent.replay(log, bank)
    start = {i: (b"\xff" if 17 <= i <= 22 else b"\0") * SIZES[bank] for i in pcrs}
    return {i: replayed.get(i, start[i]) for i in pcrs}


def evidence(
    banks: Mapping[str, Sequence[int]] | None = None,
    *,
    log: bytes | None = None,
    key: Any = None,
    nonce: bytes = NONCE,
    hash_name: str = "sha256",
    scheme: int | None = None,
    pcrs: Mapping[int, bytes] | None = None,
    values: Mapping[str, Mapping[int, bytes]] | None = None,
) -> Evidence:
    """Evidence whose quote covers the given banks and registers, honest unless ``values`` say otherwise."""
    log = log_bytes() if log is None else log
    banks = {"sha256": range(8)} if banks is None else banks
    if values is None:
        values = {bank: registers(log, bank, tuple(pcrs)) for bank, pcrs in banks.items()}
    attest = quotes.quoted(values, nonce=nonce, hash_name=hash_name)
    signature = quotes.sign(key or quotes.ecc_key(), attest, scheme=scheme, name=hash_name)
    return Evidence(log=EventLog.from_bytes(log), quote=Quote.from_bytes(attest, signature), pcrs=pcrs)
