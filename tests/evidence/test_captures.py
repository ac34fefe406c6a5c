"""Real quotes by swtpm over real boots: both of each verify, and nothing else does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from measlog import EventLog, Evidence, Quote, VerifiedEvidence
from measlog.errors import (
    EvidenceError,
    FormatError,
    NonceError,
    PcrDigestError,
    ReplayError,
    SelectionError,
    SignatureError,
)
from measlog.formats.tpm2 import parse_pcr_file
from tests.conftest import SHARED

CAPTURES: list[Any] = sorted(SHARED.glob("flatcar/captures/*"))
NOTHING = [pytest.param(None, marks=pytest.mark.skip("needs ../shared, which is not beside this checkout"))]
captures = pytest.mark.parametrize("folder", CAPTURES or NOTHING, ids=lambda p: p.name if p else None)
kinds = pytest.mark.parametrize("kind", ["", "-rsa"], ids=["ecdsa", "rsassa"])


def log_of(folder: Path) -> EventLog:
    return EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())


def quote_of(folder: Path, kind: str) -> Quote:
    return Quote.from_bytes((folder / f"quote{kind}.msg").read_bytes(), (folder / f"quote{kind}.sig").read_bytes())


def nonce_of(folder: Path) -> bytes:
    return bytes.fromhex((folder / "nonce.txt").read_text())


def reported(folder: Path, bank: str = "sha256") -> dict[int, bytes]:
    lines = [line.split() for line in (folder / "pcrs.txt").read_text().splitlines()]
    return {int(index): bytes.fromhex(value) for _, name, index, value in lines if name == bank}


def verify(
    folder: Path, kind: str, *, log: EventLog | None = None, pcrs: Any = None, **options: Any
) -> VerifiedEvidence:
    given = Evidence(log=log or log_of(folder), quote=quote_of(folder, kind), pcrs=pcrs)
    ak = (folder / f"ak{kind}.pub").read_bytes()
    return given.verify(**{"ak": ak, "nonce": nonce_of(folder), **options})


@captures
@kinds
def test_verifies(folder: Path, kind: str) -> None:
    verified = verify(folder, kind, required=range(15))
    wanted = {i: v for i, v in reported(folder).items() if i < 15}
    assert verified.values == wanted
    assert verified.unexplained == ()
    assert verified.unmeasured == tuple(i for i, v in wanted.items() if not any(v))
    assert verified.ak_trust == "caller"


@captures
def test_verifies_with_the_register_file(folder: Path) -> None:
    banks = parse_pcr_file((folder / "quote.pcrs").read_bytes())
    assert verify(folder, "", pcrs=banks["sha256"]).values == banks["sha256"]


@captures
@kinds
def test_a_wrong_nonce(folder: Path, kind: str) -> None:
    right = nonce_of(folder)
    wrong = [right[:-1], right + b"\0", right[::-1], right.hex().encode(), bytes(len(right)), b""]
    wrong += [nonce for nonce in map(nonce_of, CAPTURES) if nonce != right]
    for nonce in wrong:
        with pytest.raises(NonceError) as caught:
            verify(folder, kind, nonce=nonce)
        assert caught.value.check == "nonce"


@captures
@kinds
def test_a_wrong_key(folder: Path, kind: str) -> None:
    for other in CAPTURES:
        if other != folder:
            with pytest.raises(SignatureError) as caught:
                verify(folder, kind, ak=(other / f"ak{kind}.pub").read_bytes())
            assert caught.value.check == "signature"
    swapped = {"": "-rsa", "-rsa": ""}[kind]
    with pytest.raises(SignatureError) as caught:
        verify(folder, kind, ak=(folder / f"ak{swapped}.pub").read_bytes())
    assert caught.value.check == "signature-scheme"


@captures
@kinds
def test_a_wrong_log(folder: Path, kind: str) -> None:
    for other in CAPTURES:
        if other != folder:
            with pytest.raises(PcrDigestError) as caught:
                verify(folder, kind, log=log_of(other))
            assert caught.value.check == "pcr-digest"
            # With the registers at hand the difference has a name.
            with pytest.raises(ReplayError) as named:
                verify(folder, kind, log=log_of(other), pcrs=reported(folder))
            assert named.value.check == "replay"
            assert "PCR " in str(named.value)


@captures
@kinds
def test_a_wrong_bank(folder: Path, kind: str) -> None:
    for bank, check in (("sha384", "selection"), ("sha1", "bank"), ("sha512", "selection"), ("SHA256", "bank")):
        with pytest.raises(SelectionError) as caught:
            verify(folder, kind, bank=bank)
        assert caught.value.check == check
    with pytest.raises(SelectionError) as caught:
        verify(folder, kind, bank="sha1", unsafe_allow_sha1=True)
    assert caught.value.check == "selection"


@captures
@kinds
def test_a_wrong_register(folder: Path, kind: str) -> None:
    with pytest.raises(SelectionError, match="PCR 15") as caught:
        verify(folder, kind, required=[0, 15])
    assert caught.value.check == "selection"
    right = reported(folder)
    for index in range(15):
        with pytest.raises(EvidenceError) as other:
            verify(folder, kind, pcrs={**right, index: right[index][::-1] if any(right[index]) else b"\1" * 32})
        assert other.value.check in {"pcr-digest", "replay"}


@captures
def test_the_signature_of_another_quote(folder: Path) -> None:
    quote = Quote.from_bytes((folder / "quote.msg").read_bytes(), (folder / "quote-rsa.sig").read_bytes())
    with pytest.raises(SignatureError) as caught:
        quote.verify_signature((folder / "ak-rsa.pub").read_bytes(), nonce_of(folder))
    assert caught.value.check == "signature"


# One capture in the ordinary run: the others differ in no way that matters here.
@pytest.mark.parametrize(
    "folder",
    [pytest.param(p, marks=() if p.name == "usr-a-secureboot" else pytest.mark.slow) for p in CAPTURES] or NOTHING,
    ids=lambda p: p.name if p else None,
)
@kinds
def test_every_changed_bit_is_refused(folder: Path, kind: str) -> None:
    """Of the quote and of its signature, by the checks of the quote alone."""
    message, signature = quote_of(folder, kind).attest, quote_of(folder, kind).signature
    ak, nonce = (
        quote_of(folder, kind).verify_signature((folder / f"ak{kind}.pub").read_bytes(), nonce_of(folder)),
        nonce_of(folder),
    )
    for which, data in enumerate((message, signature)):
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            pair = (message, bytes(flipped)) if which else (bytes(flipped), signature)
            with pytest.raises((FormatError, SignatureError)):
                Quote.from_bytes(*pair).verify_signature(ak, nonce)


@captures
def test_every_changed_bit_of_a_digest_is_refused(folder: Path) -> None:
    """One bit in each digest of the log, in the bank that is quoted; and one bit in its header."""
    log = log_of(folder)
    data = log.to_bytes()
    for event in log:
        if "sha256" not in event.digests or event.type == 3:
            continue
        at = data.index(event.digests["sha256"], event.offset)
        changed = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        with pytest.raises(PcrDigestError):
            verify(folder, "", log=EventLog.from_bytes(changed))


def _checkquote(folder: Path, kind: str, nonce: bytes, message: Path) -> int:
    command: list[str | Path] = [
        "tpm2_checkquote",
        "-u",
        folder / f"ak{kind}.pub",
        "-m",
        message,
        "-s",
        folder / f"quote{kind}.sig",
    ]
    command += ["-g", "sha256", "-q", nonce.hex()]
    if not kind:
        command += ["-f", folder / "quote.pcrs"]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode


@pytest.mark.skipif(shutil.which("tpm2_checkquote") is None, reason="needs tpm2_checkquote (tpm2-tools)")
@captures
@kinds
def test_tpm2_checkquote_says_the_same(folder: Path, kind: str, tmp_path: Path) -> None:
    """tpm2-tools as the judge: it accepts what is accepted here, and refuses what is refused here."""
    message = folder / f"quote{kind}.msg"
    nonce = nonce_of(folder)
    assert _checkquote(folder, kind, nonce, message) == 0
    assert verify(folder, kind)
    assert _checkquote(folder, kind, nonce[::-1], message) != 0
    with pytest.raises(NonceError):
        verify(folder, kind, nonce=nonce[::-1])
    changed = tmp_path / "quote.msg"
    data = message.read_bytes()
    changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert _checkquote(folder, kind, nonce, changed) != 0
    with pytest.raises(SignatureError):
        Quote.from_bytes(changed.read_bytes(), quote_of(folder, kind).signature).verify_signature(
            (folder / f"ak{kind}.pub").read_bytes(), nonce
        )
