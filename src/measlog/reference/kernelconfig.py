"""The command line that is built into a kernel, from the configuration that it carries.

With ``CONFIG_IKCONFIG=y`` the configuration is in the kernel itself, packed by gzip between ``IKCFG_ST`` and ``IKCFG_ED``
(Linux, kernel/configs.c). What becomes of the built-in command line: arch/x86/kernel/setup.c (``setup_arch``) and
drivers/of/fdt.c (``early_init_dt_scan_chosen``), which arm64 uses.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from attrs import field, frozen
from attrs.validators import instance_of, optional

from measlog.errors import FormatError, LimitExceededError, TruncatedError
from measlog.formats.linuximage import KernelPayload
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["LINE_LIMIT", "USES", "BuiltInCommandLine", "in_words", "read_built_in"]

_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "before": "before what the boot loader gives",
        "after": "after what the boot loader gives",
        "default": "where the boot loader gives none",
        "instead": "in place of what the boot loader gives",
    }
)
USES = tuple(_WORDS)
"""What a kernel does with its built-in command line."""

CHUNK = 1 << 20
ZSTD_CHUNK = 512
"""Bytes handed to zstandard at a time: what it makes of one block of 3 bytes is at most 128 KiB."""

MEMORY = 160 << 20
"""What unpacking may take, in bytes; the kernel's own build asks for 128 MiB at most (scripts/Makefile.lib)."""

CONFIG_LIMIT = 1 << 20
"""Bytes of a configuration, packed; unpacked four times as many. Those of distributions have 60 KiB and 300 KiB."""

LINE_LIMIT = 4096
"""Characters of a command line; the kernels' own limit is 2,048 (COMMAND_LINE_SIZE of x86 and arm64)."""

_START, _END = b"IKCFG_ST", b"IKCFG_ED"
_GZIP = b"\x1f\x8b\x08"
_OPTION = re.compile(r"^CONFIG_(X86|ARM64|CMDLINE(?:_[A-Z_]+)?)=(.*)$", re.MULTILINE)
_VALUE = re.compile(r'y|m|n|"((?:[^"\\]|\\.)*)"')
_ARCHITECTURES = {"amd64": "X86", "386": "X86", "arm64": "ARM64"}


@frozen(kw_only=True)
class BuiltInCommandLine:
    """``text`` as it is built in, empty where nothing is, and what the kernel does with it (:data:`USES`).

    Where the kernel does not tell, both are None, and ``unread`` says why.
    """

    text: str | None = field(default=None, validator=optional(instance_of(str)))
    use: str | None = field(default=None, validator=optional(instance_of(str)))
    unread: str | None = field(default=None, validator=optional(instance_of(str)))


def in_words(text: str | None, use: str | None) -> str | None:
    """A built-in command line as people are told of it, None where nothing is built in; ``text`` is None if unknown."""
    if text is None:
        return "not known"
    return None if use is None else f"{text} ({_WORDS[use]})"


class _UnreadError(Exception):
    """The kernel is sound for all that is known, but its configuration cannot be read; the message says why."""


def read_built_in(data: bytes | memoryview, arch: str, *, limits: Limits = DEFAULT_LIMITS) -> BuiltInCommandLine:
    """The built-in command line of the kernel image ``data`` for ``arch`` (``amd64``, ``arm64``).

    A kernel without a configuration, or in a form that is not read, is no error: ``unread`` says why. Raises FormatError
    where the file's header lies about the kernel in it, and where what is packed is damaged; LimitExceededError where it
    unpacks to more than ``limits.kernel_size``.
    """
    payload = KernelPayload.find(data)
    if payload is None:
        return BuiltInCommandLine(unread="no header says where the kernel lies in the file")
    view = memoryview(data)[payload.offset : payload.offset + payload.size]
    try:
        config = _embedded(_unpacked(view, payload, limits))
        return _parsed(config, arch)
    except _UnreadError as error:
        return BuiltInCommandLine(unread=str(error))


def _parsed(config: str, arch: str) -> BuiltInCommandLine:
    options: dict[str, str] = {}
    for name, value in _OPTION.findall(config):
        found = _VALUE.fullmatch(value)
        if name in options or found is None:
            raise _UnreadError(f"the embedded configuration sets CONFIG_{name} twice, or to what is no value")
        options[name] = value if found[1] is None else re.sub(r"\\(.)", r"\1", found[1])
    family = _ARCHITECTURES.get(arch)
    if family is None or options.get(family) != "y":
        raise _UnreadError(f"the embedded configuration is not that of a kernel for {arch}")
    text = options.get("CMDLINE", "")
    if family == "X86" and options.get("CMDLINE_BOOL") != "y":
        text = ""
    if len(text) > LINE_LIMIT or not text.isprintable():
        raise _UnreadError("the built-in command line has characters that are none, or too many")
    if not text:
        return BuiltInCommandLine(text="")
    if family == "X86":
        use = "instead" if options.get("CMDLINE_OVERRIDE") == "y" else "before"
    elif options.get("CMDLINE_FORCE") == "y":
        use = "instead"
    else:
        use = "after" if options.get("CMDLINE_EXTEND") == "y" else "default"
    return BuiltInCommandLine(text=text, use=use)


