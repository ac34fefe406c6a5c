"""Every capture agrees with itself: its logs replay to what the TPM reported, and its quotes are good.

The replay, the quote reader and the signature checks here share nothing with the library but hashlib and cryptography.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fixtures.lab import eventlog, quotes, userlogs
from fixtures.lab.capture import differences
from fixtures.lab.scenarios import SCENARIOS
from fixtures.lab.signing import KEYS

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
NAMES = sorted(SCENARIOS)  # every scenario has its fixture
QUOTED = [name for name in NAMES if (FIXTURES / name / "quote.msg").exists()]


def _record(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((FIXTURES / name / "record.json").read_text())
    return record


def _pcrs(name: str) -> dict[str, dict[int, bytes]]:
    table = json.loads((FIXTURES / name / "pcrs.json").read_text())
    return {
        bank: {int(index): bytes.fromhex(value) for index, value in values.items()} for bank, values in table.items()
    }


def _replayed(name: str, bank: str, *, padded: bool = False) -> dict[int, bytes]:
    folder = FIXTURES / name
    values = eventlog.replay(eventlog.parse((folder / "binary_bios_measurements").read_bytes()), bank)
    if SCENARIOS[name].image.arch == "arm64":
        # The TPM's driver is a module there: IMA found no TPM when it started, and its log is extended nowhere.
        assert _pcrs(name)[bank][10] == bytes(len(values[10]))
    elif (folder / "binary_runtime_measurements").exists():
        values = userlogs.replay_ima((folder / "binary_runtime_measurements").read_bytes(), bank, values, padded=padded)
    if (folder / "tpm2-measure.log").exists():
        values = userlogs.replay_systemd((folder / "tpm2-measure.log").read_bytes(), bank, values)
    return values


def _verify_signature(folder: Path, suffix: str) -> None:
    message, signature = ((folder / f"quote{suffix}.{part}").read_bytes() for part in ("msg", "sig"))
    quotes.verify(message, signature, (folder / f"ak{suffix}.pub").read_bytes())


def test_there_are_enough() -> None:
    assert len(NAMES) >= 25


@pytest.mark.parametrize("name", NAMES)
def test_belongs_to_a_scenario(name: str) -> None:
    row = SCENARIOS[name]
    record = _record(name)
    assert (record["scenario"], record["twin"], record["tampered"]) == (name, row.twin, row.tampered)
    assert name in (FIXTURES / name / "ORIGIN.md").read_text()


@pytest.mark.parametrize("name", QUOTED)
def test_log_replays_to_what_the_tpm_reported(name: str) -> None:
    reported = _pcrs(name)
    assert tuple(reported) == tuple(sorted(SCENARIOS[name].banks))
    wrong = {
        bank: [index for index, value in _replayed(name, bank).items() if value != values[index]]
        for bank, values in reported.items()
    }
    if SCENARIOS[name].after == "cut-log":
        assert all(wrong.values())
        return
    for bank, registers in wrong.items():
        if registers == [10]:
            # The kernel had no implementation of this bank's algorithm when IMA started.
            assert _replayed(name, bank, padded=True)[10] == reported[bank][10]
        else:
            assert registers == []


@pytest.mark.parametrize("suffix", ["", "-rsa"])
@pytest.mark.parametrize("name", QUOTED)
def test_quote(name: str, suffix: str) -> None:
    folder = FIXTURES / name
    row = SCENARIOS[name]
    quote = quotes.read((folder / f"quote{suffix}.msg").read_bytes())
    assert quote.nonce == bytes.fromhex((folder / "nonce.txt").read_text())
    reported = _pcrs(name)
    if row.bank in row.banks:
        assert quote.selection == ((row.bank, row.registers),)
    else:
        assert quote.selection == ((row.bank, ()),)
    covered = b"".join(reported[bank][index] for bank, indices in quote.selection for index in indices)
    assert quote.digest == hashlib.sha256(covered).digest()
    if row.after == "foreign-quote":
        with pytest.raises(InvalidSignature):
            _verify_signature(folder, suffix)
    else:
        _verify_signature(folder, suffix)


@pytest.mark.parametrize("name", QUOTED)
def test_tpm2_tools_accepted_the_quote_when_it_was_made(name: str) -> None:
    lines = dict(line.split(": ") for line in (FIXTURES / name / "checkquote.txt").read_text().splitlines())
    assert lines["quote made"] == lines["quote-rsa made"] == "0"
    if SCENARIOS[name].bank in SCENARIOS[name].banks:
        assert set(lines.values()) == {"0"}


@pytest.mark.parametrize("name", QUOTED)
def test_endorsement_key_has_the_manufacturers_certificate(name: str) -> None:
    certificate = x509.load_der_x509_certificate((FIXTURES / name / "ek.crt").read_bytes())
    issuer = x509.load_pem_x509_certificate((KEYS / "ek-ca.crt").read_bytes())
    key = load_pem_public_key((FIXTURES / name / "ek.pub").read_bytes())
    certificate.verify_directly_issued_by(issuer)
    assert certificate.public_key() == key


@pytest.mark.parametrize("name", QUOTED)
def test_key_files_hold_the_same_key(name: str) -> None:
    for kind in ("ak", "ak-rsa", "ek"):
        public = load_pem_public_key((FIXTURES / name / f"{kind}.pub").read_bytes())
        area = (FIXTURES / name / f"{kind}.tpm2b").read_bytes()
        if isinstance(public, rsa.RSAPublicKey):
            assert public.public_numbers().n.to_bytes(256) in area
        else:
            assert isinstance(public, ec.EllipticCurvePublicKey)
            assert public.public_numbers().x.to_bytes(32) in area


@pytest.mark.parametrize("name", [name for name in NAMES if SCENARIOS[name].tampered and name in QUOTED])
def test_record_says_what_differs_from_the_good_twin(name: str) -> None:
    record = _record(name)
    twin = SCENARIOS[name].twin
    assert twin is not None
    assert {"bank", "registers", "events"} <= set(record)
    found = differences(FIXTURES / name, FIXTURES / twin)
    assert {key: record[key] for key in found} == found
    differs = any(record["registers"].values())
    assert differs == (SCENARIOS[name].differs and SCENARIOS[name].after is None)


def test_changed_usr_is_in_no_register_and_stopped_by_verity() -> None:
    record = _record("tampered-usr")
    assert not any(record["registers"].values())
    assert record["usr"] == "refused"
    assert "metadata block" in (FIXTURES / "tampered-usr" / "verity.txt").read_text() or (
        "data block" in (FIXTURES / "tampered-usr" / "verity.txt").read_text()
    )


def test_refused_kernel_left_no_guest() -> None:
    record = _record("refused-unsigned-kernel")
    assert record["stage"] == "grub"
    assert any("bad shim signature" in line for line in record["serial"])
    assert not (FIXTURES / "refused-unsigned-kernel" / "quote.msg").exists()


def test_ima_log_has_both_forms() -> None:
    folder = FIXTURES / "ima"
    entries = list(userlogs.ima_entries((folder / "binary_runtime_measurements").read_bytes()))
    lines = (folder / "ascii_runtime_measurements").read_text().splitlines()
    assert len(entries) == len(lines) > 20
    for (pcr, digest, template, _), line in zip(entries, lines, strict=True):
        assert line.split()[:3] == [str(pcr), digest.hex(), template]
