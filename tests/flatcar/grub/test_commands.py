"""Commands, options, devices and paths: what each does with what it is given, and the status that it leaves in ``$?``.

The tables of ``commands`` are run in a real GRUB too (``test_emulated``). What that GRUB does not have (``linux``,
``gptprio.next``) follows from GRUB's sources, which are named there.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import attrs
import pytest

from measlog.errors import LimitExceededError, UnsupportedError
from measlog.flatcar.grub import (
    FLATCAR_2_12,
    Disk,
    GrubBoot,
    GrubBuild,
    GrubFile,
    GrubLimits,
    Machine,
    Outcome,
    Partition,
    run,
)
from measlog.flatcar.grub.gpt import USR_TYPE
from tests.flatcar.grub.commands import DISK, EMU, ESP, MEMDISK, MEMDISK_STATUSES, MENUS, OEM, SCRIPTS, STATUSES


def boot(script: bytes, build: GrubBuild = EMU, *, limits: GrubLimits | None = None, **members: Any) -> GrubBoot:
    known: dict[str, Any] = {"disks": [DISK], "build": build}
    return run(script, Machine(**(known | members)), limits or GrubLimits())


def said(script: bytes, build: GrubBuild = EMU, **members: Any) -> list[str]:
    """What the script's ``echo @ ...`` say."""
    texts = [event.text for event in boot(script, build, **members).of(8)]
    return [text[7:].decode() for text in texts if text.startswith(b"echo @ ")]


@pytest.mark.parametrize(("command", "status"), STATUSES.items())
def test_the_status_of_a_command(command: str, status: str) -> None:
    assert said(f"{command}\necho @ $?\n".encode()) == [status]


@pytest.mark.parametrize(("command", "status"), MEMDISK_STATUSES.items())
def test_paths_in_the_memdisk(command: str, status: str) -> None:
    held = {path: GrubFile(content=content) for path, content in MEMDISK.items()}
    assert said(f"{command}\necho @ $?\n".encode(), memdisk=held) == [status]


@pytest.mark.parametrize(("script", "expected"), SCRIPTS.items())
def test_what_a_script_says(script: str, expected: list[str]) -> None:
    assert said(script.encode() + b"\n") == expected


@pytest.mark.parametrize(("script", "expected"), MENUS.items())
def test_what_a_menu_runs(script: str, expected: list[str]) -> None:
    assert said(b"timeout=0\n" + script.encode() + b"\n") == expected


def test_a_menu_that_nobody_may_leave_waits() -> None:
    entry = b"timeout=0\nmenuentry x %s{ linux /vmlinuz; }\n"
    locked = b"superusers=root\n" + entry
    # commands/menuentry.c: without --unrestricted or --users an entry is for superusers, where there are any.
    assert boot(entry % b"").outcome is Outcome.KERNEL
    assert boot(locked % b"--unrestricted ").outcome is Outcome.KERNEL
    assert boot(locked % b"").outcome is Outcome.MENU
    assert boot(locked % b"--users a ").outcome is Outcome.MENU
    # A fallback that names no entry leaves the menu (normal/menu.c).
    failing = b"timeout=0\nfallback=7\nmenuentry x { linux /none; }\n"
    assert boot(failing).outcome is Outcome.MENU


def test_configfile_shows_the_menu_that_it_made() -> None:
    made = boot(b"configfile /menu.cfg\n")
    assert (made.outcome, made.command_line) == (Outcome.KERNEL, b"/vmlinuz in")
    # ``source`` adds to the menu that is there.
    made = boot(b"timeout=0\nmenuentry outer { linux /vmlinuz out; }\nsource /menu.cfg\n")
    assert made.command_line == b"/vmlinuz out"


# loader/i386/linux.c, loader/efi/chainloader.c, commands/boot.c
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("linux", "18"), ("linux /none", "5"), ("initrd /word", "18"), ("chainloader", "18"), ("chainloader /none", "5"),
        ("boot", "22"), ("linux /word", "21"), ("linux /vmlinuz\ninitrd", "18"), ("linux /vmlinuz\ninitrd /none", "5"),
        ("linux /vmlinuz\ninitrd /word newc:/etc/x:/empty", "0"), ("chainloader --force /word", "0"),
        ("chainloader /word\ninitrd /word", "18"),
    ],
)  # fmt: skip
def test_loaders(command: str, status: str) -> None:
    build = attrs.evolve(EMU, modules=EMU.modules | {"chain"})
    assert said(f"{command}\necho @ $?\n".encode(), build) == [status]


