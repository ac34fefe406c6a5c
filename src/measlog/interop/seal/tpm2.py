"""Policies for tpm2-tools: values files for ``tpm2_policypcr -f`` and PolicyOR lists."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from measlog.errors import PolicyError
from measlog.interop.seal.policy import policy_or, policy_pcr, policy_tree
from measlog.interop.seal.states import State

__all__ = ["Tpm2Branch", "Tpm2Policy", "tpm2_policy"]


@frozen(kw_only=True)
class Tpm2Branch:
    """One state: ``selection`` for ``-l``, ``values`` for ``-f`` (the raw values, ascending), its policy digest."""

    state: State
    selection: str
    values: bytes
    digest: bytes


@frozen(kw_only=True)
class Tpm2Policy:
    """A policy that any of the branches satisfies.

    ``digest`` is the policy to create the object with (``tpm2_create -L``). ``groups`` are the lists of digests for
    PolicyOR, those of the branches first; a branch is satisfied by PolicyPCR and then the PolicyOR of each group that
    its digest, or that of the group before, is in (:meth:`steps`). There are none where there is one branch.
    """

    policy_hash: str
    branches: tuple[Tpm2Branch, ...]
    groups: tuple[tuple[bytes, ...], ...]
    digest: bytes

    def steps(self, index: int) -> tuple[tuple[bytes, ...], ...]:
        """The PolicyOR lists, in order, that lead from the branch ``index`` to the policy."""
        now = self.branches[index].digest
        found = []
        for group in self.groups:
            if now in group and len(group) > 1:
                found.append(group)
                now = policy_or(group, self.policy_hash)
        return tuple(found)


def tpm2_policy(states: Sequence[State], policy_hash: str = "sha256") -> Tpm2Policy:
    """The policy over the states: PolicyPCR for one, PolicyOR over them for more, nested above eight.

    Raises PolicyError where there is no state.
    """
    if not states:
        raise PolicyError("no state to seal to")
    branches = tuple(
        Tpm2Branch(
            state=state,
            selection=f"{state.bank}:" + ",".join(str(pcr) for pcr in state.values),
            values=state.concatenated,
            digest=policy_pcr(state, policy_hash),
        )
        for state in states
    )
    groups, digest = policy_tree([branch.digest for branch in branches], policy_hash)
    return Tpm2Policy(policy_hash=policy_hash, branches=branches, groups=groups, digest=digest)
