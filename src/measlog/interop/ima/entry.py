"""One entry of an IMA log: what it says, what it extended, and what of it a digest covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from attrs import field, frozen

from measlog.errors import FormatError, ReplayError
from measlog.formats.cursor import decode_text
from measlog.formats.ima import IMA_DIGEST_SIZE, IMA_EVENT_NAME_LEN_MAX, IMA_TEMPLATE, ByteOrder, split_fields
from measlog.interop.ima.templates import (
    DIGEST_FIELDS,
    NAME_FIELDS,
    FileDigest,
    check_field,
    field_to_text,
    file_digest,
    template_fields,
)
from measlog.registry import ALGORITHMS_BY_NAME, Register, hash_constructor
from measlog.replay.digests import Trust

__all__ = [
    "UNMAPPED",
    "EntryCheck",
    "Extends",
    "ImaEntry",
    "bank_extends",
    "default_extends",
    "extended_digest",
    "hash_size",
    "hashed_form",
]

Extends = Literal["hashed", "sha1-padded", "sha1-padded-before-5.8"]
"""What Linux extends into a bank.

``hashed``: the bank's hash of the template data. ``sha1-padded``: the SHA-1 hash, filled up with zeros, which Linux 5.8
and newer does where the bank's hash was not available when IMA started (a module, or not built). Both extend a violation
as all ones. ``sha1-padded-before-5.8`` fills the 20 bytes up with zeros for violations too; so did older kernels in every
bank, and so do all for banks whose algorithm the TPM driver has no name for (SHA-3). A padded bank is as strong as SHA-1.
"""

UNMAPPED = frozenset({"sha3_256", "sha3_384", "sha3_512"})
"""Algorithms that are missing from tpm2_hash_map (``drivers/char/tpm/tpm2-cmd.c``)."""

_CLAUSE = "Linux ima_template_lib.c"
_EXTENDS: tuple[Extends, ...] = ("hashed", "sha1-padded", "sha1-padded-before-5.8")

EntryCheck = Literal["matches", "differs", "violation", "not_computable"]


def default_extends(algorithm: str) -> Extends:
    """What a kernel that has all hashes extends."""
    return "sha1-padded-before-5.8" if algorithm in UNMAPPED else "hashed"


def hash_size(algorithm: str) -> int:
    """The size of a digest in bytes; ValueError for an algorithm that nobody knows."""
    known = ALGORITHMS_BY_NAME.get(algorithm)
    if known is None:
        raise ValueError(f"no hash algorithm is called {algorithm}")
    return known.size


def bank_extends(banks: Sequence[str], extends: Mapping[str, Extends] | None) -> Mapping[str, Extends]:
    """How each of the banks that are wanted was filled: as given, or as a kernel does that has all hashes.

    Raises ValueError for an algorithm that nobody knows and for a way that is not in :data:`Extends`.
    """
    given = dict(extends or {})
    for name, how in given.items():
        if how not in _EXTENDS:
            raise ValueError(f"{name}: nothing is extended as {how!r}, but {', '.join(_EXTENDS)}")
    for name in (*banks, *given):
        hash_size(name)
    names = dict.fromkeys((*banks, *given))
    return MappingProxyType({name: given.get(name) or default_extends(name) for name in names})


def hashed_form(template: bytes, data: bytes) -> bytes:
    """The bytes that template hashes are computed over (ima_calc_field_array_hash_tfm).

    All template data as it lies in the log; for the template ``ima`` digest and name without a length, the name with
    zeros up to 256 bytes.
    """
    if template != IMA_TEMPLATE:
        return data
    return data[:IMA_DIGEST_SIZE] + data[IMA_DIGEST_SIZE + 4 :].ljust(IMA_EVENT_NAME_LEN_MAX + 1, b"\0")


def extended_digest(algorithm: str, how: Extends, hashed: bytes, *, violation: bool) -> bytes:
    """The value that was extended into a bank; ``hashed`` is what :func:`hashed_form` gives.

    Raises :class:`~measlog.errors.ReplayError` where this Python cannot compute it.
    """
    size = ALGORITHMS_BY_NAME[algorithm].size
    if violation:
        return b"\xff" * size if how != "sha1-padded-before-5.8" else (b"\xff" * 20).ljust(size, b"\0")
    new = hash_constructor(algorithm if how == "hashed" else "sha1")
    if new is None:
        raise ReplayError(f"this Python cannot compute {algorithm}", check="algorithm")
    return new(hashed).digest().ljust(size, b"\0")


@frozen(kw_only=True, slots=False)
class ImaEntry:
    """An entry as the log states it; nothing in it is verified by being read.

    ``index`` counts from 0, ``offset`` is in bytes from the start of the log, ``data`` is the template data as the
    binary log has it. No digest covers the template's name.
    """

    index: int
    offset: int
    register: Register
    template: str
    template_hash: bytes
    template_hash_algorithm: str
    data: bytes = field(repr=False)
    extends: Mapping[str, Extends] = field(repr=False)
    """How Linux filled each of the banks that :attr:`digests` is asked for."""
    byte_order: ByteOrder = field(default="little", repr=False)

    @property
    def pcr(self) -> int | None:
        """The PCR that the entry extends, or ``None`` when it is no PCR."""
        return self.register.index if self.register.kind == "pcr" else None

    @property
    def violation(self) -> bool:
        """Whether the kernel saw a file being written while it was measured: the log then has a zero template hash.

        The register was extended with ones, so nothing of such an entry is covered by anything.
        """
        return not any(self.template_hash)

    @cached_property
    def digests(self) -> Mapping[str, bytes]:
        """What was extended into each bank, computed from the data; a bank that this Python cannot compute is missing."""
        hashed = hashed_form(self.template.encode("latin-1"), self.data)
        found = {}
        for name, how in self.extends.items():
            try:
                found[name] = extended_digest(name, how, hashed, violation=self.violation)
            except ReplayError:
                continue
        return MappingProxyType(found)

    @cached_property
    def fields(self) -> Mapping[str, bytes]:
        """The fields by Linux' names, as bytes; empty for a template that Linux does not have."""
        names = template_fields(self.template)
        if names is None:
            return MappingProxyType({})
        if self.template == "ima":
            return MappingProxyType({"d": self.data[:IMA_DIGEST_SIZE], "n": self.data[IMA_DIGEST_SIZE + 4 :] + b"\0"})
        values = split_fields(self.data, len(names), byte_order=self.byte_order)
        return MappingProxyType(dict(zip(names, values, strict=True)))

    def validate(self, place: int) -> None:
        """Refuse fields that Linux cannot have written; the readers call this for every entry.

        Raises :class:`~measlog.errors.FormatError` at the byte ``place``, where the entry's data or its line begins.
        """
        names = template_fields(self.template) or ()
        at = f"entries[{self.index}]"
        if len(set(names)) != len(names):
            raise FormatError("a template that has a field twice", offset=place, path=at)
        try:
            fields = self.fields
        except FormatError as error:
            raise type(error)(error.message, offset=place, path=at, clause=error.clause) from None
        for name, value in fields.items():
            try:
                check_field(name, value)
            except FormatError as error:
                raise FormatError(error.message, offset=place, path=f"{at}.{name}", clause=_CLAUSE) from None

    @cached_property
    def file_digest(self) -> FileDigest | None:
        """The digest of what was measured, as the entry states it; ``None`` where the template has none."""
        return next((file_digest(name, self.fields[name]) for name in self.fields if name in DIGEST_FIELDS), None)

    @property
    def name(self) -> str:
        """The name of what was measured: a path with underscores for spaces, or a word of the kernel's.

        Bytes that are no UTF-8 are kept as surrogate escapes. Anybody's text: escape it before showing it.
        """
        value = next((self.fields[name] for name in self.fields if name in NAME_FIELDS), b"\0")
        return decode_text(value[:-1])

    text = name

    def check(self) -> EntryCheck:
        """Whether the template hash that the log states is that of the data."""
        return self._check

    @cached_property
    def _check(self) -> EntryCheck:
        if self.violation:
            return "violation"
        new = hash_constructor(self.template_hash_algorithm)
        if new is None:
            return "not_computable"
        computed = new(hashed_form(self.template.encode("latin-1"), self.data)).digest()
        return "matches" if computed == self.template_hash else "differs"

    def trust(self, name: str) -> Trust:
        """How far a field can be trusted if the register was verified against a quote.

        ``authenticated`` for digests and names, which are inside the hashed data and cannot be taken for anything
        else; ``positional`` for the register and for the fields that have nothing of their own by which they could be
        told apart (signatures, buffers, numbers: what they are is the template's word for them); ``unauthenticated``
        for the template's name, and for everything of a violation or of an entry whose template hash differs.
        """
        if name == "register":
            return "positional"
        if name not in self.fields or self.check() != "matches":
            return "unauthenticated"
        return "authenticated" if name in DIGEST_FIELDS | NAME_FIELDS else "positional"

    def to_ascii(self) -> bytes:
        """The entry's line in the ascii log, without its end (ima_ascii_measurements_show).

        Raises :class:`~measlog.errors.FormatError` where Linux does not have the template.
        """
        names = template_fields(self.template)
        if names is None:
            raise FormatError(f"the template {self.template!r} is not known, its data has no text")
        head = f"{self.register.index:2d} {self.template_hash.hex()} {self.template}".encode("latin-1")
        return b"".join([head, *(b" " + field_to_text(n, self.fields[n], self.byte_order) for n in names)])
