"""systemd's user-space log and systemd-pcrlock's component files, read and written.

Expected values: the captures' own logs, which the lab wrote with the tools of the guest; digests by hashlib. What systemd's
own programs say of the same files is in ``tests/lab/test_pcrlock_live.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog import EventLog
from measlog.errors import FormatError, LimitExceededError, TruncatedError, UnsupportedError
from measlog.interop.pcrlock import (
    PcrlockRecord,
    cel_documents,
    read_component,
    read_components,
    write_component,
)
from measlog.interop.systemdlog import SystemdRecord, read_userspace_log, write_userspace_log
from measlog.limits import Limits
from measlog.registry import ALGORITHMS_BY_NAME, Register
from tests.conftest import FIXTURES

UNIFIED = ("uki", "uki-sb-off", "uki-tampered-cmdline")
PHASES = ["enter-initrd", "leave-initrd", "sysinit", "ready"]


def hashes(text: str, *banks: str) -> dict[str, bytes]:
    return {bank: hashlib.new(bank, text.encode()).digest() for bank in banks or ("sha256",)}


@pytest.mark.parametrize("name", UNIFIED)
def test_real_logs(name: str) -> None:
    data = (FIXTURES / name / "tpm2-measure.log").read_bytes()
    records = read_userspace_log(data)
    assert [(r.register, r.string, r.event_type) for r in records] == [
        (Register("pcr", 11), phase, "phase") for phase in PHASES
    ]
    assert all(r.digests == hashes(r.text, "sha1", "sha256", "sha384") for r in records)
    assert write_userspace_log(records) == data


_NVPCR = {
    "nv_index": 0x01D10200,
    "digests": [{"hashAlg": "sha256", "digest": hashlib.sha256(b"product-id:missing").hexdigest()}],
    "content_type": "systemd",
    "content": {"nvIndexName": "hardware", "string": "product-id:missing", "eventType": "product-id"},
}
NVPCR = b"\x1e" + json.dumps(_NVPCR, separators=(",", ":")).encode() + b"\n"


def test_an_nvpcr_has_an_index_and_no_register_of_a_quote() -> None:
    # TCG CEL-JSON names the index nv_index; systemd's content has the NvPCR's name (docs/TPM2_PCR_MEASUREMENTS.md).
    (record,) = read_userspace_log(NVPCR)
    assert (record.nv_index, record.register.kind, record.text) == (0x01D10200, "none", "product-id:missing")
    assert write_userspace_log([record]) == NVPCR


_hashed = st.sampled_from(["sha1", "sha256", "sha384", "sha512", "sm3_256", "sha3_256"])
_digests = st.dictionaries(_hashed, st.none(), min_size=1).flatmap(
    lambda names: st.fixed_dictionaries(
        {n: st.binary(min_size=ALGORITHMS_BY_NAME[n].size, max_size=ALGORITHMS_BY_NAME[n].size) for n in names}
    )
)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**64 - 1) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_known = {"string": _text, "eventType": _text, "bootId": _text, "timestamp": st.integers(0, 2**64 - 1)}
_content = st.tuples(
    st.dictionaries(_text.filter(lambda n: n not in {*_known, "nvIndexName"}), _json, max_size=3),
    st.fixed_dictionaries({}, optional=_known),
).map(lambda parts: {**parts[0], **parts[1]})
_register = st.builds(Register, st.just("pcr"), st.integers(0, 23)) | st.builds(
    Register, st.just("none"), st.integers(0x01000000, 0x01FFFFFF)
)
_records = st.lists(st.builds(SystemdRecord, register=_register, digests=_digests, content=_content), max_size=4)


@given(_records)
def test_what_is_written_is_read_again(records: list[SystemdRecord]) -> None:
    data = write_userspace_log(records)
    assert list(read_userspace_log(data)) == records
    assert write_userspace_log(read_userspace_log(data)) == data


@given(_records.filter(bool), st.data())
def test_a_log_cut_anywhere_is_shorter_or_refused(records: list[SystemdRecord], data: st.DataObject) -> None:
    whole = write_userspace_log(records)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    if cut == b"" or cut.endswith(b"\n"):
        assert list(read_userspace_log(cut)) == records[: cut.count(b"\x1e")]
    else:
        with pytest.raises(TruncatedError):
            read_userspace_log(cut)


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda b: b"\x1e" + b + b"\n"))
def test_any_bytes_are_a_log_or_a_format_error(data: bytes) -> None:
    for read in (read_userspace_log, read_component):
        try:
            read(data)
        except FormatError:
            continue


def good() -> dict[str, Any]:
    return {
        "pcr": 11,
        "digests": [{"hashAlg": "sha256", "digest": "00" * 32}],
        "content_type": "systemd",
        "content": {"string": "ready"},
    }


def changed(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in {**good(), **members}.items() if value is not ...}


def digest(name: Any, text: Any) -> list[dict[str, Any]]:
    return [{"hashAlg": name, "digest": text}]


BAD: list[tuple[Any, type[FormatError], str]] = [
    ([good()], FormatError, "records[1]: expected an object"),
    (changed(pcr=24), FormatError, "records[1].pcr: there is no PCR 24"),
    (changed(pcr=-1), FormatError, "records[1].pcr: there is no PCR -1"),
    (changed(pcr=True), FormatError, "records[1].pcr: expected the number"),
    (changed(pcr="11"), FormatError, "records[1].pcr: expected the number"),
    (changed(pcr=...), FormatError, "either pcr or nv_index"),
    (changed(nv_index=0x01D10200), FormatError, "either pcr or nv_index"),
    (changed(pcr=..., nv_index=11), FormatError, "records[1].nv_index: expected the handle"),
    (changed(rtmr=2), FormatError, "the member 'rtmr' is not known"),
    (changed(digests=...), FormatError, "digests is missing"),
    (changed(digests=[]), FormatError, "records[1].digests: expected a list"),
    (changed(digests=good()["digests"] * 2), FormatError, "records[1].digests[1]: a second digest for sha256"),
    (changed(digests=good()["digests"] * 99), LimitExceededError, "99 digests"),
    (changed(digests=digest("sha256", "00" * 31)), FormatError, "a sha256 digest of 31 bytes, it has 32"),
    (changed(digests=digest("sha1", "00" * 32)), FormatError, "a sha1 digest of 32 bytes, it has 20"),
    (changed(digests=digest("md5", "00" * 16)), UnsupportedError, "unknown algorithm 'md5'"),
    (changed(digests=digest(["sha256"], "00" * 32)), UnsupportedError, "unknown algorithm"),
    (changed(digests=digest("sha256", "0" * 63)), FormatError, "expected hexadecimal"),
    (changed(digests=digest("sha256", 0)), FormatError, "expected hexadecimal"),
    (changed(digests=[{"hashAlg": "sha256"}]), FormatError, "expected hashAlg and digest"),
    (changed(content_type="cel"), FormatError, "records[1].content_type"),
    (changed(content=[]), FormatError, "records[1].content: expected an object"),
    (changed(content={"string": 1}), FormatError, "records[1].content.string: expected text"),
    (changed(content={"timestamp": -1}), FormatError, "expected microseconds"),
    (changed(content={"timestamp": True}), FormatError, "expected microseconds"),
    (changed(content={"timestamp": 1 << 64}), FormatError, "expected microseconds"),
]


def line(value: Any) -> bytes:
    return b"\x1e" + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n"


@pytest.mark.parametrize(("value", "kind", "message"), BAD, ids=[m for _, _, m in BAD])
def test_what_no_record_may_be(value: Any, kind: type[FormatError], message: str) -> None:
    with pytest.raises(kind) as caught:
        read_userspace_log(line(good()) + line(value))
    assert type(caught.value) is kind
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (b'{"pcr":1,"pcr":2}', FormatError, "the key 'pcr' is there twice"),
        (b'{"pcr":1.0}', FormatError, "1.0 is not an integer"),
        (b'{"pcr":NaN}', FormatError, "NaN is no JSON"),
        (b'{"pcr":' + b"9" * 5000 + b"}", FormatError, "is out of range"),
        (b'{"pcr":"\xff"}', FormatError, "not UTF-8 at byte 9"),
        (b'{"pcr":"\\ud800"}', FormatError, "a lone surrogate"),
        (b"{", FormatError, "not JSON"),
        (b"[" * 100_000, LimitExceededError, "nested deeper"),
        (b"[" * 40 + b"]" * 40, LimitExceededError, "nested deeper"),
    ],
)
def test_text_that_is_no_json_to_rely_on(text: bytes, kind: type[FormatError], message: str) -> None:
    with pytest.raises(kind) as caught:
        read_userspace_log(line(text))
    assert message in str(caught.value)


def test_framing() -> None:
    one = line(good())
    assert read_userspace_log(b"") == ()
    with pytest.raises(FormatError, match=r"records\[0\]: a record does not start with RS"):
        read_userspace_log(one[1:])
    with pytest.raises(TruncatedError, match=r"records\[0\]: the record does not end with LF"):
        read_userspace_log(one[:-1] + one)
    with pytest.raises(FormatError, match="not JSON"):
        read_userspace_log(one + b"more\n" + one)
    with pytest.raises(LimitExceededError, match="3 records"):
        read_userspace_log(one * 3, limits=Limits(events=2))
    with pytest.raises(LimitExceededError, match="a log of"):
        read_userspace_log(one, limits=Limits(log_size=10))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SystemdRecord(register=Register("rtmr", 0), digests=hashes("x"), content={}),
        lambda: SystemdRecord(register=Register("none", 5), digests=hashes("x"), content={}),
        lambda: SystemdRecord.of(Register("pcr", 11), "x", {}),
        lambda: SystemdRecord.of(Register("pcr", 11), "x", {"sha256": bytes(31)}),
        lambda: PcrlockRecord(pcr=4, digests={"md5": bytes(16)}),
    ],
)
def test_records_that_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"neither a PCR|at least one|no .* digest has"):
        make()


def test_a_record_made_here_is_as_systemd_writes_it() -> None:
    record = SystemdRecord.of(
        Register("pcr", 15),
        "machine-id:0123",
        hashes("machine-id:0123"),
        event_type="machine-id",
        boot_id="ab" * 16,
        timestamp=7,
    )
    digest_text = hashlib.sha256(b"machine-id:0123").hexdigest()
    assert write_userspace_log([record]) == (
        b'\x1e{"pcr":15,"digests":[{"hashAlg":"sha256","digest":"' + digest_text.encode() + b'"}],'
        b'"content_type":"systemd","content":{"string":"machine-id:0123","bootId":"' + b"ab" * 16 + b'",'
        b'"timestamp":7,"eventType":"machine-id"}}\n'
    )


# systemd 258's own component for the end of the initrd (src/pcrlock/pcrlock.d/800-leave-initrd.pcrlock), SHA-256 alone.
LEAVE = {"records": [{"pcr": 11, "digests": [{"hashAlg": "sha256", "digest": hashes("leave-initrd")["sha256"].hex()}]}]}


def test_a_component() -> None:
    data = json.dumps(LEAVE).encode()
    (record,) = read_component(data)
    assert (record.register, record.digests) == (Register("pcr", 11), hashes("leave-initrd"))
    assert write_component([record]) == json.dumps(LEAVE, separators=(",", ":")).encode() + b"\n"
    # What CEL adds to a record is accepted and says nothing.
    more = {"records": [{**LEAVE["records"][0], "recnum": 1, "content_type": "systemd", "content": {"a": 1}}]}
    assert read_component(json.dumps(more).encode()) == (record,)
    assert read_component(b'{"records":[]}') == ()


@given(st.lists(st.builds(PcrlockRecord, pcr=st.integers(0, 23), digests=_digests), max_size=5))
def test_components_are_read_as_they_were_written(records: list[PcrlockRecord]) -> None:
    assert list(read_component(write_component(records))) == records


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "expected an object with records"),  # systemd-pcrlock passes over a bare list
        (b'{"records":[],"x":1}', "and nothing else"),
        (b'{"records":{}}', "records: expected a list"),
        (b'{"records":[1]}', "records[0]: expected an object"),
        (b'{"records":[{"pcr":4}]}', "records[0]: digests is missing"),
        (b'{"records":[{"digests":[]}]}', "records[0]: pcr is missing"),
        (b'{"records":[{"pcr":4,"digests":[],"nv_index":1}]}', "the member 'nv_index' is not known"),
        (b'{"records":[{"pcr":99,"digests":[]}]}', "records[0].pcr: there is no PCR 99"),
    ],
)
def test_what_is_no_component(data: bytes, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_component(data)
    assert message in str(caught.value)


def test_sizes_of_components_are_bounded() -> None:
    data = json.dumps({"records": LEAVE["records"] * 3}).encode()
    for limits in (Limits(log_size=20), Limits(events=2)):
        with pytest.raises(LimitExceededError):
            read_component(data, limits=limits)
    with pytest.raises(LimitExceededError):
        read_components({"a.pcrlock": data, "b.pcrlock": data}, limits=Limits(items=1))


def test_a_folder_of_components() -> None:
    one = json.dumps(LEAVE).encode()
    found = read_components(
        {"800-leave.pcrlock": one, "400-a.pcrlock.d/2-x.pcrlock": one, "400-a.pcrlock.d/1.pcrlock": one}
    )
    assert [(c.name, sorted(c.variants)) for c in found] == [("400-a", ["1", "2-x"]), ("800-leave", ["800-leave"])]
    for files, message in (
        ({"a.pcrlock": one, "a.pcrlock.d/b.pcrlock": one}, "a file and a folder both"),
        ({"a.pcrlock": one, "a.pcrlock.d/a.pcrlock": one}, "a file and a folder both"),
        ({"../a.pcrlock": one}, "is no component"),
        ({"a.json": one}, "is no component"),
        ({"a.pcrlock": b"[]"}, "a.pcrlock: expected an object"),
    ):
        with pytest.raises(FormatError, match=message):
            read_components(files)


@pytest.mark.parametrize("name", UNIFIED)
def test_both_logs_as_one_list_replay_to_what_the_tpm_reported(name: str) -> None:
    log = EventLog.from_bytes((FIXTURES / name / "binary_bios_measurements").read_bytes())
    records = read_userspace_log((FIXTURES / name / "tpm2-measure.log").read_bytes())
    found = cel_documents(log, records)
    assert [one["recnum"] for one in found] == list(range(1, len(found) + 1))
    assert {one["content_type"] for one in found} == {"pcclient_std", "systemd"}
    assert not [one for one in found if one["content"].get("event_type") == "EV_NO_ACTION"]
    reported = json.loads((FIXTURES / name / "pcrs.json").read_text())["sha256"]
    for pcr in (4, 7, 9, 11):
        value = bytes(32)
        for one in found:
            if one["pcr"] == pcr:
                (digest,) = (d["digest"] for d in one["digests"] if d["hashAlg"] == "sha256")
                value = hashlib.sha256(value + bytes.fromhex(digest)).digest()
        assert value.hex() == reported[str(pcr)], pcr


def test_a_record_of_an_nvpcr_is_in_no_list_of_registers() -> None:
    log = EventLog.from_bytes((FIXTURES / "uki" / "binary_bios_measurements").read_bytes())
    assert cel_documents(log, read_userspace_log(NVPCR)) == cel_documents(log)
