"""Fleet tables for the tests, and the scalar path's verdicts on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import measlog as ml
from fixtures import fleet

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CELLS = ("log", "attest", "signature", "ak", "nonce", "pcrs")
VERDICT = ("status", "code", "pcr", "event", "identified")

Row = dict[str, Any]


@cache
def verifier(*, secure_boot: bool = True) -> ml.Verifier:
    """A verifier with the manifests of two images."""
    key = (FIXTURES / "lab/keys/manifest.pub").read_bytes()
    manifests = [
        ml.SignedManifest.from_bytes((FIXTURES / name / "manifest.dsse.json").read_bytes()).verify(keys=[key])
        for name in ("flatcar-lab-good", "random-disk-guid")
    ]
    return ml.Verifier(manifests, policy=ml.policy.flatcar(secure_boot=secure_boot, allow_unchecked_usr=True))


def captures() -> list[Row]:
    """Every capture that has all that a row needs."""
    rows = []
    for folder in sorted(path for path in FIXTURES.iterdir() if (path / "quote.msg").exists()):
        nonce = bytes.fromhex((folder / "nonce.txt").read_text())
        parts = {
            "log": "binary_bios_measurements",
            "attest": "quote.msg",
            "signature": "quote.sig",
            "ak": "ak.pub",
            "pcrs": "quote.pcrs",
        }
        cells = {name: (folder / file).read_bytes() for name, file in parts.items()}
        rows.append({"machine": folder.name, **cells, "nonce": nonce})
        if (folder / "ak-rsa.tpm2b").exists():
            files = {"attest": "quote-rsa.msg", "signature": "quote-rsa.sig", "ak": "ak-rsa.tpm2b"}
            rsa = {name: (folder / file).read_bytes() for name, file in files.items()}
            rows.append({"machine": f"{folder.name} (RSA)", **cells, **rsa, "nonce": nonce})
    return rows


@cache
def machines(mode: str, count: int, *, seed: int = 1, tampered: float = 0.0) -> tuple[Row, ...]:
    """Rows of the fleet generator."""
    return tuple(fleet.row(i, mode=mode, seed=seed, tampered=tampered) for i in range(count))


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The fleet table of these rows."""
    binary = [pa.field(name, pa.binary()) for name in CELLS]
    schema = pa.schema([pa.field("machine", pa.string()), *binary])
    kept = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(kept, schema=schema)


def scalar(row: Mapping[str, Any], judge: ml.Verifier, bank: str = "sha256") -> tuple[object, ...]:
    """The verdict on one row as a caller of the scalar interface would find it, written out here on purpose."""
    from measlog.bulk.verdict import identified_text
    from measlog.formats.tpm2 import parse_pcr_file

    try:
        log = ml.EventLog.from_bytes(row["log"] or b"")
        quote = ml.Quote.from_bytes(row["attest"] or b"", row["signature"] or b"")
        key = ml.AttestationKey.load(row["ak"] or b"")
        pcrs = parse_pcr_file(row["pcrs"]).get(bank) if row.get("pcrs") is not None else None
        evidence = ml.Evidence(log=log, quote=quote, pcrs=pcrs)
        result = judge.appraise(evidence.verify(ak=key, nonce=row["nonce"] or b"", bank=bank))
    except ml.MeaslogError as error:
        return ("none", error.code, None, None, None)
    first = result.findings[0] if result.findings else None
    return (
        result.status,
        None if first is None else first.code,
        None if first is None else first.pcr,
        None if first is None else first.event,
        identified_text(result.identified),
    )


def columnar(rows: Sequence[Mapping[str, Any]], judge: ml.Verifier, bank: str = "sha256") -> list[tuple[object, ...]]:
    """The same by the columns."""
    out = ml.bulk.appraise(table(rows), judge, bank)
    assert out.column_names[-5:] == list(VERDICT)
    return [tuple(row[name] for name in VERDICT) for row in out.to_pylist()]


def assert_equal(rows: Sequence[Mapping[str, Any]], judge: ml.Verifier, bank: str = "sha256") -> None:
    """Both storeys say the same of every row."""
    found = columnar(rows, judge, bank)
    assert len(found) == len(rows)
    for number, row in enumerate(rows):
        if found[number] != (expected := scalar(row, judge, bank)):
            pytest.fail(f"row {number} ({row.get('machine')}): columns {found[number]}, scalar {expected}")
