"""Whole event logs whose digests follow from their data as the profile says."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from measlog.formats.pfp import LogEvent, build_log
from measlog.registry import ALGORITHMS_BY_NAME, EventType, hash_constructor
from measlog.testing.payloads import device_paths, gpt_events, image_loads, no_action_events, tagged_events, variables

__all__ = ["event_logs", "events"]

_E = EventType
_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map(str.encode)
# (type, register, data, where the hashed part starts)
_whole = st.one_of(
    st.tuples(st.just(_E.EV_SEPARATOR), st.integers(0, 7), st.sampled_from([bytes(4), b"\xff" * 4])),
    st.tuples(st.sampled_from([_E.EV_EFI_ACTION, _E.EV_ACTION]), st.integers(1, 6), _text),
    st.tuples(
        st.sampled_from([_E.EV_EFI_VARIABLE_DRIVER_CONFIG, _E.EV_EFI_VARIABLE_BOOT2, _E.EV_EFI_VARIABLE_AUTHORITY]),
        st.sampled_from([1, 7]),
        variables().map(lambda made: made.data),
    ),
    st.tuples(st.just(_E.EV_EFI_GPT_EVENT), st.just(5), gpt_events().map(lambda made: made.data)),
    st.tuples(st.just(_E.EV_S_CRTM_VERSION), st.just(0), _text.map(lambda text: text.decode().encode("utf-16-le"))),
)
_outside = st.one_of(
    st.tuples(
        st.just(_E.EV_EFI_BOOT_SERVICES_APPLICATION), st.sampled_from([2, 4]), image_loads().map(lambda made: made.data)
    ),
    st.tuples(st.just(_E.EV_EVENT_TAG), st.just(9), tagged_events().map(lambda made: made.data)),
    st.tuples(st.just(_E.EV_IPL), st.just(9), _text.map(lambda text: text + b"\0")),
    st.tuples(st.just(_E.EV_EFI_SPDM_FIRMWARE_BLOB), st.just(2), device_paths().map(lambda made: made.data)),
)
_grub = st.tuples(st.sampled_from([b"grub_cmd: ", b"kernel_cmdline: "]), _text)


@st.composite
def events(draw: st.DrawFn, algorithms: Sequence[str] = ("sha1", "sha256")) -> LogEvent:
    """One event with a digest for each algorithm: of its data, of its text, of nothing in it, or all zero."""
    shape = draw(st.integers(0, 3))
    if shape == 0:
        kind, register, data = draw(_whole)
        return LogEvent(register, kind, _digests(algorithms, data), data)
    if shape == 1:
        prefix, text = draw(_grub)
        return LogEvent(8, _E.EV_IPL, _digests(algorithms, text), prefix + text + b"\0")
    if shape == 2:
        kind, register, data = draw(_outside)
        return LogEvent(register, kind, _digests(algorithms, draw(st.binary(max_size=8)) + b"outside"), data)
    zero = {name: bytes(ALGORITHMS_BY_NAME[name].size) for name in algorithms}
    return LogEvent(0, _E.EV_NO_ACTION, zero, draw(no_action_events()).data)


def _digests(algorithms: Sequence[str], data: bytes) -> dict[str, bytes]:
    found = {}
    for name in algorithms:
        new = hash_constructor(name)
        assert new is not None, name
        found[name] = new(data).digest()
    return found


@st.composite
def event_logs(
    draw: st.DrawFn, *, algorithms: Sequence[str] = ("sha1", "sha256"), legacy: bool = False, max_size: int = 8
) -> bytes:
    """The bytes of a log: crypto-agile with these algorithms, or ``legacy`` with SHA-1 alone."""
    banks = ("sha1",) if legacy else tuple(algorithms)
    found = draw(st.lists(events(banks), max_size=max_size))
    if not legacy:
        return build_log(found, algorithms=banks)
    first = b"B\0I\0O\0S\0\0\0"
    head = LogEvent(0, _E.EV_S_CRTM_VERSION, _digests(banks, first), first)
    return build_log([head, *found], algorithms=None)
