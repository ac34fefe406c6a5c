"""go-attestation's dump: verified as evidence, TPM 1.2 refused by name, what it says about itself checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import measlog as ml
from measlog.errors import EvidenceError, FormatError, LimitExceededError, NonceError, SelectionError, UnsupportedError
from measlog.interop.goattestation import AttestToolDump
from measlog.interop.jsontext import parse_object
from tests.conftest import shared_path
from tests.evidence import machines, quotes
from tests.interop.gomessages import dump, encoded, text


def shared_dump(name: str) -> bytes:
    return shared_path("corpus", "dumps", f"{name}.json").read_bytes()


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
def test_a_dump_verifies(bank: str) -> None:
    read = AttestToolDump.from_json(encoded(dump(bank)))
    assert (read.quoted.bank, read.nonce) == (bank, machines.NONCE)
    verified = read.evidence().verify(ak=read.ak_public, nonce=read.nonce, bank=bank, unsafe_allow_sha1=bank == "sha1")
    assert verified.values == machines.registers(machines.log_bytes(), bank)


def test_a_real_dump_is_signed_by_its_key_and_answers_nobodys_nonce() -> None:
    """A Windows machine of Google Cloud; its vTPM signed these registers, in SHA-1 and for an empty nonce."""
    read = AttestToolDump.from_json(shared_dump("windows_gcp_shielded_vm"))
    quote, key = read.quoted.quote, ml.AttestationKey.load(read.ak_public)
    assert (key.missing_attributes(), read.nonce, quote.nonce) == ((), b"", b"")
    key.verify(quote.blob, quote.attest, unsafe_allow_sha1=True)
    quote.verify_pcr_digest({"sha1": read.quoted.pcrs})
    # PCR 0 to 7 and those of Windows; the values are those of the TPM, the replay is ours.
    log = read.log.replay("sha1")
    assert {pcr: log[pcr] for pcr in (0, 4, 5, 7, 11, 12, 13, 14)} == {
        pcr: read.quoted.pcrs[pcr] for pcr in (0, 4, 5, 7, 11, 12, 13, 14)
    }
    with pytest.raises(ml.EvidenceError, match="sha1, which is not accepted"):
        read.evidence().verify(ak=key, nonce=b"", bank="sha1")
    for nonce in (b"", b"some"):
        with pytest.raises(NonceError):
            read.evidence().verify(ak=key, nonce=nonce, bank="sha1", unsafe_allow_sha1=True)


def test_a_tpm_1_2_is_refused_by_name() -> None:
    raw = shared_dump("linux_tpm12")
    with pytest.raises(UnsupportedError, match=r"TPM 1\.2.*TPM_QUOTE_INFO"):
        AttestToolDump.from_json(raw)
    # Called a TPM 2.0, it is known by the structure that it signed.
    document = json.loads(raw)
    document["Static"]["TPMVersion"] = 2
    with pytest.raises(UnsupportedError, match=r"TPM 1\.2 quote"):
        AttestToolDump.from_json(encoded(document))


def test_sha1_is_verified_only_when_asked_for_by_name() -> None:
    read = AttestToolDump.from_json(encoded(dump("sha1")))
    with pytest.raises(SelectionError, match="sha1 is not accepted"):
        read.evidence().verify(ak=read.ak_public, nonce=machines.NONCE, bank="sha1")


def test_values_and_log_are_checked_against_what_was_signed() -> None:
    document = dump()
    document["Log"]["PCRs"][3]["Digest"] = text(bytes(32))
    read = AttestToolDump.from_json(encoded(document))
    with pytest.raises(EvidenceError, match="hash to"):
        read.evidence().verify(ak=read.ak_public, nonce=machines.NONCE)
    document = dump()
    other = machines.log_bytes(extra=[machines.event(4, 99, ("sha1", "sha256", "sha384"))])
    document["Log"]["Raw"] = text(other)
    read = AttestToolDump.from_json(encoded(document))
    with pytest.raises(EvidenceError, match="PCR 4"):
        read.evidence().verify(ak=read.ak_public, nonce=machines.NONCE)


Change = Callable[[dict[str, Any]], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "no Static": (lambda d: d.pop("Static"), "Static: expected an object"),
    "TPM 3": (lambda d: d["Static"].update(TPMVersion=3), "TPM version 3"),
    "TPM true": (lambda d: d["Static"].update(TPMVersion=True), "TPM version True"),
    "no base64": (lambda d: d["Quote"].update(Quote="a b"), "Quote.Quote: expected base64"),
    "URL-safe base64": (lambda d: d["Quote"].update(Signature="ab-_"), "Quote.Signature: expected base64"),
    "no log": (lambda d: d["Log"].update(Raw=None), "Log.Raw: expected base64"),
    "no log in the log": (lambda d: d["Log"].update(Raw=text(b"x" * 40)), "Log.Raw"),
    "no registers": (lambda d: d["Log"].update(PCRs=[]), "Log.PCRs: expected a list"),
    "25 registers": (lambda d: d["Log"].update(PCRs=d["Log"]["PCRs"] * 4), "Log.PCRs: expected a list"),
    "a register twice": (lambda d: d["Log"]["PCRs"].append(d["Log"]["PCRs"][0]), "register 0 is there twice"),
    "a register too few": (lambda d: d["Log"]["PCRs"].pop(), "PCR 7 has no value"),
    "register 24": (lambda d: d["Log"]["PCRs"][0].update(Index=24), "PCRs[0].Index"),
    "register true": (lambda d: d["Log"]["PCRs"][1].update(Index=True), "PCRs[1].Index"),
    "a register that is none": (lambda d: d["Log"]["PCRs"].append(5), "PCRs[8]: expected an object"),
    "an unknown hash": (lambda d: d["Log"]["PCRs"][2].update(DigestAlg=2), "PCRs[2].DigestAlg"),
    "mixed banks": (lambda d: d["Log"]["PCRs"][2].update(DigestAlg=3), "several banks"),
    "another bank": (lambda d: [p.update(DigestAlg=3) for p in d["Log"]["PCRs"]], "values of sha1 beside"),
    "another algorithm": (lambda d: d["Quote"].update(Alg=4), "the dump says algorithm 4"),
    "a short value": (lambda d: d["Log"]["PCRs"][2].update(Digest=text(bytes(20))), "given with 20 bytes"),
    "a key too long": (lambda d: d["AK"].update(Public=text(bytes(70_000))), "public area of 70000 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_dump_must_not_say_is_refused_with_its_place(name: str) -> None:
    change, said = REFUSED[name]
    document = dump()
    change(document)
    with pytest.raises(FormatError) as caught:
        AttestToolDump.from_json(encoded(document))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\xff", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": "\\ud800"}', "a lone surrogate"),
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b'{"a":' * 20 + b"1" + b"}" * 20, "nested deeper than 16"),
        (b'{"a":' * 100_000, "nested deeper than 16"),
        (b'{"a": ' + b"1" * 5000 + b"}", "out of range"),
        (b" " * 600_000, "the most is 500000"),
    ],
)
def test_json_is_bounded(raw: bytes, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_object(raw, size=500_000)
    assert said in str(caught.value)
    assert isinstance(caught.value, LimitExceededError) == any(w in said for w in ("nested", "range", "most"))


def test_the_key_of_a_dump_proves_nothing_by_itself() -> None:
    document = dump()
    document["AK"]["Public"] = text(quotes.public(quotes.ecc_key("other"))[2:])
    read = AttestToolDump.from_json(encoded(document))
    with pytest.raises(EvidenceError):
        read.evidence().verify(ak=read.ak_public, nonce=machines.NONCE)
