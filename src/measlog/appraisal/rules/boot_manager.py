"""How the boot manager begins PCR 4, and what is said of the images behind it, however they are started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from measlog.appraisal.rules.boundaries import separator_digests
from measlog.flatcar.boot import CALLING, RETURNING
from measlog.records.device_path import DevicePath
from measlog.records.image import ImageLoadEvent
from measlog.registry import EventType

if TYPE_CHECKING:
    from measlog.appraisal.case import Case, Measured
    from measlog.appraisal.paths import Owner
    from measlog.appraisal.report import Report

__all__ = ["judge_path", "started_images"]

_FILE_PATH = (4, 4)
"""Media device path, file path (UEFI 2.10, clause 10.3.5.4)."""


def started_images(case: Case, report: Report, *, allow_retries: bool, allow_silent: bool) -> tuple[Measured, ...]:
    """The events of PCR 4 behind the boot manager's; findings where those are not as they must be.

    ``allow_retries`` admits boot options that returned before the one that booted, ``allow_silent`` a firmware that does
    not measure which option it calls.
    """
    history = case.history(4)
    separators, _ = separator_digests(case)
    letters = {case.digest(CALLING): "C", case.digest(RETURNING): "R", **dict.fromkeys(separators, "S")}
    word = "".join(letters.get(m.digest, ".") for m in history)
    pairs = "(?:RC)*" if allow_retries else ""
    match = re.match(rf"{'C?' if allow_silent else 'C'}S{pairs}", word)
    start = match.end() if match else next((i for i, letter in enumerate(word) if letter == "."), len(word))
    if match is None:
        report.find(
            "boot-manager.order",
            "PCR 4 does not begin with the boot manager calling an option and closing the firmware's phase",
            pcr=4,
            event=history[0].index if history else None,
        )
    elif "R" in word[:start]:
        report.find(
            "boot-manager.retry",
            f"{word[:start].count('R')} boot option(s) failed before the one that booted, as the policy allows",
            severity="info",
            pcr=4,
            event=history[word.index("R")].index,
        )
    for measured, letter in zip(history[:start], word[:start], strict=True):
        if letter in "CR" and measured.event.type != EventType.EV_EFI_ACTION:
            report.find("event.type", "an action of the boot manager of another type", pcr=4, event=measured.index)
    return history[start:]


def judge_path(measured: Measured, owners: Sequence[Owner], report: Report) -> None:
    """The device path beside an image's digest, where there is one, names the file that the component is (A2)."""
    record = measured.event.data
    said: str | None = None
    if isinstance(record, ImageLoadEvent) and isinstance(record.device_path, DevicePath):
        nodes = [n for n in record.device_path.nodes if (n.type, n.subtype) == _FILE_PATH]
        if not nodes:
            return
        said = nodes[-1].data.decode("utf-16-le", "replace").rstrip("\0").replace("\\", "/").strip("/")
        if any(said.lower() == component.path.lower() for _, component in owners):
            return
    report.find(
        "event.label",
        "the image is the release's, but the event's data says something else about it",
        pcr=4,
        event=measured.index,
        expected=owners[0][1].path if owners else None,
        observed=said,
    )
