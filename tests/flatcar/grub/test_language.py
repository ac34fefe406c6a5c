"""The language, rule by rule. What each line must measure follows from GRUB's sources and from logs of real boots."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import LimitExceededError, UnsupportedError
from measlog.flatcar.grub import (
    DEBIAN_2_06,
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
from tests.flatcar.grub.scripts import LIBRARY, Writer, scripts

KERNEL = GrubFile(digests={"sha256": b"\x01" * 32}, authenticode={"sha256": b"\x02" * 32}, kernel=True)


def machine(
    build: GrubBuild = FLATCAR_2_12, files: Mapping[str, bytes] | None = None, *, secure_boot: bool = False
) -> Machine:
    held = {name: GrubFile(content=text) for name, text in (files or {}).items()}
    held["vmlinuz"] = KERNEL
    esp = Partition(number=1, label=b"EFI-SYSTEM", filesystem="fat", filesystem_label=b"ESP", files=held)
    return Machine(disks=[Disk(partitions=[esp])], build=build, secure_boot=secure_boot)


def boot(script: bytes, given: Machine | None = None, limits: GrubLimits | None = None) -> GrubBoot:
    return run(script, given or machine(), limits or GrubLimits())


def texts(script: bytes, given: Machine | None = None) -> list[bytes]:
    return [event.text for event in boot(script, given).of(8)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        # Quoting (yylex.l)
        (b"echo a'b c'\"d e\"f\n", [b"echo ab cd ef"]),
        (b"echo \"\\a\\$\\\"\\\\\" '\\a'\n", [b'echo \\a$"\\ \\a']),
        (b"echo \\a\\ \\b\n", [b"echo a b"]),
        (b'echo "a\\\nb"\n', [b"echo ab"]),
        (b"echo a\\\nb\n", [b"echo ab"]),
        (b"echo a \\\n b\n", [b"echo a b"]),
        (b"echo 'a\nb'\n", [b"echo a\nb"]),
        (b"echo a#b #c\n", [b"echo a#b"]),
        (b"echo 'it' # it's\necho b\n", [b"echo it", b"echo b"]),
        (b"'echo' a\n", [b"echo a"]),
        (b'"" a\n', [b" a"]),
        (b"echo \xff\xc3\xa9\n", [b"echo \xff\xc3\xa9"]),
        (b"echo a\0b\necho c\n", [b"echo a", b"echo c"]),
        (b"echo a\r\necho b\n", [b"echo a", b"echo b"]),
        (b"#echo\n #x\necho '\n#gone\n'\n", [b"echo \n"]),
        # Expansion and splitting (execute.c, argv.c)
        (b"set a=' b  c '\necho x${a}y $a \"$a\"\n", [b"set a= b  c ", b"echo xb cy b c  b  c "]),
        (b'echo $none"" $none"$none"$none\n', [b"echo  "]),
        (b"$none\n", []),
        (b"set a=echo\n$a $a\n", [b"set a=echo", b"echo echo"]),
        (b"set a='\"x'\necho $a\n", [b'set a="x', b'echo "x']),
        (b"set a=b=c\necho $a\n", [b"set a=b=c", b"echo b=c"]),
        (b"a=1 b=2\necho $a$b\n", [b"a=1 b=2", b"echo 1"]),
        (b"1=x\necho $1\n", [b"1=x", b"echo"]),
        (b'echo $"a $b"\n', [b"echo a "]),
        (b'echo $# $* $@ "$#"\n', [b"echo "]),
        # Statements that do not parse are lost, with the lines that were read for them (parser.y)
        (b"echo a; { echo b; }\necho c\n", [b"echo c"]),
        (b"{ echo a\necho b\n}\necho c\n", [b"echo b", b"echo c"]),
        (b"echo a |\necho c\n", [b"echo c"]),
        (b'echo "100$"\necho c\n', [b"echo c"]),
        (b"if true; then\necho a\n", []),
        (b"menuentry x { }\necho c\n", [b"echo c"]),
        (b"for x in a b; do echo $x; done echo\necho c\n", [b"echo c"]),
        (b"echo a\n;echo b\n", [b"echo a"]),
        (b"function f { echo f; } echo\nf\n", [b"f", b"echo f"]),
        (b"echo if then fi do in done function\n", [b"echo if then fi do in done function"]),
        (b'"if" a\n', [b"if a"]),
        # Control flow (execute.c)
        (b"if [ a = b ]; then echo 1; elif [ a = a ]; then echo 2; else echo 3; fi\n", [b"[ a = b ]", b"[ a = a ]", b"echo 2"]),
        (b"for i in; do echo $i; done\necho c\n", [b"echo c"]),
        (b"for i in $none; do echo $i; done\n", []),
        (b"for i in a b; do for j in c d; do break 2; done; echo $i; done\n", [b"break 2"]),
        (b"for i in a b; do for j in c d; do continue 2; echo x; done; echo y; done\n", [b"continue 2", b"continue 2"]),
        (b"break\necho c\n", [b"break", b"echo c"]),
        (b"function f { for i in a b; do return 7; done; echo x; }\nf\necho $?\n", [b"f", b"return 7", b"echo 7"]),
        (b"function f { echo $1 $#; shift; echo $1 $#; }\nf a b\n", [b"f a b", b"echo a 2", b"shift", b"echo b 1"]),
        (b"function f { setparams x 'y z'; echo $# $2; }\nf a\n", [b"f a", b"setparams x y z", b"echo 2 y z"]),
        (b"return 1\necho $?\n", [b"return 1", b"echo 18"]),
        (b"nothing\necho $?\n[ a = b ]\necho $?\n", [b"nothing", b"echo 0", b"[ a = b ]", b"echo 1"]),
        (b"[ a = b ]\n! nothing\necho $?\n", [b"[ a = b ]", b"! nothing", b"echo 0"]),
        (b"! [ a = b ]\necho $?\n! [ a = a ]\necho $?\n", [b"! [ a = b ]", b"echo 0", b"! [ a = a ]", b"echo 1"]),
        # ``!`` alone leaves an error behind: the next command with options is refused (found by real GRUB).
        (b"! ; echo -n a; echo $?\n", [b"!", b"echo -n a", b"echo 18"]),
        (b"! \necho -n a; echo $?\n", [b"!", b"echo -n a", b"echo 0"]),
        # A name that is no disk is taken for a network protocol, where the build has one (shown by real GRUB).
        (b"ls (hd9)/\necho $?\nls (hd9,gpt1)/\necho $?\n", [b"ls (hd9)/", b"echo 32", b"ls (hd9,gpt1)/", b"echo 12"]),
        (b"set a; echo $?; unset; echo $?; export; echo $?\n", [b"set a", b"echo 18", b"unset", b"echo 18", b"export", b"echo 18"]),
    ],
)  # fmt: skip
def test_what_is_measured(script: bytes, expected: list[bytes]) -> None:
    assert texts(script) == expected


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (b"a", True), (b"''", False), (b"", True), (b"a = a", True), (b"a == b", False), (b"a != b", True),
        (b"a '<' b", True), (b"b '<=' a", False), (b"b '>' a", True), (b"a '>=' a", True),
        (b"2 -lt 10", True), (b"2 -eq 0x2", True), (b"8 -eq 010", True), (b"x -eq 0", True), (b"-1 -lt 0", True),
        (b"4294967297 -eq 1", True), (b"5 -ge 5", True), (b"5 -gt 5", False), (b"5 -le 4", False), (b"5 -ne 4", True),
        (b"v-2 -plt v-11", True), (b"v-2 -pgt v-11", False), (b"-n ''", False), (b"-z ''", True), (b"-z a", False),
        (b"! a", False), (b"! ! a", True), (b"a -a ''", False), (b"a -o ''", True), (b"'' -o '' -o a", True),
        (b"'' -a a -o a", True), (b"\\( a -a '' \\) -o a", True), (b"! \\( a -a '' \\)", True), (b"\\( a", True),
        (b"-f /word", True), (b"-e /dir", True), (b"-d /dir", True), (b"-f /dir", False), (b"-e /none", False),
        (b"-f /WORD", True), (b"-d /", True), (b"-s /word", True), (b"-s /empty", False), (b"-s /none", False),
        (b"-e (hd9)/word", False), (b"-f (hd0,1)/word", True), (b"-f (hd0,msdos1)/word", False),
        (b"a -a", True), (b"= = =", True), (b"-n", True), (b"-n = -n", True), (b"/word -nt /none", True),
        (b"/none -ot /word", True), (b"/none -nt /none", False),
    ],
)  # fmt: skip
def test_conditions(expression: bytes, value: bool) -> None:
    given = machine(files={"word": b"x", "empty": b"", "dir/f": b""})
    script = b"if [ " + expression + b" ]; then echo yes; else echo no; fi\n"
    assert texts(script, given)[-1] == (b"echo yes" if value else b"echo no")


def names(script: bytes, given: Machine) -> list[bytes]:
    return [event.text for event in boot(script, given).of(9)]


def test_what_opens_a_file_measures_it_and_what_looks_does_not() -> None:
    given = machine(files={"word": b"x", "a.cfg": b"echo in\nsource /b.cfg\n", "b.cfg": b"echo deeper $x\n"})
    assert names(b"[ -s /word ]\n[ -f /word ]\n[ -e /word ]\n[ -d /word ]\nls /\nls (hd0,gpt1)/word\n", given) == [
        b"/word"
    ]
    assert names(b"search --file --set x /word\nsearch --set y --label ESP\nsearch --file /none\n", given) == [
        b"(hd0,gpt1)/word"
    ]
    assert names(b"set x=1\nsource /a.cfg\n. /none\n", given) == [b"/a.cfg", b"/b.cfg"]
    assert texts(b"set x=1\nsource /a.cfg\n", given)[1:] == [
        b"source /a.cfg",
        b"echo in",
        b"source /b.cfg",
        b"echo deeper 1",
    ]
    assert names(b"linux /word\n", given) == [b"/word"]


def test_configfile_has_a_context_of_its_own() -> None:
    given = machine(files={"a.cfg": b"echo a=$a b=$b\nset b=inner\nset c=1\n"})
    assert texts(b"set a=1\nset b=2\nexport b\nconfigfile /a.cfg\necho $b $c\n", given) == [
        b"set a=1", b"set b=2", b"export b", b"configfile /a.cfg", b"echo a= b=2", b"set b=inner", b"set c=1", b"echo 2",
    ]  # fmt: skip


def test_files_of_the_memdisk_are_not_measured() -> None:
    given = attrs.evolve(machine(), memdisk={"other.cfg": GrubFile(content=b"echo other\n")})
    made = boot(b"source (memdisk)/other.cfg\n", given)
    assert [event.text for event in made.events] == [b"source (memdisk)/other.cfg", b"echo other"]


def test_setting_prefix_reads_the_lists_of_modules_that_are_there() -> None:
    given = machine(files={"g/x86_64-efi/fs.lst": b"fat\n", "g/x86_64-efi/command.lst": b""})
    made = boot(b"set prefix=/g\necho x\n", given)
    assert [event.text for event in made.events] == [
        b"set prefix=/g", b"/g/x86_64-efi/command.lst", b"/g/x86_64-efi/fs.lst", b"echo x",
    ]  # fmt: skip


def test_modules_are_read_with_secure_boot_off_alone() -> None:
    files = {"g/x86_64-efi/true.mod": b"\x7fELF", "g/x86_64-efi/sleep.mod": b"\x7fELF"}
    script = b"false\necho $?\nset prefix=/g\ninsmod true\nfalse\necho $?\n"
    made = boot(script, machine(files=files))
    assert [event.text for event in made.of(9)] == [b"/g/x86_64-efi/true.mod"]
    assert [event.text for event in made.of(8)][-1] == b"echo 1"
    locked = boot(script, machine(files=files, secure_boot=True))
    assert locked.of(9) == ()
    assert [event.text for event in locked.of(8)][-1] == b"echo 0"


MENU = b"""
menuentry 'First one' --id=first --class os { linux /vmlinuz first "$1" }
menuentry 'Second' 'more args' --id=second { linux /vmlinuz second "$@" }
submenu 'Below' --id=below { menuentry inner --id=i { linux /vmlinuz inner; }; menuentry other { linux /vmlinuz other; } }
"""


@pytest.mark.parametrize(
    ("variables", "kernel_arguments"),
    [
        (b"set timeout=0\n", b"first 'First one'"),
        (b"set timeout=5\nset default=1\n", b"second Second 'more args'"),
        (b"set timeout=0\nset default=second\n", b"second Second 'more args'"),
        (b"set timeout=0\nset default=Second\n", b"second Second 'more args'"),
        (b"set timeout=0\nset default=99\n", b"first 'First one'"),
        (b"set timeout=0\nset default=nonsense\n", b"first 'First one'"),
        (b"set timeout=0\nset default='below>1'\n", b"other"),
        (b"set timeout=0\nset default='below>i'\n", b"inner"),
        (b"set timeout=0\nset default='Below'\n", b"inner"),
        (b"set timeout=3\nset timeout_style=hidden\n", b"first 'First one'"),
    ],
)
@pytest.mark.parametrize("build", [FLATCAR_2_12, DEBIAN_2_06], ids=lambda build: build.name)
def test_the_default_entry(build: GrubBuild, variables: bytes, kernel_arguments: bytes) -> None:
    made = boot(variables + MENU, machine(build))
    assert made.outcome is Outcome.KERNEL
    assert made.kernel == b"/vmlinuz"
    assert made.command_line is not None
    # Words with a space are wrapped in double quotes.
    assert made.command_line == b"/vmlinuz " + kernel_arguments.replace(b"'", b'"')


def test_an_entry_records_its_definition_and_its_parameters() -> None:
    recorded = texts(b"set timeout=0\n" + MENU)
    assert recorded[1] == b'menuentry First one --id=first --class os { linux /vmlinuz first "$1" }'
    assert recorded[4] == b"setparams First one"
    assert recorded[-1] == b'/vmlinuz first "First one"'


TYPING = b"set a=b\nset fallback=1\nfunction f { echo $a $1; }\n" + MENU


@pytest.mark.parametrize("timeout", [b"set timeout=5\n", b""], ids=["counting", "waiting"])
@pytest.mark.parametrize(
    ("lines", "expected", "outcome"),
    [
        ([], [], Outcome.KERNEL),
        ([b"echo $a"], [b"echo b"], Outcome.PROMPT),
        # Functions and variables of the configuration are there; the key has ended the countdown (run_menu).
        ([b"f x", b"echo $timeout$fallback."], [b"f x", b"echo b x", b"echo ."], Outcome.PROMPT),
        # What does not parse or does not work is said, and the next line is asked for.
        ([b"fi", b"echo a; }", b"linux /none", b"echo c"], [b"linux /none", b"echo c"], Outcome.PROMPT),
        ([b"linux /vmlinuz a"], [b"linux /vmlinuz a", b"/vmlinuz a"], Outcome.PROMPT),
        (
            [b"linux /vmlinuz a", b"boot", b"echo never"],
            [b"linux /vmlinuz a", b"/vmlinuz a", b"boot"],
            Outcome.KERNEL,
        ),
        # GRUB_ERR_NO_KERNEL (err.h)
        ([b"boot", b"echo $?"], [b"boot", b"echo 22"], Outcome.PROMPT),
    ],
)
def test_a_person_opens_the_command_line(
    timeout: bytes, lines: list[bytes], expected: list[bytes], outcome: Outcome
) -> None:
    made = run(timeout + TYPING, machine(), typed=lines)
    if not lines:
        assert made == boot(timeout + TYPING)
        return
    # The last entry of the menu is the last command before anybody types.
    recorded = [event.text for event in made.of(8)]
    before = next(i for i, text in enumerate(recorded) if text.startswith(b"submenu ")) + 1
    assert (recorded[before:], made.outcome, made.runs) == (expected, outcome, 0)


def test_a_menu_that_is_not_shown_leaves_no_time_to_type() -> None:
    assert run(b"set timeout=0\n" + TYPING, machine(), typed=[b"echo x"]) == boot(b"set timeout=0\n" + TYPING)


def test_a_password_keeps_a_person_from_typing() -> None:
    made = run(b"set superusers=root\n" + TYPING, machine(), typed=[b"echo x"])
    assert (made.outcome, made.of(8)[-1].text.startswith(b"submenu ")) == (Outcome.MENU, True)


def test_what_a_person_types_is_bounded() -> None:
    with pytest.raises(LimitExceededError):
        run(TYPING, machine(), GrubLimits(steps=1000), typed=[b"while true; do true; done"])


def test_without_a_timeout_the_menu_waits() -> None:
    assert boot(MENU).outcome is Outcome.MENU
    assert boot(b"set timeout=-1\n" + MENU).outcome is Outcome.MENU
    assert boot(b"echo x\n").outcome is Outcome.PROMPT
    assert boot(b"read x\n" + MENU).outcome is Outcome.INPUT


@pytest.mark.parametrize("build", [FLATCAR_2_12, DEBIAN_2_06], ids=lambda build: build.name)
def test_fallback_entries_run_when_one_comes_back(build: GrubBuild) -> None:
    script = b"""
