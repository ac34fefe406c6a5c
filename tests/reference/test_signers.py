"""Authenticode signatures: those of Debian and Microsoft, our own made by sbsign, and changed ones."""

from __future__ import annotations

import re
import struct
import subprocess
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
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


# What follows is put together by hand from RFC 2315, clause 9, and the Authenticode specification's SpcIndirectDataContent.
SIGNED_DATA, SPC_INDIRECT_DATA = "06092a864886f70d010702", "060a2b060104018237020104"
SPC_PE_IMAGE = "060a2b060104018237020115"
SHA256, MD5 = "0609608648016503040201", "06082a864886f70d0205"


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([len(content)]) if len(content) < 0x80 else bytes([0x80 | len(size)]) + size) + content


def h(text: str) -> bytes:
    return bytes.fromhex(text)


PROGRAM = make_pe([(b".text", b"t" * 0x200)])
DIGEST = authenticode_digests(PROGRAM)["sha256"]
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def issued(subject: str, key: Key, issuer: str, signer: Key) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in (subject, issuer)]
    made = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).serial_number(len(subject) + 5)
    made = made.public_key(key.public_key())
    made = made.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
    return made.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


EC_KEY, ED_KEY = ec.derive_private_key(7, ec.SECP256R1()), ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
EC_LEAF, ED_LEAF = (issued("leaf", key, "leaf", key) for key in (EC_KEY, ED_KEY))


def signature(
    *,
    key: Key = EC_KEY,
    certificates: tuple[x509.Certificate, ...] = (EC_LEAF,),
    outer: str = SIGNED_DATA,
    about: str = SPC_INDIRECT_DATA,
    digest_algorithm: str = SHA256,
    digest: bytes = DIGEST,
    infos: int = 1,
    with_certificates: bool = True,
    info_parts: int | None = None,
    last: int = 0x04,
) -> bytes:
    """A signature without signed attributes: RFC 2315, 9.3, it is then made over the content itself."""
    inside = der(0x30, h(SPC_PE_IMAGE), der(0x30)) + der(
        0x30, der(0x30, h(digest_algorithm), h("0500")), der(0x04, digest)
    )
    made = (
        key.sign(inside) if isinstance(key, ed25519.Ed25519PrivateKey) else key.sign(inside, ec.ECDSA(hashes.SHA256()))
    )
    leaf = certificates[0]
    serial = der(0x02, leaf.serial_number.to_bytes(1, "big"))
    algorithm = der(0x30, h(SHA256), h("0500"))
    parts = [h("020101"), der(0x30, leaf.issuer.public_bytes(), serial), algorithm, algorithm, der(last, made)]
    info = der(0x30, *parts[:info_parts])
    data = [h("020101"), der(0x31, algorithm), der(0x30, h(about), der(0xA0, der(0x30, inside)))]
    if with_certificates:
        data.append(der(0xA0, *(one.public_bytes(Encoding.DER) for one in certificates)))
    if infos:
        data.append(der(0x31, *[info] * infos))
    return der(0x30, h(outer), der(0xA0, der(0x30, *data)))


def with_signature(raw: bytes, kind: int = 2) -> bytes:
    """The program with a WIN_CERTIFICATE (PE format, "The Attribute Certificate Table"), padded to 8 bytes."""
    size = len(raw) + 8
    table = struct.pack("<IHH", size, 0x0200, kind) + raw + bytes(-size % 8)
    return make_pe([(b".text", b"t" * 0x200)], certificates=table)


def test_a_signature_over_the_content_itself_verifies() -> None:
    (one,) = signers(with_signature(signature()))
    assert (one.algorithm, one.verified, len(one.chain)) == ("sha256", "yes", 1)
    other = ec.derive_private_key(8, ec.SECP256R1())
    with pytest.raises(FormatError, match="does not verify with its certificate"):
        signers(with_signature(signature(key=other)))


def test_a_signature_of_a_kind_that_is_not_checked_is_never_called_verified() -> None:
    (one,) = signers(with_signature(signature(key=ED_KEY, certificates=(ED_LEAF,))))
    assert one.verified == "unsupported"


def test_a_certificate_table_may_hold_other_things_than_signatures() -> None:
    # PE format: WIN_CERT_TYPE_X509 is 1 and "not supported", 2 is PKCS #7.
    assert signers(with_signature(signature(), kind=1)) == ()


def test_the_chain_ends_where_a_manifest_has_no_more_room() -> None:
    names = [f"n{number}" for number in range(20)]
    certificates = tuple(issued(name, EC_KEY, issuer, EC_KEY) for name, issuer in pairwise(names))
    (one,) = signers(with_signature(signature(certificates=certificates)))
    assert [c.subject for c in one.chain] == [f"CN={name}" for name in names[:16]]


WRONG: dict[str, tuple[bytes, str]] = {
    "bytes after it": (signature() + b"\0\0\0\1", r"certificates\[0\].*data after the signature"),
    "enveloped data": (signature(outer="06092a864886f70d010703"), "no PKCS #7 signed data"),
    "about a text": (signature(about="06092a864886f70d010701"), "not about a program"),
    "neither certificates nor signers": (signature(infos=0, with_certificates=False), "signed data of 3 parts"),
    "no signer": (signature(infos=0), "signed data without its signers"),
    "two signers": (signature(infos=2), "2 signers of one signature"),
    "a signer cut off": (signature(info_parts=4), "signer info of 4 parts"),
    "a signature that is a number": (signature(last=0x02), "signer info without a signature"),
    "an MD5 digest": (signature(digest_algorithm=MD5, digest=bytes(16)), "a digest of a kind that is not read"),
    "another program's": (signature(digest=bytes(32)), "about a program with sha256 digest 0000"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_signature_that_is_not_what_authenticode_says_is_refused(name: str) -> None:
    raw, message = WRONG[name]
    with pytest.raises(FormatError, match=message):
        signers(with_signature(raw))
