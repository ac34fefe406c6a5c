"""Quotes step by step, honest and forged; all of them made in the test."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from measlog import Quote
from measlog.errors import (
    EvidenceError,
    FormatError,
    NonceError,
    PcrDigestError,
    SelectionError,
    SignatureError,
    UnsupportedError,
)
from measlog.formats.tpm2 import ClockInfo, PcrSelection
from tests.evidence import quotes
from tests.evidence.quotes import AK_ATTRIBUTES, attest, digest_of, quoted, selection, sign

AK = quotes.ecc_key()
PUBLIC = AK.public_key()
NONCE = b"nonce"
VALUES = {i: bytes([i]) * 32 for i in range(24)}


def quote_of(message: bytes, key: Any = AK, **options: Any) -> Quote:
    return Quote.from_bytes(message, sign(key, message, **options))


HONEST = quote_of(quoted({"sha256": {i: VALUES[i] for i in range(8)}}, nonce=NONCE))


def test_fields() -> None:
    message = attest(
        signer=b"\x00\x0bname", nonce=b"n" * 64, clock=2**63, resets=2**32 - 1, restarts=9, safe=0, firmware=2**64 - 1,
        selections=[selection("sha1", [0, 2]), selection("sha256", [23], 4), selection(0x99, [1])], digest=b"d" * 48,
    )  # fmt: skip
    quote = quote_of(message, name="sha384")
    assert quote.nonce == b"n" * 64
    assert quote.clock_info == ClockInfo(clock=2**63, reset_count=2**32 - 1, restart_count=9, safe=False)
    assert quote.firmware_version == 2**64 - 1
    assert quote.fields.qualified_signer == b"\x00\x0bname"
    assert quote.selections == (
        PcrSelection(algorithm="sha1", pcrs=(0, 2)),
        PcrSelection(algorithm="sha256", pcrs=(23,)),
        PcrSelection(algorithm="0x0099", pcrs=(1,)),
    )
    assert (quote.pcrs("sha1"), quote.pcrs("sha256"), quote.pcrs("sha384")) == ((0, 2), (23,), ())
    assert (quote.hash, quote.pcr_digest) == ("sha384", b"d" * 48)
    assert (quote.attest, quote.signature[:2]) == (message, b"\x00\x18")


def test_repr() -> None:
    assert repr(HONEST) == "<Quote sha256:0,1,2,3,4,5,6,7, nonce 6e6f6e6365>"
    assert repr(quote_of(attest(nonce=b""))) == "<Quote of nothing, nonce (none)>"


def test_what_is_shown() -> None:
    """Text and HTML name what was quoted, and that it was not verified by being read."""
    for shown in (str(HONEST), HONEST._repr_html_()):
        assert "6e6f6e6365" in shown
        assert "sha256" in shown


def test_what_is_believed_is_what_was_signed() -> None:
    """The fields cannot be set apart from the bytes: not by hand, by evolve, by pickle (A14)."""
    other = quote_of(attest(nonce=b"other"))
    for forge in (
        lambda: attrs.evolve(HONEST, fields=other.fields),  # type: ignore[call-arg]
        lambda: Quote(attest=HONEST.attest, signature=HONEST.signature, fields=other.fields),  # type: ignore[call-arg]
        lambda: setattr(HONEST, "fields", other.fields),
    ):
        with pytest.raises((TypeError, AttributeError)):
            forge()
    assert HONEST.__reduce__()[1] == (HONEST.attest, HONEST.signature)
    assert pickle.loads(pickle.dumps(HONEST)) == copy.deepcopy(HONEST) == HONEST
    assert attrs.evolve(HONEST, attest=other.attest).fields == other.fields
    with pytest.raises(SignatureError):
        attrs.evolve(HONEST, attest=other.attest).verify_signature(PUBLIC, b"other")


def test_all_buffers_are_read_alike() -> None:
    assert Quote.from_bytes(bytearray(HONEST.attest), memoryview(HONEST.signature)) == HONEST  # type: ignore[arg-type]


def test_verify_signature_returns_the_key() -> None:
    key = HONEST.verify_signature(PUBLIC, NONCE)
    assert key.public_key == PUBLIC
    assert HONEST.verify_signature(key, NONCE) is key
    assert HONEST.verify_signature(quotes.public(AK), NONCE).attributes == AK_ATTRIBUTES


@pytest.mark.parametrize(
    ("nonce", "asked"),
    [(NONCE, b"nonc"), (NONCE, b"nonce\0"), (NONCE, b"Nonce"), (b"", NONCE), (b"6e6f6e6365", NONCE), (NONCE, b"6e6f6e6365"), (b"", b"")],
)  # fmt: skip
def test_nonces(nonce: bytes, asked: bytes) -> None:
    """Compared as bytes in one encoding; an empty one cannot show freshness, whatever the quote says (A15)."""
    with pytest.raises(NonceError) as caught:
        quote_of(attest(nonce=nonce)).verify_signature(PUBLIC, asked)
    assert caught.value.check == "nonce"
    assert not asked or f"the nonce {nonce.hex() or '(none)'}, not {asked.hex()}" in str(caught.value)


FORGED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("magic of data given to TPM2_Sign", {"magic": 0x00544347}, UnsupportedError, "format.unsupported"),
    ("type of TPM2_Certify", {"kind": 0x8017}, UnsupportedError, "format.unsupported"),
    ("type of TPM2_GetTime", {"kind": 0x8019}, UnsupportedError, "format.unsupported"),
]


@pytest.mark.parametrize(("changes", "kind", "code"), [f[1:] for f in FORGED], ids=[f[0] for f in FORGED])
def test_a_signed_structure_that_is_no_quote(changes: dict[str, Any], kind: type[FormatError], code: str) -> None:
    """The signature is good; what it is over is not a quote by the TPM (A14)."""
    message = attest(selections=[selection("sha256", [0])], **changes)
    with pytest.raises(kind) as caught:
        quote_of(message)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (AK_ATTRIBUTES & ~(1 << 16), "it is not restricted"),
        (AK_ATTRIBUTES & ~(1 << 1 | 1 << 16), "it is not restricted, fixedTPM"),
        (AK_ATTRIBUTES | 1 << 17, "it is not for signing alone"),
    ],
)
def test_a_key_that_signs_anything(attributes: int, words: str) -> None:
    with pytest.raises(SignatureError, match=words) as caught:
        HONEST.verify_signature(quotes.public(AK, attributes=attributes), NONCE)
    assert caught.value.check == "key-attributes"


def test_sha1_signatures() -> None:
    quote = quote_of(quoted({"sha256": VALUES}, hash_name="sha1"), name="sha1")
    with pytest.raises(SignatureError) as caught:
        quote.verify_signature(PUBLIC, NONCE)
    assert caught.value.check == "signature-hash"
    quote.verify_signature(PUBLIC, NONCE, unsafe_allow_sha1=True)
    quote.verify_pcr_digest({"sha256": VALUES})


@pytest.mark.parametrize("stated", [attest(), HONEST.attest])
def test_every_changed_bit_of_quote_and_signature_is_refused(stated: bytes) -> None:
    """Scheme, hash, r, s, and each field that was signed; RSASSA and RSAPSS as well."""
    for key, scheme in ((AK, None), (quotes.rsa_key(), quotes.RSASSA), (quotes.rsa_key(), quotes.RSAPSS)):
        signature = sign(key, stated, scheme=scheme)
        public = key.public_key()
        Quote.from_bytes(stated, signature).verify_signature(public, NONCE)
        for which, data in (("attest", stated), ("signature", signature)):
            for bit in range(8 * len(data)):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                pair = (bytes(flipped), signature) if which == "attest" else (stated, bytes(flipped))
                with pytest.raises((FormatError, SignatureError)):
                    Quote.from_bytes(*pair).verify_signature(public, NONCE)


SELECTIONS: list[tuple[str, list[bytes], str, Any, str, str]] = [
    ("nothing", [], "sha256", None, "selection", "covers no sha256 register; it covers no register at all"),
    ("an empty bitmap", [selection("sha256", [])], "sha256", None, "selection", "no register at all"),
    ("a bitmap of no bytes", [selection("sha256", [], 0)], "sha256", None, "selection", "no register at all"),
    ("another bank", [selection("sha1", range(8))], "sha256", None, "selection", "it covers sha1"),
    ("another bank and an empty one", [selection("sha384", [0]), selection("sha256", [])], "sha256", None, "selection", "it covers sha384"),
    ("an unknown bank", [selection(0x99, [0])], "sha256", None, "selection", "it covers 0x0099"),
    ("fewer than required", [selection("sha256", range(7))], "sha256", range(8), "selection", "does not cover sha256 PCR 7"),
    ("none of those required", [selection("sha256", [16])], "sha256", [0, 4, 4], "selection", "does not cover sha256 PCR 0,4"),
    ("required of another bank", [selection("sha256", [0]), selection("sha384", [7])], "sha256", [7], "selection", "PCR 7"),
    ("the bank twice", [selection("sha256", [0]), selection("sha256", [1])], "sha256", None, "selection", "a bank twice"),
    ("the bank twice, the same", [selection("sha256", [0])] * 2, "sha256", None, "selection", "a bank twice"),
    ("another bank twice", [selection("sha384", [0]), selection("sha384", [1]), selection("sha256", [0])], "sha256", None, "selection", "a bank twice"),
    ("register 24", [selection("sha256", [0, 24], 4)], "sha256", None, "selection", "do not exist: 24"),
    ("register 255", [selection("sha256", [0, 255], 32)], "sha256", None, "selection", "do not exist: 255"),
    ("register 24 of another bank", [selection("sha256", [0]), selection("sha384", [24], 4)], "sha256", None, "selection", "24"),
    ("required that does not exist", [selection("sha256", range(24))], "sha256", [24], "selection", "PCR 24"),
    ("sha1", [selection("sha1", range(8))], "sha1", None, "bank", "sha1 is not accepted"),
    ("no such bank", [selection("sha256", range(8))], "md5", None, "bank", "no bank md5"),
    ("an unknown bank asked for", [selection(0x99, [0])], "0x0099", None, "bank", "no bank 0x0099"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("selections", "bank", "required", "check", "words"), [s[1:] for s in SELECTIONS], ids=[s[0] for s in SELECTIONS]
)
def test_selections_that_are_refused(selections: list[bytes], bank: str, required: Any, check: str, words: str) -> None:
    with pytest.raises(SelectionError, match=words) as caught:
        quote_of(attest(selections=selections)).verify_selection(bank, required)
    assert caught.value.check == check


ACCEPTED: list[tuple[str, list[bytes], Any, tuple[int, ...]]] = [
    ("as required", [selection("sha256", [0, 7])], [7, 0], (0, 7)),
    ("more than required", [selection("sha256", range(24))], [7], tuple(range(24))),
    ("nothing required", [selection("sha256", [23])], None, (23,)),
    ("beside another bank", [selection("sha384", [1]), selection("sha256", [4])], [4], (4,)),
    ("beside empty ones", [selection("sha256", []), selection("sha256", [4]), selection("sha384", [])], [4], (4,)),
    ("a longer bitmap", [selection("sha256", [4], 32)], [4], (4,)),
    ("a shorter bitmap", [selection("sha256", [4], 1)], [4], (4,)),
]


@pytest.mark.parametrize(("selections", "required", "pcrs"), [a[1:] for a in ACCEPTED], ids=[a[0] for a in ACCEPTED])
def test_selections_that_are_accepted(selections: list[bytes], required: Any, pcrs: tuple[int, ...]) -> None:
    assert quote_of(attest(selections=selections)).verify_selection("sha256", required) == pcrs


def test_the_bank_sha1_by_its_name() -> None:
    quote = quote_of(attest(selections=[selection("sha1", [1])]))
    assert quote.verify_selection("sha1", None, unsafe_allow_sha1=True) == (1,)


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_pcr_digest(name: str) -> None:
    """The digest is by the hash of the signing scheme, whatever the bank (TPM 2.0 Part 3, 18.4)."""
    quote = quote_of(quoted({"sha256": {0: VALUES[0], 9: VALUES[9]}}, hash_name=name), name=name)
    quote.verify_pcr_digest({"sha256": VALUES})
    with pytest.raises(PcrDigestError) as caught:
        quote.verify_pcr_digest({"sha256": {**VALUES, 9: VALUES[8]}})
    assert caught.value.check == "pcr-digest"


def test_order_and_indices_come_from_the_attested_selection() -> None:
    """Values that are swapped, re-split or put under other indices are other values (A13)."""
    quote = HONEST
    quote.verify_pcr_digest({"sha256": dict(reversed(VALUES.items())), "sha1": {0: b"x"}})
    swapped = {**VALUES, 0: VALUES[1], 1: VALUES[0]}
    resplit = {**VALUES, 0: VALUES[0] + VALUES[1][:1], 1: VALUES[1][1:]}
    for values in (swapped, resplit, {**VALUES, 7: VALUES[7][:20]}, {i: VALUES[i] for i in range(7)}, {}):
        with pytest.raises(PcrDigestError) as caught:
            quote.verify_pcr_digest({"sha256": values})
        assert caught.value.check == "pcr-digest"
    with pytest.raises(PcrDigestError, match="no value for sha256 PCR 0"):
        quote.verify_pcr_digest({"sha1": VALUES})


def test_several_banks_in_the_order_of_the_quote() -> None:
    sha384 = {4: b"\4" * 48}
    for banks in ({"sha256": {0: VALUES[0]}, "sha384": sha384}, {"sha384": sha384, "sha256": {0: VALUES[0]}}):
        quote_of(quoted(banks)).verify_pcr_digest({"sha384": sha384, "sha256": VALUES})
    wrong = attest(
        selections=[selection("sha256", [0]), selection("sha384", [4])], digest=digest_of([sha384[4], VALUES[0]])
    )
    with pytest.raises(PcrDigestError, match="the register values hash to"):
        quote_of(wrong).verify_pcr_digest({"sha384": sha384, "sha256": VALUES})


def test_a_bank_whose_digest_size_is_not_known() -> None:
    quote = quote_of(attest(selections=[selection(0x99, [0])], digest=digest_of([b"abc"])))
    with pytest.raises(PcrDigestError, match="0x0099 PCR 0 is given with 3 bytes"):
        quote.verify_pcr_digest({"0x0099": {0: b"abc"}})


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33)])
def test_digests_of_other_lengths(digest: bytes) -> None:
    with pytest.raises(PcrDigestError):
        quote_of(attest(selections=[selection("sha256", [0])], digest=digest)).verify_pcr_digest({"sha256": VALUES})


def test_a_digest_by_a_hash_that_this_python_lacks() -> None:
    data = sign(AK, HONEST.attest)
    quote = Quote.from_bytes(HONEST.attest, data[:2] + b"\x00\x99" + data[4:])
    assert quote.hash == "0x0099"
    with pytest.raises(PcrDigestError, match="cannot compute 0x0099"):
        quote.verify_pcr_digest({"sha256": VALUES})


def test_all_refusals_are_evidence_errors() -> None:
    for kind in (NonceError, PcrDigestError, SelectionError, SignatureError):
        assert issubclass(kind, EvidenceError)