def _embedded(pieces: Iterable[bytes]) -> str:
    """The configuration in a kernel that comes piece by piece; all of it is looked through."""
    found: list[bytes] = []
    window, inside = b"", False
    for piece in pieces:
        window += piece
        while True:
            if not inside:
                start = window.find(_START + _GZIP)
                if start < 0:
                    window = window[-len(_START + _GZIP) + 1 :]
                    break
                window, inside = window[start + len(_START) :], True
            end = window.find(_END)
            if end < 0:
                if len(window) > CONFIG_LIMIT:
                    raise _UnreadError("the embedded configuration has no end")
                break
            found.append(window[:end])
            window, inside = window[end + len(_END) :], False
    if inside:
        raise _UnreadError("the embedded configuration has no end")
    if not found:
        raise _UnreadError("the kernel carries no configuration (CONFIG_IKCONFIG)")
    if len(found) > 1:
        raise _UnreadError(f"{len(found)} embedded configurations: which one is the kernel's is not known")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        config = unpacker.decompress(found[0], 4 * CONFIG_LIMIT)
    except zlib.error:
        raise _UnreadError("the embedded configuration is damaged") from None
    if not unpacker.eof or unpacker.unused_data:
        raise _UnreadError("the embedded configuration is damaged, or too long")
    try:
        return config.decode("utf-8")
    except UnicodeDecodeError:
        raise _UnreadError("the embedded configuration is not UTF-8") from None


def _unpacked(packed: memoryview, payload: KernelPayload, limits: Limits) -> Iterator[bytes]:
    """The kernel piece by piece; what follows the end of what is packed is not looked at (the build appends its size)."""
    if payload.packing == "none":
        yield from _slices(packed, CHUNK)
        return
    try:
        yield from _bounded(_steps(packed, payload.packing), limits.kernel_size, payload.offset)
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        kind = TruncatedError if isinstance(error, EOFError) else FormatError
        raise kind(f"{payload.packing}: cannot be unpacked: {error}", offset=payload.offset, path="payload") from None
    except Exception as error:
        # zstandard's error has no public base of its own kind.
        if type(error).__name__ != "ZstdError":
            raise
        raise FormatError(f"zstd: cannot be unpacked: {error}", offset=payload.offset, path="payload") from None


def _bounded(pieces: Iterator[bytes], limit: int, offset: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise LimitExceededError(f"unpacks to more than {limit} bytes", offset=offset, path="payload")
        yield piece


def _slices(data: memoryview, size: int) -> Iterator[bytes]:
    for place in range(0, len(data), size):
        yield bytes(data[place : place + size])


class _Stepwise(Protocol):
    """A decompressor of the standard library that hands out as much as is asked for."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Zlib:
    """zlib's decompressor with the manners of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _steps(packed: memoryview, packing: str | None) -> Iterator[bytes]:
    unpacker: _Stepwise
    if packing == "gzip":
        unpacker = _Zlib()
    elif packing == "bzip2":
        unpacker = bz2.BZ2Decompressor()
    elif packing in {"xz", "lzma"}:
        kind = lzma.FORMAT_XZ if packing == "xz" else lzma.FORMAT_ALONE
        unpacker = lzma.LZMADecompressor(kind, memlimit=MEMORY)
    elif packing == "zstd":
        yield from _zstd(packed)
        return
    else:
        raise _UnreadError(
            f"a kernel packed by {packing} is not read" if packing else "the kernel is packed in no known way"
        )
    yield from _run(unpacker, packed)


def _run(unpacker: _Stepwise, packed: memoryview) -> Iterator[bytes]:
    rest = _slices(packed, CHUNK)
    while not unpacker.eof:
        data = b""
        if unpacker.needs_input:
            data = next(rest, b"")
        piece = unpacker.decompress(data, CHUNK)
        if not data and not piece and unpacker.needs_input:
            raise EOFError("it ends early")
        yield piece


def _zstd(packed: memoryview) -> Iterator[bytes]:
    try:
        zstd: Any = importlib.import_module("compression.zstd")
    except ImportError:
        pass
    else:
        bounds = {zstd.DecompressionParameter.window_log_max: 27}
        yield from _run(zstd.ZstdDecompressor(options=bounds), packed)
        return
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ImportError:
        raise _UnreadError("a kernel packed by zstd is read with the extra archives") from None
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    for data in _slices(packed, ZSTD_CHUNK):
        yield unpacker.decompress(data)
        if unpacker.eof:
            return
    raise EOFError("it ends early")
