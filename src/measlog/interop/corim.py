"""Concise Reference Integrity Manifests: manifests written and read in the form that Veraison and others take.

Source: draft-ietf-rats-corim-11 (CDDL in its appendix A); COSE_Sign1 from RFC 9052. A reference manifest says more than
CoRIM can (boot paths, GRUB's configuration, the disk). So its canonical JSON stands in the document as one raw value, and
beside it reference triples with the digests of the programs, for readers that know CoRIM alone. On import the triples must
be those that follow from the manifest: the document says one thing to everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import FormatError, ManifestError, SignatureError, UnsupportedError
from measlog.interop.cbor import Tag, decode, encode
from measlog.interop.cose import ALG, CONTENT_TYPE, KEY_ID, SIGN1_TAG, Sign1, algorithm_of, raw_signature
from measlog.reference.manifest import SIZE_LIMIT, ReferenceManifest
from measlog.reference.signing import (
    PrivateKey,
    PublicKey,
    Signer,
    check_in_force,
    check_validity,
    key_id,
    load_public_key,
    load_signer,
)

__all__ = ["Corim", "ReferenceValue", "SignedCorim", "sign", "to_unsigned"]

CORIM_TAG, COMID_TAG, TIME_TAG, BYTES_TAG, MASKED_TAG = 501, 506, 1, 560, 563
MEDIA_TYPE = "application/rim+cbor"
MANIFEST_KEY = "measlog.manifest/1"
"""The measurement key under which a document holds a manifest's canonical JSON."""

_CLAUSE = "draft-ietf-rats-corim-11, appendix A"
_SIZE = 4 * SIZE_LIMIT
_CORIM_META = 8
# IANA's Named Information Hash Algorithm Registry, which section 7.7 of the draft points to; SHA-1 is not in it.
_HASH_IDS = {1: "sha256", 7: "sha384", 8: "sha512", 10: "sha3_256", 11: "sha3_384", 12: "sha3_512"}
_HASH_NAMES = {
    "sha-256": "sha256",
    "sha-384": "sha384",
    "sha-512": "sha512",
    "sha3-256": "sha3_256",
    "sha3-384": "sha3_384",
    "sha3-512": "sha3_512",
}
_IDS = {name: number for number, name in _HASH_IDS.items()}
_SIZES = {"sha256": 32, "sha384": 48, "sha512": 64, "sha3_256": 32, "sha3_384": 48, "sha3_512": 64}


@frozen(kw_only=True)
class ReferenceValue:
    """One measurement of a reference triple, as far as digests go.

    ``environment`` are class, instance and group as the document has them; ``key`` is the measured element, ``digests``
    its digests by algorithm; ``registers`` are the same for each integrity register, by its number or name.
    """

    environment: Mapping[Any, Any] = field(repr=False)
    key: int | str | bytes | None
    digests: Mapping[str, bytes]
    registers: Mapping[int | str, Mapping[str, bytes]] = field(repr=False)


@frozen(kw_only=True)
class Corim:
    """The contents of a document. ``signed_by`` is ``None`` unless :meth:`SignedCorim.verify_document` gave it."""

    id: str
    reference_values: tuple[ReferenceValue, ...] = field(repr=False)
    not_before: datetime | None
    not_after: datetime | None
    manifest_json: bytes | None = field(repr=False)
    """Canonical JSON of a manifest, where measlog wrote the document."""
    signed_by: tuple[str, ...] | None = field(init=False, default=None, eq=False)

    @classmethod
    def unsafe_from_unsigned(cls, data: bytes) -> Self:
        """Read a document that nobody signed (tag 501). Anybody may have written it.

        Raises :class:`~measlog.errors.FormatError`, for a signed document an UnsupportedError.
        """
        value = decode(data, size=_SIZE)
        if isinstance(value, Tag) and value.number == SIGN1_TAG:
            raise UnsupportedError("this document is signed: read it with SignedCorim", offset=0, clause=_CLAUSE)
        read: Self = _read(cls, value)
        return read

    def registers(self) -> Mapping[str, Mapping[int, tuple[bytes, ...]]]:
        """By bank and PCR index, the values of integrity registers that have a number; any of them is as good."""
        found: dict[str, dict[int, tuple[bytes, ...]]] = {}
        for value in self.reference_values:
            for index, digests in value.registers.items():
                for bank, digest in digests.items():
                    if isinstance(index, int) and bank in _SIZES:
                        known = found.setdefault(bank, {})
                        known[index] = tuple(dict.fromkeys((*known.get(index, ()), digest)))
        return found

    def manifest(self) -> ReferenceManifest:
        """The manifest in the document; its ``signed_by`` is the document's.

        Raises :class:`~measlog.errors.ManifestError` where there is none, or where the reference triples beside it are
        not those that follow from it.
        """
        if self.manifest_json is None:
            raise ManifestError(
                f"the document {self.id[:80]!r} holds no manifest of measlog; what it says is in its reference_values"
            )
        manifest = ReferenceManifest.from_json(self.manifest_json)
        follows = _read(Corim, decode(to_unsigned(manifest), size=_SIZE))
        if (self.id, self.reference_values) != (follows.id, follows.reference_values):
            raise ManifestError("the reference triples are not those of the manifest beside them")
        # As in SignedManifest.verify: no argument of the class, so that no caller can claim a signature.
        object.__setattr__(manifest, "signed_by", self.signed_by)
        return manifest


