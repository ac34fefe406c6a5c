"""Files of tpm2-tools in every form, made by tpm2-tools with a software TPM; ``tpm2_checkquote`` is the oracle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

import measlog as ml
from measlog.errors import FormatError, PcrDigestError, SignatureError
from measlog.formats.tpm2 import PcrSelection
from measlog.interop import seal
from measlog.interop.tpm2files import parse_selection, read_quote, read_register_values
from tests.cli.command import Runner
from tests.conftest import FIXTURES
from tests.evidence import quotes
from tests.interop.swtpm import SoftwareTpm, software_tpm

NONCE = bytes(range(20))
SELECTION = "sha1:0,23+sha256:0,8,9,16+sha384:4"
KEYS = ("ecc", "rsa")
FORMS = ("tss", "plain")


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    """A TPM with something in its registers, and with an ECC and an RSA AK: public parts in PEM and as TPM2B_PUBLIC."""
    with software_tpm(tmp_path_factory.mktemp("tpm")) as running:
        for pcr in (0, 4, 8, 16):
            running.extend(pcr, {"sha1": bytes([pcr]) * 20, "sha256": bytes([pcr]) * 32, "sha384": bytes([pcr]) * 48})
        running.tpm2("createek", "-c", "ek.ctx", "-G", "ecc", "-u", "ek.pub")
        running.tpm2("flushcontext", "-t")
        for kind, scheme in (("ecc", "ecdsa"), ("rsa", "rsassa")):
            made = ["-C", "ek.ctx", "-c", f"{kind}.ctx", "-G", kind, "-g", "sha256", "-s", scheme]
            running.tpm2("createak", *made, "-u", f"{kind}.pem", "-f", "pem")
            running.tpm2("flushcontext", "-t")
            running.tpm2("readpublic", "-c", f"{kind}.ctx", "-o", f"{kind}.tss", "-f", "tss")
            running.tpm2("flushcontext", "-t")
            for form in FORMS:
                for values in ("serialized", "values"):
                    name = f"{kind}-{form}-{values}"
                    running.tpm2(
                        *("quote", "-c", f"{kind}.ctx", "-l", SELECTION, "-q", NONCE.hex(), "-f", form, "-F", values),
                        *("-m", f"{name}.msg", "-s", f"{name}.sig", "-o", f"{name}.pcrs", "-g", "sha256"),
                    )
                    running.tpm2("flushcontext", "-t")
        yield running


def read(tpm: SoftwareTpm, name: str) -> bytes:
    return (tpm.folder / name).read_bytes()


def registers(tpm: SoftwareTpm) -> dict[str, dict[int, bytes]]:
    """Each register as the TPM prints it when it is asked for it alone."""
    found: dict[str, dict[int, bytes]] = {}
    for part in SELECTION.split("+"):
        bank, _, pcrs = part.partition(":")
        for pcr in pcrs.split(","):
            tpm.tpm2("pcrread", f"{bank}:{pcr}", "-o", "one")
            found.setdefault(bank, {})[int(pcr)] = read(tpm, "one")
    return found


@pytest.mark.parametrize("values", ["serialized", "values"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KEYS)
def test_every_form_of_a_quote_verifies(tpm: SoftwareTpm, kind: str, form: str, values: str) -> None:
    name = f"{kind}-{form}-{values}"
    for key in (read(tpm, f"{kind}.pem"), read(tpm, f"{kind}.tss")):
        quote = read_quote(read(tpm, f"{name}.msg"), read(tpm, f"{name}.sig"), ak=key)
        quote.verify_signature(key, NONCE)
        pcrs = read_register_values(read(tpm, f"{name}.pcrs"), quote.selections)
        assert pcrs == registers(tpm)
        quote.verify_pcr_digest(pcrs)


def test_sizes_are_those_of_the_forms(tpm: SoftwareTpm) -> None:
    """So that the forms above are different ones: TPMT_SIGNATURE, DER, the bare RSA signature, bare values."""
    assert read(tpm, "ecc-tss-values.sig")[:4] == bytes.fromhex("0018000b")
    assert read(tpm, "ecc-plain-values.sig")[:1] == b"\x30"
    assert len(read(tpm, "rsa-tss-values.sig")) == 262
    assert len(read(tpm, "rsa-plain-values.sig")) == 256
    assert len(read(tpm, "ecc-tss-values.pcrs")) == 2 * 20 + 4 * 32 + 48


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("part", ["msg", "sig", "pcrs", None])
def test_tpm2_checkquote_agrees(tpm: SoftwareTpm, kind: str, part: str | None) -> None:
    """On a quote as it is, and with the last byte of each of its files changed."""
    name = f"{kind}-tss-serialized"
    files = {one: read(tpm, f"{name}.{one}") for one in ("msg", "sig", "pcrs")}
    if part == "pcrs":
        # A value, not the padding behind the last one.
        place = files["pcrs"].index(registers(tpm)["sha256"][8])
        files["pcrs"] = files["pcrs"][:place] + b"\x01" + files["pcrs"][place + 1 :]
    elif part is not None:
        files[part] = files[part][:-1] + bytes([files[part][-1] ^ 1])
    for one, data in files.items():
        (tpm.folder / f"changed.{one}").write_bytes(data)
    done = tpm.tpm2(
        *("checkquote", "-u", f"{kind}.pem", "-m", "changed.msg", "-s", "changed.sig", "-f", "changed.pcrs"),
        *("-q", NONCE.hex(), "-g", "sha256"),
        check=False,
    )
    assert (done.returncode == 0) is (part is None)
    try:
        quote = read_quote(files["msg"], files["sig"], ak=read(tpm, f"{kind}.pem"))
        quote.verify_signature(read(tpm, f"{kind}.pem"), NONCE)
        quote.verify_pcr_digest(read_register_values(files["pcrs"], quote.selections))
    except (SignatureError, PcrDigestError):
        assert part is not None
    else:
        assert part is None


@pytest.mark.parametrize(
    "selection", ["sha256:0,8", "sha1:23,0+sha384:4,8", "sha256:all", "sha1:16+sha256:16+sha384:16"]
)
def test_what_pcrread_writes_is_read(tpm: SoftwareTpm, selection: str) -> None:
    tpm.tpm2("pcrread", selection, "-o", "read")
    found = read_register_values(read(tpm, "read"), parse_selection(selection))
    for bank, pcrs in registers(tpm).items():
        for pcr, value in pcrs.items():
            if pcr in found.get(bank, {}):
                assert found[bank][pcr] == value
    assert sum(len(pcrs) for pcrs in found.values()) * 20 <= len(read(tpm, "read"))


def test_values_files_for_policypcr_are_those_of_pcrread(tpm: SoftwareTpm) -> None:
    tpm.tpm2("pcrread", "sha256:0,8,16", "-o", "read")
    values = read_register_values(read(tpm, "read"), parse_selection("sha256:0,8,16"))["sha256"]
    policy = seal.tpm2_policy([seal.State(bank="sha256", names=("now",), values=values)])
    assert policy.branches[0].values == read(tpm, "read")
    (tpm.folder / "given").write_bytes(policy.branches[0].values)
    tpm.tpm2("startauthsession", "-S", "trial.ctx", "-g", "sha256")
    tpm.tpm2("policypcr", "-S", "trial.ctx", "-l", policy.branches[0].selection, "-f", "given", "-L", "made")
    tpm.tpm2("flushcontext", "trial.ctx")
    assert read(tpm, "made") == policy.digest


@pytest.mark.parametrize("values", ["serialized", "values"])
@pytest.mark.parametrize("form", FORMS)
def test_the_command_takes_every_form(tpm: SoftwareTpm, measlog: Runner, form: str, values: str) -> None:
    name = f"ecc-{form}-{values}"
    paths: list[Any] = [tpm.folder / f"{name}.{part}" for part in ("msg", "sig", "pcrs")]
    words = [
        "quote",
        "--quote",
        paths[0],
        "--signature",
        paths[1],
        "--ak",
        tpm.folder / "ecc.pem",
        "--nonce",
        NONCE.hex(),
    ]
    assert measlog(*words, "--pcrs", paths[2]).status == 0
    short = tpm.folder / "short"
    short.write_bytes(paths[2].read_bytes()[:-1])
    done = measlog(*words, "--pcrs", short)
    assert done.status == 3
    assert str(short) in done.err


@pytest.fixture
def measlog(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


# What follows needs no TPM: keys and quotes made in the test.


def plain(key: Any, message: bytes, name: str = "sha256") -> bytes:
    """A signature as ``-f plain`` gives it."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(quotes.HASHES[name]))
    signed: bytes = key.sign(message, padding.PKCS1v15(), quotes.HASHES[name])
    return signed


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("make", [quotes.ecc_key, quotes.rsa_key])
def test_the_hash_of_a_plain_signature_is_the_quotes(make: Any, name: str) -> None:
    key = make()
    message = quotes.attest(
        selections=[quotes.selection("sha256", [0])], digest=quotes.digest_of([bytes(32)], name), nonce=NONCE
    )
    quote = read_quote(message, plain(key, message, name), ak=key.public_key())
    quote.verify_signature(key.public_key(), NONCE)
    assert quote.hash == name


