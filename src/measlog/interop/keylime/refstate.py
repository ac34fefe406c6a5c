"""Reference states of Keylime's example policy.

Source: ``keylime/mba/elchecking/example.py`` of Keylime 7.14.3, whose comment describes the document, and
``keylime-policy create measured-boot``, which writes it from the log of one machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID

from attrs import field, frozen

from measlog.appraisal.policy import AllOf, Policy
from measlog.appraisal.rules.banks import ConsistentBanks, HashedData, MeasuredBank, SoundLog
from measlog.errors import FormatError, ManifestError
from measlog.reference.manifest import canonical_json, parse_json
from measlog.registry import ALGORITHMS_BY_NAME

if TYPE_CHECKING:
    from measlog.evidence import VerifiedEvidence
    from measlog.reference.manifest import ReferenceManifest

__all__ = ["KeylimeState", "StateFirmware", "StateKernel", "StateKey", "unique"]

T = TypeVar("T")

_CLAUSE = "Keylime, mba/elchecking/example.py"
_SIZE_LIMIT = 16 << 20
_MOST = 4096
_LONGEST_PATTERN = 65_536
_HEX = re.compile(r"0x(?:[0-9a-f]{2})+")
_SHA256 = 32

Digests = Mapping[str, bytes]


@frozen(kw_only=True)
class StateKey:
    """A signature of a Secure Boot database: its owner, and its data (a certificate, or a digest)."""

    owner: UUID
    data: bytes = field(repr=lambda data: f"<{len(data)} bytes>")


@frozen(kw_only=True)
class StateFirmware:
    """A firmware in PCR 0: the digests of its EV_S_CRTM_VERSION and of its blobs in order, each by bank."""

    scrtm: Digests
    blobs: tuple[Digests, ...]


@frozen(kw_only=True)
class StateKernel:
    """One boot: SHA-256 digests of what was started and read, and a pattern for all of the kernel's command line.

    ``kernel`` is the kernel's Authenticode digest, which a boot with Secure Boot has in PCR 4; ``vmlinuz`` the digest of
    its file, which Keylime looks at without; ``initrd`` that of a separate initrd. ``None`` where the boot has none.
    """

    shim: bytes
    grub: bytes
    kernel: bytes | None = None
    vmlinuz: bytes | None = None
    initrd: bytes | None = None
    command_line: str

    def __attrs_post_init__(self) -> None:
        if len(self.command_line) > _LONGEST_PATTERN:
            raise FormatError("a pattern of more than 65,536 characters", path="kernel_cmdline", clause=_CLAUSE)
        try:
            re.compile(self.command_line)
        except (re.error, OverflowError, RecursionError) as error:
            raise FormatError(f"no regular expression: {error}", path="kernel_cmdline", clause=_CLAUSE) from None


@frozen(kw_only=True)
class KeylimeState:
    """What Keylime's example policy compares a log with. Observed on machines, mostly: nobody signed it.

    ``pk``, ``kek``, ``db`` and ``vendor_db`` are the keys that a machine may have, ``dbx`` the revocations that it must
    have, ``mok_list`` and ``mok_list_x`` the digests that shim may measure of MokList and MokListX, by bank.
    """

    secure_boot: bool
    firmware: tuple[StateFirmware, ...]
    pk: tuple[StateKey, ...] = field(default=(), repr=False)
    kek: tuple[StateKey, ...] = field(default=(), repr=False)
    db: tuple[StateKey, ...] = field(default=(), repr=False)
    dbx: tuple[StateKey, ...] = field(default=(), repr=False)
    vendor_db: tuple[StateKey, ...] = field(default=(), repr=False)
    mok_list: tuple[Digests, ...] = field(default=(), repr=False)
    mok_list_x: tuple[Digests, ...] = field(default=(), repr=False)
    kernels: tuple[StateKernel, ...]

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read a reference state. Raises :class:`~measlog.errors.FormatError`, whose path names the field."""
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        try:
            document = parse_json(raw, what="reference state", size=_SIZE_LIMIT)
        except ManifestError as error:
            raise FormatError(str(error), clause=_CLAUSE) from None
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: object, *, path: str = "") -> Self:
        """The same, of JSON that was parsed already; ``path`` is where it stood."""
        try:
            return cls._read(_object(document, ""))
        except FormatError as error:
            raise (error.inside(path) if path else error) from None

    @classmethod
    def _read(cls, document: Mapping[str, Any]) -> Self:
        secure_boot = document.get("has_secureboot", True)
        if not isinstance(secure_boot, bool):
            raise _wrong("has_secureboot", "true or false")

        def keys(name: str, *, needed: bool = True) -> tuple[StateKey, ...]:
            return _each(_member(document, name) if needed else document.get(name, []), name, _key)

        return cls(
            secure_boot=secure_boot,
            firmware=_each(_member(document, "scrtm_and_bios"), "scrtm_and_bios", _firmware),
            pk=keys("pk"),
            kek=keys("kek"),
            db=keys("db"),
            dbx=keys("dbx"),
            vendor_db=keys("vendor_db", needed=False),
            mok_list=_each(_member(document, "mokdig"), "mokdig", _digests),
            mok_list_x=_each(_member(document, "mokxdig"), "mokxdig", _digests),
            kernels=_each(_member(document, "kernels"), "kernels", _kernel),
        )

    @classmethod
    def from_manifest(cls, manifest: ReferenceManifest, platform: VerifiedEvidence) -> Self:
        """The state of the boots that a manifest allows for, on platforms like one that is known to be good.

        Firmware and keys are those of ``platform``, whose Secure Boot state is taken too; programs, command lines and
        MOK lists come from the manifest. Raises :class:`~measlog.errors.ManifestError` where the manifest decides none, or the platform did not quote PCR
        0 and 7, and :class:`~measlog.errors.UnsupportedError` for a boot chain that is not predicted.
        """
        from measlog.interop.keylime.makestate import from_manifest  # noqa: PLC0415 - reading needs no prediction

        return cls(**from_manifest(manifest, platform))

    def to_json(self) -> bytes:
        """The document that Keylime reads, in canonical JSON."""
        return canonical_json(self.to_document()) + b"\n"

    def to_document(self) -> dict[str, Any]:
        """The same as objects and lists."""
        lists = {name: [_say_key(k) for k in getattr(self, name)] for name in ("pk", "kek", "db", "dbx", "vendor_db")}
        return {
            "has_secureboot": self.secure_boot,
            "scrtm_and_bios": [
                {"scrtm": _say(one.scrtm), "platform_firmware": [_say(blob) for blob in one.blobs]}
                for one in self.firmware
            ],
            **lists,
            "mokdig": [_say(one) for one in self.mok_list],
            "mokxdig": [_say(one) for one in self.mok_list_x],
            "kernels": [_say_kernel(kernel) for kernel in self.kernels],
        }

    def policy(self) -> Policy:
        """A policy that demands what Keylime's example policy demands, by digests and authenticated data alone.

        What a state does not decide is left open by it too: GRUB's commands other than the kernel's command line, files
        other than kernel and initrd, PCR 1, 2, 3, 5 and 6. A policy over manifests decides the first two.
        """
        from measlog.interop.keylime.staterule import MatchesState  # noqa: PLC0415 - reading needs no appraisal

        rules = (SoundLog(), MeasuredBank(), ConsistentBanks(), HashedData(), MatchesState(self))
        return Policy(name="Keylime reference state", rule=AllOf(rules), required=frozenset({0, 4, 7, 14}))


