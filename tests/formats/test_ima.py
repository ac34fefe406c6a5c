"""IMA's binary log: the walk by hand agrees with the declaration, wherever a log is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.formats.declare import parse
from measlog.formats.ima import build_entry, frame_ima, ima_template_entry, join_fields, split_fields
from measlog.limits import Limits
from tests.conftest import FIXTURES
from tests.interop.ima_maker import entry, field, logs

LOG = (FIXTURES / "ima" / "binary_runtime_measurements").read_bytes()


@given(logs)
def test_the_walk_agrees_with_the_declaration(data: bytes) -> None:
    declared = ima_template_entry(20)
    for row in frame_ima(data).rows():
        made = parse(declared, data[row.offset : row.data_end], clause="test")
        assert (made.pcr, made.digest, made.template_name) == (row.pcr, row.template_hash, row.template)
        assert made.data.data == data[row.data_start : row.data_end]
        again = build_entry(row.pcr, row.template_hash, row.template, made.data.data)
        assert again == data[row.offset : row.data_end]


@given(logs, st.data())
def test_a_log_that_is_cut_is_shorter_or_refused(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    ends = [0, *frame_ima(data).data_ends]
    if cut in ends:
        assert frame_ima(data[:cut]).data_ends == ends[1 : ends.index(cut) + 1]
        return
    with pytest.raises(TruncatedError) as caught:
        frame_ima(data[:cut])
    assert caught.value.path is not None
    assert caught.value.path.startswith(f"entries[{sum(end <= cut for end in ends) - 1}]")


def test_a_real_log_cut_at_every_byte_of_its_first_entries() -> None:
    ends = [0, *frame_ima(LOG).data_ends]
    for cut in range(ends[3]):
        if cut in ends:
            assert len(frame_ima(LOG[:cut]).offsets) == ends.index(cut)
        else:
            with pytest.raises(TruncatedError):
                frame_ima(LOG[:cut])


@pytest.mark.parametrize(
    ("data", "kind", "path", "offset"),
    [
        (b"\x0a\0\0\0" + bytes(20) + bytes(4), FormatError, "entries[0].template_name", 24),
        (b"\x0a\0\0\0" + bytes(20) + b"\0\x01\0\0" + bytes(300), FormatError, "entries[0].template_name", 24),
        (b"\x0a\0\0\0" + bytes(20) + b"\xff\xff\xff\xff" + bytes(300), FormatError, "entries[0].template_name", 24),
        (
            b"\x0a\0\0\0" + bytes(20) + b"\x01\0\0\0x\xff\xff\xff\xff" + bytes(8),
            TruncatedError,
            "entries[0].template_data",
            33,
        ),
        (b"\x0a\0\0\0" + bytes(20) + b"\x03\0\0\0ima" + bytes(23), TruncatedError, "entries[0].template_data", 31),
        (
            b"\x0a\0\0\0" + bytes(20) + b"\x03\0\0\0ima" + bytes(20) + b"\0\x01\0\0" + bytes(256),
            FormatError,
            "entries[0].n",
            51,
        ),
        (LOG[:106] + b"x", TruncatedError, "entries[1].header", 106),
    ],
)
def test_what_no_kernel_writes_is_refused_with_its_place(
    data: bytes, kind: type[FormatError], path: str, offset: int
) -> None:
    with pytest.raises(kind) as caught:
        frame_ima(data)
    assert (caught.value.path, caught.value.offset) == (path, offset)


def test_bounds_are_kept() -> None:
    for limits in (Limits(log_size=100), Limits(records=2), Limits(event_size=8)):
        with pytest.raises(LimitExceededError):
            frame_ima(LOG, limits=limits)


@given(st.lists(st.binary(max_size=20), max_size=15), st.sampled_from(["little", "big"]))
def test_fields_are_split_as_they_were_joined(fields: list[bytes], order: str) -> None:
    assert order in {"little", "big"}
    joined = join_fields(fields, byte_order=order)  # type: ignore[arg-type]
    assert split_fields(joined, len(fields), byte_order=order) == fields  # type: ignore[arg-type]
    for count in {len(fields) - 1, len(fields) + 1} - {-1}:
        with pytest.raises(FormatError):
            split_fields(joined, count, byte_order=order)  # type: ignore[arg-type]


def test_no_template_has_sixteen_fields() -> None:
    with pytest.raises(UnsupportedError):
        split_fields(field(b"") * 16, 16)


def test_the_maker_makes_what_the_kernel_made() -> None:
    # The helper that other tests take their logs from, against the capture.
    row = next(frame_ima(LOG).rows())
    fields = split_fields(LOG[row.data_start : row.data_end], 3)
    assert entry("ima-sig", fields) == LOG[: row.data_end]
