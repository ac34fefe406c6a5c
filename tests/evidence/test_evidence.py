"""Log, quote and registers together: what is accepted, and each way in which they do not belong together."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from measlog import EventLog, Evidence, Quote, VerifiedEvidence
from measlog.errors import EvidenceError, NonceError, PcrDigestError, ReplayError, SelectionError, SignatureError
from measlog.evidence import evidence as module
from measlog.formats.pfp import LogEvent, startup_locality_event
from tests.evidence import quotes
from tests.evidence.machines import NONCE, SIZES, event, evidence, log_bytes, registers
from tests.log import independent

AK = quotes.ecc_key()
PUBLIC = AK.public_key()
BANKS = ("sha1", "sha256", "sha384")
LOG = log_bytes()


def verify(given: Evidence, **options: Any) -> VerifiedEvidence:
    return given.verify(**{"ak": PUBLIC, "nonce": NONCE, **options})


@pytest.mark.parametrize("bank", ["sha256", "sha384"])
@pytest.mark.parametrize("pcrs", [range(8), range(24), [0], [4, 7], [7, 11, 14, 17, 23]])
def test_honest_evidence(bank: str, pcrs: Any) -> None:
    verified = verify(evidence({bank: pcrs}), bank=bank)
    assert verified.values == registers(LOG, bank, tuple(pcrs))
    assert (verified.bank, verified.log, verified.ak_trust) == (bank, EventLog.from_bytes(LOG), "caller")
    assert verified.key.public_key == PUBLIC
    assert verified.unmeasured == tuple(p for p in pcrs if p >= 8)
    assert verified.unexplained == ()
    assert verified.replayed.values == registers(LOG, bank, tuple(p for p in pcrs if p < 8))


@pytest.mark.parametrize(
    ("key", "scheme"), [(quotes.rsa_key(), quotes.RSASSA), (quotes.rsa_key(), quotes.RSAPSS), (AK, None)]
)
@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_every_scheme(key: Any, scheme: int | None, name: str) -> None:
    given = evidence(key=key, scheme=scheme, hash_name=name)
    for ak in (key.public_key(), quotes.public(key), quotes.public(key, scheme=scheme or quotes.ECDSA, name=name)):
        assert verify(given, ak=ak).bank == "sha256"


def test_required_registers() -> None:
    given = evidence({"sha256": [0, 4, 7]})
    verify(given, required=[7, 0])
    with pytest.raises(SelectionError, match="PCR 2,11") as caught:
        verify(given, required=[0, 2, 11])
    assert caught.value.check == "selection"


def test_several_banks_at_once() -> None:
    """The values of all quoted banks have to follow from the log; the one asked for is the one that is reported."""
    given = evidence({"sha384": [0, 1], "sha256": range(8)})
    assert verify(given, bank="sha256").values == registers(LOG, "sha256")
    assert verify(given, bank="sha384").values == registers(LOG, "sha384", (0, 1))
    honest = {bank: registers(LOG, bank) for bank in ("sha256", "sha384")}
    honest["sha384"][3] = bytes(48)
    with pytest.raises(PcrDigestError) as caught:
        verify(evidence(values=honest))
    assert caught.value.check == "pcr-digest"


def test_a_quote_that_leaves_a_bank_empty() -> None:
    values = registers(LOG, "sha256")
    message = quotes.attest(
        nonce=NONCE,
        selections=[quotes.selection("sha384", []), quotes.selection("sha256", values), quotes.selection(0x99, [])],
        digest=quotes.digest_of(values.values()),
    )
    given = Evidence(log=EventLog.from_bytes(LOG), quote=Quote.from_bytes(message, quotes.sign(AK, message)))
    assert verify(given).values == values


def test_startup_locality() -> None:
    log = log_bytes(("sha256",), extra=())
    start = startup_locality_event(3, ("sha256",))
    from measlog.formats.pfp import build_log

    with_locality = build_log([start, *(event(i % 8, 16 + i, ("sha256",)) for i in range(16))], algorithms=("sha256",))
    assert registers(log, "sha256")[0] != registers(with_locality, "sha256")[0]
    assert verify(evidence(log=with_locality)).values == registers(with_locality, "sha256")
    # The log of one start does not pass for the registers of the other.
    with pytest.raises(PcrDigestError):
        verify(evidence(log=log, values={"sha256": registers(with_locality, "sha256")}))


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], type[EvidenceError], str]] = [
    ("another nonce", {}, {"nonce": b"another"}, NonceError, "nonce"),
    ("an empty nonce", {"nonce": b""}, {"nonce": b""}, NonceError, "nonce"),
    ("another key", {}, {"ak": quotes.ecc_key("other").public_key()}, SignatureError, "signature"),
    ("a key of another kind", {}, {"ak": quotes.rsa_key().public_key()}, SignatureError, "signature-scheme"),
    ("a key that signs anything", {}, {"ak": quotes.public(AK, attributes=1 << 18)}, SignatureError, "key-attributes"),
    ("signed over sha1", {"hash_name": "sha1"}, {}, SignatureError, "signature-hash"),
    ("another bank", {}, {"bank": "sha384"}, SelectionError, "selection"),
    ("the bank sha1", {"banks": {"sha1": range(8)}}, {"bank": "sha1"}, SelectionError, "bank"),
    ("no such bank", {}, {"bank": "crc32"}, SelectionError, "bank"),
    ("a bank that is not in the log", {"log": log_bytes(("sha256",)), "values": {"sha256": registers(LOG, "sha256"), "sha384": {0: bytes(48)}}}, {}, SelectionError, "bank"),
    ("no bank of the log", {"log": log_bytes(("sha384",)), "values": {"sha256": {0: bytes(32)}}}, {}, SelectionError, "bank"),
    ("a register more", {}, {"required": range(9)}, SelectionError, "selection"),
    ("another log", {"log": log_bytes(extra=[event(7, 99, BANKS)]), "values": {"sha256": registers(LOG, "sha256")}}, {}, PcrDigestError, "pcr-digest"),
    ("a log without an event", {"log": LOG[: -(16 + 3 * 2 + 20 + 32 + 48 + 1)], "values": {"sha256": registers(LOG, "sha256")}}, {}, PcrDigestError, "pcr-digest"),
    ("a log that says nothing", {"banks": {"sha256": [10, 11]}}, {}, ReplayError, "nothing-compared"),
    ("a register that the log does not explain", {"values": {"sha256": {**registers(LOG, "sha256"), 10: b"\1" * 32}}}, {}, PcrDigestError, "pcr-digest"),
    ("a register at another start", {"values": {"sha256": {**registers(LOG, "sha256"), 17: bytes(32)}}}, {}, PcrDigestError, "pcr-digest"),
    ("bytes behind the log", {"log": LOG + b"\xff" * 64 + b"x", "values": {"sha256": registers(LOG, "sha256")}}, {}, ReplayError, "log-incomplete"),
    ("a digest is missing", {"log": log_bytes(extra=[LogEvent(9, 1, {"sha384": bytes(48)}, b"")]), "values": {"sha256": registers(LOG, "sha256")}}, {}, ReplayError, "digest-missing"),
    ("two startup localities", {"log": log_bytes(extra=[startup_locality_event(0, BANKS)]), "values": {"sha256": registers(LOG, "sha256")}}, {}, ReplayError, "startup-locality"),
    ("given values that are not the quoted ones", {"pcrs": {**registers(LOG, "sha256"), 3: bytes(32)}, "values": {"sha256": registers(LOG, "sha256")}}, {}, PcrDigestError, "pcr-digest"),
    ("one given value that is not the log's", {"pcrs": {3: bytes(32)}}, {}, ReplayError, "replay"),
    ("a given value of another length", {"pcrs": {3: registers(LOG, "sha256")[3][:-1]}}, {}, ReplayError, "replay"),
    ("quoted and given alike, but not the log's", {"pcrs": {**registers(LOG, "sha256"), 3: bytes(32)}, "values": {"sha256": {**registers(LOG, "sha256"), 3: bytes(32)}}}, {}, ReplayError, "replay"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "options", "kind", "check"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(made: dict[str, Any], options: dict[str, Any], kind: type[EvidenceError], check: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        verify(evidence(**made), **options)
    assert (type(caught.value), caught.value.check) == (kind, check)


def test_a_log_that_says_nothing_is_named_so() -> None:
    with pytest.raises(ReplayError, match="the log explains none of the quoted sha256 registers"):
        verify(evidence({"sha256": [10, 11]}))


def test_registers_that_differ_are_named() -> None:
    wrong = {**registers(LOG, "sha256"), 3: bytes(32), 5: b"\1" * 32}
    with pytest.raises(ReplayError) as caught:
        verify(evidence(pcrs=wrong, values={"sha256": wrong}))
    assert "PCR 3 is 0000" in str(caught.value)
    assert "PCR 5 is 0101" in str(caught.value)
    assert str(caught.value).count(" is ") == 2


def test_a_ccel_is_not_quoted_by_a_tpm() -> None:
    """A39: the registers of a CCEL are RTMRs, whatever a quote says of PCRs with the same values."""
    log = b"\1" + LOG[1:]
    with pytest.raises(ReplayError) as caught:
        verify(evidence(log=log, values={"sha256": registers(LOG, "sha256")}))
    assert caught.value.check == "log-kind"


def test_a_log_in_the_sha1_format() -> None:
    from measlog.formats.pfp import build_log

    log = build_log(
        [LogEvent(0, 8, {"sha1": b"\1" * 20}, b"v"), LogEvent(4, 13, {"sha1": b"\2" * 20}, b"")], algorithms=None
    )
    given = evidence({"sha1": [0, 4, 7]}, log=log)
    with pytest.raises(SelectionError) as caught:
        verify(given, bank="sha1")
    assert caught.value.check == "bank"
    assert verify(given, bank="sha1", unsafe_allow_sha1=True).values == registers(log, "sha1", (0, 4, 7))
    with pytest.raises(SelectionError):
        verify(given)


IMA = {**registers(LOG, "sha256", tuple(range(15))), 10: b"\xaa" * 32}


def test_registers_that_go_on_changing() -> None:
    """PCR 10 is the kernel's: its value is taken from what was given, which the quote covers; the log is silent."""
    given = evidence(pcrs=IMA, values={"sha256": IMA})
    verified = verify(given)
    assert verified.values == IMA
    assert verified.unexplained == (10,)
    assert verified.unmeasured == (8, 9, 11, 12, 13, 14)
    assert 10 not in verified.replayed.values
    # It is enough to give what the log does not explain.
    assert verify(attrs.evolve(given, pcrs={10: IMA[10]})).values == IMA
    for wrong in ({}, {10: bytes(32)}, {10: IMA[10][:-1]}, {**IMA, 10: b"\xab" * 32}):
        with pytest.raises(PcrDigestError) as caught:
            verify(attrs.evolve(given, pcrs=wrong))
        assert caught.value.check == "pcr-digest"


