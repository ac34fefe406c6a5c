"""Sealing formats: values and digests against a TPM (swtpm by tpm2-tools) and against separate computations."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import PolicyError
from measlog.flatcar.boot import PredictedBoot, predict
from measlog.interop import seal
from measlog.interop.seal import policy
from tests.flatcar.grub.manifests import manifest
from tests.interop.swtpm import SoftwareTpm, software_tpm

PCRS = (4, 8, 9)


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    with software_tpm(tmp_path_factory.mktemp("tpm")) as running:
        yield running


@pytest.fixture(scope="module")
def boots(shared: Path) -> list[PredictedBoot]:
    """Now (slot a), after the update (slot b), and back in slot a: the same registers as now, and those of a fall back."""
    old, new = manifest(shared), manifest(shared, updated=True)
    now = predict(old, secure_boot=True, slot="a", first_boot=False)
    after = predict(new, bootloader=old, secure_boot=True, slot="b", first_boot=False)
    return [now[0], *(boot for boot in after if boot.chosen == "b"), *now[1:]]


def state(values: dict[int, bytes], bank: str = "sha256") -> seal.State:
    return seal.State(bank=bank, names=("x",), values=values)


def values_of(*pcrs: int, seed: int = 0, size: int = 32) -> dict[int, bytes]:
    return {pcr: hashlib.sha512(bytes([seed, pcr])).digest()[:size] for pcr in pcrs}


def boot_into(tpm: SoftwareTpm, boot: PredictedBoot, pcrs: tuple[int, ...] = PCRS) -> None:
    """Start the TPM afresh and make the measurements of a boot."""
    tpm.restart()
    for pcr in pcrs:
        for event in boot.of(pcr):
            tpm.extend(pcr, {bank: event.digests[bank] for bank in ("sha1", "sha256", "sha384")})


def test_states_are_what_the_tpm_has_after_the_measurements(tpm: SoftwareTpm, boots: list[PredictedBoot]) -> None:
    boot_into(tpm, boots[0])
    for bank in ("sha1", "sha256", "sha384"):
        tpm.tpm2("pcrread", f"{bank}:4,8,9", "-o", "values")
        (one,) = seal.states_of(boots[:1], (9, 4, 8), bank)
        assert (tpm.folder / "values").read_bytes() == one.concatenated


@pytest.mark.parametrize("policy_hash", ["sha256", "sha384"])
@pytest.mark.parametrize(("bank", "size"), [("sha1", 20), ("sha256", 32), ("sha384", 48)])
@pytest.mark.parametrize("pcrs", [(0,), (8, 9), (4, 7, 8, 9, 14, 23)])
def test_policy_pcr_is_the_tpms(
    tpm: SoftwareTpm, policy_hash: str, bank: str, size: int, pcrs: tuple[int, ...]
) -> None:
    one = state(values_of(*pcrs, size=size), bank)
    policy = seal.tpm2_policy([one], policy_hash)
    (tpm.folder / "given").write_bytes(policy.branches[0].values)
    tpm.tpm2("startauthsession", "-S", "trial.ctx", "-g", policy_hash)
    tpm.tpm2("policypcr", "-S", "trial.ctx", "-l", policy.branches[0].selection, "-f", "given", "-L", "made")
    tpm.tpm2("flushcontext", "trial.ctx")
    assert (tpm.folder / "made").read_bytes() == policy.digest
    assert policy.groups == ()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_policy_or_is_the_tpms(tpm: SoftwareTpm, count: int) -> None:
    policy = seal.tpm2_policy([state(values_of(8, seed=seed)) for seed in range(count)])
    files = []
    for index, branch in enumerate(policy.branches):
        (tpm.folder / f"branch-{index}").write_bytes(branch.digest)
        files.append(f"branch-{index}")
    tpm.tpm2("startauthsession", "-S", "trial.ctx")
    tpm.tpm2("policyor", "-S", "trial.ctx", "-L", "made", "sha256:" + ",".join(files))
    tpm.tpm2("flushcontext", "trial.ctx")
    assert (tpm.folder / "made").read_bytes() == policy.digest


def policy_or(branches: list[bytes]) -> bytes:
    """PolicyOR by its definition in TPM 2.0 Library, part 3, computed here."""
    return hashlib.sha256(bytes(32) + struct.pack(">I", 0x171) + b"".join(branches)).digest()


def test_more_than_eight_branches_are_nested() -> None:
    policy = seal.tpm2_policy([state(values_of(8, seed=seed)) for seed in range(10)])
    digests = [branch.digest for branch in policy.branches]
    first, second = policy_or(digests[:8]), policy_or(digests[8:])
    assert policy.digest == policy_or([first, second])
    assert policy.steps(0) == (tuple(digests[:8]), (first, second))
    assert policy.steps(9) == (tuple(digests[8:]), (first, second))
    nine = seal.tpm2_policy([state(values_of(8, seed=seed)) for seed in range(9)])
    # A group of one needs no PolicyOR of its own.
    assert nine.steps(8) == ((first, digests[8]),)


def seal_secret(tpm: SoftwareTpm, policy: seal.Tpm2Policy) -> None:
    (tpm.folder / "policy").write_bytes(policy.digest)
    tpm.tpm2("createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx")
    tpm.tpm2(
        "create", "-C", "primary.ctx", "-u", "sealed.pub", "-r", "sealed.priv", "-L", "policy", "-i", "-", stdin=b"it"
    )
    tpm.tpm2("flushcontext", "-t")


def unseal(tpm: SoftwareTpm, policy: seal.Tpm2Policy, index: int) -> bytes | None:
    """Try the branch ``index``: PolicyPCR over the registers as they are, then its PolicyOR lists."""
    tpm.tpm2("createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx")
    tpm.tpm2("load", "-C", "primary.ctx", "-u", "sealed.pub", "-r", "sealed.priv", "-c", "sealed.ctx")
    # The TPM has three places for objects and no resource manager; the context files keep what is flushed.
    tpm.tpm2("flushcontext", "-t")
    tpm.tpm2("startauthsession", "--policy-session", "-S", "session.ctx")
    tpm.tpm2("policypcr", "-S", "session.ctx", "-l", policy.branches[index].selection)
    for group in policy.steps(index):
        names = []
        for number, digest in enumerate(group):
            (tpm.folder / f"or-{number}").write_bytes(digest)
            names.append(f"or-{number}")
        if tpm.tpm2("policyor", "-S", "session.ctx", "sha256:" + ",".join(names), check=False).returncode:
            break
    done = tpm.tpm2("unseal", "-c", "sealed.ctx", "-p", "session:session.ctx", check=False)
    tpm.tpm2("flushcontext", "session.ctx")
    tpm.tpm2("flushcontext", "-t")
    return done.stdout if done.returncode == 0 else None


def test_a_secret_sealed_to_the_next_boot_opens_then_and_after_going_back(
    tpm: SoftwareTpm, boots: list[PredictedBoot], shared: Path
) -> None:
    states = seal.states_of(boots, PCRS)
    policy = seal.tpm2_policy(states)
    assert len(states) >= 3
    seal_secret(tpm, policy)
    for index, name in enumerate(one.names[0] for one in states):
        boot_into(tpm, next(boot for boot in boots if boot.name == name))
        assert unseal(tpm, policy, index) == b"it"
    tampered = predict(
        manifest(shared),
        secure_boot=True,
        slot="a",
        first_boot=False,
        oem_grub_cfg=b'set linux_append="init=/bin/sh"\n',
    )[0]
    boot_into(tpm, tampered)
    assert all(unseal(tpm, policy, index) is None for index in range(len(states)))


def test_states_refuse_what_would_seal_to_less_than_was_asked_for(boots: list[PredictedBoot]) -> None:
    with pytest.raises(PolicyError, match="register 7 is not known"):
        seal.states_of(boots, (7, 8))
    with pytest.raises(PolicyError, match="no register"):
        seal.states_of(boots, ())
    with pytest.raises(PolicyError, match="twice"):
        seal.states_of(boots, (8, 8))
    with pytest.raises(PolicyError, match="no boot"):
        seal.states_of([], (8,))
    with pytest.raises(PolicyError, match="bank"):
        seal.states_of(boots, (8,), "sm3_256")
    with pytest.raises(PolicyError, match="no kernel starts"):
        seal.states_of([attrs.evolve(boots[0], outcome="menu")], (8,))


def test_equal_states_are_one(boots: list[PredictedBoot]) -> None:
    (one,) = seal.states_of([boots[0], boots[0]], (8,))
    assert one.names == (boots[0].name,) * 2


@pytest.mark.parametrize(
    "values",
    [{}, {24: bytes(32)}, {-1: bytes(32)}, {8: bytes(20)}, {8: b""}],
    ids=["none", "24", "-1", "sha1", "empty"],
)
def test_a_state_holds_registers_of_its_bank(values: dict[int, bytes]) -> None:
    with pytest.raises(PolicyError):
        state(values)


def test_cryptenroll_arguments() -> None:
    """The syntax of systemd-cryptenroll(1): INDEX:BANK=HEX joined by +, ascending, one argument a state."""
    made = seal.cryptenroll_arguments([state({9: b"\x09" * 32, 8: b"\x08" * 32}), state({8: bytes(32)})])
    assert made == (f"--tpm2-pcrs=8:sha256={'08' * 32}+9:sha256={'09' * 32}", f"--tpm2-pcrs=8:sha256={'00' * 32}")


def test_clevis_config() -> None:
    """clevis-encrypt-tpm2(1): unpadded base64url of the raw values in ascending order."""
    pin, text = seal.clevis_config([state({9: b"\xff" * 32, 8: b"\xfb" * 32})])
    config = json.loads(text)
    assert pin == "tpm2"
    assert {key: config[key] for key in ("pcr_bank", "pcr_ids")} == {"pcr_bank": "sha256", "pcr_ids": "8,9"}
    assert not set(config["pcr_digest"]) & set("=+/")
    padded = config["pcr_digest"] + "=" * (-len(config["pcr_digest"]) % 4)
    assert base64.urlsafe_b64decode(padded) == b"\xfb" * 32 + b"\xff" * 32
    pin, text = seal.clevis_config([state({8: bytes(32)}), state({8: b"\x01" * 32})])
    assert pin == "sss"
    assert json.loads(text)["t"] == 1
    assert len(json.loads(text)["pins"]["tpm2"]) == 2


def test_pcrsig_is_signed_over_the_policy() -> None:
    """``pol`` is the PolicyPCR digest; ``sig`` is RSASSA-PKCS1-v1_5 over its bytes; ``pkfp`` the PKCS#1 DER's SHA-256."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    states = [state(values_of(8, 9, seed=seed)) for seed in range(2)]
    document = json.loads(seal.pcrsig(states, seal.SigningKey.from_pem(pem)))
    der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    assert [entry["pol"] for entry in document["sha256"]] == [seal.policy_pcr(one).hex() for one in states]
    for entry in document["sha256"]:
        assert entry["pcrs"] == [8, 9]
        assert entry["pkfp"] == hashlib.sha256(der).hexdigest()
        signature = base64.b64decode(entry["sig"], validate=True)
        private.public_key().verify(signature, bytes.fromhex(entry["pol"]), padding.PKCS1v15(), hashes.SHA256())


