"""IMA logs: what the TPM reported is reproduced, every template is replayed as the kernel does, and no change goes unseen."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog import EventLog, Evidence, Quote
from measlog.errors import EvidenceError, FormatError, ReplayError, UnsupportedError
from measlog.formats.pfp import LogEvent, build_log
from measlog.formats.tpm2 import parse_pcr_file
from measlog.interop.ima import TEMPLATES as BUILT_IN
from measlog.interop.ima import FileDigest, ImaLog
from measlog.interop.ima.entry import extended_digest
from measlog.limits import Limits
from measlog.registry import EventType
from tests.conftest import FIXTURES, shared_path
from tests.interop.cases import IMA_CASES as CASES
from tests.interop.cases import NG
from tests.interop.ima_maker import TEMPLATES, entry, field, logs, pcr_10

IMA = FIXTURES / "ima"
BINARY = (IMA / "binary_runtime_measurements").read_bytes()
ASCII = (IMA / "ascii_runtime_measurements").read_bytes()
FIRMWARE = EventLog.from_bytes((IMA / "binary_bios_measurements").read_bytes())
REPORTED = json.loads((IMA / "pcrs.json").read_text())


def _value(bank: str, index: int) -> bytes:
    return bytes.fromhex(REPORTED[bank][str(index)])


# The capture: expected values are what its TPM reported.


@pytest.mark.parametrize(
    "read", [lambda **k: ImaLog.from_bytes(BINARY, **k), lambda **k: ImaLog.from_ascii(ASCII, **k)]
)
def test_pcr_10_of_the_capture_is_reproduced_in_every_bank(read: Any) -> None:
    # That kernel had no SHA-384 when IMA started: the bank was filled with padded SHA-1.
    log = read(extends={"sha384": "sha1-padded"})
    assert set(REPORTED) == {"sha1", "sha256", "sha384"}
    for bank in REPORTED:
        assert dict(log.replay(bank)) == {10: _value(bank, 10)}
    assert read().replay("sha384")[10] != _value("sha384", 10)


def test_the_quote_over_pcr_10_verifies_with_the_value_that_the_log_gives() -> None:
    nonce = bytes.fromhex((IMA / "nonce.txt").read_text().strip())
    quote = Quote.from_bytes((IMA / "quote.msg").read_bytes(), (IMA / "quote.sig").read_bytes())
    quoted = parse_pcr_file((IMA / "quote.pcrs").read_bytes())
    assert 10 in quoted["sha256"]
    values = {**FIRMWARE.replay("sha256"), **ImaLog.from_bytes(BINARY).replay("sha256")}
    open_ended = {i: v for i, v in quoted["sha256"].items() if i not in values}
    evidence = Evidence(log=FIRMWARE, quote=quote, pcrs={**open_ended, **values})
    verified = evidence.verify(ak=(IMA / "ak.pub").read_bytes(), nonce=nonce, bank="sha256", required=(10,))
    assert verified.values[10] == values[10]
    shorter = ImaLog.from_bytes(BINARY).replay("sha256", entries=65)
    evidence = Evidence(log=FIRMWARE, quote=quote, pcrs={**open_ended, **values, 10: shorter[10]})
    with pytest.raises(EvidenceError):
        evidence.verify(ak=(IMA / "ak.pub").read_bytes(), nonce=nonce, bank="sha256", required=(10,))


def test_both_logs_of_the_capture_say_the_same() -> None:
    binary, text = ImaLog.from_bytes(BINARY), ImaLog.from_ascii(ASCII)
    assert binary.to_bytes() == text.to_bytes() == BINARY
    assert binary.to_ascii() == text.to_ascii() == ASCII
    assert [e.data for e in binary] == [e.data for e in text]
    assert {e.check() for e in binary} == {"matches"}


def test_the_boot_aggregate_of_the_capture_is_that_of_its_registers() -> None:
    found = ImaLog.from_bytes(BINARY).boot_aggregate(FIRMWARE)
    assert (found.status, found.registers) == ("matches", tuple(range(10)))
    joined = b"".join(_value("sha256", i) for i in range(10))
    assert found.expected == hashlib.sha256(joined).digest()
    eight = ImaLog.from_bytes(BINARY).boot_aggregate(FIRMWARE, last_register=7)
    assert (eight.status, eight.registers) == ("differs", tuple(range(8)))


def test_another_boot_of_the_firmware_has_another_aggregate(fixtures: Path) -> None:
    other = EventLog.from_bytes((fixtures / "uki" / "binary_bios_measurements").read_bytes())
    assert ImaLog.from_bytes(BINARY).boot_aggregate(other).status == "differs"


def test_a_line_of_a_confidential_machine() -> None:
    # Another project's file: an ascii log with SHA-384 template hashes on register 2.
    (only,) = ImaLog.from_ascii(shared_path("corpus", "other", "ima-ascii.txt").read_bytes())
    assert (only.check(), only.template_hash_algorithm, only.pcr) == ("matches", "sha384", 2)
    assert only.digests["sha384"] == only.template_hash
    assert (only.name, str(only.file_digest)[:14]) == ("boot_aggregate", "sha384:cd01ce7")


SHORT = ImaLog.from_bytes(BINARY)[:5]
FIVE = b"".join(entry(e.template, [*e.fields.values()]) for e in SHORT)


def test_the_first_entries_of_the_capture_are_made_again() -> None:
    assert BINARY.startswith(FIVE)


@given(st.integers(0, len(FIVE) - 1), st.integers(1, 255))
def test_no_changed_byte_keeps_the_register_but_that_of_a_templates_name(place: int, change: int) -> None:
    data = bytearray(FIVE)
    data[place] ^= change
    try:
        log = ImaLog.from_bytes(bytes(data))
        found = log.replay("sha256").get(10)
    except (FormatError, ReplayError):
        return
    if found == pcr_10([e.data for e in SHORT], "sha256"):
        # A template's name is covered by nothing.
        (changed,) = [e for e in log if e.template != "ima-sig"]
        assert changed.data == SHORT[changed.index].data
        assert changed.trust("template") == "unauthenticated"


# Templates: expected values by struct and hashlib.

SHOWN = {
    "ima": f"{bytes(range(20)).hex()} /bin/true",
    "ima-ng": f"sha256:{bytes(range(32)).hex()} /bin/true",
    "ima-sig": f"sha256:{bytes(range(32)).hex()} /bin/true 030204{'00' * 60}",
    "ima-ngv2": f"verity:sha256:{bytes(range(32)).hex()} /bin/true",
    "ima-sigv2": f"ima:sha256:{bytes(range(32)).hex()} /bin/true ",
    "ima-buf": f"sha256:{bytes(range(32)).hex()} kexec-cmdline {b'console=ttyS0'.hex()}",
    "ima-modsig": f"sha256:{bytes(range(32)).hex()} /m.ko  sha512:{'00' * 64} 3082",
    "evm-sig": f"sha256:{bytes(range(32)).hex()} /x 0502 security.ima 16000000 04 0 1000 33188",
}


def test_all_templates_are_tried() -> None:
    assert set(CASES) == set(SHOWN) == set(BUILT_IN)


@pytest.mark.parametrize("template", CASES)
@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384", "sha512"])
def test_a_template_is_hashed_as_the_kernel_hashes_it(template: str, bank: str) -> None:
    fields = CASES[template]
    hashed = fields[0] + fields[1].ljust(256, b"\0") if template == "ima" else b"".join(map(field, fields))
    log = ImaLog.from_bytes(entry(template, fields) + entry(template, fields, violation=True))
    assert log[0].check() == "matches"
    assert log.replay(bank)[10] == pcr_10([hashed, None], bank)
    assert log[0].digests[bank] == hashlib.new(bank, hashed).digest()


@pytest.mark.parametrize("template", CASES)
def test_a_template_in_the_ascii_log(template: str) -> None:
    data = entry(template, CASES[template])
    (only,) = ImaLog.from_bytes(data)
    stated = only.template_hash.hex()
    line = f"10 {stated} {template} {SHOWN[template]}\n".encode()
    assert only.to_ascii() + b"\n" == line
    assert ImaLog.from_ascii(line).to_bytes() == data


def test_a_violation_extends_ones_and_nothing_of_it_is_believed() -> None:
    # The kernel leaves room for 20 bytes, whatever the algorithm (ima_eventdigest_init_common).
    log = ImaLog.from_bytes(entry("ima-ng", (b"sha256:\0" + bytes(20), b"/var/log/x\0"), violation=True))
    (only,) = log
    assert only.check() == "violation"
    assert log.replay("sha256")[10] == hashlib.sha256(bytes(32) + b"\xff" * 32).digest()
    assert {only.trust(name) for name in only.fields} == {"unauthenticated"}
    assert ImaLog.from_ascii(log.to_ascii()).replay("sha1") == log.replay("sha1")


@pytest.mark.parametrize(("how", "ones"), [("sha1-padded", 32), ("sha1-padded-before-5.8", 20)])
def test_banks_that_were_filled_with_sha1(how: Any, ones: int) -> None:
    fields = CASES["ima-ng"]
    log = ImaLog.from_bytes(entry("ima-ng", fields) + entry("ima-ng", fields, violation=True), extends={"sha256": how})
    digest = hashlib.sha1(b"".join(map(field, fields))).digest() + bytes(12)
    state = hashlib.sha256(bytes(32) + digest).digest()
    assert log.replay("sha256")[10] == hashlib.sha256(state + (b"\xff" * ones).ljust(32, b"\0")).digest()


def test_banks_that_the_kernel_has_no_name_for_are_padded() -> None:
    log = ImaLog.from_bytes(entry("ima-ng", CASES["ima-ng"]), banks=("sha3_256",))
    digest = hashlib.sha1(b"".join(map(field, CASES["ima-ng"]))).digest() + bytes(12)
    assert log.replay("sha3_256")[10] == hashlib.sha3_256(bytes(32) + digest).digest()


def test_a_big_endian_host_hashes_lengths_in_its_own_order() -> None:
    data = entry("evm-sig", CASES["evm-sig"], mark=">")
    log = ImaLog.from_bytes(data, byte_order="big")
    assert log[0].check() == "matches"
    assert log[0].data.startswith(b"\0\0\0\x28")
    assert ImaLog.from_ascii(log.to_ascii(), byte_order="big").to_bytes() == data
    with pytest.raises(FormatError):
        ImaLog.from_bytes(data)
    # With ima_canonical_fmt it is the very log of a little-endian host.
    assert ImaLog.from_bytes(entry("ima-ng", CASES["ima-ng"]))[0].check() == "matches"


def test_logs_named_after_another_hash() -> None:
    data = entry("ima-ng", CASES["ima-ng"], alg="sha256") + entry(
        "ima-ng", CASES["ima-ng"], alg="sha256", violation=True
    )
    log = ImaLog.from_bytes(data, template_hash="sha256")
    assert [e.check() for e in log] == ["matches", "violation"]
    assert ImaLog.from_ascii(log.to_ascii()).to_bytes() == data
    with pytest.raises(FormatError):
        ImaLog.from_bytes(data)


@given(logs)
def test_every_log_goes_through_the_ascii_form_and_back(data: bytes) -> None:
    log = ImaLog.from_bytes(data)
    assert log.to_bytes() == data
    again = ImaLog.from_ascii(log.to_ascii())
    assert again.to_bytes() == data
    assert [e.check() for e in again] == [e.check() for e in log]
    assert again.replay("sha256") == log.replay("sha256")


@given(st.one_of(st.binary(max_size=200), logs.map(lambda d: d[: len(d) // 2] + b"\x01" + d[len(d) // 2 :])))
def test_any_bytes_give_a_log_or_a_format_error(data: bytes) -> None:
    for read in (ImaLog.from_bytes, ImaLog.from_ascii):
        try:
            log = read(data)
        except FormatError:
            continue
        assert len(log) == 0 or log.to_bytes()


# What is refused.

_D, _N = NG, b"/x\0"


@pytest.mark.parametrize(
    ("template", "fields", "path"),
    [
        ("ima-ng", (_D[:-1], _N), "entries[0].d-ng"),
        ("ima-ng", (b"", _N), "entries[0].d-ng"),
        ("ima-ng", (b"sha256" + bytes(32), _N), "entries[0].d-ng"),
        ("ima-ng", (b"ima:" + _D, _N), "entries[0].d-ng"),
        ("ima-ngv2", (_D, _N), "entries[0].d-ngv2"),
        ("ima-ngv2", (b"other:" + _D, _N), "entries[0].d-ngv2"),
        ("ima-ng", (b"SHA256:\0" + bytes(32), _N), "entries[0].d-ng"),
        ("ima-ng", (_D, b"/x"), "entries[0].n-ng"),
        ("ima-ng", (_D, b"/x\0y\0"), "entries[0].n-ng"),
        ("ima-ng", (_D, b""), "entries[0].n-ng"),
        ("ima-ng", (_D, _N, b""), "entries[0]"),
        ("ima-sig", (_D, _N), "entries[0]"),
        ("ima-modsig", (_D, _N, b"", b"nonsense", b""), "entries[0].d-modsig"),
        ("evm-sig", (*CASES["evm-sig"][:8], b"\1"), "entries[0].imode"),
        ("n-ng|n-ng", (_N, _N), "entries[0]"),
        ("d|n", (bytes(19), _N), "entries[0].d"),
    ],
)
def test_fields_that_no_kernel_writes_are_refused(template: str, fields: tuple[bytes, ...], path: str) -> None:
    with pytest.raises(FormatError) as caught:
        ImaLog.from_bytes(entry(template, fields))
    assert caught.value.path == path
    assert caught.value.offset is not None


def test_an_unknown_template_is_kept_and_replayed_and_has_no_text() -> None:
    data = entry("new-one", (b"a", b"b"))
    log = ImaLog.from_bytes(data)
    assert (log[0].check(), dict(log[0].fields), log[0].file_digest, log[0].name) == ("matches", {}, None, "")
    assert log.replay("sha256")[10] == pcr_10([field(b"a") + field(b"b")], "sha256")
    with pytest.raises(FormatError):
        log.to_ascii()
    with pytest.raises(UnsupportedError) as caught:
        ImaLog.from_ascii(f"10 {log[0].template_hash.hex()} new-one x\n".encode())
    assert caught.value.offset == 44


_HASH = "ab" * 20


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (f"10 {_HASH} ima-ng sha256:{'00' * 32} /x", "entries[0]"),  # no line end
        (f"10 {_HASH} ima-ng sha256:{'00' * 32} /a b\n", "entries[0]"),
        (f"10 {_HASH} ima-ng sha256:{'00' * 32}\n", "entries[0].n-ng"),
        (f"10 {_HASH} ima-ng\n", "entries[0].d-ng"),
        (f"10 {_HASH}ab ima-ng sha256:{'00' * 32} /x\n", "entries[0].template_hash"),
        (f"10 {_HASH[:-1]} ima-ng sha256:{'00' * 32} /x\n", "entries[0]"),
        (f"4294967296 {_HASH} ima-ng sha256:{'00' * 32} /x\n", "entries[0].pcr"),
        (f"x {_HASH} ima-ng sha256:{'00' * 32} /x\n", "entries[0]"),
        (f"10 {_HASH} ima-ng sha256:{'00' * 31}0 /x\n", "entries[0].d-ng"),
        (f"10 {_HASH} ima-ng sha256:{'0g' * 32} /x\n", "entries[0].d-ng"),
        (f"10 {_HASH} ima-sig sha256:{'00' * 32} /x 0\n", "entries[0].sig"),
        (f"10 {_HASH} d-ng|n-ng|imode sha256:{'00' * 32} /x 65536\n", "entries[0].imode"),
        (f"10 {_HASH} d-ng|n-ng|imode sha256:{'00' * 32} /x 01\n", "entries[0].imode"),
        (f"10 {_HASH} ima {'00' * 19} /x\n", "entries[0]"),
        (f"10 {_HASH} ima {'00' * 20} /{'x' * 255}\n", "entries[0]"),
        ("\n", "entries[0]"),
        (
            f"10 {_HASH} ima-ng sha256:{'00' * 32} /x\n10 {_HASH}{'ab' * 12} ima-ng sha256:{'00' * 32} /x\n",
            "entries[1].template_hash",
        ),
    ],
)
def test_lines_that_no_kernel_writes_are_refused(line: str, path: str) -> None:
    with pytest.raises(FormatError) as caught:
        ImaLog.from_ascii(line.encode())
    assert caught.value.offset is not None
    assert caught.value.path == path


def test_a_name_with_a_line_end_forges_no_line() -> None:
    # A file called so makes two lines of one entry; the second looks sound but for its template hash.
    second = f"10 {_HASH} ima-ng sha256:{'11' * 32} /usr/bin/evil"
    log = ImaLog.from_bytes(entry("ima-ng", (NG, f"/tmp/a\n{second}\0".encode())))
    forged = ImaLog.from_ascii(log.to_ascii())
    assert [e.check() for e in forged] == ["differs", "differs"]
    with pytest.raises(ReplayError, match=r"entries\[0\]"):
        forged.replay("sha256")


def test_an_entry_that_was_changed_is_named_and_not_replayed() -> None:
    data = bytearray(BINARY)
    place = data.find(b"/bin/busybox")
    data[place + 5 : place + 12] = b"sashimi"
    log = ImaLog.from_bytes(bytes(data))
    (changed,) = [e for e in log if e.check() == "differs"]
    assert (changed.index, changed.trust("n-ng"), changed.trust("register")) == (2, "unauthenticated", "positional")
    with pytest.raises(ReplayError, match=r"entries\[2\]") as caught:
        log.replay("sha1")
    assert caught.value.check == "template-hash"


def test_registers_and_banks_that_do_not_exist_are_refused() -> None:
    log = ImaLog.from_bytes(entry("ima-ng", CASES["ima-ng"], pcr=24))
    assert (log[0].register.kind, log[0].pcr) == ("none", None)
    with pytest.raises(ReplayError):
        log.replay("sha256")
    with pytest.raises(ReplayError):
        ImaLog.from_bytes(BINARY, banks=("sha1",)).replay("sha256")
    for wrong in ({"banks": ("md5",)}, {"extends": {"sha256": "guessed"}}, {"template_hash": "md5"}):
        with pytest.raises(ValueError, match=r"called md5|guessed"):
            ImaLog.from_bytes(BINARY, **wrong)


def test_a_bank_that_this_python_lacks_is_refused_and_an_entry_of_it_never_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # OpenSSL may be built without SM3; nothing may then pass because nothing was compared.
    monkeypatch.setattr("measlog.interop.ima.log.hash_constructor", lambda _: None)
    with pytest.raises(ReplayError, match="this Python cannot compute sha256"):
        ImaLog.from_bytes(BINARY).replay("sha256")
    monkeypatch.setattr("measlog.interop.ima.entry.hash_constructor", lambda _: None)
    log = ImaLog.from_bytes(BINARY)
    assert {one.check() for one in log} == {"not_computable"}
    with pytest.raises(ReplayError, match="this Python cannot compute sha256"):
        extended_digest("sha256", "hashed", b"", violation=False)


def test_an_ascii_log_of_a_named_hash_has_hashes_of_its_size() -> None:
    assert len(ImaLog.from_ascii(ASCII, template_hash="sha1")) == len(ImaLog.from_ascii(ASCII))
    with pytest.raises(FormatError, match="a template hash of 20 bytes, sha256 has 32"):
        ImaLog.from_ascii(ASCII, template_hash="sha256")


def test_ascii_logs_have_bounds() -> None:
    for limits in (Limits(log_size=100), Limits(records=2), Limits(event_size=8)):
        with pytest.raises(FormatError):
            ImaLog.from_ascii(ASCII, limits=limits)


# The quote was made before the log was read.


def test_the_place_of_a_quoted_value_in_a_longer_log() -> None:
    log = ImaLog.from_bytes(BINARY)
    for count in (0, 1, 40, 66):
        value = log.replay("sha256", entries=count).get(10, bytes(32))
        assert log.entries_until("sha256", value) == count
    assert log.entries_until("sha256", _value("sha1", 10).ljust(32, b"\0")) is None
    assert log.entries_until("sha256", _value("sha256", 10), pcr=11) is None


# Boot aggregates: expected values by hashlib over the reported registers.


def _with_aggregate(digest: bytes, name: bytes = b"boot_aggregate\0", template: str = "ima-ng") -> ImaLog:
    return ImaLog.from_bytes(entry(template, (digest, name)))


def test_sha1_aggregates_end_at_pcr_7() -> None:
    seven = hashlib.sha1(b"".join(_value("sha1", i) for i in range(8))).digest()
    nine = hashlib.sha1(b"".join(_value("sha1", i) for i in range(10))).digest()
    assert _with_aggregate(b"sha1:\0" + seven).boot_aggregate(FIRMWARE).status == "matches"
    assert _with_aggregate(b"sha1:\0" + nine).boot_aggregate(FIRMWARE).status == "differs"
    assert ImaLog.from_bytes(entry("ima", (seven, b"boot_aggregate"))).boot_aggregate(FIRMWARE).status == "matches"


def test_aggregates_of_kernels_that_stop_at_pcr_7_are_taken_by_name_only() -> None:
    seven = hashlib.sha256(b"".join(_value("sha256", i) for i in range(8))).digest()
    log = _with_aggregate(b"sha256:\0" + seven)
    assert log.boot_aggregate(FIRMWARE).status == "differs"
    assert log.boot_aggregate(FIRMWARE, last_register=7).status == "matches"


def test_what_is_no_boot_aggregate() -> None:
    good = hashlib.sha256(b"".join(_value("sha256", i) for i in range(10))).digest()
    assert ImaLog.from_bytes(b"").boot_aggregate(FIRMWARE).status == "missing"
    assert _with_aggregate(b"sha256:\0" + good, b"other\0").boot_aggregate(FIRMWARE).status == "missing"
    assert _with_aggregate(b"verity:sha256:\0" + good, template="ima-ngv2").boot_aggregate(FIRMWARE).status == "missing"
    assert _with_aggregate(b"sha256:\0" + bytes(32)).boot_aggregate(FIRMWARE).status == "no-tpm"
    assert _with_aggregate(b"sha512:\0" + good * 2).boot_aggregate(FIRMWARE).status == "not-computable"
    assert _with_aggregate(b"wp512:\0" + good * 2).boot_aggregate(FIRMWARE).status == "not-computable"
    forged = bytearray(_with_aggregate(b"sha256:\0" + bytes(32)).to_bytes())
    place = forged.find(b"sha256:\0") + 8
    forged[place : place + 32] = good  # the right value, put there later
    assert ImaLog.from_bytes(bytes(forged)).boot_aggregate(FIRMWARE).status == "missing"


def test_a_firmware_log_that_cannot_be_replayed_ties_nothing() -> None:
    good = hashlib.sha256(b"".join(_value("sha256", i) for i in range(10))).digest()
    lame = build_log([LogEvent(0, EventType.EV_POST_CODE, {"sha1": bytes(20)}, b"")], algorithms=("sha1", "sha256"))
    found = _with_aggregate(b"sha256:\0" + good).boot_aggregate(EventLog.from_bytes(lame))
    assert (found.status, found.expected) == ("not-computable", None)
    assert "events[1]" in found.reason


def test_a_confidential_machine_has_no_pcrs_to_aggregate() -> None:
    ccel = EventLog.from_bytes(shared_path("corpus", "logs", "CCEL_unpadded.bin").read_bytes())
    log = _with_aggregate(b"sha384:\0" + bytes([1]) * 48)
    assert log.boot_aggregate(ccel).status == "not-computable"


def test_digests_without_a_name_are_told_by_their_length() -> None:
    # The first kernels with this template left the names of MD5 and SHA-1 out (ima_show_template_data_ascii).
    (only,) = ImaLog.from_bytes(entry("ima-ng", (b":\0" + bytes(range(20)), b"/x\0")))
    assert only.file_digest == FileDigest("ima", "sha1", bytes(range(20)))
    assert ImaLog.from_ascii(only.to_ascii() + b"\n").to_bytes() == entry(
        "ima-ng", (b":\0" + bytes(range(20)), b"/x\0")
    )


def test_logs_are_shown_and_cut_with_care() -> None:
    log = ImaLog.from_bytes(BINARY)
    assert repr(log) == "<ImaLog: 66 entries, ima-sig, sha1>"
    assert repr(ImaLog.from_bytes(b"")) == "<ImaLog: 0 entries, no templates, sha1>"
    assert [e.index for e in log[3:5]] == [3, 4]
    padded = ImaLog.from_bytes(BINARY, banks=("sha256",), extends={"sha256": "sha1-padded"})
    again = pickle.loads(pickle.dumps(padded))
    assert (again, hash(again), again.replay("sha256")) == (padded, hash(padded), padded.replay("sha256"))
    assert again != ImaLog.from_bytes(BINARY, banks=("sha256",))
    for count in (-1, 67):
        with pytest.raises(ValueError, match="66 entries"):
            log.replay("sha256", entries=count)


def test_file_digests_of_two_kinds_are_not_equal() -> None:
    one = ImaLog.from_bytes(entry("ima-ngv2", (b"ima:" + NG, b"/x\0")))[0].file_digest
    two = ImaLog.from_bytes(entry("ima-ngv2", (b"verity:" + NG, b"/x\0")))[0].file_digest
    assert one == FileDigest("ima", "sha256", bytes(range(32)))
    assert one != two
    assert str(two).startswith("verity:sha256:0001")


@given(st.sampled_from(sorted(TEMPLATES)))
def test_entries_fit_the_history_of_joined_logs(template: str) -> None:
    # Items with a register, the values extended by bank, and a text.
    fields = CASES.get(template, (NG, b"/x\0", b"\0\0"))
    (only,) = ImaLog.from_bytes(entry(template, fields), banks=("sha256",))
    assert str(only.register) == "PCR 10"
    assert set(only.digests) == {"sha256"}
    assert only.text == only.name
