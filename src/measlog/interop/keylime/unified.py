"""A policy of Keylime's own kind for unified kernel images: which registers it compares with the event log.

Source: ``keylime/mba/elchecking/policies.py`` of Keylime 7.14.3. Keylime hands over no log of what the running system
extends: of PCR 11 (systemd's phases) and 15 (machine id, volume keys) it cannot be told whether they are right, and it
refuses a machine of which they are not what the firmware's log gives. Importing this module, as Keylime does with what is
named in ``measured_boot_imports``, registers the policy :data:`NAME`, which leaves these two out of the comparison.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LEFT_OUT", "NAME"]

NAME = "measlog-unified"
"""For ``measured_boot_policy_name``."""

LEFT_OUT = frozenset({11, 15})


class _Registers:
    """What Keylime asks of a policy; it evaluates nothing itself."""

    def __init__(self, config: Any, tests: Any) -> None:
        self._relevant = frozenset(config.MEASUREDBOOT_PCRS) - LEFT_OUT
        self._tests = tests

    def get_relevant_pcrs(self) -> frozenset[int]:
        """The registers that Keylime compares with the log."""
        return self._relevant

    def refstate_to_test(self, _refstate: object) -> Any:
        """Reached where Keylime's own evaluation runs in place of this package's: it must not pass."""
        return self._tests.RejectAll("measlog.interop.keylime is not among the measured_boot_imports")

    def evaluate(self, refstate: object, log: object) -> str:
        """Why not, as Keylime's policies say it."""
        return str(self.refstate_to_test(refstate).why_not({}, log))


def _register() -> None:
    try:
        from keylime import config  # noqa: PLC0415 - optional
        from keylime.mba.elchecking import policies, tests  # noqa: PLC0415
    except ImportError:
        return  # imported for its documentation: without Keylime there is nobody to tell
    policies.register(NAME, _Registers(config, tests))


_register()
