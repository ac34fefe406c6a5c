"""The structures of quotes and keys: read, cut at every byte, with bytes left over, and lying about themselves."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, TruncatedError, UnsupportedError
from measlog.formats import tpm2
from measlog.formats.tpm2 import ClockInfo, PcrSelection
from tests.conftest import SHARED, shared_path
from tests.evidence import quotes

# TPMS_ATTEST by hand from TPM 2.0 Part 2, 10.12.12: two banks, PCR 0, 7 and 23 of sha256, nothing of sha1.
ATTEST = bytes.fromhex(
    "ff544347 8018 0003 aabbcc 0004 00112233 0000000000000102 00000003 00000004 01 0000000000000005"
    "00000002 000b 03 810080 0004 03 000000 0002 dddd"
)
READ = tpm2.Attest(
    qualified_signer=b"\xaa\xbb\xcc",
    extra_data=bytes.fromhex("00112233"),
    clock_info=ClockInfo(clock=0x102, reset_count=3, restart_count=4, safe=True),
    firmware_version=5,
    selections=(PcrSelection(algorithm="sha256", pcrs=(0, 7, 23)), PcrSelection(algorithm="sha1", pcrs=())),
    pcr_digest=b"\xdd\xdd",
)
RSA_AREA = bytes.fromhex(
    "0001 000b 00050072 0002 abcd 0010 0014 000b 0800 00000000 0003 c00001"  # type ... scheme RSASSA sha256, bits, exponent, n
)
ECC_AREA = bytes.fromhex("0023 000b 00050072 0000 0010 0018 000b 0003 0010 0001 05 0002 0607")
STORAGE_AREA = bytes.fromhex(
    "0001 000b 00030072 0000 0006 0080 0043 0010 0800 00010001 0001 c1"
)  # AES-128-CFB, no scheme


class Case(NamedTuple):
    name: str
    read: Callable[[bytes], Any]
    data: bytes
    record: object


CASES = [
    Case("TPMS_ATTEST", tpm2.parse_attest, ATTEST, READ),
    Case(
        "TPMT_SIGNATURE, RSASSA",
        tpm2.parse_signature,
        bytes.fromhex("0014 000b 0003 010203"),
        tpm2.SignatureBlob(scheme=0x14, hash=0xB, value=b"\1\2\3"),
    ),
    Case(
        "TPMT_SIGNATURE, RSAPSS",
        tpm2.parse_signature,
        bytes.fromhex("0016 000c 0000"),
        tpm2.SignatureBlob(scheme=0x16, hash=0xC, value=b""),
    ),
    Case(
        "TPMT_SIGNATURE, ECDSA",
        tpm2.parse_signature,
        bytes.fromhex("0018 000d 0002 0102 0003 000304"),
        tpm2.SignatureBlob(scheme=0x18, hash=0xD, r=0x102, s=0x304),
    ),
    Case(
        "TPM2B_PUBLIC, RSA",
        tpm2.parse_public,
        quotes.tpm2b(RSA_AREA),
        tpm2.PublicArea(
            raw=RSA_AREA, type=1, name_alg=0xB, attributes=0x50072, scheme=0x14, scheme_hash=0xB,
            rsa_modulus=0xC00001, rsa_exponent=65537,
        ),
    ),
    Case(
        "TPM2B_PUBLIC, ECC",
        tpm2.parse_public,
        quotes.tpm2b(ECC_AREA),
        tpm2.PublicArea(
            raw=ECC_AREA, type=0x23, name_alg=0xB, attributes=0x50072, scheme=0x18, scheme_hash=0xB, curve=3, x=5, y=0x607
        ),
    ),
    Case(
        "TPM2B_PUBLIC, storage key",
        tpm2.parse_public,
        quotes.tpm2b(STORAGE_AREA),
        tpm2.PublicArea(
            raw=STORAGE_AREA, type=1, name_alg=0xB, attributes=0x30072, scheme=0x10, scheme_hash=None,
            rsa_modulus=0xC1, rsa_exponent=0x10001,
        ),
    ),
    Case(
        "PCR file",
        tpm2.parse_pcr_file,
        quotes.pcr_file([(4, [1, 9]), (0xB, [0])], [b"a" * 20, b"b" * 20, b"c" * 32]),
        {"sha1": {1: b"a" * 20, 9: b"b" * 20}, "sha256": {0: b"c" * 32}},
    ),
    Case(
        "PCR file, more than one list",
        tpm2.parse_pcr_file,
        quotes.pcr_file([(0xB, range(10))], [bytes([i]) * 32 for i in range(10)]),
        {"sha256": {i: bytes([i]) * 32 for i in range(10)}},
    ),
    Case(
        "PCR file, unknown bank",
        tpm2.parse_pcr_file,
        quotes.pcr_file([(0x99, [2])], [b"any"]),
        {"0x0099": {2: b"any"}},
    ),
]  # fmt: skip
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@cases
def test_read(case: Case) -> None:
    assert case.read(case.data) == case.record


@cases
def test_cut_at_every_byte(case: Case) -> None:
    for cut in range(len(case.data)):
        with pytest.raises(FormatError):
            case.read(case.data[:cut])


@cases
def test_trailing_bytes(case: Case) -> None:
    with pytest.raises(FormatError):
        case.read(case.data + b"\0")


@cases
def test_every_byte_changed(case: Case) -> None:
    """Lengths, counts and tags that lie give a FormatError or another value, never anything else."""
    for at in range(len(case.data)):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            if case.data[at] != value:
                try:
                    record = case.read(case.data[:at] + bytes([value]) + case.data[at + 1 :])
                except FormatError:
                    continue
                # What stands in the unused parts of the register file says nothing.
                assert record != case.record or case.name.startswith("PCR file")


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for case in CASES:
        for start in (b"", case.data[:6], case.data[: len(case.data) // 2]):
            try:
                case.read(start + data)
            except FormatError as error:
                assert str(error)  # noqa: PT017 - anything else fails the test


REFUSED: list[tuple[str, Callable[[bytes], Any], bytes, type[FormatError], str]] = [
    ("empty quote", tpm2.parse_attest, b"", TruncatedError, "quote: the 0 bytes end inside magic"),
    ("magic of TPM2_Sign", tpm2.parse_attest, quotes.attest(magic=0xFF544348), UnsupportedError, "0xff544348"),
    ("magic zero", tpm2.parse_attest, bytes(80), UnsupportedError, "0x00000000"),
    ("certify", tpm2.parse_attest, quotes.attest(kind=0x8017), UnsupportedError, "type 0x8017 is not a quote"),
    ("time", tpm2.parse_attest, quotes.attest(kind=0x8019), UnsupportedError, "type 0x8019 is not a quote"),
    ("TPM 1.2", tpm2.parse_attest, b"\1\1\0\0QUOT" + bytes(40), UnsupportedError, "TPM 1.2 quote"),
    ("safe is 2", tpm2.parse_attest, quotes.attest(safe=2), FormatError, "TPMI_YES_NO is 2"),
    ("17 selections", tpm2.parse_attest, quotes.attest(selections=[quotes.selection("sha256", [0])] * 17), FormatError, "quote.attested.pcrSelect"),
    ("2^32-1 selections", tpm2.parse_attest, quotes.attest(count=0xFFFFFFFF), FormatError, "quote.attested.pcrSelect"),
    ("selection of 33 bytes", tpm2.parse_attest, quotes.attest(selections=[quotes.selection("sha256", [0], 33)]), FormatError, "bitmap of 33 bytes"),
    ("HMAC", tpm2.parse_signature, bytes.fromhex("0005 000b") + bytes(32), UnsupportedError, "scheme 0x0005"),
    ("null signature", tpm2.parse_signature, bytes.fromhex("0010"), UnsupportedError, "scheme 0x0010"),
    ("ECDAA", tpm2.parse_signature, bytes.fromhex("001a 000b 0000 0000"), UnsupportedError, "scheme 0x001a"),
    ("keyed hash", tpm2.parse_public, quotes.tpm2b(bytes.fromhex("0008 000b") + bytes(20)), UnsupportedError, "key type 0x0008"),
    ("symmetric key", tpm2.parse_public, quotes.tpm2b(bytes.fromhex("0025 000b") + bytes(20)), UnsupportedError, "key type 0x0025"),
    ("bytes in the area", tpm2.parse_public, quotes.tpm2b(RSA_AREA + b"\0"), FormatError, "1 bytes are left over"),
    ("PCR file: 17 selections", tpm2.parse_pcr_file, quotes.pcr_file([], [], count=17), FormatError, "17 selections"),
    ("PCR file: more lists", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0])], [bytes(32)], lists=2), FormatError, "2 lists"),
    ("PCR file: 2^32-1 lists", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0])], [bytes(32)], lists=0xFFFFFFFF), FormatError, "4294967295 lists"),
    ("PCR file: no list", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0])], []), FormatError, "sha256 PCR 0"),
    ("PCR file: 9 in a list", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0])], [bytes(32)], in_list=9), FormatError, "says more than it holds"),
    ("PCR file: none in a list", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0])], [bytes(32)], in_list=0), FormatError, "sha256 PCR 0"),
    ("PCR file: more values", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0])], [bytes(32)] * 2), FormatError, "more values than"),
    ("PCR file: fewer values", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0, 1])], [bytes(32)]), FormatError, "sha256 PCR 1"),
    ("PCR file: short value", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0])], [bytes(20)]), FormatError, "sha256 PCR 0"),
    ("PCR file: re-split", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0, 1])], [bytes(31), bytes(33)]), FormatError, "sha256 PCR 0"),
    ("PCR file: bank twice", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0]), (0xB, [1])], [bytes(32)] * 2), FormatError, "selected twice"),
    ("PCR file: 5 bytes of bitmap", tpm2.parse_pcr_file, quotes.pcr_file([(0xB, [0])], [bytes(32)], select=5), FormatError, "bitmap of 5 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "data", "kind", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(read: Callable[[bytes], Any], data: bytes, kind: type[FormatError], words: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(data)
    assert type(caught.value) is kind
    assert words in str(caught.value)


def test_a_value_that_says_it_is_longer_than_its_buffer() -> None:
    data = bytearray(quotes.pcr_file([(0x99, [0])], [bytes(32)]))
    at = len(data) - 8 * 66
    assert data[at : at + 2] == struct.pack("<H", 32)
    data[at : at + 2] = struct.pack("<H", 65)
    with pytest.raises(FormatError, match="says more than it holds"):
        tpm2.parse_pcr_file(bytes(data))


CAPTURES = sorted(path.parent.name for path in SHARED.glob("flatcar/captures/*/quote.msg"))


@pytest.mark.parametrize("name", CAPTURES)
def test_files_of_real_tpms(name: str) -> None:
    """The nonce and the registers are what was written down beside the quote when it was made."""
    folder = shared_path("flatcar", "captures", name)
    nonce = bytes.fromhex((folder / "nonce.txt").read_text())
    read: dict[str, dict[int, bytes]] = {}
    for line in (folder / "pcrs.txt").read_text().splitlines():
        _, bank, index, value = line.split()
        read.setdefault(bank, {})[int(index)] = bytes.fromhex(value)
    for stem in ("quote", "quote-rsa"):
        attest = tpm2.parse_attest((folder / f"{stem}.msg").read_bytes())
        assert attest.extra_data == nonce
        assert attest.selections == (PcrSelection(algorithm="sha256", pcrs=tuple(range(15))),)
        assert attest.pcr_digest == quotes.digest_of([read["sha256"][i] for i in range(15)])
    file = tpm2.parse_pcr_file((folder / "quote.pcrs").read_bytes())
    assert file == {"sha256": {i: read["sha256"][i] for i in range(15)}}
    key = load_pem_public_key((folder / "ak-rsa.pub").read_bytes())
    assert isinstance(key, rsa.RSAPublicKey)
    assert len(tpm2.parse_signature((folder / "quote-rsa.sig").read_bytes()).value) == key.key_size // 8
