"""Secure Boot, as a demand on PCR 7."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import Factory, field, frozen

from measlog.appraisal.result import Severity
from measlog.appraisal.secureboot import SecureBootState, read_state
from measlog.errors import FormatError
from measlog.records.signature_list import SignatureData, load_certificate
from measlog.records.variable import BareCertificate
from measlog.registry import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE, SHIM_LOCK

if TYPE_CHECKING:
    from measlog.appraisal.case import Case
    from measlog.appraisal.report import Report
    from measlog.appraisal.secureboot import Authority

__all__ = ["SecureBoot"]

_DB = (EFI_IMAGE_SECURITY_DATABASE, "db")
_DBX = (EFI_IMAGE_SECURITY_DATABASE, "dbx")
_X509_HASHES = frozenset({"EFI_CERT_X509_SHA256", "EFI_CERT_X509_SHA384", "EFI_CERT_X509_SHA512"})
# What shim measures as authority that is no certificate.
_SHIM_STATEMENTS = frozenset({"SbatLevel", "MokListTrusted", "MokSBState"})
_SHIM_CERTIFICATES = frozenset({"Shim", "vendor_cert"})


@frozen
class SecureBoot:
    """Secure Boot was on (or off), every event of PCR 7 is explained, and what verified images is what may.

    ``minimum_sbat`` are the least generations by component that shim must have demanded, ``minimum_dbx`` SHA-256
    digests that ``dbx`` must hold, ``allow_mok`` admits certificates enrolled by the machine's owner, and
    ``allow_dma_disabled`` a firmware without DMA protection.
    """

    enabled: bool = True
    minimum_sbat: Mapping[str, int] = field(factory=dict, hash=False)
    minimum_dbx: frozenset[bytes] = frozenset()
    allow_mok: bool = False
    allow_dma_disabled: bool = False
    code: str = "secure-boot"
    severity: Severity = "error"
    sentence: str = "Secure Boot was in the demanded state, set up in order and verified by authorities that are known."
    registers: frozenset[int] = Factory(lambda: frozenset({7}))

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        if not case.quoted(7):
            return
        state = read_state(case)
        report.quirks |= state.quirks
        # 1. Every event is one that firmware and shim measure, authenticated, once and in order (A28, A29, A47).
        for problem in state.problems:
            report.find(problem.code, problem.message, pcr=7, event=problem.event)
        # 2. The state is exactly the demanded one; setup and audit modes are not (A28).
        self._judge_state(state, report)
        # 3. Nothing weakened it: debug mode, DMA, shim's validation (A28).
        self._judge_weakness(state, report)
        # 4. What verified images is in db, shim's vendor certificate or, if admitted, MokList, and not revoked (A30).
        verified = [self._judge_authority(case, state, a, report) for a in state.authorities]
        if self.enabled and state.enabled and not any(verified):
            report.find("secureboot.no-authority", "no certificate is named that verified an image", pcr=7)
        # 5. No image that was started is revoked, and the revocations are not older than demanded (A30, A31).
        self._judge_revocations(case, state, report)
        report.check(self.code, "UEFI variables by GUID and name", pcr=7, events=state.explained)
        report.cover(7)

    def _judge_state(self, state: SecureBootState, report: Report) -> None:
        if state.enabled is not None and state.enabled != self.enabled:
            words = {True: "on", False: "off"}
            report.find(
                "secureboot.state",
                f"Secure Boot is {words[state.enabled]}, the policy demands that it is {words[self.enabled]}",
                pcr=7,
                expected=words[self.enabled],
                observed=words[state.enabled],
            )
        for mode, name in (("SetupMode", "setup mode"), ("AuditMode", "audit mode")):
            if state.mode(mode):  # type: ignore[arg-type]
                report.find("secureboot.mode", f"the firmware is in {name}", pcr=7)
        if self.enabled:
            for name in ("PK", "KEK"):
                if not state.lists((EFI_GLOBAL_VARIABLE, name)):
                    report.find("secureboot.no-key", f"{name} is empty: anybody can change the databases", pcr=7)

    def _judge_weakness(self, state: SecureBootState, report: Report) -> None:
        for kind, measured in state.actions:
            if kind == "debug":
                report.find("secureboot.debug", "the firmware is in debug mode", pcr=7, event=measured.index)
            elif not self.allow_dma_disabled:
                report.find("secureboot.dma", "DMA protection was disabled", pcr=7, event=measured.index)
        if self.enabled and not state.shim_validation:
            report.find(
                "shim.validation-off",
                "shim was told not to verify what it starts (MokSBState): Secure Boot protects nothing behind it",
                pcr=7,
                event=next(a.measured.index for a in state.authorities if a.variable.name == "MokSBState"),
            )

    def _judge_authority(self, case: Case, state: SecureBootState, authority: Authority, report: Report) -> bool:
        """Whether this is a certificate or digest that verified an image."""
        guid, name = authority.id
        number = authority.measured.index
        record = authority.variable.decoded
        if guid == SHIM_LOCK and name in _SHIM_STATEMENTS:
            return False
        data = record.data if isinstance(record, SignatureData) else None
        if isinstance(record, BareCertificate):
            data = record.der
        known = False
        if data is not None and (guid, name) == _DB:
            known = any(signature.data == data for _, signature in state.signatures(_DB))
        elif data is not None and guid == SHIM_LOCK and name in _SHIM_CERTIFICATES:
            sha256 = hashlib.sha256(data).digest()
            known = any(c.sha256 == sha256 for m in case.manifests for s in m.components for c in s.vendor_certificates)
        elif guid == SHIM_LOCK and name.startswith("MokList"):
            known = self.allow_mok
        if data is None or not known:
            report.find(
                "secureboot.authority",
                f"an image was verified by {name!r}, which is in no database that is known",
                pcr=7,
                event=number,
            )
        elif self._revoked(data, state):
            report.find(
                "secureboot.authority-revoked",
                "an image was verified by a certificate that dbx revokes",
                pcr=7,
                event=number,
            )
        return known

    @staticmethod
    def _revoked(der: bytes, state: SecureBootState) -> bool:
        try:
            tbs = load_certificate(der).tbs_certificate_bytes
        except FormatError:
            tbs = None
        for signatures in state.lists(_DBX):
            if any(signature.data == der for signature in signatures.signatures):
                return True
            if tbs is None or signatures.type_name not in _X509_HASHES:
                continue
            for entry in signatures.x509_hashes():
                if hashlib.new(entry.algorithm, tbs).digest() == entry.digest:
                    return True
        return False

    def _judge_revocations(self, case: Case, state: SecureBootState, report: Report) -> None:
        revoked = {signature.data for _, signature in state.signatures(_DBX)}
        for measured in case.history(4):
            if measured.event.digests.get("sha256") in revoked:
                report.find(
                    "secureboot.image-revoked", "an image was started that dbx revokes", pcr=4, event=measured.index
                )
        lacking = self.minimum_dbx - revoked
        if lacking:
            report.find("secureboot.dbx", f"dbx lacks {len(lacking)} of the revocations that the policy demands", pcr=7)
        try:
            level = state.sbat_level
        except FormatError as error:
            report.find("secureboot.sbat", f"SbatLevel cannot be read: {error}", pcr=7)
            return
        for component, generation in self.minimum_sbat.items():
            found = (level or {}).get(component)
            if found is None or found < generation:
                report.find(
                    "secureboot.sbat",
                    f"shim demands generation {found if found is not None else '(none)'} of {component}, "
                    f"the policy {generation}",
                    pcr=7,
                    expected=str(generation),
                    observed=None if found is None else str(found),
                )