def test_the_hash_of_a_plain_signature_is_the_one_that_the_key_is_bound_to() -> None:
    key = quotes.rsa_key()
    bound = quotes.public(key, scheme=quotes.RSASSA, name="sha384")
    message = quotes.attest(selections=[quotes.selection("sha256", [0])], digest=bytes(32), nonce=NONCE)
    quote = read_quote(message, plain(key, message, "sha384"), ak=bound)
    quote.verify_signature(bound, NONCE)
    assert quote.hash == "sha384"


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_curves_of_every_size(curve: type[ec.EllipticCurve]) -> None:
    key = quotes.ecc_key("curve", curve)
    message = quotes.attest(selections=[quotes.selection("sha256", [0])], digest=bytes(32), nonce=NONCE)
    read_quote(message, plain(key, message), ak=key.public_key()).verify_signature(key.public_key(), NONCE)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (b"\x30", "no ECDSA signature"),
        (b"\x30\x00", "no ECDSA signature"),
        (encode_dss_signature(1, 2) + b"\0", "no ECDSA signature"),
        (encode_dss_signature(1 << 256, 2), "do not fit"),
        (bytes.fromhex("30060201010201fe"), "do not fit|no ECDSA"),
        (b"", "end inside"),
    ],
)
def test_what_is_no_signature_is_refused(signature: bytes, message: str) -> None:
    attest = quotes.attest(selections=[quotes.selection("sha256", [0])], digest=bytes(32), nonce=NONCE)
    with pytest.raises(FormatError, match=message) as caught:
        read_quote(attest, signature, ak=quotes.ecc_key().public_key())
    assert (caught.value.path or "").startswith("signature")


