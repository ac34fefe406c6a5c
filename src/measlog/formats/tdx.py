"""A TDX quote: what Intel's quoting enclave says of a trust domain.

Source: Intel TDX DCAP Quoting Library API, appendix A (quote format): version 4 (A.3) and version 5 (A.4), little-endian;
SGX report body from Intel SDM volume 3D, 38.15.
"""

from __future__ import annotations

import construct as c
from attrs import field, frozen

from measlog.errors import FormatError, UnsupportedError
from measlog.formats.declare import parse

__all__ = ["QeReport", "TdReport", "TdxQuoteFields", "parse_tdx_quote"]

CLAUSE = "Intel TDX DCAP Quoting Library API, appendix A"

TEE_TYPE_SGX, TEE_TYPE_TDX = 0x00, 0x81
ECDSA_P256 = 2
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_REPORT_CERTIFICATION_DATA = 6
PCK_CERTIFICATE_CHAIN = 5

# A.3.1 Quote header
QUOTE_HEADER = c.Struct(
    "version" / c.Int16ul,
    "attestationKeyType" / c.Int16ul,
    "teeType" / c.Int32ul,
    "reserved" / c.Bytes(4),
    "qeVendorId" / c.Bytes(16),
    "userData" / c.Bytes(20),
)
# A.3.2 TD quote body, of TDX 1.0
_TD_10 = (
    "teeTcbSvn" / c.Bytes(16),
    "mrSeam" / c.Bytes(48),
    "mrSignerSeam" / c.Bytes(48),
    "seamAttributes" / c.Bytes(8),
    "tdAttributes" / c.Bytes(8),
    "xfam" / c.Bytes(8),
    "mrTd" / c.Bytes(48),
    "mrConfigId" / c.Bytes(48),
    "mrOwner" / c.Bytes(48),
    "mrOwnerConfig" / c.Bytes(48),
    "rtmr" / c.Array(4, c.Bytes(48)),
    "reportData" / c.Bytes(64),
)
TD_QUOTE_BODY_10 = c.Struct(*_TD_10)
# A.4.2 TD quote body, of TDX 1.5
TD_QUOTE_BODY_15 = c.Struct(*_TD_10, "teeTcbSvn2" / c.Bytes(16), "mrServiceTd" / c.Bytes(48))
_BODIES = {2: TD_QUOTE_BODY_10, 3: TD_QUOTE_BODY_15}
# A.4.1 Quote body descriptor
QUOTE_BODY_DESCRIPTOR = c.Struct("type" / c.Int16ul, "size" / c.Int32ul)
# A.3.9 QE certification data
CERTIFICATION_DATA = c.Struct("type" / c.Int16ul, "data" / c.Prefixed(c.Int32ul, c.GreedyBytes))
# A.3.8 ECDSA 256-bit quote signature data structure
SIGNATURE_DATA = c.Struct(
    "signature" / c.Bytes(64), "attestationKey" / c.Bytes(64), "certification" / CERTIFICATION_DATA
)
# A.3.11 QE report certification data
QE_CERTIFICATION = c.Struct(
    "report" / c.Bytes(384),
    "signature" / c.Bytes(64),
    "authentication" / c.Prefixed(c.Int16ul, c.GreedyBytes),
    "certification" / CERTIFICATION_DATA,
)
# A.3.10 Enclave report body
ENCLAVE_REPORT = c.Struct(
    "cpuSvn" / c.Bytes(16),
    "miscSelect" / c.Int32ul,
    "reserved1" / c.Bytes(28),
    "attributes" / c.Bytes(16),
    "mrEnclave" / c.Bytes(32),
    "reserved2" / c.Bytes(32),
    "mrSigner" / c.Bytes(32),
    "reserved3" / c.Bytes(96),
    "isvProdId" / c.Int16ul,
    "isvSvn" / c.Int16ul,
    "reserved4" / c.Bytes(60),
    "reportData" / c.Bytes(64),
)


@frozen(kw_only=True)
class TdReport:
    """What the quote says of the trust domain. Registers are SHA-384, 48 bytes; ``rtmrs`` are RTMR 0 to 3."""

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, ...]
    report_data: bytes
    tee_tcb_svn_2: bytes | None = None
    """Of TDX 1.5 alone, as the next."""
    mr_service_td: bytes | None = None


@frozen(kw_only=True)
class QeReport:
    """The report of the quoting enclave, as far as it is judged."""

    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes


@frozen(kw_only=True)
class TdxQuoteFields:
    """A quote taken apart. ``signed`` are the bytes that ``signature`` covers: header and body.

    Signatures are r and s, 32 bytes each; the attestation key is the two coordinates of a point of P-256.
    ``certification_type`` 5 says that ``certification`` is a chain of PCK certificates in PEM.
    """

    version: int
    report: TdReport
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    qe_report_raw: bytes = field(repr=False)
    qe_report: QeReport
    qe_signature: bytes = field(repr=False)
    qe_authentication: bytes = field(repr=False)
    certification_type: int
    certification: bytes = field(repr=False)


