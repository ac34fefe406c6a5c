"""What is known, but stands in for something else: programs, digests and keys of the right kind in the wrong place."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import attrs
import pytest
from cryptography import x509

import measlog as ml
from fixtures.attacks.forge import ForgedEvent
from measlog.appraisal import Policy
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.reference.manifest import Certificate, Component, ReferenceManifest, Signer
from tests.appraisal.machine import SHA256, Change, appraise, codes, good_log, lines, machine, where
from tests.appraisal.test_captures import lab_manifest
from tests.appraisal.test_secure_boot import (
    AUTHORITY,
    SECURITY,
    SHA256_LIST,
    SHIM,
    X509_LIST,
    config,
    db_certificate,
    event,
    is_named,
    original,
    started_image,
    swap,
    variable,
)

SHA384 = 0x000C
IMAGE = 0x80000003
GOOD = "flatcar-lab-good"
ON = Policy(name="on", rule=SecureBoot(), required={7})


def other(component: Component, mok_list: Mapping[str, bytes] | None = None) -> Component:
    """The same program built anew: other digests in every bank, all else as it was."""
    made = {
        kind: {bank: hashlib.new(bank, kind.encode() + digest).digest() for bank, digest in digests.items()}
        for kind, digests in (("authenticode", component.authenticode), ("flat", component.flat))
    }
    return attrs.evolve(
        component,
        authenticode=made["authenticode"],
        flat=made["flat"],
        mok_list=component.mok_list if mok_list is None else mok_list,
    )


def release(role: str, mok_list: Mapping[str, bytes] | None = None) -> ReferenceManifest:
    """The lab's release with another program in one role, under the very same name."""
    manifest = lab_manifest(GOOD)
    return attrs.evolve(
        manifest,
        components=tuple(other(c, mok_list) if c.role == role else c for c in manifest.components),
        boot_paths=(),
    )


def component(manifest: ReferenceManifest, role: str) -> Component:
    found = manifest.component(role)
    assert found is not None
    return found


def standing_in(pcr: int, role: str, made: ReferenceManifest) -> Change:
    """The events of a register that hold a program of the good boot, with the other one's digest in place of it."""
    kind = "authenticode" if pcr == 4 else "flat"
    old = getattr(component(lab_manifest(GOOD), role), kind)["sha256"]
    new = getattr(component(made, role), kind)["sha256"]

    def change(events: tuple[ForgedEvent, ...]) -> Sequence[ForgedEvent]:
        assert any(e.pcr == pcr and e.digests[SHA256] == old for e in events)
        return [
            replace(e, digests={**e.digests, SHA256: new}) if e.pcr == pcr and e.digests[SHA256] == old else e
            for e in events
        ]

    return change


def both(first: Change, second: Change) -> Change:
    return lambda events: second(tuple(first(events)))


def judged(manifests: Sequence[ReferenceManifest], change: Change | None = None) -> tuple[str, set[str]]:
    result = appraise(ml.policy.flatcar(), change, manifests=manifests)
    return result.status, codes(result)


def test_an_updated_kernel_is_another_releases_in_both_registers() -> None:
    new = release("kernel")
    manifests = [lab_manifest(GOOD), new]
    assert judged(manifests) == ("affirming", set())
    change = both(standing_in(4, "kernel", new), standing_in(9, "kernel", new))
    assert judged(manifests, change) == ("affirming", set())


@pytest.mark.parametrize("pcr", [4, 9])
def test_the_kernel_that_was_read_is_the_kernel_that_was_started(pcr: int) -> None:
    """A45: two releases by the same name, and the file of one beside the image of the other."""
    new = release("kernel")
    assert judged([lab_manifest(GOOD), new], standing_in(pcr, "kernel", new)) == (
        "contraindicated",
        {"kernel.mismatch"},
    )


def test_a_shim_with_other_keys_does_not_stand_in_for_the_one_whose_lists_were_measured() -> None:
    """What shim trusts is mirrored into PCR 14: the lists of one shim are not those of another."""
    lists = {bank: hashlib.new(bank, b"another vendor's certificate").digest() for bank in ("sha256", "sha384")}
    known = component(lab_manifest(GOOD), "shim")
    assert known.mok_list is not None
    new = release("shim", mok_list={**known.mok_list, **lists})
    status, found = judged([lab_manifest(GOOD), new], standing_in(4, "shim", new))
    assert status == "contraindicated"
    assert found
    # The same program built anew, with the same lists, is another release's shim.
    same = release("shim")
    assert judged([lab_manifest(GOOD), same], standing_in(4, "shim", same))[0] == "affirming"


