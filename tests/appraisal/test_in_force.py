"""A43, freshness: a verifier lives for months, and what it compares with must be in force each time."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import attrs
import pytest

import measlog as ml
from fixtures import fleet
from measlog.errors import ManifestError
from measlog.reference import signing
from measlog.reference.manifest import ReferenceManifest
from tests.appraisal.machine import codes, good_log, machine
from tests.appraisal.test_captures import lab_manifest

JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
MARCH, JUNE = JANUARY + timedelta(days=60), JANUARY + timedelta(days=160)


def release(*, not_before: datetime | None = None, expires: datetime | None = None) -> ReferenceManifest:
    return attrs.evolve(lab_manifest("flatcar-lab-good"), not_before=not_before, expires=expires)


def with_another_kernel(manifest: ReferenceManifest) -> ReferenceManifest:
    """A release whose kernel is another file."""
    digests = {bank: hashlib.new(bank, b"another kernel").digest() for bank in ("sha1", "sha256", "sha384", "sha512")}
    kernels = [
        attrs.evolve(c, authenticode=digests, flat=digests) if c.role == "kernel" else c for c in manifest.components
    ]
    return attrs.evolve(manifest, components=tuple(kernels))


def verifier(*manifests: ReferenceManifest) -> ml.Verifier:
    return ml.Verifier(manifests, policy=ml.policy.flatcar(), unsafe_unsigned_manifests=True)


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (JANUARY - timedelta(seconds=1), "contraindicated"),
        (JANUARY, "affirming"),
        (MARCH - timedelta(seconds=1), "affirming"),
        (MARCH, "contraindicated"),
    ],
)
def test_nothing_is_compared_with_a_manifest_out_of_force(now: datetime, status: str) -> None:
    judge = verifier(release(not_before=JANUARY, expires=MARCH))
    result = judge.appraise(machine(good_log()), now=now)
    assert result.status == status
    assert ("manifest.not-in-force" in codes(result)) == (status != "affirming")
    assert bool(result.identified) == (status == "affirming")
    assert len(judge.in_force(now)) == (status == "affirming")


def test_one_that_expired_is_no_reference_beside_others() -> None:
    """Nor does it spoil a verdict that rests on the others."""
    evidence = machine(good_log())
    judge = verifier(release(expires=MARCH), with_another_kernel(release()))
    assert judge.appraise(evidence, now=JANUARY).status == "affirming"
    late = judge.appraise(evidence, now=JUNE)
    assert late.status == "contraindicated"
    assert "manifest.not-in-force" in codes(late, severity="info")
    assert {"image.unknown", "file.unknown"} <= codes(late)
    judge = verifier(with_another_kernel(release(expires=MARCH)), release())
    late = judge.appraise(evidence, now=JUNE)
    assert late.status == "affirming"
    assert codes(late, severity="info") == {"manifest.not-in-force"}


def test_a_time_needs_a_zone() -> None:
    with pytest.raises(ManifestError, match="time zone"):
        verifier(release()).appraise(machine(good_log()), now=datetime(2027, 1, 1))  # noqa: DTZ001


class Clock:
    """Stands for ``datetime`` where the current time is asked for."""

    time = JANUARY

    @classmethod
    def now(cls, zone: object) -> datetime:
        assert zone is UTC
        return cls.time


def test_without_a_time_it_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "datetime", Clock)
    judge = verifier(release(expires=MARCH))
    evidence = machine(good_log())
    for time, status in ((JANUARY, "affirming"), (JUNE, "contraindicated"), (JANUARY, "affirming")):
        monkeypatch.setattr(Clock, "time", time)
        assert judge.appraise(evidence).status == status


def test_an_opinion_on_a_fleet_does_not_outlive_the_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A40: what was concluded for machines of yesterday is not said of the same ones today."""
    monkeypatch.setattr(signing, "datetime", Clock)
    monkeypatch.setattr(Clock, "time", JANUARY)
    pytest.importorskip("pyarrow")
    from measlog.bulk.appraise import Appraiser
    from tests.bulk.fleets import table

    (batch,) = table(fleet.row(i, mode="identical", seed=1, tampered=0.0) for i in range(4)).to_batches()
    appraiser = Appraiser(verifier(release(expires=MARCH)))
    assert {verdict.status for verdict in appraiser.verdicts(batch)} == {"affirming"}
    monkeypatch.setattr(Clock, "time", JUNE)
    found = appraiser.verdicts(batch)
    assert {(verdict.status, verdict.code) for verdict in found} == {("contraindicated", found[0].code)}
    assert found[0].code in {"manifest.not-in-force", "register.not-covered"}
