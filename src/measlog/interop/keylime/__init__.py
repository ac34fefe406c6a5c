"""Keylime: a measured-boot module, agents' quotes, and reference states.

Named in the verifier's ``measured_boot_imports``, this package parses logs without running ``tpm2_eventlog`` and
evaluates them by signed manifests and a policy of measlog's. The four functions are what Keylime looks for, under its
names; the package ``keylime`` itself is imported when one of them is called. What a verdict then rests on is in
``docs/keylime.md``.
"""

from __future__ import annotations

from measlog.interop.keylime.document import KeylimePolicy, policy_document, state_document
from measlog.interop.keylime.module import bootlog_evaluate, bootlog_parse, policy_is_valid, policy_load
from measlog.interop.keylime.quote import AgentQuote
from measlog.interop.keylime.refstate import KeylimeState

__all__ = [
    "AgentQuote",
    "KeylimePolicy",
    "KeylimeState",
    "bootlog_evaluate",
    "bootlog_parse",
    "policy_document",
    "policy_is_valid",
    "policy_load",
    "state_document",
]