@pytest.mark.parametrize("role", ["mokmanager", "grub", "kernel"])
def test_a_program_of_another_role_is_not_started_in_shims_place(role: str) -> None:
    manifest = lab_manifest(GOOD)
    found = component(manifest, role)
    shim = component(manifest, "shim").authenticode["sha256"]
    change = where(
        lambda e: e.pcr == 4 and e.digests[SHA256] == shim,
        lambda e: (replace(e, digests={**e.digests, SHA256: found.authenticode["sha256"]}),),
    )
    assert judged([manifest], change)[0] == "contraindicated"


def dbx(kind: UUID, *entries: bytes) -> ForgedEvent:
    """A dbx of one list (EFI_SIGNATURE_LIST, UEFI 2.10 clause 32.4.1) whose entries have one size."""
    bodies = [bytes(16) + entry for entry in entries]
    total = 28 + sum(map(len, bodies))
    return config("dbx", kind.bytes_le + struct.pack("<III", total, 0, len(bodies[0])) + b"".join(bodies), SECURITY)


def test_an_image_is_revoked_whatever_an_unverified_bank_says_of_it() -> None:
    """A10, A30: dbx has SHA-256 digests. Where another bank is verified, those in the log are anybody's."""
    manifest = lab_manifest(GOOD)
    revoked = component(manifest, "grub").authenticode["sha256"]
    change = swap("dbx", dbx(SHA256_LIST, revoked))

    def lying(events: tuple[ForgedEvent, ...]) -> Sequence[ForgedEvent]:
        return [
            replace(e, digests={**e.digests, SHA256: bytes(32)}) if e.digests[SHA256] == revoked else e
            for e in change(events)
        ]

    verifier = ml.Verifier([manifest], policy=ON, unsafe_unsigned_manifests=True)
    for made in (change, lying):
        evidence = machine(good_log().with_events(made(good_log().events)), bank=SHA384)
        assert evidence.bank == "sha384"
        assert codes(verifier.appraise(evidence)) == {"secureboot.image-revoked"}
    assert codes(verifier.appraise(machine(good_log(), bank=SHA384))) == set()


def test_revocations_count_in_a_list_that_firmware_heeds() -> None:
    """A31: the digests that the policy demands, in a list of a type that revokes no image."""
    demanded = [hashlib.sha256(bytes([i])).digest() for i in range(2)]
    policy = Policy(name="floor", rule=SecureBoot(minimum_dbx=frozenset(demanded)), required={7})
    assert appraise(policy, swap("dbx", dbx(SHA256_LIST, *demanded))).status == "affirming"
    for kind in (X509_LIST, UUID(int=1)):
        assert codes(appraise(policy, swap("dbx", dbx(kind, *demanded)))) == {"secureboot.dbx"}, kind


X509_SHA256_LIST = UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")


@pytest.mark.parametrize("time", [bytes(16), b"\xff" * 16], ids=["always", "a time that is none"])
def test_a_certificate_revoked_by_its_hash(time: bytes) -> None:
    """UEFI 2.10, 32.4.1: the hash of the certificate's body and a time; a time that cannot be read revokes nothing less."""
    body = x509.load_der_x509_certificate(db_certificate()).tbs_certificate_bytes
    entry = hashlib.sha256(body).digest() + time
    assert "secureboot.authority-revoked" in codes(appraise(ON, swap("dbx", dbx(X509_SHA256_LIST, entry))))
    harmless = appraise(ON, swap("dbx", dbx(X509_SHA256_LIST, bytes(32) + bytes(16))))
    assert harmless.status == "affirming"


def lists(kind: UUID, entry: bytes) -> bytes:
    """An EFI_SIGNATURE_LIST of one entry."""
    return kind.bytes_le + struct.pack("<III", 28 + 16 + len(entry), 0, 16 + len(entry)) + bytes(16) + entry


def test_every_list_of_dbx_is_looked_at() -> None:
    """A list of another kind before the one that revokes is no end of it."""
    body = x509.load_der_x509_certificate(db_certificate()).tbs_certificate_bytes
    revoked = lists(X509_SHA256_LIST, hashlib.sha256(body).digest() + bytes(16))
    for before in (lists(SHA256_LIST, bytes(32)), lists(X509_SHA256_LIST, bytes(48)), lists(UUID(int=1), b"?")):
        result = appraise(ON, swap("dbx", config("dbx", before + revoked, SECURITY)))
        assert "secureboot.authority-revoked" in codes(result)


