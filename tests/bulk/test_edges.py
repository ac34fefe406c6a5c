"""Where the columns stop sharing: bounds of what is remembered, unusual logs and quotes, defects, damaged tables.

Whatever is forgotten or not shared, the verdict on each row is the scalar path's.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import measlog as ml
from measlog.appraisal.result import Identified
from measlog.bulk.appraise import Appraiser
from measlog.bulk.cohorts import CohortBuilder, cohorts
from measlog.bulk.fold import replay
from measlog.bulk.quotes import QuoteReader
from measlog.bulk.schema import BinaryColumn, TableError, verdict_fields
from measlog.bulk.stream import _identity
from measlog.bulk.templates import Template, gather
from measlog.bulk.verdict import identified_text
from measlog.formats.tpm2 import parse_attest
from measlog.limits import DEFAULT_LIMITS
from measlog.registry import EventType

pa = pytest.importorskip("pyarrow")

from fixtures.attacks import forge  # noqa: E402
from tests.bulk.fleets import VERDICT, assert_equal, columnar, machines, scalar, table, verifier  # noqa: E402
from tests.conftest import FIXTURES  # noqa: E402

SIGNER = ec.derive_private_key(0x5EED, ec.SECP256R1())
NONCE = bytes(range(20))


def base() -> forge.ForgedLog:
    return forge.ForgedLog.take_apart(machines("identical", 1)[0]["log"])


def quoted(log: forge.ForgedLog, *selections: tuple[int, tuple[int, ...]]) -> dict[str, Any]:
    made = forge.quote(SIGNER, NONCE, selections or [(0x000B, tuple(range(15)))], log.registers)
    cells = {"attest": made.attest, "signature": made.signature, "ak": made.ak}
    return {"log": log.put_together(), **cells, "nonce": NONCE, "pcrs": None}


@pytest.mark.parametrize(
    ("bound", "value"), [("appraise._KEPT_IN_ALL", 0), ("appraise._KEPT_OPINIONS", 1), ("quotes._REMEMBERED", 1)]
)
def test_what_is_forgotten_changes_no_verdict(bound: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, name = bound.partition(".")
    monkeypatch.setattr(import_module(f"measlog.bulk.{module}"), name, value)
    rows = machines("realistic", 16, seed=5, tampered=0.3)
    appraiser = Appraiser(verifier())
    (batch,) = table(rows).combine_chunks().to_batches()
    expected = [scalar(row, verifier()) for row in rows]
    for _ in range(2):
        assert [tuple(row[name] for name in VERDICT) for row in appraiser.batch(batch).to_pylist()] == expected


class _Broken:
    """A rule with a defect, which counts how often it was asked."""

    code = "broken"
    sentence = "Nothing."
    registers: frozenset[int] = frozenset()
    severity = "error"

    def __init__(self) -> None:
        self.asked = 0

    def appraise(self, _case: Any, _report: Any) -> None:
        self.asked += 1
        raise ZeroDivisionError


def test_a_defect_is_each_row_s_own() -> None:
    rule = _Broken()
    judge = ml.Verifier(verifier().manifests, policy=ml.policy.Policy(name="x", rule=rule, required=frozenset()))  # type: ignore[arg-type]
    rows = machines("identical", 6)
    assert columnar(rows, judge) == [("none", "error", None, None, None)] * 6
    # A verdict that says nothing stands for no other machine.
    assert rule.asked == 6


def test_what_this_python_cannot_hash_is_left_to_the_scalar_path(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = machines("identical", 4)
    expected = columnar(rows, verifier())
    monkeypatch.setattr("measlog.bulk.evidence.hash_constructor", lambda _name: None)
    assert columnar(rows, verifier()) == expected


def test_quotes_of_several_banks_and_of_none() -> None:
    log = base()
    rows = [quoted(log)] * 2
    for selections in (
        [(4, ()), (0x000B, tuple(range(15)))],
        [(0x000B, tuple(range(15))), (0x000C, ())],
        # PCR 10 and 16 are explained by no event, in neither bank.
        [(4, (4, 10, 16)), (0x000B, (4, 7, 10, 16))],
        [(0x000B, (4, 7, 10)), (0x000C, (10,))],
        [(0x000B, (10, 16))],
        [(4, ()), (0x000B, ())],
    ):
        rows += [quoted(log, *selections)] * 2
    for bank in ("sha256", "sha384"):
        assert_equal(rows, verifier(), bank)


def test_a_table_without_register_files() -> None:
    rows = [{**row, "pcrs": None} for row in machines("realistic", 12, seed=3, tampered=0.3)]
    out = ml.bulk.appraise(table(rows).drop_columns(["pcrs"]), verifier())
    assert [tuple(row[name] for name in VERDICT) for row in out.to_pylist()] == [scalar(r, verifier()) for r in rows]


def test_a_column_that_is_there_twice_is_refused() -> None:
    source = table(machines("identical", 2))
    for name in ("log", "pcrs"):
        doubled = pa.Table.from_arrays([*source.columns, source[name]], names=[*source.column_names, name])
        with pytest.raises(TableError, match=f"the column {name} is there twice"):
            ml.bulk.appraise(doubled, verifier())


@pytest.mark.parametrize("offsets", [(0, 9, 3), (2, 1, 3)])
def test_offsets_outside_of_their_column_are_refused(offsets: tuple[int, ...]) -> None:
    # As a file may hold them; Arrow looks at the first and the last of them alone.
    buffers = [None, pa.py_buffer(struct.pack("<3i", *offsets)), pa.py_buffer(b"abc")]
    array = pa.Array.from_buffers(pa.binary(), 2, buffers)
    with pytest.raises(TableError, match="offsets lie outside its data"):
        BinaryColumn.from_arrow(array)


def test_gathering_stays_within_the_column() -> None:
    data = np.frombuffer(b"0123456789", dtype=np.uint8)
    places = np.array([0, 6, 3], dtype=np.int64)
    assert [row.tobytes() for row in gather(data, places, 4)] == [b"0123", b"6789", b"3456"]
    assert gather(data, places, 0).shape == (3, 0)
    assert gather(data, places[:0], 4).shape == (0, 4)
    for outside in (-1, 7, 1 << 40):
        with pytest.raises(IndexError, match="beyond the column"):
            gather(data, np.array([outside], dtype=np.int64), 4)


TYPES = (
    EventType.EV_POST_CODE, EventType.EV_ACTION, EventType.EV_EVENT_TAG, EventType.EV_IPL, EventType.EV_EFI_ACTION,
    EventType.EV_EFI_VARIABLE_BOOT, EventType.EV_EFI_HANDOFF_TABLES2,
)  # fmt: skip


def test_events_in_registers_that_no_rule_reads_whole() -> None:
    """Three logs of each: two with digests of the data, which differs, and one with a digest of something else."""
    log = base()
    place = next(i for i, event in enumerate(log.events) if event.pcr == 5)
    rows = []
    for kind in TYPES:
        pcr = 1 if kind % 2 else 5
        for data, hashed in ((b"a" * 40, None), (b"b" * 40, None), (b"c" * 40, b"other")):
            event = forge.ForgedEvent(pcr, int(kind), dict.fromkeys(log.algorithms, b""), data)
            event = event.rehashed(data if hashed is None else hashed)
            rows.append(quoted(log.with_events((*log.events[:place], event, *log.events[place:]))))
    assert_equal(rows, verifier())


def variable(value: bytes, name: str = "Boot0042") -> bytes:
    """UEFI_VARIABLE_DATA of a boot option."""
    return bytes(16) + struct.pack("<QQ", len(name), len(value)) + name.encode("utf-16-le") + value


@pytest.mark.parametrize(
    ("pcr", "kind", "cases"),
    [
        # The firmwares of two decades hash the whole data, or what the variable holds.
        (1, EventType.EV_EFI_VARIABLE_BOOT, [(variable(v), h) for v in (b"one", b"two") for h in (v, variable(v))]),
        (5, EventType.EV_EFI_VARIABLE_BOOT, [(variable(v), h) for v in (b"one", b"two") for h in (v, variable(v))]),
        # The bytes that are a value in one log are not all of it in another: its digest is of nothing that it may be of.
        (
            5,
            EventType.EV_EFI_VARIABLE_BOOT,
            [(variable(b"12345678"), b"12345678")] * 2 + [(variable(b"??87654321", "Boot004"), b"87654321")],
        ),
        # Text with and without its NUL.
        (1, EventType.EV_ACTION, [(b"one", b"one\0"), (b"two", b"two\0"), (b"six", b"six")]),
        (5, EventType.EV_ACTION, [(b"one\0", b"one"), (b"two\0", b"two"), (b"six\0", b"six\0")]),
        # A separator that reports an error: the digest is of a number that the data does not hold.
        (16, EventType.EV_SEPARATOR, [(b"abcd", b"\1\0\0\0"), (b"efgh", b"\1\0\0\0"), (b"efgh", b"efgh")]),
    ],
)
def test_digests_that_are_not_of_the_whole_data(pcr: int, kind: int, cases: list[tuple[bytes, bytes]]) -> None:
    log = base()
    place = next(i for i, event in enumerate(log.events) if event.pcr == 5)
    rows = []
    for data, hashed in cases:
        event = forge.ForgedEvent(pcr, int(kind), dict.fromkeys(log.algorithms, b""), data).rehashed(hashed)
        rows.append(quoted(log.with_events((*log.events[:place], event, *log.events[place:]))))
    assert len({len(row["log"]) for row in rows}) == 1
    assert_equal(rows, verifier())


def with_bank(log: forge.ForgedLog, old: int, new: int) -> bytes:
    """The log with another algorithm of the same digest size, in the header and in every event."""
    header = log.header.replace(struct.pack("<H", old), struct.pack("<H", new), 1)
    events = [
        replace(event, digests={new if alg == old else alg: digest for alg, digest in event.digests.items()})
        for event in log.events
    ]
    return forge.ForgedLog(header, log.algorithms, tuple(events)).put_together()


def test_unusual_logs_become_no_template() -> None:
    log = base()
    turned = [replace(event, digests=dict(reversed(list(event.digests.items())))) for event in log.events]
    strange = with_bank(log, 0x0004, 0x0099)
    assert ml.EventLog.from_bytes(strange).algorithms != ml.EventLog.from_bytes(log.put_together()).algorithms
    for data in (strange, log.with_events(turned).put_together()):
        assert Template.of(data, DEFAULT_LIMITS) is None
        row = {**quoted(log), "log": data}
        assert_equal([row] * 3, verifier())
    assert Template.of(log.put_together(), DEFAULT_LIMITS) is not None


def check_replay(logs: list[bytes]) -> None:
    found = replay(BinaryColumn.from_list(logs))
    assert found.errors == {}
    for row, data in enumerate(logs):
        for bank, value in ((bank, ml.EventLog.from_bytes(data).replay(bank)) for bank in found.values):
            assert np.flatnonzero(found.explained[bank][row]).tolist() == list(dict(value))
            assert all(found.values[bank][row, pcr].tobytes() == held for pcr, held in dict(value).items())


def test_replay_of_many_logs_of_one_length_and_many_kinds() -> None:
    """Logs that differ in the type of one event have templates of their own: after a few of them, none is made."""
    log = base()
    place = len(log.events) - 1
    kinds = [int(kind) for kind in sorted(set(EventType) - {EventType.EV_NO_ACTION})]
    made = [
        log.with_events((*log.events[:place], replace(log.events[place], type=kind))).put_together() for kind in kinds
    ]
    check_replay([made[0]] * 16 + made[1:])
    check_replay([data for data in made[:6] for _ in range(40)])


def test_a_dynamic_launch_of_the_firmware_is_replayed_row_by_row() -> None:
    # EV_EFI_HCRTM_EVENT in PCR 0 makes the register start at 4 (PFP 1.05, 3.3.4.2, H-CRTM).
    log = base()
    made = []
    for number in range(12):
        launch = forge.ForgedEvent(0, 0x80000010, dict.fromkeys(log.algorithms, b""), b"HCRTM").rehashed(
            bytes([number])
        )
        others = [replace(event, type=0x80000007 if i == number else event.type) for i, event in enumerate(log.events)]
        made.append(log.with_events((launch, *others)).put_together())
    found = replay(BinaryColumn.from_list(made))
    for row, data in enumerate(made):
        try:
            expected = dict(ml.EventLog.from_bytes(data).replay("sha256"))
        except ml.MeaslogError as error:
            assert found.errors[row]["sha256"].code == error.code  # noqa: PT017
            continue
        assert all(found.values["sha256"][row, pcr].tobytes() == held for pcr, held in expected.items())


def test_a_quote_whose_digest_is_longer_than_it_looks_is_not_remembered() -> None:
    """48 bytes that end like a digest of 32 with its size in front of it."""
    attest = machines("identical", 1)[0]["attest"]
    assert attest[-34:-32] == b"\x00\x20"
    longer = attest[:-34] + b"\x00\x30" + b"\xaa" * 14 + b"\x00\x20" + b"\xbb" * 32
    reader = QuoteReader()
    for data in (longer, attest, longer, attest):
        read, expected = reader.attest(data), parse_attest(data)
        assert (read.nonce, read.selections) == (expected.extra_data, expected.selections)
        assert read.pcr_digest == expected.pcr_digest


def test_a_key_that_only_looks_like_one_on_p256_is_read_by_the_parser() -> None:
    """An RSA modulus with the sizes of two coordinates at their places."""
    rsa = (FIXTURES / "flatcar-lab-good" / "ak-rsa.tpm2b").read_bytes()
    looks = rsa[:-68] + b"\x00\x20" + rsa[-66:-34] + b"\x00\x20" + rsa[-32:]
    reader = QuoteReader()
    for data in (looks, rsa, looks):
        assert reader.key(data).public_key == ml.AttestationKey.load(data).public_key


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], None),
        ([("shim", "1.0", None), ("kernel", "1.0", "a")], "1.0 (slot a)"),
        ([("shim", "1.0", None), ("kernel", "2.0", "b")], "shim 1.0, kernel 2.0 (slot b)"),
        ([("shim", "1.0", None), ("shim", "1.0", None), ("grub", "2.0", None)], "shim 1.0, grub 2.0"),
        ([("kernel", "1.0", "a"), ("kernel", "2.0", "b")], "kernel 1.0, kernel 2.0 (slot a, b)"),
    ],
)
def test_what_was_recognised_in_a_few_words(found: list[tuple[str, str, str | None]], text: str | None) -> None:
    assert identified_text([Identified(component=c, release=r, slot=s) for c, r, s in found]) == text


def test_finished_row_groups_depend_on_the_baselines(tmp_path: Path) -> None:
    file = tmp_path / "fleet.parquet"
    file.write_bytes(b"")
    learnt = []
    for row in machines("realistic", 2, seed=9):
        evidence = ml.Evidence(
            log=ml.EventLog.from_bytes(row["log"]), quote=ml.Quote.from_bytes(row["attest"], row["signature"])
        )
        learnt.append(ml.Baseline.learn([evidence.verify(ak=row["ak"], nonce=row["nonce"])]))
    plain = verifier()
    judges = [ml.Verifier(plain.manifests, baselines=b, policy=plain.policy) for b in ([], learnt[:1], learnt)]
    names = [_identity(file, judge, "sha256") for judge in judges]
    assert len(set(names)) == 3
    assert names == [_identity(file, judge, "sha256") for judge in judges]


def test_cohorts_beyond_what_is_kept_still_count_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = machines("realistic", 40, seed=4, tampered=0.6)
    judged = ml.bulk.appraise(table(rows), verifier())
    whole = cohorts(judged)
    monkeypatch.setattr(import_module("measlog.bulk.cohorts"), "_MOST", 1)
    few = cohorts(judged)
    assert len(few.cohorts) < len(whole.cohorts)
    assert (few.machines, few.affirming) == (whole.machines, whole.affirming)
    assert sum(c.machines for c in few.cohorts) == sum(c.machines for c in whole.cohorts)
    # For want of room all but one are put together, by what was found alone: where the histories part is not told.
    assert [c.shared is not None for c in whole.cohorts].count(True) > 1
    assert [c.shared is not None for c in few.cohorts].count(True) <= 1


def test_logs_are_read_again_when_too_many_others_came_between() -> None:
    log = base()
    numbers = [*range(65), 0, 0]
    more = [forge.ForgedEvent(1, 7, dict.fromkeys(log.algorithms, b""), b"x").rehashed(bytes([n])) for n in range(65)]
    rows = [{"log": log.with_events((*log.events, more[number])).put_together()} for number in numbers]
    judged = table(rows)
    for one in verdict_fields():
        value = {"status": "affirming"}.get(one.name)
        judged = judged.append_column(one, pa.array([value] * len(rows)).cast(one.type))
    found = cohorts(judged)
    # Three have the history of PCR 1 that no other has.
    assert (found.machines, found.affirming, found.usual[1], found.usual[0]) == (67, 67, 3, 67)


def test_histories_that_end_early_or_begin_alike() -> None:
    """Logs that lack the end of what most have in a register, and events that hold no text."""
    log = base()
    good = quoted(log)
    last = max(i for i, event in enumerate(log.events) if event.pcr == 8)
    shorter = quoted(log.with_events((*log.events[:last], *log.events[last + 1 :])))
    image = next(i for i, event in enumerate(log.events) if event.pcr == 4 and event.type == 0x80000003)
    other = log.events[image].rehashed(b"another program")
    replaced = quoted(log.with_events((*log.events[:image], other, *log.events[image + 1 :])))
    builder = CohortBuilder()
    builder.add(ml.bulk.appraise(table([good] * 5 + [shorter, replaced]), verifier()))
    found = {cohort.pcr: cohort for cohort in builder.finish().cohorts}
    events = [event for event in log.events if event.pcr == 8]
    assert (found[8].shared, found[8].digest, found[8].usual) == (len(events) - 1, None, events[-1].digests[0x000B])
    assert (found[4].digest, found[4].text) == (other.digests[0x000B], None)
