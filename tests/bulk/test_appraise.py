"""The columns say of every row what the scalar path says: fleets, captures, attacks, and bytes that are broken."""

# Longer than 500 lines: here every row goes through both storeys, and what makes such rows serves all tests.

from __future__ import annotations

import hashlib
import pickle
import random
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

import measlog as ml
from measlog.appraisal.footprint import footprint
from measlog.bulk.appraise import Appraiser
from measlog.bulk.schema import BinaryColumn, TableError
from measlog.bulk.templates import Template
from measlog.errors import SelectionError
from measlog.flatcar import ArgumentRule
from measlog.limits import DEFAULT_LIMITS, Limits
from measlog.registry import EventType
from measlog.testing.logs import event_logs

pa = pytest.importorskip("pyarrow")

from fixtures import fleet  # noqa: E402
from fixtures.attacks import forge  # noqa: E402
from fixtures.attacks.catalogue import ATTACKS, good_boot  # noqa: E402
from fixtures.attacks.model import NotApplicableError  # noqa: E402
from tests.appraisal.test_arguments import with_oem  # noqa: E402
from tests.appraisal.test_captures import lab_manifest  # noqa: E402
from tests.bulk.fleets import VERDICT, Row, assert_equal, captures, columnar, machines, scalar, table, verifier  # noqa: E402
from tests.conftest import FIXTURES  # noqa: E402

SIGNER = ec.derive_private_key(0x5EED, ec.SECP256R1())
NONCE = bytes(range(20))
EXPECTED = {
    "good": {("affirming", None)},
    "argument": {("contraindicated", "command.unexpected")},
    "log-edited": {("none", "evidence.replay")},
    "log-cut": {("none", "evidence.replay")},
    "log-unreadable": {("none", "format.truncated")},
    "nonce": {("none", "evidence.nonce")},
    "signature": {("none", "evidence.signature")},
    "foreign-key": {("none", "evidence.signature")},
}


@pytest.mark.parametrize("mode", fleet.MODES)
def test_fleets(mode: str) -> None:
    assert_equal(machines(mode, 10 if mode == "all-distinct" else 60, seed=5, tampered=0.3), verifier())


def test_the_truth_about_a_fleet() -> None:
    rows = machines("identical", 150, seed=3, tampered=0.4)
    found = columnar(rows, verifier())
    seen: dict[str, Counter[tuple[object, object]]] = {}
    for row, (status, code, *_) in zip(rows, found, strict=True):
        seen.setdefault(row["truth"], Counter())[status, code] += 1
    assert set(seen) == {"good", *fleet.TAMPERING}
    for truth, expected in EXPECTED.items():
        assert set(seen[truth]) == expected, truth
    assert {status for status, _ in seen["kernel"]} == {"contraindicated"}


def test_captures_alone_and_repeated() -> None:
    """Rows that are the only ones of their kind, and the same rows many times over, which makes templates of them."""
    rows = captures()
    assert len(rows) > 10
    assert_equal(rows, verifier())
    assert columnar(rows * 3, verifier()) == columnar(rows, verifier()) * 3


@pytest.mark.parametrize("secure_boot", [True, False])
def test_other_banks_and_policies(secure_boot: bool) -> None:
    rows = captures()[::3] * 2
    for bank in ("sha256", "sha384", "sha1"):
        assert_equal(rows, verifier(secure_boot=secure_boot), bank)


def test_a_policy_with_rules_for_arguments() -> None:
    """Captures and forged command lines, each twice, so that one row's verdict may stand for another's."""
    rules = [
        ArgumentRule(name="flatcar.autologin", pattern="tty[A-Z]*[0-9]+"),
        ArgumentRule(name="mitigations", values=["auto"]),
        ArgumentRule(name="quiet"),
    ]
    plain = verifier()
    judge = ml.Verifier(plain.manifests, policy=ml.policy.flatcar(arguments=rules, allow_unchecked_usr=True))
    values = (b"quiet", b"quiet quiet", b"init=/bin/sh", b"-- quiet", b"mitigations=auto quiet", b'mitigations="auto')
    forged = [_quoted(_base().with_events(with_oem(b"linux_append=" + value))) for value in values]
    names = {"flatcar-lab-good", "flatcar-lab-tampered", "oem-azure", "tampered-prompt", "user-argument"}
    rows = [*(row for row in captures() if row["machine"] in names), *forged]
    found = columnar([*rows, *rows], judge)
    assert found == [scalar(row, judge) for row in rows] * 2
    by_name = {str(row.get("machine")): verdict for row, verdict in zip(rows, found, strict=False)}
    assert by_name["user-argument"][0] == "affirming"
    assert by_name["flatcar-lab-tampered"][:2] == ("contraindicated", "kernel.argument")
    affirming = [verdict[0] == "affirming" for verdict in found[len(rows) - len(forged) : len(rows)]]
    assert affirming == [True, False, False, False, True, False]