def test_what_is_loaded_is_measured_and_started() -> None:
    build = attrs.evolve(EMU, modules=EMU.modules | {"chain"})
    made = boot(b"chainloader --force /word\nboot\n", build)
    assert made.outcome is Outcome.CHAINLOAD
    assert [(event.pcr, event.text) for event in made.events if event.pcr != 8] == [(9, b"/word"), (4, b"/word")]
    assert (made.kernel, made.command_line, made.initrds) == (None, None, ())
    made = boot(b"linux /vmlinuz a\ninitrd /word newc:/etc/x:/empty\nboot\n")
    assert made.initrds == (b"/word", b"newc:/etc/x:/empty")
    assert [event.text for event in made.of(9)] == [b"/vmlinuz", b"/word", b"/empty"]
    # An initrd that cannot be read leaves the one before in force.
    made = boot(b"linux /vmlinuz\ninitrd /word\ninitrd /empty /none\nboot\n")
    assert made.initrds == (b"/word",)


def slots(*attributes: int) -> Disk:
    """USR partitions from number 3 on."""
    return Disk(
        partitions=[
            ESP,
            *(
                Partition(number=number, type_guid=USR_TYPE, guid=UUID(int=number), attributes=bits << 48)
                for number, bits in enumerate(attributes, 3)
            ),
        ]
    )


# commands/gptprio.c of Flatcar's GRUB: priority in bits 0 to 3, tries in 4 to 7, successful in bit 8.
@pytest.mark.parametrize(
    ("command", "disk", "expected"),
    [
        ("gptprio.next", slots(0x101), "17 -"),
        ("gptprio.next -d p", slots(0x101), "17 -"),
        ("gptprio.next -u u", slots(0x101), "17 -"),
        ("gptprio.next -d p -u u", slots(0x101), "0 hd0,gpt3"),
        ("gptprio.next -d p -u u hd0 hd1", slots(0x101), "18 -"),
        ("gptprio.next -d p -u u hd0", slots(0x101), "0 hd0,gpt3"),
        ("gptprio.next -d p -u u hd0,gpt1", slots(0x101), "0 hd0,gpt3"),
        ("gptprio.next -d p -u u hd9", slots(0x101), "32 -"),
        ("gptprio.next -d p -u u memdisk", slots(0x101), "19 -"),
        ("gptprio.next -d p -u u", slots(0x101, 0x102), "0 hd0,gpt4"),
        ("gptprio.next -d p -u u", slots(0x101, 0x012), "0 hd0,gpt4"),
        ("gptprio.next -d p -u u", slots(0x101, 0x002), "0 hd0,gpt3"),
        ("gptprio.next -d p -u u", slots(0x101, 0x101), "0 hd0,gpt3"),
        ("gptprio.next -d p -u u", slots(0x100, 0x0F0), "12 -"),
        ("gptprio.next -d p -u u", slots(), "12 -"),
        ("gptprio.next -x", slots(0x101), "18 -"),
    ],
)
def test_the_slot_of_the_highest_priority_that_may_be_tried(command: str, disk: Disk, expected: str) -> None:
    script = f"p=-\n{command}\necho @ $? $p\n".encode()
    assert said(script, FLATCAR_2_12, disks=[disk]) == [expected]


def test_a_try_is_counted_down_on_the_disk() -> None:
    turns = b"gptprio.next -d p -u u\necho @ $p $u\n" * 3
    made = boot(turns, FLATCAR_2_12, disks=[slots(0x101, 0x022)])
    last = [event.text for event in made.of(8)][-1]
    assert last == b"echo @ hd0,gpt3 " + str(UUID(int=3)).encode()
    assert dict(made.attributes) == {(b"hd0", 4): 0x002 << 48}


def test_search_by_partition() -> None:
    build = attrs.evolve(FLATCAR_2_12, modules=FLATCAR_2_12.modules | {"search_part_uuid"})
    # commands/search.c of Flatcar's GRUB: labels as they are, GUIDs in any case.
    script = (
        b"search --part-label --set=a OEM\nsearch --part-uuid --set=b 22222222-2222-4222-8222-2222222222CD\n"
        b"search.part_label OEM c\nsearch.part_uuid 22222222-2222-4222-8222-2222222222cd d\n"
        b"search --part-label --set=e oem\necho @ $? $a $b $c $d $e\n"
    )
    assert said(script, build) == ["5 hd0,gpt3 hd0,gpt3 hd0,gpt3 hd0,gpt3"]


