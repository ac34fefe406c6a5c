"""The menu (normal/menu.c): which entry runs, and what happens when it does not boot."""

from __future__ import annotations

from measlog.flatcar.grub.engine import Engine, Entry, Menu, Stop
from measlog.flatcar.grub.model import Outcome
from measlog.flatcar.grub.numbers import SPACES, strtoul, to_int
from measlog.flatcar.grub.status import Status

__all__ = ["show_menu"]

_TIMEOUT = b"timeout"


def show_menu(engine: Engine, menu: Menu, *, autobooted: bool) -> None:
    """Run the menu: nobody presses a key, or somebody opens the command line. Raises Stop where it waits for them."""
    while True:
        number = _entry_number(engine, menu, b"default")
        if not 0 <= number < len(menu.entries):
            number = 0
        timeout = _timeout(engine)
        if engine.typed and timeout:
            _command_line(engine)
        if timeout < 0:
            raise Stop(Outcome.MENU)
        if engine.environment.get(b"timeout_style") in {b"hidden", b"countdown"}:
            engine.environment.unset(_TIMEOUT)
            engine.environment.unset(b"timeout_style")
        elif timeout:
            engine.environment.unset(_TIMEOUT)
        entry = menu.entries[number]
        if entry.users is not None and engine.environment.get(b"superusers"):
            # A password is asked for.
            raise Stop(Outcome.MENU)
        _run_with_fallback(engine, menu, entry)
        if autobooted:
            return


def _timeout(engine: Engine) -> int:
    value = engine.environment.get(_TIMEOUT)
    if value is None:
        return -1
    number, _end, error = strtoul(value)
    if error:
        engine.environment.unset(_TIMEOUT)
        return -1
    return to_int(number)


def _command_line(engine: Engine) -> None:
    """The command line, which ``c`` opens; the key ends the countdown. Raises Stop: nobody leaves it for the menu."""
    engine.environment.unset(_TIMEOUT)
    engine.environment.unset(b"fallback")
    if engine.environment.get(b"superusers"):
        # A password is asked for.
        raise Stop(Outcome.MENU)
    for line in engine.typed:
        engine.pending = Status.NONE
        engine.run_script(line, file=True)
    raise Stop(Outcome.PROMPT)


def _run_with_fallback(engine: Engine, menu: Menu, entry: Entry) -> None:
    _run_entry(engine, entry)
    # An entry that comes back has not booted.
    while (number := _next_fallback(engine, menu)) >= 0:
        if number >= len(menu.entries):
            raise Stop(Outcome.MENU)
        _run_entry(engine, menu.entries[number])


def _run_entry(engine: Engine, entry: Entry) -> None:
    environment = engine.environment
    chosen, default = environment.get(b"chosen"), environment.get(b"default")
    engine.runs += 1
    if entry.submenu:
        engine.open_context()
        menu = engine.menu
        environment.set(_TIMEOUT, b"0")
    path = entry.id.replace(b">", b">>")
    environment.set(b"chosen", path if chosen is None else chosen + b">" + path)
    environment.export(b"chosen")
    rest = _below(default or b"")
    if rest:
        environment.set(b"default", rest)
    elif engine.build.entry_unsets_default:
        environment.unset(b"default")
    engine.run_in_scope(entry.source, entry.arguments)
    # An error that nobody has printed keeps what was loaded from booting.
    if engine.loaded is not None and not engine.pending:
        raise Stop(engine.loaded[0])
    if entry.submenu:
        if menu.entries:
            show_menu(engine, menu, autobooted=True)
        engine.close_context()
    for name, value in ((b"chosen", chosen), (b"default", default)):
        if value is None:
            environment.unset(name)
        else:
            environment.set(name, value)
    environment.unset(_TIMEOUT)


def _below(spec: bytes) -> bytes:
    """What follows the first single ``>``: the choice inside a submenu."""
    at = 0
    while at < len(spec):
        if spec[at : at + 2] == b">>":
            at += 2
        elif spec[at : at + 1] == b">":
            return spec[at + 1 :]
        else:
            at += 1
    return b""


def _equal(identity: bytes, spec: bytes) -> bool:
    """Whether ``spec`` names the entry, alone or as the first step of a path (``menuentry_eq``)."""
    first = spec
    rest = _below(spec)
    if rest or spec.endswith(b">"):
        first = spec[: len(spec) - len(rest) - 1]
    return identity == first.replace(b">>", b">")


def _entry_number(engine: Engine, menu: Menu, name: bytes) -> int:
    value = engine.environment.get(name)
    if value is None:
        return -1
    if engine.build.default_by_id:
        number, tail = _by_id(menu, value)
        return number if not tail else -1
    number, _end, error = strtoul(value)
    if not error:
        return to_int(number)
    for index, entry in enumerate(menu.entries):
        if _equal(entry.title, value) or _equal(entry.id, value):
            return index
    return -1


def _by_id(menu: Menu, value: bytes) -> tuple[int, bytes]:
    """The entry whose id is the first word, else whose title is all of it, else of that number; and what is left."""
    word = value.split(None, 1)[0] if value.strip(SPACES) else b""
    for index, entry in enumerate(menu.entries):
        if word and _equal(entry.id, word):
            return index, value[len(word) :]
    for index, entry in enumerate(menu.entries):
        if value and _equal(entry.title, value):
            return index, b""
    number, end, error = strtoul(value)
    tail = value[end:]
    if error or (tail and tail[0] not in SPACES):
        return -1, b""
    return to_int(number), tail


def _next_fallback(engine: Engine, menu: Menu) -> int:
    """Take the first entry off ``fallback``."""
    environment = engine.environment
    value = environment.get(b"fallback")
    if value is None:
        return -1
    if engine.build.default_by_id:
        number, tail = _by_id(menu, value)
        if number >= 0 and tail.lstrip(SPACES):
            environment.set(b"fallback", tail.lstrip(SPACES))
        else:
            environment.unset(b"fallback")
        return number
    raw, end, error = strtoul(value)
    if error:
        environment.unset(b"fallback")
        return -1
    environment.set(b"fallback", value[end:].lstrip(SPACES))
    return to_int(raw)
