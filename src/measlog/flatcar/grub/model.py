"""The machine that GRUB finds, and what a run of its configuration gives."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from uuid import UUID

from attrs import field, frozen
from attrs.validators import and_, deep_iterable, ge, in_, instance_of, le, optional

from measlog.errors import UnsupportedError
from measlog.flatcar.grub.builds import FLATCAR_2_12, GrubBuild
from measlog.registry import ALGORITHMS_BY_NAME, hash_constructor

__all__ = [
    "DEFAULT_GRUB_LIMITS",
    "Disk",
    "GrubBoot",
    "GrubEvent",
    "GrubFile",
    "GrubLimits",
    "Machine",
    "Outcome",
    "Partition",
    "replay",
]


def _at_least_one(default: int) -> int:
    value: int = field(default=default, validator=and_(instance_of(int), ge(1)))
    return value


def _digests(value: Mapping[str, bytes]) -> Mapping[str, bytes]:
    return MappingProxyType(dict(value))


def _files(value: Mapping[str, GrubFile]) -> Mapping[str, GrubFile]:
    return MappingProxyType(dict(value))


def _values(value: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    return MappingProxyType(dict(value))


def _attributes(value: Mapping[tuple[bytes, int], int]) -> Mapping[tuple[bytes, int], int]:
    return MappingProxyType(dict(value))


def _names(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


def _folders(value: Iterable[str]) -> frozenset[str]:
    return frozenset(value)


def _partitions(value: Iterable[Partition]) -> tuple[Partition, ...]:
    return tuple(value)


def _disks(value: Iterable[Disk]) -> tuple[Disk, ...]:
    return tuple(value)


@frozen(kw_only=True)
class GrubLimits:
    """Bounds on a run; a configuration that needs more raises :class:`measlog.errors.LimitExceededError`.

    ``steps`` counts statements executed (a loop counts each turn), ``text`` the bytes that expansion has made in all,
    ``word`` those of one word or variable, ``scan`` the bytes that the lexer has looked at, ``nesting`` the blocks and
    conditions within each other in the source. Sizes are in bytes.
    """

    config_size: int = _at_least_one(1 << 20)
    steps: int = _at_least_one(50_000)
    events: int = _at_least_one(20_000)
    text: int = _at_least_one(16 << 20)
    word: int = _at_least_one(1 << 18)
    scan: int = _at_least_one(32 << 20)
    variables: int = _at_least_one(4096)
    nesting: int = _at_least_one(40)
    entries: int = _at_least_one(1024)


DEFAULT_GRUB_LIMITS = GrubLimits()


@frozen(kw_only=True)
class GrubFile:
    """A file that GRUB can open.

    ``content`` is None where only ``digests`` (of the whole file, by algorithm) are known: such a file can be measured
    but not sourced. ``kernel`` says whether ``linux`` accepts it; None looks at the content, and takes a file without
    content for a kernel. ``authenticode`` is what shim measures of it, ``signed`` whether shim accepts it,
    ``command_line_size`` the kernel's ``cmdline_size`` in bytes. ``modified`` is in seconds, None where unknown.
    ``needs`` names the modules that a ``.mod`` file depends on.
    """

    content: bytes | None = field(default=None, validator=optional(instance_of(bytes)))
    digests: Mapping[str, bytes] = field(factory=dict, converter=_digests)
    size: int | None = field(default=None, validator=optional(and_(instance_of(int), ge(0))))
    kernel: bool | None = field(default=None, validator=optional(instance_of(bool)))
    authenticode: Mapping[str, bytes] = field(factory=dict, converter=_digests)
    signed: bool = field(default=True, validator=instance_of(bool))
    command_line_size: int = field(default=2047, validator=and_(instance_of(int), ge(1)))
    modified: int | None = field(default=None, validator=optional(instance_of(int)))
    needs: tuple[str, ...] = field(default=(), converter=_names)

    @property
    def length(self) -> int | None:
        """The size in bytes, where it is known."""
        return self.size if self.content is None else len(self.content)

    @property
    def bootable(self) -> bool:
        """Whether ``linux`` takes it: the boot flag of the Linux boot protocol at offset 510."""
        if self.kernel is not None:
            return self.kernel
        return self.content is None or self.content[510:512] == b"\x55\xaa"


@frozen(kw_only=True)
class Partition:
    """A partition as GRUB sees it: ``number`` from 1, GPT attributes as a 64-bit number, filesystem and its files.

    ``files`` maps paths without a leading slash. ``directories`` names folders that hold no file; the others follow
    from the files. ``case_sensitive`` is False for FAT. ``filesystem`` is None where GRUB can read none.
    """

    number: int = field(validator=and_(instance_of(int), ge(1)))
    label: bytes = field(default=b"", validator=instance_of(bytes))
    type_guid: UUID = field(default=UUID(int=0), validator=instance_of(UUID))
    guid: UUID = field(default=UUID(int=0), validator=instance_of(UUID))
    attributes: int = field(default=0, validator=and_(instance_of(int), ge(0), le((1 << 64) - 1)))
    filesystem: str | None = field(default=None, validator=optional(instance_of(str)))
    filesystem_uuid: bytes | None = field(default=None, validator=optional(instance_of(bytes)))
    filesystem_label: bytes | None = field(default=None, validator=optional(instance_of(bytes)))
    files: Mapping[str, GrubFile] = field(factory=dict, converter=_files)
    directories: frozenset[str] = field(default=frozenset(), converter=_folders)

    @property
    def case_sensitive(self) -> bool:
        """Whether names that differ in case alone are different files."""
        return self.filesystem != "fat"


@frozen(kw_only=True)
class Disk:
    """A disk by GRUB's name (``hd0``) with its GPT partitions."""

    name: bytes = field(default=b"hd0", validator=instance_of(bytes))
    partitions: tuple[Partition, ...] = field(
        converter=_partitions, validator=deep_iterable(member_validator=instance_of(Partition))
    )