def test_a_search_tries_first_what_it_found_before() -> None:
    # search_wrap.c keeps the place by kind and key; with a variable the first hit ends the search.
    again = Partition(number=9, filesystem="ext2", filesystem_label=b"OEM", guid=UUID(int=9))
    disks = [Disk(partitions=[OEM]), Disk(name=b"hd1", partitions=[again])]
    assert said(b"search --label --set=a --hint=hd1, OEM\nsearch --label --set=b OEM\necho @ $a $b\n", disks=disks) == [
        "hd1,gpt9 hd1,gpt9"
    ]
    # Without a variable every place is tried, and a file that is found is opened in each.
    made = boot(b"search --file /word\n", disks=[DISK, Disk(name=b"hd1", partitions=[ESP])])
    assert [event.text for event in made.of(9)] == [b"(hd0,gpt1)/word", b"(hd1,gpt1)/word"]
    # The place found before is tried first, and found again with all others (grub-emu prints it twice).
    made = boot(b"search --file /word\nsearch --file /word\n")
    assert [event.text for event in made.of(9)] == [b"(hd0,gpt1)/word"] * 3


@pytest.mark.parametrize(("platform", "expected"), [("efi", "hd2,gpt1"), ("pc", "hd1,gpt1"), ("xen", "hd0,gpt1")])
def test_hints_are_those_of_the_platform(platform: str, expected: str) -> None:
    disks = [Disk(name=b"hd%d" % number, partitions=[ESP]) for number in range(3)]
    script = b"search --label --set=a --hint-bios=hd1,gpt1 --hint-efi=hd2,gpt1 ESP\necho @ $a\n"
    assert said(script, disks=disks, platform=platform) == [expected]


def test_modules_are_read_from_where_they_are_named() -> None:
    folder = "g/x86_64-efi/"
    held = {
        **ESP.files,
        folder + "true.mod": GrubFile(digests={"sha256": bytes(32)}, needs=["one", "echo"]),
        folder + "one.mod": GrubFile(content=b"\x7fELF"),
        "my.mod": GrubFile(content=b"\x7fELF"),
    }
    disk = Disk(partitions=[attrs.evolve(ESP, files=held)])
    build = attrs.evolve(EMU, modules=EMU.modules - {"true"})
    script = b"set prefix=/g\ninsmod\necho @ $?\ninsmod true\ninsmod true\ninsmod (hd0,gpt1)/my.mod\ninsmod 'no name'\necho @ $?\n"
    made = boot(script, build, disks=[disk])
    # What a module needs is read behind it (kern/dl.c); what is there is not read again, and what is no name not at all.
    assert [event.text for event in made.of(9)] == [
        b"/g/x86_64-efi/true.mod", b"/g/x86_64-efi/one.mod", b"(hd0,gpt1)/my.mod",
    ]  # fmt: skip
    assert said(script, build, disks=[disk]) == ["18", "0"]
    # What is not known of a module is said, once.
    assert sorted(made.assumptions) == sorted(set(made.assumptions))
    assert [note for note in made.assumptions if "true" in note] == []
    assert [note for note in made.assumptions if "module my" in note]


def test_a_command_of_a_module_that_the_model_does_not_know_is_assumed_to_do_nothing() -> None:
    build = attrs.evolve(EMU, modules=EMU.modules | {"hashsum"})
    made = boot(b"md5sum /word\nmd5sum /word\n", build)
    assert [note for note in made.assumptions if "md5sum" in note] == [
        "md5sum changes nothing that the configuration can see"
    ]


