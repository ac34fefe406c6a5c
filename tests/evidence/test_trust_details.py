"""Details of trust in keys: times, sizes, derivations beyond one block, and what refusals say."""

from __future__ import annotations

import datetime as dt
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from measlog import AttestationKey
from measlog.errors import FormatError, KeyTrustError, SignatureError
from measlog.evidence import trust
from measlog.evidence.trust import (
    CredentialChallenge,
    load_certificate,
    load_certificates,
    make_credential,
    verify_ak_certificate,
    verify_ek_certificate,
)
from measlog.formats.tpm2 import parse_signature
from tests.conftest import FIXTURES
from tests.evidence import quotes
from tests.evidence.test_credentials import EK_ATTRIBUTES, SECRET
from tests.evidence.test_trust import AK, AK_USAGE, CAPTURE, EK_ROOT, EK_USAGE, NOW, Authority, ek_chain, issue, pem

EK = (CAPTURE / "ek.tpm2b").read_bytes()
LATE = NOW + dt.timedelta(days=365 * 200)


@pytest.mark.parametrize("bits", [128, 256, 264, 512, 768, 1024])
def test_derivations_go_on_beyond_a_block(bits: int) -> None:
    """KDFa is SP 800-108 in counter mode, KDFe the one-step derivation of SP 800-56A (Part 1, 11.4.10)."""
    algorithm = hashes.SHA256()
    wanted = KBKDFHMAC(
        algorithm=algorithm, mode=Mode.CounterMode, length=bits // 8, rlen=4, llen=4,
        location=CounterLocation.BeforeFixed, label=b"LABEL", context=b"uv", fixed=None,
    ).derive(b"key")  # fmt: skip
    assert trust._kdfa(algorithm, b"key", b"LABEL", b"u", b"v", bits) == wanted
    wanted = ConcatKDFHash(algorithm, bits // 8, b"LABEL\0uv").derive(b"shared")
    assert trust._kdfe(algorithm, b"shared", b"LABEL", b"u", b"v", bits) == wanted


@pytest.mark.parametrize(("curve", "size"), [(ec.SECP256R1, 32), (ec.SECP384R1, 48), (ec.SECP521R1, 66)])
def test_the_coordinates_of_a_point_have_the_size_of_the_field(curve: type[ec.EllipticCurve], size: int) -> None:
    """TPMS_ECC_POINT (Part 2, 11.2.5.2): both as long as the field, which enters the derivation of the seed."""
    public = quotes.public(quotes.ecc_key(f"ek {size}", curve), attributes=EK_ATTRIBUTES)
    name = AttestationKey.load(AK).name
    assert name is not None
    _, encrypted = make_credential(AttestationKey.load(public), name, SECRET)
    (total,) = struct.unpack_from(">H", encrypted)
    assert total == len(encrypted) - 2 == 2 * (2 + size)
    assert struct.unpack_from(">H", encrypted, 2) == struct.unpack_from(">H", encrypted, 4 + size) == (size,)


def test_a_chain_has_its_time_wherever_it_is_used() -> None:
    with pytest.raises(KeyTrustError) as caught:
        verify_ek_certificate(ek_chain(), EK_ROOT, now=LATE)
    assert caught.value.check == "chain"
    with pytest.raises(KeyTrustError) as caught:
        CredentialChallenge.make(ek=EK, ak=AK, ek_chain=ek_chain(), ek_roots=EK_ROOT, now=LATE)
    assert caught.value.check == "chain"


def test_a_time_of_another_zone_is_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Wherever the verifier stands.
    monkeypatch.setenv("TZ", "XXX-14")
    time.tzset()
    authority = Authority()
    chain, roots = pem(authority.certify(AK, usage=AK_USAGE), authority.middle), pem(authority.root)
    # A day before NOW the certificate begins; by the clock on the wall twelve hours away it would have begun already.
    early = (NOW - dt.timedelta(days=1, hours=1)).astimezone(dt.timezone(dt.timedelta(hours=12)))
    with pytest.raises(KeyTrustError) as caught:
        verify_ak_certificate(AK, chain, roots, now=early)
    assert caught.value.check == "chain"
    in_time = (NOW - dt.timedelta(hours=23)).astimezone(dt.timezone(-dt.timedelta(hours=12)))
    assert verify_ak_certificate(AK, chain, roots, now=in_time).trust == "chain"
    monkeypatch.undo()
    time.tzset()


def test_a_vouched_key_keeps_its_attributes() -> None:
    """A14: what a key may be used for is checked with every quote; to be vouched for does not make it forget."""
    authority = Authority()
    chain, roots = pem(authority.certify(AK, usage=AK_USAGE), authority.middle), pem(authority.root)
    own = AttestationKey.load(AK)
    challenge = CredentialChallenge.make(ek=EK, ak=AK, ek_chain=ek_chain(), ek_roots=EK_ROOT, now=NOW)
    for key in (verify_ak_certificate(AK, chain, roots, now=NOW), challenge.check(challenge.secret)):
        assert (key.area, key.attributes, key.name) == (own.area, own.attributes, own.name)
        assert key.area is not None
    assert challenge.to_tpm2_tools()[8:] == challenge.credential_blob + challenge.encrypted_secret
    assert challenge.credential_blob
    assert challenge.encrypted_secret


def make(**changed: Any) -> CredentialChallenge:
    return CredentialChallenge.make(
        **{"ek": EK, "ak": AK, "ek_chain": ek_chain(), "ek_roots": EK_ROOT, "now": NOW, **changed}
    )


def chained(**changed: Any) -> AttestationKey:
    authority = Authority()
    chain, roots = pem(authority.certify(AK, usage=AK_USAGE), authority.middle), pem(authority.root)
    return verify_ak_certificate(**{"ak": AK, "chain": chain, "roots": roots, "now": NOW, **changed})


OTHER = FIXTURES / "flatcar-lab-tampered"


@pytest.mark.parametrize(
    ("refused", "check", "sentence"),
    [
        (lambda: make(ek=(OTHER / "ek.tpm2b").read_bytes()), "ek-certificate",
         "the certificate is for another endorsement key"),
        (lambda: make(ak=quotes.public(quotes.ecc_key(), attributes=0)), "key-attributes",
         "the key is no attestation key: it is not restricted, sign, fixedTPM, sensitiveDataOrigin"),
        (lambda: make().check(b""), "credential", "the machine could not open the challenge"),
        (lambda: chained(ak=(OTHER / "ak.tpm2b").read_bytes()), "ak-certificate",
         "the certificate is for another key"),
    ],
)  # fmt: skip
def test_what_refusals_say(refused: Callable[[], object], check: str, sentence: str) -> None:
    with pytest.raises(KeyTrustError) as caught:
        refused()
    assert (caught.value.check, str(caught.value)) == (check, sentence)


@pytest.mark.parametrize(
    ("unreadable", "path", "clause", "start"),
    [
        (lambda: chained(chain=b"?"), "certificates", "RFC 7468, 5", "certificates: the certificate chain of the AK cannot"),
        (lambda: chained(roots=b"?"), "certificates", "RFC 7468, 5", "certificates: the roots cannot be read: "),
        (lambda: make(ek_chain=b"?"), "certificates", "RFC 7468, 5", "certificates: the certificate chain of the EK cannot"),
        (lambda: make(ak=(CAPTURE / "ak.pub").read_bytes()), "ak", None,
         "ak: a challenge needs the TPM2B_PUBLIC of the AK, not its bare key"),
        (lambda: make(ek=(CAPTURE / "ek.pub").read_bytes()), "ek", None,
         "ek: a challenge needs the TPM2B_PUBLIC of the EK, not its bare key"),
    ],
)  # fmt: skip
def test_where_bytes_cannot_be_read(
    unreadable: Callable[[], object], path: str, clause: str | None, start: str
) -> None:
    with pytest.raises(FormatError) as caught:
        unreadable()
    assert (caught.value.path, caught.value.clause) == (path, clause)
    assert str(caught.value).startswith(start)


def test_what_is_wrong_with_a_chain_is_said() -> None:
    with pytest.raises(KeyTrustError, match="the certificate chain does not end in a given root: ") as caught:
        chained(roots=pem(Authority().root))
    assert caught.value.check == "chain"
    authority = Authority()
    with pytest.raises(KeyTrustError) as caught:
        chained(chain=pem(authority.certify(AK), authority.middle), roots=pem(authority.root))
    assert str(caught.value) == "the certificate is not for this purpose (2.23.133.8.3)"


def test_a_ca_for_other_purposes_is_named_as_the_reason() -> None:
    authority = Authority()
    middle = issue("middle", authority.middle_key.public_key(), "root", authority.root_key, ca=True, usage=EK_USAGE)
    with pytest.raises(KeyTrustError, match=r"(?<!\w)a CA of the chain is for other purposes(?!\w)"):
        chained(chain=pem(authority.certify(AK, usage=AK_USAGE), middle), roots=pem(authority.root))


def test_an_endorsement_keys_certificate_states_its_usage() -> None:
    """TCG EK Credential Profile, 3.2. A certificate that states none may be that of any key, one that signs among them."""
    authority = Authority()
    wrong: tuple[dict[str, object], ...] = ({}, {"signs": True}, {"signs": False}, {"signs": True, "usage": AK_USAGE})
    for options in wrong:
        chain = pem(authority.certify(AK, **options), authority.middle)
        with pytest.raises(KeyTrustError) as caught:
            verify_ek_certificate(chain, pem(authority.root), now=NOW)
        assert caught.value.check == "key-usage"
    stated = authority.certify(AK, usage=EK_USAGE)
    assert verify_ek_certificate(pem(stated, authority.middle), pem(authority.root), now=NOW) == stated


def test_where_a_certificate_cannot_be_read() -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(FormatError, match=r"^certificates: the roots cannot be read: ") as caught:
        load_certificates(broken, "roots")
    assert (caught.value.path, caught.value.clause) == ("certificates", "RFC 5280")
    with pytest.raises(FormatError, match=r"^ek\.crt: no certificate: ") as caught:
        load_certificate(b"\0\0\0", "ek.crt")
    assert (caught.value.path, caught.value.clause) == ("ek.crt", "RFC 5280")


def test_what_is_wrong_with_a_signature_is_said() -> None:
    key = quotes.rsa_key()
    bound = AttestationKey.load(quotes.public(key, scheme=quotes.RSAPSS))
    with pytest.raises(SignatureError) as caught:
        bound.verify(parse_signature(quotes.sign(key, b"message", scheme=quotes.RSASSA)), b"message")
    assert str(caught.value) == "the signature's scheme is not the one that the key is bound to"
    with pytest.raises(SignatureError) as caught:
        bound.verify(parse_signature(quotes.sign(key, b"message", scheme=quotes.RSAPSS)), b"other")
    assert str(caught.value) == "the signature over the quote is not by this key"