def test_given_values_that_are_not_quoted_say_nothing() -> None:
    given = evidence({"sha256": [0, 4]})
    verified = verify(attrs.evolve(given, pcrs={7: bytes(32), 23: b"x"}))
    assert set(verified.values) == {0, 4}


def test_given_values_are_those_of_the_verified_bank() -> None:
    """For other banks of the quote the log alone counts."""
    values = {"sha256": registers(LOG, "sha256"), "sha384": {**registers(LOG, "sha384"), 10: b"\xaa" * 48}}
    with pytest.raises(PcrDigestError):
        verify(evidence(values=values, pcrs={10: b"\xaa" * 48}), bank="sha256")
    assert verify(evidence(values=values, pcrs={10: b"\xaa" * 48}), bank="sha384").unexplained == (10,)


def test_evidence_is_made_of_a_log_and_a_quote() -> None:
    good = evidence()
    for changes in ({"log": LOG}, {"quote": good.quote.attest}, {"log": None}):
        with pytest.raises(TypeError):
            attrs.evolve(good, **changes)
    assert pickle.loads(pickle.dumps(good)) == good


def test_every_event_counts() -> None:
    """Each event removed, swapped with the next of its register, or with a digest changed, is refused (A36)."""
    from measlog.formats.pfp import build_log

    events = [event(i % 8, 16 + i, BANKS) for i in range(16)]
    honest = {"sha256": registers(LOG, "sha256")}
    for i, one in enumerate(events):
        other = next(j for j, e in enumerate(events) if j != i and e.register == one.register)
        removed = events[:i] + events[i + 1 :]
        added = [*events, one]
        swapped = list(events)
        swapped[i], swapped[other] = swapped[other], swapped[i]
        moved = [e._replace(register=(e.register + 1) % 8) if j == i else e for j, e in enumerate(events)]
        changed = [
            e._replace(digests={**e.digests, "sha256": bytes(32)}) if j == i else e for j, e in enumerate(events)
        ]
        hidden = [e._replace(type=3) if j == i else e for j, e in enumerate(events)]
        for attack in (removed, added, swapped, moved, changed, hidden):
            with pytest.raises(PcrDigestError):
                verify(evidence(log=build_log(attack, algorithms=BANKS), values=honest))


