"""Sealing to boots that have not happened yet: predicted registers in the forms that other tools take.

Every form takes :class:`State` values made by :func:`states_of` from predicted boots. A secret that is sealed to several
states opens in each of them: seal to the boot that is now, to the next one, and to going back to the old slot, so that
a failed update locks nobody out.
"""

from __future__ import annotations

from measlog.interop.seal.clevis import clevis_config
from measlog.interop.seal.cryptenroll import cryptenroll_arguments
from measlog.interop.seal.document import prediction_document
from measlog.interop.seal.pcrlock import pcrlock_components
from measlog.interop.seal.pcrsig import SigningKey, pcrsig
from measlog.interop.seal.policy import policy_or, policy_pcr, policy_tree
from measlog.interop.seal.states import State, states_of
from measlog.interop.seal.tpm2 import Tpm2Branch, Tpm2Policy, tpm2_policy

__all__ = [
    "SigningKey",
    "State",
    "Tpm2Branch",
    "Tpm2Policy",
    "clevis_config",
    "cryptenroll_arguments",
    "pcrlock_components",
    "pcrsig",
    "policy_or",
    "policy_pcr",
    "policy_tree",
    "prediction_document",
    "states_of",
    "tpm2_policy",
]
