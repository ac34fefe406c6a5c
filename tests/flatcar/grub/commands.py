"""What GRUB's commands do with what they are given: tables that a real GRUB is asked too, and the disk that they are about.

``test_commands`` compares the engine with them, ``test_emulated`` grub-emu. The comments name the sources of GRUB in
which a rule stands.
"""

from __future__ import annotations

from uuid import UUID

import attrs

from measlog.flatcar.grub import DEBIAN_2_06, Disk, GrubFile, Partition

__all__ = ["DISK", "EMU", "ESP", "MEMDISK", "MEMDISK_STATUSES", "MENUS", "OEM", "SCRIPTS", "STATUSES"]

ESP = Partition(
    number=1,
    label=b"EFI-SYSTEM",
    guid=UUID("11111111-1111-4111-8111-1111111111ab"),
    filesystem="fat",
    filesystem_label=b"ESP",
    filesystem_uuid=b"4D4C-0001",
    files={
        "word": GrubFile(content=b"x"),
        "empty": GrubFile(content=b""),
        "dir/f": GrubFile(content=b"x"),
        "a.cfg": GrubFile(content=b"echo in\n"),
        "menu.cfg": GrubFile(content=b"timeout=0\nmenuentry inner { linux /vmlinuz in; }\n"),
        "notenv": GrubFile(content=b"a=1\n"),
        "grubenv": GrubFile(
            content=b"# GRUB Environment Block\na=1\nb=two words\\\\x\\\ny\n#c=3\nnothing\nd=\n".ljust(1024, b"#")
        ),
        "digest": GrubFile(digests={"sha256": bytes(32)}),
        "vmlinuz": GrubFile(digests={"sha256": bytes(32)}, authenticode={"sha256": bytes(32)}, kernel=True),
    },
)
OEM = Partition(
    number=3,
    label=b"OEM",
    guid=UUID("22222222-2222-4222-8222-2222222222cd"),
    filesystem="ext2",
    filesystem_label=b"OEM",
    filesystem_uuid=b"33333333-3333-4333-8333-3333333333ef",
    directories=["lost+found"],
)
DISK = Disk(partitions=[ESP, OEM])
EMU = attrs.evolve(
    DEBIAN_2_06,
    name="emu",
    modules=DEBIAN_2_06.modules | {"net", "sleep", "cat", "eval", "loadenv", "true"},
)

