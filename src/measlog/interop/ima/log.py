"""IMA's runtime log: the entries, the registers that follow from them, and whether they belong to a firmware log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Self, overload

from attrs import frozen

from measlog.errors import FormatError, ReplayError
from measlog.formats.ima import ByteOrder, build_entry, frame_ima
from measlog.interop.ima.ascii import parse_ascii
from measlog.interop.ima.entry import Extends, ImaEntry, bank_extends, hash_size
from measlog.interop.ima.templates import FileDigest
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import ALGORITHMS_BY_NAME, Register, hash_constructor
from measlog.replay.pcr import PCR_COUNT, Bank, start_value

if TYPE_CHECKING:
    from measlog.log import EventLog

__all__ = ["IMA_PCR", "BootAggregate", "ImaLog"]

IMA_PCR = 10
"""CONFIG_IMA_MEASURE_PCR_IDX as every distribution has it; a policy rule may name another register (``pcr=``)."""

_DEFAULT_BANKS = ("sha1", "sha256", "sha384", "sha512")
_BY_SIZE = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


@frozen(kw_only=True)
class BootAggregate:
    """What the first entry says about the firmware's registers, and what the firmware log says.

    ``registers`` are those that the kernel hashes for this algorithm. ``status``: ``matches``, ``differs``, ``missing``
    (the first entry is no boot aggregate that its template hash covers), ``no-tpm`` (all zeros: the kernel found no TPM)
    or ``not-computable`` (the firmware log does not give this bank).
    """

    status: Literal["matches", "differs", "missing", "no-tpm", "not-computable"]
    registers: tuple[int, ...] = ()
    stated: FileDigest | None = None
    expected: bytes | None = None
    reason: str = ""


class ImaLog(Sequence[ImaEntry]):
    """An IMA log, read from ``binary_runtime_measurements`` or ``ascii_runtime_measurements``. Anybody's bytes.

    ``banks`` are those that the entries' ``digests`` are computed for. ``extends`` says of a bank how the kernel filled it
    where that is not by its own hash: see :data:`~measlog.interop.ima.entry.Extends`.
    """

    def __init__(
        self,
        entries: Sequence[ImaEntry],
        *,
        template_hash: str,
        extends: Mapping[str, Extends],
        byte_order: ByteOrder = "little",
    ) -> None:
        self._entries = tuple(entries)
        self._banks: dict[str, Bank] = {}
        self.template_hash = template_hash
        """The algorithm of the template hashes: sha1, or that of the log's name (``..._sha256``, Linux 6.10)."""
        self.extends = MappingProxyType(dict(extends))
        self.byte_order = byte_order

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        template_hash: str = "sha1",
        banks: Sequence[str] = _DEFAULT_BANKS,
        extends: Mapping[str, Extends] | None = None,
        byte_order: ByteOrder = "little",
        limits: Limits = DEFAULT_LIMITS,
    ) -> Self:
        """Read ``binary_runtime_measurements``. ``byte_order`` is ``big`` for a log of a big-endian host.

        A host that was booted with ``ima_canonical_fmt`` writes little-endian whatever it is. ``template_hash`` is
        another algorithm than sha1 for a log that is named after it. Raises :class:`~measlog.errors.FormatError` where
        the bytes are no such log or end inside an entry.
        """
        chosen = bank_extends(banks, extends)
        size = hash_size(template_hash)
        registers: dict[int, Register] = {}
        entries: list[ImaEntry] = []
        frame = frame_ima(data, size, byte_order=byte_order, limits=limits)
        for index, row in enumerate(frame.rows()):
            register = registers.get(row.pcr)
            if register is None:
                register = registers[row.pcr] = _register(row.pcr)
            entry = ImaEntry(
                index=index,
                offset=row.offset,
                register=register,
                template=row.template.decode("latin-1"),
                template_hash=row.template_hash,
                template_hash_algorithm=template_hash,
                data=data[row.data_start : row.data_end],
                extends=chosen,
                byte_order=byte_order,
            )
            entry.validate(row.data_start)
            entries.append(entry)
        return cls(entries, template_hash=template_hash, extends=chosen, byte_order=byte_order)

    @classmethod
    def from_ascii(
        cls,
        text: bytes,
        *,
        template_hash: str | None = None,
        banks: Sequence[str] = _DEFAULT_BANKS,
        extends: Mapping[str, Extends] | None = None,
        byte_order: ByteOrder = "little",
        limits: Limits = DEFAULT_LIMITS,
    ) -> Self:
        """Read ``ascii_runtime_measurements``. ``template_hash`` is told by its length unless given.

        Raises :class:`~measlog.errors.FormatError` with the offset of the line.
        """
        chosen = bank_extends(banks, extends)
        rows = parse_ascii(text, byte_order=byte_order, limits=limits)
        size = len(rows[0].template_hash) if rows else 20
        if template_hash is None:
            template_hash = _BY_SIZE.get(size)
            if template_hash is None:
                raise FormatError(f"no template hash has {size} bytes", offset=0, path="entries[0].template_hash")
        size = hash_size(template_hash)
        entries = []
        for index, row in enumerate(rows):
            path = f"entries[{index}]"
            if len(row.template_hash) != size:
                raise FormatError(
                    f"a template hash of {len(row.template_hash)} bytes, {template_hash} has {size}",
                    offset=row.offset,
                    path=f"{path}.template_hash",
                )
            entry = ImaEntry(
                index=index,
                offset=row.offset,
                register=_register(row.pcr),
                template=row.template,
                template_hash=row.template_hash,
                template_hash_algorithm=template_hash,
                data=row.data,
                extends=chosen,
                byte_order=byte_order,
            )
            entry.validate(row.offset)
            entries.append(entry)
        return cls(entries, template_hash=template_hash, extends=chosen, byte_order=byte_order)

    def to_bytes(self) -> bytes:
        """The binary log of these entries: the very bytes that were read, where it was a binary log."""
        return b"".join(
            build_entry(
                e.register.index, e.template_hash, e.template.encode("latin-1"), e.data, byte_order=self.byte_order
            )
            for e in self
        )

    def to_ascii(self) -> bytes:
        """The ascii log of these entries. Raises FormatError where Linux does not have an entry's template."""
        return b"".join(entry.to_ascii() + b"\n" for entry in self)

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> ImaEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ImaEntry]: ...
    def __getitem__(self, index: int | slice) -> ImaEntry | Sequence[ImaEntry]:
        return self._entries[index]

    def __iter__(self) -> Iterator[ImaEntry]:
        return iter(self._entries)

    def __eq__(self, other: object) -> bool:
        return self._facts() == other._facts() if isinstance(other, ImaLog) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._facts()[:2])

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, self._facts()

    def _facts(self) -> tuple[bytes, str, dict[str, Extends], ByteOrder]:
        return self.to_bytes(), self.template_hash, dict(self.extends), self.byte_order

    def __repr__(self) -> str:
        return f"<ImaLog: {len(self)} entries, {', '.join(self.templates) or 'no templates'}, {self.template_hash}>"

    @cached_property
    def templates(self) -> tuple[str, ...]:
        """The templates that occur, in the order of their first entry."""
        return tuple(dict.fromkeys(entry.template for entry in self))

    def replay(self, algorithm: str, *, entries: int | None = None) -> Bank:
        """The registers that follow from the log, or from its first ``entries`` entries, in one bank.

        Raises :class:`~measlog.errors.ReplayError` where an entry's template hash is not that of its data (such an entry
        was changed after it was measured, and whatever follows from it is nobody's), where the bank was not asked for
        when the log was read, or where this Python cannot compute it; ValueError where the log has not so many entries.
        """
        count = len(self) if entries is None else entries
        if not 0 <= count <= len(self):
            raise ValueError(f"the log has {len(self)} entries, not {count}")
        if count == len(self) and algorithm in self._banks:
            return self._banks[algorithm]
        states = dict(self._states(algorithm, count))  # the last value of each register
        bank = Bank(algorithm=algorithm, kind="pcr", values_by_index=dict(sorted(states.items())))
        if count == len(self):
            self._banks[algorithm] = bank
        return bank

    def _states(self, algorithm: str, count: int) -> Iterator[tuple[int, bytes]]:
        if algorithm not in self.extends:
            raise ReplayError(
                f"the log was read for the banks {', '.join(self.extends)}, not for {algorithm}", check="bank-missing"
            )
        new = hash_constructor(algorithm)
        if new is None:
            raise ReplayError(f"this Python cannot compute {algorithm}", check="algorithm")
        size = ALGORITHMS_BY_NAME[algorithm].size
        states: dict[int, bytes] = {}
        for entry in self._entries[:count]:
            if entry.register.kind != "pcr":
                raise ReplayError(f"entries[{entry.index}]: there is no PCR {entry.register.index}", check="register")
            if entry.check() == "differs":
                raise ReplayError(
                    f"entries[{entry.index}]: the template hash is not that of the data", check="template-hash"
                )
            digest = entry.digests.get(algorithm)
            if digest is None:
                raise ReplayError(
                    f"this Python cannot compute {self.extends[algorithm]} {algorithm}", check="algorithm"
                )
            index = entry.register.index
            state = states.get(index) or start_value(index, size, launched=True)
            state = states[index] = new(state + digest).digest()
            yield index, state

    def entries_until(self, algorithm: str, value: bytes, *, pcr: int = IMA_PCR) -> int | None:
        """How many entries, from the first on, give a register this value; ``None`` where no number does.

        A log is read after the quote is made and goes on growing in between: what follows is covered by no quote. Raises
        ReplayError as :meth:`replay` does, but only for an entry that comes before the place.
        """
        size = ALGORITHMS_BY_NAME[algorithm].size
        if value == start_value(pcr, size, launched=True):
            return 0
        for number, (register, state) in enumerate(self._states(algorithm, len(self)), start=1):
            if register == pcr and state == value:
                return number
        return None

    def boot_aggregate(self, firmware: EventLog, *, last_register: int | None = None) -> BootAggregate:
        """Compare the first entry with the registers that a firmware log gives.

        The kernel hashes PCR 0 to 9 with the algorithm of their bank, PCR 0 to 7 for SHA-1 (ima_calc_boot_aggregate_tfm).
        Kernels that know other banks than SHA-1 but lack the commit "ima: extend boot_aggregate with kernel measurements"
        (5.8, and 5.4 for a time) stop at 7 always: name ``last_register=7`` for those. PCR 8 and 9 are then not covered.
        """
        # 1. The entry must be there and be covered by its template hash: a name alone is anybody's.
        if not self or self[0].name != "boot_aggregate" or self[0].check() != "matches":
            return BootAggregate(status="missing", reason="the first entry is no boot aggregate that its hash covers")
        stated = self[0].file_digest
        if stated is None or stated.kind != "ima":
            return BootAggregate(status="missing", reason="the first entry has no digest")
        bank = "sm3_256" if stated.algorithm in {"sm3", "sm3-256"} else stated.algorithm.replace("-", "_")
        last = last_register if last_register is not None else (7 if bank == "sha1" else 9)
        registers = tuple(range(last + 1))
        # 2. A kernel without a TPM writes zeros, which no registers hash to.
        if not any(stated.digest):
            return BootAggregate(status="no-tpm", stated=stated, reason="the kernel found no TPM")
        new = hash_constructor(bank)
        if new is None or bank not in firmware.algorithms or firmware.kind == "ccel":
            reason = f"the firmware log has no PCRs of {bank}"
            return BootAggregate(status="not-computable", registers=registers, stated=stated, reason=reason)
        try:
            values = firmware.replay(bank)
        except ReplayError as error:
            return BootAggregate(status="not-computable", registers=registers, stated=stated, reason=str(error))
        # 3. The digest ties this log to that boot of the firmware.
        joined = b"".join(values.get(i, values.reset_value(i)) for i in registers)
        expected = new(joined).digest()
        status: Literal["matches", "differs"] = "matches" if expected == stated.digest else "differs"
        return BootAggregate(
            status=status,
            registers=registers,
            stated=stated,
            expected=expected,
            reason="" if status == "matches" else "the registers of the firmware log hash to another value",
        )


def _rebuild(data: bytes, template_hash: str, extends: Mapping[str, Extends], byte_order: ByteOrder) -> ImaLog:
    return ImaLog.from_bytes(data, template_hash=template_hash, banks=(), extends=extends, byte_order=byte_order)


def _register(index: int) -> Register:
    return Register("pcr", index) if index < PCR_COUNT else Register("none", index)
