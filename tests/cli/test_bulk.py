"""``measlog bulk``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from measlog.bulk.stream import Progress  # noqa: E402
from measlog.cli import bulk  # noqa: E402
from tests.bulk.fleets import FIXTURES, machines, table  # noqa: E402
from tests.cli.command import Runner  # noqa: E402

MANIFEST = str(FIXTURES / "flatcar-lab-good/manifest.dsse.json")
KEY = str(FIXTURES / "lab/keys/manifest.pub")


@pytest.fixture(scope="module")
def fleet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("fleet") / "fleet.parquet"
    rows = table(machines("identical", 40, seed=6, tampered=0.3))
    pq.write_table(rows.append_column("region", pa.array(["<b>north", "south"] * 20)), path, row_group_size=15)
    return path


def test_verify_and_cohorts(measlog: Runner, fleet_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    words: list[Any] = ["bulk", "verify", str(fleet_file), "--manifest", MANIFEST, "--manifest-key", KEY]
    done = measlog(*words, "-o", str(out), "--json")
    assert done.status == 1
    document = done.document
    judged = pq.read_table(out)
    assert document["machines"] == judged.num_rows == 40
    assert document["statuses"] == {s: judged["status"].to_pylist().count(s) for s in set(judged["status"].to_pylist())}
    shown = measlog(*words, "-o", str(out))
    assert shown.status == 1
    assert "40 machines" in shown.out
    cohorts = measlog("bulk", "cohorts", str(out), "--by", "region", "--json").document
    assert sum(c["machines"] for c in cohorts["cohorts"]) == 40 - cohorts["affirming"]
    page = measlog("bulk", "cohorts", str(out), "--by", "region", "--most", "1")
    assert page.status == 0
    assert "share PCR 7" in page.out
    assert "more cohorts" in page.out


def test_a_run_on_a_terminal_is_watched_and_one_that_goes_on_says_so(
    measlog: Runner, fleet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    words = ["bulk", "verify", str(fleet_file), "--manifest", MANIFEST, "--manifest-key", KEY]
    out = tmp_path / "out.parquet"
    shown = bulk._show

    def stop(progress: Progress) -> None:
        shown(progress)
        if progress.done:
            raise KeyboardInterrupt

    monkeypatch.setattr(bulk, "_show", stop)
    done = measlog(*words, "-o", out)
    assert done.status == 130
    assert " of 40 machines (" in done.err
    assert not out.exists()
    monkeypatch.setattr(bulk, "_show", shown)
    done = measlog(*words, "-o", out)
    assert done.status == 1
    assert " of them were done by an earlier run" in done.out
    assert "40 of 40 machines (100 %)" in done.err


@pytest.mark.parametrize(
    ("before", "done", "seconds", "expected"),
    [
        (0, 0, 1.0, "0 of 40 machines (0 %)"),
        (30, 30, 1.0, "30 of 40 machines (75 %)"),
        (10, 30, 10.0, "30 of 40 machines (75 %), 2 a second, 5 s left"),
    ],
)
def test_how_long_it_takes_is_said_as_soon_as_it_is_known(
    before: int, done: int, seconds: float, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bulk._show(Progress(rows=40, done=done, before=before, seconds=seconds))
    assert capsys.readouterr().err.endswith(expected)


def test_a_cohort_says_what_its_machines_share(measlog: Runner, tmp_path: Path) -> None:
    rows = table(machines("identical", 40, seed=12, tampered=0.35))
    pq.write_table(rows, tmp_path / "fleet.parquet")
    words = ["--manifest", MANIFEST, "--manifest-key", KEY, "-o", str(tmp_path / "out.parquet")]
    measlog("bulk", "verify", tmp_path / "fleet.parquet", *words)
    found = measlog("bulk", "cohorts", tmp_path / "out.parquet", "--json").document["cohorts"]
    page = measlog("bulk", "cohorts", tmp_path / "out.parquet", "--most", "1000").out
    assert "more cohorts" not in page
    assert any(cohort["shared"] is not None and cohort["text"] is not None for cohort in found)
    assert page.count("events of the register are as on most machines") == sum(c["shared"] is not None for c in found)
    assert page.count("the log calls the event") == sum(c["text"] is not None for c in found)


def test_wrong_input(measlog: Runner, fleet_file: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out.parquet")
    words = ["bulk", "verify", "--manifest", MANIFEST, "--manifest-key", KEY, "-o", out]
    text = tmp_path / "text.parquet"
    text.write_text("no Parquet")
    for path in (str(text), str(tmp_path / "none.parquet")):
        done = measlog(*words, path)
        assert (done.status, done.out) == (3, "")
        assert path in done.err
    assert measlog("bulk", "cohorts", str(fleet_file)).status == 3
    assert measlog("bulk", "cohorts", str(text)).status == 3
    assert measlog("bulk", "verify", str(fleet_file), "--manifest", MANIFEST, "-o", out).status == 2
    assert not Path(out).exists()
