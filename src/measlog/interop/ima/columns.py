"""IMA logs in columns: all entries of a binary log as an Arrow table, and its registers, in one pass.

Equal to :class:`~measlog.interop.ima.log.ImaLog` entry by entry, which the tests prove; a log of a hundred thousand
entries is read, its template hashes checked, replayed and looked up within a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from measlog.bulk.schema import pyarrow
from measlog.errors import FormatError, ReplayError
from measlog.formats.cursor import encode_text
from measlog.formats.ima import IMA_TEMPLATE, ByteOrder, ImaRow, frame_ima
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

Facts = tuple[Known | None, bytes, bytes | None]
"""Of one entry the file's digest, the name, and the signature where it has one."""
Heads = dict[tuple[str, bytes, int], tuple[str, str] | None]


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
    rows = frame_ima(data, hash_size(template_hash), byte_order=byte_order, limits=limits)
    new = hash_constructor(template_hash)
    if new is None:
        raise ReplayError(f"this Python cannot compute {template_hash}", check="algorithm")
    facts = _facts(data, rows, template_hash, byte_order)
    forms = [
        data[row[4] : row[5]] if row[3] != IMA_TEMPLATE else hashed_form(row[3], data[row[4] : row[5]]) for row in rows
    ]
    checks = [
        0 if new(form).digest() == row[2] else 1 if any(row[2]) else 2 for form, row in zip(forms, rows, strict=True)
    ]
    chosen = bank_extends(banks, extends)
    refused = _refused(rows, checks)
    registers = {} if refused is not None else {n: _fold(n, how, rows, checks, forms) for n, how in chosen.items()}
    table = _table(pa, rows, facts, checks)
    if allow is not None:
        words = pa.array(_verdicts(allow, facts, checks), pa.int8())
        table = table.append_column("verdict", pa.DictionaryArray.from_arrays(words, pa.array(VERDICTS)))
    return ImaColumns(table=table, registers=registers, refused=refused)


def _verdicts(allow: AllowList, facts: Sequence[Facts], checks: Sequence[int]) -> list[int]:
    """The places in VERDICTS."""
    numbers = {word: number for number, word in enumerate(VERDICTS)}
    allowed, names = numbers["allowed"], allow.names
    nobody: frozenset[Known] = frozenset()
    found = []
    for index, ((known, name, _), check) in enumerate(zip(facts, checks, strict=True)):
        if check == 0 and index and known in names.get(name, nobody):
            found.append(allowed)
        elif check == _VIOLATION:
            found.append(numbers["violation"])
        elif check or known is None:
            found.append(numbers["not-covered"])
        else:
            found.append(numbers[verdict(allow, index=index, name=name, known=known)])
    return found


def _facts(data: bytes, rows: Sequence[ImaRow], template_hash: str, order: ByteOrder) -> list[Facts]:
    """What the entries say; raises what ``ImaLog.from_bytes`` raises."""
    found: list[Facts] = []
    heads: Heads = {}
    for first in range(0, len(rows), _CHUNK):
        chunk = rows[first : first + _CHUNK]
        for number, fact in enumerate(_quick(data, chunk, order, heads), start=first):
            found.append(_slow(data, number, rows[number], template_hash, order) if fact is None else fact)
    return found


def _quick(data: bytes, rows: Sequence[ImaRow], order: ByteOrder, heads: Heads) -> list[Facts | None]:
    """The entries of the common form, a digest, a name and at most a signature; ``None`` for any that is not."""
    base, top = rows[0].offset, rows[-1].data_end
    raw = np.frombuffer(data, dtype=np.uint8, count=top - base, offset=base)
    start = np.array([row[4] for row in rows], dtype=np.int64) - base
    end = np.array([row[5] for row in rows], dtype=np.int64) - base
    signed = np.array([row[3] in _SIGNED for row in rows])
    good = np.array([row[3] in _COMMON for row in rows]) & (end - start >= _U32 + _U32)
    nuls = np.flatnonzero(raw == 0)
    if not len(nuls):
        return [None] * len(rows)

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
    good &= (stop > name + _U32) & (stop <= end)
    good &= first_nul(np.where(good, name + _U32, 0)) == stop - 1
    good &= np.where(signed, stop + _U32 <= end, stop == end)
    good &= ~signed | (number(np.where(signed, stop, 0)) == end - stop - _U32)
    places = zip(*((part + base).tolist() for part in (start, nul, name, stop, end)), strict=True)
    found: list[Facts | None] = []
    for usable, typed, has_signature, (a, b, c, d, e) in zip(
        good.tolist(), [row[3] in _TYPED for row in rows], signed.tolist(), places, strict=True
    ):
        if not usable:
            found.append(None)
            continue
        head = "d-ngv2" if typed else "d-ng", data[a + _U32 : b], c - b - 1
        if head not in heads:
            heads[head] = _learn(*head)
        known = heads[head]
        if known is None:
            found.append(None)
            continue
        signature = data[d + _U32 : e] if has_signature else None
        found.append(((*known, data[b + 1 : c]), data[c + _U32 : d - 1], signature))
    return found


