"""The attestation report that Azure's paravisor (HCL) keeps in an NV index of the vTPM: header, hardware report, claims.

Source: Microsoft, "Confidential VM Guest Attestation Design Detail", Attestation Report Format (little-endian).
"""

from __future__ import annotations

from typing import Literal

import construct as c
from attrs import field, frozen

from measlog.errors import FormatError, TruncatedError, UnsupportedError
from measlog.formats.declare import parse

__all__ = ["HclFields", "parse_hcl_report"]

CLAUSE = "Azure guest attestation design, Attestation Report Format"

SIGNATURE = b"HCLA"
_PAYLOAD = 1184
_ATTESTATION_REQUEST = 2

# Header
HEADER = c.Struct(
    "signature" / c.Bytes(4),
    "version" / c.Int32ul,
    "reportSize" / c.Int32ul,
    "requestType" / c.Int32ul,
    "status" / c.Int32ul,
    "reserved" / c.Bytes(12),
)
# Runtime Data, up to the claims
RUNTIME_DATA = c.Struct(
    "dataSize" / c.Int32ul,
    "version" / c.Int32ul,
    "reportType" / c.Int32ul,
    "hashType" / c.Int32ul,
    "claimSize" / c.Int32ul,
)
_HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}
# By Report Type: what the hardware report is, its size, and where in it the 64 bytes of report data lie: AMD SEV-SNP ABI
# (56860), ATTESTATION_REPORT, offset 50h; Intel TDX Module ABI, REPORTMACSTRUCT, offset 128.
_KINDS: dict[int, tuple[Literal["sev-snp", "tdx"], int, int]] = {2: ("sev-snp", 1184, 0x50), 4: ("tdx", 1024, 128)}


@frozen(kw_only=True)
class HclFields:
    """A report taken apart. ``report_data`` is what the hardware report says, 64 bytes; ``claims`` are JSON."""

    kind: Literal["sev-snp", "tdx"]
    hardware_report: bytes = field(repr=False)
    report_data: bytes = field(repr=False)
    hash: str
    claims: bytes = field(repr=False)


def parse_hcl_report(data: bytes) -> HclFields:
    """Read a report; zeros may follow, as the NV index has a fixed size. Raises FormatError."""
    size = HEADER.sizeof()
    header = parse(HEADER, data[:size], clause=CLAUSE, path="header")
    if header.signature != SIGNATURE:
        raise FormatError("the report does not start with HCLA", offset=0, path="header.signature", clause=CLAUSE)
    if (header.version, header.requestType) != (2, _ATTESTATION_REQUEST):
        raise UnsupportedError(
            f"version {header.version}, request type {header.requestType}", offset=4, path="header", clause=CLAUSE
        )
    start = size + _PAYLOAD
    fixed = start + RUNTIME_DATA.sizeof()
    runtime = parse(RUNTIME_DATA, data[start:fixed], clause=CLAUSE, path="runtime", base=start)
    if runtime.version != 1:
        raise UnsupportedError(f"version {runtime.version}", offset=start + 4, path="runtime.version", clause=CLAUSE)
    if runtime.reportType not in _KINDS:
        raise UnsupportedError(
            f"a hardware report of type {runtime.reportType}",
            offset=start + 8,
            path="runtime.reportType",
            clause=CLAUSE,
        )
    kind, report_size, where = _KINDS[runtime.reportType]
    if header.reportSize != report_size:
        raise FormatError(
            f"{header.reportSize} bytes for a report of {report_size}",
            offset=8,
            path="header.reportSize",
            clause=CLAUSE,
        )
    if runtime.hashType not in _HASHES:
        raise UnsupportedError(
            f"the hash {runtime.hashType}", offset=start + 12, path="runtime.hashType", clause=CLAUSE
        )
    if RUNTIME_DATA.sizeof() + runtime.claimSize > runtime.dataSize:
        raise FormatError(
            f"claims of {runtime.claimSize} bytes in runtime data of {runtime.dataSize}",
            offset=start + 16,
            path="runtime.claimSize",
            clause=CLAUSE,
        )
    end = fixed + runtime.claimSize
    if end > len(data):
        raise TruncatedError(
            f"{runtime.claimSize} bytes of claims, {len(data) - fixed} are left",
            offset=fixed,
            path="runtime.claims",
            clause=CLAUSE,
        )
    if any(data[end:]):
        raise FormatError("bytes other than zeros after the claims", offset=end, path="runtime", clause=CLAUSE)
    report = data[size : size + report_size]
    return HclFields(
        kind=kind,
        hardware_report=report,
        report_data=report[where : where + 64],
        hash=_HASHES[runtime.hashType],
        claims=data[fixed:end],
    )
