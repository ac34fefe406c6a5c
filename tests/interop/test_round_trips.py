"""What is written is read again, whatever it holds: the formats that have no such property beside their other tests.

Where this library reads only, what is read was packed by the tests' own encoders, after the specifications.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from measlog.formats.sevsnp import parse_snp_report
from measlog.interop import ear
from measlog.interop.keylime import AgentQuote, KeylimePolicy, KeylimeState, policy_document
from measlog.interop.keylime.refstate import StateFirmware, StateKernel, StateKey
from measlog.registry import ALGORITHMS_BY_NAME
from tests.conftest import FIXTURES
from tests.evidence import snp_maker
from tests.evidence.quotes import pcr_file

GOOD = FIXTURES / "flatcar-lab-good"
IDS = {"sha1": 0x4, "sha256": 0xB, "sha384": 0xC, "sha512": 0xD}

sha256 = st.binary(min_size=32, max_size=32)
digests = st.lists(st.sampled_from(sorted(ALGORITHMS_BY_NAME)), min_size=1, max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries(
        {n: st.binary(min_size=ALGORITHMS_BY_NAME[n].size, max_size=ALGORITHMS_BY_NAME[n].size) for n in names}
    )
)
keys = st.lists(st.builds(StateKey, owner=st.uuids(), data=st.binary(min_size=1, max_size=40)), max_size=3).map(tuple)
kernels = st.builds(
    StateKernel,
    shim=sha256,
    grub=sha256,
    kernel=st.none() | sha256,
    vmlinuz=st.none() | sha256,
    initrd=st.none() | sha256,
    command_line=st.text("abc =/.,-\"'\u00e9\u4e2d", max_size=30),
)
states = st.builds(
    KeylimeState,
    secure_boot=st.booleans(),
    firmware=st.lists(
        st.builds(StateFirmware, scrtm=digests, blobs=st.lists(digests, max_size=3).map(tuple)), max_size=2
    ).map(tuple),
    **dict.fromkeys(("pk", "kek", "db", "dbx", "vendor_db"), keys),
    **dict.fromkeys(("mok_list", "mok_list_x"), st.lists(digests, max_size=2).map(tuple)),
    kernels=st.lists(kernels, max_size=2).map(tuple),
)


@settings(max_examples=50)
@given(states)
def test_reference_states_of_keylimes(state: KeylimeState) -> None:
    written = state.to_json()
    assert KeylimeState.from_json(written) == state
    assert KeylimeState.from_json(written).to_json() == written


@settings(max_examples=10, deadline=None)
@given(st.text("abc \u00e9\u4e2d", min_size=1, max_size=20), st.integers(0, 1000), st.booleans())
def test_policies_for_keylime(name: str, floor: int, secure_boot: bool) -> None:
    toml = f'format = "measlog.policy/1"\nname = "{name}"\nuse = "flatcar"\nsecure_boot = {str(secure_boot).lower()}\n'
    manifest = (GOOD / "manifest.dsse.json").read_bytes()
    text = policy_document(
        policy=toml,
        manifests=[manifest],
        keys=[(FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()],
        minimum_version=floor,
    )
    read = KeylimePolicy.from_json(text)
    assert (read.policy.name, len(read.manifests)) == (name, 1)
    assert KeylimePolicy.from_json(text.decode()) == read


selected = st.dictionaries(
    st.sampled_from(sorted(IDS)), st.sets(st.integers(0, 23), min_size=1, max_size=6), min_size=1, max_size=3
)


@settings(max_examples=50)
@given(selected, st.randoms(use_true_random=False))
def test_quotes_of_keylimes_agents(pcrs: dict[str, set[int]], random: Any) -> None:
    """The values are those that the register file says, bank by bank in ascending order, whatever they are."""
    message, signature = ((GOOD / f"quote.{part}").read_bytes() for part in ("msg", "sig"))
    values = {
        bank: {pcr: random.randbytes(ALGORITHMS_BY_NAME[bank].size) for pcr in sorted(pcrs[bank])} for bank in pcrs
    }
    packed = pcr_file(
        [(IDS[bank], sorted(found)) for bank, found in values.items()],
        [value for found in values.values() for value in found.values()],
    )
    text = "r" + ":".join(base64.b64encode(part).decode() for part in (message, signature, packed))
    read = AgentQuote.from_text(text)
    assert {bank: dict(found) for bank, found in read.pcrs.items()} == values
    assert (read.quote.attest, read.quote.signature) == (message, signature)


words = st.text('abc \u00e9\u4e2d"\\<\n', max_size=12)
claim = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text("xyz_", min_size=1, max_size=8), claim, max_size=4), st.sampled_from(["ES256", "EdDSA"]))
def test_tokens_say_the_claims(claims: dict[str, Any], algorithm: str) -> None:
    """PyJWT is the independent reader."""
    jwt = pytest.importorskip("jwt")
    key = P256 if algorithm == "ES256" else ED
    assert jwt.decode(ear.sign(claims, key), key.public_key(), algorithms=[algorithm]) == claims


P256, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
byte = st.integers(0, 255)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([2, 3]),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 7),
    st.binary(min_size=64, max_size=64),
    st.fixed_dictionaries(dict.fromkeys(("boot_loader", "tee", "snp", "microcode"), byte)),
)
def test_reports_of_sev_snp(
    version: int, policy: int, vmpl: int, signing_key: int, data: bytes, tcb: dict[str, int]
) -> None:
    raw = snp_maker.report(
        version=version,
        policy=policy,
        vmpl=vmpl,
        flags=signing_key << 2 | 3,
        report_data=data,
        reported=snp_maker.tcb(**tcb),
        chip=data[::-1],
    )
    read = parse_snp_report(raw)
    assert (read.version, read.policy, read.vmpl, read.signing_key) == (version, policy, vmpl, signing_key)
    assert (read.report_data, read.chip_id) == (data, data[::-1])
    found = read.reported_tcb
    assert {name: getattr(found, name) for name in tcb} == tcb
    r, s = read.signature
    assert read.signed + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368) == raw
