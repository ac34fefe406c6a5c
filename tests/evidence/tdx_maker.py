"""TDX quotes made in the test: structures packed by hand from Intel's appendix A, signed with keys of our own."""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
REPORT_DATA = bytes(range(64))
QE_SIGNER = bytes([0xAB]) * 32
VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SGX = x509.ObjectIdentifier("1.2.840.113741.1.13.1")


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    del name
    return ec.generate_private_key(ec.SECP256R1())


def raw_point(name: str) -> bytes:
    return key(name).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def sign(name: str, message: bytes) -> bytes:
    r, s = decode_dss_signature(key(name).sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def certificate(
    name: str, issuer: str, *, ca: bool, sgx: bool = False, signs: bool = True, public: Any = None, usage: bool = True
) -> x509.Certificate:
    """A certificate as in Intel's PCK Certificate and CRL Profile, 1.3: the leaf has the SGX extension."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public or key(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key(issuer).public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public or key(name).public_key()), critical=False)
    )
    if usage:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=signs and not ca, content_commitment=not signs, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
    if sgx:
        builder = builder.add_extension(x509.UnrecognizedExtension(SGX, b"\x30\x00"), critical=False)
    return builder.sign(key(issuer), hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


@cache
def root() -> x509.Certificate:
    return certificate("root", "root", ca=True)


@cache
def chain() -> bytes:
    middle = certificate("platform CA", "root", ca=True)
    return pem(certificate("pck", "platform CA", ca=False, sgx=True), middle, root())


def body(
    rtmrs: Sequence[bytes] = (bytes(48),) * 4,
    *,
    report_data: bytes = REPORT_DATA,
    td_attributes: bytes = bytes(8),
    signer_seam: bytes = bytes(48),
    seam_attributes: bytes = bytes(8),
    v15: bool = False,
) -> bytes:
    """TD quote body (A.3.2; with ``v15`` A.4.2)."""
    made = (
        bytes([1]) * 16 + bytes([2]) * 48 + signer_seam + seam_attributes + td_attributes + bytes([3]) * 8
        + b"".join(bytes([i]) * 48 for i in (4, 5, 6, 7)) + b"".join(rtmrs) + report_data
    )  # fmt: skip
    return made + (bytes([8]) * 16 + bytes([9]) * 48 if v15 else b"")


def qe_report(
    report_data: bytes, *, signer: bytes = QE_SIGNER, product: int = 2, attributes: bytes = b"\x15" + bytes(15)
) -> bytes:
    """Enclave report body (A.3.10)."""
    made = (
        bytes(16) + bytes(4) + bytes(28) + attributes + bytes([7]) * 32 + bytes(32) + signer + bytes(96)
        + struct.pack("<HH", product, 5) + bytes(60) + report_data
    )  # fmt: skip
    assert len(made) == 384
    return made


def certification(kind: int, data: bytes) -> bytes:
    return struct.pack("<HI", kind, len(data)) + data


def quote(
    td: bytes | None = None,
    *,
    version: int = 4,
    key_type: int = 2,
    tee: int = 0x81,
    vendor: bytes = VENDOR,
    body_type: int | None = None,
    body_size: int | None = None,
    bound: bytes | None = None,
    qe: bytes | None = None,
    certificates: bytes | None = None,
    certificate_type: int = 5,
    outer_type: int = 6,
    attestation: str = "attestation",
    point: bytes | None = None,
    platform: str = "pck",
    tail: bytes = b"",
    length: int | None = None,
) -> bytes:
    """A quote of a quoting enclave, honest unless told otherwise."""
    td = body() if td is None else td
    signed = struct.pack("<HHI", version, key_type, tee) + bytes(4) + vendor + bytes(20)
    if version == 5:
        size = len(td) if body_size is None else body_size
        signed += struct.pack("<HI", (3 if len(td) > 584 else 2) if body_type is None else body_type, size)
    signed += td
    public = raw_point(attestation) if point is None else point
    authentication = b"auth" * 8
    if bound is None:
        bound = hashlib.sha256(public + authentication).digest() + bytes(32)
    report = qe_report(bound) if qe is None else qe
    inner = (
        report + sign(platform, report) + struct.pack("<H", len(authentication)) + authentication
        + certification(certificate_type, chain() if certificates is None else certificates)
    )  # fmt: skip
    data = sign(attestation, signed) + public + certification(outer_type, inner)
    return signed + struct.pack("<I", len(data) if length is None else length) + data + tail
