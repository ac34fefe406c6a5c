"""Secure Boot, as a demand on PCR 7."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import Factory, field, frozen

from measlog.appraisal.report import Report
from measlog.appraisal.result import Severity
from measlog.appraisal.rules.boundaries import separator_digests
from measlog.appraisal.rules.platform import shared_prefix
from measlog.appraisal.secureboot import SecureBootState, read_state
from measlog.errors import FormatError
from measlog.records.signature_list import SignatureData, load_certificate
from measlog.records.variable import BareCertificate
from measlog.registry import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE, SHIM_LOCK, EventType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from measlog.appraisal.case import Case
    from measlog.appraisal.secureboot import Authority
    from measlog.reference.manifest import Component

__all__ = ["SecureBoot"]

_DB = (EFI_IMAGE_SECURITY_DATABASE, "db")
_DBX = (EFI_IMAGE_SECURITY_DATABASE, "dbx")
_X509_HASHES = {"EFI_CERT_X509_SHA256": "sha256", "EFI_CERT_X509_SHA384": "sha384", "EFI_CERT_X509_SHA512": "sha512"}
_IMAGE_HASH = "EFI_CERT_SHA256"
# What shim measures as authority that is no certificate.
_LETTERS = {(SHIM_LOCK, "SbatLevel"): "L", (SHIM_LOCK, "MokListTrusted"): "T", (SHIM_LOCK, "MokSBState"): "M"}
_IMAGES = frozenset({EventType.EV_EFI_BOOT_SERVICES_APPLICATION, EventType.EV_EFI_BOOT_SERVICES_DRIVER})
_SHIM_CERTIFICATES = frozenset({"Shim", "vendor_cert"})


@frozen
class SecureBoot:
    """Secure Boot was on (or off), every event of PCR 7 is explained, and what verified images is what may.

    ``minimum_sbat`` are the least generations by component that shim must have demanded, ``minimum_dbx`` SHA-256
    digests that ``dbx`` must hold, ``allow_mok`` admits certificates enrolled by the machine's owner, and
    ``allow_dma_disabled`` a firmware without DMA protection, ``allow_late_separator`` one that closes PCR 7 only when it
    hands over to the system (Q9).
    """

    enabled: bool = True
    minimum_sbat: Mapping[str, int] = field(factory=dict, hash=False)
    minimum_dbx: frozenset[bytes] = frozenset()
    allow_mok: bool = False
    allow_dma_disabled: bool = False
    allow_late_separator: bool = False
    code: str = "secure-boot"
    severity: Severity = "error"
    sentence: str = "Secure Boot was in the demanded state, set up in order and verified by authorities that are known."
    registers: frozenset[int] = Factory(lambda: frozenset({7}))

    def appraise(self, case: Case, report: Report) -> None:
        """See the class."""
        if not case.quoted(7):
            return
        report.cover(7)
        state = read_state(case)
        found = Report()
        self._judge(case, state, found)
        if not found.failed:
            found.quirks = state.quirks
            found.check(self.code, "UEFI variables by GUID and name", pcr=7, events=state.explained)
        report.absorb(found)

    def _judge(self, case: Case, state: SecureBootState, report: Report) -> None:
        # 1. Every event is one that firmware and shim measure, authenticated, once and in order (A28, A29, A47).
        for problem in state.problems:
            report.find(problem.code, problem.message, pcr=7, event=problem.event)
        # 2. The state is exactly the demanded one; setup and audit modes are not (A28).
        self._judge_state(state, report)
        # 3. Nothing weakened it: debug mode, DMA, shim's validation (A28).
        self._judge_weakness(state, report)
        # 4. What verified images is in db, shim's vendor certificate or, if admitted, MokList, and not revoked (A30).
        for authority in state.authorities:
            if authority.early and not self.allow_late_separator:
                report.find(
                    "secureboot.authority-early",
                    f"{authority.variable.name!r} verified an image before PCR 7 was closed",
                    pcr=7,
                    event=authority.measured.index,
                )
            self._judge_authority(case, state, authority, report)
        self._judge_sequence(case, state, report)
        if self.enabled:
            self._judge_signers(case, state, report)
        # 5. No image that was started is revoked, and the revocations are not older than demanded (A30, A31).
        self._judge_revocations(case, state, report)
        # 6. The keys themselves are the platform's (A42).
        self._judge_keys(case, report)

    @staticmethod
    def _judge_keys(case: Case, report: Report) -> None:
        """PK, KEK, db and dbx as on known-good machines, where a baseline speaks of them."""
        separators, _ = separator_digests(case)
        history = case.history(7)
        end = next((i for i, m in enumerate(history) if m.digest in separators), len(history))
        observed = tuple(m.digest for m in history[:end])
        known = {s for b in case.baselines if b.bank == case.bank for s in b.histories.get(7, ())}
        if not known:
            report.skip("secure-boot-keys", "PK, KEK, db and dbx are the platform's, and no baseline was given", pcr=7)
        elif observed in known:
            report.check(
                "platform.baseline",
                "keys observed on known-good machines",
                pcr=7,
                events=[m.index for m in history[:end]],
            )
        else:
            shared = max(shared_prefix(observed, sequence) for sequence in known)
            report.find(
                "platform.differs",
                "the Secure Boot keys are not as on any known-good machine",
                pcr=7,
                event=history[shared].index if shared < end else None,
            )

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

    def _judge_sequence(self, case: Case, state: SecureBootState, report: Report) -> None:
        """What verified shim, what shim says of itself, what verified the images behind it: each once, in this order.

        Shim measures an authority when it first verifies an image by it, so there are at most as many as images.
        """
        word = "".join(_LETTERS.get(a.id, "c") for a in state.authorities)
        images = dict.fromkeys(m.digest for m in case.history(4) if m.event.type in _IMAGES)
        most = max(1, len(images) - 1)
        # Every shim that knows SBAT says which level it demands, whatever the state of Secure Boot.
        shims = [c for m in case.history(4) for _, c in case.components.get(m.digest, ()) if c.role == "shim"]
        level = "LT?" if self.enabled or any(c.sbat for c in shims) else "(?:LT?)?"
        pattern = f"cM?{level}c{{1,{most}}}" if self.enabled else level
        if "c" not in word and self.enabled:
            report.find("secureboot.no-authority", "no certificate is named that verified an image", pcr=7)
        elif not re.fullmatch(pattern, word):
            report.find(
                "secureboot.authority-order",
                "the authorities in PCR 7 are not one for shim, shim's own statements, and one for each image behind it",
                pcr=7,
                event=state.authorities[0].measured.index if state.authorities else None,
                expected=pattern,
                observed=word,
            )
        seen: set[bytes] = set()
        for authority, letter in zip(state.authorities, word, strict=True):
            if letter == "c" and authority is not state.authorities[0]:
                if authority.variable.value in seen:
                    report.find(
                        "secureboot.authority-repeated",
                        "shim names an authority twice",
                        pcr=7,
                        event=authority.measured.index,
                    )
                seen.add(authority.variable.value)

    def _judge_signers(self, case: Case, state: SecureBootState, report: Report) -> None:
        """Each authority is one by which an image's signature, as the manifests know it, can be verified (A30).

        Only where every image is one whose signers are known; what verified the first is the firmware's to say.
        """
        images = []
        for measured in case.history(4):
            if measured.event.type not in _IMAGES:
                continue
            known = [c for _, c in case.components.get(measured.digest, ()) if c.signers]
            if not known:
                report.skip(
                    "image signatures", "no manifest says who signed each of the images that were started", pcr=7
                )
                return
            images.append(known)
        certificates = [a for a in state.authorities if a.id not in _LETTERS]
        for place, authority in enumerate(certificates):
            verified = images[:1] if place == 0 else images[1:]
            if not any(_verifies(authority, image) for image in verified):
                report.find(
                    "secureboot.authority-unused",
                    f"none of the images that were started is signed under {authority.variable.name!r}",
                    pcr=7,
                    event=authority.measured.index,
                )
        for place, image in enumerate(images):
            candidates = certificates[:1] if place == 0 else certificates[1:]
            if not any(_verifies(authority, image) for authority in candidates):
                report.find(
                    "secureboot.image-unverified",
                    f"the image {place + 1} that was started is signed under none of the authorities",
                    pcr=4,
                )

    def _judge_authority(self, case: Case, state: SecureBootState, authority: Authority, report: Report) -> None:
        guid, name = authority.id
        number = authority.measured.index
        record = authority.variable.decoded
        if authority.id in _LETTERS:
            return
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

    @staticmethod
    def _revoked(der: bytes, state: SecureBootState) -> bool:
        try:
            tbs = load_certificate(der).tbs_certificate_bytes
        except FormatError:
            tbs = None
        for signatures in state.lists(_DBX):
            if any(signature.data == der for signature in signatures.signatures):
                return True
            algorithm = _X509_HASHES.get(signatures.type_name)
            if tbs is None or algorithm is None:
                continue
            # A time follows the hash; whatever it says, the certificate is not one to trust.
            digest = hashlib.new(algorithm, tbs).digest()
            if any(signature.data.startswith(digest) for signature in signatures.signatures):
                return True
        return False

    def _judge_revocations(self, case: Case, state: SecureBootState, report: Report) -> None:
        # In a list of another type the same bytes revoke no image.
        revoked = {s.data for lists, s in state.signatures(_DBX) if lists.type_name == _IMAGE_HASH}
        for measured in case.history(4):
            # The log's own SHA-256 digest is proven in that bank alone (A10).
            digests = {c.authenticode["sha256"] for _, c in case.components.get(measured.digest, ())}
            if revoked & {*digests, measured.event.digests.get("sha256")}:
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


def _verifies(authority: Authority, image: Sequence[Component]) -> bool:
    """Whether an image, which may be any of some components, can have been verified by the authority.

    That is a certificate of a signer's chain, or the one that issued the last of it, or the image's own digest.
    """
    record = authority.variable.decoded
    data = (
        record.der if isinstance(record, BareCertificate) else record.data if isinstance(record, SignatureData) else b""
    )
    sha256 = hashlib.sha256(data).digest()
    signers = [signer for component in image for signer in component.signers]
    if any(data in component.authenticode.values() for component in image):
        return True
    if any(sha256 == certificate.sha256 for signer in signers for certificate in signer.chain):
        return True
    try:
        subject = load_certificate(data).subject.rfc4514_string()
    except FormatError:
        return False
    return any(subject == signer.chain[-1].issuer for signer in signers)