def authorities() -> list[bytes]:
    """The certificates that verified images in the good boot, behind the owner in the authority events."""
    found = []
    for e in good_log().events:
        if is_named(e, "db", AUTHORITY):
            (length,) = struct.unpack_from("<Q", e.data, 16)
            found.append(e.data[32 + 2 * length + 16 :])
    return found


def signer(*chain: Certificate) -> Signer:
    return Signer(chain=chain, algorithm="sha256", verified="yes")


def itself(der: bytes) -> Signer:
    """Signed by the very certificate."""
    read = x509.load_der_x509_certificate(der)
    name, issuer = read.subject.rfc4514_string(), read.issuer.rfc4514_string()
    return signer(Certificate(subject=name, issuer=issuer, sha256=hashlib.sha256(der).digest()))


def issued_by(der: bytes) -> Signer:
    """Signed by a certificate that the other one issued, and that no database has."""
    issuer = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    return signer(Certificate(subject="CN=leaf", issuer=issuer, sha256=bytes(32)))


NOBODY = signer(Certificate(subject="CN=nobody", issuer="CN=nobody", sha256=bytes(32)))


def signed(**changed: tuple[Signer, ...]) -> ReferenceManifest:
    """The lab's manifest, saying who signed what: the two certificates that the firmware and shim named."""
    first, second = authorities()
    signers = {"shim": (issued_by(first),), "grub": (itself(second),), "kernel": (itself(second),), **changed}
    manifest = lab_manifest(GOOD)
    return attrs.evolve(
        manifest,
        components=tuple(attrs.evolve(c, signers=signers.get(c.role, ())) for c in manifest.components),
        boot_paths=(),
    )


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        pytest.param({}, set(), id="as it was"),
        pytest.param({"shim": (NOBODY, issued_by(authorities()[0]))}, set(), id="signed twice"),
        pytest.param(
            {"shim": (NOBODY,)}, {"secureboot.authority-unused", "secureboot.image-unverified"}, id="shim by nobody"
        ),
        pytest.param({"kernel": (NOBODY,)}, {"secureboot.image-unverified"}, id="kernel by nobody"),
        pytest.param(
            {"kernel": (NOBODY,), "grub": (NOBODY,)},
            {"secureboot.authority-unused", "secureboot.image-unverified"},
            id="nothing behind shim",
        ),
        # What verified shim is the firmware's to say; behind it shim names its own authorities.
        pytest.param(
            {"kernel": (itself(authorities()[0]),)}, {"secureboot.image-unverified"}, id="kernel by what verified shim"
        ),
        # The first authority is the one of the first image alone.
        pytest.param(
            {"shim": (NOBODY,), "grub": (itself(authorities()[0]), itself(authorities()[1]))},
            {"secureboot.authority-unused", "secureboot.image-unverified"},
            id="the first authority for the second image",
        ),
        pytest.param(
            {"shim": (itself(authorities()[1]),)},
            {"secureboot.authority-unused", "secureboot.image-unverified"},
            id="shim by what verified GRUB",
        ),
    ],
)
def test_each_image_is_signed_under_an_authority_and_each_authority_signs_one(
    changed: dict[str, tuple[Signer, ...]], found: set[str]
) -> None:
    """A30, A48: what is measured has a signature that one of the named authorities verifies."""
    result = appraise(ON, manifests=[signed(**changed)])
    assert codes(result) == found
    assert "image signatures" not in {n.subject for n in result.not_covered}


def test_findings_about_signatures_say_where() -> None:
    result = appraise(ON, manifests=[signed(shim=(NOBODY,))])
    place = next(i for i, e in enumerate(good_log().events) if is_named(e, "db", AUTHORITY)) + 1
    assert {(f.code, f.pcr, f.event, f.message) for f in result.findings} == {
        (
            "secureboot.authority-unused",
            7,
            place,
            "none of the images that were started is signed under 'db'",
        ),
        (
            "secureboot.image-unverified",
            4,
            None,
            "the image 1 that was started is signed under none of the authorities",
        ),
    }
    unchecked = appraise(ON)
    assert "no manifest says who signed each of the images that were started" in {
        n.reason for n in unchecked.not_covered
    }