@frozen(kw_only=True)
class SignedCorim:
    """A signed document as read, before anything about it is known."""

    message: Sign1 = field(validator=instance_of(Sign1))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a signed CoRIM (COSE_Sign1, tag 18); an unsigned one is a FormatError."""
        if data[:3] == encode(Tag(CORIM_TAG, 0))[:3]:
            raise FormatError("the document is not signed", offset=0, clause=_CLAUSE)
        return cls(message=Sign1.from_bytes(data, size=_SIZE))

    def verify(
        self,
        *,
        keys: Iterable[PublicKey | bytes | str],
        now: datetime | None = None,
        minimum_version: int | None = None,
    ) -> ReferenceManifest:
        """The manifest, as :meth:`measlog.SignedManifest.verify` gives it and by the same rules.

        Raises :class:`~measlog.errors.ManifestError`, or :class:`~measlog.errors.FormatError` for signed bytes that are
        no CoRIM.
        """
        manifest = self.verify_document(keys=keys, now=now).manifest()
        # Steps 5 and 6: what the manifest says of its own validity, and the caller's floor (A43).
        check_in_force(manifest, now, minimum_version, what="manifest")
        return manifest

    def verify_document(self, *, keys: Iterable[PublicKey | bytes | str], now: datetime | None = None) -> Corim:
        """The document, if one of ``keys`` signed it and it is in force at ``now``.

        ``keys`` are objects or PEM: Ed25519, ECDSA P-256 or P-384. Raises :class:`~measlog.errors.ManifestError`.
        """
        # 1. The content type first: a message of another kind, signed by the same key, is no CoRIM (A43).
        kind = self.message.protected.get(CONTENT_TYPE)
        if kind != MEDIA_TYPE:
            raise ManifestError(f"content type {str(kind)[:80]!r}, expected {MEDIA_TYPE!r}")
        # 2. Only keys of the kinds allowed (A17), and at least one of them (A41).
        loaded = [load_public_key(key) for key in keys]
        if not loaded:
            raise ManifestError("no key was given to verify the document with")
        # 3. The signature. Key ids are hints and choose nothing: every key is tried.
        signers = tuple(dict.fromkeys(key_id(key) for key in loaded if _verifies(self.message, key)))
        if not signers:
            known = ", ".join(key_id(key)[:16] for key in loaded)
            raise ManifestError(f"the document is signed by none of the given keys ({known})")
        # 4. Signature and document are in force (A43: freshness).
        document: Corim = _read(Corim, decode(self.message.payload, size=_SIZE))
        start, end = _signature_validity(self.message.protected.get(_CORIM_META))
        check_validity(start, end, now, what=f"the signature of {document.id[:80]!r}")
        check_validity(document.not_before, document.not_after, now, what=f"the document {document.id[:80]!r}")
        object.__setattr__(document, "signed_by", signers)
        return document


def _verifies(message: Sign1, key: PublicKey) -> bool:
    try:
        message.verify(key)
    except SignatureError:
        return False
    return True


def sign(manifest: ReferenceManifest, private_key: PrivateKey | Signer | bytes | str, *, signer: str) -> bytes:
    """The manifest as a signed CoRIM. ``signer`` is the name that the document gives its signer; nobody checks it.

    Raises :class:`~measlog.errors.ManifestError` for a key that manifests are not signed with, and where the signature
    that was made does not verify.
    """
    public, make = load_signer(private_key)
    protected = encode(
        {
            ALG: algorithm_of(public),
            CONTENT_TYPE: MEDIA_TYPE,
            KEY_ID: bytes.fromhex(key_id(public)),
            _CORIM_META: encode({0: {0: signer}}),
        }
    )
    payload = to_unsigned(manifest)
    message = Sign1(protected_raw=protected, payload=payload, signature=b"")
    signature = raw_signature(public, make(message.to_be_signed))
    made = encode(Tag(SIGN1_TAG, [protected, {}, payload, signature]))
    if not _verifies(Sign1.from_bytes(made, size=_SIZE), public):
        raise ManifestError("the signature just made does not verify with its own public key")
    return made


def to_unsigned(manifest: ReferenceManifest) -> bytes:
    """The manifest as an unsigned CoRIM, the same bytes for the same manifest."""
    name = f"{manifest.name} {manifest.version}"
    environment = {0: {2: manifest.name}}
    programs = [_measurement(key, digests) for key, digests in _programs(manifest)]
    raw = {0: MANIFEST_KEY, 1: {4: Tag(BYTES_TAG, manifest.to_json())}}
    triples = [[environment, programs], [environment, [raw]]]
    comid = {1: {0: manifest.name, 1: manifest.version}, 4: {0: triples}}
    document: dict[int, Any] = {0: name, 1: [Tag(COMID_TAG, encode(comid))]}
    if manifest.expires is not None:  # a beginning without an end is nothing that CoRIM can say
        validity = {1: _seconds(manifest.expires)}
        if manifest.not_before is not None:
            validity[0] = _seconds(manifest.not_before)
        document[4] = validity
    return encode(Tag(CORIM_TAG, document))


def _seconds(moment: datetime) -> Tag:
    return Tag(TIME_TAG, int(moment.timestamp()))


def _programs(manifest: ReferenceManifest) -> Iterator[tuple[str, Mapping[str, bytes]]]:
    for component in manifest.components:
        name = "/".join(part for part in (component.role, component.slot, component.path) if part)
        yield f"authenticode:{name}", component.authenticode
        yield f"file:{name}", component.flat


def _measurement(key: str, digests: Mapping[str, bytes]) -> dict[int, Any]:
    stated = [[_IDS[name], value] for name, value in sorted(digests.items()) if name in _IDS]
    return {0: key, 1: {2: stated}}


# Reading.


def _read(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, Tag) or value.number != CORIM_TAG:
        raise FormatError(f"expected the tag {CORIM_TAG} of a CoRIM", offset=0, clause=_CLAUSE)
    document = _map(value.value, "corim")
    # A profile may give other meanings to what stands in the document: those who know it alone can read it (4.1.4).
    if 3 in document:
        raise UnsupportedError("a document of a profile", path="corim.profile", clause=_CLAUSE)
    not_before, not_after = _validity(document.get(4), "corim.rim-validity")
    values: list[ReferenceValue] = []
    manifests: list[bytes] = []
    for i, tag in enumerate(_list(document.get(1), "corim.tags")):
        path = f"corim.tags[{i}]"
        if not isinstance(tag, Tag) or not isinstance(tag.value, bytes):
            raise FormatError("expected a tagged byte string", path=path, clause=_CLAUSE)
        if tag.number != COMID_TAG:
            raise UnsupportedError(f"a tag {tag.number}; CoMID, {COMID_TAG}, is read", path=path, clause=_CLAUSE)
        try:
            comid = _map(decode(tag.value, size=_SIZE), "")
        except FormatError as error:
            raise error.inside(path) from None
        triples = _map(comid.get(4), f"{path}.triples")
        for j, triple in enumerate(_list(triples.get(0, []), f"{path}.reference-triples", empty=True)):
            _triple(triple, f"{path}.reference-triples[{j}]", values, manifests)
    if len(manifests) > 1:
        raise FormatError("more than one manifest", path="corim", clause=MANIFEST_KEY)
    identity = document.get(0)
    if not isinstance(identity, str | bytes):
        raise FormatError("expected text or a UUID", path="corim.id", clause=_CLAUSE)
    return kind(
        id=identity if isinstance(identity, str) else identity.hex(),
        reference_values=tuple(values),
        not_before=not_before,
        not_after=not_after,
        manifest_json=manifests[0] if manifests else None,
    )


def _triple(triple: Any, path: str, values: list[ReferenceValue], manifests: list[bytes]) -> None:
    pair = _list(triple, path)
    if len(pair) != 2:
        raise FormatError(f"{len(pair)} elements instead of two", path=path, clause=_CLAUSE)
    environment = _map(pair[0], f"{path}[0]")
    for k, entry in enumerate(_list(pair[1], f"{path}[1]")):
        where = f"{path}[1][{k}]"
        measurement = _map(entry, where)
        key = measurement.get(0)
        if isinstance(key, Tag):
            key = key.value
        if not isinstance(key, int | str | bytes | None):
            raise FormatError("expected the key of a measured element", path=f"{where}.mkey", clause=_CLAUSE)
        said = _map(measurement.get(1), f"{where}.mval")
        if key == MANIFEST_KEY:
            raw = said.get(4)
            if not isinstance(raw, Tag) or raw.number != BYTES_TAG or not isinstance(raw.value, bytes):
                raise FormatError("expected tagged bytes", path=f"{where}.mval.raw-value", clause=MANIFEST_KEY)
            manifests.append(raw.value)
            continue
        registers = {
            _register(index, f"{where}.mval.integrity-registers"): _digests(
                digests, f"{where}.mval.integrity-registers[{index}]"
            )
            for index, digests in _map(said.get(14, {}), f"{where}.mval.integrity-registers").items()
        }
        values.append(
            ReferenceValue(
                environment=MappingProxyType(environment),
                key=key,
                digests=_digests(said[2], f"{where}.mval.digests") if 2 in said else {},
                registers=registers,
            )
        )


def _register(index: Any, path: str) -> int | str:
    if isinstance(index, bool) or not isinstance(index, int | str) or (isinstance(index, int) and index < 0):
        raise FormatError("expected the number or name of a register", path=path, clause=_CLAUSE)
    return index


def _digests(value: Any, path: str) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for i, entry in enumerate(_list(value, path)):
        pair = _list(entry, f"{path}[{i}]")
        if len(pair) != 2 or not isinstance(pair[1], bytes):
            raise FormatError("expected an algorithm and a byte string", path=f"{path}[{i}]", clause=_CLAUSE)
        alg, digest = pair
        if not isinstance(alg, int | str) or isinstance(alg, bool):
            raise FormatError("expected the number or name of a hash", path=f"{path}[{i}]", clause=_CLAUSE)
        # Others are kept under what they are called, where no bank will ask for them.
        name = _HASH_IDS.get(alg, f"hash {alg}") if isinstance(alg, int) else _HASH_NAMES.get(alg, f"hash {alg}")
        if len(digest) != _SIZES.get(name, len(digest)):
            raise FormatError(f"{name} of {len(digest)} bytes", path=f"{path}[{i}]", clause=_CLAUSE)
        if name in found:
            raise FormatError(f"{name} is there twice", path=f"{path}[{i}]", clause="draft-ietf-rats-corim-11, 7.7")
        found[name] = digest
    return found


def _signature_validity(raw: Any) -> tuple[datetime | None, datetime | None]:
    """Validity by the corim-meta-map of the protected header, which is signed."""
    if raw is None:
        return None, None
    if not isinstance(raw, bytes):
        raise FormatError("expected a byte string", path="protected.corim-meta", clause=_CLAUSE)
    return _validity(_map(decode(raw), "protected.corim-meta").get(1), "protected.corim-meta.signature-validity")


def _validity(value: Any, path: str) -> tuple[datetime | None, datetime | None]:
    if value is None:
        return None, None
    bounds = _map(value, path)
    if 1 not in bounds:
        raise FormatError("there is no end of validity", path=f"{path}.not-after", clause=_CLAUSE)
    return (
        _time(bounds[0], f"{path}.not-before") if 0 in bounds else None,
        _time(bounds[1], f"{path}.not-after"),
    )


def _time(value: Any, path: str) -> datetime:
    if not isinstance(value, Tag) or value.number != TIME_TAG or type(value.value) is not int:
        raise FormatError("expected a time in seconds", path=path, clause="RFC 8949, 3.4.2")
    try:
        return datetime.fromtimestamp(value.value, UTC)
    except (OverflowError, ValueError, OSError):
        raise FormatError(f"the time {value.value} is out of range", path=path, clause="RFC 8949, 3.4.2") from None


def _map(value: Any, path: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise FormatError("expected a map", path=path or None, clause=_CLAUSE)
    return value


def _list(value: Any, path: str, *, empty: bool = False) -> list[Any]:
    if not isinstance(value, list) or not (value or empty):
        raise FormatError("expected a list that is not empty", path=path, clause=_CLAUSE)
    return value
