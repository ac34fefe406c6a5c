"""Registers that are left open in one bank, where a quote covers several."""

from __future__ import annotations

import pytest

from measlog import Evidence
from measlog.errors import PcrDigestError, SelectionError
from tests.evidence import quotes
from tests.evidence.machines import NONCE, event, evidence, log_bytes, registers

BANKS = ("sha256", "sha384")
PCRS = range(13)
LOG = log_bytes(BANKS, extra=[event(12, 99, BANKS)])
AK = quotes.ecc_key().public_key()
LATER = bytes(range(32))
"""What PCR 12 of the bank sha256 holds, which the running system went on to extend."""


def quoted(order: tuple[str, ...], other: bytes | None = None) -> Evidence:
    """Evidence with banks in this order; ``other`` is PCR 12 of the bank sha384, else what the log gives."""
    values = {bank: registers(LOG, bank, PCRS) for bank in order}
    values["sha256"][12] = LATER
    if other is not None:
        values["sha384"][12] = other
    return evidence(log=LOG, values=values, pcrs={12: LATER})


@pytest.mark.parametrize("order", [BANKS, BANKS[::-1]])
def test_a_register_is_open_in_the_verified_bank_alone(order: tuple[str, ...]) -> None:
    """In another bank that is quoted too, its value is the log's; that of a bank nobody extended has no history (A9)."""
    verified = quoted(order).verify(ak=AK, nonce=NONCE, open_ended=(12,))
    assert (verified.open_ended, verified.values[12]) == (frozenset({12}), LATER)
    for other in (bytes(48), b"\1" * 48):
        with pytest.raises(PcrDigestError) as caught:
            quoted(order, other).verify(ak=AK, nonce=NONCE, open_ended=(12,))
        assert caught.value.check == "pcr-digest"


def test_a_register_that_cannot_be_open_is_named() -> None:
    with pytest.raises(SelectionError) as caught:
        quoted(BANKS).verify(ak=AK, nonce=NONCE, open_ended=(12, 7, 4))
    assert str(caught.value) == "PCR 4 cannot be open-ended"
