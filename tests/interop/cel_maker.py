"""Records of the canonical event log for tests: strategies, and the encodings written by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from measlog.interop.cel import (
    CelLog,
    CelRecord,
    CelTimestamp,
    CelVersion,
    FirmwareEnd,
    ImaTemplate,
    ImaTlv,
    Management,
    PcClientStd,
    StateTransition,
)
from measlog.interop.cel.records import OpaqueContent
from measlog.registry import ALGORITHMS_BY_NAME, EventType, Register

FORMS = ("json", "cbor", "tlv")


def read_form(form: str, data: bytes, **arguments: Any) -> CelLog:
    read: Callable[..., CelLog] = getattr(CelLog, f"from_{form}")
    return read(data, **arguments)


def write_form(form: str, log: CelLog) -> bytes:
    write: Callable[[], bytes] = getattr(log, f"to_{form}")
    return write()


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(4, "big") + value


_u16, _u32, _u64 = (st.integers(0, (1 << 8 * size) - 1) for size in (2, 4, 8))
_raw = st.binary(max_size=20)
_events = st.one_of(
    st.builds(CelVersion, major=_u16, minor=_u16),
    st.just(FirmwareEnd()),
    st.builds(CelTimestamp, _u64),
    st.builds(StateTransition, st.sampled_from(["suspend", "hibernate", "kexec"])),
)
_types = st.one_of(st.sampled_from(sorted(EventType)), _u32.map(EventType))
contents: st.SearchStrategy[Any] = st.one_of(
    st.lists(_events, min_size=1, max_size=3).map(lambda events: Management(tuple(events))),
    st.builds(PcClientStd, event_type=_types, event_data=_raw),
    st.builds(ImaTemplate, template_name=st.text("abc-|ng", min_size=1, max_size=9), template_data=_raw),
    st.dictionaries(st.integers(0, 7), _raw, max_size=4).map(
        lambda fields: ImaTlv(b"".join(tlv(kind, value) for kind, value in fields.items()))
    ),
    st.builds(OpaqueContent, content_type=st.sampled_from([9, 80, 200]), data=_raw),
)
digests = st.lists(st.sampled_from(sorted(ALGORITHMS_BY_NAME)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries(
        {n: st.binary(min_size=ALGORITHMS_BY_NAME[n].size, max_size=ALGORITHMS_BY_NAME[n].size) for n in names}
    )
)
registers = st.one_of(
    st.integers(0, 23).map(lambda index: Register("pcr", index)),
    st.sampled_from([24, 0xFFFFFFFF]).map(lambda index: Register("none", index)),
    _u32.map(lambda index: Register("nv", index)),
)


@st.composite
def records(draw: st.DrawFn, max_size: int = 6) -> list[CelRecord]:
    """Records numbered within their registers."""
    counts: Counter[Register] = Counter()
    chosen = draw(st.lists(registers, min_size=1, max_size=3, unique=True))
    start = draw(st.sampled_from([0, 0, 1, 1 << 40]))
    found = []
    for _ in range(draw(st.integers(0, max_size))):
        register = draw(st.sampled_from(chosen))
        found.append(
            CelRecord(recnum=start + counts[register], register=register, digests=draw(digests), content=draw(contents))
        )
        counts[register] += 1
    return found
