"""Fleets that do not fit into memory: Parquet in, Parquet out, row group by row group, over several processes.

A worker reads a row group, appraises it, and writes it with its verdicts as a file of its own in a folder beside the
output. The output is these files' row groups, byte by byte, in order, behind them one footer, and appears when it is
whole. A run that was killed goes on where it stopped, and what it writes is what an undisturbed run writes: nothing
depends on when or by whom a row group was done. The folder names what it was made from, so that no row group of another
input, verifier or bank is taken over.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import multiprocessing
import os
import pickle
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import attrs
from attrs import field, frozen

from measlog.bulk.appraise import Appraiser, check_columns, verdict_schema
from measlog.bulk.schema import EVIDENCE, OPTIONAL_EVIDENCE, TableError, pyarrow
from measlog.errors import FormatError
from measlog.formats.parquet import MAGIC, TAIL, JoinedFooter, footer_size

if TYPE_CHECKING:
    from measlog.appraisal import Verifier

__all__ = ["Progress", "Summary", "verify_parquet"]

_ROWS = 2048
"""Rows that are read and appraised at a time: some 50 MB of logs."""
_COMPRESSION = "zstd"
_LAYOUT = "row groups with their verdicts"
"""What the files of finished row groups hold; to be changed with it."""
_PIECE = 1 << 20
"""Bytes that are copied at a time."""


@frozen(kw_only=True)
class Progress:
    """How far a run is: rows in all and done, of which ``before`` were done by an earlier run; seconds since its start."""

    rows: int
    done: int
    before: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Rows a second of this run."""
        new = self.done - self.before
        return new / self.seconds if new and self.seconds > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at this rate."""
        return None if self.rate is None else (self.rows - self.done) / self.rate


@frozen(kw_only=True)
class Summary:
    """What a run found: rows by status, and by code."""

    rows: int
    statuses: Mapping[str, int]
    codes: Mapping[str, int]
    seconds: float = field(repr=False)
    resumed: int
    """Rows that an earlier run had done."""


def verify_parquet(
    source: str | Path,
    target: str | Path,
    verifier: Verifier,
    *,
    bank: str = "sha256",
    workers: int = 1,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Appraise the fleet table in ``source`` and write it with its verdicts to ``target``.

    Memory is bounded by one row group's compressed bytes and ``_ROWS`` rows a worker. ``progress`` is called whenever a
    row group is done. A script that asks for more than one worker needs the usual ``if __name__ == "__main__":``.
    Raises :class:`~measlog.bulk.schema.TableError` where ``source`` is no fleet table or a row group cannot be read,
    OSError as files do. Whatever happens, ``target`` is whole or not there, and what was done is gone on with next time.
    """
    source, target = Path(source), Path(target)
    started = time.monotonic()
    with _open(source) as file, _reading(f"the schema of {source} cannot be read"):
        check_columns(file.schema_arrow)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    if target.exists() and target.samefile(source):
        raise TableError("the output cannot be the input")
    folder = target.with_name(f".{target.name}.parts")
    _prepare(folder, _identity(source, verifier, bank))
    finished = {i for i in range(len(sizes)) if _part(folder, i).exists()}
    before = done = sum(sizes[i] for i in finished)

    def tell() -> None:
        if progress is not None:
            progress(Progress(rows=sum(sizes), done=done, before=before, seconds=time.monotonic() - started))

    tell()
    left = [i for i in range(len(sizes)) if i not in finished]
    with _Output(source, folder, len(sizes)) as output:
        output.go_on()
        for number in _work(source, folder, verifier, bank, left, workers):
            done += sizes[number]
            tell()
            output.go_on()
    output.draft.replace(target)
    shutil.rmtree(folder)
    return Summary(
        rows=sum(sizes),
        statuses=dict(output.statuses.most_common()),
        codes=dict(output.codes.most_common()),
        seconds=time.monotonic() - started,
        resumed=before,
    )


def _parquet() -> Any:
    pyarrow()
    import pyarrow.parquet as pq  # noqa: PLC0415 - optional

    return pq


def _open(path: Path) -> Any:
    with _reading("not a Parquet file that can be read"):
        return _parquet().ParquetFile(path, pre_buffer=False)


def _batches(file: Any, number: int) -> Iterator[Any]:
    with _reading(f"row group {number} cannot be read"):
        yield from file.iter_batches(batch_size=_ROWS, row_groups=[number], use_threads=False)


