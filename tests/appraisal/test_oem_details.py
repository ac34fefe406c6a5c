"""An operator's settings in PCR 8, where they end and what is none."""

from __future__ import annotations

from measlog.appraisal import Policy
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.flatcar.cmdline import ArgumentModel
from tests.appraisal.machine import appraise, codes, where
from tests.appraisal.test_arguments import QUIET, X, verdict, with_oem
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.test_unusual import command

GOOD = "flatcar-lab-good"
SOURCE = b"grub_cmd: source (hd0,gpt6)/grub.cfg\0"


def test_a_register_that_is_not_quoted_shows_no_settings() -> None:
    """A12: a quote that leaves PCR 8 out ends in a verdict as well, which says so, and judges what was quoted."""
    policy = Policy(name="paths", rule=BootPaths(allowed_arguments=("quiet",)), required=())
    another = where(lambda e: b"g\0r\0u\0b\0" in e.data and e.pcr == 4, lambda e: (e.rehashed(b"another"),))
    result = appraise(policy, another, manifests=[lab_manifest(GOOD)], quoted=(4, 9))
    assert (result.status, codes(result)) == ("contraindicated", {"image.unknown", "register.not-quoted"})


def test_how_long_a_setting_may_be() -> None:
    """4096 bytes, twice what Linux keeps of a command line; GRUB gives the kernel neither of these."""
    model = ArgumentModel(rules=[X])
    value = b"x=" + b"a" * 4094
    assert verdict(with_oem(b"linux_append=" + value), model).status == "affirming"
    assert verdict(with_oem(b"linux_append=" + value + b"a"), model).status == "contraindicated"


def test_settings_that_no_file_made_are_no_operator_s() -> None:
    """Only what stands behind the OEM file's ``source`` is taken for its settings."""
    events = with_oem(b"linux_append=quiet")
    place = next(i for i, e in enumerate(events) if e.data == SOURCE)
    typed = [*events[:place], command(b"insmod evil"), *events[place + 1 :]]
    model = ArgumentModel(rules=[QUIET])
    assert "boot.oem-settings" in codes(verdict(events, model), severity="info")
    result = verdict(typed, model)
    assert result.status == "contraindicated"
    assert "boot.oem-settings" not in codes(result, severity="info")