def _wrong(path: str, expected: str) -> FormatError:
    return FormatError(f"expected {expected}", path=path or None, clause=_CLAUSE)


def _object(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(path, "an object")
    return value


def _member(document: Mapping[str, Any], name: str) -> Any:
    if name not in document:
        raise FormatError("it is missing", path=name, clause=_CLAUSE)
    return document[name]


def _each(value: object, path: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > _MOST:
        raise _wrong(path, f"a list of at most {_MOST}")
    found = []
    for index, item in enumerate(value):
        try:
            found.append(read(item))
        except FormatError as error:
            raise error.inside(f"{path}[{index}]") from None
    return tuple(found)


def _bytes(value: object, path: str, size: int | None = None) -> bytes:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise _wrong(path, "0x and lower-case hexadecimal digits, two a byte")
    data = bytes.fromhex(value[2:])
    if size is not None and len(data) != size:
        raise _wrong(path, f"{size} bytes, not {len(data)}")
    return data


def _digests(value: object) -> Digests:
    found = {}
    for name, said in _object(value, "").items():
        if name not in ALGORITHMS_BY_NAME:
            raise FormatError(f"the algorithm {name[:30]!r} is unknown", clause=_CLAUSE)
        found[name] = _bytes(said, name, ALGORITHMS_BY_NAME[name].size)
    if not found:
        raise _wrong("", "a digest of at least one algorithm")
    return found


def _firmware(value: object) -> StateFirmware:
    document = _object(value, "")
    try:
        scrtm = _digests(_member(document, "scrtm"))
    except FormatError as error:
        raise (error if error.path == "scrtm" else error.inside("scrtm")) from None
    return StateFirmware(
        scrtm=scrtm, blobs=_each(_member(document, "platform_firmware"), "platform_firmware", _digests)
    )


def _key(value: object) -> StateKey:
    document = _object(value, "")
    owner = _member(document, "SignatureOwner")
    try:
        found = UUID(owner)
    except (ValueError, TypeError, AttributeError):
        raise _wrong("SignatureOwner", "a GUID") from None
    return StateKey(owner=found, data=_bytes(_member(document, "SignatureData"), "SignatureData"))


def _kernel(value: object) -> StateKernel:
    document = _object(value, "")
    pattern = _member(document, "kernel_cmdline")
    if not isinstance(pattern, str):
        raise _wrong("kernel_cmdline", "a regular expression")

    def digest(name: str) -> bytes | None:
        return _bytes(document[name], name, _SHA256) if name in document else None

    return StateKernel(
        shim=_bytes(_member(document, "shim_authcode_sha256"), "shim_authcode_sha256", _SHA256),
        grub=_bytes(_member(document, "grub_authcode_sha256"), "grub_authcode_sha256", _SHA256),
        kernel=digest("kernel_authcode_sha256"),
        vmlinuz=digest("vmlinuz_plain_sha256"),
        initrd=digest("initrd_plain_sha256"),
        command_line=pattern,
    )


def _say(digests: Digests) -> dict[str, str]:
    return {name: f"0x{value.hex()}" for name, value in digests.items()}


def _say_key(key: StateKey) -> dict[str, str]:
    return {"SignatureOwner": str(key.owner), "SignatureData": f"0x{key.data.hex()}"}


def _say_kernel(kernel: StateKernel) -> dict[str, str]:
    digests = {
        "shim_authcode_sha256": kernel.shim,
        "grub_authcode_sha256": kernel.grub,
        "kernel_authcode_sha256": kernel.kernel,
        "vmlinuz_plain_sha256": kernel.vmlinuz,
        "initrd_plain_sha256": kernel.initrd,
    }
    said = {name: f"0x{value.hex()}" for name, value in digests.items() if value is not None}
    return {**said, "kernel_cmdline": kernel.command_line}


def unique(items: Iterable[T]) -> tuple[T, ...]:
    """The items without repetitions, which need not be hashable, in order."""
    found: list[T] = []
    for item in items:
        if item not in found:
            found.append(item)
    return tuple(found)
