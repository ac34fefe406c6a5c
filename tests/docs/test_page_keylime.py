"""What docs/keylime.md shows of Keylime's side: its configuration, and the failure that it gets."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from measlog.interop.keylime.unified import NAME
from tests.conftest import ROOT
from tests.docs.blocks import blocks
from tests.interop import keylime_host as host


def shown(language: str) -> list[str]:
    """The blocks of the page in a language."""
    return [b.text for b in blocks((ROOT / "docs" / "keylime.md").read_text()) if b.language == language]


CONFIGURATIONS = {"grub": ([host.MODULE], "accept-all"), "unified": ([host.MODULE, host.UNIFIED], NAME)}
both = pytest.mark.parametrize(("which", "name"), list(enumerate(CONFIGURATIONS)))


@both
def test_the_configuration_is_what_the_tests_of_keylime_run_with(which: int, name: str) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(shown("ini")[which])
    found = dict(parser["verifier"])
    modules, registers = CONFIGURATIONS[name]
    assert json.loads(found.pop("measured_boot_imports")) == modules
    assert found == {"measured_boot_evaluate": "always", "measured_boot_policy_name": registers}


@both
def test_keylime_reads_the_configuration(which: int, name: str, tmp_path: Path) -> None:
    host.keylime()
    (tmp_path / "verifier.conf").write_text(shown("ini")[which])
    program = """
from keylime import config
from keylime.mba import mba
from keylime.mba.elchecking import policies
mba.load_imports()
print(mba._mba_imports[0].__name__, policies.get_policy(config.get("verifier", "measured_boot_policy_name")) is not None)
"""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("KEYLIME_VERIFIER")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**settings, "KEYLIME_VERIFIER_CONFIG": str(tmp_path / "verifier.conf")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == [CONFIGURATIONS[name][0][0], "True"]


def test_the_failure_is_the_one_that_keylime_gets() -> None:
    failure = host.failures("flatcar-lab-tampered", host.policy_of("flatcar-lab-good"))
    contexts = [context for event, context in failure if event == "measured_boot.measlog.command.unexpected"]
    assert {**json.loads(shown("json")[0]), "policy": "lab"} in contexts
