"""IMA logs in columns: all entries of a binary log as an Arrow table, and its registers, in one pass.

Equal to :class:`~measlog.interop.ima.log.ImaLog` entry by entry, which the tests prove; a log of a hundred thousand
entries is read, its template hashes checked, replayed and looked up within a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from attrs import field, frozen

from measlog.bulk.schema import pyarrow
from measlog.errors import FormatError, ReplayError
from measlog.formats.cursor import encode_text
from measlog.formats.ima import IMA_TEMPLATE, ByteOrder, ImaFrame, ImaRow, frame_ima
from measlog.interop.ima.allow import VERDICTS, AllowList, Known, verdict
from measlog.interop.ima.entry import Extends, ImaEntry, bank_extends, extended_digest, hash_size, hashed_form
from measlog.interop.ima.templates import file_digest
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import Register, hash_constructor
from measlog.replay.pcr import PCR_COUNT, Bank, start_value

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["ImaColumns", "ima_columns"]

_CHECKS = ("matches", "differs", "violation")
_VIOLATION = 2
_SIGNATURES = ("sig", "evmsig")
_COMMON = frozenset({b"ima-ng", b"ima-ngv2", b"ima-sig", b"ima-sigv2"})
_TYPED = frozenset({b"ima-ngv2", b"ima-sigv2"})
_SIGNED = frozenset({b"ima-sig", b"ima-sigv2"})
_U32 = 4
_CHUNK = 4096
"""Entries that are cut together."""


@frozen(kw_only=True, eq=False)
class ImaColumns:
    """One row an entry, and the registers that follow from all of them.

    The table's columns: ``index`` and ``pcr`` (uint32), ``offset`` (uint64), ``template``, ``check`` (dictionaries),
    ``template_hash`` (binary), ``kind`` and ``algorithm`` (dictionaries), ``digest``, ``name`` and ``signature`` (binary)
    and, where an allow-list was given, ``verdict`` (dictionary).
    """

    table: pa.Table
    registers: Mapping[str, Bank] = field(repr=False)
    """By bank; empty where an entry's template hash differs or names no register: ``refused`` says which."""
    refused: str | None = None


def ima_columns(
    data: bytes,
    *,
    template_hash: str = "sha1",
    banks: Sequence[str] = ("sha256",),
    extends: Mapping[str, Extends] | None = None,
    allow: AllowList | None = None,
    byte_order: ByteOrder = "little",
    limits: Limits = DEFAULT_LIMITS,
) -> ImaColumns:
    """Read ``binary_runtime_measurements`` in columns; the arguments are those of ``ImaLog.from_bytes``.

    Raises :class:`~measlog.errors.FormatError` where the bytes are no such log,
    :class:`~measlog.errors.ReplayError` where this Python cannot compute a bank and
    :class:`~measlog.errors.MissingExtraError` without pyarrow.
    """
    pa = pyarrow()
    frame = frame_ima(data, hash_size(template_hash), byte_order=byte_order, limits=limits)
    new = hash_constructor(template_hash)
    if new is None:
        raise ReplayError(f"this Python cannot compute {template_hash}", check="algorithm")
    facts = _facts(data, frame, template_hash, byte_order)
    forms = [data[start:end] for start, end in zip(frame.data_starts, frame.data_ends, strict=True)]
    if IMA_TEMPLATE in frame.templates:
        forms = [hashed_form(template, form) for template, form in zip(frame.templates, forms, strict=True)]
    checks = [
        0 if new(form).digest() == stated else 1 if any(stated) else _VIOLATION
        for form, stated in zip(forms, frame.template_hashes, strict=True)
    ]
    chosen = bank_extends(banks, extends)
    refused = _refused(frame, checks)
    registers = {} if refused is not None else {n: _fold(n, how, frame, checks, forms) for n, how in chosen.items()}
    table = _table(pa, frame, facts, checks)
    if allow is not None:
        words = pa.array(_verdicts(allow, facts, checks), pa.int8())
        table = table.append_column("verdict", pa.DictionaryArray.from_arrays(words, pa.array(VERDICTS)))
    return ImaColumns(table=table, registers=registers, refused=refused)


