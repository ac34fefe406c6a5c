"""Authenticode signatures: those of Debian and Microsoft, our own made by sbsign, and changed ones."""

from __future__ import annotations

import re
import struct
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError
from measlog.formats.der import DerElement, children, element, object_identifier
from measlog.formats.pecoff import PeImage
from measlog.reference.authenticode import authenticode_digests
from measlog.reference.manifest import Signer
from measlog.reference.signers import image_signers
from tests.flatcar.images import tool
from tests.formats.pe_maker import make_pe, patch
from tests.reference.test_authenticode import debian_file


def signers(data: bytes) -> tuple[Signer, ...]:
    return image_signers(data, PeImage.from_bytes(data), authenticode_digests(data))


@pytest.mark.parametrize("name", ["shim", "MokManager", "GRUB", "kernel"])
def test_the_signers_are_those_that_sbverify_lists(name: str) -> None:
    path = debian_file(name)
    said = subprocess.run([tool("sbverify"), "--list", path], capture_output=True, text=True, check=False, timeout=60)
    subjects = re.findall(
        r"signature \d+\nimage signature issuers:\n(?: - .*\n)+image signature certificates:\n - subject: (.*)",
        said.stdout,
    )
    found = signers(path.read_bytes())
    assert [one.verified for one in found] == ["yes"] * len(found)
    names = [re.search(r"CN=([^,]+)", one.chain[0].subject) for one in found]
    assert [match[1] for match in names if match] == [
        match[1] for subject in subjects if (match := re.search(r"CN ?= ?([^,/\n]+)", subject))
    ]
    assert len(found) >= 1


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, x509.Certificate]:
    """A hand-made program signed by sbsign with a key of openssl, and the certificate."""
    folder = tmp_path_factory.mktemp("signed")
    sbsign, openssl = tool("sbsign"), tool("openssl")
    subject = "/CN=measlog test/O=Example"
    words = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-days", "3650"]
    subprocess.run([*words, "-keyout", "key", "-out", "cert"], cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "program").write_bytes(make_pe([(b".text", b"t" * 0x200), (b".data", b"d" * 0x200)]))
    line = [sbsign, "--key", "key", "--cert", "cert", "--output", "out", "program"]
    subprocess.run(line, cwd=folder, check=True, capture_output=True, timeout=60)
    read = x509.load_pem_x509_certificate((folder / "cert").read_bytes())
    return (folder / "out").read_bytes(), read


def test_a_program_that_sbsign_signed(signed: tuple[bytes, x509.Certificate]) -> None:
    data, certificate = signed
    (one,) = signers(data)
    assert (one.algorithm, one.verified) == ("sha256", "yes")
    (leaf,) = one.chain
    assert leaf.sha256 == certificate.fingerprint(hashes.SHA256())
    assert leaf.subject == leaf.issuer == "O=Example,CN=measlog test"


def test_two_signatures_are_two_signers(signed: tuple[bytes, x509.Certificate]) -> None:
    data, _ = signed
    image = PeImage.from_bytes(data)
    start, size = image.certificate_table
    entry = image.security_entry
    assert entry is not None
    twice = patch(data, entry + 4, struct.pack("<I", 2 * size)) + data[start:]
    assert len(signers(twice)) == 2


def test_an_unsigned_program_has_no_signers() -> None:
    assert signers(make_pe([(b".text", b"t")])) == ()


def test_a_program_changed_after_it_was_signed_is_refused(signed: tuple[bytes, x509.Certificate]) -> None:
    data, _ = signed
    with pytest.raises(FormatError, match="is about a program with sha256 digest"):
        signers(patch(data, 0x410, b"!"))


def test_every_part_of_the_signature_counts(signed: tuple[bytes, x509.Certificate]) -> None:
    data, certificate = signed
    start, _ = PeImage.from_bytes(data).certificate_table
    held = data.index(certificate.public_bytes(Encoding.DER))
    attributes = data.index(bytes.fromhex("06092a864886f70d010904"))  # messageDigest
    for place, message in (
        (attributes + 15, "do not contain the digest"),
        (len(data) - 40, "does not verify"),
        (start + 9, "length|bytes where|signed data|cut off"),
        (held + 20, "certificate"),
        # a0 03 02 01 02: version 3 becomes one that X.509 does not have
        (data.index(bytes.fromhex("a003020102"), held) + 4, "certificate"),
    ):
        with pytest.raises(FormatError, match=message):
            signers(patch(data, place, bytes([data[place] ^ 0x15])))


def test_any_change_of_the_signature_is_refused_or_changes_nobody(signed: tuple[bytes, x509.Certificate]) -> None:
    data, certificate = signed
    start, size = PeImage.from_bytes(data).certificate_table
    expected = signers(data)
    # Who vouches for the certificate is the platform's to judge, so its own signature is not looked at.
    der = certificate.public_bytes(Encoding.DER)
    held = range(data.index(der), data.index(der) + len(der))

    @given(st.integers(start + 8, start + size - 1), st.integers(1, 255))
    def changed(place: int, change: int) -> None:
        try:
            found = signers(patch(data, place, bytes([data[place] ^ change])))
        except FormatError:
            return
        assert place in held or [one.chain for one in found if one.verified == "yes"] in (
            [one.chain for one in expected],
            [],
        )

    changed()


@given(st.binary(max_size=300))
def test_any_bytes_are_elements_or_a_format_error(data: bytes) -> None:
    pending = [data]
    while pending:
        try:
            found = element(pending.pop())
            pending += [one.encoding for one in children(found)]
        except FormatError:
            continue


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (b"\x30\x84\xff\xff\xff\xff", "4294967295 bytes where 0"),
        (b"\x30\x80", "length of 0"),
        (b"\x30\x89" + bytes(20), "length of 9"),
        (b"\x30\x82\x01", "length is cut"),
        (b"\x3f\x01\x00", "several octets"),
    ],
)
def test_a_length_that_lies_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        element(data)


def test_more_elements_than_the_limit_are_refused() -> None:
    parent = DerElement(tag=0x30, content=b"\x05\0" * 300, encoding=b"", offset=0)
    with pytest.raises(FormatError, match="more than 256"):
        children(parent)


def test_object_identifiers_are_those_of_x690() -> None:
    # X.690, clause 8.19.5: { 2 999 3 } is 06 03 88 37 03.
    assert object_identifier(element(bytes.fromhex("0603883703"))) == "2.999.3"
    assert object_identifier(element(bytes.fromhex("06092a864886f70d010702"))) == "1.2.840.113549.1.7.2"
    for wrong in ("0600", "060188", "040101"):
        with pytest.raises(FormatError):
            object_identifier(element(bytes.fromhex(wrong)))
