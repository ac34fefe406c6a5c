"""The error tree: codes, places, and the way across process boundaries."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from measlog import errors
from measlog.codes import CODES
from measlog.errors import (
    EvidenceError,
    FormatError,
    LimitExceededError,
    MeaslogError,
    MissingExtraError,
    TruncatedError,
)

KINDS: list[Any] = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind(kind: type[MeaslogError]) -> None:
    assert issubclass(kind, MeaslogError)
    assert kind.code in CODES
    assert "code" in vars(kind)


def test_codes_are_distinct() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_the_tree() -> None:
    """Bytes that cannot be read and malformed manifests are also ValueErrors; evidence is not."""
    assert issubclass(FormatError, ValueError)
    assert issubclass(errors.ManifestError, ValueError)
    assert issubclass(errors.PolicyError, ValueError)
    assert issubclass(MissingExtraError, ImportError)
    assert not issubclass(EvidenceError, ValueError)
    for kind in (TruncatedError, LimitExceededError, errors.UnsupportedError):
        assert issubclass(kind, FormatError)
    for name in ("SignatureError", "NonceError", "PcrDigestError", "ReplayError", "SelectionError"):
        assert issubclass(getattr(errors, name), EvidenceError)


TEXTS: list[tuple[FormatError, str]] = [
    (FormatError("no"), "no"),
    (FormatError("no", offset=0), "no at byte 0"),
    (FormatError("no", path="events[17].digests[1]"), "events[17].digests[1]: no"),
    (FormatError("no", clause="PFP 10.2.2"), "no (PFP 10.2.2)"),
    (
        FormatError("unknown algorithm 0x0099", offset=4211, path="events[17].digests[1]", clause="PFP 10.2.2"),
        "events[17].digests[1]: unknown algorithm 0x0099 at byte 4211 (PFP 10.2.2)",
    ),
]


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_text_says_where(error: FormatError, text: str) -> None:
    assert str(error) == text


def test_seen_from_outside() -> None:
    """A reader of a part does not know where the part lies; whoever called it does."""
    inner = TruncatedError("short", offset=3, path="name", clause="C")
    outer = inner.inside("entries[2]", 100)
    assert (type(outer), outer.offset, outer.path, outer.clause) == (TruncatedError, 103, "entries[2].name", "C")
    assert outer.inside("table", 1000).path == "table.entries[2].name"
    assert FormatError("x", path="[3]").inside("list").path == "list[3]"
    assert FormatError("x").inside("field", 7).path == "field"
    assert FormatError("x").inside("field", 7).offset is None


MADE: list[MeaslogError] = [
    FormatError("m", offset=1, path="p", clause="c"),
    LimitExceededError("m"),
    EvidenceError("m", check="nonce"),
    errors.ReplayError("m", check="replay"),
    errors.ManifestError("m"),
    MissingExtraError("pyarrow", "arrow"),
]


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_errors_travel(error: MeaslogError) -> None:
    """Worker processes send them back pickled."""
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert {**vars(other)} == {**vars(error)}


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtraError("pyarrow", "arrow")
    assert str(error) == "this needs the package pyarrow: install measlog[arrow]"
    assert (error.name, error.package, error.extra) == ("pyarrow", "pyarrow", "arrow")
