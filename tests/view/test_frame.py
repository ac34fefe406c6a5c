"""Frames of logs: one row an event, types that survive Parquet, and registers at every place of the log."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.errors import FormatError, MissingExtraError, ReplayError
from measlog.records import Opaque
from measlog.testing.logs import event_logs
from measlog.view.columns import COLUMNS, DATA, arrow_schema, columns_page, decoded
from measlog.view.frame import log_table
from tests.appraisal.machine import good_log
from tests.conftest import FIXTURES, ROOT, shared_path
from tests.view.hostile import PAYLOADS, hostile_eventlog

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

CAPTURES = ("flatcar-lab-good", "flatcar-lab-tampered", "uki", "debian-kernel", "banks-four")


def log_of(name: str) -> ml.EventLog:
    return ml.EventLog.from_bytes((FIXTURES / name / "binary_bios_measurements").read_bytes())


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("bank", ["sha1", "sha256"])
def test_the_last_value_of_each_register_is_the_tpms(name: str, bank: str) -> None:
    # pcrs.json is what the TPM reported after the boot; PCR 10 goes on after the log (IMA), 11 to 15 with systemd.
    told = json.loads((FIXTURES / name / "pcrs.json").read_text())[bank]
    log = log_of(name)
    if bank not in log.algorithms:
        pytest.skip(f"the capture has no bank {bank}")
    last = {row["pcr"]: row["value"].hex() for row in log.to_arrow(bank).to_pylist()}
    compared = [pcr for pcr in range(10) if str(pcr) in told and pcr in last]
    assert len(compared) >= 9
    assert {pcr: last[pcr] for pcr in compared} == {pcr: told[str(pcr)] for pcr in compared}


def test_each_value_is_the_one_before_extended_with_the_digest() -> None:
    rows = log_of("flatcar-lab-tampered").to_arrow().to_pylist()
    states: dict[int, bytes] = {}
    for row in rows:
        state = states.get(row["pcr"], bytes(32))
        if row["type"] != "EV_NO_ACTION":
            state = states[row["pcr"]] = hashlib.sha256(state + row["digest"]).digest()
        assert row["value"] == state


def test_the_startup_locality_shows_in_pcr_0_from_its_event_on() -> None:
    good = good_log()
    zero = {alg: bytes(len(d)) for alg, d in good.events[0].digests.items()}
    log = replace(good, events=(ForgedEvent(0, 3, zero, b"StartupLocality\0\x03"), *good.events))
    rows = ml.EventLog.from_bytes(log.put_together()).to_arrow().to_pylist()
    assert rows[1]["value"] == bytes(31) + b"\x03"
    assert rows[2]["value"] == hashlib.sha256(bytes(31) + b"\x03" + rows[2]["digest"]).digest()


def test_values_are_unknown_from_the_first_event_without_a_digest_on() -> None:
    good = good_log()
    place = next(i for i, e in enumerate(good.events) if e.pcr == 8) + 3
    events = list(good.events)
    events[place] = replace(events[place], digests={4: events[place].digests[4]})
    rows = ml.EventLog.from_bytes(replace(good, events=tuple(events)).put_together()).to_arrow("sha256").to_pylist()
    of_8 = [row for row in rows if row["pcr"] == 8]
    assert [row["value"] is None for row in of_8] == [i >= 3 for i in range(len(of_8))]
    assert of_8[3]["digest"] is None
    assert of_8[3]["check"] == "no_digest"
    assert all(row["value"] is not None for row in rows if row["pcr"] == 4)


def real_logs() -> Iterator[ml.EventLog]:
    for path in sorted(shared_path("corpus", "logs").glob("*.bin")):
        try:
            yield ml.EventLog.from_bytes(path.read_bytes())
        except FormatError:
            continue  # the corpus has files that are no logs


def test_every_real_log_has_a_frame_and_a_summary() -> None:
    seen = 0
    for log in real_logs():
        assert log.to_arrow().num_rows == len(log)
        assert len(log._repr_html_()) < 1_000_000
        seen += 1
    assert seen > 20


def test_a_ccel_is_framed_by_its_own_registers() -> None:
    log = next(log for log in real_logs() if log.kind == "ccel")
    rows = log.to_arrow().to_pylist()
    assert {row["pcr"] for row in rows} == {None}
    bank = log.replay(rows[0]["bank"])
    last = {row["register"]: row["value"] for row in rows if row["register"] is not None}
    assert {f"RTMR {i}": value for i, value in bank.items()} == {
        name: value for name, value in last.items() if name.startswith("RTMR")
    }


@settings(max_examples=25)
@given(event_logs())
def test_every_log_has_a_frame_of_the_published_schema(data: bytes) -> None:
    log = ml.EventLog.from_bytes(data)
    table = log.to_arrow()
    assert table.schema.equals(arrow_schema(), check_metadata=True)
    table.validate(full=True)
    assert table.num_rows == len(log)
    assert table.column("raw").to_pylist() == [event.raw for event in log]


@pytest.mark.parametrize("hostile", [False, True])
def test_types_survive_parquet(tmp_path: Path, hostile: bool) -> None:
    log = hostile_eventlog() if hostile else log_of("flatcar-lab-tampered")
    path = tmp_path / "log.parquet"

    table = log.to_arrow()
    pq.write_table(table, path)
    back = pq.read_table(path)
    assert back.schema.equals(table.schema)
    assert back.equals(table)

    frame = log.to_pandas()
    frame.to_parquet(path)
    read = pd.read_parquet(path, dtype_backend="pyarrow")
    assert list(read.dtypes) == list(frame.dtypes)
    assert pa.Table.from_pandas(read, preserve_index=False).to_pylist() == table.to_pylist()

    columns = log.to_polars()
    columns.write_parquet(path)
    assert pl.read_parquet(path).schema == columns.schema
    assert pl.read_parquet(path).equals(columns)
    assert columns["raw"].to_list() == [event.raw for event in log]


def test_frames_of_different_logs_fit_together() -> None:
    tables = [log_of(name).to_arrow() for name in CAPTURES]
    joined = pa.concat_tables(tables)
    assert joined.num_rows == sum(t.num_rows for t in tables)
    assert len(pd.concat([log_of(name).to_pandas() for name in CAPTURES])) == joined.num_rows


def test_decoded_fields_stand_in_their_column() -> None:
    rows = log_of("flatcar-lab-tampered").to_arrow().to_pylist()
    names = [row["data"]["variable"]["name"] for row in rows if row["data"]["variable"]]
    assert {"SecureBoot", "PK", "KEK", "db", "dbx", "BootOrder"} <= set(names)
    texts = [row["data"]["text"]["text"] for row in rows if row["pcr"] == 8]
    assert any(text.endswith("init=/bin/sh") for text in texts)
    gpt = next(row["data"]["gpt"] for row in rows if row["data"]["gpt"])
    assert gpt["partitions"][0]["name"] == "EFI-SYSTEM"
    for row in rows:
        assert sum(value is not None for value in row["data"].values()) <= 1


def test_hostile_text_is_text() -> None:
    rows = hostile_eventlog().to_arrow().to_pylist()
    texts = {row["data"]["text"]["text"] for row in rows if row["data"]["text"]}
    assert PAYLOADS[0] in texts
    assert all(row["summary"].isprintable() for row in rows)


def test_the_trust_of_a_field_is_the_events() -> None:
    log = log_of("flatcar-lab-tampered")
    for row, event in zip(log.to_arrow("sha256").to_pylist(), log, strict=True):
        for item in row["trust"]:
            assert item["trust"] == event.trust(item["field"], "sha256")
    row = next(r for r in log.to_arrow().to_pylist() if r["type"] == "EV_EFI_BOOT_SERVICES_APPLICATION")
    assert {"field": "device_path", "trust": "unauthenticated"} in row["trust"]


def test_a_bank_that_is_not_there_is_refused() -> None:
    with pytest.raises(ReplayError, match="no sha512 digests"):
        log_of("flatcar-lab-good").to_arrow("sha512")


def test_what_has_no_column_of_its_own_is_in_raw() -> None:
    assert decoded(Opaque(raw=b"x")) == {}
    assert log_table(log_of("flatcar-lab-good")).column("raw").null_count == 0


def test_the_documentation_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "columns.md").read_text() == columns_page()
    for column in COLUMNS:
        assert f"| `{column.name}` |" in columns_page()
    assert [f.name for f in arrow_schema()] == [c.name for c in COLUMNS]
    assert [f.name for f in arrow_schema().field("data").type] == [d.name for d in DATA]


@pytest.mark.parametrize(
    ("package", "method", "extra"),
    [("pyarrow", "to_arrow", "arrow"), ("pandas", "to_pandas", "pandas"), ("polars", "to_polars", "polars")],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, method: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"measlog\[{extra}\]"):
        getattr(log_of("flatcar-lab-good"), method)()