def test_a_chain_is_followed_from_any_of_its_certificates() -> None:
    der = authorities()[1]
    read = x509.load_der_x509_certificate(der)
    leaf = Certificate(subject="CN=leaf", issuer=read.subject.rfc4514_string(), sha256=bytes(32))
    middle = itself(der).chain[0]
    assert codes(appraise(ON, manifests=[signed(kernel=(signer(leaf, middle),))])) == set()
    # Of the issuers only the last one's name counts: the others' certificates are there.
    above = Certificate(subject="CN=above", issuer="CN=above", sha256=bytes(32))
    result = appraise(ON, manifests=[signed(kernel=(signer(leaf, above),))])
    assert codes(result) == {"secureboot.image-unverified"}


def test_a_program_that_two_releases_have_with_other_signatures_is_verified_by_either() -> None:
    first, second = signed(kernel=(NOBODY,)), signed()
    for manifests in ([first, second], [second, first]):
        assert codes(appraise(ON, manifests=manifests)) == set()


def test_images_of_unknown_signers_are_said_to_be_unchecked() -> None:
    for manifests in ([], [signed(kernel=())]):
        result = appraise(ON, manifests=manifests)
        assert result.status == "affirming"
        assert [(n.subject, n.pcr) for n in result.not_covered if n.subject == "image signatures"] == [
            ("image signatures", 7)
        ]


def test_a_digest_in_db_verifies_its_own_image_alone() -> None:
    """A30: an image may be verified by its digest in db; that of another image is nobody's authority."""

    def by_digest(digest: bytes) -> Change:
        data = original("db").data
        (length,) = struct.unpack_from("<Q", data, 16)
        value = data[32 + 2 * length :]
        lists = SHA256_LIST.bytes_le + struct.pack("<III", 28 + 48, 0, 48) + bytes(16) + digest
        named = event(AUTHORITY, variable(SECURITY, "db", bytes(16) + digest))

        return both(swap("db", config("db", value + lists, SECURITY)), swap("db", named, kind=AUTHORITY))

    manifests = [signed()]
    assert codes(appraise(ON, by_digest(started_image()), manifests=manifests)) == set()
    # Nor does a revoked certificate's hash say anything of a digest that is no certificate.
    revoking = swap("dbx", dbx(X509_SHA256_LIST, bytes(48)))
    assert codes(appraise(ON, both(by_digest(started_image()), revoking), manifests=manifests)) == set()
    wrong = appraise(ON, by_digest(hashlib.sha256(b"another image").digest()), manifests=manifests)
    assert codes(wrong) == {"secureboot.authority-unused", "secureboot.image-unverified"}


def in_place_of_the_second(*made: ForgedEvent) -> Change:
    """The authority that verified GRUB and kernel, replaced."""
    return where(lambda e: is_named(e, "db", AUTHORITY), lambda _: made, nth=1)


def vendors(der: bytes) -> ReferenceManifest:
    """The lab's manifest with a shim that carries the certificate, which signed what shim starts."""
    signer_ = itself(der)
    manifest = signed(grub=(signer_,), kernel=(signer_,))
    return attrs.evolve(
        manifest,
        components=tuple(
            attrs.evolve(c, vendor_certificates=signer_.chain) if c.role == "shim" else c for c in manifest.components
        ),
    )


@pytest.mark.parametrize("name", ["Shim", "vendor_cert"])
def test_shims_own_certificate_is_the_one_that_the_manifest_knows(name: str) -> None:
    """A30: as shim logs it, bare, with a byte behind it that is not hashed (Q2, Q31)."""
    own, another = authorities()[1], authorities()[0]
    data = variable(SHIM, name, own + b"\0")
    named = replace(event(AUTHORITY, data[:-1]), data=data)
    result = appraise(ON, in_place_of_the_second(named), manifests=[vendors(own)])
    assert (result.status, codes(result)) == ("affirming", set())
    assert len(result.quirks) == 1
    refused = appraise(ON, in_place_of_the_second(named), manifests=[vendors(another)])
    assert "secureboot.authority" in codes(refused)
    # The same certificate, under a name that shim does not give it.
    other_name = event(AUTHORITY, variable(SHIM, "Shin", own))
    assert "secureboot.authority" in codes(appraise(ON, in_place_of_the_second(other_name), manifests=[vendors(own)]))


def only_images(digests: Sequence[bytes]) -> Change:
    return lambda events: (e for e in events if e.type != 0x80000003 or e.digests[SHA256] in digests)


