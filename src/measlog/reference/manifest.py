"""What a machine that runs a release should measure: the reference manifest, version 1.

The JSON is canonical: keys sorted, no white space, UTF-8, integers only (the form of RFC 8785), so the same manifest
always has the same bytes. Its schema is published as ``schemas/manifest-1.json``. Digests are ``bytes`` in Python and
lower-case hexadecimal in JSON, by algorithm name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from attrs import field, frozen

from measlog.errors import ManifestError
from measlog.reference.authorities import Contribution, minimum_sbat
from measlog.reference.fields import (
    BANKS,
    boolean,
    choice,
    digest,
    digests,
    hexadecimal,
    integer,
    mapping,
    member,
    optional,
    record,
    sequence,
    text,
    timestamp,
    uuid,
)
from measlog.reference.kernelconfig import LINE_LIMIT, USES, in_words
from measlog.reference.uki import Uki

if TYPE_CHECKING:
    from measlog.reference.signing import PrivateKey
    from measlog.reference.signing import Signer as KeySigner

__all__ = [
    "BANKS",
    "BootPath",
    "Certificate",
    "Component",
    "Disk",
    "DiskFile",
    "ExpectedEvent",
    "Grub",
    "Partition",
    "ReferenceManifest",
    "SbatEntry",
    "Signer",
    "Source",
    "Usr",
    "canonical_json",
    "check_period",
    "manifest_schema",
    "parse_json",
]

FORMAT = "measlog.manifest/1"
SIZE_LIMIT = 4 << 20

_NAME = text(maximum=256)
_PATH = text(maximum=1024)
_SCRIPT = text(maximum=1 << 20, multiline=True)
_SIZE = integer()
_REGISTER = integer(maximum=23)


@frozen(kw_only=True)
class Source:
    """A file that the manifest was made from.

    ``name`` has no folders, ``size`` is in bytes, ``sha256`` is of the file as it was found (compressed or not).
    ``authenticity`` says who vouches for it: ``unchecked``, ``openpgp`` (a detached signature by ``signer``, the
    fingerprint in upper-case hexadecimal digits, was verified) or ``digests`` (named by a signed list of digests).
    """

    name: str = member(text(maximum=256, pattern=r"[^/\\]+"))
    size: int = member(_SIZE)
    sha256: bytes = member(digest("sha256"))
    authenticity: str = member(choice("unchecked", "openpgp", "digests"), default="unchecked")
    signer: str | None = member(optional(text(maximum=128, pattern="[0-9A-F]+")), default=None)


@frozen(kw_only=True)
class SbatEntry:
    """One line of an ``.sbat`` section (shim's SBAT.md): the component, its generation, and the free text after it."""

    component: str = member(_NAME)
    generation: int = member(integer(maximum=0xFFFFFFFF))
    vendor: str = member(_NAME, default="")
    package: str = member(_NAME, default="")
    version: str = member(_NAME, default="")
    url: str = member(_PATH, default="")


@frozen(kw_only=True)
class Certificate:
    """An X.509 certificate: subject and issuer as RFC 4514 text, SHA-256 of its DER bytes."""

    subject: str = member(_PATH)
    issuer: str = member(_PATH)
    sha256: bytes = member(digest("sha256"))


@frozen(kw_only=True)
class Signer:
    """One Authenticode signature of an image.

    ``chain`` is leaf first, as far as the signature carries it. ``verified`` tells whether the signature itself was
    checked against the leaf's key and the image's digest; whether the leaf is trusted is the platform's decision.
    """

    chain: tuple[Certificate, ...] = member(sequence(record(Certificate), minimum=1, maximum=16))
    algorithm: str = member(choice("sha1", "sha256", "sha384", "sha512"))
    verified: str = member(choice("yes", "no", "unsupported"))


@frozen(kw_only=True)
class Component:
    """A program that the boot loads: what it is, where it lies on the ESP, and its digests for each bank.

    ``authenticode`` is the digest that UEFI measures into PCR 4, ``flat`` that of the whole file, which GRUB measures
    into PCR 9. ``path`` has no leading slash. ``slot`` is set for kernels alone. ``verity_root`` is the dm-verity root
    hash embedded in a kernel, ``version`` the kernel's or the boot loader's own version text. ``command_line`` is the
    command line that is built into a kernel (empty where none is), ``command_line_use`` what the kernel does with it
    (:data:`measlog.reference.kernelconfig.USES`), ``command_line_unread`` why it is not known. ``mok_list`` and
    ``mok_list_x`` are what a shim measures into PCR 14 for MokList and MokListX where the owner has added nothing.
    ``sbat_levels`` are a shim's levels by policy (``automatic``, ``latest``), ``secure_boot`` the events that it may add to
    PCR 7, ``uki`` what a unified kernel image measures.
    """

    role: str = member(choice("shim", "grub", "mokmanager", "fallback", "kernel", "uki", "systemd-boot"))
    slot: str | None = member(optional(choice("a", "b")), default=None)
    path: str = member(_PATH)
    size: int = member(_SIZE)
    machine: str = member(choice("amd64", "arm64", "386", "arm", "riscv64", "other"), default="amd64")
    authenticode: Mapping[str, bytes] = member(digests(BANKS))
    flat: Mapping[str, bytes] = member(digests(BANKS))
    version: str | None = member(optional(text(maximum=1024)), default=None)
    verity_root: bytes | None = member(optional(hexadecimal(size=32)), default=None)
    command_line: str | None = member(optional(text(maximum=LINE_LIMIT)), default=None)
    command_line_use: str | None = member(optional(choice(*USES)), default=None)
    command_line_unread: str | None = member(optional(text(maximum=256)), default=None)
    sbat: tuple[SbatEntry, ...] = member(sequence(record(SbatEntry), maximum=256), default=())
    signers: tuple[Signer, ...] = member(sequence(record(Signer), maximum=16), default=())
    vendor_certificates: tuple[Certificate, ...] = member(sequence(record(Certificate), maximum=64), default=())
    vendor_db_sha256: bytes | None = member(optional(digest("sha256")), default=None)
    vendor_dbx_sha256: bytes | None = member(optional(digest("sha256")), default=None)
    mok_list: Mapping[str, bytes] | None = member(optional(digests(BANKS)), default=None)
    mok_list_x: Mapping[str, bytes] | None = member(optional(digests(BANKS)), default=None)
    sbat_levels: Mapping[str, str] = member(mapping(_NAME, _SCRIPT, maximum=8), factory=dict)
    secure_boot: tuple[Contribution, ...] = member(sequence(record(Contribution), maximum=64), default=())
    uki: Uki | None = member(optional(record(Uki)), default=None)

    def __attrs_post_init__(self) -> None:
        if (self.command_line_use is not None) != bool(self.command_line):
            raise ManifestError(f"{self.path}: a built-in command line and what is done with it belong together")
        if self.command_line is not None and self.command_line_unread is not None:
            raise ManifestError(f"{self.path}: a built-in command line that is said to be unread")

    @property
    def built_in(self) -> str | None:
        """A kernel's built-in command line in words, ``not known`` where it is not, None where nothing is built in."""
        return in_words(self.command_line, self.command_line_use)

    @property
    def minimum_sbat(self) -> Mapping[str, int]:
        """For a shim: the lowest generation of each component that it lets start by itself, from its SBAT level."""
        return minimum_sbat(self.sbat_levels)


@frozen(kw_only=True)
class Grub:
    """The configuration embedded in GRUB, and which GRUB it is.

    ``config`` is the memdisk's ``grub.cfg``; ``load_config`` the one that grub-mkimage's ``--config`` embeds, ``prefix``
    that of ``--prefix``; ``modules`` the names of the modules built in, in their order; ``memdisk`` the other text
    files of the memdisk. ``profile`` names the set of measurement rules, None where the version is not a known one.
    """

    config: str = member(_SCRIPT)
    load_config: str | None = member(optional(_SCRIPT), default=None)
    prefix: str | None = member(optional(_PATH), default=None)
    version: str | None = member(optional(_NAME), default=None)
    profile: str | None = member(optional(choice("flatcar-2.12", "debian-2.06")), default=None)
    modules: tuple[str, ...] = member(sequence(_NAME, maximum=1024), default=())
    memdisk: Mapping[str, str] = member(mapping(_PATH, _SCRIPT, maximum=256), factory=dict)


@frozen(kw_only=True)
class Partition:
    """A GPT partition: LBAs in sectors, GPT attributes as a 64-bit number, and the filesystem found in it."""

    number: int = member(integer(minimum=1, maximum=4096))
    label: str = member(text(maximum=36))
    type_guid: UUID = member(uuid())
    guid: UUID = member(uuid())
    first_lba: int = member(integer())
    last_lba: int = member(integer())
    attributes: bytes = member(hexadecimal(size=8))
    filesystem: str | None = member(optional(choice("fat", "btrfs", "ext4", "xfs", "squashfs", "erofs")), default=None)
    filesystem_uuid: str | None = member(optional(text(maximum=64)), default=None)
    filesystem_label: str | None = member(optional(text(maximum=256)), default=None)

    @property
    def attribute_bits(self) -> int:
        """The attributes as an integer; ``attributes`` holds them most significant byte first."""
        return int.from_bytes(self.attributes, "big")


@frozen(kw_only=True)
class DiskFile:
    """A file that the boot loader can read: the partition's number, path without leading slash, size and digests.

    ``text`` is there for small configuration files (``.cfg``) that are UTF-8.
    """

    partition: int = member(integer(minimum=1, maximum=4096))
    path: str = member(_PATH)
    size: int = member(_SIZE)
    flat: Mapping[str, bytes] = member(digests(BANKS))
    text: str | None = member(optional(_SCRIPT), default=None)


@frozen(kw_only=True)
class Disk:
    """What the boot loader finds on the disk: the partitions and the files of those that could be read.

    ``sector_size`` is in bytes; ``esp`` is the number of the EFI system partition; ``listed`` are the numbers of the
    partitions whose files are all named in ``files``.
    """

    sector_size: int = member(integer(minimum=512, maximum=4096))
    disk_guid: UUID = member(uuid())
    partitions: tuple[Partition, ...] = member(sequence(record(Partition), maximum=1024))
    esp: int = member(integer(minimum=1, maximum=4096))
    listed: tuple[int, ...] = member(sequence(integer(minimum=1, maximum=4096), maximum=1024))
    files: tuple[DiskFile, ...] = member(sequence(record(DiskFile), maximum=65_536))


@frozen(kw_only=True)
class Usr:
    """A USR partition and what is known of its contents.

    ``status`` is ``verified`` (the hash tree was recomputed, equals the one on disk, and its root is the one in the
    kernel) or ``unchecked``. ``root`` is that root hash, ``data_blocks`` counts blocks of 4096 bytes.
    """

    slot: str = member(choice("a", "b"))
    partition: int = member(integer(minimum=1, maximum=4096))
    status: str = member(choice("verified", "unchecked"))
    root: bytes | None = member(optional(hexadecimal(size=32)), default=None)
    data_blocks: int | None = member(optional(integer()), default=None)


@frozen(kw_only=True)
class ExpectedEvent:
    """An event that a boot path extends: register, TCG_EVENTTYPE, the text where there is one, digests by bank."""

    pcr: int = member(_REGISTER)
    type: int = member(integer(maximum=0xFFFFFFFF))
    text: str | None = member(optional(_SCRIPT), default=None)
    digests: Mapping[str, bytes] = member(digests(("sha256",)))


@frozen(kw_only=True)
class BootPath:
    """One way to boot the image: the events that the image decides, each register in its own order.

    ``events`` keeps the order in which a machine would make them; only the order within a register is bound.
    """

    name: str = member(_NAME)
    slot: str | None = member(optional(choice("a", "b")), default=None)
    first_boot: bool | None = member(optional(boolean()), default=None)
    secure_boot: bool | None = member(optional(boolean()), default=None)
    events: tuple[ExpectedEvent, ...] = member(sequence(record(ExpectedEvent), maximum=4096))

    def of(self, pcr: int) -> tuple[ExpectedEvent, ...]:
        """The events of one register, in order."""
        return tuple(event for event in self.events if event.pcr == pcr)


@frozen(kw_only=True)
class ReferenceManifest:
    """Reference values of one release, as read from its image or artefacts.

    ``version`` is the number that rollback floors are compared with; ``release`` the one people use. ``covers`` and
    ``not_covered`` say of each register what the manifest speaks for and, where it does not, why. ``signed_by`` holds
    the key ids (SHA-256 of the SubjectPublicKeyInfo, hexadecimal) of a manifest that came out of
    :meth:`measlog.reference.signing.SignedManifest.verify`, and is None for every other.
    """

    name: str = member(_NAME)
    release: str | None = member(optional(text(maximum=64)), default=None)
    channel: str | None = member(optional(text(maximum=64)), default=None)
    arch: str = member(choice("amd64", "arm64"))
    version: int = member(integer(), default=0)
    not_before: datetime | None = member(optional(timestamp()), default=None)
    expires: datetime | None = member(optional(timestamp()), default=None)
    sources: tuple[Source, ...] = member(sequence(record(Source), maximum=64))
    components: tuple[Component, ...] = member(sequence(record(Component), minimum=1, maximum=256))
    grub: Grub | None = member(optional(record(Grub)), default=None)
    disk: Disk | None = member(optional(record(Disk)), default=None)
    usr: tuple[Usr, ...] = member(sequence(record(Usr), maximum=2), default=())
    covers: Mapping[int, str] = member(mapping(_REGISTER, text(maximum=1024)), factory=dict)
    not_covered: Mapping[int, str] = member(mapping(_REGISTER, text(maximum=1024)), factory=dict)
    boot_paths: tuple[BootPath, ...] = member(sequence(record(BootPath), maximum=256), default=())
    signed_by: tuple[str, ...] | None = field(init=False, default=None, eq=False)

    def __attrs_post_init__(self) -> None:
        check_period(self.not_before, self.expires)
        seen: set[tuple[str, str | None, str]] = set()
        for component in self.components:
            key = component.role, component.slot, component.path
            if key in seen:
                raise ManifestError(f"components: {component.role} {component.path} is there twice")
            seen.add(key)
        if both := self.covers.keys() & self.not_covered.keys():
            raise ManifestError(f"covers: register {min(both)} is in not_covered too")

    def __repr__(self) -> str:
        signed = "signed" if self.signed_by else "not signed"
        return f"<ReferenceManifest {self.name}: version {self.version}, {len(self.components)} components, {signed}>"

    def __str__(self) -> str:
        from measlog.view.render import manifest_page  # noqa: PLC0415 - presentation is loaded when asked for

        return manifest_page(self).to_text()

    def _repr_html_(self) -> str:
        from measlog.view.notebook import manifest_html  # noqa: PLC0415 - presentation is loaded when asked for

        return manifest_html(self)

    def component(self, role: str, slot: str | None = None) -> Component | None:
        """The first component of that role, and of that slot where one is given."""
        return next((c for c in self.components if c.role == role and slot in {None, c.slot}), None)

    def to_json(self) -> bytes:
        """The manifest's canonical bytes. Not signed: see :meth:`sign`."""
        return canonical_json({"format": FORMAT, **_CODEC.encode(self)})

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read an unsigned manifest, whose ``signed_by`` is None.

        Raises :class:`ManifestError` for anything but a well-formed manifest of a version that is known.
        """
        document = parse_json(data, what="manifest")
        version = document.pop("format", None)
        if version != FORMAT:
            if "payloadType" in document:
                raise ManifestError("a signed manifest, where an unsigned one is needed")
            if version is None:
                raise ManifestError(f"format: missing, expected {FORMAT!r}; is this a manifest?")
            raise ManifestError(f"format: expected {FORMAT!r}, got {str(version)[:60]!r}")
        read = _CODEC.decode(document, "manifest")
        assert isinstance(read, cls)
        return read

    def sign(self, private_key: PrivateKey | KeySigner | bytes | str) -> bytes:
        """The manifest in a DSSE envelope, signed with an Ed25519 or ECDSA (P-256, P-384) key, object or PEM, or on a token."""
        from measlog.reference.signing import sign  # noqa: PLC0415  (signing knows manifests, not the reverse)

        return sign(self, private_key)


_CODEC = record(ReferenceManifest)


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema that ``schemas/manifest-1.json`` publishes."""
    body = dict(_CODEC.schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:measlog:manifest:1",
        "title": "measlog reference manifest, version 1",
        "type": "object",
        "properties": {"format": {"const": FORMAT}, **body["properties"]},
        "required": ["format", *body["required"]],
        "additionalProperties": False,
    }


def check_period(not_before: datetime | None, expires: datetime | None) -> None:
    """Raise ManifestError where a document would never be in force."""
    if not_before is not None and expires is not None and expires <= not_before:
        raise ManifestError("expires: not later than not_before")


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """A document of objects, lists, text, integers and null as canonical bytes."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def parse_json(data: bytes, *, what: str, size: int = SIZE_LIMIT) -> dict[str, Any]:
    """The object in ``data``: UTF-8, no duplicate keys, no fractions, bounded in size; else ManifestError."""
    if len(data) > size:
        raise ManifestError(f"{what}: {len(data)} bytes, the most is {size}")
    if not data:
        raise ManifestError(f"{what}: not JSON: it is empty")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_number,
            parse_constant=_no_number,
            parse_int=_bounded_int,
        )
    except UnicodeDecodeError as error:
        raise ManifestError(f"{what}: not JSON: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ManifestError(f"{what}: not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ManifestError(f"{what}: nested too deeply") from None
    if not isinstance(document, dict):
        raise ManifestError(f"{what}: not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ManifestError(f"the key {twice[:60]!r} is there twice in one object")
    return made


def _no_number(literal: str) -> Any:
    raise ManifestError(f"{literal[:30]} is not an integer")


def _bounded_int(literal: str) -> int:
    if len(literal) > 17:
        raise ManifestError(f"{literal[:20]}... is out of range")
    return int(literal)