def test_with_a_baseline() -> None:
    """The platform registers of one machine as the reference: the digests of all others tell."""
    rows = [*machines("identical", 2), *machines("realistic", 30, seed=9)]
    learnt = []
    for row in rows[:2]:
        log, quote = ml.EventLog.from_bytes(row["log"]), ml.Quote.from_bytes(row["attest"], row["signature"])
        learnt.append(ml.Evidence(log=log, quote=quote).verify(ak=row["ak"], nonce=row["nonce"]))
    judge = verifier()
    judge = ml.Verifier(judge.manifests, baselines=[ml.Baseline.learn(learnt)], policy=judge.policy)
    found = columnar(rows, judge)
    assert {code for _, code, *_ in found} >= {"platform.differs"}
    assert [status for status, *_ in found[:2]] == ["affirming"] * 2
    assert_equal(rows, judge)


def _quoted(log: forge.ForgedLog, *, pcrs: tuple[int, ...] = tuple(range(15)), alg: int = 0x000B) -> Row:
    quoted = forge.quote(SIGNER, NONCE, [(alg, pcrs)], log.registers)
    return {
        "log": log.put_together(),
        "attest": quoted.attest,
        "signature": quoted.signature,
        "ak": quoted.ak,
        "nonce": NONCE,
        "pcrs": None,
    }


def _base() -> forge.ForgedLog:
    row = machines("identical", 1)[0]
    return forge.ForgedLog.take_apart(row["log"])


def _hashed(event: forge.ForgedEvent, data: bytes) -> forge.ForgedEvent:
    digests = {alg: hashlib.new(forge.NAMES[alg], data).digest() for alg in event.digests}
    return replace(event, data=data, digests=digests)


def _edits(log: forge.ForgedLog) -> list[tuple[str, forge.ForgedLog]]:
    """Each event of a good log changed in each of several ways, its registers and quote made to fit."""
    random_ = random.Random(4)
    made = []
    for place, event in enumerate(log.events):
        before, behind = log.events[:place], log.events[place + 1 :]
        noise = random_.randbytes(32)
        other = {alg: random_.randbytes(len(d)) for alg, d in event.digests.items()}
        sha1 = {alg: (random_.randbytes(len(d)) if alg == 4 else d) for alg, d in event.digests.items()}
        cases = {
            "data": [replace(event, data=noise[: len(event.data)].ljust(len(event.data), b"x"))],
            "digests": [replace(event, digests=other)],
            "another bank": [replace(event, digests=sha1)],
            "both": [_hashed(event, noise[: len(event.data)].ljust(len(event.data), b"x"))],
            "longer": [_hashed(event, event.data + b"\0")],
            "type": [replace(event, type=0x80000006 if event.type != 0x80000006 else 0xD)],
            "register": [replace(event, pcr=(event.pcr + 1) % 16)],
            "separator": [_hashed(replace(event, type=4), bytes(4))],
            "separator's digest": [replace(_hashed(event, bytes(4)), data=event.data)],
            "twice": [event, event],
            "gone": [],
            "no action": [replace(event, type=3, digests={a: bytes(len(d)) for a, d in event.digests.items()})],
            "no digest": [replace(event, digests={a: bytes(len(d)) for a, d in event.digests.items()})],
        }
        made += [(f"{place} {name}", log.with_events((*before, *new, *behind))) for name, new in cases.items()]
    return made