@frozen(kw_only=True)
class Machine:
    """All that a configuration can see and that decides how it runs.

    ``load_config`` is what grub-mkimage embeds with ``--config``; it runs in the rescue parser and is not recorded.
    Without it, ``root`` is ``hd0,gpt1`` and ``prefix`` is ``(memdisk)``. ``variables`` are set before it runs.
    ``home`` is the folder that the firmware started GRUB from, as GRUB names it; a ``grub.cfg`` there is read first
    where the build does that. ``memdisk`` holds the files that were embedded beside ``grub.cfg``.
    """

    disks: tuple[Disk, ...] = field(converter=_disks, validator=deep_iterable(member_validator=instance_of(Disk)))
    cpu: str = field(default="x86_64", validator=in_(("x86_64", "i386", "arm64")))
    platform: str = field(default="efi", validator=in_(("efi", "pc", "xen")))
    secure_boot: bool = field(default=False, validator=instance_of(bool))
    build: GrubBuild = field(default=FLATCAR_2_12, validator=instance_of(GrubBuild))
    variables: Mapping[bytes, bytes] = field(factory=dict, converter=_values)
    load_config: bytes | None = field(default=None, validator=optional(instance_of(bytes)))
    home: bytes = field(default=b"(hd0,gpt1)/EFI/BOOT", validator=instance_of(bytes))
    memdisk: Mapping[str, GrubFile] = field(factory=dict, converter=_files)


@frozen(kw_only=True)
class GrubEvent:
    """One measurement. ``data`` is the event's data in the log; ``hashed`` the bytes that were hashed, where known.

    ``kind`` is ``command`` or ``cmdline`` (PCR 8; ``text`` is the text), ``file`` (PCR 9; ``text`` is the name),
    ``options`` (PCR 9; ``text`` is what the kernel was given as load options, hashed as UTF-16) or ``image`` (PCR 4;
    ``text`` is the name, which is in no event).
    """

    pcr: int
    kind: str
    text: bytes
    data: bytes
    hashed: bytes | None = None
    digests: Mapping[str, bytes] = field(factory=dict, converter=_digests)

    def digest(self, bank: str) -> bytes:
        """The digest in ``bank``; UnsupportedError where nothing that is known gives it."""
        if (known := self.digests.get(bank)) is not None:
            return known
        make = hash_constructor(bank)
        if self.hashed is None or make is None:
            raise UnsupportedError(f"the {bank} digest of {self.text!r} is not known")
        return make(self.hashed).digest()


class Outcome(enum.Enum):
    """How a run ended."""

    KERNEL = "kernel"
    """A kernel was started."""
    CHAINLOAD = "chainload"
    """Another EFI program was started."""
    MENU = "menu"
    """The menu waits for a person."""
    PROMPT = "prompt"
    """There was no menu: the command line waits for a person."""
    INPUT = "input"
    """``read`` or the like waits for a person."""
    EXIT = "exit"
    """GRUB was left for the firmware."""
    POWER = "power"
    """The machine was halted or reset."""


@frozen(kw_only=True)
class GrubBoot:
    """What happened: the measurements in order and how it ended.

    ``kernel`` is the name given to ``linux``, ``command_line`` the text measured for it, ``initrds`` the names given
    to ``initrd``. ``attributes`` holds GPT attributes that were written, by (disk, partition). ``runs`` counts menu
    entries run: 2 means that the first failed. ``assumptions`` names what GRUB would have done that the model does
    not know exactly.
    """

    events: tuple[GrubEvent, ...]
    outcome: Outcome
    kernel: bytes | None = None
    command_line: bytes | None = None
    initrds: tuple[bytes, ...] = ()
    attributes: Mapping[tuple[bytes, int], int] = field(factory=dict, converter=_attributes)
    runs: int = 0
    assumptions: tuple[str, ...] = ()

    def of(self, pcr: int) -> tuple[GrubEvent, ...]:
        """The events of one register, in order."""
        return tuple(event for event in self.events if event.pcr == pcr)

    def registers(self, bank: str) -> dict[int, bytes]:
        """Registers 8 and 9 in ``bank`` as this run leaves them, from zero."""
        return {pcr: replay((event.digest(bank) for event in self.of(pcr)), bank) for pcr in (8, 9)}


def replay(digests: Iterable[bytes], bank: str) -> bytes:
    """A register that starts at zero, extended with each digest in order.

    Raises UnsupportedError for a bank that this Python cannot hash.
    """
    make = hash_constructor(bank)
    if make is None:
        raise UnsupportedError(f"this Python cannot compute {bank}")
    value = bytes(ALGORITHMS_BY_NAME[bank].size)
    for digest in digests:
        value = make(value + digest).digest()
    return value