@contextlib.contextmanager
def _reading(problem: str) -> Iterator[None]:
    """Damaged bytes are a TableError.

    Arrow has OSErrors for some of them, which have no number as the system's have, and ValueErrors for names.
    """
    try:
        yield
    except (pyarrow().ArrowException, FormatError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise TableError(f"{problem}: {error}") from None


def _identity(source: Path, verifier: Verifier, bank: str) -> str:
    """What the finished row groups depend on."""
    status = source.stat()
    state = hashlib.sha256(f"{source.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{bank}\0".encode())
    # Another release of Arrow may write the same otherwise.
    state.update(f"{_LAYOUT}\0{pyarrow().__version__}\0".encode())
    for manifest in verifier.manifests:
        state.update(manifest.to_json())
    for baseline in verifier.baselines:
        state.update(baseline.to_json())
    state.update(_stable(verifier.policy).encode())
    return state.hexdigest()


def _stable(value: object) -> str:
    """A text for a value made of attrs classes and containers, the same in every process (sets have no order)."""
    kind: Any = type(value)
    if attrs.has(kind):
        parts = [f"{a.name}={_stable(getattr(value, a.name))}" for a in attrs.fields(kind)]
        return f"{kind.__module__}.{kind.__qualname__}({','.join(parts)})"
    if isinstance(value, Mapping):
        return "{" + ",".join(sorted(f"{_stable(k)}:{_stable(v)}" for k, v in value.items())) + "}"
    if isinstance(value, frozenset | set):
        return "{" + ",".join(sorted(map(_stable, value))) + "}"
    if isinstance(value, tuple | list):
        return "[" + ",".join(map(_stable, value)) + "]"
    return repr(value)


def _prepare(folder: Path, identity: str) -> None:
    """The folder for finished row groups, emptied if it was made from something else."""
    mark = folder / "made-from"
    if folder.exists() and not (mark.exists() and mark.read_text() == identity):
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    if not mark.exists():
        _write(mark, lambda draft: draft.write_text(identity))


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:08}.parquet"


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is whole or not there."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    write(draft)
    _sync(draft)
    draft.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _work(source: Path, folder: Path, verifier: Verifier, bank: str, left: list[int], workers: int) -> Iterator[int]:
    """Do the row groups that are left; gives the number of each when it is done."""
    if workers <= 1 or len(left) <= 1:
        appraiser = Appraiser(verifier, bank)
        for number in left:
            _do(source, folder, appraiser, number)
            yield number
        return
    context = multiprocessing.get_context("spawn")
    arguments = (str(source), str(folder), pickle.dumps(verifier), bank)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=arguments) as pool:
        waiting = iter(left)
        running: set[Future[int]] = set()
        try:
            while True:
                for number in itertools.islice(waiting, 2 * workers - len(running)):
                    running.add(pool.submit(_do_here, number))
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_HERE: dict[str, Any] = {}
"""What a worker process was started with: it belongs to that process, which does nothing else."""


def _start(source: str, folder: str, verifier: bytes, bank: str) -> None:
    pyarrow().set_cpu_count(1)  # one worker is one core's: Arrow's own threads would fight for them
    # The verifier comes from the parent process, which made it.
    appraiser = Appraiser(pickle.loads(verifier), bank)  # noqa: S301
    _HERE.update(source=Path(source), folder=Path(folder), appraiser=appraiser)


def _do_here(number: int) -> int:
    _do(_HERE["source"], _HERE["folder"], _HERE["appraiser"], number)
    return number


def _do(source: Path, folder: Path, appraiser: Appraiser, number: int) -> None:
    """One row group with its verdicts, as a file of its own."""
    with _open(source) as file:
        schema = verdict_schema(file.schema_arrow)

        def write(draft: Path) -> None:
            with _writer(draft, schema) as writer:
                for batch in _batches(file, number):
                    writer.write_batch(appraiser.batch(batch))

        _write(_part(folder, number), write)


def _writer(target: Any, schema: Any) -> Any:
    # Evidence is unlike from row to row: a dictionary of it would cost much and save nothing.
    words = [name for name in schema.names if name not in {*EVIDENCE, *OPTIONAL_EVIDENCE}]
    return _parquet().ParquetWriter(
        target, schema, compression=_COMPRESSION, use_dictionary=words, write_statistics=words
    )


class _Output:
    """The output, put together from the finished row groups while they become ready, in their order.

    Their bytes are taken as they are: to decode and encode them again would be as much work as all workers' together,
    in the one process that they wait for.
    """

    def __init__(self, source: Path, folder: Path, groups: int) -> None:
        self.draft = folder / "output.draft"
        self.statuses: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self._folder = folder
        self._groups = groups
        self._next = 0
        empty = pyarrow().BufferOutputStream()
        with _open(source) as file:
            _writer(empty, verdict_schema(file.schema_arrow)).close()
        self._footer = JoinedFooter.like(_footer(io.BytesIO(empty.getvalue())))
        self._file = self.draft.open("wb")
        self._file.write(MAGIC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                assert self._next == self._groups
                self._file.write(self._footer.to_bytes())
        if kind is None:
            _sync(self.draft)

    def go_on(self) -> None:
        """Add the row groups that are ready."""
        while self._next < self._groups and _part(self._folder, self._next).exists():
            part = _part(self._folder, self._next)
            with _reading(f"{part}, a row group that was finished (delete it, and it is done again)"):
                self._add(part)
            self._next += 1

    def _add(self, part: Path) -> None:
        for name, counter in (("status", self.statuses), ("code", self.codes)):
            column = _parquet().read_table(part, columns=[name], use_threads=False)[name]
            for count in column.drop_null().value_counts().to_pylist():
                counter[count["values"]] += count["counts"]
        with part.open("rb") as file:
            footer = _footer(file)
            left = size = file.seek(0, os.SEEK_END) - len(footer) - TAIL - len(MAGIC)
            file.seek(len(MAGIC))
            self._footer.add(footer, size)
            while left:
                piece = file.read(min(left, _PIECE))
                self._file.write(piece)
                left -= len(piece)


def _footer(file: BinaryIO) -> bytes:
    """The footer of a Parquet file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL))
    length = footer_size(file.read(TAIL), size)
    file.seek(size - TAIL - length)
    return file.read(length)
