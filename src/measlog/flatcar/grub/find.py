"""``search``: devices by file, label or UUID (commands/search.c, search_wrap.c)."""

from __future__ import annotations

from measlog.flatcar.grub.devices import Device
from measlog.flatcar.grub.engine import Engine
from measlog.flatcar.grub.model import GrubFile
from measlog.flatcar.grub.options import Option, parse_options
from measlog.flatcar.grub.status import Status

__all__ = ["search", "search_one"]

_OPTIONS = (
    Option("file", b"f", b"file"),
    Option("label", b"l", b"label"),
    Option("fs-uuid", b"u", b"fs-uuid"),
    Option("set", b"s", b"set", value=True, optional=True),
    Option("no-floppy", b"n", b"no-floppy"),
    Option("hint", b"h", b"hint", value=True, repeatable=True),
    Option("hint-ieee1275", None, b"hint-ieee1275", value=True, repeatable=True),
    Option("hint-bios", None, b"hint-bios", value=True, repeatable=True),
    Option("hint-baremetal", None, b"hint-baremetal", value=True, repeatable=True),
    Option("hint-efi", None, b"hint-efi", value=True, repeatable=True),
    Option("hint-arc", None, b"hint-arc", value=True, repeatable=True),
)
_PARTITION_OPTIONS = (
    Option("part-label", b"L", b"part-label"),
    Option("part-uuid", b"U", b"part-uuid"),
    Option("disk-uuid", None, b"disk-uuid"),
)
_KINDS = ("label", "fs-uuid", "part-label", "part-uuid", "file")


def search(engine: Engine, arguments: list[bytes]) -> int:
    """The command with its options; ``--set`` without a value means ``root``."""
    partitions = "search_part_label" in engine.modules
    options = (*_OPTIONS, *_PARTITION_OPTIONS) if partitions else _OPTIONS
    parsed = parse_options(options, arguments, pending=engine.pending, accept_dash=True)
    if isinstance(parsed, Status):
        return parsed
    hints = parsed.all("hint")
    if engine.machine.platform == "efi":
        hints += parsed.all("hint-efi")
    if engine.machine.platform == "pc":
        hints += parsed.all("hint-bios")
    hints += parsed.all("hint-baremetal")
    # Hints for platforms that this build does not know are skipped.
    rest = parsed.rest
    while rest and rest[0].startswith(b"--hint-"):
        rest = rest[1:]
    given = parsed.last("set")
    variable = (given or b"root") if "set" in parsed else None
    if given == b"":
        variable = b""
    if rest:
        key = rest[0]
    elif given is not None:
        key, variable = given, b"root"
    else:
        return Status.BAD_ARGUMENT
    kind = next((k for k in _KINDS if k in parsed), None)
    if kind is None:
        return Status.INVALID_COMMAND
    return search_one(engine, kind, key, variable, hints)


def search_one(engine: Engine, kind: str, key: bytes, variable: bytes | None, hints: list[bytes]) -> int:
    """Try the place found before, the hints, then every device; with a variable the first hit ends the search."""
    count = 0

    def attempt(name: bytes, *, remember: bool = True) -> bool:
        nonlocal count
        if not _matches(engine, kind, key, name):
            return False
        if remember and count == 0:
            engine.search_cache[kind, _folded(kind, key)] = name
        count += 1
        if variable is None:
            return False
        engine.environment.set(variable, name)
        return True

    def run() -> None:
        cached = engine.search_cache.get((kind, _folded(kind, key)))
        if cached is not None and attempt(cached, remember=False):
            return
        for hint in hints:
            if not hint:
                continue
            name = hint.removesuffix(b",")
            if attempt(name):
                return
            if hint.endswith(b",") and any(attempt(part) for part in engine.devices.partitions(name)):
                return
        for device in engine.devices.all():
            if attempt(device.name):
                return

    run()
    return 0 if count else Status.FILE_NOT_FOUND


def _folded(kind: str, key: bytes) -> bytes:
    return key.lower() if kind in {"fs-uuid", "part-uuid"} else key


def _matches(engine: Engine, kind: str, key: bytes, name: bytes) -> bool:
    if kind == "file":
        # A hit is opened, and so measured; nothing else is.
        return isinstance(engine.open(b"(" + name + b")" + key), GrubFile)
    device = engine.devices.open(name)
    if not isinstance(device, Device) or device.partition is None:
        return False
    partition = device.partition
    if kind == "label":
        return partition.filesystem is not None and partition.filesystem_label == key
    if kind == "fs-uuid":
        known = partition.filesystem_uuid if partition.filesystem is not None else None
        return known is not None and known.lower() == key.lower()
    if kind == "part-label":
        return partition.label == key
    return str(partition.guid).encode() == key.lower()
