"""Counts of digest checks: by hand for a made log, and summed over all logs at hand."""

from __future__ import annotations

import hashlib

from measlog import EventLog
from measlog.formats.pfp import LogEvent, build_log
from measlog.registry import EventType
from measlog.replay.counts import CheckCount, count_checks
from tests.records.logs import own_logs, read, shared_logs


def test_counts_what_it_is_given() -> None:
    sha256 = {"sha256": hashlib.sha256(bytes(4)).digest()}
    other = {"sha256": hashlib.sha256(b"x").digest()}
    log = EventLog.from_bytes(
        build_log(
            [
                LogEvent(0, 4, sha256, bytes(4)),
                LogEvent(1, 4, sha256, bytes(4)),
                LogEvent(2, 4, sha256, bytes(50)),
                LogEvent(3, 4, other, bytes(4)),
                LogEvent(4, 0x80000003, other, bytes(32)),
            ],
            algorithms=["sha256"],
        )
    )
    separator, image = EventType.EV_SEPARATOR, EventType.EV_EFI_BOOT_SERVICES_APPLICATION
    quirky = "separator.first-four-bytes"
    assert set(count_checks(log)) == {
        CheckCount(type=EventType.EV_NO_ACTION, register_kind="pcr", status="not_extended", events=1),
        CheckCount(type=separator, register_kind="pcr", status="matches", rule="data.whole", events=2),
        CheckCount(type=separator, register_kind="pcr", status="matches", rule=quirky, quirk="Q27", events=1),
        CheckCount(type=separator, register_kind="pcr", status="differs", rule="data.whole", events=1),
        CheckCount(type=image, register_kind="pcr", status="not_derivable", rule="image.authenticode", events=1),
    }


def test_an_event_without_any_digest_has_none_to_check() -> None:
    events = [LogEvent(4, 4, {}, bytes(4)), LogEvent(4, 3, {}, b"x")]
    counts = count_checks(EventLog.from_bytes(build_log(events, algorithms=["sha256"])))
    assert [(c.type, c.status, c.events) for c in counts] == [
        (EventType.EV_NO_ACTION, "not_extended", 2),
        (EventType.EV_SEPARATOR, "no_digest", 1),
    ]


def test_banks_that_disagree_are_told() -> None:
    digests = {"sha1": hashlib.sha1(bytes(4)).digest(), "sha256": bytes(32)}
    log = EventLog.from_bytes(build_log([LogEvent(0, 4, digests, bytes(4))]))
    (found,) = (count for count in count_checks(log) if count.type is EventType.EV_SEPARATOR)
    assert (found.status, found.banks_agree) == ("matches", False)


def test_over_all_logs_nothing_differs() -> None:
    logs = [read(path) for path in [*own_logs(), *shared_logs()]]
    counts = count_checks(event for log in logs for event in log)
    assert sum(count.events for count in counts) == sum(map(len, logs))
    assert {count.status for count in counts} == {"matches", "not_derivable", "not_extended"}
    assert all(count.banks_agree for count in counts)
