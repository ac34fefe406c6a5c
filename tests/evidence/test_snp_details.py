"""Details of SEV-SNP reports: bounds that the standards give, forged names, and what refusals say."""

from __future__ import annotations

import datetime as dt

import pytest

from measlog.errors import FormatError, KeyTrustError
from measlog.evidence.snp import SnpReport, VerifiedSnpReport
from tests.evidence.snp_maker import REPORT_DATA, ark, ask, certificate, pem, report, rsa_key, vcek
from tests.evidence.test_snp import REFUSED, verify

SAID: dict[str, tuple[str, ...]] = {
    "the report data to compare with must be 64 bytes, not all zero": ("a short challenge", "no challenge"),
    f"the report answers {REPORT_DATA.hex()}, not {'00' * 63}01": ("another challenge",),
    "the report is not signed by a VCEK, but by key 1": ("a cloud's key",),
    "the report is not signed by a VCEK, but by key 7": ("unsigned",),
    "1 certificates, not those of the chip and of what signed it": ("no intermediate",),
    "4 certificates, not those of the chip and of what signed it": ("too many",),
    "the certificate chain does not end in a given root": (
        "another root", "a root of another name", "an EC root", "a stranger's intermediate", "another padding",
    ),
    "the certificate is not signed by the one behind it": ("a stranger's chip",),
    "a certificate of the chain is not valid at this time": ("too late", "too early", "an expired intermediate"),
    "a certificate of the chain is not for certifying others": (
        "an intermediate that is no CA", "an intermediate for signing", "a root for leaves alone",
    ),
    "the certificate's key is not on P-384": ("an RSA key", "P-256"),
    "the certificate lacks the extension 1.3.6.1.4.1.3704.1.2": ("no product",),
    "the certificate lacks the extension 1.3.6.1.4.1.3704.1.4": ("no chip",),
    "the certificate lacks the extension 1.3.6.1.4.1.3704.1.3.3": ("no version",),
    "the certificate is for the product 'Turin', which is not known": ("an unknown product",),
    "the extension 1.3.6.1.4.1.3704.1.4 of the certificate cannot be read": ("half a chip",),
    "the extension 1.3.6.1.4.1.3704.1.3.3 of the certificate cannot be read": (
        "a version of another type", "a version cut short", "an empty version", "a version too long",
    ),
    "the certificate is for another chip": ("another chip",),
    "the certificate is for other versions of the firmware": ("another boot loader", "another microcode"),
    "the signature of the report does not verify": ("another key", "no signature", "another guest"),
    "the report was asked for from VMPL 2, not 0": ("less privileged software",),
    "the report was asked for from VMPL 0, not 1": ("more privileged software",),
    "the guest can be debugged": ("a debugged guest",),
}  # fmt: skip


@pytest.mark.parametrize(("sentence", "name"), [(said, name) for said, names in SAID.items() for name in names])
def test_a_refusal_says_what_is_wrong(sentence: str, name: str) -> None:
    raw, options, _, kind = REFUSED[name]
    with pytest.raises(kind) as caught:
        verify(raw, **options)
    assert str(caught.value) == sentence


def test_a_key_that_cannot_be_read_says_why() -> None:
    raw, options, _, kind = REFUSED["an unreadable key"]
    with pytest.raises(kind, match=r"^the certificate's key cannot be read: .*1\.3\.132\.0\.127"):
        verify(raw, **options)


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"chain": b"?"}, "certificates: the certificate chain of the report cannot be read: "),
        ({"roots": b"?"}, "certificates: the roots cannot be read: "),
    ],
)
def test_which_certificates_cannot_be_read_is_said(options: dict[str, bytes], start: str) -> None:
    with pytest.raises(FormatError) as caught:
        verify(report(), **options)
    assert str(caught.value).startswith(start)


def test_certificates_are_valid_through_both_ends_of_their_time() -> None:
    """RFC 5280, 4.1.2.5: from notBefore through notAfter, inclusive."""
    first, last = ark().not_valid_before_utc, ark().not_valid_after_utc
    assert (last - first).days == 31
    second = dt.timedelta(seconds=1)
    for moment in (first, last):
        assert verify(report(), now=moment).fields.vmpl == 0
    for moment in (first - second, last + second):
        with pytest.raises(KeyTrustError, match="not valid at this time"):
            verify(report(), now=moment)


def test_a_root_may_bound_what_is_below_it_to_one_intermediate() -> None:
    """RFC 5280, 4.2.1.9: the leaf is not counted."""
    root = certificate("ARK", "ARK", path_length=1)
    assert verify(report(), roots=pem(root)).fields.vmpl == 0


def test_the_key_of_a_root_under_another_name_is_no_root() -> None:
    """The chain goes by names as well as by signatures: this certificate says nothing of the issuer's name."""
    renamed = certificate("Root", "ARK", public=rsa_key("ARK").public_key())
    with pytest.raises(KeyTrustError, match="does not end in a given root"):
        verify(report(), roots=pem(renamed))
    other = certificate("other", "ARK", public=rsa_key("SEV").public_key(), path_length=0)
    with pytest.raises(KeyTrustError, match="not signed by the one behind it"):
        verify(report(), chain=pem(vcek(), other))


def product(name: bytes) -> bytes:
    """A chain for a product of this name, an IA5String of the short form."""
    return pem(vcek({"2": bytes([0x16, len(name)]) + name}), ask())


def refusal(name: bytes) -> KeyTrustError:
    with pytest.raises(KeyTrustError) as caught:
        verify(report(), chain=product(name))
    return caught.value


def test_a_product_that_is_no_ascii_is_refused_as_unknown() -> None:
    refused = refusal(b"Mil\xe4n")
    assert refused.check == "product"
    assert "'Mil\ufffdn'" in str(refused)


def test_of_a_long_product_the_beginning_is_shown() -> None:
    refused = refusal(b"T" + b"u" * 31 + b"r" * 40)
    assert refused.check == "product"
    assert str(refused) == f"the certificate is for the product 'T{'u' * 31}', which is not known"


def test_values_are_read_up_to_the_longest_of_the_short_form() -> None:
    """X.690, 8.1.3.4: one octet gives lengths up to 127."""
    assert verify(report(), chain=product(b"Milan-" + b"B" * 121)).fields.vmpl == 0
    with pytest.raises(KeyTrustError, match="cannot be read"):
        verify(report(), chain=product(b"Milan-" + b"B" * 122))


def test_who_makes_proofs_is_said() -> None:
    with pytest.raises(TypeError) as caught:
        VerifiedSnpReport(report=SnpReport.from_bytes(report()))
    assert str(caught.value) == "a VerifiedSnpReport is made by SnpReport.verify, not by hand"
