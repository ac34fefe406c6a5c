"""go-tpm-tools' Attestation: verified as evidence, nothing in it believed, and no two readings of the same bytes."""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

import measlog as ml
from measlog.errors import EvidenceError, FormatError, KeyTrustError, LimitExceededError, NonceError, SelectionError
from measlog.evidence.trust import TCG_KP_AIK_CERTIFICATE
from measlog.formats.protobuf import fields, message
from measlog.interop.gotpmtools import GceInstance, GoTpmToolsAttestation
from measlog.limits import Limits
from measlog.registry import Register
from tests.conftest import shared_path
from tests.evidence import machines, quotes
from tests.evidence.test_trust import NOW, Authority, issue, pem
from tests.interop.gomessages import BANKS, ak_area, attestation, field, pcrs, quote, signed, varint

# The corpus names it in its file name and README.
NONCE = b"\x90\x09"


def gce() -> bytes:
    return shared_path("corpus", "other", "gce-cos-85-nonce9009.pb").read_bytes()


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
def test_the_quotes_of_a_real_machine_verify_in_each_bank(bank: str) -> None:
    """A vTPM of Google Cloud is the independent source: it signed register values to which our replay must come."""
    read = GoTpmToolsAttestation.from_bytes(gce())
    assert read.banks == ("sha1", "sha256", "sha384")
    evidence = read.evidence(bank)
    verified = evidence.verify(ak=read.ak_public, nonce=NONCE, bank=bank, unsafe_allow_sha1=bank == "sha1")
    # PCR 10 is IMA's, of which a firmware log knows nothing.
    assert verified.unexplained == (10,)
    assert verified.values == dict(evidence.pcrs or {})
    with pytest.raises(NonceError):
        evidence.verify(ak=read.ak_public, nonce=b"\x90\x0a", bank=bank, unsafe_allow_sha1=True)


def test_sha1_is_verified_only_when_asked_for_by_name() -> None:
    read = GoTpmToolsAttestation.from_bytes(gce())
    with pytest.raises(SelectionError, match="sha1 is not accepted"):
        read.evidence("sha1").verify(ak=read.ak_public, nonce=NONCE, bank="sha1")
    with pytest.raises(SelectionError, match="no quote covers the bank sha512"):
        read.evidence("sha512")


