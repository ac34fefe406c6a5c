"""All logs at hand: the shared corpus, the shared captures and the project's own fixtures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from measlog import EventLog
from tests.conftest import FIXTURES, SHARED

# These are ACPI tables, kept in the corpus to be refused.
NOT_LOGS = {"ccel-acpi-table", "ccel-acpi-table-cos-113"}


def own_logs() -> list[Path]:
    """The logs of the project's own captures."""
    return sorted(FIXTURES.glob("*/binary_bios_measurements"))


def shared_logs() -> list[Path]:
    """The logs of the shared corpus and captures; none where they are not beside the checkout."""
    corpus = [path for path in SHARED.glob("corpus/logs/*.bin") if path.stem not in NOT_LOGS]
    return sorted(corpus) + sorted(SHARED.glob("flatcar/captures/*/binary_bios_measurements"))


def log_id(path: Path) -> str:
    """A short name of a log."""
    return path.stem if path.suffix == ".bin" else path.parent.name


@cache
def read(path: Path) -> EventLog:
    """The log, read once."""
    return EventLog.from_bytes(path.read_bytes())