set timeout=0
set fallback="1 2"
menuentry a { linux /none a }
menuentry b { echo b }
menuentry c { linux /vmlinuz c }
"""
    made = boot(script, machine(build))
    assert [e.text for e in made.of(8) if e.text.startswith(b"setparams")] == [
        b"setparams a",
        b"setparams b",
        b"setparams c",
    ]
    assert made.runs == 3
    assert made.command_line == b"/vmlinuz c"
    # Without one that boots, the menu waits.
    assert boot(script.replace(b"/vmlinuz", b"/none"), machine(build)).outcome is Outcome.MENU


def test_an_entry_ends_at_a_statement_that_does_not_parse() -> None:
    # In a file the next line goes on; menu entries are parsed whole when they are defined, so the error comes from eval'd text.
    made = texts(b"set timeout=0\nmenuentry x --source='echo a\n}\necho b' \n")
    assert made[-1] == b"echo a"


def test_the_kernel_s_place_with_secure_boot() -> None:
    script = b"linux /vmlinuz a\nboot\n"
    made = boot(script, machine(secure_boot=True))
    assert [(e.pcr, e.kind) for e in made.events] == [
        (8, "command"),
        (9, "file"),
        (4, "image"),
        (8, "cmdline"),
        (8, "command"),
    ]
    twice = attrs.evolve(DEBIAN_2_06, modules=DEBIAN_2_06.modules | {"linuxefi"})
    assert [e.pcr for e in boot(script, machine(twice, secure_boot=True)).events] == [8, 9, 4, 4, 8, 8]
    assert [e.pcr for e in boot(script, machine()).events] == [8, 9, 8, 8]


def test_an_unsigned_kernel_is_measured_and_refused() -> None:
    given = machine(secure_boot=True)
    esp = given.disks[0].partitions[0]
    files = {**esp.files, "vmlinuz": attrs.evolve(KERNEL, signed=False)}
    disk = attrs.evolve(given.disks[0], partitions=[attrs.evolve(esp, files=files)])
    made = boot(b"linux /vmlinuz a\nboot\n", attrs.evolve(given, disks=[disk]))
    assert [e.pcr for e in made.events] == [8, 9, 4, 8]
    assert made.outcome is Outcome.PROMPT


def test_the_command_line_ends_where_the_kernel_has_no_more_room() -> None:
    words = b" ".join(b"argument-%04d" % i for i in range(400))
    made = boot(b"linux /vmlinuz " + words + b"\nboot\n")
    assert made.command_line is not None
    # cmdline_size is 2047; BOOT_IMAGE= stands before the text, each word takes its separator.
    assert len(made.command_line) <= 2047 - len("BOOT_IMAGE=") - 1
    assert len(made.command_line) > 2047 - len("BOOT_IMAGE=") - 1 - len("argument-0000 ")


def test_hexadecimal_escapes_pass_where_the_build_keeps_them() -> None:
    script = b"linux /vmlinuz 'a\\x20b' \\\\ '\\xg' \"'\"\nboot\n"
    kept, escaped = boot(script, machine()), boot(script, machine(DEBIAN_2_06))
    assert kept.command_line == b"/vmlinuz a\\x20b \\\\ \\\\xg \\'"
    assert escaped.command_line == b"/vmlinuz a\\\\x20b \\\\ \\\\xg \\'"


def test_old_builds_hash_the_nul_and_have_other_prefixes() -> None:
    old = attrs.evolve(FLATCAR_2_12, name="old", command_prefix=b"grub_cmd ", hash_nul=True)
    (event,) = boot(b"echo a\n", machine(old)).of(8)
    assert event.data == b"grub_cmd echo a\0"
    assert event.hashed == b"echo a\0"


def test_recursion_ends_at_64_and_stays_counted() -> None:
    """A call takes two levels, so 31 calls fit below 64; where the limit was met the depth stays one too high."""
    assert len(texts(b"function f { f; }\nf\n")) == 31
    assert len(texts(b"function f { f; }\n" + b"f\n" * 3)) == 31 + 31 + 30


def test_what_is_not_known_is_said() -> None:
    unknown = machine()
    esp = unknown.disks[0].partitions[0]
    files = {**esp.files, "x.cfg": GrubFile(digests={"sha256": bytes(32)}, kernel=False)}
    disk = attrs.evolve(unknown.disks[0], partitions=[attrs.evolve(esp, files=files)])
    with pytest.raises(UnsupportedError, match=r"x\.cfg"):
        boot(b"source /x.cfg\n", attrs.evolve(unknown, disks=[disk]))
    with pytest.raises(UnsupportedError, match="sectors"):
        boot(b"[ -s (hd0)0+1 ]\n")
    arm = attrs.evolve(machine(secure_boot=True), cpu="arm64")
    with pytest.raises(UnsupportedError, match="arm64"):
        boot(b"linux /vmlinuz\n", arm)
    assert boot(b"terminal_output console\nnet_bootp\n").assumptions


@pytest.mark.parametrize("secure_boot", [False, True])
def test_a_kernel_on_arm64_is_an_efi_program(secure_boot: bool) -> None:
    """Measured once, by shim or by the firmware; its stub measures all of its load options, whatever their length."""
    given = machine(secure_boot=secure_boot)
    words = " ".join(f"argument{number}" for number in range(400))
    script = f"menuentry x {{ linux /vmlinuz {words}\n }}\nset timeout=0\n".encode()
    made = boot(script, attrs.evolve(given, cpu="arm64", build=DEBIAN_2_06))
    assert [event.kind for event in made.of(4)] == ["image"]
    options = made.of(9)[-1]
    text = f"BOOT_IMAGE=/vmlinuz {words}"
    assert options.digest("sha256") == hashlib.sha256(text.encode("utf-16-le")).digest()
    assert made.command_line == text.removeprefix("BOOT_IMAGE=").encode()
    assert [
        event for event in boot(script, attrs.evolve(given, build=DEBIAN_2_06)).of(9) if event.kind == "options"
    ] == []


WORD = st.binary(max_size=40).filter(lambda word: not set(word) & {0, 13} and b"\n#" not in b"\n" + word)


@given(st.lists(WORD, max_size=6))
def test_single_quotes_carry_any_word(words: list[bytes]) -> None:
    line = b" ".join([b"echo", *(b"'" + word.replace(b"'", b"'\\''") + b"'" for word in words)])
    assert texts(line + b"\n") == [b" ".join([b"echo", *words])]


@given(st.lists(WORD, max_size=6))
def test_double_quotes_carry_any_word(words: list[bytes]) -> None:
    def quoted(word: bytes) -> bytes:
        for char in (b"\\", b'"', b"$"):
            word = word.replace(char, b"\\" + char)
        return b'"' + word + b'"'

    line = b" ".join([b"echo", *map(quoted, words)])
    assert texts(line + b"\n") == [b" ".join([b"echo", *words])]


@given(st.integers())
def test_generated_scripts_end_and_measure_the_same_each_time(seed: int) -> None:
    script = Writer(seed).script().encode()
    given = machine(files={path: text.encode() for path, text in LIBRARY.items()})
    made = boot(script, given)
    assert made == boot(script, given)
    assert made.outcome in {Outcome.PROMPT, Outcome.MENU, Outcome.KERNEL}


def test_five_hundred_scripts_in_one_run_are_those_of_five_hundred_files() -> None:
    written = scripts("fixed", 500)
    files = {path: text.encode() for path, text in {**LIBRARY, **written}.items()}
    made = boot(
        b"".join(b"source /%s\n" % path.encode() for path in written), machine(files=files), GrubLimits(events=50_000)
    )
    assert [e.text for e in made.of(9) if e.text.decode("utf-8", "replace")[1:] in written] == [
        b"/" + path.encode() for path in written
    ]
