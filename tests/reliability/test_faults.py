"""What goes wrong around a streaming run: a full disk, a cut or damaged table. The error is clean, and nothing half-written
is left where the output should be; a run after it writes what an undisturbed one writes.

That runs are killed is in tests/bulk/test_stream.py.
"""

from __future__ import annotations

import contextlib
import errno
import random
import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from measlog.bulk.schema import TableError
from measlog.bulk.stream import verify_parquet
from tests.cli.command import Runner

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from tests.bulk.fleets import FIXTURES, machines, table, verifier  # noqa: E402

ROWS, GROUP = 36, 12


@pytest.fixture(scope="module")
def fleet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three row groups of twelve machines."""
    path: Path = tmp_path_factory.mktemp("fleet") / "fleet.parquet"
    whole = table(machines("identical", ROWS, seed=4, tampered=0.2))
    pq.write_table(whole, path, compression="zstd", row_group_size=GROUP)
    return path


@pytest.fixture(scope="module")
def undisturbed(fleet_file: Path) -> bytes:
    """The output that nothing disturbed."""
    target = fleet_file.with_name("undisturbed.parquet")
    verify_parquet(fleet_file, target, verifier())
    return target.read_bytes()


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes: writing more fails as on a full disk, with EFBIG in place of ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _fill(fleet_file: Path, undisturbed: bytes, folder: Path, sizes: Sequence[int]) -> None:
    """Runs that get as far as each size lets them; the last, which nothing stops, gives what it should."""
    target = folder / "out.parquet"
    for size in sizes:
        with largest_file(size), pytest.raises(OSError, match="large") as caught:
            verify_parquet(fleet_file, target, verifier())
        assert caught.value.errno == errno.EFBIG
        assert not target.exists()
    verify_parquet(fleet_file, target, verifier())
    assert target.read_bytes() == undisturbed
    assert [path.name for path in folder.iterdir()] == ["out.parquet"]


def test_a_disk_that_is_full_at_any_point(fleet_file: Path, undisturbed: bytes, tmp_path: Path) -> None:
    _fill(fleet_file, undisturbed, tmp_path, [0, 30, 100, 3_000, len(undisturbed) // 2, len(undisturbed) - 1])


@pytest.mark.slow
def test_a_disk_that_is_full_at_many_points(fleet_file: Path, undisturbed: bytes, tmp_path: Path) -> None:
    sizes = range(0, len(undisturbed), len(undisturbed) // 40)
    for number, size in enumerate(sizes):
        folder = tmp_path / str(number)
        folder.mkdir()
        _fill(fleet_file, undisturbed, folder, [size])


def test_the_command_says_so_when_the_disk_is_full(
    fleet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, key = FIXTURES / "flatcar-lab-good/manifest.dsse.json", FIXTURES / "lab/keys/manifest.pub"
    words: list[str | Path] = ["--manifest", manifest, "--manifest-key", key, "-o", tmp_path / "out.parquet"]
    with largest_file(1000):
        done = Runner(capsys)("bulk", "verify", fleet_file, *words)
    assert done.status == 3
    assert "large" in done.err
    assert not (tmp_path / "out.parquet").exists()


def _damaged(data: bytes, folder: Path) -> str:
    """What a run says of these bytes as its table: ``read``, or ``refused``. There is an output, or there is none."""
    source, target = folder / "damaged.parquet", folder / "out.parquet"
    source.write_bytes(data)
    try:
        summary = verify_parquet(source, target, verifier())
    except TableError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        # "fleet table": a column of another name now
        assert any(words in refusal for words in ("not a Parquet file", "row group", "fleet table")), refusal
        assert not target.exists()
        return "refused"
    assert pq.read_table(target).num_rows == summary.rows
    target.unlink()
    return "read"


@pytest.mark.parametrize("eighths", range(8))
def test_a_table_that_was_cut_short(fleet_file: Path, tmp_path: Path, eighths: int) -> None:
    """The footer is at the end: without it nothing of the table is believed."""
    whole = fleet_file.read_bytes()
    assert _damaged(whole[: len(whole) * eighths // 8], tmp_path) == "refused"
    assert _damaged(whole[: len(whole) - 1 - eighths], tmp_path) == "refused"


def _place(fleet_file: Path, group: int, column: int) -> int:
    """Where the pages of a column of a row group begin."""
    found = pq.ParquetFile(fleet_file).metadata.row_group(group).column(column)
    return int(found.dictionary_page_offset or found.data_page_offset)


def test_a_row_group_that_cannot_be_read_is_named(fleet_file: Path, undisturbed: bytes, tmp_path: Path) -> None:
    """Row groups before it are done, and kept; the table mended, the run goes on."""
    whole = fleet_file.read_bytes()
    source, target = tmp_path / "fleet.parquet", tmp_path / "out.parquet"
    at = _place(fleet_file, 1, 1)
    source.write_bytes(whole[:at] + b"\xff" * 64 + whole[at + 64 :])
    with pytest.raises(TableError, match="row group 1"):
        verify_parquet(source, target, verifier())
    assert not target.exists()
    assert (tmp_path / ".out.parquet.parts/00000000.parquet").exists()
    source.write_bytes(whole)
    # Another input, by its time: what was done of the damaged one is not believed.
    assert verify_parquet(source, target, verifier()).resumed == 0
    assert target.read_bytes() == undisturbed


def test_a_name_that_is_no_text(fleet_file: Path, tmp_path: Path) -> None:
    """Names of columns stand in the footer, and are read before anything else."""
    whole = fleet_file.read_bytes()
    assert _damaged(whole.replace(b"signature", b"sig\xffature"), tmp_path) == "refused"


def test_row_groups_around_a_damaged_one_are_read(fleet_file: Path, tmp_path: Path) -> None:
    from measlog.bulk import stream

    whole = bytearray(fleet_file.read_bytes())
    at = _place(fleet_file, 2, 1)
    whole[at : at + 64] = b"\xff" * 64
    source = tmp_path / "fleet.parquet"
    source.write_bytes(whole)
    found = list(stream._batches(stream._open(source), 0))
    assert sum(batch.num_rows for batch in found) == GROUP
    with pytest.raises(TableError, match=r"row group 2 cannot be read"):
        list(stream._batches(stream._open(source), 2))


@pytest.mark.slow
def test_damage_anywhere(fleet_file: Path, tmp_path: Path) -> None:
    """A byte, or sixteen, of the table changed: a table that is refused as such, or verdicts on every row."""
    whole, chance = fleet_file.read_bytes(), random.Random(7)
    seen = Counter[str]()
    for number in range(150):
        # The footer is a small part of the file and the most telling one: half of the damage is there.
        at = chance.randrange(len(whole)) if number % 2 else chance.randrange(len(whole) - 4000, len(whole))
        width = chance.choice((1, 1, 16))
        seen[_damaged(whole[:at] + chance.randbytes(width) + whole[at + width :], tmp_path)] += 1
    assert seen["refused"] > 10
    assert seen["read"] > 10
