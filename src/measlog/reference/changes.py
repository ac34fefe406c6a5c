"""What changes between two releases, in words and in registers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import unified_diff

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.reference.manifest import BootPath, Component, ReferenceManifest, Usr

__all__ = ["Change", "compare"]

_ROLES = {
    "shim": "shim",
    "grub": "GRUB",
    "mokmanager": "MokManager",
    "fallback": "shim's fallback",
    "kernel": "kernel",
    "uki": "unified kernel image",
    "systemd-boot": "systemd-boot",
}


@frozen(kw_only=True)
class Change:
    """One difference: what it is about, in a sentence, and the registers in which a boot shows it.

    ``kind`` is ``program``, ``version``, ``signer``, ``certificate``, ``sbat``, ``configuration``, ``command-line``,
    ``usr``, ``boot-path`` or ``coverage``; ``old`` and ``new`` are texts, None where there is none on that side.
    """

    kind: str = field(validator=instance_of(str))
    subject: str = field(validator=instance_of(str))
    message: str = field(validator=instance_of(str))
    registers: tuple[int, ...] = field(default=(), validator=deep_iterable(instance_of(int)))
    old: str | None = field(default=None)
    new: str | None = field(default=None)


def compare(old: ReferenceManifest, new: ReferenceManifest) -> tuple[Change, ...]:
    """What a machine measures differently after it went from one release to the other; empty where nothing."""
    return (*_programs(old, new), *_configuration(old, new), *_usr(old, new), *_boot_paths(old, new), *_cover(old, new))


def _key(component: Component) -> tuple[str, str]:
    return component.role, component.slot or component.path.rpartition("/")[2]


def _programs(old: ReferenceManifest, new: ReferenceManifest) -> Iterator[Change]:
    before = {_key(one): one for one in old.components}
    after = {_key(one): one for one in new.components}
    for key in sorted(before.keys() | after.keys()):
        first, second = before.get(key), after.get(key)
        one = second or first
        assert one is not None
        name = _ROLES[one.role] + (f" of slot {one.slot}" if one.slot else "")
        registers = _registers(one)
        if first is None or second is None:
            word = "is new" if first is None else "is gone"
            yield Change(kind="program", subject=name, message=f"{name} {word}", registers=registers)
        elif first.flat != second.flat:
            yield from _program(name, first, second, registers)


def _registers(component: Component) -> tuple[int, ...]:
    if component.role == "kernel":
        return 4, 9
    if component.role == "uki":
        return 4, 11
    # MokManager and the fallback run only when they are asked for.
    return () if component.role in {"mokmanager", "fallback"} else (4,)


def _program(name: str, old: Component, new: Component, registers: tuple[int, ...]) -> Iterator[Change]:
    if old.authenticode == new.authenticode:
        message = f"{name} has other signatures; what is measured into PCR 4 is the same"
        yield Change(kind="program", subject=name, message=message, registers=tuple(r for r in registers if r != 4))
    else:
        yield Change(
            kind="program",
            subject=name,
            message=f"{name} is another program",
            registers=registers,
            old=old.authenticode["sha256"].hex(),
            new=new.authenticode["sha256"].hex(),
        )
    yield from _texts("version", name, f"the version of {name}", old.version, new.version)
    yield from _texts("signer", name, f"the signer of {name}", _signers(old), _signers(new), (7,))
    before, after = _certificates(old), _certificates(new)
    yield from _texts("certificate", name, f"the certificate inside {name}", before, after, (7, 14))
    yield from _texts("certificate", name, f"the list of forbidden programs inside {name}", _dbx(old), _dbx(new), (14,))
    yield from _texts("sbat", name, f"the SBAT generations of {name}", _sbat(old), _sbat(new))
    yield from _texts("sbat", name, f"the SBAT level that {name} sets", _level(old), _level(new), (7,))
    before, after = (None if one.uki is None else one.uki.command_line for one in (old, new))
    yield from _texts("command-line", name, f"the command line of {name}", before, after, (11, 12))
    what = f"the built-in command line of {name}"
    yield from _texts("command-line", name, what, old.built_in, new.built_in, registers)


def _texts(
    kind: str, subject: str, what: str, old: str | None, new: str | None, registers: tuple[int, ...] = ()
) -> Iterator[Change]:
    if old == new:
        return
    words = f"{what} was {old or 'none'}, is {new or 'none'}"
    yield Change(kind=kind, subject=subject, message=words, registers=registers, old=old, new=new)


def _signers(component: Component) -> str | None:
    return "; ".join(sorted(one.chain[0].subject for one in component.signers)) or None


def _certificates(component: Component) -> str | None:
    return "; ".join(f"{one.subject} ({one.sha256.hex()[:16]})" for one in component.vendor_certificates) or None


def _dbx(component: Component) -> str | None:
    return None if component.vendor_dbx_sha256 is None else component.vendor_dbx_sha256.hex()


def _level(component: Component) -> str | None:
    return ", ".join(f"{key} {value}" for key, value in sorted(component.minimum_sbat.items())) or None


def _sbat(component: Component) -> str | None:
    return ", ".join(f"{one.component} {one.generation}" for one in component.sbat if one.component != "sbat") or None


def _configuration(old: ReferenceManifest, new: ReferenceManifest) -> Iterator[Change]:
    before, after = (None if one.grub is None else one.grub.config for one in (old, new))
    if before != after:
        lines = unified_diff((before or "").splitlines(), (after or "").splitlines(), "old", "new", lineterm="", n=1)
        yield Change(
            kind="configuration",
            subject="grub.cfg",
            message="the configuration embedded in GRUB differs",
            registers=(4, 8),
            new="\n".join(lines),
        )
    first, second = (None if one.grub is None else ", ".join(one.grub.modules) for one in (old, new))
    yield from _texts("configuration", "GRUB", "the modules inside GRUB", first, second, (4,))


def _usr(old: ReferenceManifest, new: ReferenceManifest) -> Iterator[Change]:
    before, after = ({one.slot: one for one in made.usr} for made in (old, new))
    for slot in sorted(before.keys() | after.keys()):
        first, second = before.get(slot), after.get(slot)
        name = f"USR-{slot.upper()}"
        yield from _texts("usr", name, f"the root hash of {name}", _root(first), _root(second), (4, 9))
        was, now = (None if one is None else one.status for one in (first, second))
        yield from _texts("usr", name, f"what is known of {name}", was, now)


def _root(usr: Usr | None) -> str | None:
    return None if usr is None or usr.root is None else usr.root.hex()


def _boot_paths(old: ReferenceManifest, new: ReferenceManifest) -> Iterator[Change]:
    before, after = ({one.name: one for one in made.boot_paths} for made in (old, new))
    for name in sorted(before.keys() | after.keys()):
        first, second = before.get(name), after.get(name)
        if first is None or second is None:
            word = "is new" if first is None else "is gone"
            yield Change(kind="boot-path", subject=name, message=f"the boot {name!r} {word}")
            continue
        registers = tuple(pcr for pcr in _pcrs(first, second) if _digests(first, pcr) != _digests(second, pcr))
        if registers:
            listed = ", ".join(str(pcr) for pcr in registers)
            yield Change(
                kind="boot-path",
                subject=name,
                message=f"the boot {name!r} differs in PCR {listed}",
                registers=registers,
            )
        yield from _texts("command-line", name, f"the command line of {name!r}", _line(first), _line(second), (8,))


def _line(path: BootPath) -> str | None:
    """The last text of PCR 8 that names a kernel: its command line."""
    texts = [event.text for event in path.of(8) if event.text is not None and "vmlinuz" in event.text]
    return texts[-1] if texts else None


def _pcrs(*paths: BootPath) -> list[int]:
    return sorted({event.pcr for path in paths for event in path.events})


def _digests(path: BootPath, pcr: int) -> list[bytes]:
    return [event.digests["sha256"] for event in path.of(pcr)]


def _cover(old: ReferenceManifest, new: ReferenceManifest) -> Iterator[Change]:
    lost, won = old.covers.keys() - new.covers.keys(), new.covers.keys() - old.covers.keys()
    for word, registers in (("no longer covers", lost), ("now covers", won)):
        if registers:
            yield Change(
                kind="coverage",
                subject="registers",
                message=f"the manifest {word} PCR {_list(registers)}",
                registers=tuple(sorted(registers)),
            )


def _list(registers: Iterable[int]) -> str:
    return ", ".join(str(register) for register in sorted(registers))
