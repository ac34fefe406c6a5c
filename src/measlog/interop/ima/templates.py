"""IMA's templates: which fields each has, what a field looks like in the data and in the ascii log.

Source: Linux, ``security/integrity/ima/ima_template.c`` (builtin_templates, supported_fields) and
``ima_template_lib.c``. A template that was given by its format (``ima_template_fmt=``) is named by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from attrs import frozen

from measlog.errors import FormatError
from measlog.formats.ima import IMA_DIGEST_SIZE, ByteOrder

__all__ = [
    "DIGEST_FIELDS",
    "NAME_FIELDS",
    "TEMPLATES",
    "FileDigest",
    "check_field",
    "field_from_text",
    "field_to_text",
    "file_digest",
    "template_fields",
]

TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ima": ("d", "n"),
        "ima-ng": ("d-ng", "n-ng"),
        "ima-sig": ("d-ng", "n-ng", "sig"),
        "ima-ngv2": ("d-ngv2", "n-ng"),
        "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
        "ima-buf": ("d-ng", "n-ng", "buf"),
        "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
        "evm-sig": (
            "d-ng",
            "n-ng",
            "evmsig",
            "xattrnames",
            "xattrlengths",
            "xattrvalues",
            "iuid",
            "igid",
            "imode",
        ),
    }
)
"""The fields of the templates that Linux has built in, in the order of the data."""

_Kind = Literal["raw", "algorithm", "type", "name", "hex", "number"]
_KINDS: Mapping[str, _Kind] = {
    "d": "raw",
    "n": "name",
    "d-ng": "algorithm",
    "d-ngv2": "type",
    "n-ng": "name",
    "sig": "hex",
    "buf": "hex",
    "d-modsig": "algorithm",
    "modsig": "hex",
    "evmsig": "hex",
    "iuid": "number",
    "igid": "number",
    "imode": "number",
    "xattrnames": "name",
    "xattrlengths": "hex",
    "xattrvalues": "hex",
}
DIGEST_FIELDS = frozenset({"d", "d-ng", "d-ngv2"})
NAME_FIELDS = frozenset({"n", "n-ng"})
_REQUIRED = DIGEST_FIELDS | NAME_FIELDS
# ima_eventinodedac_init_common and ima_eventinodemode_init: the sizes of unsigned int and u16, in bytes.
_WIDTHS = {"iuid": 4, "igid": 4, "imode": 2}

# crypto/hash_info.c: hash_algo_name and hash_digest_size, in bytes; older kernels call SM3 "sm3-256".
_SIZES: Mapping[str, int] = {
    "md4": 16,
    "md5": 16,
    "sha1": 20,
    "rmd160": 20,
    "sha224": 28,
    "sha256": 32,
    "sha384": 48,
    "sha512": 64,
    "rmd128": 16,
    "rmd256": 32,
    "rmd320": 40,
    "wp256": 32,
    "wp384": 48,
    "wp512": 64,
    "tgr128": 16,
    "tgr160": 20,
    "tgr192": 24,
    "sm3": 32,
    "sm3-256": 32,
    "streebog256": 32,
    "streebog512": 64,
    "sha3-256": 32,
    "sha3-384": 48,
    "sha3-512": 64,
}
_UNNAMED = {16: "md5", 20: "sha1"}
_ALGORITHM = re.compile(rb"[a-z0-9-]{1,63}")
_TYPES = frozenset({"ima", "verity"})  # ima_template_lib.c, digest_type_name
_TEXT_DIGEST = re.compile(rb"(?:((?:[a-z0-9-]{1,15}:)?[a-z0-9-]{1,63}):)?([0-9a-f]*)")
_HEX = re.compile(rb"(?:[0-9a-f]{2})*")
_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,19}")


@frozen
class FileDigest:
    """What was measured: the digest of a file's content (``ima``) or its fs-verity digest (``verity``).

    The two are digests of different things: equal bytes of different kinds are never the same file.
    """

    kind: Literal["ima", "verity"]
    algorithm: str
    """As Linux calls it; measlog's names differ for ``sm3`` and ``sha3-*`` alone."""
    digest: bytes

    def __str__(self) -> str:
        prefix = "verity:" if self.kind == "verity" else ""
        return f"{prefix}{self.algorithm}:{self.digest.hex()}"


