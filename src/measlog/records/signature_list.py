"""EFI_SIGNATURE_LIST and EFI_SIGNATURE_DATA (UEFI 2.10, clause 32.4.1)."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.errors import FormatError
from measlog.formats.cursor import Cursor
from measlog.records.base import Record
from measlog.registry import GUID_NAMES

if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "SIGNATURE_SIZES",
    "SignatureData",
    "SignatureList",
    "SignatureLists",
    "X509Hash",
    "load_certificate",
    "read_lists",
]

CLAUSE = "UEFI 2.10, 32.4.1"
_HEADER = struct.Struct("<16sIII")
_EFI_TIME = struct.Struct("<HBBBBBBIhBB")

EFI_CERT_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")

SIGNATURE_SIZES = {
    UUID("826ca512-cf10-4ac9-b187-be01496631bd"): 20,
    UUID("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd"): 28,
    UUID("c1c41626-504c-4092-aca9-41f936934328"): 32,
    UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"): 48,
    UUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"): 64,
    UUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6"): 256,
    UUID("e2b36190-879b-4a3d-ad8d-f2e7bba32784"): 256,
    UUID("67f8444f-8743-48f1-a328-1eaab8736080"): 256,
    UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): 48,
    UUID("7076876e-80c2-4ee6-aad2-28b349a6865b"): 64,
    UUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"): 80,
}
"""Bytes of SignatureData behind the owner, by type; EFI_CERT_X509 and unknown types have no fixed size."""

_X509_HASHES = {
    UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): ("sha256", 32),
    UUID("7076876e-80c2-4ee6-aad2-28b349a6865b"): ("sha384", 48),
    UUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"): ("sha512", 64),
}


@frozen(kw_only=True)
class X509Hash:
    """EFI_CERT_X509_SHA256 and its kin: hash of a certificate's to-be-signed part, and when it was revoked.

    ``revoked`` is ``None`` when the time is all zero, which means: whatever the time of signing.
    """

    algorithm: str
    digest: bytes
    revoked: datetime | None


def _efi_time(data: bytes) -> datetime | None:
    # EFI_TIME, UEFI 2.10 clause 8.3.1. Revocation times have nanosecond, zone, daylight and pads zero (32.4.1).
    year, month, day, hour, minute, second, _, nanosecond, _, _, _ = _EFI_TIME.unpack(data)
    if not any(data):
        return None
    try:
        return datetime(year, month, day, hour, minute, second, min(nanosecond // 1000, 999_999), tzinfo=UTC)
    except ValueError as error:
        raise FormatError(f"EFI_TIME: {error}", clause="UEFI 2.10, 8.3.1") from None


@frozen(kw_only=True)
class SignatureData(Record):
    """EFI_SIGNATURE_DATA: who put it there, and a certificate, key or hash."""

    owner: UUID
    data: bytes

    def _body(self) -> bytes:
        return self.owner.bytes_le + self.data

    @property
    def certificate(self) -> x509.Certificate:
        """The data as an X.509 certificate.

        :raises FormatError: it is none that ``cryptography`` can read.
        """
        return load_certificate(self.data)


def load_certificate(der: bytes) -> x509.Certificate:
    """An X.509 certificate from DER.

    :raises FormatError: the bytes are none that ``cryptography`` can read.
    """
    from cryptography import x509  # noqa: PLC0415 - costs 60 ms, and few callers look inside certificates

    try:
        with warnings.catch_warnings():
            # Certificates in firmware break rules of RFC 5280 (serial numbers of zero); they are what was measured.
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(der)
    except Exception as error:  # noqa: BLE001 - the Rust parser raises several kinds
        raise FormatError(f"no X.509 certificate: {error}", clause=CLAUSE) from None


@frozen(kw_only=True)
class SignatureList(Record):
    """EFI_SIGNATURE_LIST: signatures of one type, all ``signature_size`` bytes long with their owner."""

    type: UUID
    header: bytes = b""
    signature_size: int
    signatures: tuple[SignatureData, ...]

    @property
    def type_name(self) -> str:
        """``EFI_CERT_X509`` and so on; the GUID where the type is unknown."""
        return GUID_NAMES.get(self.type, str(self.type))

    def _body(self) -> bytes:
        size = _HEADER.size + len(self.header) + sum(16 + len(s.data) for s in self.signatures)
        head = _HEADER.pack(self.type.bytes_le, size, len(self.header), self.signature_size)
        return head + self.header + b"".join([s.owner.bytes_le + s.data for s in self.signatures])

    def x509_hashes(self) -> tuple[X509Hash, ...]:
        """The entries of a list of type EFI_CERT_X509_SHA256, _SHA384 or _SHA512.

        :raises FormatError: a list of another type, or a revocation time that is no time.
        """
        known = _X509_HASHES.get(self.type)
        if known is None:
            raise FormatError(f"{self.type_name} holds no hashes of certificates", clause=CLAUSE)
        name, size = known
        return tuple(
            X509Hash(algorithm=name, digest=s.data[:size], revoked=_efi_time(s.data[size : size + _EFI_TIME.size]))
            for s in self.signatures
        )


@frozen(kw_only=True)
class SignatureLists(Record):
    """A signature database (``PK``, ``KEK``, ``db``, ``dbx``, ``MokList`` ...): lists one after another."""

    lists: tuple[SignatureList, ...] = field(validator=deep_iterable(instance_of(SignatureList)))

    def _body(self) -> bytes:
        return b"".join([item.to_bytes() for item in self.lists])

    def __iter__(self) -> Iterator[SignatureList]:
        return iter(self.lists)


def read_lists(cursor: Cursor) -> tuple[SignatureList, ...]:
    """Signature lists up to the end of the cursor. Walked by hand: a ``dbx`` has several hundred entries.

    :raises FormatError: sizes that do not add up. The vendor header is honoured and division is exact (A32).
    """
    cursor.clause = CLAUSE
    lists: list[SignatureList] = []
    total = 0
    while cursor.remaining:
        name = f"lists[{len(lists)}]"
        if cursor.remaining < _HEADER.size:
            raise cursor.error(f"{cursor.remaining} bytes left are no EFI_SIGNATURE_LIST", name)
        start = cursor.pos
        kind, size, header_size, signature_size = _HEADER.unpack_from(cursor.data, start)
        body = size - _HEADER.size
        if size < _HEADER.size or body > cursor.remaining - _HEADER.size:
            raise cursor.error(f"SignatureListSize {size}, {cursor.remaining} bytes are left", name)
        if header_size > body:
            raise cursor.error(f"SignatureHeaderSize {header_size} does not fit", name)
        body -= header_size
        if signature_size < 16:
            raise cursor.error(f"SignatureSize {signature_size} has no room for the owner", name)
        number, odd = divmod(body, signature_size)
        if odd:
            raise cursor.error(f"{body} bytes are no multiple of SignatureSize {signature_size}", name)
        guid = UUID(bytes_le=kind)
        known = SIGNATURE_SIZES.get(guid)
        if known is not None and signature_size != 16 + known:
            raise cursor.error(f"SignatureSize {signature_size} for {GUID_NAMES[guid]}", name)
        total += number
        cursor.count(name, max(total, len(lists)), 0)
        inner = cursor.inside(name, size)
        inner.guid("type")
        inner.pos += 12
        header = inner.take("header", header_size)
        lists.append(
            SignatureList(
                type=guid,
                header=header,
                signature_size=signature_size,
                signatures=_signatures(inner, number, signature_size),
            )
        )
    return tuple(lists)


def _signatures(cursor: Cursor, number: int, size: int) -> tuple[SignatureData, ...]:
    data, spans, path, pos = cursor.data, cursor.spans, cursor.path, cursor.pos
    found = []
    for index in range(number):
        end = pos + size
        spans[f"{path}signatures[{index}].owner"] = (pos, pos + 16)
        spans[f"{path}signatures[{index}].data"] = (pos + 16, end)
        found.append(SignatureData(owner=UUID(bytes_le=data[pos : pos + 16]), data=data[pos + 16 : end]))
        pos = end
    cursor.pos = pos
    return tuple(found)