STATUSES = {
    # commands/search_wrap.c
    "search": "18", "search --label": "18", "search OEM": "17", "search --label OEM": "0", "search --label NONE": "5",
    "search --nope --label --set=x OEM": "5", "search --label --set": "18", "search --label --set=": "5",
    "search --label --hint": "18", "search -nh --label OEM": "17", "search --help": "0", "search --usage": "0",
    "search.fs_label": "18", "search.file /none u": "5", "search.fs_uuid 4d4c-0001": "0",
    # lib/arg.c
    "sleep": "18", "sleep 0 0": "18", "sleep -z 0": "18", "sleep -vi 0": "0", "sleep -vz 0": "18", "sleep -vh": "0",
    "sleep --verbose=yes 0": "18", "sleep --help=1": "18", "sleep --interrupt 0": "18", "sleep - 0": "18",
    "sleep -- 0": "0", "sleep -- -x": "0", "search --label=OEM --set=x OEM": "18", "echo -x a": "0", "echo --nope": "0",
    "search --no-floppy=1 --label OEM": "18", "menuentry --unrestricted=x a { true; }": "18",
    "load_env -f": "18", "load_env --file": "18", "load_env --file --skip-sig": "18", "load_env -fs /grubenv": "18",
    "load_env -sf /grubenv": "0", "load_env --file /grubenv --skip-sig d": "0", "load_env -z": "18",
    # commands/sleep.c: what is no number is no time
    "sleep x": "0", "sleep 0x": "0",
    # commands/loadenv.c, commands/cat.c, commands/configfile.c, commands/menuentry.c, commands/eval.c
    "load_env -f /none": "5", "load_env -f /notenv": "4", "cat": "18", "cat --dos": "18", "cat --dos /empty": "0",
    "cat /empty /empty": "18", "source": "18", "source /a.cfg /word": "18", "source /none": "0", "configfile": "18",
    "menuentry": "18", "menuentry --class": "18", "menuentry x": "18", "menuentry --source=a": "18",
    "menuentry --source=a x { true; }": "18", "menuentry { true; }": "27", "eval": "0", "eval '[ a = b ]'": "1",
    "shift": "0", "setparams a": "17", "break x": "10", "break 1 2": "18", "break 0x1": "18",
    # kern/file.c, kern/device.c, fs/fshelp.c
    "cat (hd0,gpt1/word": "7", "cat (hd0)word": "7", "cat word": "7", "cat (hd0,gpt2)/word": "12",
    "cat (hd0,msdos1)/word": "12", "cat (hd0,x)/word": "12", "cat (0)/word": "32", "cat (hd0)/word": "8",
    "cat (hd0,1)/empty": "0", "cat /dir": "4", "cat (hd0,gpt3)/lost+found": "4", "cat /dir/f/x": "4", "cat /none/f": "5",
    "cat //dir//f": "0", "cat /./empty": "0", "cat /dir/../word": "0", "cat /../word": "0", "cat /dir/../../word": "0",
    "cat /none/../word": "5", "cat /word/../word": "4", "cat /word/": "0",
    "[ -e /none/../word ]": "1", "[ -e /dir/../word ]": "0", "[ -f /word/ ]": "0", "[ -e /word/x ]": "1",
    "[ -d /dir/. ]": "0", "[ -d /dir/.. ]": "0", "[ -d (hd0)/ ]": "1", "[ -e (hd0) ]": "1", "[ -e (hd9,gpt1)/x ]": "1",
    "[ -d (hd0,gpt3)/lost+found ]": "0", "[ -e (hd0,gpt1)word ]": "0", "[ a -a ( b ]": "0",
    # kern/misc.c, grub_strtoull, as commands/test.c uses it
    "[ 0x -eq 0 ]": "0", "[ ' 12' -eq 12 ]": "0", "[ 99999999999999999999 -eq -1 ]": "0", "[ 08 -eq 8 ]": "0",
    "[ 09 -eq 0 ]": "1", "[ 0X10 -eq 0 ]": "0", "[ 010 -eq 8 ]": "0", "[ -0x10 -eq -16 ]": "0", "[ +1 -eq 1 ]": "1",
    "[ 0xfg -eq 15 ]": "0", "[ zz9 -plt zz10 ]": "0", "[ 12 -pgt 1 ]": "0", "[ a -plt a ]": "1", "[ '' -plt '' ]": "1",
}  # fmt: skip

# Files of a tar (the memdisk) have shortened paths, and folders in it cannot be opened (fs/archelp.c).
MEMDISK = {"one": b"x", "sub/two": b"y"}
MEMDISK_STATUSES = {
    "cat (memdisk)/none/../one": "0", "cat (memdisk)/one/x": "5", "cat (memdisk)/one/../sub/two": "0",
    "cat (memdisk)/../one": "0", "cat (memdisk)/sub": "5", "cat (memdisk)/./sub/./two": "0", "cat (memdisk)one": "7",
    "cat (memdisk)/ONE": "5", "cat (memdisk)/one/": "5", "[ -d (memdisk)/sub ]": "0", "[ -f (memdisk)/one ]": "0",
    "[ -e (memdisk)/none ]": "1", "[ -e (memdisk)/none/../one ]": "0", "[ -d (memdisk)/ ]": "0",
}  # fmt: skip