@pytest.mark.parametrize("names", [("uki",), ("flatcar-lab-good", "uki")])
def test_unified_images(names: tuple[str, ...]) -> None:
    """A table has no column for systemd's log: what the firmware's alone says of such boots is said alike."""
    judge = ml.Verifier([lab_manifest(name) for name in names], policy=ml.policy.flatcar())
    base = forge.ForgedLog.take_apart((FIXTURES / "uki" / "binary_bios_measurements").read_bytes())
    logs = [base] * 3
    last = {event.pcr: place for place, event in enumerate(base.events)}
    for place in (last[4], last[9], last[11], last[12]):
        event, before, behind = base.events[place], base.events[:place], base.events[place + 1 :]
        for new in ([_hashed(event, b"other")], [replace(event, data=b"other")], [replace(event, pcr=13)]):
            logs.append(base.with_events((*before, *new, *behind)))
    rows = [_quoted(log) for log in logs]
    # No phase is known of any of them; what stands first is told without an event.
    assert "sequence.missing" in {code for _, code, *_ in columnar(rows, judge)}
    assert_equal(rows, judge)


def test_every_event_changed_in_every_way() -> None:
    """Ten of each, so that a template of the good log is there to be confused with."""
    base = _base()
    good = _quoted(base)
    random_ = random.Random(11)
    edits = _edits(base)
    rows = [good] * 3
    for name, log in random_.sample(edits, 60):
        rows += [{**_quoted(log), "machine": name}]
    rows += [good] * 3
    assert_equal(rows, verifier())


@pytest.mark.slow
def test_every_event_changed_in_every_way_all_of_them() -> None:
    base = _base()
    good = _quoted(base)
    assert_equal([good, good, *({**_quoted(log), "machine": name} for name, log in _edits(base)), good], verifier())


def test_the_last_bytes_of_an_event_are_its_own() -> None:
    """A disk's partition table falsified in its last byte, where the next event's header begins: wherever that lies."""
    base = _base()
    place = next(i for i, event in enumerate(base.events) if event.type == EventType.EV_EFI_GPT_EVENT)
    table_ = base.events[place]
    for width in range(8):  # how the event lies among numbers of eight bytes
        before = _hashed(replace(table_, type=EventType.EV_ACTION), b"x" * (9 + width))
        logs = [
            base.with_events((*base.events[:place], before, first, table_, *base.events[place + 1 :]))
            for first in (table_, replace(table_, data=table_.data[:-1] + bytes([table_.data[-1] ^ 1])))
        ]
        rows = [_quoted(logs[0]), _quoted(logs[0]), _quoted(logs[1])]
        assert_equal(rows, verifier())
        found = columnar(rows, verifier())
        assert found[0] == found[1] != found[2]


def _quote_of(data: bytes) -> Row:
    """Any log with a quote of what it replays to; of start values where it does not."""
    try:
        values = dict(ml.EventLog.from_bytes(data).replay("sha256"))
    except ml.MeaslogError:
        values = {}
    registers = {pcr: values.get(pcr, bytes(32)) for pcr in range(16)}
    quoted = forge.quote(SIGNER, NONCE, [(0x000B, tuple(range(15)))], lambda _: registers)
    cells = {"attest": quoted.attest, "signature": quoted.signature, "ak": quoted.ak}
    return {"log": data, **cells, "nonce": NONCE, "pcrs": None}


def test_logs_of_the_corpus(shared: Path) -> None:
    """Logs of many firmwares and other systems, each of them twice, which makes a template of it."""
    paths = sorted((shared / "corpus/logs").glob("*.bin"))
    assert len(paths) > 30
    rows = [{**_quote_of(path.read_bytes()), "machine": path.name} for path in paths]
    assert_equal([row for row in rows for _ in range(2)], verifier())


@settings(max_examples=15)
@given(data=st.data())
def test_generated_logs(data: st.DataObject) -> None:
    """Logs that the profile allows, several of each, and among them one of which a byte is another."""
    rows = []
    for log in data.draw(st.lists(event_logs(algorithms=("sha1", "sha256")), min_size=1, max_size=3)):
        place = data.draw(st.integers(0, len(log) - 1))
        other = log[:place] + bytes([log[place] ^ data.draw(st.integers(1, 255))]) + log[place + 1 :]
        # The changed log with a quote of its own, and with the other's.
        rows += [_quote_of(log)] * 2 + [_quote_of(other), {**_quote_of(log), "log": other}]
    assert_equal(rows, verifier())


