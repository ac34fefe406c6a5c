"""The beginning of PCR 4, and the paths beside the images behind it, where they are unlike any boot's."""

from __future__ import annotations

from dataclasses import replace

import pytest

import measlog as ml
from measlog.appraisal import Policy
from measlog.appraisal.rules.boot_path import BootPaths
from tests.appraisal import unified
from tests.appraisal.machine import appraise, lines, where
from tests.appraisal.test_captures import lab_manifest

GOOD = "flatcar-lab-good"
EV_SEPARATOR = 4
GRUB = "\\EFI\\BOOT\\grubx64.efi\0"
PATHS = Policy(name="paths", rule=BootPaths(), required=())


def test_a_register_of_the_boot_manager_alone_has_no_image() -> None:
    """The separator out of its place is said once, and is no image that no manifest knows."""
    result = appraise(
        PATHS,
        lambda events: (e for e in events if e.pcr != 4 or e.type == EV_SEPARATOR),
        manifests=[lab_manifest(GOOD)],
    )
    assert sorted(f.code for f in result.findings) == ["boot-manager.order", "boot.closest", *["sequence.missing"] * 3]


@pytest.mark.parametrize(
    ("path", "observed"),
    [
        pytest.param("XEFI\\BOOT\\grubx64.efi\0", "XEFI/BOOT/grubx64.efi", id="another folder"),
        pytest.param("\\EFI\\BOOT\\grubx64.efiX", "EFI/BOOT/grubx64.efiX", id="another suffix"),
        pytest.param("\\EFI\\BOOT\\\ud800rubx64.efi\0", "EFI/BOOT/\N{REPLACEMENT CHARACTER}rubx64.efi", id="no UTF-16"),
    ],
)
def test_the_path_beside_an_image_is_compared_to_its_last_letter(path: str, observed: str) -> None:
    """A2: whatever stands there, the machine gets a verdict. The paths are as long as the real one."""
    own, other = GRUB.encode("utf-16-le"), path.encode("utf-16-le", "surrogatepass")
    change = where(lambda e: own in e.data, lambda e: (replace(e, data=e.data.replace(own, other)),))
    found = appraise(PATHS, change, manifests=[lab_manifest(GOOD)]).findings
    assert [(f.code, f.severity, f.expected, f.observed) for f in found] == [
        ("event.label", "error", "EFI/boot/grubx64.efi", observed)
    ]


def test_the_kernel_inside_an_image_is_no_file_that_a_path_could_name() -> None:
    """Without Secure Boot the firmware loads it from memory, and measures it beside an empty path."""
    policy = ml.policy.flatcar(secure_boot=False)
    assert unified.appraise(name="uki-sb-off", policy=policy).status == "affirming"
    lie = unified.at(4, -1, lambda e: [replace(e, data=b"")])
    result = unified.appraise(lie, name="uki-sb-off", policy=policy)
    (said,) = lines(result)
    assert said.startswith("error event.label PCR 4 event ")
    assert said.endswith("the image is the release's, but the event's data says something else about it")
