"""The module area of a GRUB image: modules, memdisk, embedded configuration and prefix.

GRUB's ``include/grub/kernel.h``, as grub-mkimage writes it into the ``mods`` section of an EFI image. The names of the
modules are in section ``.modname`` of each, an ELF relocatable (System V ABI, chapters 4 and 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Self

import construct as c
from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of, optional

from measlog.errors import FormatError, LimitExceededError, TruncatedError
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["GrubModuleArea", "grub_module_header", "grub_module_info64"]

CLAUSE = "grub/kernel.h"
MAGIC = 0x676D696D

grub_module_info64 = c.Struct("magic" / c.Int32ul, "padding" / c.Int32ul, "offset" / c.Int64ul, "size" / c.Int64ul)
grub_module_header = c.Struct("type" / c.Int32ul, "size" / c.Int32ul)

OBJ_TYPE_ELF, OBJ_TYPE_MEMDISK, OBJ_TYPE_CONFIG, OBJ_TYPE_PREFIX = 0, 1, 2, 3

_VERSION = re.compile(rb"\0(2\.[0-9]{2}(?:[-~+][-~+.:0-9A-Za-z]{0,60})?)\0")
_ELF_IDENT = b"\x7fELF"
Elf64_Ehdr = c.Struct(
    "e_ident" / c.Bytes(16),
    "rest" / c.Bytes(24),
    "e_shoff" / c.Int64ul,
    "e_flags" / c.Int32ul,
    "sizes" / c.Int16ul[3],
    "e_shentsize" / c.Int16ul,
    "e_shnum" / c.Int16ul,
    "e_shstrndx" / c.Int16ul,
)
Elf64_Shdr = c.Struct(
    "sh_name" / c.Int32ul,
    "sh_type" / c.Int32ul,
    "sh_flags" / c.Int64ul,
    "sh_addr" / c.Int64ul,
    "sh_offset" / c.Int64ul,
    "sh_size" / c.Int64ul,
    "sh_link" / c.Int32ul,
    "sh_info" / c.Int32ul,
    "sh_addralign" / c.Int64ul,
    "sh_entsize" / c.Int64ul,
)


@frozen(kw_only=True)
class GrubModuleArea:
    """What grub-mkimage put into an image. ``modules`` are names in their order; absent parts are None.

    ``version`` is the PACKAGE_VERSION that module ``normal`` shows in its menu (``2.06-13+deb12u2``).
    ``kinds`` are the OBJ_TYPE numbers of all objects in their order, those without a meaning here included.
    """

    modules: tuple[str, ...] = field(validator=deep_iterable(instance_of(str)))
    memdisk: bytes | None = field(validator=optional(instance_of(bytes)), repr=False)
    config: bytes | None = field(validator=optional(instance_of(bytes)), repr=False)
    prefix: bytes | None = field(validator=optional(instance_of(bytes)))
    version: str | None = field(validator=optional(instance_of(str)))
    kinds: tuple[int, ...] = field(validator=deep_iterable(instance_of(int)))

    @classmethod
    def from_bytes(cls, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Read the contents of the ``mods`` section; FormatError where they are no module area of a 64-bit image."""
        if len(data) < grub_module_info64.sizeof():
            raise TruncatedError("too short for a module area", offset=0, path="mods", clause=CLAUSE)
        info = grub_module_info64.parse(data[: grub_module_info64.sizeof()])
        if info.magic != MAGIC:
            raise FormatError(f"magic 0x{info.magic:08x}, expected 0x{MAGIC:08x}", offset=0, path="mods", clause=CLAUSE)
        if not info.offset <= info.size <= len(data):
            raise FormatError(
                f"offset {info.offset} and size {info.size} in an area of {len(data)} bytes",
                offset=8,
                path="mods",
                clause=CLAUSE,
            )
        modules: list[str] = []
        kinds: list[int] = []
        version = None
        single: dict[int, bytes] = {}
        for kind, place, body in _objects(data, info.offset, info.size, limits):
            kinds.append(kind)
            if kind == OBJ_TYPE_ELF:
                modules.append(_module_name(body, place))
                if modules[-1] == "normal" and (found := _VERSION.search(body)):
                    version = found[1].decode()
            elif kind in {OBJ_TYPE_MEMDISK, OBJ_TYPE_CONFIG, OBJ_TYPE_PREFIX}:
                if kind in single:
                    raise FormatError(f"a second object of type {kind}", offset=place, path="mods", clause=CLAUSE)
                single[kind] = body
        text = {kind: single[kind].partition(b"\0")[0] for kind in (OBJ_TYPE_CONFIG, OBJ_TYPE_PREFIX) if kind in single}
        return cls(
            modules=tuple(modules),
            memdisk=single.get(OBJ_TYPE_MEMDISK),
            config=text.get(OBJ_TYPE_CONFIG),
            prefix=text.get(OBJ_TYPE_PREFIX),
            version=version,
            kinds=tuple(kinds),
        )


def _objects(data: bytes, start: int, end: int, limits: Limits) -> Iterator[tuple[int, int, bytes]]:
    place, count = start, 0
    while place < end:
        path = f"mods[{count}]"
        if end - place < grub_module_header.sizeof():
            raise TruncatedError("the last object has no whole header", offset=place, path=path, clause=CLAUSE)
        header = grub_module_header.parse(data[place : place + grub_module_header.sizeof()])
        if not grub_module_header.sizeof() <= header.size <= end - place:
            raise FormatError(
                f"size {header.size} where {end - place} bytes are left", offset=place, path=path, clause=CLAUSE
            )
        count += 1
        if count > limits.items:
            raise LimitExceededError(f"more than {limits.items} objects", offset=place, path="mods", clause=CLAUSE)
        yield header.type, place, data[place + grub_module_header.sizeof() : place + header.size]
        place += header.size


def _module_name(body: bytes, place: int) -> str:
    def refuse(what: str) -> FormatError:
        return FormatError(f"a module that is {what}", offset=place, path="mods", clause="System V ABI, chapter 4")

    if len(body) < Elf64_Ehdr.sizeof() or body[:4] != _ELF_IDENT:
        raise refuse("no ELF file")
    if body[4:6] != b"\x02\x01":
        return "?"
    header: Any = Elf64_Ehdr.parse(body[: Elf64_Ehdr.sizeof()])
    step = Elf64_Shdr.sizeof()
    if header.e_shentsize != step or header.e_shoff + header.e_shnum * step > len(body):
        raise refuse("without its section headers")
    if header.e_shstrndx >= header.e_shnum or header.e_shnum > 256:
        raise refuse("without section names")

    def section(index: int) -> Any:
        at = header.e_shoff + index * step
        return Elf64_Shdr.parse(body[at : at + step])

    strings = section(header.e_shstrndx)
    for index in range(header.e_shnum):
        one = section(index)
        at = strings.sh_offset + one.sh_name
        if body[at : at + 9] == b".modname\0":
            raw = body[one.sh_offset : one.sh_offset + min(one.sh_size, 64)]
            return raw.partition(b"\0")[0].decode("ascii", "backslashreplace")
    return "?"
