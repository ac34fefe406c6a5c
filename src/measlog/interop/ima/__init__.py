"""Linux' Integrity Measurement Architecture: its runtime log, replayed and looked up."""

from measlog.interop.ima.entry import Extends, ImaEntry
from measlog.interop.ima.log import IMA_PCR, BootAggregate, ImaLog
from measlog.interop.ima.templates import TEMPLATES, FileDigest

__all__ = ["IMA_PCR", "TEMPLATES", "BootAggregate", "Extends", "FileDigest", "ImaEntry", "ImaLog"]