def _register_file(values: dict[int, bytes]) -> bytes:
    """What ``tpm2_quote -o`` writes for one bank, sha256."""
    bitmap = sum(1 << pcr for pcr in values)
    head = struct.pack("<I", 1) + struct.pack("<HB4sx", 0x000B, 3, bitmap.to_bytes(4, "little"))
    head = head.ljust(132, b"\0")
    held = [values[pcr] for pcr in sorted(values)]
    lists = [held[i : i + 8] for i in range(0, len(held), 8)]
    body = b"".join(
        struct.pack("<I", len(some))
        + b"".join(struct.pack("<H", len(v)) + v.ljust(64, b"\0") for v in some)
        + bytes(66 * (8 - len(some)))
        for some in lists
    )
    return head + struct.pack("<I", len(lists)) + body


def test_attacks() -> None:
    """Every attack of the catalogue beside the boot that it was made from, in one batch."""
    good = good_boot("flatcar-lab-good")
    honest = good.honest()
    rows: dict[tuple[tuple[str, object], ...], list[Row]] = {}
    for attack in ATTACKS:
        try:
            bundle = attack.mount(good)
        except NotApplicableError:
            continue
        if bundle.bank != "sha256" or bundle.manifest != honest.manifest:
            continue
        parts = ("log", "attest", "signature", "ak", "nonce")
        pcrs = None if bundle.pcrs is None else _register_file(dict(bundle.pcrs))
        cells = {**{name: getattr(bundle, name) for name in parts}, "pcrs": pcrs, "machine": attack.id}
        needs = tuple((k, tuple(v.items()) if isinstance(v, dict) else v) for k, v in attack.needs.items())
        plain = {**{name: getattr(honest, name) for name in parts}, "pcrs": None, "machine": "honest"}
        rows.setdefault(needs, [plain, plain]).append(cells)
    assert sum(map(len, rows.values())) > 40
    for settings_, some in rows.items():
        given_: dict[str, Any] = {k: dict(v) if k == "minimum_sbat" else v for k, v in settings_}  # type: ignore[call-overload]
        policy = ml.policy.flatcar(secure_boot=True, allow_unchecked_usr=True, **given_)
        manifest = ml.SignedManifest.from_bytes(honest.manifest).verify(keys=[good.manifest_key])
        judge = ml.Verifier([manifest], policy=policy)
        assert_equal(some, judge)
        found = columnar(some, judge)
        assert [status for status, *_ in found[:2]] == ["affirming"] * 2
        assert not {
            row["machine"] for row, (status, *_) in zip(some[2:], found[2:], strict=True) if status == "affirming"
        }


def test_quotes_of_other_selections() -> None:
    base = _base()
    rows = [_quoted(base)] * 2
    for pcrs in ((0, 4, 7, 8, 9, 14), (4,), (10,), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14), (16, 23), (17, 18), (4, 30)):
        try:
            rows.append(_quoted(base, pcrs=pcrs))
        except (KeyError, IndexError):
            continue
    rows.append(_quoted(base, alg=0x000C))
    quoted = forge.quote(SIGNER, NONCE, [(4, (4, 7)), (0x000B, tuple(range(15)))], base.registers)
    rows.append({**rows[0], "attest": quoted.attest, "signature": quoted.signature})
    quoted = forge.quote(SIGNER, NONCE, [(0x0012, (4,)), (0x000B, (4, 7))], lambda _: base.registers(0x000B))
    rows.append({**rows[0], "attest": quoted.attest, "signature": quoted.signature})
    quoted = forge.quote(SIGNER, NONCE, [(0x000B, (0, 4, 7)), (0x000B, (8, 9))], base.registers)
    rows.append({**rows[0], "attest": quoted.attest, "signature": quoted.signature})
    for bank in ("sha256", "sha384", "sha1", "sm3_256"):
        assert_equal(rows, verifier(), bank)