def _verdicts(allow: AllowList, facts: _Facts, checks: Sequence[int]) -> list[int]:
    """The places in VERDICTS."""
    numbers = {word: number for number, word in enumerate(VERDICTS)}
    allowed, names = numbers["allowed"], allow.names
    nobody: frozenset[Known] = frozenset()
    found = []
    for index, (kind, algorithm, digest, name, check) in enumerate(
        zip(facts.kinds, facts.algorithms, facts.digests, facts.names, checks, strict=True)
    ):
        if not check and index and (kind, algorithm, digest) in names.get(name, nobody):
            found.append(allowed)
        elif check == _VIOLATION:
            found.append(numbers["violation"])
        elif check or kind is None or algorithm is None or digest is None:
            found.append(numbers["not-covered"])
        else:
            found.append(numbers[verdict(allow, index=index, name=name, known=(kind, algorithm, digest))])
    return found


class _Facts(NamedTuple):
    """What the entries say, column by column."""

    kinds: list[str | None]
    algorithms: list[str | None]
    digests: list[bytes | None]
    names: list[bytes]
    signatures: list[bytes | None]


def _facts(data: bytes, frame: ImaFrame, template_hash: str, order: ByteOrder) -> _Facts:
    """What the entries say; raises what ``ImaLog.from_bytes`` raises."""
    found = _Facts([], [], [], [], [])
    heads = _Heads()
    for first in range(0, len(frame.offsets), _CHUNK):
        part = frame.part(first, _CHUNK)
        odd = _quick(data, part, order, heads, found)
        rows = list(part.rows()) if odd else []
        for number in odd:
            at = first + number
            kind, algorithm, digest, name, signature = _slow(data, at, rows[number], template_hash, order)
            found.kinds[at], found.algorithms[at], found.digests[at] = kind, algorithm, digest
            found.names[at], found.signatures[at] = name, signature
    return found


class _Heads(dict[tuple[bool, bytes, int], tuple[str, str] | None]):
    """What stands before a digest, by whether it has a type and by the digest's size: its kind and its algorithm.

    ``None`` where each digest is to be looked at: those of a violation have a size of their own.
    """

    def __missing__(self, key: tuple[bool, bytes, int]) -> tuple[str, str] | None:
        typed, head, size = key
        try:
            found = file_digest("d-ngv2" if typed else "d-ng", head + b"\0" + b"\1" * size)
        except FormatError:
            self[key] = None
        else:
            self[key] = found.kind, found.algorithm
        return self[key]


def _quick(data: bytes, frame: ImaFrame, order: ByteOrder, heads: _Heads, found: _Facts) -> list[int]:
    """Add the entries of the common form, a digest, a name and at most a signature; the numbers of the others."""
    base, top, count = frame.offsets[0], frame.data_ends[-1], len(frame.offsets)
    raw = np.frombuffer(data, dtype=np.uint8, count=top - base, offset=base)
    start = np.array(frame.data_starts, dtype=np.int64) - base
    end = np.array(frame.data_ends, dtype=np.int64) - base
    signed = np.array([template in _SIGNED for template in frame.templates])
    typed = [template in _TYPED for template in frame.templates]
    good = np.array([template in _COMMON for template in frame.templates]) & (end - start >= _U32 + _U32)
    nuls = np.flatnonzero(raw == 0)
    if not len(nuls):
        nuls = np.array([-1])

    def number(places: NDArray[np.int64]) -> NDArray[np.int64]:
        # Places that are no good are read somewhere else; whoever asks looks at ``good`` too.
        at = np.where(good, places, 0)
        parts = [raw[at + i].astype(np.int64) << 8 * (i if order == "little" else 3 - i) for i in range(_U32)]
        total: NDArray[np.int64] = parts[0] | parts[1] | parts[2] | parts[3]
        return total

    def first_nul(places: NDArray[np.int64]) -> NDArray[np.int64]:
        return nuls[np.minimum(np.searchsorted(nuls, places), len(nuls) - 1)]

    name = start + _U32 + number(start)
    good &= name + _U32 <= end
    nul = first_nul(start + _U32)
    good &= (nul >= start + _U32) & (nul < name)
    stop = name + _U32 + number(name)
    good &= (stop > name + _U32 + 1) & (stop <= end)
    good &= first_nul(np.where(good, name + _U32, 0)) == stop - 1
    good &= np.where(signed, stop + _U32 <= end, stop == end)
    good &= ~signed | (number(np.where(signed, stop, 0)) == end - stop - _U32)
    # The data, the NUL before the digest, the length of the name, the end of the name and that of the data.
    a, b, c, d, e = ((np.where(good, part, start) + base).tolist() for part in (start, nul, name, stop, end))
    keys = zip(typed, [data[x + _U32 : y] for x, y in zip(a, b, strict=True)], strict=True)
    sizes = [y - x - 1 for x, y in zip(b, c, strict=True)]
    usable = good.tolist()
    known = [
        heads[one[0], one[1], size] if sound else None for one, size, sound in zip(keys, sizes, usable, strict=True)
    ]
    found.kinds.extend([one[0] if one else None for one in known])
    found.algorithms.extend([one[1] if one else None for one in known])
    found.digests.extend([data[x + 1 : y] for x, y in zip(b, c, strict=True)])
    found.names.extend([data[x + _U32 : y - 1] for x, y in zip(c, d, strict=True)])
    found.signatures.extend([data[x + _U32 : y] if s else None for x, y, s in zip(d, e, signed.tolist(), strict=True)])
    return [i for i in range(count) if known[i] is None]


