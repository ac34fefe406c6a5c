"""Hypothesis strategies for event logs, built through the declarations of the specification."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hypothesis import strategies as st

from measlog.formats.pfp import LogEvent, build_log
from measlog.registry import ALGORITHMS, algorithm_name

NO_ACTION = 3

registers = st.one_of(
    st.integers(0, 23), st.sampled_from([24, 0x100, 0xFFFFFFFE, 0xFFFFFFFF]), st.integers(0, 2**32 - 1)
)
types = st.one_of(
    st.sampled_from([1, 3, 4, 5, 6, 8, 0xD, 0x80000001, 0x80000003, 0x80000008, 0x800000E0]), st.integers(0, 2**32 - 1)
)
payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", bytes(4), b"\xff" * 4, bytes(64), b"\xff" * 64, b"StartupLocality\0\3"]),
)
banks = st.lists(
    st.one_of(
        st.sampled_from([(a.id, a.size) for a in ALGORITHMS.values()]),
        st.tuples(st.sampled_from([0x0099, 0x7FFF]), st.integers(1, 70)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda bank: bank[0],
)


class MadeLog(NamedTuple):
    """A log and the values that it was made from. ``algorithms`` is None for the SHA-1 format."""

    data: bytes
    events: tuple[LogEvent, ...]
    algorithms: tuple[tuple[int, int], ...] | None
    vendor_info: bytes
    vendor_info_outside: bool
    filler: bytes

    @property
    def names(self) -> tuple[str, ...]:
        """The banks, by name."""
        return ("sha1",) if self.algorithms is None else tuple(algorithm_name(alg) for alg, _ in self.algorithms)

    @property
    def starts(self) -> list[int]:
        """Where each event starts, and where the last one ends: computed by hand, without the library."""
        if self.algorithms is None:
            places = [0]
        else:
            places = [0, 32 + 16 + 12 + 4 * len(self.algorithms) + 1 + len(self.vendor_info)]
        for event in self.events:
            size = 32 if self.algorithms is None else 16 + sum(2 + len(d) for d in event.digests.values())
            places.append(places[-1] + size + len(event.data))
        return places


def _tellable(event: LogEvent, *, legacy: bool) -> bool:
    """Whether no beginning of the event looks like filler or like an erased header.

    Erased flash and unused memory read as 0xFF and 0x00; an event that starts with more of either than any real one
    does cannot be told from them, and is left out here (``test_framing`` says what becomes of it).
    """
    head = struct.pack("<III", event.register, event.type, 0 if legacy else len(event.digests))
    if head[:5] == b"\xff" * 5:
        return False
    if legacy:
        return any(head[:8]) or any(event.digests["sha1"]) or bool(event.data)
    return any(head[:9])


def digests(draw: st.DrawFn, algorithms: list[tuple[int, int]], *, odd: bool) -> dict[str, bytes]:
    """Digests of one event: all of them in order, or, where ``odd`` allows it, some of them in any order."""
    order = list(algorithms)
    if odd and draw(st.integers(0, 3)) == 0:
        order = draw(st.permutations(order))[: draw(st.integers(0, len(order)))]
    return {algorithm_name(alg): draw(_digest(size)) for alg, size in order}


def _digest(size: int) -> st.SearchStrategy[bytes]:
    uniform = st.sampled_from([bytes(size), b"\x11" * size, b"\xff" * size])
    return st.one_of(st.binary(min_size=size, max_size=size), uniform)


@st.composite
def events(draw: st.DrawFn, algorithms: list[tuple[int, int]], *, legacy: bool, odd: bool) -> LogEvent:
    """One event."""
    return LogEvent(draw(registers), draw(types), digests(draw, algorithms, odd=odd and not legacy), draw(payloads))


@st.composite
def logs(draw: st.DrawFn, *, odd: bool = True, filled: bool = True) -> MadeLog:
    """A log of either format: odd digest orders and missing digests with ``odd``, filler with ``filled``."""
    legacy = draw(st.integers(0, 3)) == 0
    algorithms = [(0x0004, 20)] if legacy else draw(banks)
    made = events(algorithms, legacy=legacy, odd=odd).filter(lambda event: _tellable(event, legacy=legacy))
    chosen = draw(st.lists(made, max_size=5))
    filler = (
        draw(
            st.one_of(
                st.just(b""), st.builds(lambda b, n: b * n, st.sampled_from([b"\0", b"\xff"]), st.integers(40, 90))
            )
        )
        if filled
        else b""
    )
    if legacy:
        first = LogEvent(0, 8, {"sha1": b"\x22" * 20}, b"v\0")
        chosen.insert(0, first)
        return MadeLog(build_log(chosen, algorithms=None, filler=filler), tuple(chosen), None, b"", False, filler)
    vendor_info = draw(st.binary(max_size=20))
    outside = bool(vendor_info) and draw(st.booleans())
    data = build_log(chosen, algorithms=algorithms, vendor_info=vendor_info, vendor_info_outside=outside, filler=filler)
    return MadeLog(data, tuple(chosen), tuple(algorithms), vendor_info, outside, filler)