def test_registers_that_no_event_explains() -> None:
    """PCR 10 goes on after the log: the quote has another value, which the register file tells."""
    base = _base()
    values = {alg: dict(base.registers(alg)) for alg in (4, 0x000B, 0x000C)}
    values[0x000B][10] = b"\x5a" * 32
    values[0x000B][12] = b"\xa5" * 32
    rows = [_quoted(base)] * 2
    source = machines("identical", 1)[0]["pcrs"]
    for pcrs in (tuple(range(10)), tuple(range(11)), tuple(range(15))):
        quoted = forge.quote(SIGNER, NONCE, [(0x000B, pcrs)], values.__getitem__)
        rows.append({**rows[0], "attest": quoted.attest, "signature": quoted.signature})
        stated = bytearray(source)
        for register in range(15):
            place = 0x88 + 4 + register // 8 * 532 + register % 8 * 66 + 2
            stated[place : place + 32] = values[0x000B][register]
        rows.append({**rows[-1], "pcrs": bytes(stated)})
        stated[0x88 + 4 + 2 + 4 * 66] ^= 1
        rows.append({**rows[-1], "pcrs": bytes(stated)})
    assert_equal(rows, verifier())
    assert len({code for _, code, *_ in columnar(rows, verifier())}) > 2


def test_unreadable_cells_leave_their_neighbours_alone() -> None:
    good = list(machines("identical", 6))
    expected = columnar(good, verifier())
    assert {status for status, *_ in expected} == {"affirming"}
    for name in ("log", "attest", "signature", "ak", "nonce", "pcrs"):
        for cell in (
            None,
            b"",
            b"\0",
            b"x" * 5000,
            good[1][name][:-1],
            good[1][name] + b"\0",
            bytes(len(good[1][name])),
        ):
            rows = [good[0], {**good[1], name: cell}, *good[2:]]
            found = columnar(rows, verifier())
            assert [found[0], *found[2:]] == [expected[0], *expected[2:]], (name, cell)
            assert found[1] == scalar(rows[1], verifier()), (name, cell)
            assert found[1][0] == "none" or (name == "pcrs" and cell is None)


@settings(max_examples=12)
@given(data=st.data())
def test_fuzzed_batches(data: st.DataObject) -> None:
    """Any bytes anywhere: the verdict of the scalar path, and no error."""
    rows = [dict(row) for row in machines("realistic", 8, seed=2, tampered=0.2)]
    rows += [dict(row) for row in rows[:4]]
    for _ in range(data.draw(st.integers(1, 6))):
        row = rows[data.draw(st.integers(0, len(rows) - 1))]
        name = data.draw(st.sampled_from(["log", "attest", "signature", "ak", "nonce", "pcrs"]))
        cell = bytearray(row[name])
        for _ in range(data.draw(st.integers(0, 3))):
            if cell:
                place = data.draw(st.one_of(st.integers(0, len(cell) - 1), st.integers(0, min(200, len(cell) - 1))))
                cell[place] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(cell)))
            cell[place:] = data.draw(st.binary(max_size=20))
        row[name] = bytes(cell)
    assert_equal(rows, verifier())


def test_order_batches_and_other_columns_are_kept() -> None:
    rows = machines("realistic", 30, seed=8, tampered=0.2)
    source = table(rows)
    whole = ml.bulk.appraise(source, verifier())
    assert whole.select(source.column_names).equals(source)
    assert whole.num_rows == 30
    parts = pa.concat_tables([source.slice(0, 7), source.slice(7, 1), source.slice(8, 0), source.slice(8)])
    assert ml.bulk.appraise(parts, verifier()).to_pylist() == whole.to_pylist()
    batch = source.combine_chunks().to_batches()[0].slice(3, 11)
    out = ml.bulk.appraise(batch, verifier())
    assert isinstance(out, pa.RecordBatch)
    assert out.to_pylist() == whole.to_pylist()[3:14]
    assert ml.bulk.appraise(source.slice(0, 0), verifier()).num_rows == 0
    for name, kind in zip(VERDICT, ("dictionary", "dictionary", "uint8", "uint32", "dictionary"), strict=True):
        assert str(whole.schema.field(name).type).startswith(kind)


def test_the_same_appraiser_again_says_the_same() -> None:
    rows = machines("realistic", 60, seed=8, tampered=0.3)
    appraiser = Appraiser(verifier())
    batch = table(rows).combine_chunks().to_batches()[0]
    first = appraiser.batch(batch).to_pylist()
    assert appraiser.batch(batch).to_pylist() == first
    assert Appraiser(pickle.loads(pickle.dumps(verifier()))).batch(batch).to_pylist() == first