def _learn(field: str, head: bytes, size: int) -> tuple[str, str] | None:
    """Kind and algorithm of all digests of ``size`` bytes behind ``head``, ``None`` where each is to be looked at."""
    try:
        # Not of zeros, which a violation may have in any number.
        found = file_digest(field, head + b"\0" + b"\1" * size)
    except FormatError:
        return None
    return found.kind, found.algorithm


def _slow(data: bytes, index: int, row: ImaRow, template_hash: str, order: ByteOrder) -> Facts:
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
    try:
        entry.validate()
    except FormatError as error:
        raise error.inside(f"entries[{index}]", row.data_start) from None
    stated = entry.file_digest
    signature = next((entry.fields[name] for name in _SIGNATURES if name in entry.fields), None)
    known = None if stated is None else (stated.kind, stated.algorithm, stated.digest)
    return known, encode_text(entry.name), signature


def _refused(rows: Sequence[ImaRow], checks: Sequence[int]) -> str | None:
    for index, (row, check) in enumerate(zip(rows, checks, strict=True)):
        if row.pcr >= PCR_COUNT:
            return f"entries[{index}]: there is no PCR {row.pcr}"
        if check == 1:
            return f"entries[{index}]: the template hash is not that of the data"
    return None


def _fold(algorithm: str, how: Extends, rows: Sequence[ImaRow], checks: Sequence[int], forms: Sequence[bytes]) -> Bank:
    new = hash_constructor(algorithm)
    if new is None:
        raise ReplayError(f"this Python cannot compute {algorithm}", check="algorithm")
    size, plain = hash_size(algorithm), how == "hashed"
    states = {pcr: start_value(pcr, size, launched=True) for pcr in {row.pcr for row in rows}}
    for row, check, form in zip(rows, checks, forms, strict=True):
        if plain and not check:
            digest = new(form).digest()
        else:
            digest = extended_digest(algorithm, how, form, violation=check == _VIOLATION)
        states[row[1]] = new(states[row[1]] + digest).digest()
    return Bank(algorithm=algorithm, kind="pcr", values_by_index=dict(sorted(states.items())))


def _table(pa: Any, rows: Sequence[ImaRow], facts: Sequence[Facts], checks: Sequence[int]) -> pa.Table:
    def words(values: list[Any]) -> Any:
        return pa.array(values, pa.string()).dictionary_encode()

    known = [fact[0] for fact in facts]
    names = {row.template: row.template.decode("latin-1") for row in rows}
    return pa.table(
        {
            "index": pa.array(range(len(rows)), pa.uint32()),
            "offset": pa.array([row.offset for row in rows], pa.uint64()),
            "pcr": pa.array([row.pcr for row in rows], pa.uint32()),
            "template": words([names[row.template] for row in rows]),
            "template_hash": pa.array([row.template_hash for row in rows], pa.binary()),
            "check": pa.DictionaryArray.from_arrays(pa.array(checks, pa.int8()), pa.array(_CHECKS)),
            "kind": words([one[0] if one else None for one in known]),
            "algorithm": words([one[1] if one else None for one in known]),
            "digest": pa.array([one[2] if one else None for one in known], pa.binary()),
            "name": pa.array([fact[1] for fact in facts], pa.binary()),
            "signature": pa.array([fact[2] for fact in facts], pa.binary()),
        }
    )