def parse_tdx_quote(data: bytes) -> TdxQuoteFields:
    """Read a quote of version 4 or 5; zeros may follow, as in buffers of a fixed size.

    Raises :class:`~measlog.errors.FormatError`; quotes of SGX enclaves, by other keys than ECDSA P-256 or by another
    quoting enclave's maker are an :class:`~measlog.errors.UnsupportedError`.
    """
    size = QUOTE_HEADER.sizeof()
    header = parse(QUOTE_HEADER, data[:size], clause=CLAUSE, path="header")
    if header.version not in {4, 5}:
        raise UnsupportedError(f"a quote of version {header.version}", offset=0, path="header.version", clause=CLAUSE)
    if header.teeType != TEE_TYPE_TDX:
        kind = "an SGX enclave" if header.teeType == TEE_TYPE_SGX else f"the TEE 0x{header.teeType:x}"
        raise UnsupportedError(f"a quote of {kind}", offset=4, path="header.teeType", clause=CLAUSE)
    if header.attestationKeyType != ECDSA_P256:
        raise UnsupportedError(
            f"the attestation key type {header.attestationKeyType}", offset=2, path="header.attestationKeyType"
        )
    if header.qeVendorId != INTEL_QE_VENDOR:
        raise UnsupportedError("a quoting enclave that is not Intel's", offset=12, path="header.qeVendorId")
    start, body = size, TD_QUOTE_BODY_10
    if header.version == 5:
        start += QUOTE_BODY_DESCRIPTOR.sizeof()
        descriptor = parse(QUOTE_BODY_DESCRIPTOR, data[size:start], clause=CLAUSE, path="body", base=size)
        if descriptor.type not in _BODIES:
            raise UnsupportedError(f"a quote body of type {descriptor.type}", offset=size, path="body.type")
        body = _BODIES[descriptor.type]
        if descriptor.size != body.sizeof():
            raise FormatError(
                f"{descriptor.size} bytes for a body of {body.sizeof()}",
                offset=size + 2,
                path="body.size",
                clause=CLAUSE,
            )
    end = start + body.sizeof()
    report = parse(body, data[start:end], clause=CLAUSE, path="body", base=start)
    # The signature data and their length; what follows is padding.
    length = parse(c.Int32ul, data[end : end + 4], clause=CLAUSE, path="signatureLength", base=end)
    rest = data[end + 4 :]
    if any(rest[length:]):
        raise FormatError(
            "bytes other than zeros after the quote", offset=end + 4 + length, path="signature", clause=CLAUSE
        )
    if length > len(rest):
        raise FormatError(
            f"{length} bytes where {len(rest)} are left", offset=end, path="signatureLength", clause=CLAUSE
        )
    made = parse(SIGNATURE_DATA, rest[:length], clause=CLAUSE, path="signature", base=end + 4)
    if made.certification.type != QE_REPORT_CERTIFICATION_DATA:
        raise UnsupportedError(
            f"certification data of type {made.certification.type}", path="signature.certification", clause=CLAUSE
        )
    # Signature and key (128), type and size (6) come before it.
    qe = parse(QE_CERTIFICATION, made.certification.data, clause=CLAUSE, path="qe", base=end + 4 + 134)
    enclave = parse(ENCLAVE_REPORT, qe.report, clause=CLAUSE, path="qe.report", base=end + 4 + 134)
    return TdxQuoteFields(
        version=header.version,
        report=_report(report),
        signed=data[:end],
        signature=made.signature,
        attestation_key=made.attestationKey,
        qe_report_raw=qe.report,
        qe_report=QeReport(
            attributes=enclave.attributes,
            mr_enclave=enclave.mrEnclave,
            mr_signer=enclave.mrSigner,
            isv_prod_id=enclave.isvProdId,
            isv_svn=enclave.isvSvn,
            report_data=enclave.reportData,
        ),
        qe_signature=qe.signature,
        qe_authentication=qe.authentication,
        certification_type=qe.certification.type,
        certification=qe.certification.data,
    )


def _report(body: c.Container) -> TdReport:
    return TdReport(
        tee_tcb_svn=body.teeTcbSvn,
        mr_seam=body.mrSeam,
        mr_signer_seam=body.mrSignerSeam,
        seam_attributes=body.seamAttributes,
        td_attributes=body.tdAttributes,
        xfam=body.xfam,
        mr_td=body.mrTd,
        mr_config_id=body.mrConfigId,
        mr_owner=body.mrOwner,
        mr_owner_config=body.mrOwnerConfig,
        rtmrs=tuple(body.rtmr),
        report_data=body.reportData,
        tee_tcb_svn_2=body.get("teeTcbSvn2"),
        mr_service_td=body.get("mrServiceTd"),
    )
