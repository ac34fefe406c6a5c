"""Hypothesis strategies that build measured-boot data through measlog's format declarations, for users' own tests.

Needs the extra ``testing``. Everything that a strategy gives is well-formed; to see what a reader makes of the rest,
cut it, append to it or change its bytes.

>>> from hypothesis import given
>>> from measlog import EventLog
>>> from measlog.testing import event_logs
>>> @given(event_logs())
... def test_reads(log: bytes) -> None:
...     assert EventLog.from_bytes(log).to_bytes() == log
"""

from __future__ import annotations

from measlog.errors import MissingExtraError

try:
    import hypothesis as _hypothesis
except ImportError as _error:
    raise MissingExtraError("hypothesis", "testing") from _error

from measlog.testing.logs import event_logs, events
from measlog.testing.payloads import (
    Built,
    device_paths,
    device_security_events,
    gpt_events,
    handoff_tables,
    image_loads,
    load_options,
    no_action_events,
    signature_lists,
    sipa_events,
    tagged_events,
    variables,
)

del _hypothesis

__all__ = [
    "Built",
    "device_paths",
    "device_security_events",
    "event_logs",
    "events",
    "gpt_events",
    "handoff_tables",
    "image_loads",
    "load_options",
    "no_action_events",
    "signature_lists",
    "sipa_events",
    "tagged_events",
    "variables",
]
