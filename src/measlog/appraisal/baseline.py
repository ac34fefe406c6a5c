"""Platform registers of machines that were known to be good when they were looked at.

What a release does not decide, its firmware, settings and option ROMs, has no other reference than observation.
Values learned so are tagged as observed wherever they are used (A42).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Self

from attrs import field, frozen

from measlog.errors import ManifestError
from measlog.registry import ALGORITHMS_BY_NAME, EventType

if TYPE_CHECKING:
    from measlog.evidence import VerifiedEvidence

__all__ = ["PLATFORM_PCRS", "Baseline", "Variation"]

PLATFORM_PCRS = (0, 1, 2, 3, 5, 6)
"""What firmware and platform decide. PCR 4, 8, 9 and 14 have references of their own; of PCR 7 the keys are learned."""

_LEARNED = (*PLATFORM_PCRS, 7)

FORMAT = "measlog.baseline/1"
_SIZE_LIMIT = 16 << 20

Sequence = tuple[bytes, ...]


@frozen(kw_only=True)
class Variation:
    """A register that is not the same in all samples: how many histories there are, and where they first part."""

    pcr: int
    histories: int
    first_difference: int


@frozen(kw_only=True)
class Baseline:
    """Histories of platform registers in one bank: for each register the digest sequences that were observed.

    Of PCR 7 the part before the separator: the keys. What follows depends on the release.
    """

    bank: str
    samples: int
    model: str | None = None
    histories: Mapping[int, tuple[Sequence, ...]] = field(repr=False)

    @classmethod
    def learn(cls, samples: Iterable[VerifiedEvidence], *, model: str | None = None) -> Self:
        """Learn from verified evidence of known-good machines of one model, all in the same bank.

        Raises :class:`~measlog.errors.ManifestError` without samples, or where their banks differ.
        """
        found: dict[int, list[Sequence]] = {}
        bank: str | None = None
        count = 0
        for verified in samples:
            if bank not in {None, verified.bank}:
                raise ManifestError(f"samples of the banks {bank} and {verified.bank} cannot be mixed")
            bank = verified.bank
            count += 1
            for pcr in _LEARNED:
                if pcr not in verified.values:
                    continue
                events = [e for e in verified.log if e.pcr == pcr and e.type != EventType.EV_NO_ACTION]
                if pcr == 7:
                    events = list(takewhile(lambda e: e.type != EventType.EV_SEPARATOR, events))
                history = tuple(e.digests[bank] for e in events)
                sequences = found.setdefault(pcr, [])
                if history and history not in sequences:
                    sequences.append(history)
        if bank is None:
            raise ManifestError("a baseline needs at least one machine to learn from")
        return cls(
            bank=bank,
            samples=count,
            model=model,
            histories={pcr: tuple(sorted(sequences)) for pcr, sequences in sorted(found.items()) if sequences},
        )

    @property
    def variations(self) -> tuple[Variation, ...]:
        """What varied between the samples, so that a person sees what is being allowed."""
        return tuple(
            Variation(pcr=pcr, histories=len(sequences), first_difference=_first_difference(sequences))
            for pcr, sequences in self.histories.items()
            if len(sequences) > 1
        )

    def to_json(self) -> bytes:
        """Canonical JSON: the same baseline always has the same bytes."""
        document = {
            "format": FORMAT,
            "observed": True,
            "bank": self.bank,
            "samples": self.samples,
            "model": self.model,
            "histories": {
                str(pcr): [[d.hex() for d in sequence] for sequence in sequences]
                for pcr, sequences in self.histories.items()
            },
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what :meth:`to_json` wrote. Raises :class:`~measlog.errors.ManifestError`."""
        from measlog.reference.manifest import parse_json  # noqa: PLC0415 - numpy-free start-up of what needs no manifest

        document: Mapping[str, Any] = parse_json(data, what="baseline", size=_SIZE_LIMIT)
        if document.get("format") != FORMAT:
            raise ManifestError(f"format: expected {FORMAT!r}")
        try:
            bank, samples, model = document["bank"], document["samples"], document["model"]
            size = ALGORITHMS_BY_NAME[bank].size
            histories = {
                int(pcr): tuple(tuple(bytes.fromhex(d) for d in sequence) for sequence in sequences)
                for pcr, sequences in document["histories"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestError(f"this is no baseline: {type(error).__name__}: {error}") from None
        digests = [d for sequences in histories.values() for sequence in sequences for d in sequence]
        if not isinstance(samples, int) or samples < 1 or not (model is None or isinstance(model, str)):
            raise ManifestError("this is no baseline: samples or model")
        if set(histories) - set(_LEARNED) or any(len(d) != size for d in digests) or not digests:
            raise ManifestError("this is no baseline: registers or digests are not those of a platform")
        return cls(bank=bank, samples=samples, model=model, histories=histories)


def _first_difference(sequences: tuple[Sequence, ...]) -> int:
    columns = zip(*sequences, strict=False)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), min(map(len, sequences)))
