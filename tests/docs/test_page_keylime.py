"""What docs/keylime.md shows of Keylime's side: its configuration, and the failure that it gets."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.docs.blocks import blocks
from tests.interop import keylime_host as host


def shown(language: str) -> str:
    """The one block of the page in a language."""
    (text,) = (b.text for b in blocks((ROOT / "docs" / "keylime.md").read_text()) if b.language == language)
    return text


def test_the_configuration_is_what_the_tests_of_keylime_run_with() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(shown("ini"))
    found = dict(parser["verifier"])
    assert json.loads(found.pop("measured_boot_imports")) == [host.MODULE]
    assert found == {"measured_boot_evaluate": "always", "measured_boot_policy_name": "accept-all"}


def test_keylime_reads_the_configuration(tmp_path: Path) -> None:
    host.keylime()
    (tmp_path / "verifier.conf").write_text(shown("ini"))
    program = "from keylime.mba import mba; mba.load_imports(); print(mba._mba_imports[0].__name__)"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("KEYLIME_VERIFIER")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**settings, "KEYLIME_VERIFIER_CONFIG": str(tmp_path / "verifier.conf")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == host.MODULE


def test_the_failure_is_the_one_that_keylime_gets() -> None:
    failure = host.failures("flatcar-lab-tampered", host.policy_of("flatcar-lab-good"))
    contexts = [context for event, context in failure if event == "measured_boot.measlog.command.unexpected"]
    assert {**json.loads(shown("json")), "policy": "lab"} in contexts
