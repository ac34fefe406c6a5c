"""The published table of codes: errors, anomalies and findings, each with what it means.

Programs may rely on a code; its message is for people and may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CODES"]

CODES: Mapping[str, str] = MappingProxyType(
    {
        # Errors: see measlog.errors.
        "error": "any other error that measlog raises",
        "format.invalid": "bytes that are not what their format demands",
        "format.truncated": "the bytes end before the structure does",
        "format.limit": "more than the limits in force allow",
        "format.unsupported": "a kind or version that is not read",
        "evidence.invalid": "evidence that is not authentic",
        "evidence.signature": "the quote's signature, key or scheme",
        "evidence.key-trust": "nothing ties the attestation key to a trusted TPM",
        "evidence.nonce": "the quote answers another nonce",
        "evidence.pcr-digest": "register values that do not hash to the quote's digest",
        "evidence.replay": "a log that does not replay to the register values",
        "evidence.selection": "a quote over other banks or registers than asked for",
        "manifest.invalid": "a manifest or baseline that is unsigned, forged, expired, rolled back or malformed",
        "policy.invalid": "a policy that is malformed, unknown or checks nothing",
        "extra.missing": "an optional package is not installed",
        # Anomalies of a log.
        "log.trailing-bytes": "bytes after the events that are neither events nor uniform filler",
        "spec-id.trailing-bytes": "bytes after the vendor information of the Spec ID event",
        "spec-id.vendor-info-outside": "vendor information outside the size of the Spec ID event",
        "event.digest-missing": "an event without a digest for one of the log's algorithms",
        "event.digest-order": "digests in another order than the Spec ID event's",
        "event.register": "an event on a register that does not exist",
        "event.no-action-digest": "an EV_NO_ACTION with a digest that is not zero",
        "event.second-spec-id": "a second Spec ID event",
        "event.startup-locality": "a statement about the startup locality that cannot be believed",
        "event.unused-type": "an event of the type that no log may contain",
        # Findings: the machine as a whole.
        "register.not-quoted": "the quote does not cover a register that the policy requires",
        "register.not-covered": "no reference speaks of a register that the policy requires",
        "register.unexpected": "a register was extended that this way of booting leaves alone",
        "register.unexplained": "a register holds a value that the log does not explain",
        "manifest.not-in-force": "a manifest has expired since it was verified, or is for later: it is no reference",
        "bank.unmeasured": "a firmware register of the verified bank was never extended",
        "bank.differs": "the digests of an event in two banks do not belong to the same data",
        "bank.empty": "the log declares a bank into which nothing was measured",
        "policy.nothing-compared": "no alternative of the policy compared anything",
        "platform.differs": "a platform register is not as on any known-good machine",
        # Findings: the boundary between firmware and system.
        "separator.missing": "a firmware register was never closed with a separator",
        "separator.repeated": "a firmware register was closed twice",
        "separator.error": "the firmware reported an error",
        "separator.fake": "an event is called a separator and has another digest",
        "separator.retyped": "an event has a separator's digest and is called something else",
        "separator.ambiguous": "an event that may have a separator's digest by chance has it",
        "separator.data": "a separator with more data than the four bytes that it hashes",
        "handover.missing": "the log does not show that the boot services were left",
        "handover.order": "the boot services were left in a way that is not allowed, or PCR 5 goes on after it",
        # Findings: Secure Boot.
        "secureboot.state": "Secure Boot is in another state than the policy demands",
        "secureboot.mode": "the firmware is in setup or audit mode",
        "secureboot.no-key": "PK or KEK is empty",
        "secureboot.debug": "the firmware is in debug mode",
        "secureboot.dma": "DMA protection was disabled",
        "secureboot.no-authority": "nothing says what verified the images",
        "secureboot.authority": "an image was verified by something in no known database",
        "secureboot.authority-early": "an image was verified before PCR 7 was closed",
        "secureboot.authority-order": "authorities in another order, or more of them, than shim and images explain",
        "secureboot.authority-repeated": "shim names an authority twice",
        "secureboot.authority-revoked": "an image was verified by a revoked certificate",
        "secureboot.authority-unused": "an authority under which no started image is signed",
        "secureboot.image-unverified": "a started image that is signed under none of the authorities",
        "secureboot.image-revoked": "a revoked image was started",
        "secureboot.dbx": "dbx lacks revocations that the policy demands",
        "secureboot.sbat": "shim demands lower SBAT generations than the policy",
        "secureboot.unexplained": "an event in PCR 7 that nothing explains",
        "secureboot.undecodable": "an event in PCR 7 that holds no variable",
        "secureboot.digest": "the digest of a variable event is not that of the variable",
        "secureboot.unauthenticated": "the digest of a variable event leaves out name or GUID",
        "secureboot.trailing": "bytes after a variable in PCR 7",
        "secureboot.value": "SecureBoot is neither 0 nor 1",
        "secureboot.variable-missing": "a variable that PCR 7 must contain is not there",
        "secureboot.variable-repeated": "a variable is measured twice",
        "secureboot.variable-unknown": "a variable that does not belong into PCR 7",
        "secureboot.variable-order": "a variable is measured out of order",
        "secureboot.variable-late": "a variable is measured behind the separator",
        "shim.validation-off": "shim was told not to verify what it starts",
        # Findings: the boot path.
        "boot-manager.order": "PCR 4 does not begin as a boot manager begins it",
        "boot-manager.retry": "boot options failed before the one that booted",
        "boot.closest": "the boot path that explains most of what was measured",
        "boot.fallback": "the chosen slot did not start, and the other one was booted",
        "boot.first-boot": "the boot provisioned the machine, which the policy does not admit",
        "boot.oem-file": "an OEM configuration that the policy names was run",
        "boot.oem-settings": "an OEM configuration made settings that the policy admits",
        "event.data": "the data of an event is not what its digest was computed from",
        "event.type": "an event of another type than what was measured",
        "event.label": "the text beside an expected digest says something else",
        "image.unknown": "an image was started that no manifest knows",
        "file.unknown": "the boot loader read a file that is not the release's",
        "command.unexpected": "the boot loader ran a command that does not follow from the release's configuration",
        "kernel.argument": "a kernel argument that neither the release nor the policy gives",
        "kernel.argument-missing": "a kernel argument that the release gives is missing",
        "usr.unchecked": "a manifest that was built without checking USR",
        "kernel.mismatch": "registers that name the kernel name different ones",
        "sequence.missing": "a register ends before the boot path does",
        "sequence.order": "a component of the release in the wrong place",
        "sequence.unexpected": "an event that the boot path does not have there",
    }
)