SCRIPTS: dict[str, list[str]] = {
    # search
    "search --label --set OEM\necho @ $root": ["hd0,gpt3"],
    "search --label --set= OEM\necho @ $root": ["hd0,gpt1"],
    "search -l -s y OEM\necho @ $y": ["hd0,gpt3"],
    "search -ls OEM\necho @ $root": ["hd0,gpt3"],
    "search -l -s -n OEM\necho @ $root": ["hd0,gpt3"],
    "search --hint-nope --label --set=y OEM\necho @ $y": ["hd0,gpt3"],
    "search --hint-nope=hd0 --label --set=y OEM\necho @ $y": ["hd0,gpt3"],
    "search --label --hint= --set=y OEM\necho @ $y": ["hd0,gpt3"],
    "search --label --hint=hd0, --set=y OEM\necho @ $y": ["hd0,gpt3"],
    "search --label --hint=hd9, --set=y OEM\necho @ $y": ["hd0,gpt3"],
    "search --file --hint=hd0,gpt1, --set=y /word\necho @ $y": ["hd0,gpt1"],
    "search --fs-uuid --set=y 4d4c-0001\necho @ $y": ["hd0,gpt1"],
    "search -u --set=y 33333333-3333-4333-8333-3333333333EF\necho @ $y": ["hd0,gpt3"],
    "search -u -h hd0 --set=y 4d4c-0001\necho @ $y": ["hd0,gpt1"],
    "search.fs_label OEM y hd0,gpt1 hd0,\necho @ $y": ["hd0,gpt3"],
    "search.fs_uuid 4d4c-0001 y\necho @ $y": ["hd0,gpt1"],
    # load_env: what to load, escapes, comments
    "load_env -f /grubenv\necho @ $a $b $d $nothing": ["1 two words\\x y"],
    "load_env -f /grubenv a\necho @ $a $b": ["1"],
    'load_env -f /grubenv d b\necho @ $a "$b" "$d"': ["two words\\x\ny "],
    # eval runs what it is given as a script
    "eval 'echo @ in'": ["in"],
    'eval "a=1\necho @ \\$a"': ["1"],
    # loops and functions
    "for i in a; do break 0; echo @ $?; break 1x; echo @ $?; break 99999999999999999999; echo @ $?; done": ["18", "18", "11"],
    "function f { return 3x; echo @ $?; return 1 2; echo @ $?; return x; echo @ $?; return 4294967299; }\nf\necho @ $?":
        ["18", "18", "10", "3"],
    "function f { [ a = b ]; return; }\nf\necho @ $?": ["1"],
    "function f { shift 1 2; echo @ $?; shift 1x; echo @ $?; shift 9; echo @ $?; shift 2; echo @ $?; shift 0; echo @ $1; }\n"
    "f a b c d": ["18", "18", "18", "0", "c"],
    "function f { if return 5; then echo @ no; fi; echo @ no; }\nf\necho @ $?": ["5"],
    "function f { while return 6; do echo @ no; done; echo @ no; }\nf\necho @ $?": ["6"],
    "function f { for i in a b; do while true; do return 7; done; done; }\nf\necho @ $?": ["7"],
    # A function that runs keeps its body.
    "function f {\neval 'function f { echo @ new; }'\necho @ old\n}\nf\nf": ["old", "old"],
    "function f { function g { echo @ inner; }; g; }\nf\necho @ $?": ["0"],
    # An error that nobody has printed keeps whatever takes options, and help, from working.
    "! ; load_env -sf /grubenv a; echo @ $? $a": ["18"],
    "! ; load_env --file=/grubenv a; echo @ $? $a": ["18"],
    "! ; load_env -h; echo @ $?": ["18"],
    "! ; load_env -sh; echo @ $?": ["18"],
    "! ; sleep 0; echo @ $?": ["0"],
    "! ; sleep -vi 0; echo @ $?": ["18"],
    "! ; menuentry x --class a { true; }; echo @ $?": ["18"],
    "for i in a; do ! ; break 1; echo @ $?; done": ["18"],
    "for i in a; do ! ; break; echo @ $?; done": [],
    "function f { ! ; return 0; echo @ $?; }\nf": ["18"],
    # Strings to translate keep their escapes but those of quotes, backslashes and line ends.
    'echo @ $"a $root b" $"x${root}y" $"\\$root" $"a\\"b"': ['a hd0,gpt1 b xhd0,gpt1y $root a"b'],
    'echo @ $"a\\\\b" $"\\x41" $"a\\qb" $"\\\\\\\\" $"a\\\nb"': ["a\\b \\x41 a\\qb \\\\ ab"],
    'echo @ $"$" $"$%" $"100$ x" $"a${" $"q ${ro"': ["$ $% 100$ x a q "],
    'echo @ $"a\\zb" $"end\\\\" $"\\\\$root" $"\\\\\\$root"': ["a\\zb end\\ \\hd0,gpt1 \\$root"],
    'function f { echo @ $"$#" $"$1 $?"; }\ntrue\nf a b c': ["3  0"],
    # What does not parse is lost with the lines read for it.
    "if true; then echo @ a } fi\necho @ b": ["b"],
    "if true; then echo @ a fi\necho @ b": [],
    "for i in a b { echo @ $i; }\necho @ b": ["b"],
    "function f { echo @ a }\necho @ b\nf": ["b"],
    "menuentry x { echo a }\necho @ $?": ["0"],
    "while true; do break; done done\necho @ b": ["b"],
    "if true; then if true; then echo @ a; fi fi\necho @ b": ["b"],
    "for i in a; do echo @ $i done\necho @ c": [],
    # Without a root there is no file.
    "unset root\ncat /word\necho @ $?\n[ -e /word ]\necho @ $?\n[ -s /word ]\necho @ $?\n[ -f (hd0,gpt1)/word ]\necho @ $?":
        ["13", "1", "1", "0"],
}  # fmt: skip

