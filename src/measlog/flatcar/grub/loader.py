"""Commands that load a kernel or another program.

GRUB's loader/i386/linux.c, loader/i386/efi/linux.c, loader/arm64/linux.c and lib/cmdline.c.
"""

from __future__ import annotations

import re

from measlog.errors import UnsupportedError
from measlog.flatcar.grub.engine import Engine, Stop
from measlog.flatcar.grub.model import Outcome
from measlog.flatcar.grub.parser import CommandList
from measlog.flatcar.grub.status import Status

__all__ = ["boot", "chainloader", "initrd", "kernel_command_line", "linux", "start"]


def linux(engine: Engine, name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    """``linux`` and ``linuxefi``: the file, the image where Secure Boot is on, then the command line are measured.

    Raises UnsupportedError on arm64 with Secure Boot on.
    """
    if not arguments:
        return Status.BAD_ARGUMENT
    machine, build = engine.machine, engine.build
    if machine.cpu == "arm64" and not build.arm64:
        raise UnsupportedError(f"how {build.name} starts a kernel on arm64, and what is measured then, is not known")
    file = engine.open(arguments[0])
    if isinstance(file, Status):
        return file
    if machine.secure_boot:
        # Shim measures what it is asked to verify before it verifies it.
        separate = "linuxefi" in engine.modules
        for _ in range(build.image_measurements + separate):
            engine.measure_image(arguments[0], file)
            if not file.signed:
                return Status.BAD_SIGNATURE if build.image_measurements else Status.ACCESS_DENIED
    if not file.bootable:
        return Status.BAD_OS
    slack = build.cmdline_slack if name == b"linux" and not machine.secure_boot else 0
    room = None if machine.cpu == "arm64" else file.command_line_size + slack - len(_IMAGE)
    text = kernel_command_line(arguments, room, keep_hex=build.keep_hex_escapes)
    engine.measure_cmdline(text)
    engine.loaded = Outcome.KERNEL, arguments[0]
    engine.kernel = arguments[0]
    engine.kernel_file = file
    engine.command_line = text
    engine.initrds = []
    return 0


def start(engine: Engine) -> None:
    """The kernel that was loaded is started.

    On arm64 it is an EFI program like any other: LoadImage measures it where shim has not done so, and its EFI stub
    measures its load options. On x86 GRUB jumps past the firmware and the stub.
    """
    if engine.machine.cpu != "arm64":
        return
    assert engine.kernel is not None
    assert engine.kernel_file is not None
    assert engine.command_line is not None
    if not engine.machine.secure_boot:
        engine.measure_image(engine.kernel, engine.kernel_file)
    engine.measure_load_options(_IMAGE + engine.command_line)
    engine.assume("register 9: the kernel measures its load options, as Linux 6.1 does")


_IMAGE = b"BOOT_IMAGE="
_CMDLINE_ESCAPE = re.compile(rb"[\\'\"]")
_CMDLINE_ESCAPE_HEX = re.compile(rb"(\\x[0-9A-Fa-f]{2})|([\\'\"])")


def kernel_command_line(arguments: list[bytes], room: int | None, *, keep_hex: bool) -> bytes:
    """The arguments as GRUB joins them for the kernel, as many as fit into ``room`` bytes, or all (lib/cmdline.c)."""
    made: list[bytes] = []
    for argument in arguments:
        if keep_hex:
            text = _CMDLINE_ESCAPE_HEX.sub(lambda match: match.group(1) or b"\\" + match.group(2), argument)
        else:
            text = _CMDLINE_ESCAPE.sub(lambda match: b"\\" + match.group(), argument)
        if b" " in argument:
            text = b'"' + text + b'"'
        if room is not None:
            room -= len(text) + 1
            if room < 0:
                break
        made.append(text)
    return b" ".join(made)


def initrd(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    """``initrd``: each file is measured."""
    if not arguments or engine.loaded is None or engine.loaded[0] is not Outcome.KERNEL:
        return Status.BAD_ARGUMENT
    for argument in arguments:
        name = argument
        if name.startswith(b"newc:") and b":" in name[5:]:
            name = name[5:].lstrip(b"/").partition(b":")[2]
        file = engine.open(name)
        if isinstance(file, Status):
            return file
    engine.initrds = list(arguments)
    return 0


def boot(engine: Engine, _name: bytes, _arguments: list[bytes], _block: CommandList | None) -> int:
    """``boot``. Raises Stop: control does not come back."""
    if engine.loaded is None:
        return Status.NO_KERNEL
    raise Stop(engine.loaded[0])


def chainloader(engine: Engine, _name: bytes, arguments: list[bytes], _block: CommandList | None) -> int:
    """``chainloader``."""
    names = [name for name in arguments if name != b"--force"]
    if not names:
        return Status.BAD_ARGUMENT
    file = engine.open(names[0])
    if isinstance(file, Status):
        return file
    engine.measure_image(names[0], file)
    engine.assume("the firmware or shim measures a chain-loaded program once")
    engine.loaded = Outcome.CHAINLOAD, names[0]
    return 0
