"""CoRIM: manifests come back equal, documents are valid by the draft's CDDL, and nothing unsigned passes for signed."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

import measlog as ml
from measlog.errors import FormatError, ManifestError, UnsupportedError
from measlog.interop import corim
from measlog.interop.cbor import Tag, decode, encode
from measlog.interop.corim import Corim, SignedCorim, to_unsigned
from measlog.reference.signing import key_id
from tests.conftest import FIXTURES

KEY = ed25519.Ed25519PrivateKey.generate()
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
CDDL = (Path(__file__).parent / "corim.cddl").read_text()


def manifest(**changes: Any) -> ml.ReferenceManifest:
    raw = (FIXTURES / "flatcar-lab-good" / "manifest.dsse.json").read_bytes()
    read = ml.SignedManifest.from_bytes(raw).verify(keys=[(FIXTURES / "lab/keys/manifest.pub").read_bytes()], now=NOW)
    changed: ml.ReferenceManifest = attrs.evolve(read, **changes)
    return changed


SMALL = manifest(disk=None, grub=None, boot_paths=(), usr=())
BOUNDS = {"not_before": NOW - dt.timedelta(days=1), "expires": NOW + dt.timedelta(days=30)}


@pytest.mark.parametrize("key", [KEY, P256, P384], ids=["EdDSA", "ES256", "ES384"])
def test_a_manifest_comes_back_equal(key: Any) -> None:
    sent = manifest(**BOUNDS, version=7)
    signed = corim.sign(sent, key, signer="measlog's tests")
    got = SignedCorim.from_bytes(signed).verify(keys=[key.public_key()], now=NOW, minimum_version=7)
    assert got == sent
    assert got.to_json() == sent.to_json()
    assert got.signed_by == (key_id(key.public_key()),)


@pytest.mark.parametrize("changes", [{}, BOUNDS, {**BOUNDS, "not_before": None}, {"expires": None}])
def test_documents_are_valid_by_the_drafts_rules(changes: dict[str, Any]) -> None:
    """The rules are the draft's, the judge is the cddl package; see corim.cddl."""
    pycddl = pytest.importorskip("pycddl")
    cbor2 = pytest.importorskip("cbor2")

    def validate(rule: str, raw: bytes) -> None:
        pycddl.Schema(f"start = {rule}\n{CDDL}").validate_cbor(raw)

    unsigned = to_unsigned(manifest(**changes))
    signed = corim.sign(manifest(**changes), P256, signer="s")
    validate("tagged-unsigned-corim-map", unsigned)
    validate("signed-corim", signed)
    protected, _, payload, _ = cbor2.loads(signed).value
    validate("protected-corim-header-map", protected)
    validate("corim-meta-map", cbor2.loads(protected)[8])
    assert payload == unsigned
    # That it judges at all: a document without tags, one with a validity without end, one with a member too many.
    whole = decode(unsigned).value
    for broken in ({0: "x"}, {0: "x", 1: []}, {**whole, 4: {0: Tag(1, 5)}}, {**whole, 9: 1}):
        with pytest.raises(pycddl.ValidationError):
            validate("tagged-unsigned-corim-map", encode(Tag(501, broken)))
    with pytest.raises(pycddl.ValidationError):
        validate("protected-corim-header-map", encode({1: -7, 8: b""}))


def test_the_reference_triples_name_the_programs_by_their_digests() -> None:
    """The digest of a file is hashlib's own, where the file is at hand: here those that the manifest was signed with."""
    sent = manifest()
    values = {v.key: v for v in Corim.unsafe_from_unsigned(to_unsigned(sent)).reference_values}
    kernel = next(c for c in sent.components if c.role == "kernel")
    found = values[f"authenticode:kernel/{kernel.slot}/{kernel.path}"]
    assert found.digests == {bank: kernel.authenticode[bank] for bank in ("sha256", "sha384", "sha512")}
    assert found.environment == {0: {2: sent.name}}
    assert len(values) == 2 * len(sent.components)


def test_the_same_manifest_gives_the_same_bytes() -> None:
    assert to_unsigned(manifest()) == to_unsigned(manifest())
    assert corim.sign(manifest(), KEY, signer="s") == corim.sign(manifest(), KEY, signer="s")


def test_pem_keys_are_taken_too() -> None:
    private = P256.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = P256.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert SignedCorim.from_bytes(corim.sign(manifest(), private, signer="s")).verify(keys=[public]) == manifest()


def test_a_signer_that_signs_something_else_is_noticed() -> None:
    class Broken:
        public_key = P256.public_key()

        def sign(self, data: bytes) -> bytes:
            return P256.sign(data + b"x", ec.ECDSA(hashes.SHA256()))

    with pytest.raises(ManifestError, match="just made does not verify"):
        corim.sign(SMALL, Broken(), signer="s")


# What is refused.


