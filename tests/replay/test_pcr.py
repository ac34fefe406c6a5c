"""Start values and extends, against hashlib in the test and the tables of the TCG's profiles."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog import EventLog
from measlog.errors import ReplayError
from measlog.formats.framing import frame_log
from measlog.formats.pfp import LogEvent, build_log, startup_locality_event
from measlog.registry import ALGORITHMS_BY_NAME, hash_constructor
from measlog.replay import pcr
from measlog.replay.pcr import RESETTABLE_PCRS, Bank, Chains, replay_bank, start_value, startup_locality

BANKS = ("sha1", "sha256")
ONES = {"sha1": b"\x11" * 20, "sha256": b"\x11" * 32}
ZEROS = {"sha1": bytes(20), "sha256": bytes(32)}
ACTION = LogEvent(0, 1, ONES, b"code")
OTHER = LogEvent(4, 1, ONES, b"code")
HCRTM = LogEvent(0, 0x80000010, ONES, b"HCRTM")


def locality(value: int, **changes: Any) -> LogEvent:
    return startup_locality_event(value, BANKS)._replace(**changes)


def extended(start: bytes, *digests: bytes) -> bytes:
    for digest in digests:
        start = hashlib.new({20: "sha1", 32: "sha256"}[len(start)], start + digest).digest()
    return start


def zeros_and(last: int, size: int = 32) -> bytes:
    return bytes(size - 1) + bytes([last])


# PC Client Platform TPM Profile 1.05, table 5: PCR 17 to 22 are all ones until a dynamic launch, the others zero.
@pytest.mark.parametrize("index", range(24))
@pytest.mark.parametrize("size", [20, 32, 48, 64])
def test_start_values(index: int, size: int) -> None:
    assert start_value(index, size) == (b"\xff" * size if 17 <= index <= 22 else bytes(size))
    assert start_value(index, size, launched=True) == bytes(size)
    for at in (3, 4):
        assert start_value(index, size, locality=at) == (
            zeros_and(at, size) if index == 0 else start_value(index, size)
        )


def test_resettable_registers() -> None:
    """TPM Profile 1.05, table 5, pcrReset: 16 and 23 from any locality, 17 to 22 from those of a dynamic launch."""
    assert {16, 17, 18, 19, 20, 21, 22, 23} == RESETTABLE_PCRS


# name, events, value of PCR 0 in the sha256 bank, None where the log says nothing about it
SOUND: list[tuple[str, list[LogEvent], bytes | None]] = [
    ("nothing", [], None),
    ("an extend", [ACTION], extended(bytes(32), ONES["sha256"])),
    ("two extends", [ACTION, ACTION], extended(bytes(32), ONES["sha256"], ONES["sha256"])),
    ("locality 0", [locality(0)], bytes(32)),
    ("locality 3", [locality(3)], zeros_and(3)),
    ("locality 4", [locality(4)], zeros_and(4)),
    ("locality 0 and an extend", [locality(0), ACTION], extended(bytes(32), ONES["sha256"])),
    ("locality 3 and an extend", [locality(3), ACTION], extended(zeros_and(3), ONES["sha256"])),
    ("locality 4 and an extend", [locality(4), ACTION], extended(zeros_and(4), ONES["sha256"])),
    ("after other registers", [OTHER, locality(3), ACTION], extended(zeros_and(3), ONES["sha256"])),
    ("after other EV_NO_ACTION", [LogEvent(0, 3, ZEROS, b"SP800-155"), locality(3), ACTION], extended(zeros_and(3), ONES["sha256"])),
    ("H-CRTM", [HCRTM], extended(zeros_and(4), ONES["sha256"])),
    ("H-CRTM and an extend", [HCRTM, ACTION], extended(zeros_and(4), ONES["sha256"], ONES["sha256"])),
    ("H-CRTM with locality 4", [locality(4), HCRTM], extended(zeros_and(4), ONES["sha256"])),
    ("H-CRTM on another register", [HCRTM._replace(register=1), ACTION], extended(bytes(32), ONES["sha256"])),
    ("H-CRTM after an extend", [ACTION, HCRTM], extended(bytes(32), ONES["sha256"], ONES["sha256"])),
    ("a word that is not quite it", [LogEvent(0, 3, ZEROS, b"StartupLocalit\0\0\3"), ACTION], extended(bytes(32), ONES["sha256"])),
    ("the words in a measured event", [LogEvent(0, 5, ONES, b"StartupLocality\0\3")], extended(bytes(32), ONES["sha256"])),
]  # fmt: skip


@pytest.mark.parametrize(("events", "value"), [s[1:] for s in SOUND], ids=[s[0] for s in SOUND])
def test_sound_starts(events: list[LogEvent], value: bytes | None) -> None:
    log = EventLog.from_bytes(build_log(events))
    assert log.replay("sha256").get(0) == value
    assert not [a for a in log.anomalies if a.code == "event.startup-locality"]


# PFP 10.4.5.3 and A21, A24: once, in PCR 0, zero digests, before anything is extended there, a locality that exists.
UNSOUND: list[tuple[str, list[LogEvent], int, str]] = [
    ("late", [ACTION, locality(3)], 2, "the startup locality is stated after PCR 0 was extended"),
    ("late, after H-CRTM", [HCRTM, locality(4)], 2, "the startup locality is stated a second time"),
    ("twice", [locality(3), locality(3)], 2, "the startup locality is stated a second time"),
    ("twice, differing", [locality(0), locality(3), ACTION], 2, "the startup locality is stated a second time"),
    ("in another register", [locality(3, register=1)], 1, "StartupLocality is recorded for register 1 instead of PCR 0"),
    ("in no register", [locality(3, register=0xFFFFFFFF)], 1, "StartupLocality is recorded for register 4294967295 instead of PCR 0"),
    ("with a digest", [locality(3, digests=ONES)], 1, "StartupLocality has a digest that is not zero"),
    ("with a digest in one bank", [locality(3, digests={**ZEROS, "sha1": ONES["sha1"]})], 1, "StartupLocality has a digest that is not zero"),
    ("locality 1", [locality(1)], 1, "the startup locality 1 does not exist"),
    ("locality 2", [locality(2)], 1, "the startup locality 2 does not exist"),
    ("locality 5", [locality(5)], 1, "the startup locality 5 does not exist"),
    ("locality 255", [locality(255)], 1, "the startup locality 255 does not exist"),
    ("without the locality", [locality(3, data=b"StartupLocality\0")], 1, "StartupLocality has 16 bytes instead of 17"),
    ("with more", [locality(3, data=b"StartupLocality\0\3\0")], 1, "StartupLocality has 18 bytes instead of 17"),
    ("against H-CRTM", [locality(3), HCRTM], 2, "an H-CRTM event, which starts PCR 0 at 4, contradicts the startup locality 3"),
    ("against H-CRTM at 0", [locality(0), HCRTM], 2, "an H-CRTM event, which starts PCR 0 at 4, contradicts the startup locality 0"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "index", "words"), [u[1:] for u in UNSOUND], ids=[u[0] for u in UNSOUND])
def test_starts_that_cannot_be_believed(events: list[LogEvent], index: int, words: str) -> None:
    log = EventLog.from_bytes(build_log([*events, OTHER]))
    for refuse in (log.replay, lambda bank: log.verify_pcrs(bank, {4: extended(bytes(32), ONES["sha256"])})):
        with pytest.raises(ReplayError, match=rf"^events\[{index}\]: {words}$") as caught:
            refuse("sha256")
        assert caught.value.check == "startup-locality"
    assert [(a.code, a.event) for a in log.anomalies if a.code == "event.startup-locality"] == [
        ("event.startup-locality", index)
    ]


def test_a_locality_in_the_sha1_format() -> None:
    """The format of TPM 1.2 knows the event too; there its one digest has to be zero."""
    first = startup_locality_event(3, ["sha1"])
    log = EventLog.from_bytes(build_log([first, LogEvent(0, 1, {"sha1": b"\x11" * 20}, b"")], algorithms=None))
    assert log.replay("sha1")[0] == extended(zeros_and(3, 20), b"\x11" * 20)
    bad = build_log([first._replace(digests={"sha1": b"\x11" * 20})], algorithms=None)
    with pytest.raises(ReplayError, match="StartupLocality has a digest that is not zero"):
        EventLog.from_bytes(bad).replay("sha1")


def test_an_hcrtm_in_the_sha1_format() -> None:
    """A log without any EV_NO_ACTION, which a glance could take for one that states nothing."""
    first, hcrtm = LogEvent(0, 8, {"sha1": b"\x11" * 20}, b"v"), HCRTM._replace(digests={"sha1": b"\x11" * 20})
    late = EventLog.from_bytes(build_log([first, hcrtm], algorithms=None))
    assert late.replay("sha1")[0] == extended(bytes(20), b"\x11" * 20, b"\x11" * 20)
    header = LogEvent(1, 3, {"sha1": bytes(20)}, b"not a Spec ID event")
    log = EventLog.from_bytes(build_log([header, hcrtm], algorithms=None))
    assert log.replay("sha1")[0] == extended(zeros_and(4, 20), b"\x11" * 20)
    frame = frame_log(log.to_bytes())
    assert startup_locality(log.to_bytes(), frame.rows[1:]) == (4, None)


def test_a_locality_without_some_digests() -> None:
    """EV_NO_ACTION is not extended: a digest that it lacks is an anomaly, and the registers are known all the same."""
    log = EventLog.from_bytes(build_log([locality(3, digests={"sha1": bytes(20)}), ACTION]))
    assert log.replay("sha256")[0] == extended(zeros_and(3), ONES["sha256"])
    assert [a.code for a in log.anomalies] == ["event.digest-missing"]


def test_events_that_extend_nothing() -> None:
    events = [LogEvent(7, 3, ONES, b"no action"), LogEvent(24, 1, ONES, b""), LogEvent(0xFFFFFFFF, 1, ONES, b"")]
    bank = EventLog.from_bytes(build_log(events)).replay("sha256")
    assert dict(bank) == {}
    assert bank.unmeasured == tuple(range(24))


def test_the_event_that_lacks_a_digest_is_one_that_extends() -> None:
    """Events of no register and EV_NO_ACTION may lack it; the first that may not is named."""
    short = {"sha1": ONES["sha1"]}
    events = [
        LogEvent(7, 3, short, b""),
        LogEvent(24, 1, short, b""),
        LogEvent(0, 1, ONES, b""),
        LogEvent(4, 1, short, b""),
    ]
    log = EventLog.from_bytes(build_log([*events, LogEvent(5, 1, short, b"")]))
    with pytest.raises(ReplayError) as caught:
        log.replay("sha256")
    assert caught.value.check == "digest-missing"
    place = next(number for number, event in enumerate(log) if event.pcr == 4)
    assert str(caught.value).startswith(f"events[{place}]:")


@pytest.mark.parametrize("index", range(24))
def test_every_register(index: int) -> None:
    """A register with events was extended from zero: 17 to 22 are written to after a dynamic launch only."""
    bank = EventLog.from_bytes(build_log([LogEvent(index, 0xD, ONES, b"")])).replay("sha256")
    assert dict(bank) == {index: extended(bytes(32), ONES["sha256"])}
    assert bank.unmeasured == tuple(i for i in range(24) if i != index)
    assert [bank.reset_value(i)[0] for i in range(24)] == [0xFF if 17 <= i <= 22 else 0 for i in range(24)]


@pytest.mark.parametrize("name", sorted(ALGORITHMS_BY_NAME))
def test_every_bank(name: str) -> None:
    size = ALGORITHMS_BY_NAME[name].size
    data = build_log([LogEvent(3, 0xD, {name: b"\x22" * size}, b"")], algorithms=[name])
    log = EventLog.from_bytes(data)
    reference = {"sm3_256": "sm3"}.get(name, name)
    if hash_constructor(name) is None:
        with pytest.raises(ReplayError, match=f"cannot compute {name}"):
            log.replay(name)
        return
    assert log.replay(name)[3] == hashlib.new(reference, bytes(size) + b"\x22" * size).digest()


def test_a_bank_that_this_python_cannot_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcr, "hash_constructor", lambda _: None)
    frame = frame_log(build_log([ACTION]))
    with pytest.raises(ReplayError, match="this Python cannot compute sha256") as caught:
        replay_bank(Chains.of(b"", frame.rows, "pcr"), algorithm="sha256", column=1)
    assert caught.value.check == "algorithm"


def test_registers_of_a_ccel() -> None:
    """MR index 0 is MRTD, which no event extends; 1 to 4 are RTMR 0 to 3. There is no startup locality."""
    events = [LogEvent(0, 0xD, ONES, b""), locality(3), *(LogEvent(i, 0xD, ONES, b"") for i in (2, 4, 5, 2))]
    bank = EventLog.from_bytes(build_log(events, spec_id_register=1)).replay("sha256")
    once, twice = extended(bytes(32), ONES["sha256"]), extended(bytes(32), ONES["sha256"], ONES["sha256"])
    assert dict(bank) == {1: twice, 3: once}
    assert (bank.kind, bank.unmeasured, bank.reset_value(0)) == ("rtmr", (0, 2), bytes(32))


def test_a_bank_is_a_mapping_that_nobody_changes() -> None:
    values = {4: b"\1" * 32}
    bank = Bank(algorithm="sha256", kind="pcr", values_by_index=values)
    values[4] = b"\2" * 32
    assert (bank[4], len(bank), list(bank), 5 in bank) == (b"\1" * 32, 1, [4], False)
    assert pickle.loads(pickle.dumps(bank)) == bank
    assert "0101" not in repr(bank)
    with pytest.raises(KeyError):
        bank[5]


def test_a_locality_stated_for_nobody() -> None:
    data = build_log([OTHER])
    assert startup_locality(data, frame_log(data).rows) == (None, None)


measured = st.builds(
    LogEvent,
    st.integers(0, 23),
    st.sampled_from([1, 4, 5, 6, 8, 0xD, 0x80000003, 0x12345678]),
    st.fixed_dictionaries({"sha1": st.binary(min_size=20, max_size=20), "sha256": st.binary(min_size=32, max_size=32)}),
    st.binary(min_size=1, max_size=8),
)


@given(st.lists(measured, max_size=12), st.sampled_from([None, 0, 3, 4]))
def test_any_events_in_any_bank(events: list[LogEvent], start: int | None) -> None:
    stated = [] if start is None else [locality(start)]
    log = EventLog.from_bytes(build_log([*stated, *events]))
    for bank, size in (("sha1", 20), ("sha256", 32)):
        wanted: dict[int, bytes] = {} if start is None else {0: zeros_and(start, size)}
        for event in events:
            wanted[event.register] = extended(wanted.get(event.register, bytes(size)), event.digests[bank])
        assert dict(log.replay(bank)) == wanted
        assert list(log.replay(bank)) == sorted(wanted)


@given(st.lists(measured, min_size=2, max_size=12), st.randoms())
def test_the_interleaving_of_registers_does_not_matter(events: list[LogEvent], random: Any) -> None:
    """A49: the log may be rearranged as long as the order within each register is kept."""
    queues: dict[int, list[LogEvent]] = {}
    for event in events:
        queues.setdefault(event.register, []).append(event)
    mixed = []
    while queues:
        register = random.choice(sorted(queues))
        mixed.append(queues[register].pop(0))
        if not queues[register]:
            del queues[register]
    one, other = (EventLog.from_bytes(build_log(e)).replay("sha256") for e in (events, mixed))
    assert one == other
