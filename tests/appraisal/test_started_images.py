"""Where in PCR 4 the boot manager's own events end, and the images that it started begin."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal.case import Case, Measured
from measlog.appraisal.report import Report
from measlog.appraisal.result import Finding
from measlog.appraisal.rules.boot_manager import started_images
from tests.appraisal.machine import good_log, machine

# In the order of the good boot: the option that is called, the separator, shim.
CALL, SEPARATOR, SHIM = [e for e in good_log().events if e.pcr == 4][:3]
# PFP, table 14: what the firmware measures when a boot option returned.
RETURN = CALL.rehashed(b"Returning from EFI Application from Boot Option")


def started(
    events: Sequence[ForgedEvent], *, retries: bool = False, silent: bool = False
) -> tuple[tuple[Measured, ...], list[Measured], list[Finding]]:
    """All events of PCR 4, where nothing but these is in it; those that are images; and what is found."""
    log = good_log().with_events([*(e for e in good_log().events if e.pcr != 4), *events])
    report = Report()
    case = Case(evidence=machine(log), manifests=(), baselines=())
    images = started_images(case, report, allow_retries=retries, allow_silent=silent)
    return case.history(4), list(images), report.findings


@pytest.mark.parametrize(
    ("events", "images", "sound"),
    [
        pytest.param([CALL, SEPARATOR, SHIM], 1, True, id="a call, the separator, an image"),
        pytest.param([CALL, SEPARATOR], 0, True, id="nothing started"),
        pytest.param([SEPARATOR, SHIM], 1, False, id="no option called"),
        pytest.param([CALL, SHIM, SEPARATOR], 2, False, id="an image before the separator"),
        pytest.param([SEPARATOR], 0, False, id="a separator alone, which is no image"),
        pytest.param([SEPARATOR, CALL], 0, False, id="the wrong way round, and no image"),
        pytest.param([], 0, False, id="nothing"),
    ],
)
def test_images_begin_behind_what_is_the_boot_managers(events: Sequence[ForgedEvent], images: int, sound: bool) -> None:
    history, found, findings = started(events)
    assert found == list(history[len(events) - images :])
    assert [f.code for f in findings] == ([] if sound else ["boot-manager.order"])


@pytest.mark.parametrize("events", [[CALL, SEPARATOR, SHIM], [SEPARATOR, SHIM]], ids=["calls", "silent"])
def test_a_firmware_that_may_be_silent_may_speak(events: Sequence[ForgedEvent]) -> None:
    history, found, findings = started(events, silent=True)
    assert (found, findings) == ([history[-1]], [])


def test_of_several_options_that_failed_the_first_is_named() -> None:
    events = [CALL, SEPARATOR, *[RETURN, CALL] * 3, SHIM]
    history, images, (found,) = started(events, retries=True)
    assert images == [history[-1]]
    assert (found.code, found.severity, found.event) == ("boot-manager.retry", "info", history[2].index)
    assert found.message.startswith("3 boot option(s) failed")