def _slow(
    data: bytes, index: int, row: ImaRow, template_hash: str, order: ByteOrder
) -> tuple[str | None, str | None, bytes | None, bytes, bytes | None]:
    entry = ImaEntry(
        index=index,
        offset=row.offset,
        register=Register("pcr", row.pcr),
        template=row.template.decode("latin-1"),
        template_hash=row.template_hash,
        template_hash_algorithm=template_hash,
        data=data[row.data_start : row.data_end],
        extends={},
        byte_order=order,
    )
    entry.validate(row.data_start)
    stated = entry.file_digest
    signature = next((entry.fields[name] for name in _SIGNATURES if name in entry.fields), None)
    if stated is None:
        return None, None, None, encode_text(entry.name), signature
    return stated.kind, stated.algorithm, stated.digest, encode_text(entry.name), signature


def _refused(frame: ImaFrame, checks: Sequence[int]) -> str | None:
    for index, (pcr, check) in enumerate(zip(frame.pcrs, checks, strict=True)):
        if pcr >= PCR_COUNT:
            return f"entries[{index}]: there is no PCR {pcr}"
        if check == 1:
            return f"entries[{index}]: the template hash is not that of the data"
    return None


def _fold(algorithm: str, how: Extends, frame: ImaFrame, checks: Sequence[int], forms: Sequence[bytes]) -> Bank:
    new = hash_constructor(algorithm)
    if new is None:
        raise ReplayError(f"this Python cannot compute {algorithm}", check="algorithm")
    size, plain = hash_size(algorithm), how == "hashed"
    states = {pcr: start_value(pcr, size, launched=True) for pcr in set(frame.pcrs)}
    for pcr, check, form in zip(frame.pcrs, checks, forms, strict=True):
        if plain and not check:
            digest = new(form).digest()
        else:
            digest = extended_digest(algorithm, how, form, violation=check == _VIOLATION)
        states[pcr] = new(states[pcr] + digest).digest()
    return Bank(algorithm=algorithm, kind="pcr", values_by_index=dict(sorted(states.items())))


def _table(pa: Any, frame: ImaFrame, facts: _Facts, checks: Sequence[int]) -> pa.Table:
    def words(values: Sequence[str | None]) -> Any:
        return pa.array(values, pa.string()).dictionary_encode()

    texts = {template: template.decode("latin-1") for template in set(frame.templates)}
    return pa.table(
        {
            "index": pa.array(np.arange(len(checks), dtype=np.uint32)),
            "offset": pa.array(np.array(frame.offsets, dtype=np.uint64)),
            "pcr": pa.array(np.array(frame.pcrs, dtype=np.uint32)),
            "template": words([texts[template] for template in frame.templates]),
            "template_hash": pa.array(frame.template_hashes, pa.binary()),
            "check": pa.DictionaryArray.from_arrays(pa.array(checks, pa.int8()), pa.array(_CHECKS)),
            "kind": words(facts.kinds),
            "algorithm": words(facts.algorithms),
            "digest": pa.array(facts.digests, pa.binary()),
            "name": pa.array(facts.names, pa.binary()),
            "signature": pa.array(facts.signatures, pa.binary()),
        }
    )