def test_what_no_quote_can_tell() -> None:
    """Types and data are not in the registers: a retyped event passes here, and is the appraisal's to find (A1, A2)."""
    from measlog.formats.pfp import build_log

    events = [event(i % 8, 16 + i, BANKS)._replace(type=5, data=b"anything") for i in range(16)]
    assert verify(evidence(log=build_log(events, algorithms=BANKS), values={"sha256": registers(LOG, "sha256")}))


VERIFIED: Any = verify(evidence())


def test_proofs_are_not_made_by_hand() -> None:
    forged = {0: bytes(32)}
    made: Any = VerifiedEvidence
    parts = {"replayed": VERIFIED.replayed, "quote": VERIFIED.quote, "key": VERIFIED.key, "values": forged}
    for forge in (
        lambda: made(**parts),
        lambda: made(**parts, proof=object()),
        lambda: made(**parts, ak_trust="chain"),
        lambda: attrs.evolve(VERIFIED, values=forged),
        lambda: attrs.evolve(VERIFIED, ak_trust="credential"),
        lambda: copy.copy(VERIFIED),
        lambda: copy.deepcopy(VERIFIED),
        lambda: pickle.dumps(VERIFIED),
        lambda: type("Forged", (VerifiedEvidence,), {}),
        lambda: VERIFIED.__setstate__(parts),
        lambda: setattr(VERIFIED, "values", forged),
        lambda: setattr(VERIFIED, "anything", forged),
        lambda: delattr(VERIFIED, "quote"),
        lambda: VERIFIED.values.__setitem__(0, bytes(32)),
        lambda: VERIFIED.replayed.bank.values_by_index.__setitem__(0, bytes(32)),
    ):
        with pytest.raises((TypeError, AttributeError)):
            forge()
    assert VERIFIED.values == registers(LOG, "sha256")


def test_what_is_made_without_init_holds_nothing() -> None:
    blank = object.__new__(VerifiedEvidence)
    for name in ("log", "bank", "values", "replayed", "unexplained", "unmeasured"):
        with pytest.raises(AttributeError):
            getattr(blank, name)


def test_the_caller_keeps_no_hold_on_the_proof() -> None:
    given = dict(IMA)
    verified = verify(evidence(pcrs=given, values={"sha256": IMA}))
    given[10] = bytes(32)
    assert verified.values == IMA


def test_repr_shows_no_secrets_and_no_values() -> None:
    assert "PublicKey" not in repr(VERIFIED)
    assert registers(LOG, "sha256")[0].hex() not in repr(VERIFIED)


def test_the_proof_is_private() -> None:
    assert "_PROOF" not in getattr(module, "__all__", ())
    assert set(SIZES) == set(BANKS)
    assert independent.replay(LOG, "sha256") == registers(LOG, "sha256")