def test_protobuf_reads_the_same_message() -> None:
    """The oracle is Google's own library, with the fields declared as in attest.proto."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="a.proto", package="t", syntax="proto3")
    declared = file.message_type.add(name="Attestation")
    for name, number, label in (("ak_pub", 1, 1), ("quotes", 2, 3), ("event_log", 3, 1), ("ak_cert", 6, 1)):
        declared.field.add(name=name, number=number, label=label, type=12)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    theirs = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Attestation")).FromString(gce())
    ours = message(gce(), {1: ("ak_pub", 2, False), 2: ("quotes", 2, True), 3: ("event_log", 2, False)})
    assert [f.value for f in ours["ak_pub"]] == [theirs.ak_pub]
    assert [f.value for f in ours["quotes"]] == list(theirs.quotes)
    assert [f.value for f in ours["event_log"]] == [theirs.event_log]
    assert GoTpmToolsAttestation.from_bytes(gce()).log.to_bytes() == theirs.event_log


def test_values_and_log_are_checked_against_what_was_signed() -> None:
    raw = gce()
    read = GoTpmToolsAttestation.from_bytes(raw)
    for value in (read.quotes[1].pcrs[4], read.quotes[1].pcrs[10]):
        changed = raw.replace(value, bytes([value[0] ^ 1]) + value[1:])
        assert changed != raw
        with pytest.raises(EvidenceError):
            GoTpmToolsAttestation.from_bytes(changed).evidence().verify(ak=read.ak_public, nonce=NONCE)
    digest = read.log[5].digests["sha256"]
    changed = raw.replace(digest, bytes(32))
    with pytest.raises(EvidenceError):
        GoTpmToolsAttestation.from_bytes(changed).evidence().verify(ak=read.ak_public, nonce=NONCE)


def test_what_a_message_says_beside_its_quotes() -> None:
    instance = field(1, b"europe-west3-a") + field(2, b"p") + field(3, 7) + field(4, b"vm") + field(5, 2**64 - 1)
    tail = field(4, instance) + field(9, b"a quote") + field(99, b"unknown") + field(98, 5)
    read = GoTpmToolsAttestation.from_bytes(attestation(tail=tail))
    assert read.instance == GceInstance(
        zone="europe-west3-a", project_id="p", project_number=7, instance_name="vm", instance_id=2**64 - 1
    )
    assert (read.canonical_log, read.banks) == (None, ("sha1", "sha256"))
    assert read.tee is not None
    assert (read.tee.kind, read.tee.raw) == ("tdx", b"a quote")
    assert read.ak_public == quotes.public(quotes.ecc_key())
    assert read.evidence().verify(ak=read.ak_public, nonce=machines.NONCE).bank == "sha256"
    snp = GoTpmToolsAttestation.from_bytes(attestation(tail=field(8, b"a report"))).tee
    assert snp is not None
    assert snp.kind == "sev-snp"


# What a Container-Optimized OS records of the containers that it starts, in PCR 13: each record is four fields of type, length
# and value (CEL 1.1, 5.1; go-tpm-tools numbers its own content 80 and extends the hash of that field).

AREA, LOG = field(1, ak_area()), field(3, machines.log_bytes())
COS_CONTENT, COS_PCR = 80, 13


def cel_field(kind: int, value: bytes) -> bytes:
    return struct.pack(">BI", kind, len(value)) + value


def cos_record(
    number: int, said: bytes, *, pcr: int = COS_PCR, digest: bytes | None = None, kind: int = COS_CONTENT
) -> bytes:
    content = cel_field(kind, cel_field(0, said))
    digests = {4: hashlib.sha1(content).digest(), 11: digest or hashlib.sha256(content).digest()}
    return (
        cel_field(0, struct.pack(">Q", number))
        + cel_field(1, bytes([pcr]))
        + cel_field(3, b"".join(cel_field(*item) for item in digests.items()))
        + content
    )


SAID = (b"docker.io/library/app:1.2", b"sha256:00ff", b"--verbose")
CONTAINERS = b"".join(cos_record(number, said) for number, said in enumerate(SAID))


def containers(canonical: bytes = CONTAINERS, *, value: bytes | None = None) -> GoTpmToolsAttestation:
    """A message whose quote covers PCR 13 as well, of what hashlib makes of the honest records."""
    register = bytes(32)
    for said in SAID:
        content = cel_field(COS_CONTENT, cel_field(0, said))
        register = hashlib.sha256(register + hashlib.sha256(content).digest()).digest()
    values = {**machines.registers(machines.log_bytes(), "sha256", range(8)), COS_PCR: value or register}
    attest = quotes.quoted({"sha256": values}, nonce=machines.NONCE)
    one = field(1, attest) + field(2, quotes.sign(quotes.ecc_key(), attest)) + field(3, pcrs(BANKS["sha256"], values))
    return GoTpmToolsAttestation.from_bytes(AREA + field(2, one) + LOG + field(5, canonical))


def verified(read: GoTpmToolsAttestation) -> ml.VerifiedEvidence:
    return read.evidence().verify(ak=read.ak_public, nonce=machines.NONCE)


def test_a_canonical_log_explains_the_registers_of_the_running_system() -> None:
    read = containers()
    assert read.canonical_log is not None
    assert [record.register for record in read.canonical_log] == [Register("pcr", COS_PCR)] * 3
    assert [record.text.encode()[5:] for record in read.canonical_log] == list(SAID)
    assert verified(read).unexplained == ()
    assert [event.source for event in verified(read).replayed.further] == ["canonical_event_log"] * 3
    # Without it nothing explains the register.
    assert verified(containers(b"")).unexplained == (COS_PCR,)


@pytest.mark.parametrize(
    "canonical",
    [
        CONTAINERS[: -len(cos_record(2, SAID[2]))],
        CONTAINERS + cos_record(3, b"more"),
        cos_record(0, SAID[1]) + cos_record(1, SAID[0]) + cos_record(2, SAID[2]),
        cos_record(0, SAID[0]) + cos_record(1, SAID[1]) + cos_record(2, SAID[2], digest=bytes(31) + b"x"),
    ],
    ids=["cut short", "more", "in another order", "another digest"],
)
def test_a_canonical_log_must_replay_to_the_quote(canonical: bytes) -> None:
    with pytest.raises(EvidenceError):
        verified(containers(canonical))


def test_a_canonical_log_must_not_speak_for_the_firmware() -> None:
    for record in (
        cos_record(0, b"x", pcr=4),
        cel_field(0, bytes(8)) + cel_field(108, b"\x03") + cos_record(0, b"x")[19:],
    ):
        with pytest.raises(EvidenceError) as caught:
            verified(containers(record))
        assert caught.value.check == "further-register"


def test_what_is_not_measured_extends_nothing() -> None:
    """The version of the log stands before the records, without having been extended (CEL 1.1, 4.4)."""
    version = cel_field(4, cel_field(1, cel_field(0, b"\1") + cel_field(1, b"\1")))
    head = cel_field(0, bytes(8)) + cel_field(1, bytes([COS_PCR])) + cel_field(3, b"") + version
    rest = b"".join(cos_record(number, said) for number, said in enumerate(SAID, start=1))
    assert verified(containers(head + rest)).unexplained == ()


@pytest.mark.parametrize(
    ("canonical", "said"),
    [
        (b"CEL", "canonical_event_log.records"),
        (CONTAINERS[:-1], "canonical_event_log.records"),
        (CONTAINERS[:30], "canonical_event_log.records: a field of 62 bytes"),
        (cos_record(0, b"a") + cos_record(2, b"b"), "canonical_event_log.records[1].recnum"),
        (cos_record(0, b"a", digest=b"short"), "canonical_event_log.records[0].digests"),
        (cos_record(0, b"a", kind=0), "canonical_event_log.records[0].content"),
    ],
)
def test_canonical_logs_that_are_none_are_refused_with_their_place(canonical: bytes, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        containers(canonical)
    assert said in str(caught.value)


def test_a_canonical_log_is_bounded() -> None:
    raw = AREA + field(2, quote("sha256")) + LOG + field(5, CONTAINERS)
    with pytest.raises(LimitExceededError, match="canonical_event_log"):
        GoTpmToolsAttestation.from_bytes(raw, limits=Limits(records=2))


def test_an_ak_that_has_its_size_in_front_is_read_too() -> None:
    raw = field(1, quotes.public(quotes.ecc_key())) + field(2, quote("sha256")) + field(3, machines.log_bytes())
    assert GoTpmToolsAttestation.from_bytes(raw).ak_public == quotes.public(quotes.ecc_key())


def test_the_certificates_lead_to_a_root_that_the_caller_names() -> None:
    authority = Authority()
    leaf = authority.certify(quotes.public(quotes.ecc_key()), usage=TCG_KP_AIK_CERTIFICATE)
    chain = [c.public_bytes(Encoding.DER) for c in (leaf, authority.middle)]
    read = GoTpmToolsAttestation.from_bytes(attestation(certificates=chain))
    key = read.verify_ak(pem(authority.root), now=NOW)
    assert key.trust == "chain"
    assert read.evidence().verify(ak=key, nonce=machines.NONCE).ak_trust == "chain"
    with pytest.raises(KeyTrustError):
        read.verify_ak(pem(Authority().root), now=NOW)
    with pytest.raises(KeyTrustError):
        read.verify_ak(pem(authority.root), now=NOW + dt.timedelta(days=90))
    with pytest.raises(KeyTrustError, match="no certificate"):
        GoTpmToolsAttestation.from_bytes(attestation()).verify_ak(pem(authority.root), now=NOW)
    broken = GoTpmToolsAttestation.from_bytes(attestation(certificates=[b"0\x00"]))
    with pytest.raises(FormatError, match="no certificate"):
        broken.verify_ak(pem(authority.root), now=NOW)
    other = issue(
        "other", quotes.ecc_key("other").public_key(), "middle", authority.middle_key, usage=TCG_KP_AIK_CERTIFICATE
    )
    with pytest.raises(KeyTrustError, match="another key"):
        GoTpmToolsAttestation.from_bytes(
            attestation(certificates=[other.public_bytes(Encoding.DER), chain[1]])
        ).verify_ak(pem(authority.root), now=NOW)


def bad_quote(change: Callable[[dict[int, bytes]], object], bank: int = BANKS["sha256"]) -> bytes:
    attest, signature, values = signed("sha256")
    change(values)
    return field(1, attest) + field(2, signature) + field(3, pcrs(bank, values))


GOOD = field(2, quote("sha256"))
TWO_BANKS = quotes.quoted({bank: machines.registers(machines.log_bytes(), bank) for bank in ("sha1", "sha256")})
REFUSED = {
    "no quote": (AREA + LOG, "0 quotes"),
    "no log": (AREA + GOOD, "no event log"),
    "no key": (GOOD + LOG, "no attestation key"),
    "the log twice": (AREA + GOOD + LOG + LOG, "there twice"),
    "the key twice": (AREA + GOOD + LOG + AREA, "there twice"),
    "two quotes of a bank": (AREA + GOOD + GOOD + LOG, "same bank"),
    "the log as a number": (AREA + GOOD + field(3, 5), "wire type is VARINT"),
    "both TEEs": (AREA + GOOD + LOG + field(8, b"") + field(9, b""), "oneof"),
    "intermediates alone": (AREA + GOOD + LOG + field(7, b"x"), "without the AK's"),
    "a group": (AREA + GOOD + LOG + varint(10 << 3 | 3), "wire type 3"),
    "field 0": (AREA + GOOD + LOG + b"\x00\x00", "field number 0"),
    "cut off": ((AREA + GOOD + LOG)[:-1], "are left"),
    "an endless varint": (AREA + GOOD + LOG + b"\xff" * 11, "more than ten bytes"),
    "a varint too large": (AREA + GOOD + LOG + varint(10 << 3) + b"\xff" * 9 + b"\x02", "64 bits"),
    "no text": (AREA + GOOD + LOG + field(4, field(1, b"\xff")), "not UTF-8"),
    "a value too many": (AREA + LOG + field(2, bad_quote(lambda v: v.update({9: bytes(32)}))), "PCR 9 has a value"),
    "a value too few": (AREA + LOG + field(2, bad_quote(lambda v: v.pop(3))), "PCR 3 has no value"),
    "a value too short": (AREA + LOG + field(2, bad_quote(lambda v: v.update({3: bytes(20)}))), "with 20 bytes"),
    "no such register": (AREA + LOG + field(2, bad_quote(lambda v: v.update({24: bytes(32)}))), "24 does not exist"),
    "another bank": (AREA + LOG + field(2, bad_quote(lambda _: None, BANKS["sha1"])), "values of sha1 beside"),
    "no values": (AREA + LOG + field(2, field(1, signed("sha256")[0]) + field(2, signed("sha256")[1])), "no register"),
    "the values twice": (
        AREA + LOG + field(2, bad_quote(lambda _: None) + field(3, b"")),
        "there twice",
    ),
    "two banks in one quote": (
        AREA
        + LOG
        + field(
            2,
            field(1, TWO_BANKS)
            + field(2, quotes.sign(quotes.ecc_key(), TWO_BANKS))
            + field(3, pcrs(11, machines.registers(machines.log_bytes(), "sha256"))),
        ),
        "one bank a quote",
    ),
    "no quote in the quote": (AREA + LOG + field(2, field(1, b"x") + field(3, pcrs(11, {}))), "quotes[0]"),
    "no log in the log": (AREA + GOOD + field(3, b"x" * 40), "event_log"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_format_forbids_is_refused_with_its_place(name: str) -> None:
    raw, said = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        GoTpmToolsAttestation.from_bytes(raw)
    assert said in str(caught.value)


def test_a_register_that_is_there_twice_in_the_map_is_refused() -> None:
    """Protocol Buffers lets the last one win; two readers must not differ here."""
    attest, signature, values = signed("sha256")
    twice = pcrs(11, values) + field(2, field(1, 3) + field(2, values[3]))
    raw = AREA + LOG + field(2, field(1, attest) + field(2, signature) + field(3, twice))
    with pytest.raises(FormatError, match="register 3 is there twice"):
        GoTpmToolsAttestation.from_bytes(raw)


def test_a_cut_message_is_never_read_as_a_whole_one() -> None:
    whole = attestation()
    read = GoTpmToolsAttestation.from_bytes(whole)
    for end in range(0, len(whole), 7):
        try:
            cut = GoTpmToolsAttestation.from_bytes(whole[:end])
        except FormatError:
            continue
        assert cut.log == read.log


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=40)), max_size=12))
def test_any_list_of_fields_is_read_back(items: list[tuple[int, int | bytes]]) -> None:
    raw = b"".join(field(number, value) for number, value in items)
    assert [(f.number, f.value) for f in fields(raw, limit=12)] == items
    for item in fields(raw):
        if isinstance(item.value, bytes):
            assert raw[item.offset : item.offset + len(item.value)] == item.value


def test_sizes_and_numbers_are_bounded() -> None:
    with pytest.raises(LimitExceededError, match="the most is 20"):
        GoTpmToolsAttestation.from_bytes(attestation(), limits=ml.Limits(log_size=10))
    with pytest.raises(LimitExceededError, match="17 certificates"):
        GoTpmToolsAttestation.from_bytes(attestation(certificates=[b"x"] * 18))
    with pytest.raises(FormatError, match="a varint is cut off"):
        list(fields(b"\x80"))
    with pytest.raises(LimitExceededError, match="more than 4096"):
        list(fields(field(1, 0) * 4097))
