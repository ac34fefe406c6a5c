"""IMA logs in columns and allow-lists: equal to the entries one by one, and a list allows nothing but what it names."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, ReplayError, UnsupportedError
from measlog.interop.ima import FileDigest, ImaLog
from measlog.interop.ima.allow import VERDICTS, AllowList
from measlog.interop.ima.columns import ima_columns
from measlog.limits import Limits
from tests.conftest import FIXTURES
from tests.interop.ima_maker import entry, field, logs, names

pytest.importorskip("pyarrow", reason="the extra arrow is not installed")

BINARY = (FIXTURES / "ima" / "binary_runtime_measurements").read_bytes()
DIGEST = bytes(range(32))
NG = b"sha256:\0" + DIGEST


def _compare(data: bytes, allow: AllowList | None = None, **arguments: Any) -> None:
    log = ImaLog.from_bytes(data, banks=("sha1", "sha256"), **arguments)
    found = ima_columns(data, banks=("sha1", "sha256"), allow=allow, **arguments)
    rows = found.table.to_pylist()
    assert len(rows) == len(log)
    for row, one in zip(rows, log, strict=True):
        stated = one.file_digest
        assert (row["index"], row["offset"], row["pcr"]) == (one.index, one.offset, one.register.index)
        assert (row["template"], row["template_hash"], row["check"]) == (one.template, one.template_hash, one.check())
        expected = (None, None, None) if stated is None else (stated.kind, stated.algorithm, stated.digest)
        assert (row["kind"], row["algorithm"], row["digest"]) == expected
        assert row["name"] == one.name.encode("utf-8", "surrogateescape")
        assert row["signature"] == one.fields.get("sig", one.fields.get("evmsig"))
        if allow is not None:
            assert row["verdict"] == allow.verdict(one)
    said = _refusal(lambda: log.replay("sha256"), ReplayError)
    assert found.refused == said
    assert found.registers == ({} if said else {bank: log.replay(bank) for bank in ("sha1", "sha256")})


def _refusal(run: Callable[[], object], kind: type[Exception]) -> str | None:
    try:
        run()
    except kind as error:
        return str(error)
    return None


def _alike(data: bytes) -> None:
    """Both refuse, by the same words, or both read the same."""
    said = _refusal(lambda: ImaLog.from_bytes(data), FormatError)
    assert _refusal(lambda: ima_columns(data), FormatError) == said
    if said is None:
        _compare(data)


def test_the_capture_in_columns() -> None:
    _compare(BINARY)


@given(logs, st.data())
def test_columns_equal_the_entries(data: bytes, draw: st.DataObject) -> None:
    log = ImaLog.from_bytes(data)
    some = [(e.name, e.file_digest) for e in log if e.file_digest is not None and draw.draw(st.booleans())]
    other = [(name, FileDigest("ima", "sha256", DIGEST)) for name, _ in some[::2]]
    _compare(data, AllowList.of([(n, d) for n, d in [*some, *other] if d is not None]))


@given(logs.filter(bool), st.data())
def test_columns_refuse_what_the_reader_refuses(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        changed[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.sampled_from([1, 0x20, 0x80, 0xFF]))
    _alike(bytes(changed))


@pytest.mark.parametrize(
    "fields",
    [
        (b"sha256:\0" + bytes(20), b"/x\0"),  # a violation's digest, first of its kind and then again
        (NG[:-1], b"/x\0"),
        (NG, b"\0"),
        (b"ima:" + NG, b"/x\0"),
        (NG + b"\0", b"/x\0"),
        (b"\0" + NG, b"/x\0"),
    ],
)
def test_odd_digests_and_names_are_judged_alike(fields: tuple[bytes, bytes]) -> None:
    good = entry("ima-ng", (NG, b"/y\0"))
    _alike(good + entry("ima-ng", fields) + good + entry("ima-ng", fields) + good)


def test_other_hosts_and_hashes_in_columns() -> None:
    _compare(entry("ima-sig", (NG, b"/x\0", b"s"), mark=">"), byte_order="big")
    _compare(entry("ima-sig", (NG, b"/x\0", b"s"), alg="sha256"), template_hash="sha256")
    _compare(BINARY, extends={"sha256": "sha1-padded"})
    _compare(b"")
    _compare(entry("ima-ng", (NG, b"/x\0"), pcr=24))
    with pytest.raises(LimitExceededError):
        ima_columns(BINARY, limits=Limits(records=3))


# Allow-lists.

LISTED = AllowList.of(
    [("/bin/true", FileDigest("ima", "sha256", DIGEST)), ("/a b", FileDigest("ima", "sha1", bytes(20)))]
)
OTHER = b"sha256:\0" + bytes(32)


@pytest.mark.parametrize(
    ("template", "fields", "violation", "verdict"),
    [
        ("ima-ng", (NG, b"/bin/true\0"), False, "allowed"),
        ("ima-ng", (b"sha1:\0" + bytes(20), b"/a_b\0"), False, "allowed"),  # the kernel writes _ for a space
        ("ima-ng", (OTHER, b"/bin/true\0"), False, "other-digest"),
        ("ima-ng", (NG, b"/bin/false\0"), False, "unknown-name"),
        ("ima-ng", (NG, b"/BIN/true\0"), False, "unknown-name"),
        ("ima-ng", (b"sha512:\0" + DIGEST * 2, b"/bin/true\0"), False, "other-algorithm"),
        ("ima-ngv2", (b"ima:" + NG, b"/bin/true\0"), False, "allowed"),
        ("ima-ngv2", (b"verity:" + NG, b"/bin/true\0"), False, "other-algorithm"),
        ("ima-ng", (NG, b"/bin/true\0"), True, "violation"),
        ("new", (NG, b"/bin/true\0"), False, "not-covered"),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_verdicts(template: str, fields: tuple[bytes, ...], violation: bool, verdict: str, first: bool) -> None:
    head = b"" if first else entry("ima-ng", (OTHER, b"boot_aggregate\0"))
    data = head + entry(template, fields, violation=violation)
    assert LISTED.verdict(ImaLog.from_bytes(data)[-1]) == verdict
    _compare(data, LISTED)


def test_only_the_first_entry_is_the_boot_aggregate() -> None:
    one = entry("ima-ng", (OTHER, b"boot_aggregate\0"))
    log = ImaLog.from_bytes(one + one)
    assert [LISTED.verdict(e) for e in log] == ["boot-aggregate", "unknown-name"]
    _compare(one + one, LISTED)


def test_an_entry_whose_template_hash_differs_is_never_allowed() -> None:
    data = bytearray(entry("ima-ng", (NG, b"/bin/evil\0")) * 2)
    place = data.rfind(b"/bin/evil")
    data[place : place + 9] = b"/bin/true"
    assert LISTED.verdict(ImaLog.from_bytes(bytes(data))[1]) == "not-covered"
    _compare(bytes(data), LISTED)


def test_every_verdict_is_tried() -> None:
    assert set(VERDICTS) >= {"allowed", "other-digest", "unknown-name", "other-algorithm", "boot-aggregate"}
    assert len(VERDICTS) == len(set(VERDICTS)) == 7


HEX = DIGEST.hex()


@pytest.mark.parametrize(
    ("line", "name", "kind", "algorithm"),
    [
        (f"{HEX}  /bin/true", b"/bin/true", "ima", "sha256"),
        (f"{HEX} */bin/true", b"/bin/true", "ima", "sha256"),
        (f"{HEX.upper()}  /bin/a b\r", b"/bin/a_b", "ima", "sha256"),
        (f"sha256:{HEX}  /x", b"/x", "ima", "sha256"),
        (f"verity:sha256:{HEX}  /x", b"/x", "verity", "sha256"),
        (f"sm3:{HEX}  /x", b"/x", "ima", "sm3"),
        (f"\\{HEX}  /a\\nb\\\\c", b"/a\nb\\c", "ima", "sha256"),
        (f"{HEX}  /a\\nb", b"/a\\nb", "ima", "sha256"),
    ],
)
def test_lines_of_a_list(line: str, name: bytes, kind: str, algorithm: str) -> None:
    listed = AllowList.from_text(f"# a list\n\n{line}\n".encode())
    assert dict(listed.names) == {name: frozenset({(kind, algorithm, DIGEST)})}
    assert len(listed) == 1
    assert pickle.loads(pickle.dumps(listed)) == listed


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", FormatError),
        ("# nothing\n", FormatError),
        (f"{HEX} /x\n", FormatError),
        (f"{HEX}  \n", FormatError),
        (f"{HEX[:-1]}  /x\n", FormatError),
        (f"sha1:{HEX}  /x\n", FormatError),
        (f"sha256:{HEX[:40]}  /x\n", FormatError),
        (f"{HEX[:32]}  /x\n", UnsupportedError),
        (f"md5:{HEX[:32]}  /x\n", UnsupportedError),
        (f"other:sha256:{HEX}  /x\n", FormatError),
    ],
)
def test_lists_that_say_nothing_or_the_wrong_thing_are_refused(text: str, kind: type[FormatError]) -> None:
    with pytest.raises(kind) as caught:
        AllowList.from_text(text.encode())
    assert type(caught.value) is kind
    if text.startswith(HEX[:8]):
        assert caught.value.path == "line 1"


def test_a_list_has_a_bound() -> None:
    with pytest.raises(LimitExceededError):
        AllowList.from_text(f"{HEX}  /x\n".encode(), limits=Limits(log_size=10))


@given(st.lists(st.tuples(names, st.binary(min_size=32, max_size=32)), min_size=1, max_size=5))
def test_what_sha256sum_prints_allows_what_it_hashed(files: list[tuple[bytes, bytes]]) -> None:
    plain = [(name, digest) for name, digest in files if not name.endswith(b"\r")]
    text = b"".join(digest.hex().encode() + b"  " + name + b"\n" for name, digest in plain)
    if not plain:
        return
    listed = AllowList.from_text(text)
    head = entry("ima-ng", (OTHER, b"boot_aggregate\0"))
    for name, digest in plain:
        log = ImaLog.from_bytes(head + entry("ima-ng", (b"sha256:\0" + digest, name + b"\0")))
        assert listed.verdict(log[1]) == "allowed"


def test_the_maker_agrees_with_hashlib() -> None:
    data = field(NG) + field(b"/x\0")
    assert ImaLog.from_bytes(entry("ima-ng", (NG, b"/x\0")))[0].template_hash == hashlib.sha1(data).digest()
