"""GRUB's commands, as far as they decide what is measured or what runs next."""

from __future__ import annotations

import re
from collections.abc import Callable

from measlog.errors import LimitExceededError, UnsupportedError
from measlog.flatcar.grub.condition import run_test
from measlog.flatcar.grub.engine import Engine, Entry, Stop
from measlog.flatcar.grub.expand import Scope
from measlog.flatcar.grub.find import search, search_one
from measlog.flatcar.grub.gpt import gptprio_next
from measlog.flatcar.grub.loader import boot, chainloader, initrd, linux
from measlog.flatcar.grub.model import GrubFile, Outcome
from measlog.flatcar.grub.numbers import strtoul
from measlog.flatcar.grub.options import Option, parse_options
from measlog.flatcar.grub.parser import CommandList
from measlog.flatcar.grub.status import Status

__all__ = ["COMMANDS", "load_module", "read_lists", "source_file"]

Run = Callable[[Engine, bytes, list[bytes], CommandList | None], int]

_MENUENTRY = (
    Option("class", None, b"class", value=True, repeatable=True),
    Option("users", None, b"users", value=True),
    Option("hotkey", None, b"hotkey", value=True),
    Option("source", None, b"source", value=True),
    Option("id", None, b"id", value=True),
    Option("unrestricted", None, b"unrestricted"),
)
_ECHO = (Option("n", b"n"), Option("e", b"e"))
_LOADENV = (Option("file", b"f", b"file", value=True), Option("skip-sig", b"s", b"skip-sig"))


