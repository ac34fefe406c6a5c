"""Arguments for systemd-cryptenroll (v255 and newer)."""

from __future__ import annotations

from collections.abc import Sequence

from measlog.errors import PolicyError
from measlog.interop.seal.states import State

__all__ = ["cryptenroll_arguments"]

_BANKS = frozenset({"sha1", "sha256", "sha384", "sha512"})


def cryptenroll_arguments(states: Sequence[State]) -> tuple[str, ...]:
    """``--tpm2-pcrs=`` with the expected values, one argument a state: each is enrolled as a token of its own.

    Registers are given by number, since not all have a name (8 has none).

    Raises PolicyError where there is no state, or for a bank that it does not have.
    """
    if not states:
        raise PolicyError("no state to seal to")
    for state in states:
        if state.bank not in _BANKS:
            raise PolicyError(f"systemd-cryptenroll has no bank {state.bank}")
    return tuple(
        "--tpm2-pcrs=" + "+".join(f"{pcr}:{state.bank}={value.hex()}" for pcr, value in state.values.items())
        for state in states
    )
