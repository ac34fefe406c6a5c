"""go-tdx-guest's QuoteV4: put together it is the quote that it was taken apart from, byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from measlog.errors import FormatError, UnsupportedError
from measlog.evidence.tdx import TdxQuote
from measlog.interop.gotdx import raw_quote
from measlog.interop.gotpmtools import GoTpmToolsAttestation
from tests.conftest import shared_path
from tests.evidence import tdx_maker
from tests.interop.gomessages import attestation, field

# Offsets and sizes of a quote of version 4, from Intel's appendix A.3; field numbers from tdx.proto.
BODY = (16, 48, 48, 8, 8, 8, 48, 48, 48, 48)
ENCLAVE = (16, 4, 28, 16, 32, 32, 32, 96, 2, 2, 60, 64)


def cut(data: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    made, place = [], 0
    for size in sizes:
        made.append(data[place : place + size])
        place += size
    return made


def fields(values: dict[int, Any]) -> bytes:
    """A message; integers at their default are left out, as proto3 does."""
    items = (
        (number, one) for number, value in values.items() for one in (value if isinstance(value, list) else [value])
    )
    return b"".join(field(number, value) for number, value in items if value != 0)


def parts(quote: bytes) -> dict[str, Any]:
    """What go-tdx-guest's QuoteToProto makes of a quote, taken apart by offsets alone."""
    length = struct.unpack_from("<I", quote, 632)[0]
    signed = quote[636 : 636 + length]
    outer_type, outer_size = struct.unpack_from("<HI", signed, 128)
    qe = signed[134:]
    auth_size = struct.unpack_from("<H", qe, 448)[0]
    chain_at = 450 + auth_size
    chain_type, chain_size = struct.unpack_from("<HI", qe, chain_at)
    enclave: dict[int, Any] = dict(enumerate(cut(qe[:384], ENCLAVE), 1))
    for number in (2, 9, 10):
        enclave[number] = int.from_bytes(enclave[number], "little")
    version, key_type, tee = struct.unpack_from("<HHI", quote, 0)
    return {
        "header": {1: version, 2: key_type, 3: tee, 4: quote[10:12], 5: quote[8:10], 6: quote[12:28], 7: quote[28:48]},
        "body": {**dict(enumerate(cut(quote[48:], BODY), 1)), 11: cut(quote[376:], (48,) * 4), 12: quote[568:632]},
        "size": length,
        "signed": {1: signed[:64], 2: signed[64:128]},
        "certification": {1: outer_type, 2: outer_size},
        "enclave": enclave,
        "qe": {2: qe[384:448]},
        "auth": {1: auth_size, 2: qe[450:chain_at]},
        "chain": {1: chain_type, 2: chain_size, 3: qe[chain_at + 6 : chain_at + 6 + chain_size]},
        "extra": quote[636 + length :],
    }


def message(made: dict[str, Any]) -> bytes:
    qe = fields({1: fields(made["enclave"]), **made["qe"], 3: fields(made["auth"]), 4: fields(made["chain"])})
    certification = fields({**made["certification"], 3: qe})
    signed = fields({**made["signed"], 3: certification})
    return fields({1: fields(made["header"]), 2: fields(made["body"]), 3: made["size"], 4: signed, 5: made["extra"]})


def test_a_real_quote_comes_back_byte_for_byte() -> None:
    quote = shared_path("corpus", "other", "tdx-quote.bin").read_bytes()
    assert raw_quote(message(parts(quote))) == quote[: 636 + struct.unpack_from("<I", quote, 632)[0]]


def test_a_made_quote_comes_back_and_verifies() -> None:
    quote = tdx_maker.quote()
    assert raw_quote(message(parts(quote))) == quote
    read = GoTpmToolsAttestation.from_bytes(attestation(tail=field(9, message(parts(quote)))))
    assert read.tee is not None
    verified = read.tee.tdx_quote().verify(
        report_data=tdx_maker.REPORT_DATA,
        roots=tdx_maker.pem(tdx_maker.root()),
        now=tdx_maker.NOW,
        qe_signers=[tdx_maker.QE_SIGNER],
    )
    assert verified.quote == TdxQuote.from_bytes(quote)


def test_an_attestation_of_sev_snp_is_not_read() -> None:
    read = GoTpmToolsAttestation.from_bytes(attestation(tail=field(8, b"report"))).tee
    assert read is not None
    with pytest.raises(UnsupportedError, match="SEV-SNP"):
        read.tdx_quote()
    broken = GoTpmToolsAttestation.from_bytes(attestation(tail=field(9, b""))).tee
    assert broken is not None
    with pytest.raises(FormatError, match=r"tdx_attestation.*missing"):
        broken.tdx_quote()


Change = Callable[[dict[str, Any]], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "another length": (lambda p: p.update(size=5), "signed_data_size: says 5"),
    "another length of the chain": (lambda p: p["chain"].update({2: 5}), "pck_certificate_chain_data.size: says 5"),
    "another length of the rest": (lambda p: p["certification"].update({2: 5}), "certification_data.size: says 5"),
    "another length of the data": (lambda p: p["auth"].update({1: 5}), "qe_auth_data.parsed_data_size: says 5"),
    "a short signature": (lambda p: p["signed"].update({1: bytes(63)}), "63 bytes instead of 64"),
    "a short key": (lambda p: p["signed"].update({2: bytes(63)}), "ecdsa_attestation_key: 63 bytes"),
    "no key": (lambda p: p["signed"].pop(2), "ecdsa_attestation_key: is missing"),
    "a short register": (lambda p: p["body"].update({7: bytes(47)}), "td_quote_body.mr_td: 47 bytes instead of 48"),
    "no register": (lambda p: p["body"].pop(7), "td_quote_body.mr_td: 0 bytes instead of 48"),
    "three RTMRs": (lambda p: p["body"].update({11: [bytes(48)] * 3}), "3 registers instead of 4"),
    "a short RTMR": (lambda p: p["body"].update({11: [bytes(48)] * 3 + [b""]}), "rtmrs: 0 bytes instead of 48"),
    "a register twice": (lambda p: p["body"].update({7: [bytes(48)] * 2}), "there twice"),
    "a large version": (lambda p: p["header"].update({1: 1 << 16}), "header.version: 65536 needs more than 2 bytes"),
    "a number for bytes": (lambda p: p["header"].update({6: 5}), "wire type is VARINT"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_quote_can_be_made_of_is_refused_with_its_place(name: str) -> None:
    change, said = REFUSED[name]
    made = parts(tdx_maker.quote())
    change(made)
    with pytest.raises(FormatError) as caught:
        raw_quote(message(made))
    assert said in str(caught.value)