@pytest.mark.parametrize(
    ("script", "build", "message"),
    [
        (b"source /digest\n", EMU, "the content of b'/digest'"),
        (b"load_env -f /digest\n", EMU, "the content of b'/digest'"),
        (b"cat (hd0)0+1\n", EMU, "sectors of a disk"),
        (b"cat (memdisk)+1\n", EMU, "sectors of a disk"),
        (b"extract_entries_source /a.cfg\n", EMU, "extract_entries_source is not modelled"),
        (b"echo /*\n", attrs.evolve(EMU, modules=EMU.modules | {"regexp"}), "expands the pattern"),
        (b'echo $"$#"\n', EMU, "null pointer"),
    ],
)
def test_what_is_not_known_is_an_error_rather_than_a_guess(script: bytes, build: GrubBuild, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        boot(script, build)


def test_hexadecimal_escapes_that_a_build_keeps() -> None:
    script = b'a=\\x41\necho @ $"\\x41\\x4" "\\x41" \\x41 $a\n'
    assert said(script) == ["\\x41\\x4 \\x41 x41 x41"]
    # The patch that Red Hat's and Flatcar's GRUB have lets them pass unchanged.
    assert said(script, FLATCAR_2_12) == ["\\x41\\x4 \\x41 \\x41 \\x41"]


def test_the_kernel_s_own_ls_stops_at_an_error_that_nobody_has_printed() -> None:
    # kern/corecmd.c; grub-emu has the module of that name instead, which does not.
    assert said(b"! ; ls /; echo @ $?\n") == ["18"]


def test_patterns_that_are_quoted_or_absent_expand_to_themselves() -> None:
    build = attrs.evolve(EMU, modules=EMU.modules | {"regexp"})
    # grub-emu has regexp: ``$b`` keeps its backslash, so that nothing is left to expand.
    assert said(b"b='\\*'\necho @ $b \"$b\" \\* \"\\*\" '*' plain\n", build) == ["\\* \\* * \\* * plain"]


def test_a_script_that_is_too_long_is_refused_where_it_is_sourced() -> None:
    long = Disk(partitions=[attrs.evolve(ESP, files={"long": GrubFile(content=b"\n" * 2000)})])
    with pytest.raises(LimitExceededError, match="a script of 2000 bytes, the most is 1000"):
        boot(b"source /long\n", limits=GrubLimits(config_size=1000), disks=[long])


def test_files_by_age() -> None:
    held = {
        "old": GrubFile(content=b"", modified=100),
        "new": GrubFile(content=b"", modified=200),
        "unknown": GrubFile(content=b""),
    }
    disks = [Disk(partitions=[attrs.evolve(ESP, files=held)])]

    def status(expression: str) -> list[str]:
        return said(f"[ {expression} ]\necho @ $?\n".encode(), disks=disks)

    # commands/test.c: ``-nt`` and ``-ot``, with a bias in seconds for the first.
    assert status("/new -nt /old") == status("/old -ot /new") == ["0"]
    assert status("/old -nt /new") == status("/new -ot /old") == ["1"]
    assert status("/old -nt101 /new") == status("/new -ot-101 /old") == ["0"]
    assert status("/old -nt100 /new") == ["1"]
    made = boot(b"[ /unknown -nt /old ]\n", disks=disks)
    assert made.assumptions == ("b'/unknown' and b'/old' are equally old",)


def test_a_file_known_by_its_digest_alone_is_assumed_not_to_be_empty() -> None:
    made = boot(b"[ -s /digest ]\necho @ $?\n")
    assert [event.text for event in made.of(8)][-1] == b"echo @ 0"
    assert made.assumptions == ("b'/digest' is not empty",)


def test_the_embedded_configuration() -> None:
    """kern/rescue_parser.c: variables, quotes and escapes, no keywords; what it runs is not recorded."""
    config = b"""
# a comment
a=1
b='x $a'
c="x $a ${a} \\"$a
d=x\\ $a
set e=$a$none
none of these
"quoted"=no value
search --label OEM --set=f
"""
    build = attrs.evolve(EMU, modules=EMU.modules | {"boot"})
    script = b'export g\necho @ "$a|$b|$c|$d|$e|$f|$g"\n'
    made = boot(script, build, load_config=config, variables={b"g": b"given"})
    assert [event.text for event in made.of(8)] == [b"export g", b"echo @ 1|x $a|x 1 1 \\1|x 1|1|hd0,gpt3|given"]


def test_a_machine_without_a_configuration_is_at_the_prompt() -> None:
    assert run(None, Machine(disks=[DISK], build=EMU)).outcome is Outcome.PROMPT
    with pytest.raises(LimitExceededError, match="a configuration of 20 bytes"):
        boot(b"\n" * 20, limits=GrubLimits(config_size=10))


def test_prefix_and_root_become_empty_rather_than_unset() -> None:
    # kern/env.c: a variable with a write hook is set to nothing. ``root`` loses its parentheses (kern/main.c).
    assert said(b'set root=(hd0,gpt1)\necho @ $root\nunset root\necho @ "<$root>"\nunset nothing\n') == [
        "hd0,gpt1",
        "<>",
    ]


@pytest.mark.parametrize("bank", ["sha256", "sha1", "sm3-256", "unheard-of"])
def test_a_digest_that_nothing_gives_is_an_error(bank: str) -> None:
    made = boot(b"cat /digest\n")
    command, file = made.events
    if bank == "sha256":
        assert file.digest(bank) == bytes(32)
        return
    with pytest.raises(UnsupportedError, match=f"the {bank} digest of b'/digest' is not known"):
        file.digest(bank)
    if bank == "unheard-of":
        with pytest.raises(UnsupportedError, match="is not known"):
            command.digest(bank)
        with pytest.raises(UnsupportedError, match="this Python cannot compute unheard-of"):
            made.registers(bank)