def test_a_verdict_is_not_carried_over_to_another_quote() -> None:
    """The log of a good machine with the quote, key, nonce or registers of another (A40, A50)."""
    rows = [dict(row) for row in machines("identical", 8)]
    for place, name in enumerate(("attest", "signature", "ak", "nonce"), 2):
        rows[place][name] = rows[0][name]
    found = columnar(rows, verifier())
    assert [status for status, *_ in found] == [
        "affirming",
        "affirming",
        "none",
        "none",
        "none",
        "none",
        "affirming",
        "affirming",
    ]


@pytest.mark.parametrize("column", ["log", "nonce", "ak"])
def test_tables_that_are_no_fleet_tables(column: str) -> None:
    source = table(machines("identical", 2))
    with pytest.raises(TableError, match=column):
        ml.bulk.appraise(source.drop_columns([column]), verifier())
    with pytest.raises(TableError, match="binary"):
        ml.bulk.appraise(source.set_column(source.column_names.index(column), column, pa.array([1, 2])), verifier())
    with pytest.raises(TableError, match="status"):
        ml.bulk.appraise(source.append_column("status", pa.array(["a", "b"])), verifier())
    with pytest.raises(TableError, match="list"):
        ml.bulk.appraise([], verifier())
    with pytest.raises(SelectionError):
        ml.bulk.appraise(source, verifier(), "md5")


def test_limits_hold_for_rows_that_are_like_others() -> None:
    rows = machines("identical", 3)
    small = Limits(events=10)
    out = ml.bulk.appraise(table(rows), verifier(), limits=small)
    assert out["code"].to_pylist() == ["format.limit"] * 3


class _Watchful:
    """A rule that is not known to the footprint and looks at PCR 5's data."""

    code = "watchful"
    sentence = "The data of PCR 5 is looked at."
    registers: frozenset[int] = frozenset()
    severity = "error"

    def appraise(self, case: Any, report: Any) -> None:
        for measured in case.history(5):
            if measured.event.raw[56:57] > b"\x80":
                report.find("event.data", "high", pcr=5, event=measured.index)
        report.check(self.code, "bytes")


def test_rules_that_are_not_known_share_nothing() -> None:
    judge = verifier()
    rule = ml.policy.AllOf((judge.policy.rule, _Watchful()))  # type: ignore[arg-type]
    watchful = ml.Verifier(judge.manifests, policy=ml.policy.Policy(name="x", rule=rule, required=frozenset({4})))
    assert footprint(watchful, "sha256") is None
    rows = machines("realistic", 24, seed=6)
    found = columnar(rows, watchful)
    assert len(set(found)) > 1
    assert_equal(rows, watchful)


def test_the_policy_for_flatcar_is_known_rule_by_rule() -> None:
    """Were one not known, every machine would be appraised on its own, and nobody would notice but by the clock."""
    found = footprint(verifier(), "sha256")
    assert found is not None
    assert found.whole == {4, 7, 8, 9, 11, 12, 13, 14}


def test_templates_compare_every_byte_that_counts() -> None:
    """Each byte of a log flipped: only digests and data of registers that no rule reads whole may differ."""
    rows = machines("identical", 1)
    data = rows[0]["log"]
    mark = footprint(verifier(), "sha256")
    template = Template.of(data, DEFAULT_LIMITS, bank="sha256", footprint=mark, verdicts=True)
    assert template is not None
    log = ml.EventLog.from_bytes(data)
    places = random.Random(1).sample(range(len(data)), 600)
    flipped = [data[:p] + bytes([data[p] ^ 0x40]) + data[p + 1 :] for p in places]
    column = BinaryColumn.from_list(flipped)
    import numpy as np

    alike, changed, digests = template._compare(column, np.arange(len(places)))
    for i, (place, same) in enumerate(zip(places, alike.tolist(), strict=True)):
        event = max(e.index for e in log if e.offset <= place)
        row = log.rows[event]
        free = row.register in {0, 1, 2, 3, 5, 6} and row.type != EventType.EV_NO_ACTION
        header = row.offset <= place < row.offset + 12 or row.data_start - 4 <= place < row.data_start
        assert not same or (free and not header)
        if same:
            assert np.flatnonzero(changed[:, i]).tolist() == [event]
            assert np.flatnonzero(digests[:, i]).tolist() == ([event] if place < row.data_start else [])
