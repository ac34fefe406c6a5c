"""Keylime itself, from PyPI, set up as a verifier that imports measlog's module; and fixtures as an agent sends them.

Keylime's verifier code runs in this process. Its configuration comes from environment variables; ``gpg`` (GnuPG's
bindings, which no wheel has) only verifies signatures of IMA policies, and is replaced by an empty module.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import os
import sys
import tempfile
import types
import warnings
from functools import cache
from typing import Any

import pytest

from measlog.interop.keylime import policy_document
from tests.conftest import FIXTURES
from tests.interop.swtpm import need

KEY = (FIXTURES / "lab" / "keys" / "manifest.pub").read_bytes()
MODULE = "measlog.interop.keylime"
UNIFIED = "measlog.interop.keylime.unified"


@cache
def _load() -> Any:
    os.environ |= {
        "KEYLIME_DIR": tempfile.gettempdir(),
        "KEYLIME_VERIFIER_MEASURED_BOOT_IMPORTS": f"['{MODULE}', '{UNIFIED}']",
        "KEYLIME_VERIFIER_MEASURED_BOOT_EVALUATE": "always",
    }
    # Keylime sets up logging for the whole process when it is imported.
    handlers, level = logging.root.handlers[:], logging.root.level
    sys.modules.setdefault("gpg", types.ModuleType("gpg"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = types.SimpleNamespace(
            mba=importlib.import_module("keylime.mba.mba"),
            tpm=importlib.import_module("keylime.tpm.tpm_main"),
            agentstates=importlib.import_module("keylime.agentstates"),
            algorithms=importlib.import_module("keylime.common.algorithms"),
            config=importlib.import_module("keylime.config"),
            own_parser=importlib.import_module("keylime.mba.elparsing.tpm2_tools_elparser"),
            policies=importlib.import_module("keylime.mba.elchecking.policies"),
            create=importlib.import_module("keylime.policy.create_mb_policy"),
        )
        found.mba.load_imports()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.getLogger("keylime").setLevel(logging.CRITICAL)
    return found


def keylime() -> Any:
    """Keylime's modules by short names; skips the calling test, saying so, where Keylime cannot run."""
    for package in ("keylime", "yaml", "packaging", "pyasn1", "pyasn1_modules", "lark"):
        pytest.importorskip(package, reason=f"needs the package {package}: pip install 'measlog[dev]'")
    need("tpm2_eventlog", "tpm2_startup")
    return _load()


def log_of(name: str) -> str:
    """The event log of a fixture as an agent sends it."""
    return base64.b64encode((FIXTURES / name / "binary_bios_measurements").read_bytes()).decode()


def quote_of(name: str, suffix: str = "") -> str:
    """The quote of a fixture as an agent sends it."""
    files = (f"quote{suffix}.{part}" for part in ("msg", "sig", "pcrs"))
    return "r" + ":".join(base64.b64encode((FIXTURES / name / file).read_bytes()).decode() for file in files)


def record_of(name: str) -> dict[str, Any]:
    """What the fixture's maker wrote down about it."""
    found: dict[str, Any] = json.loads((FIXTURES / name / "record.json").read_text())
    return found


@cache
def policy_of(name: str, more: str = "") -> str:
    """The measured-boot policy of a fixture's release: its signed manifest, and the published policy."""
    toml = f"""
    format = "measlog.policy/1"
    name = "lab"
    use = "flatcar"
    secure_boot = {str(record_of(name).get("secure_boot", True)).lower()}
    {more}
    """
    manifest = (FIXTURES / name / "manifest.dsse.json").read_bytes()
    return policy_document(policy=toml, manifests=[manifest], keys=[KEY]).decode()


def failures(
    name: str,
    policy: str | None,
    *,
    log: str | None = None,
    quote: str | None = None,
    ak: bytes | None = None,
    nonce: bytes | None = None,
    suffix: str = "",
    ima: str = "",
    count: int = 0,
    registers: str = "accept-all",
) -> list[tuple[str, dict[str, Any]]]:
    """What Keylime's own verifier says of a fixture: event id and context of each failure."""
    host = keylime()
    folder = FIXTURES / name
    key = (folder / f"ak{suffix}.tpm2b").read_bytes() if ak is None else ak
    failure = host.tpm.Tpm().check_quote(
        host.agentstates.AgentAttestState("agent"),
        bytes.fromhex((folder / "nonce.txt").read_text().strip()) if nonce is None else nonce,
        None,
        quote_of(name, suffix) if quote is None else quote,
        base64.b64encode(key).decode(),
        {},
        ima,
        None,
        host.algorithms.Hash.SHA256,
        None,
        log_of(name) if log is None else log,
        policy,
        mb_policy_name=registers,
        skip_clock_check=True,
        count=count,
    )
    assert bool(failure) == bool(failure.events)
    return [(event.event_id, json.loads(event.context)) for event in failure.events]


def check_quote(name: str, policy: str | None, **evidence: Any) -> dict[str, dict[str, Any]]:
    """The same by event id, with the context of the first of each."""
    return dict(reversed(failures(name, policy, **evidence)))