def _set(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if not arguments:
        return 0
    variable, equals, value = arguments[0].partition(b"=")
    if not equals:
        return Status.BAD_ARGUMENT
    engine.environment.set(variable, value)
    return 0


def _unset(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if not arguments:
        return Status.BAD_ARGUMENT
    engine.environment.unset(arguments[0])
    return 0


def _export(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if not arguments:
        return Status.BAD_ARGUMENT
    for variable in arguments:
        engine.environment.export(variable)
    return 0


def _ls(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    # Lists; opens no file.
    if not arguments:
        return 0
    if engine.pending:
        return engine.pending
    place = engine.devices.split(arguments[0], engine.environment.get(b"root"))
    return place if isinstance(place, Status) else 0


def _echo(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    parsed = parse_options(_ECHO, arguments, pending=engine.pending, accept_dash=True, at_start=True)
    return parsed if isinstance(parsed, Status) else 0


def _constant(status: int) -> Run:
    def run(_engine: Engine, _name: bytes, _arguments: list[bytes], _block: CommandList | None) -> int:
        return status

    return run


def _stop(outcome: Outcome) -> Run:
    def run(_engine: Engine, _name: bytes, _arguments: list[bytes], _block: CommandList | None) -> int:
        raise Stop(outcome)

    return run


def _break(engine: Engine, name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    count = 1
    if len(arguments) > 1:
        return Status.BAD_ARGUMENT
    if arguments:
        count, end, error = strtoul(arguments[0], 10)
        if error or engine.pending:
            return error or engine.pending
        if end < len(arguments[0]) or not count:
            return Status.BAD_ARGUMENT
    engine.leave_loops(count, resume=name != b"break")
    return 0


def _return(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if engine.scope is None or len(arguments) > 1:
        return Status.BAD_ARGUMENT
    if not arguments:
        engine.leave_function()
        return strtoul(engine.environment.get(b"?") or b"", 10)[0]
    number, end, error = strtoul(arguments[0], 10)
    if error or engine.pending:
        return error or engine.pending
    if end < len(arguments[0]):
        return Status.BAD_ARGUMENT
    engine.leave_function()
    return number & 0x7FFFFFFF


def _shift(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if engine.scope is None:
        return 0
    count = 1
    if len(arguments) > 1:
        return Status.BAD_ARGUMENT
    if arguments:
        count, end, _error = strtoul(arguments[0], 10)
        if end < len(arguments[0]):
            return Status.BAD_ARGUMENT
    if count > len(engine.scope.arguments):
        return Status.BAD_ARGUMENT
    del engine.scope.arguments[:count]
    return 0


def _setparams(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if engine.scope is None:
        return Status.INVALID_COMMAND
    engine.scope = Scope(arguments)
    return 0


def _test(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    return 0 if run_test(engine, arguments) else Status.TEST_FAILURE


def _menuentry(engine: Engine, name: bytes, arguments: list[bytes], block: CommandList | None) -> int:
    parsed = parse_options(_MENUENTRY, arguments, pending=engine.pending, accept_dash=True)
    if isinstance(parsed, Status):
        return parsed
    given = list(parsed.rest)
    if not given or ("source" in parsed) is (block is not None):
        return Status.BAD_ARGUMENT
    source = parsed.last("source") or b""
    if block is not None:
        source = given.pop()[1:-1]
    if not given:
        return Status.MENU
    if block is not None:
        quoted = b"".join(b" '" + word.replace(b"'", b"'\\''") + b"'" for word in given)
        source = b"setparams" + quoted + b"\n" + source
    users = parsed.last("users")
    if users is None and "unrestricted" not in parsed:
        users = b""
    if len(engine.menu.entries) >= engine.limits.entries:
        raise LimitExceededError(f"more than {engine.limits.entries} menu entries")
    engine.menu.entries.append(
        Entry(
            arguments=given,
            identity=parsed.last("id"),
            source=source,
            submenu=name.startswith(b"s"),
            users=users,
        )
    )
    return 0


def source_file(engine: Engine, name: bytes) -> bool:
    """``read_config_file``: open (and measure) a configuration, run it; False where there is none.

    Raises UnsupportedError where its content is not known.
    """
    _ = engine.menu
    file = engine.open(name)
    if isinstance(file, Status):
        return False
    if file.content is None:
        raise UnsupportedError(f"the content of {name!r}, which the configuration runs, is not known")
    environment = engine.environment
    before = {key: environment.get(key) for key in (b"config_file", b"config_directory")}
    path = name if name.startswith(b"(") else b"(" + (environment.get(b"root") or b"") + b")" + name
    environment.set(b"config_file", path)
    environment.set(b"config_directory", path.rpartition(b"/")[0] if b"/" in path else path)
    environment.export(b"config_file")
    environment.export(b"config_directory")
    engine.run_script(file.content, file=True)
    for key, value in before.items():
        if value is None:
            environment.unset(key)
        else:
            environment.set(key, value)
    return True


def _source(engine: Engine, name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    from measlog.flatcar.grub.menu import show_menu  # noqa: PLC0415  (the menu runs commands)

    if len(arguments) != 1:
        return Status.BAD_ARGUMENT
    if name.startswith(b"e"):
        raise UnsupportedError(f"{name.decode()} is not modelled")
    if name != b"configfile":
        source_file(engine, arguments[0])
        return 0
    engine.open_context()
    # ``read_config_file`` gives no menu where the file cannot be opened.
    if source_file(engine, arguments[0]) and engine.menu.entries:
        show_menu(engine, engine.menu, autobooted=False)
    engine.close_context()
    return 0


def load_module(engine: Engine, name: str, path: bytes | None = None) -> None:
    """``insmod``: a module that is not built in is read from ``$prefix``, where the build and Secure Boot allow it."""
    if name in engine.modules:
        return
    refused = engine.machine.secure_boot
    if refused and not engine.build.refused_modules_measured:
        return
    machine = engine.machine
    prefix = engine.environment.get(b"prefix") or b""
    where = path or b"%s/%s-%s/%s.mod" % (prefix, machine.cpu.encode(), machine.platform.encode(), name.encode())
    file = engine.open(where)
    if isinstance(file, Status) or refused:
        return
    engine.modules.add(name)
    if file.content is not None or not file.needs:
        engine.assume(f"the module {name} needs no other module than those named for it")
    for needed in file.needs:
        load_module(engine, needed)


def _insmod(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if not arguments:
        return Status.BAD_ARGUMENT
    name = arguments[0]
    if name[:1] in {b"/", b"(", b"+"}:
        leaf = name.rpartition(b"/")[2].removesuffix(b".mod")
        load_module(engine, leaf.decode("ascii", "replace"), name)
    elif re.fullmatch(rb"[A-Za-z0-9_-]+", name):
        load_module(engine, name.decode())
    return 0


def read_lists(engine: Engine, prefix: bytes) -> None:
    """Setting ``prefix`` reads the lists of modules there: each that is there is opened (normal/main.c)."""
    folder = b"%s/%s-%s/" % (prefix, engine.machine.cpu.encode(), engine.machine.platform.encode())
    for name in engine.build.lists:
        file = engine.open(folder + name.encode())
        if isinstance(file, GrubFile):
            engine.assume(f"no command is loaded for what {name} names")


def _cat(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    names = [name for name in arguments if name != b"--dos" or "cat" not in engine.modules]
    # The one of minicmd takes no options, and its first argument alone.
    if not names or (len(names) != 1 and "cat" in engine.modules):
        return Status.BAD_ARGUMENT
    file = engine.open(names[0])
    return file if isinstance(file, Status) else 0


def _load_env(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    parsed = parse_options(_LOADENV, arguments, pending=engine.pending)
    if isinstance(parsed, Status):
        return parsed
    name = parsed.last("file") or (engine.environment.get(b"prefix") or b"") + b"/grubenv"
    file = engine.open(name, measure="skip-sig" not in parsed)
    if isinstance(file, Status):
        return file
    content = file.content
    if content is None:
        raise UnsupportedError(f"the content of {name!r} is not known")
    if not content.startswith(b"# GRUB Environment Block\n"):
        return Status.BAD_FILE_TYPE
    for line in re.findall(rb"(?:[^\\\n]|\\[\s\S])+", content):
        variable, equals, value = line.partition(b"=")
        if not equals or line.startswith(b"#") or (parsed.rest and variable not in parsed.rest):
            continue
        engine.environment.set(variable, re.sub(rb"\\([\s\S])", rb"\1", value))
    return 0


def _eval(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if not arguments:
        return 0
    engine.run_script(b" ".join(arguments), file=False)
    return strtoul(engine.environment.get(b"?") or b"", 10)[0]


def _sleep(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    options = (Option("verbose", b"v", b"verbose"), Option("interruptible", b"i", b"interruptible"))
    parsed = parse_options(options, arguments, pending=engine.pending)
    if isinstance(parsed, Status):
        return parsed
    # What is no number is a sleep of no length.
    return 0 if len(parsed.rest) == 1 else Status.BAD_ARGUMENT


def _gptprio(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    options = (
        Option("device", b"d", b"set-device", value=True),
        Option("uuid", b"u", b"set-uuid", value=True),
    )
    parsed = parse_options(options, arguments, pending=engine.pending)
    return parsed if isinstance(parsed, Status) else gptprio_next(engine, parsed)


def _search(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    return search(engine, arguments)


def _search_one(engine: Engine, name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    if not arguments:
        return Status.BAD_ARGUMENT
    kind = {b"fs_uuid": "fs-uuid", b"file": "file", b"fs_label": "label"}.get(name.partition(b".")[2])
    kind = kind or name.partition(b".")[2].decode().replace("_", "-")
    variable = arguments[1] if len(arguments) > 1 else None
    return search_one(engine, kind, arguments[0], variable, arguments[2:])


COMMANDS: dict[bytes, Run] = {
    b"set": _set,
    b"unset": _unset,
    b"export": _export,
    b"ls": _ls,
    b"insmod": _insmod,
    b"echo": _echo,
    b"true": _constant(0),
    b"false": _constant(Status.TEST_FAILURE),
    b"break": _break,
    b"continue": _break,
    b"return": _return,
    b"shift": _shift,
    b"setparams": _setparams,
    b"[": _test,
    b"test": _test,
    b"menuentry": _menuentry,
    b"submenu": _menuentry,
    b"source": _source,
    b".": _source,
    b"configfile": _source,
    b"extract_entries_source": _source,
    b"extract_entries_configfile": _source,
    b"search": _search,
    b"search.fs_uuid": _search_one,
    b"search.file": _search_one,
    b"search.fs_label": _search_one,
    b"search.part_label": _search_one,
    b"search.part_uuid": _search_one,
    b"gptprio.next": _gptprio,
    b"linux": linux,
    b"linuxefi": linux,
    b"initrd": initrd,
    b"initrdefi": initrd,
    b"boot": boot,
    b"chainloader": chainloader,
    b"cat": _cat,
    b"load_env": _load_env,
    b"eval": _eval,
    b"sleep": _sleep,
    b"read": _stop(Outcome.INPUT),
    b"exit": _stop(Outcome.EXIT),
    b"halt": _stop(Outcome.POWER),
    b"reboot": _stop(Outcome.POWER),
    b"fwsetup": _stop(Outcome.POWER),
    b"clear": _constant(0),
    b"terminal_input": _constant(0),
    b"terminal_output": _constant(0),
    b"serial": _constant(0),
}
"""What each command does to the model; a command of a module that is there but not here is assumed to do nothing."""
