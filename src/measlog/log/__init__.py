"""What users hold: logs, events and their proofs."""

from measlog.log.event import Event
from measlog.log.eventlog import Anomaly, EventLog, ReplayedLog

__all__ = ["Anomaly", "Event", "EventLog", "ReplayedLog"]