def test_a_shim_that_knows_sbat_says_so_whatever_the_state() -> None:
    """A31: with Secure Boot off as well; one that does not, or is not known, says what it says."""
    off = Policy(name="off", rule=SecureBoot(enabled=False), required={7})

    def silent(events: tuple[ForgedEvent, ...]) -> list[ForgedEvent]:
        return [e for e in swap("SecureBoot", config("SecureBoot", b"\0"))(events) if e.type != AUTHORITY]

    lab = lab_manifest(GOOD)
    assert component(lab, "shim").sbat
    assert component(lab, "grub").sbat
    older = attrs.evolve(
        lab,
        components=tuple(attrs.evolve(c, sbat=()) if c.role == "shim" else c for c in lab.components),
        boot_paths=(),
    )
    assert codes(appraise(off, silent, manifests=[lab])) == {"secureboot.authority-order"}
    assert codes(appraise(off, silent, manifests=[older])) == set()
    assert codes(appraise(off, silent)) == set()

    def level(events: tuple[ForgedEvent, ...]) -> list[ForgedEvent]:
        kept = original("SbatLevel", AUTHORITY)
        return [e for e in swap("SecureBoot", config("SecureBoot", b"\0"))(events) if e.type != AUTHORITY or e == kept]

    assert codes(appraise(off, level, manifests=[lab])) == codes(appraise(off, level)) == set()


def test_an_authority_is_named_once() -> None:
    """Shim measures an authority when it first verifies an image by it."""
    second = [e for e in good_log().events if is_named(e, "db", AUTHORITY)][1]
    place = [i + 1 for i, e in enumerate(good_log().events) if is_named(e, "db", AUTHORITY)][1]
    assert lines(appraise(ON, in_place_of_the_second(second, second))) == [
        f"error secureboot.authority-repeated PCR 7 event {place + 1}: shim names an authority twice"
    ]
    first = original("db", AUTHORITY)
    # What verified shim may verify what shim starts.
    both_by_one = signed(kernel=(itself(authorities()[0]),))
    assert codes(appraise(ON, in_place_of_the_second(second, first), manifests=[both_by_one])) == set()
    # But not more of them than there are images behind it; one verified something, whatever is measured of it.
    digests = list(dict.fromkeys(e.digests[SHA256] for e in good_log().events if e.type == 0x80000003))
    for left, refused in ((3, set()), (2, {"secureboot.authority-order"}), (1, {"secureboot.authority-order"})):
        fewer = both(in_place_of_the_second(second, first), only_images(digests[:left]))
        assert codes(appraise(ON, fewer)) == refused
    one = both(in_place_of_the_second(second), only_images([]))
    assert "secureboot.authority-order" not in codes(appraise(ON, one))
    three = appraise(ON, in_place_of_the_second(second, first, event(AUTHORITY, b"?")))
    assert three.status == "contraindicated"
    said = f"error secureboot.undecodable PCR 7 event {place + 2}: the event holds no UEFI_VARIABLE_DATA"
    assert said in lines(three)


def test_a_key_of_the_owner_is_admitted_by_name() -> None:
    """Where the policy admits keys of the machine's owner, MokList names what verified an image; else nothing does."""
    data = second_by("MokListRT")
    allowed = Policy(name="mok", rule=SecureBoot(allow_mok=True), required={7})
    assert codes(appraise(allowed, data)) == set()
    assert codes(appraise(ON, data)) == {"secureboot.authority"}
    assert codes(appraise(allowed, second_by("Mok"))) == {"secureboot.authority"}


def second_by(name: str) -> Change:
    return in_place_of_the_second(event(AUTHORITY, variable(SHIM, name, bytes(16) + authorities()[1])))


@pytest.mark.parametrize(
    "text", [b"sbat,1,2025021800\nshim,4\nshim,1\n", b"shim,4\nshim,9\n", b"shim\n", b"shim,four\n", b",4\n"]
)
def test_a_level_that_says_two_things_says_nothing(text: bytes) -> None:
    """A31: a component named twice would be one generation to shim and another to its reader."""
    level = event(AUTHORITY, variable(SHIM, "SbatLevel", text))
    floor = Policy(name="floor", rule=SecureBoot(minimum_sbat={"shim": 1}), required={7})
    (finding,) = lines(appraise(floor, swap("SbatLevel", level, kind=AUTHORITY)))
    assert finding.startswith("error secureboot.sbat PCR 7: SbatLevel cannot be read: ")