def template_fields(name: str) -> tuple[str, ...] | None:
    """The fields of a template, built in or given by its format; ``None`` where Linux has no such template."""
    known = TEMPLATES.get(name)
    if known is not None:
        return known
    fields = tuple(name.split("|"))
    return fields if all(field in _KINDS for field in fields) else None


def file_digest(field: str, data: bytes) -> FileDigest:
    """Read a digest field. Raises :class:`~measlog.errors.FormatError`, without a place, where it is none."""
    if _KINDS[field] == "raw":
        if len(data) not in _UNNAMED:
            raise FormatError(f"a digest of {len(data)} bytes, this field has {IMA_DIGEST_SIZE}")
        return FileDigest("ima", _UNNAMED[len(data)], data)
    head, nul, digest = data.partition(b"\0")
    if not nul or not head.endswith(b":"):
        raise FormatError("a digest without its algorithm")
    kind, colon, algorithm = b"ima", b"", head[:-1]
    if _KINDS[field] == "type":
        kind, colon, algorithm = algorithm.partition(b":")
        if not colon or kind.decode("latin-1") not in _TYPES:
            raise FormatError("a digest without its type")
    if not algorithm and len(digest) in _UNNAMED:
        return FileDigest("ima", _UNNAMED[len(digest)], digest)
    if _ALGORITHM.fullmatch(algorithm) is None:
        raise FormatError("a digest whose algorithm has no name that Linux gives")
    name = algorithm.decode("ascii")
    size = _SIZES.get(name, len(digest))
    # A violation has no digest, but as many zeros as the largest digest had once (ima_eventdigest_init_common).
    if len(digest) != size and digest != bytes(IMA_DIGEST_SIZE):
        raise FormatError(f"a {name} digest of {len(digest)} bytes, it has {size}")
    return FileDigest("verity" if kind == b"verity" else "ima", name, digest)


def check_field(field: str, data: bytes) -> None:
    """Raise :class:`~measlog.errors.FormatError`, without a place, for data that Linux cannot have written into a field."""
    kind = _KINDS[field]
    if not data and field not in _REQUIRED:
        return
    if kind in {"raw", "algorithm", "type"}:
        file_digest(field, data)
    elif kind == "name":
        if data.find(b"\0") != len(data) - 1 or len(data) < 2:
            raise FormatError("no text that ends with its only NUL")
    elif kind == "number" and len(data) not in {2, 4, 8}:
        raise FormatError(f"a number of {len(data)} bytes")


def field_to_text(field: str, data: bytes, order: ByteOrder) -> bytes:
    """A field as the ascii log shows it (ima_show_template_data_ascii)."""
    kind = _KINDS[field]
    if not data:
        return b""
    if kind == "name":
        return data[:-1]
    if kind == "number":
        return str(int.from_bytes(data, order)).encode()
    if kind in {"algorithm", "type"}:
        head, _, digest = data.partition(b"\0")
        return (head if head != b":" else b"") + digest.hex().encode()
    return data.hex().encode()


def field_from_text(field: str, text: bytes, order: ByteOrder) -> bytes:
    """The data that is shown as ``text``; the inverse of :func:`field_to_text` for what Linux writes.

    Raises :class:`~measlog.errors.FormatError`, without a place.
    """
    kind = _KINDS[field]
    if kind == "name":
        return text + b"\0" if text else b""
    if not text:
        return b""
    if kind in {"algorithm", "type"}:
        match = _TEXT_DIGEST.fullmatch(text)
        if match is None or len(match[2]) % 2:
            raise FormatError("not a digest as algorithm and hexadecimal digits")
        return (match[1] or b"") + b":\0" + bytes.fromhex(match[2].decode("ascii"))
    if kind == "number":
        width = _WIDTHS[field]
        if _DECIMAL.fullmatch(text) is None or int(text) >> 8 * width:
            raise FormatError(f"not a decimal number of {width} bytes")
        return int(text).to_bytes(width, order)
    if _HEX.fullmatch(text) is None:
        raise FormatError("not an even number of hexadecimal digits")
    return bytes.fromhex(text.decode("ascii"))
