"""SEV-SNP reports made in the test: packed by the offsets of AMD's 56860, ATTESTATION_REPORT, signed with keys of our own."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
REPORT_DATA = bytes(range(64))
CHIP = bytes(range(100, 164))
TCB = {"boot_loader": 3, "tee": 0, "snp": 20, "microcode": 209}
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
AMD = "1.3.6.1.4.1.3704.1"  # AMD's 57230, table 9
EXTENSIONS: Mapping[str, bytes] = {
    f"{AMD}.1": b"\x02\x01\x00",
    f"{AMD}.2": b"\x16\x08Milan-B0",
    f"{AMD}.3.1": b"\x02\x01\x03",
    f"{AMD}.3.2": b"\x02\x01\x00",
    f"{AMD}.3.3": b"\x02\x01\x14",
    f"{AMD}.3.8": b"\x02\x02\x00\xd1",  # 209 needs a leading zero in DER
    f"{AMD}.4": CHIP,
}


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    del name
    return rsa.generate_private_key(65537, 2048)


@cache
def chip_key(name: str) -> ec.EllipticCurvePrivateKey:
    del name
    return ec.generate_private_key(ec.SECP384R1())


def certificate(
    name: str,
    issuer: str,
    *,
    signer: str | None = None,
    public: Any = None,
    ca: bool = True,
    path_length: int | None = None,
    certifies: bool = True,
    constrained: bool = True,
    extensions: Mapping[str, bytes] | None = None,
    pss: bool = True,
    days: int = 30,
) -> x509.Certificate:
    """A certificate as AMD's: RSASSA-PSS with SHA-384, and extensions of its own in that of a chip."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(rsa_key(name).public_key() if public is None else public)
        .serial_number(1)
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=days))
    )
    if constrained:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=not certifies, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=certifies, crl_sign=False,
                encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
    for oid, value in (extensions or {}).items():
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    signing = rsa_key(signer or issuer)
    return builder.sign(signing, hashes.SHA384(), rsa_padding=PSS if pss else padding.PKCS1v15())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


@cache
def ark() -> x509.Certificate:
    return certificate("ARK", "ARK")


@cache
def ask() -> x509.Certificate:
    return certificate("SEV", "ARK", path_length=0)


def vcek(changes: Mapping[str, bytes | None] | None = None, **options: Any) -> x509.Certificate:
    """The chip's certificate; ``changes`` replace or, with None, drop extensions by the end of their OID."""
    found = dict(EXTENSIONS)
    for end, value in (changes or {}).items():
        found.pop(f"{AMD}.{end}")
        if value is not None:
            found[f"{AMD}.{end}"] = value
    asked: dict[str, Any] = {"public": chip_key("chip").public_key(), "constrained": False, "extensions": found}
    return certificate("VCEK", "SEV", **{**asked, **options})


def vcek_on_an_unknown_curve() -> x509.Certificate:
    """The chip's certificate, signed well, for a key that nobody can read."""
    made = vcek()
    tbs = made.tbs_certificate_bytes.replace(b"\x2b\x81\x04\x00\x22", b"\x2b\x81\x04\x00\x7f")
    der = made.public_bytes(Encoding.DER).replace(made.tbs_certificate_bytes, tbs)
    signature = rsa_key("SEV").sign(tbs, PSS, hashes.SHA384())
    return x509.load_der_x509_certificate(der[: -len(signature)] + signature)


@cache
def chain() -> bytes:
    return pem(vcek(), ask())


def tcb(boot_loader: int, tee: int, snp: int, microcode: int) -> bytes:
    return bytes([boot_loader, tee, 0, 0, 0, 0, snp, microcode])


def report(
    *,
    version: int = 2,
    policy: int = 0x30000,
    vmpl: int = 0,
    algorithm: int = 1,
    flags: int = 0,
    report_data: bytes = REPORT_DATA,
    reported: bytes = tcb(**TCB),
    chip: bytes = CHIP,
    key: str = "chip",
    changes: Mapping[int, bytes] | None = None,
    after: Mapping[int, bytes] | None = None,
) -> bytes:
    """A report, honest unless told otherwise; ``changes`` are made at offsets before it is signed, ``after`` then."""
    made = bytearray(1184)
    struct.pack_into("<IIQ", made, 0, version, 7, policy)
    made[0x10:0x30] = b"f" * 16 + b"i" * 16
    struct.pack_into("<II", made, 0x30, vmpl, algorithm)
    made[0x38:0x40] = tcb(4, 0, 21, 210)
    struct.pack_into("<QI", made, 0x40, 3, flags)
    made[0x50:0x90] = report_data
    for at, size, letter in (
        (0x90, 48, b"m"),
        (0xC0, 32, b"h"),
        (0xE0, 48, b"k"),
        (0x110, 48, b"a"),
        (0x140, 32, b"r"),
    ):
        made[at : at + size] = letter * size
    made[0x180:0x188] = reported
    made[0x1A0:0x1E0] = chip
    made[0x1E0:0x1E8] = tcb(3, 0, 19, 208)
    made[0x1F0:0x1F8] = tcb(2, 0, 18, 207)
    for at, data in (changes or {}).items():
        made[at : at + len(data)] = data
    r, s = decode_dss_signature(chip_key(key).sign(bytes(made[:0x2A0]), ec.ECDSA(hashes.SHA384())))
    made[0x2A0:0x330] = r.to_bytes(72, "little") + s.to_bytes(72, "little")
    for at, data in (after or {}).items():
        made[at : at + len(data)] = data
    return bytes(made)