def test_a_plain_signature_of_no_known_hash_is_refused() -> None:
    attest = quotes.attest(selections=[quotes.selection("sha256", [0])], digest=bytes(33), nonce=NONCE)
    with pytest.raises(FormatError, match="33 bytes"):
        read_quote(attest, bytes(256), ak=quotes.rsa_key().public_key())


def test_a_signature_by_another_key_is_refused_in_either_form() -> None:
    attest = quotes.attest(selections=[quotes.selection("sha256", [0])], digest=bytes(32), nonce=NONCE)
    other, key = quotes.ecc_key("other"), quotes.ecc_key()
    quote = read_quote(attest, plain(other, attest), ak=key.public_key())
    with pytest.raises(SignatureError):
        quote.verify_signature(key.public_key(), NONCE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:a",
        "md5:0",
        "sha256:24",
        "sha256:0+",
        "sha256:0+sha256:1",
        "sha256:0,,1",
        "sha256:0 ",
        "x" * 2000,
    ],
)
def test_what_is_no_selection_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_selection(text)
    assert caught.value.path == "selection"


def test_selections() -> None:
    assert parse_selection("sha1:3,1,3+sha256:none+sha384:all") == (
        PcrSelection(algorithm="sha1", pcrs=(1, 3)),
        PcrSelection(algorithm="sha256", pcrs=()),
        PcrSelection(algorithm="sha384", pcrs=tuple(range(24))),
    )


def select(*banks: tuple[str, Sequence[int]]) -> list[PcrSelection]:
    return [PcrSelection(algorithm=name, pcrs=tuple(pcrs)) for name, pcrs in banks]


@pytest.mark.parametrize(
    ("data", "selections", "message"),
    [
        (bytes(31), select(("sha256", [0])), "end inside"),
        (bytes(33), select(("sha256", [0])), "end inside"),
        (b"", [], "end inside"),
        (bytes(32), select(("0x0099", [0])), "end inside"),
        (bytes(64), select(("sha256", [0]), ("sha256", [1])), "twice"),
    ],
)
def test_values_of_another_length_are_refused(data: bytes, selections: list[PcrSelection], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_register_values(data, selections)


@given(st.binary(max_size=200))
def test_any_bytes_are_values_or_an_error(data: bytes) -> None:
    selections = select(("sha1", [0, 23]), ("sha256", [7]))
    if len(data) == 72:
        assert b"".join(v for bank in read_register_values(data, selections).values() for v in bank.values()) == data
    else:
        with pytest.raises(FormatError):
            read_register_values(data, selections)


def test_the_fixtures_registers_are_what_their_tpm_reported() -> None:
    folder = FIXTURES / "flatcar-lab-good"
    quote = ml.Quote.from_bytes((folder / "quote.msg").read_bytes(), (folder / "quote.sig").read_bytes())
    found = read_register_values((folder / "quote.pcrs").read_bytes(), quote.selections)
    reported = json.loads((folder / "pcrs.json").read_text())["sha256"]
    assert {str(pcr): value.hex() for pcr, value in found["sha256"].items()}.items() <= reported.items()