MENUS: dict[str, list[str]] = {
    # A ``>`` in a title is doubled in a path.
    "default='a>>b>x'\nsubmenu 'a>b' { menuentry x { echo @ $chosen; exit; }; }\nmenuentry 'a>' { exit; }": ["a>>b>x"],
    "default='a>>b'\nmenuentry z { exit; }\nmenuentry 'a>b' { echo @ $chosen; exit; }": ["a>>b"],
    "default='a>'\nmenuentry z { exit; }\nmenuentry a { echo @ $chosen; exit; }": ["a"],
    # Fallbacks are tried in their order; a submenu without entries comes back.
    "fallback='1 2'\nmenuentry z { echo @ z; }\nsubmenu s { echo @ $timeout $chosen; }\nmenuentry c { echo @ c $fallback; exit; }":
        ["z", "0 s", "c"],
    "fallback=x\nmenuentry z { echo @ z $fallback; exit; }": ["z x"],
    "fallback=1\nsubmenu z { menuentry x { echo @ x $fallback $a $b; }; a=1; b=2; export b; }\nmenuentry c { echo @ c $a $b; exit; }":
        ["x 1 2", "c"],
    # The default is a number, whatever stands behind it.
    "default=0x1\nmenuentry z { exit; }\nmenuentry c { echo @ $chosen; exit; }": ["c"],
    "default=' 1 0'\nmenuentry z { exit; }\nmenuentry c { echo @ $chosen; exit; }": ["c"],
    "default=4294967297\nmenuentry z { exit; }\nmenuentry c { echo @ $chosen; exit; }": ["c"],
    "default=99999999999999999999\nmenuentry z { echo @ $chosen; exit; }\nmenuentry c { exit; }": ["z"],
    "menuentry z w --id q { echo @ $1 $2 $# $chosen; shift; echo @ $1; exit; }": ["z w 2 q", "w"],
    "fallback=1\nmenuentry x --source='echo @ a $1\n}\necho @ b'\nmenuentry y { echo @ y; exit; }": ["a x", "y"],
}  # fmt: skip
