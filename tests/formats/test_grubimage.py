"""Module areas of GRUB images, put together by hand after grub/kernel.h, and modules as ELF relocatables."""

from __future__ import annotations

import struct

import pytest

from measlog.errors import FormatError, LimitExceededError
from measlog.formats.grubimage import GrubModuleArea
from measlog.limits import Limits
from tests.flatcar.images import module_area

ELF, MEMDISK, CONFIG, PREFIX, DTB = 0, 1, 2, 3, 5


def elf(
    name: bytes = b"normal", *, text: bytes = b"", strings: int = 2, section: bytes = b".modname", **lies: int
) -> bytes:
    """A 64-bit relocatable with three sections: none, ``section`` with the module's name, the section names."""
    names = b"\0" + section + b"\0.shstrtab\0"
    content = name + b"\0" + text
    at = 64 + len(content) + len(names)
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", sh_name, 1, 0, 0, offset, size, 0, 0, 1, 0)
        for sh_name, offset, size in (
            (0, 0, 0),
            (1, 64, len(content)),
            (2 + len(section), 64 + len(content), len(names)),
        )
    )
    fields = {"shoff": at, "shentsize": 64, "shnum": 3} | lies
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 62, 1, 0, 0, fields["shoff"], 0, 64, 0, 0, fields["shentsize"], fields["shnum"], strings)  # fmt: skip
    return head + content + names + table


def test_what_grub_mkimage_puts_into_an_image_is_read() -> None:
    normal = elf(text=b"\0GNU GRUB  version %s\0002.06-13+deb12u2\0")
    objects = [
        (ELF, elf(b"test")),
        (ELF, normal),
        (MEMDISK, b"disk"),
        (DTB, b"?"),
        (CONFIG, b"a=1\0x"),
        (PREFIX, b"/p\0"),
    ]
    area = GrubModuleArea.from_bytes(module_area(objects))
    assert area.modules == ("test", "normal")
    assert area.version == "2.06-13+deb12u2"
    # What stands behind the text's end fills the object up; objects of other kinds are counted alone.
    assert (area.config, area.prefix, area.kinds) == (b"a=1", b"/p", (0, 0, 1, 5, 2, 3))
    assert area.memdisk == b"disk".ljust(8, b"\0")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (elf(b"x" * 80), "x" * 64),
        # A name that is not ASCII, a section of another name, no section at all, 32 bits: not known.
        (elf(b"\xff"), "\\xff"),
        (elf(section=b".modnam"), "?"),
        (elf(section=b".modname2"), "?"),
        (elf()[:4] + b"\1" + elf()[5:], "?"),
        (elf()[:5] + b"\2" + elf()[6:], "?"),
    ],
)
def test_names_of_modules(module: bytes, name: str) -> None:
    area = GrubModuleArea.from_bytes(module_area([(ELF, module)]))
    assert area.modules == (name,)
    # Only the module of that name shows GRUB's version.
    assert area.version is None


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([(ELF, b"no ELF at all" * 9)], "no ELF file"),
        ([(ELF, elf()[:56])], "no ELF file"),
        ([(ELF, elf(shentsize=40))], "without its section headers"),
        ([(ELF, elf(shoff=1 << 40))], "without its section headers"),
        ([(ELF, elf(shnum=0xFFFF))], "without its section headers"),
        ([(ELF, elf(strings=3))], "without section names"),
        ([(ELF, elf(shnum=257) + bytes(257 * 64))], "without section names"),
        ([(CONFIG, b"a\0"), (CONFIG, b"b\0")], "a second object of type 2"),
        ([(MEMDISK, b"a"), (MEMDISK, b"a")], "a second object of type 1"),
        ([(PREFIX, b"a\0"), (PREFIX, b"b\0")], "a second object of type 3"),
    ],
)
def test_an_area_that_lies_is_one_error_that_says_where(objects: list[tuple[int, bytes]], message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        GrubModuleArea.from_bytes(module_area(objects))
    assert caught.value.path == "mods"
    assert caught.value.offset == 24 + (len(objects) - 1) * 16


def test_the_number_of_objects_is_bounded() -> None:
    area = module_area([(DTB, b"")] * 5)
    assert len(GrubModuleArea.from_bytes(area, limits=Limits(items=5)).kinds) == 5
    with pytest.raises(LimitExceededError, match="more than 4 objects"):
        GrubModuleArea.from_bytes(area, limits=Limits(items=4))
