"""TPM 2.0 policy digests (TPM 2.0 Library, part 3: TPM2_PolicyPCR, TPM2_PolicyOR)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from measlog.errors import PolicyError
from measlog.interop.seal.states import State
from measlog.registry import ALGORITHMS_BY_NAME, Hash, hash_constructor

__all__ = ["policy_or", "policy_pcr", "policy_tree", "selection"]

_CC_POLICY_PCR = 0x0000017F
_CC_POLICY_OR = 0x00000171
OR_LIMIT = 8
"""TPML_DIGEST holds at most 8 digests."""


def _hash(name: str) -> Callable[..., Hash]:
    make = hash_constructor(name)
    if name not in ALGORITHMS_BY_NAME or make is None:
        raise PolicyError(f"the policy hash {name!r} cannot be computed here")
    return make


def selection(state: State) -> bytes:
    """TPML_PCR_SELECTION of the state's registers: one bank, a bitmap of three bytes."""
    bits = sum(1 << pcr for pcr in state.values)
    return struct.pack(">IHB", 1, ALGORITHMS_BY_NAME[state.bank].id, 3) + bits.to_bytes(3, "little")


def policy_pcr(state: State, policy_hash: str = "sha256") -> bytes:
    """The policy digest after PolicyPCR alone. Both hashes in it are the policy's, whatever the bank."""
    make = _hash(policy_hash)
    start = bytes(ALGORITHMS_BY_NAME[policy_hash].size)
    values = make(state.concatenated).digest()
    return make(start + struct.pack(">I", _CC_POLICY_PCR) + selection(state) + values).digest()


def policy_or(branches: Sequence[bytes], policy_hash: str = "sha256") -> bytes:
    """The policy digest that PolicyOR gives for 2 to 8 branches; their order matters.

    Raises PolicyError for another number.
    """
    if not 2 <= len(branches) <= OR_LIMIT:
        raise PolicyError(f"PolicyOR takes 2 to {OR_LIMIT} branches, not {len(branches)}")
    size = ALGORITHMS_BY_NAME[policy_hash].size if policy_hash in ALGORITHMS_BY_NAME else 0
    if any(len(branch) != size for branch in branches):
        raise PolicyError(f"a branch is no {policy_hash} digest")
    return _hash(policy_hash)(bytes(size) + struct.pack(">I", _CC_POLICY_OR) + b"".join(branches)).digest()


def policy_tree(branches: Sequence[bytes], policy_hash: str = "sha256") -> tuple[tuple[tuple[bytes, ...], ...], bytes]:
    """PolicyOR over any number of branches: the groups, level by level from the branches up, and the digest.

    A single branch needs no PolicyOR: there is no group then. A group of one goes up as it is.

    Raises PolicyError where there is none.
    """
    if not branches:
        raise PolicyError("no branch")
    made: list[tuple[bytes, ...]] = []
    now = tuple(branches)
    while len(now) > 1:
        groups = tuple(now[i : i + OR_LIMIT] for i in range(0, len(now), OR_LIMIT))
        made.extend(groups)
        now = tuple(group[0] if len(group) == 1 else policy_or(group, policy_hash) for group in groups)
    return tuple(made), now[0]
