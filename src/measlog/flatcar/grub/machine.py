"""A run from GRUB's start to the kernel (kern/main.c, normal/main.c)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from measlog.errors import LimitExceededError
from measlog.flatcar.grub import loader
from measlog.flatcar.grub.builds import COMMAND_MODULES
from measlog.flatcar.grub.commands import COMMANDS, read_lists, source_file
from measlog.flatcar.grub.engine import Engine, Stop
from measlog.flatcar.grub.menu import show_menu
from measlog.flatcar.grub.model import DEFAULT_GRUB_LIMITS, GrubBoot, GrubLimits, Machine, Outcome
from measlog.flatcar.grub.parser import Script
from measlog.flatcar.grub.status import Status

__all__ = ["run"]


def run(
    config: bytes | None,
    machine: Machine,
    limits: GrubLimits = DEFAULT_GRUB_LIMITS,
    *,
    cache: dict[tuple[bytes, bool], Script] | None = None,
    typed: Sequence[bytes] = (),
) -> GrubBoot:
    """What GRUB measures and boots when it starts on ``machine``.

    Nobody presses a key, unless ``typed`` has what somebody types: at the first menu that is shown they press ``c`` and
    give these lines to the command line, one by one.
    ``config`` is the ``grub.cfg`` of the memdisk, which is measured nowhere; None where there is none there. A caller
    who runs the same scripts many times hands over a ``cache``, which holds them parsed; it belongs to one ``limits``.

    Raises LimitExceededError where the configuration asks for more than ``limits``, and UnsupportedError where it
    depends on something that is not known (the content of a file known by its digest).
    """
    if config is not None and len(config) > limits.config_size:
        raise LimitExceededError(f"a configuration of {len(config)} bytes, the most is {limits.config_size}")
    engine = Engine(machine, limits, config, {} if cache is None else cache, typed)
    try:
        _start(engine)
        _normal(engine)
        outcome = Outcome.PROMPT
    except Stop as stop:
        outcome = stop.outcome
        if outcome is Outcome.KERNEL:
            loader.start(engine)
    except RecursionError:
        raise LimitExceededError("the configuration nests deeper than can be followed") from None
    return GrubBoot(
        events=tuple(engine.events),
        outcome=outcome,
        kernel=engine.kernel if outcome is Outcome.KERNEL else None,
        command_line=engine.command_line if outcome is Outcome.KERNEL else None,
        initrds=tuple(engine.initrds) if outcome is Outcome.KERNEL else (),
        attributes=engine.attributes,
        runs=engine.runs,
        assumptions=tuple(engine.assumptions),
    )


def _start(engine: Engine) -> None:
    environment, machine = engine.environment, engine.machine
    environment.set(b"root", b"hd0,gpt1")
    environment.set(b"prefix", b"(memdisk)")
    environment.hook(b"root", _bare_device)
    environment.export(b"root")
    environment.export(b"prefix")
    if machine.secure_boot:
        for lockdown in engine.build.lockdown_variables:
            environment.set(lockdown.encode(), b"y")
            environment.export(lockdown.encode())
    for feature in engine.build.features:
        environment.set(feature.encode(), b"y")
        environment.export(feature.encode())
    for name, value in (
        (b"pager", b""),
        (b"color_normal", b"light-gray/black"),
        (b"color_highlight", b"black/light-gray"),
    ):
        environment.hook(name, bytes)
        environment.set(name, value)
        environment.export(name)
    environment.set(b"grub_cpu", machine.cpu.encode())
    environment.export(b"grub_cpu")
    environment.set(b"grub_platform", machine.platform.encode())
    environment.export(b"grub_platform")
    for name, value in machine.variables.items():
        environment.set(name, value)
    if machine.load_config is not None:
        _rescue(engine, machine.load_config)


def _bare_device(value: bytes) -> bytes:
    """``root`` is kept without parentheses (kern/main.c)."""
    return value[1:-1] if value[:1] == b"(" and value[-1:] == b")" else value


def _normal(engine: Engine) -> None:
    """The command ``normal``: read the lists of modules, the configuration, show the menu."""
    environment = engine.environment
    prefix = environment.get(b"prefix") or b""
    config = prefix + b"/grub.cfg"
    if engine.build.home_config and not isinstance(engine.open(engine.machine.home + b"/grub.cfg"), Status):
        config = engine.machine.home + b"/grub.cfg"
    read_lists(engine, prefix)

    def hook(value: bytes) -> bytes:
        read_lists(engine, value)
        return value

    environment.hook(b"prefix", hook)
    if source_file(engine, config) and engine.menu.entries:
        show_menu(engine, engine.menu, autobooted=False)


_RESCUE_WORD = re.compile(rb"""(?:[^ \t'"\\]|\\.|'[^']*'|"[^"]*")+""")
_RESCUE_PIECE = re.compile(rb"""'(?P<single>[^']*)'|"(?P<double>[^"]*)"|\\(?P<escaped>.)|(?P<plain>[^'"\\]+)""")
_RESCUE_VARIABLE = re.compile(rb"\$(?:\{([A-Za-z0-9_?]+)\}|([A-Za-z0-9_?]+))")


def _rescue(engine: Engine, text: bytes) -> None:
    """The embedded configuration: one command a line, no keywords, not recorded (kern/rescue_parser.c)."""
    for line in text.replace(b"\r", b"").split(b"\n"):
        words = [_rescue_word(engine, match.group()) for match in _RESCUE_WORD.finditer(line)]
        if not words or words[0].startswith(b"#"):
            continue
        name, arguments = words[0], words[1:]
        if b"=" in name and not arguments:
            variable, _equals, value = name.partition(b"=")
            engine.environment.set(variable, value)
            continue
        here = not engine.modules.isdisjoint(COMMAND_MODULES.get(name, ()))
        if here and (command := COMMANDS.get(name)) is not None:
            command(engine, name, arguments, None)


def _rescue_word(engine: Engine, word: bytes) -> bytes:
    def value(match: re.Match[bytes]) -> bytes:
        return engine.environment.get(match.group(1) or match.group(2)) or b""

    made = bytearray()
    for piece in _RESCUE_PIECE.finditer(word):
        if (single := piece.group("single")) is not None:
            made += single
        elif (double := piece.group("double")) is not None:
            made += _RESCUE_VARIABLE.sub(value, double)
        elif (escaped := piece.group("escaped")) is not None:
            made += escaped
        else:
            made += _RESCUE_VARIABLE.sub(value, piece.group("plain"))
    return bytes(made)
