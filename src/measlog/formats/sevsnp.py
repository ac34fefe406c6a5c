"""An attestation report of AMD SEV-SNP: what the secure processor says of a guest.

Source: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860) 1.56, 7.3, ATTESTATION_REPORT, little-endian;
TCB_VERSION (2.2) as in families up to Genoa: the order of its bytes is another from Turin on.
"""

from __future__ import annotations

import construct as c
from attrs import field, frozen

from measlog.errors import FormatError, UnsupportedError
from measlog.formats.declare import parse

__all__ = ["CLAUSE", "REPORT_SIZE", "SnpReportFields", "SnpTcb", "parse_snp_report"]

CLAUSE = "SEV-SNP ABI (56860), ATTESTATION_REPORT"
REPORT_SIZE = 1184
SIGNED_SIZE = 0x2A0

_VERSIONS = frozenset({2, 3})
_ECDSA_P384_SHA384 = 1
_HALF = 72
"""R and S of the signature are filled up with zeros to so many bytes."""
_P384 = 48

# TCB_VERSION, table 3
TCB_VERSION = c.Struct(
    "bootLoader" / c.Int8ul, "tee" / c.Int8ul, "reserved" / c.Bytes(4), "snp" / c.Int8ul, "microcode" / c.Int8ul
)
ATTESTATION_REPORT = c.Struct(
    "version" / c.Int32ul,
    "guestSvn" / c.Int32ul,
    "policy" / c.Int64ul,
    "familyId" / c.Bytes(16),
    "imageId" / c.Bytes(16),
    "vmpl" / c.Int32ul,
    "signatureAlgo" / c.Int32ul,
    "currentTcb" / TCB_VERSION,
    "platformInfo" / c.Int64ul,
    "flags" / c.Int32ul,
    "reserved0" / c.Bytes(4),
    "reportData" / c.Bytes(64),
    "measurement" / c.Bytes(48),
    "hostData" / c.Bytes(32),
    "idKeyDigest" / c.Bytes(48),
    "authorKeyDigest" / c.Bytes(48),
    "reportId" / c.Bytes(32),
    "reportIdMa" / c.Bytes(32),
    "reportedTcb" / TCB_VERSION,
    "cpuid" / c.Bytes(3),
    "reserved1" / c.Bytes(21),
    "chipId" / c.Bytes(64),
    "committedTcb" / TCB_VERSION,
    "currentBuild" / c.Bytes(4),
    "committedBuild" / c.Bytes(4),
    "launchTcb" / TCB_VERSION,
    "reserved2" / c.Bytes(168),
    "signature" / c.Struct("r" / c.Bytes(_HALF), "s" / c.Bytes(_HALF), "reserved" / c.Bytes(512 - 2 * _HALF)),
)


@frozen(kw_only=True)
class SnpTcb:
    """TCB_VERSION: security version numbers of what a guest trusts beneath it."""

    boot_loader: int
    tee: int
    snp: int
    microcode: int


@frozen(kw_only=True)
class SnpReportFields:
    """A report taken apart; names are those of the specification. Sizes are in bytes as its table has them."""

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: SnpTcb
    platform_info: int
    signing_key: int
    """0 the chip's own key (VCEK), 1 that of a cloud (VLEK), 7 none."""
    report_data: bytes
    measurement: bytes
    """Of what the guest was launched with: its firmware, on most machines."""
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    reported_tcb: SnpTcb
    chip_id: bytes
    committed_tcb: SnpTcb
    launch_tcb: SnpTcb
    signed: bytes = field(repr=False)
    signature: tuple[int, int] = field(repr=False)
    """R and S."""


def parse_snp_report(data: bytes) -> SnpReportFields:
    """Read a report; raises :class:`~measlog.errors.FormatError`."""
    made = parse(ATTESTATION_REPORT, data, clause=CLAUSE, path="report")
    if made.version not in _VERSIONS:
        raise UnsupportedError(f"version {made.version}; 2 and 3 are read", offset=0, path="version", clause=CLAUSE)
    if made.signatureAlgo != _ECDSA_P384_SHA384:
        raise UnsupportedError(
            f"the signature algorithm {made.signatureAlgo}", offset=0x34, path="signatureAlgo", clause=CLAUSE
        )
    for name, at in (("currentTcb", 0x38), ("reportedTcb", 0x180), ("committedTcb", 0x1E0), ("launchTcb", 0x1F0)):
        if any(made[name].reserved):
            raise FormatError("reserved bytes are not zero", offset=at + 2, path=name, clause=CLAUSE)
    for name, at in (("r", SIGNED_SIZE), ("s", SIGNED_SIZE + _HALF)):
        if any(made.signature[name][_P384:]):
            raise FormatError(
                "a number of more than 48 bytes", offset=at + _P384, path=f"signature.{name}", clause=CLAUSE
            )
    if any(made.signature.reserved):
        raise FormatError(
            "reserved bytes are not zero", offset=SIGNED_SIZE + 2 * _HALF, path="signature", clause=CLAUSE
        )
    return SnpReportFields(
        version=made.version,
        guest_svn=made.guestSvn,
        policy=made.policy,
        family_id=made.familyId,
        image_id=made.imageId,
        vmpl=made.vmpl,
        current_tcb=_tcb(made.currentTcb),
        platform_info=made.platformInfo,
        signing_key=made.flags >> 2 & 7,
        report_data=made.reportData,
        measurement=made.measurement,
        host_data=made.hostData,
        id_key_digest=made.idKeyDigest,
        author_key_digest=made.authorKeyDigest,
        report_id=made.reportId,
        reported_tcb=_tcb(made.reportedTcb),
        chip_id=made.chipId,
        committed_tcb=_tcb(made.committedTcb),
        launch_tcb=_tcb(made.launchTcb),
        signed=data[:SIGNED_SIZE],
        signature=(int.from_bytes(made.signature.r, "little"), int.from_bytes(made.signature.s, "little")),
    )


def _tcb(made: c.Container) -> SnpTcb:
    return SnpTcb(boot_loader=made.bootLoader, tee=made.tee, snp=made.snp, microcode=made.microcode)
