"""Reports of a good, a tampered and a hostile machine, and of evidence that is not authentic."""

from __future__ import annotations

from functools import cache

import measlog as ml
from measlog.appraisal.closest import closest_boot
from measlog.appraisal.diff import diff
from measlog.appraisal.policy import flatcar
from measlog.flatcar.boot import predict
from measlog.view.report import InputFile, Report, report_page
from tests.appraisal.machine import machine
from tests.conftest import FIXTURES
from tests.view.hostile import PAYLOADS, hostile_log
from tests.view.test_notebook import manifest

CAPTURES = {"good": "flatcar-lab-good", "tampered": "flatcar-lab-tampered"}
NAMES = (*CAPTURES, "hostile", "not-authentic")


def _evidence(name: str) -> ml.VerifiedEvidence:
    if name == "hostile":
        return machine(hostile_log())
    folder = FIXTURES / CAPTURES[name]
    log = ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    quote = ml.Quote.from_bytes((folder / "quote.msg").read_bytes(), (folder / "quote.sig").read_bytes())
    nonce = bytes.fromhex((folder / "nonce.txt").read_text())
    return ml.Evidence(log=log, quote=quote).verify(ak=(folder / "ak.pub").read_bytes(), nonce=nonce)


@cache
def report_of(name: str) -> Report:
    """What a report is made from, all foreign texts of the hostile one included."""
    if name == "not-authentic":
        good = report_of("good")
        return Report(title="x", log=good.log, quote=good.quote, bank="sha256", error="the quote answers another nonce")
    evidence = _evidence(name)
    verifier = ml.Verifier([manifest()], policy=flatcar(secure_boot=True), unsafe_unsigned_manifests=True)
    boot = closest_boot(evidence.log, predict(manifest()))
    assert boot is not None
    foreign = "".join(PAYLOADS) if name == "hostile" else name
    return Report(
        title=foreign,
        log=evidence.log,
        quote=evidence.quote,
        bank="sha256",
        result=verifier.appraise(evidence),
        evidence=evidence,
        manifests=(manifest(),),
        boot=diff(evidence.log, boot),
        boot_name=boot.name,
        sentences={"separators": "Each phase was closed."},
        command=f"measlog verify '{foreign}'",
        inputs=(InputFile(role="log", name=foreign, size=1, sha256="00"),),
        version="0",
    )


@cache
def page_of(name: str) -> str:
    """The page itself."""
    return report_page(report_of(name))
