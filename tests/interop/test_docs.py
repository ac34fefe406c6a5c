"""The examples of the pages on formats run, one page as one program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from measlog.evidence import tdx, trust
from measlog.interop import nitrotpm
from measlog.interop.hcl import HclReport
from tests.evidence import machines, quotes, tdx_maker, test_trust
from tests.interop import gomessages, test_clouds

ROOT = Path(__file__).resolve().parents[2]
PAGES: dict[str, list[str]] = {
    "clouds.md": [],
    "corim-ear.md": ["True", "affirming {'executables': 3}"],
    "evidence-formats.md": ["sha256 70", "tcb-status revocation qe-identity mrtd"],
}
"""What the examples of each page print."""


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / page).read_text()
    names: dict[str, object] = {"__name__": "example"}
    examples = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), names)
    assert capsys.readouterr().out.splitlines() == PAGES[page]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "docs" / page).read_text()):
        assert (ROOT / "docs" / target).exists()


def test_the_functions_of_the_clouds_page_do_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with documents made by hand; times are the certificates' own."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"__name__": "example"}
    text = (ROOT / "docs" / "clouds.md").read_text()
    for example in re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        exec(compile(example, "clouds.md", "exec"), names)

    real = trust.verify_path
    for module, moment in ((trust, test_trust.NOW), (tdx, tdx_maker.NOW), (nitrotpm, test_clouds.NOW)):
        monkeypatch.setattr(module, "verify_path", lambda c, r, _now, ca, at=moment: real(c, r, at, ca))

    authority = test_trust.Authority()
    leaf = test_trust.issue("ak", quotes.ecc_key().public_key(), "middle", authority.middle_key, signs=True)
    chain = [c.public_bytes(Encoding.DER) for c in (leaf, authority.middle)]
    message = gomessages.attestation(certificates=chain)
    verified = names["verify_google"](message, machines.NONCE, test_trust.pem(authority.root))
    assert (verified.ak_trust, verified.bank) == ("chain", "sha256")

    report_data = HclReport.from_bytes(test_clouds.report()).expected_report_data
    defaults = {**(tdx.TdxQuote.verify.__kwdefaults__ or {}), "qe_signers": (tdx_maker.QE_SIGNER,)}
    monkeypatch.setattr(tdx.TdxQuote.verify, "__kwdefaults__", defaults)
    quote = tdx_maker.quote(tdx_maker.body(report_data=report_data))
    root = tdx_maker.pem(tdx_maker.root())
    evidence = machines.evidence(key=test_clouds.AK)
    verified = names["verify_azure_tdx"](
        test_clouds.report(), quote, root, machines.log_bytes(), evidence.quote, machines.NONCE
    )
    assert verified.bank == "sha256"

    log = machines.log_bytes(test_clouds.BANKS)
    assert names["verify_aws"](test_clouds.document(), test_clouds.NONCE, test_clouds.root_pem(), log) == ()
