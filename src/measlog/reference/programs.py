"""Boot programs as components of a manifest: what shim, GRUB, MokManager, kernels and UKIs say of themselves."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import tarfile
from collections.abc import Mapping
from uuid import UUID

from attrs import evolve

from measlog.errors import FormatError, LimitExceededError, ManifestError, UnsupportedError
from measlog.formats.grubimage import GrubModuleArea
from measlog.formats.pecoff import PeImage
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.records.signature_list import load_certificate
from measlog.reference.authenticode import authenticode_digests
from measlog.reference.authorities import contributions, minimum_sbat, sbat_levels
from measlog.reference.kernelconfig import read_built_in
from measlog.reference.manifest import BANKS, Certificate, Component, Grub, SbatEntry
from measlog.reference.signers import image_signers, named_certificate
from measlog.reference.uki import read_uki
from measlog.registry import SHIM_LOCK

__all__ = [
    "certificate",
    "kernel_version",
    "memdisk_files",
    "parse_sbat",
    "program_role",
    "read_grub",
    "read_program",
    "vendor_data",
    "with_built_in",
]

SCRIPT_LIMIT = 1 << 20
MEMDISK_LIMIT = 64 << 20


def parse_sbat(raw: bytes) -> tuple[SbatEntry, ...]:
    """The lines of an ``.sbat`` section (shim's SBAT.md); FormatError where a line is none."""
    entries = []
    text = raw.partition(b"\0")[0]
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.decode("utf-8", "backslashreplace").split(",", 5)
        if len(fields) < 2 or not fields[0] or re.fullmatch("[0-9]{1,9}", fields[1]) is None:
            raise FormatError(f"line {number} is not component,generation,...", path=".sbat", clause="SBAT.md")
        names = ("vendor", "package", "version", "url")
        rest = dict(zip(names, fields[2:], strict=False))
        entries.append(SbatEntry(component=fields[0], generation=int(fields[1]), **rest))
    return tuple(entries)


def certificate(der: bytes) -> Certificate:
    """Subject, issuer and digest of an X.509 certificate; FormatError where ``der`` is none."""
    read = load_certificate(der)
    try:
        return named_certificate(read, der)
    except (ValueError, TypeError) as error:
        raise FormatError(f"not an X.509 certificate: {error}") from None


def vendor_data(raw: bytes) -> tuple[bytes, bytes]:
    """Shim's ``.vendor_cert`` section (shim's cert.S): vendor certificate or db, and vendor dbx, each may be empty.

    Raises FormatError.
    """
    if len(raw) < 16:
        raise FormatError("too short for its four fields", offset=0, path=".vendor_cert", clause="shim cert.S")
    db_size, dbx_size, db_at, dbx_at = (int.from_bytes(raw[i : i + 4], "little") for i in range(0, 16, 4))
    for name, at, size in (("vendor_db", db_at, db_size), ("vendor_dbx", dbx_at, dbx_size)):
        if at + size > len(raw):
            raise FormatError(
                f"{name} is bytes {at} to {at + size} of {len(raw)}",
                offset=0,
                path=".vendor_cert",
                clause="shim cert.S",
            )
    return raw[db_at : db_at + db_size], raw[dbx_at : dbx_at + dbx_size]


def kernel_version(data: bytes | memoryview, arch: str) -> str | None:
    """The version text in an x86 boot header (Linux Documentation/arch/x86/boot.rst, ``kernel_version``)."""
    if arch != "amd64" or bytes(data[0x202:0x206]) != b"HdrS":
        return None
    start = int.from_bytes(data[0x20E:0x210], "little")
    if not start:
        return None
    text, end, _ = bytes(data[start + 0x200 : start + 0x200 + 512]).partition(b"\0")
    return text.decode("utf-8", "backslashreplace") if end and text else None


def program_role(path: str, image: PeImage, sbat: tuple[SbatEntry, ...]) -> str | None:
    """Which role a PE file plays, by what is in it and, where that leaves a choice, by its name; None if unknown."""
    name = path.rpartition("/")[2].lower()
    names = {entry.component for entry in sbat}
    if image.section(".vendor_cert") is not None:
        return "shim"
    if "shim" in names:
        return "mokmanager" if name.startswith("mm") else "fallback" if name.startswith("fb") else None
    if image.section("mods") is not None:
        return "grub"
    if image.section(".linux") is not None:
        return "uki"
    if image.section(".sdmagic") is not None:
        return "systemd-boot"
    if name.startswith("vmlinuz"):
        return "kernel"
    return None


def read_program(
    data: bytes | memoryview,
    *,
    path: str,
    flat: Mapping[str, bytes],
    slot: str | None = None,
    built_in: bool = True,
    limits: Limits = DEFAULT_LIMITS,
) -> Component | None:
    """The component that a PE file is; None where it is none of those that a boot path knows.

    ``flat`` are its digests as a file. ``built_in=False`` leaves what is built into a kernel to :func:`with_built_in`,
    which takes the longest: it unpacks the kernel. FormatError where the file lies about itself, or says what no manifest can hold.
    """
    try:
        component = _read_program(data, path, flat, slot, limits)
        return with_built_in(component, data, limits=limits) if component is not None and built_in else component
    except ManifestError as error:
        raise FormatError(str(error)) from None


def _read_program(
    data: bytes | memoryview, path: str, flat: Mapping[str, bytes], slot: str | None, limits: Limits
) -> Component | None:
    image = PeImage.from_bytes(data, limits=limits)
    section = image.section(".sbat")
    sbat = parse_sbat(image.content(data, section)) if section is not None else ()
    role = program_role(path, image, sbat)
    if role is None:
        return None
    version = None
    certificates: tuple[Certificate, ...] = ()
    vendor: tuple[bytes, bytes] = b"", b""
    levels: dict[str, str] = {}
    uki = None
    if role == "shim":
        found = image.section(".vendor_cert")
        assert found is not None
        vendor = vendor_data(image.content(data, found))
        if vendor[0][:1] == b"\x30":
            certificates = (certificate(vendor[0]),)
        level = image.section(".sbatlevel")
        levels = sbat_levels(image.content(data, level)) if level is not None else {}
        minimum_sbat(levels)
    if role in {"shim", "mokmanager", "fallback"}:
        version = _shim_version(image, data, sbat)
    elif role == "kernel":
        version = kernel_version(data, image.architecture)
    elif role == "grub":
        version = next((entry.version for entry in sbat if entry.component == "grub"), None)
    elif role == "uki":
        uki = read_uki(data, image, _inner(data, image), limits=limits)
        version = uki.stub
    elif role == "systemd-boot":
        version = _loader_version(image, data)
    measured = authenticode_digests(data, BANKS, image=image)
    return Component(
        role=role,
        slot=slot,
        path=path,
        size=len(data),
        machine=image.architecture,
        authenticode=measured,
        flat=flat,
        version=version or None,
        sbat=sbat,
        signers=image_signers(data, image, measured),
        vendor_certificates=certificates,
        vendor_db_sha256=hashlib.sha256(vendor[0]).digest() if vendor[0] else None,
        vendor_dbx_sha256=hashlib.sha256(vendor[1]).digest() if vendor[1] else None,
        mok_list=_digests(_mirrored(vendor[0])) if vendor[0] else None,
        mok_list_x=_digests(vendor[1]) if vendor[1] else None,
        sbat_levels=levels,
        secure_boot=contributions(levels, [(one.subject, vendor[0]) for one in certificates]) if role == "shim" else (),
        uki=uki,
    )


def with_built_in(component: Component, data: bytes | memoryview, *, limits: Limits = DEFAULT_LIMITS) -> Component:
    """The component of the file ``data``, for a kernel or a unified image with the command line that is built in.

    Raises FormatError as :func:`measlog.reference.kernelconfig.read_built_in` does.
    """
    if component.role == "kernel":
        found = read_built_in(data, component.machine, limits=limits)
    elif component.role == "uki":
        image = PeImage.from_bytes(data, limits=limits)
        section = image.section(".linux")
        assert section is not None
        try:
            found = read_built_in(image.content(data, section), component.machine, limits=limits)
        except FormatError as error:
            raise error.inside(".linux", section.pointer_to_raw_data) from None
    else:
        return component
    return evolve(component, command_line=found.text, command_line_use=found.use, command_line_unread=found.unread)


def _inner(data: bytes | memoryview, image: PeImage) -> Mapping[str, bytes] | None:
    """The Authenticode digests of the kernel inside a unified image, None where it is no program of its own."""
    section = image.section(".linux")
    assert section is not None
    kernel = image.content(data, section)
    try:
        return authenticode_digests(kernel)
    except FormatError:
        return None


def _loader_version(image: PeImage, data: bytes | memoryview) -> str | None:
    magic = image.section(".sdmagic")
    found = (
        None if magic is None else re.search(rb"systemd-boot ([-.~+0-9A-Za-z]{1,64}) ####", image.content(data, magic))
    )
    return None if found is None else found[1].decode()


def _shim_version(image: PeImage, data: bytes | memoryview, sbat: tuple[SbatEntry, ...]) -> str | None:
    ident = image.section(".data.ident")
    if ident is not None:
        found = re.search(rb"\$Version: ([0-9A-Za-z.~+-]{1,32}) \$", image.content(data, ident))
        if found is not None:
            return found[1].decode()
    return next((entry.version for entry in sbat if entry.component.startswith("shim.")), None)


def read_grub(data: bytes | memoryview, *, limits: Limits = DEFAULT_LIMITS) -> Grub:
    """The configuration embedded in a GRUB image; FormatError where there is no memdisk with a ``grub.cfg``."""
    image = PeImage.from_bytes(data, limits=limits)
    section = image.section("mods")
    if section is None:
        raise FormatError("no mods section: not a GRUB image", path="sections")
    area = GrubModuleArea.from_bytes(image.content(data, section), limits=limits)
    if area.memdisk is None:
        raise FormatError("GRUB without a memdisk: its configuration is not embedded", path="mods")
    files = memdisk_files(area.memdisk)
    if "grub.cfg" not in files:
        raise FormatError("the memdisk holds no grub.cfg", path="mods.memdisk")
    texts = {path: _script(raw, f"mods.memdisk[{path}]") for path, raw in files.items()}
    try:
        return Grub(
            config=texts.pop("grub.cfg"),
            load_config=None if area.config is None else _script(area.config, "mods.config"),
            prefix=None if area.prefix is None else _script(area.prefix, "mods.prefix"),
            version=area.version,
            profile=_profile(area),
            modules=area.modules,
            memdisk=texts,
        )
    except ManifestError as error:
        raise FormatError(str(error), path="mods") from None


def _profile(area: GrubModuleArea) -> str | None:
    if area.version is None:
        return None
    if area.version.startswith("2.12") and "gptprio" in area.modules:
        return "flatcar-2.12"
    return "debian-2.06" if area.version.startswith("2.06") else None


def _script(raw: bytes, path: str) -> str:
    if len(raw) > SCRIPT_LIMIT:
        raise LimitExceededError(f"{len(raw)} bytes of script, the limit is {SCRIPT_LIMIT}", path=path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsupportedError("a script that is not UTF-8", offset=error.start, path=path) from None


def memdisk_files(raw: bytes) -> dict[str, bytes]:
    """The files of a memdisk, a plain tar, by path without leading ``./``; FormatError where it is none."""
    if len(raw) > MEMDISK_LIMIT:
        raise LimitExceededError(f"{len(raw)} bytes, the limit is {MEMDISK_LIMIT}", path="memdisk")
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
            for member in archive:
                path = member.name.removeprefix("./").lstrip("/")
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise UnsupportedError(
                        f"{path!r} is neither a file nor a folder", offset=member.offset, path="memdisk"
                    )
                if path in files:
                    raise FormatError(f"{path!r} is there twice", offset=member.offset, path="memdisk")
                if member.offset_data + member.size > len(raw):
                    raise FormatError(f"{path!r} ends beyond the archive", offset=member.offset, path="memdisk")
                files[path] = raw[member.offset_data : member.offset_data + member.size]
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"not a tar archive: {error}", path="memdisk") from None
    return files


_CERT_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")


def _mirrored(vendor: bytes) -> bytes:
    """What shim puts before the owner's entries of MokList (shim mok.c): a vendor certificate becomes a list of one."""
    if vendor[:1] != b"\x30":
        return vendor
    entry = SHIM_LOCK.bytes_le + vendor
    return _CERT_X509.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry


def _digests(data: bytes) -> dict[str, bytes]:
    return {bank: hashlib.new(bank, data).digest() for bank in BANKS}
