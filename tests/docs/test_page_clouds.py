"""The functions of docs/clouds.md do what the page says, with documents made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from measlog.evidence import snp, tdx, trust
from measlog.interop import nitrotpm
from measlog.interop.hcl import HclReport
from tests.conftest import ROOT
from tests.docs.blocks import run
from tests.evidence import machines, quotes, snp_maker, tdx_maker, test_trust
from tests.interop import gomessages, test_clouds


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page defines, at times at which the certificates of the documents are in force."""
    names: dict[str, Any] = {}
    assert run("docs/clouds.md", (ROOT / "docs" / "clouds.md").read_text(), tmp_path, names) == []
    real = trust.verify_path
    for module, moment in ((trust, test_trust.NOW), (tdx, tdx_maker.NOW), (nitrotpm, test_clouds.NOW)):
        monkeypatch.setattr(module, "verify_path", lambda c, r, _now, ca, at=moment: real(c, r, at, ca))
    return names


def test_google(page: dict[str, Any]) -> None:
    authority = test_trust.Authority()
    leaf = test_trust.issue("ak", quotes.ecc_key().public_key(), "middle", authority.middle_key, signs=True)
    chain = [c.public_bytes(Encoding.DER) for c in (leaf, authority.middle)]
    message = gomessages.attestation(certificates=chain)
    verified = page["verify_google"](message, machines.NONCE, test_trust.pem(authority.root))
    assert (verified.ak_trust, verified.bank) == ("chain", "sha256")


def test_azure(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    report_data = HclReport.from_bytes(test_clouds.report()).expected_report_data
    defaults = {**(tdx.TdxQuote.verify.__kwdefaults__ or {}), "qe_signers": (tdx_maker.QE_SIGNER,)}
    monkeypatch.setattr(tdx.TdxQuote.verify, "__kwdefaults__", defaults)
    quote = tdx_maker.quote(tdx_maker.body(report_data=report_data))
    root = tdx_maker.pem(tdx_maker.root())
    evidence = machines.evidence(key=test_clouds.AK)
    verified = page["verify_azure_tdx"](
        test_clouds.report(), quote, root, machines.log_bytes(), evidence.quote, machines.NONCE
    )
    assert verified.bank == "sha256"


def test_azure_on_amd(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    real = snp._verify_chain
    monkeypatch.setattr(snp, "_verify_chain", lambda chain, roots, _now: real(chain, roots, snp_maker.NOW))
    evidence = machines.evidence(key=test_clouds.AK)
    root = snp_maker.pem(snp_maker.ark())
    verified = page["verify_azure_snp"](
        test_clouds.snp(), snp_maker.chain(), root, machines.log_bytes(), evidence.quote, machines.NONCE
    )
    assert verified.bank == "sha256"


def test_aws(page: dict[str, Any]) -> None:
    log = machines.log_bytes(test_clouds.BANKS)
    assert page["verify_aws"](test_clouds.document(), test_clouds.NONCE, test_clouds.root_pem(), log) == ()
