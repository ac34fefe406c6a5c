"""The published strategies give what they promise."""

from __future__ import annotations

import hashlib

from hypothesis import given

from measlog import EventLog
from measlog.registry import EventType
from measlog.testing import event_logs, events


@given(event_logs(algorithms=("sha256", "sha384")))
def test_logs_are_read_and_their_digests_follow_from_their_data(data: bytes) -> None:
    log = EventLog.from_bytes(data)
    assert log.to_bytes() == data
    assert log.algorithms == ("sha256", "sha384")
    for event in log:
        for name in event.digests:
            assert event.check(name).status != "differs", event.index
            if event.type is EventType.EV_SEPARATOR:
                assert event.digests[name] == hashlib.new(name, event.raw).digest()
    assert log.replay("sha256") is not None


@given(event_logs(legacy=True))
def test_logs_in_the_sha1_format(data: bytes) -> None:
    log = EventLog.from_bytes(data)
    assert (log.kind, log.to_bytes()) == ("sha1", data)
    assert {event.check("sha1").status for event in log} <= {"matches", "not_derivable", "not_extended"}


@given(events())
def test_an_event_has_the_digests_that_were_asked_for(event: object) -> None:
    assert list(event.digests) == ["sha1", "sha256"]  # type: ignore[attr-defined]
