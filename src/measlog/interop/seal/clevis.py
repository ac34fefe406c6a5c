"""Configurations for ``clevis encrypt`` and ``clevis luks bind``."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from measlog.errors import PolicyError
from measlog.interop.seal.states import State

__all__ = ["clevis_config"]


def clevis_config(states: Sequence[State]) -> tuple[str, str]:
    """The pin's name and its configuration: ``tpm2`` for one state, ``sss`` with a threshold of one for several.

    ``pcr_digest`` is the raw values in ascending order as unpadded base64url: clevis takes any other order without a
    word, and never opens. The bank is always written, because clevis' own default is SHA-1.

    Raises PolicyError where there is no state.
    """
    if not states:
        raise PolicyError("no state to seal to")
    pins = [
        {
            "pcr_bank": state.bank,
            "pcr_ids": ",".join(str(pcr) for pcr in state.values),
            "pcr_digest": base64.urlsafe_b64encode(state.concatenated).rstrip(b"=").decode(),
        }
        for state in states
    ]
    if len(pins) == 1:
        return "tpm2", json.dumps(pins[0], separators=(",", ":"))
    return "sss", json.dumps({"t": 1, "pins": {"tpm2": pins}}, separators=(",", ":"))
