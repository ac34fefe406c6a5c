"""USR: what is said of a partition whose contents are in no register."""

from __future__ import annotations

import attrs
import pytest

from measlog.appraisal.report import Report
from measlog.appraisal.rules.usr import judge_usr
from measlog.reference.manifest import Usr
from tests.appraisal.test_captures import lab_manifest

ROOT, OTHER = bytes(range(32)), bytes(range(1, 33))
VERIFIED = Usr(slot="a", partition=3, status="verified", root=ROOT)
UNCHECKED = Usr(slot="a", partition=3, status="unchecked")
COMPARED = "usr: the root of USR's hash tree, as it was computed for the manifest M"
FOUND = "usr.unchecked: the manifest M was built without checking USR against the kernel's root hash"
SILENT = "usr: the manifest M says nothing about what the kernel's root hash binds"


@pytest.mark.parametrize(
    ("known", "roots", "allow", "checked", "found", "skipped"),
    [
        pytest.param([VERIFIED], {ROOT}, False, [COMPARED], [], [], id="the kernel's own"),
        pytest.param([UNCHECKED, VERIFIED], {OTHER, ROOT}, False, [COMPARED], [], [], id="one of several"),
        pytest.param([VERIFIED], {ROOT}, True, [COMPARED], [], [], id="compared, though it need not be"),
        pytest.param([VERIFIED], {OTHER}, False, [], [FOUND], [], id="another kernel's"),
        pytest.param([VERIFIED], {OTHER}, True, [], [], [SILENT], id="another kernel's, admitted"),
        pytest.param([VERIFIED], {None}, False, [], [FOUND], [], id="a kernel without a root hash"),
        pytest.param([attrs.evolve(VERIFIED, root=None)], {None}, False, [], [FOUND], [], id="no root hash is none to match"),
        pytest.param([attrs.evolve(VERIFIED, status="unchecked")], {ROOT}, False, [], [FOUND], [], id="known, not compared"),
        pytest.param([UNCHECKED], {ROOT}, False, [], [FOUND], [], id="unchecked"),
        pytest.param([UNCHECKED], {ROOT}, True, [], [], [SILENT], id="unchecked, admitted"),
        pytest.param([], {ROOT}, False, [], [], [SILENT], id="no USR"),
        pytest.param([], {ROOT}, True, [], [], [SILENT], id="no USR, admitted"),
    ],
)  # fmt: skip
def test_usr(
    known: list[Usr], roots: set[bytes | None], allow: bool, checked: list[str], found: list[str], skipped: list[str]
) -> None:
    manifest = attrs.evolve(lab_manifest("flatcar-lab-good"), name="M", usr=tuple(known), boot_paths=())
    report = Report()
    judge_usr(manifest, roots, "kernel", report, allow_unchecked=allow)
    assert [f"{c.rule}: {c.against}" for c in report.checked] == checked
    assert [f"{f.code}: {f.message}" for f in report.findings] == found
    assert all(f.severity == "error" for f in report.findings)
    assert [f"{n.subject}: {n.reason}" for n in report.not_covered] == skipped
