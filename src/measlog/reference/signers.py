"""Who signed a boot program: Authenticode signatures, checked against the program's own digest.

Windows Authenticode Portable Executable Signature Format; PKCS #7 (RFC 2315). Whether a signer is trusted is for the
platform's keys to say: nothing here builds a chain to a root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from attrs import field, frozen
from attrs.validators import instance_of
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from measlog.errors import FormatError, UnsupportedError
from measlog.formats.der import DerElement, children, element, object_identifier
from measlog.formats.pecoff import PeImage
from measlog.records.signature_list import load_certificate
from measlog.reference.manifest import Certificate, Signer

__all__ = ["image_signers", "named_certificate"]

CLAUSE = "Authenticode PE"
PKCS_SIGNED_DATA = 2
SIGNED_DATA = "1.2.840.113549.1.7.2"
SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
DIGEST_ALGORITHMS = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
CERTIFICATE_LIMIT = 16


@frozen(kw_only=True)
class _SignedData:
    """What a signature consists of: the digest it is about, and what the signer signed."""

    algorithm: str = field(validator=instance_of(str))
    digest: bytes = field(validator=instance_of(bytes))
    content: bytes = field(validator=instance_of(bytes))
    attributes: DerElement | None = field()
    certificates: tuple[x509.Certificate, ...] = field()
    leaf: x509.Certificate = field()
    signature: bytes = field(validator=instance_of(bytes))


def image_signers(data: bytes | memoryview, image: PeImage, digests: Mapping[str, bytes]) -> tuple[Signer, ...]:
    """The Authenticode signatures of an image whose Authenticode digests are given.

    FormatError where a signature cannot be read, is about another digest, or does not verify with its own certificate:
    such a program has been changed since it was signed.
    """
    signers = []
    for index, entry in enumerate(image.certificates(data)):
        if entry.type != PKCS_SIGNED_DATA:
            continue
        try:
            signers.append(_signer(entry.data, digests))
        except FormatError as error:
            raise error.inside(f"certificates[{index}]", entry.offset + 8) from None
    return tuple(signers)


def named_certificate(read: x509.Certificate, der: bytes) -> Certificate:
    """Subject, issuer and SHA-256 of a certificate."""
    return Certificate(
        subject=read.subject.rfc4514_string(), issuer=read.issuer.rfc4514_string(), sha256=hashlib.sha256(der).digest()
    )


def _signer(raw: bytes, digests: Mapping[str, bytes]) -> Signer:
    signed = _signed_data(raw)
    # 1. The signature is about this very program (A48: the digest is recomputed, never taken from the signature).
    if digests.get(signed.algorithm) != signed.digest:
        raise FormatError(
            f"the signature is about a program with {signed.algorithm} digest {signed.digest.hex()}", clause=CLAUSE
        )
    # 2. What was signed contains that digest, and the signature over it verifies with the certificate named.
    verified = "yes" if _verify(signed) else "unsupported"
    chain = [signed.leaf]
    while len(chain) < CERTIFICATE_LIMIT:
        issuer = next(
            (one for one in signed.certificates if one.subject == chain[-1].issuer and one not in chain), None
        )
        if issuer is None:
            break
        chain.append(issuer)
    named = tuple(named_certificate(one, one.public_bytes(Encoding.DER)) for one in chain)
    return Signer(chain=named, algorithm=signed.algorithm, verified=verified)


def _signed_data(raw: bytes) -> _SignedData:
    outer = element(raw)
    if any(raw[len(outer.encoding) :]):
        raise FormatError("data after the signature", offset=len(outer.encoding), clause=CLAUSE)
    kind, wrapped = _exactly(outer, 2)
    if object_identifier(kind) != SIGNED_DATA:
        raise UnsupportedError("no PKCS #7 signed data", offset=kind.offset, clause="RFC 2315, 9")
    parts = children(_exactly(wrapped, 1)[0])
    if len(parts) < 4:
        raise FormatError(f"signed data of {len(parts)} parts", clause="RFC 2315, 9.1")
    content_type, content = _exactly(parts[2], 2)
    if object_identifier(content_type) != SPC_INDIRECT_DATA:
        raise UnsupportedError("not about a program", offset=content_type.offset, clause=CLAUSE)
    indirect = _exactly(content, 1)[0]
    algorithm, digest = _digest_info(_exactly(indirect, 2)[1])
    certificates = tuple(
        _certificate(one.encoding) for part in parts[3:-1] if part.tag == 0xA0 for one in children(part, limit=64)
    )
    if parts[-1].tag != 0x31:
        raise FormatError("signed data without its signers", offset=parts[-1].offset, clause="RFC 2315, 9.1")
    infos = children(parts[-1], limit=16)
    if len(infos) != 1:
        raise UnsupportedError(f"{len(infos)} signers of one signature, expected one", clause="RFC 2315, 9.2")
    info = children(infos[0])
    if len(info) < 5:
        raise FormatError(f"signer info of {len(info)} parts", clause="RFC 2315, 9.2")
    _, serial = _exactly(info[1], 2)
    issuer = _exactly(info[1], 2)[0].encoding
    attributes = info[3] if info[3].tag == 0xA0 else None
    encrypted = info[5 if attributes is not None else 4] if len(info) > (5 if attributes is not None else 4) else None
    if encrypted is None or encrypted.tag != 0x04:
        raise FormatError("signer info without a signature", clause="RFC 2315, 9.2")
    number = int.from_bytes(serial.content, "big", signed=True)
    leaf = next(
        (one for one in certificates if one.serial_number == number and one.issuer.public_bytes() == issuer), None
    )
    if leaf is None:
        raise FormatError("the signer's certificate is not there", clause="RFC 2315, 9.2")
    return _SignedData(
        algorithm=algorithm,
        digest=digest,
        content=indirect.content,
        attributes=attributes,
        certificates=certificates,
        leaf=leaf,
        signature=encrypted.content,
    )


def _exactly(parent: DerElement, count: int) -> list[DerElement]:
    found = children(parent)
    if len(found) != count:
        raise FormatError(f"{len(found)} elements, expected {count}", offset=parent.offset, clause=CLAUSE)
    return found


def _digest_info(parent: DerElement) -> tuple[str, bytes]:
    algorithm, digest = _exactly(parent, 2)
    kinds = children(algorithm)
    name = DIGEST_ALGORITHMS.get(object_identifier(kinds[0])) if kinds else None
    if name is None or digest.tag != 0x04:
        raise UnsupportedError("a digest of a kind that is not read", offset=parent.offset, clause=CLAUSE)
    return name, digest.content


def _certificate(der: bytes) -> x509.Certificate:
    read = load_certificate(der)
    try:
        # These are parsed when first asked for, so they are asked for where an error is expected.
        named_certificate(read, der)
        _ = read.serial_number
    except (ValueError, TypeError) as error:
        raise FormatError(f"not an X.509 certificate: {error}", clause="RFC 5280") from None
    return read


def _verify(signed: _SignedData) -> bool:
    """Whether the signature verifies; False where its kind is not supported, FormatError where it is wrong."""
    message = signed.content
    if signed.attributes is not None:
        values = {}
        for attribute in children(signed.attributes):
            kind, content = _exactly(attribute, 2)
            values[object_identifier(kind)] = content
        held = values.get(MESSAGE_DIGEST)
        expected = hashlib.new(signed.algorithm, signed.content).digest()
        if held is None or [one.content for one in children(held)] != [expected]:
            raise FormatError("the signed attributes do not contain the digest of the content", clause="RFC 2315, 9.3")
        # RFC 2315, 9.3: signed is the encoding as a SET OF, not with the tag that it has in the message.
        message = b"\x31" + signed.attributes.encoding[1:]
    try:
        key = signed.leaf.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signed.signature, message, padding.PKCS1v15(), _HASHES[signed.algorithm])
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signed.signature, message, ec.ECDSA(_HASHES[signed.algorithm]))
        else:
            return False
    except InvalidSignature:
        raise FormatError("the signature does not verify with its certificate", clause=CLAUSE) from None
    except (UnsupportedAlgorithm, ValueError):
        return False
    return True
