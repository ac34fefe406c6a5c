"""Quotes in the form that Keylime's agents send: the fixtures' own, of tpm2-tools, in base64."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import measlog as ml
from measlog.errors import FormatError, LimitExceededError, PcrDigestError, UnsupportedError
from measlog.interop.keylime import AgentQuote
from tests.conftest import FIXTURES

GOOD = FIXTURES / "flatcar-lab-good"


def parts(folder: Path = GOOD, suffix: str = "") -> list[bytes]:
    return [(folder / f"quote{suffix}.{part}").read_bytes() for part in ("msg", "sig", "pcrs")]


def text(*data: bytes, kind: str = "r") -> str:
    return kind + ":".join(base64.b64encode(one).decode() for one in data)


@pytest.mark.parametrize("suffix", ["", "-rsa"])
def test_a_quote_is_read_and_verifies(suffix: str) -> None:
    message, signature, values = parts(suffix=suffix)
    found = AgentQuote.from_text(text(message, signature, values))
    assert (found.quote.attest, found.quote.signature) == (message, signature)
    # What the TPM itself reported after the boot.
    reported = json.loads((GOOD / "pcrs.json").read_text())["sha256"]
    assert {str(pcr): value.hex() for pcr, value in found.pcrs["sha256"].items()} == {
        pcr: value for pcr, value in reported.items() if int(pcr) < 15
    }
    log = ml.EventLog.from_bytes((GOOD / "binary_bios_measurements").read_bytes())
    nonce = bytes.fromhex((GOOD / "nonce.txt").read_text().strip())
    verified = found.evidence(log).verify(ak=(GOOD / f"ak{suffix}.tpm2b").read_bytes(), nonce=nonce)
    assert verified.quote is found.quote


def test_values_that_are_not_the_quoted_ones_are_refused() -> None:
    message, signature, values = parts()
    place = values.index(bytes.fromhex(json.loads((GOOD / "pcrs.json").read_text())["sha256"]["8"]))
    changed = values[:place] + bytes([values[place] ^ 1]) + values[place + 1 :]
    log = ml.EventLog.from_bytes((GOOD / "binary_bios_measurements").read_bytes())
    nonce = bytes.fromhex((GOOD / "nonce.txt").read_text().strip())
    found = AgentQuote.from_text(text(message, signature, changed))
    with pytest.raises(PcrDigestError):
        found.evidence(log).verify(ak=(GOOD / "ak.pub").read_bytes(), nonce=nonce)


@pytest.mark.parametrize(
    ("made", "kind", "path"),
    [
        ("", UnsupportedError, None),
        ("x" + text(*parts())[1:], UnsupportedError, None),
        (text(*parts()[:2]), FormatError, None),
        (text(*parts(), b""), FormatError, None),
        ("r!:AA==:AA==", FormatError, "quote"),
        (text(parts()[0], b"")[:-1] + ":A:AA==", FormatError, "signature"),
        (text(*parts()) + "\n", FormatError, "pcrs"),
        (text(*parts()).replace("=", ""), FormatError, None),
        (text(parts()[0][:-1], *parts()[1:]), FormatError, "quote"),
        (text(parts()[0], parts()[1][:-1], parts()[2]), FormatError, "signature"),
        (text(*parts()[:2], parts()[2][:-1]), FormatError, "pcrs"),
        (text(*(zlib.compress(part) for part in parts())), UnsupportedError, "quote"),
        ("r" + "A" * (1 << 20), LimitExceededError, None),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_quote_is_refused_with_the_part(made: str, kind: type[FormatError], path: str | None) -> None:
    with pytest.raises(kind) as caught:
        AgentQuote.from_text(made)
    assert path is None or (caught.value.path or "").startswith(path)


def test_only_text_is_a_quote() -> None:
    with pytest.raises(TypeError):
        AgentQuote.from_text(text(*parts()).encode())  # type: ignore[arg-type]


@given(st.text(alphabet="rAB+/=:!\n\u20ac", max_size=60))
def test_any_text_is_a_quote_or_an_error(made: str) -> None:
    with pytest.raises(FormatError):
        AgentQuote.from_text(made)


@given(st.integers(0, 2), st.data())
def test_any_bytes_in_a_part_are_a_quote_or_an_error(which: int, data: st.DataObject) -> None:
    changed = parts()
    place = data.draw(st.integers(0, len(changed[which]) - 1))
    value = data.draw(st.binary(max_size=4))
    changed[which] = changed[which][:place] + value + changed[which][place + len(value) :]
    try:
        found = AgentQuote.from_text(text(*changed))
    except FormatError:
        return
    assert found.quote.attest == changed[0]
