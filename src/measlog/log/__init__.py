"""What users hold: logs, events and their proofs."""

from measlog.log.event import Event
from measlog.log.eventlog import Anomaly, EventLog, ReplayedLog
from measlog.log.joined import FurtherEvent, FurtherRecord, JoinedLog

__all__ = ["Anomaly", "Event", "EventLog", "FurtherEvent", "FurtherRecord", "JoinedLog", "ReplayedLog"]
