"""SEV-SNP reports: made ones pass each step, and each step refuses what it is there for. No real report is at hand."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from measlog.errors import EvidenceError, FormatError, KeyTrustError, NonceError, SignatureError, UnsupportedError
from measlog.evidence.snp import SnpReport, VerifiedSnpReport
from measlog.formats.sevsnp import SnpTcb
from tests.evidence.snp_maker import (
    CHIP,
    NOW,
    REPORT_DATA,
    TCB,
    ark,
    ask,
    certificate,
    chain,
    chip_key,
    pem,
    report,
    rsa_key,
    tcb,
    vcek,
    vcek_on_an_unknown_curve,
)

ROOT = pem(ark())


def verify(raw: bytes, **options: Any) -> VerifiedSnpReport:
    asked: dict[str, Any] = {"report_data": REPORT_DATA, "chain": chain(), "roots": ROOT, "now": NOW}
    return SnpReport.from_bytes(raw).verify(**{**asked, **options})


@pytest.mark.parametrize("version", [2, 3])
def test_an_honest_report_verifies(version: int) -> None:
    verified = verify(report(version=version))
    fields = verified.fields
    assert (fields.version, fields.guest_svn, fields.policy, fields.vmpl, fields.signing_key) == (
        version,
        7,
        0x30000,
        0,
        0,
    )
    assert (fields.family_id, fields.image_id, fields.platform_info) == (b"f" * 16, b"i" * 16, 3)
    assert (fields.report_data, fields.measurement, fields.host_data) == (REPORT_DATA, b"m" * 48, b"h" * 32)
    assert (fields.id_key_digest, fields.author_key_digest, fields.report_id) == (b"k" * 48, b"a" * 48, b"r" * 32)
    assert (fields.chip_id, fields.reported_tcb) == (CHIP, SnpTcb(**TCB))
    assert [
        (t.boot_loader, t.snp, t.microcode) for t in (fields.current_tcb, fields.committed_tcb, fields.launch_tcb)
    ] == [
        (4, 21, 210),
        (3, 19, 208),
        (2, 18, 207),
    ]
    assert {text.split(":")[0] for text in verified.not_checked} == {
        "tcb-status",
        "revocation",
        "measurement",
        "guest-policy",
    }


@pytest.mark.parametrize(
    "certificates",
    [
        pem(vcek(), ask(), ark()),
        pem(vcek({"4": b"\x04\x40" + CHIP}), ask()),  # an OCTET STRING, where most have bare bytes
        pem(vcek({"2": b"\x16\x08Genoa-B1"}), ask()),
    ],
    ids=["root too", "chip in DER", "Genoa"],
)
def test_other_forms_of_the_chain(certificates: bytes) -> None:
    assert verify(report(), chain=certificates).fields.chip_id == CHIP


def test_one_of_several_roots() -> None:
    assert verify(report(), roots=pem(certificate("other", "other")) + ROOT).fields.chip_id == CHIP


def ask_of(**options: Any) -> bytes:
    """A chain whose intermediate differs."""
    return pem(vcek(), certificate("SEV", "ARK", **options))


EC_ROOT = certificate("ARK", "ARK", public=chip_key("ark").public_key())
ED_ROOT = certificate("ARK", "ARK", public=ed25519.Ed25519PrivateKey.generate().public_key())
REFUSED: dict[str, tuple[bytes, dict[str, Any], str, type[EvidenceError]]] = {
    "another challenge": (report(), {"report_data": bytes(63) + b"\1"}, "nonce", NonceError),
    "a short challenge": (report(), {"report_data": REPORT_DATA[:32]}, "nonce", NonceError),
    "no challenge": (report(report_data=bytes(64)), {"report_data": bytes(64)}, "nonce", NonceError),
    "a cloud's key": (report(flags=1 << 2), {}, "vcek", KeyTrustError),
    "unsigned": (report(flags=7 << 2), {}, "vcek", KeyTrustError),
    "another root": (report(), {"roots": pem(certificate("ARK", "ARK", public=rsa_key("x").public_key()))}, "chain", KeyTrustError),
    "a root of the same name": (
        report(),
        {"roots": pem(certificate("ARK", "ARK", public=chip_key("x").public_key()))},
        "chain",
        KeyTrustError,
    ),
    "a root of another name": (
        report(),
        {"roots": pem(certificate("Root", "Root"))},
        "chain",
        KeyTrustError,
    ),
    "no intermediate": (report(), {"chain": pem(vcek())}, "chain", KeyTrustError),
    "too many": (report(), {"chain": pem(vcek(), ask(), ark(), ark())}, "chain", KeyTrustError),
    "in another order": (report(), {"chain": pem(ask(), vcek())}, "chain", KeyTrustError),
    "a stranger's chip": (report(), {"chain": pem(vcek(signer="x"), ask())}, "chain", KeyTrustError),
    "a stranger's intermediate": (report(), {"chain": ask_of(signer="x")}, "chain", KeyTrustError),
    "another padding": (report(), {"chain": ask_of(pss=False)}, "chain", KeyTrustError),
    "an EC root": (report(), {"roots": pem(EC_ROOT)}, "chain", KeyTrustError),
    "an Ed25519 root": (report(), {"roots": pem(ED_ROOT)}, "chain", KeyTrustError),
    "too late": (report(), {"now": NOW + dt.timedelta(days=31)}, "chain", KeyTrustError),
    "too early": (report(), {"now": NOW - dt.timedelta(days=2)}, "chain", KeyTrustError),
    "an expired intermediate": (
        report(),
        {"chain": ask_of(days=1), "now": NOW + dt.timedelta(days=2)},
        "chain",
        KeyTrustError,
    ),
    "an intermediate that is no CA": (report(), {"chain": ask_of(ca=False)}, "chain", KeyTrustError),
    "an intermediate for signing": (report(), {"chain": ask_of(certifies=False)}, "chain", KeyTrustError),
    "an intermediate without constraints": (report(), {"chain": ask_of(constrained=False)}, "chain", KeyTrustError),
    "a root for leaves alone": (
        report(),
        {"roots": pem(certificate("ARK", "ARK", path_length=0))},
        "chain",
        KeyTrustError,
    ),
    "an RSA key": (report(), {"chain": pem(vcek(public=certificate("y", "y").public_key()), ask())}, "vcek", KeyTrustError),
    "P-256": (
        report(),
        {"chain": pem(vcek(public=ec.generate_private_key(ec.SECP256R1()).public_key()), ask())},
        "vcek",
        KeyTrustError,
    ),
    "an unreadable key": (report(), {"chain": pem(vcek_on_an_unknown_curve(), ask())}, "vcek", KeyTrustError),
    "no product": (report(), {"chain": pem(vcek({"2": None}), ask())}, "vcek", KeyTrustError),
    "an unknown product": (report(), {"chain": pem(vcek({"2": b"\x16\x05Turin"}), ask())}, "product", KeyTrustError),
    "no chip": (report(), {"chain": pem(vcek({"4": None}), ask())}, "vcek", KeyTrustError),
    "half a chip": (report(), {"chain": pem(vcek({"4": CHIP[:32]}), ask())}, "vcek", KeyTrustError),
    "a chip in too little DER": (report(), {"chain": pem(vcek({"4": b"\x04\x3f" + CHIP[1:]}), ask())}, "chip-id", KeyTrustError),
    "another chip": (report(chip=bytes(64)), {}, "chip-id", KeyTrustError),
    "another boot loader": (report(reported=tcb(**{**TCB, "boot_loader": 2})), {}, "tcb", KeyTrustError),
    "another TEE": (report(reported=tcb(**{**TCB, "tee": 1})), {}, "tcb", KeyTrustError),
    "another SNP firmware": (report(reported=tcb(**{**TCB, "snp": 21})), {}, "tcb", KeyTrustError),
    "another microcode": (report(reported=tcb(**{**TCB, "microcode": 210})), {}, "tcb", KeyTrustError),
    "no version": (report(), {"chain": pem(vcek({"3.3": None}), ask())}, "vcek", KeyTrustError),
    "a version of another type": (report(), {"chain": pem(vcek({"3.3": b"\x04\x01\x14"}), ask())}, "vcek", KeyTrustError),
    "a version cut short": (report(), {"chain": pem(vcek({"3.3": b"\x02\x02\x14"}), ask())}, "vcek", KeyTrustError),
    "an empty version": (report(), {"chain": pem(vcek({"3.3": b"\x02\x00"}), ask())}, "vcek", KeyTrustError),
    "a version too long": (report(), {"chain": pem(vcek({"3.3": b"\x02\x80" + bytes(128)}), ask())}, "vcek", KeyTrustError),
    "another key": (report(key="other"), {}, "signature", SignatureError),
    "no signature": (report(after={0x2A0: bytes(144)}), {}, "signature", SignatureError),
    "another guest": (report(after={0x90: b"x"}), {}, "signature", SignatureError),
    "less privileged software": (report(vmpl=2), {}, "vmpl", EvidenceError),
    "more privileged software": (report(), {"vmpl": 1}, "vmpl", EvidenceError),
    "a debugged guest": (report(policy=0x30000 | 1 << 19), {}, "guest-debug", EvidenceError),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_each_step_refuses_what_it_is_there_for(name: str) -> None:
    raw, options, check, kind = REFUSED[name]
    with pytest.raises(kind) as caught:
        verify(raw, **options)
    assert caught.value.check == check


def test_what_the_caller_may_accept() -> None:
    assert verify(report(policy=1 << 19), unsafe_allow_debug=True).fields.policy == 1 << 19
    assert verify(report(vmpl=2), vmpl=2).fields.vmpl == 2


@settings(max_examples=40)
@given(st.integers(0, 0x2A0 + 2 * 48 - 1), st.integers(1, 255))
def test_no_byte_that_counts_can_be_changed(at: int, mask: int) -> None:
    place = at if at < 0x2A0 + 48 else at + 24  # R and S have 48 bytes each, 72 apart
    raw = bytearray(report())
    raw[place] ^= mask
    with pytest.raises((EvidenceError, FormatError)):
        verify(bytes(raw))


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        (b"", FormatError, "report"),
        (report()[:-1], FormatError, "report"),
        (report() + b"\0", FormatError, "left over"),
        (report(version=1), UnsupportedError, "version: version 1"),
        (report(version=5), UnsupportedError, "version: version 5"),
        (report(algorithm=2), UnsupportedError, "signatureAlgo: the signature algorithm 2"),
        (report(changes={0x184: b"\1"}), FormatError, "reportedTcb: reserved bytes"),
        (report(changes={0x3A: b"\1"}), FormatError, "currentTcb: reserved bytes"),
        (report(after={0x2A0 + 48: b"\1"}), FormatError, "signature.r: a number of more than 48 bytes"),
        (report(after={0x2A0 + 143: b"\1"}), FormatError, "signature.s: a number of more than 48 bytes"),
        (report(after={1183: b"\1"}), FormatError, "signature: reserved bytes"),
    ],
)
def test_what_the_format_forbids_is_refused(raw: bytes, kind: type[FormatError], said: str) -> None:
    with pytest.raises(kind) as caught:
        SnpReport.from_bytes(raw)
    assert said in str(caught.value)


def test_certificates_that_cannot_be_read() -> None:
    for options in ({"chain": b"no PEM"}, {"roots": b""}):
        with pytest.raises(FormatError, match="cannot be read"):
            verify(report(), **options)


def test_the_time_is_now_where_none_is_given() -> None:
    past = pem(vcek(), certificate("SEV", "ARK", days=0))  # up to a time before this test was written
    assert verify(report(), chain=past, now=NOW - dt.timedelta(hours=1)).fields.vmpl == 0
    with pytest.raises(KeyTrustError, match="not valid at this time"):
        verify(report(), chain=past, now=None)


def test_proof_is_not_made_by_hand() -> None:
    read = SnpReport.from_bytes(report())
    assert pickle.loads(pickle.dumps(read)) == read
    verified = verify(read.raw)
    with pytest.raises(TypeError, match="not by hand"):
        VerifiedSnpReport(report=read)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(verified)
    with pytest.raises(TypeError, match="no subclasses"):
        type("Fake", (VerifiedSnpReport,), {})
