"""Quotes made in the test: TPMS_ATTEST packed by hand, signed with fresh keys. Nothing here uses the library."""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ALG = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D, "sha3_256": 0x0027}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha3_256": hashes.SHA3_256(),
}
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
# TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
AK_ATTRIBUTES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 16 | 1 << 18
CURVE_IDS = {"secp256r1": 3, "secp384r1": 4, "secp521r1": 5}


@functools.cache
def rsa_key(name: str = "ak", bits: int = 2048) -> rsa.RSAPrivateKey:  # noqa: ARG001 - the cache reads it
    """A fresh RSA key, the same for the same name."""
    return rsa.generate_private_key(65537, bits)


@functools.cache
def ecc_key(name: str = "ak", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:  # noqa: ARG001 - as above
    """A fresh ECC key, the same for the same name."""
    return ec.generate_private_key(curve())


def tpm2b(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def bitmap(pcrs: Iterable[int], size: int = 3) -> bytes:
    bits = sum(1 << pcr for pcr in pcrs)
    return bits.to_bytes(size, "little")


def selection(bank: str | int, pcrs: Iterable[int], size: int = 3) -> bytes:
    """TPMS_PCR_SELECTION."""
    alg = ALG[bank] if isinstance(bank, str) else bank
    return struct.pack(">HB", alg, size) + bitmap(pcrs, size)


def attest(
    *,
    magic: int = 0xFF544347,
    kind: int = 0x8018,
    signer: bytes = b"\x00\x0b" + bytes(32),
    nonce: bytes = b"nonce",
    clock: int = 1000,
    resets: int = 5,
    restarts: int = 2,
    safe: int = 1,
    firmware: int = 0x2019102300163636,
    selections: Sequence[bytes] = (),
    count: int | None = None,
    digest: bytes = bytes(32),
) -> bytes:
    """TPMS_ATTEST of a quote (TPM 2.0 Part 2, 10.12.12)."""
    return (
        struct.pack(">IH", magic, kind)
        + tpm2b(signer)
        + tpm2b(nonce)
        + struct.pack(">QIIB", clock, resets, restarts, safe)
        + struct.pack(">Q", firmware)
        + struct.pack(">I", len(selections) if count is None else count)
        + b"".join(selections)
        + tpm2b(digest)
    )


def digest_of(values: Iterable[bytes], algorithm: str = "sha256") -> bytes:
    """The PCR digest of a quote: the hash over the values in the order of the selection."""
    return hashlib.new(algorithm, b"".join(values)).digest()


def quoted(
    banks: Mapping[str, Mapping[int, bytes]], *, nonce: bytes = b"nonce", hash_name: str = "sha256", size: int = 3
) -> bytes:
    """An honest TPMS_ATTEST over register values: banks in the order given, registers ascending."""
    ordered = [[values[pcr] for pcr in sorted(values)] for values in banks.values()]
    return attest(
        nonce=nonce,
        selections=[selection(bank, values, size) for bank, values in banks.items()],
        digest=digest_of([v for values in ordered for v in values], hash_name),
    )


def sign(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    message: bytes,
    *,
    scheme: int | None = None,
    name: str = "sha256",
) -> bytes:
    """TPMT_SIGNATURE (TPM 2.0 Part 2, 11.3.4) as a TPM makes it."""
    algorithm = HASHES[name]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(algorithm)))
        size = (key.key_size + 7) // 8
        return struct.pack(">HH", ECDSA, ALG[name]) + tpm2b(r.to_bytes(size, "big")) + tpm2b(s.to_bytes(size, "big"))
    scheme = RSASSA if scheme is None else scheme
    mode: padding.AsymmetricPadding = padding.PKCS1v15()
    if scheme == RSAPSS:
        # TPM 2.0 Part 1, B.7: the salt is as long as the key allows, or as the digest; both occur.
        mode = padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)
    return struct.pack(">HH", scheme, ALG[name]) + tpm2b(key.sign(message, mode, algorithm))


def public(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    *,
    attributes: int = AK_ATTRIBUTES,
    scheme: int | None = None,
    name: str = "sha256",
    name_alg: int = 0x000B,
    exponent: int = 0,
) -> bytes:
    """TPM2B_PUBLIC (TPM 2.0 Part 2, 12.2.5); without a scheme the key is bound to none."""
    bound = struct.pack(">H", 0x0010) if scheme is None else struct.pack(">HH", scheme, ALG[name])
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        head, rest = 0x0001, struct.pack(">HI", key.key_size, exponent)
        unique = tpm2b(numbers.n.to_bytes(key.key_size // 8, "big"))
    else:
        point = key.public_key().public_numbers()
        size = (key.key_size + 7) // 8
        curve_id = CURVE_IDS.get(key.curve.name, 0x0010)
        head, rest = 0x0023, struct.pack(">HH", curve_id, 0x0010)
        unique = tpm2b(point.x.to_bytes(size, "big")) + tpm2b(point.y.to_bytes(size, "big"))
    area = (
        struct.pack(">HHI", head, name_alg, attributes) + tpm2b(b"") + struct.pack(">H", 0x0010) + bound + rest + unique
    )
    return tpm2b(area)


def pcr_file(
    banks: Sequence[tuple[int, Sequence[int]]],
    values: Sequence[bytes],
    *,
    count: int | None = None,
    lists: int | None = None,
    in_list: int | None = None,
    select: int = 3,
) -> bytes:
    """The register file that ``tpm2_quote -o`` writes: TPML_PCR_SELECTION and TPML_DIGESTs as they lie in memory."""
    chunks = [list(values[i : i + 8]) for i in range(0, len(values), 8)]
    head = struct.pack("<I", len(banks) if count is None else count)
    for alg, pcrs in banks:
        head += struct.pack("<HB", alg, select) + bitmap(pcrs, 4) + b"\0"
    head += bytes(8 * (16 - len(banks)))
    body = b""
    for chunk in chunks:
        body += struct.pack("<I", len(chunk) if in_list is None else in_list)
        for value in chunk + [b""] * (8 - len(chunk)):
            body += struct.pack("<H", len(value)) + value.ljust(64, b"\0")
    return head + struct.pack("<I", len(chunks) if lists is None else lists) + body