def refused(data: bytes, said: str, **options: Any) -> None:
    with pytest.raises(ManifestError, match=said):
        SignedCorim.from_bytes(data).verify(**{"keys": [KEY.public_key()], "now": NOW, **options})


def test_only_keys_that_the_caller_names_are_believed() -> None:
    signed = corim.sign(manifest(), KEY, signer="s")
    refused(
        signed, "none of the given keys", keys=[P256.public_key(), ed25519.Ed25519PrivateKey.generate().public_key()]
    )
    refused(signed, "no key was given", keys=[])
    for place in (20, 200, len(signed) // 2, len(signed) - 1):
        changed = bytearray(signed)
        changed[place] ^= 1
        try:
            read = SignedCorim.from_bytes(bytes(changed))
        except FormatError:
            continue
        with pytest.raises((ManifestError, FormatError)):
            read.verify(keys=[KEY.public_key()], now=NOW)


def test_an_unsigned_document_is_read_by_an_unsafe_name_alone() -> None:
    unsigned = to_unsigned(manifest())
    with pytest.raises(FormatError, match="not signed"):
        SignedCorim.from_bytes(unsigned)
    read = Corim.unsafe_from_unsigned(unsigned)
    assert (read.signed_by, read.manifest().signed_by, read.manifest()) == (None, None, manifest())
    with pytest.raises(UnsupportedError, match="is signed"):
        Corim.unsafe_from_unsigned(corim.sign(manifest(), KEY, signer="s"))
    with pytest.raises(TypeError):
        Corim(**{f.name: getattr(read, f.name) for f in attrs.fields(Corim)})  # no signed_by by construction


def test_validity_and_rollback() -> None:
    signed = corim.sign(manifest(**BOUNDS, version=3), KEY, signer="s")
    refused(signed, "expired", now=NOW + dt.timedelta(days=31))
    refused(signed, "not valid before", now=NOW - dt.timedelta(days=2))
    refused(signed, "version 3, at least 4", minimum_version=4)
    # A beginning without an end is nothing that CoRIM says; the manifest inside does.
    lone = corim.sign(manifest(not_before=BOUNDS["not_before"]), KEY, signer="s")
    refused(lone, "not valid before", now=NOW - dt.timedelta(days=2))


def resign(payload: Any, *, kind: str = corim.MEDIA_TYPE, meta: Any = None) -> bytes:
    protected = encode({1: -8, 3: kind, **({} if meta is None else {8: meta})})
    raw = payload if isinstance(payload, bytes) else encode(payload)
    return encode(Tag(18, [protected, {}, raw, KEY.sign(encode(["Signature1", protected, b"", raw]))]))


def test_a_message_of_another_kind_is_no_corim() -> None:
    refused(resign(to_unsigned(manifest()), kind="application/json"), "content type 'application/json'")
    with pytest.raises(FormatError, match="expected the tag 501"):
        SignedCorim.from_bytes(resign(b"\xa0")).verify(keys=[KEY.public_key()])


def test_the_signatures_own_validity_counts() -> None:
    meta = encode({0: {0: "s"}, 1: {1: Tag(1, int(NOW.timestamp()) - 5)}})
    refused(resign(to_unsigned(SMALL), meta=meta), "the signature of .* expired")
    for broken in (
        {0: {0: "s"}, 1: {0: Tag(1, 5)}},
        {0: {}, 1: {1: 5}},
        {0: {}, 1: {1: Tag(1, True)}},
        {0: {}, 1: {1: Tag(1, 2**63)}},
        5,
    ):
        with pytest.raises(FormatError):
            SignedCorim.from_bytes(resign(to_unsigned(SMALL), meta=encode(broken))).verify(keys=[KEY.public_key()])
    with pytest.raises(FormatError, match="corim-meta"):
        SignedCorim.from_bytes(resign(to_unsigned(SMALL), meta=5)).verify(keys=[KEY.public_key()])


def with_triples(change: Any) -> bytes:
    document = decode(to_unsigned(manifest())).value
    comid = decode(document[1][0].value)
    change(comid)
    return encode(Tag(501, {**document, 1: [Tag(506, encode(comid))]}))


def test_triples_that_say_something_else_than_the_manifest_are_refused() -> None:
    """A reader of CoRIM alone would take one release for good, and measlog another."""

    def another(comid: dict[Any, Any]) -> None:
        comid[4][0][0][1][0][1][2][0][1] = bytes(32)

    refused(resign(with_triples(another)), "not those of the manifest beside them")
    refused(resign(with_triples(lambda comid: comid[4][0][0][1].pop())), "not those of the manifest")
    refused(resign(with_triples(lambda comid: comid[4][0].pop(0))), "not those of the manifest")
    with pytest.raises(FormatError, match="more than one manifest"):
        Corim.unsafe_from_unsigned(with_triples(lambda comid: comid[4][0].append(comid[4][0][1])))


# Documents of others.


def theirs(mval: Any = None, key: Any = None, **document: Any) -> bytes:
    """Like the draft's example comid-integrity-registers, with digests that hashlib makes."""
    values = {
        14: {
            0: [[1, hashlib.sha256(b"0").digest()], ["my-alg-id", b"\xde\xad"]],
            5: [["sha-384", hashlib.sha384(b"5").digest()]],
            "x": [[1, bytes(32)]],
        }
    }
    environment = {0: {0: Tag(37, bytes(16)), 1: "ACME Inc.", 2: "ACME RoadRunner", 3: 1}}
    comid = {
        1: {0: bytes(16)},
        2: [{0: "ACME Inc.", 1: Tag(32, "https://acme.example"), 2: [0]}],
        4: {0: [[environment, [{1: mval or values} | ({} if key is None else {0: key})]]]},
    }
    fields = {0: bytes(16), 1: [Tag(506, encode(comid))], **{int(k[1:]): v for k, v in document.items()}}
    return encode(Tag(501, fields))


def test_documents_of_others_give_their_register_values() -> None:
    read = SignedCorim.from_bytes(resign(theirs())).verify_document(keys=[KEY.public_key()])
    assert read.signed_by == (key_id(KEY.public_key()),)
    assert read.registers() == {
        "sha256": {0: (hashlib.sha256(b"0").digest(),)},
        "sha384": {5: (hashlib.sha384(b"5").digest(),)},
    }
    (value,) = read.reference_values
    assert value.registers[0]["hash my-alg-id"] == b"\xde\xad"
    assert value.registers["x"] == {"sha256": bytes(32)}
    assert value.key is None
    with pytest.raises(ManifestError, match="holds no manifest of measlog"):
        read.manifest()
    tagged = Corim.unsafe_from_unsigned(theirs(key=Tag(37, bytes(16)))).reference_values
    assert tagged[0].key == bytes(16)
    keyed = Corim.unsafe_from_unsigned(theirs({2: [[1, bytes(32)]], 11: "name"})).reference_values
    assert keyed[0].digests == {"sha256": bytes(32)}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (theirs(f3=Tag(32, "https://example.com/profile")), "a document of a profile"),
        (theirs(f4={}), "no end of validity"),
        (theirs(f4=5), "corim.rim-validity: expected a map"),
        (theirs(f1=[]), "corim.tags: expected a list that is not empty"),
        (theirs(f1=[5]), "corim.tags[0]: expected a tagged byte string"),
        (theirs(f1=[Tag(505, b"")]), "a tag 505"),
        (theirs(f1=[Tag(506, b"\xff")]), "corim.tags[0]"),
        (theirs(f1=[Tag(506, encode({1: {}, 4: {0: [[{}]]}}))]), "1 elements instead of two"),
        (theirs(f1=[Tag(506, encode({1: {}, 4: {0: [[{}, [{0: [], 1: {}}]]]}}))]), "mkey"),
        (theirs(f0=5), "corim.id"),
        (theirs({4: Tag(560, b"{}")}, key=corim.MANIFEST_KEY, f4={}), "no end of validity"),
        (theirs({4: b"{}"}, key=corim.MANIFEST_KEY), "raw-value: expected tagged bytes"),
        (theirs({4: Tag(563, [b"", b""])}, key=corim.MANIFEST_KEY), "raw-value: expected tagged bytes"),
        (theirs({2: []}), "mval.digests: expected a list"),
        (theirs({2: [[1, bytes(31)]]}), "sha256 of 31 bytes"),
        (theirs({2: [[1, bytes(32)], ["sha-256", bytes(32)]]}), "sha256 is there twice"),
        (theirs({2: [[1]]}), "an algorithm and a byte string"),
        (theirs({2: [[None, b""]]}), "the number or name of a hash"),
        (theirs({14: {-1: [[1, bytes(32)]]}}), "the number or name of a register"),
        (theirs({14: {True: [[1, bytes(32)]]}}), "the number or name of a register"),
    ],
)
def test_what_the_draft_forbids_is_refused_with_its_place(raw: bytes, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        Corim.unsafe_from_unsigned(raw)
    assert said in str(caught.value)


@settings(max_examples=25)
@given(
    st.integers(0, 2**53),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40),
    st.binary(min_size=32, max_size=32),
)
def test_any_manifest_comes_back_equal(version: int, name: str, digest: bytes) -> None:
    try:
        first = attrs.evolve(SMALL.components[0], flat={**SMALL.components[0].flat, "sha256": digest})
        sent = attrs.evolve(SMALL, name=name, version=version, components=(first,))
    except ManifestError:  # names that a manifest must not have
        return
    assert Corim.unsafe_from_unsigned(to_unsigned(sent)).manifest() == sent