def test_pcrsig_takes_rsa_keys_alone() -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for pem in (curve, b"", b"-----BEGIN PRIVATE KEY-----\n"):
        with pytest.raises(PolicyError):
            seal.SigningKey.from_pem(pem)


SM3 = state(values_of(8), "sm3_256")
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "clevis, nothing": (lambda: seal.clevis_config([]), "no state to seal to"),
    "cryptenroll, nothing": (lambda: seal.cryptenroll_arguments([]), "no state to seal to"),
    # systemd-cryptenroll(1) knows SHA-1 and the three of SHA-2
    "cryptenroll, SM3": (lambda: seal.cryptenroll_arguments([SM3]), "systemd-cryptenroll has no bank sm3_256"),
    "tpm2, nothing": (lambda: seal.tpm2_policy([]), "no state to seal to"),
    "tpm2, MD5": (lambda: seal.tpm2_policy([state(values_of(8))], "md5"), "the policy hash 'md5' cannot be computed"),
    "an unheard of bank": (lambda: state(values_of(8), "md5"), "bank 'md5' is not known"),
    # TPM 2.0 Library, part 3, TPM2_PolicyOR: two to eight digests, of the policy's own algorithm
    "an OR over one": (lambda: policy.policy_or([bytes(32)]), "PolicyOR takes 2 to 8 branches, not 1"),
    "an OR over nine": (lambda: policy.policy_or([bytes(32)] * 9), "PolicyOR takes 2 to 8 branches, not 9"),
    "an OR of two kinds": (lambda: policy.policy_or([bytes(32), bytes(20)]), "a branch is no sha256 digest"),
    "an OR by MD5": (lambda: policy.policy_or([bytes(16)] * 2, "md5"), "a branch is no md5 digest"),
    "a tree of nothing": (lambda: policy.policy_tree([]), "no branch"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_seal_to_nothing_or_never_open_is_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(PolicyError, match=message):
        make()


def test_pcrsig_signs_nothing_and_no_bank_that_systemd_does_not_read() -> None:
    key = seal.SigningKey(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(PolicyError, match="no state to sign"):
        seal.pcrsig([], key)
    with pytest.raises(PolicyError, match="policies over the bank sm3_256 are not signed"):
        seal.pcrsig([SM3], key)
    with pytest.raises(PolicyError, match="signed with an RSA key"):
        seal.SigningKey(ec.generate_private_key(ec.SECP256R1()))  # type: ignore[arg-type]


def test_pcrlock_components_are_of_banks_that_it_takes_and_never_empty(boots: list[PredictedBoot]) -> None:
    for banks in ((), ("sha256", "sm3_256")):
        with pytest.raises(PolicyError, match="systemd-pcrlock does not take the banks"):
            seal.pcrlock_components(boots, PCRS, banks=banks)
    # A component without records is in every log.
    silent = attrs.evolve(boots[0], events=tuple(e for e in boots[0].events if e.pcr != 8))
    with pytest.raises(PolicyError, match=r"no event in the registers \[8\]"):
        seal.pcrlock_components([silent], (8,))


def test_boots_that_are_called_the_same_have_files_of_their_own(boots: list[PredictedBoot]) -> None:
    named = [attrs.evolve(boot, name="Slot A!") for boot in boots[:2]]
    files = seal.pcrlock_components(named, PCRS)
    assert list(files) == [f"600-flatcar-boot.pcrlock.d/{name}.pcrlock" for name in ("slot-a", "slot-a-1")]
    assert sorted(files.values()) == sorted(seal.pcrlock_components(boots[:2], PCRS).values())


def test_pcrlock_components_carry_the_events(boots: list[PredictedBoot]) -> None:
    """An object with ``records``; replayed by a separate fold they give the registers."""
    files = seal.pcrlock_components(boots, PCRS, banks=("sha256", "sha384"))
    assert len(files) == len(boots)
    assert all(path.startswith("600-flatcar-boot.pcrlock.d/") for path in files)
    for content, boot in zip(files.values(), boots, strict=True):
        document = json.loads(content)
        assert set(document) == {"records"}
        for bank in ("sha256", "sha384"):
            for pcr in PCRS:
                value = bytes(hashlib.new(bank).digest_size)
                for record in document["records"]:
                    if record["pcr"] == pcr:
                        digest = {d["hashAlg"]: d["digest"] for d in record["digests"]}[bank]
                        value = hashlib.new(bank, value + bytes.fromhex(digest)).digest()
                assert value == boot.pcrs[bank][pcr]
    assert list(seal.pcrlock_components(boots[:1], PCRS)) == ["600-flatcar-boot.pcrlock"]
    with pytest.raises(PolicyError, match="register 7"):
        seal.pcrlock_components(boots, (7,))
    with pytest.raises(PolicyError):
        seal.pcrlock_components([], PCRS)


def test_the_document_is_plain_json(boots: list[PredictedBoot]) -> None:
    document = json.loads(json.dumps(seal.prediction_document(boots)))
    assert document["measlog"] == "predict/1"
    assert document["boots"][0]["pcrs"]["sha256"]["8"] == boots[0].pcrs["sha256"][8].hex()
    assert document["boots"][0]["events"][-1]["kind"] == "cmdline"


@given(st.dictionaries(st.integers(0, 23), st.binary(min_size=32, max_size=32), min_size=1))
def test_any_state_has_the_policy_of_the_definition(values: dict[int, bytes]) -> None:
    """PolicyPCR as TPM 2.0 Library, part 3 defines it, written out once more."""
    bitmap = [0, 0, 0]
    for pcr in values:
        bitmap[pcr // 8] |= 1 << pcr % 8
    digest = hashlib.sha256(b"".join(values[pcr] for pcr in sorted(values))).digest()
    body = bytes(32) + bytes.fromhex("0000017f00000001000b03") + bytes(bitmap) + digest
    assert seal.policy_pcr(state(values)) == hashlib.sha256(body).digest()
