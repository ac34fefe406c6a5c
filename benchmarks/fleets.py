"""Fleets for the benchmarks, and what they are judged by."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import measlog as ml  # noqa: E402
from fixtures import fleet  # noqa: E402
from measlog.formats.parquet import MAGIC, TAIL, JoinedFooter, footer_size  # noqa: E402

Line = tuple[str, str, str]
"""What was measured, the figure, and the ratio with what is asked of it: a row of the table."""


def verifier() -> ml.Verifier:
    """The manifests of the captures that fleets are made of."""
    key = (ROOT / "fixtures/lab/keys/manifest.pub").read_bytes()
    manifests: dict[bytes, Any] = {}
    for name in ("flatcar-lab-good", *fleet.REALISTIC):
        path = ROOT / "fixtures" / name / "manifest.dsse.json"
        if path.exists():
            manifest = ml.SignedManifest.from_bytes(path.read_bytes()).verify(keys=[key])
            manifests.setdefault(manifest.to_json(), manifest)
    return ml.Verifier(list(manifests.values()), policy=ml.policy.flatcar(secure_boot=True, allow_unchecked_usr=True))


def table(machines: int, mode: str, tampered: float) -> pa.Table:
    """A fleet in memory."""
    batches = fleet.batches(machines, mode=mode, seed=1, tampered=tampered, workers=os.cpu_count() or 1)
    return pa.Table.from_batches(list(batches)).combine_chunks()


def file(folder: Path, machines: int) -> Path:
    """A realistic fleet of which one machine in a hundred was tampered with; what is there from an earlier call is used."""
    path = folder / f"fleet-{machines}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fleet.write(path, machines, mode="realistic", seed=1, tampered=0.01, workers=os.cpu_count() or 1)
    return path


def repeated(source: Path, target: Path, times: int) -> Path:
    """The row groups of a fleet, over and over, as often as said."""
    whole = source.read_bytes()
    end = len(whole) - TAIL - footer_size(whole[-TAIL:], len(whole))
    pages, footer = memoryview(whole)[len(MAGIC) : end], whole[end:-TAIL]
    joined = JoinedFooter.like(footer)
    with target.open("wb") as file:
        file.write(MAGIC)
        for _ in range(times):
            joined.add(footer, len(pages))
            file.write(pages)
        file.write(joined.to_bytes())
    return target


def parts(source: Path, folder: Path, machines: int) -> Path:
    """A fleet as files of so many machines each, which is how engines like it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with pq.ParquetFile(source) as rows:
        for number, batch in enumerate(rows.iter_batches(batch_size=machines)):
            with _writer(folder / f"{number:05}.parquet", rows.schema_arrow) as writer:
                writer.write_batch(batch, row_group_size=1000)
    return folder


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=["capture", "truth"], write_statistics=False
    )
